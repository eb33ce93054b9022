"""library-timeout

## What it does
Flags a time-out that no kernel raised: a client library's own timer, or one that the function's code set, gave up. It names
the library and the setting that made it, with its value where the line prints it and its default otherwise. A database that
ends a statement for taking too long (`statement_timeout`) is told apart: that is an answer, and the connection lives.

## Why it matters
ETIMEDOUT reads like a verdict on the network, yet here it tells only that a timer of 5 or 10 s was over. The kernel's own is of
another kind: a connect fails after 127 s (131–134 s from Linux 6.5 on), data without an answer after 924.6 s at the earliest,
and both carry a numeric errno. Timers of libraries also fire at a thaw, whatever the peer did (see T601).

## What to do
Look at what the timer was waiting for, not at the timer: connect (is the SYN answered? C401), an answer on an established
connection (R302, a slow server), a free connection of the pool. Change the setting only when the time is too short for the work.

## Known limits
That the timer was the library's is certain, what it waited for is not in the line. Where several libraries print the same
words, all are named.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.times import MS, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules import _remedies as remedies
from analyzer.rules import _told as told
from analyzer.rules import n901_not_the_freeze as n901
from analyzer.rules._cases import Case
from analyzer.rules._thresholds import Settings
from analyzer.timeline.story import Story

CODE = "R304"
NAME = "library-timeout"
SUMMARY = "a time-out that no kernel raised: the library and the setting that made it"
SEVERITIES = (Severity.ERROR,)
FROM_LOGS = (Confidence.CERTAIN, Confidence.CERTAIN)

#: Codes of expired timers; gRPC's deadline names itself and is not taken for the kernel's.
TIMERS = frozenset(("ETIMEDOUT", "TIMEOUT"))
#: Who sets timers above the kernel.
ABOVE_KERNEL = frozenset(("library", "function"))
#: A database's own timer, which ended a statement.
BY_SERVER = "QUERY_TIMEOUT"
#: What the timer waited for, and what the kernel's own limit would have been (ip-sysctl: tcp_syn_retries, tcp_retries2).
WAITED = {
    "connect": ("the connection to be made", "the kernel's own connect time-out comes after 127 s or more, with errno and address"),
    "tls": ("the TLS handshake to end", "the kernel does not know of handshakes"),
    "established": ("an answer on an established connection", "the kernel's own time-out comes after 924.6 s at the earliest, as `read ETIMEDOUT` with errno"),
    "pool": ("a free connection of the pool", "no system call waits for a pool"),
}  # fmt: skip
_ANY = ("an answer", "the kernel's own would carry a numeric errno and a system call")

FIRES = (
    Case(
        "ioredis gives up a connect",
        log="""
        00:00:00.000 START 1
        00:00:10.020 app 1 [ioredis] Unhandled error event: Error: connect ETIMEDOUT { errorno: 'ETIMEDOUT', code: 'ETIMEDOUT', syscall: 'connect' }
        00:00:10.100 REPORT 1
        """,
    ),
    Case(
        "the database ended a statement",
        log="""
        00:00:00.000 START 1
        00:00:30.020 app 1 pq: canceling statement due to statement timeout
        00:00:30.100 REPORT 1
        """,
    ),
    Case(
        "undici gives up an answer: caught, logged and thrown on, it is one time-out all the same",
        log="""
        00:00:00.000 START 1
        00:00:04.020 app 1 request failed HeadersTimeoutError: Headers Timeout Error { code: 'UND_ERR_HEADERS_TIMEOUT' }
        00:00:04.026 app 1 Invoke Error { errorType: 'HeadersTimeoutError', code: 'UND_ERR_HEADERS_TIMEOUT' }
        00:00:04.100 REPORT 1
        """,
    ),
    Case(
        "redis-py waits in vain after a freeze",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:06:16.100 START 2
        00:06:21.110 app 2 redis.exceptions.TimeoutError: Timeout reading from 10.0.0.9:6379
        00:06:21.300 REPORT 2
        """,
    ),
    Case(
        "a database pool without a free connection, twice",
        log="""
        00:00:00.000 START 1
        00:00:02.020 app 1 Error: timeout exceeded when trying to connect
        00:00:04.020 app 1 Error: timeout exceeded when trying to connect
        00:00:04.100 REPORT 1
        """,
    ),
)
QUIET = (
    Case(
        "the kernel's own",
        log="""
        00:00:00.000 START 1
        00:02:14.020 app 1 Error: connect ETIMEDOUT 10.0.0.9:6379 { errno: -110, code: 'ETIMEDOUT', syscall: 'connect', address: '10.0.0.9', port: 6379 }
        00:02:14.100 REPORT 1
        """,
    ),
    Case(
        "a peer that closed is no timer",
        log="00:00:00.000 START 1\n00:00:01.000 app 1 Error: Socket closed unexpectedly\n00:00:01.100 REPORT 1",
    ),
    Case(
        "somebody asked the database to cancel: a context that ended, or an operator",
        log="00:00:00.000 START 1\n00:00:01.000 app 1 pq: canceling statement due to user request\n00:00:01.100 REPORT 1",
    ),
    Case(
        "a deadline names itself",
        log="""
        00:00:00.000 START 1
        00:00:01.020 app 1 Error: 4 DEADLINE_EXCEEDED: Deadline exceeded after 1.001s,LB pick: 0.001s,remote_addr=10.0.0.9:443
        00:00:01.100 REPORT 1
        """,
    ),
)


class Timer(Struct):
    """One setting of one library whose timer ran out in one environment, towards one peer where it is named."""

    library: str
    setting: str
    stage: str
    peer: str
    events: list[Event] = []


def select(story: Story, settings: Settings) -> Iterable[Timer]:
    """Expired timers of libraries, one for each setting, peer and environment."""
    found: dict[tuple[str, ...], Timer] = {}
    for e in story.of_kind("error"):
        a = e.attrs
        expired = a.get("code") in TIMERS and a.get("raised_by") in ABOVE_KERNEL
        if not (expired or a.get("code") == BY_SERVER):
            continue
        if a.get("stage") == "resolve" or e.level == "INFO":
            continue  # C404's matter; and what a program says in passing
        library, setting, stage, peer = (str(a.get(x) or "") for x in ("library", "setting", "stage", "peer"))
        key = (e.environment or "", library, setting, stage, peer)
        found.setdefault(key, Timer(library, setting, stage, peer)).events.append(e)
    for timer in found.values():
        timer.events = common.once(timer.events)
    return list(found.values())


def examine(story: Story, timer: Timer, settings: Settings) -> Finding | None:
    """The proof: the line, and what in it shows that no kernel spoke."""
    if timer.events[0].attrs.get("code") == BY_SERVER:
        return _by_server(story, timer)
    first, last = timer.events[0], timer.events[-1]
    waited, kernel = WAITED.get(timer.stage, _ANY)
    waited = "anything to read" if (timer.library, timer.setting) in remedies.IDLE_TIMERS else waited
    who = timer.library or "a library"
    evidence = [story.evidence(first, str(first.attrs.get("told_by", "")), primary=True)]
    evidence += [story.evidence(last)] if last is not first else []
    times = f", {len(timer.events)} times" if len(timer.events) > 1 else ""
    to = f" ({timer.peer})" if timer.peer else ""
    knob = f"{who}'s {timer.setting}" if timer.setting else f"a timer of {who}"
    value = _value(first)
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.CERTAIN,
        f"time-out made by {knob}, not by the kernel{times}",
        first.time_ns, evidence,
        f"{knob}{value} was over while it waited for {waited}{to}; no system call failed" + _after_rest(story, timer, settings),
        server=timer.peer or None, environment=first.environment, request_ids=common.failed_requests(story, timer.events),
        lost_ns=sum(int(e.attrs.get("timeout_ms") or 0) for e in timer.events) * MS,
        ruled_out=[f"a time-out of the kernel: {kernel}"],
        help=remedies.timer(timer.library, timer.setting, timer.stage),
        upgrade=_upgrade(timer),
    )  # fmt: skip


def _after_rest(story: Story, timer: Timer, settings: Settings) -> str:
    """What the time-outs have in common with a connection that died in a freeze; empty where one of them has not."""
    if timer.stage != "established":
        return ""
    invocations = [story.invocation_of(e) for e in timer.events]
    rests = [told.freeze_before(story, i) for i in invocations]
    least = settings[n901.Thresholds].shortest_limit_ns
    if not all(z is not None and z.length_ns >= least for z in rests):
        return ""
    waits = [e.time_ns - i.start_ns for e, i in zip(timer.events, invocations, strict=True) if i is not None]
    if min(waits) <= told.AT_ONCE_NS:
        return ""  # it ran out in the freeze (T601)
    shortest = min(z.length_ns for z in rests if z is not None)
    each = "it was" if len(rests) == 1 else "each was"
    return f"; {each} in the first invocation after {seconds(shortest)} {'' if len(rests) == 1 else 'or more '}frozen: the connection may have died meanwhile (R302), or the server was slow"


def _by_server(story: Story, timer: Timer) -> Finding:
    """A statement that the database ended: its answer, not the connection's failure."""
    first, last = timer.events[0], timer.events[-1]
    times = f", {len(timer.events)} times" if len(timer.events) > 1 else ""
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.CERTAIN,
        f"a statement was ended by {timer.library}'s {timer.setting}{times}: no connection failed",
        first.time_ns, [story.evidence(first, primary=True), *([story.evidence(last)] if last is not first else [])],
        f"the server itself says that it ended the statement when {timer.setting} was over; the connection is usable, and no timer of the function's had a part in it",
        server=timer.peer or None, environment=first.environment, request_ids=common.failed_requests(story, timer.events),
        ruled_out=["a connection that died: the server answered on it", "a time-out of a client library: the server's own words"],
        help=remedies.timer(timer.library, timer.setting, timer.stage),
        upgrade="what the statement waited for, in the server's own log: "
        + ("log_lock_waits and log_min_duration_statement" if timer.library == "PostgreSQL" else "slow_query_log"),
    )  # fmt: skip


def _value(e: Event) -> str:
    """The timer's time: as printed, else its default."""
    printed, default = e.attrs.get("timeout_ms"), e.attrs.get("default_ms")
    if printed:
        return f" ({seconds(int(printed) * MS)})"
    return f" (default {seconds(int(default) * MS)}; what was configured is not in the line)" if default else ""


def _upgrade(timer: Timer) -> str:
    """What would tell what the timer waited for."""
    if timer.stage == "pool":
        return f"the server's connections at that moment: {collect.sockets(timer.peer)}, or SHOW PROCESSLIST, pg_stat_activity"
    what = {"connect": "the SYN", "tls": "the ClientHello", "established": "the request"}.get(
        timer.stage, "the SYN or the request"
    )
    return f"a capture at the server shows whether {what} arrived and was answered: {collect.capture(timer.peer)}"
