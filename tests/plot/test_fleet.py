"""The fleet: a row each, counts that equal the tables', one page however many there are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import analyzer
from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.records import Environment, Freeze, Invocation
from analyzer.model.times import SECOND
from analyzer.plot import fleet
from analyzer.plot.fleet import MOST_HEIGHT, TRACKS, fleet_of, merged
from analyzer.plot.lives import lives
from analyzer.rules._cases import Case
from analyzer.trace import Trace
from tests.helpers import CAPTURES
from tests.plot.look import HOSTILE, collisions, gids, is_blank, saved, texts, traced

START = 1_795_000_000 * SECOND


@pytest.fixture(scope="module")
def healthy():
    return analyzer.read(CAPTURES / "healthy")


def functions(number: int, each: int = 3) -> Trace:
    """Environments that begin a second apart, invoked every minute for a second; the last invocation of each tenth fails."""
    trace = traced(Case("log", log="00:00:01.000 START 1\n00:00:02.000 REPORT 1"))
    story = trace.story
    story.environments, story.invocations, story.freezes = [], [], []
    for n in range(number):
        name = f"2026/11/21/[$LATEST]{n:032x}"
        starts = [START + (n + 60 * k) * SECOND for k in range(each)]
        story.environments.append(Environment(name, first_ns=starts[0], last_ns=starts[-1], invocations=each))
        for k, at in enumerate(starts):
            status = "error" if n % 10 == 0 and k == each - 1 else "success"
            story.invocations.append(Invocation(name, f"{n}-{k}", 1, at, at + SECOND, SECOND, status))
            if k:
                story.freezes.append(Freeze(name, starts[k - 1] + SECOND, at, 0, "platform"))
    return trace


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["frozen-keepalive", "zombie-fin-wait-2", "healthy"])
def test_shipped_captures_are_drawn(name, dark):
    trace = analyzer.read(CAPTURES / name)
    figure = fleet(trace, dark=dark)
    assert not is_blank(figure) and collisions(figure) == []
    assert {"invocation", "freeze", "connections-open"} <= gids(figure)
    assert {f.rule for f in trace.findings} <= set(texts(figure))


def test_what_is_drawn_is_what_the_tables_say(healthy):
    found = fleet_of(healthy)
    assert found.names == list(healthy.environments.sort_values("first").id)
    assert len(found.invocations) + len(found.failed) == len(healthy.invocations)
    assert len(found.freezes) == len(healthy.freezes)
    assert sum(map(len, found.connections.values())) == len(healthy.connections)


def test_connections_as_columns_agree_with_their_records():
    trace = analyzer.read(CAPTURES / "frozen-keepalive")
    cs, found = trace.story.connections, lives(trace.story)
    for n, k in enumerate(found.ks.tolist()):
        record, point = cs.record(k), cs.points[cs.fullest(k)]
        assert found.first_ns[n] == point.aligned(record.first_ns)
        assert found.end_ns[n] == point.aligned(record.ended_ns or record.last_ns)
        assert found.servers[found.server[n]] == cs.server(k)
        assert found.clients[found.client[n]] == cs.client(k).rpartition(":")[0]


def test_clients_without_an_environment_have_rows_of_their_own():
    trace = analyzer.read(CAPTURES / "healthy", kinds=frozenset(("pcap",)))
    found = fleet_of(trace)
    assert (found.names, found.environments) == (sorted({c.rpartition(":")[0] for c in trace.connections.client}), 0)
    assert any(t == "2 clients" for t in texts(fleet(trace)))


def test_failures_stand_in_the_row_of_their_environment(healthy):
    second = healthy.story.environments[1].id
    trace = Trace(healthy.story, [_finding("X101", second), _finding("X102", None)])
    found = fleet_of(trace)
    assert [(row, f.rule) for row, _, f in found.marks] == [(found.names.index(second), "X101"), (-1, "X102")]
    assert {"all", "X101", "X102"} <= set(texts(fleet(trace)))


def _finding(rule: str, environment: str | None) -> Finding:
    return Finding(
        rule, "it-failed", Severity.ERROR, Confidence.CERTAIN, "it failed", START, [], "so", environment=environment
    )


@pytest.mark.parametrize("number", [1, 30, 159, 161, 2_000])
def test_any_number_of_environments_fits_on_a_page(number):
    figure = fleet(functions(number))
    shown = texts(figure)
    assert figure.get_size_inches()[1] < MOST_HEIGHT + 2
    assert f"{number:,} environment{'s' if number > 1 else ''}" in shown
    shared = [t for t in shown if "neighbours" in t]
    assert shared == (
        [f"each row is {-(-number // 160)} neighbours, in order of their first sign of life"] if number > 160 else []
    )
    assert "invocation-failed" in gids(figure)
    assert len(saved(figure, "svg")) < 3_000_000


spans = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 12)), max_size=30)


@given(spans, st.integers(1, 4))
def test_spans_are_joined_and_none_is_lost(items, least):
    row, start, length = (np.array([i[n] for i in items], np.int64) for n in range(3))
    joined = merged(row, start, np.minimum(start + length, 41), 4, 41, least)
    covered = {(r, x) for r, a, b in joined for x in range(a, b)}
    asked = {(r, x) for r, a, n in items for x in range(a, max(min(a + n, 41), a + least))}
    assert covered == asked
    assert all(p[0] != q[0] or p[2] < q[1] for p, q in itertools.pairwise(joined))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 30)), min_size=1, max_size=12))
def test_connections_at_a_time_lie_side_by_side(lifetimes):
    from analyzer.plot.fleet import _tracks

    start, length = (np.array([x[n] for x in sorted(lifetimes)], np.int64) for n in range(2))
    tracks = _tracks(np.zeros(len(start), np.int64), start, start + length)
    for track in range(TRACKS - 1):
        mine = np.flatnonzero(tracks == track)
        assert all(start[b] >= start[a] + length[a] for a, b in itertools.pairwise(mine))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_names_stay_literal(text):
    trace = functions(2)
    for thing in (*trace.story.environments[:1], *trace.story.invocations[:3], *trace.story.freezes[:2]):
        if isinstance(thing, Environment):
            thing.id = text
        else:
            thing.environment = text
    figure = fleet(trace)
    svg = saved(figure, "svg").decode()
    assert "\x1b" not in svg and "<script" not in svg
    assert collisions(figure) == []


def test_the_same_bytes_every_time(healthy):
    for kind in ("png", "svg", "pdf"):
        assert saved(fleet(healthy), kind) == saved(fleet(healthy), kind)


def test_nothing_to_draw_is_said():
    empty = traced(Case("nothing", packets="0 > SYN"))
    empty.story.connections.listed = np.empty(0, np.int64)
    with pytest.raises(ValueError, match="neither"):
        fleet(empty)
