"""The time axis: stretches in which something happens, and breaks for the silences between them.

A connection of a frozen function lives in bursts of milliseconds, seconds or minutes apart. On one linear axis every burst is a
stroke. So long silences are cut out, each drawn as a break that tells its true length, and the room goes to the stretches between
them. Inside a stretch the axis is linear; a longer stretch gets more room, but less than in proportion, so that a burst of 30 ms
can be read beside one of 3 s. Ticks say where one is.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from msgspec import Struct

from analyzer.model.times import SECOND

#: A silence is cut out from this length on …
LEAST_BREAK_NS = SECOND
#: … if it fills more than this share of what would be drawn with it.
LEAST_BREAK_SHARE = 0.1
#: Room for a break, its label included: least, and as much as a share of the axis gives; and least room for a stretch, in inches.
LEAST_BREAK, MOST_BREAK, BREAKS_SHARE = 0.46, 0.72, 0.32
LEAST_STRETCH = 0.34
#: Half of the width of the mark of a break.
CUT = 0.06
#: Room between the first or last mark of a stretch and its border.
MARGIN = 0.07
#: Breaks and the least room of stretches may take this share of the axis.
MOST_OVERHEAD = 0.75
#: Room of a stretch grows with its length to this power (1: one scale for all; 0: equal room for all).
GROWTH = 0.5


class Span(Struct, frozen=True):
    """Times in ns and where they lie, in inches: a stretch, or a break."""

    start_ns: int
    end_ns: int
    x0: float
    x1: float

    @property
    def length_ns(self) -> int:
        """How long it lasts."""
        return self.end_ns - self.start_ns

    @property
    def width(self) -> float:
        """How wide it is drawn, in inches."""
        return self.x1 - self.x0


class Scale:
    """Time to inches for marks at `times` (ns) on an axis of `width` inches."""

    def __init__(self, times: list[int], width: float) -> None:
        marks = sorted(set(times))
        self.start_ns, self.end_ns = marks[0], marks[-1]
        self.width = width
        cuts = breaks(marks, most=int(MOST_OVERHEAD * width / (LEAST_BREAK + LEAST_STRETCH)))
        edges = [self.start_ns, *(t for cut in cuts for t in cut), self.end_ns]
        ends = list(zip(edges[::2], edges[1::2], strict=True))
        #: The stretches in order, and the breaks between them.
        self.stretches = _placed(ends, width)
        self.breaks = [Span(a.end_ns, b.start_ns, a.x1, b.x0) for a, b in pairwise(self.stretches)]
        self._times: list[int] = []
        self._places: list[float] = []
        for s in self.stretches:
            self._times += [s.start_ns - self.start_ns, s.end_ns - self.start_ns]
            middle = (s.x0 + s.x1) / 2
            single = s.length_ns == 0
            self._places += [middle, middle] if single else [s.x0 + MARGIN, s.x1 - MARGIN]

    def x(self, time_ns: int) -> float:
        """Where a time lies, in inches from the left end; times outside lie at the nearer end."""
        return float(np.interp(time_ns - self.start_ns, self._times, self._places))

    def cuts(self, x0: float, x1: float) -> bool:
        """Whether the mark of a break lies in [x0, x1]."""
        return any(x0 < (b.x0 + b.x1) / 2 + CUT and (b.x0 + b.x1) / 2 - CUT < x1 for b in self.breaks)

    def room(self, x0: float, x1: float, width: float) -> tuple[float, bool] | None:
        """The middle of a place for `width` inches of text in [x0, x1], and whether a break runs through it.

        The widest piece without a break if that is wide enough, else the whole; None where not even that is.
        """
        cuts = [c for b in self.breaks if x0 < (c := (b.x0 + b.x1) / 2) < x1]
        inner = [x0, *(e for c in cuts for e in (c - CUT, c + CUT)), x1]
        length, a, b = max((b - a, a, b) for a, b in zip(inner[::2], inner[1::2], strict=True))
        if width <= length:
            return (a + b) / 2, False
        return ((x0 + x1) / 2, True) if width <= x1 - x0 else None


def breaks(marks: list[int], most: int) -> list[tuple[int, int]]:
    """The silences to cut out of sorted times, at most `most`, in order: longest first, as long as each is a large share."""
    shown = marks[-1] - marks[0]
    found: list[tuple[int, int]] = []
    for a, b in sorted(pairwise(marks), key=lambda gap: (gap[0] - gap[1], gap[0])):
        if b - a < LEAST_BREAK_NS or b - a <= LEAST_BREAK_SHARE * shown or len(found) >= most:
            break
        found.append((a, b))
        shown -= b - a
    return sorted(found)


def _placed(ends: list[tuple[int, int]], width: float) -> list[Span]:
    least = min(LEAST_STRETCH, width / len(ends))
    gap = min(max(BREAKS_SHARE * width / len(ends), LEAST_BREAK), MOST_BREAK)
    room = max(width - gap * (len(ends) - 1) - least * len(ends), 0.0)
    weights = [float(b - a) ** GROWTH for a, b in ends]
    total = sum(weights) or 1.0
    if not sum(weights):
        weights = [1.0 / len(ends)] * len(ends)
    out, x = [], 0.0
    for (a, b), weight in zip(ends, weights, strict=True):
        out.append(Span(a, b, x, x + least + room * weight / total))
        x = out[-1].x1 + gap
    return out


class Tick(Struct, frozen=True):
    """A tick: where, in inches, and what it says (seconds since `zero`)."""

    x: float
    label: str


#: Room that a tick label needs, and a digit of it, in inches.
TICK_ROOM = 0.55
LETTER = 0.068
_STEPS = (1, 2, 5)


def ticks(scale: Scale, zero_ns: int) -> list[Tick]:
    """Round seconds in every stretch; where a stretch is too narrow for two, the times of its first and last mark, in ms."""
    out: list[Tick] = []
    for s in scale.stretches:
        found = _round_ticks(scale, s, zero_ns)
        if len(found) < 2:
            found = [Tick(scale.x(t), _seconds((t - zero_ns) / SECOND, 3)) for t in sorted({s.start_ns, s.end_ns})]
        for tick in found:
            if not out or tick.x - out[-1].x >= 0.1 + LETTER * (len(tick.label) + len(out[-1].label)) / 2:
                out.append(tick)
    return out


def _round_ticks(scale: Scale, s: Span, zero_ns: int) -> list[Tick]:
    if not s.length_ns:
        return []
    inner = s.width - 2 * MARGIN
    least = TICK_ROOM * s.length_ns / max(inner, 1e-9) / SECOND
    exponent = int(np.floor(np.log10(least)))
    step = next(m * 10.0**e for e in (exponent, exponent + 1) for m in _STEPS if m * 10.0**e >= least)
    first, last = (s.start_ns - zero_ns) / SECOND, (s.end_ns - zero_ns) / SECOND
    decimals = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    at = np.arange(np.ceil(first / step - 1e-6), np.floor(last / step + 1e-6) + 1) * step
    return [Tick(scale.x(zero_ns + round(float(t) * SECOND)), _seconds(float(t), decimals)) for t in at]


def _seconds(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.replace("-", "−") if float(text) else "0"
