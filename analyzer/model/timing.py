"""How long each step of the work took: what `--verbose` prints, and the logger `analyzer` tells at level DEBUG."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

LOGGER = logging.getLogger("analyzer")


@contextmanager
def timed(what: str) -> Iterator[list[str]]:
    """Tell how long the block took and what it did; words put into the list that it yields are told behind it."""
    more: list[str] = []
    began = perf_counter()
    yield more
    if LOGGER.isEnabledFor(logging.DEBUG):
        LOGGER.debug("%7.3f s  %s", perf_counter() - began, ", ".join([what, *more]))
