"""A narrower view of a story: addresses, a port, a stretch of time, an environment, a request.

The view is cut after everything is correlated and examined, so that a freeze that began before it, or a close that another
request saw, still explains what lies inside.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from analyzer.model.addresses import V4_MAPPED_PREFIX
from analyzer.model.events import Event
from analyzer.model.findings import Finding
from analyzer.model.problems import InputError
from analyzer.model.records import Invocation, Ping, Tie
from analyzer.model.times import SECOND
from analyzer.tcp import fields as f
from analyzer.timeline.points import Connections
from analyzer.timeline.story import Story

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Lines of an environment this long before a connection's first and after its last packet belong to its life: the
#: library's own lines about it come after it, and name resolution comes before.
AROUND_NS = SECOND

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class View(Struct, frozen=True):
    """What to keep. Times are aligned ns; `environment` is a part of its id, `request_id` the beginning of an id.

    `clients`, `servers` and `ports` (the server's) choose connections, `connections` by number; none of them chooses all.
    Connections chosen by number bring along what their environments did in their lives, and nothing else.
    """

    since_ns: int | None = None
    until_ns: int | None = None
    environment: str | None = None
    request_id: str | None = None
    clients: tuple[Network, ...] = ()
    servers: tuple[Network, ...] = ()
    ports: tuple[int, ...] = ()
    connections: frozenset[int] | None = None

    @property
    def by_connection(self) -> bool:
        """Whether connections are chosen, by name or by their ends."""
        return self.connections is not None or bool(self.clients or self.servers or self.ports)

    def __bool__(self) -> bool:
        return self != View()

    def covers(self, first_ns: int, last_ns: int | None = None) -> bool:
        """Whether [first, last] reaches into the stretch of time; an open end does."""
        if self.until_ns is not None and first_ns > self.until_ns:
            return False
        return self.since_ns is None or last_ns is None or last_ns >= self.since_ns

    def names(self, environment: str | None) -> bool:
        """Whether an environment is wanted."""
        return self.environment is None or (environment is not None and self.environment in environment)

    def asks(self, request_ids: Iterable[str | None]) -> bool:
        """Whether one of these requests is wanted."""
        wanted = self.request_id
        return wanted is None or any(r is not None and r.startswith(wanted) for r in request_ids)


def network(text: str, option: str) -> Network:
    """An address or a prefix as the user gave it; raises `InputError`."""
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise InputError(f"{option} {text!r}: {error} (write 10.0.3.17, 10.0.0.0/16 or an IPv6 prefix)") from error


def narrowed(story: Story, findings: list[Finding], view: View) -> tuple[Story, list[Finding]]:
    """The story and the findings inside a view. Connections keep their ids: what is chosen of them is `listed`.

    A ping belongs to the view that its sending line is in. What it and a transport tell of their lines by number is
    counted anew, so that it holds in the narrower story too; times stay, wherever they lie.
    """
    lives = _Lives(story.connections, view.connections)
    invocations = [
        i for i in story.invocations if _invocation(i, view) and lives.meet(i.environment, i.start_ns, i.end_ns)
    ]
    kept = {(i.environment, i.request_id) for i in invocations}
    numbers = [n for n, e in enumerate(story.events) if _event(e, view) and lives.hold(e)]
    now = {before: after for after, before in enumerate(numbers)}
    events = [story.events[n] for n in numbers]
    environments = {e.environment for e in events} | {i.environment for i in invocations}
    transports = [
        replace(t, cause=now.get(t.cause) if t.cause is not None else None)
        for t in story.transports
        if (t.environment is None or t.environment in environments) and lives.has(t.connection)
    ]
    names = {t.id for t in transports}
    listed = _connections(story, view, invocations)
    chosen = {story.connections.id(k) for k in listed.tolist()}
    inside = [item for item in findings if _finding(item, view, chosen)]
    return (
        replace(
            story,
            outside=story.outside + len(findings) - len(inside),
            window=_both(story.window, (view.since_ns, view.until_ns)),
            connections=replace(story.connections, listed=listed),
            events=events,
            invocations=invocations,
            environments=[e for e in story.environments if e.id in environments],
            freezes=[
                z for z in story.freezes
                if view.names(z.environment) and view.covers(z.start_ns, z.end_ns)
                and lives.meet(z.environment, z.start_ns, z.end_ns)
                and (view.request_id is None or {(z.environment, z.before), (z.environment, z.after)} & kept)
            ],
            transports=transports,
            pings=[_renumbered(p, now) for p in story.pings if p.transport in names and p.sent in now],
            calls=[
                c for c in story.calls
                if view.names(c.environment) and view.asks([c.request_id])
                and (c.start_ns is None or view.covers(c.start_ns, c.end_ns))
                and (view.connections is None or c.transport in names)
            ],
            ties=[tie for tie in story.ties if _about(tie, {e or "" for e in environments}, names, chosen)],
            _transports={},
        ),
        inside,
    )  # fmt: skip


def _about(tie: Tie, environments: set[str], transports: set[str], connections: set[str]) -> bool:
    """Whether a tie is about something in a view."""
    return tie.left in environments or tie.left in transports or tie.right in connections


def _both(one: tuple[int | None, int | None], other: tuple[int | None, int | None]) -> tuple[int | None, int | None]:
    """What lies in two stretches of time."""
    since = [t for t in (one[0], other[0]) if t is not None]
    until = [t for t in (one[1], other[1]) if t is not None]
    return max(since, default=None), min(until, default=None)


def _renumbered(p: Ping, now: dict[int, int]) -> Ping:
    """A ping whose lines are `now` elsewhere; None for one that is outside."""
    acked, timed_out, late_ack, cancelled = (
        None if line is None else now.get(line) for line in (p.acked, p.timed_out, p.late_ack, p.cancelled)
    )
    return replace(p, sent=now[p.sent], acked=acked, timed_out=timed_out, late_ack=late_ack, cancelled=cancelled)


class _Lives:
    """When the connections that were chosen by number lived, by environment; with none chosen, everything is inside."""

    def __init__(self, cs: Connections, ks: frozenset[int] | None) -> None:
        self._names = None if ks is None else {cs.id(k) for k in ks}
        self._spans: dict[str, list[tuple[int, int]]] = {}
        for k in ks or ():
            if (environment := cs.environment.get(k)) is not None:
                first, last = cs.life(k)
                self._spans.setdefault(environment, []).append((first - AROUND_NS, last + AROUND_NS))

    def has(self, connection: str | None) -> bool:
        """Whether a connection is one of them."""
        return self._names is None or connection in self._names

    def meet(self, environment: str | None, start_ns: int, end_ns: int | None) -> bool:
        """Whether one of them lived in this environment in [start, end]; an open end is the end of all."""
        return self._names is None or any(
            first <= (last if end_ns is None else end_ns) and start_ns <= last
            for first, last in self._spans.get(environment or "", ())
        )

    def hold(self, e: Event) -> bool:
        """Whether a log line is about one of them, or of its environment in its life."""
        return self.meet(e.environment, e.time_ns, e.time_ns) or self.has(e.connection)


def _connections(story: Story, view: View, invocations: list[Invocation]) -> NDArray[np.int64]:
    """Connections in the view: by what a capture saw of them, and by the invocations that they lived in."""
    cs = story.connections
    chosen = np.zeros(len(cs), np.bool_)
    wanted = np.zeros(len(cs), np.bool_)
    asked = cs.in_view() if view.connections is None else np.array(sorted(view.connections), np.int64)
    wanted[np.intersect1d(cs.in_view(), asked)] = True
    for p, point in enumerate(cs.points):
        rows, index = point.rows, cs.members[:, p]
        hit = _inside(rows, (f.C_HI, f.C_LO), view.clients) & _inside(rows, (f.S_HI, f.S_LO), view.servers)
        if view.ports:
            hit &= np.isin(rows[:, f.S_PORT], view.ports)
        if view.since_ns is not None:
            hit &= point.clock.aligned_all(rows[:, f.LAST_TS]) >= view.since_ns
        if view.until_ns is not None:
            hit &= point.clock.aligned_all(rows[:, f.FIRST_TS]) <= view.until_ns
        here = np.flatnonzero(index >= 0)
        chosen[here] |= hit[index[here]]
    chosen &= wanted
    if view.environment is not None or view.request_id is not None:
        chosen &= _lived_in(cs, invocations)
    return np.flatnonzero(chosen)


def _lived_in(cs: Connections, invocations: list[Invocation]) -> NDArray[np.bool_]:
    """Connections of these invocations' environments that were there while one of them ran."""
    spans: dict[str, list[Invocation]] = {}
    for i in invocations:
        spans.setdefault(i.environment, []).append(i)
    found = np.zeros(len(cs), np.bool_)
    for k, environment in cs.environment.items():
        first, last = cs.life(k)
        found[k] = any(
            (i.end_ns is None or first <= i.end_ns) and last >= i.start_ns for i in spans.get(environment, [])
        )
    return found


def _inside(rows: NDArray[np.int64], columns: tuple[int, int], networks: tuple[Network, ...]) -> NDArray[np.bool_]:
    if not networks:
        return np.ones(len(rows), np.bool_)
    hit = np.zeros(len(rows), np.bool_)
    for network in networks:
        first, bits = int(network.network_address), network.prefixlen
        if network.version == 4:
            first, bits = V4_MAPPED_PREFIX << 32 | first, bits + 96
        mask = (1 << 128) - (1 << (128 - bits))
        wanted = np.ones(len(rows), np.bool_)
        for column, shift in zip(columns, (64, 0), strict=True):
            half = np.uint64(mask >> shift & (1 << 64) - 1)
            wanted &= rows[:, column].view(np.uint64) & half == np.uint64(first >> shift & (1 << 64) - 1)
        hit |= wanted
    return hit


def _event(e: Event, view: View) -> bool:
    return view.covers(e.time_ns, e.time_ns) and view.names(e.environment) and view.asks([e.request_id])


def _invocation(i: Invocation, view: View) -> bool:
    return view.covers(i.start_ns, i.end_ns) and view.names(i.environment) and view.asks([i.request_id])


def _finding(item: Finding, view: View, connections: set[str]) -> bool:
    times = [e.time_ns for e in item.evidence] or [item.time_ns]
    return (
        view.covers(min(times), max(times))
        and (item.environment is None or view.names(item.environment))
        and (not item.request_ids or view.asks(item.request_ids))
        and (bool(connections.intersection(item.connections)) if item.connections else not view.by_connection)
    )
