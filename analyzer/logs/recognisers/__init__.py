"""Recognisers: one module each, found by being here. A module has

* `NEEDLES`: strings of which a body must contain one before it is looked at at all; * `recognise(body) -> Recognised | None`.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Protocol

from analyzer.discovery import modules
from analyzer.logs.records import INSPECT, Recognised


class Recogniser(Protocol):
    """The interface of a recogniser module."""

    RANK: int
    NEEDLES: tuple[str, ...]

    def recognise(self, body: str) -> Recognised | None:
        """What the body says, None where it is not this recogniser's."""


@cache
def _ranked() -> tuple[tuple[re.Pattern[str], Recogniser], ...]:
    found: list[Recogniser] = modules(__name__, __path__)  # type: ignore[assignment]
    found = sorted(found, key=lambda recogniser: recogniser.RANK)
    return tuple((re.compile("|".join(map(re.escape, r.NEEDLES))), r) for r in found)


def recognise(body: str) -> Recognised | None:
    """What the first recogniser that knows this body reads out of it."""
    inspected = body[:INSPECT]
    for needles, recogniser in _ranked():
        if needles.search(inspected) and (found := recogniser.recognise(inspected)) is not None:
            return found
    return None


def recognises(line: str) -> bool:
    """Whether a bare line is a trace's own (an application error alone does not make a file a log of ours)."""
    found = recognise(line)
    return found is not None and found.layer == "grpc"


def continues(first: str, line: str) -> bool:
    """Whether a line belongs to the record that `first` began, as the recogniser that knows `first` says."""
    return any(r.continues(first, line) for _, r in _ranked() if hasattr(r, "continues"))
