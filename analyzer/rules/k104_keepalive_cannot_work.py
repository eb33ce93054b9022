"""keepalive-cannot-work

## What it does
Flags keepalive that could not have kept the connection that was lost: the first TCP keepalive probe met a reset, or the connection
failed after a rest in which gRPC's keepalive sent nothing, because its interval was longer, or because the function was frozen. The
trace alone tells the latter of a transport that a socket error ended.

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

from collections.abc import Iterable, Iterator

from msgspec import Struct

from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Evidence, Finding, Severity, Silence
from analyzer.model.records import Transport
from analyzer.model.times import MS, SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, for_connection, for_transport
from analyzer.rules._thresholds import Settings, Values
from analyzer.rules.f201_fin_wait_2_stall import _OPEN
from analyzer.tcp import signs
from analyzer.tcp.segments import Segment
from analyzer.timeline.story import Story

CODE = "K104"
NAME = "keepalive-cannot-work"
SUMMARY = "the connection was gone before keepalive sent anything"
SEVERITIES = (Severity.INFO,)
FROM_LOGS = (Confidence.POSSIBLE, Confidence.POSSIBLE)

#: The call that finds the connection dead begins this shortly before the error (chosen).
CALL_NS = SECOND

#: What moves the first probe, where probes are sent at all.
SOONER = (
    "where the client runs all the time, let probes begin before that (Node.js: socket.setKeepAlive(true, 60000), ioredis keepAlive, mysql2 "
    "keepAliveInitialDelay, pg keepAlive with keepAliveInitialDelayMillis; others TCP_KEEPIDLE); a frozen function sends none"
)


class Thresholds(Values):
    """What makes a rest."""

    stall_ns: int = common.stall()


_TRACE = """
        00:00:00.000 START 1
        00:00:00.001 grpc 1 transport | (1) 10.0.0.9:6379 local settings acknowledged by remote: {{}}
        00:00:00.002 grpc 1 keepalive | (1) 10.0.0.9:6379 Starting keepalive timer for {0}ms
        00:00:00.100 REPORT 1
        {1}.000 START 2
        {1}.012 grpc 2 transport | (1) 10.0.0.9:6379 connection closed with error read ECONNRESET
        {1}.300 REPORT 2
"""
_AWAKE = """
        00:00:00.001 grpc - transport | (1) 10.0.0.9:6379 local settings acknowledged by remote: {}
        00:00:00.002 grpc - keepalive | (1) 10.0.0.9:6379 Starting keepalive timer for 300000ms
        00:04:00.012 grpc - transport | (1) 10.0.0.9:6379 connection closed with error read ECONNRESET
"""
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
    Case(
        "from the trace alone: pings every 10 s, and a reset after 6 min frozen", log=_TRACE.format(10_000, "00:06:14")
    ),
    Case("from the trace alone: pings every 5 min, and a reset after 4 min", log=_AWAKE),
)
QUIET = (
    Case("the trace alone: the error comes at once", log=_TRACE.format(10_000, "00:00:00.5").replace(".5.", ".5")),
    Case("the trace alone: nothing tells of keepalive", log=_TRACE.format(10_000, "00:06:14").replace("Starting keepalive timer for 10000ms", "nothing")),
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


class Traced(Struct, frozen=True):
    """A transport that only its trace tells of: the last line of it, or of a call on it, before a rest, and the error that ended it."""

    transport: Transport
    last: Event
    error: Event


def select(story: Story, settings: Settings) -> Iterable[int | Traced]:
    """Connections that the server reset after probes, or after a rest of a gRPC client; transports that an error ended after a rest."""
    yield from _traced(story, settings[Thresholds].stall_ns)
    cs = story.connections
    configured = {int(t.connection[1:]) - 1 for t in story.transports if t.connection and t.keepalive_ms is not None}
    probed = cs.showing(signs.PROBED | signs.SERVER_RESET)
    yield from sorted({*probed, *configured.intersection(cs.showing(signs.RESET_ON_WAKING))})


def _traced(story: Story, stall_ns: int) -> Iterator[Traced]:
    """Transports with keepalive that no capture holds, and that an error ended after a rest."""
    ended = {
        t.id: t for t in story.transports
        if t.connection is None and t.keepalive_ms is not None and t.closed_by == "socket-error" and t.cause is not None
    }  # fmt: skip
    last = dict.fromkeys(ended, 0)

    def used(name: str | None, time_ns: int | None) -> None:
        t = ended.get(name or "")
        if t is not None and time_ns is not None and time_ns < (t.closed_ns or 0) - CALL_NS:
            last[t.id] = max(last[t.id], time_ns)

    for e in story.events if ended else ():
        used(e.transport, e.time_ns)
    for c in story.calls if ended else ():
        used(c.transport, c.start_ns)
        used(c.transport, c.end_ns)
    for name, since in sorted(last.items()):
        t = ended[name]
        error = story.events[t.cause or 0]
        if since and error.time_ns - since >= stall_ns:
            yield Traced(t, story.events_between(since, since, t.environment)[-1], error)


def examine(story: Story, candidate: int | Traced, settings: Settings) -> Finding | None:
    """The proof: the last that was heard, what the client sent first after it, the reset."""
    if isinstance(candidate, Traced):
        return _from_trace(story, candidate)
    k = candidate
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
    why = _why(every, rest)
    evidence = [story.packet(last, "the last that passed"), *common.freeze_evidence(story, freeze), story.packet(sent)]
    return _finding(
        story, k, evidence, reset, f"keepalive could not help: nothing was sent in a rest of {seconds(rest)}", why,
        (last.time_ns, sent.time_ns), "a missing setting (the trace shows the keepalive timer)",
    )  # fmt: skip


def _why(every: int, rest: int) -> str:
    if every > rest:
        return f"its interval of {seconds(every)} is longer than the rest of {seconds(rest)} in which the connection was lost"
    return f"it is set to every {seconds(every)}, and the function was frozen for most of the {seconds(rest)} in which the connection was lost: no timer runs meanwhile"


def _from_trace(story: Story, traced: Traced) -> Finding | None:
    """gRPC's keepalive was on, and the trace shows nothing of it in the rest that ended the transport."""
    t, last, error = traced.transport, traced.last, traced.error
    every, rest = (t.keepalive_ms or 0) * MS, error.time_ns - last.time_ns
    freeze = story.freeze_covering(t.environment, last.time_ns, error.time_ns)
    asleep = freeze is not None and 2 * (freeze.length_ns - freeze.error_ns) >= rest
    if every <= rest and not asleep:
        return None
    evidence = [
        story.evidence(last, "the last that the trace shows of it"),
        *common.freeze_evidence(story, freeze),
        story.evidence(error, primary=True),
    ]
    return Finding(
        CODE, NAME, Severity.INFO, Confidence.POSSIBLE,
        f"keepalive could not help: nothing was sent in a rest of {seconds(rest)}",
        error.time_ns, sorted(evidence, key=lambda e: e.time_ns), _why(every, rest),
        transport=t.id, server=t.remote, environment=t.environment,
        silences=[Silence(last.time_ns, error.time_ns, f"{seconds(rest)}: nothing of this transport")],
        ruled_out=["a missing setting (the trace shows the keepalive timer)"],
        help=for_transport(Trouble.STALE, t),
        upgrade=f"a capture at the server, which shows when the connection was lost: {collect.capture(t.remote or '')}",
        clock=common.clock_line(story, evidence),
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
