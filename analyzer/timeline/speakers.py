"""Which environments speak through a capture, where most of a log do not: of one host of a fleet, of one server of several functions.

The lines of each environment are a witness of their own. Where a capture's clock stands, those that speak through it find their packets;
the others find some by chance, and that many can be told. The offset is the one at which the witnesses together are most surprising.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from math import log
from typing import TYPE_CHECKING

import numpy as np

from analyzer.model.events import Event
from analyzer.model.records import Invocation
from analyzer.model.times import SECOND
from analyzer.timeline.against_log import (
    AGREE_NS,
    BIN_NS,
    EXPECTED,
    REPLY_TO_LINE_NS,
    SHIFT_NS,
    ZONES,
)
from analyzer.timeline.log_anchors import LEAST_CHANCE, Kind, Kinds, Said, anchors_of, said, surprises
from analyzer.timeline.shown import BURST_GAP_NS, Shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

#: Lines of a kind of one environment that are looked at, and environments: those that say most.
MOST_LINES, MOST_ENVIRONMENTS = 40, 2_000
#: So much more than one of them has by chance they have together where the clock is far off, and others half as much at most
#: (environments that have nothing to do with a capture: 7 in one of a hundred logs, at some offset or other).
SHIFTED, RIVAL_SHARE = 7.5, 0.5
_OFFSETS = np.arange(-SHIFT_NS, SHIFT_NS + 1, BIN_NS)

#: What a log says, by environment.
Fleet = dict[str | None, Said]
#: An environment, its anchors, and the times of those that vote.
_Anchors = tuple[str | None, Kinds, "Ints"]


def fleet(events: Iterable[Event], invocations: Iterable[Invocation]) -> Fleet:
    """What each environment of a log says."""
    lines: dict[str | None, list[Event]] = defaultdict(list)
    for e in events:
        lines[e.environment].append(e)
    own: dict[str | None, list[Invocation]] = defaultdict(list)
    for i in invocations:
        own[i.environment].append(i)
    return {environment: said(mine, own[environment]) for environment, mine in lines.items()}


def speakers(told: Fleet, shown: Shown) -> set[str | None]:
    """The environments whose packets a capture shows, if its clock is off by no more than hosts' clocks are, or by whole time zones;
    none where that is not clear."""
    anchors = [(name, anchors_of(one, shown)) for name, one in told.items()]
    every = [(name, kinds, kinds.voting_times()) for name, kinds in anchors]
    return _clear(every, shown, [0], SHIFT_NS) or _clear(every, shown, [zone for zone in ZONES if zone], AGREE_NS)


def _clear(every: list[_Anchors], shown: Shown, zones: list[int], reach: int) -> set[str | None]:
    """Those that speak at the one offset, up to `reach` from these time zones, at which they are most surprising; none where others are rivals."""
    grids = [zone + np.arange(-reach, reach + 1, BIN_NS) for zone in zones]
    heard = [_beyond(every, shown, grid) for grid in grids]
    offsets = np.concatenate(grids)
    together = np.concatenate([sum(found.values(), np.zeros(len(grids[0]))) for found in heard])
    best = int(np.lexsort((np.abs(offsets), -together))[0])
    offset = int(offsets[best])
    rival = together[np.abs(offsets - offset) > SECOND].max()
    if abs(offset) > AGREE_NS and together[best] < max(SHIFTED, rival / RIVAL_SHARE):
        return set()
    grid, at = divmod(best, len(grids[0]))
    return {name for name, found in heard[grid].items() if found[at] > 0}


def _beyond(every: list[_Anchors], shown: Shown, offsets: Ints) -> dict[str | None, NDArray[np.float64]]:
    """For each environment how much more surprising its hits are, at each offset, than those of some one are by chance."""
    witnesses = {name: found for name, found in _witnesses(every, shown, offsets) if found.any()}
    least = EXPECTED + log(max(len(witnesses), 1))  # so much one of them has by chance
    return {name: np.maximum(found - least, 0) for name, found in witnesses.items() if found.max() > least}


def _witnesses(every: list[_Anchors], shown: Shown, offsets: Ints) -> Iterable[tuple[str | None, NDArray[np.float64]]]:
    """For each environment that says something at the time of the capture, how surprising its hits are at each offset."""
    first, last = shown.point.data.first_ns, shown.point.data.last_ns
    span = first - int(offsets[-1]), last - int(offsets[0])
    found = [(name, kinds, np.diff(np.searchsorted(times, span))[0]) for name, kinds, times in every]
    there = [(-lines, name or "", name, kinds.part(*span)) for name, kinds, lines in found if lines]
    there.sort(key=lambda x: x[:2])
    for *_, name, kinds in there[:MOST_ENVIRONMENTS]:
        own = kinds.apart().each(_some).surprises(offsets, first, last)
        yield name, np.maximum(own, _by_replies(kinds, offsets, first, last))  # one moment of a guest makes both


def _some(kind: Kind) -> Kind:
    return kind.of(slice(MOST_LINES))


def _by_replies(kinds: Kinds, offsets: Ints, first_ns: int, last_ns: int) -> NDArray[np.float64]:
    """How surprising it is, at each offset, that so many groups of lines have one that stands beside a reply.

    Lines printed one after the other are one witness.
    """
    lines = kinds.lines[np.diff(kinds.lines, prepend=0) > REPLY_TO_LINE_NS][:MOST_LINES]
    if not len(lines) or not len(kinds.replies):
        return np.zeros(len(offsets))
    slack = REPLY_TO_LINE_NS + kinds.round_trip // 2 + kinds.error
    beside = Kind(lines, kinds.replies, slack + BIN_NS // 2, kinds.error + BIN_NS // 2, 1.0)
    begins = np.flatnonzero(np.diff(lines, prepend=0) > BURST_GAP_NS)
    wanted = lines[begins] + offsets[:, None]
    there = (wanted >= first_ns) & (wanted <= last_ns)
    hits = np.logical_or.reduceat(beside.found(offsets), begins, axis=1) & there
    chance = min(beside.chance(first_ns, last_ns) * len(lines) / len(begins), 1 - LEAST_CHANCE)
    return surprises(hits.sum(axis=1), there.sum(axis=1), chance)
