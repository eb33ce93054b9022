"""Correlation, in order: one event a line, environments, clocks, invocations and freezes, connections, ties."""

from __future__ import annotations

import numpy as np

from analyzer.model.events import Event
from analyzer.model.problems import Problem
from analyzer.model.records import Clock, Invocation, Source
from analyzer.timeline import clocks as ck
from analyzer.timeline import environments as env
from analyzer.timeline import grpc
from analyzer.timeline.calls import calls_of
from analyzer.timeline.dedupe import deduplicate
from analyzer.timeline.points import Connections, Point, in_time_order, match_points
from analyzer.timeline.story import Story
from analyzer.timeline.ties import tie_environments, tie_transports

#: One environment's worth of platform lines makes the log the reference clock; else the longest capture is.
REFERENCE_KINDS = frozenset(("start", "report"))


def build(points: list[Point], logs: list[tuple[Source, list[Event]]]) -> Story:
    """The story of these inputs. The order in which they are given changes nothing but the list of sources."""
    events = deduplicate([events for _, events in logs])
    env.infer_environments(events)
    env.stamp_platform_lines(events)
    _log_clocks(logs, events)
    events = [e for e in events if e.source_ns is not None]
    events.sort(key=lambda e: (e.time_ns, e.source, e.order))
    invocations = env.invocations_of(events)
    shift = _point_clocks(points, events, invocations)
    aligned = _set_reference(logs, points, events, shift)
    if shift is not None:
        invocations = env.invocations_of(events)
    story = Story(sources=[s for s, _ in logs] + [p.source for p in points], connections=_connections(points))
    env.mark_errors(invocations, events)
    story.events, story.invocations, story.aligned = events, invocations, aligned
    concurrent = env.concurrent_environments(invocations, events)
    story.environments = env.environments_of(events, invocations)
    for environment in story.environments:
        environment.concurrent = environment.id in concurrent
    story.freezes = env.freezes_of(invocations, events, concurrent)
    processes = grpc.processes_of(events)
    story.transports, story.pings = grpc.transports_of(events, processes)
    story.calls = calls_of(events, processes, story.transports)
    grpc.running_time(story.pings, story.transports, story.freezes)
    errors = [c.error_ns or 0 for s in story.sources for c in s.clocks if c.offset_ns is not None]
    tie_transports(story.transports, story.connections, max(errors, default=0) if aligned else None)
    tie_environments(story.environments, invocations, events, story.connections, aligned)
    for e in story.events:
        if e.transport:
            e.connection = story.transport(e.transport).connection
    _order_sources(story)
    _report_icmp(story.connections)
    return story


def _log_clocks(logs: list[tuple[Source, list[Event]]], events: list[Event]) -> None:
    """Set every log event's aligned time, and the clocks of the log sources. The log service's clock is the frame."""
    guests = ck.guest_offsets(events)
    for e in events:
        if e.inner_ns is not None and e.clock == "inner":
            guest = guests.get(e.environment)
            e.time_ns = e.inner_ns + (guest.value if guest else 0)
            e.error_ns = guest.error if guest else 0
        else:
            e.time_ns = e.source_ns or 0
    for source, mine in logs:
        stamped = [e for e in mine if e.event_ns is not None]
        if stamped:
            source.clocks.append(Clock("event", offset_ns=0, error_ns=0))
        inner = [e for e in mine if e.inner_ns is not None]
        if inner:
            known = [guests[x] for x in {e.environment for e in inner} if x in guests] or list(guests.values())
            if known:
                clock = Clock(
                    "inner", offset_ns=int(np.median([g.value for g in known])), error_ns=max(g.error for g in known)
                )
                clock.anchors, clock.how = sum(g.anchors for g in known), "both stamps of a line"
            else:
                clock = Clock("inner", offset_ns=0, error_ns=0, how="the log's own frame")
            source.clocks.append(clock)
        times = [e.time_ns for e in mine if e.source_ns is not None]
        source.first_ns, source.last_ns = (min(times), max(times)) if times else (None, None)


def _point_clocks(points: list[Point], events: list[Event], invocations: list[Invocation]) -> ck.Offset | None:
    """Offsets of the captures, and what to add to the log's times where a capture is the reference.

    With platform lines the log is the reference, and the capture that it aligns best is the first step; without, the
    longest capture is. The rest follows through captures that share packets.
    """
    members = match_points(points)
    to_log: dict[int, ck.Offset] = {}
    if events:
        for p, point in enumerate(points):
            found = ck.against_log(events, invocations, point)
            if found is not None:
                to_log[p] = found
    pairs: dict[tuple[int, int], ck.Offset] = {}
    for a in range(len(points)):
        for b in range(a + 1, len(points)):
            between = ck.between_points(points[a], points[b], members, a, b)
            if between is not None:
                pairs[a, b] = between[0]
                pairs[b, a] = ck.Offset(-between[0].value, between[0].error, between[0].anchors, between[0].how)
    if not points:
        return None
    best = min(to_log, key=lambda p: (to_log[p].error, points[p].source.path)) if to_log else None
    if has_platform(events):
        if best is not None:
            _apply(points[best].clock, to_log[best])
            _spread(points, pairs, to_log, [best])
        _group(points, pairs)
        return None
    longest = max(
        range(len(points)), key=lambda p: (points[p].data.last_ns - points[p].data.first_ns, points[p].source.path)
    )
    clock = points[longest].clock
    clock.reference, clock.offset_ns, clock.error_ns = True, 0, 0
    _spread(points, pairs, {}, [longest])
    _group(points, pairs)
    aligned = {p: o for p, o in to_log.items() if points[p].clock.offset_ns is not None}
    if not aligned:
        return None
    via = min(aligned, key=lambda p: (aligned[p].error + (points[p].clock.error_ns or 0), points[p].source.path))
    step, anchor = points[via].clock, aligned[via]
    return ck.Offset(
        anchor.value + (step.offset_ns or 0), anchor.error + (step.error_ns or 0), anchor.anchors, anchor.how
    )


def has_platform(events: list[Event]) -> bool:
    """Whether stamped platform lines are there to be the reference."""
    return any(e.kind in REFERENCE_KINDS and e.event_ns is not None for e in events)


def _spread(
    points: list[Point], pairs: dict[tuple[int, int], ck.Offset], to_log: dict[int, ck.Offset], roots: list[int]
) -> None:
    """From the aligned captures to those that share packets with them, smallest error first; then what a log alone aligns."""
    done = set(roots)
    while True:
        steps = [
            ((points[a].clock.error_ns or 0) + pairs[a, b].error, points[b].source.path, a, b)
            for a in done for b in range(len(points)) if b not in done and (a, b) in pairs
        ]  # fmt: skip
        if not steps:
            rest = [p for p in to_log if p not in done]
            if not rest:
                return
            _apply(points[rest[0]].clock, to_log[rest[0]])
            done.add(rest[0])
            continue
        error, _, a, b = min(steps)
        step = pairs[a, b]
        clock = points[b].clock
        clock.offset_ns, clock.error_ns = (points[a].clock.offset_ns or 0) - step.value, error
        clock.anchors, clock.how = step.anchors, f"{step.how} ({points[a].source.label})"
        done.add(b)


def _group(points: list[Point], pairs: dict[tuple[int, int], ck.Offset]) -> None:
    """Captures that nothing aligns with the reference still align with each other: one frame a group."""
    done = {p for p, point in enumerate(points) if point.clock.offset_ns is not None}
    for p in done:
        points[p].shift_ns = points[p].clock.offset_ns or 0
    for root in range(len(points)):
        stack = [root] if root not in done else []
        done.update(stack)
        while stack:
            a = stack.pop()
            for b in range(len(points)):
                if b not in done and (a, b) in pairs:
                    points[b].shift_ns = points[a].shift_ns - pairs[a, b].value
                    done.add(b)
                    stack.append(b)


def _apply(clock: Clock, offset: ck.Offset) -> None:
    clock.offset_ns, clock.error_ns, clock.anchors, clock.how = -offset.value, offset.error, offset.anchors, offset.how


def _connections(points: list[Point]) -> Connections:
    members = in_time_order(points, match_points(points))
    nearness = list(range(len(points)))
    nearness.sort(key=lambda p: points[p].source.path)
    ranked: list[int] = []
    for (
        p
    ) in nearness:  # insertion by pairwise order along the path; captures that share nothing keep the order of names
        at = len(ranked)
        for position, other in enumerate(ranked):
            between = ck.between_points(points[p], points[other], members, p, other)
            if between is not None and between[1]:
                at = position
                break
        ranked.insert(at, p)
    return Connections(points, members, ranked)


def _set_reference(
    logs: list[tuple[Source, list[Event]]], points: list[Point], events: list[Event], shift: ck.Offset | None
) -> bool:
    """Name the reference clock and move the log's times into its frame; returns whether log and captures are aligned."""
    if has_platform(events):
        stamped = {e.source for e in events if e.kind in REFERENCE_KINDS and e.event_ns is not None}
        next(s for s, _ in logs if s.id in stamped).clocks[0].reference = True
        return any(p.clock.offset_ns is not None for p in points)
    if not points:
        for source, _ in logs[:1]:
            for clock in source.clocks[:1]:
                clock.reference = True
        return False
    for source, _ in logs:
        for clock in source.clocks:
            if shift is None:
                clock.offset_ns = clock.error_ns = None
                clock.how = "no anchors between this log and the captures"
            elif clock.offset_ns is not None:
                clock.offset_ns, clock.error_ns = clock.offset_ns + shift.value, (clock.error_ns or 0) + shift.error
                clock.anchors, clock.how = shift.anchors, shift.how
        if shift is not None and source.first_ns is not None and source.last_ns is not None:
            source.first_ns, source.last_ns = source.first_ns + shift.value, source.last_ns + shift.value
    for e in events:
        e.time_ns += shift.value if shift else 0
    return shift is not None


def _report_icmp(connections: Connections) -> None:
    for p, point in enumerate(connections.points):
        if strangers := connections.icmp_strangers(p):
            what = f"{strangers:,} ICMP error{'s' if strangers > 1 else ''} about connections that this capture does not hold"
            point.source.problems.append(Problem("", what))


def _order_sources(story: Story) -> None:
    for point in story.connections.points:
        offset = point.clock.offset_ns or 0
        if point.data.records:
            point.source.first_ns, point.source.last_ns = point.data.first_ns + offset, point.data.last_ns + offset
