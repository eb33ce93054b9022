"""Counters that an application prints beside the wall clock: the known line, and patterns that users give."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.logs.options import options
from analyzer.logs.reader import pick, read_log
from analyzer.logs.recognisers import counters
from analyzer.model.problems import InputError
from tests.logs import shapes
from tests.logs.shapes import START_MS, STREAMS, numbered, session
from tests.test_cli import analyze

MINE = r"uptime=(?P<wall>[\d.]+)s ticks=(?P<counted>\d+)"


@pytest.mark.parametrize(
    ("line", "wall", "ticked"),
    [
        ("Calculated: 13 seconds, Background Task: 7 seconds", 13, 7),
        ("Calculated: 1 second, Background Task: 1 second", 1, 1),
        ("demo Calculated: 13.5 seconds, Background Task: 7.25 seconds", 13.5, 7.25),
    ],
)
def test_the_known_line(line, wall, ticked):
    found = counters.recognise(line)
    assert found.kind == "counter" and found.attrs == {"wall_s": wall, "ticked_s": ticked}


def test_another_line_is_none():
    assert counters.recognise("Background Task: started") is None
    assert counters.recognise("Calculated: many seconds, Background Task: 7 seconds") is None


def test_a_users_pattern():
    patterns = options(counters=[r"never (?P<wall>\d+) (?P<counted>\d+)", MINE]).counters
    assert counters.read(patterns, "tick uptime=13.5s ticks=7").attrs == {"wall_s": 13.5, "ticked_s": 7.0}
    assert counters.read(patterns, "uptime=.s ticks=7") is None  # no number
    assert counters.read(patterns, "x" * counters.LONGEST + "uptime=13s ticks=7") is None


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(?P<wall>\\d+", "no regular expression"),
        (r"(?P<wall>\d+) (\d+)", "it needs the groups"),
        (r"(?P<wall>\d+) (?P<counted>\d+)(a+)+$", "a repeated group"),
        (r"(?P<wall>\d+) (?P<counted>\d+)(?:x|xx)*y", "a repeated group"),
        (r"(?P<wall>\d+) (?P<counted>\d+)(?:.+){9}", "a repeated group"),
        (r".*.*.*.*(?P<wall>\d) (?P<counted>\d+)", "more than 4 repetitions"),
    ],
)
def test_a_pattern_that_is_refused(pattern, why):
    with pytest.raises(InputError, match="--counter") as raised:
        options(counters=[pattern])
    assert why in str(raised.value)


def test_signs_that_stand_for_themselves_are_no_repetitions():
    assert counters.compiled(r"[*+{]\*\+\{ (?P<wall>\d+(?:\.\d+)?)/(?P<counted>\d+)")


@given(st.text(max_size=40))
def test_no_pattern_raises_anything_else(text):
    try:
        counters.compiled(text)
    except InputError:
        return
    raise AssertionError("a pattern without the groups was taken")


def test_a_hostile_line_takes_its_time_and_no_more():
    pattern = counters.compiled(r"(?P<wall>\d+)\d+ (?P<counted>\d+)x")
    began = time.perf_counter()
    assert counters.read([pattern], "1" * 1_000_000) is None
    assert time.perf_counter() - began < 1


@pytest.fixture
def export(tmp_path):
    """Three invocations of one environment, one every ten seconds; a counter that ticks while they run."""
    lines = []
    for k in range(3):
        made = session(STREAMS[0], k, START_MS + 10_000 * k)
        stamp, stream = made[-2].ms, made[-2].stream
        made.insert(-2, shapes.Line(stamp, stream, f"uptime={10 * k + 1}s ticks={k + 1}\n"))
        lines += made
    path = tmp_path / "tail.txt"
    path.write_text(shapes.tail_detailed(numbered(lines)))
    return path


def test_the_option_reaches_the_rule(export):
    run = analyze("diagnose", export, "--counter", MINE, "--format", "json")
    assert "T604" in [f["rule"] for f in json.loads(run.stdout)["findings"]]
    assert "T604" not in [
        f["rule"] for f in json.loads(analyze("diagnose", export, "--format", "json").stdout)["findings"]
    ]


def test_a_refused_pattern_is_a_usage_error(export):
    run = analyze("lambda-log", export, "--counter", "(a+)+")
    assert run.returncode == 2 and "--counter" in run.stderr.decode()


def test_a_big_log_keeps_every_line_that_a_users_pattern_may_match(monkeypatch):
    monkeypatch.setattr("analyzer.logs.stream.READ_WHOLE", 0)
    monkeypatch.setattr("analyzer.logs.envelopes._json.READ_WHOLE", 0)
    lines = [line for k in range(30) for line in session(STREAMS[0], k, START_MS + 1000 * k)]
    lines = [
        replace(line, message=line.message.replace("step 0", f"uptime={n}s ticks=1")) for n, line in enumerate(lines)
    ]
    for shape in (shapes.tail_detailed, shapes.filter_compact):
        data = shape(numbered(lines)).encode()
        kinds = [e.kind for e in read_log(io.BytesIO(data), "s", pick(data), options(counters=[MINE])).events]
        assert kinds.count("counter") == 30
