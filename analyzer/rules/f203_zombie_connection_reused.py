"""zombie-connection-reused

## What it does
Flags a client that writes on a connection which the server had closed long before (its FIN or RST is in a capture), and is
answered with a reset: EPIPE or ECONNRESET at the application. From the log alone: EPIPE, or what libraries say of a peer that
ended the connection, in the first invocation after a rest of 4 s or more; as a hint, a close that the function noticed at the thaw.

## Why it matters
The request fails at once. If the reset answers the first data segment, the request never reached the server's application,
and one retry on a fresh connection is safe.

## What to do
Check by wall clock before reuse, drop connections idle longer than the server's limit, retry once on ECONNRESET/EPIPE.

## Known limits
Within a round trip of the server's FIN it is a race, not a zombie. Without the server's close in any capture the same picture
is R303. A close that the client answers with its own close and nothing else harmed no request, and a write no longer than
what the server had sent unasked in the rest may be an answer to that (a pong, a heartbeat): a warning. From the log alone EPIPE proves
that the server's FIN had come before the write; `other side closed`, `socket hang up`, `Connection terminated unexpectedly` and
their like only that the server ended it, which a crash does too.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from msgspec import Struct

from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.records import Freeze
from analyzer.model.times import MS, SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules import _remedies as remedies
from analyzer.rules import _told as told
from analyzer.rules import n901_not_the_freeze as n901
from analyzer.rules import r302_silent_drop as r302
from analyzer.rules import r303_reset_after_idle as r303
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, for_connection
from analyzer.rules._thresholds import Settings, Values, factor
from analyzer.rules.f201_fin_wait_2_stall import _OPEN
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.tcp.segments import Segment
from analyzer.timeline.order import before, error_between
from analyzer.timeline.points import SERVER
from analyzer.timeline.story import Story

CODE = "F203"
NAME = "zombie-connection-reused"
SUMMARY = "the client wrote on a connection that the server had closed long before"
SEVERITIES = (Severity.INFO, Severity.WARNING, Severity.ERROR)
FROM_LOGS = (Confidence.POSSIBLE, Confidence.LIKELY)

ERROR_WITHIN_NS = 2 * SECOND
#: An error is printed this long before or after the packet of the same moment.
BESIDE_NS = 20 * MS
#: Errors of a write that never left: the socket knew of the peer's close.
REFUSED = ("EPIPE", "CLOSED")


class Thresholds(Values):
    """What makes a write late."""

    race_rtos: float = factor(
        3,
        "a write sooner after the server's FIN than so many retransmission time-outs is a race (F204)",
        "one loss each way takes up to three",
        least=1,
    )


_LOG = """
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        {1}.100 START 2
        {1}.110 app {0}
        {1}.300 REPORT 2
"""
#: The function connects anew.
_AGAIN = "\n16.140 > SYN port=48824\n16.141 < SYN-ACK port=48824\n16.142 > ACK port=48824\n16.150 > 40 port=48824\n16.152 < 90 port=48824"
_BROKEN = "2 Error: write EPIPE { errno: -32, code: 'EPIPE', syscall: 'write' }"
FIRES = (
    Case(
        "the server gave up its FIN; the function thaws and writes",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:00:16.100 START 2
        00:00:16.110 app 2 Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }
        00:00:16.300 REPORT 2
        """,
        packets=_OPEN
        + "\n6.500 < FIN lost\n6.710 < FIN again lost\n7.130 < FIN again lost\n7.970 < FIN again lost\n16.105 > 60\n16.106 < RST",
    ),
    Case(
        "the copies of the FIN wait at a frozen machine's door; the write is refused at home",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:00:16.100 START 2
        00:00:16.130 app 2 Error: write EPIPE { errno: -32, code: 'EPIPE', syscall: 'write' }
        00:00:16.300 REPORT 2
        """,
        packets=_OPEN
        + "\n6.500 < FIN lost\n6.710 < FIN again lost\n7.130 < FIN again lost\n7.970 < FIN again\n16.105 > ACK\n16.106 < RST"
        + _AGAIN,
    ),
    Case("from the log alone: EPIPE", log=_LOG.format(_BROKEN, "00:06:16")),
    Case(
        "from the log alone: a pool's client",
        log=_LOG.format("2 Error: Connection terminated unexpectedly", "00:06:16"),
    ),
    Case(
        "a pool's word of a close, under the previous request's id: noticed, and no request failed",
        log=_LOG.format("1 Error: Connection terminated unexpectedly", "00:06:16"),
    ),
    Case(
        "a close noticed at the thaw, by which a request fails: amqplib refuses it",
        log=_LOG.format("1 amqp connection error Error: Unexpected close", "00:06:16").replace(
            "        00:06:16.300",
            '        00:06:16.115 app 2 Invoke Error {"errorType":"IllegalOperationError","errorMessage":"Channel closed","stack":["IllegalOperationError: Channel closed",'
            '"    at ConfirmChannel.<anonymous> (/var/task/node_modules/amqplib/lib/channel.js:364:11)"]}\n        00:06:16.300',
        ),
    ),
    Case(
        "a close noticed at the thaw, under the previous request's id",
        log=_LOG.format("1 redis event close", "00:06:16"),
    ),
    Case(
        "the server ended the rest by a reset, which the client's kernel heard: nothing leaves it any more, the log has the error",
        log=_LOG.format(
            "2 OperationalError: (2006, \"MySQL server has gone away (ConnectionResetError(104, 'Connection reset by peer'))\")",
            "00:00:16",
        ),
        packets=_OPEN + "\n6.500 < RST-ACK" + _AGAIN,
    ),
    Case(
        "… after heartbeats, the last of them together with the reset (RabbitMQ)",
        log=_LOG.format(
            "2 StreamLostError: Stream connection lost: ConnectionResetError(104, 'Connection reset by peer')",
            "00:00:16",
        ),
        packets=_OPEN
        + "\n2.5 < 8\n2.504 > ACK\n5.0 < 8\n5.004 > ACK\n7.5 < 8\n7.5004 < RST-ACK\n7.504 > ACK\n7.5041 < RST"
        + _AGAIN,
    ),
    Case(
        "the server pinged in the rest and gave up (NATS): at the thaw the client answers the pings, no request",
        packets=_OPEN
        + "\n2.5 < 6\n2.54 > ACK\n4.5 < 6\n4.54 > ACK\n6.500 < 24\n6.5001 < FIN\n6.54 > ACK\n16.105 > 12\n16.106 < RST",
    ),
    Case(
        "the server ended the rest by a reset (MariaDB's wait_timeout), which a frozen machine never saw",
        packets=_OPEN + "\n6.500 < RST-ACK lost\n16.105 > 60\n16.106 < RST",
    ),
)
QUIET = (
    Case(
        "the client closes too, the server has forgotten it: no request was harmed",
        packets=_OPEN + "\n6.5 < FIN\n6.54 > ACK\n16.1 > FIN\n16.101 < RST",
    ),
    Case(
        "at the thaw the client reads GOAWAY and leaves: its own GOAWAY is no request",
        packets=_OPEN
        + "\n6.4 < GOAWAY 0 max_idle\n6.5 < FIN\n6.54 > ACK\n16.1 > GOAWAY 0\n16.1001 < RST\n16.1002 > FIN\n16.1003 < RST",
    ),
    Case("a reset that the client heard of: nothing more", packets=_OPEN + "\n6.500 < RST-ACK"),
    Case("request and FIN crossed", packets=_OPEN + "\n6.500 < FIN\n6.501 > 60\n6.502 < RST"),
    Case("no close before the reset: R303", packets=_OPEN + "\n16.1 > 60\n16.101 < RST"),
    Case("the log alone: no rest before it (N901)", log=_LOG.format(_BROKEN, "00:00:02")),
    Case(
        "Java's HttpClient, its stack a line an event: the cause below says that it was a reset (R303)",
        log=_LOG.format(
            "2 java.io.IOException: HTTP/1.1 header parser received no bytes\n"
            "        00:06:16.110 app 2 Caused by: java.net.SocketException: Connection reset",
            "00:06:16",
        ),
    ),
    Case(
        "the function connects and closes in every invocation",
        log="""
        00:00:00.000 START 1
        00:00:00.060 app 1 redis event connect
        00:00:00.090 app 1 redis event ready
        00:00:00.100 REPORT 1
        00:06:16.100 START 2
        00:06:16.105 app 2 redis event connect
        00:06:16.112 app 2 redis event close
        00:06:16.300 REPORT 2
        """,
    ),
    Case("the function closes something else", log=_LOG.format("2 closing the file", "00:06:16")),
    Case(
        "the function closes its connection in every invocation",
        log="""
        00:00:00.000 START 1
        00:00:00.090 app 1 redis event close
        00:00:00.100 REPORT 1
        00:06:16.100 START 2
        00:06:16.110 app 1 redis event close
        00:06:16.300 REPORT 2
        """,
    ),
)


#: What a library prints when its socket has closed: `redis event close`, `connection ended`, `Socket disconnected`.
_CLOSED = re.compile(
    r"\b(?:redis|client|socket|conn|connection|pool|mysql|pg|postgres|mongo|db|database|cache|session|channel)\b[^\n]{0,40}\b(?:close|closed|end|ended|disconnect|disconnected)\b",
    re.IGNORECASE,
)
#: Callbacks of sockets run first thing after a thaw (measured: 1 to 25 ms after START, which is stamped up to 91 ms early).
AT_THAW_NS = 150 * MS


class Noticed(Struct):
    """A close that the function noticed at a thaw, before anything failed by it."""

    event: Event
    freeze: Freeze


def select(story: Story, settings: Settings) -> Iterable[int | told.Death | Noticed | Refused]:
    """Connections with the server's FIN or RST and, later, a client that woke and wrote; closes that only the log tells of."""
    resets: dict[tuple[str, int | None], list[told.Death]] = defaultdict(list)
    for reset in r303.rested(story, settings):
        resets[reset.environment, reset.began_ns].append(reset)
    deaths = [
        death
        for death in told.rested(story, lambda e: _is_end(e) or told.broke_at_once(story, e), settings)
        if not any(_is_of(story, death, reset) for reset in resets[death.environment, death.began_ns])
    ]
    failed = set()
    for death in deaths:
        if death.freeze is not None:
            failed.add((death.environment, death.freeze.end_ns))
        if death.freeze is not None and all(_only_tells(story, e) for e in death.events):
            yield Noticed(death.first, death.freeze)
        else:
            yield death
    for noticed in _noticed(story, settings[n901.Thresholds].shortest_limit_ns):
        if (noticed.freeze.environment, noticed.freeze.end_ns) not in failed:
            yield noticed
    yield from _refused(story, settings)
    for death in told.reset_meanwhile(story, lambda e: _is_end(e) or r303.is_reset(e), settings):
        if death.connection is not None and death.reset is not None:
            yield Refused(death.connection, death.reset, None, death.events)
    cs = story.connections
    finished = cs.showing(signs.SERVER_FIN | signs.WOKE | signs.SERVER_RESET)
    yield from sorted({*finished, *cs.by_point(signs.WOKE | signs.SERVER_RESET, _aborted)})


def _is_of(story: Story, death: told.Death, reset: told.Death) -> bool:
    """Whether an end is what a library makes of a reset told in the same invocation: of the same peer, as far as either names one."""
    same = death.peer == reset.peer or not (death.peer and reset.peer)
    return bool(told.unclear_end(story, death.first)) or (same and death.first.attrs.get("raised_by") != "server")


def _aborted(rows: common.Rows) -> common.Mask:
    """Reset by the server before the client woke, and again."""
    found: common.Mask = (rows[:, SERVER + f.RSTS] > 1) & (rows[:, SERVER + f.RST_TS] < rows[:, f.WAKE_TS])
    return found


class Refused(Struct):
    """A request that the client's own side refused to send, because the server's close had been read: nothing on the wire."""

    connection: int
    close: Segment
    woke: Segment | None  # none after a reset
    errors: list[Event]

    @property
    def stirred_ns(self) -> int:
        """When the client's side first did something since."""
        return (self.woke or self.errors[0]).time_ns


def _refused(story: Story, settings: Settings) -> Iterable[Refused]:
    """Errors of a closed connection that stand beside what a client first sent, no request, long after the server's close."""
    errors: dict[str, list[Event]] = defaultdict(list)
    for e in story.of_kind("error"):
        if e.environment and e.attrs.get("code") in REFUSED and _is_end(e):
            errors[e.environment].append(e)
    if not errors:
        return
    closed = story.connections.showing(signs.SERVER_FIN)
    ks = [k for k in closed if common.witness(story, k) in errors]
    nearest: dict[int, tuple[int, int, Refused]] = {}
    for k in story.connections.loaded(ks):
        for found in _woken(story, k, errors[story.connections.environment[k]], settings):
            first = found.errors[0]
            rank = (abs(first.time_ns - found.stirred_ns), k, found)
            nearest[first.order] = min(nearest.get(first.order, rank), rank, key=lambda x: x[:2])
    by_connection: dict[int, Refused] = {}
    for _, k, found in sorted(nearest.values(), key=lambda x: x[:2]):
        by_connection.setdefault(k, found)
    yield from (by_connection[k] for k in sorted(by_connection))


def _by_keepalive(story: Story, k: int, close: Segment) -> bool:
    """Whether it was the server's kernel that ended the connection, after probes that nobody answered (K105): no idle limit did."""
    probes = (s for s in story.connections.segments(k) if s.keepalive and not s.from_client)
    return close.rst and any(s.time_ns < close.time_ns for s in probes)


def _only_tells(story: Story, e: Event) -> bool:
    """Whether an error is the callback of a closed socket at a thaw, still under the id of the request before: no request failed."""
    invocation = story.invocation_of(e, told.SLACK_NS)
    stale = invocation is not None and e.request_id not in (None, invocation.request_id)
    return stale and e.attrs.get("code") == "CLOSED"


def _woken(story: Story, k: int, errors: list[Event], settings: Settings) -> Iterable[Refused]:
    segments = story.connections.segments(k)
    close = next((s for s in segments if not s.from_client and (s.fin or s.rst)), None)
    if close is None or any(s.from_client and (s.fin or s.rst) and s.time_ns < close.time_ns for s in segments):
        return
    late = close.time_ns + settings[Thresholds].race_rtos * common.rto_ns(segments)
    woke = next((s for s in segments if s.from_client and s.time_ns > late), None)
    if woke is None or any(s.from_client and s.payload and s.time_ns > close.time_ns for s in segments):
        return
    server = story.connections.server(k)
    mine = [
        e for e in errors
        if e.remote in (None, "", server) and not _only_tells(story, e) and _stands_beside(story, e, close, woke)
    ]  # fmt: skip
    if mine:
        yield Refused(k, close, woke, mine)


def _stands_beside(story: Story, error: Event, close: Segment, woke: Segment) -> bool:
    """Whether an error came with what a client first sent, and for certain after the server's close."""
    line, packet = story.evidence(error), story.packet(woke)
    off = error_between(story, packet, line)
    slack = BESIDE_NS + off if off is not None else 0
    near = -slack <= error.time_ns - woke.time_ns <= slack + ERROR_WITHIN_NS
    return near and before(story, story.packet(close), line) is True


def _is_end(e: Event) -> bool:
    """Whether an error says that the peer had ended the connection."""
    code = e.attrs.get("code")
    return code == "EPIPE" or (code == "CLOSED" and told.in_use(e))


def _noticed(story: Story, least_ns: int) -> Iterable[Noticed]:
    """Closes that a line reports right after a freeze, with no error before it, of functions that do not close by themselves."""
    tidy: dict[str, bool] = {}
    seen = set(story.connections.environment.values())  # captures show these environments' connections
    for z in story.freezes:
        if z.length_ns < least_ns or z.environment in seen:
            continue
        for e in story.events_between(z.end_ns - z.error_ns, z.end_ns + AT_THAW_NS, z.environment):
            if e.kind == "error" or (e.layer == "app" and told.OPENED.search(e.text[:300])):
                break  # what closes after that was opened after the thaw
            if _tells_close(e):
                if z.environment not in tidy:
                    tidy[z.environment] = _closes_what_it_opened(story, z.environment)
                if not (tidy[z.environment] or _is_habit(story, z, least_ns)):
                    yield Noticed(e, z)
                break


def _tells_close(e: Event) -> bool:
    return e.layer == "app" and e.kind == "line" and _CLOSED.search(e.text[:300]) is not None


def _closes_what_it_opened(story: Story, environment: str) -> bool:
    """Whether some invocation closed what it had opened itself: then a close at a thaw may be one that a freeze delayed."""
    request, opened = None, False
    for e in story.events_of(environment):
        if e.layer != "app":
            continue
        if e.request_id != request:
            request, opened = e.request_id, False
        if opened and _tells_close(e):
            return True
        opened = opened or told.OPENED.search(e.text[:300]) is not None
    return False


def _is_habit(story: Story, freeze: Freeze, least_ns: int) -> bool:
    """Whether the invocation before reported a close too, not at a thaw of its own: then the function closes what it opened."""
    before = story.invocation_before(freeze.environment, freeze.start_ns)
    start = before.start_ns if before else 0
    near = story.freezes_between(freeze.environment, start - AT_THAW_NS, start + AT_THAW_NS)
    thawed = any(z.length_ns >= least_ns and z.end_ns <= start + AT_THAW_NS for z in near)
    lines = story.events_between(start + AT_THAW_NS * thawed, freeze.start_ns, freeze.environment)
    return any(_tells_close(e) for e in lines)


def examine(story: Story, candidate: int | told.Death | Noticed | Refused, settings: Settings) -> Finding | None:
    """The proof: the close, the gap, the write, the reset, the error."""
    if isinstance(candidate, told.Death):
        return _from_log(story, candidate)
    if isinstance(candidate, Noticed):
        return _noticed_close(story, candidate)
    if isinstance(candidate, Refused):
        return _refused_request(story, candidate)
    k = candidate
    segments = story.connections.segments(k)
    close = next((s for s in segments if not s.from_client and (s.fin or s.rst)), None)
    if close is None or any(s.from_client and (s.fin or s.rst) and s.time_ns < close.time_ns for s in segments):
        return None
    late = close.time_ns + settings[Thresholds].race_rtos * common.rto_ns(segments)
    write = next(
        (s for s in segments if s.from_client and s.payload and not s.retransmitted and s.time_ns > late and not common.asks_nothing(s)),
        None,
    )  # fmt: skip
    if write is None:
        return None
    before = [s for s in segments if s.from_client and s.payload and close.time_ns < s.time_ns < write.time_ns]
    reset = next((s for s in segments if not s.from_client and s.rst and s.time_ns >= write.time_ns), None)
    if before or reset is None or any(s.payload and not s.from_client and s.time_ns > write.time_ns for s in segments):
        return None  # a half-close in use, or an answer came
    if r302.unheard(segments, reset):
        return None  # the reset did not arrive: R302, R301
    env = common.environment(story, k)
    freeze = common.frozen(story, k, close.time_ns, write.time_ns)
    errors = common.errors_of_reset(story, k, write, reset)
    evidence = [
        story.packet(close, "the server closed" if close.fin else "the server closed by a reset"),
        *common.freeze_evidence(story, freeze),
    ]
    own = common.last_words(segments, close.time_ns)
    evidence += [story.packet(own, common.OWN_REASON)] if own else []
    evidence += [story.packet(write), story.packet(reset, common.reset_note(segments, reset), primary=True)] + [
        story.evidence(e) for e in errors[:2]
    ]
    evidence.sort(key=lambda e: e.time_ns)
    gap = write.time_ns - close.time_ns
    untouched = not any(not s.from_client and s.payload and s.time_ns > close.time_ns for s in segments)
    failed = [e for e in errors if not _only_tells(story, e)]
    replied = not failed and common.may_reply(segments, close.time_ns, write)
    return Finding(
        CODE, NAME, Severity.WARNING if replied else Severity.ERROR, Confidence.CERTAIN,
        f"{'data' if replied else 'request'} written {seconds(gap)} after the server had closed the connection",
        reset.time_ns, evidence,
        "the server's close "
        + (f"came while the function was frozen ({seconds(freeze.length_ns)}), whose" if freeze else "went unnoticed by the client, whose")
        + " next write was answered with a reset"
        + (common.REPLIED if replied
           else "; the request never reached the server's application: one retry is safe" if untouched else ""),
        connection=story.connections.id(k), connections=[story.connections.id(k)], environment=env,
        request_ids=common.failed_requests(story, failed if replied else errors), lost_ns=reset.time_ns - write.time_ns,
        silences=common.silence(story, k, close.time_ns, write.time_ns, freeze, "the client knew nothing"),
        ruled_out=[
            "a middlebox that forgot the flow (R303): the server's own close was seen",
            f"a close race (F204): the write came {seconds(gap)} after the close",
            "a silent drop (R302): the server answered",
        ],
        help=for_connection(story, k, Trouble.STALE, errors, closes=not _by_keepalive(story, k, close)),
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _refused_request(story: Story, refused: Refused) -> Finding:
    """The proof: the close in the capture, the error of the log, and no request between them."""
    k, close, woke, errors = refused.connection, refused.close, refused.woke, refused.errors
    env = common.environment(story, k)
    freeze = common.frozen(story, k, close.time_ns, refused.stirred_ns)
    gap = max(errors[0].time_ns - close.time_ns, 0)
    evidence = [
        story.packet(close, "the server closed" if close.fin else "the server closed by a reset"),
        *common.freeze_evidence(story, freeze),
        *([story.packet(woke, "the client's first segment since")] if woke is not None else []),
        story.evidence(errors[0], primary=True),
        *(story.evidence(e, "(consequence)") for e in errors[1:2]),
    ]
    evidence.sort(key=lambda e: e.time_ns)
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.LIKELY,
        f"request made {seconds(gap)} after the server had closed the connection; it was never sent",
        errors[0].time_ns, evidence,
        "the server's close "
        + (f"came while the function was frozen ({seconds(freeze.length_ns)})" if freeze else "lay unread")
        + "; the function's own side had heard of it when the request was made, and refused to send: one retry is safe",
        connection=story.connections.id(k), connections=[story.connections.id(k)], environment=env,
        request_ids=common.failed_requests(story, errors),
        silences=common.silence(story, k, close.time_ns, refused.stirred_ns, freeze, "the client knew nothing"),
        ruled_out=["a middlebox that forgot the flow (R303): the server's own close was seen", "a silent drop (R302): the close was heard"],
        help=for_connection(story, k, Trouble.STALE, errors, closes=not _by_keepalive(story, k, close)),
        upgrade="the local port beside the error would tie it to this connection" if not errors[0].remote else "",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _from_log(story: Story, death: told.Death) -> Finding:
    """The log alone: the peer had ended the connection, the function used it after a rest."""
    e, k = death.first, death.connection
    evidence = told.evidence(story, death)
    broken = e.attrs.get("code") == "EPIPE"
    by_server = death.by_server
    either = told.unclear_end(story, e)
    absent = story.connections.points[death.absent].source.label if death.absent is not None else ""
    whom = (
        f"it had been ended, not by the server: {absent} saw nothing"
        if absent
        else "it had been ended"
        if either
        else "the server had ended it"
    )
    known = by_server or (broken and told.opened(story, death) is None)
    confidence = Confidence.LIKELY if known else Confidence.POSSIBLE if either else told.confidence(story, death)
    setting = f" ({e.attrs['setting']})" if by_server and e.attrs.get("setting") else ""
    proof = (
        f"EPIPE means that a FIN or a reset had come before the write; {absent} ran on and shows none" if broken and absent
        else "EPIPE means that the server's FIN had come before the write" if broken
        else f"the server says itself that it ended the connection{setting}" if by_server
        else f"{either} says so of a reset, too: the server, or a box between that had forgotten the connection (R303), ended it" if either
        else "the peer's FIN, or a reset, was read"
    )  # fmt: skip
    return Finding(
        CODE, NAME, Severity.ERROR, confidence,
        f"connection used after {seconds(death.rest_ns)} {'frozen' if death.freeze else 'idle'}: {whom}",
        e.time_ns, evidence,
        f"{'EPIPE' if broken else 'found broken' if e.attrs.get('code') == 'BROKEN' else 'found closed'} {told.when(story, death)}: {proof}; the function noticed only when it used the connection"
        + (f" (near a known limit: {near})" if (near := common.limit_near(death.rest_ns, "FIN", death.peer)) else ""),
        connection=story.connections.id(k) if k is not None else None, connections=[story.connections.id(k)] if k is not None else [],
        server=death.peer or None, environment=death.environment, request_ids=common.failed_requests(story, death.events), silences=told.silences(story, death),
        ruled_out=["a silent drop (the peer's end was heard)", "a failed connect (the connection was established)"],
        help=told.advice(story, death, Trouble.STALE),
        upgrade="" if absent or confidence is Confidence.CERTAIN else f"a capture at the server shows when it closed: {told.capture(story, death)}",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _noticed_close(story: Story, noticed: Noticed) -> Finding:
    """A close that was read at the thaw: the server's FIN, or a reset, came while the function was frozen."""
    e, z = noticed.event, noticed.freeze
    env = e.environment
    stale = bool(e.request_id) and e.request_id == z.before
    after = [
        x
        for x in story.events_between(e.time_ns, e.time_ns + ERROR_WITHIN_NS, env)
        if x is not e and x.layer == "app" and not _only_tells(story, x)
    ]
    failed = [
        x
        for x in after
        if x.kind == "error" and x.attrs.get("code") in ("NOT_CONNECTED", "CLOSED", "EPIPE", "ECONNRESET")
    ]
    unclear = any(x.kind == "error" or x.level == "ERROR" for x in after)
    evidence = [
        *common.freeze_evidence(story, z),
        story.evidence(e, "under the request id of the invocation before" if stale else "", primary=True),
    ]
    evidence += [story.evidence(x, "(consequence)") for x in failed[:1]]
    evidence.sort(key=lambda x: x.time_ns)
    return Finding(
        CODE, NAME, Severity.ERROR if failed else Severity.INFO, Confidence.LIKELY if stale and failed else Confidence.POSSIBLE,
        f"the server ended a connection while the function was frozen for {seconds(z.length_ns)}; noticed at the thaw",
        e.time_ns, evidence,
        f"the close was read {seconds(max(e.time_ns - z.end_ns, 0))} after the thaw, "
        + ("before the runtime took the next event: it came while the function was frozen" if stale else "too soon for one that came after it")
        + ("; what followed used the connection all the same" if failed else "; whether the error that follows is of it, its line does not say" if unclear else "; nothing failed by it"),
        environment=env, request_ids=common.failed_requests(story, failed),
        silences=common.silence(story, None, z.start_ns, z.end_ns, z, "the server ended the connection meanwhile"),
        ruled_out=["a silent drop (the end was heard)"],
        help=remedies.advice(Trouble.STALE, "", remedies.known(story, env, "", events=failed)),
        upgrade=f"a capture at the server shows when it closed: {collect.capture('')}",
    )  # fmt: skip
