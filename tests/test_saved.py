"""Saved traces: what is loaded is what was saved, other programs read the tables, damage is one clear line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import analyzer
from analyzer import saved
from analyzer.capture import again, reader
from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Evidence, Finding, Severity, Silence
from analyzer.model.tables import TABLES
from analyzer.report.document import dumps
from analyzer.rules import rules, run
from analyzer.timeline import points
from analyzer.trace import Trace
from tests.capture import packets
from tests.conftest import shared_folder
from tests.helpers import CASES, ROOT

FIRES = [pytest.param(case, id=f"{rule.CODE}-{n}") for rule in rules() for n, case in enumerate(rule.FIRES[:1], 1)]
CONFORMANCE = sorted(p.parent for p in (shared_folder() or ROOT / "none").glob("cases/*/expected.json"))


def assert_same(trace: Trace, again: Trace) -> None:
    assert dumps(trace.document()) == dumps(again.document())
    for name in TABLES:
        if name != "findings":
            assert getattr(trace, name).equals(getattr(again, name)), name
    for connection in trace.connections["id"][:20]:
        assert trace.timeline(connection).equals(again.timeline(connection))


@pytest.mark.parametrize("case", [*CASES, *CONFORMANCE], ids=lambda p: p.name)
def test_what_is_loaded_is_what_was_saved(case: Path, tmp_path: Path) -> None:
    trace = analyzer.read(case)
    trace.save(tmp_path / "case.trace")
    assert_same(trace, analyzer.load(tmp_path / "case.trace"))
    assert [p.name for p in tmp_path.iterdir()] == ["case.trace"]


@pytest.mark.parametrize("case", FIRES)
def test_every_finding_survives(case, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    story = case.story()
    trace = Trace(story, run(story))
    trace.save(tmp_path / "case.trace")
    assert_same(trace, analyzer.load(tmp_path / "case.trace"))


TEXT = st.text(max_size=20) | st.just("\ud800 torn")
EVENTS = st.builds(
    Event, source=st.just("s1"), ref=TEXT, layer=st.sampled_from(["app", "grpc"]), kind=TEXT, text=TEXT,
    source_ns=st.none() | st.integers(-(2**63), 2**63 - 1), environment=st.none() | TEXT,
    attrs=st.dictionaries(TEXT, st.none() | st.booleans() | st.integers(-(2**60), 2**60) | TEXT, max_size=3),
    also=st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple), order=st.integers(0, 2**40),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(events=st.lists(EVENTS, max_size=5))
def test_records_come_back(events: list[Event], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("records") / "events.parquet"
    saved.write_table(path, saved._record_table(events, Event))
    back = saved._read_records(path, Event)
    assert repr(back) == repr(events).replace("\\ud800", "?")


def test_findings_come_back(tmp_path: Path) -> None:
    evidence = [Evidence("s1", "#1", "pcap", 5, None, "→ FIN", primary=True, also=(("s2", "#3"),))]
    finding = Finding(
        "F201", "stall", Severity.WARNING, Confidence.LIKELY, "t", 5, evidence, "why",
        silences=[Silence(1, 2, "quiet")], connections=["C1"], id="F1",
    )  # fmt: skip
    saved.write_table(tmp_path / "f.parquet", saved._record_table([finding], Finding))
    assert saved._read_records(tmp_path / "f.parquet", Finding) == [finding]


# ---- large captures


def test_of_a_large_capture_the_flagged_connections_keep_their_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (reader, again, points):
        monkeypatch.setattr(module, "KEEP_SEGMENTS", 40)
    (tmp_path / "many.pcap").write_bytes(packets.pcap(packets.conversations(seed=3, count=120)))
    trace = analyzer.read(tmp_path / "many.pcap")
    flagged = sorted({c for f in trace.findings for c in f.connections})
    assert flagged
    trace.save(tmp_path / "many.trace")
    loaded = analyzer.load(tmp_path / "many.trace")
    assert loaded.connections.equals(trace.connections)
    assert loaded.timeline(flagged[0]).equals(trace.timeline(flagged[0]))
    kept = loaded.story.connections.points[0].data
    assert 0 < len(kept.segments) < trace.story.connections.points[0].data.tcp
    assert set(np.unique(kept.uids).tolist()) <= {int(c[1:]) - 1 for c in flagged}


# ---- other programs, and damage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    analyzer.read(CASES[-1]).save(tmp_path / "case.trace")
    return tmp_path / "case.trace"


#: DuckDB reads every table and prints columns and rows; in a process of its own, which it leaves with a long farewell.
ANOTHER_PROGRAM = """
import duckdb, json, sys
from pathlib import Path
out = {}
for path in sorted(Path(sys.argv[1]).glob("*.parquet")):
    found = duckdb.sql(f"select * from read_parquet('{path}')")
    out[path.stem] = [found.columns, found.shape[0]]
rows = duckdb.sql(f"select client, history from '{sys.argv[1]}/connections.parquet' order by id").fetchall()
print(json.dumps([out, rows]))
"""


def test_tables_are_read_by_another_program(folder: Path) -> None:
    trace = analyzer.load(folder)
    done = subprocess.run([sys.executable, "-c", ANOTHER_PROGRAM, str(folder)], capture_output=True, check=True)
    found, rows = json.loads(done.stdout)
    assert set(found) == set(TABLES)
    for name, (columns, number) in found.items():
        assert columns == [column.name for column in TABLES[name]]
        assert number == len(trace.findings_frame if name == "findings" else getattr(trace, name))
    assert rows == [list(r) for r in zip(trace.connections["client"], trace.connections["history"], strict=True)]


def test_an_older_one_is_replaced_anything_else_is_not(folder: Path) -> None:
    analyzer.read(CASES[0]).save(folder)
    assert len(analyzer.load(folder).findings) == len(analyzer.read(CASES[0]).findings)
    assert [p.name for p in folder.parent.iterdir()] == ["case.trace"]
    other = folder.parent / "notes"
    other.mkdir()
    with pytest.raises(analyzer.InputError, match="no saved trace; choose another name"):
        analyzer.read(CASES[0]).save(other)


def test_a_newer_one_says_so(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"version": 99, "analyzer": "9.9"}))
    with pytest.raises(analyzer.InputError, match=r"saved by analyzer 9\.9 in version 99, this one reads version 2"):
        analyzer.load(folder)


def test_a_field_that_is_not_known_is_left_out(folder: Path) -> None:
    path = folder / "story" / "events.parquet"
    table = saved._read_table(path)
    saved.write_table(path, table.append_column("later", table.column("kind")).drop_columns(["level"]))
    assert len(analyzer.load(folder).events) == table.num_rows + len(
        [e for e in analyzer.load(folder).events["layer"] if e == "tcp"]
    )


@pytest.mark.parametrize("name", ["members.parquet", "events.parquet", "point-0-segments.parquet", "connections.json"])
@pytest.mark.parametrize("harm", ["gone", "cut", "empty", "flipped"])
def test_damage_is_one_line(folder: Path, name: str, harm: str) -> None:
    path = folder / "story" / name
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
        path.write_bytes({"cut": content[:middle], "empty": b"", "flipped": flipped}[harm])
    try:
        loaded = analyzer.load(folder)
    except analyzer.InputError as error:
        assert "damaged saved trace" in str(error)
        assert "\n" not in str(error)
    else:  # a byte that says nothing: text of JSON, or padding
        assert harm == "flipped"
        assert len(loaded.connections)


def test_a_folder_that_holds_one_is_read_without_it(tmp_path: Path) -> None:
    case = tmp_path / "case"
    shutil.copytree(CASES[-1], case)
    plain = dumps(analyzer.read(case).document())
    analyzer.read(case).save(case / "case.trace")
    assert dumps(analyzer.read(case).document()) == plain
