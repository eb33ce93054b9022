"""Which rules are told, with which thresholds: choosing, refusing, and what a saved trace can still answer."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import analyzer
from analyzer import InputError, rule_set
from analyzer.model.findings import Confidence
from analyzer.rules import rules, run
from analyzer.rules._thresholds import COUNT, Values
from tests.helpers import CAPTURES

CASE = CAPTURES / "redis-closed-in-freeze"
ALL = [rule.CODE for rule in rules()]
DECLARED = [(rule, one) for rule in rules() for one in getattr(rule, "Thresholds", Values).declared.values()]


@pytest.mark.parametrize(
    ("select", "ignore", "told"),
    [
        ([], [], ALL),
        (["K"], [], [c for c in ALL if c[0] == "K"]),
        (["k10", "zombie-connection-reused"], [], ["F203", *(c for c in ALL if c.startswith("K10"))]),
        ([], ["F", "R30"], [c for c in ALL if c[0] != "F" and not c.startswith("R30")]),
        (["F"], ["F201"], [c for c in ALL if c[0] == "F" and c != "F201"]),
        (["F201"], ["F"], ["F201"]),
        (["F201"], ["F201"], []),
    ],
)
def test_the_longer_code_decides(select, ignore, told):
    chosen = rule_set(select, ignore)
    assert [code for code in ALL if chosen.has(code)] == told


@given(st.lists(st.sampled_from(ALL)), st.lists(st.sampled_from(ALL)))
def test_whole_codes_are_sets(select, ignore):
    chosen = rule_set(select, ignore)
    assert {c for c in ALL if chosen.has(c)} == set(select or ALL) - set(ignore)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"select": ["F9"]}, "select: no rule 'F9' (there are C401, "),
        ({"ignore": ["K111"]}, "ignore: no rule 'K111' (did you mean K101"),
        ({"select": ["zombie-connection-used"]}, "did you mean zombie-connection-reused?"),
        ({"select": "K101"}, "select: a list of rule codes is needed, not 'K101'"),
        ({"select": [""]}, "no rule ''"),
        ({"min_confidence": "sure"}, "min_confidence: no confidence 'sure' (one of certain, likely, possible)"),
        ({"thresholds": {"K101.overshot_ms": 1}}, "rule K101 has no threshold 'overshot_ms' (did you mean overshoot_ms, overshoot_share?)"),
        ({"thresholds": {"R304.x": 1}}, "rule R304 has no threshold 'x' (it has none)"),
        ({"thresholds": {"K101": 1}}, "'K101' names no threshold: write K101.NAME"),
        ({"thresholds": {"K191.overshoot_ms": 1}}, "no rule 'K191' (did you mean K101"),
        ({"thresholds": {"K101.overshoot_ms": "300"}}, "K101.overshoot_ms is a number of ms, not '300'"),
        ({"thresholds": {"K101.overshoot_ms": True}}, "is a number of ms, not True"),
        ({"thresholds": {"K105.least_probes": 2.5}}, "K105.least_probes is a whole number, not 2.5"),
        ({"thresholds": {"K101.overshoot_share": 1.5}}, "K101.overshoot_share is 0 to 1, not 1.5"),
        ({"thresholds": {"F201.stall_s": 0.5}}, "F201.stall_s is 1 to 315360000, not 0.5"),
        ({"thresholds": {"F201.stall_s": float("nan")}}, "F201.stall_s is 1 to 315360000, not nan"),
        ({"thresholds": {"F201.stall_s": 10**400}}, "F201.stall_s is 1 to"),
    ],
)  # fmt: skip
def test_what_no_rule_has_is_refused(asked, said):
    with pytest.raises(InputError) as refused:
        rule_set(**asked)
    assert said in str(refused.value)


def test_a_threshold_changes_what_a_rule_finds():
    story = next(r for r in rules() if r.CODE == "K105").FIRES[0].story()
    assert "K105" in {f.rule for f in run(story)}
    fussier = rule_set(thresholds={"keepalive-gave-up.least_probes": 5})
    assert fussier.thresholds == {"K105.least_probes": 5}
    assert "K105" not in {f.rule for f in run(story, fussier.settings)}
    assert "K105" in {f.rule for f in run(story)}, "nothing is left behind"


def test_a_choice_travels():
    chosen = rule_set(["K"], ["K101"], "likely", {"K105.least_probes": 5})
    assert repr(pickle.loads(pickle.dumps(chosen)).thresholds) == repr(chosen.thresholds)
    k105 = next(r for r in rules() if r.CODE == "K105")
    assert pickle.loads(pickle.dumps(chosen.settings))[k105.Thresholds].least_probes == 5


@pytest.mark.parametrize(("rule", "one"), DECLARED, ids=lambda x: getattr(x, "CODE", getattr(x, "name", "")))
def test_thresholds_are_declared_whole(rule, one):
    assert one.what and one.source and one.name
    assert one.least <= one.default <= one.most
    assert one.unit != COUNT or one.default == int(one.default)
    same = rule_set(thresholds={f"{rule.CODE}.{one.name}": int(one.default) if one.unit == COUNT else one.default})
    attribute = next(a for a, x in rule.Thresholds.declared.items() if x is one)
    assert getattr(same.settings[rule.Thresholds], attribute) == getattr(rule.Thresholds({}), attribute)


def test_findings_keep_their_ids_and_what_is_left_out_is_counted():
    whole = analyzer.read(CASE)
    assert whole.story.examined.rules == ALL and whole.story.examined.left_out == 0
    codes = {f.rule for f in whole.findings}
    assert len(codes) > 1
    for code in codes:
        part = analyzer.read(CASE, rules=rule_set([code]))
        assert [f.id for f in part.findings] == [f.id for f in whole.findings if f.rule == code]
        assert part.story.examined.left_out == len(whole.findings) - len(part.findings)
        assert all(cause in {f.id for f in part.findings} for f in part.findings for cause in f.caused_by)
    assert {f.confidence for f in analyzer.read(CASE, rules=rule_set(min_confidence="certain")).findings} <= {
        Confidence.CERTAIN
    }


def test_the_document_says_what_was_chosen():
    chosen = rule_set(["F"], min_confidence="likely", thresholds={"F201.stall_s": 2})
    said = analyzer.read(CASE, rules=chosen).document()["summary"]["examined"]
    assert said["rules"] == [c for c in ALL if c[0] == "F"]
    assert (said["min_confidence"], said["thresholds"]) == ("likely", {"F201.stall_s": 2})


def test_a_saved_trace_answers_what_it_can(tmp_path):
    saved = tmp_path / "x.trace"
    analyzer.read(CASE, rules=rule_set(["F"], thresholds={"F201.stall_s": 2})).save(saved)
    loaded = analyzer.read(saved)
    assert loaded.story.examined.thresholds == {"F201.stall_s": 2}
    assert loaded.story.examined.rules == [c for c in ALL if c[0] == "F"]
    narrower = analyzer.read(saved, rules=rule_set(["F203"], thresholds={"F201.stall_s": 2}))
    assert {f.rule for f in narrower.findings} == {"F203"}
    for refused in (rule_set(["K"]), rule_set(thresholds={"F201.stall_s": 3})):
        with pytest.raises(InputError, match="read the raw inputs again"):
            analyzer.read(saved, rules=refused)
