"""Before, after, or not proven: what the clocks of two sources tell of two moments, and what verdicts make of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import analyzer
from analyzer.model.clocks import Clock, Piece
from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Evidence
from analyzer.model.records import Source
from analyzer.model.times import SECOND
from analyzer.report.style import Style
from analyzer.report.text import finding
from analyzer.rules import UNPROVEN, run
from analyzer.timeline.order import before, error_between, marked
from analyzer.timeline.story import Story
from tests.helpers import ALL_CASES, CAPTURES


def story(*errors_ns: int | None) -> Story:
    """Captures whose clocks may be off by so much; None: by nothing that could be compared."""
    sources = []
    for number, error in enumerate(errors_ns, 1):
        clock = Clock("packet", frame=0 if error is not None else number, pieces=[Piece(0, 0, 0, error_ns=error or 0)])
        clock.via, clock.via_error_ns = ("s1", error or 0) if number > 1 and error is not None else ("", 0)
        sources.append(Source(f"s{number}", f"{number}.pcap", "pcap", "pcap", clocks=[clock]))
    return Story(sources, None)


def line(source: str, time_ns: int, also: tuple[tuple[str, str], ...] = ()) -> Evidence:
    return Evidence(source, f"#{time_ns}", "pcap", time_ns, time_ns, "", also=also)


@given(st.integers(0, 10**6), st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_an_order_is_proven_where_the_error_is_smaller_than_the_distance(error, at, by):
    a, b = line("s1", at), line("s2", at + by)
    told = before(story(0, error), a, b)
    assert told is (None if abs(by) <= error else by > 0)
    assert before(story(0, error), b, a) is (None if told is None else not told)


def test_one_source_needs_no_clock_and_strangers_have_none():
    assert before(story(SECOND), line("s1", 1), line("s1", 2)) is True
    assert before(story(0, None), line("s1", 0), line("s2", 10**15)) is None
    seen_there_too = line("s1", 1, also=(("s2", "#7"),))
    assert error_between(story(0, SECOND), seen_there_too, line("s2", 2)) == 0


def test_lines_of_two_environments_whose_stamps_were_cut_are_in_no_order():
    told = story(0)
    told.events = [
        Event("s1", f":{n}", "app", "line", "", environment=env, time_ns=n, placed_ns=50)
        for n, env in ((1, "a"), (2, "a"), (9, "b"), (200, "b"))
    ]
    a, same, other, later = (Evidence("s1", e.ref, "app", e.time_ns, e.time_ns, "") for e in told.events)
    assert before(told, a, same) is True
    assert before(told, a, other) is None and before(told, a, later) is True
    assert [e.unproven for e in marked(told, [a, same, other, later])] == [False, False, True, False]


def test_two_captures_aligned_with_each_other_compare_though_the_log_does_not():
    told = story(0, SECOND, SECOND)
    told.sources[2].clocks[0].via, told.sources[2].clocks[0].via_error_ns = "s2", 1000
    assert error_between(told, line("s2", 0), line("s3", 0)) == 1000
    assert error_between(told, line("s1", 0), line("s3", 0)) == SECOND


def test_evidence_tells_where_its_order_is_open():
    told = marked(story(0, 50), [line("s1", 0), line("s2", 40), line("s2", 41), line("s1", 100)])
    assert [e.unproven for e in told] == [False, True, False, False]


def doubted(folder, error_ns: int) -> list:
    """The findings of a case as they would be if its captures' clocks were off by up to so much against the log."""
    story = analyzer.read(str(folder)).story
    for point in story.connections.points:
        clock = point.clock
        clock.pieces = clock.pieces or [Piece(0, 0, 0)]
        for piece in clock.pieces:
            piece.error_ns = max(piece.error_ns, error_ns)
    for source in story.sources:
        for clock in source.clocks:
            clock.via_error_ns = max(clock.via_error_ns, error_ns) if clock.via else 0
    return [(story, f) for f in run(story)]


@pytest.mark.parametrize("folder", ALL_CASES, ids=lambda p: p.name)
def test_what_rests_on_the_order_of_two_sources_is_less_sure_where_it_is_not_proven(folder):
    kinds = {s.kind for s in analyzer.read(str(folder)).story.sources}
    if len(kinds) < 2:
        return
    for story, f in doubted(folder, 86_400 * SECOND):
        if f.confidence is Confidence.CERTAIN:
            deciding = {story.source(e.source).kind for e in f.evidence if e.primary}
            alone = [e for e in f.evidence if story.source(e.source).kind in deciding]
            assert len(alone) > 1 or f.rule in ("R304", "C404", "T604"), f.rule
        crossing = any(
            a.source != b.source and not a.also and not b.also for a, b in zip(f.evidence, f.evidence[1:], strict=False)
        )
        assert (UNPROVEN in f.clock) == any(e.unproven for e in f.evidence)
        if crossing and len({story.source(e.source).kind for e in f.evidence}) > 1:
            assert any(e.unproven for e in f.evidence), f.rule


def test_a_freeze_that_the_clocks_do_not_prove_is_no_proof():
    folder = CAPTURES / "zombie-fin-wait-2"
    (sure,) = [f for _, f in doubted(folder, 0) if f.rule == "F201"]
    story, doubtful = next((s, f) for s, f in doubted(folder, 86_400 * SECOND) if f.rule == "F201")
    assert sure.confidence is Confidence.CERTAIN and "frozen" in sure.why
    assert doubtful.confidence is Confidence.LIKELY and "frozen" not in doubtful.why
    assert "   |~" in finding(story, doubtful, Style(width=100)) and UNPROVEN in doubtful.clock
