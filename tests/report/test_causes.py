"""Causes lead: chains, groups, costs; every finding stands in exactly one place or folded under its cause."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.times import SECOND
from analyzer.report.causes import causes, total
from analyzer.report.style import Style
from analyzer.report.text import report
from analyzer.rules import rules, run
from analyzer.rules._causes import CONSEQUENCES, chain


def finding(n, rule, server="10.0.0.9:6379", severity=Severity.ERROR, **more):
    made = Finding(
        rule, rule.lower(), severity, Confidence.LIKELY, f"title {n}", n * SECOND, [], "why", server=server, **more
    )
    made.id = f"F{n}"
    return made


def test_the_table_of_consequences_has_no_circle():
    seen, done = set(), set()

    def visit(rule):
        assert rule not in seen, rule
        if rule not in done:
            seen.add(rule)
            for after in CONSEQUENCES.get(rule, ()):
                visit(after)
            seen.discard(rule)
            done.add(rule)

    for rule in CONSEQUENCES:
        visit(rule)
    assert {r for x in CONSEQUENCES.items() for r in (x[0], *x[1])} <= {r.CODE for r in rules()}


def test_a_chain_is_one_cause():
    found = [
        finding(1, "F202", severity=Severity.WARNING, connection="C1", connections=["C1"]),
        finding(2, "R301", connection="C1", connections=["C1"], environment="e", request_ids=["r"], lost_ns=5 * SECOND),
        finding(3, "R304", environment="e", request_ids=["r"], lost_ns=4 * SECOND),
        finding(4, "R303", connection="C2", connections=["C2"]),
    ]
    chain(found)
    assert [f.caused_by for f in found] == [[], ["F1"], ["F2"], []]
    first, second = causes(found)
    assert (first.rule, [f.id for f in first.consequences], first.severity) == ("F202", ["F2", "F3"], Severity.ERROR)
    assert (len(first.impact.requests), first.impact.lost_ns, first.impact.environments) == (1, 5 * SECOND, {"e"})
    assert (second.rule, len(second.impact.requests)) == ("R303", 1)
    whole = total([first, second])
    assert (len(whole.requests), whole.lost_ns) == (2, 5 * SECOND)


def test_findings_of_different_servers_are_not_chained():
    found = [
        finding(1, "C401", server="10.0.0.9:6379", environment="e", request_ids=["r"]),
        finding(2, "R304", server="10.0.0.8:5432", environment="e", request_ids=["r"]),
        finding(3, "R304", server=None, environment="e", request_ids=["r"]),
    ]
    chain(found)
    assert [f.caused_by for f in found] == [[], [], ["F1"]]


@st.composite
def many(draw):
    """Findings of real rules on few connections, requests and servers."""
    codes = sorted({r.CODE for r in rules()})
    found = []
    for n in range(1, draw(st.integers(1, 25)) + 1):
        c = draw(st.sampled_from(["C1", "C2", None]))
        found.append(
            finding(
                n, draw(st.sampled_from(codes)), draw(st.sampled_from(["10.0.0.9:6379", None])), draw(st.sampled_from(list(Severity))),
                connection=c, connections=[c] if c else [], environment=draw(st.sampled_from(["e", None])),
                request_ids=draw(st.lists(st.sampled_from(["r1", "r2"]), max_size=2)), lost_ns=draw(st.integers(0, 10**10)),
            )
        )  # fmt: skip
    return found


@given(many())
def test_every_finding_has_its_place(found):
    chain(found)
    groups = causes(found)
    own = [f.id for group in groups for f in group.findings]
    assert len(own) == len(set(own)), "no finding begins two chains"
    assert set(own) | {f.id for group in groups for f in group.consequences} == {f.id for f in found}
    whole = total(groups)
    assert whole.lost_ns <= sum(f.lost_ns for f in found) * max(len(groups), 1)
    assert len(whole.requests) <= sum(max(len(f.request_ids), 1) for f in found)


def test_folded_findings_are_named_and_shown_on_request():
    rule = next(r for r in rules() if r.CODE == "C402")
    story = rule.FIRES[0].story()
    found = run(story)
    text, whole = (report(story, found, Style(80), everything=everything) for everything in (False, True))
    assert text.count("error[C401]") == 1 and "more C401: F" in text and "then 5 × C401" in " ".join(text.split())
    assert whole.count("error[C401]:") == 5 and "more C401" not in whole
