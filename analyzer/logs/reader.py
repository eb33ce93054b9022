"""One log file read: envelope, runtime and recognisers in a row, out come events and what was lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO

from analyzer.logs import runtimes
from analyzer.logs.envelopes import Envelope, best
from analyzer.logs.recognisers import recognise
from analyzer.logs.records import ANSI, LogRecord, RuntimeLine
from analyzer.model.events import Event
from analyzer.model.problems import InputError, Problem
from analyzer.streams import READ_ERRORS

#: What reading a log may raise: the envelope's own complaint, or a damaged stream.
UNREADABLE: tuple[type[Exception], ...] = (ValueError, *READ_ERRORS)
#: What of a message is kept as the event's text.
TEXT = 2_000


@dataclass(slots=True)
class LogData:
    """The events of one log file, in file order, and the name of its shape."""

    format: str
    events: list[Event] = field(default_factory=list)
    records: int = 0
    problems: list[Problem] = field(default_factory=list)


def sniff(head: bytes) -> tuple[float, Envelope | None]:
    """The envelope that fits these first bytes, and how well (0 … 1)."""
    if head.startswith(b"\x89PNG") or b"\0" in head[:512]:
        return 0.0, None
    return best(ANSI.sub("", head.decode("utf-8", "replace")))


def read_log(stream: BinaryIO, source: str, envelope: Envelope) -> LogData:
    """Read a log to its end; what cannot be read is a `Problem`. Raises `InputError` when nothing can."""
    data = LogData(envelope.NAME)
    unstamped = 0
    try:
        for record in envelope.read(stream):
            data.records += 1
            event = to_event(record, source, data.records)
            unstamped += event.source_ns is None
            data.events.append(event)
    except UNREADABLE as error:
        if not data.events:
            raise InputError(f"{envelope.NAME}: {error}") from error
        data.problems.append(Problem(data.events[-1].ref, f"reading stopped after this event: {error}"))
    for lost in envelope.LOST:
        data.problems.append(Problem("", lost))
    if not envelope.LOST and data.events and all(e.environment is None for e in data.events):
        data.problems.append(Problem("", "no log stream: environments are inferred"))
    if unstamped and not envelope.LOST:
        data.problems.append(Problem("", f"{unstamped:,} lines carry no time stamp"))
    return data


def to_event(record: LogRecord, source: str, order: int) -> Event:
    """One record through runtime and recognisers."""
    line = runtimes.parse(record.message)
    event = Event(
        source=source,
        ref=record.ref,
        layer="app" if line.kind == "app" else "lambda",
        kind="line" if line.kind == "app" else line.kind,
        text=line.body.strip()[:TEXT],
        event_ns=record.event_ns,
        inner_ns=line.inner_ns,
        environment=record.stream,
        request_id=line.request_id,
        level=line.level,
        attrs=line.attrs,
        order=order,
    )
    if line.kind == "app":
        _recognise(event, line)
    event.clock = "inner" if event.inner_ns is not None else "event"
    event.source_ns = event.inner_ns if event.inner_ns is not None else event.event_ns
    return event


def _recognise(event: Event, line: RuntimeLine) -> None:
    found = recognise(line.body)
    if found is None:
        return
    event.layer, event.kind, event.attrs = found.layer, found.kind, found.attrs
    event.pid, event.version, event.tracer, event.number = found.pid, found.version, found.tracer, found.number
    event.remote = found.remote
    if found.inner_ns is not None:
        event.inner_ns = found.inner_ns
