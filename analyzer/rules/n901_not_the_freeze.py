"""not-the-freeze

## What it does
Says of a connection error that nothing else explains that a freeze does not explain it either: since the process began, it
was not frozen or idle for as long as the shortest idle limit in use. What an earlier process of the environment opened is gone with it.

## Why it matters
Freezes are blamed for what they did not do. A gap of 3.6 s is shorter than any limit that could have closed the connection; a
failure in the first invocation, or in every one, has another cause, and time spent on keepalive settings is lost.

## What to do
Look elsewhere: a restart or deployment of the server, a limit on connections, a path that drops, a certificate. Collect what
the finding names, for the time that it names.

## Known limits
It is a negative verdict, and possible only: short limits that someone configured are not known to it. It needs the platform's
START and REPORT lines and log streams that tell environments apart, and keeps silent where any other rule explains the failure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from operator import attrgetter

import numpy as np
from msgspec import Struct

from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.times import MS, SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules import _remedies as remedies
from analyzer.rules._cases import Case
from analyzer.rules._thresholds import Settings, Values, duration
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.tcp.segments import Segment
from analyzer.timeline.environments import EPOCH_ENDS
from analyzer.timeline.story import Story

CODE = "N901"
NAME = "not-the-freeze"
SUMMARY = "a failure with no freeze or idle gap that could explain it"
SEVERITIES = (Severity.INFO,)
FROM_LOGS = (Confidence.POSSIBLE, Confidence.POSSIBLE)

#: Errors that a connection gone stale would give, and that therefore are blamed on the freeze.
BLAMED = frozenset(
    ("ECONNRESET", "EPIPE", "ETIMEDOUT", "CLOSED", "BROKEN", "NOT_CONNECTED", "UNAVAILABLE", "DEADLINE_EXCEEDED")
)
#: A request that finds no connection so soon after an error says no more than that error.
SAME_NS = SECOND
#: The server's end and the error that it made stand this close, besides what clocks are off (measured: within 20 ms).
WITH_NS = 100 * MS
#: So many connections are looked at.
MOST_ENDS = 20
#: Codes of ours that no application prints.
WORDS = {
    "CLOSED": "a connection that its peer ended",
    "BROKEN": "a connection that failed",
    "NOT_CONNECTED": "a request without a connection",
}


class Thresholds(Values):
    """What rest could have closed a connection."""

    shortest_limit_ns: int = duration(
        4 * SECOND, "s", "a shorter rest closes no connection: the shortest idle limit that a client or server has by default",
        "undici 4 s (its Client.md); Node's HTTP server has 5 s, load balancers 60 s",
        least=1,
    )  # fmt: skip


FIRES = (
    Case(
        "a reset 3.6 s after the invocation before",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:00:03.700 START 2
        00:00:03.720 app 2 Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }
        00:00:03.800 REPORT 2
        """,
    ),
    Case(
        "a new process after half an hour: what the one before had opened is gone with it",
        log="""
        00:00:00.000 INIT -
        00:00:00.500 START 1
        00:00:00.600 REPORT 1
        00:30:00.000 INIT -
        00:30:00.500 START 2
        00:30:00.520 app 2 Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }
        00:30:00.600 REPORT 2
        """,
    ),
)
QUIET = (
    Case(
        "restored from a snapshot: a connection from before it may be in use",
        log="""
        00:00:00.000 RESTORE -
        00:00:00.500 START 1
        00:00:00.520 app 1 Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }
        00:00:00.600 REPORT 1
        """,
    ),
    Case(
        "after a minute frozen it may well be the freeze",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:01:03.700 START 2
        00:01:03.720 app 2 Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }
        00:01:03.800 REPORT 2
        """,
    ),
    Case(
        "explained by a refusal",
        log="""
        00:00:00.000 START 1
        00:00:00.020 app 1 Error: connect ECONNREFUSED 10.0.0.9:6379 { errno: -111, code: 'ECONNREFUSED', syscall: 'connect' }
        00:00:00.030 app 1 Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }
        00:00:00.100 REPORT 1
        """,
    ),
    Case(
        "no error at all",
        log="00:00:00.000 START 1\n00:00:00.100 REPORT 1\n00:00:03.700 START 2\n00:00:03.800 REPORT 2",
    ),
    Case(
        "no platform lines: freezes are not known",
        log="00:00:03.720 app 2 Error: read ECONNRESET { errno: -104, code: 'ECONNRESET' }",
    ),
)


class Failure(Struct):
    """Errors of one kind, towards one peer, in one environment."""

    code: str
    peer: str
    since_ns: int | None = None  # when the process began, where the log tells
    events: list[Event] = []
    ended: list[int] = []  # connections that the server ended by force at that time


def select(story: Story, settings: Settings) -> Iterable[Failure]:
    """Connection errors of environments whose freezes are known, none of them after a freeze or rest long enough."""
    processes = _processes(story, settings[Thresholds].shortest_limit_ns)
    found: dict[tuple[str, str, str], Failure] = {}
    may_be = set[tuple[str, str, str]]()
    latest: dict[str, int] = {}
    for e in story.of_kind("error"):
        if e.environment in processes and e.attrs.get("code") in BLAMED and e.level != "INFO":
            code, peer = str(e.attrs["code"]), e.remote or ""
            consequence = code == "NOT_CONNECTED" and e.time_ns - latest.get(e.environment, 0) <= SAME_NS
            latest[e.environment] = e.time_ns
            if not consequence:
                key = (e.environment, code, peer)
                possible = [_running(processes[e.environment], e.time_ns + by) for by in (-e.error_ns, e.error_ns)]
                if any(e.time_ns + e.error_ns >= process.rested_ns for process in possible):
                    may_be.add(key)
                found.setdefault(key, Failure(code, peer, possible[0].began_ns)).events.append(e)
    failures = [x for key, x in found.items() if key not in may_be]
    ends, margin = _resets(story) if failures else [], common.clock_margin(story) + WITH_NS
    for failure in failures:
        at = failure.events[0].time_ns
        near = ends[bisect_left(ends, (at - margin, 0)) : bisect_left(ends, (at + margin, 0))]
        failure.ended = sorted({k for _, k in near})[:MOST_ENDS]
    return failures


class Process(Struct):
    """One process of an environment: when it began, where the log tells, and from when on a rest that could close a connection lies behind it."""

    began_ns: int | None
    rested_ns: int


def _processes(story: Story, shortest_ns: int) -> dict[str, list[Process]]:
    """For each environment with platform lines, its processes in their order."""
    never = story.events[-1].time_ns + 1 if story.events else 1
    guessed = {environment.id for environment in story.environments if environment.inferred}
    found = {i.environment: [Process(None, never)] for i in story.invocations if i.environment not in guessed}
    least = shortest_ns - 2 * max(map(attrgetter("error_ns"), story.events), default=0)
    anew: dict[str | None, list[Event]] = defaultdict(list)
    for e in story.of_kind(*EPOCH_ENDS):
        anew[e.environment].append(e)
    for env, processes in found.items():
        mine, times = story.events_of(env), story.times_of(env)
        telling = set((np.flatnonzero(np.diff(np.asarray(times)) >= least) + 1).tolist())
        at = -1
        for e in anew[env]:
            at = max(at + 1, bisect_left(times, e.time_ns))
            while mine[at] is not e:
                at += 1
            telling.add(at)
        pairs = [(mine[max(at - 1, 0)], mine[at]) for at in sorted({0, *telling}) if mine]
        for before, e in pairs:
            off = before.error_ns + e.error_ns if before.source != e.source else 0
            if e.kind in EPOCH_ENDS:  # a restored one may use what was opened before its snapshot
                processes.append(Process(e.time_ns, e.time_ns if e.kind == "restore-start" else never))
            elif e.time_ns - before.time_ns + off >= shortest_ns:
                processes[-1].rested_ns = min(processes[-1].rested_ns, before.time_ns)
    for z in story.freezes:
        if z.environment in found and z.length_ns + z.error_ns >= shortest_ns:
            process = _running(found[z.environment], z.start_ns)
            process.rested_ns = min(process.rested_ns, z.start_ns)
    if found:
        for k in story.connections.by_point(signs.IDLE, lambda rows: rows[:, f.IDLE_NS] >= shortest_ns):
            for process in found.get(story.connections.environment.get(k, ""), ()):
                process.rested_ns = 0
    return found


def _running(processes: list[Process], time_ns: int) -> Process:
    """The process that ran at a time."""
    return processes[max(bisect_right(processes, time_ns, key=lambda p: p.began_ns or 0) - 1, 0)]


def examine(story: Story, failure: Failure, settings: Settings) -> Finding | None:
    """The error, the longest gap before it, and what would be shorter."""
    first = failure.events[0]
    since = failure.since_ns or 0
    gaps = [z.length_ns for z in story.freezes_of(first.environment) if since <= z.start_ns <= first.time_ns]
    longest = max(gaps, default=0)
    count = len(failure.events)
    times = f", {count} times" if count > 1 else ""
    limit = f"{seconds(settings[Thresholds].shortest_limit_ns)}, the shortest idle limit that a client or server has by default"
    gap = (
        f"the longest freeze before it was {seconds(longest)}, below {limit}"
        if longest
        else f"the process had begun {seconds(first.time_ns - since)} before: none of its connections is older, and nothing rested for {limit}"
        if since
        else f"nothing before it rested for {limit}"
    )
    whole = since or any(i.environment == first.environment and i.cold_start for i in story.invocations)
    evidence = [story.evidence(first, primary=True)] + ([story.evidence(failure.events[-1])] if count > 1 else [])
    if since and not longest:
        began = [e for e in story.events_between(since, since, first.environment) if e.kind in EPOCH_ENDS]
        evidence += [story.evidence(e, "a new process") for e in began[:1]]
    ends = _ends(story, failure)
    # Of several that may as well be another environment's, which one it was is not known.
    mine = [k for k in ends if len(ends) == 1 or len(story.owners(k)) < 2]
    ids = [story.connections.id(k) for k in mine]
    for end in list(ends.values())[:2]:
        evidence.append(story.packet(end, f"the server {'reset' if end.rst else 'closed'}"))
    evidence.sort(key=lambda e: e.time_ns)
    if ends:
        what = "the connection" if len(ends) == 1 else f"{len(ends)} connections"
        gap += f"; the server itself ended {what} at that time"
        if len(mine) < len(ends):
            gap += ", not all of them this environment's: nothing tells which"
    return Finding(
        CODE, NAME, Severity.INFO, Confidence.POSSIBLE,
        f"{WORDS.get(failure.code, failure.code)}{f' from {failure.peer}' if failure.peer else ''}{times}: not the freeze",
        first.time_ns, evidence,
        gap,
        connection=ids[0] if len(ids) == 1 else None, connections=ids,
        server=failure.peer or None, environment=first.environment, request_ids=common.failed_requests(story, failure.events),
        ruled_out=["a freeze or an idle limit: " + ("the process was new" if whole and not longest else "no gap was long enough")],
        help="look for a restart or deployment of the server, its connection limit, a path that drops, an error in the request itself",
        upgrade=_upgrade(story, failure, bool(ends)),
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _resets(story: Story) -> list[tuple[int, int]]:
    """(when, connection) of the ends that the server began and its resets enforced, by time: a server that died or gave up."""
    cs = story.connections
    found: list[tuple[int, int]] = []
    frames = {e.frame for e in story.environments}
    for p, point in enumerate(cs.points):
        if point.clock.frame not in frames:
            continue
        at = np.flatnonzero((point.signs & signs.SERVER_RESET > 0) & (point.rows[:, f.END_BY] % 2 == 0))
        times = point.clock.aligned_all(point.rows[at, f.END_TS])
        found += zip(times.tolist(), cs.owners(p)[at].tolist(), strict=True)
    return sorted(found)


def _ends(story: Story, failure: Failure) -> dict[int, Segment]:
    """The server's FIN or reset at the time of the first error, on connections that may be its environment's."""
    found, environment = {}, failure.events[0].environment
    for k in failure.ended:
        if story.may_own(environment, k):
            end = next((s for s in story.connections.segments(k) if not s.from_client and (s.fin or s.rst)), None)
            if end is not None:
                found[k] = end
    return found


def _upgrade(story: Story, failure: Failure, ended: bool) -> str:
    """What to collect: all environments' errors around that time, the server's side, the transport's own trace."""
    first, last = failure.events[0], failure.events[-1]
    start, end = first.time_ns - collect.AROUND_NS, last.time_ns + collect.AROUND_NS
    pattern = "?Error ?closed" if failure.code in WORDS else f'"{failure.code}"'
    others = collect.logs(story, first.environment, start, end, pattern, everybody=True)
    if failure.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        return f"whether other environments fail at the same time: {others}; what the transport says: {collect.trace(remedies.dialect_of(story, first))}"
    if ended:
        return (
            f"why it did, the server's own log of that time; whether other environments fail at the same time: {others}"
        )
    return (
        f"whether other environments fail at the same time: {others}; who ended the connection, at the server: "
        + collect.capture(failure.peer, collect.ENDINGS)
    )
