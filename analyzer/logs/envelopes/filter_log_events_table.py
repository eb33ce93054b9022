"""`aws logs filter-log-events --output table`: columns between bars, the message padded and with its own line ends."""

from __future__ import annotations

import re
from collections.abc import Iterator

from analyzer.logs.envelopes import _lines
from analyzer.logs.envelopes._streams import STREAM
from analyzer.logs.records import LogRecord
from analyzer.logs.stream import LogStream
from analyzer.model.times import MS

NAME = "aws logs filter-log-events (table)"
SHAPE = "filter-log-events-table"
EXPECTS = "`||  EVENT-ID |  INGESTION |  STREAM |  MESSAGE |  TIMESTAMP ||`"
LOST: tuple[str, ...] = ()

_HEAD = re.compile(rf"\|\| +(\d{{40,80}}) *\| +(\d{{10,16}}) *\| +({STREAM}) *\| {{1,2}}", re.ASCII)
_END = re.compile(r"\| +(\d{10,16}) *\|\|$", re.ASCII)
#: Rules between rows, and the tables of other kinds.
_RULE = re.compile(r"[|+]{1,3}[-=]{3,}|\|{1,3} {2,}[A-Za-z]|\|{2,3} *\|{2,3}$")


def _split(line: str) -> LogRecord | None:
    m = _HEAD.match(line)
    return LogRecord("", line[m.end() :], None, m[3], m[1], int(m[2]) * MS) if m else None


def score(head: str) -> float:
    """Sure of a row's columns."""
    return 1.0 if any(_split(line) for line in _lines.sample(head)[:12]) else 0.0


def read(stream: LogStream) -> Iterator[LogRecord]:
    """One record a row; its stamp stands behind the message, which padding has widened."""
    for record in _lines.records(stream, _split):
        lines = [line.rstrip(" ") for line in record.message.split("\n")]
        for k, line in enumerate(lines):
            if line.endswith("||") and (m := _END.search(line[-64:])):
                record.event_ns = int(m[1]) * MS
                lines = [*lines[:k], line[: len(line) - len(m[0])].rstrip(" ")]
                break
        record.message = "\n".join(line for line in lines if not _RULE.match(line)).rstrip("\n")
        if record.message.strip(" |-+\n") and record.stream:
            yield record
