"""silent-drop

## What it does
Flags client data that was retransmitted after an idle gap and got no answer of any kind, not even an acknowledgement, to the
end of the connection: something on the way forgot the flow and drops it in silence. From the log alone: the kernel's ETIMEDOUT on an
established connection, or DEADLINE_EXCEEDED again and again on one gRPC transport that stays READY, after a rest; without a trace
of transports, DEADLINE_EXCEEDED towards one server in every invocation since a long freeze, which is no more than possible.

## Why it matters
Nothing tells the client. With Linux defaults its kernel reports ETIMEDOUT after 924.6 s at the earliest (tcp_retries2 = 15),
longer than a Lambda invocation may last: what is seen is DEADLINE_EXCEEDED, again and again on the same connection, a
library's timer, or `Task timed out`.

## What to do
Recreate connections idle longer than the path's limit (350 s for NAT gateway, NLB, PrivateLink; see R305), by wall clock.
Bound the damage where the library can: TCP_USER_TIMEOUT (gRPC keepalive sets it, except in grpc-js; where the
client is frozen between requests, its pings misfire: K101), a command timeout that destroys the socket.

## Known limits
A capture at one side cannot tell a middlebox from a server host that vanished; a capture at the server can. Data that stays
unanswered because the capture missed a direction proves nothing: one-directional captures are left alone. From the log alone the
kernel's ETIMEDOUT may also be keepalive probes that nobody answered (K105), and a streak of deadlines a server that stalls.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from msgspec import Struct

from analyzer.capture import columns as col
from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.records import Transport
from analyzer.model.times import SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules import _remedies as remedies
from analyzer.rules import _timers as timers
from analyzer.rules import _told as told
from analyzer.rules import n901_not_the_freeze as n901
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, for_connection, for_transport
from analyzer.rules._thresholds import Settings, Values, count
from analyzer.rules.f201_fin_wait_2_stall import _OPEN
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.tcp.segments import Segment
from analyzer.timeline.icmp import AboutConnection
from analyzer.timeline.order import error_between
from analyzer.timeline.points import CLIENT, SERVER
from analyzer.timeline.story import Story

CODE = "R302"
NAME = "silent-drop"
SUMMARY = "data after an idle gap was retransmitted and never answered: a middlebox forgot the flow"
SEVERITIES = (Severity.WARNING, Severity.ERROR)
FROM_LOGS = (Confidence.POSSIBLE, Confidence.LIKELY)

CONSEQUENCE_NS = 300 * SECOND
#: Fewer calls without an answer may be one slow answer.
LEAST_DEADLINES = 2
#: Lines of a trace that show a transport alive.
ANSWERS = frozenset(("call-headers", "call-trailers", "ping-acked", "ping-frame-acked", "settings-acked"))
#: What a connection that nobody answers ends with: the kernel's word, an ICMP error's, a library's or the function's timer.
CODES = ("ETIMEDOUT", "TIMEOUT", "DEADLINE_EXCEEDED", "UNAVAILABLE", "BROKEN", "EHOSTUNREACH", "ENETUNREACH")


class Thresholds(Values):
    """What makes silence a drop."""

    least_copies: int = count(3, "fewer copies of the same data are an ordinary loss", "one loss each way", least=2)
    stall_ns: int = common.stall()


_KERNEL = """
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:06:16.100 START 2
        00:06:42.900 app 2 Error: read ETIMEDOUT { errno: -110, code: 'ETIMEDOUT', syscall: 'read' }
        00:06:43.000 REPORT 2
"""
_CALL = "app {0} Error: 4 DEADLINE_EXCEEDED: Deadline exceeded after 1.101s,LB pick: 0.001s,remote_addr=10.0.0.9:443"
_STREAK = f"""
        00:00:00.000 START 1
        00:00:00.010 grpc 1 transport | (1) 10.0.0.9:443 local settings acknowledged by remote: {{}}
        00:00:00.020 grpc 1 resolving_call | [0] ended with status: code=0 details="OK"
        00:00:00.100 REPORT 1
        00:06:16.100 START 2
        00:06:17.210 {_CALL.format(2)}
        00:06:17.300 REPORT 2
        00:06:19.000 START 3
        00:06:20.110 {_CALL.format(3)}
        00:06:20.200 REPORT 3
"""
_DEADLINES = "\n".join(line for line in _STREAK.splitlines() if " grpc " not in line)
FIRES = (
    Case(
        "data after 15 s idle goes into the void",
        packets=_OPEN
        + "\n16.110 > 60 lost\n16.320 > 60 again lost\n16.740 > 60 again lost\n17.580 > 60 again lost\n19.260 > 60 again lost",
    ),
    Case("from the log alone: the kernel's time-out", log=_KERNEL),
    Case("from the log alone: every call runs into its deadline on one READY transport", log=_STREAK),
    Case("from errors alone: every invocation since the freeze runs into its deadline", log=_DEADLINES),
    Case(
        "an errno alone, which a connect may print too",
        log=_KERNEL.replace("read ETIMEDOUT", "ETIMEDOUT").replace(", syscall: 'read'", ""),
    ),
)
QUIET = (
    Case(
        "a loss that heals",
        packets=_OPEN
        + "\n16.11 > 60 lost\n16.32 > 60 again lost\n16.74 > 60 again lost\n17.58 > 60 again\n17.581 < 30",
    ),
    Case("the server answers with a reset (R303)", packets=_OPEN + "\n16.1 > 60\n16.101 < RST"),
    Case("the server acknowledges and is slow", packets=_OPEN + "\n16.1 > 60\n16.14 < ACK"),
    Case("a connect that timed out is C401", log=_KERNEL.replace("read", "connect")),
    Case(
        "a call between two that missed their deadline was answered",
        log=_STREAK.replace(
            "        00:06:19.000",
            '        00:06:18.000 grpc 2 resolving_call | [2] ended with status: code=0 details="OK"\n        00:06:19.000',
        ),
    ),
    Case("no rest before the calls that missed their deadline", log=_STREAK.replace("00:00:00", "00:06:14")),
    Case("errors alone, and no rest before them", log=_DEADLINES.replace("00:00:00", "00:06:14")),
    Case(
        "errors alone, and an invocation between them without one",
        log=_DEADLINES.replace(
            "        00:06:19.000", "        00:06:18.000 START 4\n        00:06:18.500 REPORT 4\n        00:06:19.000"
        ),
    ),
)


class Outage(Struct):
    """Client data that nothing answers: first and last copy, how many, and when the client was last heard before."""

    first: Segment
    last: Segment
    times_ns: list[int]
    last_before_ns: int
    gap_ns: int

    @property
    def copies(self) -> int:
        """How often it was sent."""
        return len(self.times_ns)

    @property
    def what(self) -> str:
        """What was sent: a request, or the keepalive ping of a library, by which no request failed yet."""
        return "a keepalive ping" if self.first.marks & col.M_PING else "a request"


class Streak(Struct):
    """Calls of one environment to one server that ran into their deadlines, one after the other; the transport where a trace shows that it stayed open."""

    transport: Transport | None
    death: told.Death
    began_ns: int
    answered_ns: int


def select(story: Story, settings: Settings) -> Iterable[int | told.Death | Streak]:
    """Connections whose client data stays unacknowledged; kernel time-outs and streaks of deadlines that only the log tells of."""
    yield from (death for death in told.deaths(story, _is_kernels, settings) if _established(death))
    silent = unanswered(story, settings) if len(story.connections) else []
    yield from (s for s in _streaks(story, settings) if not _is_shown(story, s, silent, settings))
    yield from silent


def _is_kernels(e: Event) -> bool:
    """Whether an error is the kernel's time-out, and not said to be a connect's."""
    return e.attrs.get("code") == "ETIMEDOUT" and e.attrs.get("kernel") is True and told.in_use(e)


def _established(death: told.Death) -> bool:
    """Whether the connection was: the error says so, or after a long rest it comes sooner than a connect's time-out can, or later."""
    if death.first.attrs.get("stage"):
        return True
    if death.began_ns is None or death.rest_ns < told.USUAL_LIMIT_NS:
        return False
    waited = death.first.time_ns - death.began_ns
    return not timers.connect_limits_ns()[0] <= waited < timers.data_limit_ns()


def _is_deadline(e: Event) -> bool:
    return e.attrs.get("code") == "DEADLINE_EXCEEDED"


def _streaks(story: Story, settings: Settings) -> Iterator[Streak]:
    """For each server of an environment the calls at the end that all ran into their deadlines, after a rest."""
    groups: dict[tuple[str, str], list[told.Death]] = defaultdict(list)
    for death in told.deaths(story, _is_deadline, settings):
        if death.peer:
            groups[death.environment, death.peer].append(death)
    transports: dict[tuple[str | None, str | None], list[Transport]] = defaultdict(list)
    for t in story.transports:
        transports[t.environment, t.remote].append(t)
    traced = (
        {e.environment for e in story.events if _is_answer(e)} if groups else set()
    )  # there, no answer tells something
    for key, group in groups.items():
        if len(group) >= LEAST_DEADLINES:
            shown = [_on_transport(story, t, group, settings) for t in transports[key]]
            yield from filter(None, shown if key[0] in traced else [_of_errors(story, group)])


def _is_shown(story: Story, streak: Streak, silent: list[int], settings: Settings) -> bool:
    """Whether packets show the same drop: all its calls are consequences of one."""
    mine = [k for k in silent if streak.transport and story.connections.id(k) == streak.transport.connection]
    drops = [(k, found) for k in mine if (found := outage(story, k, settings[Thresholds]))]
    return any(all(e in consequences(story, k, found) for e in streak.death.events) for k, found in drops)


def _is_answer(e: Event) -> bool:
    return e.kind in ANSWERS or (e.kind == "call-end" and e.attrs.get("code") == "0")


def _on_transport(story: Story, t: Transport, group: list[told.Death], settings: Settings) -> Streak | None:
    """The calls at an open transport's end that were not answered, if there are several and it had rested before."""
    mine = [d for d in group if (t.opened_ns or 0) < d.first.time_ns]
    if t.closed_ns is not None or len(mine) < LEAST_DEADLINES:
        return None
    lines = story.events_between(t.opened_ns or 0, mine[-1].first.time_ns, t.environment)
    answered = max((e.time_ns for e in lines if _is_answer(e)), default=0)
    mine = [d for d in mine if d.first.time_ns > answered]
    if len(mine) < LEAST_DEADLINES or not answered:
        return None
    began = mine[0].first.time_ns - round((mine[0].first.attrs.get("after_s") or 0) * SECOND)
    if began - answered < settings[n901.Thresholds].shortest_limit_ns:
        return None
    mine[0].events = [d.first for d in mine]
    return Streak(t, mine[0], began, answered)


def _of_errors(story: Story, group: list[told.Death]) -> Streak | None:
    """The last failures, if every invocation since a long freeze has one."""
    numbers = {i.start_ns: n for n, i in enumerate(story.invocations_of(group[0].environment))}
    run: list[told.Death] = []
    for death in reversed(group):
        number = numbers.get(death.began_ns or 0)
        if number is None or (run and numbers[run[-1].began_ns or 0] != number + 1):
            return None
        run.append(death)
        if death.freeze is not None and death.rest_ns >= told.USUAL_LIMIT_NS:
            break
    first = run[-1]
    if len(run) < LEAST_DEADLINES or first.freeze is None or first.rest_ns < told.USUAL_LIMIT_NS:
        return None
    first.events = [d.first for d in reversed(run)]
    began = first.first.time_ns - round((first.first.attrs.get("after_s") or 0) * SECOND)
    return Streak(None, first, max(began, first.freeze.end_ns), first.freeze.start_ns)


def unanswered(story: Story, settings: Settings) -> list[int]:
    """Connections whose client data stays unacknowledged through several retransmissions, both directions having been seen."""
    least = settings[Thresholds].least_copies

    def silent_rows(rows: common.Rows) -> common.Mask:
        silent = rows[:, SERVER + f.SIDE_LAST_TS] < rows[:, CLIENT + f.UNACKED_TS]
        copies = rows[:, CLIENT + f.UNACKED_RETX] >= least - 1
        return silent & copies & (rows[:, CLIENT + f.NXT] > rows[:, CLIENT + f.UNA]) & (rows[:, SERVER + f.PKTS] > 0)

    return story.connections.by_point(signs.UNANSWERED, silent_rows)


def outage(story: Story, k: int, t: Thresholds) -> Outage | None:
    """The unanswered tail of a connection, None where something answered."""
    segments = story.connections.segments(k)
    last_server = max(
        (
            s.time_ns
            for s in segments
            if not s.from_client and _reached_client(story, k, s) and not unheard(segments, s)
        ),
        default=0,
    )
    tail = [s for s in segments if s.from_client and s.payload and s.time_ns > last_server]
    if not tail:
        return None
    first = tail[0]
    copies = [s for s in tail if s.seq == first.seq]
    if len(copies) < t.least_copies or first.retransmitted:
        return None
    span = copies[-1].time_ns - first.time_ns
    before = max(
        (s.time_ns for s in segments if s.time_ns < first.time_ns and (s.from_client or s.payload)),
        default=first.time_ns,
    )
    own = max((s.time_ns for s in segments if s.from_client and s.time_ns < first.time_ns), default=first.time_ns)
    gap = first.time_ns - own
    if gap < t.stall_ns or span < max(t.stall_ns, 3 * common.rto_ns(segments)):
        return None
    return Outage(first, copies[-1], [s.time_ns for s in copies], min(before, own), gap)


def _reached_client(story: Story, k: int, s: Segment) -> bool:
    """Whether a segment of the server was seen at the point nearest the client (all there is, with one point)."""
    return s.at(story.connections.seen_at(k)[0]) is not None


def unheard(segments: list[Segment], reset: Segment) -> bool:
    """Whether a server's reset cannot have reached the client: it repeats its data all the same, a time-out and more later."""
    late = reset.time_ns + common.rto_ns(segments)
    return reset.rst and any(s.from_client and s.payload and s.retransmitted and s.time_ns > late for s in segments)


def examine(story: Story, candidate: int | told.Death | Streak, settings: Settings) -> Finding | None:
    """The proof: the gap, the copies, nothing back; and where a second capture looked for them."""
    if isinstance(candidate, told.Death):
        return _from_log(story, candidate)
    if isinstance(candidate, Streak):
        return _from_calls(story, candidate)
    k = candidate
    found = outage(story, k, settings[Thresholds])
    if found is None:
        return None
    segments = story.connections.segments(k)
    closed = next(
        (s for s in segments if not s.from_client and (s.fin or s.rst) and s.time_ns < found.first.time_ns), None
    )
    points = story.connections.seen_at(k)
    arrived = len(points) > 1 and found.last.at(points[-1]) is not None
    reset = next((s for s in segments if s.rst and not s.from_client and s.time_ns >= found.first.time_ns), None)
    if closed is not None or arrived or reset is not None or common.is_at_server(segments):
        return _server_side(story, k, found, closed, reset)
    icmp = [
        e for e in story.connections.icmp(k)
        if e.from_client and e.undelivered and e.time_ns >= found.first.time_ns
    ]  # fmt: skip
    if icmp:
        return _rejected(story, k, found, icmp)
    env = common.environment(story, k)
    freeze = common.frozen(story, k, found.last_before_ns, found.first.time_ns)
    errors = consequences(story, k, found)
    evidence = common.freeze_evidence(story, freeze)
    evidence += [
        story.packet(found.first, primary=True),
        story.packet(found.last, common.copies_note(segments, found.first, f"{found.copies} copies, none answered")),
    ]
    evidence += [story.evidence(e, "(consequence)") for e in errors[:3]]
    evidence.sort(key=lambda e: e.time_ns)
    proven = (
        len(points) > 1
        and common.covers(story, points[-1], found.first.time_ns, found.last.time_ns)
        and common.heard_at(story, k, points[-1], "client")
    )
    near = common.limit_near(found.gap_ns, "silence", story.connections.server(k))
    server = story.connections.server(k)
    return Finding(
        CODE, NAME, Severity.ERROR if errors or found.what == "a request" else Severity.WARNING,
        Confidence.CERTAIN if proven else Confidence.LIKELY,
        f"silent drop: {found.copies} copies of {found.what} after {seconds(found.gap_ns)} idle, no answer of any kind",
        found.first.time_ns, evidence,
        f"after {seconds(found.gap_ns)} idle{f' (near a known limit: {near})' if near else ''} "
        + ("the flow was forgotten between client and server and its packets are dropped in silence: the server's capture saw none of the copies" if proven
           else "nothing answers any more: most likely a box between client and server forgot the flow and drops its packets in silence; a server whose resets are "
           "filtered, or that is gone, looks the same from here")
        + gave_up(story, found, errors),
        connection=story.connections.id(k), connections=[story.connections.id(k)], environment=env,
        request_ids=common.failed_requests(story, errors), lost_ns=max((e.time_ns for e in errors), default=found.last.time_ns) - found.first.time_ns,
        silences=common.silence(story, k, found.last_before_ns, found.first.time_ns, freeze, "no packet of this connection"),
        ruled_out=["a slow server (it would acknowledge)", "a reset or a close (neither arrived)"]
        + (["a dead server (its capture went on and never saw the data)"] if proven else []),
        help=for_connection(story, k, Trouble.SILENT, errors),
        upgrade="" if proven else f"a capture at the server {'that surely ran on (this one has no packet after that time)' if len(points) > 1 else 'for the same time'} would tell a middlebox from a dead server: {collect.capture(server)}",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def consequences(story: Story, k: int, found: Outage) -> list[Event]:
    """What the application said of it: time-outs of whatever timer, towards this server where they name one."""
    said = common.errors_beside(story, k, found.first.time_ns, found.last.time_ns + CONSEQUENCE_NS, CODES)
    server = story.connections.server(k)
    return [e for e in said if e.remote in (None, server) and told.in_use(e)]


def gave_up(story: Story, found: Outage, errors: list[Event]) -> str:
    """Which timer it was that ended the waiting, with the numbers that tell; empty where no error does."""
    if not errors:
        return ""
    e = errors[0]
    waited = f"{seconds(max(e.time_ns - found.first.time_ns, 0))} after the first copy"
    if e.attrs.get("kernel") and e.attrs.get("code") == "ETIMEDOUT":
        clocks = error_between(story, story.packet(found.first), story.evidence(e)) or 0
        said = timers.data_given_up(found.times_ns, e.time_ns, clocks)
        return f"; {said}" if said else f"; the kernel gave up {waited}"
    if e.attrs.get("setting"):
        whose = f"{e.attrs.get('library') or 'the function'}'s {e.attrs['setting']}"
        return f"; {whose} gave up {waited} (the kernel would retransmit for {timers.whole(timers.data_limit_ns())} or more by default)"
    return ""


def _rejected(story: Story, k: int, found: Outage, icmp: list[AboutConnection]) -> Finding:
    """Not silent after all: a router says why no answer comes."""
    segments, error = story.connections.segments(k), icmp[0]
    copies = common.copies_note(segments, found.first, f"{found.copies} copies")
    evidence = [
        story.packet(found.first, primary=True),
        story.icmp(error, f"{len(icmp)} ICMP errors" if len(icmp) > 1 else ""),
        story.packet(found.last, copies),
    ]
    evidence.sort(key=lambda e: e.time_ns)
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.CERTAIN,
        f"{found.copies} copies of {found.what} after {seconds(found.gap_ns)} idle, answered by {error.what} from {error.sender}",
        found.first.time_ns, evidence,
        f"while the connection was idle the way to the server closed: {error.sender} answers its packets with ICMP errors, "
        f"which an established connection survives until its retransmissions give up, {timers.whole(timers.data_limit_ns())} or more by default; then it fails with "
        "the ICMP error's errno (EHOSTUNREACH, ENETUNREACH) and not with ETIMEDOUT",
        connection=story.connections.id(k), connections=[story.connections.id(k)], environment=common.environment(story, k),
        silences=common.silence(story, k, found.last_before_ns, found.first.time_ns, None, "no packet of this connection"),
        ruled_out=["a slow server (it would acknowledge)", "a flow forgotten in silence (an ICMP error came back)"],
        help=f"check routes and firewall rules at {error.sender}; until then: {for_connection(story, k, Trouble.SILENT)}",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _server_side(story: Story, k: int, found: Outage, closed: Segment | None, reset: Segment | None) -> Finding:
    """The data did reach a place where the server had closed: no middlebox is needed to explain the silence."""
    evidence = [story.packet(closed, "the server had closed")] if closed is not None else []
    evidence += [story.packet(reset, "the client repeats its data all the same")] if reset is not None else []
    evidence += [
        story.packet(found.first, primary=True),
        story.packet(found.last, f"{found.copies} copies, none answered"),
    ]
    evidence.sort(key=lambda e: e.time_ns)
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.POSSIBLE,
        f"{found.copies} copies of {found.what} after {seconds(found.gap_ns)} idle, no answer: the server "
        + ("had closed" if closed is not None else "answered with a reset that did not arrive" if reset is not None else "received them and kept silent"),
        found.first.time_ns, evidence,
        (
            "the server no longer knows the connection, and its reset is lost on the way to the client" if reset is not None
            else "the server no longer knows the connection: its reset is not seen, filtered on the server or on the way" if closed is not None
            else "the copies reached the server's side, so that no box before it drops them: its host drops what it no longer tracks, or filters its reset"
        )
        + gave_up(story, found, consequences(story, k, found)),
        connection=story.connections.id(k), connections=[story.connections.id(k)], environment=common.environment(story, k),
        silences=common.silence(story, k, found.last_before_ns, found.first.time_ns, None, "no packet from the client"),
        ruled_out=["a slow server (it would acknowledge)"],
        help="let the server's resets through to the client; " + for_connection(story, k, Trouble.STALE),
        upgrade="the application's error (ETIMEDOUT?) and a capture on the client's side",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _from_log(story: Story, death: told.Death) -> Finding:
    """The log alone: the kernel gave a connection up that nobody answered on."""
    e, k = death.first, death.connection
    absent = story.connections.points[death.absent].source.label if death.absent is not None else ""
    evidence = told.evidence(story, death)
    waited = max(e.time_ns - death.began_ns, 0) if death.began_ns is not None else None
    after = f", {seconds(waited)} into an invocation" if waited is not None else ""
    rested = (
        f" after {seconds(death.rest_ns)} {'frozen' if death.freeze else 'idle'}"
        if death.rest_ns >= common.LEAST_STALL_NS
        else ""
    )
    limit = timers.whole(timers.data_limit_ns())
    sooner = waited is not None and waited < timers.data_limit_ns()
    sure = bool(e.attrs.get("stage"))
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.LIKELY if sure else Confidence.POSSIBLE,
        f"the kernel's time-out on a connection{rested}{after}: nobody answered" + (f", and {absent} saw none of it" if absent else ""),
        e.time_ns, evidence,
        "a reset that arrives reads ECONNRESET: here no answer of any kind came back, to data that was retransmitted or to keepalive probes"
        + (f"; retransmissions run out after {limit} by default, so that these were begun earlier, or tcp_retries2, TCP_USER_TIMEOUT or keepalive end it sooner there "
           "(Node.js' setKeepAlive: its delay + 10 × 1 s)" if sooner else f"; by default retransmissions run out after {limit} or more")
        + (f"; {absent} ran on and saw nothing of the client: it was dropped before" if absent else ""),
        connection=story.connections.id(k) if k is not None else None, connections=[story.connections.id(k)] if k is not None else [],
        server=death.peer or None, lost_ns=waited or 0, environment=death.environment, request_ids=common.failed_requests(story, death.events), silences=told.silences(story, death),
        ruled_out=["a library's timer (the kernel raised it: it has an errno)", "a connect time-out (" + ("those name the address, and the call is connect" if sure else f"those take {timers.whole(timers.connect_limits_ns()[0])} or more by default, and less than this" if not sooner else f"those take {timers.whole(timers.connect_limits_ns()[0])} or more by default") + ")", "a reset or a close (either would be read)"]
        + (["a server that kept silent (nothing reached its capture)"] if absent else []),
        help=told.advice(story, death, Trouble.SILENT),
        upgrade="" if absent else f"a capture at the server shows whether the data or the probes arrived: {told.capture(story, death)}",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _from_calls(story: Story, streak: Streak) -> Finding:
    """The log alone: call after call misses its deadline, on a transport that nothing closes where a trace shows one."""
    t, death = streak.transport, streak.death
    gap = streak.began_ns - streak.answered_ns
    evidence = common.freeze_evidence(story, death.freeze)
    evidence += [story.evidence(e, "", primary=number == 0) for number, e in enumerate(death.events[:3])]
    evidence.sort(key=lambda e: e.time_ns)
    near = common.limit_near(gap, "silence", death.peer)
    limit = f" (near a known limit: {near})" if near else ""
    calls, kernel = len(death.events), timers.whole(timers.data_limit_ns())
    capture = f"a server that stalls looks the same: a capture there shows whether the requests arrive: {told.capture(story, death)}"
    ids = [t.connection] if t is not None and t.connection else []
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.LIKELY if t is not None else Confidence.POSSIBLE,
        f"{calls} calls in a row without an answer on one READY transport, after {seconds(gap)} of silence" if t is not None
        else f"no answer from {death.peer} in {calls} invocations in a row, the first after {seconds(gap)} frozen",
        death.first.time_ns, evidence,
        f"nothing was heard on this transport since {seconds(gap)} before the first of them, no line tells of its end, and each call runs into its deadline: most likely a box "
        f"between forgot the flow{limit} and drops it in silence, until the kernel gives up after {kernel} or more" if t is not None
        else f"since a freeze of {seconds(gap)}{limit} every call logged runs into its deadline: as if a box between had forgotten the connection and dropped its packets in silence, which a "
        f"gRPC channel does not notice until the kernel gives up after {kernel} or more; a server that answers too slowly, or no more, fits as well",
        connection=ids[0] if ids else None, connections=ids, transport=t.id if t is not None else None, environment=death.environment,
        server=None if ids else death.peer or None,
        request_ids=common.failed_requests(story, death.events), lost_ns=sum(round((e.attrs.get("after_s") or 0) * SECOND) for e in death.events),
        silences=common.silence(story, None, streak.answered_ns, streak.began_ns, death.freeze, "nothing heard on this transport" if t is not None else "nothing ran"),
        ruled_out=["a reset or a close (the status would be UNAVAILABLE, and the next call would connect anew)"]
        + (["one slow answer (no call was answered any more)"] if t is not None else []),
        help=for_transport(Trouble.SILENT, t) if t is not None else told.advice(story, death, Trouble.SILENT),
        upgrade=capture if t is not None else f"{capture}; whether the transport stays READY: {collect.trace(remedies.dialect_of(story, death.first))}",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip
