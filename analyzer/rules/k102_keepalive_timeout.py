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
From a log alone a dead path and a stalled server look the same; a capture at either end tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable

from analyzer.capture import columns as col
from analyzer.model.findings import Confidence, Evidence, Finding, Severity
from analyzer.model.records import Ping, Transport
from analyzer.model.times import MS, seconds
from analyzer.rules import _common as common
from analyzer.rules import k101_keepalive_timeout_after_freeze as k101
from analyzer.rules._cases import Case
from analyzer.timeline.story import Story

CODE = "K102"
NAME = "keepalive-timeout"
SUMMARY = "a ping expired on time while the process ran: the peer was silent"

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
)
QUIET = (k101.FIRES[0], k101.QUIET[3])


def select(story: Story) -> Iterable[Ping]:
    """Pings that timed out, and not by a freeze."""
    return [
        p
        for p in story.pings
        if p.timed_out is not None and not k101.is_after_freeze(story, p, story.transport(p.transport))
    ]


def examine(story: Story, ping: Ping) -> Finding | None:
    """The proof: sent, no answer while the process ran, timed out."""
    transport = story.transport(ping.transport)
    sent, timed_out = story.events[ping.sent], story.events[ping.timed_out or 0]
    known = k101.freezes_known(story, ping, transport)
    blocked = known and k101.overshoots(ping)
    errors = k101.consequences(story, transport, timed_out.time_ns)
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
    else:
        title = f"keepalive timeout after {timer}: " + (
            "the server's answer did not arrive" if answered else "the peer did not answer"
        )
        why = f"the timer of {timer} ran out while the process ran"
        why += f" (frozen for {seconds(frozen)} of it, running again before it ran out)" if frozen else ""
        why += f"; {verdict or 'no answer to the ping reached it'}"
    ruled = (
        []
        if blocked
        else ["a freeze (K101): the timer was on time" + (" and ran out inside an invocation" if known else "")]
    )
    return Finding(
        CODE, NAME,
        Severity.ERROR if errors else Severity.WARNING,
        Confidence.POSSIBLE if blocked else Confidence.LIKELY,
        title, timed_out.time_ns, evidence, why,
        connection=transport.connection, connections=[transport.connection] if transport.connection else [],
        transport=transport.id, environment=transport.environment,
        request_ids=common.failed_requests(story, [timed_out, *errors]),
        ruled_out=ruled,
        help="look at the server and the path at this moment; if the server may pause longer, raise grpc.keepalive_timeout_ms (default 20 s)",
        upgrade="" if wire else f"a capture at the server (`tcpdump -i any -s 128 -w server.pcap 'tcp port {(transport.remote or ':0').rsplit(':', 1)[1]}'`) "
        "would tell a stalled server from a dead path",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _on_the_wire(story: Story, transport: Transport, ping: Ping) -> tuple[list[Evidence], str, bool]:
    """The PING frame in a capture and what came back for it."""
    if transport.connection is None or not story.aligned:
        return [], "", False
    segments = story.connections.segments(int(transport.connection[1:]) - 1)
    error = max((c.error_ns or 0 for s in story.sources for c in s.clocks), default=0) + 50 * MS
    frame = min(
        (s for s in segments if s.from_client and s.marks & col.M_H2_PING and not s.retransmitted and abs(s.time_ns - ping.sent_ns) <= error),
        key=lambda s: abs(s.time_ns - ping.sent_ns), default=None,
    )  # fmt: skip
    if frame is None:
        return [], "", False
    end = ping.timed_out_ns or 0
    back = [s for s in segments if not s.from_client and frame.time_ns < s.time_ns <= end + error]
    answer = next((s for s in back if s.marks & col.M_H2_PING_ACK), None)
    if answer is not None:
        when = seconds(answer.time_ns - frame.time_ns)
        verdict = f"the server's answer passed the capture {when} after the ping and did not reach the process in time: lost on the way back, or late"
        return [story.packet(frame), story.packet(answer, "(the answer)")], verdict, True
    acked = next((s for s in back if not s.payload and not s.rst), None)
    found = [story.packet(frame)]
    if acked is not None:
        found.append(story.packet(acked, "(TCP only)"))
        return found, "the server's kernel acknowledged the ping, its application never answered it", False
    return found, "nothing at all came back for the ping", False
