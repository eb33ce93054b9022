"""Captures that lie: every kind of damage to captures that use every path of the readers.

Run as a program (`python -m tests.capture.hostile COUNT`) it reads that many through the compiled kernels: with
NUMBA_BOUNDSCHECK=1 and a cache of its own, a read outside of the file's bytes or of a table is an error.
"""

from __future__ import annotations

import random
import struct
import sys

from tests.capture import packets

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 262_145, 1 << 20, 1 << 28)
START = 1_700_000_000 * 10**9


def ipv6(segment: bytes, extensions: list[tuple[int, bytes]]) -> bytes:
    """An IPv6 packet with extension headers as given: (their type, their body after the first byte)."""
    kinds = [kind for kind, _ in extensions] + [6]
    chain = b"".join(bytes([kinds[n + 1]]) + body for n, (_, body) in enumerate(extensions))
    head = struct.pack(">IHBB", 6 << 28, len(chain) + len(segment), kinds[0], 64)
    return head + bytes(15) + b"\1" + bytes(15) + b"\2" + chain + segment


def h2(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """One HTTP/2 frame."""
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


PAYLOADS = (
    h2(6, 0, 0, bytes(8)),
    h2(4, 0, 0, bytes(12)) + h2(8, 0, 0, bytes(4)) + h2(7, 0, 0, bytes(8) + b"too_many_pings"),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2(4, 0, 0, b""),
    h2(1, 4, 1, b"x" * 20) + h2(0, 1, 1, b"y"),
    b"-ERR max number of clients reached\r\n",
    b"\x15\x03\x03\x00\x02\x01\x00",
    b"",
)
OPTIONS = (
    b"",
    b"\1\1\x08\x0a" + bytes(8),
    b"\2\4\5\xb4\4\2\x08\x0a" + bytes(8) + b"\1\3\3\7",
    b"\1\1\5\x0a" + bytes(8),
)


def records(chance: random.Random) -> list[packets.Record]:
    """A few frames of every shape."""
    out: list[packets.Record] = []
    for n in range(40):
        segment = packets.tcp(
            40_000 + n % 5, 443, n * 100, 7, chance.choice((2, 16, 24, 17, 4)), chance.choice(PAYLOADS),
            options=chance.choice(OPTIONS),
        )  # fmt: skip
        packet = packets.ipv4("10.0.0.1", "10.0.0.2", segment)
        if n % 3 == 0:
            headers = [(0, b"\0" + bytes(6)), (60, b"\1" + bytes(14)), (51, b"\4" + bytes(22)), (44, bytes(7))]
            packet = ipv6(segment, chance.sample(headers, chance.randrange(4)))
        out.append((START + n * 10**6, packet))
    return out


def framed(link: int, packet: bytes) -> bytes:
    """A packet behind the header of a link layer."""
    kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
    return {
        0: b"\2\0\0\0" + packet,
        1: bytes(12) + kind + packet,
        101: packet,
        113: bytes(14) + kind + packet,
        276: kind + bytes(18) + packet,
        -1: bytes(12) + b"\x88\xa8\0\1\x81\0\0\2" + kind + packet,
    }[link]


def whole(chance: random.Random) -> bytes:
    """An undamaged capture."""
    link = chance.choice((0, 1, -1, 101, 113, 276))
    frames = [(ns, framed(link, packet)) for ns, packet in records(chance)]
    order, link = chance.choice("<>"), abs(link)
    if chance.random() < 0.5:
        return packets.pcap(frames, link, order, chance.random() < 0.5, chance.choice((60, 96, 262_144)))
    out = [packets.section(order), packets.interface(order, link, resolution=chance.choice((None, 9, 0x9E, 0)))]
    for n, (ns, frame) in enumerate(frames):
        if n % 10 == 5:
            out.append(packets.interface(order, link, offset=chance.choice((0, 5, -(2**62)))))
        if n % 10 == 7:
            out.append(chance.choice((packets.simple(order, frame), packets.old(order, 0, ns // 1000, frame))))
        else:
            out.append(packets.enhanced(order, n % 10 == 8, ns // 1000, frame))
    return b"".join(out)


def damaged(seed: int) -> bytes:
    """A capture after one to six accidents."""
    chance = random.Random(seed)
    data = bytearray(whole(chance))
    for _ in range(chance.randrange(1, 7)):
        at = chance.randrange(len(data) + 1)
        end = at + chance.choice((1, 4, 50))
        what = chance.randrange(6)
        if what == 0:
            del data[at:]
        elif what == 1:
            del data[at:end]
        elif what == 2:
            data[at:at] = data[at:end]
        elif what == 3:
            data[at:end] = chance.randbytes(len(data[at:end]))
        elif what == 4:
            size = chance.choice((1, 2, 4))
            value = chance.choice(EXTREMES) & ((1 << 8 * size) - 1)
            data[at : at + size] = value.to_bytes(size, chance.choice(("little", "big")))
        else:
            for _ in range(20):
                if data:
                    data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def main() -> None:
    """Read damaged captures through whatever kernels the environment chooses."""
    count = int(sys.argv[1])
    damaged_records = sum(packets.read(damaged(seed)).records for seed in range(count))
    whole_records = packets.read(packets.pcap(packets.conversations(seed=1, count=count // 5))).records
    print(damaged_records + whole_records)


if __name__ == "__main__":
    main()
