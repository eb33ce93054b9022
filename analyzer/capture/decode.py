"""Records to TCP segments: link layer, IP and TCP headers of each record, in one loop.

Supported link types (LINKTYPE_ registry of the tcpdump group): Ethernet, Linux cooked v1 and v2, each with any stack of
VLAN tags, raw IP, BSD null and loop. Anything else is tallied, never guessed.
"""

# ruff: noqa: PLR1714, SIM109
# One hot loop in one function, and chains of `==`, are what the compiler makes fast.
from __future__ import annotations

from analyzer.capture.byteorder import be16, be32, be64, u8
from analyzer.capture.columns import (
    ACK,
    C_CUT,
    C_FIRST,
    C_FRAGMENT,
    C_KEEP,
    C_LAST,
    C_LINK,
    C_MALFORMED,
    C_NOT_IP,
    C_NOT_TCP,
    C_RECORDS,
    C_TCP,
    CAPTURED,
    DPORT,
    DST_HI,
    DST_LO,
    FLAGS,
    IFACE,
    IPID,
    LEN,
    M_KEEP,
    MARKS,
    N_COLUMNS,
    N_RECORD,
    NO,
    OFFSET,
    PATH,
    R_CAPLEN,
    R_IFACE,
    R_LEN,
    R_LINK,
    R_NO,
    R_OFFSET,
    R_TS,
    SEQ,
    SPORT,
    SRC_HI,
    SRC_LO,
    SYN,
    TS,
    TSECR,
    TSVAL,
    TTL,
    V4_MAPPED,
    WIN,
    WSCALE,
)
from analyzer.capture.markers import h2_marks, payload_marks
from analyzer.kernel import Bytes, Column, kernel

LINK_NULL, LINK_ETHERNET, LINK_RAW, LINK_LOOP, LINK_SLL, LINK_IPV4, LINK_IPV6, LINK_SLL2 = (
    0,
    1,
    101,
    108,
    113,
    228,
    229,
    276,
)
#: Raw IP under the numbers that operating systems used before the registry (DLT_RAW 12 and 14).
LINK_DLT_RAW, LINK_DLT_RAW_OPENBSD = 12, 14

LINK_NAMES = {
    LINK_NULL: "BSD loopback",
    LINK_ETHERNET: "Ethernet",
    LINK_RAW: "raw IP",
    LINK_DLT_RAW: "raw IP",
    LINK_DLT_RAW_OPENBSD: "raw IP",
    LINK_LOOP: "OpenBSD loopback",
    LINK_SLL: "Linux cooked v1",
    LINK_IPV4: "raw IPv4",
    LINK_IPV6: "raw IPv6",
    LINK_SLL2: "Linux cooked v2",
}

ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
ETHERTYPE_VLAN, ETHERTYPE_QINQ, ETHERTYPE_QINQ_OLD = 0x8100, 0x88A8, 0x9100
IPPROTO_TCP = 6
#: Extension headers (RFC 8200 §4): hop-by-hop, routing, fragment, authentication, destination options, mobility, shim6.
IPV6_EXTENSIONS = (0, 43, 44, 51, 60, 135, 140)


@kernel(u8, be16, be32, be64, h2_marks, payload_marks)
def decode(data: Bytes, base: int, records: Column, n: int, out: Column, tallies: Column) -> int:
    """Decode `n` records into rows of `out` (see `columns`; both laid end to end); returns the rows written.

    `data` is the block of file bytes that holds the records, `base` its offset in the file.
    """
    rows = 0
    first = tallies[C_FIRST]
    last = tallies[C_LAST]
    for r in range(n):
        record = r * N_RECORD
        start = records[record + R_OFFSET]
        i = start
        end = i + records[record + R_CAPLEN]
        wire = records[record + R_LEN]
        link = records[record + R_LINK]
        ts = records[record + R_TS]
        if ts > 0:
            first = ts if first == 0 else min(first, ts)
            last = max(last, ts)
        path = 0
        iface = records[record + R_IFACE] << 36
        # ---- link layer: sets `kind` to an EtherType and `i` to the network header
        kind = 0
        if link == LINK_ETHERNET:
            if end - i < 14:
                tallies[C_CUT] += 1
                continue
            kind = be16(data, i + 12)
            i += 14
        elif link == LINK_SLL:
            if end - i < 16:
                tallies[C_CUT] += 1
                continue
            kind = be16(data, i + 14)
            iface |= be16(data, i) & 7
            i += 16
        elif link == LINK_SLL2:
            if end - i < 20:
                tallies[C_CUT] += 1
                continue
            kind = be16(data, i)
            iface |= (be32(data, i + 4) << 3) | (u8(data, i + 10) & 7)
            i += 20
        elif link in (LINK_NULL, LINK_LOOP, LINK_RAW, LINK_DLT_RAW, LINK_DLT_RAW_OPENBSD, LINK_IPV4, LINK_IPV6):
            # The address family before BSD loopback packets differs between systems; the version nibble does not.
            if link == LINK_NULL or link == LINK_LOOP:
                i += 4
            if end - i < 1:
                tallies[C_CUT] += 1
                continue
            version = u8(data, i) >> 4
            if version == 4:
                kind = ETHERTYPE_IPV4
            elif version == 6:
                kind = ETHERTYPE_IPV6
        else:
            tallies[C_LINK] += 1
            continue
        shift = 0
        while (kind == ETHERTYPE_VLAN or kind == ETHERTYPE_QINQ or kind == ETHERTYPE_QINQ_OLD) and end - i >= 4:
            path |= ((be16(data, i) & 0xFFF) + 1) << shift
            shift = min(shift + 13, 39)
            kind = be16(data, i + 2)
            i += 4
        # ---- network layer: sets addresses, `i` to the TCP header and `length` to the bytes from there on the wire
        ip_id = -1
        if kind == ETHERTYPE_IPV4:
            if end - i < 20:
                tallies[C_CUT] += 1
                continue
            header = (u8(data, i) & 15) * 4
            if u8(data, i) >> 4 != 4 or header < 20:
                tallies[C_MALFORMED] += 1
                continue
            total = be16(data, i + 2)
            if total == 0:  # segmentation offload: the sender's stack had not yet filled it in
                total = wire - (i - start)
            if u8(data, i + 9) != IPPROTO_TCP:
                tallies[C_NOT_TCP] += 1
                continue
            if be16(data, i + 6) & 0x1FFF:
                tallies[C_FRAGMENT] += 1
                continue
            ip_id = be16(data, i + 4)
            ttl = u8(data, i + 8)
            src_hi = 0
            dst_hi = 0
            src_lo = V4_MAPPED | be32(data, i + 12)
            dst_lo = V4_MAPPED | be32(data, i + 16)
            i += header
            length = total - header
        elif kind == ETHERTYPE_IPV6:
            if end - i < 40:
                tallies[C_CUT] += 1
                continue
            if u8(data, i) >> 4 != 6:
                tallies[C_MALFORMED] += 1
                continue
            length = be16(data, i + 4)
            if length == 0:
                length = wire - (i - start) - 40
            ttl = u8(data, i + 7)
            src_hi = be64(data, i + 8)
            src_lo = be64(data, i + 16)
            dst_hi = be64(data, i + 24)
            dst_lo = be64(data, i + 32)
            protocol = u8(data, i + 6)
            i += 40
            fragment = False
            # Authentication headers count their length in words (RFC 4302 §2.2), the others in eight bytes.
            while protocol in IPV6_EXTENSIONS and end - i >= 8:
                if protocol == 44:
                    fragment = (be16(data, i + 2) & 0xFFF8) != 0
                    size = 8
                elif protocol == 51:
                    size = (u8(data, i + 1) + 2) * 4
                else:
                    size = (u8(data, i + 1) + 1) * 8
                protocol = u8(data, i)
                i += size
                length -= size
                if fragment:
                    break
            if fragment:
                tallies[C_FRAGMENT] += 1
                continue
            if protocol in IPV6_EXTENSIONS:
                tallies[C_CUT] += 1
                continue
            if protocol != IPPROTO_TCP:
                tallies[C_NOT_TCP] += 1
                continue
        else:
            tallies[C_NOT_IP] += 1
            continue
        # ---- TCP
        if end - i < 20:
            tallies[C_CUT] += 1
            continue
        header = (u8(data, i + 12) >> 4) * 4
        if header < 20 or length < header:
            tallies[C_MALFORMED] += 1
            continue
        flags = u8(data, i + 13)
        tsval = -1
        tsecr = -1
        wscale = -1
        if header > 20:
            o = i + 20
            stop = min(i + header, end)
            if header == 32 and stop - o == 12 and be32(data, o) == 0x0101080A:  # the usual: NOP NOP timestamps
                tsval = be32(data, o + 4)
                tsecr = be32(data, o + 8)
            else:
                while o < stop:
                    option = u8(data, o)
                    if option == 0:
                        break
                    if option == 1:
                        o += 1
                        continue
                    if o + 1 >= stop:
                        break
                    size = u8(data, o + 1)
                    if size < 2 or o + size > stop:
                        break
                    if option == 8 and size == 10:
                        tsval = be32(data, o + 2)
                        tsecr = be32(data, o + 6)
                    elif option == 3 and size == 3 and flags & SYN:
                        wscale = min(u8(data, o + 2), 14)  # RFC 7323 §2.3
                    o += size
        payload = i + header
        length -= header
        row = rows * N_COLUMNS
        out[row + TS] = ts
        out[row + NO] = records[record + R_NO]
        out[row + SRC_HI] = src_hi
        out[row + SRC_LO] = src_lo
        out[row + DST_HI] = dst_hi
        out[row + DST_LO] = dst_lo
        out[row + SPORT] = be16(data, i)
        out[row + DPORT] = be16(data, i + 2)
        out[row + FLAGS] = flags
        out[row + SEQ] = be32(data, i + 4)
        out[row + ACK] = be32(data, i + 8)
        out[row + LEN] = length
        out[row + WIN] = be16(data, i + 14)
        out[row + TTL] = ttl
        out[row + IPID] = ip_id
        out[row + TSVAL] = tsval
        out[row + TSECR] = tsecr
        out[row + WSCALE] = wscale
        out[row + PATH] = path
        out[row + OFFSET] = base + payload
        out[row + CAPTURED] = max(min(end - payload, length), 0)
        marks = payload_marks(data, payload, min(end, payload + length), length) if length > 0 else 0
        if marks & M_KEEP:
            tallies[C_KEEP] += 1
        out[row + MARKS] = marks
        out[row + IFACE] = iface
        rows += 1
    tallies[C_RECORDS] += n
    tallies[C_TCP] += rows
    tallies[C_FIRST] = first
    tallies[C_LAST] = last
    return rows
