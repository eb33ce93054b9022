"""invocation-timed-out-on-connection

## What it does
Flags an invocation that Lambda ended with `Task timed out` while a request on a connection had no answer, and names both. From
the log alone it names the call that was running, or, where nothing is traced, tells that the function waited in silence.

## Why it matters
`Task timed out` says only that the time was over. A function that waits for a connection that died during the freeze waits
until then: the kernel would give up after 924.6 s with Linux defaults, later than the longest invocation (900 s). After the
time-out the process is replaced, and every connection with it.

## What to do
Give every request a time limit below the function's own that also destroys the socket, so that the error names the
connection; check connections by wall clock before reuse. If the request was acknowledged, look at the server instead.

## Known limits
A function that computes without end times out as well. From the log alone, without a traced call, the finding needs a freeze
before the invocation, earlier invocations that were much shorter, and silence of the function to the end. A handler that sleeps or
computes looks the same: likely where the rest was as long as a usual idle limit or each of several time-outs followed a freeze.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Evidence, Finding, Severity, Silence
from analyzer.model.records import Call, Freeze, Invocation
from analyzer.model.times import MS, SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules import _remedies as remedies
from analyzer.rules import _told as told
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble
from analyzer.rules._thresholds import Settings, Values, duration, share
from analyzer.tcp import fields as f
from analyzer.tcp.segments import Segment
from analyzer.timeline.order import before
from analyzer.timeline.points import CLIENT
from analyzer.timeline.story import Story

CODE = "T605"
NAME = "invocation-timed-out-on-connection"
SUMMARY = "Task timed out while a request on a connection had no answer"
SEVERITIES = (Severity.ERROR,)
FROM_LOGS = (Confidence.POSSIBLE, Confidence.LIKELY)

#: Stamps of START and of the time-out line are the platform's, a few ms beside the guest's.
SLACK_NS = 100 * MS


class Thresholds(Values):
    """What ties the end of the time to a request."""

    least_wait_ns: int = duration(
        SECOND,
        "s",
        "a request that waited less before the end did not decide it",
        "as for a stall: five of Linux's least retransmission time-outs (200 ms)",
    )
    others_share: float = share(
        0.2, "from the log alone: earlier invocations took at most this part of its time", "chosen"
    )
    silent_share: float = share(0.8, "from the log alone: this part of its time was silent", "chosen")


_WARM = """
        00:00:00.000 START 1
        00:00:00.020 app 1 stored
        00:00:00.100 REPORT 1
        00:06:00.000 START 2
        00:06:00.010 app 2 reading
        00:06:03.000 TIMEOUT 2 3.00
        00:06:03.001 REPORT 2
"""
FIRES = (
    Case(
        "the request goes into the void until the time is over",
        log=_WARM,
        packets="0.000 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.010 > 40\n0.012 < 90\n0.050 > ACK\n"
        "360.012 > 60 lost\n360.220 > 60 again lost\n360.640 > 60 again lost\n361.480 > 60 again lost\n363.100 > 60 again lost",
    ),
    Case("from the log alone: silence to the end after a freeze", log=_WARM),
    Case(
        "from the log alone, after a freeze shorter than usual limits: it may have slept",
        log=_WARM.replace("00:06:0", "00:00:2"),
    ),
    Case(
        "a gRPC call without an answer: the server's PING, a bandwidth probe, is none",
        log=_WARM,
        packets="0.000 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.010 > HEADERS\n0.012 < HEADERS\n0.050 > ACK\n"
        "360.012 > HEADERS\n360.013 < PING\n360.052 > PING-ACK\n360.092 < ACK",
    ),
    Case(
        "the server takes its time; the kernel of the killed process closes when the time is over",
        log=_WARM,
        packets="0.000 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.010 > 40\n0.012 < 90\n0.050 > ACK\n"
        "360.012 > 60\n360.052 < ACK\n362.999 > FIN\n363.001 < FIN\n363.002 > ACK",
    ),
)
QUIET = (
    Case(
        "answered; the function computed",
        log=_WARM,
        packets="0.000 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.010 > 40\n0.012 < 90\n0.050 > ACK\n360.012 > 60\n360.014 < 90\n360.050 > ACK",
    ),
    Case(
        "the client had given up and closed long before",
        log=_WARM,
        packets="0.000 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.010 > 40\n0.012 < 90\n0.050 > ACK\n"
        "360.012 > 60\n360.052 < ACK\n361.1 > FIN\n361.102 < FIN\n361.103 > ACK",
    ),
    Case(
        "the log speaks until the end",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:06:00.000 START 2
        00:06:00.900 app 2 step 1
        00:06:01.900 app 2 step 2
        00:06:02.900 app 2 step 3
        00:06:03.000 TIMEOUT 2 3.00
        00:06:03.001 REPORT 2
        """,
    ),
    Case(
        "a first invocation: nothing to compare it with",
        log="00:00:00.000 START 1\n00:00:03.000 TIMEOUT 1 3.00\n00:00:03.001 REPORT 1",
    ),
)


class TimedOut(Struct):
    """An invocation that timed out, those of its environment, and whether its function's came more than once, each after a freeze.

    `ran` are the connections that its environment had meanwhile, `connections` those that it may have written to.
    """

    invocation: Invocation
    siblings: list[Invocation]
    recurs: bool
    ran: list[int]
    connections: list[int]


class Waiting(Struct):
    """A request without an answer when the time was over."""

    connection: int
    request: Segment
    acknowledged: bool


def select(story: Story, settings: Settings) -> Iterable[TimedOut]:
    """Invocations that timed out, each with those of its environment."""
    timed_out = [i for i in story.invocations if i.status == "timeout" and i.end_ns is not None]
    wanted = {i.environment for i in timed_out}
    siblings: dict[str, list[Invocation]] = defaultdict(list)
    for i in story.invocations:
        if i.environment in wanted:
            siblings[i.environment].append(i)
    connections: dict[str, list[int]] = defaultdict(list)
    for k, environment in story.connections.environment.items():
        connections[environment].append(k)
    after_freeze: dict[str, list[bool]] = defaultdict(list)
    for i in timed_out:
        after_freeze[story.function_of(i.environment)].append(_freeze_before(story, i) is not None)
    for i in timed_out:
        like = after_freeze[story.function_of(i.environment)]
        recurs = len(like) > 1 and all(like)
        ran = [k for k in connections[i.environment] if _ran(story, k, i)]
        yield TimedOut(i, siblings[i.environment], recurs, ran, [k for k in ran if _wrote(story, k, i)])


def examine(story: Story, candidate: TimedOut, settings: Settings) -> Finding | None:
    """The proof: the platform's line, and the request that waited, or the call, or the silence."""
    invocation, t = candidate.invocation, settings[Thresholds]
    # Requests of this environment's connections, sent in the invocation, that had no answer at its end.
    loaded = story.connections.loaded(candidate.connections)
    unanswered = (_unanswered(story, k, invocation, t.least_wait_ns) for k in loaded)
    if waiting := [w for w in unanswered if w is not None]:
        return _on_connection(story, invocation, max(waiting, key=lambda w: w.request.time_ns))
    if candidate.ran:
        return None  # the captures saw its connections, and none was waiting
    calls = [
        c for c in story.calls if c.environment == invocation.environment and c.start_ns is not None
        and invocation.start_ns - _slack(invocation) <= c.start_ns <= _end(invocation) - t.least_wait_ns
        and (c.end_ns is None or c.end_ns > _end(invocation))
    ]  # fmt: skip
    if calls:
        return _on_call(story, invocation, calls[-1])
    return _in_silence(story, candidate, t)


def _end(invocation: Invocation) -> int:
    return invocation.end_ns or 0


def _slack(invocation: Invocation) -> int:
    """How far packets may stand outside of an invocation in which they passed: its stamps may have been cut to seconds."""
    return SLACK_NS + min(invocation.error_ns, SECOND)


def _ran(story: Story, k: int, invocation: Invocation) -> bool:
    return any(
        invocation.start_ns <= aligned(int(row[f.LAST_TS])) and aligned(int(row[f.FIRST_TS])) <= _end(invocation)
        for row, aligned in story.connections.rows(k)
    )


def _wrote(story: Story, k: int, invocation: Invocation) -> bool:
    return story.shares_clock(k, invocation.environment) and any(
        aligned(int(row[CLIENT + f.DATA_LAST_TS])) >= invocation.start_ns - _slack(invocation)
        for row, aligned in story.connections.rows(k)
    )


def _unanswered(story: Story, k: int, invocation: Invocation, least_ns: int) -> Waiting | None:
    end = _end(invocation)
    segments = [s for s in story.connections.segments(k) if s.time_ns <= end + _slack(invocation)]
    left = next((s.time_ns for s in segments if s.from_client and (s.fin or s.rst)), None)
    if left is not None and left < end - _slack(invocation):
        return None
    if left is not None:  # the platform kills the process when the time is over: its kernel closes
        segments = [s for s in segments if s.time_ns < left]
    answers = (
        s.time_ns for s in segments if not s.from_client and (s.payload or s.fin or s.rst) and not common.manages(s)
    )
    answered = max(answers, default=0)
    asked = [s for s in segments if s.from_client and s.payload and s.time_ns > answered and not common.asks_nothing(s)]
    if not asked or not common.heard(story, k, "server"):
        return None
    first = asked[0]
    if first.time_ns < invocation.start_ns - _slack(invocation) or _end(invocation) - first.time_ns < least_ns:
        return None
    known = any(
        not s.from_client and s.time_ns > first.time_ns and (s.ack - first.end_seq) & 0xFFFFFFFF < 1 << 31
        for s in segments
    )
    return Waiting(k, first, known)


def _on_connection(story: Story, invocation: Invocation, waiting: Waiting) -> Finding | None:
    k, request = waiting.connection, waiting.request
    server = story.connections.server(k)
    waited = _end(invocation) - request.time_ns
    idle = max(
        (s.time_ns for s in story.connections.segments(k) if s.time_ns < request.time_ns), default=request.time_ns
    )
    freeze = common.frozen(story, k, idle, request.time_ns)
    copies = sum(s.from_client and s.seq == request.seq and s.payload for s in story.connections.segments(k))
    note = (
        "acknowledged, not answered"
        if waiting.acknowledged
        else f"{copies} copies, none acknowledged"
        if copies > 1
        else "not answered"
    )
    evidence = [*common.freeze_evidence(story, freeze), story.packet(request, note)]
    why = (
        f"the request to {server} had been waiting for {seconds(waited)}: "
        + ("the server's kernel had acknowledged it, its application did not answer" if waiting.acknowledged else "not even an acknowledgement came back")
    )  # fmt: skip
    over = story.event_at(*invocation.end_ref) if invocation.end_ref else None
    proven = over is not None and before(story, story.packet(request), story.evidence(over))
    return _finding(
        story, invocation, evidence, Confidence.CERTAIN if proven else Confidence.LIKELY, f"invocation timed out waiting {seconds(waited)} for {server}", why, server,
        ["the function's own work (it had asked and got no answer)"] + (["a dead path (the request was acknowledged)"] if waiting.acknowledged else []), waited,
        connection=story.connections.id(k), acknowledged=waiting.acknowledged,
        silences=common.silence(story, k, idle, request.time_ns, freeze, "no packet of this connection"),
    )  # fmt: skip


def _on_call(story: Story, invocation: Invocation, call: Call) -> Finding | None:
    start = call.start_ns or 0
    lines = [e for e in story.events_between(start, start, invocation.environment) if e.kind == "call-start"]
    to = f" to {call.remote}" if call.remote else ""
    return _finding(
        story, invocation, [story.evidence(lines[0], "never ended")] if lines else [], Confidence.LIKELY,
        f"invocation timed out while a call{to} ran for {seconds(_end(invocation) - start)}",
        f"the call {call.method or ''} had no status when the time was over".replace("  ", " "), call.remote or "", ["a call that had ended"], _end(invocation) - start,
    )  # fmt: skip


def _freeze_before(story: Story, invocation: Invocation) -> Freeze | None:
    """The freeze that ended with an invocation."""
    near = story.freezes_between(invocation.environment, invocation.start_ns - SECOND, invocation.start_ns + SECOND)
    return next((z for z in near if z.after == invocation.request_id), None)


def _in_silence(story: Story, candidate: TimedOut, t: Thresholds) -> Finding | None:
    """The log alone: warm, others were short, nothing was printed for most of the time."""
    invocation = candidate.invocation
    took = _end(invocation) - invocation.start_ns
    before = [
        i.end_ns - i.start_ns for i in candidate.siblings
        if i.end_ns is not None and i.end_ns <= invocation.start_ns and i.status == "success"
    ]  # fmt: skip
    freeze = _freeze_before(story, invocation)
    if not before or freeze is None or freeze.length_ns < t.least_wait_ns or median(before) > t.others_share * took:
        return None
    lines = [
        e for e in story.events_between(invocation.start_ns, _end(invocation), invocation.environment) if e.layer in ("app", "grpc")
    ]  # fmt: skip
    last = lines[-1] if lines else None
    silent = _end(invocation) - (last.time_ns if last else invocation.start_ns)
    if silent < max(t.least_wait_ns, t.silent_share * took):
        return None
    sure = candidate.recurs or freeze.length_ns >= told.USUAL_LIMIT_NS
    evidence = common.freeze_evidence(story, freeze) + ([story.evidence(last, "its last line")] if last else [])
    return _finding(
        story, invocation, evidence, Confidence.LIKELY if sure else Confidence.POSSIBLE,
        f"invocation timed out after {seconds(silent)} of silence, following a freeze of {seconds(freeze.length_ns)}",
        f"{'the invocation before took' if len(before) == 1 else 'invocations before took a median of'} {seconds(int(median(before)))}; this one, the first after {seconds(freeze.length_ns)} frozen, printed nothing for {seconds(silent)}: "
        f"it {'most likely' if sure else 'may have'} waited for an answer on a connection that had died meanwhile{'' if sure else ', or for a slow server, or slept or computed'}",
        "", [f"slow work as usual: {'the invocation before was' if len(before) == 1 else 'invocations before were'} short"], silent,
    )  # fmt: skip


def _finding(
    story: Story, invocation: Invocation, evidence: list[Evidence], confidence: Confidence, title: str, why: str, server: str,
    ruled_out: list[str], lost_ns: int, connection: str | None = None, silences: list[Silence] | None = None, acknowledged: bool = False,
) -> Finding | None:  # fmt: skip
    line = _timeout_line(story, invocation)
    if line is None:
        return None
    last = story.evidence(line, "status: timeout" if line.kind == "report" else "", primary=True)
    if "timeout_s" in line.attrs:
        last = replace(last, text=f"Task timed out after {line.attrs['timeout_s']:.2f} seconds")
    evidence = [*(e for e in evidence if (e.source, e.ref) != (line.source, line.ref)), last]
    evidence.sort(key=lambda e: e.time_ns)
    return Finding(
        CODE, NAME, Severity.ERROR, confidence, title, _end(invocation), evidence, why,
        connection=connection, connections=[connection] if connection else [], server=server or None, environment=invocation.environment, lost_ns=lost_ns,
        request_ids=[invocation.request_id], silences=silences or [], ruled_out=ruled_out,
        help=_help(story, invocation, server, connection, acknowledged),
        upgrade="" if confidence is Confidence.CERTAIN else _upgrade(story, invocation, server),
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _help(story: Story, invocation: Invocation, server: str, connection: str | None, acknowledged: bool) -> str:
    if acknowledged:
        return (
            f"the connection was alive: find out what {server} did meanwhile (its slow log, its load, its locks), and give the request a limit below the function's "
            "own that also destroys the socket"
        )
    silent = (
        remedies.for_connection(story, int(connection[1:]) - 1, Trouble.SILENT)
        if connection
        else remedies.advice(Trouble.SILENT, server, remedies.known(story, invocation.environment, server))
    )
    return f"{silent}; {remedies.CHECK_ON_BORROW}"


def _upgrade(story: Story, invocation: Invocation, server: str) -> str:
    start, end = invocation.start_ns - collect.AROUND_NS, _end(invocation) + collect.AROUND_NS
    return (
        f"whether a request waits at the server: {collect.capture(server)}; how many environments timed out around then: "
        + collect.insights(story, invocation.environment, start, end, "Task timed out")
    )


def _timeout_line(story: Story, invocation: Invocation) -> Event | None:
    """The platform's own line: `Task timed out`, else the REPORT that says so."""
    near = [
        e for e in story.events_between(_end(invocation) - SECOND, _end(invocation) + SECOND, invocation.environment)
        if e.request_id == invocation.request_id
    ]  # fmt: skip
    return next((e for kind in ("timeout", "report", "runtime-done") for e in near if e.kind == kind), None)
