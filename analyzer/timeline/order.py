"""Which of two moments came first, as far as the clocks of their sources prove it.

Stamps of one source compare as they are, but for those of two environments that were cut: lines keep their order in an environment
only. Those of two sources compare give or take what both may be off at their times, or the way from one
clock to the other, whichever is less. An order closer than that is not proven.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from msgspec.structs import replace

from analyzer.model.findings import Evidence
from analyzer.model.records import Freeze
from analyzer.timeline.steps import Step
from analyzer.timeline.story import Story

#: Something that a source stamped.
Moment = Evidence | Step


def error_between(story: Story, a: Moment, b: Moment) -> int | None:
    """How far the times of two moments may be off against each other (ns), None where their clocks have nothing in common."""
    if not {a.source, *(s for s, _ in a.also)}.isdisjoint({b.source, *(s for s, _ in b.also)}):
        return _cut_between(story, a, b)
    way = story.clock_error(a.source, b.source)
    if way is None:
        return None
    (one, placed), (other, moved) = _error(story, a), _error(story, b)
    return min(way + placed + moved, one + other)


def before(story: Story, a: Moment, b: Moment) -> bool | None:
    """True where `a` came before `b`, False where it came after, None where the clocks prove neither."""
    error = error_between(story, a, b)
    if error is None or abs(b.time_ns - a.time_ns) <= error:
        return None
    return a.time_ns < b.time_ns


def fills(story: Story, freeze: Freeze, k: int, start_ns: int, end_ns: int) -> bool:
    """Whether a freeze takes up most of a stretch of connection `k`, however far the clocks of log and captures may be off."""
    clocks = [story.connections.points[p].clock for p in story.connections.seen_at(k)]
    error = freeze.error_ns + max(
        clock.error_at(clock.stamp(t)) + clock.guest_error_ns for clock in clocks for t in (start_ns, end_ns)
    )
    return all(2 * freeze.overlap(start_ns + by, end_ns + by) >= end_ns - start_ns for by in (-error, error))


def marked(story: Story, evidence: Sequence[Evidence]) -> list[Evidence]:
    """Lines of proof as they stand, with those noted that are not proven to come after the one above."""
    found = list(evidence[:1])
    for above, e in pairwise(evidence):
        error = error_between(story, above, e)
        unproven = (error is None or error > 0 or above.source != e.source) and before(story, above, e) is None
        found.append(replace(e, unproven=unproven))
    return found


def _cut_between(story: Story, a: Moment, b: Moment) -> int:
    """How far two moments of one source may be off against each other because stamps of two environments were cut."""
    one, other = story.event_at(a.source, a.ref), story.event_at(b.source, b.ref)
    if one is None or other is None or one.environment == other.environment:
        return 0
    return one.placed_ns + other.placed_ns


def _error(story: Story, at: Moment) -> tuple[int, int]:
    """How far a moment's time may be off in its frame, and the part of that which is the line's own."""
    if (event := story.event_at(at.source, at.ref)) is not None:
        return event.error_ns, event.placed_ns
    stamp = at.source_ns if at.source_ns is not None else at.time_ns
    clocks = story.source(at.source).clocks
    return max((clock.error_at(stamp) + clock.guest_error_ns for clock in clocks), default=0), 0
