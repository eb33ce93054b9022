"""A connection as a ladder between client and server: every packet an arrow, states at both margins, what was lost drawn as lost."""

from __future__ import annotations

from math import atan2, cos, degrees, hypot, sin
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from analyzer.capture.columns import ACK_FLAG
from analyzer.model.times import SECOND
from analyzer.plot.canvas import NORMAL, SETTINGS, clean, fit, page, text_width, write
from analyzer.plot.head import INSET, head_height, headlines, write_head
from analyzer.plot.ladder import Gap, Ladder, Note, Rung, ladder
from analyzer.plot.packets import LOOKS, look_of, words
from analyzer.plot.pen import Key, Pen, flag, legend, legend_rows
from analyzer.plot.scale import Scale
from analyzer.plot.scene import Scene, scene
from analyzer.plot.theme import DARK, LIGHT, Theme
from analyzer.timeline.icmp import AboutConnection
from analyzer.timeline.steps import failed
from analyzer.timeline.story import event_text
from analyzer.timeline.whereabouts import is_lost
from analyzer.trace import time_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analyzer.tcp.segments import Segment
    from analyzer.trace import Trace

WIDTH = 10.0
LEAST_WIDTH = 7.5
#: From the border to a lifeline: room for a flag, a time and a state.
MARGIN = 2.35
#: Of a text above its arrow.
RISE = 0.045
#: Of the lifelines, which are the state bars.
BAR = 0.11
#: Where the times and the states end, from the lifeline outwards.
STATE, TIME = 0.12, 1.0


def sequence(
    trace: Trace,
    connection: str,
    *,
    dark: bool = False,
    width: float = WIDTH,
    since: int | str | None = None,
    until: int | str | None = None,
    local: bool = False,
) -> Figure:
    """Draw one connection's packets as arrows between client and server, in order, from the top down.

    `connection` is an id (`C1`) or the client's `ip:port`; `width` is in inches (at least 7.5), the height follows the number of
    packets, of which some sixty are shown: where there are more, ordinary ones are folded and counted, and `since` and
    `until` (ISO 8601, or ns since the epoch) choose a part; `local` says when it began in this machine's zone. At the margins stand seconds since the first packet, aligned, at the
    side whose capture saw the packet, and both endpoints' states as far as packets prove them. Sequence numbers are relative.
    Heights tell the order, not the time: silences of a second and more are breaks with their length.

    Raises `KeyError` for an unknown name, `ValueError` where it is no connection or nothing of it was kept.
    """
    found = scene(trace, connection, time_of("since", since), time_of("until", until), local)
    if not found.alone:
        raise ValueError(f"a sequence is drawn of one connection: {connection!r} is none; name one as C1 or ip:port")
    with mpl.rc_context(SETTINGS):
        return _Picture(found, DARK if dark else LIGHT, max(width, LEAST_WIDTH)).figure


class _Picture:
    """The page with everything on it."""

    def __init__(self, found: Scene, theme: Theme, width: float) -> None:
        self.found, self.theme, self.width = found, theme, width
        self.track = found.tracks[0]
        self.ladder: Ladder = ladder(found)
        self.bases = self._bases()
        lines = headlines(found.findings)
        self.top = head_height(lines) + 0.62
        keys = legend_rows(self._keys(), width - 2 * INSET)
        self.bottom = self.top + self.ladder.height
        self.figure, axes = page(width, self.bottom + 0.4 + 0.19 * len(keys), 0.0, theme.page)
        self.pen = Pen(axes, theme, Scale([0], width))
        write_head(axes, theme, INSET, width - 2 * INSET, found.title, found.subtitle, lines)
        self._freezes()
        self._columns()
        for gap in self.ladder.gaps:
            self._gap(gap)
        for rung in self.ladder.rungs:
            self._rung(rung)
        for note in self.ladder.notes:
            self._note(note)
        self._flags()
        shifted = Pen(axes, theme, Scale([0], width - 2 * INSET))
        legend(shifted, keys, self.bottom + 0.22, left=INSET)

    # ---- places

    def _x(self, column: float) -> float:
        inner = self.width - 2 * MARGIN
        return MARGIN + inner * column / self.ladder.last

    def _out(self, column: float, distance: float) -> float:
        """Outwards from an end's lifeline, where times and states stand."""
        return self._x(column) + (-distance if column == 0 else distance)

    def _bases(self) -> dict[bool, int]:
        """The first sequence number of each side: what relative ones count from."""
        segments = self.found.trace.story.connections.segments(self.track.k)
        bases = {}
        for side in (True, False):
            own = [s for s in segments if s.from_client is side]
            opening = next((s.seq for s in own if s.syn), None)
            answered = next((s.ack for s in segments if s.from_client is not side and s.ack > 0), 0)
            bases[side] = opening if opening is not None else own[0].seq if own else answered
        return bases

    def _ground(self, pad: float) -> dict[str, Any]:
        """Behind a text: hides what runs through it."""
        return {"boxstyle": f"square,pad={pad}", "facecolor": self.theme.page, "linewidth": 0}

    # ---- what stands still

    def _columns(self) -> None:
        points = self.found.trace.story.connections.points
        labels = [points[p].source.label for p in self.track.points]
        captured = labels if len(labels) > 1 else ["", ""]
        ends = {0: ("client", self.track.client), self.ladder.last: ("server", self.track.server)}
        y = self.top - 0.4
        for column, label in enumerate(captured):
            name, address = ends.get(column, ("", label))
            style: dict[str, Any] = {"ha": "center", "color": self.theme.ink, "fontsize": NORMAL}
            write(self.pen.axes, self._x(column), y, f"{name} {clean(address)}".strip(), fontweight="bold", **style)
            if name and label:
                write(self.pen.axes, self._x(column), y + 0.16, clean(label), ha="center", color=self.theme.dim)
            if not name:
                self._thread(column)
        if len(labels) == 1:
            text = f"captured at {clean(labels[0])}: the times are that capture's"
            write(self.pen.axes, self.width / 2, y + 0.16, text, ha="center", color=self.theme.dim)
        if self.ladder.has_middle and self.ladder.middle % 1:
            self._thread(self.ladder.middle)
            write(self.pen.axes, self._x(self.ladder.middle), y + 0.16, "in between", ha="center", color=self.theme.dim)
        for column, bars in ((0, self.ladder.client), (self.ladder.last, self.ladder.server)):
            self._states(column, bars)

    def _thread(self, column: float) -> None:
        x = self._x(column)
        style = {"linewidths": 0.8, "linestyles": (0, (1, 2)), "zorder": 1.5}
        self.pen.lines([[(x, self.top - 0.12), (x, self.bottom)]], self.theme.dim, **style)

    def _states(self, column: int, bars: list[tuple[str, float, float]]) -> None:
        x = self._x(column)
        self.pen.box(x - BAR / 2, x + BAR / 2, self.top - 0.12, self.bottom, self.theme.faint, zorder=2)
        for state, y0, y1 in bars:
            fill = self.theme.state(state)
            box = (x - BAR / 2, x + BAR / 2, self.top + y0, self.top + y1)
            self.pen.boxes([box], fill, edgecolor=self.theme.page, linewidth=0.4, zorder=2.5, gid=f"state-{state}")
            ha = "right" if column == 0 else "left"
            if state == "UNKNOWN":
                continue
            self.pen.text(self._out(column, STATE), self.top + y0, state, self.theme.ink, ha=ha, gid="state-text")

    def _freezes(self) -> None:
        x = self._x(0) - BAR / 2
        self.pen.freezes([(INSET, x, self.top + a, self.top + b) for a, b in self.ladder.freezes])

    def _gap(self, gap: Gap) -> None:
        y = self.top + (gap.y0 + gap.y1) / 2
        x0, x1 = self._x(0) - BAR, self._x(self.ladder.last) + BAR
        if not gap.folded:
            half = 0.06
            wave = [(x0 + n * 0.06, 0.016 if n % 2 else -0.016) for n in range(int((x1 - x0) / 0.06) + 1)]
            upper, lower = ([(x, y + side * half + dy) for x, dy in wave] for side in (-1, 1))
            points = upper + lower[::-1]
            self.pen.axes.fill([p[0] for p in points], [p[1] for p in points], color=self.theme.page, lw=0, zorder=4)
            self.pen.lines([upper, lower], self.theme.dim, linewidths=0.6, zorder=4.1, gid="break")
        style: dict[str, Any] = {
            "ha": "center",
            "bbox": self._ground(0.2),
            "gid": "fold" if gap.folded else "break-label",
        }
        write(
            self.pen.axes, self.width / 2, y, gap.text, color=self.theme.dim if gap.folded else self.theme.ink, **style
        )

    # ---- packets and lines

    def _rung(self, rung: Rung) -> None:
        look = LOOKS[look_of(rung.segment)]
        colour = look.hue(self.theme)
        lost = is_lost(rung.fate)
        legs = self._legs(rung)
        dash: Any = (0, (4, 2)) if look.dashed else "solid"
        style = {"linewidths": max(look.line, 0.7), "linestyles": dash, "zorder": 3, "gid": f"packets-{look.label}"}
        if rung.unanswered:
            middle = tuple((a + b) / 2 for a, b in zip(*legs, strict=True))
            self.pen.lines([[legs[0], middle]], colour, **style)
            self.pen.lines(
                [[middle, legs[1]]], self.theme.dim, **(style | {"linestyles": (0, (1, 3)), "linewidths": 0.8})
            )
        else:
            self.pen.lines([legs], colour, **style)
        if lost:
            ends = ([legs[-1][0]], [legs[-1][1]])
            self.pen.marks(*ends, self.theme.error, "x", 6, markeredgewidth=1.8, gid="packets-lost")
        elif not rung.unanswered:
            self._head(legs[-2], legs[-1], colour)
        if rung.fate and not lost:
            style = {"markerfacecolor": self.theme.page, "markeredgewidth": 1.5, "gid": "packets-made"}
            self.pen.marks([legs[0][0]], [legs[0][1]], self.theme.error, "o", 5, **style)
        self._name(rung, *legs[:2])
        for column, y, time_ns in rung.seen:
            if column in (0, self.ladder.last):
                self._stamp(column, y, time_ns)

    def _legs(self, rung: Rung) -> list[tuple[float, float]]:
        """The arrow's corners: where it begins, the captures between, where it ends."""
        between = [(c, y) for c, y, _ in rung.seen if c not in (rung.start[0], rung.end[0])]
        path = [rung.start, *between, rung.end]
        rightwards = rung.end[0] > rung.start[0]
        return [
            (self._x(c) + (BAR / 2 if c == 0 else -BAR / 2 if c == self.ladder.last else 0.0), y + self.top)
            for c, y in sorted(path, reverse=not rightwards)
        ]

    def _head(self, before: tuple[float, float], end: tuple[float, float], colour: str) -> None:
        """A triangle at the end of an arrow."""
        (x0, y0), (x1, y1) = before, end
        length = hypot(x1 - x0, y1 - y0)
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        back, side = 0.085, 0.032
        x, y = x1 - back * ux, y1 - back * uy
        corners = [(x1, y1), (x - side * uy, y + side * ux), (x + side * uy, y - side * ux)]
        self.pen.polygon(corners, colour, zorder=3.2)

    def _name(self, rung: Rung, start: tuple[float, float], end: tuple[float, float]) -> None:
        """What it is and its numbers, above the arrow, beside where it begins."""
        s = rung.segment
        room = hypot(end[0] - start[0], end[1] - start[1]) - 0.3
        fate = f" · {clean(rung.fate)}" if rung.fate else ""
        what = fit(words(s) + (" again" if s.retransmitted else "") + fate, room)
        numbers = self._numbers(s)
        width, more = text_width(what), 0.1 + text_width(numbers)
        if width + more > room:
            numbers, more = "", 0.0
        # Along the arrow; the text of one that points left begins at its far end.
        rightwards = end[0] > start[0]
        slope = atan2(end[1] - start[1], abs(end[0] - start[0]))
        first = 0.12 if rightwards else 0.12 + width + more
        for text, at, colour in (
            (what, 0.0, self.theme.error if rung.fate or s.rst else self.theme.ink),
            (numbers, width + 0.1, self.theme.dim),
        ):
            along = first + at if rightwards else first - at
            x = start[0] + (along if rightwards else -along) * cos(slope)
            y = start[1] + along * sin(slope) - RISE
            angle = degrees(slope) * (-1 if rightwards else 1)
            style: dict[str, Any] = {"va": "baseline", "rotation": angle, "rotation_mode": "anchor"}
            if text:
                write(self.pen.axes, x, y, text, color=colour, bbox=self._ground(0.0), gid="packet-text", **style)

    def _numbers(self, s: Segment) -> str:
        """`seq 1 ack 1 len 60`, relative as Wireshark shows them."""
        seq = (s.seq - self.bases[s.from_client]) & 0xFFFFFFFF
        ack = f" ack {(s.ack - self.bases[not s.from_client]) & 0xFFFFFFFF}" if s.flags & ACK_FLAG else ""
        return f"seq {seq}{ack}" + (f" len {s.length}" if s.length else "")

    def _stamp(self, column: float, y: float, time_ns: int) -> None:
        text = f"{(time_ns - self.found.zero_ns) / SECOND:.6f}".replace("-", "−")
        ha = "right" if column == 0 else "left"
        self.pen.text(self._out(column, TIME), self.top + y, text, self.theme.dim, ha=ha, gid="time")

    def _note(self, note: Note) -> None:
        y = self.top + note.y
        if isinstance(note.what, AboutConnection):
            self._icmp(note.what, y)
            return
        bad = failed(note.what)
        colour = self.theme.error if bad else self.theme.ink
        self._stamp(0, note.y, note.time_ns)
        self.pen.marks([self._x(0)], [y], colour, "v" if bad else ">", 5, gid="log-line")
        text = fit(f"log: {clean(event_text(note.what))}", self._x(self.ladder.last) - self._x(0) - 0.4)
        write(self.pen.axes, self._x(0) + 0.14, y, text, color=colour, bbox=self._ground(0.1), gid="log-text")

    def _icmp(self, error: AboutConnection, y: float) -> None:
        """From in between to the side whose segment it quotes."""
        end = 0 if error.from_client else self.ladder.last
        x0, x1 = self._x(self.ladder.middle), self._x(end) + (BAR / 2 if end == 0 else -BAR / 2)
        self.pen.lines([[(x0, y), (x1, y)]], self.theme.error, linewidths=1.2, zorder=3, gid="packets-ICMP")
        self._head((x0, y), (x1, y), self.theme.error)
        self._stamp(end, y - self.top, error.time_ns)
        text = fit(clean(error.describe()[2:]), abs(x1 - x0) - 0.2)
        self.pen.text((x0 + x1) / 2, y - 0.07, text, self.theme.error, ha="center", gid="packet-text")

    # ---- findings and the legend

    def _flags(self) -> None:
        """The code of a finding beside the time of its primary evidence."""
        source = self.found.trace.story.source
        places: dict[tuple[str, str], tuple[float, float]] = {}
        for rung in self.ladder.rungs:
            at_ends = [(column, y) for column, y, _ in rung.seen if column in (0, self.ladder.last)]
            refs = ((p.source, source(p.source).packet_ref(p.no)) for p in rung.segment.places)
            places |= dict.fromkeys(refs, at_ends[0] if at_ends else rung.seen[0][:2])
        for note in self.ladder.notes:
            if not isinstance(note.what, AboutConnection):
                places |= dict.fromkeys(((note.what.source, note.what.ref), *note.what.also), (0.0, note.y))
        for finding in self.found.findings:
            primary = next((e for e in finding.evidence if e.primary), None)
            place = places.get((primary.source, primary.ref)) if primary else None
            if place is not None:
                colour = str(getattr(self.theme, finding.severity.word))
                x = self._out(place[0], MARGIN - INSET - 0.18)
                flag(self.pen, x, self.top + place[1], finding.rule, colour)

    def _keys(self) -> list[Key]:
        segments = [rung.segment for rung in self.ladder.rungs]
        used = {look_of(s) for s in segments}
        keys = [
            Key(k.label, colour=k.hue(self.theme), marker=">", dashed=k.dashed)
            for name, k in LOOKS.items()
            if name in used
        ]
        fates = [rung.fate for rung in self.ladder.rungs if rung.fate]
        if any(is_lost(fate) for fate in fates):
            keys.append(Key("lost", colour=self.theme.error, marker="x", line=False))
        if not all(is_lost(fate) for fate in fates):
            keys.append(Key("made on the way", colour=self.theme.error, marker="o", line=False, hollow=True))
        if any(not r.fate and r.end[0] % self.ladder.last for r in self.ladder.rungs):
            keys.append(Key("half an arrow: in one capture only", colour=self.theme.dim, marker=">"))
        if any(rung.unanswered for rung in self.ladder.rungs):
            keys.append(Key("dotted: no answer tells that it arrived", colour=self.theme.dim, dashed=True))
        if self.ladder.freezes:
            keys.append(Key("frozen", hatched=True))
        return keys
