"""Every shape gives the events that went into it, whatever the chunks in which it is read and wherever it ends."""

from __future__ import annotations

import contextlib
import gzip
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.logs import stream as streams
from analyzer.logs.envelopes import envelopes, named
from analyzer.logs.options import Options, options
from analyzer.logs.reader import describe, pick, read_log
from analyzer.logs.stream import LogStream
from analyzer.model.problems import InputError
from analyzer.streams import open_stream
from tests.logs import shapes
from tests.logs.shapes import SHAPES, START_MS, STREAMS, numbered, session

WRITERS = list(SHAPES)
NAMES = [writer.__name__ for writer in WRITERS]
LINES = numbered(
    [line for k in range(3) for line in session(STREAMS[0], k, START_MS + 1000 * k)]
    + [line for k in range(2) for line in session(STREAMS[1], 10 + k, START_MS + 500 + 1000 * k)]
)


def read(text: str | bytes, path: str = "x", **given: object):
    data = text.encode() if isinstance(text, str) else text
    choice = pick(data[:65536])
    assert choice.envelope is not None
    return choice, read_log(io.BytesIO(data), path, choice, Options(**given))


def signature(events):
    return [(e.kind, e.request_id, e.event_ns, e.attrs.get("errno")) for e in events]


WANTED = signature(read(shapes.filter_pretty(LINES))[1].events)


@pytest.mark.parametrize("writer", WRITERS, ids=NAMES)
def test_every_shape_gives_the_same_events(writer):
    choice, data = read(writer(LINES))
    shape, with_streams = SHAPES[writer]
    assert shape == choice.envelope.SHAPE
    assert signature(data.events) == WANTED
    if with_streams and writer is not shapes.syslog:
        assert [e.environment for e in data.events] == [line.stream for line in LINES]
    assert any("no log stream" in p.what for p in data.problems) is not with_streams


def test_the_events_are_what_was_written():
    assert [kind for kind, *_ in WANTED].count("start") == 5
    assert {errno for kind, _, _, errno in WANTED if kind == "error"} == {-104}
    assert [ns for _, _, ns, _ in WANTED] == [line.ms * 1_000_000 for line in LINES]


@pytest.mark.parametrize("writer", WRITERS, ids=NAMES)
def test_carriage_returns_before_line_ends_change_nothing(writer):
    assert signature(read(writer(LINES).replace("\n", "\r\n"))[1].events) == WANTED


@pytest.mark.parametrize(
    "header", ["requestId,@timestamp,@message", '"concat(a, b)",@timestamp,@message', '@timestamp,"f(a, b)",@message']
)
def test_a_query_may_name_any_fields(header):
    stamp = header.startswith("@")
    row = '2026-11-21 00:06:05.860,1,"' if stamp else '1,2026-11-21 00:06:05.860,"'
    _, data = read(f'{header}\n{row}START RequestId: {shapes.request(1)} Version: $LATEST"\n')
    assert signature(data.events) == [("start", shapes.request(1), 1_795_219_565_860_000_000, None)]


@pytest.mark.parametrize("prefix", ["app-1  | ", "[pod/app-1/main] "])
def test_names_without_stamps(prefix):
    text = shapes.docker(LINES)
    bare = "".join(f"{prefix}{line.partition(' ')[2]}" for line in text.splitlines(keepends=True))
    choice, data = read(bare)
    assert choice.envelope.SHAPE == "docker"
    assert [(e.kind, e.request_id) for e in data.events] == [(kind, request) for kind, request, *_ in WANTED]
    assert {e.environment for e in data.events} == {prefix.strip(" |[]")}


def test_a_csv_in_utf_16():
    rows = '2026-11-21 00:06:05.860,"' + "漢" * 200 + '"\n'
    text = f'@timestamp,@message\n2026-11-21 00:06:05.860,"END RequestId: {shapes.request(1)}"\n' + rows * 3000
    assert len(read(text.encode("utf-16"))[1].events) == 3001


@pytest.mark.parametrize("writer", [shapes.filter_pretty, shapes.tail_detailed, shapes.console_csv, shapes.firehose])
def test_a_compressed_log_that_ends_early_is_read_until_there(writer, tmp_path):
    packed = gzip.compress(writer(numbered(LINES * 40)).encode())
    path = tmp_path / "x.gz"
    path.write_bytes(packed[: len(packed) // 2])
    with open_stream(str(path)) as stream:
        data = read_log(stream, "x.gz", pick(writer(LINES).encode()))
    assert len(data.events) > len(LINES)
    assert any("damaged, what follows is not read" in p.what for p in data.problems)


def test_a_line_end_between_two_blocks(monkeypatch):
    for size in range(64, 80):
        monkeypatch.setattr("analyzer.logs.stream.BLOCK", size)
        stream = LogStream(io.BytesIO(b"one line of many\r\n" * 40))
        assert {line for _, line in stream.lines()} == {"one line of many"}


@pytest.mark.parametrize("writer", WRITERS, ids=NAMES)
def test_any_prefix_is_read_or_refused(writer):
    data = writer(LINES).encode()
    choice = pick(data)
    for end in range(1, len(data), max(len(data) // 40, 1)):
        with contextlib.suppress(InputError):
            found = read_log(io.BytesIO(data[:end]), "x", choice)
            assert len(found.events) <= len(WANTED)


@pytest.mark.parametrize("writer", [shapes.filter_pretty, shapes.tail_detailed, shapes.firehose])
def test_chunks_change_nothing(writer, monkeypatch):
    whole = signature(read(writer(LINES))[1].events)
    for block in (64, 333, 1000):
        monkeypatch.setattr(streams, "BLOCK", block)
        monkeypatch.setattr("analyzer.logs.envelopes._json.BLOCK", max(block, 400))
        assert signature(read(writer(LINES))[1].events) == whole


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\r\x1b\xa0"), max_size=60), min_size=1, max_size=8
    )
)
@settings(max_examples=150, deadline=None)
def test_any_text_survives_a_document(texts):
    lines = [shapes.Line(START_MS + k, STREAMS[0], text, k) for k, text in enumerate(texts)]
    for writer in (shapes.filter_pretty, shapes.filter_compact, shapes.sam_json, shapes.query_results):
        data = writer(lines).encode()
        shape = named(SHAPES[writer][0])
        records = [r for r in shape.read(LogStream(io.BytesIO(data))) if hasattr(r, "message")]
        wanted = [text for text in texts if text or writer is not shapes.query_results]
        assert [r.message for r in records] == wanted


def test_what_a_document_contains_does_not_split_it():
    """Messages that look like the border between two events, or like the document's end."""
    evil = [
        '},\n        {\n            "logStreamName": "x"',
        '"}, {"logStreamName": "',
        '"}], "nextToken": "t"}',
        '\\"},{\\"',
    ]
    lines = [shapes.Line(START_MS + k, STREAMS[0], text, k) for k, text in enumerate(evil * 3)]
    for writer in (shapes.filter_pretty, shapes.filter_compact, shapes.firehose):
        data = writer(lines).encode()
        found = [r.message for r in named(SHAPES[writer][0]).read(LogStream(io.BytesIO(data)))]
        assert found == evil * 3


def test_members_of_a_gzip_file_are_one_stream(tmp_path):
    path = tmp_path / "firehose.gz"
    path.write_bytes(b"".join(gzip.compress(shapes.firehose([line]).encode()) for line in LINES))
    with open_stream(str(path)) as stream:
        data = stream.read()
    assert signature(read(data)[1].events) == WANTED


@pytest.mark.parametrize(
    "writer", [shapes.filter_pretty, shapes.sam_json, shapes.get_log_events, shapes.filter_text, shapes.awslogs]
)
def test_ingestion_times_are_kept(writer):
    assert [e.ingestion_ns for e in read(writer(LINES))[1].events] == [(e.ms + 4000) * 1_000_000 for e in LINES]


def test_the_path_of_an_s3_export_names_the_stream():
    path = f"logs/6f5d0e1c/{STREAMS[0].replace('/', '-')}/000000.gz"
    mine = [line for line in LINES if line.stream == STREAMS[0]]
    data = read(shapes.stamped(mine), path)[1]
    assert {e.environment for e in data.events} == {STREAMS[0]}


def test_newest_first_is_turned_round_and_said():
    data = read(shapes.insights_newest_first(LINES))[1]
    assert any(p.what.startswith("newest first") for p in data.problems)


def test_events_delivered_twice_are_read_once():
    data = read(shapes.firehose(LINES + LINES[:4]))[1]
    assert signature(data.events) == WANTED
    assert any("4 events delivered more than once" in p.what for p in data.problems)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"events": [{"message": "START", "timestamp": 1}], "nextToken": "abc"}', "more pages exist"),
        (shapes.insights_csv(numbered(LINES * 400)[:10000]), "exactly 10,000 rows"),
        ('{"results": [[{"field": "@message", "value": "START"}]], "status": "Running"}', "status is Running"),
    ],
)
def test_a_part_of_a_log_says_so(text, what):
    assert any(what in p.what for p in read(text)[1].problems)


def test_syslog_without_a_year_needs_one():
    text = f"Nov 21 00:06:05 host fn[8]: {LINES[0].message}Nov 21 00:06:06 host fn[8]: {LINES[-1].message}"
    choice, data = read(text)
    assert choice.envelope.SHAPE == "syslog"
    assert data.events[0].event_ns is None and any("--year" in p.what for p in data.problems)
    data = read(text, year=2026, zone_ns=3600 * 10**9)[1]
    assert data.events[0].event_ns == (START_MS // 1000 + 365 - 3600) * 10**9


def test_a_firehose_line_without_separators_is_many_messages():
    objects = [f'{{"timestamp":"{shapes.iso(START_MS + k)}","level":"INFO","message":"m{k}"}}' for k in range(3)]
    data = read("".join(objects) + f"END RequestId: {shapes.request(1)}\n")[1]
    assert [e.text for e in data.events] == ["m0", "m1", "m2", f"END RequestId: {shapes.request(1)}"]


@pytest.mark.parametrize(
    ("head", "word"),
    [
        ("21952:C 21 Nov 2026 00:19:14.234 # Redis is starting\n", "a Redis server's log"),
        ('{"t": 1795220185.305, "side": "fn", "socks": []}\n', "snapshots of ss"),
        ("[1795220290.097682]\t    [NEW] tcp      6 120 SYN_SENT src=10.10.0.2\n", "connection tracking (conntrack)"),
        ("State  Recv-Q Send-Q Local Address:Port\nESTAB  0      0      10.0.0.1:22\n", "snapshots of ss"),
        ("# How this was made\n\nBy hand.\n", "a text for people"),
        ('{"inputs": ["a"], "require": []}', "JSON of another kind"),
        ("hello\nworld\n", "no known shape"),
    ],
)
def test_files_that_are_no_input_are_named(head, word):
    assert pick(head.encode()).envelope is None
    assert word in describe(head.encode())


def test_an_insisted_shape_that_does_not_fit_says_what_was_expected():
    with pytest.raises(InputError, match=r"not of shape csv: expected a header line .* but line 2 is: START RequestId"):
        pick(f"\n{LINES[0].message}".encode(), "csv")
    with pytest.raises(InputError, match="there are awslogs, console-text"):
        pick(b"x", "cvs")


def test_an_insisted_shape_is_taken():
    text = shapes.stamped(LINES).encode()
    assert pick(text).envelope.SHAPE == "s3-export"
    assert pick(text, "plain").envelope.SHAPE == "plain"


def test_rivals_are_said():
    head = shapes.docker(LINES).encode()
    choice = pick(head)
    data = read_log(io.BytesIO(head), "x", type(choice)(choice.fit, choice.envelope, ("s3-export",)))
    assert data.problems[0].what == "read as docker; s3-export would fit too (--shape overrides)"


def test_shapes_have_names_of_their_own_and_say_what_they_expect():
    found = envelopes()
    assert len({e.SHAPE for e in found}) == len({e.NAME for e in found}) == len(found)
    assert all(e.EXPECTS and isinstance(e.LOST, tuple) for e in found)


@pytest.mark.parametrize(("zone", "hours"), [("+02:00", 2), ("-0530", -5.5), ("UTC", 0)])
def test_zones(zone, hours):
    assert options(zone=zone).zone_ns == hours * 3600 * 10**9


def test_a_zone_by_name_is_refused():
    with pytest.raises(InputError, match=r"\+02:00"):
        options(zone="Europe/Berlin")
