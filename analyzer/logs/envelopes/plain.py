"""Messages alone: a function's log without any export envelope, a bare trace file, Firehose's message extraction."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from analyzer.logs.envelopes import _lines
from analyzer.logs.recognisers import continues
from analyzer.logs.records import LogRecord
from analyzer.logs.sieve import Layout
from analyzer.logs.stream import LogStream

NAME = "plain messages"
SHAPE = "plain"
EXPECTS = "what a runtime, the platform or a gRPC library prints"
LOST: tuple[str, ...] = ()

#: Fewer known lines than this share, and fewer than three, is somebody else's file that quotes one of ours.
LEAST_SHARE, LEAST_LINES = 0.2, 3

#: A platform line right behind a message that had no line end.
_GLUED = re.compile(r"(?<=[^\s\"'])((?:START|END) RequestId: [0-9a-fA-F-]{36}(?: Version: \S{1,40})?)$")
_DECODER = json.JSONDecoder(strict=False)


def score(head: str) -> float:
    """Above 0 when enough lines are a runtime's, the platform's or a gRPC trace's own."""
    sample = _lines.sample(head)
    heads = [line for line in sample if not _lines.CONTINUES.match(line)]
    known = sum(1 for line in heads if any(_lines.known(text) for text in split(line)))
    if not known or (known < LEAST_LINES and known < LEAST_SHARE * len(heads)):
        return 0.0
    return 0.5


def read(stream: LogStream) -> Iterator[LogRecord]:
    """One record a line that does not continue the one above; JSON objects on one line are one record each."""
    pending: LogRecord | None = None
    parts: list[str] = []
    for number, line in stream.lines(lambda line: Layout() if line.strip() else None):
        if pending is not None and _continues(parts, line):
            stream.grow(parts, line, pending.ref)
            continue
        if pending is not None:
            yield from _messages(pending, parts)
        pending, parts = LogRecord(ref=f":{number}", message=""), [line]
    if pending is not None:
        yield from _messages(pending, parts)


def _continues(parts: list[str], line: str) -> bool:
    if line == "{":  # an object printed over several lines, behind a head (`Invoke Error`) or a message of its own
        return not parts[-1].endswith("}")
    return _lines.CONTINUES.match(line) is not None or continues(parts[0], line)


def _messages(record: LogRecord, parts: list[str]) -> Iterator[LogRecord]:
    for text in split("\n".join(parts).rstrip("\n") if len(parts) > 1 else parts[0]):
        yield LogRecord(record.ref, text)


def split(message: str) -> Iterator[str]:
    """The messages of a line: one, mostly. Firehose puts those without a line end of their own behind each other."""
    glued = _GLUED.search(message[-128:]) if "RequestId: " in message[-128:] else None
    rest = message[: len(message) - len(glued[1])] if glued else message
    yield from _objects(rest) if (rest.startswith("{") and not rest.endswith("}")) or "}{" in rest else (rest,)
    if glued:
        yield glued[1]


def _objects(text: str) -> Iterator[str]:
    """JSON objects that follow each other without a separator, and whatever text stands behind one."""
    at = 0
    while text.startswith("{", at):
        try:
            _, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        yield text[at:end]
        at = end
    if rest := text[at:].strip("\n"):
        yield rest
