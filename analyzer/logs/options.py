"""What the user says about logs whose format does not. A run without logs reads no more of this room than this."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from analyzer.model.problems import InputError
from analyzer.model.times import SECOND


class Options(Struct, frozen=True):
    """What the user says about logs whose format does not: year, zone (local time less UTC), the envelope's name, and
    patterns of counters (see `recognisers.counters`)."""

    year: int | None = None
    zone_ns: int = 0
    shape: str | None = None
    counters: tuple[re.Pattern[str], ...] = ()


DEFAULTS = Options()
_ZONE = re.compile(r"([+-])(\d\d):?(\d\d)", re.ASCII)


def options(
    shape: str | None = None, year: int | None = None, zone: str | None = None, counters: Iterable[str] = ()
) -> Options:
    """Options from what a person writes; `zone` is `+02:00`, `-0500` or `UTC`. Raises `InputError` for what is none."""
    if patterns := tuple(counters):
        from analyzer.logs.recognisers.counters import compiled

        return Options(year, _offset(zone), shape, tuple(compiled(text) for text in patterns))
    return Options(year, _offset(zone), shape)


def _offset(zone: str | None) -> int:
    if zone is None or zone.upper() in ("UTC", "Z"):
        return 0
    m = _ZONE.fullmatch(zone)
    if m is None or int(m[2]) > 14 or int(m[3]) > 59:
        raise InputError(f"--tz {zone!r}: write the difference to UTC, such as +02:00")
    offset = (int(m[2]) * 60 + int(m[3])) * 60 * SECOND
    return offset if m[1] == "+" else -offset
