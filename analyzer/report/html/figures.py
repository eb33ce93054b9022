"""The timelines of the page as plain data: what its script draws of a scene (see `analyzer.plot.scene`).

Times are ns from the figure's zero. `axis` is piecewise linear: stretches in which something happens, with the long silences
between them cut short, as in the plots. Big scenes are thinned out: what opens, ends, repeats or proves something first, then
one mark per place on the axis, then what lies nearest to the evidence.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from analyzer.model.grpc import status_name
from analyzer.model.times import SECOND, iso, seconds
from analyzer.plot.packets import look_of
from analyzer.plot.scale import Scale
from analyzer.plot.scene import Life, Scene, scene
from analyzer.report.escape import count
from analyzer.timeline.steps import failed
from analyzer.timeline.whereabouts import is_lost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from analyzer.model.findings import Finding
    from analyzer.model.records import Call, Invocation
    from analyzer.plot.scene import Arc, StateRun, Track
    from analyzer.report.html.limits import Limits
    from analyzer.tcp.segments import Segment
    from analyzer.timeline.timelines import Timeline
    from analyzer.trace import Trace

#: How long the axis is, in the inches that `Scale` measures its breaks and margins with: a wide window.
AXIS = 11.0
#: Cells of the axis, in each of which at least one of many marks is drawn.
CELLS = 400
#: Least and most marks of one lane.
LEAST_MARKS, MOST_MARKS = 300, 4_000
#: On both sides of a finding that has no connection, a tenth of its time is shown, within these bounds.
LEAST_AROUND_NS, MOST_AROUND_NS = SECOND // 10, 60 * SECOND
#: Connections of a finding about many that are drawn, a line each.
LIVES = 12


class Figures:
    """Figures by key (`C1`, or `F3` where a finding is about no single connection), each built once."""

    def __init__(self, trace: Trace, limits: Limits, wanted: int) -> None:
        self.trace, self.limits = trace, limits
        self.marks = int(np.clip(limits.marks // max(wanted, 1), LEAST_MARKS, MOST_MARKS))
        self.content: dict[str, dict[str, Any]] = {}

    def of_finding(self, item: Finding) -> str | None:
        """The key of the figure that shows a finding; None where there is nothing to draw."""
        if item.connection and self.of_connection(item.connection):
            return item.connection
        if not item.evidence:
            return None
        self.content[item.id] = self._figure(_around(self.trace, item))
        return item.id

    def of_connection(self, name: str) -> str | None:
        """The key of the figure of a connection; None where no packets of it were kept, or too many to draw."""
        if name in self.content:
            return name
        record = self.trace.story.connections.record(self.trace.index(name))
        if record.a.packets + record.b.packets > self.limits.segments:
            return None
        try:
            self.content[name] = self._figure(scene(self.trace, name))
        except ValueError:
            return None
        return name

    def of_timeline(self, told: Timeline) -> str | None:
        """The key of the figure of a timeline's subject, in the stretch of its steps; None where there is nothing to draw."""
        if not told.steps:
            return None
        with suppress(KeyError, ValueError):
            self.content[told.subject.id] = self._figure(
                scene(self.trace, told.subject.id, told.steps[0].time_ns, told.steps[-1].time_ns)
            )
            return told.subject.id
        return None

    def _figure(self, found: Scene) -> dict[str, Any]:
        scale = Scale(found.marks(), AXIS)
        return _Lanes(found, scale, self.marks).content()


class _Lanes:
    """The lanes of one scene as lists of marks."""

    def __init__(self, found: Scene, scale: Scale, most: int) -> None:
        self.scene, self.scale, self.most = found, scale, most
        self.story = found.trace.story
        self.proof = sorted(e.time_ns for f in found.findings for e in f.evidence) or [found.start_ns]
        self.refs = found.evidence_refs()
        self.notes: list[str] = []

    def content(self) -> dict[str, Any]:
        """Every lane, the axis, and what had to be left out."""
        s = self.scene
        return {
            "title": s.title, "zero": iso(s.zero_ns),
            "axis": [[*self._span(x.start_ns, x.end_ns), *(round(self.scale.x(t), 4) for t in (x.start_ns, x.end_ns))]
                     for x in self.scale.stretches],
            "freezes": [[*self._span(z.start_ns, z.end_ns), seconds(z.length_ns)] for z in s.freezes],
            "invocations": self._some(s.invocations, "invocations", lambda i: i.start_ns, _bad, self._invocation),
            "calls": self._some(s.calls, "calls", lambda c: c.start_ns or 0, lambda c: bool(c.status), self._call),
            "pings": self._some(s.pings, "pings", lambda p: p.sent_ns, lambda p: p.timed_out_ns is not None, self._ping),
            "lives": [self._life(life) for life in s.lives[:LIVES]],
            "tracks": [self._track(track) for track in s.tracks],
            "log": self._some(s.events, "log lines", lambda e: e.time_ns, self._telling, self._line),
            "findings": [self._flag(item) for item in s.findings],
            "notes": self._left_out(),
        }  # fmt: skip

    def _left_out(self) -> list[str]:
        more = len(self.scene.lives) - LIVES
        return self.notes + ([f"{count(more, 'more connection')} not drawn"] if more > 0 else [])

    def _span(self, start_ns: int, end_ns: int) -> list[int]:
        return [start_ns - self.scene.zero_ns, end_ns - self.scene.zero_ns]

    def _invocation(self, i: Invocation) -> list[Any]:
        word = "" if i.status in ("success", "unknown") else f" {i.status}"
        lasted = seconds(i.end_ns - i.start_ns) if i.end_ns is not None else "unfinished"
        span = self._span(i.start_ns, self.scene.end_ns if i.end_ns is None else i.end_ns)
        return [*span, _bad(i), f"{i.request_id[:8]}{word}", f"{i.request_id}{word}, {lasted}"]

    def _call(self, c: Call) -> list[Any]:
        start = c.start_ns or 0
        outcome = "end not logged" if c.end_ns is None else status_name(c.status)
        text = f"{c.method or 'call'}: {outcome}{f', {seconds(c.end_ns - start)}' if c.end_ns else ''}"
        return [*self._span(start, c.end_ns or start), bool(c.status), outcome, text]

    def _ping(self, p: Arc) -> list[Any]:
        if p.timed_out_ns is not None:
            ran = f", ran {seconds(p.running_ns)}" if p.running_ns is not None else ""
            limit = f" of {seconds(p.timeout_ns)}" if ran and p.timeout_ns else ""
            text, fate = f"PING timed out after {seconds(p.timed_out_ns - p.sent_ns)}{ran}{limit}", "timeout"
        elif p.acked_ns is not None:
            text, fate = f"PING answered after {seconds(p.acked_ns - p.sent_ns)}", "acked"
        else:
            text, fate = "PING, no answer seen", "open"
        return [*self._span(p.sent_ns, p.timed_out_ns or p.acked_ns or p.sent_ns), fate, text]

    def _life(self, life: Life) -> list[Any]:
        cs = self.story.connections
        record = cs.record(self.scene.trace.index(life.name))
        end = life.ended_by or ("open" if record.b.packets else "unanswered")
        text = f"{life.name}  {cs.ends(life.name)}: {end}, {seconds(life.end_ns - life.start_ns)}"
        return [
            *self._span(life.start_ns, life.end_ns),
            end in ("unanswered", "client-rst", "server-rst"),
            f"{life.name} {end}",
            text,
        ]

    def _track(self, track: Track) -> dict[str, Any]:
        fates = dict(zip(map(id, track.segments), track.fates, strict=True))
        return {
            "name": track.name, "ends": f"{track.client} → {track.server}",
            "client": [self._state(run) for run in track.client_states[: self.most]],
            "server": [self._state(run) for run in track.server_states[: self.most]],
            "packets": self._some(
                track.segments, f"packets of {track.name}", lambda s: s.time_ns,
                lambda s: look_of(s) not in ("ack", "data") or self._proves(s), lambda s: self._packet(track, s, fates[id(s)]),
            ),
        }  # fmt: skip

    def _state(self, run: StateRun) -> list[Any]:
        return [*self._span(run.start_ns, run.end_ns), run.state]

    def _packet(self, track: Track, s: Segment, fate: str) -> list[Any]:
        """When the client's side and the server's side saw it, its direction, kind, fate and words."""
        place = min(s.places, key=lambda p: p.time_ns)
        near, far = s.at(track.points[0]) or place, s.at(track.points[-1]) or place
        source = self.story.source(place.source)
        words = s.describe()
        text = f"{source.at(source.packet_ref(place.no))}  {words}{f', {fate}' if fate else ''}"
        label = words[2:].split(" (")[0].replace(", retransmitted", "")
        how = 0 if not fate else 1 if is_lost(fate) else 2
        return [*self._span(near.time_ns, far.time_ns), s.from_client, look_of(s), how, label, text]

    def _proves(self, s: Segment) -> bool:
        return any((p.source, self.story.source(p.source).packet_ref(p.no)) in self.refs for p in s.places)

    def _telling(self, e: Any) -> bool:
        return failed(e) or (e.source, e.ref) in self.refs

    def _line(self, e: Any) -> list[Any]:
        text = self.story.evidence(e).text
        return [e.time_ns - self.scene.zero_ns, failed(e), text, f"{self.story.source(e.source).at(e.ref)}  {text}"]

    def _flag(self, item: Finding) -> list[Any]:
        """A finding: id, code, severity, the numbered marks of its evidence, and when that begins."""
        zero = self.scene.zero_ns
        marks = [[e.time_ns - zero, e.primary, f"{n}. {e.text}"] for n, e in enumerate(item.evidence, 1)]
        since = iso(item.evidence[0].time_ns if item.evidence else item.time_ns)
        return [item.id, item.rule, item.severity.word, marks, since]

    def _some(
        self,
        things: Sequence[Any],
        what: str,
        time: Callable[[Any], int],
        telling: Callable[[Any], bool],
        drawn: Callable[[Any], list[Any]],
    ) -> list[list[Any]]:
        """Things that happen at a time as marks; where that would be too many, some of them, and it is said."""
        if len(things) > self.most:
            self.notes.append(f"{len(things):,} {what}, {self.most:,} of them drawn")
            chosen = thinned(
                np.array([self.scale.x(time(t)) for t in things]) / AXIS,
                np.array([telling(t) for t in things]),
                np.array([self.scale.x(t) for t in self.proof]) / AXIS,
                self.most,
            )
            things = [things[n] for n in chosen.tolist()]
        return [drawn(t) for t in things]


def _bad(i: Invocation) -> bool:
    return i.status in ("error", "timeout", "crash")


def thinned(places: Any, telling: Any, focus: Any, most: int) -> Any:
    """Which `most` of many marks to draw, in order: of those at `places` (0 to 1 on the axis), the `telling` ones, then one per
    cell of the axis, then those nearest to one of the `focus` places (in order)."""
    cells = (places * CELLS).astype(np.int64)
    first = np.zeros(len(places), bool)
    first[np.unique(cells, return_index=True)[1]] = True
    right = np.searchsorted(focus, places).clip(0, len(focus) - 1)
    distance = np.minimum(abs(places - focus[right]), abs(places - focus[(right - 1).clip(0)]))
    return np.sort(np.lexsort((distance, ~first, ~telling))[:most])


def _around(trace: Trace, item: Finding) -> Scene:
    """What there is around the evidence of a finding: its environment's time, and the lives of its connections."""
    times = [e.time_ns for e in item.evidence] + [t for s in item.silences for t in (s.start_ns, s.end_ns)]
    lives = _lives(trace, item, times)
    times += [t for life in lives[:LIVES] for t in (life.start_ns, life.end_ns)]
    first, last = min(times), max(times)
    around = min(max((last - first) // 10, LEAST_AROUND_NS), MOST_AROUND_NS)
    found = Scene(trace, item.title, [], item.evidence[0].time_ns, "the first evidence", start_ns=first, end_ns=last)
    if item.environment:
        with suppress(KeyError, ValueError):  # it has no name of its own, or left nothing in that time
            found = scene(trace, item.environment, first - around, last + around)
    if lives:
        found.tracks, found.lives = [], lives
    found.findings = [item]
    return found


def _lives(trace: Trace, item: Finding, times: list[int]) -> list[Life]:
    """The connections of a finding: those nearest to its evidence in order of their first packet, then the rest."""
    cs = trace.story.connections
    lives = []
    for name in item.connections:
        record = cs.record(k := trace.index(name))
        lives.append(Life(name, *cs.life(k), record.ended_by))
    lives.sort(key=lambda life: (min(max(life.start_ns - t, t - life.end_ns, 0) for t in times), life.start_ns))
    return sorted(lives[:LIVES], key=lambda life: life.start_ns) + lives[LIVES:]
