"""The Python runtime's prefix `[LEVEL]⇥ISO⇥request id⇥message`, and its `[ERROR] Type: text` of an unhandled exception.

The latter carries no stamp and no id, and indents by no-break spaces (aws-lambda-python-runtime-interface-client). Java's
logger writes `[LEVEL] message` too, without a traceback.
"""

from __future__ import annotations

import re

from analyzer.logs.records import RuntimeLine
from analyzer.logs.stamps import quick_iso

RANK = 20
FIRST: frozenset[str] | None = frozenset("[L")

_LINE = re.compile(r"\[([A-Z]{4,8})\]\t(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?Z)\t([^\t\n]{0,64})\t", re.ASCII)
_BARE = re.compile(r"\[(TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL|CRITICAL)\] (?=\S)")
_TRACEBACK = re.compile(r"[\w.]{1,200}(?::[^\n]{0,2000})?(?:\n[^\n]{0,200}){0,3}?\nTraceback \(most recent call last\)")
_WARNING = re.compile(r"(?:\[WARNING\]\t[^\t\n]{0,40}\t[^\t\n]{0,64}\t)?LAMBDA_WARNING: ")


def parse(message: str) -> RuntimeLine | None:
    """The message without its prefix."""
    if m := _LINE.match(message):
        level, stamp, name = m.groups()
        return RuntimeLine("app", message[m.end() :].rstrip("\n"), quick_iso(stamp)[0], name or None, level)
    if _WARNING.match(message):
        return RuntimeLine("app", message.rstrip("\n"), level="WARNING", attrs={"invoke_error": True})
    if m := _BARE.match(message):
        body = message[m.end() :].rstrip("\n")
        line = RuntimeLine("app", body, level=m[1])
        if _TRACEBACK.match(body):
            line.attrs["invoke_error"] = True
        return line
    return None
