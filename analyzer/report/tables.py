"""One table of a trace for other programs: CSV, JSON lines, Parquet; and findings a line each for an editor or a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import orjson
from msgspec.structs import asdict

from analyzer.model.problems import InputError
from analyzer.model.tables import TABLES
from analyzer.model.times import iso
from analyzer.report import document
from analyzer.report.escape import terminal

if TYPE_CHECKING:
    import pandas as pd

    from analyzer.timeline.timelines import Cut
    from analyzer.trace import Trace

#: Rows written at once.
BLOCK = 10_000
#: A spreadsheet takes a cell that begins so for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def frame_of(trace: Trace, name: str) -> pd.DataFrame:
    """The table of that name; raises `InputError` for none."""
    if name not in TABLES:
        raise InputError(f"--table {name!r}: one of {', '.join(sorted(TABLES))}")
    frame: pd.DataFrame = trace.findings_frame if name == "findings" else getattr(trace, name)
    return frame


def chosen(frame: pd.DataFrame, sort: str | None, limit: int | None) -> pd.DataFrame:
    """The table sorted by a column, largest first (smallest for `-NAME`; what is missing last), and cut; raises `InputError` for no column."""
    if sort is not None:
        column = sort.removeprefix("-")
        if column not in frame.columns or frame[column].dtype == object:
            plain = [c for c in frame.columns if frame[c].dtype != object]
            raise InputError(f"--sort {sort!r}: one of {', '.join(plain)}")
        frame = frame.sort_values(column, ascending=sort != column, kind="stable", na_position="last")
    return frame if limit is None else frame.head(limit)


def csv(frame: pd.DataFrame) -> Iterator[bytes]:
    """RFC 4180, UTF-8, times in ISO 8601, lists as JSON. Text that a spreadsheet would compute gets an apostrophe."""
    plain = frame.copy()
    for column in plain.columns:
        if plain[column].dtype == object:
            plain[column] = [_json(value) for value in plain[column]]
        elif str(plain[column].dtype) == "str":
            plain[column] = [_inert(value) if isinstance(value, str) else None for value in plain[column]]
        elif str(plain[column].dtype).startswith("datetime"):
            plain[column] = plain[column].map(_iso, na_action="ignore")
    for start in range(0, max(len(plain), 1), BLOCK):
        text = plain.iloc[start : start + BLOCK].to_csv(index=False, header=start == 0, lineterminator="\r\n")
        yield text.encode("utf-8", "backslashreplace")


def _json(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()


def _iso(time: pd.Timestamp) -> str:
    return iso(time.value)


def _inert(text: str) -> str:
    text = terminal(text)
    return f"'{text}" if text.startswith(FORMULA) else text


def json_lines(frame: pd.DataFrame) -> Iterator[bytes]:
    """One object a row, times in ISO 8601 with nanoseconds, missing values null."""
    for row in objects(frame):
        yield orjson.dumps(row, default=str) + b"\n"


def objects(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows as JSON types."""
    for start in range(0, len(frame), BLOCK):
        block = frame.iloc[start : start + BLOCK]
        columns = [_plain(block[column]) for column in block.columns]
        for row in zip(*columns, strict=True):
            yield dict(zip(block.columns, row, strict=True))


def _plain(column: pd.Series[Any]) -> list[Any]:
    values = column.astype(object).where(column.notna(), None).tolist() if column.dtype != object else column.tolist()
    if str(column.dtype).startswith("datetime"):
        return [None if value is None else _iso(value) for value in values]
    return [value.encode("utf-8", "replace").decode() if isinstance(value, str) else value for value in values]


def parquet(frame: pd.DataFrame) -> Iterator[bytes]:
    """The table as `analyzer.saved` writes it."""
    from analyzer.saved import arrow_of, write_table

    out = io.BytesIO()
    write_table(out, arrow_of(frame))
    yield out.getvalue()


def timeline_as(trace: Trace, name: str, cut: Cut, form: str) -> Iterable[bytes]:
    """The timeline of what `name` stands for: `csv`, `jsonl` and `parquet` its rows, `json` the records beside them too."""
    frame = trace.timeline(name, **asdict(cut))
    if form != "json":
        return WRITERS[form](frame)
    told = trace.story_of(name, cut)
    return [document.dumps(document.timeline(trace.story, told, list(objects(frame))))]


def concise(trace: Trace) -> Iterator[bytes]:
    """A line a finding: where, how bad, which rule, what."""
    for finding in trace.findings:
        first = next((e for e in finding.evidence if e.primary), None) or next(iter(finding.evidence), None)
        where = trace.story.source(first.source).at(first.ref) if first else "-"
        subject = finding.connection or finding.environment or ""
        line = f"{where}: {finding.severity.word}[{finding.rule}] {finding.title}{f' ({subject})' if subject else ''}"
        yield terminal(line).encode("utf-8", "backslashreplace") + b"\n"


#: How one table is written, by the name of the format.
WRITERS = {"csv": csv, "jsonl": json_lines, "parquet": parquet}
