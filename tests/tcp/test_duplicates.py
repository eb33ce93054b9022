"""Copies of one packet (`-i any`, bridge and veth, mirrored ports) count once; a sender's repetition stays one."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from analyzer.capture.reader import CaptureData
from analyzer.model.clocks import Clock
from analyzer.streams import open_stream
from analyzer.tcp import fields as f
from analyzer.tcp.connections import connections_of
from analyzer.tcp.segments import merge
from tests.capture import packets
from tests.capture.packets import ACK, SYN, Record, enhanced, ethernet, interface, ipv4, read, section, tcp

#: Not the one that holds every packet twice already.
DOUBLED = "any-interface"
CAPTURES = sorted(
    path for path in (Path(__file__).parents[2] / "captures").glob("*/server.pcap*") if path.parent.name != DOUBLED
)
US = 1000
START = 1_700_000_000 * 10**9


def frame(data: bytes, ip_id: int = 0, ttl: int = 64, tag: bytes = b"") -> bytes:
    """The client's segment of `data` at sequence number 101."""
    packet = ethernet(ipv4("10.0.0.1", "10.0.0.2", tcp(50_000, 443, 101, 1, ACK, data), ttl, ip_id))
    return packet[:12] + tag + packet[12:]


OPENING: list[Record] = [
    (START, ethernet(ipv4("10.0.0.1", "10.0.0.2", tcp(50_000, 443, 100, 0, SYN), ip_id=1))),
    (START + 10 * US, ethernet(ipv4("10.0.0.2", "10.0.0.1", tcp(443, 50_000, 0, 101, SYN | ACK)))),
]


def interfaces(records: list[tuple[int, int, bytes]]) -> bytes:
    """A pcapng of (interface, ns, frame) on two interfaces."""
    head = section() + interface(resolution=9) + interface(resolution=9)
    return head + b"".join(enhanced("<", number, ns, content) for number, ns, content in records)


def after_opening(second: tuple[int, int, bytes], ip_id: int = 0) -> CaptureData:
    """A handshake, data on interface 0, and then `second`: (interface, µs after the data, frame)."""
    number, later, content = second
    at = START + 1_000_000
    records = [(0, ns, one) for ns, one in OPENING] + [
        (0, at, frame(b"hello", ip_id)),
        (number, at + later * US, content),
    ]
    return read(interfaces(records))


VLAN = struct.pack(">HH", 0x8100, 7)


@pytest.mark.parametrize(
    ("what", "ip_id", "second", "copy"),
    [
        ("another interface", 0, (1, 100, frame(b"hello")), True),
        ("another TTL: before and behind a router", 0, (0, 100, frame(b"hello", ttl=63)), True),
        ("tagged and untagged", 0, (0, 100, frame(b"hello", tag=VLAN)), True),
        ("a mirrored port: the same identification", 9, (0, 100, frame(b"hello", 9)), True),
        ("a retransmission with its own identification", 9, (0, 100, frame(b"hello", 10)), False),
        ("… on another interface", 9, (1, 100, frame(b"hello", 10)), False),
        ("a retransmission without identification", 0, (0, 100, frame(b"hello")), False),
        ("too late for a copy", 9, (1, 2_100, frame(b"hello", 9)), False),
    ],
)
def test_a_copy_is_told_from_a_retransmission(
    what: str, ip_id: int, second: tuple[int, int, bytes], copy: bool
) -> None:
    data = after_opening(second, ip_id)
    client = connections_of(data.rows)[0].a
    assert (bool(data.kinds[-1] & f.K_DUPLICATE), client.packets, client.retransmits) == (
        copy,
        2 + (not copy),
        int(not copy),
    )
    assert any("1 duplicate frames counted once" in problem.what for problem in data.problems) == copy


def test_a_genuine_retransmission_between_copies_is_counted_once() -> None:
    """-i any: each transmission twice, the second transmission within 2 ms of the first."""
    at = START + 1_000_000
    twice = [(n, at + t * US, frame(b"hello")) for n, t in ((0, 0), (1, 5), (0, 1_000), (1, 1_005))]
    data = read(interfaces([(0, ns, one) for ns, one in OPENING] + twice))
    assert [bool(kind & f.K_DUPLICATE) for kind in data.kinds[2:]] == [False, True, False, True]
    assert connections_of(data.rows)[0].a.retransmits == 1


def doubled(content: bytes, later_us: int) -> bytes:
    """A pcap (µs) in which each packet stands twice, in bursts as a softirq hands them on: the copies a little later."""
    records, i = [], 24
    while i < len(content):
        sec, usec, caplen, _ = struct.unpack_from("<IIII", content, i)
        record = content[i + 8 : i + 16 + caplen]
        time = sec * 10**6 + usec
        records += [(time, 0, record), (time + later_us, 1, record)]
        i += 16 + caplen
    out = [content[:24]]
    for time, _, record in sorted(records, key=lambda one: one[:2]):
        out.append(struct.pack("<II", time // 10**6, time % 10**6) + record)
    return b"".join(out)


def without_numbers(data: CaptureData) -> np.ndarray:
    """Rows without record numbers and the TTL letter's company: all that copies could have changed."""
    rows = data.rows.copy()
    rows[:, [f.FIRST_NO, f.LAST_NO]] = 0
    return rows


def identified(content: bytes, least: int = 1) -> bytes:
    """A pcap whose IPv4 packets all have an identification of their own; 0 for all with `least` 0."""
    out, i, number = bytearray(content), 24, 0
    link = struct.unpack_from("<I", content, 20)[0]
    header = {1: 14, 113: 16, 276: 20, 101: 0}[link]
    while i < len(out):
        caplen = struct.unpack_from("<I", out, i + 8)[0]
        number += 1
        struct.pack_into(">H", out, i + 16 + header + 4, (number % 65_535 + 1) * least)
        i += 16 + caplen
    return bytes(out)


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.parent.name)
@pytest.mark.parametrize("later_us", [1, 300])
def test_a_capture_with_every_packet_doubled_gives_the_same_connections(path: Path, later_us: int) -> None:
    with open_stream(str(path)) as stream:
        content = identified(stream.read())
    plain, twice = read(content), read(doubled(content, later_us))
    assert np.array_equal(without_numbers(plain), without_numbers(twice))
    copies = (twice.kinds & f.K_DUPLICATE) > 0
    assert copies.sum() == len(plain.kinds)
    assert np.array_equal(np.sort(twice.kinds[~copies]), np.sort(plain.kinds))
    parts = [[(0, "p", d.segments[d.uids == 0], d.kinds[d.uids == 0], Clock("packet"), {})] for d in (plain, twice)]
    assert [s.describe() for s in merge(parts[0])] == [s.describe() for s in merge(parts[1])]


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.parent.name)
def test_without_identification_too_where_nothing_came_between(path: Path) -> None:
    """As IPv6 has none. What stays doubled is a reset or an acknowledgement before the first segment that says so."""
    with open_stream(str(path)) as stream:
        content = identified(stream.read(), 0)
    plain, twice = read(content), read(doubled(content, 1))
    counted = [[c.sides[k] for c in connections_of(d.rows) for k in (0, 1)] for d in (plain, twice)]
    columns = ("payload", "retransmits", "out_of_order", "fins", "state", "hole", "keepalives")
    assert [[getattr(s, c) for c in columns] for s in counted[0]] == [
        [getattr(s, c) for c in columns] for s in counted[1]
    ]
    assert sum(s.packets for s in counted[1]) - sum(s.packets for s in counted[0]) <= 2


STAMP = b"\1\1\x08\x0a" + bytes(3) + b"\7" + bytes(4)


@pytest.mark.parametrize(
    ("between", "stamp", "copy"), [([], STAMP, True), ([], b"", False), ([b""], STAMP, False)], ids=["silence", "no stamp", "answered"]
)  # fmt: skip
def test_ipv6_at_one_interface(between: list[bytes], stamp: bytes, copy: bool) -> None:
    """A repetition needs something that it answers, and so soon its stamp is the same."""

    def v6(up: bool, seq: int, ack: int, flags: int, data: bytes = b"", options: bytes = b"") -> bytes:
        ends, ports = (("2001:db8::1", "2001:db8::2"), (50_000, 443))
        (src, dst), (sport, dport) = (ends, ports) if up else (ends[::-1], ports[::-1])
        return packets.ethernet6(packets.ipv6(src, dst, tcp(sport, dport, seq, ack, flags, data, options=options)))

    hello = v6(True, 101, 1, ACK, b"hello", stamp)
    frames = [v6(True, 100, 0, SYN), v6(False, 0, 101, SYN | ACK), hello]
    frames += [v6(False, 1, 101, ACK) for _ in between] + [hello]
    (one,) = connections_of(read(packets.pcap((START + k * 30 * US, data) for k, data in enumerate(frames))).rows)
    assert (one.a.packets, one.a.retransmits) == ((2, 0) if copy else (3, 1))


def test_random_conversations_doubled_give_the_same_rows() -> None:
    records = [
        (ns, one[:18] + struct.pack(">H", n % 65_000 + 1) + one[20:])
        for n, (ns, one) in enumerate(packets.conversations(5, 100))
    ]
    plain = read(packets.pcap(records, nano=False))
    twice = read(doubled(packets.pcap(records, nano=False), 4))
    assert np.array_equal(without_numbers(plain), without_numbers(twice))


def test_a_bridge_seen_by_i_any_and_by_one_of_its_ports_gives_the_same_connections() -> None:
    """Three downloads between two network namespaces, captured by `tcpdump -i any` and `-i` a port at the same time."""
    folder = Path(__file__).parent / "data"
    every, one = packets.read(folder / "bridge-any.pcap"), packets.read(folder / "bridge-one.pcap")
    assert (every.kinds & f.K_DUPLICATE > 0).sum() == len(one.kinds) == every.tcp - one.tcp
    counted = [
        [(c.client, c.a.packets, c.b.packets, c.a.payload, c.b.payload, c.a.retransmits, c.b.retransmits, c.history, c.sides[1].fins)
         for c in connections_of(data.rows)]
        for data in (every, one)
    ]  # fmt: skip
    assert counted[0] == counted[1]
    assert len(counted[0]) == 3
