"""The page of a diagram: a head, one or more axes below each other, a legend, notes. Everything in inches."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator

from analyzer.model.times import MS, SECOND
from analyzer.plot.canvas import FONT, SMALL, fit, page, write
from analyzer.plot.head import INSET, Headline, head_height, write_head
from analyzer.plot.pen import Key, Pen, legend, legend_rows
from analyzer.plot.scale import Scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analyzer.plot.theme import Theme

WIDTH = 10.0
LEAST_WIDTH = 6.0
LEFT, RIGHT = 0.85, 0.3
#: Between two axes, and below the last one, for ticks and the label.
BETWEEN, BELOW = 0.3, 0.55
_MINUTE, _HOUR, _DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
#: Steps between ticks of clock time, ns.
STEPS = (
    *(m * 10**e * MS for e in range(3) for m in (1, 2, 5)), *(m * SECOND for m in (1, 2, 5, 10, 15, 30)),
    *(m * _MINUTE for m in (1, 2, 5, 10, 15, 30)), *(m * _HOUR for m in (1, 2, 3, 6, 12)), *(m * _DAY for m in (1, 2, 7, 14, 28, 91, 365)),
)  # fmt: skip
#: Durations at which a logarithmic axis may have its labels, ns: all of them where they have room, else the coarse ones.
FINE = (
    *(m * 10**e for e in range(3, 9) for m in (1, 2, 5)), *(m * SECOND for m in (1, 2, 5, 10, 20, 30)),
    *(m * _MINUTE for m in (1, 2, 5, 10, 20, 30)), *(m * _HOUR for m in (1, 2, 5, 10, 24, 100)),
)  # fmt: skip
COARSE = (*(10**e for e in range(3, 11)), _MINUTE, 10 * _MINUTE, _HOUR, 10 * _HOUR, 100 * _HOUR)


class Diagram:
    """A page with axes of these `heights` below each other, `gap` between and `below` the last, all as wide as the page allows;
    then a legend, then notes. Times of day are in UTC, or in this machine's zone (`local`)."""

    def __init__(
        self, theme: Theme, width: float, heights: list[float], title: str, subtitle: list[str], lines: list[Headline],
        keys: list[Key], notes: list[str], left: float = LEFT, gap: float = BETWEEN, below: float = BELOW, local: bool = False,
    ) -> None:  # fmt: skip
        self.theme, self.width, self.left, self.local = theme, width, left, local
        room = width - 2 * INSET
        rows = legend_rows(keys, room)
        top = head_height(lines) + 0.2
        bottom = top + sum(heights) + gap * (len(heights) - 1) + below
        height = bottom + 0.19 * len(rows) + 0.17 * len(notes) + 0.1
        self.figure, paper = page(width, height, 0.0, theme.page)
        self.pen = Pen(paper, theme, Scale([0], room))
        write_head(paper, theme, INSET, room, title, subtitle, lines)
        self.axes: list[Axes] = []
        #: Where each begins and ends, in inches from the top.
        self.spans: list[tuple[float, float]] = []
        for high in heights:
            self.axes.append(self._add(top, high, height))
            self.spans.append((top, top + high))
            top += high + gap
        legend(self.pen, rows, bottom, left=INSET)
        for n, note in enumerate(notes):
            y = bottom + 0.19 * len(rows) + 0.17 * n + 0.05
            write(paper, INSET, y, fit(note, room), color=theme.dim, gid="note")

    @property
    def inner(self) -> float:
        """Width of the axes, in inches."""
        return self.width - self.left - RIGHT

    def _add(self, top: float, high: float, height: float) -> Axes:
        box = (self.left / self.width, 1 - (top + high) / height, self.inner / self.width, high / height)
        axes = self.figure.add_axes(box, facecolor=self.theme.lane)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(
            which="both",
            length=3,
            width=0.6,
            color=self.theme.faint,
            labelcolor=self.theme.ink,
            labelsize=SMALL,
            labelfontfamily=FONT,
        )
        axes.grid(True, which="major", color=self.theme.faint, linewidth=0.4, alpha=0.6)
        axes.set_axisbelow(True)
        return axes

    def name(self, axes: Axes, x: str = "", y: str = "") -> None:
        """Words at the axes."""
        style: dict[str, Any] = {"fontsize": SMALL, "fontfamily": FONT, "color": self.theme.dim, "parse_math": False}
        if x:
            axes.set_xlabel(x, **style)
        if y:
            axes.set_ylabel(y, **style)


def ticks_at(axis: Any, places: list[float], labels: list[str]) -> None:
    """Exactly these ticks, and none between."""
    axis.set_major_locator(FixedLocator(places))
    axis.set_major_formatter(FixedFormatter(labels))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def duration_ticks(axis: Any, least_ns: float, most_ns: float, unit: float, most: int = 12) -> None:
    """Durations on a logarithmic axis whose values are ns divided by `unit`."""
    inside = [ns for ns in FINE if least_ns <= ns <= most_ns]
    if len(inside) > most:
        inside = [ns for ns in COARSE if least_ns <= ns <= most_ns]
    ticks_at(axis, [ns / unit for ns in inside], [_duration(ns) for ns in inside])


def _duration(ns: int) -> str:
    for size, word in ((_HOUR, "h"), (_MINUTE, "min"), (SECOND, "s"), (MS, "ms")):
        if ns >= size:
            return f"{ns // size:,} {word}"
    return f"{ns // 1000:,} µs"


def second_ticks(axis: Any, high_s: float, most: int) -> None:
    """Round seconds (or milliseconds) on a linear axis that begins with 0."""
    step = next(m * 10.0**e for e in range(-6, 12) for m in (1, 2, 5) if high_s / (m * 10.0**e) <= most)
    places = [n * step for n in range(math.floor(high_s / step + 1e-9) + 1)]
    ticks_at(axis, places, [f"{p:g} s" if step >= 0.1 else f"{p * 1000:g} ms" for p in places])


def whole_ticks(axes: Axes, most: int) -> None:
    """Whole numbers on the upright axis, about so many; below zero they are counts that point down."""
    low, high = sorted(axes.get_ylim())
    step = next(m * 10**e for e in range(18) for m in (1, 2, 5) if (high - low) / (m * 10**e) <= most)
    places = [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
    ticks_at(axes.yaxis, [float(p) for p in places], [f"{abs(p):,}" for p in places])


def clock_ticks(start_ns: int, end_ns: int, width: float, local: bool = False) -> list[tuple[int, str]]:
    """Round times of day inside [start, end], in UTC or in this machine's zone, with room for their labels on so many inches:
    (ns, words)."""
    least = (end_ns - start_ns) * 0.85 / max(width, 0.85)
    step = next((s for s in STEPS if s >= least), STEPS[-1])
    there = datetime.fromtimestamp(start_ns // SECOND, UTC)
    east = round((there.astimezone().utcoffset() or timedelta()).total_seconds()) * SECOND if local else 0
    first = -(-(start_ns + east) // step) * step - east
    dated = end_ns - start_ns >= _DAY
    return [(t, _clock(t + east, step, dated)) for t in range(first, end_ns + 1, step)]


def _clock(ns: int, step: int, dated: bool) -> str:
    """A time of day that is as if of UTC."""
    moment = datetime.fromtimestamp(ns // SECOND, UTC)
    if step >= _DAY:
        return f"{moment:%Y-%m-%d}"
    if step >= _MINUTE:
        return f"{moment:%m-%d %H:%M}" if dated else f"{moment:%H:%M}"
    if step >= SECOND:
        return f"{moment:%H:%M:%S}"
    digits = 3 if step < 10 * MS else 2 if step < 100 * MS else 1
    return f"{moment:%H:%M:%S}.{ns % SECOND // 10 ** (9 - digits):0{digits}d}"


def time_axis(diagram: Diagram, start_ns: int, end_ns: int) -> None:
    """One clock for all axes of a diagram, whose x counts seconds since `start_ns`; labels and the zone at the last."""
    span = max(end_ns - start_ns, 1)
    ticks = clock_ticks(start_ns, end_ns, diagram.inner, diagram.local)
    for axes in diagram.axes:
        axes.set_xlim(-0.01 * span / SECOND, 1.01 * span / SECOND)
        places = [(t - start_ns) / SECOND for t, _ in ticks]
        ticks_at(axes.xaxis, places, [label if axes is diagram.axes[-1] else "" for _, label in ticks])
    diagram.name(diagram.axes[-1], x="local time" if diagram.local else "UTC")
