"""One log file read: envelope, runtime and recognisers in a row, out come events and what was lost."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from analyzer.logs import runtimes
from analyzer.logs.envelopes import Envelope, best
from analyzer.logs.recognisers import recognise
from analyzer.logs.records import ANSI, LogRecord, RuntimeLine
from analyzer.logs.stamps import completed
from analyzer.model.events import Event
from analyzer.model.problems import InputError, Problem
from analyzer.model.times import SECOND, sane
from analyzer.streams import READ_ERRORS

BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
#: An export all of whose stamps are whole seconds was cut to them (`aws logs tail --format short`): this many must agree.
WHOLE_SECONDS_FROM = 5

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
    text = _decoded(head)
    if head.startswith(b"\x89PNG") or "\0" in text[:512]:
        return 0.0, None
    return best(ANSI.sub("", text))


def _decoded(data: bytes) -> str:
    """Text by its byte order mark (PowerShell writes UTF-16), UTF-8 without one; what cannot be decoded is replaced."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    return data.decode("utf-8", "replace")


def _as_utf8(stream: BinaryIO) -> BinaryIO:
    """The stream without its byte order mark, recoded where it is UTF-16."""
    head = stream.read(4)
    rest = _Chained(head, stream)
    if not any(head.startswith(mark) for mark, _ in BYTE_ORDER_MARKS):
        return io.BufferedReader(rest, 1 << 20)
    return io.BytesIO(_decoded(rest.read()).encode("utf-8", "replace"))


class _Chained(io.RawIOBase):
    """A few bytes already read, then the rest of a stream."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        data = self._head or self._stream.read(len(target))
        used, self._head = data[: len(target)], data[len(target) :]
        target[: len(used)] = used
        return len(used)


def read_log(stream: BinaryIO, source: str, envelope: Envelope) -> LogData:
    """Read a log to its end; what cannot be read is a `Problem`. Raises `InputError` when nothing can."""
    data = LogData(envelope.NAME)
    try:
        for record in envelope.read(_as_utf8(stream)):
            if isinstance(record, Problem):
                data.problems.append(record)
                continue
            data.records += 1
            data.events.append(to_event(record, source, data.records))
    except UNREADABLE as error:
        if not data.events:
            raise InputError(f"{envelope.NAME}: {error}") from error
        data.problems.append(Problem(data.events[-1].ref, f"reading stopped after this event: {error}"))
    _say_what_is_lost(data, envelope)
    return data


def _say_what_is_lost(data: LogData, envelope: Envelope) -> None:
    """What the format does not carry, and stamps that cannot be used."""
    data.problems += [Problem("", lost) for lost in envelope.LOST]
    if not envelope.LOST and data.events and all(e.environment is None for e in data.events):
        data.problems.append(Problem("", "no log stream: environments are inferred"))
    stamped = [e for e in data.events if e.event_ns is not None]
    if len(stamped) >= WHOLE_SECONDS_FROM and all((e.event_ns or 0) % SECOND == 0 for e in stamped):
        data.problems.append(Problem("", "stamps cut to whole seconds: lines take the stamps that the guest printed"))
        for e in stamped:
            e.event_ns = None
            e.source_ns = e.inner_ns
    absurd = [e for e in data.events if any(t is not None and sane(t) is None for t in (e.event_ns, e.inner_ns))]
    for e in absurd:
        e.event_ns, e.inner_ns = sane(e.event_ns), sane(e.inner_ns)
        e.clock = "inner" if e.inner_ns is not None else "event"
        e.source_ns = e.inner_ns if e.inner_ns is not None else e.event_ns
    if absurd:
        data.problems.append(
            Problem(absurd[0].ref, f"{len(absurd):,} time stamps outside 1970 to 2200 are ignored, here the first")
        )
    without = sum(1 for e in data.events if e.source_ns is None)
    if without and not envelope.LOST:
        data.problems.append(Problem("", f"{without:,} lines carry no usable time stamp"))


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
        inner_ns=completed(line.inner_ns, line.lacks, record.event_ns),
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
    event.layer, event.kind, event.attrs, event.dialect = found.layer, found.kind, found.attrs, found.dialect
    event.pid, event.version, event.tracer, event.number = found.pid, found.version, found.tracer, found.number
    event.remote = found.remote
    if found.inner_ns is not None:
        event.inner_ns = completed(found.inner_ns, found.lacks, event.event_ns)
