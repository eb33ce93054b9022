"""Freezes that no platform line tells: by packets alone, or by a timer of the process.

They are told apart from the others by their `from`, never explain a finding, and their error says how little is known of their
ends. Idleness is no freeze: each needs something that a running machine would have done.

* `tsval`: the client's TCP time stamps (RFC 7323) stood still over a pause: its machine was stopped. It ran for what they advanced.
* `retransmissions`: the server repeated what a silent host did not even acknowledge, and then, with no copy just before, several
  acknowledgements came at once: the copies had waited at its door. A path that heals answers a copy, a round trip after it.
* `ping-overshoot`: no platform lines, and a gRPC ping timed out long after its timeout: in the silence of its process before that
  line it did not run for that long. A blocked event loop looks the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice, pairwise

from analyzer.model.records import Freeze
from analyzer.model.times import MS, SECOND
from analyzer.tcp import detail, signs
from analyzer.tcp import fields as f
from analyzer.tcp.segments import Segment
from analyzer.tcp.sequence import delta32
from analyzer.timeline.environments import FREEZE_ERROR_NS
from analyzer.timeline.points import SERVER
from analyzer.timeline.story import Story

TSVAL, RETRANSMISSIONS, OVERSHOOT = "tsval", "retransmissions", "ping-overshoot"
#: A shorter stop may be a busy host's.
LEAST_NS = SECOND
#: The ends are no better known than those between platform lines.
LEAST_ERROR_NS = FREEZE_ERROR_NS
#: So many copies without an answer are no accident (RTO doubles: they span seven of them).
LEAST_COPIES = 3
#: Acknowledgements that come at once: within this, so many of them.
AT_ONCE_NS, LEAST_ANSWERS = 50 * MS, 2
#: A ping may time out this much late, or this share of its timeout (DESIGN: K101), without a freeze.
LATE_NS, LATE_SHARE = 250 * MS, 0.05
#: Connections that are looked at.
MOST_LOOKED_AT = 500


def inferred_freezes(story: Story) -> list[Freeze]:
    """All of them, by start; of the environments of logs without platform lines, and of client hosts (`ip:10.0.0.5`) in captures
    that share no clock with any log."""
    found = [*_by_timers(story), *_by_packets(story)]
    return sorted(found, key=lambda z: (z.start_ns, z.environment, z.end_ns, z.source))


# ---- by packets


def _by_packets(story: Story) -> Iterator[Freeze]:
    cs = story.connections
    behind = set(cs.showing(signs.CLOCK_BEHIND))
    repeated = set(cs.by_point(0, lambda rows: rows[:, SERVER + f.RETX] >= LEAST_COPIES))
    inside = set(cs.in_view().tolist())
    ks = [k for k in sorted((behind | repeated) & inside) if not story.shares_clock(k)][:MOST_LOOKED_AT]
    told: dict[tuple[str, str], list[Freeze]] = defaultdict(list)
    for k in cs.loaded(ks):
        host = f"ip:{cs.client(k).rpartition(':')[0].strip('[]')}"
        segments = cs.segments(k)
        for z in (*_stopped_clock(host, segments), *_silent_host(host, segments)):
            if not any(
                other.overlap(z.start_ns, z.end_ns) for other in told[host, z.source]
            ):  # one pause, many connections
                told[host, z.source].append(z)
    yield from (z for zs in told.values() for z in zs)


def _stopped_clock(host: str, segments: list[Segment]) -> Iterator[Freeze]:
    """Pauses over which the client's clock stood still and after which it stayed behind, by a segment that is surely newer."""
    for stall in detail.clock_stalls(segments, True):
        end = stall.start_ns + stall.passed_ns
        if stall.missing_ns < LEAST_NS or not _stays_behind(segments, stall, end):
            continue
        yield Freeze(host, stall.start_ns, end, max(stall.advanced_ns, LEAST_ERROR_NS), TSVAL)


def _stays_behind(segments: list[Segment], stall: detail.ClockStall, end_ns: int) -> bool:
    """Whether the clock is still behind in the last segment that acknowledges what the server sent after the pause: that one
    cannot have been made before it ended."""
    rate = detail.tsval_rate_hz(segments, True)
    own = [s for s in segments if s.from_client and s.tsval >= 0 and not s.rst]
    before = next(s for s in own if s.time_ns == stall.start_ns)
    said = next((s for s in segments if not s.from_client and s.time_ns >= end_ns and s.end_seq != s.seq), None)
    answers = [s for s in own if said is not None and s.time_ns > said.time_ns and delta32(s.ack, said.end_seq) >= 0]
    if not answers or not rate:
        return False
    advanced = delta32(answers[-1].tsval, before.tsval) * SECOND // rate
    return answers[-1].time_ns - before.time_ns - advanced > stall.missing_ns // 2


def _silent_host(host: str, segments: list[Segment]) -> Iterator[Freeze]:
    """Silences of the client in which the server's copies went unanswered, ended by several acknowledgements at once."""
    own = [n for n, s in enumerate(segments) if s.from_client]
    for a, b in pairwise(own):
        asked = [s for s in segments[a + 1 : b] if s.payload or s.fin]
        copies = [s for s in asked if s.retransmitted]
        if len(copies) < LEAST_COPIES or segments[b].time_ns - asked[0].time_ns < LEAST_NS:
            continue
        end = segments[b].time_ns
        answers = sum(1 for s in _at_once(segments, b) if not s.payload and not s.syn and not s.rst)
        if answers < LEAST_ANSWERS or end - copies[-1].time_ns <= AT_ONCE_NS + _round_trip(segments):
            continue
        yield Freeze(
            host, asked[0].time_ns, end, max(asked[0].time_ns - segments[a].time_ns, LEAST_ERROR_NS), RETRANSMISSIONS
        )


def _at_once(segments: list[Segment], b: int) -> Iterator[Segment]:
    """The client's segments of one moment, from the b-th on."""
    for s in islice(segments, b, None):
        if s.time_ns > segments[b].time_ns + AT_ONCE_NS:
            return
        if s.from_client:
            yield s


def _round_trip(segments: list[Segment]) -> int:
    return detail.handshake_rtt_ns(segments) or 0


# ---- by timers


def _by_timers(story: Story) -> Iterator[Freeze]:
    """Pings that timed out too late, in environments whose log has no platform lines."""
    told = {i.environment for i in story.invocations} | {e.id for e in story.environments if e.concurrent}
    times: dict[str, list[int]] = defaultdict(list)
    environment = {t.id: t.environment for t in story.transports}
    late = [
        p for p in story.pings if p.timed_out_ns is not None and p.timeout_ms and environment[p.transport] not in told
    ]
    for e in story.events if late else ():
        if e.environment is not None:
            times[e.environment].append(e.time_ns)
    last: dict[str, int] = {}
    for p in sorted(late, key=lambda p: p.timed_out_ns or 0):
        name, end, timeout = environment[p.transport], p.timed_out_ns or 0, (p.timeout_ms or 0) * MS
        over = end - p.sent_ns - timeout
        if name is None or over <= max(LATE_NS + p.resolution_ns, LATE_SHARE * timeout) or over < LEAST_NS:
            continue
        mine = times[name]
        lines = [p.sent_ns, *mine[bisect_left(mine, p.sent_ns + 1) : bisect_left(mine, end)], end]
        start, until = max(pairwise(lines), key=lambda gap: gap[1] - gap[0])
        if until - start >= max(over, LEAST_NS) and last.get(name) != until:
            last[name] = until
            yield Freeze(name, start, until, max(until - start - over, LEAST_ERROR_NS) + p.resolution_ns, OVERSHOOT)
