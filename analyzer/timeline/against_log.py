"""A capture's clock against a log's: lines and the packets that caused them, or that they caused.

The idea is NTP's: an effect cannot precede its cause. A line printed after a server's packet arrived bounds the offset from one
side, a packet sent after a line was printed from the other. Which line belongs to which packet is not known, so offsets vote
first: the one at which most lines find a packet of their kind. A long recording is looked at stretch by stretch, outwards from
where most happens; a line through the stretches' bounds gives the drift.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from analyzer.model.clocks import PPM, Piece
from analyzer.model.times import MS, SECOND
from analyzer.timeline.bounds import MAX_PPM, Bounds, fit
from analyzer.timeline.log_anchors import START_SLACK_NS, Kind, Kinds, Said, anchors_of
from analyzer.timeline.points import Point

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

#: Of several thaws in a row that are alike the quickest takes no longer than this (measured: 12 to 23 ms).
ALIKE, QUICK_START_NS = 5, 50 * MS
#: Candidate offsets that are scored, and pairs of a line and a packet that propose them.
MAX_CANDIDATES, MAX_PAIRS = 4_000, 4_000_000
#: Proposals are counted in bins of this width where there are more than can be scored.
BIN_NS = 20 * MS
#: Offsets beyond this, time zones aside, need anchors that cannot be coincidence (connects, pings, resets, ports).
SHIFT_NS = 11 * SECOND
STRONG_ANCHORS = 2
#: A recording is looked at in stretches of this length (in which 100 ppm make 18 ms); the first has this many lines.
STRETCH_NS, LEAST_VOTERS = 180 * SECOND, 60
#: A line that a reply caused is printed this soon after it (JavaScript runs to its next turn).
REPLY_TO_LINE_NS = 4 * MS
#: So many standard deviations (of counts, by Poisson) above the usual number of coincidences is none.
CLEARLY = 3
HOW = "invocation windows, connects, pings and resets"


@dataclass(frozen=True, slots=True)
class Against:
    """What to add to a capture's stamps to get a log's time, and how many pairs of line and packet gave it.

    `strong` of them are no mere coincidence of bursts and invocations.
    """

    pieces: list[Piece]
    anchors: int
    strong: int
    how: str
    drift_proven: bool = False


@dataclass(frozen=True, slots=True)
class _Range:
    """packet − line lies between `low` and `high`, around `at` (time of the log)."""

    at: int
    low: int
    high: int
    anchors: int
    narrowed: bool = False

    @property
    def middle(self) -> int:
        return (self.low + self.high) // 2


def against_log(log: Said, point: Point) -> Against | None:
    """How the capture's clock stands to the log's, None where too little matches."""
    kinds = anchors_of(log, point)
    times = kinds.voting_times()
    if not len(times):
        return None
    start, end = _seed(times)
    first = _vote(kinds.within(start, end))
    if first is None:
        return None
    found = _outwards(kinds, times, start, end, first)
    pieces, proven = _line(found, point)
    anchors = sum(r.anchors for r in found)
    how = HOW + ("; lines beside replies" if any(r.narrowed for r in found) else "")
    strong = sum(len(k.pairs(first)) for k in kinds.within(start, end).voters if not k.loose)
    return Against(pieces, anchors, strong, how, proven)


def _line(found: list[_Range], point: Point) -> tuple[list[Piece], bool]:
    """What to add to the capture's stamps (the offset's negative), and whether drift is proven.

    One stretch alone is too short for drift to matter beside its error.
    """
    first, last = point.data.first_ns, point.data.last_ns
    if len(found) > 1:
        at = np.array([r.at + r.middle for r in found], np.int64)  # by the capture's clock
        high, low = np.array([-r.low for r in found], np.int64), np.array([-r.high for r in found], np.int64)
        line = fit(Bounds(at, low, at, high), first, last, 2 * MS)
        if line is not None:
            return line.pieces, line.drift_proven
    only = found[0]
    return [Piece(first, (first + last) // 2, -only.middle, error_ns=(only.high - only.low) // 2 + 1)], False


def _seed(times: Ints) -> tuple[int, int]:
    """The stretch from which to begin: where most happens, and enough to vote."""
    if times[-1] - times[0] <= STRETCH_NS or len(times) <= LEAST_VOTERS:
        return int(times[0]) - STRETCH_NS, int(times[-1]) + STRETCH_NS
    counts = np.searchsorted(times, times + STRETCH_NS) - np.arange(len(times))
    at = int(np.argmax(counts))
    last = min(at + max(int(counts[at]), LEAST_VOTERS), len(times)) - 1
    at = min(at, last + 1 - LEAST_VOTERS)
    return int(times[at]), int(times[last]) + 1


def _outwards(kinds: Kinds, times: Ints, start: int, end: int, first: int) -> list[_Range]:
    """The ranges of all stretches that have some, each looked for near its neighbour's."""
    begun = _range(kinds.within(start, end), first, (start + end) // 2)
    found = [begun]
    for step in (1, -1):
        near, edge = begun, end if step > 0 else start
        while (stretch := _next(times, edge, step)) is not None:
            edge = stretch[1] if step > 0 else stretch[0]
            inside = kinds.within(*stretch)
            at = (stretch[0] + stretch[1]) // 2
            slack = round(MAX_PPM * PPM * abs(at - near.at)) + BIN_NS
            grid = np.arange(near.middle - slack, near.middle + slack + 1, BIN_NS // 4, dtype=np.int64)
            scores = np.sum([k.hits(grid) for k in inside.voters], axis=0)
            if scores.max() < STRONG_ANCHORS:
                continue
            best = grid[scores == scores.max()]
            near = _range(inside, int(best[np.argmin(np.abs(best - near.middle))]), at)
            found.append(near)
    return sorted(found, key=lambda r: r.at)


def _next(times: Ints, edge: int, step: int) -> tuple[int, int] | None:
    """The stretch that follows (or precedes) an edge and begins with a line."""
    if step > 0:
        k = int(np.searchsorted(times, edge))
        return (int(times[k]), int(times[k]) + STRETCH_NS) if k < len(times) else None
    k = int(np.searchsorted(times, edge)) - 1
    return (int(times[k]) + 1 - STRETCH_NS, int(times[k]) + 1) if k >= 0 else None


# ---- which offset


def _vote(kinds: Kinds) -> int | None:
    """The offset that most anchors agree with, the smallest of equals; None where too few do, or another does as well."""
    voters = kinds.voters
    every = _candidates(voters)
    if not len(every):
        return None
    scores = np.sum([k.hits(every) for k in voters], axis=0)
    best = scores.max()
    possible = float(sum(len(k.log) * k.weight for k in voters))
    if best < 2 or best < 0.3 * possible:
        return None
    winners = every[scores == best]
    start = int(winners[np.argmin(np.abs(winners))])
    rivals = np.abs(every[scores >= 0.9 * best] - start) > SECOND + 2 * kinds.error
    if abs(start) > SECOND and rivals.any():
        return None  # another alignment fits as well, and neither is "the clocks agree"
    if not plausible(start) and sum(len(k.pairs(start)) for k in voters if not k.loose) < STRONG_ANCHORS:
        return None  # a coincidence of bursts is no proof that log and capture are of the same incident
    return start


def _candidates(voters: list[Kind]) -> Ints:
    """Differences of anchors of one kind, to the millisecond; where there are too many, those that most pairs are near."""
    found = []
    for k in voters:
        some = k.log[: max(MAX_PAIRS // max(len(k.packet), 1), 1)]
        found.append((k.packet[None, :] - some[:, None]).ravel() // MS * MS)
    every = np.concatenate([np.empty(0, np.int64), *found])
    every.sort()
    distinct = every[np.diff(every, prepend=every[:1] - 1) > 0]
    if len(distinct) and len(distinct) <= MAX_CANDIDATES:
        return np.unique(np.append(distinct, 0))
    if not len(distinct):
        return distinct
    binned = every // BIN_NS
    first = np.flatnonzero(np.diff(binned, prepend=binned[:1] - 1))
    counts = np.diff(first, append=len(binned))
    crowded = binned[first[np.argsort(-counts, kind="stable")[: MAX_CANDIDATES // 4]]] * BIN_NS
    near = distinct[np.abs(distinct) <= SECOND]
    spread = (crowded[:, None] + np.arange(0, BIN_NS, BIN_NS // 4)[None, :]).ravel()
    return np.unique(np.concatenate([near, spread, np.zeros(1, np.int64)]))


def plausible(offset: int) -> bool:
    """Whether a clock may be off by this much without saying more: a few seconds, or a time zone (multiples of 15 min)."""
    zone = 900 * SECOND
    return abs(offset) <= SHIFT_NS or (
        abs(offset) <= 26 * 3600 * SECOND and abs((offset + zone // 2) % zone - zone // 2) <= SHIFT_NS
    )


# ---- how near it is


def _range(kinds: Kinds, offset: int, at: int) -> _Range:
    """The interval that causes and effects leave around an offset, narrowed by lines that replies caused."""
    reach = 3 * START_SLACK_NS + max((k.error for k in kinds.voters), default=0)
    low, high, anchors = offset - reach, offset + reach, 0
    for k in kinds.cause:
        pairs = k.pairs(offset)
        if len(pairs):
            low = max(low, _share(pairs, 90) - k.error - MS)
            high = min(high, _share(pairs, 10 if k.error else 90) - MS + k.before)
            anchors += len(pairs)
    for k in kinds.effect:
        pairs = k.pairs(offset)
        if len(pairs):
            bound = _share(pairs, 50 if k.loose and not k.error else 10) + 2 * MS + k.error
            low = max(low, bound - _slack(k, pairs) - 2 * k.error, _share(pairs, 90) - k.after)
            high, anchors = min(high, bound), anchors + len(pairs)
    for k in kinds.window:
        last = k.last_before(offset)
        if len(last):
            low, anchors = max(low, _share(last, 90) - k.after), anchors + len(last)
    if low > high:  # anchors contradict each other: what is left is the neighbourhood of both
        low, high = high - START_SLACK_NS, low + START_SLACK_NS
    return _narrowed(kinds, _Range(at, low, high, anchors))


def _share(values: Ints, percent: int) -> int:
    return int(np.percentile(values, percent))


def _slack(kind: Kind, pairs: Ints) -> int:
    """How long before its effect a line may stand at most, where the quickest effect of several is looked at."""
    alike = len(pairs) >= ALIKE and _share(pairs, 90) - _share(pairs, 10) <= QUICK_START_NS
    return min(kind.after - kind.error, QUICK_START_NS if kind.loose and alike else START_SLACK_NS)


def _moments(times: Ints) -> Ints:
    """The first of lines printed together: what one turn of a trace prints, thirty lines at a connect, is one witness."""
    array = np.unique(np.asarray(times, np.int64))
    return array[np.diff(array, prepend=array[:1] - SECOND) > REPLY_TO_LINE_NS]


def _narrowed(kinds: Kinds, found: _Range) -> _Range:
    """Lines are printed within a few ms of the reply that caused them: the offset at which most do."""
    lines = _moments(kinds.lines)
    if found.high - found.low < 4 * MS or len(lines) < 4 or not len(kinds.replies) or kinds.error:
        return found
    slack = REPLY_TO_LINE_NS + kinds.round_trip // 2  # where on the path the capture stands is not known
    beside = Kind(lines, kinds.replies, slack, 0, 1.0)
    offsets = np.arange(found.low, found.high + 1, MS, dtype=np.int64)
    scores = beside.hits(offsets)
    best, usual = scores.max(), max(scores.mean(), 1)
    if best < 0.25 * len(lines) or best < usual + CLEARLY * usual**0.5:
        return found
    good = offsets[scores >= 0.85 * best]
    low, high = int(good.min()) - slack, int(good.max()) + slack
    if high - low >= found.high - found.low:
        return found
    return replace(found, low=low, high=high, anchors=found.anchors + int(best), narrowed=True)
