"""The lane of one connection: both endpoints' states as bars, and between them every packet, its head at the receiver.

With captures at both ends a stroke leans by the time that it took. One that the captures prove was lost between them ends half
way in a cross; one that was made on the way begins there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from analyzer.plot.canvas import SMALL, Shelf, clean, fit, text_width, write
from analyzer.plot.pen import GRAIN, Key, Pen
from analyzer.plot.theme import GREEN, ORANGE, PURPLE, Theme
from analyzer.timeline.steps import kind_of
from analyzer.timeline.whereabouts import is_lost

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from analyzer.plot.scale import Scale
    from analyzer.plot.scene import Scene, StateRun, Track
    from analyzer.tcp.segments import Segment

#: Height of a row of text, in inches.
ROW = 0.155


class Look(Struct, frozen=True):
    """How one kind of packet is drawn: later ones of the list lie on top."""

    label: str
    colour: str
    head: Any
    size: float
    line: float
    dashed: bool = False

    def hue(self, theme: Theme) -> str:
        """Its own, or the theme's colour of that name."""
        return self.colour if self.colour.startswith("#") else str(getattr(theme, self.colour))


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
#: Kinds that are named even where no finding speaks of them, the gravest first.
_NAMED = ("rst", "fin", "goaway", "syn", "again")


def look_of(segment: Segment) -> str:
    """The key of `LOOKS` that a segment is drawn with."""
    if segment.retransmitted and not segment.syn and not segment.rst and not segment.fin:
        return "again"
    kind = kind_of(segment)
    return _KINDS.get(kind, kind)


def words(segment: Segment) -> str:
    """What a packet is, without its direction, size and repetition: `SYN`, `PING ack`, `60 B`."""
    return clean(segment.describe()[2:].split(" (")[0].replace(", retransmitted", ""))


def _runs(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    """Segments one by one, but repetitions of one (same side, same sequence number) together."""
    last: list[Segment] = []
    for s in segments:
        again = s.retransmitted and last and last[0].retransmitted
        if again and (s.from_client, s.seq) == (last[0].from_client, last[0].seq):
            last.append(s)
            continue
        if last:
            yield last
        last = [s]
    if last:
        yield last


class _Marks(Struct):
    strokes: list[Any] = []
    heads: dict[bool, tuple[list[float], list[float]]] = field(
        default_factory=lambda: {True: ([], []), False: ([], [])}
    )


class Conversation:
    """One connection's lane; `slim` where it is one of several."""

    BAR = 0.17
    #: Narrower bars are not explained in the legend: nobody could see their colour.
    SEEN = 0.03

    def __init__(self, scene: Scene, track: Track, scale: Scale, slim: bool = False) -> None:
        self.scene, self.track, self.scale, self.slim = scene, track, scale, slim
        self.name = track.name if slim else ""
        self.high = 0.5 if slim else 0.82
        rows = 4 if track.frames else 2
        self.above, self.below = (Shelf(rows, 0.0, scale.width) for _ in range(2))
        self.labels: list[tuple[float, int, bool, str, str]] = []
        self.refs = scene.evidence_refs()
        self.frames = {(f.place.source, f.place.no): f.text for f in track.frames if f.telling}
        self.found: dict[str, list[tuple[Segment, str]]] = {name: [] for name in LOOKS}
        seen: set[tuple[int, str, bool]] = set()
        for s, fate in zip(track.segments, track.fates, strict=True):
            name = look_of(s)
            place = (round(scale.x(s.time_ns) * GRAIN), name, s.from_client)
            if not fate and len(s.places) == len(track.points) and place in seen:
                continue
            seen.add(place)
            self.found[name].append((s, fate))
        self._label_all()
        self.upper = 0.07 + self.above.used * ROW + self.BAR
        self.lower = self.upper + self.high
        self.height = self.lower + self.BAR + self.below.used * ROW + 0.07

    # ---- what is named

    def _label_all(self) -> None:
        """The packets that open, end or prove something are named, where there is room, and what was sent again and again."""
        wanted = []
        telling = [
            s for s in self.track.segments if look_of(s) not in ("ack", "data") or self._proves(s) or self._frame(s)
        ]
        for run in _runs(telling):
            name, proof = look_of(run[0]), any(self._proves(s) for s in run)
            if proof or (name in _NAMED and not (self.slim and name == "again")) or self._frame(run[0]):
                rank = _NAMED.index(name) if name in _NAMED else len(_NAMED)
                wanted.append((not proof, rank, run[0].time_ns, name, run))
        for *_, name, run in sorted(wanted, key=lambda x: x[:3]):
            self._label(run, name)

    def _proves(self, segment: Segment) -> bool:
        source = self.scene.trace.story.source
        return any((p.source, source(p.source).packet_ref(p.no)) in self.refs for p in segment.places)

    def _frame(self, segment: Segment) -> str:
        """What tshark saw inside, if it was asked and that says something."""
        return next((self.frames[place] for p in segment.places if (place := (p.source, p.no)) in self.frames), "")

    def _label(self, run: list[Segment], name: str) -> None:
        again = (" again" if run[0].retransmitted else "") + (f" ×{len(run)}" if len(run) > 1 else "")
        text = fit(clean(self._frame(run[0])) or words(run[0]), 2.2) + again
        x = self._ends(run[len(run) // 2])[0 if run[0].from_client else 1]
        width = text_width(text)
        at = min(max(x - width / 2, 0.0), self.scale.width - width)
        row = (self.above if run[0].from_client else self.below).place(at, width)
        if text and row is not None:
            self.labels.append((at, row, run[0].from_client, text, name))

    # ---- drawing

    def draw(self, pen: Pen, top: float) -> None:
        """The bars, then the kinds of packets from the commonest to the gravest, then their names."""
        upper, lower = top + self.upper, top + self.lower
        self._states(pen, self.track.client_states, upper - self.BAR, upper)
        self._states(pen, self.track.server_states, lower, lower + self.BAR)
        for name, packets in self.found.items():
            self._kind(pen, LOOKS[name], packets, upper, lower)
        self._fates(pen, upper, lower)
        for at, row, from_client, text, name in self.labels:
            y = upper - self.BAR - (row + 0.5) * ROW if from_client else lower + self.BAR + (row + 0.5) * ROW
            pen.text(at, y, text, pen.theme.error if name == "rst" else pen.theme.ink, gid="packet-text")
        for y, text in ((upper - self.BAR / 2, "client"), (lower + self.BAR / 2, "server")):
            write(pen.axes, -0.06, y, text, ha="right", color=pen.theme.dim if self.slim else pen.theme.ink)
        if self.slim:
            y = (upper + lower) / 2
            address = fit(clean(self.track.server), 1.0)
            write(pen.axes, -0.06, y - 0.07, self.track.name, ha="right", color=pen.theme.ink, fontweight="bold")
            write(pen.axes, -0.06, y + 0.08, address, ha="right", color=pen.theme.dim)

    def _states(self, pen: Pen, runs: list[StateRun], y0: float, y1: float) -> None:
        bars = [(*self._run_ends(run), run.state) for run in runs]
        for state in dict.fromkeys(state for *_, state in bars):
            boxes = [(x0, max(x1, x0 + 0.015), y0, y1) for x0, x1, name in bars if name == state]
            style = {"edgecolor": pen.theme.page, "linewidth": 0.4, "gid": f"state-{state}"}
            pen.boxes(boxes, pen.theme.state(state), **style)
        for x0, x1, state in bars:
            fill = pen.theme.state(state)
            pen.label(x0, x1, (y0 + y1) / 2, (state,), pen.theme.on(fill), fill)

    def _run_ends(self, run: StateRun) -> tuple[float, float]:
        return self.scale.x(run.start_ns), self.scale.x(run.end_ns)

    def _ends(self, s: Segment) -> tuple[float, float]:
        """Where a stroke meets the client's bar and the server's."""
        near, far = s.at(self.track.points[0]), s.at(self.track.points[-1])
        client, server = near or far, far or near
        if client is None or server is None:
            client = server = s.places[0]
        return self.scale.x(client.time_ns), self.scale.x(server.time_ns)

    def _kind(self, pen: Pen, look: Look, packets: list[tuple[Segment, str]], upper: float, lower: float) -> None:
        marks = _Marks()
        for s, fate in packets:
            self._stroke(s, fate, upper, lower, marks)
        colour = look.hue(pen.theme)
        order = 3 + list(LOOKS.values()).index(look) / 10
        dash = (0, (2.5, 1.5)) if look.dashed else "solid"
        style = {"linewidths": look.line, "linestyles": dash, "zorder": order, "gid": f"packets-{look.label}"}
        pen.lines(marks.strokes, colour, **style)
        for down, places in marks.heads.items():
            head = {">": "v" if down else "^"}.get(look.head, look.head)
            edge = 1.8 if look.head == "x" else 0
            if head is not None:
                pen.marks(*places, colour, head, look.size, zorder=order + 2, markeredgewidth=edge)

    def _stroke(self, s: Segment, fate: str, upper: float, lower: float, marks: _Marks) -> None:
        a, b = self._ends(s)
        half = (upper + lower) / 2
        y0, y1 = upper, lower
        if len(self.track.points) > 1:
            y0 = upper if s.at(self.track.points[0]) else half
            y1 = lower if s.at(self.track.points[-1]) else half
        marks.strokes.append([(a, y0), (b, y1)])
        if not is_lost(fate):
            xs, ys = marks.heads[s.from_client]
            xs.append(b if s.from_client else a)
            ys.append(y1 - 0.03 if s.from_client else y0 + 0.03)

    def _fates(self, pen: Pen, upper: float, lower: float) -> None:
        """A cross where a packet was lost, a ring where one was made."""
        told = [(s, fate) for packets in self.found.values() for s, fate in packets if fate]
        for marker, lost in (("x", True), ("o", False)):
            xs = [self._ends(s)[0] for s, fate in told if is_lost(fate) is lost]
            style = {"zorder": 5.6, "markeredgewidth": 1.5, "markerfacecolor": "none"}
            gid = "packets-lost" if lost else "packets-made"
            pen.marks(xs, [(upper + lower) / 2] * len(xs), pen.theme.error, marker, 4.5, gid=gid, **style)

    def keys(self, theme: Theme) -> list[Key]:
        """States whose names did not fit, and the kinds of packets that are there."""
        runs = [(*self._run_ends(r), r.state) for r in (*self.track.client_states, *self.track.server_states)]
        named = {s for x0, x1, s in runs if self.scale.room(x0 + 0.04, x1 - 0.04, text_width(s, SMALL))}
        seen = dict.fromkeys(s for x0, x1, s in runs if x1 - x0 >= self.SEEN)
        keys = [Key(state, fill=theme.state(state)) for state in seen if state not in named]
        used = [look for name, look in LOOKS.items() if self.found[name]]
        keys += [
            Key(k.label, colour=k.hue(theme), marker="v" if k.head == ">" else k.head, dashed=k.dashed) for k in used
        ]
        told = [(s, fate) for packets in self.found.values() for s, fate in packets]
        if any(not fate and len(s.places) < len(self.track.points) for s, fate in told):
            keys.append(Key("half a stroke: in one capture only", colour=theme.dim))
        fates = [fate for _, fate in told if fate]
        if any(is_lost(fate) for fate in fates):
            keys.append(Key("lost between the captures", colour=theme.error, marker="x", line=False))
        if not all(is_lost(fate) for fate in fates):
            keys.append(Key("made on the way", colour=theme.error, marker="o", line=False, hollow=True))
        return keys
