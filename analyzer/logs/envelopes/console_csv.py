"""CSV of the CloudWatch console (`log-events-viewer-result.csv`: timestamp, message) and of Logs Insights (the query's fields)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import cast

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


def _columns(head: str) -> list[str]:
    first = head.split("\n", 1)[0].strip().lstrip("\ufeff")
    if len(first) > 4096:
        return []
    try:
        names = next(csv.reader([first]), [])
    except csv.Error:
        return []
    return [NAMES.get(name.strip(), name.strip()) for name in names]


def score(head: str) -> float:
    """Sure of a header that names a message; Logs Insights may leave the stamp out."""
    columns = _columns(head)
    if "@message" not in columns or not (first := head.split("\n", 1)[0]).replace('"', "").startswith(
        ("@", "timestamp,", "message", "log")
    ):
        return 0.0
    return 1.0 if "@timestamp" in columns else 0.7 if first.count("@") else 0.0


def read(stream: LogStream) -> Iterator[LogRecord | Problem]:
    """One record a row, quotes and line ends inside included."""
    csv.field_size_limit(LONGEST_FIELD)
    text = io.TextIOWrapper(
        cast("io.BufferedReader", io.BufferedReader(_Raw(stream), 1 << 20)), "utf-8", "replace", newline=""
    )
    rows = csv.reader(text)
    columns = _columns(",".join(next(rows, [])))
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


class _Raw(io.RawIOBase):
    """A log stream as the raw bytes of a text reader."""

    def __init__(self, stream: LogStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(len(target))
        target[: len(data)] = data
        return len(data)
