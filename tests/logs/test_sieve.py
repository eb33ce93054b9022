"""The sieve drops only what says nothing: the same events, with the same refs, as reading every line."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.logs import stream as streams
from analyzer.logs.reader import pick, read_log
from tests.logs import shapes
from tests.logs.shapes import START_MS, STREAMS, Line, numbered, session

BUSY = [line for k in range(40) for line in session(STREAMS[k % 2], k, START_MS + 100 * k, chatter=20)]
IDLE = [
    Line(
        START_MS + 100 * k + 60,
        STREAMS[k % 2],
        f"{shapes.iso(START_MS + 100 * k + 60)}\t{shapes.request(k)}\tINFO\tbetween\n",
    )
    for k in range(40)
]
LINES = numbered(BUSY + IDLE)
WRITERS = [
    shapes.tail_detailed, shapes.awslogs, shapes.sam, shapes.filter_pretty, shapes.filter_compact, shapes.sam_json, shapes.events_list,
]  # fmt: skip


def read(text: str, sieved: bool, monkeypatch: pytest.MonkeyPatch):
    data = text.encode()
    choice = pick(data[:65536])
    for module in ("analyzer.logs.stream", "analyzer.logs.envelopes._json"):
        monkeypatch.setattr(f"{module}.READ_WHOLE", 0 if sieved else 1 << 40)
        monkeypatch.setattr(f"{module}.BLOCK", 4096)
    return read_log(io.BytesIO(data), "x", choice)


def said(events):
    return [(e.ref, e.kind, e.event_ns, e.environment, e.text) for e in events if e.kind != "line"]


@pytest.mark.parametrize("writer", WRITERS)
def test_what_says_something_is_kept(writer, monkeypatch):
    whole, part = read(writer(LINES), False, monkeypatch), read(writer(LINES), True, monkeypatch)
    assert said(part.events) == said(whole.events)
    assert part.records == whole.records == len(LINES)
    assert len(part.events) < len(whole.events) / 2
    assert any("counted, not kept" in p.what for p in part.problems)


@pytest.mark.parametrize("writer", WRITERS)
def test_idle_lines_are_kept(writer, monkeypatch):
    """What is printed between REPORT and the next START bounds the freeze."""
    part = read(writer(LINES), True, monkeypatch)
    assert sum(e.text == "between" for e in part.events) == len(IDLE)


def test_messages_alone_keep_what_stands_between_invocations(monkeypatch):
    text = "".join(line.message for line in LINES if line.stream == STREAMS[0])
    whole, part = read(text, False, monkeypatch), read(text, True, monkeypatch)
    assert said(part.events) == said(whole.events)
    assert sum(e.text == "between" for e in part.events) == len(IDLE) // 2


def test_streams_of_other_lengths_are_kept_whole(monkeypatch):
    """A head of another layout than the first record's is looked at line by line."""
    other = [Line(e.ms, "2026/11/21/[1234]" + "f" * 32, e.message, e.id) for e in BUSY[:24]]
    text = shapes.tail_detailed(numbered(LINES + other))
    whole, part = read(text, False, monkeypatch), read(text, True, monkeypatch)
    assert said(part.events) == said(whole.events)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_mixture(data):
    """Random sessions, random chatter between them, small blocks: nothing that says something is lost."""
    lines = []
    for k in range(data.draw(st.integers(1, 12))):
        lines += session(data.draw(st.sampled_from(STREAMS)), k, START_MS + 100 * k, data.draw(st.integers(0, 9)))
    writer = data.draw(st.sampled_from([shapes.tail_detailed, shapes.filter_pretty, shapes.sam_json]))
    text = writer(numbered(lines)) + data.draw(st.sampled_from(["", "\n"]))
    with pytest.MonkeyPatch.context() as patch:
        whole, part = read(text, False, patch), read(text, True, patch)
    assert said(part.events) == said(whole.events)
    assert part.records == whole.records


def test_needles_survive_escaping():
    """Documents are searched before they are parsed: a needle with a character that JSON escapes is never found."""
    from analyzer.logs import recognisers, runtimes

    for needle in (*recognisers.needles(), *runtimes.needles(), *runtimes.begins(), *runtimes.ends()):
        assert needle.isascii() and needle.isprintable() and '"' not in needle and "\\" not in needle, needle


def test_blocks_of_the_size_in_use_agree(monkeypatch):
    lines = numbered([line for k in range(600) for line in session(STREAMS[k % 2], k, START_MS + 100 * k, chatter=30)])
    text = shapes.tail_detailed(lines)
    assert len(text) > 3 * streams.BLOCK
    part = read_log(io.BytesIO(text.encode()), "x", pick(text[:65536].encode()))
    whole = read(text, False, monkeypatch)
    assert said(part.events) == said(whole.events)
