"""The kernel's time-outs as arithmetic, against documented and measured numbers."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from analyzer.model.times import MS, SECOND
from analyzer.rules import _timers as timers
from analyzer.rules import r304_library_timeout as r304
from analyzer.rules import run


def test_the_documented_numbers():
    """ip-sysctl.rst: 924.6 s for tcp_retries2 15; 127 s for tcp_syn_retries 6, and four linear repeats of 1 s more from 6.5 on."""
    assert timers.data_limit_ns() == 924_600 * MS
    assert timers.connect_limits_ns() == (127 * SECOND, 131 * SECOND)


def series(rto_ns: int, retries2: int) -> tuple[list[int], int]:
    """(times of the copies, when the kernel gives up): as tcp_retransmit_timer does it, from a first time-out."""
    times, wait, now = [0], rto_ns, 0
    while True:
        now += wait
        if now >= timers.data_limit_ns(retries2):
            return times, now
        times.append(now)
        wait = min(2 * wait, timers.RTO_MAX_NS)


@given(st.integers(200, 3000), st.integers(3, 15))
def test_the_setting_is_found_again(rto_ms, retries2):
    times, given_up = series(rto_ms * MS, retries2)
    found = timers.retries2_of(times[-1], given_up)
    assert found is not None
    assert series(rto_ms * MS, found) == (times, given_up), "another setting that gives the same series is as good"
    assert timers.next_wait_ns(times) in (None, given_up - times[-1])


def test_what_was_measured_with_the_defaults():
    """17 transmissions, 938.5 s, a first time-out of about 203 ms."""
    times, given_up = series(203 * MS, 15)
    assert abs(given_up - timers.DATA_MEASURED_NS) < 15 * SECOND and 15 <= len(times) <= 17


def test_words_for_retransmissions_that_ran_out():
    times, given_up = series(207 * MS, 6)
    said = timers.data_given_up(times, given_up, 10 * MS)
    assert "tcp_retries2 is 6 there" in said and "924.6 s or more" in said


def test_words_for_a_user_timeout():
    times = [0, *accumulate([200 * MS, 400 * MS, 800 * MS, 1600 * MS])]
    said = timers.data_given_up(times, 5 * SECOND, 10 * MS)
    assert "TCP_USER_TIMEOUT of about 5 s" in said


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=20), st.integers(0, 10**13), st.integers(0, 10**9))
def test_any_numbers_give_words_or_none(times, error, clocks):
    assert isinstance(timers.data_given_up(sorted(times), error, clocks), str)


def test_keepalives():
    assert "Node.js" in timers.keepalive_of(60 * SECOND, 1_020 * MS, 10)
    assert "Linux's defaults" in timers.keepalive_of(7200 * SECOND, 75 * SECOND, 9)


def sent(*seconds):
    return [s * SECOND for s in seconds]


def test_connects():
    old, new = sent(0, 1, 3, 7), sent(0, 1, 2, 3, 4, 5, 7)
    assert (
        timers.connect_given_up(old, 10 * SECOND)
        == "by its SYNs the client is Linux before 6.5, which gives up after 127 s by default"
    )
    said = timers.connect_given_up(old, 60 * SECOND)
    assert "closed between 7 s and 15 s, by a timer above the kernel" in said
    assert "between 7 s and 11 s" in timers.connect_given_up(
        new, 60 * SECOND
    ) and "6.5 or later" in timers.connect_given_up(new, 60 * SECOND)
    assert "all that the kernel sends" in timers.connect_given_up(sent(0, 1, 3, 7, 15, 31, 63), 300 * SECOND)
    assert "all that the kernel sends" in timers.connect_given_up(
        sent(0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67), 70 * SECOND
    )
    assert timers.connect_given_up(sent(0, 1), 2 * SECOND) == ""


def test_a_time_out_that_is_caught_logged_and_thrown_on_is_counted_once():
    once, twice = (next(c for c in r304.FIRES if words in c.what) for words in ("thrown on", "twice"))
    assert [f.title.count("times") for c in (once, twice) for f in run(c.story()) if f.rule == "R304"] == [0, 1]
