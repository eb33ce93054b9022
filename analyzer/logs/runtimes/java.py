"""Java's log4j2 layout for Lambda: `yyyy-MM-dd HH:mm:ss <request id> LEVEL Class:line - message` (aws-lambda-java-log4j2)."""

from __future__ import annotations

import re

from analyzer.logs.records import LACKS_ZONE, RuntimeLine
from analyzer.logs.stamps import quick_iso

RANK = 30
FIRST: frozenset[str] | None = frozenset("0123456789")

_LINE = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:[.,]\d{3})?) (?:<?([0-9a-fA-F]{8}-[0-9a-fA-F-]{27})>? )?(TRACE|DEBUG|INFO|WARN|ERROR|FATAL) +",
    re.ASCII,
)


def parse(message: str) -> RuntimeLine | None:
    """The message from the class on."""
    m = _LINE.match(message)
    if m is None:
        return None
    return RuntimeLine("app", message[m.end() :].rstrip("\n"), quick_iso(m[1])[0], m[2], m[3], LACKS_ZONE)
