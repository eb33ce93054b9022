"""goaway-race

## What it does
Flags a call that failed because its HTTP/2 connection was being closed by the server: it started at about the time of the
server's GOAWAY (idle limit, age limit, shutdown), or was running and cut when the server closed. Read from the gRPC trace, from
cleartext HTTP/2 in a capture, or both.

## Why it matters
The call ends with UNAVAILABLE (or INTERNAL, when the stream is reset) although the server is well. A frozen function reads
the GOAWAY only after the thaw, and may begin a call on the connection before it does.

## What to do
Retry UNAVAILABLE (a service config with a retry policy). A call above the GOAWAY's last stream id was not processed, so that
repeating it is safe; one at or below it may have been. On the server: MAX_CONNECTION_IDLE and MAX_CONNECTION_AGE above what
clients need, MAX_CONNECTION_AGE_GRACE and the shutdown's grace above the longest call.

## Known limits
A GOAWAY that cost no call is the graceful end that it is meant to be and is not reported. In TLS without keys the frames are
not seen. grpc-js servers send no debug data, so that their idle limit, age limit and shutdown look alike.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from analyzer.capture import columns as col
from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Evidence, Finding, Severity
from analyzer.model.grpc import HTTP2_ERRORS, status_name
from analyzer.model.records import Call, Transport
from analyzer.model.times import MS, SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules import _told as told
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, for_transport
from analyzer.rules._thresholds import Settings
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.tcp.segments import Segment
from analyzer.timeline.story import Story

CODE = "F205"
NAME = "goaway-race"
SUMMARY = "a call began after the server's GOAWAY, or was cut by it"
SEVERITIES = (Severity.ERROR,)
FROM_LOGS = (Confidence.POSSIBLE, Confidence.LIKELY)

#: What a cut call ends with: UNAVAILABLE, INTERNAL (stream reset), RESOURCE_EXHAUSTED (grpc-js for ENHANCE_YOUR_CALM).
CUT = frozenset((14, 13, 8))
#: A call that the GOAWAY or the close took ends with it (measured: within 6 ms); some dialects stamp whole seconds.
WITH_NS = SECOND
#: … and so does the error that the application prints of it; what comes later is the next call's.
FAILED_BY = ("RST_STREAM", "UNAVAILABLE", "CLOSED")
#: Lines of one moment are not always in order.
JITTER_NS = 20 * MS
#: Frames of the server that are no answer to a call.
NO_ANSWER = col.M_H2_GOAWAY | col.M_H2_PING | col.M_H2_PING_ACK | col.M_H2_SETTINGS

_OPEN = "0.000 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n"
FIRES = (
    Case(
        "the server shuts down while a call runs",
        log="""
        00:00:00.000 START 1
        00:00:00.010 grpc 1 channel | (1) dns:svc:443 createResolvingCall [0] method="/a.B/C", deadline=Infinity
        00:00:00.011 grpc 1 resolving_call | [0] Created
        00:00:00.015 grpc 1 load_balancing_call | [0] Pick result: COMPLETE subchannel: (1) 10.0.0.9:443 status: undefined undefined
        00:00:00.020 grpc 1 transport | (1) 10.0.0.9:443 local settings acknowledged by remote: {}
        00:00:02.000 grpc 1 transport | (1) 10.0.0.9:443 connection closed by GOAWAY with code 0 and data max_age
        00:00:02.004 grpc 1 transport | (1) 10.0.0.9:443 session closed
        00:00:02.006 grpc 1 resolving_call | [0] ended with status: code=14 details="Connection dropped"
        00:00:02.100 REPORT 1
        """,
    ),
    Case(
        "from errors alone: a stream is reset together with the GOAWAY",
        log="""
        00:00:00.000 START 1
        00:00:00.010 grpc 1 subchannel | (1) 10.0.0.9:443 CONNECTING -> READY
        00:00:00.100 REPORT 1
        00:01:00.000 START 2
        00:01:00.001 grpc 2 transport | (1) 10.0.0.9:443 connection closed by GOAWAY with code 0 and data undefined
        00:01:00.400 app 2 Error: 13 INTERNAL: Received RST_STREAM with code 2 (Internal server error)
        00:01:00.500 REPORT 2
        """,
    ),
    Case(
        "the GOAWAY never reached a frozen client: its calls find nobody",
        packets=_OPEN
        + "0.010 > HEADERS\n0.012 < HEADERS\n6.500 < GOAWAY 0 max_idle lost\n6.501 < FIN lost\n16.1 > HEADERS\n16.101 < ACK\n18.1 > HEADERS\n18.101 < ACK",
    ),
    Case(
        "in cleartext frames: the request crossed the GOAWAY",
        packets=_OPEN
        + "0.010 > HEADERS\n0.012 < HEADERS\n30.000 > HEADERS\n30.0005 < GOAWAY 0 max_idle crossing\n30.0006 < FIN\n30.002 > FIN\n30.003 < ACK",
    ),
)
QUIET = (
    Case(
        "the running call was answered, then the connection closed",
        packets=_OPEN
        + "0.010 > HEADERS\n0.020 < GOAWAY 0 max_age\n0.030 < HEADERS\n0.031 < FIN\n0.032 > FIN\n0.033 < ACK",
    ),
    Case(
        "the client had given up before: the server answers its GOAWAY",
        packets=_OPEN
        + "0.010 > HEADERS\n0.012 < HEADERS\n5.000 > HEADERS\n6.000 > GOAWAY 0\n6.0001 > FIN\n6.0400 < ACK\n9.000 < GOAWAY 0\n9.001 < FIN\n9.002 > ACK",
    ),
    Case(
        "the client had cancelled its call long before",
        packets=_OPEN
        + "0.010 > HEADERS\n0.012 < HEADERS\n5.000 > HEADERS\n6.000 > RAW \\x00\\x00\\x04\\x03\\x00\\x00\\x00\\x00\\x01\\x00\\x00\\x00\\x08\n6.001 < ACK\n30.000 < GOAWAY 0 max_idle\n30.001 < FIN\n30.002 > FIN\n30.003 < ACK",
    ),
    Case(
        "the server answered the call itself, and its status is UNAVAILABLE",
        log="""
        00:00:00.000 START 1
        00:00:00.010 grpc 1 channel | (1) dns:svc:443 createResolvingCall [0] method="/a.B/C", deadline=Infinity
        00:00:00.015 grpc 1 load_balancing_call | [0] Pick result: COMPLETE subchannel: (1) 10.0.0.9:443 status: undefined undefined
        00:00:00.020 grpc 1 transport | (1) 10.0.0.9:443 local settings acknowledged by remote: {}
        00:00:01.990 grpc 1 subchannel_call | [0] Received server trailers:
        00:00:01.991 grpc 1 resolving_call | [0] ended with status: code=14 details="the database is down"
        00:00:02.000 grpc 1 transport | (1) 10.0.0.9:443 connection closed by GOAWAY with code 0 and data max_age
        00:00:02.004 grpc 1 transport | (1) 10.0.0.9:443 session closed
        00:00:02.100 REPORT 1
        """,
    ),
    Case(
        "GOAWAY on an idle connection",
        packets=_OPEN
        + "0.010 > HEADERS\n0.012 < HEADERS\n9.0 < GOAWAY 0 max_idle\n9.001 < FIN\n9.002 > FIN\n9.003 < ACK",
    ),
    Case(
        "a stream is reset, by a server that goes on",
        log="""
        00:00:00.000 START 1
        00:00:00.010 grpc 1 subchannel | (1) 10.0.0.9:443 CONNECTING -> READY
        00:00:00.400 app 1 Error: 13 INTERNAL: Received RST_STREAM with code 2 (Internal server error)
        00:00:00.500 REPORT 1
        """,
    ),
    Case(
        "GOAWAY between calls, read before reuse",
        log="""
        00:00:00.000 START 1
        00:00:00.010 grpc 1 channel | (1) dns:svc:443 createResolvingCall [0] method="/a.B/C", deadline=Infinity
        00:00:00.020 grpc 1 transport | (1) 10.0.0.9:443 local settings acknowledged by remote: {}
        00:00:00.030 grpc 1 resolving_call | [0] ended with status: code=0 details="OK"
        00:00:00.040 REPORT 1
        00:00:40.000 START 2
        00:00:40.004 grpc 2 transport | (1) 10.0.0.9:443 connection closed by GOAWAY with code 0 and data undefined
        00:00:40.005 grpc 2 transport | (1) 10.0.0.9:443 session closed
        00:00:40.020 grpc 2 channel | (1) dns:svc:443 createResolvingCall [1] method="/a.B/C", deadline=Infinity
        00:00:40.050 grpc 2 resolving_call | [1] ended with status: code=0 details="OK"
        00:00:40.060 REPORT 2
        """,
    ),
)


class Race(Struct):
    """One connection that a GOAWAY ended: what the log says of it, what the capture does."""

    connection: int | None
    transport: Transport | None = None
    goaway: Event | None = None
    calls: list[Call] = []
    wire: Wire | None = None
    errors: list[Event] = []  # of the application, where no trace tells of calls


class Wire(Struct):
    """GOAWAY, the unanswered requests, and the server's close, as captured."""

    goaway: Segment
    requests: list[Segment]
    close: Segment | None


def select(story: Story, settings: Settings) -> Iterable[Race]:
    """Connections with a GOAWAY from the server and a call that it took."""
    found: dict[str, Race] = {}
    traced = {call.environment for call in story.calls}
    for e in story.of_kind("goaway-received"):
        if e.transport and e.transport not in found:
            transport = story.transport(e.transport)
            owner = int(transport.connection[1:]) - 1 if transport.connection else None
            calls = _cut_calls(story, transport, e)
            errors = [] if transport.environment in traced else _cut_errors(story, transport, e)
            found[e.transport] = Race(owner, transport, e, calls, errors=errors)
    by_connection = {race.connection: race for race in found.values() if race.connection is not None}
    for k in story.connections.loaded(story.connections.showing(signs.GOAWAY)):
        wire = _on_the_wire(story.connections.segments(k))
        if wire is not None and k in by_connection:
            by_connection[k].wire = wire
        elif wire is not None:
            found[story.connections.id(k)] = Race(k, wire=wire)
    return [race for race in found.values() if race.calls or race.errors or race.wire]


def _cut_calls(story: Story, transport: Transport, goaway: Event) -> list[Call]:
    """Calls on a transport that failed with its GOAWAY, or with the close that followed."""
    closed = max(
        (e.time_ns for e in story.events_between(goaway.time_ns, goaway.time_ns + 60 * SECOND, transport.environment)
         if e.transport == transport.id and e.kind in ("transport-closed", "socket-error")),
        default=goaway.time_ns,
    )  # fmt: skip
    return [
        c for c in story.calls
        if c.transport == transport.id and c.status in CUT and c.end_ns is not None and not c.answered
        and goaway.time_ns - JITTER_NS <= c.end_ns
        and (c.end_ns <= goaway.time_ns + WITH_NS or abs(c.end_ns - closed) <= WITH_NS)
    ]  # fmt: skip


def _cut_errors(story: Story, transport: Transport, goaway: Event) -> list[Event]:
    """Errors of the application that its environment prints together with a GOAWAY or soon after."""
    near = story.events_between(goaway.time_ns - JITTER_NS, goaway.time_ns + WITH_NS, transport.environment)
    return [
        e for e in near
        if e.kind == "error" and e.attrs.get("code") in FAILED_BY and told.in_use(e)
        and e.remote in (None, transport.remote)
    ]  # fmt: skip


def _on_the_wire(segments: list[Segment]) -> Wire | None:
    """A request without an answer on a connection that the server ended with GOAWAY."""
    goaway = next((s for s in segments if s.marks & col.M_H2_GOAWAY and not s.from_client), None)
    if goaway is None or _has_a_hole(segments):
        return None
    if any(_client_leaves(s) for s in segments if s.time_ns < goaway.time_ns):
        return None  # the server's GOAWAY is an answer
    answered = max((s.time_ns for s in segments if _answers(s)), default=0)
    asked = [s for s in segments if s.from_client and s.marks & col.M_H2_HEADERS and not s.retransmitted]
    left = max((s.time_ns for s in segments if s.from_client and s.marks & col.M_H2_RST_STREAM), default=0)
    requests = [s for s in asked if s.time_ns > max(answered, left)]  # a client that gives up a call resets its stream
    if not requests or requests[-1] is not asked[-1]:
        return None
    ends = [s for s in segments if (s.fin or s.rst) and s.time_ns >= goaway.time_ns]
    if requests[0].time_ns <= goaway.time_ns and not (ends and not ends[0].from_client):
        return None  # running, and not the server but nobody or the client ended it
    return Wire(goaway, requests, next((s for s in ends if not s.from_client), None))


def _has_a_hole(segments: list[Segment]) -> bool:
    """Whether data is missing that no capture has; what one of them missed may stand in another."""
    after_hole = [s for s in segments if s.kinds & f.K_LOST]
    ends = {(s.from_client, s.end_seq) for s in segments} if after_hole else set()
    return any((s.from_client, s.seq) not in ends for s in after_hole)


def _client_leaves(s: Segment) -> bool:
    return s.from_client and (s.fin or s.rst or bool(s.marks & col.M_H2_GOAWAY))


def _answers(s: Segment) -> bool:
    return (
        not s.from_client
        and s.payload
        and (not s.marks & NO_ANSWER or bool(s.marks & (col.M_H2_HEADERS | col.M_H2_RST_STREAM)))
    )


def examine(story: Story, race: Race, settings: Settings) -> Finding | None:
    """The proof: the GOAWAY, the call, how it ended."""
    evidence = _evidence(story, race)
    primary = next(e for e in evidence if e.primary)
    goaway_ns, began_ns = _times(race)
    env = race.transport.environment if race.transport else _environment(story, race)
    freeze = story.freeze_covering(env, goaway_ns - 2 * SECOND, goaway_ns) if env else None
    errors = _failed(story, race, env, primary.time_ns + WITH_NS)
    count = len(race.calls) or len(race.wire.requests if race.wire else race.errors)
    first = "the first " if count > 1 else ""
    when = (
        f"{first}failed {seconds(began_ns - goaway_ns)} after" if race.errors and not (race.calls or race.wire)
        else f"{first}started {seconds(began_ns - goaway_ns)} after" if began_ns > goaway_ns
        else f"{first}sent {seconds(goaway_ns - began_ns)} before, cut by"
    )  # fmt: skip
    said = _said(race)
    endings = sorted({status_name(c.status) for c in race.calls})
    return Finding(
        CODE, NAME, Severity.ERROR,
        Confidence.CERTAIN if race.calls and race.wire else Confidence.LIKELY if race.calls or race.wire else Confidence.POSSIBLE,
        f"{count} call{'s' if count > 1 else ''} lost to the server's GOAWAY: {when} it",
        primary.time_ns, evidence,
        f"the server ended the connection ({said}); "
        + (f"the call ended with {', '.join(endings)}" if endings else _unanswered(race) if race.wire else "the error comes with it, and no trace tells on which transport its call was")
        + ("; the client may have been frozen when the GOAWAY came" if freeze else ""),
        connection=story.connections.id(race.connection) if race.connection is not None else None,
        connections=[story.connections.id(race.connection)] if race.connection is not None else [],
        transport=race.transport.id if race.transport else None, environment=env,
        request_ids=sorted({c.request_id for c in race.calls if c.request_id} | set(common.failed_requests(story, errors))),
        ruled_out=["a graceful end (a call failed by it)" if race.calls or race.wire else "a graceful end that cost nothing (an error comes with it)", "a failing server or path: the connection was ended by an orderly GOAWAY"],
        help=f"{for_transport(Trouble.GOAWAY, race.transport)}; on the server raise MAX_CONNECTION_IDLE and MAX_CONNECTION_AGE, and the grace above the longest call",
        upgrade=_upgrade(race, story),
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _failed(story: Story, race: Race, env: str | None, end_ns: int) -> list[Event]:
    """What the application said of the calls, until a time: around the trace's GOAWAY, else beside the frame."""
    codes = ("UNAVAILABLE",)
    if race.goaway is not None and env is not None:
        failed = common.coded(codes)
        return [e for e in story.events_between(race.goaway.time_ns - JITTER_NS, end_ns, env) if failed(e)]
    if race.connection is None or race.wire is None:
        return []
    return common.errors_beside(story, race.connection, race.wire.goaway.time_ns, end_ns, codes)


def _unanswered(race: Race) -> str:
    """What became of requests of which only packets tell."""
    wire = race.wire
    if wire is None or wire.requests[0].time_ns <= wire.goaway.time_ns:
        return "the request got no answer before the server closed"
    return "nobody was left to answer" + (" them" if len(wire.requests) > 1 else "")


def _times(race: Race) -> tuple[int, int]:
    """When the GOAWAY came and when the first lost call began, by one clock: the captures' where they have both."""
    if race.wire is not None:
        return race.wire.goaway.time_ns, race.wire.requests[0].time_ns
    goaway_ns = race.goaway.time_ns if race.goaway else 0
    began = [c.start_ns for c in race.calls if c.start_ns is not None] or [e.time_ns for e in race.errors]
    return goaway_ns, min(began, default=goaway_ns)


def _environment(story: Story, race: Race) -> str | None:
    return common.environment(story, race.connection) if race.connection is not None else None


def _said(race: Race) -> str:
    """What the GOAWAY says, in words."""
    if race.goaway is not None:
        code, data = race.goaway.attrs.get("code"), race.goaway.attrs.get("data")
    else:
        told = race.wire.goaway.goaway if race.wire else None
        code, data = told if told else (None, "")
    name = (
        HTTP2_ERRORS[int(code)]
        if code is not None and str(code).isdecimal() and int(code) < len(HTTP2_ERRORS)
        else "GOAWAY"
    )
    return f"{name}, debug data {data!r}" if data and data != "undefined" else f"{name}, no debug data"


def _evidence(story: Story, race: Race) -> list[Evidence]:
    evidence: list[Evidence] = []
    if race.wire is not None:
        evidence.append(story.packet(race.wire.goaway))
        for number, request in enumerate(race.wire.requests[:3]):
            evidence.append(story.packet(request, "never answered", primary=not race.calls and number == 0))
        evidence += [story.packet(race.wire.close)] if race.wire.close else []
    if race.goaway is not None:
        evidence.append(story.evidence(race.goaway))
    for number, call in enumerate(race.calls[:3]):
        evidence += [story.evidence(e, primary=number == 0 and e.kind == "call-end") for e in _lines(story, call)]
    if not (race.calls or race.wire):
        evidence += [story.evidence(e, primary=number == 0) for number, e in enumerate(race.errors[:3])]
    evidence.sort(key=lambda e: e.time_ns)
    return evidence


def _lines(story: Story, call: Call) -> list[Event]:
    """The line that ended a call."""
    end = call.end_ns or 0
    return [
        e for e in story.events_between(end, end, call.environment) if e.kind == "call-end" and e.attrs.get("code") == str(call.status)
    ][:1]  # fmt: skip


def _upgrade(race: Race, story: Story) -> str:
    remote = (race.transport.remote if race.transport else None) or ""
    if race.calls and race.wire:
        return ""
    if race.calls and race.connection is not None:
        streams = f"tshark -r server.pcap -d tcp.port=={collect.port(remote)},http2 -Y http2.goaway.last_stream_id -T fields -e frame.number -e http2.goaway.last_stream_id"
        return f"the GOAWAY's last stream id, where the capture is in clear text: `{streams}`"
    if race.calls:
        return f"a capture of cleartext HTTP/2 would show the GOAWAY's last stream id: {collect.capture(remote, whole=True)}"
    dialect = race.transport.dialect if race.transport else ""
    return f"the client's trace names the call and its status: {collect.trace(dialect)}"
