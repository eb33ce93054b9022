"""What a new connection costs: each part measured from the right packet to the right packet."""

from __future__ import annotations

import numpy as np
import pytest

import analyzer
from analyzer.model.times import MS
from analyzer.plot import overhead
from analyzer.plot.overhead import durations, overhead_of, percentile
from analyzer.rules._cases import Case
from tests.helpers import CAPTURES
from tests.plot.look import collisions, gids, is_blank, saved, texts, traced

PLAIN = "0 > SYN\n0.004 < SYN-ACK\n0.010 > ACK\n0.011 > 40\n0.031 < 90\n5.0 > 40\n5.005 < 90\n5.006 < 90\n5.1 > 40\n5.9 > 40 again\n6.0 < 9"


def parts(packets: str) -> list[tuple[str, float]]:
    segments = traced(Case("timed", packets=packets)).story.connections.segments(0)
    return [(part, round(ns / MS, 3)) for part, ns in durations([(s.time_ns, s) for s in segments])]


def test_every_part_is_measured_once():
    assert parts(PLAIN) == [("tcp", 10.0), ("new", 31.0), ("reused", 5.0), ("reused", 900.0)]


def test_tls_is_seen_from_its_hello_to_the_first_request():
    packets = "0 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.003 > CLIENT-HELLO\n0.020 < TLS 1200\n0.021 > TLS 400\n0.040 < TLS 300\n1 > TLS 400\n1.002 < TLS 90"
    assert parts(packets) == [("tcp", 2.0), ("tls", 18.0), ("new", 40.0), ("reused", 2.0)]


def test_control_frames_are_no_requests():
    assert parts(
        "0 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.01 > PING\n0.02 < PING-ACK\n1 > HEADERS\n1.5 < HEADERS\n2 > PING\n2.1 < PING-ACK"
    ) == [
        ("tcp", 2.0),
        ("new", 1500.0),
    ]


def test_a_connection_from_the_middle_has_no_beginning():
    assert parts("5.0 > 40\n5.005 < 90\n6 > 40\n6.001 < 9") == [("reused", 1.0)]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_is_drawn_with_its_figures(dark):
    figure = overhead(traced(Case("timed", packets=PLAIN)), dark=dark)
    assert not is_blank(figure) and collisions(figure) == []
    assert {"curve-tcp", "curve-new", "curve-reused"} <= gids(figure)
    shown = texts(figure)
    assert {"31 ms", "5 ms", "10 ms", "–"} <= set(shown)
    assert (
        "1 new connection: median 31 ms to the first byte · 2 requests on open ones: median 5 ms · a connection for each request costs 26 ms more"
        in shown
    )


def test_percentiles_are_values_that_occurred():
    times = np.array([1, 2, 3, 4, 100])
    assert [percentile(times, p) for p in (50, 90, 99)] == [3, 100, 100]


def test_shipped_cases_are_measured():
    found = overhead_of(analyzer.read(CAPTURES / "frozen-keepalive"))
    assert (found.looked, found.all, len(found.times["tcp"]), len(found.times["new"])) == (2, 2, 2, 2)
    assert len(found.times["reused"]) >= 3 and min(min(t) for t in found.times.values() if t) > 0


def test_without_answers_it_says_so():
    for packets in ("0 > SYN", "0 > SYN\n0.1 < SYN-ACK\n0.2 > ACK\n0.3 > 40"):
        with pytest.raises(ValueError, match="there is none"):
            overhead(traced(Case("unanswered", packets=packets)))


def test_the_same_bytes_every_time():
    trace = traced(Case("timed", packets=PLAIN))
    for kind in ("png", "svg", "pdf"):
        assert saved(overhead(trace), kind) == saved(overhead(trace), kind)
