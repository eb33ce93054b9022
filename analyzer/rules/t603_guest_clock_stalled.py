"""guest-clock-stalled

## What it does
Flags a client whose TCP time stamps (TSval, RFC 7323) stood still, or nearly so, while it was silent, and did not catch up afterwards:
the clock of its machine was stopped, together with the machine. From the log alone: times that Go prints with both of its clocks
(`m=+5.023`), of which the monotonic one lost a freeze.

## Why it matters
A process that is merely not scheduled (a frozen function on Lambda as measured, SIGSTOP, a blocked event loop) finds that time has
passed. A machine that was paused or restored from a snapshot (SnapStart, a suspended virtual machine) does not: by its own
monotonic clock the connection was used a moment ago. Checks of idle time by that clock (Go's `time.Since`, Rust's `Instant`, Python's
`time.monotonic`) pass on connections that the server closed long before, and what lives for a time by it (a token, a cached entry) outlives
the server's word.

## What to do
Judge how long a connection rested by the wall clock, and only after it was set again. Close connections before a snapshot is taken
and open them after the restore (SnapStart: runtime hooks); treat every connection from before it as gone. In Go, `t.Round(0)` strips the
monotonic reading of a time that is kept.

## Known limits
The rate of the time stamps is taken from the connection's busy stretches: a connection without any tells nothing. A proxy or
a firewall that writes time stamps of its own shows its clock, not the client's. Packets that a paused machine's host held back
carry old stamps: only what was sent after the server spoke again counts. Of a log, Go's own print of both clocks is read and nothing else,
and only where the platform's lines show the freeze.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise

from msgspec import Struct

from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Finding, Severity, Silence
from analyzer.model.records import Freeze
from analyzer.model.times import SECOND, seconds
from analyzer.rules import _common as common
from analyzer.rules._cases import Case
from analyzer.rules._thresholds import Settings, Values, count, duration
from analyzer.tcp import detail, signs
from analyzer.tcp.segments import Segment
from analyzer.tcp.sequence import delta32
from analyzer.timeline.environments import EPOCH_ENDS
from analyzer.timeline.story import Story

CODE = "T603"
NAME = "guest-clock-stalled"
SUMMARY = "the client's TCP time stamps, or the monotonic clock that its log prints, fell behind the wall clock: its machine was paused"
SEVERITIES = (Severity.INFO,)
FROM_LOGS = (Confidence.LIKELY, Confidence.LIKELY)

#: What is missing of a freeze, if the clock stood still in it: all but this part, and what ran before and after.
ALL_BUT, ALL_BUT_NS = 0.05, SECOND


class Thresholds(Values):
    """What makes a stop of the clock, and how many connections are looked at for it."""

    least_missing_ns: int = duration(
        SECOND, "s", "a clock that fell behind by less was not stopped", "busy hosts and captures are late by less"
    )
    most_looked_at: int = count(
        20, "so many connections of one client are looked at: a clock is its machine's", "chosen"
    )


def _talk(start: float, tsval: int) -> str:
    """A busy half second, from which the rate can be told: one tick a millisecond."""
    return "".join(
        f"{start + k / 10:.3f} > 40 ts={tsval + k * 100}\n{start + k / 10 + 0.002:.3f} < 90 ts=1\n"
        f"{start + k / 10 + 0.042:.3f} > ACK ts={tsval + k * 100 + 42}\n"
        for k in range(5)
    )


#: A token that a Go client renews: until when it is good, before a freeze of eleven minutes and after it.
_GO = """
        00:00:00.000 START 1
        00:00:00.050 info 1 token renewed, good until 2026-11-21 00:15:00.000 +0000 UTC m=+905.000
        00:00:00.060 info 1 asked at 2026-11-21 00:00:00.060 +0000 UTC m=+5.060
        00:00:00.100 REPORT 1
        00:11:00.000 START 2
        00:11:00.020 info 2 asked at 2026-11-21 {}
        00:11:00.030 app 2 rpc error: code = Unauthenticated desc = token expired
        00:11:00.100 REPORT 2
"""
_OPEN = "0.000 > SYN ts=5000\n0.001 < SYN-ACK ts=1\n0.002 > ACK ts=5002\n"
FIRES = (
    Case(
        "a machine is paused for 60 s and goes on",
        packets=_OPEN
        + _talk(0.1, 5100)
        + _talk(60.6, 5600)
        + "61.2 > FIN ts=6200\n61.201 < FIN ts=1\n61.202 > ACK ts=6202",
    ),
    Case(
        "from the log: Go prints both clocks, and one of them lost the freeze",
        log=_GO.format("00:11:00.020 +0000 UTC m=+6.020"),
    ),
)
QUIET = (
    Case("Go prints both clocks, which kept pace", log=_GO.format("00:11:00.020 +0000 UTC m=+665.020")),
    Case("… of a new process, which began after the freeze", log=_GO.format("00:11:00.020 +0000 UTC m=+0.020")),
    Case("… by which the wall clock was set meanwhile", log=_GO.format("00:11:00.020 +0000 UTC m=+645.020")),
    Case("a process was frozen, its kernel's clock ran on", packets=_OPEN + _talk(0.1, 5100) + _talk(60.6, 65_600)),
    Case(
        "a request that was held back carries an old stamp, what follows does not",
        packets=_OPEN + _talk(0.1, 5100) + "60.5 > 40 ts=5560\n" + _talk(60.6, 65_600),
    ),
    Case("no time stamps", packets="0 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n1 > 40\n1.01 < 90\n61 > 40\n61.01 < 90"),
    Case("nothing was said after the pause", packets=_OPEN + _talk(0.1, 5100) + "60.6 > 40 ts=5600\n60.601 < RST"),
)  # fmt: skip


class Paused(Struct, frozen=True):
    """Connections of one client whose time stamps fell behind, if they tick as usual."""

    connections: list[int]


class Behind(Struct, frozen=True):
    """Two lines of one environment with both clocks of Go, of which the monotonic one lost a freeze between them."""

    before: Event
    after: Event
    freeze: Freeze


def select(story: Story, settings: Settings) -> Iterable[Paused | Behind]:
    """Clients whose time stamps fell behind on some connection; environments whose log prints both clocks."""
    yield from _printed(story, settings[Thresholds].least_missing_ns)
    clients: dict[str, list[int]] = defaultdict(list)
    for k in story.connections.showing(signs.CLOCK_BEHIND):
        clients[common.environment(story, k) or story.connections.client(k).rpartition(":")[0]].append(k)
    most = settings[Thresholds].most_looked_at
    yield from (Paused(ks[:most]) for ks in clients.values())


def _printed(story: Story, least_ns: int) -> Iterator[Behind]:
    """For each environment the first freeze that its monotonic clock lost."""
    told: dict[str, list[Event]] = defaultdict(list)
    for e in story.of_kind("line"):
        if "monotonic_ns" in e.attrs and e.environment:
            told[e.environment].append(e)
    for env, lines in sorted(told.items()):
        pairs = (Behind(a, b, z) for a, b in pairwise(lines) for z in story.freezes_between(env, a.time_ns, b.time_ns))
        found = next((x for x in pairs if _lost_the_freeze(story, x, least_ns)), None)
        if found is not None:
            yield found


def _lost_the_freeze(story: Story, x: Behind, least_ns: int) -> bool:
    """Whether the same process prints both lines, and its monotonic clock is behind by the freeze, no less and no more."""
    passed, ran = (x.after.attrs[name] - x.before.attrs[name] for name in ("wall_ns", "monotonic_ns"))
    missing, frozen = passed - ran, x.freeze.length_ns
    meanwhile = story.events_between(x.before.time_ns, x.after.time_ns, x.before.environment)
    if ran < 0 or missing < least_ns or any(e.kind in EPOCH_ENDS for e in meanwhile):
        return False
    return bool(abs(missing - frozen) <= max(ALL_BUT_NS, ALL_BUT * frozen) + x.freeze.error_ns)


class Stopped(Struct, frozen=True):
    """A stop of the clock: the client's segments on both sides of the pause, and one that must be newer than it."""

    stall: detail.ClockStall
    before: Segment
    after: Segment
    proof: Segment


def examine(story: Story, paused: Paused | Behind, settings: Settings) -> Finding | None:
    """The proof: the last stamp before the pause, the first after it, and one that must be new; or what Go prints of both clocks."""
    if isinstance(paused, Behind):
        return _from_log(story, paused)
    least = settings[Thresholds].least_missing_ns
    stops = {
        k: found for k in story.connections.loaded(paused.connections)
        if (found := _stopped(story.connections.segments(k), least)) is not None
    }  # fmt: skip
    if not stops:
        return None
    k = max(stops, key=lambda k: (stops[k].stall.missing_ns, -k))
    stall, before, after, proof = stops[k].stall, stops[k].before, stops[k].after, stops[k].proof
    others, env = len(stops) - 1, common.environment(story, k)
    evidence = [
        story.packet(before, f"TSval {before.tsval}"),
        story.packet(after, f"TSval {after.tsval}: {seconds(stall.advanced_ns)} on", primary=True),
        story.packet(proof, f"TSval {proof.tsval}: surely sent later"),
    ]
    ids = [story.connections.id(c) for c in sorted(stops)]
    return Finding(
        CODE, NAME, Severity.INFO, Confidence.LIKELY if others else Confidence.POSSIBLE,
        f"the client's clock lost {seconds(stall.missing_ns)} of {seconds(stall.passed_ns)}",
        after.time_ns, evidence,
        f"its TCP time stamps advanced by {seconds(stall.advanced_ns)} in a silence of {seconds(stall.passed_ns)} and stayed behind: its machine was paused or restored from "
        "a snapshot, so that a check of idle time by its monotonic clock would find the connection fresh"
        + (f"; so on {others} more of its connections" if others else ""),
        connection=ids[0] if len(ids) == 1 else None, connections=ids, environment=env,
        silences=[Silence(before.time_ns, after.time_ns, f"{seconds(stall.passed_ns)}: no packet of the client")],
        ruled_out=[
            "a frozen process on a running machine (its kernel's clock would have gone on)",
            "a packet held back on the way (what was sent after the server spoke again is behind as well)",
        ],
        help="judge idle time by the wall clock, after a restore only once it was set; close connections before a snapshot and open them after it",
        upgrade="print the wall clock and the monotonic clock (Node.js: Date.now() and process.hrtime(); Python: time.time() and time.monotonic()) at the start of each "
        "invocation: their difference jumps by the same time",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _from_log(story: Story, x: Behind) -> Finding:
    """Both clocks before a freeze and after it."""
    passed, ran = (x.after.attrs[name] - x.before.attrs[name] for name in ("wall_ns", "monotonic_ns"))
    evidence = [
        story.evidence(x.before),
        *common.freeze_evidence(story, x.freeze),
        story.evidence(x.after, f"{seconds(ran)} on by its monotonic clock", primary=True),
    ]
    evidence.sort(key=lambda e: e.time_ns)
    return Finding(
        CODE, NAME, Severity.INFO, Confidence.LIKELY,
        f"the guest's monotonic clock lost {seconds(passed - ran)} in a freeze of {seconds(x.freeze.length_ns)}",
        x.after.time_ns, evidence,
        f"from one line to the other the wall clock advanced by {seconds(passed)}, the monotonic clock by {seconds(ran)}: the machine was paused or restored from a snapshot, "
        "and what the process lets live by that clock (time.Since, time.Until, timers: idle checks, tokens, cached entries) lives so much longer than it should",
        environment=x.before.environment,
        silences=[Silence(x.freeze.start_ns, x.freeze.end_ns, f"{seconds(x.freeze.length_ns)} frozen: the monotonic clock stood still")],
        ruled_out=["a frozen process on a running machine (its monotonic clock would have gone on)", "a new process (its monotonic clock goes on from where it was)"],
        help="strip the monotonic reading of times that are kept across invocations (t.Round(0)) and compare them by the wall clock, after a restore only once it was set; "
        "close connections before a snapshot and open them after it",
        upgrade="print time.Now() at the start of each invocation: the difference of both clocks jumps at each such freeze, and not when the wall clock is set",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _stopped(segments: list[Segment], least_ns: int) -> Stopped | None:
    """The longest stop of the client's clock that lasted, None where there is none."""
    found = [_marked(segments, s) for s in detail.clock_stalls(segments, True) if s.missing_ns >= least_ns]
    return max((s for s in found if s is not None), key=lambda s: s.stall.missing_ns, default=None)


def _marked(segments: list[Segment], stall: detail.ClockStall) -> Stopped | None:
    """The stop with its segments; None where the clock is not behind in the last of those that acknowledge what the server sent
    after the pause: these cannot have been made before it ended."""
    end, rate = stall.start_ns + stall.passed_ns, detail.tsval_rate_hz(segments, True)
    own = [s for s in segments if s.from_client and s.tsval >= 0 and not s.rst]
    before = next(s for s in own if s.time_ns == stall.start_ns)
    after = next(s for s in own if s.time_ns == end)
    said = next((s for s in segments if not s.from_client and s.time_ns >= end and s.end_seq != s.seq), None)
    answers = [s for s in own if said is not None and s.time_ns > said.time_ns and delta32(s.ack, said.end_seq) >= 0]
    if not answers or rate is None:
        return None
    advanced = delta32(answers[-1].tsval, before.tsval) * SECOND // rate
    behind = answers[-1].time_ns - before.time_ns - advanced
    return Stopped(stall, before, after, answers[-1]) if behind > stall.missing_ns // 2 else None
