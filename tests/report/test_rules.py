"""The list of rules and the reference that is made of them."""

from __future__ import annotations

import json
import os

import pytest

from analyzer.report.rules import as_json, listing, reference
from analyzer.report.style import Style
from analyzer.rules import rules
from tests.helpers import ROOT
from tests.test_cli import analyze

REFERENCE = ROOT / "docs" / "rules.md"


def test_the_reference_is_current():
    if os.environ.get("ANALYZER_WRITE_GOLDEN"):
        REFERENCE.write_text(reference())
    assert reference() == REFERENCE.read_text(), "run `analyze rules --format markdown -o docs/rules.md`"


def test_the_reference_links_to_each_rule():
    text = REFERENCE.read_text()
    for rule in rules():
        assert f"](#{rule.CODE.lower()}-{rule.NAME})" in text and f"\n## {rule.CODE} {rule.NAME}\n" in text
    assert text.count("```") % 2 == 0


def test_the_list_as_json():
    listed = json.loads(as_json())["rules"]
    assert [one["code"] for one in listed] == [rule.CODE for rule in rules()]
    k101 = next(one for one in listed if one["code"] == "K101")
    assert (k101["severities"], k101["from_logs"]) == (["warning", "error"], ["likely", "certain"])
    assert k101["thresholds"][0]["name"] == "K101.overshoot_ms"
    assert k101["thresholds"][0]["default"] == 250 and k101["thresholds"][0]["unit"] == "ms"


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_list_fits(width):
    lines = listing(Style(width=width)).splitlines()
    assert max(map(len, lines)) <= width
    assert all(any(line.startswith(rule.CODE) for line in lines) for rule in rules())


def test_the_command(tmp_path):
    target = tmp_path / "rules.json"
    assert analyze("rules", "--format", "json", "-o", target).returncode == 0
    assert target.read_text() == as_json()
    assert b"K101" in analyze("rules").stdout
