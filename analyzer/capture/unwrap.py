"""Records to the innermost IP packet: what was around it is the outer path, what is no TCP is tallied.

A kernel of its own, before `decode`: grown into that loop it would cost every plain packet half as much again.
"""

from __future__ import annotations

from typing import Any

from analyzer.capture.byteorder import be16, be32, be64, le32, u8
from analyzer.capture.columns import (
    A_AT,
    A_DST_HI,
    A_DST_LO,
    A_END,
    A_KIND,
    A_NO,
    A_SRC_HI,
    A_SRC_LO,
    A_TS,
    ASIDE_DNS,
    ASIDE_ICMP,
    ASIDE_ICMPV6,
    ASIDE_QUERY,
    C_AGGREGATED,
    C_CUT,
    C_FRAGMENT,
    C_MALFORMED,
    C_NOT_TCP,
    N_ASIDE,
    N_RECORD,
    R_AT,
    R_CAPLEN,
    R_IFACE,
    R_KIND,
    R_LINK,
    R_NO,
    R_OFFSET,
    R_PATH,
    R_TS,
    V4_MAPPED,
)
from analyzer.capture.layers import (
    IP_AH,
    IP_ICMP,
    IP_ICMPV6,
    IP_TCP,
    IP_UDP,
    IPV4,
    IPV6,
    LAYERS,
    LINK_ETHERNET,
    LINK_SLL,
    LINK_SLL2,
    N_TRAIL,
    PORT_DNS,
    TRAIL_ASIDE,
    TRAIL_AT,
    TRAIL_DST_HI,
    TRAIL_DST_LO,
    TRAIL_NEXT,
    TRAIL_PATH,
    TRAIL_SRC_HI,
    TRAIL_SRC_LO,
    TRAIL_STEPS,
    between,
    extensions,
    link_layer,
    note_addresses,
    tunnel,
)
from analyzer.kernel import Bytes, Column, kernel

#: Distinct paths that are described; more are told apart, but not described.
MAX_PATHS = 256
#: Twice as many places, so that a search ends soon. A place is a trail; its digest tells whether it is taken.
PATH_PLACES = 2 * MAX_PATHS


def keep_path(trail: Column, paths: Column) -> None:
    """Keep what a path is made of, once. `paths` holds how many there are behind its last place."""
    digest = trail[TRAIL_PATH]
    place = digest % PATH_PLACES
    while paths[place * N_TRAIL + TRAIL_PATH] != 0:
        if paths[place * N_TRAIL + TRAIL_PATH] == digest:
            return
        place = (place + 1) % PATH_PLACES
    if paths[PATH_PLACES * N_TRAIL] < MAX_PATHS:
        paths[PATH_PLACES * N_TRAIL] += 1
        for k in range(N_TRAIL):
            paths[place * N_TRAIL + k] = trail[k]


def keep_aside(asides: Column, row: int, number: int, ts: int, end: int, trail: Column) -> None:
    """Keep where a packet stands that is no segment but about one."""
    row *= N_ASIDE
    asides[row + A_KIND] = trail[TRAIL_ASIDE]
    asides[row + A_NO] = number
    asides[row + A_TS] = ts
    asides[row + A_AT] = trail[TRAIL_AT]
    asides[row + A_END] = end
    asides[row + A_SRC_HI] = trail[TRAIL_SRC_HI]
    asides[row + A_SRC_LO] = trail[TRAIL_SRC_LO]
    asides[row + A_DST_HI] = trail[TRAIL_DST_HI]
    asides[row + A_DST_LO] = trail[TRAIL_DST_LO]


def innermost(data: Any, kind: int, i: int, end: int, trail: Any) -> tuple[int, int]:
    """From a header of some kind to the IP header right before TCP: (`IPV4` or `IPV6`, where it begins)."""
    trail[TRAIL_STEPS] = 0
    trail[TRAIL_PATH] = 0
    trail[TRAIL_ASIDE] = 0
    trail[TRAIL_NEXT] = 0
    while kind >= 0:
        if kind not in (IPV4, IPV6):
            kind, i = between(data, kind, i, end, trail)
            continue
        ip = i
        protocol, i = inside(data, kind, i, end)
        if protocol < 0:
            return protocol, ip
        if protocol == IP_TCP:
            return kind, ip
        if kind == IPV4:
            src_hi, src_lo, dst_hi, dst_lo = 0, V4_MAPPED | be32(data, ip + 12), 0, V4_MAPPED | be32(data, ip + 16)
        else:
            src_hi, src_lo, dst_hi, dst_lo = (
                be64(data, ip + 8), be64(data, ip + 16), be64(data, ip + 24), be64(data, ip + 32),
            )  # fmt: skip
        trail[TRAIL_ASIDE] = aside_kind(data, protocol, i, end)
        if trail[TRAIL_ASIDE] != 0:
            trail[TRAIL_AT] = i
            trail[TRAIL_SRC_HI] = src_hi
            trail[TRAIL_SRC_LO] = src_lo
            trail[TRAIL_DST_HI] = dst_hi
            trail[TRAIL_DST_LO] = dst_lo
            return -C_NOT_TCP, i
        kind, i = tunnel(data, protocol, i, end, trail)
        if kind >= 0:
            note_addresses(trail, src_hi, src_lo, dst_hi, dst_lo)
    return kind, i


def inside(data: Any, kind: int, i: int, end: int) -> tuple[int, int]:
    """(protocol, where it begins) of what an IP packet carries, behind extension headers."""
    if end - i < (20 if kind == IPV4 else 40):
        return -C_CUT, i
    first = u8(data, i)
    if kind == IPV6:
        if first >> 4 != 6:
            return -C_MALFORMED, i
        return extensions(data, u8(data, i + 6), i + 40, end)
    if first >> 4 != 4 or first & 15 < 5:
        return -C_MALFORMED, i
    protocol = u8(data, i + 9)
    if be16(data, i + 6) & 0x1FFF:
        return (-C_FRAGMENT if protocol == IP_TCP else -C_NOT_TCP), i
    i += (first & 15) * 4
    return extensions(data, protocol, i, end) if protocol == IP_AH else (protocol, i)


def aside_kind(data: Any, protocol: int, i: int, end: int) -> int:
    """Whether the payload of an IP packet tells of connections: an ICMP error, a DNS query or answer; 0 if not."""
    if end - i < 8:
        return 0
    first = u8(data, i)
    if protocol == IP_ICMP:  # unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792)
        return ASIDE_ICMP if first in (3, 4, 5, 11, 12) else 0
    if protocol == IP_ICMPV6:  # errors have the lower half of the types (RFC 4443 §2.1)
        return ASIDE_ICMPV6 if first < 128 else 0
    if protocol == IP_UDP and end - i >= 20:
        if be16(data, i) == PORT_DNS and u8(data, i + 10) & 0x80:
            return ASIDE_DNS
        if be16(data, i + 2) == PORT_DNS and not u8(data, i + 10) & 0x80:
            return ASIDE_QUERY
    return 0


def interface(data: Any, face: int, link: int, i: int, end: int) -> int:
    """The number of the capture's interface, and of the one that a Linux cooked header tells, with its packet type."""
    if link == LINK_SLL and end - i >= 16:
        return (face << 36) | (be16(data, i) & 7)
    if link == LINK_SLL2 and end - i >= 20:
        return (face << 36) | (be32(data, i + 4) << 3) | (u8(data, i + 10) & 7)
    return face << 36


@kernel(u8, be16, be32, be64, le32, interface, innermost, inside, aside_kind, keep_path, keep_aside, *LAYERS)
def unwrap(data: Bytes, records: Column, n: int, trail: Column, paths: Column, asides: Column, tallies: Column) -> int:
    """Find the innermost IP packet of each of `n` records: its `R_KIND`, `R_AT`, `R_PATH` and `R_IFACE` are set.

    `R_KIND` is -1 where no TCP follows, and a tally is raised. `R_LINK` is inverted where another frame is aggregated behind the one
    that was read (see `unwrapper`). `trail` is scratch, `paths` collects the outer paths, `asides` what is no segment but about one;
    returns the rows of it, at most one a record.
    """
    beside = 0
    for r in range(n):
        record = r * N_RECORD
        i = records[record + R_OFFSET]
        end = i + records[record + R_CAPLEN]
        link = records[record + R_LINK]
        path = 0
        if link == LINK_ETHERNET and end - i >= 34 and be16(data, i + 12) == IPV4 and u8(data, i + 23) == IP_TCP:
            kind = IPV4
            i += 14
        else:
            records[record + R_IFACE] = interface(data, records[record + R_IFACE], link, i, end)
            kind, i = link_layer(data, link, i, end)
            kind, i = innermost(data, kind, i, end, trail)
            if kind < 0:
                tallies[-kind] += 1
                kind = -1
                if trail[TRAIL_ASIDE] != 0:
                    keep_aside(asides, beside, records[record + R_NO], records[record + R_TS], end, trail)
                    beside += 1
            if trail[TRAIL_NEXT] != 0:
                tallies[C_AGGREGATED] += 1
                records[record + R_LINK] = ~link
            path = trail[TRAIL_PATH]
            if path != 0 and kind > 0:
                keep_path(trail, paths)
        records[record + R_KIND] = kind
        records[record + R_AT] = i
        records[record + R_PATH] = path
    return beside
