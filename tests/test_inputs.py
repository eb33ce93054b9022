"""Several files of one capture, and captures that come through a pipe while they are being made."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

import analyzer
from analyzer.capture.rings import pattern
from tests.capture import packets
from tests.helpers import CAPTURES

ZOMBIE = (CAPTURES / "zombie-fin-wait-2" / "server.pcap").read_bytes()
RECORDS = packets.conversations(seed=5, count=40)


def analyze(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "analyzer", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


# ---- rings


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("trace.pcap", "trace.pcap17"),
        ("trace.pcap00", "trace.pcap11"),
        ("t-2026-11-20-10-00-00.pcap", "t-2026-11-20-11-00-00.pcap"),
        ("d_00001_20261120100000.pcapng.gz", "d_00012_20261120110000.pcapng.gz"),
    ],
)
def test_names_of_one_ring(one: str, other: str) -> None:
    assert pattern(f"x/{one}") == pattern(f"x/{other}") != pattern(f"y/{one}")


def test_names_of_two_places() -> None:
    assert pattern("client.pcap") != pattern("server.pcap")


def ring(folder: Path, cuts: list[int], suffix: str = "") -> None:
    for number, (a, b) in enumerate(pairwise(cuts)):
        content = packets.pcap(RECORDS[a:b])
        name = f"trace.pcap{number or ''}{suffix}"
        (folder / name).write_bytes(gzip.compress(content) if suffix else content)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_ring_is_one_capture(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "whole.pcap").write_bytes(packets.pcap(RECORDS))
    whole = analyzer.read(tmp_path / "whole.pcap")
    folder = tmp_path / "ring"
    folder.mkdir()
    ring(folder, [0, 30, 31, 200, len(RECORDS)], suffix)
    parts = analyzer.read(folder)
    assert list(parts.sources["path"]) == [str(folder / f"trace.pcap*{suffix}")]
    assert parts.connections.drop(columns="sources").equals(whole.connections.drop(columns="sources"))
    refs = [r for r in parts.events["ref"] if r.startswith(f"trace.pcap2{suffix}#")]
    assert refs[0] == f"trace.pcap2{suffix}#1"
    assert {int(r.split("#")[1]) + 31 for r in refs} <= {int(r[1:]) for r in whole.events["ref"]}
    assert len(parts.events) == len(whole.events)
    if not suffix:
        packet = parts.packet(f"s1!trace.pcap2#{1}")
        assert bytes(packet) == RECORDS[31][1]


def test_captures_of_one_time_are_several_points(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"node{number}.pcap").write_bytes(packets.pcap(RECORDS))
    assert list(analyzer.read(tmp_path).sources["path"]) == [str(tmp_path / f"node{k}.pcap") for k in (1, 2)]


def later(records: list[packets.Record], seconds: float) -> list[packets.Record]:
    return [(ns + round(seconds * 1e9), frame) for ns, frame in records]


@pytest.mark.parametrize("handshakes", [True, False])
def test_capture_points_whose_clocks_are_far_apart_are_no_ring(tmp_path: Path, handshakes: bool) -> None:
    """Their times follow, as a ring's do; their packets are the same."""
    start = 0 if handshakes else len(RECORDS) // 2
    for number in range(3):
        content = packets.pcap(later(RECORDS[start + 7 * number :], 40_000 * number))
        (tmp_path / f"p{number}.pcap").write_bytes(content)
    trace = analyzer.read(tmp_path)
    assert list(trace.sources["path"]) == [str(tmp_path / f"p{k}.pcap") for k in range(3)]
    assert len(trace.connections) == len(analyzer.read(tmp_path / "p0.pcap").connections)


def test_a_ring_that_paused_is_one_capture(tmp_path: Path) -> None:
    """Nothing passed for a while, and conversations went on after it."""
    half = len(RECORDS) // 2
    (tmp_path / "t0.pcap").write_bytes(packets.pcap(RECORDS[:half]))
    (tmp_path / "t1.pcap").write_bytes(packets.pcap(later(RECORDS[half:], 600)))
    assert list(analyzer.read(tmp_path).sources["path"]) == [str(tmp_path / "t*.pcap*")]


@pytest.mark.parametrize("apart", [0.05, 40_000])
def test_rings_of_two_hosts_are_two(tmp_path: Path, apart: float) -> None:
    half = len(RECORDS) // 2
    for host in (1, 2):
        for number, part in enumerate((RECORDS[:half], RECORDS[half:])):
            (tmp_path / f"node{host}-{number}.pcap").write_bytes(packets.pcap(later(part, apart * host)))
    trace = analyzer.read(tmp_path)
    assert [s.parts for s in trace.story.sources] == [
        [(0, f"node{host}-0.pcap"), (half, f"node{host}-1.pcap")] for host in (1, 2)
    ]
    assert len(trace.connections) == len(analyzer.read(*tmp_path.glob("node1*")).connections)


def test_files_of_another_snap_length_are_of_another_capture(tmp_path: Path) -> None:
    half = len(RECORDS) // 2
    (tmp_path / "t0.pcap").write_bytes(packets.pcap(RECORDS[:half]))
    (tmp_path / "t1.pcap").write_bytes(packets.pcap(RECORDS[half:], snaplen=96))
    assert len(analyzer.read(tmp_path).sources) == 2


# ---- standard input


def wait_for(text: bytes, process: subprocess.Popen[bytes]) -> bytes:
    assert process.stderr
    seen = b""
    while text not in seen:
        line = process.stderr.readline()
        assert line, seen
        seen += line
    return seen


def test_a_stream_is_reported_while_it_runs_and_whole_at_its_end() -> None:
    process = analyze("pcap", "-")
    assert process.stdin
    at = len(ZOMBIE) * 3 // 4
    process.stdin.write(ZOMBIE[:at])
    process.stdin.flush()
    seen = wait_for(b"so far", process)
    assert b"info[F201] server in FIN_WAIT_2" in seen
    out, _ = process.communicate(ZOMBIE[at:], timeout=60)
    whole = subprocess.run(
        [sys.executable, "-m", "analyzer", "pcap", "-"], input=ZOMBIE, capture_output=True, check=True
    )
    assert (process.returncode, out) == (0, whole.stdout)


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to a child there")
def test_ctrl_c_ends_a_stream_with_what_there_is() -> None:
    process = analyze("pcap", "-")
    assert process.stdin
    process.stdin.write(ZOMBIE)
    process.stdin.flush()  # and stays open, as of a tcpdump that waits for packets
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"F201" in out
    assert b"interrupted" in out


def test_a_compressed_stream_and_a_log_are_read_when_they_have_come() -> None:
    run = [sys.executable, "-m", "analyzer", "diagnose", "-", "--format", "json"]
    plain = subprocess.run(run, input=ZOMBIE, capture_output=True, check=True).stdout
    packed = subprocess.run(run, input=gzip.compress(ZOMBIE), capture_output=True, check=True).stdout
    assert packed == plain
    log = (CAPTURES / "zombie-fin-wait-2" / "lambda.json").read_bytes()
    assert b'"invocations"' in subprocess.run(run, input=log, capture_output=True, check=True).stdout


def test_a_glob_of_folders_reads_what_is_in_them(tmp_path: Path) -> None:
    for n in range(2):
        shutil.copytree(CAPTURES / "healthy", tmp_path / f"report-{n}")
    trace = analyzer.read(str(tmp_path / "report-*"))
    assert sorted({s.label for s in trace.story.sources if s.label.endswith("lambda.json")}) == [
        "report-0/lambda.json", "report-1/lambda.json",
    ]  # fmt: skip


def test_files_of_one_name_are_told_apart_by_as_many_folders_as_that_takes(tmp_path: Path) -> None:
    for place in ("a/x", "b/x", "b/y"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "fn.log").write_text(f"START RequestId: {'0' * 8}-0000-4000-8000-{'0' * 12} Version: 1\n")
    (tmp_path / "other.log").write_text(f"END RequestId: {'0' * 8}-0000-4000-8000-{'0' * 12}\n")
    labels = [s.label for s in analyzer.read(tmp_path).story.sources]
    assert labels == ["a/x/fn.log", "b/x/fn.log", "b/y/fn.log", "other.log"]


def test_a_manifest_that_is_a_bomb_is_none(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("[" * 200_000)
    shutil.copy(CAPTURES / "healthy" / "lambda.json", tmp_path)
    assert [path.rpartition("/")[2] for path, _ in analyzer.read(tmp_path).story.skipped] == ["manifest.json"]


def test_a_closed_folder_inside_is_skipped_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, opened = tmp_path / "closed", os.scandir
    closed.mkdir()
    shutil.copy(CAPTURES / "healthy" / "lambda.json", tmp_path)

    def scandir(path: str) -> object:
        """As the system answers anyone but root."""
        if Path(path) == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert [why for _, why in analyzer.read(tmp_path).story.skipped] == ["Permission denied"]
