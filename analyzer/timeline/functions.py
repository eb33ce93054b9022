"""Which environments are of one function, or of one export, as far as inputs tell.

What recurs, recurs in one function; and a log tells of the clock of a capture that its own environments spoke through, not of
another's. Inputs are of one export that share an environment or a line, or that one task exported to S3, each stream a file; of
one function also those that share a log group. Inputs that share nothing may be of one function all the same: that is not known,
and not assumed.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import filterfalse
from operator import attrgetter

from analyzer.logs.envelopes._streams import export_of
from analyzer.model.events import Event
from analyzer.model.records import Source
from analyzer.timeline.joined import Joined

_PLACE, _ALSO = attrgetter("source", "environment"), attrgetter("also")


def functions_of(sources: Iterable[Source], events: Iterable[Event]) -> dict[str | None, str]:
    """For each environment the name of its function: the same for environments of one function, and of no other meaning.

    `events` have environments already.
    """
    return _named(sources, events, by_group=True)


def exports_of(sources: Iterable[Source], events: Iterable[Event]) -> dict[str | None, str]:
    """For each environment the name of the export that holds its lines; two exports of one log group stay two."""
    return _named(sources, events, by_group=False)


def _named(sources: Iterable[Source], events: Iterable[Event], by_group: bool) -> dict[str | None, str]:
    found = Joined()
    for source in sources:
        if (export := export_of(source.path)) is not None:
            found.join(source.id, f"export {export}")
    events = list(events)
    grouped = [
        e for e in events if e.layer == "lambda" and "log_group" in e.attrs
    ]  # only the platform's lines name theirs
    named = {id(e) for e in grouped}
    seen: set[tuple[str, str | None, str | None]] = {(e.source, e.environment, e.attrs["log_group"]) for e in grouped}
    others = filterfalse(lambda e: id(e) in named, events) if named else events
    seen |= {(source_id, environment, None) for source_id, environment in set(map(_PLACE, others))}
    seen |= {(other, e.environment, e.attrs.get("log_group")) for e in filter(_ALSO, events) for other, _ in e.also}
    several = _holding_several(seen)
    for source_id, environment, group in seen:
        whole = f"{source_id} {group}" if group is not None and source_id in several else source_id
        if group is not None and by_group:
            found.join(whole, f"group {group}")
        found.join(whole, f"environment {environment}")
    return {environment: found.root(f"environment {environment}") for _, environment, _ in seen}


def _holding_several(seen: Iterable[tuple[str, str | None, str | None]]) -> set[str]:
    """The sources that hold several log groups."""
    groups: dict[str, set[str]] = {}
    for source_id, _, group in seen:
        if group is not None:
            groups.setdefault(source_id, set()).add(group)
    return {source_id for source_id, of in groups.items() if len(of) > 1}
