"""What reading, correlating and examining make by the million holds no cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

#: Objects from which on a search is felt (0.1 s).
MANY = 200_000


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for cycles in this block, nor later among what it made: that costs as much as making it.

    What is frozen is never collected, the remains of damaged documents neither: so not where a search costs nothing.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            if gc.get_count()[0] >= MANY:
                gc.freeze()
            gc.enable()
