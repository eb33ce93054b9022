"""The platform's line for an invocation that ran out of time: `<stamp> <request id> Task timed out after 3.00 seconds`.

It begins with a stamp, as application lines do, but with a space behind it where runtimes write a tab.
"""

from __future__ import annotations

import re

from analyzer.logs.records import RuntimeLine
from analyzer.logs.stamps import quick_iso

RANK = 60
FIRST: frozenset[str] | None = frozenset("0123456789")
NEEDLES = ("Task timed out after ",)

_LINE = re.compile(
    r"(\d{4}-\d\d-\d\dT[\d:.]{8,18}Z) ([0-9a-fA-FxX]{8}-[0-9a-fA-FxX-]{4,40}) "
    r"Task timed out after ([0-9]{1,9}(?:\.[0-9]{1,9})?) seconds",
    re.ASCII,
)


def parse(message: str) -> RuntimeLine | None:
    """The line, its limit in `attrs`."""
    m = _LINE.match(message)
    if m is None:
        return None
    return RuntimeLine("timeout", message.rstrip(), quick_iso(m[1])[0], m[2], attrs={"timeout_s": float(m[3])})
