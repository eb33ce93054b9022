"""Frames: which clocks are aligned with each other, what the time is that they share, and how well.

Captures that hold the same packets are one group, logs that share a clock another; where lines and packets tell of the same
things, a log joins a group. What nothing joins stays apart, in a frame of its own: inside it times compare, with others not.
The reference is the clock of platform lines if there are any, else the longest capture's; frame 0 is its frame.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from analyzer.model.clocks import PPM, Clock, Piece, chained, inverted
from analyzer.model.events import Event
from analyzer.model.problems import Problem
from analyzer.model.records import Invocation
from analyzer.model.times import MS, SECOND, seconds
from analyzer.timeline.against_log import STRONG_ANCHORS, Against, against_log, supports
from analyzer.timeline.between_captures import Between, between_captures
from analyzer.timeline.environments import invocations_of
from analyzer.timeline.log_anchors import Said, said
from analyzer.timeline.log_clocks import SERVICE, LogClock
from analyzer.timeline.shown import Shown
from analyzer.timeline.speakers import fleet, speakers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from analyzer.timeline.points import Point

#: These make the log whose lines they are the reference.
REFERENCE_KINDS = frozenset(("start", "report"))
#: Exports that should share a clock are each looked at alone where they are few.
MOST_ALONE = 8
#: Two ways of aligning a source contradict each other where they differ by more than their errors and this.
CONFLICT_NS = 250 * MS
#: More than the error of any step.
FAR_NS = 1 << 60
#: An offset is stated for a time at which it is known to within this of the best.
ABOUT_BEST_NS = MS // 4


class LogFrame(Struct):
    """Logs that share a clock, with their events and invocations in its time."""

    name: str
    logs: list[LogClock]
    events: list[Event] = []
    invocations: list[Invocation] = []

    @property
    def platform(self) -> int:
        """How many stamped platform lines it has."""
        return sum(1 for e in self.events if e.kind in REFERENCE_KINDS and e.event_ns is not None)

    @property
    def path(self) -> str:
        """For an order that does not depend on that of the inputs."""
        return min(log.source.path for log in self.logs)

    @property
    def said(self) -> Said:
        """What packets may answer to."""
        return said(self.events, self.invocations)

    def parts(self, exports: dict[str | None, str]) -> list[LogFrame]:
        """Its exports (`functions`), each by itself."""
        found: dict[str, LogFrame] = {}
        logs: dict[str, set[str]] = defaultdict(set)
        for e in self.events:
            name = exports[e.environment]
            if name not in found:
                found[name] = LogFrame(name, [])
            found[name].events.append(e)
            logs[name].add(e.source)
        for i in self.invocations:
            found[exports[i.environment]].invocations.append(i)
        for name, part in found.items():
            part.logs = [log for log in self.logs if log.source.id in logs[name]]
        return sorted(found.values(), key=lambda part: part.path)

    def only(self, log: LogClock) -> LogFrame:
        """One of the logs alone."""
        mine = log.source.id
        own = [i for i in self.invocations if i.start_ref and i.start_ref[0] == mine]
        return LogFrame(mine, [log], [e for e in self.events if e.source == mine], own)

    def without(self, part: LogFrame) -> bool:
        """Take one of its exports, or logs, out; False where that is all, or its logs hold lines of others too."""
        gone = {id(x) for x in (*part.events, *part.invocations)}
        events = [e for e in self.events if id(e) not in gone]
        if not events or not {e.source for e in events}.isdisjoint(log.source.id for log in part.logs):
            return False
        self.logs = [log for log in self.logs if log not in part.logs]
        self.events, self.invocations = events, [i for i in self.invocations if id(i) not in gone]
        return True


class Told(Struct, frozen=True):
    """How a capture's clock stands to that of some logs, by the lines of these."""

    found: Against
    logs: list[LogClock]


def _joined(parts: list[LogFrame]) -> tuple[list[Event], list[Invocation]]:
    """The events, in order, and the invocations of several exports."""
    events = sorted((e for part in parts for e in part.events), key=lambda e: (e.time_ns, e.source, e.order))
    return events, [i for part in parts for i in part.invocations]


#: A log frame by name, or a capture by number.
_Node = str | int
#: Error, path for an order that does not depend on that of the inputs, from, to.
_Step = tuple[int, str, _Node, _Node]


class _Reached(Struct):
    """How a clock gets to its frame's time, and through whom."""

    frame: int
    pieces: list[Piece] = []
    anchors: int = 0
    how: str = ""
    drift_proven: bool = False
    via: str = ""
    step: list[Piece] = []  # the last part of the way, through `via`
    guest_error_ns: int = 0  # of a guest's clock on the way, whose lines a capture was aligned with

    @property
    def error_ns(self) -> int:
        return _error(self.pieces)

    def onward(self, pieces: list[Piece], found: Between | Against, how: str, via: str) -> _Reached:
        """The clock that this one's is reached through."""
        return _Reached(
            self.frame, chained(pieces, self.pieces), found.anchors, how, self.drift_proven or found.drift_proven,
            via, pieces, self.guest_error_ns,
        )  # fmt: skip


def _error(pieces: list[Piece]) -> int:
    return max((piece.error_ns for piece in pieces), default=0)


class Frames:
    """Everything that is known of the clocks of logs and captures, put together."""

    def __init__(
        self, points: list[Point], members: NDArray[np.int64], logs: list[LogFrame], exports: dict[str | None, str]
    ) -> None:
        self._points, self._logs, self._exports = points, {frame.name: frame for frame in logs}, exports
        self._shown = [Shown(point) for point in points]
        self._between: dict[tuple[int, int], Between] = {}
        for a in range(len(points)):
            for b in range(a + 1, len(points)):
                found = between_captures(points[a], points[b], members, a, b)
                if found is not None:
                    self._between[a, b] = found
        self._against: dict[tuple[str, int], Told] = {}
        if points:
            for frame in logs:
                self._compare(frame)
        self._reached: dict[_Node, _Reached] = {}

    # ---- what is known

    def nearer(self, a: int, b: int) -> bool:
        """Whether capture a is known to be nearer the client than capture b."""
        if (a, b) in self._between:
            return self._between[a, b].a_is_nearer is True
        return (b, a) in self._between and self._between[b, a].a_is_nearer is False

    def _compare(self, frame: LogFrame) -> None:
        """Find how each capture stands to a log; logs of one frame are believed to share a clock until they prove not to."""
        exports = frame.parts(self._exports)
        parts = exports + [part.only(log) for part in exports if len(part.logs) > 1 for log in part.logs]
        alone = {part.name: self._with_captures(part) for part in parts} if 1 < len(parts) <= MOST_ALONE else {}
        whole = self._together(frame, exports, list(alone.values()))
        for part in parts if alone else ():
            if _stands_apart(alone[part.name], whole) and frame.without(part):
                self._logs[part.name] = part
                self._against |= {(part.name, p): told for p, told in alone[part.name].items()}
                self._compare(frame)
                return
        self._against |= {(frame.name, p): told for p, told in whole.items()}

    def _with_captures(self, part: LogFrame) -> dict[int, Told]:
        told = part.said
        found = ((p, against_log(told, shown)) for p, shown in enumerate(self._shown))
        return {p: Told(against, part.logs) for p, against in found if against is not None}

    def _together(self, frame: LogFrame, exports: list[LogFrame], alone: list[dict[int, Told]]) -> dict[int, Told]:
        """For each capture, what the exports say of its clock that tell of it: the others may have nothing to do with it."""
        if not alone:
            return self._by_speakers(frame, self._with_captures(frame))
        found = {}
        for p, shown in enumerate(self._shown):
            best = max((told[p] for told in alone if p in told), key=_trust, default=None)
            mine = [part for part in exports if best is None or supports(part.said, shown, best.found.pieces)]
            against = against_log(said(*_joined(mine)), shown) if len(mine) > 1 else None
            if against is not None and (best is None or not _apart(against.pieces, best.found.pieces)):
                found[p] = Told(against, [log for part in mine for log in part.logs])
            elif best is not None:
                found[p] = best
        return self._by_speakers(frame, found)

    def _by_speakers(self, frame: LogFrame, found: dict[int, Told]) -> dict[int, Told]:
        """The same, and how captures stand to the log through which few of its environments speak."""
        missing = [p for p in range(len(self._points)) if p not in found]
        told = fleet(frame.events, frame.invocations) if missing else {}
        for p in missing if len(told) > 1 else ():
            names = speakers(told, self._shown[p])
            mine = [e for e in frame.events if e.environment in names]
            against = against_log(said(mine, [i for i in frame.invocations if i.environment in names]), self._shown[p])
            if against is not None:
                sources = {e.source for e in mine}
                found[p] = Told(against, [log for log in frame.logs if log.source.id in sources])
        return found

    def invocations(self, events: list[Event]) -> list[Invocation]:
        """The invocations of all logs, once they are aligned; their events in time order."""
        frames = list(self._logs.values())
        if len(frames) == 1 and not self._reached[frames[0].name].pieces:
            return frames[0].invocations  # nothing has moved
        return invocations_of(events)

    # ---- putting together

    def align(self) -> None:
        """Set every clock, and move events into their frames' time."""
        roots: list[_Node] = []
        while (root := self._root()) is not None:
            self._reached[root] = _Reached(len(roots))
            roots.append(root)
            while (step := self._step()) is not None:
                self._take(*step[2:])
        for node, reached in self._reached.items():
            if isinstance(node, int):
                _write_capture(self._points[node], reached)
            else:
                _write_log(self._logs[node], reached)
        if roots:
            self._refer(roots[0])
        self._report_conflicts()

    def _root(self) -> _Node | None:
        """From where to go on: platform lines first, then the longest capture, then logs that nothing reaches."""
        logs = [f for f in self._logs.values() if f.name not in self._reached]
        with_platform = [f for f in logs if f.platform]
        if with_platform:
            return min(with_platform, key=lambda f: (-f.platform, f.path)).name
        points = [p for p in range(len(self._points)) if p not in self._reached]
        if points:
            return min(
                points,
                key=lambda p: (
                    self._points[p].data.first_ns - self._points[p].data.last_ns,
                    self._points[p].source.path,
                ),
            )
        return min(logs, key=lambda f: (f.name != SERVICE, -len(f.events), f.path)).name if logs else None

    def _step(self) -> _Step | None:
        """The next clock to reach and from where: by packets, by lines, by what may be assumed of packets, the nearest first."""
        ways = self._by_packets(assumed=False), self._by_lines(), self._by_packets(assumed=True)
        return next((min(steps) for way in ways if (steps := list(way))), None)

    def _by_packets(self, assumed: bool) -> Iterator[_Step]:
        """Steps from captures that are reached to captures that hold the same packets: (error, path, from, to)."""
        for (a, b), between in self._between.items():
            for near, far in ((a, b), (b, a)) if between.assumed is assumed else ():
                if near in self._reached and far not in self._reached:
                    yield (
                        self._reached[near].error_ns + _error(between.pieces),
                        self._points[far].source.path,
                        near,
                        far,
                    )

    def _by_lines(self) -> Iterator[_Step]:
        """Steps between logs and captures that lines and packets align; a capture whose clock would be far off comes last."""
        for (name, p), told in self._against.items():
            error = _error(told.found.pieces) + (0 if _agrees(told.found) else FAR_NS)
            for near, far in ((name, p), (p, name)):
                if near in self._reached and far not in self._reached:
                    yield self._reached[near].error_ns + error, self._points[p].source.path, near, far

    def _take(self, near: _Node, far: _Node) -> None:
        """Reach one clock through another."""
        known = self._reached[near]
        pieces, found = self._edge(near, far)
        logs = self._against[near, far].logs if isinstance(near, str) and isinstance(far, int) else []
        via = self._points[near].source if isinstance(near, int) else logs[0].source
        how = f"{found.how} ({via.label})" if isinstance(found, Between) else found.how
        self._reached[far] = known.onward(pieces, found, how, via.id)
        if isinstance(far, int):
            self._points[far].told_by = frozenset(log.source.id for log in logs)
        self._reached[far].guest_error_ns += max((log.guest_error_ns for log in logs), default=0)

    def _edge(self, near: _Node, far: _Node) -> tuple[list[Piece], Between | Against]:
        """From the stamps of `far` into the time of `near`."""
        if isinstance(near, str) and isinstance(far, int):
            return self._against[near, far].found.pieces, self._against[near, far].found
        if isinstance(near, int) and isinstance(far, str):
            return inverted(self._against[far, near].found.pieces), self._against[far, near].found
        assert isinstance(near, int) and isinstance(far, int)
        if (near, far) in self._between:
            return self._between[near, far].pieces, self._between[near, far]
        return inverted(self._between[far, near].pieces), self._between[far, near]

    # ---- writing down

    def _refer(self, root: _Node) -> None:
        """Name the reference clock."""
        if isinstance(root, int):
            self._points[root].clock.reference = True
            return
        frame = self._logs[root]
        stamped = {e.source for e in frame.events if e.kind in REFERENCE_KINDS and e.event_ns is not None}
        first = min(
            (log for log in frame.logs if log.source.id in stamped or not stamped), key=lambda log: log.source.path
        )
        for clock in first.source.clocks[:1]:
            clock.reference = True

    def _report_conflicts(self) -> None:
        """What other anchors say of a clock, where that is something else."""
        for (name, p), told in self._against.items():
            log, capture = self._reached[name], self._reached[p]
            point = self._points[p]
            direct = chained(told.found.pieces, log.pieces)
            if capture.frame == log.frame and (apart := _apart(direct, capture.pieces)):
                label = told.logs[0].source.label
                point.source.problems.append(
                    Problem(
                        "",
                        f"clock: lines of {label} place it {seconds(apart)} away from where {capture.how} do; those are believed",
                    )
                )


def _trust(told: Told) -> tuple[float, int]:
    """Logs that share a clock are trusted by how little of what they say of a capture's may be chance."""
    return told.found.surprise, -_error(told.found.pieces)


def _agrees(found: Against) -> bool:
    """Whether a capture's clock and a log's show the same time, as those of hosts that keep time do."""
    return abs(found.pieces[len(found.pieces) // 2].shift_ns) <= SECOND


def _stands_apart(own: dict[int, Told], whole: dict[int, Told]) -> bool:
    """Whether a log's clock is another than that of the logs that should share it, as its anchors prove: not a few of them beside
    many of the others, and not with some capture where it agrees."""
    strong = [
        p for p in own if own[p].found.strong >= STRONG_ANCHORS and 2 * own[p].found.strong >= whole[p].found.strong
    ]
    return bool(strong) and all(_apart(own[p].found.pieces, whole[p].found.pieces) for p in strong)


def _apart(a: list[Piece], b: list[Piece]) -> int:
    """By how much two ways of aligning one clock differ, beyond their errors; 0 where they agree."""
    if not a or not b:
        return 0
    at = a[len(a) // 2].at_ns
    one, other = Clock("", pieces=a), Clock("", pieces=b)
    apart = abs(one.aligned(at) - other.aligned(at))
    return apart if apart > one.error_at(at) + other.error_at(at) + CONFLICT_NS else 0


def _write(clock: Clock, reached: _Reached, own: Clock | None, first_ns: int, last_ns: int) -> None:
    """One clock's public fields: `own` is how its stamps become those of the clock that was reached."""
    middle = (first_ns + last_ns) // 2
    clock.frame = reached.frame
    clock.pieces = chained(own.pieces, reached.pieces) if own is not None else reached.pieces
    clock.via, clock.via_error_ns = reached.via, Clock("", pieces=reached.step).worst_error(first_ns, last_ns)
    clock.own_error_ns = own.worst_error(first_ns, last_ns) if own is not None else 0
    clock.anchors, clock.how = (reached.anchors, reached.how) if reached.via or own is None else (own.anchors, own.how)
    if reached.frame:
        clock.how = "nothing in common with the reference" + (f"; {clock.how}" if clock.how else "")
        return
    at = min(max(_known_near(clock, middle), first_ns), last_ns)
    clock.offset_ns, clock.guest_error_ns = clock.aligned(at) - at, reached.guest_error_ns
    clock.error_ns = clock.misplaced(at)
    drifts = reached.drift_proven or (own is not None and any(piece.ppm for piece in own.pieces))
    at_middle = clock.piece_at(middle)
    clock.drift_ppm = round(at_middle.ppm, 1) if drifts and at_middle is not None else None


def _known_near(clock: Clock, middle_ns: int) -> int:
    """The stamp nearest the middle for which the clock is known about as well as at its best: what shares no anchors says nothing."""
    piece = clock.piece_at(middle_ns)
    if piece is None or not piece.error_ppm:
        return middle_ns
    reach = round(ABOUT_BEST_NS / (piece.error_ppm * PPM))
    return min(max(middle_ns, piece.at_ns - reach), piece.at_ns + reach)


def _write_capture(point: Point, reached: _Reached) -> None:
    _write(point.clock, reached, None, point.data.first_ns, point.data.last_ns)
    if point.data.records:
        point.source.first_ns, point.source.last_ns = point.span


def _write_log(frame: LogFrame, reached: _Reached) -> None:
    """Clocks and events of the logs of one frame."""
    shift = Clock("", pieces=reached.pieces)
    for e in frame.events:
        if reached.pieces:
            e.error_ns += shift.error_at(e.time_ns)
            e.time_ns = shift.aligned(e.time_ns)
    for log in frame.logs:
        spans = []
        for own, span in ((log.event, log.event_span), (log.inner, log.inner_span)):
            if own is not None and span is not None:
                clock = Clock(own.name)
                _write(clock, reached, own, *span)
                log.source.clocks.append(clock)
                spans += [clock.aligned(span[0]), clock.aligned(span[1])]
        if spans:
            log.source.first_ns, log.source.last_ns = min(spans), max(spans)
