"""Runtimes: one module each, found by being here. A module has `parse(message) -> RuntimeLine | None`.

They are asked in the order of their `RANK`; the platform's own lines come first, since user text may not look like one.
"""

from __future__ import annotations

from functools import cache
from typing import Protocol

from analyzer.discovery import modules
from analyzer.logs.records import RuntimeLine


class Runtime(Protocol):
    """The interface of a runtime module."""

    RANK: int

    def parse(self, message: str) -> RuntimeLine | None:
        """The message without its prefix, None where the prefix is not this runtime's."""


@cache
def _ranked() -> tuple[Runtime, ...]:
    found: list[Runtime] = modules(__name__, __path__)  # type: ignore[assignment]
    return tuple(sorted(found, key=lambda runtime: runtime.RANK))


def parse(message: str) -> RuntimeLine:
    """The message through the first runtime that knows its prefix; bare application text otherwise."""
    for runtime in _ranked():
        if (line := runtime.parse(message)) is not None:
            return line
    return RuntimeLine("app", message)


def prefixed(message: str) -> bool:
    """Whether any runtime knows the prefix of this line."""
    return any(runtime.parse(message) is not None for runtime in _ranked())
