"""Packets and capture files for tests, built from bytes: small, fast, and independent of the code under test."""

from __future__ import annotations

import gzip
import io
import ipaddress
import random
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from analyzer.capture.reader import CaptureData, read_capture

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

Record = tuple[int, bytes]  # (ns since the epoch, frame)


def tcp(
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: int,
    payload: bytes = b"",
    window: int = 64_000,
    options: bytes = b"",
) -> bytes:
    """A TCP segment; the checksum is zero, which nothing here verifies."""
    offset = (20 + len(options)) // 4
    header = struct.pack(
        ">HHIIBBHHH", sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, offset << 4, flags, window, 0, 0
    )
    return header + options + payload


def ipv4(src: str, dst: str, segment: bytes, ttl: int = 64, ip_id: int = 0) -> bytes:
    """An IPv4 packet that carries a TCP segment."""
    addresses = bytes(map(int, (*src.split("."), *dst.split("."))))
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), ip_id, 0x4000, ttl, 6, 0) + addresses + segment


def ipv6(src: str, dst: str, segment: bytes, hops: int = 64) -> bytes:
    """An IPv6 packet that carries a TCP segment."""
    addresses = ipaddress.IPv6Address(src).packed + ipaddress.IPv6Address(dst).packed
    return struct.pack(">IHBB", 6 << 28, len(segment), 6, hops) + addresses + segment


def ethernet6(packet: bytes) -> bytes:
    """An Ethernet frame that carries an IPv6 packet."""
    return b"\x02\0\0\0\0\1\x02\0\0\0\0\2\x86\xdd" + packet


def ethernet(packet: bytes) -> bytes:
    """An Ethernet frame that carries an IPv4 packet."""
    return b"\x02\0\0\0\0\1\x02\0\0\0\0\2\x08\x00" + packet


def pcap(
    records: Iterable[Record], link: int = 1, order: str = "<", nano: bool = True, snaplen: int = 262_144
) -> bytes:
    """A classic pcap file."""
    magic, unit = (0xA1B23C4D, 1) if nano else (0xA1B2C3D4, 1000)
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, link)]
    for ns, frame in records:
        cut = frame[:snaplen]
        out.append(struct.pack(order + "IIII", ns // 10**9, ns % 10**9 // unit, len(cut), len(frame)) + cut)
    return b"".join(out)


def block(order: str, kind: int, body: bytes) -> bytes:
    """One pcapng block."""
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def option(order: str, code: int, value: bytes) -> bytes:
    """One pcapng option."""
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str = "<") -> bytes:
    """A pcapng section header block."""
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(
    order: str = "<", link: int = 1, snaplen: int = 0, resolution: int | None = None, offset: int = 0
) -> bytes:
    """A pcapng interface description block."""
    options = b""
    if resolution is not None:
        options += option(order, 9, bytes([resolution]))
    if offset:
        options += option(order, 14, struct.pack(order + "q", offset))
    return block(order, 1, struct.pack(order + "HHI", link, 0, snaplen) + options + option(order, 0, b""))


def enhanced(order: str, number: int, units: int, frame: bytes, wire: int | None = None) -> bytes:
    """A pcapng enhanced packet block."""
    size = len(frame) if wire is None else wire
    head = struct.pack(order + "IIIII", number, units >> 32, units & 0xFFFFFFFF, len(frame), size)
    return block(order, 6, head + frame)


def simple(order: str, frame: bytes, wire: int | None = None) -> bytes:
    """A pcapng simple packet block."""
    return block(order, 3, struct.pack(order + "I", len(frame) if wire is None else wire) + frame)


def old(order: str, number: int, units: int, frame: bytes) -> bytes:
    """An obsolete pcapng packet block."""
    head = struct.pack(order + "HHIIII", number, 0, units >> 32, units & 0xFFFFFFFF, len(frame), len(frame))
    return block(order, 2, head + frame)


def read(content: bytes | Path) -> CaptureData:
    """A capture read whole, from bytes or from a file."""
    if isinstance(content, Path):
        content = gzip.decompress(content.read_bytes()) if content.name.endswith(".gz") else content.read_bytes()
    return read_capture(io.BytesIO(content), len(content))


class Conversation:
    """A TCP connection that goes wrong in every way a capture shows: the records of one random walk of two endpoints."""

    def __init__(self, chance: random.Random, number: int, start_ns: int) -> None:
        self.chance = chance
        self.ports = (20_000 + number, 443)
        self.hosts = ("10.0.0.1", "10.0.0.2")
        self.now = start_ns
        self.next = [chance.getrandbits(32), chance.getrandbits(32)]
        if chance.random() < 0.2:  # so that it wraps
            self.next[chance.randrange(2)] = 2**32 - chance.randrange(1, 4000)
        self.acked = list(self.next)
        self.past: list[list[tuple[int, int, int]]] = [[], []]  # (seq, flags, payload bytes)
        self.closed = [False, False]
        self.reset = False
        self.sent = [False, False]  # in this capture: only then can a keepalive be told

    def frame(self, side: int, seq: int, ack: int, flags: int, size: int = 0, window: int = 64_000) -> Record:
        """One frame from `side`, some time after the last."""
        self.now += self.chance.choice((10_000, 300_000, 1_500_000, 5_000_000, 60_000_000, 900_000_000, 2_500_000_000))
        segment = tcp(self.ports[side], self.ports[1 - side], seq, ack, flags, b"x" * size, window)
        return self.now, ethernet(ipv4(self.hosts[side], self.hosts[1 - side], segment))

    def opening(self) -> Iterator[Record]:
        """A handshake, whole, doubled or missing."""
        how = self.chance.random()
        if how < 0.25:
            return
        yield self.frame(0, self.next[0], 0, SYN)
        if how < 0.4:
            yield self.frame(0, self.next[0], 0, SYN)
        yield self.frame(1, self.next[1], self.next[0] + 1, SYN | ACK)
        if how < 0.5:
            yield self.frame(1, self.next[1], self.next[0] + 1, SYN | ACK)
        self.next = [self.next[0] + 1, self.next[1] + 1]
        self.sent = [True, True]
        self.acked = list(self.next)
        yield self.frame(0, self.next[0], self.next[1], ACK)

    def send(self, side: int, flags: int, size: int, lost: bool = False, window: int = 64_000) -> Iterator[Record]:
        """The next segment of one side."""
        record = self.frame(side, self.next[side], self.acked[1 - side], flags, size, window)
        self.past[side].append((self.next[side], flags, size))
        self.next[side] += size + (flags & FIN)
        self.sent[side] = True
        if not lost:
            yield record

    def step(self) -> Iterator[Record]:
        """One thing that happens."""
        side, what = self.chance.randrange(2), self.chance.random()
        peer = 1 - side
        sizes = (1, 2, 10, 100, 1400)
        if what < 0.35:
            if not self.closed[side]:
                yield from self.send(side, ACK | self.chance.choice((0, PSH)), self.chance.choice(sizes))
        elif what < 0.5:
            self.acked[peer] = self.next[peer]
            yield self.frame(side, self.next[side], self.acked[peer], ACK)
        elif what < 0.55:
            if self.past[peer]:
                self.acked[peer] = self.chance.choice(self.past[peer])[0]
            yield self.frame(side, self.next[side], self.acked[peer], ACK)
        elif what < 0.6:
            for _ in range(self.chance.randrange(1, 4)):
                yield self.frame(side, self.next[side], self.acked[peer], ACK)
        elif what < 0.7:
            if self.past[side]:
                seq, flags, size = self.chance.choice(self.past[side][-4:])
                yield self.frame(side, seq, self.acked[peer], flags, size)
        elif what < 0.75:
            if not self.closed[side]:
                yield from self.send(side, ACK, self.chance.choice(sizes), lost=True)
        elif what < 0.82:
            if not self.sent[side]:
                return
            yield self.frame(side, self.next[side] - 1, self.acked[peer], ACK, self.chance.randrange(2))
        elif what < 0.87:
            yield self.frame(side, self.next[side], self.acked[peer], ACK, window=0)
            if self.chance.random() < 0.7 and not self.closed[peer]:
                yield from self.send(peer, ACK, 1)
        elif what < 0.9:
            if not self.closed[side]:
                yield from self.send(side, ACK | FIN, self.chance.choice((0, 0, 10)))
                self.closed[side] = True
        elif what < 0.92:
            yield self.frame(side, self.next[side], self.acked[peer], RST | self.chance.choice((0, ACK)))
            self.reset = True
        elif what < 0.94:
            self.next[side] += self.chance.choice(sizes)
            yield from self.send(side, ACK, 10)
        elif what < 0.97 and self.past[side]:
            seq, _, size = self.chance.choice(self.past[side][-3:])
            yield self.frame(side, seq + size // 2, self.acked[peer], ACK, size)

    def records(self) -> Iterator[Record]:
        """The whole conversation, in order of time."""
        yield from self.opening()
        for _ in range(self.chance.randrange(3, 25)):
            if not self.reset:
                yield from self.step()
        if self.chance.random() < 0.15:  # the port is used again
            self.next = [self.chance.getrandbits(32), self.chance.getrandbits(32)]
            self.closed = [False, False]
            self.past = [[], []]
            yield from self.opening()
            for _ in range(self.chance.randrange(3)):
                yield from self.step()


def conversations(seed: int, count: int) -> list[Record]:
    """The records of `count` random conversations, one after the other."""
    chance = random.Random(seed)
    start = 1_700_000_000 * 10**9
    out: list[Record] = []
    for number in range(count):
        walk = list(Conversation(chance, number, start).records())
        out += walk
        start = walk[-1][0] + 10**9 if walk else start
    return out
