"""The ladder of a connection: every packet once, in the order in which each side saw it, lost ones lost, nothing hidden."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection

import analyzer
from analyzer.plot import sequence
from analyzer.plot.ladder import ARRIVE, MOST_RUNGS, ladder
from analyzer.plot.scene import scene
from analyzer.rules import rules
from analyzer.rules._cases import Case
from tests.helpers import CAPTURES
from tests.plot.look import HOSTILE, collisions, gids, is_blank, saved, texts, traced

FIRES = [pytest.param(case, id=f"{rule.CODE}-{n}") for rule in rules() for n, case in enumerate(rule.FIRES, 1)]
LOST = Case(
    "the server's reply is lost on the way",
    packets="0 > SYN\n0.002 < SYN-ACK\n0.003 > ACK\n0.010 > 60\n9.0 > 60",
    server_packets="0.001 > SYN\n0.001 < SYN-ACK\n0.004 > ACK\n0.011 > 60\n5.000 < 30\n9.001 > 60",
)


@pytest.fixture(scope="module")
def zombie():
    return analyzer.read(CAPTURES / "zombie-fin-wait-2")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_zombie_is_drawn_packet_by_packet(zombie, dark):
    figure = sequence(zombie, "C1", dark=dark)
    shown = texts(figure)
    assert not is_blank(figure)
    assert {"SYN_SENT", "ESTABLISHED", "FIN_WAIT_1", "CLOSE_WAIT", "FIN_WAIT_2", "LAST_ACK", "TIME_WAIT"} <= set(shown)
    assert {"FIN", "seq 5026 ack 177", "⋮ 9.743 s, frozen", "9.354178", "F201"} <= set(shown)
    assert {"freeze", "break", "log-line", "finding-F201", "packets-FIN", "packets-SYN"} <= gids(figure)
    arrows = sum(
        len(c.get_segments()) for c in figure.findobj(LineCollection) if str(c.get_gid()).startswith("packets-")
    )
    assert arrows == len(zombie.timeline("C1").query("layer == 'tcp'"))


@pytest.mark.parametrize("case", FIRES)
def test_rule_cases_are_drawn(case):
    trace = traced(case)
    for k in range(len(trace.story.connections)):
        figure = sequence(trace, f"C{k + 1}")
        assert saved(figure, "svg").endswith(b"</svg>\n")
        assert [pair for pair in collisions(figure) if pair[1] == ""] == []


def test_a_lost_packet_ends_in_between(zombie):
    trace = traced(LOST)
    rungs = ladder(scene(trace, "C1")).rungs
    (lost,) = [r for r in rungs if r.fate]
    assert (lost.start[0], lost.end[0]) == (1, 0.5)
    shown = texts(sequence(trace, "C1"))
    assert "30 B · lost before client.pcap" in shown and "in between" in shown
    assert "packets-lost" not in gids(sequence(zombie, "C1"))


def test_what_one_capture_alone_saw_unanswered_is_dotted():
    trace = traced(
        Case("no answer", packets="0 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.01 > 60\n0.02 < 9\n9 > 70\n9.3 > 70 again")
    )
    rungs = ladder(scene(trace, "C1")).rungs
    assert [r.segment.describe() for r in rungs if r.unanswered] == ["→ 70 B", "→ 70 B, retransmitted"]
    assert "dotted: no answer tells that it arrived" in texts(sequence(trace, "C1"))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 3_000), st.booleans(), st.sampled_from(["40", "ACK", "PROBE", "FIN"])),
        min_size=1,
        max_size=200,
    )
)
def test_time_runs_downwards_and_nothing_is_left_out(steps):
    at, lines = 1.0, ["0 > SYN", "0.1 < SYN-ACK", "0.2 > ACK"]
    for milliseconds, up, what in steps:
        at += milliseconds / 1000
        lines.append(f"{at:.3f} {'>' if up else '<'} {what}")
    trace = traced(Case("any", packets="\n".join(lines)))
    found = ladder(scene(trace, "C1"))
    folded = sum(int(g.text.split()[1].replace(",", "")) for g in found.gaps if g.folded)
    assert len(found.rungs) + folded == len(trace.story.connections.segments(0))
    assert len(found.rungs) <= MOST_RUNGS
    for column in (0, 1):
        seen = sorted((y, t) for r in found.rungs for c, y, t in r.seen if c == column)
        assert all(a[1] <= b[1] and b[0] - a[0] >= ARRIVE - 1e-9 for a, b in pairwise(seen))
    spans = sorted((g.y0, g.y1) for g in found.gaps)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert not [r for r in found.rungs for a, b in spans if a < r.start[1] < b]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_text_stays_literal(text):
    case = Case(
        "an error after a freeze",
        log="00:00:01.000 START 1\n00:00:01.100 REPORT 1\n00:00:11.000 START 2\n00:00:11.010 app 2 read ECONNRESET\n00:00:11.100 REPORT 2",
        packets="1.005 > SYN\n1.006 < SYN-ACK\n1.007 > ACK\n1.010 > 60\n1.012 < 30\n1.013 > ACK\n11.005 > 60\n11.007 < RST",
    )
    trace = traced(case)
    next(e for e in trace.story.events if e.kind == "error").text = text
    figure = sequence(trace, "C1")
    assert any(t.startswith("log: ") and "ECONNRESET" in t for t in texts(figure))
    svg = saved(figure, "svg").decode()
    assert "\x1b" not in svg and "<script" not in svg
    assert not any(re.search(r"[\x00-\x1f\u202e\ud800]", t) for t in texts(figure))


def test_the_same_bytes_every_time(zombie):
    for kind in ("png", "svg", "pdf"):
        assert saved(sequence(zombie, "C1"), kind) == saved(sequence(zombie, "C1"), kind)


def test_many_packets_are_folded_and_counted():
    packets = "\n".join(
        ["0 > SYN", "0.001 < SYN-ACK", "0.002 > ACK", *(f"{0.003 + n / 1000:.3f} > 100" for n in range(3_000))]
    )
    figure = sequence(traced(Case("bulk", packets=packets)), "C1")
    assert [t for t in texts(figure) if "more packets" in t] == ["… 2,999 more packets: → 299,900 B, ← 0 B in 2.998 s"]
    assert figure.get_size_inches()[1] < 5


def test_a_part_and_what_is_no_connection(zombie):
    late = sequence(zombie, "C1", since=zombie.story.connections.segments(0)[0].time_ns + 9 * 10**9)
    assert "SYN" not in texts(late) and "FIN" in texts(late)
    with pytest.raises(ValueError, match="one connection"):
        sequence(zombie, zombie.story.environments[0].id)
    with pytest.raises(KeyError):
        sequence(zombie, "C99")
