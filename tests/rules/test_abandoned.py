"""L502: which other environments show that a function ran on."""

from __future__ import annotations

from analyzer.rules import l502_abandoned_connection as l502
from analyzer.rules import run
from analyzer.rules._cases import OTHER


def verdicts(story):
    return [f.rule for f in run(story) if f.rule == l502.CODE]


def test_another_functions_log_says_nothing():
    story = l502.FIRES[0].story()
    assert verdicts(story) == ["L502"]
    for e in story.events:
        if e.environment == OTHER:
            e.source = "another"
    assert verdicts(story) == []
