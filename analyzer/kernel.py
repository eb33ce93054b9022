"""One source for each hot loop: interpreted on small inputs, compiled by numba on large ones.

A capture of a few thousand packets is answered sooner by the interpreter than by a compiler that first has to be
imported; a capture of millions is hopeless without it. A `Kernel` is a plain Python function that only indexes flat
tables (`rows[row + COLUMN]`), so the same source runs on lists (fast in the interpreter) and on int64 arrays (fast in
numba), and the interpreted form is the slow twin that the tests compare the compiled one with. Flat, because a row
taken out of a two-dimensional array is an object with a reference count, and counting costs more than the row.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

#: Below this many records the interpreter wins over importing numba and loading the compiled kernel from its cache
#: (measured: `bench/start.py`).
COMPILE_FROM = 15_000


def compiled_wanted(records: int) -> bool:
    """Whether an input of `records` records is worth the compiler; `ANALYZER_JIT=0|1` settles it for tests."""
    forced = os.environ.get("ANALYZER_JIT")
    if forced in ("0", "1"):
        return forced == "1"
    return records >= COMPILE_FROM


class Kernel:
    """A hot loop in two forms: `interpreted` takes lists, `compiled` takes int64 arrays (and uint8 bytes)."""

    def __init__(self, function: Callable[..., Any], helpers: tuple[Callable[..., Any], ...]) -> None:
        self.interpreted = function
        self.helpers = helpers
        self._compiled: Callable[..., Any] | None = None

    @property
    def compiled(self) -> Callable[..., Any]:
        """The same function through numba; compiled once a machine, then loaded from numba's cache."""
        if self._compiled is None:
            import numba
            from numba.extending import register_jitable

            for helper in self.helpers:
                register_jitable(helper)
            self._compiled = numba.njit(cache=True, nogil=True)(self.interpreted)
        return self._compiled


def kernel(*helpers: Callable[..., Any]) -> Callable[[Callable[..., Any]], Kernel]:
    """Make a `Kernel` of a function; `helpers` are the plain functions that it calls."""
    return lambda function: Kernel(function, helpers)
