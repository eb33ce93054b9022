"""The lanes of a timeline beside the connections', one class each: how high it is, and how it is drawn from its top downwards."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

from analyzer.model.grpc import status_name
from analyzer.model.times import seconds
from analyzer.plot.canvas import Shelf, clean, fit, text_width
from analyzer.plot.packets import ROW
from analyzer.plot.pen import Key, Pen, flag, flag_width, grain
from analyzer.plot.scene import Arc, Scene
from analyzer.plot.theme import ENDINGS, Theme, ending
from analyzer.timeline.steps import failed
from analyzer.timeline.story import event_text

if TYPE_CHECKING:
    from analyzer.model.events import Event
    from analyzer.model.records import Call, Invocation, Transport
    from analyzer.plot.scale import Scale

#: A transport's number and address before a gRPC trace line: every line of the plot is about this connection.
_SUBJECT = re.compile(r"^\(\d+\) \S+:\d+ ")
#: Kinds of log lines that only repeat what another one has said.
_ECHOES = frozenset(("ping-error", "call-cancelled"))
#: Least width of what lasts for a while, in inches.
LEAST = 0.025


class Lane(Protocol):
    """One lane. `name` stands beside it, where it does not name itself."""

    name: str
    height: float

    def draw(self, pen: Pen, top: float) -> None:
        """Draw it between `top` and `top + height`."""

    def keys(self, theme: Theme) -> list[Key]:
        """What the legend must explain."""


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
        return x0, max(x1, x0 + LEAST)

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
        for bad, fill in ((False, pen.theme.invocation), (True, pen.theme.error)):
            ends = [self._ends(i) for i in self.scene.invocations if _is_bad(i) is bad]
            boxes = [(grain(x0), grain(x1), y, y + self.BAR) for x0, x1 in ends]
            gid = "invocation-failed" if bad else "invocation"
            pen.boxes(boxes, fill, edgecolor=pen.theme.lane, linewidth=0.6, gid=gid)
        for x, row, text in self.labels:
            pen.text(x, y - (row + 0.5) * ROW, text, pen.theme.ink, gid="request-id")
        for z in self.scene.freezes:
            length = seconds(z.length_ns)
            x0, x1 = pen.scale.x(z.start_ns), pen.scale.x(z.end_ns)
            pen.label(x0, x1, y + self.BAR / 2, (f"frozen {length}", length), pen.theme.ink, pen.theme.freeze)

    def keys(self, theme: Theme) -> list[Key]:
        """The freeze's hatching, and the colour of invocations that failed."""
        keys = [Key("frozen", hatched=True)] if self.scene.freezes else []
        bad = any(_is_bad(i) for i in self.scene.invocations)
        return keys + ([Key("invocation failed", fill=theme.error)] if bad else [])


def _is_bad(i: Invocation) -> bool:
    return i.status in ("error", "timeout", "crash")


class Pings:
    """Arcs from when a ping was sent to when its answer was read, or it was given up."""

    height = 0.62

    def __init__(self, scene: Scene) -> None:
        self.pings = scene.pings
        self.name = "captured PINGs" if scene.wire_pings else "gRPC pings"

    def draw(self, pen: Pen, top: float) -> None:
        """Green arcs are answered, red ones timed out; a dot alone had neither."""
        base = top + self.height - 0.09
        pen.lines([[(0, base), (pen.scale.width, base)]], pen.theme.faint, linewidths=0.6, zorder=2)
        sent = sorted({grain(pen.scale.x(p.sent_ns)) for p in self.pings})
        pen.marks(sent, [base] * len(sent), pen.theme.ink, "o", 3, gid="ping-sent")
        acked = [p for p in self.pings if p.acked_ns is not None and p.timed_out_ns is None]
        dead = [p for p in self.pings if p.timed_out_ns is not None]
        pen.arcs(sorted({_arc(pen, p.sent_ns, p.acked_ns) for p in acked}), base, pen.theme.good, gid="ping-acked")
        pen.arcs([_arc(pen, p.sent_ns, p.timed_out_ns) for p in dead], base, pen.theme.error, gid="ping-timeout")
        ends = [pen.scale.x(p.timed_out_ns or 0) for p in dead]
        pen.marks(ends, [base] * len(ends), pen.theme.error, "X", 5.5)
        shelf = Shelf(1, 0.0, pen.scale.width)
        for p in dead:
            self._name(pen, p, base, shelf)
        late = [pen.scale.x(p.late_ns) for p in dead if p.late_ns is not None]
        style = {"zorder": 5.5, "markerfacecolor": pen.theme.page, "markeredgewidth": 1}
        pen.marks(late, [base] * len(late), pen.theme.good, "D", 4, gid="ping-late", **style)

    def _name(self, pen: Pen, p: Arc, base: float, shelf: Shelf) -> None:
        x0, x1, high = _arc(pen, p.sent_ns, p.timed_out_ns)
        wall = seconds((p.timed_out_ns or p.sent_ns) - p.sent_ns)
        ran = f", ran {seconds(p.running_ns)}" if p.running_ns is not None else ""
        limit = (f" of {seconds(p.timeout_ns)}" if ran else f", limit {seconds(p.timeout_ns)}") if p.timeout_ns else ""
        for text in (f"timed out after {wall}{ran}{limit}", f"timed out{ran or ' after ' + wall}", "timed out"):
            width = text_width(text)
            found = pen.scale.room(x0 - 0.5, x1 + 0.5, width)
            x = min(max((found[0] if found else x1) - width / 2, 0.0), pen.scale.width - width)
            if shelf.place(x, width) is not None:
                pen.text(x, base - high - 0.09, text, pen.theme.error, gid="ping-text")
                return

    def keys(self, theme: Theme) -> list[Key]:
        """Arcs."""
        keys = []
        if any(p.acked_ns is not None and p.timed_out_ns is None for p in self.pings):
            keys.append(Key("ping answered", colour=theme.good))
        if any(p.timed_out_ns is not None for p in self.pings):
            keys.append(Key("ping timed out", colour=theme.error, marker="X"))
        if any(p.late_ns is not None for p in self.pings):
            keys.append(Key("answer after the timeout", colour=theme.good, marker="D", line=False, hollow=True))
        return keys


def _arc(pen: Pen, start_ns: int, end_ns: int | None) -> tuple[float, float, float]:
    x0, x1 = pen.scale.x(start_ns), pen.scale.x(end_ns or start_ns)
    x1 = grain(max(x1, x0 + 0.06))
    return grain(x0), x1, min(0.34, 0.1 + 0.25 * (x1 - x0)) if x1 > x0 else 0.1


class _Rows:
    """Things that last for a while, each in the first row that is free; what finds none is counted."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._ends: list[float] = []
        self.out = 0

    def place(self, x0: float, x1: float) -> int | None:
        """The row for [x0, x1]; things come in order of their start."""
        for row, end in enumerate(self._ends):
            if end <= x0:
                self._ends[row] = x1
                return row
        if len(self._ends) < self.most:
            self._ends.append(x1)
            return len(self._ends) - 1
        self.out += 1
        return None

    @property
    def used(self) -> int:
        """Number of rows."""
        return max(len(self._ends), 1)


class Calls:
    """RPCs as bars from start to end; failures with their status, and those whose end was not logged as a stroke."""

    BAR, STEP = 0.1, 0.13

    def __init__(self, scene: Scene, scale: Scale) -> None:
        self.scale = scale
        self.bars: dict[tuple[float, float, str], tuple[int, Call]] = {}
        rows = _Rows(4)
        for call in sorted(scene.calls, key=lambda c: (c.start_ns or 0, c.id)):
            x0 = grain(scale.x(call.start_ns or 0))
            x1 = grain(max(scale.x(call.end_ns or 0), x0 + LEAST))
            key = (x0, x1, _outcome(call))
            if key not in self.bars and (row := rows.place(x0, x1)) is not None:
                self.bars[key] = row, call
        self.name = f"calls (+{rows.out} more)" if rows.out else "calls"
        self.shelf = Shelf(2, 0.0, scale.width)
        self.rows = rows.used
        labels = (self._label(x0, call) for (x0, _, how), (_, call) in self.bars.items() if how == "failed")
        self.labels = [label for label in labels if label is not None]
        self.height = 0.1 + self.rows * self.STEP + self.shelf.used * ROW

    def _label(self, x0: float, call: Call) -> tuple[float, int, str] | None:
        text = status_name(call.status)
        width = text_width(text)
        at = max(min(x0, self.scale.width - width), 0.0)
        place = self.shelf.place(at, width)
        return (at, place, text) if place is not None else None

    def draw(self, pen: Pen, top: float) -> None:
        """Bars, and below them what went wrong."""
        for how, (_, fill) in _calls(pen.theme).items():
            rows = [
                (x0, x1, top + 0.05 + row * self.STEP) for (x0, x1, what), (row, _) in self.bars.items() if what == how
            ]
            pen.boxes([(x0, x1, y, y + self.BAR) for x0, x1, y in rows], fill, gid=f"call-{how}")
        for at, row, text in self.labels:
            y = top + 0.05 + self.rows * self.STEP + (row + 0.5) * ROW
            pen.text(at, y, text, pen.theme.error, gid="call-text")

    def keys(self, theme: Theme) -> list[Key]:
        """The colours used."""
        told = {how for *_, how in self.bars}
        return [Key(label, fill=fill) for how, (label, fill) in _calls(theme).items() if how in told]


def _outcome(call: Call) -> str:
    if call.end_ns is None:
        return "open"
    return "failed" if call.status not in (0, None) else "done"


def _calls(theme: Theme) -> dict[str, tuple[str, str]]:
    """Legend and colour of a call by its outcome."""
    return {
        "open": ("call, end not logged", theme.dim),
        "done": ("call", theme.tint(theme.good, 0.65)),
        "failed": ("call failed", theme.error),
    }


class Transports:
    """gRPC transports of which no packets are drawn: from the line that opened one to the line that ended it."""

    BAR = 0.17

    def __init__(self, scene: Scene, scale: Scale, transports: list[Transport]) -> None:
        self.scene, self.scale = scene, scale
        rows = _Rows(5)
        self.bars: list[tuple[float, float, int, Transport]] = []
        for t in sorted(transports, key=lambda t: (self._start(t), t.id)):
            x0 = scale.x(self._start(t))
            x1 = max(scale.x(scene.end_ns if t.closed_ns is None else t.closed_ns), x0 + LEAST)
            if (row := rows.place(x0, x1)) is not None:
                self.bars.append((x0, x1, row, t))
        self.name = f"transports (+{rows.out})" if rows.out else "transports"
        self.height = 0.06 + rows.used * (self.BAR + 0.03)

    def _start(self, t: Transport) -> int:
        return self.scene.start_ns if t.opened_ns is None else t.opened_ns

    def draw(self, pen: Pen, top: float) -> None:
        """A bar each, with the peer's address and what ended it."""
        for x0, x1, row, t in self.bars:
            y = top + 0.04 + row * (self.BAR + 0.03)
            fill = pen.theme.state("ESTABLISHED")
            pen.box(x0, x1, y, y + self.BAR, fill, edgecolor=pen.theme.page, linewidth=0.4, gid="transport")
            name = clean(f"({t.number}) {t.remote or ''}").strip()
            full = (f"{name}, ended by {t.closed_by.replace('-', ' ')}",) if t.closed_by else ()
            pen.label(x0, x1, y + self.BAR / 2, (*full, name, f"({clean(t.number)})"), pen.theme.on(fill), fill)

    def keys(self, theme: Theme) -> list[Key]:
        """They name themselves."""
        return []


class Lives:
    """Connections whose packets are not drawn, a line each from the first to the end, by who ended it."""

    STEP = 0.055

    def __init__(self, scene: Scene, scale: Scale) -> None:
        self.lines: dict[str, list[tuple[float, float, int]]] = {}
        rows, seen = _Rows(14), set()
        for life in sorted(scene.lives, key=lambda x: (x.start_ns, x.name)):
            x0 = grain(scale.x(life.start_ns))
            x1 = max(grain(scale.x(life.end_ns)), x0 + LEAST)
            kind = ending(life.ended_by)
            if (x0, x1, kind) not in seen and (row := rows.place(x0, x1 + 0.02)) is not None:
                self.lines.setdefault(kind, []).append((x0, x1, row))
            seen.add((x0, x1, kind))
        drawn = f" ({rows.out} not drawn)" if rows.out else ""
        self.name = f"{len(scene.lives):,} other{drawn}"
        self.height = max(0.12 + rows.used * self.STEP, 0.2)

    def draw(self, pen: Pen, top: float) -> None:
        """Lines."""
        for kind, lines in self.lines.items():
            strokes: list[Any] = [[(x0, y), (x1, y)] for x0, x1, row in lines for y in (top + 0.08 + row * self.STEP,)]
            colour = ENDINGS[kind].hue(pen.theme)
            pen.lines(strokes, colour, linewidths=2.2, capstyle="butt", zorder=3, gid=f"connections-{kind}")

    def keys(self, theme: Theme) -> list[Key]:
        """Who ended them."""
        return [Key(ENDINGS[kind].label, colour=ENDINGS[kind].hue(theme)) for kind in ENDINGS if kind in self.lines]


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
        places = sorted({grain(pen.scale.x(e.time_ns)) for e in self.plain})
        pen.lines([[(x, y0 + 0.04), (x, y1)] for x in places], pen.theme.dim, linewidths=0.6, zorder=3, gid="log-lines")
        xs = sorted({grain(pen.scale.x(e.time_ns)) for e in self.bad})
        pen.marks(xs, [(y0 + y1) / 2] * len(xs), pen.theme.error, "v", 6, gid="log-errors")
        for at, x, row, text, bad in self.labels:
            colour = pen.theme.error if bad else pen.theme.ink
            y = y1 + 0.05 + (row + 0.5) * ROW
            pen.lines([[(x, y1), (x, y + 0.05)]], colour, linewidths=0.6, zorder=3)
            pen.text(at, y, text, colour, gid="log-text")

    def keys(self, theme: Theme) -> list[Key]:
        """The red flags."""
        return [Key("log line of a failure", colour=theme.error, marker="v", line=False)] if self.bad else []


# ---- findings


class Findings:
    """A flag with the rule's code where its primary evidence is, and a thin line through all lanes."""

    name = "findings"

    def __init__(self, scene: Scene, scale: Scale) -> None:
        self.flags: list[tuple[float, int, str, str]] = []
        shelf = Shelf(3, 0.0, scale.width)
        for f in scene.findings:
            x = scale.x(f.time_ns)
            width = flag_width(f.rule)
            at = x if x + width <= scale.width else x - width
            row = shelf.place(at, width, gap=0.03)
            if row is not None:
                self.flags.append((at + width / 2, row, f.rule, f.severity.word))
        self.height = max(shelf.used, 1) * 0.2 + 0.06

    def draw(self, pen: Pen, top: float) -> None:
        """Flags; the lines are drawn through all lanes beforehand."""
        for x, row, rule, severity in self.flags:
            flag(pen, x, top + 0.115 + row * 0.2, rule, str(getattr(pen.theme, severity)))

    def keys(self, theme: Theme) -> list[Key]:
        """A code is named in the headline."""
        return []
