"""Deep mode against tshark itself, on a real TLS exchange, from every place where it may be called, and when things are missing."""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import analyzer
from analyzer.deep import tshark
from analyzer.deep.frames import frames_of
from analyzer.report.style import Style
from analyzer.report.timeline import timeline_text
from tests.capture import packets
from tests.helpers import CAPTURES

FIXTURE = Path(__file__).parent / "fixture"
CAPTURE, KEYLOG = FIXTURE / "grpc-tls.pcap", FIXTURE / "grpc-tls.keylog"
#: What the exchange holds (see fixture/make.mjs), as people read it.
TOLD = [
    "→ POST /cache.Cache/Get, stream 1", "← 200, stream 1", "← grpc-status 0 OK, stream 1", "→ PING", "← PING ack",
    "→ POST /cache.Cache/Fail, stream 3", "← 200, stream 3", "← grpc-status 14 UNAVAILABLE: upstream\x1b[31m gone, stream 3",
    "→ POST /cache.Cache/Hang, stream 5", "→ RST_STREAM CANCEL, stream 5",
    "← GOAWAY ENHANCE_YOUR_CALM too_many_pings, last stream 5", "→ GOAWAY NO_ERROR, last stream 0",
]  # fmt: skip

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")


def told(trace, connection="C1"):
    return [f.describe() for f in trace.deep.get(trace.index(connection), []) if f.telling]


def deepened(path=CAPTURE, keylog=KEYLOG, **more):
    trace = analyzer.read(path)
    notes = trace.deepen(["C1"], keylog=keylog, **more)
    return trace, notes


def records(path):
    """(ns, frame) of a microsecond little-endian pcap."""
    data, i, out = path.read_bytes(), 24, []
    while i < len(data):
        sec, usec, size, _ = struct.unpack_from("<IIII", data, i)
        out.append((sec * 10**9 + usec * 1000, data[i + 16 : i + 16 + size]))
        i += 16 + size
    return out


def test_the_exchange_is_told_frame_by_frame():
    trace, notes = deepened()
    assert told(trace) == TOLD and notes == []


def test_frames_and_their_packets_are_tsharks():
    trace, _ = deepened()
    said = subprocess.run(
        ["tshark", "-r", CAPTURE, "-o", f"tls.keylog_file:{KEYLOG}", "-Y", "http2.type", "-T", "fields", "-e", "frame.number",
         "-e", "http2.type", "-e", "http2.streamid"], capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    theirs = [
        (int(number), int(kind), int(stream))
        for number, kinds, streams in (line.split("\t") for line in said.splitlines())
        for kind, stream in zip(kinds.split(","), streams.split(","), strict=True)
    ]
    kinds = {"data": 0, "request": 1, "response": 1, "status": 1, "rst-stream": 3, "settings": 4, "ping": 6, "ping-ack": 6,
             "goaway": 7, "window-update": 8}  # fmt: skip
    ours = [(f.place.no, kinds[f.kind], f.stream) for f in trace.deep[0] if f.kind != "message"]
    assert ours == theirs


def test_refs_are_those_of_the_whole_capture(tmp_path):
    """The connection stands among others; tshark sees only its packets, and the refs still hold."""
    exchange, other = records(CAPTURE), packets.conversations(seed=1, count=6)
    mixed = [record for pair in zip(exchange, other, strict=False) for record in pair] + exchange[len(other) :]
    where = {frame: number for number, (_, frame) in enumerate(mixed, 1)}
    path = tmp_path / "mixed.pcap"
    path.write_bytes(packets.pcap(mixed))
    trace = analyzer.read(path)
    trace.deepen(["127.0.0.1:42408"], keylog=KEYLOG)
    k = trace.index("127.0.0.1:42408")
    alone, _ = deepened()
    assert [f.place.no for f in trace.deep[k]] == [where[exchange[f.place.no - 1][1]] for f in alone.deep[0]]


def test_secrets_inside_a_pcapng_are_enough(tmp_path):
    secrets = KEYLOG.read_bytes()
    blocks = [packets.section(), packets.interface(resolution=9)]
    blocks.append(packets.block("<", 10, struct.pack("<II", 0x544C534B, len(secrets)) + secrets))
    blocks += [packets.enhanced("<", 0, ns, frame) for ns, frame in records(CAPTURE)]
    path = tmp_path / "secrets.pcapng"
    path.write_bytes(b"".join(blocks))
    trace, notes = deepened(path, keylog=None)
    assert told(trace) == TOLD and notes == []


def test_without_secrets_it_says_what_it_could_not_see():
    trace, notes = deepened(keylog=None)
    assert told(trace) == [] and len(notes) == 1 and "C1" in notes[0]
    assert notes[0] in [p["what"] for p in trace.document()["sources"][0]["problems"]]


def test_clear_text_needs_no_key_and_no_rule():
    trace = analyzer.read(CAPTURES / "frozen-keepalive")
    assert trace.deepen() == []
    assert "← PING ack" in told(trace) and "→ POST /cache.Cache/Get, stream 1" in told(trace)
    evidence = next(f for f in trace.findings if f.rule == "K101").evidence
    assert [e.text for e in evidence if e.note == "tshark"] == ["→ PING"]
    before = len(evidence)
    trace.deepen()
    assert len(next(f for f in trace.findings if f.rule == "K101").evidence) == before


def test_it_runs_inside_a_running_loop_and_in_threads():
    async def cell():
        return told(deepened()[0])

    assert asyncio.run(cell()) == TOLD
    results = []
    threads = [threading.Thread(target=lambda: results.append(told(deepened()[0]))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [TOLD, TOLD]


def test_the_timeline_shows_them_escaped():
    trace, _ = deepened()
    text = timeline_text(trace, "C1", Style(width=120))
    assert "\x1b" not in text and r"upstream\x1b[31m gone" in text
    table = trace.timeline("C1")
    assert table[table.layer == "grpc"].text.str.contains("POST /cache.Cache/Get").any()
    assert set(table.layer) == {"tcp", "http2", "grpc"}
    assert "http2" in set(trace.events.layer)


def analyze(*args, **env):
    return subprocess.run(
        [sys.executable, "-m", "analyzer", *map(str, args)],
        capture_output=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "140", **env},
        check=False,
    )


def test_the_command_line():
    done = analyze("timeline", "C1", CAPTURE, "--keylog", KEYLOG)
    assert done.returncode == 0 and done.stderr == b"" and b"GOAWAY ENHANCE_YOUR_CALM too_many_pings" in done.stdout
    done = analyze("diagnose", CAPTURES / "frozen-keepalive", "--deep")
    assert done.returncode == 0 and "→ PING  tshark".encode() in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--keylog", "/no/such/file"), b"/no/such/file"),
        (("--decode-as", "8443=http2"), b"tcp.port==8443,http2"),
        (("--decode-as", "tcp.port==8443,nonsense"), b"nonsense"),
    ],
)
def test_wrong_settings_are_one_line_and_status_2(arguments, words):
    done = analyze("timeline", "C1", CAPTURE, *arguments)
    assert done.returncode == 2 and words in done.stderr
    assert done.stderr.startswith(b"analyze: ") and done.stderr.count(b"\n") == 1 and done.stdout == b""


def program(folder, text):
    path = folder / "tshark"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(folder)


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands for tshark")
@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "not installed"),
        ("echo 'TShark (Wireshark) 3.4.16 (Git)'", r"version 3\.4.*4\.0 or later"),
        ("echo what", "does not tell its version"),
        ("exit 1", "does not run"),
        (
            "echo 'TShark (Wireshark) 4.2.0.'; [ $1 = -v ] || { echo 'tshark: boom' >&2; exit 2; }",
            "tshark failed: boom",
        ),
        ("echo 'TShark (Wireshark) 4.2.0.'; [ $1 = -v ] || sleep 60", "not done after 1 s"),
    ],
)
def test_a_missing_old_or_failing_tshark(script, words, tmp_path, monkeypatch):
    folder = program(tmp_path, script) if script else str(tmp_path)
    monkeypatch.setenv("PATH", folder if script is None else f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(tshark, "ELSEWHERE", ())
    with pytest.raises(analyzer.InputError, match=words):
        tshark.dissect(str(CAPTURE), None, {}, timeout_s=1)


def test_without_pyshark_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyshark", None)
    with pytest.raises(analyzer.InputError, match=r"connection-analyzer\[deep\]"):
        deepened()


def test_a_config_file_of_the_folder_is_not_trusted(tmp_path, monkeypatch):
    """pyshark takes the program from a `config.ini` of the working directory; a folder of captures must not choose it."""
    (tmp_path / "config.ini").write_text("[tshark]\ntshark_path = /no/such/program\n")
    monkeypatch.chdir(tmp_path)
    assert told(deepened()[0]) == TOLD


class Packet:
    """A packet of dissections that make no sense."""

    number = "1"

    class Layer:
        layer_name = "http2"

        def __init__(self, fields):
            self.fields = fields

        def get_field(self, name):
            return (
                type("Field", (), {"all_fields": [type("One", (), {"show": s})() for s in self.fields[name]]})
                if name in self.fields
                else None
            )

    def __init__(self, **fields):
        self.layers = [self.Layer({name.replace("__", "."): value for name, value in fields.items()})]


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"http2__type": ["x"]}, {"http2__type": ["99"]}, {"http2__type": ["1"], "http2__header__name": ["grpc-status"], "http2__header__value": []},
        {"http2__type": ["1"], "http2__header__name": ["grpc-status"], "http2__header__value": ["９" * 5000]},
        {"http2__type": ["7"], "http2__goaway__addata": ["zz:zz"], "http2__goaway__error": ["4000000000"]},
        {"http2__type": ["3"]}, {"http2__type": ["6"], "http2__flags__ack__ping": ["True"]},
    ],
)  # fmt: skip
def test_senseless_dissections_are_frames_all_the_same(fields):
    found = list(frames_of(Packet(**fields)))
    assert len(found) == ("http2__type" in fields and fields["http2__type"] != ["x"])
    assert all(len(frame.text) < 700 for frame in found)
