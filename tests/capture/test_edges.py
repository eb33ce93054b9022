"""Edges of the protocol, each a connection of its own in one capture, field by field against tshark."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from analyzer.capture.columns import ACK, FLAGS, LEN, NO, RST, SEQ, TS, TSECR, TSVAL, WIN, WSCALE
from tests.capture import packets
from tests.capture.test_tshark import ask_tshark, differences, need_tshark

C, S = "10.0.0.1", "10.0.0.2"
FIELD_NAMES = (
    "frame.number", "frame.time_epoch", "tcp.flags", "tcp.seq_raw", "tcp.ack_raw", "tcp.len", "tcp.window_size_value",
    "tcp.options.timestamp.tsval", "tcp.options.timestamp.tsecr", "tcp.options.wscale.shift",
)  # fmt: skip
OUR_FIELDS = (NO, TS, FLAGS, SEQ, ACK, LEN, WIN, TSVAL, TSECR, WSCALE)
FIN, SYN, PSH, ACKS, URG = 1, 2, 8, 16, 32
Wrap = Callable[[bytes], bytes]


class Conversation:
    """Segments of one connection, 10 ms apart; sequence numbers go on by themselves where none is given."""

    def __init__(self, port: int, client: int = 1_000, server: int = 5_000) -> None:
        self.port, self.next, self.at = port, [client, server], 1_790_000_000 * 10**9 + port * 10**9
        self.sent: list[packets.Record] = []

    def send(
        self, up: bool, flags: int, data: bytes = b"", *, seq: int | None = None, ack: int | None = None, options: bytes = b"",
        window: int = 64_000, wait_ms: int = 10, frame: Wrap = packets.ethernet,
    ) -> Conversation:  # fmt: skip
        own, peer = (0, 1) if up else (1, 0)
        first = self.next[own] if seq is None else seq
        acked = (self.next[peer] if flags & ACKS else 0) if ack is None else ack
        ports = (self.port, 443) if up else (443, self.port)
        segment = packets.tcp(*ports, first, acked, flags, data, window, options)
        ends = (C, S) if up else (S, C)
        if frame is packets.ethernet:
            segment = packets.ipv4(*ends, segment, ip_id=len(self.sent) + 1)
        self.sent.append((self.at, frame(segment)))
        self.at += wait_ms * 1_000_000
        if seq is None:
            self.next[own] += len(data) + bool(flags & SYN) + bool(flags & FIN)
        return self

    def open(self, options: bytes = b"") -> Conversation:
        return self.send(True, SYN, options=options).send(False, SYN | ACKS, options=options).send(True, ACKS)

    def probe(self, up: bool, size: int, count: int = 3) -> Conversation:
        own = 0 if up else 1
        for _ in range(count):
            self.send(up, ACKS, bytes(size), seq=self.next[own] - 1, wait_ms=1000).send(not up, ACKS)
        return self

    def close(self) -> Conversation:
        return self.send(True, FIN | ACKS).send(False, ACKS).send(False, FIN | ACKS).send(True, ACKS)


def without_length(segment: bytes) -> bytes:
    """Left to the network card: the length in the IP header is 0."""
    packet = packets.ipv4(C, S, segment[:60_000], ip_id=7)
    return packets.ethernet(packet[:2] + b"\0\0" + packet[4:] + segment[60_000:])


def behind(number: int, extension: bytes, length: int | None = None) -> Wrap:
    """IPv6 with one extension header."""

    def frame(segment: bytes) -> bytes:
        payload = extension + segment
        packet = packets.ipv6("fd00::1", "fd00::2", payload[:60_000]) + payload[60_000:]
        size = packet[4:6] if length is None else length.to_bytes(2)
        return packets.ethernet6(packet[:4] + size + bytes([number]) + packet[7:])

    return frame


def jumbo(segment: bytes) -> bytes:
    """RFC 2675: the length is an option."""
    return behind(0, b"\6\0\xc2\4" + (len(segment) + 8).to_bytes(4), length=0)(segment)


ROUTING = b"\6\2\4\0\0\0\0\0" + bytes.fromhex("fd000000000000000000000000000002")
STAMPS = b"\1\1\x08\x0a\0\0\0\5\0\0\0\6"
EDGES: dict[str, Callable[[Conversation], object]] = {
    "time goes back": lambda c: (
        c.open().send(True, ACKS, b"x", wait_ms=-5_000).send(False, ACKS, b"y").send(True, ACKS)
    ),
    "a gap of ten years": lambda c: c.open().send(True, ACKS, b"x", wait_ms=315_360_000_000).send(False, ACKS, b"y"),
    "urgent data": lambda c: c.open().send(True, ACKS | URG, b"abc").send(False, ACKS).send(True, ACKS | URG),
    "SYN with data": lambda c: (
        c.send(True, SYN, b"hello").send(False, SYN | ACKS).send(True, ACKS, b"x").send(False, ACKS)
    ),
    "SYN-ACK with data": lambda c: (
        c.send(True, SYN).send(False, SYN | ACKS, b"hello").send(True, ACKS).send(True, ACKS, b"x")
    ),
    "RST with data": lambda c: c.open().send(True, ACKS, b"x").send(False, RST | ACKS, b"go away"),
    "simultaneous close": lambda c: (
        c.open().send(True, FIN | ACKS).send(False, FIN | ACKS, ack=1_001).send(True, ACKS).send(False, ACKS)
    ),
    "simultaneous open": lambda c: (
        c.send(True, SYN)
        .send(False, SYN, ack=0)
        .send(True, SYN | ACKS, seq=1_000)
        .send(False, SYN | ACKS, seq=5_000)
        .send(True, ACKS)
        .send(True, ACKS, b"x")
    ),
    "port used again with lower numbers": lambda c: (
        (c.open().close() and setattr(c, "next", [500, 90_000])) or c.open().send(True, ACKS, b"x").send(False, ACKS)
    ),
    "keepalive probes of no byte": lambda c: (
        c.open().send(True, ACKS, b"x").send(False, ACKS).probe(True, 0).send(True, ACKS, b"y")
    ),
    "keepalive probes of one byte": lambda c: (
        c.open().send(True, ACKS, b"x").send(False, ACKS).probe(True, 1).send(True, ACKS, b"y")
    ),
    "the server's keepalive probes": lambda c: c.open().send(False, ACKS, b"x").send(True, ACKS).probe(False, 0),
    "window scale beyond 14": lambda c: c.open(b"\3\3\x0e\0").send(True, ACKS, b"x"),
    "more than 64 KB in one segment": lambda c: (
        c.send(True, ACKS, b"x" * 3_000, frame=without_length)
        .send(True, ACKS, b"x" * 70_000, frame=without_length)
        .send(True, ACKS, b"y")
    ),
    "a jumbogram": lambda c: c.send(True, ACKS, b"x" * 70_000, frame=jumbo),
    "a routing header": lambda c: c.send(True, ACKS, b"abc", frame=behind(43, ROUTING)),
    "options for the destination": lambda c: c.send(True, ACKS, b"abc", frame=behind(60, b"\6\0\1\4" + bytes(4))),
    "bytes behind the packet": lambda c: c.send(
        True, ACKS, b"ab", frame=lambda s: packets.ethernet(packets.ipv4(C, S, s)) + bytes(4)
    ),
    "an option of no length": lambda c: c.send(True, ACKS, b"ab", options=b"\2\0\1\1"),
    "an option longer than the header": lambda c: c.send(True, ACKS, b"ab", options=b"\1\1\x08\x0a"),
    "time stamps behind the end of options": lambda c: c.send(True, ACKS, b"ab", options=b"\0\x08\x0a" + bytes(9)),
    "time stamps twice": lambda c: c.send(True, ACKS, b"ab", options=STAMPS + STAMPS[:4] + b"\0\0\0\7\0\0\0\x08"),
    "a reset outside of the window": lambda c: (
        c.open().send(True, ACKS, b"x").send(False, RST, seq=999_999_999).send(True, ACKS, b"y")
    ),
    "a FIN sent again, with its data": lambda c: (
        c.open()
        .send(True, ACKS, b"x" * 100)
        .send(True, FIN | ACKS, wait_ms=1000)
        .send(True, FIN | ACKS, b"x" * 100, seq=1_001)
        .send(False, ACKS)
        .send(False, FIN | ACKS)
        .send(True, ACKS)
    ),
    "a window probe that is taken": lambda c: (
        c.open()
        .send(True, ACKS, b"x" * 100)
        .send(False, ACKS, window=0)
        .send(True, ACKS, b"p", wait_ms=1000)
        .send(False, ACKS, window=0)
        .send(True, ACKS, b"q", wait_ms=1000)
        .send(False, ACKS)
    ),
}


@pytest.mark.parametrize("snaplen", [262_144, 70])
def test_edges_agree_with_tshark(snaplen: int, tmp_path: Path) -> None:
    """Each field of each segment, and what is made of them; also where the capture cuts into the options."""
    need_tshark()
    sent: list[packets.Record] = []
    for number, edge in enumerate(EDGES.values()):
        conversation = Conversation(40_000 + number)
        edge(conversation)
        sent += [(at, frame) for at, frame in conversation.sent if snaplen > 100 or frame[12] == 8]  # IPv4's fit
    content, path = packets.pcap(sent, snaplen=snaplen), tmp_path / "edges.pcap"
    path.write_bytes(content)
    data = packets.read(content)
    command = [
        "tshark",
        "-n",
        "-r",
        str(path),
        "-T",
        "fields",
        "-E",
        "occurrence=l",
        *(x for name in FIELD_NAMES for x in ("-e", name)),
    ]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    theirs = []
    for number, time, flags, *rest in (line.split("\t") for line in lines):
        numbers = [int(value) if value else -1 for value in rest]
        theirs.append([int(number), int(time.replace(".", "")), int(flags, 16) & 0xFF, *numbers])
    assert data.segments[:, OUR_FIELDS].tolist() == theirs
    assert differences(ask_tshark(path), data) == {}
