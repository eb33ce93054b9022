"""Log messages cut to what is read in them: the reading stays, what it says of anybody goes."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.logs import runtimes
from analyzer.logs.recognisers import recognise
from analyzer.redact import Redactor
from analyzer.redact.lines import message
from tests.helpers import CASES

R = Redactor("a key")
PREFIX = "2026-11-21T01:49:55.821Z\tb9cb51a5-67ef-4998-8200-1cc8e08215a3\t"
MESSAGES = [e["message"] for case in CASES for e in json.loads((case / "lambda.json").read_text())["events"]]


def read(text):
    """What the tool reads in a message, without names and free text."""
    line = runtimes.parse(text)
    found = recognise(line.body) if line.kind == "app" else None
    if found is None:
        return line.kind, line.level, line.inner_ns
    attrs = {k: v for k, v in found.attrs.items() if not isinstance(v, str) or (" " not in v and v)}
    return line.kind, found.layer, found.kind, found.inner_ns, found.pid, found.tracer, found.number, attrs


def test_real_messages_are_read_as_before():
    assert len(MESSAGES) > 300
    for text in MESSAGES:
        shown = message(text, R)
        before, after = read(text), read(shown)
        assert before[:-1] == after[:-1], (text, shown)
        if isinstance(before[-1], dict):
            assert {k: v for k, v in before[-1].items() if not isinstance(v, str)} == {
                k: v for k, v in after[-1].items() if not isinstance(v, str)
            }
            assert set(before[-1]) <= set(after[-1]), (text, shown)


def test_words_of_the_application_go():
    shown = message(f"{PREFIX}INFO\tcustomer Bob Miller bought 3 items for bob@miller.example", R)
    assert not any(word in shown for word in ("Bob", "Miller", "bought", "items", "bob@"))
    assert shown.startswith("2026-11-21T01:49:55.821Z\t") and "\tINFO\t" in shown and "b9cb51a5" not in shown


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("order 7 of Bob failed: read ECONNRESET at socket 9", "ECONNRESET"),
        (
            "cache of Bob: 4 DEADLINE_EXCEEDED: Deadline exceeded after 0.051s,remote_addr=10.0.2.20:50051",
            "DEADLINE_EXCEEDED",
        ),
        ("Bob's redis says ERR max number of clients reached today", "max number of clients reached"),
    ],
)
def test_what_is_read_in_them_stays(words, kept):
    shown = message(f"{PREFIX}ERROR\t{words}", R)
    assert kept in shown and "Bob" not in shown and "10.0.2.20" not in shown
    assert read(shown)[:-1] == read(f"{PREFIX}ERROR\t{words}")[:-1]


def test_structured_lines_stay_structured():
    line = {
        "timestamp": "2026-11-21T01:49:55.821Z", "level": "ERROR", "requestId": "b9cb51a5-67ef-4998-8200-1cc8e08215a3",
        "message": "Bob: read ECONNRESET", "user": {"name": "Bob", "age": 41, "tags": ["Bob", True, None]},
    }  # fmt: skip
    shown = json.loads(message(json.dumps(line), R))
    assert shown["timestamp"] == line["timestamp"] and shown["level"] == "ERROR"
    assert "ECONNRESET" in shown["message"] and "Bob" not in json.dumps(shown)
    assert shown["user"]["age"] == 0 and shown["user"]["tags"][1:] == [True, None]
    assert shown["requestId"] == R.text(line["requestId"])


def test_container_logs_keep_their_frame():
    line = {"log": f"{PREFIX}ERROR\tBob: read ECONNRESET\n", "stream": "stdout", "time": "2026-11-21T01:49:55.821Z"}
    shown = json.loads(message(json.dumps(line), R))
    assert (shown["stream"], shown["time"]) == ("stdout", line["time"])
    assert shown["log"].endswith("ECONNRESET\n") and "Bob" not in shown["log"] and "\tERROR\t" in shown["log"]


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300) | st.sampled_from(MESSAGES).flatmap(lambda m: st.integers(0, len(m)).map(lambda n: m[:n])))
def test_any_text_is_cut_without_an_error(text):
    assert isinstance(message(text, R), str)


@pytest.mark.parametrize(
    "body", ["{" * 50_000, "word " * 50_000, "[" * 200_000, '{"a":' * 20_000, "ECONNRESET " * 20_000, "x" * 500_000]
)
def test_hostile_messages_cost_little(body):
    began = time.perf_counter()
    shown = message(f"{PREFIX}ERROR\t{body}", R)
    message(body, R)
    assert time.perf_counter() - began < 5 and len(shown) < 50_000
