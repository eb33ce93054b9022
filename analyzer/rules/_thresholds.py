"""Thresholds of rules: what a rule compares with, in which unit, why that much; and the values of one run.

A rule that has some declares them by the functions below, as attributes of a class of its own:

    class Thresholds(Values):
        least_probes: int = count(3, "fewer unanswered probes are no series", "Linux's smallest useful tcp_keepalive_probes")
        stall_ns: int = duration(SECOND, "s", "a shorter stall is none", "five of Linux's least time-outs")

and reads them from the settings that it is given: `settings[Thresholds].least_probes`. Times are ns inside; their name for
users ends in the unit in which they are written: `stall_s`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, TypeVar, cast

from msgspec import Struct

from analyzer.model.times import MS, SECOND

UNITS = {"ms": MS, "s": SECOND}
#: What a threshold may be besides a time, by what it says of its value.
COUNT, SHARE, FACTOR = "", "share", "factor"
#: Users set no time above ten years, no count above a billion, no factor above a million.
MOST_NS, MOST_COUNT, MOST_FACTOR = 315_360_000 * SECOND, 10**9, 10**6


class Threshold(Struct):
    """What is known of one threshold: its unit, and what one of that unit is inside; the default, and the bounds of what users
    may set, in that unit."""

    unit: str
    default: float
    what: str
    source: str
    least: float
    most: float
    name: str = ""

    @property
    def scale(self) -> int:
        """What one of its unit is inside."""
        return UNITS.get(self.unit, 1)

    @property
    def inside(self) -> float:
        """The default as the rule's code has it."""
        return self.at(self.default)

    def at(self, value: float) -> float:
        """A value in its unit, as the rule's code has it."""
        return round(value * self.scale) if self.unit in UNITS else value

    def __str__(self) -> str:
        return f"{self.default:g}{f' {self.unit}' if self.unit in UNITS else ''}"


class Values:
    """Thresholds of one rule, each as the rule's code has it; `declared` says what they are, by attribute."""

    declared: ClassVar[dict[str, Threshold]] = {}

    def __init_subclass__(cls) -> None:
        cls.declared = {name: one for name, one in vars(cls).items() if isinstance(one, Threshold)}
        for name, one in cls.declared.items():
            one.name = f"{name.removesuffix('_ns')}_{one.unit}" if one.unit in UNITS else name
            setattr(cls, name, one.inside)

    def __init__(self, changed: Mapping[str, float]) -> None:
        """`changed`: by attribute, as the rule's code has it."""
        self.__dict__.update(changed)


def duration(default_ns: int, unit: str, what: str, source: str, least: float = 0) -> int:
    """A time, ns; users write it in `unit` ("ms" or "s"), at least `least` of them."""
    return cast("int", Threshold(unit, default_ns / UNITS[unit], what, source, least, MOST_NS // UNITS[unit]))


def count(default: int, what: str, source: str, least: int = 1) -> int:
    """A number of things."""
    return cast("int", Threshold(COUNT, default, what, source, least, MOST_COUNT))


def share(default: float, what: str, source: str) -> float:
    """A part of a whole, 0 to 1."""
    return cast("float", Threshold(SHARE, default, what, source, 0, 1))


def factor(default: float, what: str, source: str, least: float = 0) -> float:
    """How many times another quantity."""
    return cast("float", Threshold(FACTOR, default, what, source, least, MOST_FACTOR))


T = TypeVar("T", bound=Values)


class Settings(Struct, frozen=True):
    """The thresholds of one run: those of each rule, as they are unless changed."""

    changed: Mapping[type[Values], Values] = {}

    def __getitem__(self, kind: type[T]) -> T:
        """A rule's thresholds, by its class `Thresholds`."""
        found = self.changed.get(kind)
        return kind({}) if found is None else cast("T", found)


#: No threshold changed.
DEFAULTS = Settings()
