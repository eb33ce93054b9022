"""Unwrapped records to TCP segments: the IP and TCP headers of each, in one loop."""

# One hot loop in one function, and chains of `==`, are what the compiler makes fast.
from __future__ import annotations

from typing import Any

from analyzer.capture.byteorder import be16, be32, be64, u8
from analyzer.capture.checksums import CHECKSUMS, wrong_checksum
from analyzer.capture.columns import (
    ACK,
    C_CHECKED,
    C_CUT,
    C_FIRST,
    C_FRAGMENT,
    C_LAST,
    C_MALFORMED,
    C_MARKS,
    C_TCP,
    C_UNTIMED,
    C_WRONG,
    CAPTURED,
    DPORT,
    DST_HI,
    DST_LO,
    FLAGS,
    IFACE,
    IPID,
    LEN,
    MARKS,
    N_COLUMNS,
    N_RECORD,
    NO,
    O_DSACK,
    O_FAST_OPEN,
    O_MPTCP,
    O_SACK,
    O_SACK_PERMITTED,
    OFFSET,
    OPTIONS,
    PATH,
    R_AT,
    R_CAPLEN,
    R_IFACE,
    R_KIND,
    R_LEN,
    R_NO,
    R_OFFSET,
    R_PATH,
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
from analyzer.capture.layers import (
    IP_TCP,
    IPV4,
    extensions,
)
from analyzer.capture.markers import MARKERS, payload_marks
from analyzer.kernel import Bytes, Column, kernel
from analyzer.tcp.sequence import delta32


def sack(data: Any, o: int, size: int, ack: int) -> int:
    """Bits of a SACK option at `o`. It is a D-SACK where its first block was acknowledged before, or lies in the second."""
    left, right = be32(data, o + 2), be32(data, o + 6)
    if delta32(right, ack) <= 0:
        return O_SACK | O_DSACK
    if size >= 18 and delta32(left, be32(data, o + 10)) >= 0 and delta32(right, be32(data, o + 14)) <= 0:
        return O_SACK | O_DSACK
    return O_SACK


@kernel(sack, delta32, u8, be16, be32, be64, extensions, *CHECKSUMS, *MARKERS)
def decode(data: Bytes, base: int, records: Column, n: int, check: int, drop: int, out: Column, tallies: Column) -> int:
    """Decode `n` unwrapped records into rows of `out` (see `columns`; both laid end to end); returns the rows written.

    `data` is the block of file bytes that holds the records, `base` its offset in the file. The checksums of the next
    `check` segments are looked at; with `drop` those that are wrong are left out.
    """
    rows = 0
    seen = 0
    first = tallies[C_FIRST]
    last = tallies[C_LAST]
    for r in range(n):
        record = r * N_RECORD
        start = records[record + R_OFFSET]
        end = start + records[record + R_CAPLEN]
        wire = records[record + R_LEN]
        ts = records[record + R_TS]
        if ts > 0:
            first = ts if first == 0 else min(first, ts)
            last = max(last, ts)
        else:
            tallies[C_UNTIMED] += 1
        kind = records[record + R_KIND]
        if kind < 0:
            continue
        ip = records[record + R_AT]
        # ---- network layer: sets addresses, `i` to the TCP header and `length` to the bytes from there on the wire
        i = ip
        if kind == IPV4:
            header = (u8(data, i) & 15) * 4
            if u8(data, i) >> 4 != 4 or header < 20:
                tallies[C_MALFORMED] += 1
                continue
            if be16(data, i + 6) & 0x1FFF:
                tallies[C_FRAGMENT] += 1
                continue
            length = be16(data, i + 2)
            if length == 0:  # segmentation offload: the sender's stack had not yet filled it in
                length = wire - (i - start)
            ip_id = be16(data, i + 4)
            ttl = u8(data, i + 8)
            src_hi = 0
            dst_hi = 0
            src_lo = V4_MAPPED | be32(data, i + 12)
            dst_lo = V4_MAPPED | be32(data, i + 16)
            i += header
            length -= header
            if u8(data, ip + 9) != IP_TCP:
                _, i = extensions(data, u8(data, ip + 9), i, end)
                length -= i - ip - header
        else:
            length = be16(data, i + 4)
            if length == 0:
                length = wire - (i - start) - 40
            ip_id = -1
            ttl = u8(data, i + 7)
            src_hi = be64(data, i + 8)
            src_lo = be64(data, i + 16)
            dst_hi = be64(data, i + 24)
            dst_lo = be64(data, i + 32)
            _, i = extensions(data, u8(data, ip + 6), ip + 40, end)
            length -= i - ip - 40
        # ---- TCP
        if end - i < 20:
            tallies[C_CUT] += 1
            continue
        header = (u8(data, i + 12) >> 4) * 4
        if header < 20 or length < header:
            tallies[C_MALFORMED] += 1
            continue
        if check > 0:
            check -= 1
            tallies[C_CHECKED] += 1
            if wrong_checksum(data, ip, i, length, end):
                tallies[C_WRONG] += 1
                if drop:
                    continue
        flags = u8(data, i + 13)
        tsval = -1
        tsecr = -1
        wscale = -1
        options = 0
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
                    elif option == 5 and size >= 10:
                        options |= sack(data, o, size, be32(data, i + 8))
                    elif option == 4:
                        options |= O_SACK_PERMITTED
                    elif option == 30:
                        options |= O_MPTCP
                    elif option == 34:
                        options |= O_FAST_OPEN
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
        out[row + PATH] = records[record + R_PATH]
        out[row + OFFSET] = base + payload
        out[row + CAPTURED] = max(min(end - payload, length), 0)
        marks = payload_marks(data, payload, min(end, payload + length), length) if length > 0 else 0
        seen |= marks
        out[row + MARKS] = marks
        out[row + IFACE] = records[record + R_IFACE]
        out[row + OPTIONS] = options
        rows += 1
    tallies[C_TCP] += rows
    tallies[C_MARKS] = seen
    tallies[C_FIRST] = first
    tallies[C_LAST] = last
    return rows
