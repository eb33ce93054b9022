"""Many environments at once, each behind an address of its own: told apart, or left."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate
from random import Random

import pytest

import analyzer
from tests.capture.packets import ACK, PSH, RST, SYN, ethernet, ipv4, pcap, tcp
from tests.logs.shapes import Line, filter_compact, iso
from tests.timeline import warp

SERVER = "10.20.0.2"
START = 1_795_221_316_000  # ms
MS = 1_000_000


def stream(n: int) -> str:
    return f"2026/11/21/[$LATEST]{n:032x}"


def address(n: int) -> str:
    return f"10.10.{n // 200}.{n % 200 + 1}"


def fleet(count: int, rng: Random) -> list[tuple[int, int, int]]:
    """(begins to initialise, START, END) of as many environments that start one after the other, ms."""
    starts = accumulate(rng.randrange(10, 120) for _ in range(count))
    return [(at - 4_000 + rng.randrange(2_000), at, at + rng.choice((35, 120))) for at in starts]


def export(runs: Sequence[tuple[int, int, int]], told: Iterable[int]) -> str:
    lines = []
    for n in told:
        request = f"6f0d{n:04x}-0000-4000-8000-{n:012x}"
        begun, start, end = (START + t for t in runs[n])
        lines += [
            Line(begun, stream(n), "INIT_START Runtime Version: nodejs:20.v52\n"),
            Line(start, stream(n), f"START RequestId: {request} Version: $LATEST\n"),
            *(
                [Line(start + 22, stream(n), f"{iso(start + 22)}\t{request}\tERROR\tError: read ECONNRESET\n")]
                if n % 3 == 0
                else []
            ),
            Line(end, stream(n), f"REPORT RequestId: {request}\tDuration: 4.00 ms\tBilled Duration: 5 ms\n"),
        ]
    lines.sort(key=lambda line: line.ms)
    return filter_compact([replace(line, id=number) for number, line in enumerate(lines)])


def capture(runs: Sequence[tuple[int, int, int]], seen: Iterable[int], rng: Random) -> bytes:
    """Each environment opens a connection a few ms after its START, and asks something; each third is refused an answer."""
    records = []
    for n in seen:
        at = (START + runs[n][1] + rng.randrange(3, 13)) * MS
        there, back = (address(n), SERVER), (SERVER, address(n))
        for ms, (src, dst), segment in (
            (0, there, tcp(40_000, 6379, 0, 0, SYN)),
            (1, back, tcp(6379, 40_000, 0, 1, SYN | ACK)),
            (2, there, tcp(40_000, 6379, 1, 1, ACK)),
            (3, there, tcp(40_000, 6379, 1, 1, PSH | ACK, b"PING\r\n")),
            (
                5,
                back,
                tcp(6379, 40_000, 1, 7, RST | ACK if n % 3 == 0 else PSH | ACK, b"" if n % 3 == 0 else b"+PONG\r\n"),
            ),
        ):
            records.append((at + ms * MS, ethernet(ipv4(src, dst, segment))))
    return pcap(sorted(records))


def ties(tmp_path, runs, told, seen, rng) -> dict[str, str]:
    """The environment of each address that is tied."""
    (tmp_path / "lambda.json").write_text(export(runs, told))
    (tmp_path / "server.pcap").write_bytes(capture(runs, seen, rng))
    cs = analyzer.read(tmp_path).story.connections
    return {cs.client(k).rpartition(":")[0]: environment for k, environment in cs.environment.items()}


def test_environments_that_start_at_once_are_told_apart_together(tmp_path):
    """Each address fits several environments, some of which only initialise then; all together fit in one way."""
    rng = Random(4)
    runs = fleet(60, rng)
    found = ties(tmp_path, runs, range(60), range(60), rng)
    assert found.items() <= {address(n): stream(n) for n in range(60)}.items()
    assert len(found) >= 45


@pytest.mark.parametrize("seed", range(4))
def test_what_is_missing_from_a_log_or_a_capture_is_nobody_elses(tmp_path, seed):
    """Other functions' clients in the capture, environments that never connect: some are left, and none is wrong."""
    rng = Random(seed)
    runs = fleet(60, rng)
    told, seen = (sorted(rng.sample(range(60), rng.choice((40, 55)))) for _ in range(2))
    found = ties(tmp_path, runs, told, seen, rng)
    assert found.items() <= {address(n): stream(n) for n in told}.items()
    assert found


def test_environments_that_do_the_same_are_left(tmp_path):
    """Two that start in the same millisecond; a third one by itself."""
    rng = Random(3)
    runs = [(-900, 0, 100), (-900, 0, 100), (4_000, 5_000, 5_100)]
    found = ties(tmp_path, runs, range(3), range(3), rng)
    assert found.items() <= {address(2): stream(2)}.items()


@pytest.mark.shared
def test_connections_of_the_cases_are_of_their_environments(shared):
    for path in sorted((shared / "cases").glob("*/truth.json")):
        truth, want = json.loads(path.read_text()), json.loads((path.parent / "expected.json").read_text())
        streams = {c["id"]: c["log_stream"] for c in truth["containers"]}
        own = {
            tuple(c[ends][:2]): streams[c["container"]]
            for c in truth["connections"] for ends in ("fn_tuple", "srv_tuple") if c.get(ends) and c["container"] in streams
        }  # fmt: skip
        cs = analyzer.read(*(path.parent / name for name in want["inputs"])).story.connections
        ends = {k: cs.client(k).rpartition(":") for k in range(len(cs))}
        mine = {k: own[ip, int(port)] for k, (ip, _, port) in ends.items() if (ip, int(port)) in own}
        assert mine and {k: cs.environment.get(k) for k in mine} == mine, path.parent.name


@pytest.mark.shared
@pytest.mark.parametrize(("seed", "missing"), [(1, 20), (2, 5), (3, 40)])
def test_a_doubtful_clock_ties_nothing(shared, tmp_path, seed, missing):
    """Environments that start every 50 ms, a capture that lacks some and is seconds off: its clock may be a step or two wrong."""
    folder = shared / "cases" / "5_connection_storm"
    own = {c["ip"]: c["log_stream"] for c in json.loads((folder / "truth.json").read_text())["containers"]}
    lacking = {socket.inet_aton(ip) for ip in Random(seed).sample(sorted(own), missing)}
    head, records = split((folder / "fn.pcap").read_bytes())
    kept = head + b"".join(r for r in records if lacking.isdisjoint((r[42:46], r[46:50])))
    (tmp_path / "fn.pcap").write_bytes(warp.pcap(kept, warp.off(-7.1)))
    cs = analyzer.read(tmp_path / "fn.pcap", folder / "lambda.json").story.connections
    assert all(own[cs.client(k).rpartition(":")[0]] == environment for k, environment in cs.environment.items())


def split(content: bytes) -> tuple[bytes, list[bytes]]:
    """A pcap's header, and its records."""
    at, records = 24, []
    while at < len(content):
        end = at + 16 + int.from_bytes(content[at + 8 : at + 12], "little")
        records.append(content[at:end])
        at = end
    return content[:24], records


def test_transports_that_connect_at_once_are_settled_by_what_tells_the_address(tmp_path):
    """Within 60 ms forty environments connect, many within a millisecond; each connects once more, by itself."""
    rng = Random(9)
    lines: list[Line] = []
    records = []
    for n in range(40):
        for turn, start in enumerate((rng.randrange(60), 20_000 + 700 * n)):
            request = f"6f0d{turn:04x}-0000-4000-8000-{n:012x}"
            connected, remote = START + start + 8, f"{SERVER}:6379"
            trace = [
                (0, f"transport | dns:svc:6379 {remote} Established TCP connection"),
                (3, f"transport | ({turn + 1}) {remote} local settings acknowledged by remote: {{}}"),
            ]
            lines += [
                Line(START + start, stream(n), f"START RequestId: {request} Version: $LATEST\n"),
                *(
                    Line(at, stream(n), f"{iso(at)}\t{request}\tERROR\tD {iso(at)} | v1.14.7 8 | {text}\n")
                    for at, text in ((connected + ms, text) for ms, text in trace)
                ),
                Line(START + start + 50, stream(n), f"REPORT RequestId: {request}\tDuration: 50.00 ms\n"),
            ]
            there, back, port = (address(n), SERVER), (SERVER, address(n)), 40_000 + turn
            for ms, (src, dst), segment in (
                (-2, there, tcp(port, 6379, 0, 0, SYN)),
                (-1, back, tcp(6379, port, 0, 1, SYN | ACK)),
                (0, there, tcp(port, 6379, 1, 1, ACK)),
                (1, there, tcp(port, 6379, 1, 1, PSH | ACK, bytes(30))),
            ):
                records.append(((connected + ms) * MS, ethernet(ipv4(src, dst, segment))))
    lines.sort(key=lambda line: line.ms)
    (tmp_path / "lambda.json").write_text(filter_compact([replace(line, id=k) for k, line in enumerate(lines)]))
    (tmp_path / "server.pcap").write_bytes(pcap(sorted(records)))
    story = analyzer.read(tmp_path).story
    clients = {t.id: story.connections.client(int(t.connection[1:]) - 1) for t in story.transports if t.connection}
    of = {stream(n): address(n) for n in range(40)}
    expected = {t.id: f"{of[t.environment]}:{39_999 + int(t.number)}" for t in story.transports}
    assert len(expected) == 80
    assert clients.items() <= expected.items() and len(clients) >= 76
    ends = [t for t in story.ties if t.kind == "environment-address" and t.confidence != "possible"]
    assert {(t.left, t.right) for t in ends} == set(of.items())
