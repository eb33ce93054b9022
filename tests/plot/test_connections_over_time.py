"""Connections of one server over time: every opening and every end counted once, the peak never lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.patches import Rectangle

import analyzer
from analyzer.plot import connections_over_time
from analyzer.plot.connections_over_time import held, steps
from analyzer.rules._cases import Case
from tests.helpers import CAPTURES
from tests.plot.look import collisions, gids, is_blank, saved, texts, traced

_OPEN = "{0}.0 > SYN port={1}\n{0}.001 < SYN-ACK port={1}\n{0}.002 > ACK port={1}\n{0}.003 > 40 port={1}\n"
OK = "{0}.004 < 40 port={1}\n"
THROWN = "{0}.004 < TEXT -ERR_max_number_of_clients_reached port={1}\n{0}.005 < FIN port={1}\n{0}.006 > FIN port={1}\n"


def storm() -> Case:
    """Three connections are held, two more thrown out; then the server evicts one, a client closes, one is reset."""
    lines = "".join((_OPEN + OK).format(n, 9000 + n) for n in (1, 2, 3))
    lines += "".join((_OPEN + THROWN).format(n, 9000 + n) for n in (4, 5))
    lines += (
        "30.0 < FIN port=9001\n30.01 > FIN port=9001\n31.0 > FIN port=9002\n31.01 < FIN port=9002\n32.0 < RST port=9003"
    )
    return Case("a limit of three", packets="\n".join(sorted(lines.splitlines(), key=lambda x: float(x.split()[0]))))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_storm_is_drawn(dark):
    trace = traced(storm())
    figure = connections_over_time(trace, soft=2, hard=3, dark=dark)
    assert not is_blank(figure) and collisions(figure) == []
    assert {
        "open",
        "opened",
        "thrown",
        "limit",
        "ended-thrown",
        "ended-evicted",
        "ended-client",
        "ended-reset",
    } <= gids(figure)
    shown = texts(figure)
    assert {"soft limit 2", "hard limit 3", "3 held when the first was thrown out", "L501"} <= set(shown)
    assert any(t.startswith("5 connections opened, 5 ended · at most 4 open") for t in shown)
    for gid, number in (
        ("opened", 5),
        ("ended-thrown", 2),
        ("ended-evicted", 1),
        ("ended-client", 1),
        ("ended-reset", 1),
    ):
        assert sum(abs(p.get_height()) for p in figure.findobj(Rectangle) if p.get_gid() == gid) == number


def test_counts_are_those_of_the_table():
    trace = analyzer.read(CAPTURES / "frozen-keepalive")
    found, table = held(trace), trace.connections
    assert len(found.opened) == len(table)
    assert sum(map(len, found.ended.values())) == table.ended_by.notna().sum()
    assert len(found.ended["client"]) == (table.ended_by == "client-fin").sum()
    assert int(found.open[-1]) == table.ended_by.isna().sum()


def test_attempts_that_the_server_did_not_take_are_none():
    case = Case(
        "unanswered", packets=_OPEN.format(1, 9001) + "2 > SYN port=9002\n3 > SYN port=9003\n3.001 < RST-ACK port=9003"
    )
    assert len(held(traced(case)).opened) == 1


changes = st.lists(st.tuples(st.integers(0, 500), st.sampled_from([1, -1])), min_size=1, max_size=300)


@given(changes, st.integers(2, 40))
def test_fewer_steps_keep_the_peak_and_never_show_less(items, most):
    items.sort()
    times, values = np.array([t for t, _ in items]), np.cumsum([c for _, c in items])
    xs, ys = steps(times, values, most)
    assert len(xs) <= max(most, len(times) if len(times) <= most else most)
    assert ys.max() == values.max()
    last = np.searchsorted(times, times, side="right") - 1  # several changes at one time are one step
    assert (ys[np.searchsorted(xs, times, side="right") - 1] >= values[last]).all()


def test_a_server_is_chosen():
    trace = traced(storm())
    assert held(trace, "10.0.0.9:6379").server == held(trace).server == "10.0.0.9:6379"
    with pytest.raises(KeyError, match=r"no server '1\.1\.1\.1:1': there are 10\.0\.0\.9:6379"):
        connections_over_time(trace, server="1.1.1.1:1")


def test_without_connections_it_says_so():
    with pytest.raises(ValueError, match="there is none"):
        connections_over_time(traced(Case("unanswered", packets="2 > SYN")))
    with pytest.raises(ValueError, match="there is none"):
        connections_over_time(traced(Case("log", log="00:00:01.000 START 1\n00:00:02.000 REPORT 1")))


def test_the_same_bytes_every_time():
    trace = traced(storm())
    for kind in ("png", "svg", "pdf"):
        assert saved(connections_over_time(trace), kind) == saved(connections_over_time(trace), kind)
