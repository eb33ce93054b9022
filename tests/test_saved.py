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
from typer.testing import CliRunner

import analyzer
from analyzer import saved
from analyzer.capture import again, reader
from analyzer.cli import app
from analyzer.deep import DeepFrame
from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Evidence, Finding, Severity, Silence
from analyzer.model.tables import TABLES
from analyzer.report.document import dumps
from analyzer.rules import rules, run
from analyzer.timeline import points
from analyzer.trace import Trace
from tests.capture import packets
from tests.conftest import shared_folder
from tests.helpers import CAPTURES, CASES, ROOT

FROZEN = CAPTURES / "frozen-keepalive"
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


def manifest_with(folder: Path, **changes: object) -> None:
    """Change what the folder says of itself, and seal its files as they are now."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {name: saved._seal(folder / name) for name in manifest["files"]}
    path.write_text(json.dumps(manifest | changes))


def test_a_newer_one_says_so(folder: Path) -> None:
    manifest_with(folder, version=99, analyzer="9.9")
    this = f"this one reads version {saved.VERSION}"
    with pytest.raises(analyzer.InputError, match=rf"saved by analyzer 9\.9 in version 99, {this}"):
        analyzer.load(folder)


def test_a_field_that_is_not_known_is_left_out(folder: Path) -> None:
    path = folder / "story" / "events.parquet"
    table = saved._read_table(path)
    saved.write_table(path, table.append_column("later", table.column("kind")).drop_columns(["level"]))
    manifest_with(folder)
    loaded = analyzer.load(folder)
    assert len(loaded.story.events) == table.num_rows and all(e.level is None for e in loaded.story.events)


def harmed(path: Path, harm: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
    path.unlink()
    if harm != "gone":
        path.write_bytes({"cut": content[:middle], "empty": b"", "flipped": flipped}[harm])


@pytest.mark.parametrize("harm", ["gone", "cut", "empty", "flipped"])
def test_damage_of_any_file_is_one_line(folder: Path, harm: str) -> None:
    """Each file that a trace is rebuilt from is named when it is not what was saved."""
    names = [p.name for p in sorted((folder / "story").iterdir())]
    assert len(names) >= 12 and {"events.parquet", "frames.parquet", "members.parquet"} <= set(names)
    for name in names:
        path = folder / "story" / name
        whole = path.read_bytes()
        harmed(path, harm)
        with pytest.raises(analyzer.InputError) as error:
            analyzer.read(folder)
        assert "damaged saved trace" in str(error.value) and name in str(error.value)
        assert "\n" not in str(error.value)
        path.write_bytes(whole)
    assert analyzer.read(folder).findings


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"format": "analyzer-trace"}',
        b'{"format": "other", "version": 1}',
        b"\xff\xfe",
    ],
)
def test_a_damaged_manifest_is_one_line(folder: Path, content: bytes | None) -> None:
    (folder / "manifest.json").unlink()
    if content is not None:
        (folder / "manifest.json").write_bytes(content)
    with pytest.raises(analyzer.InputError, match="damaged saved trace") as error:
        analyzer.read(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["files", "aligned", "skipped", "window", "outside"])
def test_a_manifest_that_lacks_something_is_damaged(folder: Path, key: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest[key]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(analyzer.InputError, match=f"damaged saved trace: '{key}'"):
        analyzer.load(folder)


def test_rows_that_are_not_there_are_damage(folder: Path) -> None:
    """A trace of which one table is another's, sealed as it is."""
    rows = folder / "story" / "point-0-rows.parquet"
    saved.write_table(rows, saved._array_table(analyzer.load(folder).story.connections.points[0].rows[:0]))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["story/point-0-rows.parquet"] = saved._seal(rows)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(analyzer.InputError, match="refer to rows that are not there"):
        analyzer.load(folder)


def test_tables_for_others_may_go(folder: Path) -> None:
    whole = dumps(analyzer.load(folder).document())
    for name in TABLES:
        (folder / f"{name}.parquet").unlink()
    assert dumps(analyzer.load(folder).document()) == whole


def test_tables_say_what_their_columns_mean(folder: Path) -> None:
    for name, columns in TABLES.items():
        schema = saved._read_table(folder / f"{name}.parquet").schema
        assert schema.metadata[b"analyzer.schema"] == b"analyzer-tables/1"
        assert schema.metadata[b"analyzer.table"] == name.encode()
        assert [field.metadata[b"doc"].decode() for field in schema] == [column.doc for column in columns]


def test_a_view_and_frames_of_deep_mode_come_back(tmp_path: Path) -> None:
    trace = analyzer.read(CASES[0])
    segment = trace.story.connections.segments(0)[5]
    trace.deep[0] = [DeepFrame(True, "http2", "ping", "PING", 0, segment.places[0])]
    narrow = trace.view(connection="C1", until=segment.time_ns)
    narrow.save(tmp_path / "narrow.trace")
    again = analyzer.load(tmp_path / "narrow.trace")
    assert_same(narrow, again)
    assert again.deep == trace.deep and (again.events["layer"] == "http2").sum() == 1


# ---- commands


COMMANDS = [
    ("diagnose",), ("pcap",), ("grpc-log",), ("lambda-log",), ("timeline", "C1"), ("timeline", "F1"), ("timeline", "20e6082e"),
    ("timeline", "b9cb51a5"), ("diagnose", "--format", "json"), ("timeline", "F1", "--format", "json"),
]  # fmt: skip


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("frozen") / "case.trace"
    analyzer.read(FROZEN).save(path)
    return path


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[int, str]:
    """(exit status, output) of a command, in this process."""
    monkeypatch.setenv("COLUMNS", "100")
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    return done.exit_code, done.stdout + done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_takes_a_saved_trace(
    command: tuple[str, ...], frozen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    whole = run_command(monkeypatch, *command, FROZEN)
    of_saved = run_command(monkeypatch, *command, frozen)
    assert of_saved[0] == 0 and of_saved[1]
    if command[0] in ("diagnose", "timeline"):
        skipped = "skipped (no input)"
        lines = [line for line in whole[1].splitlines() if not line.startswith(skipped)]
        assert [line for line in of_saved[1].splitlines() if not line.startswith(skipped)] == lines


def test_pictures_are_drawn_of_saved_traces(frozen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("C1", "F1", "20e6082e", "b9cb51a5"):
        target = tmp_path / f"{name}.svg"
        assert run_command(monkeypatch, "timeline", name, frozen, "-o", target) == (0, "")
        again = tmp_path / "again.svg"
        assert run_command(monkeypatch, "timeline", name, FROZEN, "-o", again) == (0, "")
        assert target.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(
    "command", [("extract", "C1", "-o", "x.pcap"), ("diagnose", "--deep"), ("timeline", "C1", "--deep")], ids=" ".join
)
def test_what_needs_packets_says_so(
    command: tuple[str, ...], frozen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, *rest = command
    status, said = (
        run_command(monkeypatch, name, *rest[:1], frozen, *rest[1:])
        if name != "diagnose"
        else run_command(monkeypatch, name, frozen, *rest)
    )
    assert status == 2 and "a saved trace keeps no packets as they were: give the captures themselves" in said
    assert not (tmp_path / "x.pcap").exists()


def test_a_packet_is_read_from_the_capture_while_it_is_there(frozen: Path, tmp_path: Path) -> None:
    pytest.importorskip("scapy")
    case = tmp_path / "case"
    shutil.copytree(FROZEN, case)
    analyzer.read(case).save(tmp_path / "case.trace")
    loaded = analyzer.load(tmp_path / "case.trace")
    ref = f"{loaded.story.connections.points[0].source.id}#1"
    assert loaded.packet(ref)
    shutil.rmtree(case)
    with pytest.raises(analyzer.InputError, match=r"server\.pcap: the capture is not there any more"):
        loaded.packet(ref)


def test_a_folder_that_holds_one_is_read_without_it(tmp_path: Path) -> None:
    case = tmp_path / "case"
    shutil.copytree(CASES[-1], case)
    plain = dumps(analyzer.read(case).document())
    analyzer.read(case).save(case / "case.trace")
    assert dumps(analyzer.read(case).document()) == plain
