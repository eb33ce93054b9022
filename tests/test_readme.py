"""The README stays true: its finding is what the command prints, its Python runs, its rules exist."""

from __future__ import annotations

import re

from analyzer.rules import rules
from tests.helpers import GOLDEN, ROOT

README = (ROOT / "README.md").read_text()


def test_the_finding_on_the_first_screen_is_real():
    block = README.split("$ analyze diagnose captures/frozen-keepalive\n", 1)[1].split("```", 1)[0]
    assert block in (GOLDEN / "frozen-keepalive-120.txt").read_text()


def test_every_rule_is_listed():
    listed = set(re.findall(r"^\| ([A-Z]\d{3}) \|", README, re.M))
    assert listed == {r.CODE for r in rules()}


def test_the_python_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    code = README.split("```python\n", 1)[1].split("```", 1)[0]
    exec(compile(code, "README.md", "exec"), {})
