"""The toy of CONTRIBUTING, installed by an entry point of another distribution, and neighbours that are broken."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

from tests.helpers import ROOT

ENVELOPE = """
from analyzer.logs.records import LogRecord
NAME, SHAPE, EXPECTS, LOST = "toy export", "toy-export", "`TOY n message`", ()

def score(head):
    return 1.0 if head.startswith("TOY ") else 0.0

def read(stream):
    for number, line in stream.lines():
        yield LogRecord(f":{number}", line.split(" ", 2)[2], int(line.split(" ")[1]) * 10**9, stream="toy/1")
"""
RUNTIME = """
from analyzer.logs.records import RuntimeLine
RANK, FIRST = 15, frozenset("<")

def parse(message):
    level, closed, body = message[1:].partition("> ")
    return RuntimeLine("app", body, level=level) if closed else None
"""
READ = """
import io, json, sys
from analyzer.logs.reader import pick, read_log
text = b"TOY 1 <WARN> toy: ping 7 sent\\nTOY 2 toy: nothing\\n"
data = read_log(io.BytesIO(text), "x", pick(text))
print(json.dumps([data.format, [[e.kind, e.number, e.level, e.event_ns, e.environment] for e in data.events], [p.what for p in data.problems]]))
"""


def toy() -> str:
    """The recogniser that CONTRIBUTING shows."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    return re.search(r"```python\n(\"\"\"Lines of the toy.*?)```", text, re.DOTALL)[1]


def test_entry_points_of_other_distributions(tmp_path):
    for name, code in (
        ("toy_dialect", toy()),
        ("toy_export", ENVELOPE),
        ("toy_runtime", RUNTIME),
        ("toy_broken", "1 / 0"),
    ):
        (tmp_path / f"{name}.py").write_text(code)
    info = tmp_path / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[connection_analyzer.recognisers]\ntoy = toy_dialect\nbroken = toy_broken\n"
        "[connection_analyzer.envelopes]\ntoy = toy_export\n[connection_analyzer.runtimes]\ntoy = toy_runtime\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    out = subprocess.run(
        [sys.executable, "-c", READ], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=True
    )
    shape, events, problems = json.loads(out.stdout)
    assert shape == "toy export"
    assert events == [["ping-sent", "7", "WARN", 10**9, "toy/1"], ["line", None, None, 2 * 10**9, "toy/1"]]
    assert [p for p in problems if "plug-in" in p] == [
        "plug-in broken (toy_broken): ZeroDivisionError: division by zero"
    ]
