"""Ticking counters that applications print beside the wall clock: `Calculated: 13 seconds, Background Task: 7 seconds`.

Users give patterns of their own (`--counter`), with the groups `wall` and `counted`, both in seconds. A pattern is somebody's
text too: what could take for ever on a hostile line is refused, and only the beginning of a body is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from analyzer.logs.records import Recognised
from analyzer.model.problems import InputError

RANK = 40
NEEDLES = ("Background Task: ",)

#: A user's pattern sees so many characters of a body: enough for a line of numbers.
LONGEST = 200
#: So many repetitions may stand in a user's pattern, and none around a group: their steps multiply.
REPETITIONS = 4
_ESCAPE = re.compile(r"\\.", re.DOTALL)
_CLASS = re.compile(r"\[\^?\]?[^\]]*\]")
_REPETITION = re.compile(r"[*+{]")
_REPEATED_GROUP = re.compile(r"\)[*+{]")

_LINE = re.compile(
    r"Calculated: (?P<wall>[0-9]{1,9}(?:\.[0-9]{1,6})?) seconds?, Background Task: (?P<counted>[0-9]{1,9}(?:\.[0-9]{1,6})?) seconds?"
)


def recognise(body: str) -> Recognised | None:
    """Kind `counter` with both sides in seconds: `wall_s` and `ticked_s`."""
    return _counter(_LINE.search(body))


def read(patterns: Iterable[re.Pattern[str]], body: str) -> Recognised | None:
    """What the first of a user's patterns reads, None where none does."""
    for pattern in patterns:
        if (found := _counter(pattern.search(body, 0, LONGEST))) is not None:
            return found
    return None


def _counter(m: re.Match[str] | None) -> Recognised | None:
    try:
        return (
            Recognised("app", "counter", attrs={"wall_s": float(m["wall"]), "ticked_s": float(m["counted"])})
            if m
            else None
        )
    except (TypeError, ValueError):  # a group that took part in no match, or matched no number
        return None


def compiled(text: str) -> re.Pattern[str]:
    """A user's pattern. Raises `InputError` for one that is no pattern, lacks a group, or could take for ever."""
    try:
        pattern = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"--counter {text!r}: no regular expression: {error}") from None
    if not {"wall", "counted"} <= pattern.groupindex.keys():
        raise InputError(f"--counter {text!r}: it needs the groups (?P<wall>…) and (?P<counted>…), both in seconds")
    bare = _CLASS.sub("c", _ESCAPE.sub("e", text))
    if _REPEATED_GROUP.search(bare) or len(_REPETITION.findall(bare)) > REPETITIONS:
        what = f"a repeated group, or more than {REPETITIONS} repetitions"
        raise InputError(f"--counter {text!r}: {what}, can take for ever on a line that was made for it")
    return pattern
