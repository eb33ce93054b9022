"""Ticking counters that applications print beside the wall clock: `Calculated: 13 seconds, Background Task: 7 seconds`."""

from __future__ import annotations

import re

from analyzer.logs.records import Recognised

RANK = 40
NEEDLES = ("Background Task: ",)

_LINE = re.compile(
    r"Calculated: (?P<wall>[0-9]{1,9}(?:\.[0-9]{1,6})?) seconds?, Background Task: (?P<ticked>[0-9]{1,9}(?:\.[0-9]{1,6})?) seconds?"
)


def recognise(body: str) -> Recognised | None:
    """Kind `counter` with both sides in seconds."""
    m = _LINE.search(body)
    if m is None:
        return None
    return Recognised("app", "counter", attrs={"wall_s": float(m["wall"]), "ticked_s": float(m["ticked"])})
