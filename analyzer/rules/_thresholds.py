"""Thresholds of rules: what a rule compares with, in which unit, why that much; and the values of one run.

A rule that has some declares them as fields of a frozen dataclass `Thresholds`, by the functions below:

    @dataclass(frozen=True, slots=True)
    class Thresholds:
        least_probes: int = count(3, "fewer unanswered probes are no series", "Linux's smallest useful tcp_keepalive_probes")
        stall_ns: int = duration(SECOND, "s", "a shorter stall is none", "five of Linux's least time-outs")

and reads them from the settings that it is given: `settings[Thresholds].least_probes`. Times are ns inside; their name for
users ends in the unit in which they are written: `stall_s`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar, cast

from analyzer.model.times import MS, SECOND

UNITS = {"ms": MS, "s": SECOND}
KEY = "threshold"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Threshold:
    """What is known of one threshold. `scale` is what one of its unit is inside; `least` and `most` are in its unit."""

    unit: str
    scale: int
    what: str
    source: str
    least: float
    most: float | None
    name: str = ""
    field: str = ""
    default: float = 0

    @property
    def whole(self) -> bool:
        """Whether only whole numbers make sense."""
        return not self.unit

    def inside(self, value: float) -> float:
        """A value as the rule's code has it."""
        return round(value * self.scale) if self.scale > 1 else value

    def __str__(self) -> str:
        return f"{self.default:g}{f' {self.unit}' if self.unit in UNITS else ''}"


def duration(default_ns: int, unit: str, what: str, source: str, least: float = 0) -> int:
    """A time, ns; users write it in `unit` ("ms" or "s"), at least `least` of them."""
    return _field(default_ns, Threshold(unit, UNITS[unit], what, source, least, None))


def count(default: int, what: str, source: str, least: int = 1) -> int:
    """A number of things."""
    return _field(default, Threshold("", 1, what, source, least, None))


def share(default: float, what: str, source: str) -> float:
    """A part of a whole, 0 to 1."""
    return _field(default, Threshold("share", 1, what, source, 0, 1))


def factor(default: float, what: str, source: str, least: float = 0) -> float:
    """How many times another quantity."""
    return _field(default, Threshold("factor", 1, what, source, least, None))


def _field(default: T, known: Threshold) -> T:
    made: T = field(default=default, metadata={KEY: known})
    return made


def declared(kind: type[Any] | None) -> Iterator[Threshold]:
    """What a rule's `Thresholds` has, in order; nothing for a rule without."""
    for one in fields(kind) if kind is not None else ():
        known: Threshold = one.metadata[KEY]
        name = f"{one.name.removesuffix('_ns')}_{known.unit}" if known.unit in UNITS else one.name
        yield replace(known, name=name, field=one.name, default=cast("float", one.default) / known.scale)


@dataclass(frozen=True, slots=True)
class Settings:
    """The thresholds of one run: those of each rule, as they are unless changed."""

    changed: Mapping[type[Any], Any] = field(default_factory=dict)

    def __getitem__(self, kind: type[T]) -> T:
        """A rule's thresholds, by its class `Thresholds`."""
        found = self.changed.get(kind)
        return kind() if found is None else cast("T", found)


#: Every threshold as it is.
DEFAULTS = Settings()
