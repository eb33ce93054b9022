"""Stamps that lack their year or their zone, completed from what else is known of the line."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import overload

from analyzer.logs.records import LACKS_NOTHING, LACKS_YEAR, YEARLESS
from analyzer.model.times import SECOND

#: Every zone in use is a multiple of a quarter of an hour away from UTC.
ZONE_STEP_NS = 900 * SECOND
#: No zone is farther from UTC (Kiribati +14, Baker Island -12).
FARTHEST_ZONE_NS = 14 * 3600 * SECOND


@overload
def completed(stamp_ns: int, lacks: str, near_ns: int | None, year: int | None = None, zone_ns: int = 0) -> int: ...
@overload
def completed(
    stamp_ns: int | None, lacks: str, near_ns: int | None, year: int | None = None, zone_ns: int = 0
) -> int | None: ...
def completed(
    stamp_ns: int | None, lacks: str, near_ns: int | None, year: int | None = None, zone_ns: int = 0
) -> int | None:
    """A stamp as nanoseconds of UTC.

    `near_ns` is the stamp that the envelope gave the line: it tells the year, and the zone by the nearest quarter of an
    hour. Without it `year` and `zone_ns` (local time less UTC) hold.
    """
    if stamp_ns is None or lacks == LACKS_NOTHING:
        return stamp_ns
    if near_ns is None:
        return (_in_year(stamp_ns, year) if lacks == LACKS_YEAR and year else stamp_ns) - zone_ns
    if lacks == LACKS_YEAR:
        about = datetime.fromtimestamp(near_ns // SECOND, UTC).year
        stamp_ns = min((_in_year(stamp_ns, y) for y in (about - 1, about, about + 1)), key=lambda t: abs(t - near_ns))
    steps = round((stamp_ns - near_ns) / ZONE_STEP_NS)
    offset = steps * ZONE_STEP_NS
    return stamp_ns - (offset if abs(offset) <= FARTHEST_ZONE_NS else 0)


def _in_year(stamp_ns: int, year: int) -> int:
    """The same month, day and time in another year (29 February becomes 1 March where there is none)."""
    return stamp_ns + _shift(stamp_ns // (86_400 * SECOND), year)


@lru_cache(maxsize=4096)
def _shift(day: int, year: int) -> int:
    """Nanoseconds from a day (since the epoch) of year `YEARLESS` to the same day of `year`."""
    there = datetime.fromtimestamp(day * 86_400, UTC)
    if there.year != YEARLESS:
        return 0
    try:
        here = there.replace(year=year)
    except ValueError:
        here = there.replace(year=year, month=3, day=1)
    return int((here - there).total_seconds()) * SECOND
