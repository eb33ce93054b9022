"""keepalive-timeout

## What it does
Flags a gRPC keepalive ping that expired on time while the process ran: the peer, or the path to it, was silent.

## Why it matters
The client closes the connection and every call on it fails with UNAVAILABLE. Unlike K101 this one is true: something
between the client's socket and the server's application did not answer.

## What to do
Look at the server for that moment (stalled process, overload, restart) and at the path. If the server only pauses for
longer than the timeout (garbage collection, cold scale-up), raise `grpc.keepalive_timeout_ms`; gRPC's default is 20 s.

## Known limits
From a log alone a dead path and a stalled server look the same; a capture at either end tells them apart. C-core up to 1.64
(Python, Ruby, PHP) reads its sockets only while a call runs: on an idle channel its watchdog fires although the answer came.
grpc-go does not log pings, grpc-java not the timeout: what was never printed is not claimed.
"""

from __future__ import annotations

from collections.abc import Iterable

from analyzer.capture import columns as col
from analyzer.model.findings import Confidence, Evidence, Finding, Severity
from analyzer.model.grpc import CORE, CORE_POLLED
from analyzer.model.records import Ping, Transport
from analyzer.model.times import MS, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules import k101_keepalive_timeout_after_freeze as k101
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, for_transport
from analyzer.rules._thresholds import Settings
from analyzer.tcp.segments import Segment
from analyzer.tcp.sequence import delta32
from analyzer.timeline.order import before
from analyzer.timeline.story import Story

CODE = "K102"
NAME = "keepalive-timeout"
SUMMARY = "a ping expired on time while the process ran: the peer was silent"
SEVERITIES = (Severity.WARNING, Severity.ERROR)
FROM_LOGS = (Confidence.POSSIBLE, Confidence.LIKELY)

#: A call that ended with the timeout was running until then (its status follows within a millisecond).
LEAST_CALL_NS = 100 * MS

FIRES = (
    Case(
        "the server is stalled for longer than the timeout",
        log="""
        00:00:00.000 START 1
        00:00:00.020 grpc 1 keepalive | (1) 10.0.0.9:443 Sending ping with timeout 1000ms
        00:00:01.021 grpc 1 keepalive | (1) 10.0.0.9:443 Ping timeout passed without response
        00:00:01.030 grpc 1 keepalive | (1) 10.0.0.9:443 Ping failed with error HTTP2 ping cancelled
        00:00:01.100 REPORT 1
        """,
    ),
    Case(
        "the status of a call alone, long after the freeze",
        log=k101.STATUS.replace("00:06:20.030", "00:06:45.030").replace("00:06:20.080", "00:06:45.080"),
    ),
)
QUIET = (k101.FIRES[0], k101.QUIET[4], k101.FIRES[2])


def select(story: Story, settings: Settings) -> Iterable[Ping | k101.Told]:
    """Pings that timed out, and not by a freeze; timeouts of pings that are not in the log."""
    timed_out, limits = [p for p in story.pings if p.timed_out is not None], settings[k101.Thresholds]
    yield from (p for p in timed_out if not k101.is_after_freeze(story, p, story.transport(p.transport), limits))
    yield from (told for told in k101.told(story) if not told.ran_out_in_it)


def examine(story: Story, candidate: Ping | k101.Told, settings: Settings) -> Finding | None:
    """The proof: sent, no answer while the process ran, timed out."""
    if isinstance(candidate, k101.Told):
        return _unseen(story, candidate)
    ping, transport = candidate, story.transport(candidate.transport)
    if unpolled(story, ping, transport):
        return _nobody_read(story, ping, transport)
    sent, timed_out = story.events[ping.sent], story.events[ping.timed_out or 0]
    known = k101.freezes_known(story, ping, transport)
    told = known or ping.timeout_ms is not None
    blocked = k101.overshoots(ping, settings[k101.Thresholds])  # late, yet not frozen
    errors = k101.consequences(story, transport.environment, transport.remote, timed_out)
    wire, verdict, answered = _on_the_wire(story, transport, ping)
    evidence = [story.evidence(sent), *wire, story.evidence(timed_out, primary=True)]
    evidence += [story.evidence(e, "(consequence)") for e in errors[:2]]
    evidence.sort(key=lambda e: e.time_ns)
    timer = seconds(k101.timeout_ns(ping))
    frozen = sum(
        z.overlap(ping.sent_ns, ping.timed_out_ns or 0)
        for z in story.freezes_between(transport.environment, ping.sent_ns, ping.timed_out_ns or 0)
    )
    if blocked:
        title = f"keepalive timeout fired {seconds(k101.late_by(ping))} late while the function ran: its event loop was blocked"
        why = "the environment was not frozen, yet the timer ran late: a long synchronous task kept the process from reading the answer"
    elif not told:
        title = f"a keepalive ping timed out {timer} after it was sent"
        why = "how long the timeout was configured, and whether the process ran all the time, no line tells"
        why += f"; {verdict or 'no answer to the ping reached it'}"
    else:
        title = f"keepalive timeout after {timer}: {answered or 'the peer did not answer'}"
        why = f"the timer of {timer} ran out while the process ran"
        why += f" (frozen for {seconds(frozen)} of it, running again before it ran out)" if frozen else ""
        why += f"; {verdict or 'no answer to the ping reached it'}"
    ruled = ["a freeze (K101): the timer was on time" + (" and ran out inside an invocation" if known else "")]
    return Finding(
        CODE, NAME,
        Severity.ERROR if errors else Severity.WARNING,
        Confidence.LIKELY if told and (answered or not blocked) else Confidence.POSSIBLE,
        title, timed_out.time_ns, evidence, why,
        connection=transport.connection, connections=[transport.connection] if transport.connection else [],
        transport=transport.id, environment=transport.environment,
        request_ids=common.failed_requests(story, [timed_out, *errors]), lost_ns=common.reconnect_ns(story, transport, timed_out.time_ns),
        ruled_out=ruled if told and not blocked else [],
        help=for_transport(Trouble.BLOCKED if blocked else Trouble.DEAD_PING, transport),
        upgrade=_upgrade(transport, told, blocked, bool(wire)),
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _upgrade(transport: Transport, told: bool, blocked: bool, captured: bool) -> str:
    missing = (
        []
        if told
        else ["the configured keepalive timeout: if it is clearly shorter than this, the process did not run (K101)"]
    )
    if blocked:
        missing.append("how long the process was held up: print it (Node.js: perf_hooks.monitorEventLoopDelay())")
    if not captured:
        command = collect.capture(transport.remote or "")
        missing.append(f"a capture at the server would tell a stalled server from a dead path: {command}")
    return "; ".join(missing)


def unpolled(story: Story, ping: Ping, transport: Transport) -> bool:
    """Whether nobody read the socket while the ping waited: C-core up to 1.64 without a call on this transport."""
    sent = story.events[ping.sent]
    if transport.dialect != CORE or sent.version != CORE_POLLED:
        return False
    end = ping.timed_out_ns or 0
    return not any(
        c.environment == transport.environment and c.pid == transport.pid and c.transport in (None, transport.id)
        and (c.start_ns or 0) <= end and (c.end_ns is None or c.end_ns >= end - LEAST_CALL_NS)
        for c in story.calls
    )  # fmt: skip


def _nobody_read(story: Story, ping: Ping, transport: Transport) -> Finding:
    """The watchdog of an idle channel, in a version that reads sockets only while a call runs."""
    timed_out = story.events[ping.timed_out or 0]
    calls = any(c.environment == transport.environment and c.pid == transport.pid for c in story.calls)
    return Finding(
        CODE, NAME, Severity.WARNING, Confidence.LIKELY if calls else Confidence.POSSIBLE,
        "keepalive timeout on an idle channel: nobody was reading its socket",
        timed_out.time_ns, [story.evidence(story.events[ping.sent]), story.evidence(timed_out, primary=True)],
        "gRPC's C core up to 1.64 reads sockets only while a call runs, and "
        + ("none did" if calls else "no call is in this log")
        + ": the answer may well have come; the timeout says nothing of the peer",
        transport=transport.id, environment=transport.environment,
        connection=transport.connection, connections=[transport.connection] if transport.connection else [],
        help="leave grpc.keepalive_permit_without_calls off, or take a release whose event engine reads sockets by itself (1.65 or later)",
        upgrade="a capture at either end would show whether the answer came" + ("" if calls else "; so would GRPC_TRACE with call_error"),
    )  # fmt: skip


def _unseen(story: Story, told: k101.Told) -> Finding:
    """A connection that the library gave up by keepalive, in a log that shows no pings."""
    errors = k101.consequences(story, told.environment, told.remote, told.event)
    evidence = [*common.freeze_evidence(story, told.freeze), story.evidence(told.event, primary=True)]
    evidence += [story.evidence(e, "(consequence)") for e in errors[:2]]
    evidence.sort(key=lambda e: e.time_ns)
    return Finding(
        CODE, NAME, Severity.ERROR if errors or told.failed else Severity.WARNING, Confidence.POSSIBLE,
        "the library gave the connection up: a keepalive ping was not answered in time" + (", right after a thaw" if told.freeze else ""),
        told.event.time_ns, evidence,
        "the log shows no pings, only the end; "
        + ("the function had just thawed, so the timer may have run out while it was frozen (K101)" if told.freeze else "whether the process ran while it waited cannot be told"),
        server=told.remote, environment=told.environment, **told.where,
        request_ids=common.failed_requests(story, [told.event, *errors] if told.failed else errors),
        ruled_out=[] if told.freeze else ["a timer that fired at a thaw (K101): no freeze ended just before"],
        help=told.help(story, Trouble.DEAD_PING),
        upgrade="the frames (grpc-go: GODEBUG=http2debug=2; grpc-java: FINE for io.grpc.netty) or a capture would show the ping and its answer",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _on_the_wire(story: Story, transport: Transport, ping: Ping) -> tuple[list[Evidence], str, str]:
    """The PING frame in a capture and what came back for it, at length and, where that is an answer, for the headline."""
    k = int(transport.connection[1:]) - 1 if transport.connection is not None else None
    if k is None or not story.shares_clock(k, transport.environment):
        return [], "", ""
    segments = story.connections.segments(k)
    seen_by = {story.connections.points[p].source.id for p in story.connections.seen_at(k)}
    error = (story.clock_error(story.events[ping.sent].source, *seen_by) or 0) + 50 * MS
    frame = min(
        (s for s in segments if s.from_client and s.marks & col.M_PING and not s.retransmitted and abs(s.time_ns - ping.sent_ns) <= error),
        key=lambda s: abs(s.time_ns - ping.sent_ns), default=None,
    )  # fmt: skip
    if frame is None:
        return [], "", ""
    back = [s for s in segments if not s.from_client and s.time_ns > frame.time_ns]
    found = [story.packet(frame)]
    answer = next((s for s in back if s.marks & col.M_PING_ACK), None)
    if answer is not None:
        found.append(story.packet(answer, "(the answer)"))
        in_time = before(story, found[-1], story.evidence(story.events[ping.timed_out or 0]))
        return found, *_answered(answer, answer.time_ns - frame.time_ns, in_time)
    end = (ping.timed_out_ns or 0) + error
    acked = next((s for s in back if not s.rst and s.time_ns <= end and delta32(s.ack, frame.end_seq) >= 0), None)
    if acked is not None:
        found.append(story.packet(acked, "(TCP only)"))
        return found, "the server's kernel acknowledged the ping, its application never answered it", ""
    if not common.heard(story, k, "server"):
        return found, "the capture lacks the server's direction: whether anything came back is not known", ""
    return found, "nothing at all came back for the ping", ""


def _answered(answer: Segment, after_ns: int, in_time: bool | None) -> tuple[str, str]:
    """What an answer in a capture says, at length and for the headline: `in_time` where it was there before the timer ran out,
    None where the clocks do not tell."""
    whose = "what is most likely the server's answer" if answer.likely_ping else "the server's answer"
    seen = f"{whose} passed the capture {seconds(after_ns)} after the ping"
    did = "most likely answered" if answer.likely_ping else "answered"
    if in_time is False:
        return f"{seen}, when the timer had run out", f"the server {did} too late"
    how = "lost on the way back" if in_time else "lost on the way back, or late"
    return (
        f"{seen} and did not reach the process in time: {how}",
        f"the server {did}, and the answer did not arrive in time",
    )
