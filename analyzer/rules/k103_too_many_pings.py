"""too-many-pings

## What it does
Flags a GOAWAY with error code ENHANCE_YOUR_CALM (11): the server threw the client out for pinging too often. Read from the
gRPC trace, from cleartext HTTP/2 in a capture, or both.

## Why it matters
Calls in flight end with UNAVAILABLE, and a client that does not double its interval is thrown out again and again.

## What to do
Raise the client's keepalive time above what the server permits, or permit it on the server: grpc-go
`keepalive.EnforcementPolicy{MinTime, PermitWithoutStream}`, C-core `GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS`.
In functions, turn keepalive off: after a thaw a due ping and a new one can bunch.

## Known limits
The server's minimum is not on the wire. gRPC's default is 5 minutes between pings without data, with two strikes allowed
(grpc/grpc doc/keepalive.md); it is named as a default, not as this server's setting. Servers and proxies send the same code for other reasons: without `too_many_pings` in
the GOAWAY it is likely where three pings or more were seen, else possible.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from statistics import median

from msgspec import Struct

from analyzer.capture import columns as col
from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Evidence, Finding, Severity
from analyzer.model.times import MS, SECOND, seconds
from analyzer.rules import _common as common
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, for_transport
from analyzer.rules._thresholds import Settings
from analyzer.tcp import signs
from analyzer.tcp.segments import Segment
from analyzer.timeline.story import Story

CODE = "K103"
NAME = "too-many-pings"
SUMMARY = "the server closed the connection because the client pinged too often"
SEVERITIES = (Severity.WARNING, Severity.ERROR)
FROM_LOGS = (Confidence.POSSIBLE, Confidence.CERTAIN)

#: RFC 9113 §7.
ENHANCE_YOUR_CALM = 11
CALM = "ENHANCE_YOUR_CALM"
#: What tells of the GOAWAY where no line of a trace does: a call's status, C-core's own error line.
TOLD = ("error", "too-many-pings")
#: Debug data of gRPC servers; others send the code for other reasons (nghttp2: memory, Envoy: streams reset).
NAMED = "too_many_pings"
#: By default the third ping too soon is one too many (two strikes).
LEAST_PINGS = 3
CONSEQUENCE_NS = 5 * SECOND

FIRES = (
    Case(
        "four pings a second apart, then GOAWAY",
        packets="""
        0.000 > SYN
        0.001 < SYN-ACK
        0.002 > ACK
        1.000 > PING
        1.001 < PING-ACK
        2.000 > PING
        2.001 < PING-ACK
        3.000 > PING
        3.001 < PING-ACK
        4.000 > PING
        4.001 < GOAWAY 11 too_many_pings
        4.002 < FIN
        4.003 > FIN
        """,
    ),
    Case(
        "the status of a call alone",
        log="""
        00:00:00.000 START 1
        00:00:00.080 app 1 Error: 14 UNAVAILABLE: Connection closed by server: ENHANCE_YOUR_CALM too_many_pings
        00:00:00.100 REPORT 1
        """,
    ),
    Case(
        "the trace alone",
        log="""
        00:00:00.000 START 1
        00:00:01.000 grpc 1 keepalive | (1) 10.0.0.9:443 Sending ping with timeout 1000ms
        00:00:01.002 grpc 1 keepalive | (1) 10.0.0.9:443 Received ping response
        00:00:02.000 grpc 1 keepalive | (1) 10.0.0.9:443 Sending ping with timeout 1000ms
        00:00:02.001 grpc 1 transport | (1) 10.0.0.9:443 connection closed by GOAWAY with code 11 and data too_many_pings
        00:00:02.100 REPORT 1
        """,
    ),
)
QUIET = (
    Case(
        "the same code for another reason, which the server names",
        packets="0.000 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n5 > HEADERS\n5.001 < GOAWAY 11 too_many_internal_resets\n5.002 < FIN\n5.003 > FIN",
    ),
    Case(
        "a GOAWAY without an error is a graceful end",
        packets="""
        0.000 > SYN
        0.001 < SYN-ACK
        0.002 > ACK
        1.000 > PING
        1.001 < PING-ACK
        2.001 < GOAWAY 0 max_age
        2.002 < FIN
        2.003 > FIN
        """,
    ),
)


class Goaway(Struct):
    """One too-many-pings GOAWAY, from the log, from a capture, or both."""

    connection: int | None
    transport: str | None
    events: list[int] = []
    segments: list[Segment] = []


def select(story: Story, settings: Settings) -> Iterable[Goaway]:
    """GOAWAYs with code 11, one a connection."""
    found: dict[str, Goaway] = {}
    for k in story.connections.loaded(story.connections.showing(signs.GOAWAY)):
        hits = [s for s in story.connections.segments(k) if s.goaway and s.goaway[0] == ENHANCE_YOUR_CALM]
        if hits:
            transports = story.connections.transports.get(k, [None])
            found[story.connections.id(k)] = Goaway(k, transports[0], segments=hits)
    for number in story.numbers_of_kind("goaway-received"):
        e = story.events[number]
        if str(e.attrs.get("code")) == str(ENHANCE_YOUR_CALM):
            owner = int(e.connection[1:]) - 1 if e.connection else None
            key = e.connection or e.transport or f"{e.source}{e.ref}"
            found.setdefault(key, Goaway(owner, e.transport)).events.append(number)
    traced = {story.events[n].environment for goaway in found.values() for n in goaway.events}
    for number in story.numbers_of_kind(*TOLD):
        e = story.events[number]
        if e.environment not in traced and (e.kind != "error" or e.attrs.get("code") == CALM):
            key = f"{e.environment} {e.remote or ''}"
            found.setdefault(key, Goaway(None, e.transport)).events.append(number)
    return list(found.values())


def examine(story: Story, goaway: Goaway, settings: Settings) -> Finding | None:
    """The proof: the pings before it and the frame or line itself."""
    when = _when(story, goaway)
    pings = [t for t in _ping_times(story, goaway) if t <= when]
    period = int(median(b - a for a, b in pairwise(pings))) if len(pings) > 1 else None
    transport = story.transport(goaway.transport) if goaway.transport else None
    evidence: list[Evidence] = [story.packet(s, primary=not goaway.events) for s in goaway.segments[:1]]
    evidence += [story.evidence(story.events[n], primary=True) for n in goaway.events[:1]]
    evidence += _pings(story, goaway, when)
    evidence += [
        story.evidence(e) for e in story.events_between(when, when + SECOND) if e.kind == "too-many-pings"
        and (transport is None or e.environment == transport.environment)
    ][:1]  # fmt: skip
    evidence.sort(key=lambda e: e.time_ns)
    env = _environment(story, goaway)
    errors = _failed(story, goaway, env, when)
    configured = transport.keepalive_ms if transport else None
    sure = _confidence(story, goaway, when, len(pings))
    if sure is None:
        return None
    every = (
        f"every {seconds(configured * MS)}" if configured else (f"every {seconds(period)}" if period else "too often")
    )
    return Finding(
        CODE, NAME,
        Severity.ERROR if errors else Severity.WARNING, sure,
        _title(every if configured or period else "", sure),
        when, evidence,
        "the server answered with GOAWAY ENHANCE_YOUR_CALM"
        + ("" if sure is Confidence.CERTAIN else ", which names no pings: servers and proxies say so of too many streams reset and of too much memory, too")
        + (f"; the client pinged {every}{' (configured)' if configured else ''}" if configured or period or sure is Confidence.CERTAIN else "; too few pings were seen to blame them")
        + "; gRPC servers by default permit one ping in 5 minutes without data and two strikes (this server's own minimum is not visible)",
        connection=story.connections.id(goaway.connection) if goaway.connection is not None else None,
        connections=[story.connections.id(goaway.connection)] if goaway.connection is not None else [],
        transport=goaway.transport, environment=env,
        request_ids=common.failed_requests(story, errors),
        ruled_out=["an idle or age limit of the server (those close with NO_ERROR)"],
        help=for_transport(Trouble.MANY_PINGS, transport),
        upgrade="" if sure is Confidence.CERTAIN else "the server's or the proxy's own log says what it closed the connection for",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _failed(story: Story, goaway: Goaway, env: str | None, when: int) -> list[Event]:
    """Calls that failed with it: after its line, else beside its frame."""
    codes = ("UNAVAILABLE", CALM)
    if goaway.events and env:
        return common.errors_after(story, story.events[goaway.events[0]], CONSEQUENCE_NS, codes, env)
    k = goaway.connection
    return common.errors_beside(story, k, when, when + CONSEQUENCE_NS, codes) if k is not None else []


def _environment(story: Story, goaway: Goaway) -> str | None:
    if goaway.transport:
        return story.transport(goaway.transport).environment
    if goaway.connection is not None:
        return common.environment(story, goaway.connection)
    return story.events[goaway.events[0]].environment if goaway.events else None


def _confidence(story: Story, goaway: Goaway, when: int, pings: int) -> Confidence | None:
    """Certain where the server, or the library that read it, names pings; else by how many pings there were; None where few were
    and the server names something else."""
    said = [(s.goaway or (0, ""))[1] for s in goaway.segments]
    said += [str(story.events[n].attrs.get("data") or "").replace("undefined", "") for n in goaway.events]
    told = any(
        e.kind == "too-many-pings" and (goaway.transport is None or e.transport == goaway.transport)
        for e in story.events_between(when - SECOND, when + SECOND)
    )
    told |= any(NAMED in story.events[n].text for n in goaway.events)
    if told or any(NAMED in data for data in said):
        return Confidence.CERTAIN
    if pings >= LEAST_PINGS:
        return Confidence.LIKELY
    return None if any(said) else Confidence.POSSIBLE


def _title(every: str, sure: Confidence) -> str:
    if sure is Confidence.POSSIBLE:
        return "the server closed the connection with ENHANCE_YOUR_CALM: too many pings?"
    how = "" if sure is Confidence.CERTAIN else "most likely "
    return (
        f"the server closed the connection: pings {every} were {how}too many"
        if every
        else "the server closed the connection for too many pings"
    )


def _when(story: Story, goaway: Goaway) -> int:
    """The time of the GOAWAY: the log's line where there is one."""
    return story.events[goaway.events[0]].time_ns if goaway.events else goaway.segments[0].time_ns


def _frames(story: Story, goaway: Goaway) -> list[Segment]:
    if goaway.connection is None:
        return []
    return [
        s
        for s in story.connections.segments(goaway.connection)
        if s.from_client and s.marks & col.M_PING and not s.retransmitted
    ]


def _ping_times(story: Story, goaway: Goaway) -> list[int]:
    logged = [p.sent_ns for p in story.pings if p.transport == goaway.transport and not p.bandwidth]
    return logged or [s.time_ns for s in _frames(story, goaway)]


def _pings(story: Story, goaway: Goaway, when: int) -> list[Evidence]:
    """The last three pings before it, from the log or the capture."""
    mine = [p for p in story.pings if p.transport == goaway.transport and p.sent_ns <= when]
    if mine:
        return [story.evidence(story.events[p.sent]) for p in mine[-3:]]
    return [story.packet(s) for s in [s for s in _frames(story, goaway) if s.time_ns <= when][-3:]]
