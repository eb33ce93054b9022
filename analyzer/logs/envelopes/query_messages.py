"""`--query 'events[].message' --output text`: messages with a tab between them, each with its own line end."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.logs.envelopes import _lines
from analyzer.logs.records import LogRecord
from analyzer.logs.stream import LogStream

NAME = "aws --query 'events[].message' --output text"
SHAPE = "query-messages"
EXPECTS = "messages, all but the first behind a tab"
LOST: tuple[str, ...] = ()

#: So many lines with a tab before a known message; a stack trace's lines have a tab too, and nothing known behind it.
LEAST = 2


def _split(line: str) -> LogRecord | None:
    if line.startswith("\t") and not line.startswith(("\tat ", "\t...")):
        return LogRecord("", line[1:])
    return None


def score(head: str) -> float:
    """Sure where known messages stand behind tabs."""
    lines = _lines.sample(head)
    tabbed = sum(1 for line in lines if (record := _split(line)) is not None and _lines.known(record.message))
    return 0.85 if tabbed >= LEAST and _lines.known(lines[0]) else 0.0


def read(stream: LogStream) -> Iterator[LogRecord]:
    """One record a tab at the beginning of a line."""
    for record in _lines.records(stream, _split):
        record.message = record.message.rstrip("\n")
        if record.message:
            yield record
