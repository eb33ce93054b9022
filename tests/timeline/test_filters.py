"""A narrower view keeps what lies inside, explained by what lies outside."""

from __future__ import annotations

import pytest

import analyzer
from analyzer.model.problems import InputError
from analyzer.timeline.filters import View
from tests.logs import shapes
from tests.logs.shapes import START_MS, STREAMS, numbered, request, session

LINES = numbered(
    [line for k in range(6) for line in session(STREAMS[k % 2], k, START_MS + 1000 * k)]
)  # a second apart, environments in turn


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    path = tmp_path_factory.mktemp("filters") / "export.json"
    path.write_text(shapes.filter_pretty(LINES))
    return path


def requests(trace):
    return [i.request_id for i in trace.story.invocations]


def test_everything_without_a_view(export):
    assert requests(analyzer.read(export)) == [request(k) for k in range(6)]


def test_a_stretch_of_time(export):
    trace = analyzer.read(export, since="2026-11-21T00:00:02", until="2026-11-21 00:00:03.500Z")
    assert requests(trace) == [request(2), request(3)]
    assert [z.before for z in trace.story.freezes] == [request(k) for k in (0, 1, 2, 3)], "they reach into it"
    assert {e.request_id for e in trace.story.events} == {request(2), request(3)}


def test_an_environment_by_a_part_of_its_name(export):
    trace = analyzer.read(export, environment="[56]")
    assert requests(trace) == [request(k) for k in (1, 3, 5)]
    assert [e.id for e in trace.story.environments] == [STREAMS[1]]
    assert {z.environment for z in trace.story.freezes} == {STREAMS[1]}


def test_a_request_by_its_beginning(export):
    trace = analyzer.read(export, request_id=request(4))
    assert requests(trace) == [request(4)]
    assert [z.after for z in trace.story.freezes] == [request(4)], "the freeze before it is still known"


def test_findings_outside_are_left_out():
    whole = analyzer.read("captures/frozen-keepalive")
    assert whole.findings
    last = max(e.time_ns for f in whole.findings for e in f.evidence)
    assert analyzer.read("captures/frozen-keepalive", since=last + 10**9).findings == []
    assert len(analyzer.read("captures/frozen-keepalive", until=last).findings) == len(whole.findings)


def test_no_view_is_false():
    assert not View() and View(request_id="x")


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "2026-11-21T00:00:61x", ""])
def test_times_that_are_none(export, text):
    with pytest.raises(InputError, match="is no time"):
        analyzer.read(export, since=text)


def test_an_insisted_shape_that_does_not_fit_is_an_error(export):
    with pytest.raises(InputError, match="not of shape tail"):
        analyzer.read(export, shape="tail")
    assert requests(analyzer.read(export, shape="filter-log-events"))
