"""ICMP errors and the connections whose segments they quote."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from analyzer.model.addresses import endpoint
from analyzer.model.times import MS, SECOND
from analyzer.tcp import fields as f
from analyzer.tcp.segments import Place
from analyzer.tcp.sequence import delta32

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analyzer.capture.asides import IcmpError
    from analyzer.timeline.points import Point

#: An error comes this long after a connection's last segment at most: Linux gives up resolving the next hop's address after
#: three requests, one a second (mcast_solicit, retrans_time_ms), and only then answers what it had kept.
AFTER_NS = 4 * SECOND
#: An error may be stamped this much before the segment that it quotes, or before the connection at this point begins.
BEFORE_NS = SECOND
#: Sequence numbers this far beyond what the capture saw of the side are still its own: segments that it missed.
BEYOND = 1 << 20
#: The same error again at one point within this time is the same packet, captured on its way in and out; routers send one
#: a second for a destination at most (Linux: icmp_ratelimit).
SAME_WITHIN_NS = 2 * MS
#: The same error at two points, clocks aligned.
PASSES_WITHIN_NS = 2 * SECOND


class AboutConnection(Struct):
    """One ICMP error about a segment of a connection; `from_client`: of the client, so the error goes to it.

    `places` are its sightings, the one nearest the client first.
    """

    what: str
    sender: str
    from_client: bool
    seq: int
    places: list[Place]

    @property
    def time_ns(self) -> int:
        """Aligned time of the first sighting."""
        return min(p.time_ns for p in self.places)

    @property
    def undelivered(self) -> bool:
        """Whether the segment went no further: not so with a redirect or a source quench."""
        return not self.what.startswith(("ICMP redirect", "ICMP source quench"))

    def describe(self) -> str:
        """What a person reads: `← ICMP host unreachable from 10.0.0.1`."""
        return f"{'←' if self.from_client else '→'} {self.what} from {self.sender}"


def errors_by_row(point: Point) -> tuple[dict[int, list[tuple[IcmpError, bool]]], int]:
    """The errors of one capture by row of the connection that they quote, each with whether the client's segment is quoted;
    and how many quote none."""
    rows = _quoted(point)
    found: dict[int, list[tuple[IcmpError, bool]]] = defaultdict(list)
    last: dict[tuple[object, ...], int] = {}
    strangers = 0
    for error in point.data.icmp:
        sides = [(at, True) for at in _lately(point, rows.get((error.source, error.target), []), error)]
        sides += [(at, False) for at in _lately(point, rows.get((error.target, error.source), []), error)]
        at, client = next(((at, client) for at, client in sides if _fits(point.rows[at], error, client)), (-1, False))
        if at < 0:
            strangers += 1
            continue
        key = (at, error.what, error.sender, client, error.seq)
        if abs(error.time_ns - last.get(key, 0)) > SAME_WITHIN_NS:
            found[at].append((error, client))
        last[key] = error.time_ns
    return found, strangers


def _lately(point: Point, rows: list[int], error: IcmpError) -> list[int]:
    """Of one port pair's connections the two that began last before the error, the later one first."""
    end = bisect_right(rows, error.time_ns + BEFORE_NS, key=lambda at: int(point.rows[at, f.FIRST_TS]))
    return rows[max(end - 2, 0) : end][::-1]


def _quoted(point: Point) -> dict[tuple[str, str], list[int]]:
    """Rows of connections that errors may quote, by (client, server)."""
    pairs = {(e.source, e.target) for e in point.data.icmp} | {(e.target, e.source) for e in point.data.icmp}
    ports = np.array(sorted({int(one.rpartition(":")[2]) for pair in pairs for one in pair}), np.int64)
    rows = point.rows
    near = np.flatnonzero(np.isin(rows[:, f.C_PORT], ports) & np.isin(rows[:, f.S_PORT], ports))
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    columns = [f.C_HI, f.C_LO, f.C_PORT, f.S_HI, f.S_LO, f.S_PORT]
    for at, (c_hi, c_lo, c_port, s_hi, s_lo, s_port) in zip(near, rows[near][:, columns].tolist(), strict=True):
        pair = endpoint(c_hi, c_lo, c_port), endpoint(s_hi, s_lo, s_port)
        if pair in pairs:
            found[pair].append(int(at))
    for connections in found.values():
        connections.sort(key=lambda at: int(rows[at, f.FIRST_TS]))
    return found


def _fits(row: NDArray[np.int64], error: IcmpError, client: bool) -> bool:
    """Whether the error came in the connection's life and the quoted sequence number is one of that side's."""
    if not row[f.FIRST_TS] - BEFORE_NS <= error.time_ns <= row[f.LAST_TS] + AFTER_NS:
        return False
    side = f.SIDE + (0 if client else f.SIDE_FIELDS)
    if row[side + f.SEEN] != 2:
        return True
    start, sent = int(row[side + f.START]), int(row[side + f.NXT] - row[side + f.START])
    return -2 <= delta32(error.seq, start & 0xFFFFFFFF) <= sent + BEYOND  # its SYN, a keepalive probe of nothing sent


def ties(
    points: list[Point], members: NDArray[np.int64], nearness: list[int]
) -> tuple[dict[int, list[AboutConnection]], list[int]]:
    """The errors of each connection that has some, in order; and for each point, how many are about none that it holds."""
    found: dict[int, _Joined] = {}
    strangers = [0] * len(points)
    for p in nearness:
        if not points[p].data.icmp:
            continue
        by_row, strangers[p] = errors_by_row(points[p])
        wanted = np.flatnonzero(np.isin(members[:, p], list(by_row)))
        for k, at in zip(wanted.tolist(), members[wanted, p].tolist(), strict=True):
            found.setdefault(k, _Joined()).add(points[p], p, by_row[at])
    return {k: sorted(joined.errors, key=lambda e: e.time_ns) for k, joined in found.items()}, strangers


class _Joined:
    """The errors of one connection: the n-th of a kind about a segment at one point is the n-th at another.

    Its sender's address is no part of that: a NAT may stand between the points.
    """

    def __init__(self) -> None:
        self.errors: list[AboutConnection] = []
        self._known: dict[tuple[str, bool, int, int], AboutConnection] = {}

    def add(self, point: Point, p: int, errors: list[tuple[IcmpError, bool]]) -> None:
        """What one point saw."""
        count: Counter[tuple[str, bool, int]] = Counter()
        for error, client in errors:
            key = (error.what, client, error.seq)
            place = Place(p, point.source.id, error.no, error.time_ns, point.aligned(error.time_ns))
            known = self._known.get((*key, count[key]))
            if known is not None and abs(known.time_ns - place.time_ns) <= PASSES_WITHIN_NS:
                known.places.append(place)
            else:
                known = AboutConnection(error.what, error.sender, client, error.seq, [place])
                self._known[(*key, count[key])] = known
                self.errors.append(known)
            count[key] += 1
