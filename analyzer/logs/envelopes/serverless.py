"""`serverless logs`: platform lines rewritten (`START - <id> - Version: …`), application lines under a stamp in local time."""

from __future__ import annotations

import re
from collections.abc import Iterator

from analyzer.logs.envelopes import _lines
from analyzer.logs.records import LogRecord
from analyzer.logs.stamps import utc_ns
from analyzer.logs.stream import LogStream

NAME = "serverless logs"
SHAPE = "serverless"
EXPECTS = "`START - REQUEST-ID - Version: …`, or `2026-11-21 00:09:13.251 - REQUEST-ID - ` and the message below"
LOST: tuple[str, ...] = (
    "no log stream",
    "no stamp on platform lines",
    "stamps in local time (--tz says which; UTC without it)",
)

_PLATFORM = re.compile(r"(START|END|REPORT) - ([0-9a-fA-F-]{36})(?: - (Version: \S+))?$")
_STAMPED = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) - ([0-9a-zA-Z-]{0,64}) - ", re.ASCII)
_INIT = re.compile(r"(INIT|RESTORE)_START Runtime - Version: ")
_LEVEL = re.compile(r"(?:TRACE|DEBUG|INFO|WARN|ERROR|FATAL|\[[A-Z]{4,8}\])(?:\t\n?|\n|$)")
_DURATION = re.compile(r"(?:Init )?Duration: ")
NO_ID = frozenset(("undefined", "-", ""))


def score(head: str) -> float:
    """Sure of the rewritten platform lines."""
    lines = _lines.sample(head)
    return 0.95 if any(_PLATFORM.match(line) for line in lines) else 0.6 if any(map(_STAMPED.match, lines)) else 0.0


def read(stream: LogStream) -> Iterator[LogRecord]:
    """One record a head, in the platform's own words again; lines below a head that is complete stand alone."""
    pending: LogRecord | None = None
    parts: list[str] = []
    for number, line in stream.lines():
        found = _head(line, stream.options.zone_ns)
        if found is None and pending is not None and _continues(pending, parts, line):
            stream.grow(parts, line, pending.ref)
            continue
        if pending is not None:
            yield _whole(pending, parts)
        pending, parts = (found or LogRecord("", line)), []
        pending.ref = f":{number}"
    if pending is not None:
        yield _whole(pending, parts)


def _head(line: str, zone_ns: int) -> LogRecord | None:
    if m := _PLATFORM.match(line):
        return LogRecord("", f"{m[1]} RequestId: {m[2]}{' ' + m[3] if m[3] else ''}")
    if m := _STAMPED.match(line):
        stamp = utc_ns(m[1])
        name = None if m[2] in NO_ID else m[2]
        return LogRecord("", line[m.end() :], stamp - zone_ns if stamp is not None else None, request_id=name)
    if m := _INIT.match(line):
        return LogRecord("", f"{m[1]}_START Runtime Version: {line[m.end() :]}")
    return None


def _continues(pending: LogRecord, parts: list[str], line: str) -> bool:
    """The first line below a stamp is its message; below REPORT its numbers; then what looks like a continuation."""
    if not parts and (pending.event_ns is not None or _DURATION.match(line)):
        return True
    return _lines.CONTINUES.match(line) is not None


def _whole(record: LogRecord, parts: list[str]) -> LogRecord:
    if record.message.startswith("REPORT ") and parts:
        record.message += "\t" + "\n".join(parts)
    elif parts:
        record.message = "\n".join([record.message, *parts] if record.message else parts)
    record.message = _LEVEL.sub("", record.message.rstrip("\n"))
    return record
