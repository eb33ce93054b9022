"""Paths to sources: folders and globs expand, kinds are recognised by content, and what is no input is said so."""

from __future__ import annotations

import atexit
import glob
import os
import sys
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from analyzer.capture.containers import PCAP_MAGICS, PCAPNG_MAGIC
from analyzer.capture.reader import Progress, read_capture
from analyzer.logs.envelopes import Envelope
from analyzer.logs.reader import read_log, sniff
from analyzer.model.events import Event
from analyzer.model.problems import InputError
from analyzer.model.records import Clock, Source
from analyzer.streams import READ_ERRORS, open_stream, plain_size, read_head
from analyzer.timeline.points import Point

#: Not looked at in a folder: editors' and version control's own.
HIDDEN = "."
STANDARD_INPUT = "-"


@dataclass(slots=True)
class Inputs:
    """What the given paths hold."""

    points: list[Point] = field(default_factory=list)
    logs: list[tuple[Source, list[Event]]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    interrupted: bool = False


def expand(paths: list[str]) -> list[tuple[str, bool]]:
    """(file, named by the user) for every path; folders and globs expand in sorted order. Raises `InputError`."""
    found: dict[str, bool] = {}
    for path in paths:
        if path == STANDARD_INPUT:
            found[path] = True
        elif Path(path).is_dir():
            inside = sorted(str(p) for p in Path(path).rglob("*") if p.is_file() and not _hidden(p, Path(path)))
            for name in inside:
                found.setdefault(name, False)
        elif Path(path).exists():
            found[path] = True
        elif glob.has_magic(path) and (matches := sorted(glob.glob(path, recursive=True))):
            for name in matches:
                found.setdefault(name, False)
        else:
            raise InputError(f"{path}: no such file or folder")
    seen: dict[str, str] = {}  # one file under several names is one input
    for name in found:
        seen.setdefault(name if name == STANDARD_INPUT else os.path.realpath(name), name)
    return [(name, found[name]) for name in seen.values()]


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(HIDDEN) for part in path.relative_to(root).parts)


def is_capture(head: bytes) -> bool:
    """Whether these first bytes are a capture file's."""
    return head[:4] in PCAP_MAGICS or head[:4] == PCAPNG_MAGIC


def read_inputs(paths: list[str], kinds: frozenset[str], progress: Progress | None = None) -> Inputs:
    """Read every input of the wanted kinds (`pcap`, `log`).

    Raises `InputError` when a path given by name cannot be opened, or when nothing is readable at all. A file that is no
    input is skipped and said so.
    """
    inputs = Inputs()
    for path, named in expand(paths):
        try:
            _read_one(path, kinds, inputs, progress)
        except InputError as error:
            inputs.skipped.append((path, str(error)))
        except OSError as error:
            if named:
                raise InputError(f"{path}: {error.strerror or error}") from error
            inputs.skipped.append((path, error.strerror or str(error)))
    if not inputs.points and not inputs.logs:
        raise InputError(_nothing(paths, inputs.skipped, kinds))
    _number(inputs)
    return inputs


def _nothing(paths: list[str], skipped: list[tuple[str, str]], kinds: frozenset[str]) -> str:
    if len(skipped) == 1:
        return f"{skipped[0][0]}: {skipped[0][1]}"
    wanted = {"pcap": "a capture (pcap, pcapng)", "log": "a Lambda log or a gRPC trace"}
    what = " or ".join(wanted[k] for k in sorted(kinds, reverse=True))
    return f"nothing readable in {', '.join(paths)}: {len(skipped)} files looked at, none is {what}"


def _read_one(path: str, kinds: frozenset[str], inputs: Inputs, progress: Progress | None) -> None:
    """Recognise one file and read it. Raises `InputError` where it is no input, `OSError` where it cannot be opened."""
    file = _spool(inputs) if path == STANDARD_INPUT else path
    if Path(file).stat().st_size == 0:
        raise InputError("empty file")
    try:
        head = read_head(file)
    except READ_ERRORS as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise InputError(f"damaged compressed file: {error}") from error
    if is_capture(head):
        if "pcap" not in kinds:
            raise InputError("a capture, not a log (use `analyze pcap` or `analyze diagnose`)")
        _read_capture(path, file, inputs, progress)
        return
    fit, envelope = sniff(head)
    if envelope is None or fit <= 0:
        raise InputError("no known shape (not a capture, not a Lambda log, not a gRPC trace)")
    if "log" not in kinds:
        raise InputError(f"a log ({envelope.NAME}), not a capture (use `analyze lambda-log`, `grpc-log` or `diagnose`)")
    _read_log(path, file, envelope, inputs)


def _spool(inputs: Inputs) -> str:
    """Standard input as a file, so that it can be recognised and read again; Ctrl-C ends it early and keeps what came."""
    with tempfile.NamedTemporaryFile(prefix="analyze-", delete=False) as copy:
        atexit.register(lambda: Path(copy.name).unlink(missing_ok=True))
        try:
            while block := os.read(sys.stdin.fileno(), 1 << 20):
                copy.write(block)
        except KeyboardInterrupt:
            inputs.interrupted = True
    return copy.name


def _read_capture(path: str, file: str, inputs: Inputs, progress: Progress | None) -> None:
    size = plain_size(file)
    with open_stream(file) as stream:
        data = read_capture(stream, size, progress=progress)
    if not data.records:
        what = data.problems[0].what if data.problems else "no packets"
        raise InputError(what)

    source = Source(
        "", path, "pcap", data.format, data.records, data.first_ns, data.last_ns, [Clock("packet")], data.problems
    )
    inputs.points.append(Point(source, data, [(partial(open_stream, file), size)]))


def _read_log(path: str, file: str, envelope: Envelope, inputs: Inputs) -> None:
    with open_stream(file) as stream:
        data = read_log(stream, path, envelope)
    platform = any(e.layer == "lambda" for e in data.events)
    kind = "lambda-log" if platform or data.format != "plain messages" else "grpc-log"
    if not data.events:
        raise InputError("no log events")
    inputs.logs.append((Source("", path, kind, data.format, data.records, problems=data.problems), data.events))


def _number(inputs: Inputs) -> None:
    """Source ids by path, so that the order of the arguments changes nothing."""
    sources = sorted([p.source for p in inputs.points] + [s for s, _ in inputs.logs], key=lambda s: s.path)
    for number, source in enumerate(sources, 1):
        source.id = f"s{number}"
    inputs.points.sort(key=lambda p: p.source.path)
    inputs.logs.sort(key=lambda entry: entry[0].path)
    for source, events in inputs.logs:
        for event in events:
            event.source = source.id
