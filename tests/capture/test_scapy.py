"""Decoding against scapy: random packets in every container and link layer, their fields as scapy reads them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzer.capture import columns as col
from analyzer.model.addresses import host
from tests.capture import packets

pytest.importorskip("scapy")
from scapy.config import conf
from scapy.layers.inet import IP, TCP, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.l2 import CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether, Loopback
from scapy.packet import Packet, Raw

conf.verb = 0
START = 1_700_000_000 * 10**9
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

word = st.integers(0, 2**32 - 1)
short = st.integers(0, 2**16 - 1)
byte = st.integers(0, 255)
flags = st.sampled_from([2, 18, 16, 24, 17, 4, 20, 0, 255, 194])
tcp_options = st.lists(
    st.one_of(
        st.tuples(st.just("MSS"), short),
        st.tuples(st.just("WScale"), st.integers(0, 30)),
        st.tuples(st.just("Timestamp"), st.tuples(word, word)),
        st.just(("NOP", None)),
        st.just(("SAckOK", b"")),
    ),
    max_size=4,
    unique_by=lambda option: option[0],
)
addresses4 = st.integers(0, 2**32 - 1).map(lambda n: str(ipaddress.IPv4Address(n)))
addresses6 = st.integers(0, 2**128 - 1).map(lambda n: str(ipaddress.IPv6Address(n)))


@st.composite
def segments(draw: st.DrawFn) -> Packet:
    return TCP(
        sport=draw(short), dport=draw(short), seq=draw(word), ack=draw(word), flags=draw(flags), window=draw(short),
        options=draw(tcp_options),
    ) / Raw(draw(st.binary(max_size=40)))  # fmt: skip


@st.composite
def ipv4(draw: st.DrawFn) -> Packet:
    options = draw(st.sampled_from([[], [IPOption_NOP()], [IPOption_RR(routers=["0.0.0.0"] * 3)]]))
    head = IP(src=draw(addresses4), dst=draw(addresses4), ttl=draw(byte), id=draw(short), options=options)
    head.flags = draw(st.sampled_from([0, "DF", "MF"]))
    return head / draw(segments())


@st.composite
def ipv6(draw: st.DrawFn) -> Packet:
    packet: Packet = IPv6(src=draw(addresses6), dst=draw(addresses6), hlim=draw(byte))
    for kind in draw(st.lists(st.sampled_from(["hop", "dest", "routing", "first fragment"]), max_size=3)):
        if kind == "hop":
            packet /= IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 12)])
        elif kind == "dest":
            packet /= IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])
        elif kind == "routing":
            packet /= IPv6ExtHdrRouting(addresses=["2001:db8::1"], segleft=0)
        else:
            packet /= IPv6ExtHdrFragment(offset=0, m=1, id=7)
    return packet / draw(segments())


LINKS: dict[str, tuple[int, Callable[[Packet], Packet]]] = {
    "Ethernet": (1, lambda p: Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02") / p),
    "VLAN": (1, lambda p: Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02") / Dot1Q(vlan=7, prio=3) / p),
    "QinQ": (
        1,
        lambda p: Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02") / Dot1AD(vlan=9) / Dot1Q(vlan=4094) / p,
    ),
    "Linux cooked": (113, lambda p: CookedLinux() / p),
    "Linux cooked 2": (276, lambda p: CookedLinuxV2() / p),
    "raw": (101, lambda p: p),
    "BSD null": (0, lambda p: Loopback(type=2 if p.version == 4 else 30) / p),
}


def expected(packet: Packet) -> dict[int, Any]:
    """What scapy says of a packet built and dissected again."""
    ip = packet[IP] if IP in packet else packet[IPv6]
    tcp = packet[TCP]
    options = dict(option for option in tcp.options if option[0] not in ("NOP", "EOL"))
    timestamp = options.get("Timestamp", (-1, -1))
    scale = options.get("WScale")
    payload = bytes(tcp.payload)
    return {
        col.SPORT: tcp.sport, col.DPORT: tcp.dport, col.SEQ: tcp.seq, col.ACK: tcp.ack, col.FLAGS: int(tcp.flags) & 255,
        col.WIN: tcp.window, col.LEN: len(payload), col.CAPTURED: len(payload),
        col.TTL: ip.ttl if IP in packet else ip.hlim, col.IPID: ip.id if IP in packet else -1,
        col.TSVAL: timestamp[0], col.TSECR: timestamp[1],
        col.WSCALE: min(scale, 14) if scale is not None and int(tcp.flags) & 2 else -1,
    }  # fmt: skip


def check(row: Any, packet: Packet, content: bytes) -> None:
    fields = expected(packet)
    assert {column: int(row[column]) for column in fields} == fields
    ip = packet[IP] if IP in packet else packet[IPv6]
    mapped = ipaddress.IPv6Address(ip.src).ipv4_mapped if IP not in packet else None
    assert host(int(row[col.SRC_HI]), int(row[col.SRC_LO])) == str(mapped or ipaddress.ip_address(ip.src))
    payload = bytes(packet[TCP].payload)
    if payload:
        start = int(row[col.OFFSET])
        assert payload == content[start : start + len(payload)]


@pytest.mark.parametrize("link", LINKS)
@SLOW
@given(data=st.data())
def test_headers_of_every_link_layer(link: str, data: st.DataObject) -> None:
    number, wrap = LINKS[link]
    built = [wrap(data.draw(st.one_of(ipv4(), ipv6()))) for _ in range(3)]
    frames = [bytes(packet) for packet in built]
    order, nano = data.draw(st.sampled_from("<>")), data.draw(st.booleans())
    content = packets.pcap([(START + n, frame) for n, frame in enumerate(frames)], number, order, nano)
    rows = packets.read(content).segments
    assert len(rows) == len(frames)
    for row, packet, frame in zip(rows, built, frames, strict=True):
        # scapy knows other numbers for IPv6 behind a loopback header: dissect what follows it.
        again = packet.payload.__class__(frame[4:]) if link == "BSD null" else packet.__class__(frame)
        check(row, again, content)


@SLOW
@given(packet=st.one_of(ipv4(), ipv6()), snaplen=st.integers(1, 140))
def test_a_cut_packet_is_decoded_as_far_as_it_goes_or_counted(packet: Packet, snaplen: int) -> None:
    whole = LINKS["Ethernet"][1](packet)
    frame = bytes(whole)
    data = packets.read(packets.pcap([(START, frame)], snaplen=snaplen))
    full = packets.read(packets.pcap([(START, frame)]))
    if data.tcp:
        of_what_was_cut = (col.CAPTURED, col.MARKS, col.TSVAL, col.TSECR, col.WSCALE, col.OPTIONS)
        same = [c for c in range(col.N_COLUMNS) if c not in of_what_was_cut]
        assert [int(data.segments[0][c]) for c in same] == [int(full.segments[0][c]) for c in same]
        assert data.segments[0][col.CAPTURED] <= full.segments[0][col.CAPTURED]
    else:
        assert any("cut by the snap length" in problem.what for problem in data.problems)
    assert data.records == 1


@SLOW
@given(segment=segments(), offset=st.integers(1, 100))
def test_later_fragments_are_counted_not_decoded(segment: Packet, offset: int) -> None:
    later4 = IP(src="10.0.0.1", dst="10.0.0.2", proto=6, frag=offset) / Raw(bytes(segment))
    later6 = IPv6(src="::1", dst="::2") / IPv6ExtHdrFragment(nh=6, offset=offset, id=1) / Raw(bytes(segment))
    frames = [bytes(LINKS["Ethernet"][1](packet)) for packet in (later4, later6)]
    data = packets.read(packets.pcap([(START, frame) for frame in frames]))
    assert (data.records, data.tcp) == (2, 0)
    assert any("2 IP fragments" in problem.what for problem in data.problems)


# ---- containers

FRAMES = [
    packets.ethernet(packets.ipv4("10.0.0.1", "10.0.0.2", packets.tcp(5000 + n, 80, n, 0, 16, b"abc")))
    for n in range(4)
]


def times(content: bytes) -> list[int]:
    return [int(ts) for ts in packets.read(content).segments[:, col.TS]]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("resolution", "units_a_second"),
    [
        (None, 10**6),
        (0, 1),
        (3, 10**3),
        (6, 10**6),
        (9, 10**9),
        (12, 10**12),
        (0x80, 1),
        (0x8A, 2**10),
        (0x94, 2**20),
        (0xA0, 2**32),
        (0xA1, 2**33),
    ],
)
@pytest.mark.parametrize(("seconds", "offset"), [(1_000_000, 1_600_000_000), (1_000_000_000, -5), (2**31 - 1, 0)])
def test_time_resolutions_and_offsets(
    order: str, resolution: int | None, units_a_second: int, seconds: int, offset: int
) -> None:
    """Units are the stamp's, seconds of `if_tsoffset` are added."""
    units = [seconds * units_a_second + n * units_a_second // 7 for n in range(3)]
    if units[-1] >= 1 << 63:
        pytest.skip("no stamp of 63 bits says that")
    content = packets.section(order) + packets.interface(order, resolution=resolution, offset=offset)
    content += b"".join(packets.enhanced(order, 0, unit, FRAMES[0]) for unit in units)
    exact = [(unit * 10**9) // units_a_second + offset * 10**9 for unit in units]
    assert times(content) == exact


@pytest.mark.parametrize("resolution", [19, 0x7F, 0xBF, 0xFF])
def test_resolutions_beyond_64_bits_leave_the_time_unknown(resolution: int) -> None:
    content = packets.section() + packets.interface(resolution=resolution) + packets.enhanced("<", 0, 10**18, FRAMES[0])
    data = packets.read(content)
    assert data.segments[0][col.TS] == 0
    assert any("times of its packets are unknown" in problem.what for problem in data.problems)


@pytest.mark.parametrize("jit", ["0", "1"])
def test_a_stamp_that_cannot_be_leaves_the_time_unknown(jit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packet is there all the same, and so is a word about it."""
    monkeypatch.setenv("ANALYZER_JIT", jit)
    units = [10**18, 2**63 - 1, 2**63, 2**64 - 1]
    content = packets.section() + packets.interface(resolution=9)
    data = packets.read(content + b"".join(packets.enhanced("<", 0, unit, FRAMES[0]) for unit in units))
    assert data.segments[:, col.TS].tolist() == [10**18, 0, 0, 0]
    assert [p.what for p in data.problems] == ["3 packets have a time stamp that cannot be: their times are unknown"]


@given(units=st.integers(0, 2**64 - 1), resolution=byte, offset=st.integers(-(2**63), 2**63 - 1))
@settings(max_examples=200, deadline=None)
def test_no_stamp_leaves_62_bits(units: int, resolution: int, offset: int) -> None:
    content = packets.section() + packets.interface(resolution=resolution, offset=offset)
    content += packets.enhanced("<", 0, units, FRAMES[0])
    assert 0 <= times(content)[0] < 1 << 62


@pytest.mark.parametrize("order", ["<", ">"])
def test_blocks_of_every_kind_in_file_order(order: str) -> None:
    """Two interfaces of different clocks and link layers, old and simple packet blocks, blocks to step over, a new section."""
    other = ">" if order == "<" else "<"
    raw = FRAMES[1][14:]
    unknown = packets.block(order, 0x0BAD, b"whatever")
    content = b"".join(
        [
            packets.section(order),
            packets.interface(order, 1),
            packets.interface(order, 101, resolution=9),
            packets.enhanced(order, 0, 1_000_000, FRAMES[0]),
            unknown,
            packets.enhanced(order, 1, 2_000_000_000, raw),
            packets.old(order, 0, 3_000_000, FRAMES[2]),
            packets.simple(order, FRAMES[3]),
            packets.section(other),
            packets.interface(other, 1, resolution=3),
            packets.enhanced(other, 0, 4_000, FRAMES[0]),
        ]
    )
    data = packets.read(content)
    assert data.format == "pcapng"
    assert data.segments[:, col.TS].tolist() == [10**9, 2 * 10**9, 3 * 10**9, 0, 4 * 10**9]
    assert data.segments[:, col.SPORT].tolist() == [5000, 5001, 5002, 5003, 5000]
    assert data.segments[:, col.NO].tolist() == [1, 2, 3, 4, 5]
    assert (data.first_ns, data.last_ns) == (10**9, 4 * 10**9)
    for row in data.segments:
        start = int(row[col.OFFSET])
        assert content[start : start + 3] == b"abc"
    assert any("no time stamp" in problem.what for problem in data.problems)


def test_a_simple_packet_block_is_cut_at_the_interface_s_snap_length() -> None:
    content = (
        packets.section()
        + packets.interface(snaplen=54)
        + packets.simple("<", FRAMES[0][:54] + b"\0\0", len(FRAMES[0]))
    )
    assert packets.read(content).segments[0][col.CAPTURED] == 0


def test_drops_are_told_once_from_the_last_statistics() -> None:
    def statistics(dropped: int) -> bytes:
        value = packets.option("<", 7, dropped.to_bytes(8, "little")) + packets.option("<", 0, b"")
        return packets.block("<", 5, bytes(12) + value)

    content = (
        packets.section() + packets.interface() + statistics(3) + packets.enhanced("<", 0, 1, FRAMES[0]) + statistics(8)
    )
    assert [problem.what for problem in packets.read(content).problems] == [
        "the capturing host dropped 8 packets: silence in this capture may be loss"
    ]


# ---- options that tell something by being there


@pytest.mark.parametrize(
    ("flags", "ack", "options", "bits"),
    [
        ("S", 0, [("MSS", 1460), ("SAckOK", b"")], col.O_SACK_PERMITTED),
        ("A", 1000, [("NOP", None), ("NOP", None), ("SAck", (2000, 3000))], col.O_SACK),
        ("A", 1000, [("NOP", None), ("NOP", None), ("SAck", (400, 900))], col.O_SACK | col.O_DSACK),  # below the ACK
        ("A", 1000, [("NOP", None), ("NOP", None), ("SAck", (2200, 2400, 2000, 3000))], col.O_SACK | col.O_DSACK),
        ("A", 1000, [("NOP", None), ("NOP", None), ("SAck", (5000, 6000, 2000, 3000))], col.O_SACK),
        ("A", 2**32 - 10, [("NOP", None), ("NOP", None), ("SAck", (5, 15))], col.O_SACK),  # behind the wrap, ahead
        ("S", 0, [(30, b"\0" * 10)], col.O_MPTCP),
        ("S", 0, [("TFO", (0x01020304, 0x05060708))], col.O_FAST_OPEN),
        ("A", 5, [("Timestamp", (1, 2))], 0),
    ],
)
def test_options(flags: str, ack: int, options: list, bits: int) -> None:  # type: ignore[type-arg]
    frame = Ether() / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=1, dport=2, flags=flags, ack=ack, options=options)
    segments = packets.read(packets.pcap([(10**18, bytes(frame))])).segments
    assert segments[0, col.OPTIONS] == bits
