"""How a connection may open, built by scapy: what each is taken for, and how many connections it makes."""

from __future__ import annotations

import io

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import PcapWriter

from analyzer.capture.reader import read_capture
from analyzer.tcp.connections import PointConnection, connections_of

#: (ms, from the client, flags, sequence number, acknowledgement, payload)
Step = tuple[int, bool, str, int, int, bytes]

HANDSHAKE: list[Step] = [(0, True, "S", 100, 0, b""), (1, False, "SA", 500, 101, b""), (2, True, "A", 101, 501, b"")]


def seen(steps: list[Step]) -> list[PointConnection]:
    """The connections in a capture of these segments."""
    out = io.BytesIO()
    writer = PcapWriter(out, nano=True, sync=True)
    for number, (ms, from_client, flags, seq, ack, payload) in enumerate(steps, 1):
        ends, ports = ("10.0.0.1", "10.0.0.2"), (50_000, 443)
        (src, dst), (sport, dport) = (ends, ports) if from_client else (ends[::-1], ports[::-1])
        packet = (
            Ether()
            / IP(src=src, dst=dst, id=number)
            / TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=ack)
            / payload
        )
        packet.time = 1_700_000_000 + ms / 1000
        writer.write(packet)
    content = out.getvalue()
    return connections_of(read_capture(io.BytesIO(content), len(content)).rows)


OPENINGS: dict[str, tuple[list[Step], tuple[str, ...], tuple[str, str]]] = {
    "the usual": (HANDSHAKE, (), ("ESTABLISHED", "ESTABLISHED")),
    "simultaneous": (
        [(0, True, "S", 100, 0, b""), (1, False, "S", 500, 0, b""), (2, True, "SA", 100, 501, b""), (3, False, "SA", 500, 101, b""),
         (4, True, "A", 101, 501, b""), (5, False, "A", 501, 101, b"")],
        ("simultaneous open",),
        ("ESTABLISHED", "ESTABLISHED"),
    ),
    "split in four": (
        [(0, True, "S", 100, 0, b""), (1, False, "A", 500, 101, b""), (2, False, "S", 500, 0, b""), (3, True, "SA", 100, 501, b""), (4, False, "A", 501, 101, b"")],
        ("split handshake",),
        ("ESTABLISHED", "ESTABLISHED"),
    ),
    "split, the server's SYN alone": (
        [(0, True, "S", 100, 0, b""), (2, False, "S", 500, 0, b""), (3, True, "SA", 100, 501, b""), (4, False, "A", 501, 101, b"")],
        ("split handshake",),
        ("ESTABLISHED", "ESTABLISHED"),
    ),
    "TCP Fast Open": (
        [(0, True, "S", 100, 0, b"GET"), (1, False, "SA", 500, 104, b""), (2, False, "A", 501, 104, b"OK"), (3, True, "A", 104, 503, b"")],
        ("TCP Fast Open",),
        ("ESTABLISHED", "ESTABLISHED"),
    ),
    "mid-stream": (
        [(0, True, "A", 100, 500, b"x"), (1, False, "A", 500, 101, b"")],
        ("capture began mid-stream",),
        ("ESTABLISHED", "ESTABLISHED"),
    ),
    "SYN repeated": ([HANDSHAKE[0], (1000, True, "S", 100, 0, b""), *[(ms + 1000, *rest) for ms, *rest in HANDSHAKE[1:]]], (), ("ESTABLISHED", "ESTABLISHED")),
    "half-open": (HANDSHAKE[:2], (), ("SYN_SENT", "SYN_RECEIVED")),
}  # fmt: skip


@pytest.mark.parametrize("name", OPENINGS)
def test_openings(name: str) -> None:
    steps, oddities, states = OPENINGS[name]
    (one,) = seen(steps)
    assert (one.oddities, (one.a.state, one.b.state), one.client) == (oddities, states, "10.0.0.1:50000")


def test_fast_open_data_counts_once() -> None:
    (one,) = seen(OPENINGS["TCP Fast Open"][0])
    assert (one.a.payload, one.b.payload, one.a.retransmits) == (3, 2, 0)


def test_a_repeated_syn_is_a_retransmission() -> None:
    (one,) = seen(OPENINGS["SYN repeated"][0])
    assert one.a.retransmits == 1


CLOSE: list[Step] = [
    (10, True, "FA", 101, 501, b""), (11, False, "FA", 501, 102, b""), (12, True, "A", 102, 502, b""),
]  # fmt: skip


@pytest.mark.parametrize("wait_ms", [1, 30_000, 90_000])
def test_a_port_used_again_is_another_connection(wait_ms: int) -> None:
    """Also while the first one's side is in TIME_WAIT (RFC 6191)."""
    again: list[Step] = [
        (ms + 12 + wait_ms, c, flags, seq + 70_000, ack and ack + 70_000, data)
        for ms, c, flags, seq, ack, data in HANDSHAKE
    ]
    first, second = seen([*HANDSHAKE, *CLOSE, *again])
    assert (first.a.state, first.b.state) == ("TIME_WAIT", "CLOSED")
    assert (second.a.state, second.oddities) == ("ESTABLISHED", ())


# ---- one direction

TALK: list[Step] = [
    *HANDSHAKE, (10, True, "A", 101, 501, b"req"), (11, False, "A", 501, 104, b"reply"), (12, True, "A", 104, 506, b""),
]  # fmt: skip


def test_a_direction_that_was_not_captured_is_told() -> None:
    (client_only,) = seen([step for step in TALK if step[1]])
    (server_only,) = seen([step for step in TALK if not step[1]])
    (both,) = seen(TALK)
    assert (client_only.one_sided, server_only.one_sided, both.one_sided) == ("server", "client", None)


@pytest.mark.parametrize(
    "steps",
    [
        [(n * 1000, True, "S", 100, 0, b"") for n in range(5)],
        [(n * 1000, True, "A", 100, 500, b"") for n in range(5)],
        [(0, True, "A", 101, 500, b"x"), *[(200 << n, True, "A", 101, 500, b"x") for n in range(6)]],
        [(0, False, "R", 500, 0, b"")],
    ],
    ids=["unanswered SYNs", "unanswered keepalive probes", "data into the void", "a lone reset"],
)
def test_a_peer_that_does_not_answer_is_no_missing_direction(steps: list[Step]) -> None:
    (one,) = seen(steps)
    assert one.one_sided is None


def test_mid_stream_data_that_nobody_repeats_was_acknowledged() -> None:
    (one,) = seen([(n * 500, True, "A", 100 + n, 500, b"x") for n in range(10)])
    assert one.one_sided == "server"
