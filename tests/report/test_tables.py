"""Tables for other programs: what is written is what the frames hold, and nothing of it is computed by a spreadsheet."""

from __future__ import annotations

import csv
import io
import json

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import analyzer
from analyzer.model.tables import TABLES, frame
from analyzer.report import tables
from tests.helpers import CASES

TRACE = analyzer.read(CASES[-1])


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_form_holds_every_row_and_column(name: str) -> None:
    whole = tables.frame_of(TRACE, name)
    columns = [column.name for column in TABLES[name]]
    lines = list(csv.DictReader(io.StringIO(b"".join(tables.csv(whole)).decode(), newline="")))
    objects = [json.loads(line) for line in b"".join(tables.json_lines(whole)).splitlines()]
    table = pq.read_table(io.BytesIO(b"".join(tables.parquet(whole))))
    assert len(lines) == len(objects) == table.num_rows == len(whole)
    assert table.column_names == columns
    if len(whole):
        assert list(lines[0]) == list(objects[0]) == columns


def test_objects_are_those_of_the_document() -> None:
    document = TRACE.document()
    for name in ("connections", "invocations", "freezes"):
        for mine, theirs in zip(
            map(json.loads, tables.json_lines(tables.frame_of(TRACE, name))), document[name], strict=True
        ):
            for key, value in theirs.items():
                if key in mine and not isinstance(value, float):
                    timed = key in ("opened", "closed", "start", "end") and value is not None
                    of = pd.Timestamp if timed else lambda same: same
                    assert of(mine[key]) == of(value), (name, key)


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(max_size=30) | st.sampled_from(["=1+1", "@SUM(A1)", "-2+3", "\t=x", "\ud800", 'a"b,c\r\nd', "\x1b[2J"])
)
def test_no_text_becomes_a_formula_or_a_control(text: str) -> None:
    table = frame("findings", [{"id": "F1", "title": text}])
    written = b"".join(tables.csv(table)).decode()
    rows = list(csv.DictReader(io.StringIO(written, newline="")))
    assert len(rows) == 1
    cell = rows[0]["title"]
    assert not cell.startswith(("=", "+", "-", "@"))
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in cell)


def test_a_line_a_finding() -> None:
    lines = b"".join(tables.concise(TRACE)).decode().splitlines()
    assert len(lines) == len(TRACE.findings)
    for line, finding in zip(lines, TRACE.findings, strict=True):
        assert f"{finding.severity.word}[{finding.rule}] {finding.title}" in line
        assert line.split(": ")[0] in {TRACE.story.source(e.source).at(e.ref) for e in finding.evidence}


def test_an_unknown_table_names_the_known() -> None:
    with pytest.raises(analyzer.InputError, match="calls, connections"):
        tables.frame_of(TRACE, "packets")
