"""Packets that one of two captures on the path did not see."""

from __future__ import annotations

from pathlib import Path

import analyzer
from analyzer.tcp.states import STATES
from analyzer.timeline.endpoints import states
from analyzer.timeline.whereabouts import fates
from tests.capture import packets

SECOND = 10**9
ZERO = 1_790_000_000 * SECOND
CLIENT, SERVER = ("10.0.0.1", "10.0.0.2", 40_000, 80), ("10.0.0.2", "10.0.0.1", 80, 40_000)
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
#: (time, sender, seq, ack, flags, payload bytes)
OPEN = [
    (0.0, CLIENT, 100, 0, SYN, 0),
    (0.001, SERVER, 900, 101, SYN | ACK, 0),
    (0.002, CLIENT, 101, 901, ACK, 0),
    (0.1, CLIENT, 101, 901, PSH | ACK, 3000),
    (0.101, SERVER, 901, 3101, ACK, 0),
    (1.0, SERVER, 901, 3101, PSH | ACK, 50),
    (1.001, CLIENT, 3101, 951, ACK, 0),
]
LATER = [(30.0, CLIENT, 3101, 951, FIN | ACK, 0), (30.001, SERVER, 951, 3102, FIN | ACK, 0)]


def capture(path: Path, what: list[tuple[float, tuple[str, str, int, int], int, int, int, int]], late: float) -> None:
    records = []
    for number, (at, (src, dst, sport, dport), seq, ack, flags, size) in enumerate(what, 1):
        segment = packets.tcp(sport, dport, seq, ack, flags, b"x" * size)
        records.append(
            (ZERO + int((at + late) * SECOND), packets.ethernet(packets.ipv4(src, dst, segment, ip_id=number)))
        )
    path.write_bytes(packets.pcap(records))


def told(tmp_path: Path, near: list, far: list) -> dict[str, str]:  # type: ignore[type-arg]
    capture(tmp_path / "client.pcap", near, 0)
    capture(tmp_path / "server.pcap", far, 0.0004)
    cs = analyzer.read(tmp_path).story.connections
    assert len(cs) == 1
    return {s.describe(): fate for s, fate in zip(cs.segments(0), fates(cs, 0), strict=True) if fate}


def test_nothing_is_said_of_what_both_saw_or_what_offloads_cut(tmp_path: Path) -> None:
    first, second = (0.1, CLIENT, 101, 901, ACK, 1500), (0.1, CLIENT, 1601, 901, PSH | ACK, 1500)
    assert told(tmp_path, OPEN + LATER, [*OPEN[:3], first, second, *OPEN[4:], *LATER]) == {}


def test_a_segment_is_lost_between_the_points(tmp_path: Path) -> None:
    again = (9.0, CLIENT, 3101, 951, PSH | ACK, 20)
    assert told(tmp_path, [*OPEN, again, *LATER], OPEN + LATER) == {"→ 20 B": "lost before server.pcap"}
    answer = (9.0, SERVER, 951, 3101, PSH | ACK, 20)
    assert told(tmp_path, OPEN + LATER, [*OPEN, answer, *LATER]) == {"← 20 B": "lost before client.pcap"}


def test_what_did_not_arrive_or_was_not_sent_changes_no_state(tmp_path: Path) -> None:
    """The forger's reset ends the client only; the server's lost FIN is news to the server only."""
    for sent, states_then in (
        ((9.0, SERVER, 951, 3101, RST | ACK, 0), ("CLOSED", "ESTABLISHED")),
        ((9.0, SERVER, 951, 3101, FIN | ACK, 0), ("ESTABLISHED", "FIN_WAIT_1")),
    ):
        at_client = sent[4] & RST
        late = [(99.0, ("10.0.0.1", "10.0.0.2", 40_009, 80), 1, 0, SYN, 0)]
        capture(tmp_path / "client.pcap", [*OPEN, *([sent] if at_client else []), *late], 0)
        capture(tmp_path / "server.pcap", [*OPEN, *([] if at_client else [sent]), *late], 0.0004)
        cs = analyzer.read(tmp_path).story.connections
        _, client, server = states(cs.segments(0), fates(cs, 0))[-1]
        assert (STATES[client], STATES[server]) == states_then


def test_a_reset_that_no_endpoint_sent(tmp_path: Path) -> None:
    reset = (9.0, SERVER, 951, 3101, RST | ACK, 0)
    assert told(tmp_path, [*OPEN, reset, *LATER], OPEN + LATER) == {
        "← RST-ACK": "made on the way: never at server.pcap"
    }


def test_a_capture_that_had_ended_misses_nothing(tmp_path: Path) -> None:
    again = (9.0, CLIENT, 3101, 951, PSH | ACK, 20)
    assert told(tmp_path, [*OPEN, again], OPEN) == {}
