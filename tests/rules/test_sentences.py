"""Sentences of findings: no advice against the finding's own proof, nothing ruled out that its reason leaves open."""

from __future__ import annotations

import pytest

import analyzer
from analyzer.report.style import Style
from analyzer.report.text import finding
from analyzer.rules import c401_connect_unanswered as c401
from analyzer.rules import f203_zombie_connection_reused as f203
from analyzer.rules import f204_close_race as f204
from analyzer.rules import l502_abandoned_connection as l502
from analyzer.rules import r303_reset_after_idle as r303
from analyzer.rules import r304_library_timeout as r304
from analyzer.rules import r305_idle_limit as r305
from analyzer.rules import run
from analyzer.rules import t601_timer_fired_after_thaw as t601
from analyzer.rules import t602_work_outlives_invocation as t602
from analyzer.rules import t605_invocation_timed_out_on_connection as t605
from analyzer.rules._cases import Case
from tests.helpers import ROOT


def told(rule, case_begins, width=80, of=None):
    """What a person reads of one case of a rule, on as many lines as it takes, and as one."""
    case = next(case for case in rule.FIRES if case.what.startswith(case_begins))
    story = case.story()
    item = next(item for item in run(story) if item.rule == (of or rule).CODE)
    return " ".join(finding(story, item, Style(width=width)).split())


def test_where_the_syns_arrive_nobody_looks_at_the_way_there():
    arrived, unknown = told(c401, "at the server's own interface"), told(c401, "four SYNs")
    assert "so the SYNs arrive" in arrived and "security groups" not in arrived and "accept queue (net.core" in arrived
    assert "security groups" in unknown


def test_a_close_that_may_lie_behind_unanswered_data_is_not_ruled_out():
    text = told(r303, "frozen with a reply on its way")
    assert "a close would have waited behind it, unseen" in text and "no FIN or RST before" not in text
    assert "15.4 s: no packet of this connection" in text and "the client had been silent for 16 s" in text


@pytest.mark.parametrize(("case", "kept"), [("14 s idle", False), ("frozen with a reply", True)])
def test_the_server_s_limit_is_no_matter_where_a_middlebox_answered(case, kept):
    assert ("raising the server's timeout" in told(r303, case)) is kept


@pytest.mark.parametrize(("case", "kept"), [("server-keepalive", False), ("redis-closed-in-freeze", True)])
def test_no_idle_limit_is_raised_where_keepalive_ended_the_connection(case, kept):
    found = analyzer.read(ROOT / "captures" / case).findings
    helped = [item.help for item in found if item.rule in ("K105", "F202", "F203")]
    assert helped and all(("raising the server's timeout" in text) is kept for text in helped)


def test_a_limit_that_nobody_can_raise_is_said_to_be_fixed():
    assert "raise the limit of the box that sets it (NAT gateway: fixed)" in told(r305, "300 s survive twice")
    assert "or raise the limit of the box that sets it" in told(r305, "the server closes what rests for 60 s")


def test_a_socket_s_inactivity_timer_waited_for_no_answer():
    assert "while it waited for anything to read" in told(t601, "node-redis's inactivity timer", of=r304)
    assert "while it waited for an answer" in told(r304, "redis-py waits in vain")


def test_one_invocation_is_no_series():
    assert "the invocation before took 100 ms" in told(t605, "from the log alone: silence to the end")


@pytest.mark.parametrize("case", ["the server's idle limit runs out", "seen from the server's side"])
def test_the_server_s_limit_is_measured_to_its_close(case):
    text = told(f204, case)
    assert "after 6.488 s of rest" in text and "after about 6.488 s without a request" in text
    assert "does not run while frozen" in text  # a pool's idle time alone is half a cure


def test_a_call_that_was_begun_in_time_is_under_way():
    assert "1 call under way after the invocation had ended" in told(t602, "a call is not awaited")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("app 2 publish failed: Channel closed", "whether the error that follows is of it"),
        ("info 2 done", "nothing failed by it"),
    ],
)
def test_an_error_after_a_close_may_be_of_it(line, said):
    log = next(case for case in f203.FIRES if case.what.startswith("a close noticed at the thaw, under")).log
    story = Case(
        "", log=log.replace("        00:06:16.300", f"        00:06:16.120 {line}\n        00:06:16.300")
    ).story()
    (item,) = run(story)
    assert item.severity.word == "info" and said in item.why


@pytest.mark.parametrize("width", [80, 160])
def test_silence_is_told_to_its_last_word(width):
    assert "no line of this environment, no packet" in told(l502, "the function runs on", width)
    assert "this connection" in told(l502, "the function runs on", width).replace("| ", "")


@pytest.mark.parametrize(
    ("owners", "addresses", "said"),
    [
        ([{"a"}, {"a"}], 1, "an environment"),
        ([{"a"}, {"b"}], 1, "2 environments"),
        ([{"a", "b", "c"}], 1, "an environment"),
        ([{"a", "b", "c"}, {"a", "b", "c"}], 2, "2 environments"),  # of no three
        ([{"a", "b", "c"}, {"a", "b", "c"}], 1, "environments"),  # of how many is not known
    ],
)
def test_connections_are_of_no_more_environments_than_is_known(owners, addresses, said):
    assert l502._environments(owners, {f"10.0.0.{n}" for n in range(addresses)}) == said
