"""A narrower view keeps what lies inside, explained by what lies outside."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text

import analyzer
from analyzer import plot
from analyzer.model.problems import InputError
from analyzer.rules import run
from analyzer.rules._cases import Case
from analyzer.timeline.filters import View, narrowed, network
from analyzer.trace import Trace
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


# ---- what pings and transports tell of their lines

POINTERS = ("sent", "acked", "timed_out", "late_ack", "cancelled")


def told_lines(story):
    """Every (ping or transport, field, line) that the story's records name by number."""
    for p in story.pings:
        yield from ((p.transport, p.sent_ns, name, k) for name in POINTERS if (k := getattr(p, name)) is not None)
    yield from ((t.id, 0, "cause", t.cause) for t in story.transports if t.cause is not None)


def lines_of(story):
    return {
        (transport, sent, name): (story.events[k].source, story.events[k].ref)
        for transport, sent, name, k in told_lines(story)
    }


LATE = Case(
    "an invocation, then a ping whose answer is read after its timeout",
    log="""
    00:00:00.000 START 1
    00:00:00.001 grpc 1 transport | dns:cache:6379 10.0.0.9:6379 Established TCP connection
    00:00:00.002 grpc 1 keepalive | (1) 10.0.0.9:6379 Starting keepalive timer for 5000ms
    00:00:00.003 REPORT 1
    00:00:05.000 START 2
    00:00:05.020 grpc 2 keepalive | (1) 10.0.0.9:6379 Sending ping with timeout 1000ms
    00:00:05.024 REPORT 2
    00:00:10.190 START 3
    00:00:10.192 grpc 3 keepalive | (1) 10.0.0.9:6379 Ping timeout passed without response
    00:00:10.201 grpc 3 keepalive | (1) 10.0.0.9:6379 Received ping response
    00:00:10.240 REPORT 3
    """,
    packets="""
    0.000 > SYN
    0.000 < SYN-ACK
    0.001 > ACK
    5.020 > PING
    5.021 < PING-ACK
    """,
)


@pytest.fixture(scope="module")
def late():
    story = LATE.story()
    return Trace(story, run(story))


@pytest.fixture(scope="module")
def frozen():
    return analyzer.read("captures/frozen-keepalive")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_lines_named_by_number_stay_the_same_lines(late, frozen, data):
    trace = data.draw(st.sampled_from([late, frozen]))
    whole = trace.story
    times = st.none() | st.sampled_from([e.time_ns for e in whole.events])
    requests = st.none() | st.sampled_from(sorted({e.request_id for e in whole.events if e.request_id}))
    names = st.none() | st.frozensets(st.integers(0, max(len(whole.connections) - 1, 0)), max_size=2)
    view = View(data.draw(times), data.draw(times), request_id=data.draw(requests), connections=data.draw(names))
    story, _ = narrowed(whole, trace.findings, view)
    inside = {(e.source, e.ref) for e in story.events}
    before = lines_of(whole)
    assert lines_of(story).items() <= before.items()
    for ping in story.pings:
        for name in POINTERS:
            assert (getattr(ping, name) is not None) == (before.get((ping.transport, ping.sent_ns, name)) in inside)


def test_a_late_answer_is_drawn_in_a_narrower_view_too(late):
    (ping,) = [p for p in late.story.pings if p.late_ack is not None]
    story, _ = narrowed(late.story, late.findings, View(since_ns=ping.sent_ns))
    assert len(story.events) < ping.late_ack, "as counted before, its line would lie outside"
    texts = {t.get_text() for t in plot.timeline(Trace(story, []), "C1").findobj(Text)}
    assert "answer after the timeout" in texts


def test_a_view_of_a_view_shows_no_more():
    trace = analyzer.read("captures/frozen-keepalive", client=["10.0.1.11"])
    story, _ = narrowed(trace.story, trace.findings, View(connections=frozenset([0])))
    assert story.connections.in_view().tolist() == [0]
    story, _ = narrowed(story, [], View(clients=(network("0.0.0.0/0", "--client"),)))
    assert story.connections.in_view().tolist() == [0]
