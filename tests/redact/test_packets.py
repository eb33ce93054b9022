"""Redacted packets: scapy reads them, their checksums are right, and no address of the original is left in them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import GRE, ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import ARP, LLC, SNAP, CookedLinux, Dot1Q, Dot3, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw
from scapy.utils import checksum

from analyzer.capture import columns as col
from analyzer.capture.layers import LINK_NAMES
from analyzer.redact import Redactor
from analyzer.redact.packets import PacketEditor
from tests.capture import packets

EDITOR = PacketEditor(Redactor("a key"))
SECRET = b"GET /secret HTTP/1.1\r\n"
NAME = b"customer-db"
V4 = IP(src="54.203.0.7", dst="10.1.2.3")
V6 = IPv6(src="2001:db8::7", dst="fd00::1234")
SEGMENT = TCP(sport=443, dport=5000, seq=7, ack=9, flags="PA", options=[("MSS", 1460), ("Timestamp", (5, 6))]) / SECRET
MACS = {"src": "00:1a:2b:3c:4d:5e", "dst": "00:99:88:77:66:55"}
ORIGINALS = [
    bytes((54, 203, 0, 7)),
    bytes((10, 1, 2, 3)),
    bytes.fromhex("20010db8"),
    bytes.fromhex("001a2b3c4d5e"),
    SECRET,
    NAME,
]

SHAPES = {
    "ethernet": (1, Ether(**MACS) / V4 / SEGMENT),
    "vlan": (1, Ether(**MACS) / Dot1Q(vlan=7) / Dot1Q(vlan=8) / V4 / SEGMENT),
    "ipv6": (1, Ether(**MACS) / V6 / SEGMENT),
    "extension": (1, Ether(**MACS) / V6 / IPv6ExtHdrDestOpt() / SEGMENT),
    "raw": (101, V4 / SEGMENT),
    "cooked": (113, CookedLinux(lladdrlen=6, src=bytes.fromhex("001a2b3c4d5e"), proto=0x800) / V4 / SEGMENT),
    "ip in ip": (101, IP(src="54.203.0.7", dst="54.203.0.8") / V4 / SEGMENT),
    "6in4": (101, IP(src="54.203.0.7", dst="54.203.0.8") / V6 / SEGMENT),
    "gre": (101, V4 / GRE() / V4 / SEGMENT),
    "vxlan": (1, Ether(**MACS) / V4 / UDP(dport=4789) / VXLAN(vni=3) / Ether(**MACS) / V4 / SEGMENT),
    "linux vxlan": (1, Ether(**MACS) / V4 / UDP(dport=8472) / Raw(b"\x08" + bytes(7)) / Ether(**MACS) / V4 / SEGMENT),
    "snap": (1, Dot3(**MACS) / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(code=0x800) / V4 / SEGMENT),
    "mpls": (1, Ether(**MACS) / MPLS(label=9, s=0) / MPLS(label=10, s=1) / V4 / SEGMENT),
    "pseudowire": (1, Ether(**MACS) / MPLS(label=9, s=1) / Raw(bytes(4)) / Ether(**MACS) / V6 / SEGMENT),
    "bare pseudowire": (1, Ether(**MACS) / MPLS(label=9, s=1) / Raw(bytes(Ether(**MACS) / V4 / SEGMENT))),
    "pppoe": (1, Ether(**MACS) / PPPoE() / PPP() / V4 / SEGMENT),
    "backbone": (1, Ether(**MACS, type=0x88E7) / Raw(bytes(4)) / Ether(**MACS) / V4 / SEGMENT),
    "gtp": (101, V4 / UDP(sport=9, dport=2152) / Raw(bytes.fromhex("34ff0000000000010001008501000900")) / V4 / SEGMENT),
    "teredo": (101, V4 / UDP(sport=3544, dport=40000) / V6 / SEGMENT),
    "icmp": (1, Ether(**MACS) / IP(src="54.203.0.9", dst="54.203.0.7") / ICMP(type=3, code=4) / V4 / SEGMENT),
    "icmpv6": (1, Ether(**MACS) / V6 / ICMPv6DestUnreach() / V6 / SEGMENT),
}


def attribute(kind, value):
    """One of a netfilter log."""
    return struct.pack("<HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


SNAP = b"\xaa\xaa\x03\0\0\0\x08\0"
WLAN = b"\x08\x02\0\0" + ORIGINALS[3] * 3 + b"\0\0" + SNAP

#: Link layers that scapy does not build: their number, and what stands before the packet.
LINKS = {
    "PPP": (9, b"\xff\x03\x00\x21"), "PPP, protocol in a byte": (9, b"\x21"), "PPP with direction": (204, b"\0\xff\x03\x00\x21"),
    "PPPoE": (51, b"\x11\0\0\6\0\0\0\x21"), "HDLC": (104, b"\x0f\0\x08\0"), "Frame Relay": (107, b"\x18\x41\x03\xcc"),
    "loopback": (0, b"\2\0\0\0"), "InfiniBand": (242, ORIGINALS[3] * 6 + b"toen\x08\0\0\0"),
    "cooked v2": (276, b"\x08\0\0\0\0\0\0\2\0\1\0\6" + ORIGINALS[3] + b"\0\0"),
    "802.11": (105, WLAN), "802.11 between access points": (105, b"\x08\x03" + WLAN[2:24] + ORIGINALS[3] + SNAP),
    "802.11 with QoS": (105, b"\x88\x02" + WLAN[2:24] + b"\7\0" + SNAP),
    "radiotap": (127, b"\0\0\x17\0\0\0\0\x40" + NAME.ljust(15) + WLAN), "PPI": (192, b"\0\0\x17\0\x69\0\0\0" + NAME.ljust(15) + WLAN),
    "Prism": (119, b"D\0\0\0\x90\0\0\0" + NAME.ljust(136) + WLAN), "AVS": (163, b"\x80\x21\0\1\0\0\0\x40" + NAME.ljust(56) + WLAN),
    "netfilter log": (239, b"\2\0\0\0" + attribute(1, b"\x08\0\1\0") + attribute(8, b"\0\6\0\0" + ORIGINALS[3] + b"\0\0")
                      + attribute(10, NAME) + b"\0\0\x09\0"),
    "pktap": (258, b"\x6c\0\0\0\1\0\0\0\0\0\0\0" + NAME.ljust(96) + b"\2\0\0\0"),
    "pktap of Ethernet": (258, b"\x6c\0\0\0\1\0\0\0\1\0\0\0" + NAME.ljust(96) + ORIGINALS[3] * 2 + b"\x08\0"),
}  # fmt: skip


def first_layer(link):
    return {1: Ether, 101: IP, 113: CookedLinux}[link]


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("packet", [V4, V6], ids=["v4", "v6"])
def test_link_layers_without_names(name, packet):
    link, head = LINKS[name]
    if packet is V6 and name != "netfilter log":  # which names no protocol; one of its lengths looks like IPv4's
        head = head.replace(b"\x21", b"\x57").replace(b"\x08\0", b"\x86\xdd").replace(b"\x03\xcc", b"\x03\x8e")
    whole = bytes(packet / SEGMENT)
    edited = EDITOR.packet(link, head + whole)
    assert edited is not None and len(edited) == len(head) + len(whole) - len(SECRET)
    assert not any(original in edited for original in ORIGINALS)
    verify(type(packet)(edited[len(head) :] + bytes(len(SECRET))))
    assert told(link, edited) == told(link, head + whole) != []


def told(link, *frames):
    """What is left of the segments after redaction, as the decoder reads them."""
    kept = [col.SPORT, col.DPORT, col.FLAGS, col.SEQ, col.ACK, col.LEN, col.WIN, col.TTL, col.TSVAL, col.TSECR]
    return packets.read(packets.pcap([(10**18, frame) for frame in frames], link)).segments[:, kept].tolist()


def test_every_link_layer_that_is_read_is_redacted():
    alike = {108, 12, 14, 228, 229, 50, 166}  # loopback, raw IP and PPP under other numbers
    assert {link for link, _ in (*LINKS.values(), *SHAPES.values())} == set(LINK_NAMES) - alike


def test_link_layers_that_are_refused_are_named():
    editor = PacketEditor(Redactor("a key"))
    assert editor.packet(147, bytes(60)) is None and editor.packet(1, bytes(60)) is None
    assert editor.left_out == {"link type 147": 1, "DNS, ARP or unknown headers": 1}


@pytest.mark.parametrize(
    "frame",
    [
        b"\x08\x42" + WLAN[2:] + bytes(V4 / SEGMENT),  # encrypted
        b"\x80\0" + WLAN[2:24] + bytes(12) + b"\0\x0b" + NAME,  # a beacon with the network's name
        WLAN[:-2] + b"\x08\x06" + bytes(ARP(psrc="54.203.0.7")),
        WLAN[:20],
    ],
    ids=["encrypted", "beacon", "ARP", "cut"],
)
def test_802_11_that_is_not_understood_is_left_out(frame):
    assert EDITOR.packet(105, frame) is None


def subframe(kind, packet):
    return ORIGINALS[3] * 2 + struct.pack(">H", 8 + len(packet)) + SNAP[:6] + kind + packet


def test_of_aggregated_frames_what_is_understood_is_left():
    """In its place; a payload that something follows becomes zeros."""
    ip, arp = bytes(V4 / SEGMENT), bytes(ARP(psrc="54.203.0.7"))
    head = b"\x88\x02" + WLAN[2:24] + b"\x80\0"
    parts = [subframe(b"\x08\0", ip), subframe(b"\x08\x06", arp), subframe(b"\x08\0", ip), subframe(b"\x08\x06", arp)]
    frame = head + b"".join(part + bytes(-len(part) % 4) for part in parts)
    edited = EDITOR.packet(105, frame)
    assert edited is not None and not any(original in edited for original in ORIGINALS)
    assert len(told(105, frame)) == 2 and told(105, edited) == told(105, frame)
    verify(IP(edited[len(head) + 22 :][: len(ip)]))
    assert EDITOR.packet(105, head + parts[1]) is None


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(sorted(LINKS)), data=st.data())
def test_damaged_link_layers_tell_no_payload(name, data):
    link, head = LINKS[name]
    raw = bytearray(head + bytes(V4 / SEGMENT))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(head) + 20))] = data.draw(st.integers(0, 255))
    edited = EDITOR.packet(link, bytes(raw))
    assert edited is None or (
        len(edited) <= len(raw) and SECRET not in edited and (len(head) < 20 or NAME not in edited)
    )


def inner(packet, edited):
    """The last IP packet, where scapy does not find it behind what stands before it."""
    before = bytes(packet)[: bytes(packet).rindex(SECRET)]
    for kind, header in ((IP, 20), (IPv6, 40), (IPv6, 48)):
        start = len(before) - 36 - header
        if start >= 0 and before[start] >> 4 == (4 if kind is IP else 6):
            return kind(edited[start:])
    raise AssertionError("no IP packet")


def verify(packet):
    """Every checksum is the one scapy computes."""
    for kind in (IP, TCP):
        n = 1
        while (layer := packet.getlayer(kind, n)) is not None:
            n += 1
            again = layer.copy()
            del again.chksum
            assert type(layer)(bytes(again)).chksum == layer.chksum, (kind, packet.summary())


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_left_is_true_and_names_nobody(shape):
    link, packet = SHAPES[shape]
    edited = EDITOR.packet(link, bytes(packet))
    assert edited is not None
    assert not any(original in edited for original in ORIGINALS)
    read = first_layer(link)(edited)
    if "icmp" in shape:
        quoted = read.getlayer("IP in ICMP") or read.getlayer("IPv6 in ICMPv6")
        assert quoted is not None and edited.endswith(bytes.fromhex("01bb1388") + b"\0\0\0\7")
        assert "icmpv6" in shape or checksum(bytes(read[ICMP])) == 0
        return
    last = inner(packet, edited)
    tcp = last[TCP]
    assert (tcp.sport, tcp.dport, tcp.seq, tcp.ack, tcp.flags) == (443, 5000, 7, 9, "PA")
    assert dict(tcp.options)["Timestamp"] == (5, 6) and not tcp.payload
    whole = edited + bytes(len(packet) - len(edited))  # what was cut reads as zeros
    verify(first_layer(link)(whole))
    verify(inner(packet, whole))


@settings(max_examples=150, deadline=None)
@given(
    src=st.ip_addresses(v=4),
    dst=st.ip_addresses(v=4),
    seq=st.integers(0, 2**32 - 1),
    size=st.integers(0, 60),
    tail=st.integers(0, 20),
)
def test_checksums_are_right_whatever_is_cut(src, dst, seq, size, tail):
    whole = bytes(Ether(**MACS) / IP(src=str(src), dst=str(dst)) / TCP(seq=seq) / Raw(b"x" * size)) + bytes(tail)
    edited = EDITOR.packet(1, whole)
    assert edited is not None and len(edited) == 54
    read = Ether(edited)
    assert read[IP].len == 40 + size
    verify(read)


def test_options_that_could_tell_are_wiped():
    options = [("MSS", 1460), (30, b"\x30\x00\x0a\x01\x02\x03"), ("NOP", None), ("WScale", 7)]
    edited = EDITOR.packet(101, bytes(V4 / TCP(flags="S", options=options)))
    read = dict(IP(edited)[TCP].options)
    assert read["MSS"] == 1460 and read["WScale"] == 7 and 30 not in read
    assert bytes((10, 1, 2, 3)) not in edited


def test_pings_and_goaway_codes_stay_without_their_data():
    ping = b"\0\0\x08\x06\x00\0\0\0\0OPAQUE!!"
    goaway = b"\0\0\x16\x07\x00\0\0\0\0" + b"\0\0\0\x05" + b"\0\0\0\x0b" + b"too_many_pings"
    edited = EDITOR.packet(101, bytes(V4 / TCP() / (ping + goaway)))
    assert edited is not None
    assert edited[40:] == ping[:9] + bytes(8) + goaway[:17]
    verify(IP(edited))


@pytest.mark.parametrize(
    "packet",
    [
        Ether() / ARP(psrc="54.203.0.7"),
        Ether() / V4 / UDP(sport=53) / b"names",
        Ether() / V4 / ICMP(type=8) / b"x",
        Raw(b"\x01" * 40),
    ],
)
def test_what_is_not_understood_is_left_out(packet):
    assert EDITOR.packet(1, bytes(packet)) is None


@settings(max_examples=300, deadline=None)
@given(shape=st.sampled_from(sorted(SHAPES)), data=st.data())
def test_damage_is_left_out_or_cut_never_an_error(shape, data):
    link, packet = SHAPES[shape]
    raw = bytearray(bytes(packet))
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    edited = EDITOR.packet(link, bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    assert edited is None or len(edited) <= len(raw)
