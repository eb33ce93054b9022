"""reset-after-idle

## What it does
Flags the first write, or first acknowledgement, after an idle gap that is answered with a reset, where no close was seen
before: a middlebox that forgot the flow and answers for the server, or a server that lost its state. From the log alone:
ECONNRESET of the kernel in the first invocation after a rest of 4 s or more.

## Why it matters
The request fails with ECONNRESET at once. Unlike a server's close there is nothing to notice beforehand: the connection
looks established at both ends until it is used.

## What to do
Recreate connections idle longer than the path's limit, by wall clock; retry once on ECONNRESET.

## Known limits
TTL and IP-ID hint at who sent the reset, a second capture proves it. With a second capture that shows the server's close,
F203 takes this finding's place. Where the reset answers a bare acknowledgement (what a frozen machine's kernel still owed, or a
keepalive probe), or a write no longer than what the server had sent unasked in the rest (a heartbeat, AMQP's Connection.Close), no
request need have been harmed: a warning, unless an application error stands beside it. A client that is
closing anyway (its FIN or a TLS close_notify goes out first) harmed nothing. The log alone cannot tell a middlebox from a server
that closed meanwhile without being heard (F203): likely where the rest is a minute or more, recurs, or a capture at the server saw
nothing; possible else.
"""

from __future__ import annotations

from collections.abc import Iterable

from analyzer.capture import columns as col
from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.times import seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules import _told as told
from analyzer.rules import r302_silent_drop as r302
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, for_connection
from analyzer.rules._thresholds import Settings, Values
from analyzer.rules.f201_fin_wait_2_stall import _OPEN
from analyzer.tcp import detail, signs
from analyzer.tcp import fields as f
from analyzer.tcp.segments import Segment
from analyzer.timeline.points import CLIENT, SERVER
from analyzer.timeline.story import Story

CODE = "R303"
NAME = "reset-after-idle"
SUMMARY = "what the client first sent after an idle gap was answered with a reset, no close was seen"
SEVERITIES = (Severity.WARNING, Severity.ERROR)
FROM_LOGS = (Confidence.POSSIBLE, Confidence.LIKELY)


class Thresholds(Values):
    """What makes an idle gap."""

    stall_ns: int = common.stall()


_LOG = """
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        {0}.290 START 2
        {0}.302 app 2 Error: read ECONNRESET {{ errno: -104, code: 'ECONNRESET', syscall: 'read' }}
        {0}.400 REPORT 2
"""
FIRES = (
    Case("14 s idle, then a write that a router answers", packets=_OPEN + "\n14.300 > 8\n14.301 < RST ttl=64"),
    Case(
        "the broker's Connection.Close lay unread in the freeze: the client confirms it to nobody (AMQP)",
        packets=_OPEN + "\n6.280 < 50\n6.320 > ACK\n9.350 > 12\n9.351 < RST-ACK",
    ),
    Case(
        "frozen with a reply on its way; the server gave up, and the kernel's late acknowledgement finds it gone",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:00:16.100 START 2
        00:00:16.110 app 1 Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }
        00:00:16.300 REPORT 2
        """,
        packets=_OPEN
        + "\n0.090 > 20\n0.091 < 39 lost\n0.300 < 39 again lost\n0.720 < 39 again\n16.105 > ACK\n16.106 < RST",
    ),
    Case("from the log alone", log=_LOG.format("00:06:14")),
    Case(
        "from the log: initialised ahead of the first request, half an hour before it",
        log=_LOG.format("00:36:14").replace("START 1", "INIT -", 1).replace("        00:00:00.100 REPORT 1\n", "", 1),
    ),
    Case(
        "from the log, beside a capture of a reset that nobody asked for and whose clock nothing ties to the log's",
        log=_LOG.format("00:06:14"),
        packets=_OPEN + "\n60 < RST-ACK",
    ),
)
QUIET = (
    Case(
        "the server had closed before (F203)",
        packets=_OPEN + "\n6.5 < FIN lost\n6.7 < FIN again lost\n7.1 < FIN again lost\n16.1 > 60\n16.101 < RST",
    ),
    Case("the client was closing", packets=_OPEN + "\n14.3 > 31\n14.3001 > FIN\n14.301 < RST"),
    Case("the server spoke, and reset at once", packets=_OPEN + "\n14.3 < 20\n14.301 > ACK\n14.302 < RST"),
    Case(
        "the server reset the frozen machine's connection by itself: its capture saw none of the probes that the reset seems to answer",
        packets=_OPEN + "\n14.3 > PROBE lost\n15.3 > PROBE lost\n16.1 < RST-ACK",
        server_packets=_OPEN + "\n15.35 < RST-ACK",
    ),
    Case("the server reset an idle connection unasked", packets=_OPEN + "\n14.3 < RST"),
    Case("the server answered and reset later", packets=_OPEN + "\n14.3 > 8\n14.301 < 20\n14.302 < RST"),
    Case(
        "the log alone: a new process, which has no connection from before",
        log=_LOG.format("00:06:14").replace(
            "        00:06:14.290", "        00:06:14.000 INIT -\n        00:06:14.290"
        ),
    ),
    Case("the log alone: no rest before it (N901)", log=_LOG.format("00:00:02")),
)


def select(story: Story, settings: Settings) -> Iterable[int | told.Death]:
    """Connections whose server answered a waking client with RST and nothing else; resets that only the log tells of."""

    def acknowledged(rows: common.Rows) -> common.Mask:
        """Reset long after the client last wrote, without a close of either side."""
        found: common.Mask = rows[:, CLIENT + f.RSTS] == 0
        found &= (rows[:, SERVER + f.FINS] == 0) & (rows[:, CLIENT + f.FINS] == 0)
        wrote = rows[:, CLIENT + f.DATA_LAST_TS]
        return found & (wrote > 0) & (rows[:, SERVER + f.RST_TS] - wrote >= f.WAKE_AFTER)

    cs = story.connections
    yield from rested(story, settings)
    yield from sorted({*cs.showing(signs.RESET_ON_WAKING), *cs.by_point(signs.SERVER_RESET, acknowledged)})


def rested(story: Story, settings: Settings) -> list[told.Death]:
    """Resets that only the log tells of, after a rest; and ends, where a capture at the server saw none."""
    found = told.rested(story, lambda e: is_reset(e) or _is_end(e) or bool(told.unclear_end(story, e)), settings)
    return [death for death in found if death.absent is not None or any(map(is_reset, death.events))]


def is_reset(e: Event) -> bool:
    """Whether an error is the kernel's word of a reset on a connection in use."""
    return e.attrs.get("code") == "ECONNRESET" and told.in_use(e) and e.attrs.get("syscall") != "connect"


def _is_end(e: Event) -> bool:
    """Whether an error says that the connection in use had ended, and no word of the server is its reason."""
    return e.attrs.get("code") == "CLOSED" and told.in_use(e) and e.attrs.get("raised_by") != "server"


def examine(story: Story, candidate: int | told.Death, settings: Settings) -> Finding | None:
    """The proof: the gap, what the client then sent, the reset, who sent it."""
    if isinstance(candidate, told.Death):
        return _from_log(story, candidate)
    k = candidate
    segments = story.connections.segments(k)
    reset = next((s for s in segments if s.rst and not s.from_client), None)
    if reset is None or any((s.fin or (s.rst and s.from_client)) and s.time_ns <= reset.time_ns for s in segments):
        return None
    if r302.unheard(segments, reset):
        return None  # the reset did not arrive: R302, R301
    stall = settings[Thresholds].stall_ns
    burst = _late_acknowledgement(segments, reset, stall) or _write(segments, reset)
    if burst is None or burst.marks & col.M_TLS_ALERT or common.unasked(story, k, burst, reset):
        return None
    if any(not s.from_client and s.time_ns >= burst.time_ns and not s.rst for s in segments):
        return None
    before = max((s.time_ns for s in segments if s.time_ns < burst.time_ns and s.from_client), default=burst.time_ns)
    gap = burst.time_ns - before
    if gap < stall:
        return None
    env = common.environment(story, k)
    freeze = common.frozen(story, k, before, burst.time_ns)
    errors = common.errors_of_reset(story, k, burst, reset)
    spoken = [e for e in errors if e.attrs.get("raised_by") == "server"]
    if any(e.level != "INFO" for e in spoken):
        return None  # the server's own words: it had closed (F203)
    evidence = [
        *common.freeze_evidence(story, freeze),
        story.packet(burst),
        story.packet(reset, common.reset_note(segments, reset), primary=True),
    ]
    own = common.last_words(segments, burst.time_ns - 1)
    evidence += [story.packet(own, common.OWN_REASON)] if own else []
    evidence += [story.evidence(e) for e in errors[:2]]
    evidence.sort(key=lambda e: e.time_ns)
    sender, proven = _sender(story, k, segments, reset, burst)
    near = common.limit_near(gap, "RST", story.connections.server(k))
    wrote = burst.payload
    replied = bool(wrote) and errors == spoken and common.may_reply(segments, burst.time_ns, burst)
    repeated = [s for s in segments if not s.from_client and s.retransmitted and before < s.time_ns < burst.time_ns]
    if repeated:
        evidence.append(story.packet(repeated[-1], f"unanswered, the last of {len(repeated)} copies"))
        evidence.sort(key=lambda e: e.time_ns)
    return Finding(
        CODE, NAME, Severity.ERROR if not replied and (wrote or errors) else Severity.WARNING, Confidence.CERTAIN if proven else Confidence.LIKELY,
        f"reset after {seconds(gap)} {'of silence of the client' if repeated else 'idle'}, no close seen before",
        reset.time_ns, evidence,
        f"the {'client had been silent' if repeated else 'connection had been idle'} for {seconds(gap)}{' (frozen)' if freeze else ''}"
        + (f", near a known limit: {near}" if near else "") + f"; {PROBE if burst.keepalive else _FIRST[wrote]} was answered with a reset by {sender}"
        + ("; the server had repeated its last data in vain: a close would have waited behind it, unseen" if repeated else "")
        + (common.REPLIED if replied else ""),
        connection=story.connections.id(k), connections=[story.connections.id(k)], environment=env,
        request_ids=common.failed_requests(story, errors), lost_ns=reset.time_ns - burst.time_ns,
        silences=common.silence(story, k, repeated[-1].time_ns if repeated else before, burst.time_ns, freeze, "no packet of this connection"),
        ruled_out=([] if repeated or replied else ["a close by the server (no FIN or RST before)"]) + ["a silent drop (an answer came)"]
        + (["the server itself (its capture shows neither the request nor a reset)"] if proven and "middlebox" in sender else []),
        help=for_connection(story, k, Trouble.STALE, errors, closes="middlebox" not in sender),
        upgrade="" if proven else f"a capture at the server would show whether the reset came from it: {collect.capture(story.connections.server(k))}",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


PROBE = "the client's keepalive probe"
#: What drew the reset, by whether it carried payload.
_FIRST = {True: "the first write", False: "the client's first segment, a bare acknowledgement,"}


def _write(segments: list[Segment], reset: Segment) -> Segment | None:
    """The start of the burst whose last payload comes before the reset."""
    own = (s for s in reversed(segments) if s.from_client and s.payload and not s.retransmitted)
    write = next((s for s in own if s.time_ns <= reset.time_ns), None)
    return write and _burst_start(segments, write)


def _late_acknowledgement(segments: list[Segment], reset: Segment, stall_ns: int) -> Segment | None:
    """The client's segment without payload that a reset answers (RFC 9293 §3.10.7.1: its SEQ is that segment's ACK, and it has none), after a rest.

    What the server sent anew just before would be its cause; then the client did not wake by itself.
    """
    within = reset.time_ns - common.rto_ns(segments)
    woke = next((s for s in reversed(segments) if s.from_client and within <= s.time_ns <= reset.time_ns), None)
    if woke is None or woke.payload or woke.syn or woke.ack != reset.seq or reset.flags & col.ACK_FLAG:
        return None
    spoke = any(
        s.payload and not s.retransmitted and not s.keepalive and woke.time_ns - stall_ns < s.time_ns < woke.time_ns
        for s in segments
    )
    return None if spoke else woke


def _burst_start(segments: list[Segment], write: Segment) -> Segment:
    """The first segment of the client after its silence, of which `write` is the last payload."""
    own = [s for s in segments if s.from_client and s.payload and s.time_ns <= write.time_ns]
    start = write
    for s in reversed(own):
        if start.time_ns - s.time_ns > f.WAKE_AFTER:
            break
        start = s
    return start


def _sender(story: Story, k: int, segments: list[Segment], reset: Segment, write: Segment) -> tuple[str, bool]:
    """Who sent the reset, and whether that is proven by a second capture."""
    points = story.connections.seen_at(k)
    if len(points) > 1:
        far = points[-1]
        if reset.at(far) is not None and write.at(far) is not None:
            return "the server, which had lost the connection's state", True
        both = all(common.heard_at(story, k, far, side) for side in ("client", "server"))
        unseen = reset.at(far) is None and write.at(far) is None and both
        if unseen and common.covers(story, far, write.time_ns, reset.time_ns):
            return "a middlebox: the server's capture shows neither the write nor the reset", True
    if signs := detail.foreign_signs(segments, reset):
        by = "TTL" if signs[0].startswith("TTL") else "IP identification"
        return f"a middlebox, which its {by} points to", False
    if detail.agrees(segments, reset):
        return "the server's own host, which its TTL and IP identification point to", False
    return "a middlebox that forgot the flow, or a server that lost its state", False


def _named(story: Story, death: told.Death) -> str:
    """The error: the kernel's, or what a library says of a reset as of an end."""
    if any(map(is_reset, death.events)):
        return "ECONNRESET"
    who = told.unclear_end(story, death.first)
    return f"{who}'s word for an end or a reset" if who else "the end of the connection was read"


def _from_log(story: Story, death: told.Death) -> Finding:
    """The log alone: the kernel was answered with a reset, after a rest."""
    k = death.connection
    absent = story.connections.points[death.absent].source.label if death.absent is not None else ""
    evidence = told.evidence(story, death)
    sender = (
        f"{absent} ran on and saw neither the write nor a reset: a middlebox between it and the function answered"
        if absent
        else "a middlebox that forgot the flow, or a server that had closed it meanwhile"
    )
    certain = any(map(is_reset, death.events))
    return Finding(
        CODE, NAME, Severity.ERROR, told.confidence(story, death),
        f"{'reset' if certain else 'reset or ended'} on first use after {seconds(death.rest_ns)} {'frozen' if death.freeze else 'idle'}" + (f", not from the server: {absent} saw nothing" if absent else ""),
        death.first.time_ns, evidence,
        f"{_named(story, death)} {told.when(story, death)}: a connection that had rested was used{', and its first write was answered with a reset' if certain else ''}; {sender}"
        + (f" (near a known limit: {near})" if (near := common.limit_near(death.rest_ns, "RST", death.peer)) else ""),
        connection=story.connections.id(k) if k is not None else None, connections=[story.connections.id(k)] if k is not None else [],
        server=death.peer or None, environment=death.environment, request_ids=common.failed_requests(story, death.events), silences=told.silences(story, death),
        ruled_out=["a time-out (an answer came, a reset)" if certain else "a time-out (an end was heard)", "a failed connect (the connection was established)"]
        + (["the server itself (its capture shows neither the write nor a reset)"] if absent else []),
        help=told.advice(story, death, Trouble.STALE),
        upgrade="" if absent else f"a capture at the server shows whether it had closed, and whether the reset came from it: {told.capture(story, death)}",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip
