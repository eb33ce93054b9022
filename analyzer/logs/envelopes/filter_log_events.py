"""Log events as JSON objects: `filter-log-events` and `get-log-events`, `sam logs --output json`, `--query 'events[]'`.

`{"events": [{"timestamp", "message", …}]}`, a bare list of such objects, or one a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from analyzer.logs.envelopes._json import Elements
from analyzer.logs.records import LogRecord
from analyzer.logs.stream import LogStream
from analyzer.model.problems import Problem
from analyzer.model.times import MS

NAME = "aws logs filter-log-events (JSON)"
SHAPE = "filter-log-events"
EXPECTS = '`{"events": [{"timestamp": …, "message": …}]}`, or such events as a list or one a line'
LOST: tuple[str, ...] = ()

_HEAD = re.compile(r'\s*\{\s*"(?:events|searchedLogStreams|nextToken|nextForwardToken|nextBackwardToken)"\s*:')
_EVENT = re.compile(r'\s*(?:\[\s*)?\{\s*"(?:logStreamName|timestamp|message|ingestionTime|eventId)"\s*:')
_EMPTY = re.compile(r'"events"\s*:\s*\[\s*\]')
_OPENING = re.compile(rb'\s*(?:\{.{0,60000}?"events"\s*:\s*\[|\[|(?=\{))', re.DOTALL)
#: get-log-events pages at 1 MB or so many events.
PAGE = 10_000


def score(head: str) -> float:
    """Sure of `{"events": …`; of bare events where a number of milliseconds stands beside a message."""
    if _HEAD.match(head):
        return (
            1.0
            if '"message"' in head or _EMPTY.search(head) or head.lstrip().startswith('{"searchedLogStreams"')
            else 0.0
        )
    if (
        _EVENT.match(head)
        and re.search(r'"timestamp"\s*:\s*\d{12,14}\b', head)
        and re.search(r'"message"\s*:\s*"', head)
    ):
        return 0.95
    return 0.0


def read(stream: LogStream) -> Iterator[LogRecord | Problem]:
    """The events in document order; an entry that is no log event is a `Problem` with its place."""
    elements = Elements(stream, _OPENING)
    number = 0
    for number, event in elements:
        if not isinstance(event, dict) or not isinstance(event.get("message"), str):
            yield Problem(f"[{number}]", "not a log event (no message)")
        elif "events" in event and "timestamp" not in event:  # the document itself
            raise ValueError('no list "events" in the document')
        else:
            yield record_of(event, f"[{number}]")
    if elements.rest.get("nextToken"):
        yield Problem(f"[{number}]", "more pages exist (nextToken): this is a part of the log")
    elif number == PAGE and "nextForwardToken" in elements.rest:
        yield Problem(f"[{number}]", f"exactly {PAGE:,} events: a page's limit has probably cut the rest")


def record_of(event: dict[str, Any], ref: str) -> LogRecord:
    """A record of one event object."""
    stream, event_id = event.get("logStreamName"), event.get("eventId")
    return LogRecord(
        ref, event["message"], stamp_ns(event.get("timestamp")), stream if isinstance(stream, str) else None,
        event_id if isinstance(event_id, str) else None, stamp_ns(event.get("ingestionTime")),
    )  # fmt: skip


def stamp_ns(value: Any) -> int | None:
    """Milliseconds since the epoch as nanoseconds."""
    return int(value) * MS if isinstance(value, int | float) and abs(value) < 1e15 else None
