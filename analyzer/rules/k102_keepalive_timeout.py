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
from analyzer.model.times import MS, SECOND, seconds
from analyzer.rules import _common as common
from analyzer.rules import k101_keepalive_timeout_after_freeze as k101
from analyzer.rules._cases import Case
from analyzer.timeline.story import Story

CODE = "K102"
NAME = "keepalive-timeout"
SUMMARY = "a ping expired on time while the process ran: the peer was silent"

CONSEQUENCE_NS = 5 * SECOND

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
QUIET = (k101.FIRES[0], k101.QUIET[1])


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
    blocked = k101.late_by(ping) > max(
        k101.LEAST_OVERSHOOT_NS, k101.OVERSHOOT_SHARE * (ping.timeout_ms or k101.DEFAULT_TIMEOUT_MS) * MS
    )
    errors = common.errors_after(
        story,
        transport.environment,
        timed_out.time_ns,
        timed_out.time_ns + CONSEQUENCE_NS,
        ("DEADLINE_EXCEEDED", "UNAVAILABLE"),
    )
    wire, verdict = _on_the_wire(story, transport, ping)
    evidence = [story.evidence(sent), *wire, story.evidence(timed_out, primary=True)]
    evidence += [story.evidence(e, "(consequence)") for e in errors[:2]]
    evidence.sort(key=lambda e: e.time_ns)
    timer = seconds((ping.timeout_ms or k101.DEFAULT_TIMEOUT_MS) * MS)
    if blocked:
        title = f"keepalive timeout fired {seconds(k101.late_by(ping))} late while the function ran: its event loop was blocked"
        why = "the environment was not frozen, yet the timer ran late: a long synchronous task kept the process from reading the answer"
    else:
        title = f"keepalive timeout after {timer}: the peer did not answer"
        why = f"the process ran for the whole {timer}; {verdict or 'no answer to the ping reached it'}"
    known = k101.platform_known(story, transport)
    return Finding(
        CODE, NAME,
        Severity.ERROR if errors else Severity.WARNING,
        Confidence.POSSIBLE if blocked else Confidence.LIKELY,
        title, timed_out.time_ns, evidence, why,
        connection=transport.connection, connections=[transport.connection] if transport.connection else [],
        transport=transport.id, environment=transport.environment,
        request_ids=common.failed_requests(story, [timed_out, *errors]),
        ruled_out=[f"a freeze (K101): the environment ran from the ping to its timeout{'' if known else ', the timer was on time'}"]
        if not blocked else [],
        help="look at the server and the path at this moment; if the server may pause longer, raise grpc.keepalive_timeout_ms (default 20 s)",
        upgrade="" if wire else f"a capture at the server (`tcpdump -i any -s 128 -w server.pcap 'tcp port {(transport.remote or ':0').rsplit(':', 1)[1]}'`) "
        "would tell a stalled server from a dead path",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _on_the_wire(story: Story, transport: Transport, ping: Ping) -> tuple[list[Evidence], str]:
    """The PING frame in a capture and what came back for it."""
    if transport.connection is None or not story.aligned:
        return [], ""
    segments = story.connections.segments(int(transport.connection[1:]) - 1)
    error = max((c.error_ns or 0 for s in story.sources for c in s.clocks), default=0) + 50 * MS
    frame = min(
        (s for s in segments if s.from_client and s.marks & col.M_H2_PING and not s.retransmitted and abs(s.time_ns - ping.sent_ns) <= error),
        key=lambda s: abs(s.time_ns - ping.sent_ns), default=None,
    )  # fmt: skip
    if frame is None:
        return [], ""
    end = ping.timed_out_ns or 0
    back = [s for s in segments if not s.from_client and frame.time_ns < s.time_ns <= end + error]
    if any(s.marks & col.M_H2_PING_ACK for s in back):
        return [story.packet(frame)], ""
    acked = next((s for s in back if not s.payload and not s.rst), None)
    found = [story.packet(frame)]
    if acked is not None:
        found.append(story.packet(acked, "(TCP only)"))
        return found, "the server's kernel acknowledged the ping, its application never answered it"
    return found, "nothing at all came back for the ping"
