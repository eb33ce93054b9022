"""Logs Insights as JSON: the console's export (a list of objects) and GetQueryResults (lists of field and value)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from analyzer.logs.envelopes._insights import LIMITS, record_of
from analyzer.logs.envelopes._json import Elements
from analyzer.logs.records import LogRecord
from analyzer.logs.stream import LogStream
from analyzer.model.problems import Problem

NAME = "Logs Insights (JSON)"
SHAPE = "insights-json"
EXPECTS = '`[{"@timestamp": …, "@message": …}]` or `{"results": [[{"field": "@timestamp", "value": …}]]}`'
LOST: tuple[str, ...] = ()

_EXPORT = re.compile(r'\s*\[\s*\{\s*"@\w{1,40}"\s*:')
_RESULTS = re.compile(
    r'\s*\{(?:\s*"(?:queryLanguage|status|encryptionKey)"\s*:\s*"[^"]{0,200}"\s*,)*\s*"results"\s*:\s*\['
)
_OPENING = re.compile(rb'\s*(?:\[|\{[^\[]{0,4000}?"results"\s*:\s*\[)')


def score(head: str) -> float:
    """Sure of fields that begin with `@`."""
    return 1.0 if (_EXPORT.match(head) or _RESULTS.match(head)) and "@message" in head else 0.0


def read(stream: LogStream) -> Iterator[LogRecord | Problem]:
    """One record a row; rows without a message (a statistic) are problems."""
    elements = Elements(stream, _OPENING)
    number = 0
    for number, row in elements:
        fields = row
        if isinstance(row, list):
            fields = {str(cell.get("field")): cell.get("value") for cell in row if isinstance(cell, dict)}
        if not isinstance(fields, dict) or not fields.get("@message"):
            yield Problem(f"[{number}]", "a row without @message")
        else:
            yield record_of(fields, f"[{number}]")
    if number in LIMITS:
        yield Problem(f"[{number}]", f"exactly {number:,} rows: the query's limit has probably cut the rest")
    if elements.rest.get("status") not in (None, "Complete"):
        yield Problem("", f"the query's status is {str(elements.rest['status'])[:40]}: its rows are not all")
