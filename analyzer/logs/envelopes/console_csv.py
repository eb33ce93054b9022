"""CSV of the CloudWatch console (`log-events-viewer-result.csv`: timestamp, message) and of Logs Insights (the query's fields)."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from analyzer.logs.envelopes._insights import LIMITS, record_of
from analyzer.logs.records import LogRecord
from analyzer.logs.stream import LogStream
from analyzer.model.problems import Problem

NAME = "CSV export (console or Logs Insights)"
SHAPE = "csv"
EXPECTS = "a header line with `timestamp,message` or with `@timestamp` and `@message`, then a record a row"
LOST: tuple[str, ...] = ()

#: A longer field is an error of the csv module: no message is.
LONGEST_FIELD = 1 << 24
NAMES = {
    "timestamp": "@timestamp",
    "message": "@message",
    "logStreamName": "@logStream",
    "ingestionTime": "@ingestionTime",
}


def _names(head: str) -> list[str]:
    """The header's names as they are written."""
    first = head.split("\n", 1)[0]
    if len(first) > 4096:
        return []
    try:
        return [name.strip() for name in next(csv.reader([first]), [])]
    except csv.Error:
        return []


def score(head: str) -> float:
    """Sure of a header that names message and stamp; Logs Insights may leave the stamp out, and put any field first."""
    names = _names(head)
    if "@message" in names:
        return 1.0 if "@timestamp" in names else 0.7
    return 1.0 if {"timestamp", "message"} <= set(names) else 0.0


def read(stream: LogStream) -> Iterator[LogRecord | Problem]:
    """One record a row, quotes and line ends inside included."""
    csv.field_size_limit(LONGEST_FIELD)
    rows = csv.reader(f"{line}\n" for _, line in stream.lines())
    columns = [NAMES.get(name.strip(), name.strip()) for name in next(rows, [])]
    number = 0
    try:
        for number, row in enumerate(rows, 1):
            fields = dict(zip(columns, row, strict=False))
            if "@message" in fields:
                yield record_of(fields, f"[{number}]")
            elif row:
                yield Problem(f"[{number}]", "a row without a message")
    except csv.Error as error:
        yield Problem(f"[{number + 1}]", f"reading stopped here: {error}")
    if number in LIMITS and any(column.startswith("@log") or column == "@requestId" for column in columns):
        yield Problem(f"[{number}]", f"exactly {number:,} rows: the query's limit has probably cut the rest")
