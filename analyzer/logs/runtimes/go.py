"""Go's log package (`2006/01/02 15:04:05 message`, whole seconds, UTC in Lambda) and slog's text handler."""

from __future__ import annotations

import re

from analyzer.logs.records import LACKS_NOTHING, LACKS_ZONE, RuntimeLine
from analyzer.logs.stamps import quick_iso

RANK = 40
FIRST: frozenset[str] | None = frozenset("0123456789t")

_LOG = re.compile(r"(\d{4})/(\d\d)/(\d\d) (\d\d:\d\d:\d\d(?:\.\d{6})?) ", re.ASCII)
_SLOG = re.compile(r"(?:timestamp|time)=(\S{19,40}) level=([A-Z]{4,5}) ")
_ID = re.compile(r" (?:requestId|request_id|AWSRequestId)=([0-9a-fA-F-]{36})(?: |$)")
_ERROR = re.compile(r'\{"errorMessage":')


def parse(message: str) -> RuntimeLine | None:
    """The message without its stamp."""
    if m := _LOG.match(message):
        body = message[m.end() :].rstrip("\n")
        stamp, _ = quick_iso(f"{m[1]}-{m[2]}-{m[3]}T{m[4]}")
        line = RuntimeLine("app", body, stamp, lacks=LACKS_ZONE)
        if _ERROR.match(body):
            line.attrs["invoke_error"], line.level = True, "ERROR"
        return line
    if m := _SLOG.match(message):
        body = message[m.end() :].rstrip("\n")
        stamp, zoned = quick_iso(m[1])
        name = _ID.search(message[:4096])
        return RuntimeLine("app", body, stamp, name[1] if name else None, m[2], LACKS_NOTHING if zoned else LACKS_ZONE)
    return None
