"""Time: integers of nanoseconds since the epoch inside, ISO 8601 at the borders."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

SECOND = 1_000_000_000
MS = 1_000_000

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?(?:(Z)|([+-])(\d\d):?(\d\d))?$", re.ASCII
)


#: Stamps outside are no time of any log: before 1970, or after 2200 (whose differences still fit into 64 bits).
EARLIEST, LATEST = 0, 7_258_118_400 * SECOND


def sane(ns: int | None) -> int | None:
    """`ns` where it can be the time of an event, else None."""
    return ns if ns is not None and EARLIEST <= ns <= LATEST else None


def iso(ns: int) -> str:
    """`2026-11-21T00:16:44.645000000Z`: UTC with nine decimals."""
    seconds, fraction = divmod(ns, SECOND)
    return f"{_whole(seconds)}.{fraction:09d}Z"


@lru_cache(maxsize=4096)
def _whole(seconds: int) -> str:
    """Most of a stamp's work, which many share."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def parse_iso(text: str) -> int | None:
    """Nanoseconds of an ISO 8601 stamp (UTC where no zone is written), None when it is none."""
    match = _ISO.match(text)
    if not match:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, zone_hour, zone_minute = match.groups()
    try:
        whole = int(
            datetime(
                int(year), int(month), int(day), int(hour), int(minute), min(int(second), 59), tzinfo=UTC
            ).timestamp()
        )
    except ValueError:
        return None
    ns = whole * SECOND + int((fraction or "0").ljust(9, "0"))
    if sign:
        offset = (int(zone_hour) * 60 + int(zone_minute)) * 60 * SECOND
        ns -= offset if sign == "+" else -offset
    return ns


def seconds(ns: int) -> str:
    """A duration for a person: `4.17 s`, `41.8 ms`, `2 min 06 s`, `1 h 02 min`."""
    value = abs(ns)
    if value < SECOND:
        return f"{value / MS:.3g} ms" if value < 100 * MS else f"{value / MS:.0f} ms"
    if value < 100 * SECOND:
        return f"{value / SECOND:.4g} s" if value < 10 * SECOND else f"{value / SECOND:.3g} s"
    minutes, rest = divmod(value // SECOND, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
