"""Finding modules by where they stand: one new format, dialect or rule is one new file, registered nowhere.

What stands outside this package is found by entry points: `connection_analyzer.envelopes`, `.runtimes` and `.recognisers`
name modules (or objects with the same names in them) of other distributions.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from typing import Any

GROUPS = "connection_analyzer"
#: What could not be loaded: an entry point's name, and why. Whoever reads inputs says so.
failures: list[str] = []


@cache
def _modules(package: str, path: tuple[str, ...]) -> tuple[Any, ...]:
    names = sorted(info.name for info in pkgutil.iter_modules(list(path)) if not info.name.startswith("_"))
    return tuple(importlib.import_module(f"{package}.{name}") for name in names)


@cache
def _plugins(group: str) -> tuple[Any, ...]:
    """The objects behind a group's entry points, by name. One that cannot be loaded stops nobody."""
    from importlib.metadata import entry_points  # with the e-mail parser that it brings: 10 ms

    found = []
    for point in sorted(entry_points(group=f"{GROUPS}.{group}"), key=lambda p: (p.name, p.value)):
        try:
            found.append(point.load())
        except Exception as error:  # whatever a stranger's module does when it is imported
            failures.append(f"plug-in {point.name} ({point.value}): {type(error).__name__}: {error}")
    return tuple(found)


def modules(package: str, path: Iterable[str], group: str | None = None) -> list[Any]:
    """The public modules of a package, by name (those that begin with `_` are helpers), then the plug-ins of a group."""
    return [*_modules(package, tuple(path)), *(_plugins(group) if group else ())]
