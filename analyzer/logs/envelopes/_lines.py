"""Envelopes of lines: what begins a new record, and what continues the one before."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from analyzer.logs.recognisers import recognises
from analyzer.logs.records import LogRecord
from analyzer.logs.runtimes import prefixed
from analyzer.logs.sieve import Layout, layout_of
from analyzer.logs.stream import LogStream

#: Lines of the head that are looked at to recognise a shape.
SAMPLE = 400
#: A shape needs this share of lines with its head (messages of many lines have few).
LEAST_HEADS = 0.05

#: One line as a record without its `ref`, None where it continues the record before.
Split = Callable[[str], LogRecord | None]

#: What continues the message above it: indentation, closing braces, blank lines (gRPC options, stack traces, headers), the
#: second line of REPORT with X-Ray, the error type under a crash, a traceback.
CONTINUES = re.compile(
    r"(?:\s|[}\])]|$|caused by\b|Caused by:|XRAY TraceId: |Runtime\.[A-Z]\w{1,40}$|Traceback \(most recent call last\)|\u00a0)"
)

#: A line of a JSON log line that an exporter has printed over several.
_MEMBER = re.compile(r'\s+"(?:time|timestamp|type|level|message)": ')


def sample(head: str) -> list[str]:
    """The lines of a head by which a shape is judged; the last may be cut and does not count."""
    lines = head.split("\n")
    if len(lines) > SAMPLE or len(head) > 60_000:
        lines = lines[: min(SAMPLE, max(len(lines) - 1, 1))]
    return [line.rstrip("\r") for line in lines if line.strip()]


def known(message: str) -> bool:
    """Whether a message is a runtime's, the platform's or a gRPC trace's own."""
    return prefixed(message) or recognises(message)


def score(head: str, split: Split, sure: float) -> float:
    """`sure` where lines of the head have the shape and what they wrap is known, else 0."""
    lines = sample(head)
    records = [record for line in lines if (record := split(line)) is not None]
    if len(records) < max(1, LEAST_HEADS * len(lines)):
        return 0.0
    if any(known(record.message) for record in records):
        return sure
    opened = any(record.message.strip() in ("", "{") for record in records)
    return sure if opened and any(map(_MEMBER.match, lines)) else 0.0


def records(stream: LogStream, split: Split) -> Iterator[LogRecord]:
    """One record a line with a head; lines without one continue it, and stand alone before the first."""
    pending: LogRecord | None = None
    parts: list[str] = []
    for number, line in stream.lines(lambda first: _layout(first, split)):
        found = split(line)
        if found is None:
            if pending is None:
                if line.strip():
                    yield LogRecord(f":{number}", line)
            else:
                stream.grow(parts, line, pending.ref)
            continue
        if parts and pending is not None:
            pending.message, parts = "\n".join([pending.message, *parts]), []
        if pending is not None:
            yield pending
        found.ref = f":{number}"
        pending = found
    if pending is not None:
        if parts:
            pending.message = "\n".join([pending.message, *parts])
        yield pending


def _layout(line: str, split: Split) -> Layout | None:
    record = split(line)
    if record is None or not record.message or not line.endswith(record.message):
        return None
    message = len(line) - len(record.message)
    place = line.find(record.stream) if record.stream else -1
    return layout_of(line, message, (place, place + len(record.stream)) if record.stream and place >= 0 else None)
