"""Tunnels against scapy: the inner connection is the connection, whatever is around it, and its path says what that was."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import pytest

from analyzer.capture import columns as col
from analyzer.capture.again import segments_of
from analyzer.capture.asides import DnsQuery
from analyzer.capture.reader import read_capture
from analyzer.model.addresses import endpoint
from tests.capture import packets

pytest.importorskip("scapy")
from scapy.contrib.erspan import ERSPAN_II
from scapy.contrib.geneve import GENEVE
from scapy.contrib.gtp import GTP_U_Header
from scapy.contrib.macsec import MACsec, MACsecSCI
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.ipsec import AH
from scapy.layers.l2 import GRE, Dot1Q, Ether
from scapy.layers.l2tp import L2TP
from scapy.layers.ppp import HDLC, PPP, PPPoE
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

MAC = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
OUTER, OUTER6 = IP(src="192.0.2.1", dst="192.0.2.2"), IPv6(src="2001:db8::1", dst="2001:db8::2")
SEGMENT = TCP(sport=40_000, dport=443, seq=1_000, ack=2_000, flags="PA") / Raw(b"0123456789")
#: A QoS data frame from an access point, without and with several frames in it; LLC and SNAP of IPv4.
WLAN, AMSDU, SNAP = b"\x88\x02" + bytes(24), b"\x88\x02" + bytes(22) + b"\x80\0", b"\xaa\xaa\x03\0\0\0\x08\0"
INNER, INNER6 = IP(src="10.0.0.1", dst="10.0.0.2") / SEGMENT, IPv6(src="fd00::1", dst="fd00::2") / SEGMENT
TUNNELS: dict[str, tuple[Packet, str]] = {
    "VXLAN": (OUTER / UDP(sport=50_000, dport=4789) / VXLAN(vni=7, flags=8) / Ether(**MAC) / INNER, "VXLAN VNI 7 {o}"),
    "flannel": (OUTER / UDP(sport=5, dport=8472) / VXLAN(vni=1, flags=8) / Ether(**MAC) / INNER, "VXLAN VNI 1 {o}"),
    "VXLAN in IPv6": (OUTER6 / UDP(dport=4789) / VXLAN(vni=9, flags=8) / Ether(**MAC) / INNER6, "VXLAN VNI 9 {o6}"),
    "Geneve": (OUTER / UDP(dport=6081) / GENEVE(vni=5, proto=0x6558) / Ether(**MAC) / INNER, "Geneve VNI 5 {o}"),
    "Geneve of IP": (OUTER / UDP(dport=6081) / GENEVE(vni=5, proto=0x0800) / INNER, "Geneve VNI 5 {o}"),
    "GRE": (OUTER / GRE() / INNER, "GRE {o}"),
    "GRE with all": (OUTER / GRE(chksum_present=1, key_present=1, seqnum_present=1, key=77) / INNER6, "GRE key 77 {o}"),
    "GRE of Ethernet": (OUTER / GRE(proto=0x6558) / Ether(**MAC) / INNER, "GRE {o}"),
    "ERSPAN": (
        OUTER / GRE(proto=0x88BE, seqnum_present=1) / ERSPAN_II(session_id=3) / Ether(**MAC) / INNER,
        "ERSPAN session 3 {o}",
    ),
    "IP in IP": (OUTER / INNER, "IP-in-IP {o}"),
    "6in4": (OUTER / INNER6, "6in4 {o}"),
    "4in6": (OUTER6 / INNER, "4in6 {o6}"),
    "GTP-U": (OUTER / UDP(sport=2152, dport=2152) / GTP_U_Header(teid=11) / INNER, "GTP-U TEID 11 {o}"),
    "AH": (OUTER / AH(spi=1, seq=1, icv=b"x" * 12, nh=4, payloadlen=4) / INNER, "IP-in-IP {o}"),
    "Teredo": (OUTER / UDP(sport=3544, dport=50_000) / Raw(bytes(INNER6)), "Teredo {o}"),
    "Aruba's 802.11 in GRE": (OUTER / GRE(proto=0x8240) / Raw(WLAN + SNAP) / INNER, "GRE {o}"),
    "L2TP": (OUTER / UDP(sport=1701, dport=1701) / L2TP(session_id=9) / HDLC() / PPP() / INNER, "L2TP session 9 {o}"),
    "L2TP with all": (
        OUTER
        / UDP(sport=5, dport=1701)
        / L2TP(hdr="length+sequence+offset", session_id=9, offset=3, pad=b"pad")
        / Raw(b"\x21")
        / INNER,
        "L2TP session 9 {o}",
    ),
    "L2TPv3": (
        IP(src="192.0.2.1", dst="192.0.2.2", proto=115) / Raw(struct.pack(">I", 70_000)) / Ether(**MAC) / INNER,
        "L2TP session 70000 {o}",
    ),
    "L2TPv3, cookie and sublayer": (
        IP(src="192.0.2.1", dst="192.0.2.2", proto=115)
        / Raw(struct.pack(">I8sI", 3, b"cookie!!", 0))
        / Ether(**MAC)
        / Dot1Q(vlan=4)
        / INNER,
        "L2TP session 3 {o} · VLAN 4",
    ),
    "L2TPv3 over UDP": (
        OUTER / UDP(sport=1701, dport=1701) / Raw(struct.pack(">HHI", 3, 0, 3)) / Ether(**MAC) / INNER6,
        "L2TP session 3 {o}",
    ),
    "tunnel in a tunnel": (OUTER / OUTER6 / INNER, "6in4 {o} · 4in6 {o6}"),
}
FRAMES: dict[str, tuple[Packet, str]] = {
    "MPLS": (
        Ether(**MAC, type=0x8847) / MPLS(label=16, s=0) / MPLS(label=17, s=1) / INNER,
        "MPLS label 16 · MPLS label 17",
    ),
    "MPLS of Ethernet": (
        Ether(**MAC, type=0x8847) / MPLS(label=18, s=1) / Raw(bytes(4)) / Ether(**MAC) / INNER,
        "MPLS label 18",
    ),
    "PPPoE": (Ether(**MAC) / PPPoE(sessionid=6) / PPP() / INNER, "PPPoE session 6"),
    "PPPoE of IPv6": (Ether(**MAC) / PPPoE(sessionid=6) / PPP(proto=0x57) / INNER6, "PPPoE session 6"),
    "backbone bridge": (
        Ether(**MAC, type=0x88E7) / Raw(struct.pack(">I", 99)) / Ether(**MAC) / Dot1Q(vlan=4) / INNER,
        "PBB I-SID 99 · VLAN 4",
    ),
    "MACsec": (Ether(**MAC) / MACsec(SCI=MACsecSCI(), SC=1, type=0x0800) / Raw(bytes(INNER) + b"s" * 16), "MACsec"),
    "MACsec without sender": (
        Ether(**MAC, type=0x88E5) / Raw(bytes([0, 0, 0, 0, 0, 7]) + b"\x08\x00" + bytes(INNER) + b"s" * 16),
        "MACsec",
    ),
    "SNAP": (Ether(**MAC, type=60) / Raw(b"\xaa\xaa\x03\0\0\0\x08\0") / INNER, ""),
}
LINKS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "PPP": (9, lambda ip: b"\xff\x03\x00\x21" + ip),
    "PPP, protocol in a byte": (9, lambda ip: b"\x21" + ip),
    "Cisco HDLC": (104, lambda ip: b"\x0f\x00\x08\x00" + ip),
    "Frame Relay": (107, lambda ip: b"\x18\x41\x03\xcc" + ip),
    "NFLOG": (239, lambda ip: b"\2\0\0\0" + b"\x05\0\x0a\0x\0\0\0" + struct.pack("<HH", 4 + len(ip), 9) + ip),
    "pktap": (258, lambda ip: struct.pack("<III", 16, 1, 12) + bytes(4) + ip),
    "802.11": (105, lambda ip: WLAN + SNAP + ip),
    "802.11, no QoS": (105, lambda ip: b"\x08\x01" + bytes(22) + SNAP + ip),
    "802.11 between access points": (105, lambda ip: b"\x88\x03" + bytes(30) + SNAP + ip),
    "802.11, HT control": (105, lambda ip: b"\x88\x82" + bytes(28) + SNAP + ip),
    "802.11 with radiotap": (127, lambda ip: b"\0\0\x08\0\0\0\0\0" + WLAN + SNAP + ip),
    "802.11 with PPI": (192, lambda ip: b"\0\0\x08\0" + struct.pack("<I", 105) + WLAN + SNAP + ip),
    "802.11 with AVS": (163, lambda ip: b"\x80\x21\0\1" + struct.pack(">I", 64) + bytes(56) + WLAN + SNAP + ip),
    "IP over InfiniBand": (242, lambda ip: bytes(40) + b"\x08\0\0\0" + ip),
}


def expect(frame: bytes, path: str, link: int = 1, six: bool = False) -> None:
    data = packets.read(packets.pcap([(10**18, frame)], link))
    assert len(data.segments) == 1, data.problems
    row = [int(value) for value in data.segments[0]]
    client, server = ("[fd00::1]:40000", "[fd00::2]:443") if six else ("10.0.0.1:40000", "10.0.0.2:443")
    assert endpoint(row[col.SRC_HI], row[col.SRC_LO], row[col.SPORT]) == client
    assert endpoint(row[col.DST_HI], row[col.DST_LO], row[col.DPORT]) == server
    assert (row[col.SEQ], row[col.ACK], row[col.LEN], row[col.CAPTURED]) == (1_000, 2_000, 10, 10)
    assert data.paths.get(row[col.PATH], "") == path


@pytest.mark.parametrize("name", TUNNELS)
def test_the_inner_connection_of_a_tunnel(name: str) -> None:
    packet, path = TUNNELS[name]
    path = path.format(o="192.0.2.1 → 192.0.2.2", o6="2001:db8::1 → 2001:db8::2")
    six = packet.lastlayer().underlayer.underlayer.version == 6 if name != "Teredo" else True
    expect(bytes(Ether(**MAC) / packet), path, six=six)
    expect(bytes(Ether(**MAC) / Dot1Q(vlan=12) / packet), f"VLAN 12 · {path}", six=six)


@pytest.mark.parametrize("name", FRAMES)
def test_the_connection_behind_tags_and_labels(name: str) -> None:
    packet, path = FRAMES[name]
    expect(bytes(packet), path, six=name.endswith("IPv6"))


@pytest.mark.parametrize("name", LINKS)
def test_link_layers_that_scapy_does_not_build(name: str) -> None:
    link, wrap = LINKS[name]
    expect(wrap(bytes(INNER)), "", link)


def test_teredo_of_any_ports_is_known_by_its_prefix_and_length() -> None:
    def seen(source: str, pad: bytes = b"") -> int:
        inner = bytes(IPv6(src=source, dst="fd00::2") / SEGMENT)
        frame = bytes(Ether(**MAC) / OUTER / UDP(sport=3797, dport=32_900) / Raw(inner + pad))
        return len(packets.read(packets.pcap([(10**18, frame + b"padding")])).segments)

    assert seen("2001:0:1::1") == 1
    assert seen("2001:1::1") == seen("2001:0:1::1", b"more") == 0


def aggregated(parts: list[bytes]) -> bytes:
    """IP packets as the subframes of one A-MSDU."""
    made = b""
    for ip in parts:
        made += bytes(-len(made) % 4) + bytes(12) + struct.pack(">H", 8 + len(ip)) + SNAP + ip
    return AMSDU + made


def segment(port: int, payload: bytes = b"") -> bytes:
    return packets.ipv4("10.0.0.1", "10.0.0.2", packets.tcp(port, 443, port, 1, packets.ACK, payload), ip_id=port)


@pytest.mark.parametrize("jit", ["0", "1"])
def test_every_one_of_aggregated_frames_is_a_segment_of_its_own(jit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the capture, under the number of the record that holds them, which is counted once."""
    monkeypatch.setenv("ANALYZER_JIT", jit)
    dns = bytes(IP(src="10.0.0.53", dst="10.0.0.1") / UDP(sport=53, dport=9) / Raw(b"\0\1\x81\x80" + bytes(20)))
    records = [[1, 2, 3], [4], [5, 6], [7]]
    frames = [aggregated([segment(n, bytes(n)) for n in some]) for some in records]
    frames[2] += bytes(-(len(frames[2]) - len(AMSDU)) % 4) + aggregated([dns])[len(AMSDU) :]
    data = packets.read(packets.pcap([(10**18 + n, frame) for n, frame in enumerate(frames)], 105))
    assert data.segments[:, col.SPORT].tolist() == [1, 2, 3, 4, 5, 6, 7] == data.segments[:, col.LEN].tolist()
    assert data.segments[:, col.NO].tolist() == [1, 1, 1, 2, 3, 3, 4]
    assert data.segments[:, col.TS].tolist() == [10**18 + n for n in (0, 0, 0, 1, 2, 2, 3)]
    assert len(set(data.segments[:, col.IFACE].tolist())) == 1 and not data.problems
    assert (data.records, data.tcp, [no for no, *_ in data.dns]) == (4, 7, [3])


def test_more_aggregated_frames_than_a_batch_has_room_for() -> None:
    frames = [aggregated([segment(1 + n * 40 + k) for k in range(40)]) for n in range(200)]
    content = packets.pcap([(10**18 + n, frame) for n, frame in enumerate(frames)], 105)
    data = packets.read(content)
    assert data.segments[:, col.SPORT].tolist() == list(range(1, 8_001)) and len(data.rows) == 8_000
    again, names, _ = segments_of([(lambda: io.BytesIO(content), len(content))], data.rows[5:7])
    assert again[:, col.SPORT].tolist() == [6, 7] and names.tolist() == [5, 6]  # both began in record 1


def test_a_payload_kept_of_aggregated_frames_is_the_first_ones() -> None:
    errors = [b"-ERR one\r\n", b"-ERR two\r\n"]
    data = packets.read(packets.pcap([(10**18, aggregated([segment(n, e) for n, e in enumerate(errors, 1)]))], 105))
    assert data.texts == {1: errors[0]} and [bool(m & col.M_KEEP) for m in data.segments[:, col.MARKS]] == [True, False]


def test_aggregated_frames_in_a_tunnel_share_its_path() -> None:
    ip = [segment(1), segment(2)]
    frame = bytes(Ether(**MAC) / OUTER / GRE(proto=0x8240) / Raw(aggregated(ip)))
    data = packets.read(packets.pcap([(10**18, frame)]))
    assert data.segments[:, col.SPORT].tolist() == [1, 2]
    assert len(set(data.segments[:, col.PATH].tolist())) == 1 and list(data.paths) == [data.segments[0, col.PATH]]


def test_encrypted_802_11_is_told() -> None:
    data = packets.read(packets.pcap([(10**18, b"\x88\x42" + WLAN[2:] + bytes(40))], 105))
    assert len(data.segments) == 0
    assert any("encrypted" in problem.what for problem in data.problems)


def test_encrypted_macsec_is_told() -> None:
    for bits in (0x0C, 0x2C, 0x04):
        data = packets.read(packets.pcap([(10**18, bytes(Ether(**MAC, type=0x88E5) / Raw(bytes([bits]) + bytes(60))))]))
        assert len(data.segments) == 0
        assert any("encrypted frames (802.11, MACsec)" in problem.what for problem in data.problems)


@pytest.mark.parametrize(
    "head", [b"\xc8\x02", b"\x00\x01", b"\x80\x03"], ids=["control", "L2F", "control of version 3"]
)
def test_what_is_no_data_of_l2tp_is_no_tunnel(head: bytes) -> None:
    frame = bytes(Ether(**MAC) / OUTER / UDP(sport=1701, dport=1701) / Raw(head + bytes(6) + b"\xff\x03\0\x21") / INNER)
    assert packets.read(packets.pcap([(10**18, frame)])).tcp == 0


def test_paths_differ_where_anything_of_them_does() -> None:
    frames = [
        bytes(Ether(**MAC) / IP(src=f"192.0.2.{n}", dst="192.0.2.9") / UDP(sport=port, dport=4789)
              / VXLAN(vni=vni, flags=8) / Ether(**MAC) / INNER)
        for n in (1, 2) for vni in (1, 2) for port in (1, 2)
    ]  # fmt: skip
    data = packets.read(packets.pcap([(10**18 + n, frame) for n, frame in enumerate(frames)]))
    assert len({int(path) for path in data.segments[:, col.PATH]}) == len(data.paths) == 4


def test_too_many_layers_are_counted() -> None:
    packet: Packet = INNER
    for _ in range(12):
        packet = OUTER / packet
    data = packets.read(packets.pcap([(10**18, bytes(Ether(**MAC) / packet))]))
    assert data.tcp == 0
    assert any("tags, labels and tunnels" in problem.what for problem in data.problems)


# ---- beside the connections


def test_icmp_errors_quote_a_segment() -> None:
    error = (
        Ether(**MAC)
        / IP(src="192.0.2.99", dst="10.0.0.1")
        / ICMP(type=3, code=4, nexthopmtu=1400)
        / Raw(bytes(INNER)[:28])
    )
    error6 = Ether(**MAC) / IPv6(src="fd00::99", dst="fd00::1") / ICMPv6PacketTooBig(mtu=1280) / Raw(bytes(INNER6))
    other = Ether(**MAC) / IP() / ICMP(type=3, code=3) / IP() / UDP()
    data = packets.read(packets.pcap([(10**18, bytes(frame)) for frame in (error, error6, other)]))
    assert [(e.no, e.what, e.sender, e.source, e.target, e.seq) for e in data.icmp] == [
        (1, "ICMP fragmentation needed, MTU 1400", "192.0.2.99", "10.0.0.1:40000", "10.0.0.2:443", 1_000),
        (2, "ICMPv6 packet too big, MTU 1280", "fd00::99", "[fd00::1]:40000", "[fd00::2]:443", 1_000),
    ]


@pytest.mark.parametrize("jit", ["0", "1"])
def test_dns_answers_and_questions_are_kept_each_by_itself(jit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYZER_JIT", jit)
    message = b"\0\1\x81\x80" + bytes(8) + b"answer"
    answer = Ether(**MAC) / IP() / UDP(sport=53, dport=40_000) / Raw(message)
    neither = Ether(**MAC) / IP() / UDP(sport=40_000, dport=53) / Raw(message)
    asked = b"\0\1\1\0" + bytes(8) + b"question"
    question = Ether(**MAC) / IP(src="10.0.3.17", dst="10.0.0.2") / UDP(sport=40_000, dport=53) / Raw(asked)
    frames = [(10**18 + n, bytes(frame)) for n, frame in enumerate((neither, answer, question))]
    data = packets.read(packets.pcap(frames))
    assert data.dns == [(2, 10**18 + 1, message)]
    assert data.queries == [DnsQuery(3, 10**18 + 2, "10.0.3.17:40000", "10.0.0.2:53", asked)]


# ---- checksums


def damaged(frame: bytes, at: int) -> bytes:
    return frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]


@pytest.mark.parametrize("packet", [INNER, INNER6], ids=["IPv4", "IPv6"])
def test_damaged_segments_are_counted_and_said_or_left_out(packet: Packet) -> None:
    frame = bytes(Ether(**MAC) / packet)
    content = packets.pcap([(10**18, frame), (10**18 + 1, damaged(frame, len(frame) - 1))])
    data = packets.read(content)
    assert data.tcp == 2
    assert any("1 of the first 2 TCP segments have a bad checksum" in problem.what for problem in data.problems)
    assert read_capture(io.BytesIO(content), checksums="drop").tcp == 1


def test_checksums_left_to_the_network_card_are_not_bad() -> None:
    pseudo = sum(struct.unpack(">6H", b"\x0a\0\0\1\x0a\0\0\2\0\6" + struct.pack(">H", 30)))
    partial = (pseudo & 0xFFFF) + (pseudo >> 16)
    for checksum in (0, partial):
        segment = TCP(sport=1, dport=2, seq=3, flags="A", chksum=checksum) / Raw(b"0123456789")
        frame = bytes(Ether(**MAC) / IP(src="10.0.0.1", dst="10.0.0.2") / segment)
        assert packets.read(packets.pcap([(10**18, frame)])).problems == []


# ---- containers


def test_names_comments_and_secrets_of_a_pcapng() -> None:
    frame = bytes(Ether(**MAC) / INNER)
    name = packets.option("<", 1, b"\x0a\0\0\2server.example\0other\0") + packets.option("<", 0, b"")
    head = struct.pack("<IIIII", 0, 0, 1, len(frame), len(frame))
    comment = packets.option("<", 1, "slow ☹".encode()) + packets.option("<", 0, b"")
    commented = packets.block("<", 6, head + frame + bytes(-len(frame) % 4) + comment)
    content = packets.section() + packets.interface() + packets.block("<", 4, name) + packets.block("<", 10, bytes(8))
    data = packets.read(content + packets.enhanced("<", 0, 1, frame) + commented + packets.enhanced("<", 0, 3, frame))
    assert (data.names, data.comments, data.has_secrets) == ({"10.0.0.2": "server.example"}, [(2, "slow ☹")], True)
    assert data.records == data.tcp == 3


@pytest.mark.parametrize("order", ["<", ">"])
def test_kuznetzov_s_longer_record_headers(order: str) -> None:
    frame = bytes(Ether(**MAC) / INNER)
    content = struct.pack(order + "IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 65_535, 1)
    for face in (3, 4):
        content += struct.pack(order + "IIIIIHBB", 1, face, len(frame), len(frame), face, 0x800, 0, 0) + frame
    data = packets.read(content)
    assert data.segments[:, col.TS].tolist() == [10**9 + 3_000, 10**9 + 4_000]
    assert len(set(data.segments[:, col.IFACE].tolist())) == 2
