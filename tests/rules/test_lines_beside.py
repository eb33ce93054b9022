"""Lines of the log beside packets: clocks that may be off take none away, and let none in that they rule out."""

from __future__ import annotations

import pytest

from analyzer.model.times import MS, SECOND
from analyzer.rules import _common as common
from analyzer.rules import k101_keepalive_timeout_after_freeze as k101
from analyzer.rules import run
from analyzer.rules._cases import Case
from analyzer.rules.f201_fin_wait_2_stall import _OPEN
from analyzer.timeline.story import Story

REFUSED = Case(
    "refused",
    log="""
    00:00:00.000 START 1
    00:00:01.005 app 1 Error: connect ECONNREFUSED 10.0.0.9:6379 { errno: -111, code: 'ECONNREFUSED', syscall: 'connect', address: '10.0.0.9', port: 6379 }
    00:00:01.100 REPORT 1
    """,
    packets="1.000 > SYN\n1.001 < RST-ACK",
)


@pytest.mark.parametrize(("off", "found"), [(None, 0), (0, 0), (5 * MS, 0), (15 * MS, 1), (60 * SECOND, 1)])
def test_a_line_counts_where_the_clocks_leave_it_possible(monkeypatch, off, found):
    story = REFUSED.story()
    error = next(e for e in story.events if e.kind == "error")
    monkeypatch.setattr(Story, "misplaced", lambda self, event, k: off)
    for start, end in (
        (error.time_ns + 10 * MS, error.time_ns + 20 * MS),
        (error.time_ns - 20 * MS, error.time_ns - 10 * MS),
    ):
        assert len(common.lines_beside(story, 0, start, end, lambda e: e.kind == "error", anywhere=True)) == found


def test_a_clock_that_may_be_far_off_lets_no_line_of_another_time_in(monkeypatch):
    story = REFUSED.story()
    error = next(e for e in story.events if e.kind == "error")
    monkeypatch.setattr(Story, "misplaced", lambda self, event, k: 60 * SECOND)
    since = error.time_ns + common.FARTHEST_NS + MS
    assert common.lines_beside(story, 0, since, since + SECOND, lambda e: e is error, anywhere=True) == []


@pytest.mark.parametrize(("stamp", "severity"), [("00:00:10.191", "warning"), ("00:00:10.194", "error")])
def test_what_the_same_log_printed_before_is_no_consequence_whatever_a_capture_s_clock(stamp, severity):
    lines = k101.FIRES[0].log.strip("\n").split("\n")
    lines.append(f"        {stamp} app 2 Error: 14 UNAVAILABLE: read ECONNRESET")
    story = Case("", log="\n".join(sorted(lines)), packets=_OPEN + "\n10.2 > 60\n10.21 < 60").story()
    assert common.clock_margin(story) >= MS
    assert [f.severity.word for f in run(story) if f.rule == "K101"] == [severity]
