"""Which connections of several capture points are one.

Theory of operation. A connection whose handshake two points saw has the same initial sequence numbers at both, whatever a NAT
made of its addresses: that settles nearly all, and at once. What is left is *loose*: a capture that began in mid-stream, a SYN
or SYN-ACK that only one point saw. Loose rows of equal addresses are one where neither their initial sequence numbers nor their
stretches of the sequence space contradict each other: the stretches of unrelated connections hardly ever meet on both sides.
Loose rows of other addresses (a NAT) need packets that are the same at both points, or the same beginning or end of both
stretches, 64 bits; of a SYN without an answer, the 32 bits of its number and the one end that a NAT leaves as it is. Addresses alone
prove nothing, ports are used again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from analyzer.capture import columns as col
from analyzer.capture.again import ENDS, tracked_again
from analyzer.tcp import fields as f
from analyzer.tcp.connections import CLIENT, SERVER
from analyzer.tcp.tracker import NOBODY, Tracker, positions, with_connections

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from analyzer.timeline.points import Point

    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

TURNED = [*ENDS[3:], *ENDS[:3]]
SIDES = (CLIENT, SERVER)
#: How far apart two stretches of one connection may lie where packets between them were lost. The next connection of the same
#: ports begins farther on: Linux's initial sequence numbers advance by this in 4 ms, those of RFC 6528 in a quarter of a second.
SLACK = 1 << 16
CIRCLE = 1 << 32
#: More rows than this that could be one and the same are none: numbers that repeat so often were made to.
MOST_ALIKE = 200
#: The low end of the circle, where sequence numbers of traffic that was made by hand begin.
BY_HAND = 1 << 16
#: What settled a direction, the most certain first.
CERTAINTY = (f.BY_SYN, f.BY_SYN_ACK, f.BY_CAPTURE, f.BY_NETWORK, f.BY_PORT, f.BY_FIRST)
#: Rows of one capture that is read again to turn them; there are none so many where it is told which side is whose.
MOST_TURNED = 1_000
#: A packet that is the same at two points: fields that no NAT changes (it may write another IP identification).
SAME = ["seq", "ack", "len", "flags", "tsval"]
TCP_FLAGS = 0x3F  # without those of congestion notification, which routers may clear


def match_points(points: list[Point]) -> Ints:
    """Which rows of which points are one connection; returns connections × points, -1 for none.

    The k-th connection of a pair of initial sequence numbers at one point is the k-th at another. Where a loose row had its
    client and server the other way round, it is tracked anew as the better informed point has it (`Point.data` is changed); a capture too
    large to keep is read again for that.
    """
    if len(points) == 1:
        return np.arange(len(points[0].rows), dtype=np.int64).reshape(-1, 1)
    members = _by_initial_numbers(points)
    for p in range(len(points)):
        for q in range(p + 1, len(points)):
            for find in (_by_ends, _by_packets, _by_stretches, _by_syn):
                members = _joined(points, members, p, q, find)
    return members


def apart_by_frame(members: Ints, frames: list[int]) -> Ints:
    """The same, with what points saw whose clocks share no frame apart: their packets have no common order to be told in."""
    frame_of = np.array(frames, np.int64)
    if len(set(frames)) < 2 or not len(members):
        return members
    parts = [np.where(frame_of == frame, members, -1) for frame in sorted(set(frames))]
    found = np.concatenate(parts)
    return found[(found >= 0).any(axis=1)]


# ---- handshakes


def _by_initial_numbers(points: list[Point]) -> Ints:
    """Rows with the same initial sequence numbers; of SYNs that had no answer, those with the same addresses."""
    keys = np.concatenate([_keys(point.rows) for point in points])
    keys[:, 0] += np.where(keys[:, 0] == 0, -1 - np.arange(len(keys)), 0)  # a mid-stream row is alone
    owner = np.repeat(np.arange(len(points)), [len(point.rows) for point in points])
    key = _groups(keys)
    ordinal = _ordinals(key * len(points) + owner)
    distinct, connection = np.unique(key * (ordinal.max(initial=0) + 1) + ordinal, return_inverse=True)
    members = np.full((len(distinct), len(points)), -1, np.int64)
    members[connection, owner] = np.concatenate([np.arange(len(point.rows)) for point in points])
    return members


def _keys(rows: Ints) -> Ints:
    """What tells a connection apart, n × 9: how much is known, then both initial sequence numbers or the client's and all ends."""
    keys = np.zeros((len(rows), 9), np.int64)
    if len(rows):
        keys[:, 1:] = rows[:, [CLIENT + f.ISN, SERVER + f.ISN, *ENDS]]
        syn = keys[:, 1] >= 0
        both = syn & (keys[:, 2] >= 0)
        keys[:, 0] = syn.astype(np.int64) + both
        keys[both, 3:] = 0
        keys[~both, 2] = 0
        keys[~syn, 1] = 0
    return keys


def _groups(keys: Ints) -> Ints:
    """The same number for equal rows, another one for others."""
    mixed = np.zeros(len(keys), np.int64)
    for column in range(keys.shape[1]):
        mixed = (mixed ^ keys[:, column]) * 0x1F123BB5165667B1
        mixed ^= mixed >> 32
    _, first, groups = np.unique(mixed, return_index=True, return_inverse=True)
    if np.array_equal(keys[first[groups]], keys):
        return np.asarray(groups, np.int64)
    return np.asarray(np.unique(keys, axis=0, return_inverse=True)[1], np.int64).reshape(-1)  # two keys of one mixture


def _ordinals(groups: Ints) -> Ints:
    """For each entry, how many equal ones come before it."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    ordinals = np.empty(len(groups), np.int64)
    ordinals[order] = np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
    return ordinals


# ---- loose rows


class _Rows(Struct, frozen=True):
    """What is known of some rows of a point: each column has an entry a row, those of sides an array for each.

    A side's stretch of the sequence space is `long` numbers from `low` on. `loose`: an initial number is not known.
    """

    point: Point
    at: Ints
    ends: Ints
    isn: list[Ints]
    low: list[Ints]
    long: list[Ints]
    seen: list[Bools]
    loose: Bools


def _known(point: Point, at: Ints) -> _Rows:
    def column(k: int) -> Ints:
        return np.asarray(point.rows[at, k], np.int64)

    isn = [column(side + f.ISN) for side in SIDES]
    low = [column(side + f.START) - (own >= 0) for side, own in zip(SIDES, isn, strict=True)]
    high = [np.maximum(column(side + f.NXT), column(side + f.UNA)) for side in SIDES]
    long = [np.maximum(end - start, 0) for start, end in zip(low, high, strict=True)]
    seen = [column(side + f.SEEN) > 0 for side in SIDES]
    ends = np.stack([column(k) for k in ENDS], axis=1)
    return _Rows(point, at, ends, isn, low, long, seen, (isn[0] < 0) | (isn[1] < 0))


class _Pairs(Struct, frozen=True):
    """Indices into two `_Rows`, and whether one has client and server the other way round."""

    i: Ints
    j: Ints
    turned: Bools

    def of(self, chosen: Bools) -> _Pairs:
        """Some of them."""
        return _Pairs(self.i[chosen], self.j[chosen], self.turned[chosen])

    def alone(self) -> _Pairs:
        """Those of which neither row is in another pair."""
        return self.of(
            (np.bincount(self.i, minlength=1)[self.i] == 1) & (np.bincount(self.j, minlength=1)[self.j] == 1)
        )


def _pairs(found: Iterable[tuple[Ints, Ints, bool]]) -> _Pairs:
    empty = np.empty(0, np.int64)
    parts = [(empty, empty, np.empty(0, np.bool_)), *((i, j, np.full(len(i), turned)) for i, j, turned in found)]
    i, j, turned = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Pairs(i, j, turned)


def _distinct(pairs: _Pairs) -> _Pairs:
    """Each pair once."""
    _, first = np.unique(np.stack([pairs.i, pairs.j, pairs.turned], axis=1), axis=0, return_index=True)
    return _Pairs(pairs.i[first], pairs.j[first], pairs.turned[first])


def _joined(points: list[Point], members: Ints, p: int, q: int, find: Callable[[_Rows, _Rows], _Pairs]) -> Ints:
    """Make one of two connections, of which one has a row at `p` and the other at `q`, where `find` pairs these."""
    free_p, free_q = members[members[:, q] < 0, p], members[members[:, p] < 0, q]
    one, other = _known(points[p], free_p[free_p >= 0]), _known(points[q], free_q[free_q >= 0])
    if not (len(one.at) and len(other.at) and (one.loose.any() or other.loose.any())):
        return members
    pairs = find(one, other)
    pairs = pairs.of(_agree(one, other, pairs))
    if find is not _by_packets:  # which gives the likeliest first
        pairs = pairs.alone()
    holders = [_holders(members, point, len(points[point].rows)) for point in (p, q)]
    turner = _Turner.of(points[p], points[q], one.at[pairs.i[pairs.turned]], other.at[pairs.j[pairs.turned]])
    gone = []
    for i, j, turned in zip(one.at[pairs.i].tolist(), other.at[pairs.j].tolist(), pairs.turned.tolist(), strict=True):
        here, there = holders[0][i], holders[1][j]
        if ((members[here] >= 0) & (members[there] >= 0)).any():
            continue
        if turned and not turner.turn(i, j):
            continue
        members[here] = np.maximum(members[here], members[there])
        members[there] = -1
        holders[1][j] = here
        gone.append(there)
    return np.delete(members, gone, axis=0)


def _holders(members: Ints, p: int, n: int) -> Ints:
    """The connection of each of the `n` rows of a point."""
    here = np.flatnonzero(members[:, p] >= 0)
    found = np.full(n, -1, np.int64)
    found[members[here, p]] = here
    return found


def _agree(one: _Rows, other: _Rows, pairs: _Pairs) -> Bools:
    """Which pairs can be one connection: one is loose, and what is known of either side at both points agrees."""
    i, j = pairs.i, pairs.j
    fits = one.loose[i] | other.loose[j]
    compared = np.zeros(len(i), np.bool_)
    for side in (0, 1):
        there = np.where(pairs.turned, 1 - side, side)

        def of(column: Sequence[Ints | Bools], there: Ints = there) -> Ints:
            return np.where(there == 0, column[0][j], column[1][j])

        isn, isn_there = one.isn[side][i], of(other.isn)
        ahead = (of(other.low) - one.low[side][i]) % CIRCLE
        meet = (ahead <= one.long[side][i] + SLACK) | (-ahead % CIRCLE <= of(other.long) + SLACK)
        known = one.seen[side][i] & of(other.seen).astype(np.bool_)
        fits &= ((isn < 0) | (isn_there < 0) | (isn == isn_there)) & (meet | ~known)
        compared |= known
    return fits & compared


def _by_ends(one: _Rows, other: _Rows) -> _Pairs:
    """Rows of the same addresses and ports, of which one is loose: with the client's number equal, or the server's where the client's
    is unknown at one point, or none known at one point.

    A point has at most one row of some ends without any number, their first: so pairs are as many as rows.
    """

    def meeting() -> Iterator[tuple[Ints, Ints, bool]]:
        for turned in (False, True):
            group = _groups(np.concatenate([one.ends, other.ends[:, [3, 4, 5, 0, 1, 2]] if turned else other.ends]))
            n = len(one.at)
            client, server = (np.concatenate([one.isn[side], other.isn[side]]) for side in (0, 1))
            syn, after, syn_ack = client >= 0, (client < 0) & (server < 0), server >= 0
            alone = syn_ack & ~syn  # one direction was captured, or the SYN was not
            by_client, by_server = (_groups(np.stack([group, number], axis=1)) for number in (client, server))
            anyone = np.ones(len(client), np.bool_)
            for key, left, right in (
                (by_client, syn, syn), (by_server, alone, syn_ack), (by_server, syn_ack & syn, alone),
                (group, after, anyone), (group, ~after, after),
            ):  # fmt: skip
                yield *_equal(key[:n], key[n:], left[:n], right[n:]), turned

    return _pairs(meeting())


def _equal(left: Ints, right: Ints, among_left: Bools, among_right: Bools) -> tuple[Ints, Ints]:
    """Indices (i, j) of all pairs with left[i] == right[j] among the chosen ones, but where there are more than `MOST_ALIKE` for an i."""
    i, j = np.flatnonzero(among_left), np.flatnonzero(among_right)
    j = j[np.argsort(right[j], kind="stable")]
    start, end = (np.searchsorted(right[j], left[i], side) for side in ("left", "right"))
    count = np.where(end - start > MOST_ALIKE, 0, end - start)
    skipped = np.cumsum(count) - count
    return np.repeat(i, count), j[np.arange(count.sum()) - np.repeat(skipped - start, count)]


def _by_packets(one: _Rows, other: _Rows) -> _Pairs:
    """Rows of any addresses that share packets, the most first: one with a time stamp is enough, of others two."""
    if not (one.point.data.complete and other.point.data.complete):
        return _pairs([])
    both = _packets(one).merge(_packets(other), on=SAME)
    both["turned"] = both["server_x"] != both["server_y"]
    both["weight"] = np.where(both["tsval"] >= 0, 2, 1)
    found = both.groupby(["row_x", "row_y", "turned"], as_index=False)["weight"].sum()
    found = found[found["weight"] >= 2].sort_values(["weight", "row_x", "row_y"], ascending=[False, True, True])
    return _Pairs(
        found["row_x"].to_numpy(np.int64), found["row_y"].to_numpy(np.int64), found["turned"].to_numpy(np.bool_)
    )


def _packets(rows: _Rows) -> pd.DataFrame:
    """Packets of these rows that only one connection of the point can have sent; `row` is an index into them."""
    import pandas as pd

    data = rows.point.data
    number = np.full(int(data.rows[:, f.UID].max()) + 1, -1, np.int64)
    number[data.rows[rows.at, f.UID]] = np.arange(len(rows.at))
    row, s = number[data.uids], data.segments
    answers = (s[:, col.FLAGS] & col.ACK_FLAG != 0) & (s[:, col.ACK] >= BY_HAND)
    telling = (s[:, col.SEQ] >= BY_HAND) & (answers | (s[:, col.TSVAL] >= 0))
    mine = (row >= 0) & (data.kinds & f.K_DUPLICATE == 0) & telling
    s = s[mine]
    frame = pd.DataFrame(
        {
            "row": row[mine], "server": data.kinds[mine] & f.K_SERVER, "seq": s[:, col.SEQ], "ack": s[:, col.ACK],
            "len": s[:, col.LEN], "flags": s[:, col.FLAGS] & TCP_FLAGS, "tsval": s[:, col.TSVAL],
        }
    )  # fmt: skip
    return frame.drop_duplicates(SAME, keep=False)


def _by_stretches(one: _Rows, other: _Rows) -> _Pairs:
    """Rows of any addresses whose stretches begin or end at the same two numbers.

    For captures whose packets were not all kept, or that have a direction each: what the other side sent is known from the
    acknowledgements.
    """

    def meeting() -> Iterator[tuple[Ints, Ints, bool]]:
        for edge in (_first, _last):
            for turned in (False, True):
                here, there = edge(one, turned=False), edge(other, turned)
                group, n = _groups(np.concatenate([here, there])), len(here)
                telling = [np.asarray((numbers >= BY_HAND).all(axis=1)) for numbers in (here, there)]
                yield *_equal(group[:n], group[n:], telling[0], telling[1]), turned

    return _distinct(_pairs(meeting()))


def _by_syn(one: _Rows, other: _Rows) -> _Pairs:
    """Rows of one SYN, of which a point saw no answer: a NAT writes another client (SNAT) or another server (DNAT)."""

    def meeting() -> Iterator[tuple[Ints, Ints, bool]]:
        telling = [rows.isn[0] >= BY_HAND for rows in (one, other)]
        for end in (ENDS.index(f.S_HI), ENDS.index(f.C_HI)):
            here, there = (np.column_stack([rows.isn[0], rows.ends[:, end : end + 3]]) for rows in (one, other))
            group, n = _groups(np.concatenate([here, there])), len(here)
            yield *_equal(group[:n], group[n:], telling[0], telling[1]), False

    return _distinct(_pairs(meeting()))


def _first(rows: _Rows, turned: bool) -> Ints:
    """The first numbers of both sides' stretches after their SYNs, n × 2; 0 for one that is not known."""
    edges = [np.where(rows.seen[k], (rows.low[k] + (rows.isn[k] >= 0)) % CIRCLE, 0) for k in _sides(turned)]
    return np.stack(edges, axis=1)


def _last(rows: _Rows, turned: bool) -> Ints:
    """The last numbers of both sides' stretches, n × 2; 0 for one that is not known."""
    return np.stack([np.where(rows.seen[k], (rows.low[k] + rows.long[k]) % CIRCLE, 0) for k in _sides(turned)], axis=1)


def _sides(turned: bool) -> tuple[int, int]:
    return (1, 0) if turned else (0, 1)


# ---- directions


#: The kind of each segment by its place: the number of its record, and where its payload begins in the file.
_Kinds = dict[tuple[int, int], int]


def _places(segments: Ints) -> list[tuple[int, int]]:
    return list(zip(segments[:, col.NO].tolist(), segments[:, col.OFFSET].tolist(), strict=True))


class _Turned(Struct):
    """Rows of one point the other way round; of a capture too large to keep, `read` has those that were read again, by `UID`."""

    point: Point
    stands: dict[int, Ints]
    read: dict[int, tuple[Ints, _Kinds]] = {}

    @classmethod
    def of(cls, point: Point, rows: list[int]) -> _Turned:
        """With these rows at hand."""
        data = point.data
        turned = cls(point, positions(data.uids) if rows else {})
        if rows and point.parts and not data.complete:
            wanted = np.stack([turned.wanted(row) for row in rows[:MOST_TURNED]])
            segments, uids, kinds, found = tracked_again(point.parts, wanted, point.how)
            at = positions(uids)
            for row in found:
                mine = at[int(row[f.UID])]
                turned.read[int(row[f.UID])] = (
                    row,
                    dict(zip(_places(segments[mine]), kinds[mine].tolist(), strict=True)),
                )
        return turned

    def wanted(self, row: int) -> Ints:
        """A row with its ends the other way round, as another capture tells it."""
        made: Ints = self.point.rows[row].copy()
        made[ENDS], made[f.ORIENTED] = made[TURNED], f.BY_CAPTURE
        return made

    def turn(self, row: int) -> bool:
        """Put the row that was tracked anew in the place of the old one; False where there is none."""
        data, wanted = self.point.data, self.wanted(row)
        uid = int(wanted[f.UID])
        mine = self.stands.get(uid, np.empty(0, np.int64))
        made, kinds = self._tracked(wanted, mine) if data.complete else self.read.get(uid, (wanted[:0], {}))
        if not len(made) or not np.array_equal(made[ENDS], wanted[ENDS]):
            return False  # opened by a SYN, or not all of it was kept
        if not data.rows.flags.writeable:
            data.rows = data.rows.copy()
        data.rows[row] = made
        data.rows[row, [f.UID, f.GONE]] = wanted[[f.UID, f.GONE]]
        before = data.kinds[mine].tolist()  # of a sample, which may be thinned in another way
        at = _places(data.segments[mine])
        data.kinds[mine] = [kinds.get(place, kind ^ f.K_SERVER) for place, kind in zip(at, before, strict=True)]
        return True

    def _tracked(self, wanted: Ints, mine: Ints) -> tuple[Ints, _Kinds]:
        """From the segments that were kept."""
        segments = self.point.data.segments[mine]
        tracker = Tracker(with_connections(NOBODY, [wanted[ENDS].tolist()]))
        _, kinds = tracker.feed(segments.ravel().tolist(), len(segments), compiled=False)
        rows = tracker.finish()
        return (rows[0], dict(zip(_places(segments), kinds, strict=True))) if len(rows) == 1 else (wanted[:0], {})


class _Turner(Struct):
    """Of two rows that have client and server the other way round, one is turned: that whose direction is less certain."""

    one: _Turned
    other: _Turned

    @classmethod
    def of(cls, one: Point, other: Point, rows: Ints, others: Ints) -> _Turner:
        """For these pairs of rows."""
        pairs = [
            (i, j, _is_less_certain(other, j, one, i)) for i, j in zip(rows.tolist(), others.tolist(), strict=True)
        ]
        return cls(
            _Turned.of(one, [i for i, _, second in pairs if not second]),
            _Turned.of(other, [j for _, j, second in pairs if second]),
        )

    def turn(self, i: int, j: int) -> bool:
        """Turn one of these rows; False where that cannot be done."""
        return self.other.turn(j) if _is_less_certain(self.other.point, j, self.one.point, i) else self.one.turn(i)


def _is_less_certain(point: Point, row: int, than: Point, its: int) -> bool:
    own, other = (CERTAINTY.index(int(p.rows[r, f.ORIENTED])) for p, r in ((point, row), (than, its)))
    return own >= other
