"""One source for each hot loop: interpreted on small inputs, compiled on large ones.

A capture of a few thousand packets is answered sooner by the interpreter than by machine code that first has to be
loaded, or even made; a capture of millions is hopeless without it. A `Kernel` is a plain Python function that only indexes flat
tables (`rows[row + COLUMN]`), so the same source runs on lists (fast in the interpreter) and on int64 arrays (fast in
numba), and the interpreted form is the slow twin that the tests compare the compiled one with. Flat, because a row
taken out of a two-dimensional array is an object with a reference count, and counting costs more than the row.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

#: Below this many records the interpreter (11 µs a record) wins over finding and loading the compiled kernels (5 ms).
COMPILE_FROM = 500
#: The same where nothing was ever compiled, which takes some 5 s: nobody waits for it before a result that is near.
COMPILE_FIRST_FROM = 200_000

#: What a kernel's parameters are, in the compiled form: numbers are `int`, 64 bits.
Bytes = Any  # uint8 array; `bytes` when interpreted
Column = Any  # int64 array, a table's rows end to end; a list when interpreted
Index = Any  # int32 array; a list when interpreted

#: numba's names of them.
TYPES = {"int": "int64", "Bytes": "uint8[::1]", "Column": "int64[::1]", "Index": "int32[::1]"}

_kernels: list[Kernel] = []


def compiled_wanted(records: int) -> bool:
    """Whether `records` more records are worth the compiled kernels; `ANALYZER_JIT=0|1` settles it for tests."""
    forced = os.environ.get("ANALYZER_JIT")
    if forced in ("0", "1"):
        return forced == "1"
    if records < COMPILE_FROM:
        return False
    return records >= COMPILE_FIRST_FROM or compiled_before()


@cache
def compiled_before() -> bool:
    """Whether an earlier process kept machine code of these kernels; it will have kept all that matter."""
    from analyzer.kernel import native

    return any(native.kept(one.interpreted.__name__, (one.interpreted, *one.helpers)) for one in _kernels)


class Kernel:
    """A hot loop in two forms: `interpreted` takes lists and bytes, `compiled` the arrays of its annotations."""

    def __init__(self, function: Callable[..., Any], helpers: tuple[Callable[..., Any], ...]) -> None:
        self.interpreted = function
        self.helpers = helpers
        self._compiled: Callable[..., Any] | None = None

    @property
    def compiled(self) -> Callable[..., Any]:
        """The same function as machine code; built once a machine."""
        if self._compiled is None:
            from analyzer.kernel import native

            try:
                self._compiled = native.load(self.interpreted, self.helpers)
            except native.NotNativeError:
                self._compiled = self._by_numba()
        return self._compiled

    def _by_numba(self) -> Callable[..., Any]:
        """Compiled by numba with arrays, and kept in numba's cache: slower, but with bounds checks if wanted."""
        import numba
        from numba.extending import register_jitable

        for helper in self.helpers:
            register_jitable(helper)
        notes = self.interpreted.__annotations__
        signature = ", ".join(TYPES[note] for name, note in notes.items() if name != "return")
        compiled: Callable[..., Any] = numba.njit(f"({signature})", cache=True, nogil=True)(self.interpreted)
        return compiled


def kernel(*helpers: Callable[..., Any]) -> Callable[[Callable[..., Any]], Kernel]:
    """Make a `Kernel` of a function; `helpers` are the plain functions that it calls."""

    def make(function: Callable[..., Any]) -> Kernel:
        one = Kernel(function, helpers)
        _kernels.append(one)
        return one

    return make
