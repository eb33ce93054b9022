"""One line in two inputs is one event with two refs: a bare trace beside the export that contains it, two exports."""

from __future__ import annotations

from analyzer.model.events import Event


def _key(event: Event) -> tuple[object, ...]:
    """What makes two lines the same: the stamp the guest printed, pid, tracer and text; else the text alone."""
    if event.layer == "grpc" and event.inner_ns is not None:
        return ("grpc", event.inner_ns, event.pid, event.tracer, event.text)
    return ("line", event.inner_ns, event.request_id, event.text.strip())


def _richness(events: list[Event]) -> tuple[int, int, int]:
    """Rank of an input: one that knows streams and stamps is believed before one that lost them."""
    return (
        sum(1 for e in events if e.environment is not None),
        sum(1 for e in events if e.event_ns is not None),
        len(events),
    )


def deduplicate(inputs: list[list[Event]]) -> list[Event]:
    """All events once. The k-th copy of a line in one input is the k-th copy in another.

    The richest input is taken first; the others' lines become further refs of its events, or events of their own.
    """
    kept: list[Event] = []
    #: Kept events by line, and by line and environment; an event without an environment stands under every one.
    by_line: dict[tuple[object, ...], list[Event]] = {}
    by_place: dict[tuple[object, ...], list[Event]] = {}
    ordered = sorted(inputs, key=lambda events: (*(-r for r in _richness(events)), events[0].source if events else ""))
    for events in ordered:
        seen: dict[tuple[object, ...], int] = {}
        fresh: list[tuple[tuple[object, ...], Event]] = []
        for event in events:
            line = _key(event)
            key = line if event.environment is None else (*line, event.environment)
            twins = by_line.get(line, []) if event.environment is None else by_place.get(key, [])
            ordinal = seen[key] = seen.get(key, 0) + 1
            if ordinal <= len(twins):
                twin = twins[ordinal - 1]
                twin.also = (*twin.also, (event.source, event.ref))
            else:
                kept.append(event)
                fresh.append((line, event))
        for line, event in fresh:
            by_line.setdefault(line, []).append(event)
            by_place.setdefault((*line, event.environment), []).append(event)
    return kept
