"""A result on disk: a folder of Parquet tables, which every command takes in place of the raw inputs.

    case.trace/
      manifest.json               format and version, and every file with its size and SHA-256
      connections.parquet …       the public tables (`analyzer.model.tables`), for DuckDB, Polars, Spark, pandas
      story/*.parquet, *.json     what the trace is rebuilt from; may change with the version

Nothing in it is code. A field that this version does not know is left out, one that is missing gets its default.
The public tables are for others: loading reads `story/` only.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, BinaryIO, get_args, get_type_hints

import msgspec
import numpy as np
from msgspec import Struct

from analyzer.deep import DeepFrame
from analyzer.inputs import MANIFEST, SAVED, STORY, is_saved
from analyzer.model.events import Event
from analyzer.model.findings import Finding
from analyzer.model.problems import InputError
from analyzer.model.records import Call, Environment, Examined, Freeze, Invocation, Ping, Source, Tie, Transport
from analyzer.model.tables import TABLES

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from analyzer.capture.reader import CaptureData
    from analyzer.timeline.points import Connections
    from analyzer.trace import Trace

#: Raised when an older program could not read what is written.
VERSION = 2

#: The public tables: columns are added, never renamed or removed.
TABLES_SCHEMA = "analyzer-tables/1"

#: The records of a story, each a list of structs.
RECORDS: dict[str, type] = {
    "sources": Source, "events": Event, "environments": Environment, "invocations": Invocation, "freezes": Freeze,
    "transports": Transport, "pings": Ping, "calls": Call, "ties": Tie,
}  # fmt: skip
#: Records that a folder of this version may lack: they came later.
LATER = frozenset(("ties",))
#: Fields that a Parquet column holds as they are; others are JSON text in one.
PLAIN = {"str": "string", "int": "int64", "bool": "bool_", "float": "float64"}
#: Rows of segments in one row group.
ROW_GROUP = 100_000


# ---- writing


def save(trace: Trace, path: str | Path) -> None:
    """Write `trace` as a folder, whole or not at all; an older saved trace of that name is replaced.

    Raises `InputError` where something else has the name. Of captures too large to keep, the segments of connections with
    findings are saved; the others keep their row.
    """
    target = Path(path)
    if target.exists() and not is_saved(target):
        raise InputError(f"{target}: exists and is no saved trace; choose another name")
    try:
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise InputError(f"{target}: {error.strerror or error}") from error
    try:
        _write(trace, made)
        made.chmod(0o755)
        _put(made, target)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _put(made: Path, target: Path) -> None:
    """Give a finished folder its name; what had it before goes when the new one is in place."""
    if not target.exists():
        made.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent)) / "old"
    target.rename(old)
    try:
        made.rename(target)
    except OSError:
        old.rename(target)
        raise
    finally:
        shutil.rmtree(old.parent, ignore_errors=True)


def _write(trace: Trace, folder: Path) -> None:
    from analyzer import __version__

    story, inner = trace.story, folder / STORY
    inner.mkdir()
    for name in TABLES:
        frame = getattr(trace, "findings_frame" if name == "findings" else name)
        write_table(folder / f"{name}.parquet", arrow_of(frame))
    for name, kind in RECORDS.items():
        write_table(inner / f"{name}.parquet", _record_table(getattr(story, name), kind))
    write_table(inner / "findings.parquet", _record_table(trace.findings, Finding))
    cs = story.connections
    flagged = sorted({int(c[1:]) - 1 for f in trace.findings for c in f.connections})
    points = []
    for p, point in enumerate(cs.points):
        data, kept = point.data, _kept(cs, p, flagged)
        arrays = {"rows": data.rows, "segments": np.column_stack([*kept])}
        for name, array in arrays.items():
            write_table(inner / f"point-{p}-{name}.parquet", _array_table(array))
        rest = {name: getattr(data, name) for name in _plain_fields(data)}
        points.append({"source": point.source.id, "data": rest})
    manifest = {
        "format": SAVED, "version": VERSION, "analyzer": __version__, "schema": TABLES_SCHEMA, "tables": sorted(TABLES),
        "aligned": story.aligned, "interrupted": story.interrupted, "outside": story.outside, "window": story.window,
        "skipped": story.skipped,
        "examined": story.examined and msgspec.to_builtins(story.examined),
    }  # fmt: skip
    connections = {
        "points": points, "nearness": cs.nearness, "environment": cs.environment, "transports": cs.transports,
        "environment_tie": cs.environment_tie, "listed": None if cs.listed is None else cs.listed.tolist(),
    }  # fmt: skip
    write_table(inner / "members.parquet", _array_table(cs.members))
    (inner / "connections.json").write_bytes(_json(connections))
    write_table(
        inner / "frames.parquet", _record_table([_Frame(k, f) for k, fs in trace.deep.items() for f in fs], _Frame)
    )
    files = {p.relative_to(folder).as_posix(): _seal(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    (folder / MANIFEST).write_bytes(json.dumps(manifest | {"files": files}, indent=2).encode() + b"\n")


class _Frame(Struct):
    """A frame that deep mode found in connection `k`."""

    k: int
    frame: DeepFrame


def _seal(path: Path) -> dict[str, Any]:
    """What tells whether a file is still what was written."""
    with path.open("rb") as f:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(f, "sha256").hexdigest()}


def _kept(cs: Connections, p: int, flagged: list[int]) -> tuple[NDArray[np.int64], ...]:
    """(uids, kinds, segments) of one point that are worth keeping: all of them, or those of connections with findings."""
    data = cs.points[p].data
    if data.complete:
        return data.uids, data.kinds, data.segments
    return cs.kept(p, flagged)


def _plain_fields(data: CaptureData) -> list[str]:
    return [name for name in data.__struct_fields__ if not isinstance(getattr(data, name), np.ndarray)]


def _json(value: Any) -> bytes:
    """JSON of plain values, structs and bytes (base64); lone surrogates of hostile text become `?`."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_encodable(msgspec.to_builtins(value)))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_encodable(k): _encodable(v) for k, v in value.items()}
    return [_encodable(v) for v in value] if isinstance(value, list | tuple) else value


def _columns(kind: type[Struct]) -> Iterator[tuple[str, str | None]]:
    """(field, Parquet type) of a record; None for a field that is kept as JSON."""
    hints = get_type_hints(kind)
    for name in kind.__struct_fields__:
        hint = hints[name]
        parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        names = {getattr(part, "__name__", "") for part in parts} - {"NoneType"}
        yield name, PLAIN.get(names.pop()) if len(names) == 1 and names <= set(PLAIN) else None


def _record_table(items: list[Any], kind: type[Struct]) -> pa.Table:
    import pyarrow as pa

    columns = {}
    for name, plain in _columns(kind):
        values = [getattr(item, name) for item in items]
        if plain is None:
            values = [_json(value).decode() for value in values]
        try:
            columns[name] = pa.array(values, getattr(pa, plain or "string")())
        except UnicodeEncodeError:
            columns[name] = pa.array([_encodable(value) for value in values], pa.string())
    return pa.table(columns)


def _array_table(array: NDArray[np.int64]) -> pa.Table:
    import pyarrow as pa

    return pa.table({str(c): array[:, c] for c in range(array.shape[1])}) if array.ndim == 2 else pa.table({})


def arrow_of(frame: Any) -> pa.Table:
    """A public table for Parquet: its lists, of dicts and strings, as JSON text, so that every file has one schema. The file
    says which table it is, and every column what it means."""
    import pyarrow as pa

    name = frame.attrs.get("table")
    for column in [c for c in frame.columns if frame[c].dtype == object]:
        frame = frame.assign(**{column: [_json(value).decode() for value in frame[column]]})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    docs = {column.name: {"doc": column.doc} for column in TABLES.get(name, ())}
    fields = [field.with_metadata(docs.get(field.name)) for field in table.schema]
    about = {"analyzer.schema": TABLES_SCHEMA, "analyzer.table": name} if name else {}
    return table.cast(pa.schema(fields, {**(table.schema.metadata or {}), **about}))


def write_table(path: Path | BinaryIO, table: pa.Table) -> None:
    """A Parquet file whose pages carry checksums."""
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP, write_page_checksum=True)


# ---- reading


def load(path: str | Path) -> Trace:
    """The trace that was saved as `path`. Raises `InputError` for one that is damaged, newer, or none."""
    from analyzer.timeline.story import Story
    from analyzer.trace import Trace

    folder = Path(path)
    if not is_saved(folder):
        raise InputError(f"{folder}: no saved trace (a folder with {MANIFEST})")
    with _damage(folder):
        manifest = _manifest(folder)
    if manifest["version"] != VERSION:
        raise InputError(
            f"{folder}: saved by analyzer {manifest.get('analyzer')} in version {manifest['version']}, "
            f"this one reads version {VERSION}: read the raw inputs again, or use that analyzer"
        )
    inner = folder / STORY
    with _damage(folder):
        for name, seal in manifest["files"].items():
            if name.startswith(f"{STORY}/") and _seal(folder / name) != seal:
                raise ValueError(f"{name} is not what was saved")
        records: dict[str, Any] = {
            name: _read_records(inner / f"{name}.parquet", kind)
            for name, kind in RECORDS.items()
            if name not in LATER or f"{STORY}/{name}.parquet" in manifest["files"]
        }
        story = Story(connections=_read_connections(inner, records["sources"]), **records)
        story.aligned, story.interrupted = manifest["aligned"], manifest["interrupted"]
        story.outside, story.skipped = manifest["outside"], [(path, why) for path, why in manifest["skipped"]]
        story.window = tuple(manifest["window"])
        story.examined = msgspec.convert(manifest.get("examined"), Examined | None)
        trace = Trace(story, _read_records(inner / "findings.parquet", Finding))
        for found in _read_records(inner / "frames.parquet", _Frame):
            trace.deep.setdefault(found.k, []).append(found.frame)
        return trace


def _manifest(folder: Path) -> dict[str, Any]:
    """What the folder says of itself; raises `ValueError` where it says nothing."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    if not isinstance(manifest, dict) or manifest.get("format") != SAVED or "version" not in manifest:
        raise ValueError(f"{MANIFEST} is none of a saved trace")
    return manifest


@contextmanager
def _damage(folder: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError, msgspec.MsgspecError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{folder}: damaged saved trace: {what}; read the raw inputs again") from error


def _read_table(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path, page_checksum_verification=True).read()


def _read_records(path: Path, kind: type) -> list[Any]:
    table = _read_table(path)
    columns: list[Iterable[Any]] = []
    names = []
    for name, plain in _columns(kind):
        if name in table.column_names:
            values = table.column(name).to_pylist()
            columns.append(values if plain else [json.loads(value) for value in values])
            names.append(name)
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return msgspec.convert(rows, list[kind])  # type: ignore[valid-type]


def _read_array(path: Path) -> NDArray[np.int64]:
    table = _read_table(path)
    if not table.num_columns:
        return np.empty((0, 0), np.int64)
    return np.column_stack([column.to_numpy() for column in table.columns]).astype(np.int64, copy=False)


def _wide(array: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """The array, checked: as wide as this version's rows."""
    if len(array) and array.shape[1] != width:
        raise ValueError(f"rows of {array.shape[1]} columns where {width} are known")
    return array.reshape(-1, width)


def _read_connections(inner: Path, sources: list[Source]) -> Connections:
    from analyzer.timeline.points import Connections, Point

    saved = json.loads((inner / "connections.json").read_bytes())
    by_id = {source.id: source for source in sources}
    points = [
        Point(by_id[point["source"]], _read_capture(inner, p, point["data"])) for p, point in enumerate(saved["points"])
    ]
    members = _read_array(inner / "members.parquet")
    if len(members) and (members >= [len(point.rows) for point in points]).any():
        raise ValueError("connections refer to rows that are not there")
    connections = Connections(points, members, saved["nearness"])
    connections.environment = {int(k): v for k, v in saved["environment"].items()}
    connections.environment_tie = {int(k): v for k, v in saved["environment_tie"].items()}
    connections.transports = {int(k): v for k, v in saved["transports"].items()}
    if saved["listed"] is not None:
        connections.listed = np.array(saved["listed"], np.int64)
    return connections


def _read_capture(inner: Path, p: int, saved: dict[str, Any]) -> CaptureData:
    from analyzer.capture import reader
    from analyzer.capture.columns import N_COLUMNS
    from analyzer.tcp.fields import N_FIELDS

    hints = get_type_hints(reader.CaptureData, {**vars(reader), "NDArray": np.ndarray})
    plain = {
        name: msgspec.convert(saved[name], hints[name], strict=False)
        for name in _plain_fields(reader.CaptureData())
        if name in saved
    }
    rows = _wide(_read_array(inner / f"point-{p}-rows.parquet"), N_FIELDS)
    kept = _wide(_read_array(inner / f"point-{p}-segments.parquet"), N_COLUMNS + 2)
    data = reader.CaptureData(rows=rows, **plain)
    data.uids, data.kinds, data.segments = kept[:, 0], kept[:, 1], kept[:, 2:]
    data.complete = True  # of what there is no more, nothing can be read again
    return data
