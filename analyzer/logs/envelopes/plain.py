"""Messages alone: a function's log without any export envelope, or a bare trace file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from analyzer.logs.envelopes._lines import CONTINUES, MAX_CONTINUATIONS, lines
from analyzer.logs.recognisers import continues, recognises
from analyzer.logs.records import LogRecord
from analyzer.logs.runtimes import prefixed

NAME = "plain messages"
LOST: tuple[str, ...] = ("no log stream", "no stamp on platform lines")

#: Fewer recognised lines than this share, and fewer than three, is somebody else's file that quotes one of ours.
LEAST_SHARE, LEAST_LINES = 0.2, 3


def score(head: str) -> float:
    """Above 0 when enough lines are a runtime's, the platform's or a gRPC trace's own."""
    sample = [line for line in head.splitlines()[:400] if line.strip()]
    known = sum(1 for line in sample if prefixed(line) or recognises(line))
    if not known or (known < LEAST_LINES and known < LEAST_SHARE * len(sample)):
        return 0.0
    return 0.5


def read(stream: BinaryIO) -> Iterator[LogRecord]:
    """One record a line with a runtime's prefix, the platform's form or a trace's head; the rest continues it."""
    pending: LogRecord | None = None
    parts: list[str] = []
    for number, line in lines(stream):
        if pending is not None and len(parts) < MAX_CONTINUATIONS and (CONTINUES.match(line) or continues(parts[0], line)):
            parts.append(line)
            continue
        if pending is not None:
            pending.message = "\n".join(parts).rstrip("\n")
            yield pending
        pending, parts = LogRecord(ref=f":{number}", message=""), [line]
    if pending is not None:
        pending.message = "\n".join(parts).rstrip("\n")
        yield pending
