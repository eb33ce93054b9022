"""Stamps that lack their year or their zone, completed from what else is known of the line."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import overload

from analyzer.logs.records import LACKS_NOTHING, LACKS_YEAR, YEARLESS
from analyzer.model.times import MS, SECOND, parse_iso

#: Every zone in use is a multiple of a quarter of an hour away from UTC.
ZONE_STEP_NS = 900 * SECOND
#: No zone is farther from UTC (Kiribati +14, Baker Island -12).
FARTHEST_ZONE_NS = 14 * 3600 * SECOND


_YEAR = tuple(int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * SECOND for year in (YEARLESS, YEARLESS + 1))


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


def is_coarser(stamp_ns: int | None, near_ns: int | None) -> bool:
    """Whether a line's own stamp says less than the envelope's: whole seconds (Go's log package, java.util.logging) beside milliseconds."""
    return stamp_ns is not None and near_ns is not None and stamp_ns % SECOND == 0 and near_ns % SECOND != 0


def yearless(ns: int) -> bool:
    """Whether a stamp is one whose year nothing told (no log of the kinds read here is as old as that year)."""
    return _YEAR[0] <= ns < _YEAR[1]


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


#: Lines of one second share their first nineteen characters; so many seconds are remembered.
SECONDS = 4096
_POWERS = tuple(10 ** (9 - digits) for digits in range(10))
#: Nanoseconds of the commonest fractions, milliseconds: as runtimes print them, and as `aws logs tail` does.
_MILLISECONDS_Z = {f".{ms:03d}Z": ms * MS for ms in range(1000)}
_MILLISECONDS = {f".{ms:03d}000": ms * MS for ms in range(1000)}


@lru_cache(maxsize=SECONDS)
def _second(text: str) -> int | None:
    """Nanoseconds of `2026-11-21T00:06:05` (or with a space), as if it were UTC."""
    return parse_iso(text + "Z") if len(text) == 19 else None


def quick_iso(text: str) -> tuple[int | None, bool]:
    """Nanoseconds of an ISO 8601 stamp, and whether it names its zone (else they are as if it were UTC).

    The common spellings, `2026-11-21T00:06:05.860Z` with any number of decimals, cost no pattern.
    """
    base = _second(text[:19])
    if base is not None and len(text) == 19:
        return base, False
    if base is not None and text[-1] == "Z":
        digits = text[20:-1]
        if len(text) == 20:
            return base, True
        if text[19] == "." and digits.isdecimal() and len(digits) < 10:
            return base + int(digits) * _POWERS[len(digits)], True
    zoned = text[-1:] == "Z" or text[-6:-5] in ("+", "-") or text[-5:-4] in ("+", "-")
    return parse_iso(text), zoned and len(text) > 19


def utc_ns(text: str) -> int | None:
    """Nanoseconds of a stamp in UTC that does not say so: `2026-11-21T00:06:05.860000`, `2026-11-21 00:06:05.860`."""
    base, known = _second(text[:19]), _MILLISECONDS.get(text[19:])
    if base is not None and known is not None:
        return base + known
    digits = text[20:]
    if base is not None and text[19:20] in (".", ",") and digits.isdecimal() and len(digits) < 10:
        fraction: int = int(digits) * _POWERS[len(digits)]
        return base + fraction
    return parse_iso(text + "Z")


def milliseconds_ns(text: str) -> int | None:
    """Nanoseconds of `2026-11-21T00:06:05.860Z`, the spelling of most runtimes; None for any other."""
    whole, fraction = _second(text[:19]), _MILLISECONDS_Z.get(text[19:])
    return whole + fraction if whole is not None and fraction is not None else None


def zoned_ns(text: str) -> int | None:
    """Nanoseconds of a stamp that names its zone, or is in UTC."""
    found = milliseconds_ns(text)
    return quick_iso(text)[0] if found is None else found
