"""A connection as a ladder: which packets and log lines become rungs, in what order, at what height. No drawing here.

Time runs downwards. Rows are as far apart as their text needs, so heights say only what came before what; silences of a second
and more are breaks that tell their length. A packet has a height of its own wherever it was captured: with captures at both
ends, packets that crossed cross. Where there are more packets than rungs, ordinary ones are folded and counted.
"""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from analyzer.capture.columns import ACK_FLAG
from analyzer.model.times import SECOND, seconds
from analyzer.plot.packets import look_of
from analyzer.tcp import fields as f
from analyzer.tcp.sequence import delta32
from analyzer.tcp.states import STATES
from analyzer.timeline.endpoints import states
from analyzer.timeline.icmp import AboutConnection
from analyzer.timeline.steps import failed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from analyzer.model.events import Event
    from analyzer.plot.scene import Scene
    from analyzer.tcp.segments import Segment

#: Rungs; what is beyond is folded.
MOST_RUNGS = 64
#: Silences at least this long are breaks.
BREAK_NS = SECOND
#: Inches between a column's last sighting and the next departure (text stands between) or arrival, and of what an arrow falls.
DEPART, ARRIVE, FALL = 0.21, 0.13, 0.09
#: Height of a break and of a fold, in inches.
BREAK, FOLD = 0.36, 0.24

Place = tuple[float, float]


class Rung(Struct):
    """One packet: from where to where (column, inches down), and when each column that captured it did.

    `unanswered`: one capture alone saw it, and nothing tells that it arrived.
    """

    segment: Segment
    fate: str
    start: Place
    end: Place
    seen: list[tuple[float, float, int]] = []
    unanswered: bool = False


class Note(Struct):
    """A log line at the client's column, or an ICMP error on its way to one of the ends."""

    y: float
    time_ns: int
    what: Event | AboutConnection


class Gap(Struct):
    """A silence, or packets that were folded: what is written across."""

    y0: float
    y1: float
    text: str
    folded: bool = False


class Ladder(Struct):
    """Everything with its height, `height` in all; `columns` counts the lifelines that captured, `first` and `last` included."""

    columns: int
    rungs: list[Rung] = []
    notes: list[Note] = []
    gaps: list[Gap] = []
    #: Endpoint states: (state, from, to) in inches.
    client: list[tuple[str, float, float]] = []
    server: list[tuple[str, float, float]] = []
    freezes: list[tuple[float, float]] = []
    height: float = 0.0

    @property
    def last(self) -> int:
        """The server's column; the client's is 0."""
        return self.columns - 1

    @property
    def middle(self) -> float:
        """Between the ends, where nothing captured."""
        return self.last / 2

    @property
    def has_middle(self) -> bool:
        """Whether something happened there."""
        half = any(self.middle in (rung.start[0], rung.end[0]) for rung in self.rungs)
        return half or any(isinstance(note.what, AboutConnection) for note in self.notes)


class _Moment(Struct):
    """A packet at one column, packets that are folded, or a line; `seen_ns` is what that column's capture says."""

    start_ns: int
    end_ns: int
    packet: int = -1
    column: int = 0
    seen_ns: int | None = None
    folded: list[int] = []
    line: Event | AboutConnection | None = None


def ladder(scene: Scene) -> Ladder:
    """The ladder of a scene's only connection."""
    return _Climb(scene).ladder


def unanswered(segments: list[Segment]) -> set[int]:
    """Numbers of segments that ask for an acknowledgement and have none, nor a reset, in all that follows."""
    found: set[int] = set()
    known: dict[bool, int | None] = {True: None, False: None}
    reset = {True: False, False: False}
    for n in range(len(segments) - 1, -1, -1):
        s = segments[n]
        ack = known[not s.from_client]
        covered = ack is not None and delta32(ack, s.end_seq) >= 0
        if s.end_seq != s.seq and not s.rst and not covered and not reset[not s.from_client]:
            found.add(n)
        if s.flags & ACK_FLAG and (known[s.from_client] is None or delta32(s.ack, known[s.from_client] or 0) > 0):
            known[s.from_client] = s.ack
        reset[s.from_client] |= s.rst
    return found


class _Climb:
    """Goes down the rows and keeps where each column stands."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.track = scene, scene.tracks[0]
        self.points = self.track.points
        self.ladder = Ladder(max(len(self.points), 2))
        self._last = [0.0] * self.ladder.columns
        self._now = 0.0
        self._known: list[tuple[int, float]] = []
        self._rungs: dict[int, Rung] = {}
        self._changes: dict[bool, list[tuple[int, float]]] = {True: [], False: []}
        self._states = states(self.track.segments, self.track.fates)
        self._unanswered = unanswered(self.track.segments) if len(self.points) == 1 else set()
        self._go()
        self.ladder.height = max(self._last) + 0.2
        self.ladder.client, self.ladder.server = self._bars(True), self._bars(False)
        self.ladder.freezes = self._freezes()

    # ---- what is shown

    def _moments(self) -> list[_Moment]:
        """Everything in order of time: each packet at each column that captured it, folded packets, log lines, ICMP errors."""
        shown = self._chosen()
        moments: list[_Moment] = []
        segments = self.track.segments
        for is_shown, run in groupby(range(len(segments)), key=lambda n: n in shown):
            numbers = list(run)
            if is_shown:
                moments += [moment for n in numbers for moment in self._sightings(n)]
            else:
                moments.append(_Moment(segments[numbers[0]].time_ns, segments[numbers[-1]].time_ns, folded=numbers))
        moments += [_Moment(e.time_ns, e.time_ns, line=e) for e in self._lines()]
        errors = self.scene.trace.story.connections.icmp(self.track.k)
        inside = (e for e in errors if self.scene.start_ns <= e.time_ns <= self.scene.end_ns)
        moments += [_Moment(e.time_ns, e.time_ns, line=e) for e in inside]
        return sorted(moments, key=lambda m: m.start_ns)

    def _sightings(self, n: int) -> Iterator[_Moment]:
        """One packet, column by column on its way; none before the one before, whatever the clocks say."""
        s = self.track.segments[n]
        if len(self.points) == 1:
            yield _Moment(s.time_ns, s.time_ns, n, 0 if s.from_client else self.ladder.last)
            return
        latest = 0
        for column in self._way(s):
            place = s.at(self.points[column])
            if place is not None:
                latest = max(latest, place.time_ns)
                yield _Moment(latest, latest, n, column, place.time_ns)

    def _way(self, s: Segment) -> list[int]:
        return list(range(self.ladder.columns))[:: 1 if s.from_client else -1]

    def _lines(self) -> list[Event]:
        """Log lines that a finding names, and failures."""
        refs = self.scene.evidence_refs()
        mine = [
            e for e in self.scene.events if (e.source, e.ref) in refs or (e.connection == self.track.name and failed(e))
        ]
        return mine[: MOST_RUNGS // 3]

    def _chosen(self) -> set[int]:
        """Numbers of the packets to show: all if they are few, else the telling ones, proof first."""
        segments = self.track.segments
        if len(segments) <= MOST_RUNGS:
            return set(range(len(segments)))
        refs = self.scene.evidence_refs()
        quiet = {n for n, (a, b) in enumerate(pairwise(segments)) if b.time_ns - a.time_ns >= BREAK_NS}
        edges = {0, 1, 2, len(segments) - 1, *quiet, *(n + 1 for n in quiet)}
        ranked = [(self._rank(n, refs, edges), n) for n in range(len(segments))]
        return {n for rank, n in sorted(ranked)[:MOST_RUNGS] if rank < 4}

    def _rank(self, n: int, refs: set[tuple[str, str]], edges: set[int]) -> int:
        s, source = self.track.segments[n], self.scene.trace.story.source
        if any((p.source, source(p.source).packet_ref(p.no)) in refs for p in s.places):
            return 0
        if s.syn or s.fin or s.rst or self.track.fates[n] or self._states[n][1:] != self._states[n - 1][1:]:
            return 1
        return 2 if look_of(s) not in ("ack", "data") or s.kinds & f.K_WAKE else 3 if n in edges else 4

    # ---- where it is shown

    def _go(self) -> None:
        before: int | None = None
        for moment in self._moments():
            if before is not None and moment.start_ns - before >= BREAK_NS:
                self._break(before, moment.start_ns)
            before = max(moment.end_ns, before or moment.end_ns)
            if moment.folded:
                self._fold(moment)
            elif moment.line is not None:
                self._note(moment)
            else:
                self._sighting(moment)
        for n, rung in self._rungs.items():
            self._finish(n, rung)

    def _reach(self, column: int, room: float, at_least: float = 0.0) -> float:
        self._last[column] = max(self._now, self._last[column] + room, at_least)
        return self._last[column]

    def _sighting(self, moment: _Moment) -> None:
        rung, column, time_ns = self._rungs.get(moment.packet), moment.column, moment.seen_ns or moment.start_ns
        if rung is not None:
            y = self._reach(column, ARRIVE, rung.end[1] + FALL)
        else:
            y = self._reach(column, DEPART)
            segment, fate = self.track.segments[moment.packet], self.track.fates[moment.packet]
            rung = self._rungs[moment.packet] = Rung(segment, fate, (column, y), (column, y))
            rung.unanswered = moment.packet in self._unanswered
            self.ladder.rungs.append(rung)
        rung.end = column, y
        rung.seen.append((column, y, time_ns))
        self._now = y
        self._known.append((moment.start_ns, y))
        if len(self.points) == 1:  # where it went it is a little later, nobody knows how much
            other = self.ladder.last - column
            rung.end = other, self._reach(other, ARRIVE, y + FALL)

    def _finish(self, n: int, rung: Rung) -> None:
        """Where it was not captured at an end, it comes from the middle or gets no further."""
        first, *_, last = self._way(rung.segment)
        if rung.start[0] != first:
            rung.start = self.ladder.middle, rung.start[1] - FALL / 2
        if rung.end[0] != last:
            rung.end = self.ladder.middle, rung.end[1] + FALL / 2
        self._changes[rung.segment.from_client].append((n, rung.start[1]))
        self._changes[not rung.segment.from_client].append((n, rung.end[1]))

    def _note(self, moment: _Moment) -> None:
        """A line has all the width: every column waits for it."""
        y = max(self._now, max(self._last) + ARRIVE, self._last[0] + DEPART)
        self._now, self._last = y, [y] * self.ladder.columns
        self._known.append((moment.start_ns, y))
        if moment.line is not None:
            self.ladder.notes.append(Note(y, moment.start_ns, moment.line))

    def _break(self, start_ns: int, end_ns: int) -> None:
        environment = self.scene.trace.story.connections.environment.get(self.track.k)
        freeze = self.scene.trace.story.freeze_covering(environment, start_ns, end_ns) if self.scene.freezes else None
        length = seconds(end_ns - start_ns)
        self._across(BREAK, f"⋮ {length}, frozen" if freeze else f"⋮ {length} of silence", start_ns, end_ns)

    def _fold(self, moment: _Moment) -> None:
        folded = [self.track.segments[n] for n in moment.folded]
        sent, got = (sum(s.length for s in folded if s.from_client is side) for side in (True, False))
        length = f" in {seconds(moment.end_ns - moment.start_ns)}" if moment.end_ns > moment.start_ns else ""
        what = f"… {len(folded):,} more packet{'s' if len(folded) > 1 else ''}: → {sent:,} B, ← {got:,} B{length}"
        self._across(FOLD, what, moment.start_ns, moment.end_ns, folded=True)

    def _across(self, height: float, text: str, start_ns: int, end_ns: int, folded: bool = False) -> None:
        """Something that all columns wait for."""
        top = max(*self._last, self._now) + 0.1
        self._now = top + height
        self._last = [self._now - 0.1] * self.ladder.columns
        self._known += [(start_ns, top), (end_ns, self._now)]
        self.ladder.gaps.append(Gap(top, self._now, text, folded))

    # ---- what stands beside

    def _bars(self, client: bool) -> list[tuple[str, float, float]]:
        """States of one end, each from the height of the packet that brought it."""
        bars: list[tuple[str, float, float]] = []
        for n, y in self._changes[client]:
            state = STATES[self._states[n][1 if client else 2]]
            if bars and bars[-1][0] == state:
                continue
            if bars:
                bars[-1] = (*bars[-1][:2], y)
            bars.append((state, y, self.ladder.height))
        return bars

    def _freezes(self) -> list[tuple[float, float]]:
        """The freezes' heights, between what came before and after."""
        if not self.scene.freezes:
            return []
        known = sorted(self._known)
        times = np.array([t for t, _ in known]) - known[0][0]
        ys = np.maximum.accumulate([y for _, y in known])
        ends = [
            [float(np.interp(t - known[0][0], times, ys)) for t in (z.start_ns, z.end_ns)] for z in self.scene.freezes
        ]
        return [(a, b) for a, b in ends if b > a]
