"""Correlation, in order: one event a line, environments, clocks, invocations and freezes, connections, ties."""

from __future__ import annotations

from collections import defaultdict
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from analyzer.model.events import Event
from analyzer.model.memory import uncollected
from analyzer.model.problems import Problem
from analyzer.model.records import Invocation, Source
from analyzer.model.times import seconds
from analyzer.timeline import environments as env
from analyzer.timeline import grpc
from analyzer.timeline.calls import calls_of
from analyzer.timeline.dedupe import deduplicate
from analyzer.timeline.error_ties import tie_errors
from analyzer.timeline.frames import Frames, LogFrame
from analyzer.timeline.functions import exports_of
from analyzer.timeline.log_clocks import SERVICE, LogClock, by_requests, log_clocks, request_windows
from analyzer.timeline.matching import apart_by_frame, match_points
from analyzer.timeline.placing import place
from analyzer.timeline.points import Connections, Point, in_time_order
from analyzer.timeline.rejoining import rejoined
from analyzer.timeline.samples import read_samples
from analyzer.timeline.story import Story
from analyzer.timeline.ties import tie_environments
from analyzer.timeline.transport_ties import settle, tie_transports

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OPEN = (
    "{count} invocation{s} may be of any of several environments: each stands by itself, with no freeze before it; "
    "an export with log streams tells (Logs Insights: `fields @timestamp, @logStream, @message`)"
)
_IN_ORDER = attrgetter("time_ns", "source", "order")
_STRANGE_GUESTS = (
    "the stamps that the guest{s} of {lost} environment{s} printed do not run with the log service's "
    "(a clock that stands in freezes?): the service's are taken"
)
_GUESTS_OFF = (
    "lines of {count} environment{s} stand outside the requests that they name: by START and END the guest's clock "
    "is {apart} off, and its lines are read so"
)


def build(points: list[Point], logs: list[tuple[Source, list[Event]]]) -> Story:
    """The story of these inputs. The order in which they are given changes nothing but the list of sources."""
    with uncollected():
        return _build(points, logs)


def _build(points: list[Point], logs: list[tuple[Source, list[Event]]]) -> Story:
    events, clocks, unsure = _read_logs(logs)
    if logs or len(points) > 1:
        read_samples(points, events)
    members = match_points(points) if points else np.empty((0, 0), np.int64)
    events.sort(key=_IN_ORDER)
    frames = Frames(points, members, _log_frames(clocks, events), exports_of((s for s, _ in logs), events))
    frames.align()
    members = apart_by_frame(members, [point.clock.frame for point in points])
    events.sort(key=_IN_ORDER)
    invocations = frames.invocations(events)
    story = Story(
        sources=[s for s, _ in logs] + [p.source for p in points], connections=_connections(points, members, frames)
    )
    invocations = _rejoin(story, invocations, events, unsure)
    env.mark_errors(invocations, events)
    story.events, story.invocations = events, invocations
    story.environments = env.environments_of(events, invocations)
    concurrent = env.concurrent_environments(invocations, events)
    for environment in story.environments:
        environment.concurrent = environment.id in concurrent
    _set_frames(story)
    story.freezes = env.freezes_of(invocations, events, concurrent)
    processes = grpc.processes_of(events)
    story.transports, story.pings = grpc.transports_of(events, processes)
    story.calls = calls_of(events, processes, story.transports)
    grpc.running_time(story.pings, story.transports, story.freezes)
    unsettled = tie_transports(story)
    tie_environments(story, unsettled.maybe(), unsettled.crowd())
    settle(story, unsettled)
    connection = {t.id: t.connection for t in story.transports}
    for e in story.events:
        if e.transport:
            e.connection = connection[e.transport]
    tie_errors(story)
    _report_icmp(story.connections)
    return story


def _rejoin(
    story: Story, invocations: list[Invocation], events: list[Event], unsure: dict[str, set[str]]
) -> list[Invocation]:
    """The invocations, with those together again that connections join; reports how many may still be any environment's."""
    guessed = {i.environment for i in invocations if i.environment.startswith(env.INFERRED)} if unsure else set()
    names = rejoined(story, invocations, guessed)
    for e in events if names else ():
        e.environment = names.get(e.environment or "", e.environment)
    for source in story.sources:
        if count := len(unsure.get(source.id, set()) - names.keys()):
            source.problems.append(Problem("", _OPEN.format(count=f"{count:,}", s="s" if count > 1 else "")))
    return env.invocations_of(events) if names else invocations


def _read_logs(
    logs: list[tuple[Source, list[Event]]],
) -> tuple[list[Event], list[LogClock], dict[str, set[str]]]:
    """Every line once, with its environment and its time by the clock of its log; by source, the environments of invocations that
    may be any's."""
    events, twin_of, again = deduplicate([events for _, events in logs])
    for source, _ in logs:
        if count := again.get(source.id):
            source.problems.append(Problem("", f"{count:,} lines delivered more than once are read once"))
    unsure = env.infer_environments(events)
    clocks = log_clocks(logs, twin_of)
    for clock in clocks.values():
        if lost := sum(1 for guest in clock.guests.values() if guest is None):
            clock.source.problems.append(Problem("", _STRANGE_GUESTS.format(s="s" if lost > 1 else "", lost=lost)))
        if count := len(clock.behind):
            off = [abs(piece.shift_ns) for guest in clock.behind.values() for piece in guest.pieces]
            apart = f"{'up to ' if len(off) > 1 else ''}{seconds(max(off))}"
            what = _GUESTS_OFF.format(count=f"{count:,}", s="s" if count > 1 else "", apart=apart)
            clock.source.problems.append(Problem("", what))
    _place_by_requests(clocks, events)
    lines: dict[str, list[Event]] = defaultdict(list)
    for e in events:
        lines[e.source].append(e)
    unstamped: set[int] = set()
    for source_id, mine in lines.items():
        unstamped |= clocks[source_id].read(mine)
    return place(events, unstamped), list(clocks.values()), unsure


def _place_by_requests(clocks: dict[str, LogClock], events: list[Event]) -> None:
    """Logs without a clock in common with others join the log service's where their lines name its requests."""
    alone = [clock for clock in clocks.values() if clock.frame == clock.source.id]
    windows = request_windows(events) if alone else {}
    for clock in alone:
        inner = by_requests([e for e in events if e.source == clock.source.id], windows)
        if inner is not None:
            clock.frame, clock.inner = SERVICE, inner


def _log_frames(clocks: list[LogClock], events: list[Event]) -> list[LogFrame]:
    """The logs by frame, each with its events, in time order as these are, and its invocations."""
    found = {name: LogFrame(name, [c for c in clocks if c.frame == name]) for name in sorted({c.frame for c in clocks})}
    frame_of = {c.source.id: c.frame for c in clocks}
    for e in events:
        found[frame_of[e.source]].events.append(e)
    for frame in found.values():
        frame.invocations = env.invocations_of(frame.events)
    return list(found.values())


def _connections(points: list[Point], members: NDArray[np.int64], frames: Frames) -> Connections:
    """Connections in order of time, their points in order of the path."""
    ranked: list[int] = []
    for p in sorted(range(len(points)), key=lambda p: points[p].source.path):
        at = next((k for k, other in enumerate(ranked) if frames.nearer(p, other)), len(ranked))
        ranked.insert(at, p)  # captures that share nothing keep the order of names
    return Connections(points, in_time_order(points, members), ranked)


def _set_frames(story: Story) -> None:
    """Say of each environment which clocks it shares, and whether any log and capture share one at all."""
    frame_of = {s.id: s.clocks[0].frame for s in story.sources if s.clocks}
    known: dict[str | None, int] = {}
    for e in story.events:
        known.setdefault(e.environment, frame_of.get(e.source, 0))
    for environment in story.environments:
        environment.frame = known.get(environment.id, 0)
    captures = {p.clock.frame for p in story.connections.points}
    story.aligned = any(frame in captures for frame in known.values())


def _report_icmp(connections: Connections) -> None:
    for p, point in enumerate(connections.points):
        if strangers := connections.icmp_strangers(p):
            what = f"{strangers:,} ICMP error{'s' if strangers > 1 else ''} about connections that this capture does not hold"
            point.source.problems.append(Problem("", what))
