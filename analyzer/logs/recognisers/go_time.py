"""Times that Go prints with both of its clocks: `2026-11-21 00:00:05.1 +0000 UTC m=+5.023` (package time, Time.String).

`m=` is the monotonic clock since the process began. What is added to a time moves both, so that their difference tells when the process
began, unless one of the clocks stood still.
"""

from __future__ import annotations

import re

from analyzer.logs.records import Recognised
from analyzer.model.times import SECOND, parse_iso

RANK = 80
NEEDLES = (" m=+",)
_TIME = re.compile(
    r"\b(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2}) (?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?) (?P<sign>[+-])(?P<zone>[0-9]{4}) "
    r"[A-Z0-9+-]{1,6} m=\+(?P<seconds>[0-9]{1,9})\.(?P<fraction>[0-9]{1,9})\b"
)


def recognise(body: str) -> Recognised | None:
    """A line as any other (kind `line`), with one instant by the wall clock and by the monotonic one: `wall_ns` and `monotonic_ns`."""
    m = _TIME.search(body)
    zone = f"{m['sign']}{m['zone'][:2]}:{m['zone'][2:]}" if m else ""
    wall = parse_iso(f"{m['date']}T{m['time']}{zone}") if m else None
    if m is None or wall is None:
        return None
    monotonic = int(m["seconds"]) * SECOND + int(m["fraction"].ljust(9, "0"))
    return Recognised("app", "line", attrs={"wall_ns": wall, "monotonic_ns": monotonic})
