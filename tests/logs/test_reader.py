"""Envelopes and runtimes: shapes, what is lost, hostile input."""

from __future__ import annotations

import contextlib
import io
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.logs.reader import pick, read_log
from analyzer.logs.runtimes import parse
from analyzer.model.problems import InputError

STREAM = "2026/11/21/[$LATEST]3f1c0de3f1c0de3f1c0de3f1c0de3f1c"
ID = "6f0d0001-0000-4000-8000-000000000001"
MESSAGES = [
    f"START RequestId: {ID} Version: $LATEST\n",
    f"2026-11-21T00:00:00.010Z\t{ID}\tERROR\tboom Error: read ECONNRESET\n    at TCP.onStreamRead {{\n  errno: -104,\n  code: 'ECONNRESET'\n}}\n",
    f"END RequestId: {ID}\n",
    f"REPORT RequestId: {ID}\tDuration: 5.20 ms\tBilled Duration: 6 ms\tMemory Size: 128 MB\tMax Memory Used: 57 MB\tInit Duration: 162.18 ms\t\n",
]


def read(data: bytes):
    choice = pick(data[:65536])
    assert choice.envelope is not None
    return read_log(io.BytesIO(data), "s1", choice)


def export() -> bytes:
    events = [
        {
            "logStreamName": STREAM,
            "timestamp": 1795219200000 + 10 * k,
            "message": m,
            "ingestionTime": 0,
            "eventId": str(k),
        }
        for k, m in enumerate(MESSAGES)
    ]
    return json.dumps({"events": events, "searchedLogStreams": []}).encode()


def tail() -> bytes:
    lines = [f"2026-11-21T00:00:00.{10 * k:03d}000+00:00 {STREAM} {m.rstrip()}" for k, m in enumerate(MESSAGES)]
    return "\n".join(lines).encode()


def short() -> bytes:
    return "\n".join(f"2026-11-21T00:00:00 {m.rstrip()}" for m in MESSAGES).encode()


@pytest.mark.parametrize(
    "shape", [export, tail, short, lambda: "".join(MESSAGES).encode()], ids=["export", "tail", "short", "plain"]
)
def test_every_shape_gives_the_same_events(shape):
    data = read(shape())
    assert [e.kind for e in data.events] == ["start", "error", "end", "report"]
    error = data.events[1]
    assert (error.attrs["code"], error.attrs["errno"], error.attrs["kernel"]) == ("ECONNRESET", -104, True)
    assert data.events[3].attrs["duration_ns"] == 5_200_000
    assert {e.request_id for e in data.events} == {ID}


def test_what_is_lost_is_said():
    assert [p.what for p in read("".join(MESSAGES).encode()).problems] == [
        "no log stream: environments are inferred",
        "no stamp on platform lines: they stand where their neighbours do",
    ]
    assert any("no log stream" in p.what for p in read(short()).problems)
    assert not read(export()).problems


def test_refs_count_from_one():
    assert [e.ref for e in read(export()).events] == ["[1]", "[2]", "[3]", "[4]"]
    assert [e.ref for e in read("".join(MESSAGES).encode()).events] == [":1", ":2", ":7", ":8"]


@pytest.mark.parametrize(
    "text",
    [
        '{"events": [{"no": 1}]}',
        '{"events": 3, "message": ""}',
        '{"events": [',
        "hello\nworld\n",
        "",
        "\x89PNG\r\n",
        '{"case": "1a", "message": "x"}',
    ],
)
def test_other_files_are_refused(text):
    choice = pick(text.encode())
    if choice.envelope is not None:
        with pytest.raises(InputError):
            read_log(io.BytesIO(text.encode()), "s1", choice)


@pytest.mark.parametrize(
    ("message", "kind", "attrs"),
    [
        ("INIT_START Runtime Version: nodejs:18.v28\tRuntime Version ARN: arn:aws:x\n", "init-start", {"runtime": "nodejs:18.v28"}),
        (f"REPORT RequestId: {ID}\tDuration: 3000.00 ms\tBilled Duration: 3000 ms\tStatus: timeout\nXRAY TraceId: 1-5e", "report", {"duration_ns": 3_000_000_000, "status": "timeout"}),
        (f"REPORT RequestId: {ID}  Duration: 100.00 ms  Billed Duration: 100 ms ", "report", {"duration_ns": 100_000_000}),
        (f"2023-07-20T18:37:39.961Z {ID} Task timed out after 2.02 seconds\n\n", "timeout", {"timeout_s": 2.02}),
        (f"RequestId: {ID} Error: Runtime exited with error: exit status 1\nRuntime.ExitError\n", "crash", {}),
    ],
)  # fmt: skip
def test_platform_lines(message, kind, attrs):
    line = parse(message)
    assert line.kind == kind
    assert attrs.items() <= line.attrs.items()


def test_user_text_is_no_platform_line():
    line = parse(f"2026-11-21T00:00:00.010Z\t{ID}\tINFO\tSTART RequestId: {ID} Version: 1")
    assert line.kind == "app"


def test_the_id_before_the_first_invocation_is_none():
    assert parse("2026-11-21T00:00:00.010Z\tundefined\tINFO\tconnecting").request_id is None


@given(st.binary(max_size=2000))
@settings(max_examples=200)
def test_any_bytes_give_a_result_or_a_refusal(data):
    choice = pick(data)
    if choice.envelope is not None:
        with contextlib.suppress(InputError):
            read_log(io.BytesIO(data), "s1", choice)


def test_cost_is_linear_in_hostile_lines():
    """A line made to make a regular expression backtrack costs no more per byte than any other."""

    def seconds(text: str) -> float:
        best = 9.0
        for _ in range(3):
            began = time.perf_counter()
            parse(text)
            from analyzer.logs.recognisers import recognise

            recognise(text)
            best = min(best, time.perf_counter() - began)
        return best

    for piece in (
        "Deadline exceeded after 1.1s,remote_addr=",
        "ECONNRESET ",
        "D 2026-11-21T00:00:00.000Z | a | (1) ",
        "REPORT RequestId: 6f0d0001-0 Duration: 1 ms\t",
    ):
        small, large = seconds(piece * 100), seconds(piece * 10_000)
        assert large < 100 * 100 * max(small, 2e-5)


ODD = {
    "an entry that is no event": ('{"events": [{"message": "START"}, 7, {"message": "END"}]}', 2),
    "a stream name that is no text": ('{"events": [{"message": "x", "logStreamName": 5, "timestamp": 1}]}', 1),
    "a stamp beyond every calendar": ('{"events": [{"message": "x", "timestamp": 9223372036854775807}]}', 1),
    "a lone surrogate": ('{"events": [{"message": "half \\ud83d", "timestamp": 1}]}', 1),
}


@pytest.mark.parametrize(("text", "events"), ODD.values(), ids=ODD)
def test_odd_documents_are_read_as_far_as_they_go(text, events):
    assert len(read(text.encode()).events) == events


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(encoding):
    assert len(read(export().decode().encode(encoding)).events) == len(MESSAGES)


def test_an_empty_export_is_an_export():
    assert pick(b'{"events": [], "searchedLogStreams": []}').fit > 0


@pytest.mark.parametrize(
    "message",
    [
        "Deadline exceeded after .s",
        "D 2026-11-21T00:00:00.000Z | v1.\u00b2 1 | keepalive | (1) 10.0.0.1:1 Sending ping with timeout "
        + "9" * 5000
        + "ms",
        f"REPORT RequestId: {ID}\tDuration: inf ms",
        f"REPORT RequestId: {ID}\tDuration: 1e400 ms",
        "Calculated: " + "9" * 400 + " seconds, Background Task: 1 seconds",
    ],
)
def test_numbers_that_are_none(message):
    from analyzer.logs.recognisers import recognise

    recognise(parse(message).body)


def test_whole_second_stamps_are_not_trusted():
    lines = [f"2026-11-21T00:00:0{k} 2026-11-21T00:00:0{k}.{k}50Z\t{ID}\tINFO\tline {k}" for k in range(6)]
    data = read("\n".join(lines).encode())
    assert any("whole seconds" in p.what for p in data.problems)
    assert all(e.source_ns == e.inner_ns for e in data.events)
