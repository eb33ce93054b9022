"""Every rule: documented, fires on its FIRES, silent on its QUIET."""

from __future__ import annotations

import inspect
import re

import pytest

from analyzer.model.findings import Confidence, Severity
from analyzer.report.explain import explanation
from analyzer.report.style import Style
from analyzer.rules import rules, run
from tests.helpers import check_golden

RULES = rules()
SECTIONS = ("## What it does", "## Why it matters", "## What to do", "## Known limits")


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.CODE)
def test_is_documented(rule):
    assert rule.__name__.rsplit(".", 1)[1] == f"{rule.CODE.lower()}_{rule.NAME.replace('-', '_')}"
    assert rule.__doc__.splitlines()[0] == rule.NAME
    positions = [rule.__doc__.find(section) for section in SECTIONS]
    assert -1 not in positions and positions == sorted(positions)
    assert rule.FIRES and rule.QUIET
    given = set(re.findall(r"Severity\.([A-Z]+)", inspect.getsource(rule)))
    assert tuple(one for one in Severity if one.name in given) == rule.SEVERITIES


@pytest.mark.parametrize(
    ("rule", "case"), [(r, c) for r in RULES for c in r.FIRES], ids=lambda x: getattr(x, "CODE", None) or x.what
)
def test_fires(rule, case):
    story = case.story()
    mine = [f for f in run(story) if f.rule == rule.CODE]
    assert len(mine) == 1
    (finding,) = mine
    assert sum(e.primary for e in finding.evidence) == 1
    assert [e.time_ns for e in finding.evidence] == sorted(e.time_ns for e in finding.evidence)
    assert finding.why and finding.help and finding.title
    assert finding.ruled_out
    if finding.confidence is Confidence.POSSIBLE:
        assert finding.upgrade, "less than certain says what would settle it"


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.CODE)
def test_what_logs_alone_prove(rule):
    """`FROM_LOGS` is what its cases without packets show; a rule that has none needs packets."""
    alone = [c for c in rule.FIRES if not c.packets and not c.server_packets]
    assert bool(alone) == hasattr(rule, "FROM_LOGS")
    for case in alone:
        least, most = rule.FROM_LOGS
        assert all(least <= f.confidence <= most for f in run(case.story()) if f.rule == rule.CODE)


@pytest.mark.parametrize(
    ("rule", "case"), [(r, c) for r in RULES for c in r.QUIET], ids=lambda x: getattr(x, "CODE", None) or x.what
)
def test_is_quiet(rule, case):
    assert rule.CODE not in {f.rule for f in run(case.story())}


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.CODE)
def test_explanation(rule):
    check_golden(f"explain-{rule.CODE}.txt", explanation(rule.CODE, Style(width=100)))


def test_the_cause_is_named():
    case = next(r for r in RULES if r.CODE == "F203").FIRES[0]
    found = {f.rule: f for f in run(case.story())}
    assert found["F203"].caused_by == [found["F202"].id]
    assert "R303" not in found
