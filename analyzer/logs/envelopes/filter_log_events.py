"""`aws logs filter-log-events` and `get-log-events`, JSON output: `{"events": [{"timestamp", "message", …}]}`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

from analyzer.logs.records import LogRecord
from analyzer.model.times import MS

NAME = "aws logs filter-log-events (JSON)"
LOST: tuple[str, ...] = ()

_HEAD = re.compile(r'\s*\{\s*"(?:events|searchedLogStreams|nextToken|nextForwardToken)"\s*:')


def score(head: str) -> float:
    """Sure of `{"events": …`; unsure of any other object (truth files and the like are not ours)."""
    return 1.0 if _HEAD.match(head) and '"message"' in head else 0.0


def read(stream: BinaryIO) -> Iterator[LogRecord]:
    """The events in document order; entries that are no log event are passed over by the reader's count."""
    document: Any = orjson.loads(stream.read())
    events = document.get("events") if isinstance(document, dict) else None
    if not isinstance(events, list):
        raise ValueError('no list "events" in the document')
    for number, event in enumerate(events, 1):
        if not isinstance(event, dict) or not isinstance(event.get("message"), str):
            raise ValueError(f"[{number}]: not a log event (no message)")
        stamp = event.get("timestamp")
        yield LogRecord(
            ref=f"[{number}]",
            message=event["message"],
            event_ns=int(stamp) * MS if isinstance(stamp, int | float) else None,
            stream=event.get("logStreamName"),
            event_id=event.get("eventId"),
        )
