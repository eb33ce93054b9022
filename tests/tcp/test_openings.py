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

#: MP_CAPABLE of version 1 (RFC 8684 §3.1).
OPTIONS: list[list[tuple[int, bytes]]] = [[], [(30, b"\x01\x01")]]

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
            / TCP(
                sport=sport,
                dport=dport,
                flags=flags.partition("+")[0],
                seq=seq,
                ack=ack,
                options=OPTIONS[flags[-2:] == "mp"],
            )
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
    "Multipath TCP": ([(0, True, "S+mp", 100, 0, b""), *HANDSHAKE[1:]], ("Multipath TCP",), ("ESTABLISHED", "ESTABLISHED")),
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


# ---- half-open connections (RFC 9293 §3.5.1)

TALKED: list[Step] = [
    *HANDSHAKE,
    (10, True, "PA", 101, 501, b"req"),
    (11, False, "PA", 501, 104, b"rep"),
    (12, True, "A", 104, 504, b""),
]
#: The client has forgotten that, and takes the same port: the server answers for the old connection, until it is reset.
ANEW: list[Step] = [
    (60_000, True, "S", 2**31, 0, b""), (60_001, False, "A", 504, 104, b""), (60_002, True, "R", 104, 0, b""),
    (61_000, True, "S", 2**31, 0, b""), (61_001, False, "SA", 777_000, 2**31 + 1, b""), (61_002, True, "A", 2**31 + 1, 777_001, b""),
    (61_003, True, "PA", 2**31 + 1, 777_001, b"again"), (61_004, False, "PA", 777_001, 2**31 + 6, b"yes"),
]  # fmt: skip
STILL_OPEN = "an earlier connection of these ports was still open (challenge ACK)"


@pytest.mark.parametrize("before", [TALKED, []], ids=["seen", "older than the capture"])
def test_what_a_challenge_ack_says_of_an_earlier_connection_moves_nothing(before: list[Step]) -> None:
    *earlier, one = seen([*before, *ANEW])
    assert len(earlier) == bool(before)
    assert (one.oddities, one.ended_by, one.conn_state, one.history) == ((STILL_OPEN,), None, "S1", "ShADd")
    assert (one.a.state, one.b.state, one.missed, one.a.payload, one.b.payload) == (
        "ESTABLISHED",
        "ESTABLISHED",
        0,
        5,
        3,
    )
    assert (one.a.packets, one.b.packets, one.a.retransmits) == (5, 3, 1)


def test_a_challenge_ack_alone_leaves_the_client_waiting() -> None:
    (one,) = seen(ANEW[:3])
    assert (one.a.state, one.b.state, one.conn_state, one.ended_by) == ("SYN_SENT", "UNKNOWN", "S0", None)


@pytest.mark.parametrize("ahead", [0, 1, 3_000])
def test_an_acknowledgement_of_what_the_capture_missed_is_no_challenge(ahead: int) -> None:
    (one,) = seen([HANDSHAKE[0], (50, False, "A", 501, 101 + ahead, b"x")])
    assert STILL_OPEN not in one.oddities and one.b.payload == 1


def test_a_half_open_connection_is_reset_by_data() -> None:
    (one,) = seen([*TALKED, (60_000, True, "PA", 104, 504, b"again"), (60_001, False, "R", 504, 0, b"")])
    assert (one.ended_by, one.conn_state, one.rst_gap_ns // 10**6) == ("server-rst", "RSTR", 59_990)


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


def again(times: int) -> list[Step]:
    """Short connections of the same ports, one a second."""
    steps: list[Step] = []
    for n in range(times):
        at, client, server = n * 1000, 100 + n * 10_000_000, 500 + n * 77_000_000
        steps += [
            (at, True, "S", client, 0, b""), (at + 1, False, "SA", server, client + 1, b""), (at + 2, True, "A", client + 1, server + 1, b"req"),
            (at + 3, False, "A", server + 1, client + 4, b"reply"), (at + 4, True, "FA", client + 4, server + 6, b""),
            (at + 5, False, "FA", server + 6, client + 5, b""), (at + 6, True, "A", client + 5, server + 7, b""),
        ]  # fmt: skip
    return steps


def test_the_server_s_direction_alone_tells_a_port_used_again() -> None:
    """By its SYN-ACKs: of other numbers on both sides."""
    found = seen([step for step in again(4) if not step[1]])
    assert [(one.b.packets, one.b.payload, one.missed) for one in found] == [(3, 5, 0)] * 4


def test_a_port_used_again_whose_syn_was_not_captured_is_another_connection() -> None:
    steps = again(2)
    first, second = seen([step for step in steps if step != steps[7]])
    assert (
        (first.a.payload, first.b.payload, first.missed)
        == (second.a.payload, second.b.payload, second.missed)
        == (3, 5, 0)
    )


def test_a_stray_or_repeated_syn_ack_opens_nothing() -> None:
    """Of an earlier connection while this one lives; of a server that answers a SYN with another number each time; out of order."""
    (one,) = seen([*HANDSHAKE, (3, False, "SA", 9_000_000, 8_000_000, b""), (4, True, "A", 101, 501, b"x")])
    assert one.b.packets == 2
    (one,) = seen([HANDSHAKE[1], (900, False, "SA", 70_000, 101, b""), (1800, False, "SA", 90_000, 101, b"")])
    assert one.b.packets == 3
    (one,) = seen([(0, False, "A", 9_000, 4_000, b"late"), HANDSHAKE[1], (2, False, "A", 501, 101, b"early")])
    assert one.b.packets == 3
