"""abandoned-connection

## What it does
Flags connections that the server still holds although their environment did not come back: it was not invoked again for
a quarter of an hour and more, nothing passed on the connection, nobody closed it, and the function ran on in other environments
(of the same log, or with connections to the same server: another function's log says nothing).

## Why it matters
A frozen environment keeps its sockets, and one that is taken down does not close them: nobody tells the server. It counts each as
a client until its own idle limit or TCP keepalive removes it, so that connections add up to environments × pool size, not to the
requests at a time, and may reach the server's limit (L501).

## What to do
Let the server remove idle connections (Redis `timeout`, MySQL `wait_timeout`, PostgreSQL `idle_session_timeout`, or TCP keepalive of a few minutes),
use a pool of one connection per environment, put a multiplexing proxy in between, or close the connection in each invocation.

## Known limits
An environment may still come back after the end of the log: the finding says how long it did not. Without the log of the
function a connection that rests cannot be told from one that was abandoned, nor from a healthy pool.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from operator import attrgetter

from msgspec import Struct

from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Finding, Severity, Silence
from analyzer.model.times import SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules import l501_connection_limit as l501
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, advice
from analyzer.rules._thresholds import Settings, Values, duration
from analyzer.rules.f201_fin_wait_2_stall import _OPEN
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.timeline.story import Story

CODE = "L502"
NAME = "abandoned-connection"
SUMMARY = "the environment did not come back, and the server still holds its connection"
SEVERITIES = (Severity.INFO, Severity.WARNING)


class Thresholds(Values):
    """When an environment is taken not to have come back."""

    silent_ns: int = duration(
        900 * SECOND, "s", "an environment that is silent for less may come back, or still run", "the longest time that Lambda lets an invocation run"
    )  # fmt: skip


_LOG = """
    00:00:00.000 START 1
    00:00:00.100 REPORT 1
    00:00:05.000 START 2
    00:00:05.100 REPORT 2
"""
_PACKETS = _OPEN + "\n5.010 > 40\n5.012 < 90\n5.050 > ACK"
#: A stray packet of another client, which shows that the capture runs.
_LATER = "\n1800 < RST port=50000"
FIRES = (
    Case(
        "the function runs on elsewhere, this environment never again",
        log=_LOG + "    00:25:00.000 other START 3\n    00:25:00.100 other REPORT 3\n",
        packets=_PACKETS + _LATER,
    ),
)
QUIET = (
    Case("the log ends with the environment: nothing is known", log=_LOG, packets=_PACKETS + _LATER),
    Case(
        "it rested for five minutes",
        log=_LOG + "    00:05:00.000 other START 3\n    00:05:00.100 other REPORT 3\n",
        packets=_PACKETS + _LATER,
    ),
    Case(
        "the capture ends too soon",
        log=_LOG + "    00:25:00.000 other START 3\n    00:25:00.100 other REPORT 3\n",
        packets=_PACKETS,
    ),
    Case(
        "the server closed it",
        log=_LOG + "    00:25:00.000 other START 3\n    00:25:00.100 other REPORT 3\n",
        packets=_PACKETS + "\n65 < FIN lost\n65.2 < FIN again lost" + _LATER,
    ),
)


class Held(Struct, frozen=True):
    """Connections to one server whose environments did not come back, with the time from which each was silent.

    `owners` has the environment of each, or those that it may be of: then none of these came back.
    """

    server: str
    since_ns: dict[int, int]
    owners: dict[int, set[str]]
    kin: Kin

    @property
    def connection(self) -> int:
        """The one that was silent first."""
        return min(self.since_ns, key=lambda k: (self.since_ns[k], k))


def select(story: Story, settings: Settings) -> Iterable[Held]:
    """Open connections of environments that were silent to the end, while the function ran on, by server."""
    cs, least = story.connections, settings[Thresholds].silent_ns
    if not story.invocations:
        return []
    last, running = _last_signs(story)
    kin = Kin(story, last)
    found: dict[str, dict[int, int]] = defaultdict(dict)
    owned: dict[int, set[str]] = {}
    for k in cs.showing(signs.OPEN) if len(last) > 1 else ():
        owners = story.owners(k)
        if not owners or not all(env in last and env not in running and story.shares_clock(k, env) for env in owners):
            continue
        since = max(*(last[env] for env in owners), *(aligned(int(row[f.LAST_TS])) for row, aligned in cs.rows(k)))
        others = max(kin.last_of_others(env, cs.server(k)) for env in owners)
        if others - since < least or any(row[f.END_BY] for row, _ in cs.rows(k)):
            continue
        if any(common.runs_until(story, p, since + least) for p in cs.seen_at(k)):
            found[cs.server(k)][k], owned[k] = since, owners
    return [Held(server, since, owned, kin) for server, since in sorted(found.items())]


class Kin:
    """Environments that may be of one function: those that a log holds together, and those that speak with one server."""

    def __init__(self, story: Story, last: dict[str, int]) -> None:
        self.groups: dict[str, dict[str, int]] = defaultdict(dict)
        self.sources: dict[str, set[str]] = defaultdict(set)
        for name, source in set(map(attrgetter("environment", "source"), story.events)):
            if (env := name or "") in last:
                self.sources[env].add(source)
                self.groups[source][env] = last[env]
        for k, env in story.connections.environment.items():
            if env in last:
                self.groups[story.connections.server(k)][env] = last[env]
        self.latest = {
            name: sorted(((t, env) for env, t in mine.items()), reverse=True)[:2] for name, mine in self.groups.items()
        }

    def last_of_others(self, env: str, server: str) -> int:
        """The last sign of any environment that may be of the same function as `env`; 0 for none."""
        near = [self.latest.get(name, []) for name in (*self.sources[env], server)]
        return max((time for pairs in near for time, other in pairs if other != env), default=0)

    def may_be(self, env: str, other: str, server: str) -> bool:
        """Whether two environments may be of one function."""
        return other in self.groups[server] or bool(self.sources[env] & self.sources[other])


def _last_signs(story: Story) -> tuple[dict[str, int], set[str]]:
    """The last line of each environment that platform lines know, and those whose last invocation has no end."""
    ran = {i.environment: i.end_ns or i.start_ns for i in story.invocations}
    last = {env: max((time, *story.times_of(env)[-1:])) for env, time in ran.items()}
    ends = {i.environment: i.end_ns for i in sorted(story.invocations, key=lambda i: i.start_ns)}
    return last, {env for env, end in ends.items() if end is None}


def examine(story: Story, held: Held, settings: Settings) -> Finding | None:
    """The proof: the last packet, the environment's last line, the function in another environment long after."""
    cs, k = story.connections, held.connection
    since, owners = held.since_ns[k], held.owners[k]
    if not common.heard(story, k, "client"):
        return None
    mine = [e for e in story.events_between(0, since) if e.kind == "report" and e.environment in owners]
    later = _later(story, held, owners, since + settings[Thresholds].silent_ns)
    if not mine or later is None:
        return None
    silent = later.time_ns - since
    evidence = [
        story.packet(cs.segments(k)[-1], "its last packet", primary=True),
        story.evidence(
            mine[-1], "the environment's last" if len(owners) == 1 else "the last of those that it may be of"
        ),
        story.evidence(later, "another environment"),
    ]
    evidence.sort(key=lambda e: e.time_ns)
    thrown = any(limit.server == held.server for limit in l501.limits(story))
    whose = [held.owners[c] for c in held.since_ns]
    environments = set[str]().union(*whose)
    addresses = {cs.client(c).rpartition(":")[0] for c in held.since_ns}
    ids = [cs.id(c) for c in sorted(held.since_ns)]
    many = f"{len(ids)} connections" if len(ids) > 1 else "a connection"
    return Finding(
        CODE, NAME, Severity.WARNING if thrown else Severity.INFO, Confidence.LIKELY,
        f"{held.server} holds {many} of {_environments(whose, addresses)} that did not come back",
        evidence[0].time_ns, evidence,
        f"nothing passed for {seconds(silent)}, nobody closed, and the function was invoked in other environments meanwhile"
        + ("; the server threw others out for having too many connections" if thrown else ""),
        connection=ids[0] if len(ids) == 1 else None, connections=ids, environment=min(environments) if len(environments) == 1 else None,
        silences=[Silence(since, later.time_ns, f"{seconds(silent)}: no line of this environment, no packet of this connection")],
        ruled_out=["a close that nobody saw (the capture ran on)", "a freeze between two invocations (none followed)"],
        help=advice(Trouble.LIMIT, held.server, []),
        upgrade=f"on the server, later: {collect.sockets(held.server)} shows whether it still holds them and for how long they rested",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _later(story: Story, held: Held, owners: set[str], time_ns: int) -> Event | None:
    """The first invocation of another environment than these from a time on."""
    end = story.events[-1].time_ns
    starts = (
        e for e in story.events_between(time_ns, end) if e.kind == "start" and e.environment not in (None, *owners)
    )
    return next(
        (e for e in starts if any(held.kin.may_be(env, e.environment or "", held.server) for env in owners)), None
    )


def _environments(owners: list[set[str]], addresses: set[str]) -> str:
    """In words, whose these connections are: each is one environment's, and which may not be known; an environment has one address."""
    known = set[str]().union(*owners)
    if len(known) == 1 or len(owners) == 1:
        return "an environment"
    if all(len(mine) == 1 for mine in owners):
        return f"{len(known)} environments"
    return f"{len(owners)} environments" if len(addresses) == len(owners) else "environments"
