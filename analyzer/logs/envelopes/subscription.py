"""Subscription filters: what Kinesis, Firehose and Lambda are handed, decoded or as the events carry it.

`{"messageType": "DATA_MESSAGE", "logStream", "logEvents": [{"id", "timestamp", "message"}]}`, in a row without separators
(Firehose to S3, also as concatenated gzip members), one a line, or gzipped and base64-coded inside `{"awslogs": {"data"}}`,
Kinesis and Firehose records.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterator
from typing import Any

from analyzer.logs.envelopes._json import Elements, parse
from analyzer.logs.envelopes.filter_log_events import stamp_ns
from analyzer.logs.records import LogRecord
from analyzer.logs.stream import LogStream
from analyzer.model.problems import Problem

NAME = "subscription (Kinesis, Firehose, Lambda)"
SHAPE = "subscription"
EXPECTS = '`{"messageType": "DATA_MESSAGE", …, "logEvents": […]}`, or gzip of it in base64 inside a Lambda, Kinesis or Firehose event'
LOST: tuple[str, ...] = ()

_DOCUMENT = re.compile(r'\s*(?:\[\s*)?\{[^\[{]{0,4000}?"(?:messageType|logEvents)"\s*:')
_WRAPPED = re.compile(r'\s*\{.{0,4000}?"[dD]ata"\s*:\s*"H4sI', re.DOTALL)
_OPENING = re.compile(rb"\s*(?:\[|(?=\{))")
#: gzip, in base64.
GZIP = "H4sI"
#: A Lambda event has at most 6 MB; logs compress some twentyfold.
LARGEST = 1 << 27


def score(head: str) -> float:
    """Sure of the message's own keys, and of gzip in base64 under a key `data`."""
    if _DOCUMENT.match(head) and '"logEvents"' in head:
        return 1.0
    return 0.9 if _WRAPPED.match(head) else 0.0


def read(stream: LogStream) -> Iterator[LogRecord | Problem]:
    """The events of all messages, numbered through; control messages are no events."""
    number = 0
    for place, document in Elements(stream, _OPENING):
        for message in _messages(document):
            if isinstance(message, Problem):
                yield Problem(f"[{place}]", message.what)
                continue
            if message.get("messageType") == "CONTROL_MESSAGE":
                continue
            for event in message["logEvents"]:
                number += 1
                yield _record(event, message, number)


def _record(event: Any, message: dict[str, Any], number: int) -> LogRecord | Problem:
    if not isinstance(event, dict) or not isinstance(event.get("message"), str):
        return Problem(f"[{number}]", "not a log event (no message)")
    stream, group, event_id = message.get("logStream"), message.get("logGroup"), event.get("id")
    return LogRecord(
        f"[{number}]", _unescaped(event["message"]), stamp_ns(event.get("timestamp")), stream if isinstance(stream, str) else None,
        event_id if isinstance(event_id, str) and event_id else None, group=group if isinstance(group, str) else None,
    )  # fmt: skip


def _unescaped(text: str) -> str:
    """Some archives escape twice: `\\\\n` at the end of a platform line is its line end."""
    return text.replace("\\t", "\t").replace("\\n", "\n") if text.endswith("\\n") and "\n" not in text else text


def _messages(document: Any, depth: int = 0) -> Iterator[dict[str, Any] | Problem]:
    """The decoded messages of a document, however they are wrapped."""
    if isinstance(document, dict) and isinstance(document.get("logEvents"), list):
        yield document
    elif isinstance(document, str) and document.startswith(GZIP):
        yield from _decoded(document)
    elif depth < 6:
        inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
        for value in inner:
            yield from _messages(value, depth + 1)


def _decoded(text: str) -> Iterator[dict[str, Any] | Problem]:
    try:
        data = zlib.decompressobj(31).decompress(base64.b64decode(text), LARGEST)
        message = parse(data)
    except (binascii.Error, zlib.error, ValueError) as error:
        yield Problem("", f"a record that cannot be decoded: {error}")
        return
    if isinstance(message, dict) and isinstance(message.get("logEvents"), list):
        yield message
