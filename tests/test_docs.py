"""Pages that are made of the program are what it would make now, and what they tell to type works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec

import pytest

import analyzer
from analyzer.model.tables import TABLES
from tests.capture.test_tshark import DIFFERENT
from tests.helpers import CAPTURES, ROOT
from tests.test_corpus import DIFFERENCES

MAKE = ROOT / "docs" / "make.py"


@pytest.fixture(scope="module")
def pages():
    """What `docs/make.py` would write, in two runs with other hashes."""
    code = "import json, runpy, sys; m = runpy.run_path(sys.argv[1]); print(json.dumps({k: f() for k, f in m['PAGES'].items()}))"
    made = [
        subprocess.run(
            [sys.executable, "-c", code, str(MAKE)], capture_output=True, text=True, check=True, cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert made[0] == made[1]
    return json.loads(made[0])


def blocks(name):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / name).read_text(), re.M | re.S)


@pytest.mark.parametrize("name", ["api.md", "saved-trace.md"])
def test_pages_are_current(pages, name):
    assert (ROOT / "docs" / name).read_text() == pages[name].rstrip("\n") + "\n", "run python docs/make.py"


def test_every_table_and_column_is_told():
    api, saved = ((ROOT / "docs" / name).read_text() for name in ("api.md", "saved-trace.md"))
    for name, columns in TABLES.items():
        assert f"### `trace.{'findings_frame' if name == 'findings' else name}`" in api
        assert f"### `{name}.parquet`" in saved
        for column in columns:
            assert f"| `{column.name}` |" in api and column.doc.replace("|", "\\|") in saved


def test_the_api_examples_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    scope = {}
    for block in blocks("api.md"):
        exec(compile(block, "api.md", "exec"), scope)
    assert scope["local"].dt.strftime("%H:%M").iloc[0] == "02:49"


@pytest.mark.parametrize("library", ["duckdb", "polars"])
def test_other_programs_read_a_saved_trace(library, tmp_path):
    """In a process of its own: these libraries take their time to leave."""
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    analyzer.read(CAPTURES / "frozen-keepalive").save(tmp_path / "case.trace")
    (block,) = [b for b in blocks("saved-trace.md") if f"import {library}" in b]
    lines = block.rstrip().splitlines()
    last = max(n for n, line in enumerate(lines) if line and not line[0].isspace() and not line.startswith('"'))
    shown = "\n".join([*lines[:last], f"shown = {lines[last]}", *lines[last + 1 :], "print(shown)"])
    done = subprocess.run([sys.executable, "-c", shown], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "inner" in done.stdout or "success" in done.stdout


def test_the_differences_from_other_readers_are_those_that_are_told() -> None:
    """`docs/accuracy.md` has the rows of the tests' own tables."""
    text = (ROOT / "docs" / "accuracy.md").read_text()
    tshark, counts = text.split("## tshark")[1].split("## Connections of every")
    told = {
        name.rpartition("/")[2]: set(kinds.split(", "))
        for files, kinds in re.findall(r"^\| (`.*`) \| ([a-z_, ]+) \|", tshark, re.MULTILINE)
        for name in re.findall("`([^`]+)`", files)
    }
    assert told == {name.rpartition("/")[2]: what for name, (what, _) in DIFFERENT.items()}
    reasons = Counter(line.split("\t")[3] for line in DIFFERENCES.read_text().splitlines()[1:])
    assert sorted(map(int, re.findall(r"^\| (\d+) \|", counts, re.MULTILINE))) == sorted(reasons.values())
    assert f"but in {reasons.total()}, in {reasons.total() - 1} of which" in counts
