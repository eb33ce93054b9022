"""Copied from the CloudWatch console: the stamp on a line of its own, the message below; or both with a tab between."""

from __future__ import annotations

import re
from collections.abc import Iterator

from analyzer.logs.envelopes import _lines
from analyzer.logs.records import LogRecord
from analyzer.logs.stamps import utc_ns
from analyzer.logs.stream import LogStream

NAME = "console copy and paste"
SHAPE = "console-text"
EXPECTS = "`2026-11-21T00:06:05.860Z`, alone on its line or followed by a tab and the message"
LOST: tuple[str, ...] = ()

_STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}"
#: A tab and a request id are the Node.js runtime's own prefix, not the console's.
_LINE = re.compile(
    rf"({_STAMP})Z(?:$|\t(?![^\t\n]{{0,64}}\t(?:[A-Z]{{4,5}}|[a-z]{{4}})(?:\t|$))(?!undefined\t|-\t))", re.ASCII
)
_NODE = re.compile(rf"({_STAMP})Z\t(?={_STAMP}Z\t)", re.ASCII)


def _split(line: str) -> LogRecord | None:
    m = _NODE.match(line) or _LINE.match(line)
    return LogRecord("", line[m.end() :], utc_ns(m[1])) if m else None


def score(head: str) -> float:
    """Sure where stamps stand alone or before a tab, and a message that is known follows."""
    lines = _lines.sample(head)
    heads = [k for k, line in enumerate(lines) if _split(line) is not None]
    if len(heads) < max(1, _lines.LEAST_HEADS * len(lines)):
        return 0.0
    messages = [
        (record.message if (record := _split(lines[k])) else "") or "\n".join(lines[k + 1 : k + 2]) for k in heads
    ]
    return 0.9 if any(_lines.known(message) for message in messages) else 0.0


def read(stream: LogStream) -> Iterator[LogRecord]:
    """One record a stamp; what follows up to the next is its message."""
    for record in _lines.records(stream, _split):
        record.message = record.message.strip("\n")
        yield record
