"""Rests of connections: counted as R305 counts, each in its place among the known limits."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import Rectangle

import analyzer
from analyzer.plot import idle_gaps
from analyzer.plot.idle_gaps import rests
from analyzer.plot.lives import lives
from analyzer.rules._cases import Case
from analyzer.rules._limits import LIMITS
from tests.helpers import CAPTURES
from tests.plot.look import collisions, gids, is_blank, saved, texts, traced

_OPEN = "{0}.000 > SYN\n{0}.001 < SYN-ACK\n{0}.002 > ACK\n{0}.010 > 40\n{0}.012 < 90\n"
_OK = "{1}.000 > 40\n{1}.002 < 90\n"
_FAILS = "{2}.000 > 40\n{2}.001 < RST\n"
BRACKETED = (_OPEN + _OK + _FAILS).format(0, 300, 660) + (_OPEN + _OK + _FAILS).format(1000, 1310, 1700)


def bars(figure, gid):
    """(lower edge s, count) of every bar that is not empty."""
    found = [p for p in figure.findobj(Rectangle) if str(p.get_gid()).startswith(gid) and p.get_height()]
    return sorted((p.get_x(), round(p.get_height())) for p in found)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_bracket_of_a_limit_is_drawn(dark):
    trace = traced(Case("a limit of 350 s", packets=BRACKETED))
    figure = idle_gaps(trace, dark=dark)
    shown = texts(figure)
    assert not is_blank(figure) and collisions(figure) == []
    assert "2 survived, up to 5 min 10 s · 2 failed, from 6 min 00 s" in shown
    assert {"limit", "bracket", "gaps-survived", "gaps-RST"} <= gids(figure)
    assert "350 s" in shown and any(t.startswith("350 s: NAT gateway") for t in shown)
    survived, failed = bars(figure, "gaps-survived"), bars(figure, "gaps-RST")
    assert sum(n for _, n in survived) == sum(n for _, n in failed) == 2
    assert max(x for x, _ in survived) < 350 < max(x for x, _ in failed) + 60


def test_limits_are_those_of_the_rule_up_to_the_next():
    shown = texts(idle_gaps(traced(Case("a limit", packets=BRACKETED))))
    named = [int(t.split(" s: ")[0]) for t in shown if " s: " in t]
    assert named == [60, 240, 310, 350, 600]
    assert set(named) <= {limit.seconds for limit in LIMITS}


def test_a_rest_ends_with_the_servers_close():
    """It is how long the server waited that tells its limit, not when the client found out."""
    packets = _OPEN.format(0) + "8.012 < FIN\n8.3 < FIN again\n9.0 < FIN again\n20.0 > 40\n20.001 < RST\n"
    trace = traced(Case("closed while idle", packets=packets))
    (gap,) = rests(trace).failed
    assert (gap.ending, round(gap.ns / 1e9, 3)) == ("FIN", 8.0)
    assert "failed: closed by the server" in texts(idle_gaps(trace))


def test_rests_of_the_shipped_cases():
    trace = analyzer.read(CAPTURES / "healthy")
    found = rests(trace)
    assert found.failed == [] and len(found.survived) == 5
    assert texts(idle_gaps(trace))[0] == "idle gaps of connections to 2 servers"


def test_connections_of_several_servers_have_no_common_limit():
    found = rests(traced(Case("a limit", packets=BRACKETED)))
    assert found.bracket is not None
    found.servers.append("10.0.0.10:6379")
    assert found.bracket is None


def test_what_cannot_be_looked_at_is_spread_evenly():
    found = lives(traced(Case("many", packets="\n".join(f"{n} > SYN port={9000 + n}" for n in range(100)))).story)
    every = np.arange(100)
    assert found.affordable(every, 1000).tolist() == list(range(100))
    assert found.affordable(every, 30).tolist() == list(range(0, 100, 4))
    found.packets[7] = 10**6
    assert 7 not in found.affordable(every, 1000)
    assert found.affordable(np.array([7]), 1000).tolist() == [7]


def test_without_rests_it_says_so():
    with pytest.raises(ValueError, match="a second or more of silence"):
        idle_gaps(traced(Case("short", packets=_OPEN.format(0))))


def test_the_same_bytes_every_time():
    trace = traced(Case("a limit", packets=BRACKETED))
    for kind in ("png", "svg", "pdf"):
        assert saved(idle_gaps(trace), kind) == saved(idle_gaps(trace), kind)
