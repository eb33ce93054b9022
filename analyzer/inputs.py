"""Paths to sources: folders and globs expand, kinds are recognised by content, and what is no input is said so."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, BinaryIO, cast

from msgspec import Struct

from analyzer.capture.again import Part
from analyzer.capture.containers import PCAP_MAGICS, PCAPNG_MAGIC
from analyzer.capture.reader import AS_IS, CaptureData, How, Progress, Reading
from analyzer.capture.rings import OVERLAP_NS, First, candidates, first_of, names_alike, pattern, show_the_same
from analyzer.logs.options import DEFAULTS, Options, options
from analyzer.model.clocks import Clock
from analyzer.model.events import Event
from analyzer.model.problems import InputError
from analyzer.model.records import Source
from analyzer.model.timing import timed
from analyzer.standard_input import StandardInput
from analyzer.streams import READ_ERRORS, STANDARD, open_stream, plain_size, read_head
from analyzer.timeline.points import Point

if TYPE_CHECKING:
    from analyzer.logs.envelopes import Choice

#: Not looked at in a folder: editors' and version control's own.
HIDDEN = "."
#: What marks a folder as a saved trace (see `saved`).
MANIFEST, SAVED, STORY = "manifest.json", "analyzer-trace", "story"
#: Of so many files that are no input each is told why.
SAID = 3
#: A longer folder's name is shown by its end, where it tells files of one name apart.
LONG_FOLDER = 20
#: A running stream is looked at this often, and for at most this share of the time.
LIVE_EVERY_S = 2.0
LIVE_SHARE = 0.1


class Inputs(Struct):
    """What the given paths hold."""

    points: list[Point] = []
    logs: list[tuple[Source, list[Event]]] = []
    skipped: list[tuple[str, str]] = []
    interrupted: bool = False
    options: Options = DEFAULTS
    how: How = AS_IS


#: Called with what a running stream, and all that was read before it, hold so far.
Live = Callable[[Inputs], None]


def expand(paths: list[str], skipped: list[tuple[str, str]]) -> list[tuple[str, bool]]:
    """(file, named by the user) for every path; folders and globs expand in sorted order. Raises `InputError`.

    Folders inside that cannot be opened are told in `skipped`.
    """
    found: dict[str, bool] = {}
    for path in paths:
        if path == STANDARD:
            found[path] = True
        elif Path(path).is_dir():
            found |= dict.fromkeys(_inside(path, skipped), False) | found
        elif Path(path).exists():
            found[path] = True
        elif glob.has_magic(path) and (matches := sorted(glob.glob(path, recursive=True))):
            for name in matches:
                found |= dict.fromkeys(_inside(name, skipped) if Path(name).is_dir() else [name], False) | found
        else:
            raise InputError(f"{path}: no such file or folder")
    seen: dict[str, str] = {}  # one file under several names is one input
    for name in found:
        seen.setdefault(name if name == STANDARD else os.path.realpath(name), name)
    return [(name, found[name]) for name in seen.values()]


def _inside(folder: str, skipped: list[tuple[str, str]]) -> list[str]:
    """The regular files of a folder at any depth, but for hidden ones and saved traces, which are made of inputs."""
    if is_saved(folder):
        return []
    found: list[str] = []

    def closed(error: OSError) -> None:
        skipped.append((str(error.filename), error.strerror or str(error)))

    for at, folders, files in os.walk(folder, onerror=closed):
        folders[:] = [name for name in folders if not name.startswith(HIDDEN) and not is_saved(Path(at) / name)]
        names = (f"{Path(at) / name}" for name in files if not name.startswith(HIDDEN))
        found += [name for name in names if os.path.isfile(name)]  # noqa: PTH113 - raises nothing where it may not look
    return sorted(found)


def is_saved(path: str | Path) -> bool:
    """Whether a path is a saved trace: a folder with its manifest, or what is left of one."""
    folder = Path(path)
    if (folder / STORY / "connections.json").is_file() or (folder / STORY / "members.parquet").is_file():
        return True
    try:
        return (folder / MANIFEST).is_file() and json.loads((folder / MANIFEST).read_bytes()).get("format") == SAVED
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def is_capture(head: bytes) -> bool:
    """Whether these first bytes are a capture file's."""
    return head[:4] in PCAP_MAGICS or head[:4] == PCAPNG_MAGIC


def read_inputs(
    paths: list[str],
    kinds: frozenset[str],
    progress: Progress | None = None,
    live: Live | None = None,
    shape: str | None = None,
    year: int | None = None,
    zone: str | None = None,
    how: How = AS_IS,
    counters: Iterable[str] = (),
) -> Inputs:
    """Read every input of the wanted kinds (`pcap`, `log`).

    Raises `InputError` when a path given by name cannot be opened, or when nothing is readable at all. A file that is no
    input is skipped and said so; one that was named and is not of the `shape` insisted on is an error.
    Standard input is read last; while it is a capture, `live` is called now and then.
    """
    inputs = Inputs(options=options(shape, year, zone, counters), how=how)
    captures: list[First] = []
    files = expand(paths, inputs.skipped)
    for path, named in files:
        if path != STANDARD:
            with _skipping(path, named, inputs):
                _read_file(path, path, kinds, inputs, captures)
    for group in candidates(captures):
        with _skipping(group[0].path, True, inputs):
            _read_ring(group, inputs, progress)
    if (STANDARD, True) in files:
        with _skipping(STANDARD, True, inputs):
            _read_standard_input(kinds, inputs, progress, live)
    if not inputs.points and not inputs.logs:
        raise InputError(_nothing(paths, inputs.skipped, kinds))
    _number(inputs)
    return inputs


def _nothing(paths: list[str], skipped: list[tuple[str, str]], kinds: frozenset[str]) -> str:
    if 0 < len(skipped) <= SAID:
        return "; ".join(f"{path}: {why}" for path, why in skipped)
    wanted = {"pcap": "a capture (pcap, pcapng)", "log": "a Lambda log or a gRPC trace"}
    what = " or ".join(wanted[k] for k in sorted(kinds, reverse=True))
    return f"nothing readable in {', '.join(paths)}: {len(skipped)} files looked at, none is {what}"


@contextmanager
def _skipping(path: str, named: bool, inputs: Inputs) -> Iterator[None]:
    """Note a file that is no input; raise `InputError` for one that was named and cannot be opened."""
    try:
        yield
    except InputError as error:
        if named and inputs.options.shape is not None:
            raise InputError(f"{path}: {error}") from error
        inputs.skipped.append((path, str(error)))
    except OSError as error:
        if named:
            raise InputError(f"{path}: {error.strerror or error}") from error
        inputs.skipped.append((path, error.strerror or str(error)))


def _read_file(path: str, file: str, kinds: frozenset[str], inputs: Inputs, captures: list[First]) -> None:
    """Recognise one file; read it if it is a log, look at its first record if it is a capture.

    Raises `InputError` where it is no input, `OSError` where it cannot be opened.
    """
    if Path(file).stat().st_size == 0:
        raise InputError("empty file")
    try:
        head = read_head(file)
    except READ_ERRORS as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise InputError(f"damaged compressed file: {error}") from error
    if is_capture(head):
        _want_captures(kinds)
        with open_stream(file) as stream:
            captures.append(first_of(path, head, stream))
        return
    from analyzer.logs.reader import describe, pick  # a capture alone is read without them: 20 ms

    choice = pick(head, inputs.options.shape)
    if choice.envelope is None:
        raise InputError(describe(head))
    if "log" not in kinds:
        what = choice.envelope.NAME
        raise InputError(f"a log ({what}), not a capture (use `analyze lambda-log`, `grpc-log` or `diagnose`)")
    _read_log(path, file, choice, inputs)


def _want_captures(kinds: frozenset[str]) -> None:
    if "pcap" not in kinds:
        raise InputError("a capture, not a log (use `analyze pcap` or `analyze diagnose`)")


# ---- captures


def _read_ring(group: list[First], inputs: Inputs, progress: Progress | None) -> None:
    """Captures whose names belong together: one capture point as long as their times and their packets follow, else several."""
    rings: list[tuple[Reading, list[str]]] = []
    for first in group:
        mine = [ring for ring in reversed(rings) if _follows(first, ring[0], inputs.how)]
        if not mine:
            rings.append((Reading(inputs.how), []))
            mine = rings[-1:]
        reading, paths = max(mine, key=lambda ring: names_alike(first.path, ring[1][-1]) if ring[1] else 0)
        with open_stream(first.path) as stream, timed(f"read {first.path}") as told:
            member = Path(first.path).name if len(group) > 1 else ""
            before = reading.data.records
            reading.read(stream, plain_size(first.path), member, progress)
            told.append(f"{reading.data.records - before:,} packets")
        paths.append(first.path)
    for reading, paths in rings:
        _add_point(paths, paths, reading.result(), inputs)


def _follows(first: First, reading: Reading, how: How) -> bool:
    """Whether a file goes on where those read so far ended; where it begins later, its packets tell."""
    pause = first.time_ns - reading.data.last_ns
    if abs(pause) <= OVERLAP_NS:
        return True
    if pause < 0:
        return False
    alone = Reading(how)
    with open_stream(first.path) as stream:
        alone.read(stream, plain_size(first.path))
    return not show_the_same(reading.rows, alone.rows)


def _add_point(paths: list[str], files: list[str], data: CaptureData, inputs: Inputs) -> None:
    """A capture point of what was read from `paths`; `files` is where to read it again."""
    if not data.records:
        raise InputError(data.problems[0].what if data.problems else "no packets")
    inputs.points.append(_point(paths, files, data, inputs.how))


def _point(paths: list[str], files: list[str], data: CaptureData, how: How) -> Point:
    path = pattern(paths[0]) if len(paths) > 1 else paths[0]
    source = Source(
        "", path, "pcap", data.format, data.records, data.first_ns, data.last_ns, [Clock("packet")], data.problems,
        parts=data.parts if len(paths) > 1 else [],
    )  # fmt: skip
    again: list[Part] = [(partial(open_stream, file), plain_size(file)) for file in files]
    return Point(source, data, again, how)


# ---- standard input


def _read_standard_input(kinds: frozenset[str], inputs: Inputs, progress: Progress | None, live: Live | None) -> None:
    """A capture as it comes; anything else when it has all come."""
    stream = StandardInput()
    with stream, stream.interruptible():
        if is_capture(stream.head(4)):
            _want_captures(kinds)
            reading = Reading(inputs.how)
            if live is not None:
                stream.on_wait = look = _looking(reading, stream.copy, inputs, live)
                progress = lambda *_: look()  # noqa: E731
            reading.read(cast("BinaryIO", stream), progress=progress)
            _add_point([STANDARD], [stream.copy], reading.result(), inputs)
        else:
            stream.drain()
            captures: list[First] = []
            _read_file(STANDARD, stream.copy, kinds, inputs, captures)
            if captures:  # a compressed one
                reading = Reading(inputs.how)
                with open_stream(stream.copy) as plain:
                    reading.read(plain, progress=progress)
                _add_point([STANDARD], [stream.copy], reading.result(), inputs)
    inputs.interrupted = stream.interrupted


def _looking(reading: Reading, copy: str, inputs: Inputs, live: Live) -> Callable[[], None]:
    """A function that calls `live` with a snapshot every few seconds, if anything has come since."""
    due, seen = monotonic() + LIVE_EVERY_S, 0

    def look() -> None:
        nonlocal due, seen
        began = monotonic()
        if began < due or reading.records == seen:
            return
        seen = reading.records
        # Correlation writes into sources and events: it gets its own.
        points = [Point(deepcopy(p.source), p.data, p.parts, p.how) for p in inputs.points]
        points.append(_point([STANDARD], [copy], reading.snapshot(), inputs.how))
        so_far = Inputs(points, deepcopy(inputs.logs))
        _number(so_far)
        live(so_far)
        due = monotonic() + max(LIVE_EVERY_S, (monotonic() - began) / LIVE_SHARE)

    return look


# ---- logs


def _read_log(path: str, file: str, choice: Choice, inputs: Inputs) -> None:
    from analyzer.logs.reader import read_log

    with open_stream(file) as stream, timed(f"read {path}") as told:
        data = read_log(stream, path, choice, inputs.options)
        told += [f"{data.records:,} records", f"{len(data.events):,} events"]
    platform = any(e.layer == "lambda" for e in data.events)
    kind = "lambda-log" if platform or data.format != "plain messages" else "grpc-log"
    if not data.events:
        raise InputError("no log events")
    inputs.logs.append((Source("", path, kind, data.format, data.records, problems=data.problems), data.events))


def _number(inputs: Inputs) -> None:
    """Source ids by path, so that the order of the arguments changes nothing; names that tell files of one name apart."""
    sources = sorted([p.source for p in inputs.points] + [s for s, _ in inputs.logs], key=lambda s: s.path)
    for number, source in enumerate(sources, 1):
        source.id = f"s{number}"
    alike: dict[str, list[Source]] = {}
    for source in sources:
        alike.setdefault(source.label, []).append(source)
    for same in alike.values():
        _tell_apart(same)
    inputs.points.sort(key=lambda p: p.source.path)
    inputs.logs.sort(key=lambda entry: entry[0].path)
    for source, events in inputs.logs:
        for event in events:
            event.source = source.id


def _tell_apart(same: list[Source]) -> None:
    """Names for files of one name: as many of their folders as tell them apart, long ones (a log stream's) by their ends if
    that is enough."""
    paths = [source.path.replace("\\", "/").split("/") for source in same]
    depth, most = 1, max(map(len, paths))
    while depth < most and len({tuple(path[-depth:]) for path in paths}) < len(same):
        depth += 1
    whole = ["/".join(path[-depth:]) for path in paths]
    short = ["/".join([*map(_short, path[-depth:-1]), path[-1]]) for path in paths]
    names = short if len(set(short)) == len(set(whole)) else whole
    for source, name in zip(same, names, strict=True):
        source.name = name if depth > 1 else ""


def _short(folder: str) -> str:
    return folder if len(folder) <= LONG_FOLDER else f"…{folder[-8:]}"
