"""A stamp in UTC before every message: S3 export tasks (whose path names the stream), `awslogs --timestamp -GS`.

An S3 export writes `<stamp> <message>` and a line end behind a message that mostly has its own: blank lines are no content.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from analyzer.logs.envelopes import _lines
from analyzer.logs.records import LogRecord
from analyzer.logs.stamps import utc_ns
from analyzer.logs.stream import LogStream

NAME = "stamped lines (S3 export)"
SHAPE = "s3-export"
EXPECTS = "`2026-11-21T00:06:05.860Z MESSAGE`"
LOST: tuple[str, ...] = ()

_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?)Z (?!\|)", re.ASCII)
#: `<stamp> <request id> Task timed out` begins like this shape and is a platform's line.
_TIMEOUT = re.compile(r"[0-9a-fA-FxX-]{36} Task timed out after ")


def _split(line: str) -> LogRecord | None:
    m = _LINE.match(line)
    if m is None or _TIMEOUT.match(line, m.end()):
        return None
    return LogRecord("", line[m.end() :], utc_ns(m[1]))


def score(head: str) -> float:
    """Likely where most lines carry the stamp and what follows is a runtime's, with a stamp of its own or the platform's."""
    return _lines.score(head, _split, 0.8)


def read(stream: LogStream) -> Iterator[LogRecord]:
    """One record a stamped line; lines without a stamp continue it."""
    for record in _lines.records(stream, _split):
        record.message = record.message.rstrip("\n")
        yield record
