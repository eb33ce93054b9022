"""Input that was made, or has decayed, to hurt: no exception, no hang, no memory beyond a few blocks, and it is said."""

from __future__ import annotations

import io
import json
import random
import re
import time
import tracemalloc

import pytest

from analyzer.logs.envelopes import envelopes, named
from analyzer.logs.reader import pick, read_log
from analyzer.logs.stream import LONGEST_LINE, MOST_LINES, LogStream
from analyzer.model.problems import InputError
from tests.logs import shapes
from tests.logs.shapes import START_MS, STREAMS, numbered, session

LINES = numbered([line for k in range(4) for line in session(STREAMS[0], k, START_MS + 1000 * k)])
MB = 1 << 20


class Endless(io.RawIOBase):
    """`head`, then so many copies of `piece`, then `tail`, never all in memory."""

    def __init__(self, head: bytes, piece: bytes, times: int, tail: bytes = b"") -> None:
        self._parts = [head] + [piece] * times + [tail]
        self._left = b""

    def read(self, size: int = -1) -> bytes:
        while self._parts and (size < 0 or len(self._left) < size):
            self._left += self._parts.pop(0)
        out, self._left = (self._left, b"") if size < 0 else (self._left[:size], self._left[size:])
        return out


def read(data: bytes | io.RawIOBase, head: bytes | None = None):
    raw = io.BytesIO(data) if isinstance(data, bytes) else data
    return read_log(raw, "x", pick(head if head is not None else data[:65536]))


def measured(stream: Endless, head: bytes):
    """What was read, and the peak of memory in MB."""
    tracemalloc.start()
    try:
        data = read(stream, head)
        return data, tracemalloc.get_traced_memory()[1] / MB
    finally:
        tracemalloc.stop()


def test_a_line_of_a_hundred_megabytes():
    head = shapes.tail_detailed(LINES).encode()
    line = shapes.iso(START_MS, 6, "+00:00").encode() + b" " + STREAMS[0].encode() + b" "
    data, peak = measured(Endless(head + line, b"x" * MB, 100, b"\n" + head), head)
    assert any(f"longer than {LONGEST_LINE >> 20} MB" in p.what for p in data.problems)
    assert data.records == 2 * len(LINES) + 1
    assert peak < 40


def test_a_document_of_many_megabytes_is_never_held():
    text = shapes.filter_pretty(LINES).encode()
    first, last = text.index(b"{", 1), text.rindex(b"}", 0, text.rindex(b"]", 0, text.rindex(b"searched")))
    block = (text[first : last + 1] + b",\n        ") * 30
    stream = LogStream(Endless(text[:first], block, 150, text[first:]))
    tracemalloc.start()
    try:
        records = sum(1 for _ in named("filter-log-events").read(stream))
        peak = tracemalloc.get_traced_memory()[1] / MB
    finally:
        tracemalloc.stop()
    assert records + stream.folded == (150 * 30 + 1) * len(LINES)
    assert peak < 24 < 150 * len(block) / MB


def test_a_message_of_many_megabytes_in_a_document():
    text = shapes.filter_compact(LINES)
    head, tail = text[: text.index("step 0")].encode(), text[text.index("step 0") :].encode()
    assert read(Endless(head, b"x" * MB, 40, tail), text.encode()).records == len(LINES)


@pytest.mark.parametrize("opener", [b"[", b'{"a":', b'{"events": [{"message": "x", "timestamp": 1, "y": ' + b"["])
def test_deep_nesting(opener):
    data = b'{"events": [{"timestamp": 1795219200000, "message": "START", "x": ' + opener * 200_000
    with pytest.raises(InputError):
        read(data)
    message = json.dumps({"timestamp": "2026-11-21T00:00:00Z", "level": "INFO", "message": "x"})[:-1] + ', "y": '
    deep = message + "[" * 100_000 + "]" * 100_000 + "}"
    assert (
        len(
            read(
                (shapes.tail_detailed(LINES) + f"{shapes.iso(START_MS, 6, '+00:00')} {STREAMS[0]} {deep}\n").encode()
            ).events
        )
        == len(LINES) + 1
    )


BOMBS = {
    "spaces": " " * 200_000, "tabs": "\t" * 200_000, "braces": "{" * 200_000, "objects": "}{" * 100_000,
    "brackets": "[" * 200_000, "quotes": '"' * 200_000, "stamps": "2026-11-21T00:00:00.000Z\t" * 8_000,
    "streams": "2026/11/21/[" * 16_000, "reports": "REPORT RequestId: 6f0d0001-0 Duration: " * 5_000,
    "keys": "Duration: " * 20_000, "colons": ":" * 200_000, "returns": "\r" * 200_000, "escapes": "\x1b[" * 100_000,
    "colours": "\x1b[0" + ";0" * 100_000, "tracebacks": "[ERROR] " + "a." * 100_000, "borders": '},{"logStreamName":' * 10_000,
    "spaced braces": "} " * 100_000, "commas": '"' + "a," * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_no_text_makes_a_pattern_explode(bomb):
    """A second for 200 KB would be a thousand times too long; quadratic patterns take minutes."""
    began = time.process_time()
    for envelope in envelopes():
        envelope.score(bomb)
        envelope.score(bomb + "\n" + bomb)
    for prefix in (
        "",
        "[ERROR] ",
        f"{shapes.iso(START_MS)}\t",
        "{",
        '{"message": "',
        "REPORT RequestId: 6f0d0001-0000 ",
    ):
        read(
            (
                shapes.tail_detailed(LINES) + f"{shapes.iso(START_MS, 6, '+00:00')} {STREAMS[0]} {prefix}{bomb}\n"
            ).encode()
        )
    assert time.process_time() - began < 8


@pytest.mark.parametrize("writer", [shapes.tail_detailed, shapes.console_csv, shapes.filter_pretty, shapes.stamped])
def test_bytes_that_are_no_text(writer):
    text = writer(LINES).encode()
    for bad in (b"\0", b"\xff\xfe", b"\xe2\x28\xa1", "é".encode("latin-1"), "\u2028".encode()):
        assert len(read(text.replace(b"redis", b"re" + bad + b"dis"), text).events) == len(LINES)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_mixed_encodings(encoding):
    text = shapes.tail_detailed(LINES).encode(encoding)
    data = read(text + b"\xff\xfe\x00 trailing rubbish")
    assert len(data.events) == len(LINES)


def test_random_damage_anywhere():
    dice = random.Random(7)
    for writer in (
        shapes.filter_pretty,
        shapes.firehose,
        shapes.insights_csv,
        shapes.tail_detailed,
        shapes.kinesis,
        shapes.cri,
    ):
        text = writer(LINES).encode()
        choice = pick(text)
        for _ in range(60):
            damaged = bytearray(text)
            for _ in range(dice.randrange(1, 8)):
                damaged[dice.randrange(len(damaged))] = dice.randrange(256)
            try:
                data = read_log(io.BytesIO(bytes(damaged)), "x", choice)
            except InputError:
                continue
            assert len(data.events) + len(data.problems) > 0


def test_damage_in_the_middle_of_a_document_is_said(monkeypatch):
    monkeypatch.setattr("analyzer.logs.envelopes._json.BLOCK", 600)
    text = shapes.filter_pretty(LINES)
    data = read(text.replace('"timestamp": 1795219201', '"timestamp": x1795219201', 1).encode())
    assert [p.what[:8] for p in data.problems if p.ref] == ["no JSON:"]
    assert len(data.events) == len(LINES) - 1
    assert data.events[-1].ref == f"[{len(LINES)}]"


@pytest.mark.parametrize("sieved", [False, True])
def test_one_damaged_element_costs_no_other(sieved, monkeypatch):
    for module in ("analyzer.logs.stream", "analyzer.logs.envelopes._json"):
        monkeypatch.setattr(f"{module}.READ_WHOLE", 0 if sieved else 1 << 40)
        monkeypatch.setattr(f"{module}.BLOCK", 4096)
    text = shapes.filter_pretty(numbered(LINES * 20))
    whole = read(text.encode())
    middle = next(e.ref for e in whole.events[len(whole.events) // 2 :] if e.kind == "error")
    place = [m.start() for m in re.finditer('"message": "', text)][int(middle[1:-1]) - 1]
    data = read((text[:place] + '"message"" "' + text[place + 12 :]).encode())
    assert [p.ref for p in data.problems if p.what.startswith("no JSON")] == [middle]
    assert [e.ref for e in data.events] == [e.ref for e in whole.events if e.ref != middle]


def test_lines_for_which_a_message_has_no_room_are_said():
    text = shapes.tail_detailed(LINES) + "read ECONNRESET\n" * (MOST_LINES + 50)
    data = read(text.encode())
    assert len(data.events) == len(LINES)
    assert [p.what for p in data.problems if "without a head" in p.what] == [
        "a message of more than 2,000 lines: 50 lines without a head are not read"
    ]


def test_causes_of_causes_of_causes():
    error = '{"code": 1}'
    for _ in range(900):
        error = f'{{"code": 1, "cause": {error}}}'
    line = f'{{"level": "ERROR", "timestamp": "2026-11-21T00:06:05.860Z", "message": "m", "error": {error}}}\n'
    assert [e.text[:2] for e in read(line.encode() * 5).events] == ["m\n"] * 5


def test_parts_of_a_line_without_end_cost_what_they_are():
    head = shapes.cri(LINES).encode()
    part = b"2026-11-21T00:06:05.860123456Z stdout P " + b"x" * 40 + b"\n"
    other = b"2026-11-21T00:06:05.860123456Z stderr F read ECONNRESET\n"
    data = read(head + part * 200 + other + part + part.replace(b" P ", b" F "))
    assert [len(e.text) for e in data.events][-2:] == [15, 2000]


def test_a_bomb_in_base64_does_not_go_off(monkeypatch):
    monkeypatch.setattr("analyzer.logs.envelopes.subscription.LARGEST", 1000)
    line = shapes.Line(START_MS, STREAMS[0], "x" * 100_000)
    with pytest.raises(InputError, match="cannot be decoded"):
        read(shapes.kinesis([line]).encode())


def test_a_time_of_ingestion_that_cannot_be_is_none():
    event = {"timestamp": START_MS, "ingestionTime": 10**17, "logStreamName": STREAMS[0], "message": "hello"}
    data = read(json.dumps({"events": [event, event | {"ingestionTime": START_MS + 5}]}).encode())
    assert [e.ingestion_ns for e in data.events] == [None, (START_MS + 5) * 1_000_000]
