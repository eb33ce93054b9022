"""Ruby's logger in Lambda: `E, [2026-11-20T12:00:00.123456 #8] ERROR <request id> -- : message` (lambda_log_formatter.rb)."""

from __future__ import annotations

import re

from analyzer.logs.records import LACKS_ZONE, RuntimeLine
from analyzer.logs.stamps import quick_iso

RANK = 50
FIRST: frozenset[str] | None = frozenset("DIWEFA")

_LINE = re.compile(
    r"[DIWEFA], \[(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}) #(\d{1,10})\] +([A-Z]{3,7}) (?:([0-9a-fA-F-]{36}) )?-- [^:\n]{0,200}: ?",
    re.ASCII,
)


def parse(message: str) -> RuntimeLine | None:
    """The message without its prefix."""
    m = _LINE.match(message)
    if m is None:
        return None
    return RuntimeLine("app", message[m.end() :].rstrip("\n"), quick_iso(m[1])[0], m[4], m[3], LACKS_ZONE)
