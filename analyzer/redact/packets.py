"""Packets without what names anybody: headers stay true, addresses are pseudonyms, payload is cut off behind the TCP header
(but for HTTP/2 PINGs and GOAWAY codes).

What is kept: times, lengths on the wire, ports, sequence numbers, flags, windows, the usual TCP options, TTLs, IP ids, VLAN and
tunnel numbers. What goes: payload and padding, unusual IP and TCP options (multipath, authentication and fast-open options carry
addresses and keys), what a monitor, a firewall's log or a packet tap wrote before the packet (places, log prefixes, names of processes),
and every packet that is not fully understood (ARP, DNS, encrypted frames, link types that are not decoded). What was left out is
counted by its kind.

Checksums are made right for what is written: the IP header's, and TCP's as if what was cut were zeros, since the real one would tell
about the payload. A checksum that was wrong before is right afterwards.
"""

from __future__ import annotations

import struct
from collections import Counter

from analyzer.capture import layers as link
from analyzer.capture import wlan
from analyzer.capture.byteorder import le32
from analyzer.capture.containers import BLOCK_INTERFACE, BLOCK_SECTION, BLOCK_STATS, options
from analyzer.capture.layers import IP_ICMP, IP_ICMPV6, IP_TCP, IP_UDP
from analyzer.capture.unwrap import aside_kind
from analyzer.redact.redactor import Redactor

IPV4, IPV6, TRANSPARENT_BRIDGING, ERSPAN = 0x0800, 0x86DD, 0x6558, 0x88BE
VLAN_TAGS = (0x8100, 0x88A8, 0x9100)
IPV4_IN_IP, IPV6_IN_IP, GRE = 4, 41, 47
#: IPv6 extension headers whose content is wiped (zeros: Pad1 options, RFC 8200 §4.2); the fragment header (44) stays.
WIPED_EXTENSIONS = (0, 43, 60, 135, 140)
FRAGMENT, AUTHENTICATION = 44, 51
GENEVE_PORT, TEREDO_PORT, GTP_PORT, VXLAN_PORTS = 6081, 3544, 2152, (4789, 8472)  # 8472: Linux before the registration
#: Tunnels that answer from their port, to any.
TUNNEL_PORTS = (TEREDO_PORT, GTP_PORT)
GTP_DATA = 255
#: Behind Ethernet: MPLS, provider backbone bridges (IEEE 802.1ah), PPPoE sessions (RFC 2516) that carry IP; 802.3 lengths.
MPLS, PBB, PPPOE, PPP_IP, LENGTH_MAX = (0x8847, 0x8848), 0x88E7, 0x8864, (0x0021, 0x0057), 1500
#: TCP options that tell nothing of anybody: end, none, segment size, window scale, SACK permitted, SACK, timestamps.
PLAIN_OPTIONS = frozenset((0, 1, 2, 3, 4, 5, 8))
#: Tunnels inside tunnels are followed this deep.
MAX_DEPTH = 6
#: Options that stay in a redacted pcapng: an interface's time resolution and offset, an interface's numeric statistics.
INTERFACE_OPTIONS, STATISTICS_OPTIONS = (9, 14), (2, 3, 4, 5, 6, 7, 8)


#: Link layers that name nobody before the packet: how many bytes at their beginning are wiped all the same.
NAMELESS = {
    link.LINK_NULL: 0, link.LINK_LOOP: 0, link.LINK_PPP: 0, link.LINK_PPP_SERIAL: 0, link.LINK_PPP_PPPD: 0, link.LINK_PPPOE: 0,
    link.LINK_PPP_WITH_DIR: 0, link.LINK_C_HDLC: 0, link.LINK_FRELAY: 0, link.LINK_IPOIB: 40,
    **dict.fromkeys(link.RAW_LINKS, 0),
}  # fmt: skip
#: How many bytes of a monitor's header before an 802.11 frame stay, those that tell its length and kind; of radiotap's not which
#: fields follow, since none are left.
MONITOR_KEPT = {wlan.LINK_WLAN_RADIOTAP: 4, wlan.LINK_PPI: 8, wlan.LINK_WLAN_PRISM: 8, wlan.LINK_WLAN_AVS: 8}
#: What stays of pktap's header: its length, the type of record, the link type behind it.
PKTAP_KEPT = 12
#: Attributes of a netfilter log that keep their value, with their length: protocol and hook, time (linux/netfilter/nfnetlink_log.h).
NFLOG_KEPT, NFLOG_PACKET = {1: 8, 3: 20}, 9


class PacketEditor:
    """The `Editor` of `capture.extract` that redacts."""

    def __init__(self, redactor: Redactor) -> None:
        self._mac, self._address = redactor.mac, redactor.addresses.packed
        #: What was left out, by what it is.
        self.left_out: Counter[str] = Counter()

    # ---- pcapng blocks

    def block(self, block: bytes, order: str) -> bytes:
        """Sections, interfaces and statistics without comments and names; secrets, host names and anything else go."""
        kind = struct.unpack_from(order + "I", block)[0]
        if kind == BLOCK_SECTION:
            return _framed(order, kind, block[8:24])
        fixed, kept = {BLOCK_INTERFACE: (8, INTERFACE_OPTIONS), BLOCK_STATS: (12, STATISTICS_OPTIONS)}.get(
            kind, (0, ())
        )
        if not fixed or len(block) < 12 + fixed:
            return b""
        body = block[8 : 8 + fixed]
        for code, value in options(order, block[8 + fixed : -4]):
            if code in kept:
                body += struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)
        return _framed(order, kind, body + bytes(4))

    # ---- packets

    def packet(self, link_type: int, data: bytes) -> bytes | None:
        """The packet redacted, None where it is not fully understood."""
        packet = bytearray(data)
        try:
            end = self._link(packet, 0, link_type)
        except (IndexError, struct.error, ValueError):  # cut inside a header, or lengths that cannot be
            end = None
        if end is None:
            known = link_type in link.LINK_NAMES
            self.left_out["DNS, ARP or unknown headers" if known else f"link type {link_type}"] += 1
            return None
        return bytes(packet[:end])

    def _link(self, p: bytearray, i: int, link_type: int) -> int | None:
        """Edit from the link layer on; returns where the packet is to be cut, None to leave it out."""
        if link_type == link.LINK_ETHERNET:
            return self._ethernet(p, i, 0)
        if link_type == link.LINK_SLL:
            p[i + 6 : i + 14] = self._cooked(bytes(p[i + 6 : i + 14]), p[i + 5])
            return self._typed(p, i + 16, _be16(p, i + 14), 0)
        if link_type == link.LINK_SLL2:
            p[i + 12 : i + 20] = self._cooked(bytes(p[i + 12 : i + 20]), p[i + 11])
            return self._typed(p, i + 20, _be16(p, i), 0)
        if link_type == link.LINK_PKTAP:
            return self._pktap(p)
        if link_type in wlan.WLAN_LINKS:
            begin = wlan.monitor(p, link_type, i, len(p))
            return self._wlan(p, begin, 0) if _wipe(p, i + MONITOR_KEPT.get(link_type, 0), begin) else None
        if link_type == link.LINK_NFLOG:
            begin = _nflog_packet(p, i)
            return self._ip(p, begin, 0) if begin else None
        if link_type not in NAMELESS:
            return None
        kind, at = link.link_layer(p, link_type, i, len(p))
        if not _wipe(p, i, i + NAMELESS[link_type]):
            return None
        i = at
        if kind == link.PPP:
            kind, i = link.ppp(p, i, len(p))
        return self._ip(p, i, 0) if kind == link.KIND_VERSION else self._typed(p, i, kind, 0)

    def _cooked(self, field: bytes, length: int) -> bytes:
        """A cooked capture's eight-byte address field, of which `length` bytes count."""
        length = min(length, 8)
        return self._mac(field[:length]).ljust(8, b"\0") if length else bytes(8)

    def _pktap(self, p: bytearray) -> int | None:
        """The link type that pktap's header names, behind it: there are names of the interface and the process in between."""
        size, inner = le32(p, 0), le32(p, 8)
        if size < PKTAP_KEPT or inner == link.LINK_PKTAP or not _wipe(p, PKTAP_KEPT, size):
            return None
        return self._link(p, size, inner)

    def _wlan(self, p: bytearray, i: int, depth: int) -> int | None:
        """An 802.11 data frame: three addresses, or four between access points; then a packet, or several (A-MSDU)."""
        body, aggregated = wlan.frame_body(p, i, len(p))
        if body < 0:
            return None
        between = p[i + 1] & (wlan.TO_DS | wlan.FROM_DS) == wlan.TO_DS | wlan.FROM_DS
        for at in (i + 4, i + 10, i + 16, *((i + 24,) if between else ())):
            p[at : at + 6] = self._mac(bytes(p[at : at + 6]))
        if aggregated:
            return self._subframes(p, body, depth)
        kind, at = wlan.llc_snap(p, body, len(p))
        return self._typed(p, at, kind, depth) if kind >= 0 else None

    def _subframes(self, p: bytearray, i: int, depth: int) -> int | None:
        """The frames of an A-MSDU. Of all but the last the payload becomes zeros, so that the next stays where it is; frames that
        cannot be redacted become zeros as a whole."""
        end, any_left = i, False
        while i:
            following = wlan.next_subframe(p, i, len(p))
            last = following or len(p)
            body = p[i + wlan.SUBFRAME_HEADER : min(last, i + wlan.SUBFRAME_HEADER + _be16(p, i + 12))]
            kept = self._subframe(body, depth) or 0
            p[i : i + 6], p[i + 6 : i + 12] = self._mac(bytes(p[i : i + 6])), self._mac(bytes(p[i + 6 : i + 12]))
            p[i + wlan.SUBFRAME_HEADER : last] = body[:kept].ljust(last - i - wlan.SUBFRAME_HEADER, b"\0")
            if kept:
                end, any_left = i + wlan.SUBFRAME_HEADER + kept, True
            i = following
        return end if any_left else None

    def _subframe(self, body: bytearray, depth: int) -> int | None:
        """Where to cut a subframe's LLC header and packet, None where they cannot be redacted."""
        try:
            kind, at = wlan.llc_snap(body, 0, len(body))
            return self._typed(body, at, kind, depth + 1) if kind >= 0 else None
        except (IndexError, struct.error, ValueError):
            return None

    def _ethernet(self, p: bytearray, i: int, depth: int) -> int | None:
        p[i : i + 6], p[i + 6 : i + 12] = self._mac(bytes(p[i : i + 6])), self._mac(bytes(p[i + 6 : i + 12]))
        return self._typed(p, i + 14, _be16(p, i + 12), depth)

    def _typed(self, p: bytearray, i: int, kind: int, depth: int) -> int | None:
        """What an EtherType announces, or an IEEE 802.3 length before LLC and SNAP (RFC 1042)."""
        if depth > MAX_DEPTH:
            return None
        while kind in VLAN_TAGS:
            kind = _be16(p, i + 2)
            i += 4
        if kind <= LENGTH_MAX and p[i : i + 3] == b"\xaa\xaa\x03":
            kind, i = _be16(p, i + 6), i + 8
        if kind in MPLS:
            return self._mpls(p, i, depth + 1)
        if kind == PBB:
            return self._ethernet(p, i + 4, depth + 1)
        if kind == PPPOE and _be16(p, i + 6) in PPP_IP:
            return self._ip(p, i + 8, depth + 1)
        return self._ip(p, i, depth) if kind in (IPV4, IPV6) else None

    def _mpls(self, p: bytearray, i: int, depth: int) -> int | None:
        """Labels, then IP, or Ethernet with or without a control word (RFC 3032, RFC 4385, RFC 4448)."""
        while not p[i + 2] & 1:
            i += 4
        i += 4
        if p[i] >> 4 in (4, 6):
            return self._ip(p, i, depth)
        word = p[i] >> 4 == 0 and _be16(p, i + 16) in (IPV4, IPV6, *VLAN_TAGS)
        return self._ethernet(p, i + 4 if word else i, depth)

    def _ip(self, p: bytearray, i: int, depth: int) -> int | None:
        if depth > MAX_DEPTH:
            return None
        version = p[i] >> 4
        if version == 4:
            return self._ipv4(p, i, depth)
        return self._ipv6(p, i, depth) if version == 6 else None

    def _ipv4(self, p: bytearray, i: int, depth: int) -> int | None:
        header = (p[i] & 15) * 4
        if header < 20 or len(p) < i + header:
            return None
        p[i + 20 : i + header] = b"\x01" * (header - 20)  # options may list addresses: none of them (RFC 791 §3.1)
        for at in (i + 12, i + 16):
            p[at : at + 4] = self._address(bytes(p[at : at + 4]))
        p[i + 10 : i + 12] = bytes(2)
        p[i + 10 : i + 12] = _checksum(p[i : i + header])
        total = _be16(p, i + 2)
        length = (total if total else len(p) - i) - header
        if _be16(p, i + 6) & 0x1FFF:  # a fragment after the first: payload only
            return i + header
        pseudo = bytes(p[i + 12 : i + 20]) + struct.pack(">HH", p[i + 9], max(length, 0) & 0xFFFF)
        return self._upper(p, i + header, p[i + 9], length, pseudo, depth)

    def _ipv6(self, p: bytearray, i: int, depth: int) -> int | None:
        if len(p) < i + 40:
            return None
        for at in (i + 8, i + 24):
            p[at : at + 16] = self._address(bytes(p[at : at + 16]))
        addresses = bytes(p[i + 8 : i + 40])
        claimed, protocol = _be16(p, i + 4), p[i + 6]
        length = claimed if claimed else len(p) - i - 40
        i += 40
        while protocol in WIPED_EXTENSIONS or protocol in (FRAGMENT, AUTHENTICATION):
            size = {FRAGMENT: 8, AUTHENTICATION: (p[i + 1] + 2) * 4}.get(protocol, (p[i + 1] + 1) * 8)
            if len(p) < i + size:
                return None
            later = protocol == FRAGMENT and _be16(p, i + 2) & 0xFFF8
            if protocol != FRAGMENT:
                kept = 12 if protocol == AUTHENTICATION else 4 if protocol == 43 else 2
                p[i + kept : i + size] = bytes(size - kept)
            protocol = p[i]
            i += size
            length -= size
            if later:
                return i
        pseudo = addresses + struct.pack(">II", max(length, 0), protocol)
        return self._upper(p, i, protocol, length, pseudo, depth)

    def _upper(self, p: bytearray, i: int, protocol: int, length: int, pseudo: bytes, depth: int) -> int | None:
        """What IP carries; `length` is what it claims to be from `i` on."""
        if protocol == IP_TCP:
            return _tcp(p, i, length, pseudo)
        if protocol in (IP_ICMP, IP_ICMPV6):
            return self._icmp(p, i, protocol, pseudo, depth)
        if protocol in (IPV4_IN_IP, IPV6_IN_IP):
            return self._ip(p, i, depth + 1)
        if protocol == IP_UDP:
            return self._udp(p, i, depth + 1)
        return self._gre(p, i, depth + 1) if protocol == GRE else None

    def _icmp(self, p: bytearray, i: int, protocol: int, pseudo: bytes, depth: int) -> int | None:
        """An error with the packet that it quotes, cut behind the quoted ports and sequence number."""
        if not aside_kind(p, protocol, i, len(p)):
            return None
        end = self._quoted(p, i + 8, depth + 1)
        if end is None:
            return None
        p[i + 2 : i + 4] = bytes(2)
        p[i + 2 : i + 4] = _checksum(bytes(p[i:end]) if protocol == IP_ICMP else pseudo + bytes(p[i:end]))
        return end

    def _quoted(self, p: bytearray, i: int, depth: int) -> int | None:
        """A quotation holds an IP header and at least eight bytes of TCP; what follows those is cut."""
        v4 = p[i] >> 4 == 4
        begin = i + ((p[i] & 15) * 4 if v4 else 40)
        if (p[i + 9] if v4 else p[i + 6]) != IP_TCP or len(p) < begin + 8:
            return None
        del p[begin + 8 :]
        self._ip(p, i, depth)  # the header; TCP itself is cut short, and left as it is
        return begin + 8

    # ---- tunnels (RFC 2003, 4213, 2784, 4380, 7348, 8926)

    def _udp(self, p: bytearray, i: int, depth: int) -> int | None:
        port = min(_be16(p, i), _be16(p, i + 2)) if _be16(p, i) in TUNNEL_PORTS else _be16(p, i + 2)
        p[i + 6 : i + 8] = bytes(2)  # no checksum, as VXLAN and Geneve senders do (RFC 7348 §5)
        if port in VXLAN_PORTS:
            return self._ethernet(p, i + 16, depth)
        if port == TEREDO_PORT:
            return self._ip(p, i + 8, depth)
        if port == GTP_PORT and p[i + 9] == GTP_DATA:
            return self._ip(p, _behind_gtp(p, i + 8), depth)
        if port == GENEVE_PORT:
            start, kind = i + 16 + (p[i + 8] & 0x3F) * 4, _be16(p, i + 10)
            p[i + 16 : start] = bytes(start - i - 16)
            return (
                self._ethernet(p, start, depth) if kind == TRANSPARENT_BRIDGING else self._typed(p, start, kind, depth)
            )
        return None

    def _gre(self, p: bytearray, i: int, depth: int) -> int | None:
        flags, kind = _be16(p, i), _be16(p, i + 2)
        start = i + 4 + 4 * sum(bool(flags & bit) for bit in (0x8000, 0x2000, 0x1000))
        if flags & 0x8000:
            return None
        if kind == ERSPAN:
            return self._ethernet(p, start + (8 if flags & 0x1000 else 0), depth)
        if kind >> 8 == link.ARUBA:
            return self._wlan(p, start, depth)
        return self._ethernet(p, start, depth) if kind == TRANSPARENT_BRIDGING else self._typed(p, start, kind, depth)


def _behind_gtp(p: bytearray, i: int) -> int:
    """Where the packet in a GTP-U message begins (3GPP TS 29.281 §5): optional fields, then extension headers."""
    flags, i = p[i], i + 8
    if flags & 7:
        i += 4
        while flags & 4 and p[i - 1]:
            i += 4 * max(p[i], 1)
    return i


def _tcp(p: bytearray, i: int, length: int, pseudo: bytes) -> int | None:
    """Cut behind the header, wipe unusual options, set the checksum."""
    header = (p[i + 12] >> 4) * 4 if len(p) >= i + 20 else 0
    if header < 20 or length < header:
        return None
    end = min(i + header, len(p))
    _wipe_options(p, i + 20, end)
    end = _control_frames(p, end)
    p[i + 16 : i + 18] = bytes(2)
    p[i + 16 : i + 18] = _checksum(pseudo + bytes(p[i:end]))
    return end


def _control_frames(p: bytearray, i: int) -> int:
    """The end of the HTTP/2 PINGs at `i`, their data wiped, and of a GOAWAY's code (RFC 9113 §6.7, §6.8).

    Keepalives are what findings are about and clocks are aligned by, and they tell of nobody.
    """
    while p[i : i + 4] == b"\0\0\x08\x06" and p[i + 4] < 2 and p[i + 5 : i + 9] == bytes(4) and len(p) >= i + 17:
        p[i + 9 : i + 17] = bytes(8)
        i += 17
    goaway = p[i : i + 1] == b"\0" and p[i + 3 : i + 9] == b"\x07" + bytes(5)
    return (
        i + 17 if goaway and p[i + 13 : i + 16] == bytes(3) and p[i + 16 : i + 17] < b"\x0e" and len(p) >= i + 17 else i
    )


def _wipe_options(p: bytearray, i: int, end: int) -> None:
    while i < end and p[i] != 0:
        if p[i] == 1:
            i += 1
            continue
        size = p[i + 1] if i + 1 < end else 0
        if size < 2 or i + size > end:
            break
        if p[i] not in PLAIN_OPTIONS:
            p[i : i + size] = b"\x01" * size
        i += size
    p[i:end] = bytes(end - i)  # behind the end of the options nothing is meant to stand


def _wipe(p: bytearray, start: int, end: int) -> bool:
    """Zeros from `start` to `end`; False where the packet does not reach that far, or the one is not before the other."""
    if not start <= end <= len(p):
        return False
    p[start:end] = bytes(end - start)
    return True


def _nflog_packet(p: bytearray, i: int) -> int:
    """Where the packet of a netfilter log begins, 0 for none; what was logged of it before that (prefix, hardware address, user) is wiped."""
    i += 4
    while i + 4 <= len(p):
        size, kind = p[i] | p[i + 1] << 8, (p[i + 2] | p[i + 3] << 8) & 0x7FFF
        if kind == NFLOG_PACKET:
            return i + 4
        after = i + ((size + 3) & ~3)
        if size < 4 or not _wipe(p, i + (size if NFLOG_KEPT.get(kind) == size else 4), after):
            return 0
        i = after
    return 0


def _be16(p: bytearray, i: int) -> int:
    return p[i] << 8 | p[i + 1]


def _checksum(data: bytes | bytearray) -> bytes:
    """The Internet checksum (RFC 1071)."""
    padded = bytes(data) + bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)


def _framed(order: str, kind: int, body: bytes) -> bytes:
    size = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + size + body + size
