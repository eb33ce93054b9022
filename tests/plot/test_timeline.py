"""The picture of a connection: it says what the sources say, stays literal, and can be read."""

from __future__ import annotations

import re

import matplotlib as mpl
import pytest
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D

import analyzer
from analyzer.deep import DeepFrame
from analyzer.model.records import Environment
from analyzer.model.times import MS, SECOND
from analyzer.plot import timeline
from analyzer.plot.scene import scene
from analyzer.rules import rules
from analyzer.rules._cases import Case
from tests.helpers import CAPTURES
from tests.plot.look import HOSTILE, collisions, gids, saved, texts, traced

SCENES = [
    ("frozen-keepalive", "C1"),
    ("frozen-keepalive", "C2"),
    ("zombie-fin-wait-2", "C1"),
    ("healthy", "C1"),
    ("healthy", "C2"),
]
#: Beside connections: an environment, and a request; as parts of their names.
OTHERS = [
    ("frozen-keepalive", "20e6082ed6564572bdde2d18bd648985"),
    ("frozen-keepalive", "b9cb51a5"),
    ("zombie-fin-wait-2", "63a637dedda84412a4e918e0378afc23"),
    ("zombie-fin-wait-2", "1741ca7d"),
    ("healthy", "b23dd459111840949471189329c7829d"),
]
FIRES = [pytest.param(case, id=f"{rule.CODE}-{n}") for rule in rules() for n, case in enumerate(rule.FIRES, 1)]


@pytest.fixture(scope="module")
def traces():
    return {name: analyzer.read(CAPTURES / name) for name in {name for name, _ in SCENES}}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("name", "connection"), SCENES + OTHERS)
def test_shipped_captures_are_drawn(traces, name, connection, dark):
    figure = timeline(traces[name], connection, dark=dark)
    assert saved(figure, "png").startswith(b"\x89PNG")
    assert b"</svg>" in saved(figure, "svg")


@pytest.mark.parametrize("case", FIRES)
def test_rule_cases_are_drawn_with_their_flags(case):
    trace = traced(case)
    for k in range(len(trace.story.connections)):
        figure = timeline(trace, f"C{k + 1}")
        assert saved(figure, "png").startswith(b"\x89PNG")
        assert b"</svg>" in saved(figure, "svg")
        codes = {f.rule for f in trace.findings if f"C{k + 1}" in (f.connection, *f.connections)}
        assert {f"finding-{code}" for code in codes} <= gids(figure)


def test_the_scene_is_all_there(traces):
    """Freeze, invocations, pings, states, packets by kind, log lines and the finding, each as an artist with its name."""
    found = gids(timeline(traces["frozen-keepalive"], "C1"))
    assert {
        "freeze",
        "invocation",
        "ping-acked",
        "ping-timeout",
        "log-lines",
        "log-errors",
        "finding-K101",
        "break",
    } <= found
    assert {"state-SYN_SENT", "state-ESTABLISHED", "state-TIME_WAIT", "state-CLOSED"} <= found
    assert {f"packets-{kind}" for kind in ("SYN", "FIN", "data", "PING", "retransmitted", "GOAWAY", "ACK")} <= found


def test_the_zombie_is_named(traces):
    shown = texts(timeline(traces["zombie-fin-wait-2"], "C1"))
    assert {"CLOSE_WAIT", "FIN_WAIT_2", "frozen 16 s", "⋮9.74 s", "F201", "redis connection closed", "4d82c0fd"} <= set(
        shown
    )


def test_an_environment_is_all_its_connections(traces):
    """The mission: invocations of one environment, pings sent and acknowledged, the freeze, the ping that dies."""
    trace = traces["frozen-keepalive"]
    figure = timeline(trace, trace.story.environments[0].id)
    assert {"invocation", "freeze", "ping-acked", "ping-timeout", "call-done", "call-failed", "finding-K101"} <= gids(
        figure
    )
    shown = texts(figure)
    assert {"C1", "C2", "frozen 5.501 s", "timed out after 5.502 s, ran 1 ms of 1 s", "DEADLINE_EXCEEDED"} <= set(shown)
    assert {i.request_id[:8] for i in trace.story.invocations} <= set(shown)
    assert any(t.startswith("7 invocations · frozen 6 times, 17.5 s in all · 2 connections · from ") for t in shown)


def test_a_request_has_the_freezes_on_both_sides_and_no_more(traces):
    trace = traces["frozen-keepalive"]
    invocation = next(i for i in trace.story.invocations if i.request_id.startswith("b9cb51a5"))
    found = scene(trace, "b9cb51a5")
    before, after = (
        z for z in trace.story.freezes if invocation.start_ns == z.end_ns or z.start_ns == invocation.end_ns
    )
    assert found.start_ns <= before.start_ns and after.end_ns <= found.end_ns <= after.end_ns + MS * 50
    assert [i.request_id[:8] for i in found.invocations] == ["02713a3b", "b9cb51a5", "0cd18886"]
    assert all(found.start_ns <= s.time_ns <= found.end_ns for track in found.tracks for s in track.segments)
    assert [f.rule for f in found.findings] == ["K101"]


def test_logs_alone_are_drawn():
    trace = analyzer.read(CAPTURES / "frozen-keepalive", kinds=frozenset(("log",)))
    figure = timeline(trace, trace.story.environments[0].id)
    assert {"invocation", "freeze", "ping-timeout", "transport", "finding-K101"} <= gids(figure)
    assert "(1) 10.0.2.20:50051, ended by keepalive timeout" in texts(figure)
    assert not {g for g in gids(figure) if g.startswith("packets")}


def test_a_capture_alone_has_its_own_pings():
    trace = analyzer.read(CAPTURES / "frozen-keepalive", kinds=frozenset(("pcap",)))
    found = scene(trace, "C1")
    assert found.wire_pings and "captured PINGs" in texts(timeline(trace, "C1"))
    sent = [s for s in found.tracks[0].segments if s.describe() == "→ PING (17 B)"]
    assert [p.sent_ns for p in found.pings] == [s.time_ns for s in sent]
    assert all(p.acked_ns is not None and p.acked_ns > p.sent_ns for p in found.pings)


def test_what_tshark_saw_inside_is_named(traces):
    trace = analyzer.read(CAPTURES / "healthy")
    segment = next(s for s in trace.story.connections.segments(0) if s.payload)
    trace.deep = {0: [DeepFrame(True, "grpc", "request", "POST /cache.Cache/Get, stream 1", 1, segment.places[0])]}
    assert "POST /cache.Cache/Get, stream 1" in texts(timeline(trace, "C1"))


def test_a_part_is_cut_out(traces):
    trace = traces["zombie-fin-wait-2"]
    whole = scene(trace, "C1")
    middle = whole.start_ns + 9 * SECOND
    first, second = scene(trace, "C1", until_ns=middle), scene(trace, "C1", since_ns=middle + 1)
    assert [*first.tracks[0].segments, *second.tracks[0].segments] == whole.tracks[0].segments
    assert [*first.events, *second.events] == whole.events
    assert second.tracks[0].client_states[0].start_ns == second.start_ns
    assert first.findings == [] and [f.rule for f in second.findings] == ["F201"]
    with pytest.raises(ValueError, match="outside"):
        timeline(trace, "C1", since="2030-01-01")


def test_many_connections_of_an_environment_are_lines():
    lives = "".join(
        f"{n}.0 > SYN\n{n}.01 < SYN-ACK\n{n}.02 > ACK\n{n}.03 > 9\n{n}.04 < 9\n{n}.05 > FIN\n" for n in range(1, 30)
    )
    trace = traced(Case("churn", packets=lives))
    trace.story.environments.append(Environment("env"))
    trace.story.connections.environment.update(dict.fromkeys(range(29), "env"))
    found = scene(trace, "env")
    assert (len(found.tracks), len(found.lives)) == (1, 28)
    figure = timeline(trace, "env")
    (lines,) = [c for c in figure.findobj(LineCollection) if c.get_gid() == "connections-client"]
    assert len(lines.get_segments()) == 28
    assert "28 other" in texts(figure)


def test_a_retransmission_the_client_never_saw_stops_half_way():
    """Two captures: what only one of them saw does not reach the other line."""
    case = Case(
        "the server's second copy is lost on the way",
        packets="0 > SYN\n0.002 < SYN-ACK\n0.003 > ACK\n0.010 > 60\n0.020 < 30",
        server_packets="0.001 > SYN\n0.001 < SYN-ACK\n0.004 > ACK\n0.011 > 60\n0.019 < 30\n0.519 < 30 again",
    )
    figure = timeline(traced(case), "C1")
    (again,) = [c for c in figure.findobj(LineCollection) if c.get_gid() == "packets-retransmitted"]
    (data,) = [c for c in figure.findobj(LineCollection) if c.get_gid() == "packets-data"]
    (stroke,), whole = again.get_segments(), data.get_segments()[0]
    assert abs(stroke[1][1] - stroke[0][1]) == pytest.approx(abs(whole[1][1] - whole[0][1]) / 2)


def test_a_lost_packet_ends_in_a_cross():
    case = Case(
        "the server's reply is lost on the way",
        packets="0 > SYN\n0.002 < SYN-ACK\n0.003 > ACK\n0.010 > 60\n9.0 > 60",
        server_packets="0.001 > SYN\n0.001 < SYN-ACK\n0.004 > ACK\n0.011 > 60\n5.000 < 30\n9.001 > 60",
    )
    figure = timeline(traced(case), "C1")
    (crosses,) = [a for a in figure.findobj(Line2D) if a.get_gid() == "packets-lost"]
    assert len(crosses.get_xdata()) == 1
    assert "lost between the captures" in texts(figure)


@pytest.mark.parametrize(("name", "connection"), SCENES + OTHERS)
def test_no_label_covers_another(traces, name, connection):
    figure = timeline(traces[name], connection)
    assert collisions(figure) == []


def test_the_same_bytes_every_time(traces):
    for kind in ("png", "svg", "pdf"):
        once, again = (saved(timeline(traces["zombie-fin-wait-2"], "C1"), kind) for _ in range(2))
        assert once == again, kind
    assert b"<dc:date>" not in saved(timeline(traces["zombie-fin-wait-2"], "C1"), "svg")


def test_a_users_settings_change_nothing(traces):
    plain = saved(timeline(traces["healthy"], "C1"), "png")
    with mpl.rc_context({"font.family": ["serif"], "font.size": 20, "hatch.linewidth": 4, "text.parse_math": True}):
        assert saved(timeline(traces["healthy"], "C1"), "png") == plain


def test_it_shows_itself_in_a_notebook_without_pyplot(traces):
    figure = timeline(traces["healthy"], "C1")
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_it_is_saved_by_name(traces, tmp_path):
    for kind, magic in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        timeline(traces["healthy"], "C1").savefig(tmp_path / f"c1.{kind}")
        assert (tmp_path / f"c1.{kind}").read_bytes().startswith(magic)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_text_stays_literal(text):
    trace = traced(_scene())
    event = next(e for e in trace.story.events if e.kind == "error")
    event.text = text
    for other in trace.story.events:
        if other.kind == "start":
            other.request_id = trace.story.invocations[0].request_id = "$a$\n"
    trace.story.connections.environment[0] = event.environment = "[$LATEST]$\\bad{$\n"
    figure = timeline(trace, "C1")
    assert saved(figure, "png").startswith(b"\x89PNG")
    svg = saved(figure, "svg").decode()
    assert "\x1b" not in svg and "<script" not in svg
    assert not any(re.search(r"[\x00-\x1f\u202e\ud800]", t) for t in texts(figure))


def _scene() -> Case:
    return Case(
        "an error after a freeze",
        log="""
            00:00:01.000 START 1
            00:00:01.020 app 1 connected
            00:00:01.100 REPORT 1
            00:00:11.000 START 2
            00:00:11.010 app 2 read ECONNRESET
            00:00:11.100 REPORT 2
        """,
        packets="1.005 > SYN\n1.006 < SYN-ACK\n1.007 > ACK\n1.010 > 60\n1.012 < 30\n1.013 > ACK\n11.005 > 60\n11.007 < RST",
    )


@pytest.mark.parametrize(
    "packets",
    [
        "0 > SYN",
        "0 < RST",
        "5 > 60",
        "0 > SYN\n0 < SYN-ACK\n0 > ACK",
        "0 > SYN\n1 > SYN again\n3 > SYN again\n7 > SYN again",
    ],
    ids=["SYN", "RST", "midstream", "at-once", "unanswered"],
)
def test_packets_alone_are_drawn_however_few(packets):
    figure = timeline(traced(Case("few packets", packets=packets)), "C1")
    assert saved(figure, "png").startswith(b"\x89PNG")
    assert not {"freeze", "invocation", "log-lines"} & gids(figure)


def test_many_packets_cost_a_screenful():
    packets = "\n".join(
        ["0 > SYN", "0.001 < SYN-ACK", "0.002 > ACK", *(f"{0.003 + n / 1000:.3f} > 100" for n in range(20_000))]
    )
    figure = timeline(traced(Case("bulk", packets=packets)), "C1")
    drawn = sum(len(c.get_segments()) for c in figure.findobj(LineCollection))
    assert drawn < 7_000
    assert len(saved(figure, "svg")) < 3_000_000


def test_unknown_connections_are_refused(traces):
    with pytest.raises(KeyError, match="C99"):
        timeline(traces["healthy"], "C99")


def test_width_is_kept_within_reason(traces):
    for width, expected in ((9.0, 9.0), (1.0, 7.0), (20.0, 20.0)):
        figure = timeline(traces["frozen-keepalive"], "C1", width=width)
        assert figure.get_size_inches()[0] == expected
        saved(figure, "png")
