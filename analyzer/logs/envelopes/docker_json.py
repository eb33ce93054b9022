"""Docker's json-file driver: `{"log": "message\\n", "stream": "stdout", "time": "2026-11-21T00:06:05.860123456Z"}` a line."""

from __future__ import annotations

import re
from collections.abc import Iterator

import orjson

from analyzer.logs.envelopes import _lines
from analyzer.logs.envelopes.docker import joined
from analyzer.logs.records import LogRecord
from analyzer.logs.stamps import zoned_ns
from analyzer.logs.stream import LogStream

NAME = "docker json-file"
SHAPE = "docker-json"
EXPECTS = '`{"log": "MESSAGE\\n", "stream": "stdout", "time": "2026-11-21T00:06:05.860123456Z"}`'
LOST: tuple[str, ...] = ()

_HEAD = re.compile(r'\{"log":"')


def _split(line: str) -> LogRecord | None:
    if not _HEAD.match(line):
        return None
    try:
        entry = orjson.loads(line)
    except ValueError:
        return None
    message, stamp = entry.get("log"), entry.get("time")
    if not isinstance(message, str) or not isinstance(stamp, str):
        return None
    return LogRecord("", message.rstrip("\n"), zoned_ns(stamp))


def score(head: str) -> float:
    """Sure where lines are such objects and wrap what is known."""
    return _lines.score(head, _split, 0.97)


def read(stream: LogStream) -> Iterator[LogRecord]:
    """One record a message."""
    return joined(stream, _lines.records(stream, _split))
