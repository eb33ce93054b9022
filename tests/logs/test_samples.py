"""Every public and recorded Lambda log: what is recognised in each, and which lines are rightly left alone."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from analyzer.logs.reader import pick, read_log
from analyzer.streams import open_stream, read_head

pytestmark = pytest.mark.shared
HERE = Path(__file__).parent
#: path, shape, records, environments, events by kind. `ANALYZER_WRITE_GOLDEN=1` rewrites it, to be read in the diff.
COUNTS = HERE / "lambda_counts.tsv"
#: Lines of application text that speak of trouble and are no event, by form: what a person judged of each.
JUDGED = HERE / "lambda_judged.tsv"

_TROUBLE = re.compile(r"error|fail|timed? ?out|closed|refused|reset|EPIPE|unavailable|lost|abort", re.IGNORECASE)
_VARIABLE = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|0x[0-9a-f]+|\d+")
_KINDS_WITHOUT = frozenset(("line",))


def files(shared: Path) -> list[Path]:
    return sorted(p for p in (shared / "samples" / "lambda").rglob("*") if p.is_file())


def read(path: Path):
    choice = pick(read_head(str(path)))
    if choice.envelope is None:
        return None, None
    with open_stream(str(path)) as stream:
        return choice.envelope.SHAPE, read_log(stream, str(path), choice)


def counted(path: Path, name: str) -> str:
    shape, data = read(path)
    if data is None:
        return f"{name}\tskipped"
    kinds = Counter(e.kind for e in data.events)
    environments = len({e.environment for e in data.events if e.environment})
    told = " ".join(f"{kind}={n}" for kind, n in sorted(kinds.items()))
    return f"{name}\t{shape}\t{data.records}\t{environments}\t{told}"


def test_counts(shared):
    found = [counted(path, str(path.relative_to(shared / "samples" / "lambda"))) for path in files(shared)]
    if os.environ.get("ANALYZER_WRITE_GOLDEN"):
        COUNTS.write_text("\n".join(found) + "\n")
    assert found == COUNTS.read_text().splitlines()


def test_what_is_not_recognised_was_judged(shared):
    judged = {line.split("\t")[0] for line in JUDGED.read_text().splitlines()}
    found: Counter[str] = Counter()
    for path in files(shared):
        _, data = read(path)
        for e in data.events if data else ():
            if e.kind in _KINDS_WITHOUT and _TROUBLE.search(e.text):
                found[form(e.text)] += 1
    assert set(found) <= judged, sorted(set(found) - judged)


def form(text: str) -> str:
    """The beginning of a text without what varies."""
    first = text.split("\n", 1)[0]
    return _VARIABLE.sub("#", first)[: 20 if first.startswith("{") else 40].strip().replace("\t", " ")


@pytest.mark.parametrize("stem", ["node-text", "node-json", "python-text", "python-json"])
def test_one_log_in_all_shapes_is_the_same_log(shared, stem):
    """The same events exported in every way: invocations and errors agree wherever the shape keeps both streams."""
    wanted = None
    for path in files(shared):
        if not path.name.startswith(f"{stem}.") or path.parent.name != "containers":
            continue
        _, data = read(path)
        kinds = Counter(e.kind for e in data.events)
        mine = {kind: kinds[kind] for kind in ("start", "report", "init-start", "timeout")}
        if "filter-log-events.json" in path.name:
            wanted = mine
        whole = not any(
            part in path.name for part in ("get-log-events", "console", "kinesis", "lambda-sub", "plain", "ansi")
        )
        if wanted and whole:
            assert mine == wanted, path.name
