"""`analyze extract`: what a bug report needs of some connections, and nothing else.

One capture file per capture point (each has its own clock, and one file of all would show every packet twice), and beside
it, per log, the lines of the connections' environments from the start of the invocation that opened them to the end of
the last one, in the log's own words and order. The pieces read again (`analyze diagnose small*`) give the same findings.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from msgspec import Struct

from analyzer.capture.extract import Copied, copy_records, record_numbers
from analyzer.capture.related import Related
from analyzer.logs.envelopes import envelopes
from analyzer.logs.envelopes._streams import stream_in
from analyzer.logs.records import LogRecord
from analyzer.logs.stream import LogStream
from analyzer.model.problems import InputError
from analyzer.model.times import MS
from analyzer.redact import Redactor
from analyzer.redact.lines import frame, message
from analyzer.redact.packets import PacketEditor
from analyzer.streams import STANDARD, open_stream, whole_file

if TYPE_CHECKING:
    from analyzer.model.records import Source
    from analyzer.timeline.points import Point
    from analyzer.trace import Trace

#: A connection as `Trace.index` takes it, or a finding: what tells them from paths on the command line.
NAME = re.compile(r"[CcFf][0-9]{1,9}$|[0-9A-Fa-f.:\[\]]{3,48}:[0-9]{1,5}(-[0-9A-Fa-f.:\[\]]{3,48}:[0-9]{1,5})?$")


class Plan(Struct):
    """What goes where: (point, its connections' rows, target) and (log, refs of its lines, target)."""

    captures: list[tuple[Point, Any, str]] = []
    logs: list[tuple[Source, set[str], str]] = []


def names_first(arguments: list[str]) -> tuple[list[str], list[str]]:
    """(connections and findings, paths) of a command line; raises `InputError` where one of them is missing.

    A file whose name reads like a connection's is meant when it is written as a path (`./C7`).
    """
    count = next((i for i, a in enumerate(arguments) if not NAME.match(a.strip())), len(arguments))
    names, paths = arguments[:count], arguments[count:]
    if not names:
        raise InputError(f"{arguments[0]} is no connection: name some first (C7, F3 or ip:port), then the files")
    if not paths:
        raise InputError("no input: name files, folders or globs behind the connections")
    return names, paths


def chosen(trace: Trace, names: Iterable[str]) -> list[int]:
    """The connections behind `C7`, `ip:port`, `ip:port-ip:port` and `F3` (all those of a finding); raises `InputError`."""
    found: set[int] = set()
    for name in names:
        if re.fullmatch(r"[Ff][0-9]+", name.strip()):
            finding = next((x for x in trace.findings if x.id == name.strip().upper()), None)
            if finding is None:
                raise InputError(f"no finding {name!r}: there are {len(trace.findings)}")
            if not finding.connections:
                raise InputError(f"{name} concerns no connection of the captures: there are no packets to extract")
            found |= {trace.index(c) for c in finding.connections}
        else:
            try:
                found.add(trace.index(name))
            except KeyError as error:
                raise InputError(str(error.args[0])) from error
    return sorted(found)


def extract(trace: Trace, ks: list[int], target: str, redactor: Redactor | None = None) -> list[str]:
    """Write the packets of connections `ks` to `target`, and their log lines beside it; returns what was written, a line each.

    Every file appears whole, and all of them or none. `-` writes the packets of a single capture point to standard output.
    Raises `InputError` where that cannot be.
    """
    trace.story.connections.require_packets()
    plan = _plan(trace, ks, target, redactor is not None)
    _refuse_inputs(trace, plan)
    told: list[str] = []
    with ExitStack() as stack:
        for point, rows, name in plan.captures:
            out = stack.enter_context(_opened(name))
            editor = PacketEditor(redactor) if redactor else None
            told += _told(name, _copy(point, rows, out, editor), point, editor)
        for source, refs, name in plan.logs:
            out = stack.enter_context(_opened(name))
            told.append(f"{name}: {_write_lines(source, refs, out, redactor):,} log events of {source.label}")
    return told + ([] if target == STANDARD else _without_lines(trace, plan))


def _without_lines(trace: Trace, plan: Plan) -> list[str]:
    """Why a log gave nothing."""
    copied = {source.id for source, *_ in plan.logs}
    logs = [s for s in trace.story.sources if s.kind != "pcap" and s.id not in copied]
    why = {True: "standard input cannot be copied from", False: "no line of it could be tied to these connections"}
    return [f"{s.label}: no log lines: {why[s.path == STANDARD]}" for s in logs]


# ---- what goes where


def _plan(trace: Trace, ks: list[int], target: str, anonymous: bool) -> Plan:
    cs = trace.story.connections
    points = [(p, [int(cs.members[k, p]) for k in ks if cs.members[k, p] >= 0]) for p in range(len(cs.points))]
    points = [(p, rows) for p, rows in points if rows]
    if target == STANDARD and len(points) != 1:
        raise InputError(
            f"standard output takes one capture; these connections were seen in {len(points)}: give -o FILE"
        )
    plan = Plan()
    names = _names(target, [cs.points[p].source for p, _ in points], anonymous)
    for (p, rows), name in zip(points, names, strict=True):
        plan.captures.append((cs.points[p], cs.points[p].rows[rows], name))
    if target != STANDARD:
        wanted = _refs(trace, ks)
        logs = [s for s in trace.story.sources if wanted.get(s.id) and s.path != STANDARD]
        lines = str(Path(target).with_suffix(".log"))
        for source, name in zip(logs, _names(lines, logs, anonymous), strict=True):
            refs = wanted[source.id]
            shaped = _lines_say_all(source, refs)
            plan.logs.append((source, refs, name if shaped else str(Path(name).with_suffix(".json"))))
    return plan


def _names(target: str, sources: list[Source], anonymous: bool) -> list[str]:
    """`small.pcap` for one source, `small-server.pcap` … for several; by number where names would tell."""
    if len(sources) == 1:
        return [target]
    path = Path(target)
    stems = [Path(s.label).name.split(".")[0] for s in sources]
    if anonymous or len(set(stems)) < len(stems):
        stems = [s.id for s in sources]
    return [str(path.with_name(f"{path.stem}-{stem}{path.suffix}")) for stem in stems]


def _refs(trace: Trace, ks: list[int]) -> dict[str, set[str]]:
    """Places of the log lines to take along, by source."""
    story = trace.story
    wanted: dict[str, set[str]] = {}
    ids = {story.connections.id(k) for k in ks}
    told = {(e.source, e.ref) for x in trace.findings if ids & set(x.connections) for e in x.evidence}
    spans = [span for k in ks if (span := _span(trace, k))]
    for event in story.events:
        places = [(event.source, event.ref), *event.also]
        if (
            event.connection in ids
            or any(place in told for place in places)
            or any(env == event.environment and start <= event.time_ns <= end for env, start, end in spans)
        ):
            for source, ref in places:
                wanted.setdefault(source, set()).add(ref)
    return wanted


def _span(trace: Trace, k: int) -> tuple[str, int, int] | None:
    """(environment, start, end): the connection's life, widened to the invocations that it touches."""
    story = trace.story
    environment = story.connections.environment.get(k)
    if environment is None or not story.shares_clock(k, environment) or not story.connections.segments(k):
        return None
    start, end = trace.span(k)
    opening, closing = story.invocation_before(environment, start), story.invocation_before(environment, end)
    if opening is not None:
        start = min(start, opening.start_ns)
    if closing is not None:
        end = max(end, closing.end_ns or end)
    return environment, start, end


def _refuse_inputs(trace: Trace, plan: Plan) -> None:
    """An input is never written over."""
    targets = [name for *_, name in plan.captures] + [name for *_, name in plan.logs]
    read = {Path(s.path).resolve() for s in trace.story.sources}
    for name in targets:
        if name != STANDARD and Path(name).resolve() in read:
            raise InputError(f"{name} is one of the inputs: write elsewhere")


# ---- packets


def _copy(point: Point, rows: Any, out: BinaryIO, editor: PacketEditor | None) -> Copied:
    return copy_records(point.parts, record_numbers(point.parts, rows), out, editor, Related(rows).positions)


def _told(name: str, copied: Copied, point: Point, editor: PacketEditor | None) -> list[str]:
    """What was written, a line each; raises `InputError` where nothing could be redacted."""
    told = [f"{name}: {len(copied.numbers):,} packets of {point.source.label}"]
    if editor and copied.dropped:
        kinds = ", ".join(f"{count:,} of {what}" for what, count in sorted(editor.left_out.items()))
        if not copied.numbers:
            raise InputError(f"{point.source.label}: no packet of these connections can be redacted ({kinds})")
        told.append(f"{name}: {copied.dropped:,} packets left out, which cannot be redacted ({kinds})")
    if editor:
        told.append(f"{name}: redacted: pseudonyms for addresses, payload cut, checksums made right for what is left")
    if copied.secrets:
        told.append(f"{name}: it carries TLS secrets (a decryption secrets block): whoever has it can read the payload")
    return told


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif Path(name).exists() and not Path(name).is_file():
        with Path(name).open("wb") as out:  # a device or a pipe: there is nothing to replace
            yield out
    else:
        with whole_file(name) as out:
            yield out


# ---- log lines


def _write_lines(source: Source, refs: set[str], out: BinaryIO, redactor: Redactor | None) -> int:
    """The log events at these places, in file order; returns how many. Lines as lines, a document as a document."""
    records = [r for r in _records(source) if r.ref in refs]
    if _lines_say_all(source, refs):
        for block, record in _blocks(source, records):
            lines = _redacted(block, record, redactor) if redactor else block
            out.write(lines.encode("utf-8", "backslashreplace"))
    else:
        rows = [json.dumps(_entry(r, source, redactor), ensure_ascii=False) for r in records]
        out.write(('{"events": [\n' + ",\n".join(rows) + "\n]}\n").encode("utf-8", "backslashreplace"))
    return len(records)


def _lines_say_all(source: Source, refs: set[str]) -> bool:
    """Whether a copy of the lines is as good as the file: its records are lines, and none takes its stream from the path."""
    return all(ref.startswith(":") for ref in refs) and stream_in(source.path) is None


def _records(source: Source) -> Iterator[LogRecord]:
    """A log's records, read again."""
    envelope = next((e for e in envelopes() if source.format == e.NAME), None)
    if envelope is None:
        raise InputError(f"{source.path}: {source.format} cannot be read again")
    with open_stream(source.path) as stream:
        yield from (r for r in envelope.read(LogStream(stream, source.path)) if isinstance(r, LogRecord))


def _blocks(source: Source, records: list[LogRecord]) -> Iterator[tuple[str, LogRecord]]:
    """(lines of the file, their record): as many lines as the message has, and all that it was joined from."""
    wanted = {int(r.ref[1:]): r for r in records}
    block, record = "", LogRecord("", "")
    with open_stream(source.path) as stream:
        for number, line in LogStream(stream, source.path).lines():
            if number in wanted:
                if block:
                    yield block, record
                block, record = f"{line}\n", wanted[number]
            elif block and (block.count("\n") <= record.message.count("\n") or len(block) < len(record.message)):
                block += f"{line}\n"
        if block:
            yield block, record


def _redacted(block: str, record: LogRecord, redactor: Redactor) -> str:
    """The lines with the message redacted and what the envelope wrote around it scrubbed."""
    if block.lstrip()[:1] == "{":  # an object a line, the message inside
        return message(block, redactor)
    head, found, tail = block.partition(record.message)
    if not found:  # an envelope that writes its head on every line: one is enough
        head, found, _ = block.partition(record.message.split("\n", 1)[0])
        tail = "\n"
    if not found:
        return message(block, redactor)
    if record.stream:
        parts = [frame(part, redactor) for part in head.split(record.stream)]
        head = redactor.stream(record.stream).join(parts)
    else:
        head = frame(head, redactor)
    return head + message(record.message, redactor) + frame(tail, redactor)


def _entry(record: LogRecord, source: Source, redactor: Redactor | None) -> dict[str, Any]:
    """As `aws logs filter-log-events` writes it."""
    entry: dict[str, Any] = {}
    name = record.stream or stream_in(source.path)
    if name is not None:
        entry["logStreamName"] = redactor.stream(name) if redactor else name
    if record.event_ns is not None:
        entry["timestamp"] = record.event_ns // MS
    return entry | {"message": message(record.message, redactor) if redactor else record.message}
