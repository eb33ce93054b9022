"""A guest's clock against that of START and END, where the guest stamps both a line and its event."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.model.clocks import Clock
from analyzer.model.events import Event
from analyzer.model.records import Source
from analyzer.model.times import MS, SECOND
from analyzer.timeline.log_clocks import apart_from_platform, log_clocks

ENVIRONMENT = "2026/11/21/[$LATEST]0123456789abcdef0123456789abcdef"
AT = 1_795_000_000 * SECOND


def event(layer, kind, at, request):
    stamp = at // MS * MS
    inner = stamp if layer == "app" else None
    return Event(
        "s1", "1", layer, kind, "", event_ns=stamp, inner_ns=inner, environment=ENVIRONMENT, request_id=request
    )


def log(durations, delay, behind):
    """Invocations that last so long (ms), 5 s apart, whose lines' clock is behind as `behind(time)` says; the first of them so
    long after START (a share of the invocation), the last just before END."""
    events = []
    for n, duration in enumerate(durations):
        start, request = AT + 5 * n * SECOND, f"{n:08x}-0000-4000-8000-000000000000"
        end = start + duration * MS
        first = start + round(delay * duration) * MS
        events += [event("lambda", "start", start, request), event("lambda", "report", end, request)]
        events += [event("app", "line", at - behind(at), request) for at in (first, (first + end) // 2, end)]
    return events


@given(
    st.lists(st.integers(20, 400), min_size=2, max_size=12),
    st.floats(0, 1),
    st.integers(-1_700, 3_000),
)
def test_lines_outside_their_requests_tell_the_clock(durations, delay, behind):
    """Whatever is said of it is true; by a clock that agrees nothing is said, and of one far off something is."""
    found = apart_from_platform(log(durations, delay, lambda at: behind * MS), MS)
    for pieces in found.values():
        clock = Clock("", pieces=pieces)
        for n in range(len(durations)):
            stamp = AT + 5 * n * SECOND - behind * MS
            assert abs(clock.aligned(stamp) - stamp - behind * MS) <= clock.error_at(stamp)
    assert found or abs(behind) <= max(durations) + 25
    assert behind or not found


def test_lines_after_a_freeze_with_the_id_of_the_request_before_tell_nothing():
    events = log([50, 60, 40, 70], 0.1, lambda at: 0)
    late = [event("app", "line", e.event_ns + 3 * SECOND, e.request_id) for e in events if e.kind == "report"]
    assert not apart_from_platform([*events, *late], MS)
    only_late = [e for e in events if e.layer == "lambda"] + late
    assert not apart_from_platform(only_late, MS)


def test_a_clock_that_stands_in_freezes_is_told_by_each_request():
    behind = [0, 400, 900, 5_000, 5_500]
    events = log([50] * 5, 0.1, lambda at: behind[(at - AT) // (5 * SECOND)] * MS)
    (pieces,) = apart_from_platform(events, MS).values()
    clock = Clock("", pieces=pieces)
    for n, ms in enumerate(behind):
        stamp = AT + 5 * n * SECOND + 25 * MS - ms * MS
        assert abs(clock.aligned(stamp) - stamp - ms * MS) <= clock.error_at(stamp) <= 50 * MS


@pytest.mark.parametrize("guests", [True, False])
def test_who_stamped_what_was_just_printed_is_told_by_where_it_stands(guests):
    """Lines without a stamp of their own: the guest's clock is 700 ms behind, theirs is that one or the service's."""
    events = log([50, 60, 40, 70], 0.1, lambda at: 700 * MS)
    printed = []
    for n in range(4):
        line = event("app", "line", AT + 5 * n * SECOND + 30 * MS - (700 * MS if guests else 0), None)
        line.inner_ns = None
        printed.append(line)
    (clock,) = log_clocks([(Source("s1", "a.json", "lambda-log", "json"), [*events, *printed])], {}).values()
    clock.read([*events, *printed])
    for n, line in enumerate(printed):
        assert abs(line.time_ns - (AT + 5 * n * SECOND + 30 * MS)) <= line.error_ns + MS < 50 * MS
