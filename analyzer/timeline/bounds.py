"""A clock's offset as a line through bounds from both sides: offset, drift, steps, and how far the line may be off.

Theory of operation
-------------------
Every anchor says that at one time the offset was at least, or at most, so much. All lines that lie above the lower bounds
and below the upper ones form a convex set (Duda et al. 1987; Moon, Skelly and Towsley 1999 for one side). For a slope b the
room between the bounds, `width(b)`, is concave, so the roomiest slope is found by bisection; the slopes with room are those
that the anchors allow, and drift is proven where zero is none of them. The error at a time is how far any allowed line is
from the chosen one there. Where no line has room, a few anchors are wrong, or the clock was set: what leaves room wins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from analyzer.model.clocks import PPM, Piece

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Two clocks may drift apart by this much: 200 ppm each, as bad quartz in bad heat does, and room.
MAX_PPM = 420.0
#: Bounds of one side that are kept, the tightest of each stretch of time.
BINS = 512
#: This part of the bounds may be wrong and is dropped.
WRONG_SHARE = 0.05
#: A clock was set only where this many bounds of each side say so, before and after; that often (a power of two) at most.
LEAST_OF_PART, STEP_DEPTH = 2, 2
#: Slopes tried between the least and the greatest.
SLOPES = 41
#: Times between the first and the last at which the error is looked at.
TRIED = 16
_HALVINGS = 48


class Bounds(Struct, frozen=True):
    """The offset is at least `low[i]` at the time `low_at[i]`, and at most `high[j]` at `high_at[j]`; ns, any order."""

    low_at: Ints
    low: Ints
    high_at: Ints
    high: Ints

    def between(self, start: float, end: float) -> Bounds:
        """Those of [start, end)."""
        mine = (self.low_at >= start) & (self.low_at < end)
        other = (self.high_at >= start) & (self.high_at < end)
        return Bounds(self.low_at[mine], self.low[mine], self.high_at[other], self.high[other])

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.low) + len(self.high)


class Fit(Struct):
    """The line: pieces whose shifts are the offset. `consistent` tells whether some line has room between all bounds kept."""

    pieces: list[Piece]
    dropped: int = 0
    drift_proven: bool = False
    consistent: bool = True


def fit(bounds: Bounds, first_ns: int, last_ns: int, noise_ns: int = 0, max_ppm: float = MAX_PPM) -> Fit | None:
    """The offset over the stamps [first_ns, last_ns]; None without bounds of both sides.

    `noise_ns` is by how much bounds may contradict each other because stamps are cut or taken late.
    """
    if not len(bounds.low) or not len(bounds.high):
        return None
    kept = Bounds(*_tightest(bounds.low_at, bounds.low, -1), *_tightest(bounds.high_at, bounds.high, 1))
    parts, dropped = _parted(kept, noise_ns, max_ppm, STEP_DEPTH), 0
    if parts is None:
        cleaned, dropped = _without_wrong(kept, noise_ns, max_ppm)
        parts = [cleaned] if cleaned is not None else None
    if parts is None:
        return Fit([_compromise(kept, first_ns, last_ns, max_ppm)], consistent=False)
    pieces, proven = _pieces(parts, first_ns, last_ns, noise_ns, max_ppm)
    return Fit(pieces, dropped, proven)


def _tightest(at: Ints, bound: Ints, side: int) -> tuple[Ints, Ints]:
    """The tightest bound of each stretch of time; the wrong ones among them too, which is seen later."""
    order = np.lexsort((bound * side, at))
    at, bound = at[order], bound[order]
    if len(at) <= BINS:
        return at, bound
    bins = ((at - at[0]).astype(np.float64) / max(int(at[-1] - at[0]), 1) * (BINS - 1)).astype(np.int64)
    best = np.lexsort((bound * side, bins))
    first = best[np.unique(bins[best], return_index=True)[1]]
    return at[first], bound[first]


class _Room:
    """The room between bounds, for lines of any slope. Times and offsets are relative, so that floats hold them."""

    def __init__(self, bounds: Bounds, noise_ns: int, max_ppm: float) -> None:
        self.at = (_first(bounds) + _last(bounds)) // 2
        self.base = int(bounds.low[len(bounds.low) // 2])
        self.low_at, self.high_at = (
            (bounds.low_at - self.at).astype(np.float64),
            (bounds.high_at - self.at).astype(np.float64),
        )
        self.low = (bounds.low - self.base).astype(np.float64) - noise_ns / 2
        self.high = (bounds.high - self.base).astype(np.float64) + noise_ns / 2
        self.limit = max_ppm * PPM
        self.best = self._best()

    def floor(self, slope: float) -> float:
        """The lowest line of this slope above the lower bounds, where it stands in the middle."""
        return float((self.low - slope * self.low_at).max())

    def ceiling(self, slope: float) -> float:
        """The highest line of this slope below the upper bounds."""
        return float((self.high - slope * self.high_at).min())

    def width(self, slope: float) -> float:
        """The room that is left; negative where there is none."""
        return self.ceiling(slope) - self.floor(slope)

    def touching(self, slope: float) -> tuple[int, int]:
        """The lower and the upper bound that leave no more room."""
        return int(np.argmax(self.low - slope * self.low_at)), int(np.argmin(self.high - slope * self.high_at))

    def _best(self) -> float:
        """The roomiest slope, the flattest of equals."""
        left, right = -self.limit, self.limit
        for _ in range(_HALVINGS):
            slope = (left + right) / 2
            i, j = self.touching(slope)
            growth = self.low_at[i] - self.high_at[j]
            if growth > 0:
                left = slope
            elif growth < 0:
                right = slope
            else:
                break
        slope = (left + right) / 2
        return 0.0 if self.width(0.0) >= self.width(slope) else slope

    def allowed(self) -> tuple[float, float]:
        """The least and the greatest slope that leave room."""
        return self._edge(-self.limit), self._edge(self.limit)

    def _edge(self, outer: float) -> float:
        inner = self.best
        if self.width(outer) >= 0:
            return outer
        for _ in range(_HALVINGS):
            slope = (inner + outer) / 2
            inner, outer = (slope, outer) if self.width(slope) >= 0 else (inner, slope)
        return inner

    def span(self, at: float, slopes: tuple[float, float]) -> tuple[float, float]:
        """The lowest and the highest that allowed lines pass at a time."""
        grid = np.linspace(*slopes, SLOPES)
        lowest = min(self.floor(b) + b * at for b in grid)
        highest = max(self.ceiling(b) + b * at for b in grid)
        return lowest, highest


def _without_wrong(bounds: Bounds, noise_ns: int, max_ppm: float) -> tuple[Bounds | None, int]:
    """The bounds less the few that contradict the rest, and how many those were; None where they are not few."""
    allowance = int(bounds.count * WRONG_SHARE)
    for dropped in range(allowance + 1):
        room = _Room(bounds, noise_ns, max_ppm)
        if room.width(room.best) >= 0:
            return bounds, dropped
        if dropped == allowance or min(len(bounds.low), len(bounds.high)) < 2:
            return None, 0
        i, j = room.touching(room.best)
        without_low = replace(bounds, low_at=np.delete(bounds.low_at, i), low=np.delete(bounds.low, i))
        without_high = replace(bounds, high_at=np.delete(bounds.high_at, j), high=np.delete(bounds.high, j))
        bounds = max(without_low, without_high, key=lambda b: _roomiest(b, noise_ns, max_ppm))
    return None, 0


def _roomiest(bounds: Bounds, noise_ns: int, max_ppm: float) -> float:
    room = _Room(bounds, noise_ns, max_ppm)
    return room.width(room.best)


def _parted(bounds: Bounds, noise_ns: int, max_ppm: float, depth: int) -> list[Bounds] | None:
    """The bounds in stretches between which the clock was set, each with a line of its own; None where no cut helps."""
    if depth < STEP_DEPTH and min(len(bounds.low), len(bounds.high)) < LEAST_OF_PART:
        return None
    if _roomiest(bounds, noise_ns, max_ppm) >= 0:
        return [bounds]
    cut = _cut(bounds, max_ppm) if depth else None
    if cut is None:
        return None
    before = _parted(bounds.between(-np.inf, cut[0]), noise_ns, max_ppm, depth - 1)
    after = _parted(bounds.between(cut[1], np.inf), noise_ns, max_ppm, depth - 1)
    return before + after if before is not None and after is not None else None


def _cut(bounds: Bounds, max_ppm: float) -> tuple[float, float] | None:
    """The first and the last of the times that part the bounds so that most room is left on both sides, or half as much.

    Bounds between them tell little: they hold on either side.
    """
    times = np.unique(np.concatenate([bounds.low_at, bounds.high_at]))
    cuts = times[1:]
    best: tuple[float, float, float] | None = None
    middle, base = times[len(times) // 2], bounds.low[0]
    for slope in np.linspace(-max_ppm, max_ppm, SLOPES) * PPM:
        low = (bounds.low - base) - slope * (bounds.low_at - middle)
        high = (bounds.high - base) - slope * (bounds.high_at - middle)
        room = np.minimum(
            _before(bounds.high_at, high, cuts, np.minimum) - _before(bounds.low_at, low, cuts, np.maximum),
            _from(bounds.high_at, high, cuts, np.minimum) - _from(bounds.low_at, low, cuts, np.maximum),
        )
        room[~np.isfinite(room)] = -np.inf
        most = float(room.max(initial=-np.inf))
        if np.isfinite(most) and (best is None or most > best[0]):
            equal = np.flatnonzero(room >= min(most / 2, most - 1))
            best = most, float(cuts[equal[0]]), float(cuts[equal[-1]])
    return best[1:] if best is not None else None


def _before(at: Ints, values: Floats, cuts: Ints, extreme: np.ufunc) -> Floats:
    """The extreme of the values before each cut; infinite where there are none."""
    order = np.argsort(at, kind="stable")
    running = extreme.accumulate(values[order])
    count = np.searchsorted(at[order], cuts)
    nothing = np.inf if extreme is np.minimum else -np.inf
    return np.where(count > 0, running[np.maximum(count - 1, 0)], nothing)


def _from(at: Ints, values: Floats, cuts: Ints, extreme: np.ufunc) -> Floats:
    """The extreme of the values from each cut on."""
    order = np.argsort(at, kind="stable")
    running = extreme.accumulate(values[order][::-1])[::-1]
    start = np.searchsorted(at[order], cuts)
    nothing = np.inf if extreme is np.minimum else -np.inf
    return np.where(start < len(at), running[np.minimum(start, len(at) - 1)], nothing)


def _pieces(
    parts: list[Bounds], first_ns: int, last_ns: int, noise_ns: int, max_ppm: float
) -> tuple[list[Piece], bool]:
    """A piece for each part, and one for the time between two, in which the clock was set; whether some piece must drift."""
    pieces: list[Piece] = []
    proven = False
    for number, part in enumerate(parts):
        start = int(max(part.low_at.min(), part.high_at.min())) if number else first_ns
        end = _held_until(part) if number + 1 < len(parts) else last_ns
        piece, drifts = _piece(_Room(part, noise_ns, max_ppm), start, max(end, start))
        if pieces:
            pieces.append(_while_set(pieces[-1], piece, _held_until(parts[number - 1]) + 1, start))
        pieces.append(piece)
        proven |= drifts
    return pieces, proven


def _first(bounds: Bounds) -> int:
    return int(min(bounds.low_at.min(), bounds.high_at.min()))


def _last(bounds: Bounds) -> int:
    return int(max(bounds.low_at.max(), bounds.high_at.max()))


def _held_until(bounds: Bounds) -> int:
    """The last time that bounds of both sides held a line: later ones of one side would hold after a step too."""
    return int(min(bounds.low_at.max(), bounds.high_at.max()))


def _while_set(before: Piece, after: Piece, since_ns: int, until_ns: int) -> Piece:
    """The stretch in which a clock was set, who knows when: the middle of both lines, either inside the error."""
    at = (since_ns + until_ns) // 2
    a, b = before.shift(at), after.shift(at)
    return Piece(since_ns, at, (a + b) // 2, 0.0, abs(b - a) // 2 + max(before.error(at), after.error(at)) + 1, MAX_PPM)


def _piece(room: _Room, first_ns: int, last_ns: int) -> tuple[Piece, bool]:
    """A line as steep as that of most room, flat where that is allowed and leaves half as much, stated where that leaves least error."""
    slopes = room.allowed()
    flat = room.width(0.0)
    slope = 0.0 if flat >= 0 and 2 * flat >= room.width(room.best) else room.best
    times = np.linspace(first_ns - room.at, last_ns - room.at, TRIED + 1)
    lowest, highest = np.array([room.span(at, slopes) for at in times.tolist()]).T
    # One row for each time through whose middle the line may pass, and how far any allowed line is from it then.
    lines = ((lowest + highest) / 2)[:, None] + slope * (times - times[:, None])
    errors = np.maximum(lines - lowest, highest - lines)
    # The error is convex in time: straight lines from there to both ends lie above it.
    away = np.abs(times - times[:, None])
    here = errors.diagonal()
    growth = ((errors - here[:, None]) / np.maximum(away, 1))[:, [0, -1]].max(axis=1).clip(0)
    best = int(np.argmin(here + growth * away.mean(axis=1)))
    drifts = slopes[0] > 0 or slopes[1] < 0
    value = room.base + round(float(lines[best, best]))
    stated = round(float(here[best])) + 1
    at = room.at + round(float(times[best]))
    return Piece(first_ns, at, value, float(slope / PPM), stated, float(growth[best] / PPM)), drifts


def _compromise(bounds: Bounds, first_ns: int, last_ns: int, max_ppm: float) -> Piece:
    """Bounds that contradict each other: the middle of the middles, with all of them inside the error."""
    room = _Room(bounds, 0, max_ppm)
    low, high = float(np.median(room.low)), float(np.median(room.high))
    value = (low + high) / 2
    error = max(room.low.max() - value, value - room.high.min(), 0.0) + abs(high - low) / 2
    return Piece(first_ns, (first_ns + last_ns) // 2, room.base + round(value), 0.0, round(error) + 1)
