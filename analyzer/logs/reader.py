"""One log file read: envelope, runtime and recognisers in a row, out come events and what was lost."""

from __future__ import annotations

from itertools import pairwise
from typing import BinaryIO

from msgspec import Struct

from analyzer import discovery
from analyzer.logs import foreign, runtimes
from analyzer.logs.envelopes import Choice, Envelope, choose, named
from analyzer.logs.envelopes._streams import stream_in
from analyzer.logs.options import DEFAULTS, Options
from analyzer.logs.recognisers import counters, recognise
from analyzer.logs.records import ANSI, LogRecord
from analyzer.logs.stamps import completed, is_coarser, yearless
from analyzer.logs.stream import BYTE_ORDER_MARKS, MOST_LINES, LogStream
from analyzer.model.events import Event
from analyzer.model.memory import uncollected
from analyzer.model.problems import InputError, Problem
from analyzer.model.times import LATEST, SECOND, sane
from analyzer.streams import READ_ERRORS

#: An export all of whose stamps are whole seconds was cut to them (`aws logs tail --format short`): this many must agree.
WHOLE_SECONDS_FROM = 5

#: What reading a log may raise: the envelope's own complaint, or a damaged stream.
UNREADABLE: tuple[type[Exception], ...] = (ValueError, *READ_ERRORS)
#: What of a message is kept as the event's text.
TEXT = 2_000
#: Messages are looked at up to here; what is longer is data.
MESSAGE = 1 << 20


class LogData(Struct):
    """The events of one log file, in order of time, and the name of its shape."""

    format: str
    events: list[Event] = []
    records: int = 0
    problems: list[Problem] = []


def pick(head: bytes, shape: str | None = None) -> Choice:
    """The envelope that fits these first bytes, how well (0 … 1), and its rivals. `shape` names it instead of a guess.

    Raises `InputError` for a shape that does not exist, or that the bytes do not have.
    """
    text = ANSI.sub("", _decoded(head))
    if shape is not None:
        return _insisted(named(shape), text)
    if head.startswith(b"\x89PNG") or "\0" in text[:512]:
        return Choice(0.0, None)
    choice = choose(text)
    return Choice(0.0, None) if choice.fit < foreign.SURE and foreign.server(text) else choice


def describe(head: bytes) -> str:
    """A word on a file that is no log of ours: what it is, where that is known."""
    found = foreign.word(_decoded(head))
    return found or "no known shape (not a capture, not a Lambda log, not a gRPC trace)"


def _insisted(envelope: Envelope, text: str) -> Choice:
    """The envelope that the user named; a head that does not fit it at all is an error that shows the line."""
    fit = envelope.score(text)
    if fit <= 0:
        number, line = next(((k, s) for k, s in enumerate(text.split("\n"), 1) if s.strip()), (1, ""))
        shown = line.strip()[:120] + ("…" if len(line.strip()) > 120 else "")
        raise InputError(f"not of shape {envelope.SHAPE}: expected {envelope.EXPECTS}, but line {number} is: {shown}")
    return Choice(fit, envelope)


def _decoded(data: bytes) -> str:
    """Text by its byte order mark (PowerShell writes UTF-16), UTF-8 without one; what cannot be decoded is replaced."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    return data.decode("utf-8", "replace")


def read_log(stream: BinaryIO, source: str, choice: Choice | Envelope, options: Options = DEFAULTS) -> LogData:
    """Read a log to its end; what cannot be read is a `Problem`. Raises `InputError` when nothing can.

    `source` is the input's path: where records name no log stream, a path that does (an S3 export's) names theirs.
    """
    choice = choice if isinstance(choice, Choice) else Choice(1.0, choice)
    envelope = choice.envelope
    if envelope is None:
        raise InputError("no known shape")
    data, log = LogData(envelope.NAME), LogStream(stream, source, options)
    if choice.rivals:
        rivals = ", ".join(choice.rivals)
        data.problems.append(Problem("", f"read as {envelope.SHAPE}; {rivals} would fit too (--shape overrides)"))
    try:
        with uncollected():
            _read_records(log, envelope, data)
    except UNREADABLE as error:
        if not data.events:
            raise InputError(f"{envelope.NAME}: {error}") from error
        data.problems.append(Problem(data.events[-1].ref, f"reading stopped after this event: {error}"))
    data.problems += log.problems
    wrong = [problem for problem in data.problems if problem.ref]
    if wrong and not data.events:
        raise InputError(f"{envelope.NAME}: {wrong[0].ref} {wrong[0].what}")
    _in_order(data)
    _say_what_is_lost(data, envelope, log)
    return data


def _read_records(log: LogStream, envelope: Envelope, data: LogData) -> None:
    stream, seen, again = stream_in(log.path), set[str](), 0
    path, options, events = log.path, log.options, data.events
    for record in envelope.read(log):
        if isinstance(record, Problem):
            data.problems.append(record)
            continue
        if record.event_id:
            if record.event_id in seen:
                again += 1
                continue
            seen.add(record.event_id)
        if record.stream is None:
            record.stream = stream
        event = to_event(record, path, len(events) + 1, options)
        if record.ingestion_ns is not None:
            event.ingestion_ns = sane(record.ingestion_ns)
        events.append(event)
    data.records += len(events) + log.folded
    if again:
        data.problems.append(Problem("", f"{again:,} events delivered more than once (same id) are read once"))


def _in_order(data: LogData) -> None:
    """Events by time: exports that show the newest first are turned round, others sorted stably where they need it."""
    stamped = [e.event_ns for e in data.events if e.event_ns is not None]
    if stamped == sorted(stamped):
        return
    falls = sum(1 for a, b in pairwise(stamped) if b < a)
    rises = sum(1 for a, b in pairwise(stamped) if b > a)
    if falls > rises:
        data.events.reverse()
        data.problems.append(
            Problem("", "newest first: order restored (lines of one millisecond in the file's reverse order)")
        )
    last = 0
    keys = []
    for e in data.events:
        last = e.event_ns if e.event_ns is not None else last
        keys.append(last)
    data.events = [data.events[k] for k in sorted(range(len(keys)), key=keys.__getitem__)]
    for order, e in enumerate(data.events, 1):
        e.order = order


def _say_what_is_lost(data: LogData, envelope: Envelope, log: LogStream) -> None:
    """What the format does not carry, and stamps that cannot be used."""
    say = data.problems.append
    for lost in envelope.LOST:
        say(Problem("", lost))
    events = data.events
    if events and "no log stream" not in envelope.LOST and all(e.environment is None for e in events):
        say(Problem("", "no log stream: environments are inferred"))
    if events and not envelope.LOST and all(e.event_ns is None for e in events):
        say(Problem("", "no stamp on platform lines: they stand where their neighbours do"))
    if any(e.inner_ns is not None and e.event_ns is None and yearless(e.inner_ns) for e in events):
        say(Problem("", "stamps carry neither year nor zone: shown as of 2000 (--year and --tz tell them)"))
    if log.folded:
        say(
            Problem(
                "",
                f"{log.folded:,} lines inside invocations without a word that any reader knows were counted, not kept",
            )
        )
    if log.cut:
        say(
            Problem(
                log.cut_at,
                f"a message of more than {MOST_LINES:,} lines: {log.cut:,} lines without a head are not read",
            )
        )
    _distrust_whole_seconds(data)
    _drop_absurd_stamps(data)
    without = sum(1 for e in events if e.source_ns is None)
    if without and not envelope.LOST and not all(e.event_ns is None for e in events):
        say(Problem("", f"lines without a usable time stamp: {without:,}"))
    data.problems += [Problem("", failure) for failure in discovery.failures]


def _distrust_whole_seconds(data: LogData) -> None:
    if any((e.event_ns or 0) % SECOND for e in data.events):  # mostly the first few tell
        return
    stamped = [e for e in data.events if e.event_ns is not None]
    if len(stamped) < WHOLE_SECONDS_FROM:
        return
    what = (
        "stamps cut to whole seconds: lines take the stamps that the guest printed, or stand between their neighbours"
    )
    data.problems.append(Problem("", what))


def _drop_absurd_stamps(data: LogData) -> None:
    absurd = [
        e
        for e in data.events
        if not ((e.event_ns is None or 0 <= e.event_ns <= LATEST) and (e.inner_ns is None or 0 <= e.inner_ns <= LATEST))
    ]
    for e in absurd:
        e.event_ns, e.inner_ns = sane(e.event_ns), sane(e.inner_ns)
        e.clock, e.source_ns = ("event", e.event_ns) if e.inner_ns is None else ("inner", e.inner_ns)
    if absurd:
        what = f"{len(absurd):,} time stamps outside 1970 to 2200 are ignored, here the first"
        data.problems.append(Problem(absurd[0].ref, what))


def to_event(record: LogRecord, source: str, order: int, options: Options = DEFAULTS) -> Event:
    """One record through runtime and recognisers."""
    message = record.message
    if len(message) > MESSAGE or "\r" in message or "\x1b" in message or not message.isascii():
        message = _normal(message)
    line = runtimes.parse(message)
    event_ns = record.event_ns if record.event_ns is not None else line.service_ns
    found = recognise(line.body) if line.kind == "app" else None
    if options.counters and line.kind == "app" and (found is None or found.layer == "app"):
        found = counters.read(options.counters, line.body) or found
    inner_ns, lacks = line.inner_ns, line.lacks
    if found is not None and found.inner_ns is not None:
        inner_ns, lacks = found.inner_ns, found.lacks
    if lacks and is_coarser(inner_ns, event_ns):
        inner_ns = None
    elif lacks:
        inner_ns = completed(inner_ns, lacks, event_ns, options.year, options.zone_ns)
    clock, source_ns = ("event", event_ns) if inner_ns is None else ("inner", inner_ns)
    text = line.body[:TEXT].strip()
    request_id = line.request_id or record.request_id
    if record.group and (
        line.kind != "app" or record.stream is None
    ):  # platform lines tell it, where there are streams
        line.attrs["log_group"] = record.group
    if found is None:
        layer, kind = ("app", "line") if line.kind == "app" else ("lambda", line.kind)
        return Event(
            source, record.ref, layer, kind, text, clock, source_ns, event_ns, inner_ns, record.stream, request_id, line.level,
            attrs=line.attrs, order=order,
        )  # fmt: skip
    attrs = {**found.attrs, **line.attrs} if line.attrs else found.attrs
    return Event(
        source, record.ref, found.layer, found.kind, text, clock, source_ns, event_ns, inner_ns, record.stream, request_id,
        line.level, found.dialect, found.pid, found.tracer, found.number, found.remote, found.version, attrs, order=order,
    )  # fmt: skip


def _normal(message: str) -> str:
    """A message with line ends as such: a runtime without a telemetry channel joins its lines by carriage returns."""
    if len(message) > MESSAGE:
        message = message[:MESSAGE]
    if "\r" in message:
        message = message.replace("\r\n", "\n").replace("\r", "\n")
    if "\x1b" in message:
        message = ANSI.sub("", message)
    if not message.isascii():  # half of a surrogate pair is text to JSON, and to nobody else
        message = message.encode("utf-8", "replace").decode().replace("\xa0", " ")
    return message
