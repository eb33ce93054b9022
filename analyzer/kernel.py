"""One source for each hot loop: interpreted on small inputs, compiled by numba on large ones.

A capture of a few thousand packets is answered sooner by the interpreter than by a compiler that first has to be
imported; a capture of millions is hopeless without it. A `Kernel` is a plain Python function that only indexes flat
tables (`rows[row + COLUMN]`), so the same source runs on lists (fast in the interpreter) and on int64 arrays (fast in
numba), and the interpreted form is the slow twin that the tests compare the compiled one with. Flat, because a row
taken out of a two-dimensional array is an object with a reference count, and counting costs more than the row.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

#: Below this many records the interpreter (11 µs a record) wins over importing numba and loading the kernels (0.3 s).
COMPILE_FROM = 28_000
#: The same where nothing was ever compiled, which takes some 6 s: nobody waits for it before a result that is near.
COMPILE_FIRST_FROM = 200_000


def compiled_wanted(records: int) -> bool:
    """Whether `records` more records are worth the compiler; `ANALYZER_JIT=0|1` settles it for tests."""
    forced = os.environ.get("ANALYZER_JIT")
    if forced in ("0", "1"):
        return forced == "1"
    return records >= (COMPILE_FROM if compiled_before() else COMPILE_FIRST_FROM)


@cache
def compiled_before() -> bool:
    """Whether this installation's kernels lie in one of the places where numba keeps what it compiled."""
    places = [Path(__file__).parent / "tcp" / "__pycache__"]
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        places = [Path(named)]
    elif sys.platform == "win32":
        places.append(Path(os.environ.get("LOCALAPPDATA", "~")).expanduser() / "numba")
    elif sys.platform == "darwin":
        places.append(Path("~/Library/Caches/numba").expanduser())
    else:
        places.append(Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "numba")
    pattern = f"**/track.track-*.py{sys.version_info.major}{sys.version_info.minor}*.nbi"
    return any(True for place in places for _ in place.glob(pattern))


#: What a kernel's parameters are, in the compiled form: numbers are `int`, 64 bits.
Bytes = Any  # uint8 array; `bytes` when interpreted
Column = Any  # int64 array, a table's rows end to end; a list when interpreted
Index = Any  # int32 array; a list when interpreted

#: numba's names of them. A signature known beforehand spares numba looking at every argument of the first call.
TYPES = {"int": "int64", "bool": "boolean", "Bytes": "uint8[::1]", "Column": "int64[::1]", "Index": "int32[::1]"}


class Kernel:
    """A hot loop in two forms: `interpreted` takes lists and bytes, `compiled` the arrays of its annotations."""

    def __init__(self, function: Callable[..., Any], helpers: tuple[Callable[..., Any], ...]) -> None:
        self.interpreted = function
        self.helpers = helpers
        self._compiled: Callable[..., Any] | None = None

    @property
    def signature(self) -> str:
        """The parameters' types as numba writes them."""
        names = [name for name in self.interpreted.__annotations__ if name != "return"]
        return f"({', '.join(TYPES[self.interpreted.__annotations__[name]] for name in names)})"

    @property
    def compiled(self) -> Callable[..., Any]:
        """The same function through numba; compiled once a machine, then loaded from numba's cache."""
        if self._compiled is None:
            with uncollected():
                import numba
                from numba.extending import register_jitable

                for helper in self.helpers:
                    register_jitable(helper)
                self._compiled = numba.njit(self.signature, cache=True, nogil=True)(self.interpreted)
        return self._compiled


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection meanwhile: loading numba makes many objects and no garbage, and takes an eighth less so."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def kernel(*helpers: Callable[..., Any]) -> Callable[[Callable[..., Any]], Kernel]:
    """Make a `Kernel` of a function; `helpers` are the plain functions that it calls."""
    return lambda function: Kernel(function, helpers)
