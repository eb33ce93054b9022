"""`awslogs get`: group and stream before the message, with `--timestamp` and `--ingestion-time` one or two stamps."""

from __future__ import annotations

import re
from collections.abc import Iterator

from analyzer.logs.envelopes import _lines
from analyzer.logs.envelopes._streams import STREAM
from analyzer.logs.records import LogRecord
from analyzer.logs.stamps import utc_ns
from analyzer.logs.stream import LogStream

NAME = "awslogs"
SHAPE = "awslogs"
EXPECTS = "`GROUP STREAM [2026-11-21T00:06:05.860Z [2026-11-21T00:06:09.860Z]] MESSAGE`"
LOST: tuple[str, ...] = ()

_STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
#: `<stamp> <request id> Task timed out` is the platform's own line, not a stamp of this shape.
_TIMEOUT = r"[0-9a-fA-FxX-]{36} Task timed out after "
_LINE = re.compile(
    rf"(?:([\w./#-]{{1,512}}) )?({STREAM})(?: ({_STAMP})(?= )(?! {_TIMEOUT})(?: ({_STAMP})(?= )(?! {_TIMEOUT}))?)?(?: |$)",
    re.ASCII,
)


def _split(line: str) -> LogRecord | None:
    m = _LINE.match(line)
    if m is None:
        return None
    group, stream, event, ingestion = m.groups()
    return LogRecord(
        "", line[m.end() :], utc_ns(event[:-1]) if event else None, stream,
        ingestion_ns=utc_ns(ingestion[:-1]) if ingestion else None, group=group,
    )  # fmt: skip


def score(head: str) -> float:
    """Sure where lines begin with a log stream's name, alone or behind its group's."""
    return _lines.score(head, _split, 0.9)


def read(stream: LogStream) -> Iterator[LogRecord]:
    """One record a line that names its stream; others continue it."""
    return _lines.records(stream, _split)
