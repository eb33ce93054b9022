"""Whether a TCP segment arrived as it was sent, by the checksums of its IP and TCP headers (RFC 1071)."""

from __future__ import annotations

from typing import Any

from analyzer.capture.byteorder import be16, u8
from analyzer.capture.layers import IP_TCP


def folded(total: int) -> int:
    """A sum of 16-bit words in one's complement."""
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def words(data: Any, start: int, stop: int) -> int:
    """The sum of the words from `start` to `stop`, the last perhaps half."""
    total = 0
    for k in range(start, stop - 1, 2):
        total += be16(data, k)
    if (stop - start) & 1:
        total += u8(data, stop - 1) << 8
    return total


def wrong_checksum(data: Any, ip: int, i: int, size: int, end: int) -> int:
    """1 when the IP packet at `ip` or its segment of `size` bytes at `i` is damaged, 0 when it is right or cannot be known.

    Not known: segments not captured whole, fragments, lengths not yet filled in, and checksums that a capture on the
    sender shows before the network card completes them: none, or that of the pseudo-header alone.
    """
    if u8(data, ip) >> 4 == 4:
        if be16(data, ip + 2) == 0 or be16(data, ip + 6) & 0x2000:
            return 0
        if be16(data, ip + 10) and folded(words(data, ip, ip + (u8(data, ip) & 15) * 4)) != 0xFFFF:
            return 1
        pseudo = words(data, ip + 12, ip + 20) + IP_TCP
    else:
        if i - ip != 40 or be16(data, ip + 4) == 0:
            return 0
        pseudo = words(data, ip + 8, ip + 40) + IP_TCP
    field = be16(data, i + 16)
    if i + size > end or field == 0 or field == folded(pseudo) or field == folded(pseudo + size):
        return 0
    return int(folded(pseudo + size + words(data, i, i + size)) != 0xFFFF)


#: Everything here that the kernel calls, for the compiler.
CHECKSUMS = (folded, words, wrong_checksum)
