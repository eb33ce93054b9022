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
from msgspec.structs import replace

from analyzer.model.events import Event
from analyzer.model.records import Invocation
from analyzer.model.times import SECOND
from analyzer.timeline.against_log import AGREE_NS, BIN_NS, EXPECTED, MISSED, RIVAL_ZONE_SHARE, SHIFT_NS
from analyzer.timeline.log_anchors import Kind, Said, anchors_of, said
from analyzer.timeline.shown import Shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Lines of a kind of one environment that are looked at, and environments: those that say most.
MOST_LINES, MOST_ENVIRONMENTS = 40, 2_000
_OFFSETS = np.arange(-SHIFT_NS, SHIFT_NS + 1, BIN_NS)

#: What a log says, by environment.
Fleet = dict[str | None, Said]


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
    """The environments whose packets a capture shows, if its clock is off by no more than hosts' clocks are; none where that is not clear."""
    witnesses = {name: found for name, found in _witnesses(told, shown) if found.any()}
    if not witnesses:
        return set()
    least = EXPECTED + log(len(witnesses))  # so much one of them has by chance
    together = np.sum([np.maximum(found - least, 0) for found in witnesses.values()], axis=0)
    best = int(np.lexsort((np.abs(_OFFSETS), -together))[0])
    offset = int(_OFFSETS[best])
    rival = together[np.abs(_OFFSETS - offset) > SECOND].max()
    if abs(offset) > AGREE_NS and (together[best] < MISSED or rival >= RIVAL_ZONE_SHARE * together[best]):
        return set()
    return {name for name, found in witnesses.items() if found[best] > least}


def _witnesses(told: Fleet, shown: Shown) -> Iterable[tuple[str | None, NDArray[np.float64]]]:
    """For each environment that says something at the time of the capture, how surprising its hits are at each offset."""
    first, last = shown.point.data.first_ns, shown.point.data.last_ns
    there = [(name, anchors_of(one, shown).part(first - SHIFT_NS, last + SHIFT_NS)) for name, one in told.items()]
    there = [(name, kinds) for name, kinds in there if len(kinds.voting_times())]
    there.sort(key=lambda x: (-len(x[1].voting_times()), x[0] or ""))
    for name, kinds in there[:MOST_ENVIRONMENTS]:
        yield name, kinds.each(_some).surprises(_OFFSETS, first, last)


def _some(kind: Kind) -> Kind:
    return replace(kind, log=kind.log[:MOST_LINES])
