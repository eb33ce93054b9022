"""`sam logs`: stream, stamp (older versions without a zone), message; JSON messages over several lines."""

from __future__ import annotations

import re
from collections.abc import Iterator

from analyzer.logs.envelopes import _lines
from analyzer.logs.envelopes._streams import STREAM
from analyzer.logs.records import LogRecord
from analyzer.logs.stamps import utc_ns
from analyzer.logs.stream import LogStream

NAME = "sam logs"
SHAPE = "sam-logs"
EXPECTS = "`STREAM 2026-11-21T00:06:05.860000+00:00 MESSAGE`"
LOST: tuple[str, ...] = ()

_LINE = re.compile(rf"({STREAM}) (\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{6}})(?:\+00:00)?(?: |$)", re.ASCII)


def _split(line: str) -> LogRecord | None:
    m = _LINE.match(line)
    return LogRecord("", line[m.end() :], utc_ns(m[2]), m[1]) if m else None


def score(head: str) -> float:
    """Sure where lines begin with a stream's name and a stamp of microseconds."""
    return _lines.score(head, _split, 0.95)


def read(stream: LogStream) -> Iterator[LogRecord]:
    """One record a line that names its stream; others continue it."""
    return _lines.records(stream, _split)
