"""A narrower view of a story: addresses, a port, a stretch of time, an environment, a request.

The view is cut after everything is correlated and examined, so that a freeze that began before it, or a close that another
request saw, still explains what lies inside.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from analyzer.model.addresses import V4_MAPPED_PREFIX
from analyzer.model.events import Event
from analyzer.model.findings import Finding
from analyzer.model.problems import InputError
from analyzer.model.records import Invocation
from analyzer.tcp import fields as f
from analyzer.timeline.points import Connections
from analyzer.timeline.story import Story

if TYPE_CHECKING:
    from numpy.typing import NDArray

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class View:
    """What to keep. Times are aligned ns; `environment` is a part of its id, `request_id` the beginning of an id.

    `clients`, `servers` and `ports` (the server's) choose connections; none of them chooses all.
    """

    since_ns: int | None = None
    until_ns: int | None = None
    environment: str | None = None
    request_id: str | None = None
    clients: tuple[Network, ...] = ()
    servers: tuple[Network, ...] = ()
    ports: tuple[int, ...] = ()

    @property
    def by_address(self) -> bool:
        """Whether connections are chosen by their ends."""
        return bool(self.clients or self.servers or self.ports)

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
    """The story and the findings inside a view. Connections keep their ids: what is chosen of them is `listed`."""
    invocations = [i for i in story.invocations if _invocation(i, view)]
    kept = {(i.environment, i.request_id) for i in invocations}
    events = [e for e in story.events if _event(e, view)]
    environments = {e.environment for e in events} | {i.environment for i in invocations}
    transports = [t for t in story.transports if t.environment is None or t.environment in environments]
    names = {t.id for t in transports}
    listed = _connections(story, view, invocations)
    chosen = {story.connections.id(k) for k in listed.tolist()}
    inside = [item for item in findings if _finding(item, view, chosen)]
    return (
        replace(
            story,
            outside=len(findings) - len(inside),
            connections=replace(story.connections, listed=listed),
            events=events,
            invocations=invocations,
            environments=[e for e in story.environments if e.id in environments],
            freezes=[
                z for z in story.freezes
                if view.names(z.environment) and view.covers(z.start_ns, z.end_ns)
                and (view.request_id is None or {(z.environment, z.before), (z.environment, z.after)} & kept)
            ],
            transports=transports,
            pings=[p for p in story.pings if p.transport in names and view.covers(p.sent_ns, p.sent_ns)],
            calls=[
                c for c in story.calls
                if view.names(c.environment) and view.asks([c.request_id])
                and (c.start_ns is None or view.covers(c.start_ns, c.end_ns))
            ],
        ),
        inside,
    )  # fmt: skip


def _connections(story: Story, view: View, invocations: list[Invocation]) -> NDArray[np.int64]:
    """Connections in the view: by what a capture saw of them, and by the invocations that they lived in."""
    cs = story.connections
    chosen = np.zeros(len(cs), np.bool_)
    for p, point in enumerate(cs.points):
        rows, index = point.rows, cs.members[:, p]
        hit = _inside(rows, (f.C_HI, f.C_LO), view.clients) & _inside(rows, (f.S_HI, f.S_LO), view.servers)
        if view.ports:
            hit &= np.isin(rows[:, f.S_PORT], view.ports)
        if view.since_ns is not None:
            hit &= rows[:, f.LAST_TS] + point.shift_ns >= view.since_ns
        if view.until_ns is not None:
            hit &= rows[:, f.FIRST_TS] + point.shift_ns <= view.until_ns
        here = np.flatnonzero(index >= 0)
        chosen[here] |= hit[index[here]]
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
        r, shift = cs.record(k), cs.points[cs.fullest(k)].shift_ns
        found[k] = any(
            (i.end_ns is None or r.first_ns + shift <= i.end_ns) and r.last_ns + shift >= i.start_ns
            for i in spans.get(environment, [])
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
        and (bool(connections.intersection(item.connections)) if item.connections else not view.by_address)
    )
