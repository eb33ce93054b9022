"""Runtimes: one module each, found by being here (or by an entry point). A module has

* `RANK`: asked in this order, the platform's own lines first, since user text may not look like one;
* `FIRST`: the characters with which its lines can begin, None for any; * `parse(message) -> RuntimeLine | None`;
* where its lines are the platform's: `NEEDLES`, `BEGINS`, `ENDS`, the words by which whole files are searched for them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Protocol

from analyzer.discovery import modules
from analyzer.logs.records import RuntimeLine


class Runtime(Protocol):
    """The interface of a runtime module."""

    RANK: int
    FIRST: frozenset[str] | None

    def parse(self, message: str) -> RuntimeLine | None:
        """The message without its prefix, None where the prefix is not this runtime's."""


@cache
def _ranked() -> tuple[Runtime, ...]:
    found: list[Runtime] = modules(__name__, __path__, "runtimes")
    return tuple(sorted(found, key=lambda runtime: runtime.RANK))


@cache
def _beginning(character: str) -> tuple[Callable[[str], RuntimeLine | None], ...]:
    """What parses lines that begin so."""
    return tuple(runtime.parse for runtime in _ranked() if runtime.FIRST is None or character in runtime.FIRST)


def _words(name: str) -> tuple[str, ...]:
    return tuple(word for runtime in _ranked() for word in getattr(runtime, name, ()))


def needles() -> tuple[str, ...]:
    """Words that mark a platform line."""
    return _words("NEEDLES")


def begins() -> tuple[str, ...]:
    """Words after which an environment runs."""
    return _words("BEGINS")


def ends() -> tuple[str, ...]:
    """Words after which an environment may be frozen."""
    return _words("ENDS")


def parse(message: str) -> RuntimeLine:
    """The message through the first runtime that knows its prefix; bare application text otherwise."""
    first = message[:1]
    for read in _beginning(first if first.isascii() else "~"):
        if (line := read(message)) is not None:
            return line
    return RuntimeLine("app", message)


def prefixed(message: str) -> bool:
    """Whether any runtime knows the prefix of this line."""
    first = message[:1]
    return any(read(message) is not None for read in _beginning(first if first.isascii() else "~"))
