"""`aws logs tail`: stamp, stream, message (detailed, json), or a stamp cut to the second and the message (short)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from sys import intern

from analyzer.logs.envelopes import _lines
from analyzer.logs.records import LogRecord
from analyzer.logs.stamps import utc_ns
from analyzer.logs.stream import LogStream

NAME = "aws logs tail"
SHAPE = "tail"
EXPECTS = "`2026-11-21T00:06:05.860000+00:00 STREAM MESSAGE` or `2026-11-21T00:06:05 MESSAGE`"
LOST: tuple[str, ...] = ()

_DETAILED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?)\+00:00 (\S{1,512})(?: |$)", re.ASCII)
_SHORT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d) ", re.ASCII)


def _split(line: str) -> LogRecord | None:
    if line[26:33] == "+00:00 " and (end := line.find(" ", 33)) > 0 and (stamp := utc_ns(line[:26])) is not None:
        return LogRecord("", line[end + 1 :], stamp, intern(line[33:end]))  # what the pattern says, in half the time
    if m := _DETAILED.match(line):
        return LogRecord("", line[m.end() :], utc_ns(m[1]), m[2])
    if m := _SHORT.match(line):
        return LogRecord("", line[m.end() :], utc_ns(m[1]))
    return None


def score(head: str) -> float:
    """Sure where lines carry a tail stamp and wrap what a runtime or the platform prints."""
    return _lines.score(head, _split, 0.95)


def read(stream: LogStream) -> Iterator[LogRecord]:
    """One record a stamped line; lines without a stamp continue it."""
    return _lines.records(stream, _split)
