"""`aws logs filter-log-events` and `get-log-events` with `--output text`: columns in alphabetical order of their names.

`EVENTS⇥eventId⇥ingestionTime⇥logStreamName⇥message⇥timestamp`, where the message contains tabs and line ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from analyzer.logs.envelopes import _lines
from analyzer.logs.records import LogRecord
from analyzer.logs.stream import LogStream
from analyzer.model.times import MS

NAME = "aws logs filter-log-events (text)"
SHAPE = "filter-log-events-text"
EXPECTS = "`EVENTS⇥eventId⇥ingestionTime⇥logStreamName⇥message⇥timestamp`"
LOST: tuple[str, ...] = ()

_FILTER = re.compile(r"EVENTS\t(\d{40,80})\t(\d{10,16})\t([^\t\n]{1,512})\t", re.ASCII)
_GET = re.compile(r"EVENTS\t(\d{10,16})\t", re.ASCII)
_END = re.compile(r"\t(\d{10,16})\s*$", re.ASCII)
#: Behind a message come records of other kinds.
_OTHER = re.compile(r"(?:SEARCHEDLOGSTREAMS|NEXTTOKEN|[bf]/\d{40,})(?:\t|$)")


def _split(line: str) -> LogRecord | None:
    if m := _FILTER.match(line):
        return LogRecord("", line[m.end() :], None, m[3], m[1], int(m[2]) * MS)
    if m := _GET.match(line):
        return LogRecord("", line[m.end() :], ingestion_ns=int(m[1]) * MS)
    return None


def score(head: str) -> float:
    """Sure of `EVENTS` before the columns."""
    return 1.0 if any(_split(line) for line in _lines.sample(head)[:3]) else 0.0


def read(stream: LogStream) -> Iterator[LogRecord]:
    """One record a line that begins with EVENTS; the stamp stands behind the message."""
    for record in _lines.records(stream, _split):
        lines = record.message.split("\n")
        while lines and (not lines[-1] or _OTHER.match(lines[-1])):
            lines.pop()
        message = "\n".join(lines)
        if m := _END.search(message[-40:]):
            record.event_ns = int(m[1]) * MS
            message = message[: len(message) - len(m[0])]
        record.message = message.rstrip("\n")
        yield record
