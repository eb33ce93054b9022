"""`docker logs -t`, `kubectl logs --timestamps`: a stamp of nanoseconds, or a pod's or service's name, or both before a message."""

from __future__ import annotations

import re
from collections.abc import Iterator

from analyzer.logs.envelopes import _lines
from analyzer.logs.records import LogRecord
from analyzer.logs.stamps import utc_ns
from analyzer.logs.stream import LogStream

NAME = "docker or kubectl logs with time stamps or names"
SHAPE = "docker"
EXPECTS = "`[NAME | ][2026-11-21T00:06:05.860123456Z ]MESSAGE`"
LOST: tuple[str, ...] = ()

#: `[pod/name/container] ` of kubectl --prefix, `service-1  | ` of docker compose; without a stamp nothing else is a name.
_LINE = re.compile(
    r"(?:\[?([\w./-]{1,253})(?:\]| +\|) +)?(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7,9})Z (?!std(?:out|err) )", re.ASCII
)
_NAMED = re.compile(r"(?:\[(pod/[\w./-]{1,253})\] |([\w.-]{1,253}) +\| )", re.ASCII)


def _split(line: str) -> LogRecord | None:
    if m := _LINE.match(line):
        return LogRecord("", line[m.end() :], utc_ns(m[2]), m[1])
    m = _NAMED.match(line)
    return LogRecord("", line[m.end() :], stream=m[1] or m[2]) if m else None


def score(head: str) -> float:
    """Sure where lines carry a stamp of nanoseconds and wrap what is known."""
    return _lines.score(head, _split, 0.9)


def read(stream: LogStream) -> Iterator[LogRecord]:
    """One record a stamp; a continuation line carries one too, and is joined when it continues the message above."""
    return joined(stream, _lines.records(stream, _split))


def joined(stream: LogStream, records: Iterator[LogRecord]) -> Iterator[LogRecord]:
    """Messages of several lines, of which the container runtime made several records, as one again (per container)."""
    pending: dict[str | None, LogRecord] = {}
    parts: dict[str | None, list[str]] = {}
    for record in records:
        before = pending.get(record.stream)
        if before is not None and _lines.CONTINUES.match(record.message):
            stream.grow(parts[record.stream], record.message, before.ref)
            continue
        if before is not None:
            before.message = "\n".join(parts[record.stream])
            yield before
        pending[record.stream], parts[record.stream] = record, [record.message]
    for name, record in pending.items():
        record.message = "\n".join(parts[name])
        yield record
