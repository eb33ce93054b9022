"""Where on the path a packet was lost, or made: what one capture point saw and another, that was running, did not.

Only what cannot be merged away is judged: payload, SYN, FIN, RST. Offloads cut and join segments, so payload counts as
seen where its first byte passed in any segment; acknowledgements that carry nothing may be thinned out on the way.
"""

from __future__ import annotations

from bisect import bisect_left

from analyzer.model.times import SECOND
from analyzer.tcp.segments import Segment
from analyzer.tcp.sequence import delta32
from analyzer.timeline.between_captures import PASSES_WITHIN_NS
from analyzer.timeline.points import Connections

#: Room for clocks beyond their stated error, and for packets that a capture stamps late.
SLACK_NS = SECOND // 20

#: What one point saw in one direction: times, and (sequence number, bytes, flags) of each segment.
_Seen = tuple[list[int], list[Segment]]


def fates(cs: Connections, k: int) -> list[str]:
    """For each segment of connection `k`: `lost before srv.pcap`, `made on the way: …`, or nothing to say."""
    segments, points = cs.segments(k), cs.seen_at(k)
    if len(points) < 2:
        return [""] * len(segments)
    seen = {(p, way): _seen(segments, p, way) for p in points for way in (True, False)}
    return [_fate(cs, s, points if s.from_client else points[::-1], seen) for s in segments]


def is_lost(fate: str) -> bool:
    """Whether a packet's fate is that it did not arrive; the other one is that it was made on the way."""
    return fate.startswith("lost")


def _seen(segments: list[Segment], point: int, from_client: bool) -> _Seen:
    there = sorted(
        ((place.time_ns, s) for s in segments if s.from_client == from_client and (place := s.at(point))),
        key=lambda pair: pair[0],
    )
    return [time for time, _ in there], [s for _, s in there]


def _fate(cs: Connections, s: Segment, path: list[int], seen: dict[tuple[int, bool], _Seen]) -> str:
    if not (s.length or s.syn or s.fin or s.rst):
        return ""
    here = [p for p in path if s.at(p)]
    before = [p for p in path[: path.index(here[0])] if _missing(cs, s, p, seen[p, s.from_client])]
    if before:
        return f"made on the way: never at {cs.points[before[-1]].source.label}"
    after = [p for p in path[path.index(here[-1]) + 1 :] if _missing(cs, s, p, seen[p, s.from_client])]
    return f"lost before {cs.points[after[0]].source.label}" if after else ""


def _missing(cs: Connections, s: Segment, p: int, seen: _Seen) -> bool:
    """Whether point `p` was running and did not see it."""
    point = cs.points[p]
    clocks = [cs.points[q].clock for q in {p, *(place.point for place in s.places)}]
    slack = SLACK_NS + sum(clock.error_at(clock.stamp(s.time_ns)) for clock in clocks)
    first, last = point.span
    if not first <= s.time_ns - slack or not s.time_ns + slack <= last:
        return False
    times, segments = seen
    start = bisect_left(times, s.time_ns - slack - PASSES_WITHIN_NS)
    end = bisect_left(times, s.time_ns + slack + PASSES_WITHIN_NS)
    return not any(_carries(other, s) for other in segments[start:end])


def _carries(other: Segment, s: Segment) -> bool:
    if (other.syn, other.rst) != (s.syn, s.rst):
        return False
    if s.fin and not other.fin:
        return False
    if not s.length:
        return other.seq == s.seq or s.rst
    return delta32(s.seq, other.seq) >= 0 and delta32(s.seq, other.seq) < max(other.length, 1)
