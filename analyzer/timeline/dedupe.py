"""One line in two inputs is one event with two refs: a bare trace beside the export that contains it, two exports."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from math import gcd

import numpy as np

from analyzer.model.events import Event
from analyzer.model.times import SECOND
from analyzer.timeline.log_clocks import Twin, content, resolution, twins

#: So many distinct lines, each as often, prove that a log was delivered more than once.
LEAST_LINES = 3


def _key(event: Event) -> tuple[object, ...]:
    """What makes two lines the same: the stamp the guest printed, pid, tracer and text; else the text alone."""
    if event.layer == "grpc" and event.inner_ns is not None:
        return ("grpc", event.inner_ns, event.pid, event.tracer, event.text)
    return ("line", event.inner_ns, event.request_id, event.text.strip())


def _by_service(event: Event) -> bool:
    """Whether only the service's stamp tells a line from its like: it has no request's id, and the guest printed no stamp."""
    return event.inner_ns is None and event.request_id is None and event.event_ns is not None


def _looked_for(event: Event, cut: bool) -> list[tuple[object, ...]]:
    """Under what a line that another input may hold is looked for, what fits best first. `cut`: its stamps are whole seconds."""
    line = _key(event)
    if not _by_service(event):
        return [line]
    second = (event.event_ns or 0) // SECOND
    if cut:
        return [(*line, "in", second), (*line, "no stamp")]
    return [(*line, "at", event.event_ns), (*line, "cut", second), (*line, "no stamp")]


def _found_under(event: Event, cut: bool) -> list[tuple[object, ...]]:
    """Under what a line is found by other inputs' lines: those of whole seconds, those without a stamp, those with one."""
    line = _key(event)
    if not _by_service(event):
        return [line, (*line, "no stamp")] if event.inner_ns is None and event.request_id is None else [line]
    second = (event.event_ns or 0) // SECOND
    return [line, (*line, "in", second), (*line, "cut", second) if cut else (*line, "at", event.event_ns)]


def _richness(events: list[Event]) -> tuple[int, int, int]:
    """Rank of an input: one that knows streams and stamps is believed before one that lost them."""
    return (
        sum(1 for e in events if e.environment is not None),
        sum(1 for e in events if e.event_ns is not None),
        len(events),
    )


def deduplicate(inputs: list[list[Event]]) -> tuple[list[Event], dict[str, Twin], dict[str, int]]:
    """All events once; which inputs carry others' lines by another clock; and how many lines of each came again.

    The richest input is taken first; the others' lines become further refs of its events, or events of their own. The k-th
    copy of a line in one input is the k-th copy in another.
    """
    ordered = inputs
    if len(inputs) > 1:
        ordered = sorted(
            inputs, key=lambda events: (*(-r for r in _richness(events)), events[0].source if events else "")
        )
    single = [delivered_once(events) for events in ordered]
    again = {
        events[0].source: len(events) - len(kept)
        for events, kept in zip(ordered, single, strict=True)
        if len(kept) < len(events)
    }
    if len(single) == 1:
        return single[0], {}, again
    twin_of = twins(single)
    known = _Known()
    for events in single:
        twin = twin_of.get(events[0].source) if events else None
        known.take(events if twin is None else known.without_twins(events, twin))
    return known.kept, twin_of, again


class _Known:
    """Events kept so far, and where to find them again."""

    def __init__(self) -> None:
        self.kept: list[Event] = []
        # By line, and by line and environment; an event without an environment stands under every one.
        self._by_line: dict[tuple[object, ...], list[Event]] = {}
        self._by_place: dict[tuple[object, ...], list[Event]] = {}

    def take(self, events: list[Event]) -> None:
        """Add one input's events."""
        seen: dict[tuple[object, ...], int] = {}
        fresh: list[tuple[tuple[object, ...], Event]] = []
        cut = resolution([e.event_ns for e in events if e.event_ns is not None]) >= SECOND
        for event in events:
            places = self._by_line if event.environment is None else self._by_place
            of = () if event.environment is None else (event.environment,)
            keys = [(*line, *of) for line in _looked_for(event, cut)]
            key = next((key for key in keys if key in places), keys[0])
            same = places.get(key, [])
            ordinal = seen[key] = seen.get(key, 0) + 1
            if ordinal <= len(same):
                _join(same[ordinal - 1], event)
            else:
                self.kept.append(event)
                fresh += [(line, event) for line in _found_under(event, cut)]
        for line, event in fresh:
            self._by_line.setdefault(line, []).append(event)
            self._by_place.setdefault((*line, event.environment), []).append(event)

    def without_twins(self, events: list[Event], twin: Twin) -> list[Event]:
        """The events of an input that are not lines of another, by whose clock they are looked for."""
        wanted = {content(e) for e in events if e.inner_ns is not None}
        places: dict[tuple[object, ...], list[tuple[int, int, Event]]] = defaultdict(list)
        for number, e in enumerate(self.kept):
            if e.inner_ns is not None and e.source == twin.of and (key := content(e)) in wanted:
                places[key].append((e.inner_ns, number, e))
        for group in places.values():
            group.sort(key=lambda place: place[:2])
        rest = []
        for event in events:
            found = _nearest(places[content(event)], event, twin) if event.inner_ns is not None else None
            if found is None:
                rest.append(event)
            else:
                _join(found, event)
        return rest


def _nearest(places: list[tuple[int, int, Event]], event: Event, twin: Twin) -> Event | None:
    """The first of these lines that stands where the event does by its twin's clock, taken out."""
    wanted = twin.clock.aligned(event.inner_ns or 0)
    at = bisect_left(places, wanted - twin.tolerance_ns, key=lambda place: place[0])
    if at < len(places) and places[at][0] <= wanted + twin.tolerance_ns:
        return places.pop(at)[2]
    return None


def _join(kept: Event, event: Event) -> None:
    kept.also = (*kept.also, (event.source, event.ref))


def _all_differ(events: list[Event]) -> bool:
    """Whether no two of these lines can be the same, by hashes: a million lines are not kept a second time to be compared."""
    seen = np.fromiter((hash((e.environment, e.event_ns, e.inner_ns, e.text.strip())) for e in events), np.int64)
    seen.sort()
    return not (seen[1:] == seen[:-1]).any()


def delivered_once(events: list[Event]) -> list[Event]:
    """One input's events without those that came again: all of it several times, or platform lines that cannot repeat.

    A guest may print a line twice in a millisecond; START and REPORT of one request are not printed twice with one stamp.
    """
    if _all_differ(events):
        return events
    lines = Counter((e.environment, e.event_ns, *_key(e)) for e in events)
    if len(lines) == len(events):
        return events
    platform = any(
        count > 1 and e.event_ns is not None
        for e, count in ((e, lines[e.environment, e.event_ns, *_key(e)]) for e in events if e.layer == "lambda")
    )
    times = gcd(*lines.values())
    if not platform and (times < 2 or len(lines) < LEAST_LINES):
        return events
    left = {key: 1 if platform else count // times for key, count in lines.items()}
    kept = []
    for e in events:
        key = (e.environment, e.event_ns, *_key(e))
        if left[key]:
            left[key] -= 1
            kept.append(e)
    return kept
