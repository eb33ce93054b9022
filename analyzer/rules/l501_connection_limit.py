"""connection-limit

## What it does
Flags a server that accepts connections and throws them out at once because it has too many: by its own words on the wire
(Redis: `-ERR max number of clients reached`; MySQL and MariaDB: errors 1040, 1203, 1226; PostgreSQL: SQLSTATE 53300; PgBouncer:
`max_client_conn`) or in the application's log; and functions that have no file descriptor left for one more (EMFILE).

## Why it matters
Every warm environment holds its connections while frozen, so a function needs environments × pool size connections, not as
many as it has requests at a time. At the limit new environments fail, and frozen ones keep what they do not use.

## What to do
Bound the function's reserved concurrency to limit ÷ connections per environment, use a proxy that multiplexes (RDS Proxy,
PgBouncer) or an HTTP interface, evict idle connections on the server (and expect F203 then). With EMFILE make clients once,
outside of the handler: an environment may open 1,024 files and sockets (AWS, Lambda quotas).

## Known limits
From the log alone the error text is taken at its word. Servers that throw out without a word are not told from a crash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.times import SECOND
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules._cases import Case
from analyzer.rules._remedies import at_limit
from analyzer.rules._thresholds import Settings, Values, duration
from analyzer.tcp import signs
from analyzer.tcp.segments import Segment
from analyzer.timeline.story import Story

CODE = "L501"
NAME = "connection-limit"
SUMMARY = "the server threw connections out because it has too many"
SEVERITIES = (Severity.ERROR,)
FROM_LOGS = (Confidence.LIKELY, Confidence.CERTAIN)

#: What servers say, as applications log it: Redis, MySQL (1040; 1203 and 1226 name the variable), PostgreSQL (53300), PgBouncer.
TEXT = re.compile(
    r"max number of clients|[Tt]oo many connections|ER_CON_COUNT_ERROR|ER_TOO_MANY_USER_CONNECTIONS|'max_user_connections'"
    r"|connection slots are reserved|too many clients already|no more connections allowed"
)


class Thresholds(Values):
    """What ties a close to the words before it."""

    closes_within_ns: int = duration(
        SECOND, "s", "a server that means it closes this soon after saying so", "measured: within a round trip"
    )


_OPEN = "0.0 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n"

FIRES = (
    Case(
        "accepted, told, thrown out",
        packets="0.0 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.003 < TEXT -ERR_max_number_of_clients_reached\n0.0031 < FIN\n0.01 > FIN\n0.011 < ACK",
    ),
    Case(
        "MySQL: the error instead of a greeting",
        packets=_OPEN
        + "0.003 < RAW \\x17\\0\\0\\0\\xff\\x10\\x04Too_many_connections\n0.0031 < FIN\n0.01 > FIN\n0.011 < ACK",
    ),
    Case(
        "MySQL: a user's own limit, after the login",
        packets=_OPEN
        + "0.003 < 78\n0.004 > 90\n0.005 < RAW \\x57\\0\\0\\2\\xff\\xca\\x04#42000User_'app'_has_exceeded_the_"
        "'max\\x5fuser\\x5fconnections'_resource_(current_value:_5)\n0.0051 < FIN\n0.01 > FIN\n0.011 < ACK",
    ),
    Case(
        "PostgreSQL: FATAL 53300, in any language",
        packets=_OPEN
        + "0.003 > 40\n0.004 < RAW E\\0\\0\\0\\x2eSFATAL\\0VFATAL\\0C53300\\0Mtrop_de_connexions\\0\\0\n0.0041 < FIN\n0.01 > FIN\n0.011 < ACK",
    ),
    Case(
        "the log alone",
        log="""
        00:00:00.000 START 1
        00:00:00.030 app 1 Error: ER_CON_COUNT_ERROR: Too many connections
        00:00:00.100 REPORT 1
        """,
    ),
    Case(
        "the function itself has no descriptor left",
        log="""
        00:00:00.000 START 1
        00:00:00.030 app 1 Error: connect EMFILE 10.0.0.9:443 - Local (undefined:undefined) { errno: -24, code: 'EMFILE', syscall: 'connect' }
        00:00:00.040 app 1 Error: connect EMFILE 10.0.0.9:443 - Local (undefined:undefined) { errno: -24, code: 'EMFILE', syscall: 'connect' }
        00:00:00.100 REPORT 1
        """,
    ),
)
QUIET = (
    Case(
        "another error, the connection goes on",
        packets="0.0 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.003 > 20\n0.004 < TEXT -ERR_unknown_command\n0.005 > ACK",
    ),
    Case(
        "a blocked host (1129) is no limit",
        packets=_OPEN
        + "0.003 < RAW \\x16\\0\\0\\0\\xff\\x69\\x04Host_'a'_is_blocked\n0.0031 < FIN\n0.01 > FIN\n0.011 < ACK",
    ),
    Case(
        "queries an hour (1226): the connection goes on",
        packets=_OPEN
        + "0.003 < 78\n0.004 > 90\n0.005 < RAW \\x1d\\0\\0\\2\\xff\\xca\\x04#42000over_'max\\x5fquestions'\n0.006 > ACK",
    ),
    Case(
        "PostgreSQL shuts down (57P01)",
        packets=_OPEN
        + "0.003 > 40\n0.004 < RAW E\\0\\0\\0\\x24SFATAL\\0VFATAL\\0C57P01\\0Mshutdown\\0\\0\n0.0041 < FIN\n0.01 > FIN\n0.011 < ACK",
    ),
)


class Limit(Struct):
    """One server at its limit: connections thrown out, and log lines that say so."""

    server: str
    thrown: list[tuple[int, Segment]] = []
    events: list[Event] = []


class Exhausted(Struct):
    """One environment that could not open a socket: it has as many files and sockets as it may."""

    environment: str | None
    events: list[Event] = []


def select(story: Story, settings: Settings) -> Iterable[Limit | Exhausted]:
    """Servers at their limit, by their own words; environments at theirs."""
    exhausted: dict[str | None, Exhausted] = {}
    for e in story.of_kind("error"):
        if e.attrs.get("code") == "EMFILE":
            exhausted.setdefault(e.environment, Exhausted(e.environment)).events.append(e)
    return [*limits(story), *exhausted.values()]


def limits(story: Story) -> list[Limit]:
    """Servers whose words name a limit, from captures and logs."""
    found: dict[str, Limit] = {}
    for k in story.connections.loaded(story.connections.showing(signs.DATABASE_ERROR)):
        for s in story.connections.segments(k):
            if not s.from_client and s.error is not None and s.error.names_limit:
                server = story.connections.server(k)
                found.setdefault(server, Limit(server)).thrown.append((k, s))
                break
    said = [e for e in story.events if e.layer == "app" and TEXT.search(e.text[:500])]
    if said:
        only = (
            next(iter(found)) if len(found) == 1 else ""
        )  # with several servers a line that names none belongs to none
        found.setdefault(only, Limit("")).events.extend(said)
    return list(found.values())


def examine(story: Story, limit: Limit | Exhausted, settings: Settings) -> Finding | None:
    """The proof: what the server said, how many it threw out, how many it held; or the kernel's word in the log."""
    if isinstance(limit, Exhausted):
        return _exhausted(story, limit)
    within_ns = settings[Thresholds].closes_within_ns
    thrown = [(k, s) for k, s in limit.thrown if _closed_after(story, k, s, within_ns)]
    if not thrown and not limit.events:
        return None
    evidence = [story.packet(s, primary=number == 0) for number, (_, s) in enumerate(thrown[:3])]
    evidence += [story.evidence(e, primary=not evidence) for e in limit.events[: 1 if evidence else 2]]
    if not any(e.primary for e in evidence):
        return None
    evidence.sort(key=lambda e: e.time_ns)
    when = next(e.time_ns for e in evidence if e.primary)
    count = f"{len(thrown)} connection{'' if len(thrown) == 1 else 's'}"
    held = _open_at(story, limit.server, when, {k for k, _ in thrown}) if thrown else 0
    ids = [story.connections.id(k) for k, _ in thrown]
    errors = [*_failures(story, thrown), *limit.events]
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.CERTAIN if thrown else Confidence.LIKELY,
        f"connection limit: {limit.server or 'a server'} threw out {count}" if thrown else "connection limit named by the server",
        when, evidence,
        (f"the server accepted and closed {count} with its own words; it held {f'{held:,} other' if held else 'no other'}{'s' if held > 1 else ''} of these clients at that moment"
         if thrown else "the server's error text says so"),
        connections=ids, server=limit.server or None, request_ids=common.failed_requests(story, errors),
        ruled_out=["a refused connection (it was accepted first)", "an idle close (nothing had been idle)"],
        help=at_limit(_protocol(limit), limit.server),
        upgrade="" if thrown else f"on the server, how many connections it holds, and whose: {collect.sockets(limit.server)}",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


#: Whose words an error's own code is of (`errors_server`).
_PROTOCOLS = {"1040": "MySQL", "1226": "MySQL", "ER_CON_COUNT_ERROR": "MySQL", "53300": "PostgreSQL"}


def _protocol(limit: Limit) -> str:
    """The protocol in which the server said so, empty where nothing tells."""
    spoken = [s.error.protocol for _, s in limit.thrown if s.error is not None]
    spoken += [_PROTOCOLS.get(str(e.attrs.get("library_code")), "") for e in limit.events]
    return next((protocol for protocol in spoken if protocol), "")


def _exhausted(story: Story, limit: Exhausted) -> Finding:
    first, last = limit.events[0], limit.events[-1]
    times = f", {len(limit.events):,} times" if len(limit.events) > 1 else ""
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.CERTAIN,
        f"no file descriptor left for a connection{times}: the function is at its own limit",
        first.time_ns, [story.evidence(first, primary=True), *([story.evidence(last)] if last is not first else [])],
        "the kernel refused one more socket (EMFILE): the environment holds as many files and sockets as it may, 1,024 on Lambda; "
        "clients that are made anew in each invocation and never closed add up while the environment lives",
        environment=limit.environment, request_ids=common.failed_requests(story, limit.events),
        ruled_out=["the server or the path (no packet left the function)"],
        help="make clients once, outside of the handler, and close those that are replaced; bound every pool",
        upgrade="what holds the descriptors, printed by the function: `ls -l /proc/self/fd`",
    )  # fmt: skip


def _failures(story: Story, thrown: list[tuple[int, Segment]]) -> list[Event]:
    """Errors that an environment logged within a second of being thrown out."""
    found = []
    for k, said in thrown:
        found += common.lines_beside(story, k, said.time_ns, said.time_ns + SECOND, _is_error)
    return found


def _is_error(e: Event) -> bool:
    return e.layer == "app" and e.level == "ERROR"


def _closed_after(story: Story, k: int, said: Segment, within_ns: int) -> bool:
    return any(
        not s.from_client and (s.fin or s.rst) and 0 <= s.time_ns - said.time_ns <= within_ns
        for s in story.connections.segments(k)
    )


def _open_at(story: Story, server: str, when: int, without: set[int]) -> int:
    """Connections to this server that had begun and not ended at a time."""
    count = 0
    for k in range(len(story.connections)):
        if k in without or story.connections.server(k) != server:
            continue
        r = story.connections.record(k)
        aligned = story.connections.points[story.connections.fullest(k)].aligned
        count += r.established_ns > 0 and aligned(r.first_ns) <= when and (not r.ended_ns or aligned(r.ended_ns) > when)
    return count
