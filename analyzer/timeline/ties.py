"""Ties: which environment is behind which source address, which transport is which connection."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from analyzer.model.addresses import endpoint, host
from analyzer.model.events import Event
from analyzer.model.grpc import GO, JAVA
from analyzer.model.records import Environment, Invocation, Transport
from analyzer.model.times import MS, SECOND
from analyzer.tcp import fields as f
from analyzer.timeline.log_anchors import START_SLACK_NS, client_bursts
from analyzer.timeline.points import Connections
from analyzer.timeline.story import Story

#: A transport and a connection are one when its `Established TCP connection` line and the handshake lie this close,
#: beyond the clocks' error (an event loop may be busy in between).
CONNECT_SLACK_NS = 250 * MS
#: Share of an address's bursts that must fall into an environment's invocations.
LEAST_SHARE = 0.8


def tie_transports(story: Story) -> None:
    """Assign connections to transports: same server address, nearest handshake, each connection at most once.

    Times count where log and capture share a clock, to within its error; else a tie needs that there is one of each.
    """
    connections = story.connections
    frames = {e.id: e.frame for e in story.environments}
    errors = {number: _frame_error(story, number) for number in {*frames.values()}}
    _tie_by_own_address(story.transports, connections, frames)
    transports = [t for t in story.transports if t.connection is None]
    if not transports:
        return
    by_server: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    wanted = {t.remote for t in transports}
    for k in range(len(connections)):
        p = connections.seen_at(k)[0]
        row = connections.points[p].rows[connections.members[k, p]]
        server = endpoint(int(row[f.S_HI]), int(row[f.S_LO]), int(row[f.S_PORT]))
        if server in wanted:
            established = int(row[f.ESTABLISHED_TS] or row[f.SYN_ACK_TS] or row[f.FIRST_TS])
            clock = connections.points[p].clock
            by_server[server].append((k, clock.aligned(established), clock.frame))
    count = Counter(t.remote for t in transports)
    pairs = []
    for t in transports:
        same, frame = by_server.get(t.remote or "", []), frames.get(t.environment or "", 0)
        near = [(k, established) for k, established, other in same if other == frame]
        if not near:
            if len(same) == 1 and count[t.remote] == 1:
                t.connection, t.tie = connections.id(same[0][0]), "the only connection to that address"
                connections.transports.setdefault(same[0][0], []).append(t.id)
            continue
        for k, established in near:
            distance = abs((t.opened_ns or 0) - established)
            coarse = SECOND if t.dialect in (GO, JAVA) and (t.opened_ns or 0) % SECOND == 0 else 0
            if t.opened_ns is not None and distance <= CONNECT_SLACK_NS + errors[frame] + coarse:
                pairs.append((distance, t.id, k, t))
    taken = set(connections.transports)
    for distance, _, k, t in sorted(pairs, key=lambda x: x[:3]):
        if t.connection is None and k not in taken:
            taken.add(k)
            t.connection, t.tie = connections.id(k), f"same address, connected within {distance / MS:.0f} ms"
            connections.transports.setdefault(k, []).append(t.id)


def _frame_error(story: Story, frame: int) -> int:
    """The largest error of a log's clock and of a capture's, together, in one frame."""
    worst = {"pcap": 0, "log": 0}
    for source in story.sources:
        kind = "pcap" if source.kind == "pcap" else "log"
        for clock in source.clocks:
            if clock.frame == frame:
                worst[kind] = max(worst[kind], *(piece.error_ns for piece in clock.pieces), 0)
    return sum(worst.values())


def _tie_by_own_address(transports: list[Transport], connections: Connections, frames: dict[str, int]) -> None:
    """Transports whose dialect prints the client's own port (grpc-java, sockets of grpc-go): the connection with both ends.

    Ports come round again, so among several the one that was established nearest in time; unaligned, only a single one.
    """
    told: dict[tuple[str, str], list[Transport]] = defaultdict(list)
    for t in transports:
        if t.local and t.remote:
            told[t.local, t.remote].append(t)
    if not told:
        return
    found: dict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
    for k in range(len(connections)):
        ends = (connections.client(k), connections.server(k))
        if ends in told:
            point = connections.points[connections.seen_at(k)[0]]
            first = int(point.rows[connections.members[k, connections.seen_at(k)[0]]][f.FIRST_TS])
            found[ends].append((k, point.aligned(first), point.clock.frame))
    for ends, mine in told.items():
        same = found[ends]
        for t in mine:
            frame = frames.get(t.environment or "", 0)
            near = [(abs(first - (t.opened_ns or 0)), k) for k, first, other in same if other == frame]
            if not near and len(same) == len(mine) == 1:
                near = [(0, same[0][0])]
            if near:
                k = min(near)[1]
                t.connection, t.tie = connections.id(k), "both addresses"
                connections.transports.setdefault(k, []).append(t.id)


def tie_environments(story: Story) -> None:
    """Environment ↔ client address: by transports first, else by when the address speaks and the environment runs."""
    if not story.environments:
        return
    connections = story.connections
    windows = _windows(story.environments, story.invocations, story.events)
    frames = {e.id: e.frame for e in story.environments}
    errors = {number: _frame_error(story, number) for number in {*frames.values()}}
    addresses: dict[tuple[str, int], list[int]] = defaultdict(list)
    for k in range(len(connections)):
        p = connections.seen_at(k)[0]
        row = connections.points[p].rows[connections.members[k, p]]
        addresses[host(int(row[f.C_HI]), int(row[f.C_LO])), connections.frame(k)].append(k)
    for (address, frame), ks in sorted(addresses.items()):
        named = {t.rsplit("/", 3)[0] for k in ks for t in connections.transports.get(k, [])}
        aligned = [env for env in windows if frames[env] == frame]
        bursts = _bursts(connections, ks[0]) if aligned and not named else []
        slack = START_SLACK_NS + errors.get(frame, 0)
        scores = {env: _share(bursts, windows[env], slack) for env in aligned} if bursts else {}
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
        for env in story.environments:
            if env.id == chosen:
                env.addresses.add(address)


def _windows(
    environments: list[Environment], invocations: list[Invocation], events: list[Event]
) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {e.id: [] for e in environments}
    for i in invocations:
        end = i.end_ns if i.end_ns is not None else i.start_ns + 900 * SECOND
        found[i.environment].append((i.start_ns - i.error_ns, end + i.error_ns))
    first: dict[str, int] = {}
    for e in events:
        if e.environment in found and e.kind == "init-start":
            first.setdefault(e.environment, e.time_ns)
    for env, start in first.items():  # initialisation runs until the first START
        if found[env]:
            found[env].append((start, found[env][0][0]))
    return {env: sorted(w) for env, w in found.items() if w}


def _bursts(connections: Connections, k: int) -> list[int]:
    """When the client of connection `k` begins to speak, aligned."""
    p = connections.seen_at(k)[0]
    point = connections.points[p]
    row = point.rows[connections.members[k, p]]
    firsts, _ = client_bursts(point, (int(row[f.C_HI]), int(row[f.C_LO])))
    return [int(t) for t in point.clock.aligned_all(firsts)]


def _share(bursts: list[int], windows: list[tuple[int, int]], slack_ns: int) -> float:
    """Share of bursts that begin inside a window, give or take the stamping of START and the clocks' error."""
    starts = np.array([w[0] for w in windows]) - slack_ns
    ends = np.maximum.accumulate(np.array([w[1] for w in windows])) + slack_ns
    times = np.array(bursts)
    at = np.searchsorted(starts, times, side="right") - 1
    inside = (at >= 0) & (times <= ends[np.maximum(at, 0)])
    return float(inside.mean())
