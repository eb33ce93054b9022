"""Lines whose stamps were cut to seconds, or are missing: in their order, each in its invocation."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import analyzer
from analyzer.logs.runtimes import stamped
from analyzer.model.events import Event
from analyzer.model.times import MS, SECOND
from analyzer.rules._cases import Case
from analyzer.timeline.placing import place

#: Three invocations inside one second, and the error of the second.
CUT = """
00:00:07.000 START 1
00:00:07.000 REPORT 1
00:00:07.000 START 2
00:00:07.000 app 2 Error: read ECONNRESET
00:00:07.000 REPORT 2
00:00:07.000 START 3
00:00:07.000 REPORT 3
"""


def test_an_error_stands_in_its_own_invocation():
    story = Case("", log=CUT).story()
    (error,) = [e for e in story.events if e.kind == "error"]
    running = story.invocation_at(error.environment, error.time_ns)
    assert running is not None and running.request_id == error.request_id
    assert [e.order for e in story.events] == sorted(e.order for e in story.events)


@st.composite
def cut(draw):
    """Moments in order, and what a clock that shows no fractions makes of them."""
    steps = draw(st.lists(st.integers(0, 3 * SECOND), min_size=2, max_size=30))
    times = [sum(steps[: n + 1]) for n in range(len(steps))]
    lines = [
        Event(
            "s",
            f":{n}",
            "app",
            "line",
            "",
            environment="e",
            time_ns=t // SECOND * SECOND,
            resolution_ns=SECOND,
            order=n,
        )
        for n, t in enumerate(times)
    ]
    return times, lines


@given(cut())
def test_lines_keep_their_order_and_their_error_holds(drawn):
    times, lines = drawn
    placed = place(lines, set())
    assert placed == lines
    assert all(a.time_ns < b.time_ns for a, b in pairwise(lines))
    assert all(abs(e.time_ns - t) <= e.placed_ns for e, t in zip(lines, times, strict=True))


def test_a_line_before_start_belongs_to_what_begins_first():
    """A timer that the thaw runs prints before START: two short invocations follow, and it is the first one's."""
    log = "00:00:07.000 app 1 Error: read ECONNRESET\n00:00:07.010 START 2\n00:00:07.020 REPORT 2\n00:00:07.030 START 3\n00:00:07.040 REPORT 3"
    story = Case("", log=log).story()
    found = story.invocation_at(story.events[0].environment, story.events[0].time_ns, slack_ns=SECOND)
    assert found is not None and found.request_id.startswith("6f0d0002")
    assert story.invocation_at(story.events[0].environment, story.events[0].time_ns) is None


@pytest.mark.parametrize("stamp", ["2026-11-21T00:16:17.820Z", "2026-11-21T00:16:17Z"])
def test_a_stamp_without_fractions_is_one(stamp):
    line = stamped.parse(f"{stamp} connection lost")
    assert line is not None and line.body == "connection lost"


def test_lines_are_placed_no_better_than_those_around_them():
    """A line of the service between two that a guest stamped, by a clock that is known to 0.3 s."""
    guest = [
        Event("s", f":{n}", "grpc", "line", "", environment="e", time_ns=SECOND // 2 + n, error_ns=300, order=n)
        for n in (0, 2)
    ]
    line = Event("s", ":1", "app", "line", "", environment="e", resolution_ns=SECOND, order=1)
    place([guest[0], line, guest[1]], set())
    assert line.time_ns == SECOND // 2 + 1 and line.placed_ns <= 2
    assert line.error_ns == line.placed_ns + 300
    for e in guest:
        e.error_ns = 10 * SECOND
    line.time_ns, line.error_ns = 0, 0
    place([guest[0], line, guest[1]], set())
    assert line.error_ns == SECOND // 2 + 1  # its own stamp tells more


#: An export whose stamps were cut: back to back, and 3 s apart.
SECONDS = """
2026-11-21T00:00:07Z START RequestId: 6f0d0001-2222-4333-8444-555566667777 Version: $LATEST
2026-11-21T00:00:07Z REPORT RequestId: 6f0d0001-2222-4333-8444-555566667777\tDuration: 950.00 ms\tBilled Duration: 950 ms
2026-11-21T00:00:08Z START RequestId: 6f0d0002-2222-4333-8444-555566667777 Version: $LATEST
2026-11-21T00:00:08Z REPORT RequestId: 6f0d0002-2222-4333-8444-555566667777\tDuration: 950.00 ms\tBilled Duration: 950 ms
2026-11-21T00:00:12Z START RequestId: 6f0d0003-2222-4333-8444-555566667777 Version: $LATEST
2026-11-21T00:00:12Z REPORT RequestId: 6f0d0003-2222-4333-8444-555566667777\tDuration: 2.00 ms\tBilled Duration: 3 ms
"""


def test_a_gap_that_cut_stamps_may_have_made_is_no_freeze(tmp_path):
    (tmp_path / "000000").write_text(SECONDS.lstrip())
    story = analyzer.read(tmp_path / "000000").story
    assert [i.request_id[7] for i in story.invocations] == ["1", "2", "3"]
    ((before, after, start, end, error),) = [
        (z.before[7], z.after[7], z.start_ns % (60 * SECOND), z.end_ns % (60 * SECOND), z.error_ns)
        for z in story.freezes
    ]
    assert (before, after) == ("2", "3")
    assert start - error <= 8_999 * MS <= start + error and end - error <= 12 * SECOND <= end + error
