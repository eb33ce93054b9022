"""Any line that begins with an ISO 8601 stamp and a space: application text with a time of its own."""

from __future__ import annotations

import re

from analyzer.logs.records import RuntimeLine
from analyzer.model.times import parse_iso

RANK = 90

_LINE = re.compile(r"(?P<ts>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,9}Z) (?P<body>[^|].*)", re.DOTALL)


def parse(message: str) -> RuntimeLine | None:
    """The text after the stamp."""
    m = _LINE.match(message)
    return RuntimeLine("app", m["body"].rstrip("\n"), parse_iso(m["ts"])) if m else None
