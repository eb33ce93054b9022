"""Pings over time: those of the log where there are any, else the captured ones; every one of them counted."""

from __future__ import annotations

import pytest
from matplotlib.lines import Line2D

import analyzer
from analyzer.model.times import MS
from analyzer.plot import pings
from analyzer.plot.pings import pings_of
from analyzer.rules._cases import Case
from tests.helpers import CAPTURES
from tests.plot.look import collisions, gids, is_blank, saved, texts, traced


@pytest.fixture(scope="module")
def frozen():
    return analyzer.read(CAPTURES / "frozen-keepalive")


def dots(figure, gid):
    return sum(len(a.get_xdata()) for a in figure.findobj(Line2D) if a.get_gid() == gid)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_ping_that_died_in_the_freeze(frozen, dark):
    figure = pings(frozen, dark=dark)
    assert not is_blank(figure) and collisions(figure) == []
    assert {"ping-acked", "ping-timeout", "ping-interval", "overshoot", "timeout", "freeze"} <= gids(figure)
    assert {"after 5.502 s, ran 1 ms", "K101", "timeout too late by"} <= set(texts(figure))
    table = frozen.pings
    assert dots(figure, "ping-acked") == table.acked.notna().sum()
    assert dots(figure, "ping-timeout") == table.timed_out.notna().sum() == 1


def test_numbers_are_those_of_the_table(frozen):
    found, table = pings_of(frozen), frozen.pings
    assert not found.captured and len(found.sent) == len(table)
    rtts = sorted(p.rtt_ns for p in found.sent if p.rtt_ns is not None)
    assert rtts == sorted((table.acked - table.sent).dropna().astype("int64"))
    (dead,) = [p for p in found.sent if p.timed_out_ns is not None]
    assert dead.overshoot_ns == 4502 * MS and dead.rtt_ns is None
    assert len(found.intervals) == len(table) - table.transport.nunique()


def test_captured_pings_where_no_log_tells_of_any():
    trace = analyzer.read(CAPTURES / "frozen-keepalive", kinds=frozenset(("pcap",)))
    found = pings_of(trace)
    assert found.captured and (found.looked, found.all) == (2, 2)
    assert all(p.rtt_ns is not None and 0 < p.rtt_ns < 1000 * MS for p in found.sent)
    figure = pings(trace)
    assert texts(figure)[0] == "HTTP/2 PINGs as captured" and "overshoot" not in gids(figure)


def test_a_ping_that_nobody_answered_is_counted_as_neither():
    trace = traced(
        Case(
            "one",
            packets="0 > SYN\n0.1 < SYN-ACK\n0.2 > ACK\n1 > PING\n1.1 < PING-ACK\n2 > PING\n2.001 < PING-ACK\n3 > PING",
        )
    )
    assert any("3 pings of 1 connection · 2 answered, median 50.5 ms · 1 neither" in t for t in texts(pings(trace)))


def test_without_pings_it_says_what_is_missing():
    with pytest.raises(ValueError, match="GRPC_TRACE with keepalive"):
        pings(traced(Case("none", packets="0 > SYN")))


def test_the_same_bytes_every_time(frozen):
    for kind in ("png", "svg", "pdf"):
        assert saved(pings(frozen), kind) == saved(pings(frozen), kind)
