"""close-race

## What it does
Flags a request that crossed the server's close on the way: the client had not seen the FIN when it wrote, the server had not
seen the request when it closed, and both happened within a round trip. The server answers the request with a reset. From the log
alone: a connection that ended when it was used again, after a quiet stretch within one invocation as long as a server's default limit.

## Why it matters
The request fails with ECONNRESET or `socket hang up` although the connection was alive a moment before. It happens when the
client's pool keeps connections about as long as the server does: Node's HTTP server closes after 5 s (6 s with its buffer),
load balancers after 60 s, nginx after 75 s. No check before reuse can see it, only a margin avoids it.

## What to do
Let the client give up its idle connections before the server does, by a margin above the round trip (undici
`keepAliveTimeout`, Node `agentKeepAliveTimeoutBuffer`, a maximum idle time checked by wall clock), or raise the server's
limit above the client's. Retry an idempotent request once on ECONNRESET.

## Known limits
A client that was closing too (its own FIN or a TLS close_notify goes out with the data) lost nothing. A connection that was
busy when the server closed is another matter (an upload cut short, a server that stops): only a request after a second or
more of rest counts. The log alone shows neither the close nor the request: possible, and a request that had been under way all that
time, and that the server then ended, looks the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Finding, Severity, Silence
from analyzer.model.times import SECOND, seconds
from analyzer.rules import _common as common
from analyzer.rules import _limits as limits
from analyzer.rules import _told as told
from analyzer.rules import f203_zombie_connection_reused as f203
from analyzer.rules import n901_not_the_freeze as n901
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, for_connection
from analyzer.rules._thresholds import Settings
from analyzer.rules.f201_fin_wait_2_stall import _OPEN
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.tcp.segments import Segment
from analyzer.tcp.sequence import delta32
from analyzer.timeline.points import SERVER
from analyzer.timeline.story import Story

CODE = "F204"
NAME = "close-race"
SUMMARY = "a request and the server's close crossed within a round trip"
SEVERITIES = (Severity.ERROR,)
FROM_LOGS = (Confidence.POSSIBLE, Confidence.POSSIBLE)

#: `select` compares two rows' times before it knows the round trip: three time-outs of a slow path at most.
NEAR_NS = 4 * SECOND
#: What the log says of a connection that ended in use.
ENDED = frozenset(("CLOSED", "ECONNRESET", "EPIPE"))
#: The lines of a request, its error among them, stand this close (chosen).
REQUEST_NS = SECOND
#: Where no server is named, it may be an HTTP server: its limits are the shortest.
ANY_SERVER = ":80"
_ERROR = """
        00:00:00.000 START 1
        00:00:06.499 app 1 request sent
        00:00:06.503 app 1 Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }
        00:00:06.600 REPORT 1
"""
FIRES = (
    Case(
        "the server's idle limit runs out as the next request is on its way",
        log=_ERROR,
        packets=_OPEN + "\n6.500 > 60\n6.5005 < FIN crossing\n6.501 < RST",
    ),
    Case(
        "seen from the server's side: the FIN left first",
        packets=_OPEN + "\n6.500 < FIN\n6.501 > 60 crossing\n6.5012 < RST",
    ),
    Case(
        "inside TLS: the close_notify crossed too",
        packets=_OPEN + "\n6.500 > 60\n6.5004 < TLS 24 crossing\n6.5005 < FIN crossing\n6.501 < RST",
    ),
    Case(
        "the server says 408 as it closes",
        packets=_OPEN + "\n6.4999 < TEXT HTTP/1.1_408_Request_Timeout\n6.500 < FIN\n6.501 > 60 crossing\n6.502 < RST",
    ),
    Case(
        "from the log alone: five quiet seconds within an invocation, as long as Node.js keeps a connection open",
        log="""
        00:00:00.000 START 1
        00:00:00.080 app 1 info first page done
        00:00:05.085 app 1 Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }
        00:00:05.180 REPORT 1
        """,
    ),
    Case(
        "keepalive probes are no requests: the connection rested all the same",
        packets=_OPEN
        + "\n3.0 > PROBE\n3.001 < ACK\n6.0 > PROBE\n6.001 < ACK\n6.500 < FIN\n6.501 > 60 crossing\n6.5012 < RST",
    ),
)
QUIET = (
    Case(
        "the log alone: quiet for a time that is nobody's limit",
        log="""
        00:00:00.000 START 1
        00:00:00.080 app 1 info first page done
        00:00:27.085 app 1 Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }
        00:00:27.180 REPORT 1
        """,
    ),
    Case(
        "the log alone: it was frozen before (R303)",
        log="""
        00:00:00.000 START 1
        00:00:00.080 REPORT 1
        00:00:05.085 START 2
        00:00:05.095 app 2 Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }
        00:00:05.180 REPORT 2
        """,
    ),
    Case(
        "the client had acknowledged the FIN before it wrote: F203",
        packets=_OPEN + "\n6.5 < FIN\n6.54 > ACK\n8.5 > 60\n8.501 < RST",
    ),
    Case(
        "the client was closing too", packets=_OPEN + "\n6.500 > 31\n6.5001 > FIN\n6.5005 < FIN crossing\n6.501 < RST"
    ),
    Case(
        "the server answered before it closed",
        packets=_OPEN + "\n6.50 > 60\n6.51 < 90\n6.511 < FIN\n6.512 > 60 crossing\n6.513 < RST",
    ),
    Case("the FIN came long before, and never arrived", packets=_OPEN + "\n6.5 < FIN lost\n16.1 > 60\n16.101 < RST"),
)


class Quiet(Struct, frozen=True):
    """A connection that ended, by the log, when it was used after a quiet stretch of the invocation (ns), as long as a known limit."""

    death: told.Death
    start_ns: int
    end_ns: int
    limit: str


def select(story: Story, settings: Settings) -> Iterable[int | Quiet]:
    """Connections whose client woke about when the server closed, and that the server then reset; what the log tells of others."""
    yield from _quiet(story, settings)

    def crossed(rows: common.Rows) -> common.Mask:
        near: common.Mask = abs(rows[:, f.WAKE_TS] - rows[:, SERVER + f.FIN_TS]) <= NEAR_NS
        return near

    yield from story.connections.by_point(signs.SERVER_FIN | signs.WOKE | signs.SERVER_RESET, crossed)


def _quiet(story: Story, settings: Settings) -> Iterator[Quiet]:
    """Ends of connections without a freeze before them that a known idle limit may explain."""
    shortest = settings[n901.Thresholds].shortest_limit_ns
    for death in told.deaths(story, _ended, settings):
        stretch = _stretch(story, death, shortest) if death.rest_ns < shortest else None
        if stretch is None:
            continue
        latest = stretch[1] - stretch[0] - limits.SLACK_NS  # a race is one of milliseconds; lines are printed around it
        fitting = [x for x in limits.between(latest, latest, death.peer or ANY_SERVER) if limits.FIN in x.ends]
        if fitting:
            yield Quiet(death, *stretch, "; ".join(map(str, fitting)))


def _ended(e: Event) -> bool:
    return e.attrs.get("code") in ENDED and told.in_use(e)


def _stretch(story: Story, death: told.Death, least_ns: int) -> tuple[int, int] | None:
    """The stretch without a line, within the invocation, that ended with the request that failed."""
    if death.began_ns is None:
        return None
    until = death.first.time_ns
    for e in reversed(story.events_between(death.began_ns, until - 1, death.environment)):
        if until - e.time_ns >= least_ns:
            return e.time_ns, until
        if death.first.time_ns - e.time_ns > REQUEST_NS:
            return None
        until = e.time_ns
    return None


def examine(story: Story, candidate: int | Quiet, settings: Settings) -> Finding | None:
    """The proof: rest, a request that knows nothing of the FIN, a FIN that knows nothing of the request, the reset."""
    if isinstance(candidate, Quiet):
        return _from_log(story, candidate)
    k = candidate
    segments = story.connections.segments(k)
    fin = next((s for s in segments if s.fin and not s.from_client), None)
    if fin is None:
        return None
    request = _request(segments, fin, settings[f203.Thresholds].race_rtos)
    if request is None:
        return None
    reset = next(
        (s for s in segments if s.rst and not s.from_client and s.time_ns >= max(request.time_ns, fin.time_ns)), None
    )
    answered = any(
        s.payload and not s.from_client and s.time_ns >= request.time_ns and delta32(s.ack, request.end_seq) >= 0
        for s in segments
    )
    if reset is None or answered or _client_closing(segments, fin, reset):
        return None
    rest = min(request.time_ns, fin.time_ns) - max(
        (
            s.time_ns
            for s in segments
            if s.payload and s.time_ns < min(request.time_ns, fin.time_ns) and not _is_farewell(s, fin)
        ),
        default=segments[0].time_ns,
    )
    if rest < common.LEAST_STALL_NS:
        return None
    return _finding(story, k, segments, request, fin, reset, rest)


def _is_farewell(s: Segment, fin: Segment) -> bool:
    """What the server sends as it closes: a close_notify, an HTTP 408."""
    return not s.from_client and 0 <= fin.time_ns - s.time_ns <= common.FAREWELL_NS


def _request(segments: list[Segment], fin: Segment, race_rtos: float) -> Segment | None:
    """The client's first payload around the FIN that neither side knew of when the other was sent."""
    window = race_rtos * common.rto_ns(segments)
    for s in segments:
        if not s.from_client or not s.payload or s.retransmitted or abs(s.time_ns - fin.time_ns) > window:
            continue
        unknown_to_client = delta32(s.ack, fin.end_seq) < 0
        unknown_to_server = delta32(fin.ack, s.end_seq) < 0
        if unknown_to_client and unknown_to_server and not common.asks_nothing(s):
            return s
    return None


def _client_closing(segments: list[Segment], fin: Segment, reset: Segment) -> bool:
    """Whether the client's own FIN or reset left before it knew of the server's FIN."""
    return any(
        s.from_client and (s.rst or (s.fin and delta32(s.ack, fin.end_seq) < 0)) and s.time_ns <= reset.time_ns
        for s in segments
    )


def _finding(
    story: Story, k: int, segments: list[Segment], request: Segment, fin: Segment, reset: Segment, rest: int
) -> Finding:
    env = common.environment(story, k)
    errors = common.errors_of_reset(story, k, request, reset)
    evidence = [story.packet(request, "had not heard of the close"), story.packet(fin, "had not heard of the request")]
    evidence += [story.packet(reset, primary=True)] + [story.evidence(e) for e in errors[:2]]
    evidence.sort(key=lambda e: e.time_ns)
    rtt = common.rtt_ns(segments)
    crossed_ns = min(request.time_ns, fin.time_ns)
    near = common.limit_near(rest, "FIN", story.connections.server(k))
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.CERTAIN,
        f"request and the server's close crossed, {seconds(abs(request.time_ns - fin.time_ns))} apart, after {seconds(rest)} of rest",
        reset.time_ns, evidence,
        f"the server closed the connection after about {seconds(rest)} without a request{f' (near a known limit: {near})' if near else ''} just as the next one "
        "was on its way: neither acknowledges the other; the request was answered with a reset and got no reply",
        connection=story.connections.id(k), connections=[story.connections.id(k)], environment=env,
        request_ids=common.failed_requests(story, errors), lost_ns=reset.time_ns - request.time_ns,
        silences=common.silence(story, k, crossed_ns - rest, crossed_ns, None, "neither side sent data"),
        ruled_out=[
            "a zombie connection (F203): the close was too fresh to be known"
            + (f" (round trip {seconds(rtt)})" if rtt is not None else ""),
            "a middlebox that forgot the flow (R303): the server's own FIN was seen",
            "a client that was closing itself (it sent no FIN of its own before)",
        ],
        help=f"{for_connection(story, k, Trouble.RACE, errors)}; or raise the server's limit above the client's",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _from_log(story: Story, quiet: Quiet) -> Finding:
    """The log alone: the quiet stretch, the error at its end."""
    death, rest = quiet.death, seconds(quiet.end_ns - quiet.start_ns)
    before = story.events_between(quiet.start_ns, quiet.start_ns, death.environment)
    evidence = [story.evidence(e, "the last line before") for e in before[-1:]]
    evidence.append(story.evidence(death.first, primary=True))
    to = f" to {death.peer}" if death.peer else ""
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.POSSIBLE,
        f"a connection{to} ended after {rest} of quiet within one invocation, about as long as a server keeps it",
        death.first.time_ns, evidence,
        f"nothing was printed for {rest}, as long as a known limit: {quiet.limit}; if the connection rested meanwhile, the server closed it as the next request left; if a request had been under way all that time, "
        "it was not answered before the limit ended the connection",
        server=death.peer or None, environment=death.environment, request_ids=common.failed_requests(story, death.events),
        silences=[Silence(quiet.start_ns, quiet.end_ns, f"{rest}: no line of this invocation")],
        ruled_out=["the freeze: the invocation ran all the time"],
        help=f"{told.advice(story, death, Trouble.RACE)}; or raise the server's limit above the client's",
        upgrade=f"a line when each request leaves tells the two apart, and so does a capture at the server: {told.capture(story, death)}",
    )  # fmt: skip
