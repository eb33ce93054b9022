"""Files of the Kubernetes container runtime interface (CRI): `<stamp> stdout F <message>`; `P` marks a part of a line."""

from __future__ import annotations

import re
from collections.abc import Iterator

from analyzer.logs.envelopes import _lines
from analyzer.logs.envelopes.docker import joined
from analyzer.logs.records import LogRecord
from analyzer.logs.stamps import zoned_ns
from analyzer.logs.stream import LogStream

NAME = "Kubernetes container log (CRI)"
SHAPE = "cri"
EXPECTS = "`2026-11-21T00:06:05.860123456Z stdout F MESSAGE`"
LOST: tuple[str, ...] = ()

#: A part has 16 KB: what is longer than a megabyte is data, not a message.
MOST_PARTS = 64

_LINE = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}(?:Z|[+-]\d\d:\d\d)) (stdout|stderr) ([FP])(?: |$)", re.ASCII
)


def _split(line: str) -> LogRecord | None:
    m = _LINE.match(line)
    return LogRecord("", line[m.end() :], zoned_ns(m[1]), event_id=f"{m[2]} {m[3]}") if m else None


def score(head: str) -> float:
    """Sure where lines carry the runtime's stamp, stream and tag."""
    return _lines.score(head, _split, 0.97)


def read(stream: LogStream) -> Iterator[LogRecord]:
    """One record a message; the parts of a long line are put together."""
    return joined(stream, _whole(_lines.records(stream, _split)))


def _whole(records: Iterator[LogRecord]) -> Iterator[LogRecord]:
    """Records whose lines are whole: a line cut at 16 KB comes as parts (`P`) and a rest (`F`), each output's its own."""
    begun: dict[str, tuple[LogRecord, list[str]]] = {}
    for record in records:
        output, _, tag = (record.event_id or "").partition(" ")
        record.event_id = None
        first, parts = begun.setdefault(output, (record, []))
        if len(parts) < MOST_PARTS:
            parts.append(record.message)
        if tag != "P":
            yield _joined(*begun.pop(output))
    for first, parts in begun.values():
        yield _joined(first, parts)


def _joined(first: LogRecord, parts: list[str]) -> LogRecord:
    first.message = "".join(parts)
    return first
