"""What stands before the TCP header: link layers, tags, labels and tunnels, a few lines each, for `unwrap`.

Theory of operation. Everything between two headers is a *kind*: an EtherType, or one of the `KIND_…` numbers above them.
`link_layer` turns a record's link type into the first kind, `between` steps over one header that is not IP, `tunnel`
over what an IP packet carries in place of TCP; each returns the next kind and where it begins, and `unwrap.innermost`
goes round until it meets TCP. A negative kind ends the walk: it is the tally to raise. Every step moves forward, and the
`trail` has room for `MAX_STEPS` of them that are worth a name: so the walk ends.

The trail is the outer path: each step's kind, its number (VLAN id, label, VNI, key) and, for tunnels, the outer
addresses; their digest is the segment's `PATH`. UDP source ports and the like, which differ between connections, are
left out. Sources: IEEE 802.1Q; RFC 3032 (MPLS), 2516 (PPPoE), 1661 (PPP), 2784 and 2890 (GRE), 2637 (PPTP), 7348
(VXLAN), 8926 (Geneve), 4380 (Teredo), 2661 and 3931 (L2TP); IEEE 802.1AE (MACsec); 3GPP TS 29.281 (GTP-U);
draft-foschiano-erspan-03.
"""

from __future__ import annotations

from typing import Any

from analyzer.capture.byteorder import be16, be32, le32, u8
from analyzer.capture.columns import (
    C_CUT,
    C_DEEP,
    C_ENCRYPTED,
    C_FRAGMENT,
    C_LINK,
    C_MALFORMED,
    C_NOT_IP,
    C_NOT_TCP,
)
from analyzer.capture.wlan import WLAN_LINKS, frame_body, llc_snap, monitor, next_subframe, subframe

# ---- link types (LINKTYPE_ registry of the tcpdump group)

LINK_NULL, LINK_ETHERNET, LINK_PPP, LINK_PPP_SERIAL, LINK_PPPOE = 0, 1, 9, 50, 51
#: Raw IP under the numbers that operating systems used before the registry (DLT_RAW 12 and 14).
LINK_DLT_RAW, LINK_DLT_RAW_OPENBSD = 12, 14
LINK_RAW, LINK_C_HDLC, LINK_FRELAY, LINK_LOOP, LINK_SLL, LINK_PPP_PPPD = 101, 104, 107, 108, 113, 166
LINK_PPP_WITH_DIR, LINK_IPV4, LINK_IPV6, LINK_NFLOG, LINK_IPOIB, LINK_PKTAP, LINK_SLL2 = (
    204, 228, 229, 239, 242, 258, 276,
)  # fmt: skip

#: IP without anything before it.
RAW_LINKS = (LINK_RAW, LINK_DLT_RAW, LINK_DLT_RAW_OPENBSD, LINK_IPV4, LINK_IPV6)

LINK_NAMES = {
    LINK_NULL: "BSD loopback",
    LINK_ETHERNET: "Ethernet",
    LINK_PPP: "PPP",
    LINK_PPP_SERIAL: "PPP in HDLC",
    LINK_PPPOE: "PPPoE",
    LINK_RAW: "raw IP",
    LINK_DLT_RAW: "raw IP",
    LINK_DLT_RAW_OPENBSD: "raw IP",
    LINK_C_HDLC: "Cisco HDLC",
    LINK_FRELAY: "Frame Relay",
    LINK_LOOP: "OpenBSD loopback",
    LINK_SLL: "Linux cooked v1",
    LINK_PPP_PPPD: "PPP of pppd",
    LINK_PPP_WITH_DIR: "PPP with direction",
    LINK_IPV4: "raw IPv4",
    LINK_IPV6: "raw IPv6",
    LINK_NFLOG: "Linux netfilter log",
    LINK_IPOIB: "IP over InfiniBand",
    LINK_PKTAP: "macOS pktap",
    LINK_SLL2: "Linux cooked v2",
    **dict.fromkeys(WLAN_LINKS, "IEEE 802.11"),
}

# ---- kinds: EtherTypes (IEEE registry), and what has none

IPV4, IPV6, VLAN, QINQ, QINQ_OLD, MPLS, MPLS_MULTICAST = 0x0800, 0x86DD, 0x8100, 0x88A8, 0x9100, 0x8847, 0x8848
ETHERNET, PPP, PPPOE, PBB, WCCP, ERSPAN, ERSPAN_3 = 0x6558, 0x880B, 0x8864, 0x88E7, 0x883E, 0x88BE, 0x22EB
#: Cisco's fabric tags and HSR, all six bytes with the EtherType at their end; its FabricPath; MikroTik's Ethernet in GRE.
VN_TAG, E_TAG, HSR, FABRIC_PATH, EOIP = 0x8926, 0x893F, 0x892F, 0x8903, 0x6400
#: MAC security: signed, and most often encrypted too.
MACSEC = 0x88E5
#: What Aruba's access points put into GRE is 802.11: 0x8200 and, in the low byte, the priority.
ARUBA = 0x82
#: The first nibble tells IPv4 from IPv6.
KIND_VERSION, KIND_WLAN = 0x10000, 0x10001
#: The largest length in the place of an EtherType: an LLC header follows (IEEE 802.3 §3.2.6).
LENGTH_MAX = 1500

# ---- IP protocols and UDP ports (IANA registries)

IP_ICMP, IP_IPIP, IP_TCP, IP_UDP, IP_IPV6, IP_GRE, IP_AH, IP_ICMPV6, IP_ETHERIP, IP_L2TP, IP_MPLS = (
    1, 4, 6, 17, 41, 47, 51, 58, 97, 115, 137,
)  # fmt: skip
#: Extension headers (RFC 8200 §4): hop-by-hop, routing, fragment, authentication, destination options, mobility, shim6.
IPV6_EXTENSIONS = (0, 43, 44, 51, 60, 135, 140)
PORT_DNS, PORT_GTP_U, PORT_TEREDO, PORT_VXLAN, PORT_GENEVE, PORT_MPLS, PORT_GRE = 53, 2152, 3544, 4789, 6081, 6635, 4754
TEREDO_PREFIX = 0x20010000
PORT_L2TP = 1701
#: VXLAN as the Linux kernel first had it, and as flannel and Cilium still use it.
PORT_VXLAN_LINUX = 8472

# ---- the trail

MAX_STEPS = 10
S_WHAT, S_NUMBER, S_SRC_HI, S_SRC_LO, S_DST_HI, S_DST_LO = range(6)
N_STEP = 6
#: How many steps, and the digest of all of them; a packet that ends the walk but is worth a look (see `aside_kind`), where
#: its payload begins, who sent it and to whom; which of several frames aggregated into one the walk is to take (where it begins, 0: the
#: first), and where the next one begins, 0 if there is none; then the steps.
(
    TRAIL_STEPS, TRAIL_PATH, TRAIL_ASIDE, TRAIL_AT, TRAIL_SRC_HI, TRAIL_SRC_LO, TRAIL_DST_HI, TRAIL_DST_LO, TRAIL_FROM, TRAIL_NEXT, TRAIL,
) = range(11)  # fmt: skip
N_TRAIL = TRAIL + MAX_STEPS * N_STEP

(
    STEP_VLAN, STEP_MPLS, STEP_PPPOE, STEP_PBB, STEP_TAG, STEP_IPIP, STEP_6IN, STEP_GRE, STEP_ERSPAN, STEP_VXLAN,
    STEP_GENEVE, STEP_GTP, STEP_TEREDO, STEP_ETHERIP, STEP_MPLS_IN, STEP_MACSEC, STEP_L2TP,
) = range(1, 18)  # fmt: skip

#: The digest has 40 bits: an odd factor of 23 keeps the product in 63.
DIGEST, FACTOR = (1 << 40) - 1, 0x5BD1E9


def mix(trail: Any, value: int) -> None:
    """Take a number into the digest of the path."""
    digest = ((trail[TRAIL_PATH] ^ (value & 0xFFFFFFFF)) * FACTOR) & DIGEST
    digest = ((digest ^ ((value >> 32) & 0xFFFFFFFF)) * FACTOR) & DIGEST
    trail[TRAIL_PATH] = (digest ^ (digest >> 17)) + 1


def note(trail: Any, what: int, number: int) -> int:
    """Add a step to the path; 0 when it has no room."""
    steps = trail[TRAIL_STEPS]
    if steps >= MAX_STEPS:
        return 0
    step = TRAIL + steps * N_STEP
    trail[step + S_WHAT] = what
    trail[step + S_NUMBER] = number
    trail[step + S_SRC_HI] = 0
    trail[step + S_SRC_LO] = 0
    trail[step + S_DST_HI] = 0
    trail[step + S_DST_LO] = 0
    trail[TRAIL_STEPS] = steps + 1
    mix(trail, (what << 32) | number)
    return 1


def note_addresses(trail: Any, src_hi: int, src_lo: int, dst_hi: int, dst_lo: int) -> None:
    """Add the outer addresses to the latest step."""
    step = TRAIL + (trail[TRAIL_STEPS] - 1) * N_STEP
    trail[step + S_SRC_HI] = src_hi
    trail[step + S_SRC_LO] = src_lo
    trail[step + S_DST_HI] = dst_hi
    trail[step + S_DST_LO] = dst_lo
    mix(trail, src_hi)
    mix(trail, src_lo)
    mix(trail, dst_hi)
    mix(trail, dst_lo)


def noted(trail: Any, what: int, number: int, kind: int, i: int) -> tuple[int, int]:
    """Go on with `kind` at `i` behind a step that belongs to the path."""
    if note(trail, what, number):
        return kind, i
    return -C_DEEP, i


# ---- link layers


def link_layer(data: Any, link: int, i: int, end: int) -> tuple[int, int]:
    """The first kind of a record of this link type."""
    if link == LINK_PKTAP:  # its header tells its own length and the link type behind it
        if end - i < 12:
            return -C_CUT, i
        link = le32(data, i + 8)
        i += le32(data, i)
    if link == LINK_ETHERNET:
        return ETHERNET, i
    if link == LINK_SLL:
        return (be16(data, i + 14), i + 16) if end - i >= 16 else (-C_CUT, i)
    if link == LINK_SLL2:
        return (be16(data, i), i + 20) if end - i >= 20 else (-C_CUT, i)
    if link in (LINK_NULL, LINK_LOOP):
        # The address family before the packet differs between systems; the version nibble does not.
        return KIND_VERSION, i + 4
    if link in RAW_LINKS:
        return KIND_VERSION, i
    if link in WLAN_LINKS:
        i = monitor(data, link, i, end)
        return (KIND_WLAN, i) if i >= 0 else (i, 0)
    if link in (LINK_PPP, LINK_PPP_SERIAL, LINK_PPP_PPPD):
        return PPP, i
    if link == LINK_PPP_WITH_DIR:
        return PPP, i + 1
    if link == LINK_PPPOE:
        return PPPOE, i
    if link == LINK_C_HDLC:
        return (be16(data, i + 2), i + 4) if end - i >= 4 else (-C_CUT, i)
    if link == LINK_IPOIB:  # a global route header before it
        return (be16(data, i + 40), i + 44) if end - i >= 44 else (-C_CUT, i)
    if link == LINK_FRELAY:
        return frame_relay(data, i, end)
    if link == LINK_NFLOG:
        return nflog(data, i, end)
    return -C_LINK, i


def frame_relay(data: Any, i: int, end: int) -> tuple[int, int]:
    """A two-byte address, then RFC 2427: NLPID of IP, or SNAP; or Cisco's EtherType."""
    if end - i < 10:
        return -C_CUT, i
    if be16(data, i + 2) == 0x03CC or be16(data, i + 2) == 0x038E:
        return KIND_VERSION, i + 4
    if be32(data, i + 2) == 0x03008000 and be16(data, i + 6) == 0:  # padding, SNAP, OUI 0
        return be16(data, i + 8), i + 10
    return be16(data, i + 2), i + 4


def nflog(data: Any, i: int, end: int) -> tuple[int, int]:
    """Four bytes, then attributes of native, that is nearly always little-endian, length and type; 9 is the packet."""
    i += 4
    while end - i >= 4:
        size = u8(data, i) | (u8(data, i + 1) << 8)
        if (u8(data, i + 2) | (u8(data, i + 3) << 8)) & 0x7FFF == 9:
            return KIND_VERSION, i + 4
        if size < 4:
            return -C_MALFORMED, i
        i += (size + 3) & ~3
    return -C_NOT_IP, i


# ---- between link layer and IP


def between(data: Any, kind: int, i: int, end: int, trail: Any) -> tuple[int, int]:
    """Step over one header that is not IP."""
    if kind == KIND_VERSION:
        if end - i < 1:
            return -C_CUT, i
        version = u8(data, i) >> 4
        if version == 4:
            return IPV4, i
        return (IPV6 if version == 6 else -C_NOT_IP), i
    if kind == ETHERNET:
        return (be16(data, i + 12), i + 14) if end - i >= 14 else (-C_CUT, i)
    if kind in (VLAN, QINQ, QINQ_OLD):
        if end - i < 4:
            return -C_CUT, i
        return noted(trail, STEP_VLAN, be16(data, i) & 0xFFF, be16(data, i + 2), i + 4)
    if kind in (MPLS, MPLS_MULTICAST):
        return label(data, i, end, trail)
    if kind == PPP:
        return ppp(data, i, end)
    if kind == PPPOE:
        if end - i < 6:
            return -C_CUT, i
        return noted(trail, STEP_PPPOE, be16(data, i + 2), PPP, i + 6)
    if kind == PBB:
        if end - i < 4:
            return -C_CUT, i
        return noted(trail, STEP_PBB, be32(data, i) & 0xFFFFFF, ETHERNET, i + 4)
    if kind in (VN_TAG, E_TAG, HSR):
        if end - i < 6:
            return -C_CUT, i
        number = 0 if kind == HSR else be32(data, i)  # HSR's is a sequence number
        return noted(trail, STEP_TAG, number, be16(data, i + 4), i + 6)
    if kind == FABRIC_PATH:
        return ETHERNET, i + 2
    if kind == MACSEC:
        return macsec(data, i, end, trail)
    if kind == KIND_WLAN:
        return wlan(data, i, end, trail)
    if kind <= LENGTH_MAX:
        if end - i >= 8 and be32(data, i) == 0xAAAA0300:  # LLC and SNAP (RFC 1042)
            return be16(data, i + 6), i + 8
        return -C_NOT_IP, i
    return -C_NOT_IP, i


def wlan(data: Any, i: int, end: int, trail: Any) -> tuple[int, int]:
    """What an 802.11 data frame carries; of an A-MSDU the subframe that the trail asks for."""
    i, aggregated = frame_body(data, i, end)
    if i < 0:
        return i, 0
    if not aggregated:
        return llc_snap(data, i, end)
    i = max(i, trail[TRAIL_FROM])
    trail[TRAIL_FROM] = 0
    if trail[TRAIL_NEXT] == 0:
        trail[TRAIL_NEXT] = next_subframe(data, i, end)
    return subframe(data, i, end)


def macsec(data: Any, i: int, end: int, trail: Any) -> tuple[int, int]:
    """MACsec's tag (IEEE 802.1AE §9.3): behind it the frame goes on where it is only signed. The signature at the end is none of IP's."""
    if end - i < 6:
        return -C_CUT, i
    if u8(data, i) & 0x8C:  # another version; encrypted, or changed in a way that the tag does not tell
        return -C_ENCRYPTED, i
    i += 6 + 8 * ((u8(data, i) >> 5) & 1)  # with the sender's identifier
    return noted(trail, STEP_MACSEC, 0, be16(data, i), i + 2) if end - i >= 2 else (-C_CUT, i)


def label(data: Any, i: int, end: int, trail: Any) -> tuple[int, int]:
    """One MPLS label. Behind the last stands what nobody says: IP by its version, or Ethernet where that is certain."""
    if end - i < 4:
        return -C_CUT, i
    entry = be32(data, i)
    i += 4
    if entry & 0x100 == 0:
        return noted(trail, STEP_MPLS, entry >> 12, MPLS, i)
    if not note(trail, STEP_MPLS, entry >> 12):
        return -C_DEEP, i
    if end - i < 1:
        return -C_CUT, i
    version = u8(data, i) >> 4
    if version in (4, 6) and not is_ethernet(data, i, end):
        return KIND_VERSION, i
    if version == 0 and is_ethernet(data, i + 4, end):  # a control word (RFC 4448 §4.6)
        return ETHERNET, i + 4
    return (ETHERNET if is_ethernet(data, i, end) else -C_NOT_IP), i


def is_ethernet(data: Any, i: int, end: int) -> int:
    """Whether an Ethernet frame with IP in it, tagged or not, begins here."""
    if end - i < 19:
        return 0
    kind = be16(data, i + 12)
    at = i + 14
    if kind in (VLAN, QINQ):
        kind = be16(data, i + 16)
        at = i + 18
    version = u8(data, at) >> 4
    return int((kind == IPV4 and u8(data, at) == 0x45) or (kind == IPV6 and version == 6))


def ppp(data: Any, i: int, end: int) -> tuple[int, int]:
    """PPP with or without its HDLC address, its protocol in one byte or two; or Cisco's HDLC in its place (RFC 1547)."""
    if end - i < 4:
        return -C_CUT, i
    first = be16(data, i)
    if first in (0x0F00, 0x8F00):
        return be16(data, i + 2), i + 4
    if first == 0xFF03:
        i += 2
    if u8(data, i) & 1:
        protocol = u8(data, i)
        i += 1
    else:
        protocol = be16(data, i)
        i += 2
    if protocol in (0x0021, 0x0057):
        return KIND_VERSION, i
    if protocol in (0x0281, 0x0283):
        return MPLS, i
    return -C_NOT_IP, i


# ---- inside IP


def extensions(data: Any, protocol: int, i: int, end: int) -> tuple[int, int]:
    """Step over IPv6 extension headers, and the authentication header of either version: (protocol, where it begins)."""
    while protocol in IPV6_EXTENSIONS:
        if end - i < 8:
            return -C_CUT, i
        # Authentication headers count their length in words (RFC 4302 §2.2), the others in eight bytes.
        size = (u8(data, i + 1) + 1) * 8
        if protocol == 44:
            if be16(data, i + 2) & 0xFFF8:
                return -C_FRAGMENT, i
            size = 8
        elif protocol == IP_AH:
            size = (u8(data, i + 1) + 2) * 4
        protocol = u8(data, i)
        i += size
    return protocol, i


def tunnel(data: Any, protocol: int, i: int, end: int, trail: Any) -> tuple[int, int]:
    """What an IP packet carries in place of TCP, if it is a packet again; adds one step to the path."""
    if protocol == IP_UDP:
        return udp_tunnel(data, i, end, trail)
    if protocol == IP_IPIP:
        return noted(trail, STEP_IPIP, 0, IPV4, i)
    if protocol == IP_IPV6:
        return noted(trail, STEP_6IN, 0, IPV6, i)
    if protocol == IP_GRE:
        return gre(data, i, end, trail)
    if protocol == IP_ETHERIP:
        return noted(trail, STEP_ETHERIP, 0, ETHERNET, i + 2)
    if protocol == IP_L2TP and end - i >= 4:
        return l2tp_session(data, i, end, trail)
    if protocol == IP_MPLS:
        return noted(trail, STEP_MPLS_IN, 0, MPLS, i)
    return -C_NOT_TCP, i


def gre(data: Any, i: int, end: int, trail: Any) -> tuple[int, int]:
    """GRE with its optional fields, PPTP's version of it, and ERSPAN I, II and III, whose session is the step's number."""
    if end - i < 4:
        return -C_CUT, i
    flags = be16(data, i)
    kind = be16(data, i + 2)
    i += 4
    if flags & 0x4000:  # source routes: never seen
        return -C_NOT_TCP, i
    i += 4 * (flags >> 15)
    key = 0
    if flags & 0x2000:
        if end - i < 4:
            return -C_CUT, i
        key = be32(data, i)
        i += 4
    if flags & 0x1000:
        i += 4
    if flags & 7 == 1:  # PPTP (RFC 2637 §4.1); the upper half of its key is a length
        key &= 0xFFFF
        i += 4 * ((flags >> 7) & 1)
    if kind in (ERSPAN, ERSPAN_3):
        return erspan(data, kind, flags, i, end, trail)
    if kind == EOIP:
        kind = ETHERNET
    if kind >> 8 == ARUBA:
        kind = KIND_WLAN
    if kind == WCCP:  # version 2 has four bytes before the packet
        if end - i < 1:
            return -C_CUT, i
        if u8(data, i) >> 4 != 4:
            i += 4
        kind = KIND_VERSION
    return noted(trail, STEP_GRE, key, kind, i)


def erspan(data: Any, kind: int, flags: int, i: int, end: int, trail: Any) -> tuple[int, int]:
    """ERSPAN behind GRE: type I has no header, II eight bytes, III twelve and perhaps eight more."""
    if kind == ERSPAN and flags & 0x1000 == 0:
        return noted(trail, STEP_ERSPAN, 0, ETHERNET, i)
    if end - i < 12:
        return -C_CUT, i
    session = be16(data, i + 2) & 0x3FF
    if kind == ERSPAN:
        return noted(trail, STEP_ERSPAN, session, ETHERNET, i + 8)
    about = be16(data, i + 10)
    inner = KIND_VERSION if (about >> 10) & 31 == 2 else ETHERNET
    return noted(trail, STEP_ERSPAN, session, inner, i + 12 + 8 * (about & 1))


def udp_tunnel(data: Any, i: int, end: int, trail: Any) -> tuple[int, int]:
    """Tunnels known by their UDP port, and by header bits that must be so."""
    if end - i < 16:
        return -C_NOT_TCP, i
    sport = be16(data, i)
    dport = be16(data, i + 2)
    i += 8
    if dport in (PORT_VXLAN, PORT_VXLAN_LINUX):
        if u8(data, i) & 0x7F == 8 and be16(data, i + 6) & 0xFF == 0:  # a number is given; a policy tag may be
            return noted(trail, STEP_VXLAN, be32(data, i + 4) >> 8, ETHERNET, i + 8)
    elif dport == PORT_GENEVE:
        if u8(data, i) >> 6 == 0:
            return noted(
                trail, STEP_GENEVE, be32(data, i + 4) >> 8, be16(data, i + 2), i + 8 + 4 * (u8(data, i) & 0x3F)
            )
    elif dport == PORT_GTP_U:
        return gtp(data, i, end, trail)
    elif PORT_TEREDO in (dport, sport):
        return teredo(data, i, end, trail)
    elif PORT_L2TP in (dport, sport):
        return l2tp(data, i, end, trail)
    elif dport == PORT_MPLS:
        return noted(trail, STEP_MPLS_IN, 0, MPLS, i)
    elif dport == PORT_GRE:
        return gre(data, i, end, trail)
    elif is_teredo(data, i, be16(data, i - 4) - 8, end):
        return noted(trail, STEP_TEREDO, 0, IPV6, i)
    return -C_NOT_TCP, i


def gtp(data: Any, i: int, end: int, trail: Any) -> tuple[int, int]:
    """GTP-U version 1: a user's packet behind any extension headers."""
    flags = u8(data, i)
    if flags >> 4 != 3 or u8(data, i + 1) != 255:
        return -C_NOT_TCP, i
    tunnel_id = be32(data, i + 4)
    i += 8
    if flags & 7:
        if end - i < 4:
            return -C_CUT, i
        more = u8(data, i + 3) if flags & 4 else 0
        i += 4
        while more:
            if end - i < 4:
                return -C_CUT, i
            size = 4 * u8(data, i)
            if size == 0 or end - i < size:
                return -C_NOT_TCP, i
            more = u8(data, i + size - 1)
            i += size
    return noted(trail, STEP_GTP, tunnel_id, KIND_VERSION, i)


def l2tp(data: Any, i: int, end: int, trail: Any) -> tuple[int, int]:
    """L2TP over UDP: of version 2 PPP behind optional fields (RFC 2661 §3.1), version 3 is as over IP (RFC 3931 §4.1.2)."""
    flags = be16(data, i)
    if flags & 0x8000:  # control messages
        return -C_NOT_TCP, i
    if flags & 15 == 3:
        return l2tp_session(data, i + 4, end, trail)
    if flags & 15 != 2:
        return -C_NOT_TCP, i
    i += 2 + 2 * ((flags >> 14) & 1)
    if end - i < 12:
        return -C_CUT, i
    session = be32(data, i)
    i += 4 + 4 * ((flags >> 11) & 1)
    if flags & 0x0200:  # an offset, and as many bytes
        i += 2 + be16(data, i)
    return noted(trail, STEP_L2TP, session & 0xFFFF, PPP, i)


def l2tp_session(data: Any, i: int, end: int, trail: Any) -> tuple[int, int]:
    """A session's number, then a cookie of 0, 4 or 8 bytes and perhaps a sublayer of 4, as both ends agreed beforehand: Ethernet
    where it is certain, else PPP at once."""
    if end - i < 4:
        return -C_CUT, i
    session = be32(data, i)
    i += 4
    if session == 0:  # control messages over IP
        return -C_NOT_TCP, i
    for k in range(0, 16, 4):
        if is_ethernet(data, i + k, end):
            return noted(trail, STEP_L2TP, session, ETHERNET, i + k)
    if end - i >= 4 and be16(data, i) == 0xFF03:
        return noted(trail, STEP_L2TP, session, PPP, i)
    return -C_NOT_TCP, i


def teredo(data: Any, i: int, end: int, trail: Any) -> tuple[int, int]:
    """IPv6 behind Teredo's optional authentication and origin headers (RFC 4380 §5.1.1)."""
    if be16(data, i) == 1:
        i += 13 + u8(data, i + 2) + u8(data, i + 3)
    if end - i >= 8 and be16(data, i) == 0:
        i += 8
    if end - i < 40 or u8(data, i) >> 4 != 6:
        return -C_NOT_TCP, i
    return noted(trail, STEP_TEREDO, 0, IPV6, i)


def is_teredo(data: Any, i: int, size: int, end: int) -> int:
    """Whether a UDP payload of any ports is Teredo between a client and its relay: an IPv6 packet that fills it, of an address
    in Teredo's prefix 2001::/32 (RFC 4380 §2.6)."""
    if end - i < 40 or u8(data, i) >> 4 != 6 or be16(data, i + 4) + 40 != size:
        return 0
    return int(be32(data, i + 8) == TEREDO_PREFIX or be32(data, i + 24) == TEREDO_PREFIX)


#: Everything here that kernels call, for the compiler.
LAYERS = (
    mix, note, note_addresses, noted, link_layer, frame_relay, nflog, between, label,
    is_ethernet, macsec, ppp, extensions, tunnel, gre, erspan, udp_tunnel, gtp, l2tp, l2tp_session, teredo, is_teredo, monitor, wlan,
    frame_body, llc_snap, subframe, next_subframe,
)  # fmt: skip
