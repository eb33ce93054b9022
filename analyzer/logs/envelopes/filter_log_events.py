"""`aws logs filter-log-events` and `get-log-events`, JSON output: `{"events": [{"timestamp", "message", …}]}`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

from analyzer.logs.records import LogRecord
from analyzer.model.problems import Problem
from analyzer.model.times import MS

NAME = "aws logs filter-log-events (JSON)"
LOST: tuple[str, ...] = ()

_HEAD = re.compile(r'\s*\{\s*"(?:events|searchedLogStreams|nextToken|nextForwardToken)"\s*:')
_EMPTY = re.compile(r'"events"\s*:\s*\[\s*\]')


def score(head: str) -> float:
    """Sure of `{"events": …`; unsure of any other object (truth files and the like are not ours)."""
    if not _HEAD.match(head):
        return 0.0
    return (
        1.0 if '"message"' in head or _EMPTY.search(head) or head.lstrip().startswith('{"searchedLogStreams"') else 0.0
    )


def read(stream: BinaryIO) -> Iterator[LogRecord | Problem]:
    """The events in document order; an entry that is no log event is a `Problem` with its place."""
    document = _parse(stream.read())
    events = document.get("events") if isinstance(document, dict) else None
    if not isinstance(events, list):
        raise ValueError('no list "events" in the document')
    for number, event in enumerate(events, 1):
        if not isinstance(event, dict) or not isinstance(event.get("message"), str):
            yield Problem(f"[{number}]", "not a log event (no message)")
            continue
        stamp, stream_name, event_id = event.get("timestamp"), event.get("logStreamName"), event.get("eventId")
        yield LogRecord(
            ref=f"[{number}]",
            message=event["message"],
            event_ns=int(stamp) * MS if isinstance(stamp, int | float) and abs(stamp) < 1e15 else None,
            stream=stream_name if isinstance(stream_name, str) else None,
            event_id=event_id if isinstance(event_id, str) else None,
        )


def _parse(data: bytes) -> Any:
    """The document; orjson is strict about lone surrogates, which real messages cut in half do contain."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        import json

        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ValueError(str(error)) from error
