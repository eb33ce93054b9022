"""The JSON document: it keeps the published schema, depends on nothing but its inputs, and agrees with the tables."""

from __future__ import annotations

import itertools
import json
import shutil
from importlib.resources import files

import jsonschema
import pytest

import analyzer
from analyzer.model.tables import TABLES
from analyzer.report import document as doc
from analyzer.rules import rules, run
from analyzer.tcp.states import LETTERS, STATES
from analyzer.trace import Trace
from tests.conftest import shared_folder
from tests.helpers import CASES, ROOT

SCHEMA = json.loads((files("analyzer.model") / "schema" / "analyzer-1.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FIRES = [pytest.param(case, id=f"{rule.CODE}-{n}") for rule in rules() for n, case in enumerate(rule.FIRES, 1)]
CONFORMANCE = sorted(p.parent for p in (shared_folder() or ROOT / "none").glob("cases/*/expected.json"))


def problems(trace: Trace) -> list[str]:
    """What of a trace's document breaks the schema, as it is written."""
    written = json.loads(doc.dumps(trace.document()))
    return [f"{e.json_path}: {e.message[:200]}" for e in VALIDATOR.iter_errors(written)]


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_lists_every_state_and_history_letter():
    assert SCHEMA["$defs"]["state"]["enum"] == list(STATES)
    history = SCHEMA["$defs"]["connection"]["properties"]["history"]["pattern"]
    jsonschema.validate(LETTERS, {"type": "string", "pattern": history})


def test_fields_may_be_added_but_none_may_be_missing():
    """Every object of the schema requires all that it describes, and accepts more."""
    objects = [SCHEMA, *SCHEMA["$defs"].values()]
    described = [o for o in objects if "properties" in o]
    assert len(described) > 10
    for o in described:
        assert o["additionalProperties"] is True
        assert o["required"] == list(o["properties"])


def test_every_field_is_described():
    for name, definition in SCHEMA["$defs"].items():
        for field, meaning in definition.get("properties", {}).items():
            assert meaning.get("description") or "$ref" in meaning, f"{name}.{field}"


@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_documents_of_captures_keep_the_schema(folder):
    assert problems(analyzer.read(folder)) == []


@pytest.mark.parametrize("case", FIRES)
def test_documents_of_rule_cases_keep_the_schema(case):
    story = case.story()
    trace = Trace(story, run(story))
    assert trace.findings
    assert problems(trace) == []


@pytest.mark.shared
@pytest.mark.parametrize("folder", CONFORMANCE, ids=lambda p: p.name)
def test_documents_of_conformance_cases_keep_the_schema(folder):
    assert problems(analyzer.read(folder)) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("conn_state", "GOOD"),
        ("client_state", "ESTAB"),
        ("ended_by", "nobody"),
        ("opened", "2026-11-21T00:00:00Z"),
        ("client", "10.0.0.1"),
    ],
)
def test_the_schema_rejects_what_the_contract_does_not_allow(field, value):
    document = analyzer.read(CASES[0]).document()
    document["connections"][0][field] = value
    assert [e.json_path for e in VALIDATOR.iter_errors(document)] == [f"$.connections[0].{field}"]


@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_the_same_input_gives_the_same_bytes(folder):
    once, again = (doc.dumps(analyzer.read(folder).document()) for _ in range(2))
    assert once == again


def test_the_order_of_the_inputs_changes_nothing(tmp_path):
    """Two captures and two logs of different scenes: as many things to put in order as there are."""
    paths = []
    for folder in CASES[:2]:
        for name in ("lambda.json", "server.pcap"):
            paths.append(shutil.copy(folder / name, tmp_path / f"{folder.name}-{name}"))
    written = {doc.dumps(analyzer.read(*order).document()) for order in itertools.permutations(paths)}
    assert len(written) == 1


@pytest.mark.shared
def test_the_order_of_many_inputs_changes_nothing(shared):
    folder = shared / "cases" / "1b_upstash_zombie_rst"
    paths = [folder / name for name in ("fn.pcap", "srv.pcap", "lambda.json", "redis.log")]
    written = {doc.dumps(analyzer.read(*order).document()) for order in itertools.permutations(paths)}
    assert len(written) == 1


def test_a_folder_and_its_files_are_the_same_input():
    folder = CASES[0]
    named = analyzer.read(folder / "server.pcap", folder / "lambda.json").document()
    whole = analyzer.read(folder).document()
    for document in (named, whole):
        document["summary"].pop("skipped")
    assert named == whole


ROWS = {name: name for name in TABLES if name not in ("events", "ties")}


@pytest.mark.parametrize("table", ROWS)
def test_tables_have_the_columns_of_the_documents_rows(table):
    """A table leaves out only what is a table of its own (evidence) or prose for one reader (clock)."""
    row = next(iter(_documents_rows(table)))
    columns = [c.name for c in TABLES[table]]
    left_out = {"findings": {"evidence", "clock"}}.get(table, set())
    assert set(columns) == set(row) - left_out
    assert set(row) == set(SCHEMA["$defs"][table.removesuffix("s")]["properties"])


def _documents_rows(table: str):
    for folder in CASES:
        yield from analyzer.read(folder).document()[table]


def test_hostile_text_is_still_a_document():
    assert json.loads(doc.dumps({"text": "\ud800 $x$ \x1b[31m"}))["text"].endswith("$x$ \x1b[31m")


@pytest.mark.parametrize("paths", [["captures/zombie-fin-wait-2"], ["captures/healthy/lambda.json"]])
def test_the_document_in_pieces_is_the_document(paths, monkeypatch):
    trace = analyzer.read(*(ROOT / path for path in paths))
    whole = doc.dumps(trace.document())
    for block in (1, 3, 10_000):
        monkeypatch.setattr(doc, "BLOCK", block)
        assert b"".join(doc.stream(trace.story, trace.findings)) == whole
