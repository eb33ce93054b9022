"""What a report says of errors that no finding is about."""

from __future__ import annotations

from analyzer.report.coverage import said, unexplained
from analyzer.report.style import Style
from analyzer.report.text import report
from analyzer.rules import run
from analyzer.rules._cases import Case

RESET = "Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }"


def _log(at: str, *errors: str) -> Case:
    lines = "\n".join(f"{at}.0{10 + n} app 2 {text}" for n, text in enumerate(errors))
    return Case("", log=f"00:00:00.000 START 1\n00:00:00.100 REPORT 1\n{at}.000 START 2\n{lines}\n{at}.900 REPORT 2")


def test_an_error_that_no_rule_takes_is_named_with_its_place():
    story = _log(
        "00:00:05",
        RESET,
        RESET,
        "Error: connect EMFILE 10.0.0.9:443 { errno: -24, code: 'EMFILE', syscall: 'connect' }",
    ).story()
    only = [f for f in run(story) if f.rule == "C403"]
    found = unexplained(story, only)
    assert [(x.code, x.count) for x in found] == [("ECONNRESET", 2), ("EMFILE", 1)]
    assert said(story, found) == [
        "3 connection errors that no finding explains: ECONNRESET (fn.log:4, 2 times), EMFILE (fn.log:6)"
    ]


def test_what_a_finding_is_about_is_not():
    story = _log("00:06:00", RESET, RESET).story()
    findings = run(story)
    assert {f.rule for f in findings} == {"R303"}
    assert unexplained(story, findings) == []
    assert "no finding explains" not in report(story, findings, Style(width=80))


def test_without_a_finding_the_report_does_not_look_healthy():
    story = _log("00:00:05", RESET).story()
    text = report(story, [], Style(width=80, colour=True))
    assert "1 connection error that no finding explains: ECONNRESET (fn.log:4)" in text
    assert "\x1b[32mno findings" not in text
