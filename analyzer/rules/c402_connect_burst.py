"""connect-burst

## What it does
Flags several connects to one server that began within seconds of one another and were never answered, while other connects to
the same server succeeded: attempts are lost when many are made at once.

## Why it matters
It looks like a freeze or a dead server and is neither: none of these connections had existed before. New environments that all
connect at once can exceed what the way to the server takes (the network interfaces of a VPC function scaling up, a NAT
gateway's ports, the server's accept queue), and the SYNs are dropped.

## What to do
Keep connections across invocations, ramp up, put a multiplexing proxy in between; raise the server's accept queue
(`net.core.somaxconn` and the listen backlog); a NAT gateway holds 55,000 connections to one destination at a time.

## Known limits
Where no connect to that server succeeds it is unreachable (C401), which is not told from a burst; where none succeeds during
the burst, a server that was down for a moment looks the same. A capture at the client cannot tell where the SYNs were lost.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from msgspec import Struct

from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.times import SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules import c401_connect_unanswered as c401
from analyzer.rules._cases import Case
from analyzer.rules._thresholds import Settings, Values, count, duration
from analyzer.tcp import fields as f
from analyzer.timeline.story import Story

CODE = "C402"
NAME = "connect-burst"
SUMMARY = "several connects to one server unanswered at once, while others succeed: dropped in a burst"
SEVERITIES = (Severity.WARNING,)

#: A capture stands beside the server where the median client takes so many times longer than the server to answer.
BESIDE = 10


class Thresholds(Values):
    """What makes a burst."""

    least_unanswered: int = count(
        3, "fewer unanswered connects are no burst", "two losses in a row are ordinary", least=2
    )
    within_ns: int = duration(
        10 * SECOND,
        "s",
        "they begin within this time",
        "a SYN is repeated after 1, 2 and 4 s: those of one burst overlap",
    )


def _burst(ports: int) -> str:
    """So many SYNs at once, each repeated after 1 and 3 s."""
    return "".join(
        f"{20 + wait}.00{port} > SYN port={50_000 + port} lost{' again' if wait else ''}\n"
        for wait in (0, 1, 3)
        for port in range(ports)
    )


_ANSWERED = "{0}.000 > SYN port={1}\n{0}.001 < SYN-ACK port={1}\n{0}.002 > ACK port={1}\n{0}.010 > 40 port={1}\n{0}.012 < 90 port={1}\n"
FIRES = (
    Case(
        "five at once into the void, one before and one after answered",
        packets=_ANSWERED.format(1, 40_000) + _burst(5) + _ANSWERED.format(40, 40_001),
    ),
)
QUIET = (
    Case("none ever answered: unreachable, C401", packets=_burst(5)),
    Case("two are no burst", packets=_ANSWERED.format(1, 40_000) + _burst(2)),
)


class Burst(Struct):
    """Unanswered connects to one server within a short time; how many others to it were answered, and how many meanwhile."""

    server: str
    connections: list[int]
    answered: int
    meanwhile: int
    at_server: bool  # whether the capture stands beside the server


def select(story: Story, settings: Settings) -> Iterable[Burst]:
    """Servers with several unanswered connects at a time and with answered ones."""
    t = settings[Thresholds]
    unanswered: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for k in c401.unanswered(story, settings):
        unanswered[story.connections.server(k)].append((_began(story, k), k))
    for server, starts in sorted(unanswered.items()):
        ks = _densest(sorted(starts), t.within_ns) if len(starts) >= t.least_unanswered else []
        if len(ks) >= t.least_unanswered:
            answered, at_server = _answered(story, ks[0])
            first, last = (_began(story, k) for k in (ks[0], ks[-1]))
            if len(answered):
                meanwhile = int(((answered >= first) & (answered <= last + t.within_ns)).sum())
                yield Burst(server, ks, len(answered), meanwhile, at_server)


def _began(story: Story, k: int) -> int:
    """When a connection's first packet passed, aligned."""
    p = story.connections.seen_at(k)[0]
    point = story.connections.points[p]
    return point.aligned(int(point.rows[story.connections.members[k, p], f.FIRST_TS]))


def _answered(story: Story, k: int) -> tuple[common.Rows, bool]:
    """When connections to the server of `k` began that it answered, at the same capture point; whether that is beside the server.

    It is where the server answers SYNs much sooner than clients acknowledge the answer.
    """
    p = story.connections.seen_at(k)[0]
    point = story.connections.points[p]
    mine = point.rows[story.connections.members[k, p]]
    same = point.rows[:, f.SYN_ACK_TS] > 0
    for column in (f.S_HI, f.S_LO, f.S_PORT):
        same &= point.rows[:, column] == mine[column]
    rows = point.rows[same]
    whole = rows[(rows[:, f.SYN_TS] > 0) & (rows[:, f.ESTABLISHED_TS] > 0)]
    there, back = whole[:, f.SYN_ACK_TS] - whole[:, f.SYN_TS], whole[:, f.ESTABLISHED_TS] - whole[:, f.SYN_ACK_TS]
    beside = len(whole) > 0 and bool(np.median(there) * BESIDE < np.median(back))
    times: common.Rows = point.clock.aligned_all(rows[:, f.FIRST_TS])
    return times, beside


def _densest(starts: list[tuple[int, int]], within_ns: int) -> list[int]:
    """The connections of the window in which most began."""
    times = [time for time, _ in starts]
    counts = [bisect_right(times, time + within_ns) - at for at, time in enumerate(times)]
    first = counts.index(max(counts))
    return [k for _, k in starts[first : bisect_left(times, times[first] + within_ns + 1)]]


def examine(story: Story, burst: Burst, settings: Settings) -> Finding | None:
    """The proof: the SYNs, together, unanswered."""
    story.connections.load(burst.connections)
    ks = [k for k in burst.connections if common.heard(story, k, "server")]
    firsts = [next(s for s in story.connections.segments(k) if s.syn) for k in ks]
    if len(firsts) < settings[Thresholds].least_unanswered:
        return None
    firsts.sort(key=lambda s: s.time_ns)
    span = firsts[-1].time_ns - firsts[0].time_ns
    evidence = [story.packet(firsts[0], "never answered", primary=True)]
    evidence += [story.packet(s, "never answered") for s in firsts[1:3]]
    evidence.sort(key=lambda e: e.time_ns)
    envs = {env for k in ks if (env := common.environment(story, k))}
    return Finding(
        CODE, NAME, Severity.WARNING, Confidence.POSSIBLE,
        f"{len(firsts)} connects to {burst.server} within {seconds(span)} were never answered, others were",
        firsts[0].time_ns, evidence,
        f"{burst.answered} other connects to {burst.server} succeeded in this capture"
        + (f", {burst.meanwhile} of them meanwhile: it was up, and the attempts were most likely dropped because many came at once" if burst.meanwhile
           else ", none of them meanwhile: many came at once and were dropped, or the server or the way to it was down for that moment")
        + ("; the capture stands beside the server, so that the SYNs reached its host: its accept queue was full, or the host was overloaded" if burst.at_server else ""),
        connections=[story.connections.id(k) for k in ks], server=burst.server, environment=envs.pop() if len(envs) == 1 else None,
        ruled_out=["a freeze or a stale connection (none of these was ever established)", "an address that cannot be reached, a security group (others were answered)"],
        help="keep connections across invocations, ramp up, or put a multiplexing proxy in between; raise the server's accept queue (net.core.somaxconn, listen backlog)",
        upgrade=("" if burst.at_server else f"a capture at the server shows whether the SYNs arrive: {collect.capture(burst.server, collect.OPENINGS)}; ")
        + "at the server, what the accept queue dropped: `nstat -az TcpExtListenOverflows TcpExtListenDrops`",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip
