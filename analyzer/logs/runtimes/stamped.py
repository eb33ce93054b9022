"""Any line that begins with an ISO 8601 stamp and a space: application text with a time of its own."""

from __future__ import annotations

import re

from analyzer.logs.records import RuntimeLine
from analyzer.logs.stamps import quick_iso

RANK = 90
FIRST: frozenset[str] | None = frozenset("0123456789")

_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3,9})?Z) (?=[^|])", re.ASCII)


def parse(message: str) -> RuntimeLine | None:
    """The text after the stamp."""
    m = _LINE.match(message)
    return RuntimeLine("app", message[m.end() :].rstrip("\n"), quick_iso(m[1])[0]) if m else None
