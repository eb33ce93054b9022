"""Connections as objects, narrower traces, and what all of them show of themselves in a notebook."""

from __future__ import annotations

import datetime as dt
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import analyzer
from analyzer.model.findings import Confidence, Evidence, Finding, Severity
from analyzer.model.markup import Html, element, table
from analyzer.model.tables import TABLES
from analyzer.model.times import moment
from analyzer.rules import rules, run
from analyzer.trace import Trace
from tests.helpers import CAPTURES

FIRES = [pytest.param(case, id=f"{rule.CODE}-{n}") for rule in rules() for n, case in enumerate(rule.FIRES[:1], 1)]


@pytest.fixture(scope="module")
def trace():
    return analyzer.read(CAPTURES / "frozen-keepalive")


def test_every_column_is_an_attribute(trace):
    connection = trace.connection("10.0.1.11:54122")
    row = trace.connections.set_index("id", drop=False).loc["C1"]
    for column in TABLES["connections"]:
        assert str(getattr(connection, column.name)) == str(row[column.name]), column.name
        assert column.name in dir(connection)
    assert repr(connection) == "<Connection C1 10.0.1.11:54122 → 10.0.2.20:50051: TIME_WAIT / CLOSED>"
    with pytest.raises(AttributeError, match="a connection has no 'colour'"):
        _ = connection.colour
    with pytest.raises(KeyError):
        trace.connection("C99")


def test_what_belongs_to_it(trace):
    connection = trace.connection("C1")
    assert [f.rule for f in connection.findings] == ["K101"] and trace.connection("C2").findings == []
    assert connection.timeline().equals(trace.timeline("C1"))
    assert len(connection.timeline(around="1s")) < len(connection.timeline())
    states = connection.states
    assert list(states.columns) == ["time", "client_state", "server_state"]
    assert states.iloc[0].tolist()[1:] == ["SYN_SENT", "UNKNOWN"] and states.iloc[-1].tolist()[1:] == [
        "TIME_WAIT",
        "CLOSED",
    ]
    assert (
        not (states[["client_state", "server_state"]].shift() == states[["client_state", "server_state"]])
        .all(axis=1)
        .any()
    )
    assert connection.plot(dark=True)._repr_png_()


# ---- views


def test_a_view_of_one_connection(trace):
    view = trace.view(connection="C2")
    assert view.connections["id"].tolist() == ["C2"] and view.findings == []
    assert set(view.events["connection"].dropna()) <= {"C1", "C2"} and len(view.events) < len(trace.events)
    assert view.transports["connection"].tolist() == ["C2"]
    assert (view.pings["connection"] == "C2").all() and len(view.pings)
    assert view.timeline("C2").equals(trace.timeline("C2")), "its story is whole"
    both = trace.view(connection=["C1", "C2"])
    assert both.connections.equals(trace.connections) and len(both.findings) == len(trace.findings)
    assert trace.view(connection=[]).connections.empty


def test_a_view_of_a_request_an_environment_a_stretch(trace):
    request = trace.invocations["request_id"][4]
    assert trace.view(request_id=request[:8]).invocations["request_id"].tolist() == [request]
    assert trace.view(environment="20e6").invocations.equals(trace.invocations)
    start, end = trace.invocations["start"][4], trace.invocations["end"][4]
    for since, until in ((start, end), (start.isoformat(), end.isoformat()), (start.value, end.value)):
        view = trace.view(since=since, until=until)
        assert view.invocations["request_id"].tolist() == [request]
        assert view.events["time"].min() >= start and view.events["time"].max() <= end
        assert "tcp" in set(view.events["layer"])
    nothing = trace.view(server=["192.0.2.0/24"])
    assert nothing.connections.empty and nothing.story.outside == 1
    with pytest.raises(analyzer.InputError, match="is no time"):
        trace.view(since="soon")


@pytest.mark.parametrize(
    ("value", "ns"),
    [
        ("2026-11-21", 1795219200), ("2026-11-21T00:06", 1795219560), ("2026-11-21 00:06:05+01:00", 1795215965),
        (dt.datetime(2026, 11, 21, 0, 6), 1795219560), (pd.Timestamp("2026-11-21T01:06+01:00"), 1795219560),
    ],
)  # fmt: skip
def test_times_that_a_person_gives(value, ns):
    assert moment(value) == ns * 10**9


def test_datetimes_lose_nothing():
    assert moment(pd.Timestamp(1795219560_123456789, tz="UTC")) == 1795219560_123456789


def test_time_zones(trace):
    """What the documentation says: tables are in UTC, and pandas shows them in any zone."""
    shown = trace.invocations["start"].dt.tz_convert("Asia/Kathmandu")
    assert str(shown.iloc[4]) == "2026-11-21 07:34:55.821000+05:45"
    assert (shown == trace.invocations["start"]).all()


# ---- in a notebook


class Checked(HTMLParser):
    """Tags that are all closed, in order; the text."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.styles = [], "", []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.styles += [value for name, value in attrs if name == "style"]
        assert {name for name, _ in attrs} <= {"style"} and tag in ("div", "b", "i", "code", "table", "tr", "td", "th")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def checked(html):
    parser = Checked()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    assert not any(re.search(r"color|#[0-9a-f]{3}|rgb", style) for style in parser.styles), (
        "it takes the page's own colours"
    )
    return parser.text


@pytest.mark.parametrize("case", FIRES)
def test_all_show_themselves(case):
    story = case.story()
    trace = Trace(story, run(story))
    text = checked(trace._repr_html_())
    assert all(f.title in text for f in trace.findings[:3])
    for finding in trace.findings:
        text = checked(finding._repr_html_())
        assert finding.title in text and finding.why in text
        assert all(f"{e.source}{e.ref}" in text for e in finding.evidence)
    for k in range(len(story.connections)):
        assert story.connections.client(k) in checked(trace.connection(f"C{k + 1}")._repr_html_())


def test_a_trace_is_compact(trace):
    assert len(trace._repr_html_()) < 6_000
    assert "1 error in 2 sources, 2 connections" in checked(trace._repr_html_())


@settings(max_examples=100, deadline=None)
@given(
    text=st.text(max_size=60)
    | st.sampled_from(["<script>alert(1)</script>", "</table><img src=x onerror=y>", "&lt;b&gt;"])
)
def test_hostile_text_is_escaped(text):
    finding = Finding(
        text, text, Severity.ERROR, Confidence.CERTAIN, text, 5, [Evidence("s1", text, "app", 5, None, text, text)], text,
        connection=text, environment=text, request_ids=[text], help=text, ruled_out=[text], id="F1",
    )  # fmt: skip
    assert (
        text.replace("\r\n", "\n").replace("\r", "\n") in checked(finding._repr_html_()).replace("\r", "\n")
        or not text.strip()
    )
    assert element("b", text).count("<") == 2
    assert table(("a",), [(text,), (Html("<i>x</i>"),)]).count("<td") == 2
