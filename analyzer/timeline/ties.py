"""Ties: which environment is behind which source address, which transport is which connection."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from analyzer.model.addresses import endpoint, host
from analyzer.model.events import Event
from analyzer.model.grpc import GO, JAVA
from analyzer.model.records import Environment, Invocation, Transport
from analyzer.model.times import MS, SECOND
from analyzer.tcp import fields as f
from analyzer.timeline.clocks import START_SLACK_NS, client_bursts
from analyzer.timeline.points import Connections

#: A transport and a connection are one when its `Established TCP connection` line and the handshake lie this close,
#: beyond the clocks' error (an event loop may be busy in between).
CONNECT_SLACK_NS = 250 * MS
#: Share of an address's bursts that must fall into an environment's invocations.
LEAST_SHARE = 0.8


def tie_transports(transports: list[Transport], connections: Connections, error_ns: int | None) -> None:
    """Assign connections to transports: same server address, nearest handshake, each connection at most once.

    `error_ns` is the error of the log's clock against the captures; None (unaligned) ties only where there is one of each.
    """
    _tie_by_own_address(transports, connections, error_ns)
    transports = [t for t in transports if t.connection is None]
    if not transports:
        return
    by_server: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for k in range(len(connections)):
        p = connections.seen_at(k)[0]
        row = connections.points[p].rows[connections.members[k, p]]
        server = endpoint(int(row[f.S_HI]), int(row[f.S_LO]), int(row[f.S_PORT]))
        established = int(row[f.ESTABLISHED_TS] or row[f.SYN_ACK_TS] or row[f.FIRST_TS]) + (
            connections.points[p].clock.offset_ns or 0
        )
        by_server[server].append((k, established))
    pairs = []
    for t in transports:
        same = by_server.get(t.remote or "", [])
        if error_ns is None:
            of_remote = [x for x in transports if x.remote == t.remote]
            if len(same) == 1 and len(of_remote) == 1:
                t.connection, t.tie = connections.id(same[0][0]), "the only connection to that address"
                connections.transports.setdefault(same[0][0], []).append(t.id)
            continue
        for k, established in same:
            distance = abs((t.opened_ns or 0) - established)
            coarse = SECOND if t.dialect in (GO, JAVA) and (t.opened_ns or 0) % SECOND == 0 else 0
            if t.opened_ns is not None and distance <= CONNECT_SLACK_NS + error_ns + coarse:
                pairs.append((distance, t.id, k, t))
    taken = set(connections.transports)
    for distance, _, k, t in sorted(pairs, key=lambda x: x[:3]):
        if t.connection is None and k not in taken:
            taken.add(k)
            t.connection, t.tie = connections.id(k), f"same address, connected within {distance / MS:.0f} ms"
            connections.transports.setdefault(k, []).append(t.id)


def _tie_by_own_address(transports: list[Transport], connections: Connections, error_ns: int | None) -> None:
    """Transports whose dialect prints the client's own port (grpc-java, sockets of grpc-go): the connection with both ends.

    Ports come round again, so among several the one that was established nearest in time; unaligned, only a single one.
    """
    told: dict[tuple[str, str], list[Transport]] = defaultdict(list)
    for t in transports:
        if t.local and t.remote:
            told[t.local, t.remote].append(t)
    if not told:
        return
    found: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for k in range(len(connections)):
        ends = (connections.client(k), connections.server(k))
        if ends in told:
            p = connections.seen_at(k)[0]
            first = int(connections.points[p].rows[connections.members[k, p]][f.FIRST_TS])
            found[ends].append((k, first + (connections.points[p].clock.offset_ns or 0)))
    for ends, mine in told.items():
        same = found[ends]
        if not same or (error_ns is None and len(same) + len(mine) > 2):
            continue
        for t in mine:
            opened = t.opened_ns or 0
            k = min((abs(first - opened), k) for k, first in same)[1]
            t.connection, t.tie = connections.id(k), "both addresses"
            connections.transports.setdefault(k, []).append(t.id)


def tie_environments(
    environments: list[Environment],
    invocations: list[Invocation],
    events: list[Event],
    connections: Connections,
    aligned: bool,
) -> None:
    """Environment ↔ client address: by transports first, else by when the address speaks and the environment runs."""
    if not environments:
        return
    windows = _windows(environments, invocations, events)
    addresses: dict[str, list[int]] = defaultdict(list)
    for k in range(len(connections)):
        p = connections.seen_at(k)[0]
        row = connections.points[p].rows[connections.members[k, p]]
        addresses[host(int(row[f.C_HI]), int(row[f.C_LO]))].append(k)
    bursts = _bursts(connections, addresses) if aligned else {}
    for address, ks in sorted(addresses.items()):
        named = {t.rsplit("/", 3)[0] for k in ks for t in connections.transports.get(k, [])}
        scores = {env: _share(bursts[address], windows[env]) for env in windows} if address in bursts else {}
        best = max(scores.values(), default=0.0)
        fitting = [env for env, s in scores.items() if s == best and s >= LEAST_SHARE]
        if len(named) == 1:
            chosen, why = next(iter(named)), "a gRPC transport of this environment"
        elif not named and len(fitting) == 1:
            chosen, why = fitting[0], f"{best:.0%} of its bursts fall into this environment's invocations"
        else:
            continue
        for k in ks:
            connections.environment[k], connections.environment_tie[k] = chosen, why
        for env in environments:
            if env.id == chosen:
                env.addresses.add(address)


def _windows(
    environments: list[Environment], invocations: list[Invocation], events: list[Event]
) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {e.id: [] for e in environments}
    for i in invocations:
        found[i.environment].append((i.start_ns, i.end_ns if i.end_ns is not None else i.start_ns + 900 * SECOND))
    first: dict[str, int] = {}
    for e in events:
        if e.environment in found and e.kind == "init-start":
            first.setdefault(e.environment, e.time_ns)
    for env, start in first.items():  # initialisation runs until the first START
        if found[env]:
            found[env].append((start, found[env][0][0]))
    return {env: sorted(w) for env, w in found.items() if w}


def _bursts(connections: Connections, addresses: dict[str, list[int]]) -> dict[str, list[int]]:
    found = {}
    for address, ks in addresses.items():
        p = connections.seen_at(ks[0])[0]
        point = connections.points[p]
        row = point.rows[connections.members[ks[0], p]]
        firsts, _ = client_bursts(point, (int(row[f.C_HI]), int(row[f.C_LO])))
        if len(firsts):
            found[address] = (firsts + (point.clock.offset_ns or 0)).tolist()
    return found


def _share(bursts: list[int], windows: list[tuple[int, int]]) -> float:
    """Share of bursts that begin inside a window, give or take the stamping of START."""
    starts = np.array([w[0] for w in windows]) - START_SLACK_NS
    ends = np.maximum.accumulate(np.array([w[1] for w in windows])) + START_SLACK_NS
    times = np.array(bursts)
    at = np.searchsorted(starts, times, side="right") - 1
    inside = (at >= 0) & (times <= ends[np.maximum(at, 0)])
    return float(inside.mean())
