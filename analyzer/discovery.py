"""Finding modules by where they stand: one new format, dialect or rule is one new file, registered nowhere."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from types import ModuleType


@cache
def _modules(package: str, path: tuple[str, ...]) -> tuple[ModuleType, ...]:
    names = sorted(info.name for info in pkgutil.iter_modules(list(path)) if not info.name.startswith("_"))
    return tuple(importlib.import_module(f"{package}.{name}") for name in names)


def modules(package: str, path: Iterable[str]) -> list[ModuleType]:
    """The public modules of a package, by name; those that begin with `_` are helpers."""
    return list(_modules(package, tuple(path)))
