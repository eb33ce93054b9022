"""timer-fired-after-thaw

## What it does
Flags an operation that timed out because the function was frozen while it was under way: it was begun before the freeze, its
timer ran out in the freeze and fired right after the thaw, before the answer that may lie in the socket was read.

## Why it matters
The server is blamed for the freeze. The error is logged in the next invocation, often under the old request id, and names a
time that nobody configured: "Deadline exceeded after 5.151s" of a call whose deadline was 1.1 s.

## What to do
Leave nothing in flight when the handler returns: await every call, query and close before responding. In Node, a library's
timer of the previous request (mysql `Quit inactivity timeout`, pg `connection timeout`) belongs to work that was not awaited.

## Known limits
Certain where the configured time is known, from the call's own lines or its siblings', and shorter than what passed. Without
it, likely: an operation whose time happens to end within a quarter of a second of the thaw looks the same. Where the log has
no platform lines, freezes are not known; a long silence that ends just before the time-out is then a possible one. gRPC
keepalive pings are K101's.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator

from msgspec import Struct

from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Evidence, Finding, Severity, Silence
from analyzer.model.records import Call, Freeze
from analyzer.model.times import MS, SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules import _remedies as remedies
from analyzer.rules._cases import Case
from analyzer.rules._thresholds import Settings, Values, duration, share
from analyzer.timeline.story import Story

CODE = "T601"
NAME = "timer-fired-after-thaw"
SUMMARY = "an operation begun before a freeze timed out right after it"
SEVERITIES = (Severity.INFO, Severity.WARNING, Severity.ERROR)
FROM_LOGS = (Confidence.POSSIBLE, Confidence.CERTAIN)

#: gRPC's status.
DEADLINE_EXCEEDED = 4
#: The lines of one end stand this close; deadlines of one setting differ by no more.
SAME_NS = 20 * MS
#: Without platform lines: how soon after the silence it ended.
SOON_NS = 50 * MS

#: A thaw whose time is less sure than this (its START has no stamp, and much of the invocation no line) proves nothing of a timer.
MOST_UNSURE_NS = SECOND

#: Timers of libraries: their messages, with the time where they print it.
TIMER = re.compile(
    r"inactivity timeout|due to connection timeout|timeout exceeded when trying to connect|Query read timeout|Command timed out|"
    r"Socket timeout\. Expecting data|Connection timeout|MongoNetworkTimeoutError|ConnectTimeoutError|UND_ERR_CONNECT_TIMEOUT|"
    r"UND_ERR_HEADERS_TIMEOUT|UND_ERR_BODY_TIMEOUT|PROTOCOL_SEQUENCE_TIMEOUT"
)
#: After a timer of a socket's silence (`remedies.IDLE_TIMERS`) the client gives up; what it then refuses comes this soon.
REFUSES_NS = 5 * SECOND
#: Levels of lines that tell of a failure.
FAILED = frozenset(("ERROR", "WARN", "WARNING", "FATAL"))


class Thresholds(Values):
    """What ties a time-out to a thaw."""

    after_thaw_ns: int = duration(
        250 * MS,
        "ms",
        "a timer that ran out while frozen fires this soon after the thaw",
        "measured: 5 ms; START is stamped up to 91 ms before the guest runs",
    )
    late_ns: int = duration(
        250 * MS,
        "ms",
        "a deadline is late if it fires more than this and than `late_share` after its time",
        "a busy process does not reach it (measured)",
    )
    late_share: float = share(0.05, "… and than this part of the deadline", "as above, for long deadlines")
    least_frozen_ns: int = duration(
        SECOND,
        "s",
        "a shorter freeze is no reason for a time-out",
        "as for a stall: five of Linux's least retransmission time-outs (200 ms)",
    )
    silent_share: float = share(0.8, "without platform lines: this part of the operation's time was silent", "chosen")


FIRES = (
    Case(
        "a call is not awaited: its deadline of 1 s runs out in the freeze",
        log="""
        00:00:00.000 START 1
        00:00:00.010 grpc 1 channel | (1) dns:svc:443 createResolvingCall [0] method="/a.B/C", deadline=2026-11-21T00:00:01.010Z
        00:00:00.011 grpc 1 resolving_call | [0] Created
        00:00:00.100 REPORT 1
        00:00:05.100 START 2
        00:00:05.150 grpc 1 resolving_call | [0] ended with status: code=4 details="Deadline exceeded after 5.140s,LB pick: 0.001s,remote_addr=10.0.0.9:443"
        00:00:05.151 app 1 Error: 4 DEADLINE_EXCEEDED: Deadline exceeded after 5.140s,LB pick: 0.001s,remote_addr=10.0.0.9:443
        00:00:05.300 REPORT 2
        """,
    ),
    Case(
        "a library's timer of the invocation before",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:01:00.100 START 2
        00:01:00.130 app 1 Error: Quit inactivity timeout { code: 'PROTOCOL_SEQUENCE_TIMEOUT' }
        00:01:00.300 REPORT 2
        """,
    ),
    Case(
        "node-redis's inactivity timer: nothing was under way, and the client is closed for good",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:00:07.100 START 2
        00:00:07.113 app 1 redis client error SocketTimeoutError: Socket timeout timeout. Expecting data, but didn't receive any in 4000ms.
        00:00:07.117 app 2 Error: The client is closed
        00:00:07.200 REPORT 2
        """,
    ),
    Case(
        "AMQP's heartbeats, which count the silence of a freeze: the client gives its connection up",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:00:20.100 START 2
        00:00:20.115 app 2 Server connection <Connection: "amqp://guest:******@10.0.0.9:5672/?heartbeat=5" at 0x7fdae5d9> was stuck. No frames were received in 18 seconds.
        00:00:20.125 app 2 ChannelInvalidStateError: <aio_pika.channel.Channel object at 0x7fa6aeb7> closed
        00:00:20.300 REPORT 2
        """,
    ),
)
QUIET = (
    Case(
        "a deadline that ran out on time, in the invocation that set it",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:00:05.100 START 2
        00:00:05.110 app 2 calling
        00:00:05.212 app 2 Error: 4 DEADLINE_EXCEEDED: Deadline exceeded after 0.100s,LB pick: 0.001s,remote_addr=10.0.0.9:443
        00:00:05.300 REPORT 2
        """,
    ),
    Case(
        "a slow server, no freeze",
        log="""
        00:00:00.000 START 1
        00:00:05.150 app 1 Error: 4 DEADLINE_EXCEEDED: Deadline exceeded after 5.001s,LB pick: 0.001s,remote_addr=10.0.0.9:443
        00:00:05.300 REPORT 1
        """,
    ),
    Case(
        "an error right after the thaw that is no timer's",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:01:00.100 START 2
        00:01:00.130 app 2 Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }
        00:01:00.300 REPORT 2
        """,
    ),
)


class Expiry(Struct):
    """A time-out: its line, when the operation began as far as known, its configured time, the call behind it."""

    event: Event
    began_ns: int | None
    limit_ns: int | None
    call: Call | None
    freeze: Freeze | None
    silence: tuple[int, int] | None = None


def select(story: Story, settings: Settings) -> Iterable[Expiry]:
    """Time-outs that a freeze, or where freezes are unknown a silence, lies across; a traced call once, whatever prints it."""
    t, told = settings[Thresholds], set[str]()
    limits, platform = _limits(story), {i.environment for i in story.invocations}
    expired = [c for c in story.calls if c.status == DEADLINE_EXCEEDED and c.end_ns is not None]
    for call in expired:
        lines = story.events_between(call.end_ns or 0, (call.end_ns or 0) + SAME_NS, call.environment)
        mine = [e for e in lines if _ends(e) and (not call.details or call.details[:24] in e.text)]
        told |= {f"{e.source}{e.ref}" for e in mine}
        found = _expiry(story, mine[-1], call, _own_limit(call), platform, t) if mine else None
        if found is not None:
            yield found
    for e in _timeouts(story, t.after_thaw_ns):
        place = f"{e.source}{e.ref}"
        found = _expiry(story, e, None, limits.get(e.environment), platform, t) if place not in told else None
        if found is not None:
            told.add(place)
            yield found


def _ends(e: Event) -> bool:
    return e.kind == "call-end" or (e.kind == "error" and e.attrs.get("code") == "DEADLINE_EXCEEDED")


def _timeouts(story: Story, after_thaw_ns: int) -> Iterator[Event]:
    """Deadlines and expired timers of libraries: among the errors, and among all lines that follow a thaw."""
    for e in story.of_kind("error"):
        if e.attrs.get("code") == "DEADLINE_EXCEEDED" or _timer(e):
            yield e
    printed: dict[str, list[Event]] = defaultdict(list)
    for e in story.of_kind("line"):
        if e.level in FAILED and e.layer == "app" and e.environment and _timer(e):
            printed[e.environment].append(e)
    times = {env: [e.time_ns for e in mine] for env, mine in printed.items()}
    for z in story.freezes if printed else ():
        mine, at = printed.get(z.environment, []), times.get(z.environment, [])
        yield from mine[bisect_left(at, z.end_ns - z.error_ns) : bisect_right(at, z.end_ns + after_thaw_ns)]


def _timer(e: Event) -> bool:
    return e.attrs.get("kernel") is False or ("raised_by" not in e.attrs and bool(TIMER.search(e.text[:2000])))


def _expiry(
    story: Story, e: Event, call: Call | None, limit: int | None, platform: set[str], t: Thresholds
) -> Expiry | None:
    after = e.attrs.get("after_s")
    began = call.start_ns if call is not None else e.time_ns - round(after * SECOND) if after is not None else None
    limit = limit if call is not None or e.attrs.get("code") == "DEADLINE_EXCEEDED" else None
    thaw = next(
        (z for z in story.freezes_between(e.environment, e.time_ns - t.after_thaw_ns - SECOND, e.time_ns + t.after_thaw_ns)
         if z.end_ns - z.error_ns <= e.time_ns <= z.end_ns + t.after_thaw_ns and z.length_ns >= t.least_frozen_ns
         and e.time_ns - z.end_ns + z.error_ns <= t.after_thaw_ns + MOST_UNSURE_NS),
        None,
    )  # fmt: skip
    set_ns = int(e.attrs.get("timeout_ms") or 0) * MS
    if thaw is not None and not 0 < set_ns <= t.after_thaw_ns:
        before = began is None or began <= thaw.start_ns + thaw.error_ns
        return Expiry(e, began, limit, call, thaw) if before else None
    frozen = (
        sum(z.overlap(began, e.time_ns) for z in story.freezes_between(e.environment, began, e.time_ns)) if began else 0
    )
    if began is not None and limit is not None and frozen >= t.least_frozen_ns and _late(e.time_ns - began, limit, t):
        return Expiry(e, began, limit, call, story.freeze_covering(e.environment, began, e.time_ns))
    if began is not None and e.environment not in platform:
        quiet = _silence(story, e, began, t)
        return Expiry(e, began, limit, call, None, quiet) if quiet else None
    return None


def _late(took_ns: int, limit_ns: int, t: Thresholds) -> bool:
    return took_ns - limit_ns > max(t.late_ns, t.late_share * limit_ns)


def _own_limit(call: Call) -> int | None:
    """A call's deadline as it was configured, ns."""
    return call.deadline_ns - call.start_ns if call.deadline_ns is not None and call.start_ns is not None else None


def _limits(story: Story) -> dict[str | None, int]:
    """For each environment the deadline of its calls, where all have the same: what an untraced call most likely had too."""
    spans: dict[str | None, tuple[int, int]] = {}
    for call in story.calls:
        limit = _own_limit(call)
        if limit is not None:
            low, high = spans.get(call.environment, (limit, limit))
            spans[call.environment] = min(low, limit), max(high, limit)
    return {env: high for env, (low, high) in spans.items() if high - low <= SAME_NS}


def _silence(story: Story, e: Event, began_ns: int, t: Thresholds) -> tuple[int, int] | None:
    """A stretch without a line that fills most of the operation and ended, by another line than an error, just before it."""
    lines = [x for x in story.events_between(began_ns, e.time_ns, e.environment) if x is not e]
    if not lines or lines[-1].kind != "line" or e.time_ns - lines[-1].time_ns > SOON_NS:
        return None
    woke = lines[-1].time_ns
    before = max((x.time_ns for x in lines if woke - x.time_ns > SOON_NS), default=began_ns)
    if woke - before < max(t.least_frozen_ns, t.silent_share * (e.time_ns - began_ns)):
        return None
    return before, woke


def examine(story: Story, found: Expiry, settings: Settings) -> Finding | None:
    """The proof: begun before the freeze, the freeze, the time-out right after it."""
    e, freeze, t = found.event, found.freeze, settings[Thresholds]
    if freeze is not None and (e.attrs.get("library"), e.attrs.get("setting")) in remedies.IDLE_TIMERS:
        return _idle_timer(story, e, freeze)
    took = e.time_ns - found.began_ns if found.began_ns is not None else None
    known = took is not None and found.limit_ns is not None and _late(took, found.limit_ns, t)
    evidence = (
        _begin(story, found)
        + common.freeze_evidence(story, freeze)
        + [story.evidence(e, _stale(freeze, e), primary=True)]
    )
    evidence.sort(key=lambda x: x.time_ns)
    length = freeze.length_ns if freeze else found.silence[1] - found.silence[0] if found.silence else 0
    limit = f", its limit was {seconds(found.limit_ns)}" if known and found.limit_ns else ""
    span = f" {seconds(took)} after it began{limit}" if took is not None else ""
    state = "frozen" if freeze else "silent, perhaps frozen"
    silences = [Silence(*found.silence, f"{seconds(length)}: nothing from this process")] if found.silence else []
    if freeze is not None:
        silences = common.silence(story, None, freeze.start_ns, freeze.end_ns, freeze, "no timer fires")
    return Finding(
        CODE, NAME,
        Severity.ERROR if freeze else Severity.INFO,  # silence alone is a hint: a slow server's deadline can look the same
        Confidence.CERTAIN if known and freeze else Confidence.LIKELY if freeze else Confidence.POSSIBLE,
        f"an operation timed out{span}, right after {seconds(length)} {'frozen' if freeze else 'of silence'}",
        e.time_ns, evidence,
        f"the process was {state} for {seconds(length)} while the operation was under way: its timer ran out meanwhile and fired at once when the process "
        "ran again, before an answer waiting in the socket could be read",
        environment=e.environment, request_ids=_requests(found),
        silences=silences,
        ruled_out=["a slow server: " + (f"the process ran for {seconds(max((took or 0) - length, 0))} of the time only" if took is not None else "the timer fired within "
                   f"{seconds(t.after_thaw_ns)} of the thaw, too soon for one set after it")],
        help="await every call before the handler returns, so that nothing is in flight at the freeze; judge idle connections by wall clock on borrow, not by timers",
        upgrade=_upgrade(story, found, known),
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _idle_timer(story: Story, e: Event, freeze: Freeze) -> Finding:
    """A timer that counts all silence of a socket: no operation need have been under way."""
    later = story.events_between(e.time_ns, e.time_ns + REFUSES_NS, e.environment)
    refused = [x for x in later if x.kind == "error" and x.attrs.get("code") == "NOT_CONNECTED"]
    evidence = [*common.freeze_evidence(story, freeze), story.evidence(e, _stale(freeze, e), primary=True)]
    evidence += [story.evidence(x, "(consequence)") for x in refused[:1]]
    evidence.sort(key=lambda x: x.time_ns)
    library, setting = str(e.attrs.get("library")), str(e.attrs.get("setting"))
    redis = library == "node-redis"
    return Finding(
        CODE, NAME, Severity.ERROR if refused else Severity.WARNING, Confidence.CERTAIN if refused else Confidence.LIKELY,
        f"a socket's inactivity timer ran out in a freeze of {seconds(freeze.length_ns)}: the client closed it at the thaw",
        e.time_ns, evidence,
        f"{library}'s {setting} counts every silence of its socket, an idle one as well: it ran out while the process was frozen and fired when it ran again"
        + (f"; {'with the default reconnectStrategy ' if redis else ''}that closes the client for good, and every later request is refused" if refused else ""),
        environment=e.environment, request_ids=common.failed_requests(story, refused),
        silences=common.silence(story, None, freeze.start_ns, freeze.end_ns, freeze, "no timer fires"),
        ruled_out=["a slow or dead server: the timer fired at the thaw, whatever the server did"],
        help=remedies.timer(library, setting, "established") + ("; or leave socketTimeout out in this function, and give commands a deadline of their own" if redis else ""),
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _requests(found: Expiry) -> list[str]:
    """Whose operation it was: its own request id, the invocation before the freeze."""
    told = found.call.request_id if found.call is not None else None
    return [x for x in (told or found.event.request_id,) if x]


def _stale(freeze: Freeze | None, e: Event) -> str:
    return (
        "under the request id of the invocation before"
        if freeze and e.request_id and e.request_id == freeze.before
        else ""
    )


def _begin(story: Story, found: Expiry) -> list[Evidence]:
    """The line that began the traced call."""
    if found.call is None or found.call.start_ns is None:
        return []
    start = found.call.start_ns
    lines = [x for x in story.events_between(start, start, found.event.environment) if x.kind == "call-start"]
    return [story.evidence(lines[0])] if lines else []


def _upgrade(story: Story, found: Expiry, known: bool) -> str:
    if known and found.freeze:
        return ""
    e = found.event
    if found.freeze is None:
        platform = collect.platform_lines(story, e.environment, found.began_ns or e.time_ns, e.time_ns)
        return f"the platform's lines {platform}; or the configured deadline: if it is clearly shorter, the process did not run"
    return f"the configured time of this operation; for gRPC, each call's deadline is in its trace: {collect.trace(remedies.dialect_of(story, e))}"
