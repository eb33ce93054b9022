"""The lanes of a timeline, one class each: how high it is, and how it is drawn from its top downwards. Places are in inches."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch, Polygon, Rectangle
from matplotlib.path import Path
from matplotlib.patheffects import withStroke

from analyzer.model.times import MS, seconds
from analyzer.plot.canvas import NORMAL, SMALL, Shelf, clean, fit, text_width, write
from analyzer.plot.scene import Scene, StateRun, failed
from analyzer.plot.theme import GREEN, ORANGE, PURPLE, Theme
from analyzer.timeline.story import event_text
from analyzer.trace import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from matplotlib.axes import Axes

    from analyzer.model.events import Event
    from analyzer.model.records import Invocation, Ping
    from analyzer.plot.scale import Scale
    from analyzer.tcp.segments import Segment

ROW = 0.155
#: A transport's number and address before a gRPC trace line: every line of the plot is about this connection.
_SUBJECT = re.compile(r"^\(\d+\) \S+:\d+ ")
#: Resolution at which marks that fall together are drawn once, in marks an inch: a million packets cost a screenful.
GRAIN = 400

#: Kinds of log lines that only repeat what another one has said.
_ECHOES = frozenset(("ping-error", "call-cancelled"))


@dataclass(slots=True)
class Pen:
    """What every lane draws with."""

    axes: Axes
    theme: Theme
    scale: Scale

    def box(self, x0: float, x1: float, y0: float, y1: float, fill: str, **style: Any) -> Rectangle:
        """A filled rectangle."""
        defaults: dict[str, Any] = {"facecolor": fill, "linewidth": 0, "zorder": 3}
        box = Rectangle((x0, y0), x1 - x0, y1 - y0, **(defaults | style))
        self.axes.add_patch(box)
        return box

    def lines(self, segments: list[Any], colour: str, **style: Any) -> None:
        """Many strokes at once."""
        if segments:
            self.axes.add_collection(LineCollection(segments, colors=colour, **style), autolim=False)

    def marks(self, xs: list[float], ys: list[float], colour: str, marker: Any, size: float, **style: Any) -> None:
        """Many marks at once."""
        if xs:
            style = {"zorder": 5, "markeredgewidth": 0} | style
            self.axes.add_line(Line2D(xs, ys, linestyle="none", marker=marker, markersize=size, color=colour, **style))

    def text(self, x: float, y: float, text: str, colour: str, **style: Any) -> None:
        """Text with a rim in the page's colour, readable on hatching and across lines."""
        rim = [withStroke(linewidth=2.2, foreground=self.theme.page)]
        write(self.axes, x, y, text, color=colour, path_effects=rim, **style)

    def label(self, x0: float, x1: float, y: float, texts: tuple[str, ...], colour: str, fill: str) -> bool:
        """The first of these texts that fits into [x0, x1], beside the breaks if it can, else on a ground that hides the break."""
        for text in texts:
            found = self.scale.room(x0 + 0.04, x1 - 0.04, text_width(text))
            if found is not None:
                ground = {"boxstyle": "square,pad=0.12", "facecolor": fill, "linewidth": 0}
                write(self.axes, found[0], y, text, ha="center", color=colour, bbox=ground)
                return True
        return False


@dataclass(slots=True)
class Key:
    """An entry of the legend: a patch (`fill`), or a marker on a line."""

    label: str
    fill: str | None = None
    colour: str = ""
    marker: Any = None
    dashed: bool = False


class Lane(Protocol):
    """One lane."""

    name: str
    height: float

    def draw(self, pen: Pen, top: float) -> None:
        """Draw it between `top` and `top + height`."""

    def keys(self, theme: Theme) -> list[Key]:
        """What the legend must explain."""


# ---- invocations


class Invocations:
    """Bars from START to REPORT with short request ids above, and how long the environment was frozen in between."""

    name = "invocations"
    BAR = 0.17

    def __init__(self, scene: Scene, scale: Scale) -> None:
        self.scene, self.scale = scene, scale
        shelf = Shelf(2, 0.0, scale.width)
        self.labels = [found for i in scene.invocations if (found := self._label(i, shelf))]
        self.rows = max(shelf.used, 1)
        self.height = self.rows * ROW + self.BAR + 0.12

    def _ends(self, i: Invocation) -> tuple[float, float]:
        end = self.scene.end_ns if i.end_ns is None else i.end_ns
        x0, x1 = self.scale.x(i.start_ns), self.scale.x(end)
        return x0, max(x1, x0 + 0.025)

    def _label(self, i: Invocation, shelf: Shelf) -> tuple[float, int, str] | None:
        word = "" if i.status in ("success", "unknown") else f" {i.status}"
        for text in (clean(i.request_id[:8]) + word, clean(i.request_id[:4]) + "…"):
            width = text_width(text)
            x = min(self._ends(i)[0] + 0.03, self.scale.width - width)
            row = shelf.place(x, width)
            if row is not None:
                return x, row, text
        return None

    def draw(self, pen: Pen, top: float) -> None:
        """Bars, ids, and the freezes' lengths."""
        y = top + 0.04 + self.rows * ROW
        for i in self.scene.invocations:
            bad = i.status in ("error", "timeout", "crash")
            fill = pen.theme.error if bad else pen.theme.invocation
            pen.box(*self._ends(i), y, y + self.BAR, fill, edgecolor=pen.theme.lane, linewidth=0.6, gid="invocation")
        for x, row, text in self.labels:
            pen.text(x, y - (row + 0.5) * ROW, text, pen.theme.ink, gid="request-id")
        for z in self.scene.freezes:
            length = seconds(z.length_ns)
            ends = pen.scale.x(z.start_ns), pen.scale.x(z.end_ns)
            pen.label(*ends, y + self.BAR / 2, (f"frozen {length}", length), pen.theme.ink, pen.theme.freeze)

    def keys(self, theme: Theme) -> list[Key]:
        """The freeze's hatching."""
        return [Key("frozen", fill="freeze")] if self.scene.freezes else []


# ---- gRPC pings


class Pings:
    """Arcs from the line that sent a ping to the line that had its answer, or gave up."""

    name = "gRPC pings"
    height = 0.62

    def __init__(self, scene: Scene, scale: Scale) -> None:
        self.scene, self.scale = scene, scale

    def draw(self, pen: Pen, top: float) -> None:
        """Green arcs are answered, red ones timed out."""
        base = top + self.height - 0.09
        shelf = Shelf(1, 0.0, pen.scale.width)
        pen.lines([[(0, base), (pen.scale.width, base)]], pen.theme.faint, linewidths=0.6, zorder=2)
        for p in self.scene.pings:
            x0 = pen.scale.x(p.sent_ns)
            pen.marks([x0], [base], pen.theme.ink, "o", 3)
            if p.timed_out_ns is not None:
                self._timed_out(pen, p, p.timed_out_ns, base, shelf)
            elif p.acked_ns is not None:
                self._arc(pen, x0, pen.scale.x(p.acked_ns), base, pen.theme.good, "ping-acked")
        late = [self.scene.trace.story.events[p.late_ack].time_ns for p in self.scene.pings if p.late_ack is not None]
        xs = [pen.scale.x(t) for t in late]
        pen.marks(
            xs, [base] * len(xs), pen.theme.good, "D", 4, zorder=5.5, markerfacecolor=pen.theme.page, markeredgewidth=1
        )

    def _arc(self, pen: Pen, x0: float, x1: float, base: float, colour: str, gid: str) -> float:
        x1 = max(x1, x0 + 0.06)
        high = base - min(0.34, 0.1 + 0.25 * (x1 - x0)) * 4 / 3
        path = Path(
            [(x0, base), (x0, high), (x1, high), (x1, base)], [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
        )
        pen.axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=1.5, zorder=4, gid=gid))
        return base - (base - high) * 0.75

    def _timed_out(self, pen: Pen, p: Ping, end_ns: int, base: float, shelf: Shelf) -> None:
        x0, x1 = pen.scale.x(p.sent_ns), pen.scale.x(end_ns)
        apex = self._arc(pen, x0, x1, base, pen.theme.error, "ping-timeout")
        pen.marks([x1], [base], pen.theme.error, "X", 5.5)
        ran = f", ran {seconds(p.running_ns)}" if p.running_ns is not None else ""
        limit = f" of {seconds(p.timeout_ms * MS)}" if ran and p.timeout_ms else ""
        for text in (f"timed out after {seconds(end_ns - p.sent_ns)}{ran}{limit}", f"timed out{ran}", "timed out"):
            width = text_width(text)
            found = pen.scale.room(x0 - 0.5, x1 + 0.5, width)
            x = min(max((found[0] if found else x1) - width / 2, 0.0), pen.scale.width - width)
            if shelf.place(x, width) is not None:
                pen.text(x, apex - 0.09, text, pen.theme.error)
                return

    def keys(self, theme: Theme) -> list[Key]:
        """Arcs."""
        keys = []
        if any(p.acked_ns is not None and p.timed_out_ns is None for p in self.scene.pings):
            keys.append(Key("ping answered", colour=theme.good))
        if any(p.timed_out_ns is not None for p in self.scene.pings):
            keys.append(Key("ping timed out", colour=theme.error, marker="X"))
        if any(p.late_ack is not None for p in self.scene.pings):
            keys.append(Key("answer after the timeout", colour=theme.good, marker="D"))
        return keys


# ---- endpoint states


class States:
    """One endpoint's RFC 9293 state, as far as packets prove it."""

    height = 0.25
    #: Narrower bars are not explained in the legend: nobody could see their colour.
    SEEN = 0.03

    def __init__(self, name: str, runs: list[StateRun], scale: Scale) -> None:
        self.name, self.scale = name, scale
        self.bars = [(*self._ends(run), run.state) for run in runs]
        named = {state for x0, x1, state in self.bars if scale.room(x0 + 0.04, x1 - 0.04, text_width(state))}
        seen = dict.fromkeys(state for x0, x1, state in self.bars if x1 - x0 >= self.SEEN)
        self.unnamed = [state for state in seen if state not in named]

    def _ends(self, run: StateRun) -> tuple[float, float]:
        return self.scale.x(run.start_ns), self.scale.x(run.end_ns)

    def draw(self, pen: Pen, top: float) -> None:
        """A bar a state, named where the name fits."""
        for x0, x1, state in self.bars:
            fill = pen.theme.state(state)
            style = {"edgecolor": pen.theme.page, "linewidth": 0.4, "gid": f"state-{state}"}
            pen.box(x0, max(x1, x0 + 0.015), top + 0.025, top + self.height - 0.025, fill, **style)
        for x0, x1, state in self.bars:
            fill = pen.theme.state(state)
            pen.label(x0, x1, top + self.height / 2, (state,), pen.theme.on(fill), fill)

    def keys(self, theme: Theme) -> list[Key]:
        """States whose names did not fit."""
        return [Key(state, fill=theme.state(state)) for state in self.unnamed]


# ---- packets


@dataclass(frozen=True, slots=True)
class Look:
    """How one kind of packet is drawn: later ones of the list lie on top."""

    label: str
    colour: str
    head: Any
    size: float
    line: float
    dashed: bool = False


LOOKS = {
    "ack": Look("ACK", "dim", None, 0, 0.45),
    "data": Look("data", "data", ">", 4.2, 0.9),
    "keepalive": Look("keepalive probe", "dim", "o", 4, 0.9, True),
    "ping": Look("PING", "ping", "D", 4, 1.1),
    "again": Look("retransmitted", ORANGE, ">", 4.8, 1.2, True),
    "goaway": Look("GOAWAY", PURPLE, "h", 5.5, 1.4),
    "syn": Look("SYN", GREEN, "o", 4.6, 1.2),
    "fin": Look("FIN", PURPLE, "s", 4.8, 1.5),
    "rst": Look("RST", "error", "x", 6.5, 1.6),
}
_KINDS = {
    "syn-ack": "syn",
    "fin-retransmission": "fin",
    "ping-ack": "ping",
    "retransmission": "again",
    "keepalive-probe": "keepalive",
}


def look_of(segment: Segment) -> str:
    """The key of `LOOKS` that a segment is drawn with."""
    if segment.retransmitted and not segment.syn and not segment.rst and not segment.fin:
        return "again"
    kind = kind_of(segment)
    return _KINDS.get(kind, kind)


#: Kinds that are named even where no finding speaks of them, the gravest first.
_NAMED = ("rst", "fin", "goaway", "syn", "again")


def _runs(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    """Segments one by one, but repetitions of one (same side, same sequence number) together."""
    last: list[Segment] = []
    for s in segments:
        if (
            last
            and s.retransmitted
            and (s.from_client, s.seq, s.retransmitted) == (last[0].from_client, last[0].seq, last[0].retransmitted)
        ):
            last.append(s)
            continue
        if last:
            yield last
        last = [s]
    if last:
        yield last


def _proves(scene: Scene, segment: Segment, refs: set[tuple[str, str]]) -> bool:
    return any((p.source, scene.trace.story.source(p.source).packet_ref(p.no)) in refs for p in segment.places)


@dataclass(slots=True)
class _Marks:
    strokes: list[Any] = field(default_factory=list)
    down: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    up: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))


class Packets:
    """Strokes between two lines, the client above and the server below; the head is at the receiver.

    With captures at both ends a stroke leans by the time it took; one that a second capture never saw stops half way.
    """

    name = "packets"
    HIGH = 0.82

    def __init__(self, scene: Scene, scale: Scale) -> None:
        self.scene, self.scale = scene, scale
        self.above, self.below = Shelf(2, 0.0, scale.width), Shelf(2, 0.0, scale.width)
        self.labels: list[tuple[float, int, bool, str, str]] = []
        seen: set[tuple[int, str, bool]] = set()
        self.found: dict[str, list[Segment]] = {name: [] for name in LOOKS}
        for s in scene.segments:
            name = look_of(s)
            grain = (round(scale.x(s.time_ns) * GRAIN), name, s.from_client)
            if len(s.places) == len(scene.points) and grain in seen:
                continue
            seen.add(grain)
            self.found[name].append(s)
        self._label_all()
        self.height = self.HIGH + (self.above.used + self.below.used) * ROW + 0.2

    def _label_all(self) -> None:
        """The packets that open, end or prove something are named, where there is room, and what was sent again and again."""
        refs = self.scene.evidence_refs()
        wanted = []
        for run in _runs(
            s for s in self.scene.segments if look_of(s) not in ("ack", "data") or _proves(self.scene, s, refs)
        ):
            name, proof = look_of(run[0]), any(_proves(self.scene, s, refs) for s in run)
            if proof or name in _NAMED:
                wanted.append(
                    (not proof, _NAMED.index(name) if name in _NAMED else len(_NAMED), run[0].time_ns, name, run)
                )
        for *_, name, run in sorted(wanted, key=lambda x: x[:3]):
            self._label(run, name)

    def _label(self, run: list[Segment], name: str) -> None:
        words = run[0].describe()[2:].split(" (")[0].replace(", retransmitted", "")
        again = (" again" if run[0].retransmitted else "") + (f" ×{len(run)}" if len(run) > 1 else "")
        text = fit(clean(words), 2.2) + again
        side = 0 if run[0].from_client else 1
        x = self._ends(run[len(run) // 2])[side]
        width = text_width(text)
        at = min(max(x - width / 2, 0.0), self.scale.width - width)
        row = (self.above if run[0].from_client else self.below).place(at, width)
        if text and row is not None:
            self.labels.append((at, row, run[0].from_client, text, name))

    def _ends(self, s: Segment) -> tuple[float, float]:
        """Where a stroke meets the client's line and the server's."""
        points = self.scene.points
        near, far = s.at(points[0]), s.at(points[-1])
        client, server = near or far, far or near
        if client is None or server is None:
            client = server = s.places[0]
        return self.scale.x(client.time_ns), self.scale.x(server.time_ns)

    def draw(self, pen: Pen, top: float) -> None:
        """The two lines, then the kinds of packets from the commonest to the gravest."""
        upper = top + 0.1 + self.above.used * ROW
        lower = upper + self.HIGH
        for y in (upper, lower):
            pen.lines([[(0, y), (pen.scale.width, y)]], pen.theme.dim, linewidths=0.8, zorder=2)
        for name, segments in self.found.items():
            self._kind(pen, LOOKS[name], segments, upper, lower)
        for at, row, from_client, text, name in self.labels:
            y = upper - 0.09 - (row + 0.5) * ROW + 0.03 if from_client else lower + 0.09 + (row + 0.5) * ROW - 0.03
            colour = pen.theme.error if name == "rst" else pen.theme.ink
            pen.text(at, y, text, colour, gid="packet-text")
        for y, text in ((upper, "client"), (lower, "server")):
            write(pen.axes, -0.06, y, text, ha="right", color=pen.theme.dim)

    def _kind(self, pen: Pen, look: Look, segments: list[Segment], upper: float, lower: float) -> None:
        marks = _Marks()
        for s in segments:
            self._stroke(s, upper, lower, marks)
        colour = colour_of(look, pen.theme)
        order = 3 + list(LOOKS.values()).index(look) / 10
        dash = (0, (2.5, 1.5)) if look.dashed else "solid"
        pen.lines(
            marks.strokes, colour, linewidths=look.line, linestyles=dash, zorder=order, gid=f"packets-{look.label}"
        )
        for heads, arrow in ((marks.down, "v"), (marks.up, "^")):
            if look.head is not None:
                edge = 1.8 if look.head == "x" else 0
                pen.marks(
                    *heads,
                    colour,
                    arrow if look.head == ">" else look.head,
                    look.size,
                    zorder=order + 2,
                    markeredgewidth=edge,
                )

    def _stroke(self, s: Segment, upper: float, lower: float, marks: _Marks) -> None:
        a, b = self._ends(s)
        points = self.scene.points
        seen_near, seen_far = s.at(points[0]) is not None, s.at(points[-1]) is not None
        half = (upper + lower) / 2
        y0, y1 = (upper if seen_near else half), (lower if seen_far else half)
        if len(points) == 1:
            y0, y1 = upper, lower
        marks.strokes.append([(a, y0), (b, y1)])
        x, y = (b, y1 - 0.03) if s.from_client else (a, y0 + 0.03)
        heads = marks.down if s.from_client else marks.up
        heads[0].append(x)
        heads[1].append(y)

    def keys(self, theme: Theme) -> list[Key]:
        """The kinds that are there."""
        used = [look for name, look in LOOKS.items() if self.found[name]]
        return [Key(look.label, colour=colour_of(look, theme), marker=look.head, dashed=look.dashed) for look in used]


def colour_of(look: Look, theme: Theme) -> str:
    """A look's own hue, or the theme's colour of that name."""
    return look.colour if look.colour.startswith("#") else str(getattr(theme, look.colour))


# ---- log lines


class Log:
    """Ordinary lines of the environment as ticks; failures, and lines that a finding names, with their text."""

    name = "log"
    TICKS = 0.2
    MOST_LABELS = 7
    #: Lines that agree in this many letters are written out once.
    DISTINCT = 40
    ROOMS = (3.6, 2.0)
    LEAST_ROOM = 1.6

    def __init__(self, scene: Scene, scale: Scale) -> None:
        self.scene, self.scale = scene, scale
        self.bad = [e for e in scene.events if failed(e)]
        self.plain = [e for e in scene.events if not failed(e)]
        self.shelf = Shelf(6, 0.0, scale.width)
        self.labels: list[tuple[float, float, int, str, bool]] = []
        chosen = sorted(((scale.x(e.time_ns), text, failed(e)) for e, text in self._chosen()), key=lambda x: x[0])
        # Texts hang from their ticks: in this order the least of them cross another's line.
        for x, text, bad in reversed([c for c in chosen if scale.width - c[0] >= self.LEAST_ROOM]):
            self._label(x, text, bad, to_right=True)
        for x, text, bad in [c for c in chosen if scale.width - c[0] < self.LEAST_ROOM]:
            self._label(x, text, bad, to_right=False)
        self.height = self.TICKS + 0.1 + self.shelf.used * ROW

    def _chosen(self) -> list[tuple[Event, str]]:
        """Lines to write out: a finding's first, then the application's, then the rest; each text once."""
        refs = self.scene.evidence_refs()
        named = [e for e in self.scene.events if failed(e) or ((e.source, e.ref) in refs and e.layer != "lambda")]
        named.sort(key=lambda e: ((e.source, e.ref) not in refs, e.layer != "app", e.time_ns))
        once: dict[str, tuple[Event, str]] = {}
        for e in named:
            if e.kind not in _ECHOES:
                text = _SUBJECT.sub("", clean(event_text(e)))
                once.setdefault(text[: self.DISTINCT], (e, text))
        return list(once.values())[: self.MOST_LABELS]

    def _label(self, x: float, text: str, bad: bool, to_right: bool) -> None:
        """Beside a line that hangs down from its tick."""
        for room, stem in ((self.ROOMS[0], x), (self.ROOMS[1], x), (self.ROOMS[0], None), (self.ROOMS[1], None)):
            short = fit(text, min(room, self.scale.width - x - 0.05) if to_right else room)
            width = text_width(short)
            at = x + 0.04 if to_right else x - 0.04 - width
            row = self.shelf.place(at, width, gap=0.1, stem=stem) if short else None
            if row is not None:
                self.labels.append((at, x, row, short, bad))
                return

    def draw(self, pen: Pen, top: float) -> None:
        """Ticks, then flags and their texts below."""
        y0, y1 = top + 0.05, top + self.TICKS
        places = {round(pen.scale.x(e.time_ns) * GRAIN) / GRAIN: e.layer for e in self.plain}
        pen.lines([[(x, y0 + 0.04), (x, y1)] for x in places], pen.theme.dim, linewidths=0.6, zorder=3, gid="log-lines")
        xs = sorted({round(pen.scale.x(e.time_ns) * GRAIN) / GRAIN for e in self.bad})
        pen.marks(xs, [(y0 + y1) / 2] * len(xs), pen.theme.error, "v", 6, gid="log-errors")
        for at, x, row, text, bad in self.labels:
            colour = pen.theme.error if bad else pen.theme.ink
            y = y1 + 0.05 + (row + 0.5) * ROW
            pen.lines([[(x, y1), (x, y + 0.05)]], colour, linewidths=0.6, zorder=3)
            pen.text(at, y, text, colour, gid="log-text")

    def keys(self, theme: Theme) -> list[Key]:
        """The red flags."""
        return [Key("log line of a failure", colour=theme.error, marker="v")] if self.bad else []


# ---- findings


class Findings:
    """A flag with the rule's code where its primary evidence is, and a thin line through all lanes."""

    name = "findings"

    def __init__(self, scene: Scene, scale: Scale) -> None:
        self.flags: list[tuple[float, int, str, str]] = []
        shelf = Shelf(3, 0.0, scale.width)
        for f in scene.findings:
            x = scale.x(f.time_ns)
            width = text_width(f.rule, NORMAL, bold=True) + 0.14
            at = x if x + width <= scale.width else x - width
            row = shelf.place(at, width, gap=0.03)
            if row is not None:
                self.flags.append((at, row, f.rule, f.severity.word))
        self.height = max(shelf.used, 1) * 0.2 + 0.06

    def draw(self, pen: Pen, top: float) -> None:
        """Flags; the lines are drawn through all lanes beforehand."""
        for at, row, rule, severity in self.flags:
            colour = str(getattr(pen.theme, severity))
            y, width = top + 0.03 + row * 0.2, text_width(rule, NORMAL, bold=True) + 0.14
            shape = [(at, y), (at + width, y), (at + width, y + 0.17), (at, y + 0.17)]
            pen.axes.add_patch(
                Polygon(shape, closed=True, facecolor=colour, linewidth=0, zorder=7, gid=f"finding-{rule}")
            )
            style = {
                "ha": "center",
                "color": pen.theme.on(colour),
                "zorder": 8,
                "fontsize": NORMAL,
                "fontweight": "bold",
            }
            write(pen.axes, at + width / 2, y + 0.088, rule, **style)

    def keys(self, theme: Theme) -> list[Key]:
        """A code is named in the headline."""
        return []


def legend_width(key: Key) -> float:
    """Room of one entry, its swatch included."""
    return 0.3 + text_width(key.label, SMALL) + 0.2
