"""Recognisers: one module each, found by being here (or by an entry point). A module has

* `RANK`: asked in this order; * `NEEDLES`: strings of which a body must contain one before it is looked at at all, without
quotes and control characters, since whole files are searched for them before any unescaping; * `recognise(body)`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Protocol

from analyzer.discovery import modules
from analyzer.logs.records import INSPECT, Recognised

if TYPE_CHECKING:
    from ahocorasick_rs import AhoCorasick


class Recogniser(Protocol):
    """The interface of a recogniser module."""

    RANK: int
    NEEDLES: tuple[str, ...]

    def recognise(self, body: str) -> Recognised | None:
        """What the body says, None where it is not this recogniser's."""


@cache
def _ranked() -> tuple[Recogniser, ...]:
    found: list[Recogniser] = modules(__name__, __path__, "recognisers")
    return tuple(sorted(found, key=lambda recogniser: recogniser.RANK))


@cache
def needles() -> tuple[str, ...]:
    """Every recogniser's needles, in the order of their ranks."""
    return tuple(needle for recogniser in _ranked() for needle in recogniser.NEEDLES)


@cache
def telling() -> tuple[str, ...]:
    """Words of which a line of a big file must hold one to be kept: a recogniser's `TELLING`, else its needles."""
    return tuple(word for recogniser in _ranked() for word in getattr(recogniser, "TELLING", recogniser.NEEDLES))


@cache
def _search() -> tuple[AhoCorasick, tuple[int, ...]]:
    """One search for all needles, and the bit of each one's recogniser."""
    from ahocorasick_rs import AhoCorasick

    bits = tuple(1 << k for k, recogniser in enumerate(_ranked()) for _ in recogniser.NEEDLES)
    return AhoCorasick(needles()), bits


@cache
def _chosen(bits: int) -> tuple[Callable[[str], Recognised | None], ...]:
    """The recognisers of these bits, in the order of their ranks."""
    return tuple(recogniser.recognise for k, recogniser in enumerate(_ranked()) if bits >> k & 1)


@cache
def _first() -> tuple[Callable[[str], Recognised | None], tuple[str, ...]]:
    """The recogniser that is asked before all others, and its needles."""
    recogniser = _ranked()[0]
    return recogniser.recognise, recogniser.NEEDLES


def recognise(body: str) -> Recognised | None:
    """What the first recogniser that knows this body reads out of it."""
    inspected = body if len(body) <= INSPECT else body[:INSPECT]
    first, its_needles = _first()  # before the search for everyone's: nearly every line of a trace is this one's
    for needle in its_needles:
        if needle in inspected:
            if (found := first(inspected)) is not None:
                return found
            break
    search, bits = _search()
    wanted = 0
    for which, _, _ in search.find_matches_as_indexes(inspected, overlapping=True):
        wanted |= bits[which]
    if wanted > 1:
        for read in _chosen(wanted & ~1):
            if (found := read(inspected)) is not None:
                return found
    return None


def recognises(line: str) -> bool:
    """Whether a bare line is a trace's own and says something; errors and remarks stand in a server's diary too."""
    found = recognise(line)
    return found is not None and found.layer == "grpc" and found.kind != "trace"


def continues(first: str, line: str) -> bool:
    """Whether a line belongs to the record that `first` began, as the recogniser that knows `first` says."""
    return any(follows(first, line) for follows in _following())


@cache
def _following() -> tuple[Callable[[str, str], bool], ...]:
    return tuple(recogniser.continues for recogniser in _ranked() if hasattr(recogniser, "continues"))
