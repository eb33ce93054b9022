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


def stamp(ns: int, decimals: int = 3, local: bool = False) -> str:
    """For a person: `2026-11-21T00:16:44.645Z`, or in this machine's zone `2026-11-21T01:16:44.645+01:00`."""
    whole, fraction = divmod(ns, SECOND)
    part = f".{fraction:09d}"[: decimals + 1] if decimals else ""
    if not local:
        return f"{_whole(whole)}{part}Z"
    there = _there(whole)
    zone = f"{there:%z}"
    return f"{there:%Y-%m-%dT%H:%M:%S}{part}{zone[:3]}:{zone[3:5]}"


def clock(ns: int, form: str = "%H:%M:%S", local: bool = False) -> str:
    """For a person, milliseconds behind: `00:16:44.645` of UTC, or of this machine's zone. `form` as strftime takes it."""
    whole, fraction = divmod(ns, SECOND)
    there = _there(whole) if local else datetime.fromtimestamp(whole, UTC)
    return f"{there:{form}}.{fraction // MS:03d}"


def _there(seconds: int) -> datetime:
    """A time in this machine's zone."""
    return datetime.fromtimestamp(seconds, UTC).astimezone()


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


#: Units of a duration that a person writes.
_UNITS = {"": SECOND, "ms": MS, "s": SECOND, "m": 60 * SECOND, "min": 60 * SECOND, "h": 3_600 * SECOND}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?(ms|s|min|m|h|)", re.ASCII)
_NUMBER = re.compile(r"[+\-−]?\d{1,12}(?:\.\d{1,9})?", re.ASCII)


def duration(value: str | int) -> int | None:
    """Nanoseconds of `5s`, `500ms`, `2min`, `1.5h`, `5` (seconds), or of a number of them; None for text that is none."""
    if isinstance(value, int):
        return value
    match = _DURATION.fullmatch(value.strip())
    return round(float(match[1]) * _UNITS[match[2]]) if match else None


def moment(value: str | int | datetime, zero_ns: int | None = None) -> int | None:
    """Nanoseconds since the epoch of a time that a person gives: ISO 8601 down to the minute, hour or day, a datetime (UTC where
    it names no zone), ns as they are, and (where `zero_ns` is given) seconds after that; None for text that is none."""
    if isinstance(value, datetime):
        zoned = value if value.tzinfo else value.replace(tzinfo=UTC)
        fraction = zoned.microsecond * 1_000 + int(getattr(zoned, "nanosecond", 0))  # pandas has nanoseconds
        return int(zoned.replace(microsecond=0).timestamp()) * SECOND + fraction
    if isinstance(value, int):
        return value
    text = value.strip().replace(" ", "T")
    if zero_ns is not None and _NUMBER.fullmatch(text):
        return zero_ns + round(float(text.replace("−", "-")) * SECOND)
    date, _, clock = text.partition("T")
    plain = clock.rstrip("Z").partition("+")[0].partition("-")[0]
    missing = {0: "00:00:00", 2: ":00:00", 5: ":00"}.get(len(plain))
    return parse_iso(f"{date}T{plain}{missing or ''}{clock[len(plain) :]}")


def seconds(ns: int) -> str:
    """A duration for a person: `4.17 s`, `41.8 ms`, `2 min 06 s`, `1 h 02 min`."""
    value = abs(ns)
    if value < 999.5 * MS:
        return f"{value / MS:.3g} ms" if value < 100 * MS else f"{value / MS:.0f} ms"
    if value < 100 * SECOND:
        return f"{value / SECOND:.4g} s" if value < 10 * SECOND else f"{value / SECOND:.3g} s"
    minutes, rest = divmod(round(value / SECOND), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(value / (60 * SECOND)), 60)
    return f"{hours} h {minutes:02d} min"
