"""Capture points, and the connections that they share: one connection, one record, however many captures saw it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from analyzer.capture.again import Part, segments_of
from analyzer.capture.reader import AS_IS, KEEP_SEGMENTS, CaptureData, How
from analyzer.model.addresses import endpoint
from analyzer.model.clocks import Clock
from analyzer.model.problems import InputError
from analyzer.model.records import Source
from analyzer.tcp import fields as f
from analyzer.tcp.connections import PointConnection, connection_of
from analyzer.tcp.segments import Columns, Seen, Segment, columns_at, columns_of, merge
from analyzer.tcp.signs import signs_of
from analyzer.tcp.tracker import positions
from analyzer.timeline.icmp import AboutConnection, ties
from analyzer.timeline.names import Names

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLIENT, SERVER = f.SIDE, f.SIDE + f.SIDE_FIELDS
#: Rows turned into records at once.
BLOCK = 1_000


class Point(Struct):
    """One capture point: a capture file, or the files of one ring buffer."""

    source: Source
    data: CaptureData
    #: The files behind it, for a second reading of chosen connections where not all segments were kept.
    parts: list[Part] = []
    how: How = AS_IS
    #: The logs whose lines told of its clock, by their sources' ids.
    told_by: frozenset[str] = frozenset()
    signs_read: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None

    @property
    def rows(self) -> NDArray[np.int64]:
        """Connections, `tcp.fields` wide."""
        return self.data.rows

    @property
    def signs(self) -> NDArray[np.int32]:
        """What is out of the ordinary about each row (`tcp.signs`)."""
        return self._read_signs()[0]

    @property
    def pairs(self) -> NDArray[np.int32]:
        """For each row a hash of its client's address and its server's address and port."""
        return self._read_signs()[1]

    def _read_signs(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        if self.signs_read is None:
            self.signs_read = signs_of(self.rows)
        return self.signs_read

    @property
    def clock(self) -> Clock:
        """The capture's only clock."""
        return self.source.clocks[0]

    def aligned(self, stamp_ns: int) -> int:
        """A stamp of this capture in the time of its clock's frame."""
        return self.source.clocks[0].aligned(stamp_ns)

    @property
    def span(self) -> tuple[int, int]:
        """First and last packet, aligned."""
        return self.aligned(self.data.first_ns), self.aligned(self.data.last_ns)


def servers_of(rows: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
    """The servers' addresses, `ip:port`, and for each of these rows which of them is its."""
    if not len(rows):
        return [], np.empty(0, np.int64)
    distinct, number = np.unique(rows[:, [f.S_HI, f.S_LO, f.S_PORT]], axis=0, return_inverse=True)
    return [endpoint(*server) for server in distinct.tolist()], number.reshape(-1)


class Connections(Struct):
    """Every connection once. `members[k, p]` is its row at point p, -1 where that point did not see it."""

    points: list[Point]
    members: NDArray[np.int64]
    #: Order of points along the path from the client, nearest first.
    nearness: list[int]
    #: Connections to list in reports, None for all (see `filters`).
    listed: NDArray[np.int64] | None = None
    environment: dict[int, str] = {}
    environment_tie: dict[int, str] = {}
    transports: dict[int, list[str]] = {}
    _segments: dict[int, list[Segment]] = {}
    _indices: dict[int, dict[int, NDArray[np.int64]]] = {}
    _loaded: dict[int, dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]]] = {}
    _records: dict[tuple[int, int], PointConnection] = {}
    _names: Names | None = None
    _icmp: tuple[dict[int, list[AboutConnection]], list[int]] | None = None

    def __len__(self) -> int:
        return len(self.members)

    def in_view(self) -> NDArray[np.int64]:
        """The connections to list, in order."""
        return np.arange(len(self)) if self.listed is None else self.listed

    def id(self, k: int) -> str:
        """`C1` …"""
        return f"C{k + 1}"

    def seen_at(self, k: int) -> list[int]:
        """Points that saw connection `k`, nearest the client first."""
        return [p for p in self.nearness if self.members[k, p] >= 0]

    def alike(self) -> list[int]:
        """For each capture the first of those with which it shares connections, by others too: the same address is the same host
        there, and may be another host's in a capture that shares nothing."""
        first = list(range(len(self.points)))
        seen = self.members >= 0
        of = np.argmax(seen, axis=1) if len(self) else np.empty(0, np.int64)
        for p in range(len(self.points)):
            ends = {first[p], *(first[q] for q in np.unique(of[seen[:, p]]).tolist())}
            first = [min(ends) if g in ends else g for g in first]
        return first

    def record(self, k: int, point: int | None = None) -> PointConnection:
        """Connection `k` at one point; by default at the point that saw most of it."""
        p = self.fullest(k) if point is None else point
        if (k, p) not in self._records:
            self._records[k, p] = connection_of(self.points[p].rows[self.members[k, p]].tolist())
        return self._records[k, p]

    def records(self) -> Iterator[tuple[int, dict[int, PointConnection]]]:
        """Each connection in view, with its record at each point, nearest the client first; none of them is kept."""
        ks = self.in_view()
        for start in range(0, len(ks), BLOCK):
            block = ks[start : start + BLOCK]
            found: list[dict[int, PointConnection]] = [{} for _ in block]
            for p in self.nearness:
                at = self.members[block, p]
                here = np.flatnonzero(at >= 0)
                for position, row in zip(here.tolist(), self.points[p].rows[at[here]].tolist(), strict=True):
                    found[position][p] = connection_of(row)
            yield from zip(block.tolist(), found, strict=True)

    def fullest(self, k: int) -> int:
        """The point with most packets of connection `k` (the nearer one on a draw)."""
        return max(
            self.seen_at(k),
            key=lambda p: int(
                self.points[p].rows[self.members[k, p], CLIENT + f.PKTS]
                + self.points[p].rows[self.members[k, p], SERVER + f.PKTS]
            ),
        )

    def client(self, k: int) -> str:
        """The client's address at the point nearest the client."""
        return self.record(k, self.seen_at(k)[0]).client

    def server(self, k: int) -> str:
        """The server's address at the point nearest the client."""
        return self.record(k, self.seen_at(k)[0]).server

    def names(self, k: int, records: dict[int, PointConnection] | None = None) -> list[str]:
        """Names of the server of connection `k`: asked for in TLS, answered by DNS before it opened, noted in the file.

        `records` are its records at each point, nearest the client first, where they are at hand.
        """
        if self._names is None:
            self._names = Names(self.points)
        if not self._names:
            return []
        records = records or {p: self.record(k, p) for p in self.seen_at(k)}
        near, first = next(iter(records.items()))
        members = [(p, record.uid) for p, record in records.items()]
        opened = self.points[near].aligned(first.first_ns)
        return self._names.of(members, first.server.rpartition(":")[0].strip("[]"), opened)

    def icmp(self, k: int) -> list[AboutConnection]:
        """ICMP errors that quote a segment of connection `k`, in order, each once however many points saw it."""
        return self._icmp_ties()[0].get(k, [])

    def with_icmp(self) -> set[int]:
        """Connections that ICMP errors quote."""
        return set(self._icmp_ties()[0])

    def icmp_strangers(self, p: int) -> int:
        """How many ICMP errors of a point quote connections that it does not hold."""
        return self._icmp_ties()[1][p]

    def _icmp_ties(self) -> tuple[dict[int, list[AboutConnection]], list[int]]:
        if self._icmp is None:
            self._icmp = ties(self.points, self.members, self.nearness)
        return self._icmp

    def frame(self, k: int) -> int:
        """The frame in which the times of connection `k` are: all captures that share packets are in one."""
        return self.points[self.seen_at(k)[0]].clock.frame

    def ends(self, name: str) -> str:
        """`10.0.0.1:40000 → 10.0.0.2:443` of a connection id."""
        k = int(name[1:]) - 1
        return f"{self.client(k)} → {self.server(k)}"

    def showing(self, signs: int) -> list[int]:
        """Connections that show all of these signs (`tcp.signs`), each at any point; in order."""
        seen = np.zeros(len(self), np.int32)
        for p, point in enumerate(self.points):
            if len(point.rows):
                index = self.members[:, p]
                seen |= np.where(index >= 0, point.signs[index], 0) if len(self.points) > 1 else point.signs[index]
        return np.flatnonzero((seen & signs) == signs).tolist()

    def by_point(self, signs: int, column: Callable[[NDArray[np.int64]], NDArray[np.bool_]]) -> list[int]:
        """Connections that show all of these signs at one point, and for whose row there `column(rows)` holds; in order."""
        chosen = np.zeros(len(self), np.bool_)
        for p, point in enumerate(self.points):
            at = np.flatnonzero((point.signs & signs) == signs)
            if not len(at):
                continue
            hit = np.zeros(len(point.rows), np.bool_)
            for start in range(0, len(at), BLOCK):
                block = at[start : start + BLOCK]
                hit[block] = column(point.rows[block])
            index = self.members[:, p]
            chosen |= (index >= 0) & hit[index]
        return np.flatnonzero(chosen).tolist()

    def rows(self, k: int) -> Iterator[tuple[NDArray[np.int64], Callable[[int], int]]]:
        """The row of connection `k` at each point that saw it, nearest the client first, and what aligns its stamps."""
        for p in self.seen_at(k):
            yield self.points[p].rows[self.members[k, p]], self.points[p].aligned

    def life(self, k: int) -> tuple[int, int]:
        """First and last packet of connection `k`, aligned, where most of it was seen."""
        record, point = self.record(k), self.points[self.fullest(k)]
        return point.aligned(record.first_ns), point.aligned(record.last_ns)

    def owners(self, p: int) -> NDArray[np.int64]:
        """The connection of each row of a point."""
        here = np.flatnonzero(self.members[:, p] >= 0)
        found = np.empty(len(self.points[p].rows), np.int64)
        found[self.members[here, p]] = here
        return found

    def servers(self, ks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Server address and port (both halves, port) of these connections at the point nearest the client, n × 3."""
        found = np.zeros((len(ks), 3), np.int64)
        for p in reversed(self.nearness):
            at = self.members[ks, p]
            here = at >= 0
            found[here] = self.points[p].rows[at[here, None], [f.S_HI, f.S_LO, f.S_PORT]]
        return found

    def networks(self, ks: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each of these connections the captures that saw it, as `alike` names them: in those one address is one host."""
        found, alike = np.zeros(len(ks), np.int64), self.alike()
        for p in reversed(self.nearness):
            found[self.members[ks, p] >= 0] = alike[p]
        return found

    def require_packets(self) -> None:
        """Raise `InputError` where no capture can be read again for its packets: a saved trace has what was read out of them."""
        if self.points and not any(point.parts for point in self.points):
            raise InputError("a saved trace keeps no packets as they were: give the captures themselves")

    def loaded(self, ks: Iterable[int]) -> Iterator[int]:
        """These connections in order, the segments of each at hand: a capture is read again once a group."""
        for (k,) in self.together((k,) for k in ks):
            yield k

    def together(self, wanted: Iterable[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
        """These sets of connections in order, the segments of each at hand; of one too big for memory, when `loaded` asks for them."""
        for group in self._groups(wanted):
            if len(group) > 1 or self._room(group[0]) >= 0:
                self.load(k for ks in group for k in ks)
            yield from group

    def load(self, ks: Iterable[int]) -> None:
        """Make the segments of these connections available: at most one more reading of a capture.

        What was loaded before is dropped where both together would be too much.
        """
        ks = set(ks)
        for p, point in enumerate(self.points):
            if point.data.complete:
                continue
            rows = self.members[sorted(ks), p] if ks else np.empty(0, np.int64)
            loaded = self._loaded.setdefault(p, {})
            missing = [row for row in rows[rows >= 0].tolist() if int(point.rows[row, f.UID]) not in loaded]
            if not missing:
                continue
            if sum(len(kinds) for _, kinds in loaded.values()) + self._packets(p, missing) > KEEP_SEGMENTS:
                loaded.clear()
                self._segments = {k: segments for k, segments in self._segments.items() if k in ks}
                missing = rows[rows >= 0].tolist()
            segments, uids, kinds = segments_of(point.parts, point.rows[missing], point.how)
            loaded.update((uid, (segments[at], kinds[at])) for uid, at in positions(uids).items())

    def batches(self, ks: Iterable[int]) -> Iterator[list[int]]:
        """These connections in order, in groups whose segments fit in memory together."""
        for group in self._groups((k,) for k in ks):
            yield [k for (k,) in group]

    def _groups(self, wanted: Iterable[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
        group: list[tuple[int, ...]] = []
        inside, room = set[int](), KEEP_SEGMENTS
        for ks in sorted(wanted):
            left = self._room([k for k in ks if k not in inside], room)
            if group and left < 0:
                yield group
                group, inside, left = [], set(), self._room(ks)
            group.append(ks)
            inside.update(ks)
            room = left
        if group:
            yield group

    def _room(self, ks: Iterable[int], room: int = KEEP_SEGMENTS) -> int:
        """What is left of the room for segments when those of these connections are in it."""
        return room - sum(max(self._packets(p, [int(self.members[k, p])]) for p in self.seen_at(k)) for k in ks)

    def kept(self, p: int, ks: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(uids, kinds, segments) of these connections at point `p`, loaded group by group."""
        uids, kinds, segments = [], [], [self.points[p].data.segments[:0]]
        for group in self.batches(k for k in ks if self.members[k, p] >= 0):
            self.load(group)
            for k in group:
                uid = int(self.points[p].rows[self.members[k, p], f.UID])
                found, classified = self._of(p, uid)
                uids.append(np.full(len(found), uid, np.int64))
                kinds.append(classified)
                segments.append(found)
        empty = [np.empty(0, np.int64)]
        return np.concatenate(empty + uids), np.concatenate(empty + kinds), np.concatenate(segments)

    def _packets(self, p: int, rows: list[int]) -> int:
        return int(self.points[p].rows[rows][:, [CLIENT + f.PKTS, SERVER + f.PKTS]].sum())

    def segments(self, k: int) -> list[Segment]:
        """The merged segments of connection `k`, aligned."""
        if k not in self._segments:
            self._segments[k] = merge(self._parts(k))
        return self._segments[k]

    def columns(self, k: int) -> Columns:
        """What a search looks at of the merged segments of connection `k`; where one point saw it, none is made for it."""
        return columns_at(*self._parts(k)[0]) if len(self.seen_at(k)) == 1 else columns_of(self.segments(k))

    def _parts(self, k: int) -> list[Seen]:
        """What each point saw of connection `k`, nearest the client first."""
        self.load([k])
        parts = []
        for p in self.seen_at(k):
            point = self.points[p]
            segments, kinds = self._of(p, int(point.rows[self.members[k, p], f.UID]))
            parts.append((p, point.source.id, segments, kinds, point.clock, point.data.texts))
        return parts

    def _of(self, p: int, uid: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        data = self.points[p].data
        if not data.complete:
            return self._loaded[p].get(uid, (data.segments[:0], data.kinds[:0]))
        if p not in self._indices:
            self._indices[p] = positions(data.uids)
        at = self._indices[p].get(uid, np.empty(0, np.int64))
        return data.segments[at], data.kinds[at]


def in_time_order(points: list[Point], members: NDArray[np.int64]) -> NDArray[np.int64]:
    """Members sorted by aligned first packet, then by addresses: ids do not depend on the order of the inputs."""
    if not len(members):
        return members
    first = np.full(len(members), np.iinfo(np.int64).max)
    for p, point in enumerate(points):
        has = members[:, p] >= 0
        times = point.clock.aligned_all(point.rows[members[has, p], f.FIRST_TS])
        first[has] = np.minimum(first[has], times)
    order = np.argsort(first, kind="stable")
    if (np.diff(first[order]) > 0).all():
        return members[order]
    tie = [np.zeros(len(members), np.int64) for _ in range(4)]
    for p, point in enumerate(points):
        has = members[:, p] >= 0
        rows = point.rows[members[has, p]]
        for t, column in enumerate((f.C_LO, f.C_PORT, f.S_LO, f.S_PORT)):
            tie[t][has] = rows[:, column]
    return members[np.lexsort((*reversed(tie), first))]
