"""keepalive-cannot-work

## What it does
Flags keepalive that could not have kept the connection that was lost: the first TCP keepalive probe met a reset, or the connection
failed after a rest in which gRPC's keepalive sent nothing, because its interval was longer, or because the function was frozen.

## Why it matters
Somebody set keepalive and relies on it. The limit that ended the connection is shorter than its interval, or it ran out while
nothing could be sent: the setting changes nothing, and looking for the fault elsewhere costs days.

## What to do
Set the interval well below the limit on the path where the client runs all the time (Node.js `setKeepAlive(true)` without a delay leaves
the kernel's 2 h). In a function that is frozen no keepalive of the client helps: check by wall clock before reuse.

## Known limits
The reset shows that the connection was gone when the probe came, not since when: a server that restarted in between looks the same.
Keepalive that is configured and neither logged nor seen in a capture is not known of.
"""

from __future__ import annotations

from collections.abc import Iterable

from analyzer.model.findings import Confidence, Evidence, Finding, Severity, Silence
from analyzer.model.times import MS, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, for_connection
from analyzer.rules._thresholds import Settings, Values
from analyzer.rules.f201_fin_wait_2_stall import _OPEN
from analyzer.tcp import signs
from analyzer.tcp.segments import Segment
from analyzer.timeline.story import Story

CODE = "K104"
NAME = "keepalive-cannot-work"
SUMMARY = "the connection was gone before keepalive sent anything"
SEVERITIES = (Severity.INFO,)


#: What moves the first probe, where probes are sent at all.
SOONER = (
    "where the client runs all the time, let probes begin before that (Node.js: socket.setKeepAlive(true, 60000), ioredis keepAlive, mysql2 "
    "keepAliveInitialDelay, pg keepAlive with keepAliveInitialDelayMillis; others TCP_KEEPIDLE); a frozen function sends none"
)


class Thresholds(Values):
    """What makes a rest."""

    stall_ns: int = common.stall()


FIRES = (
    Case("the first probe, after five minutes, meets a reset", packets=_OPEN + "\n300.05 > PROBE\n300.051 < RST"),
    Case(
        "gRPC pings every 10 s, and was frozen for a minute",
        log="""
        00:00:00.000 START 1
        00:00:00.001 grpc 1 transport | (1) 10.0.0.9:6379 Established TCP connection
        00:00:00.002 grpc 1 keepalive | (1) 10.0.0.9:6379 Starting keepalive timer for 10000ms
        00:00:00.100 REPORT 1
        00:01:00.000 START 2
        00:01:00.300 REPORT 2
        """,
        packets=_OPEN + "\n60.05 > 40\n60.051 < RST",
    ),
)
QUIET = (
    Case(
        "the server reset the frozen machine's connection by itself: its capture saw none of the probes that the reset seems to answer",
        packets=_OPEN + "\n14.3 > PROBE lost\n15.3 > PROBE lost\n16.1 < RST-ACK",
        server_packets=_OPEN + "\n15.35 < RST-ACK",
    ),
    Case("probes are answered", packets=_OPEN + "\n300 > PROBE\n300.001 < ACK\n600 > PROBE\n600.001 < ACK"),
    Case("an answered probe, then the server resets", packets=_OPEN + "\n300 > PROBE\n300.001 < ACK\n400 < RST"),
    Case("a reset after a rest, and nothing known of keepalive", packets=_OPEN + "\n60.05 > 40\n60.051 < RST"),
    Case("unanswered probes until the prober's reset are K105", packets=_OPEN + "\n5 > PROBE\n6 > PROBE\n7 > PROBE\n8 > RST-ACK"),
)  # fmt: skip


def select(story: Story, settings: Settings) -> Iterable[int]:
    """Connections that the server reset after probes, or after a rest of a gRPC client."""
    cs = story.connections
    configured = {int(t.connection[1:]) - 1 for t in story.transports if t.connection and t.keepalive_ms is not None}
    probed = cs.showing(signs.PROBED | signs.SERVER_RESET)
    return sorted({*probed, *configured.intersection(cs.showing(signs.RESET_ON_WAKING))})


def examine(story: Story, k: int, settings: Settings) -> Finding | None:
    """The proof: the last that was heard, what the client sent first after it, the reset."""
    segments = story.connections.segments(k)
    reset = next((s for s in segments if s.rst and not s.from_client), None)
    if reset is None or not common.heard(story, k, "server"):
        return None
    before = [s for s in segments if s.time_ns <= reset.time_ns and s is not reset]
    heard = max((s.time_ns for s in before if not s.from_client), default=0)
    sent = next((s for s in before if s.from_client and s.time_ns > heard and (s.payload or s.keepalive)), None)
    if sent is None or any(s.fin for s in before):
        return None
    last = max((s for s in before if s.time_ns < sent.time_ns), key=lambda s: s.time_ns, default=None)
    if (
        last is None
        or sent.time_ns - last.time_ns < settings[Thresholds].stall_ns
        or common.unasked(story, k, sent, reset)
    ):
        return None
    if sent.keepalive:
        return _too_late(story, k, last, sent, reset)
    return _nothing_sent(story, k, last, sent, reset)


def _too_late(story: Story, k: int, last: Segment, probe: Segment, reset: Segment) -> Finding | None:
    """The first probe of a rest met the reset."""
    if last.keepalive:
        return None
    idle = probe.time_ns - last.time_ns
    return _finding(
        story, k, [story.packet(last, "the last that passed"), story.packet(probe)], reset,
        f"keepalive came too late: its first probe, after {seconds(idle)} idle, was answered with a reset",
        f"the connection was gone when the first probe came: what ended it is shorter than the {seconds(idle)} after which the client probes",
        (last.time_ns, probe.time_ns), "a missing setting (the client does probe)", True,
    )  # fmt: skip


def _nothing_sent(story: Story, k: int, last: Segment, sent: Segment, reset: Segment) -> Finding | None:
    """gRPC's keepalive was on, and sent nothing in the rest that ended the connection."""
    transports = [story.transport(t) for t in story.connections.transports.get(k, [])]
    every = next((t.keepalive_ms * MS for t in transports if t.keepalive_ms is not None), None)
    if every is None:
        return None
    rest = sent.time_ns - last.time_ns
    freeze = common.frozen(story, k, last.time_ns, sent.time_ns)
    if every <= rest and freeze is None:
        return None
    why = (
        f"its interval of {seconds(every)} is longer than the rest of {seconds(rest)} in which the connection was lost" if every > rest
        else f"it is set to every {seconds(every)}, and the function was frozen for most of the {seconds(rest)} in which the connection was lost: no timer runs meanwhile"
    )  # fmt: skip
    evidence = [story.packet(last, "the last that passed"), *common.freeze_evidence(story, freeze), story.packet(sent)]
    return _finding(
        story, k, evidence, reset, f"keepalive could not help: nothing was sent in a rest of {seconds(rest)}", why,
        (last.time_ns, sent.time_ns), "a missing setting (the trace shows the keepalive timer)",
    )  # fmt: skip


def _finding(
    story: Story, k: int, evidence: list[Evidence], reset: Segment, title: str, why: str, rest: tuple[int, int], ruled_out: str, sooner: bool = False
) -> Finding:  # fmt: skip
    evidence = sorted([*evidence, story.packet(reset, primary=True)], key=lambda e: e.time_ns)
    return Finding(
        CODE, NAME, Severity.INFO, Confidence.POSSIBLE, title, reset.time_ns, evidence, why,
        connection=story.connections.id(k), connections=[story.connections.id(k)], environment=common.environment(story, k),
        silences=[Silence(*rest, f"{seconds(rest[1] - rest[0])}: no packet of this connection")],
        ruled_out=[ruled_out],
        help=(f"{SOONER}; " if sooner else "") + for_connection(story, k, Trouble.STALE),
        upgrade=f"a capture at the server, which shows whether it had closed: {collect.capture(story.connections.server(k))}; gaps of other lengths bracket the limit (R305)",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip
