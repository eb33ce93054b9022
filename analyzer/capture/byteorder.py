"""Numbers out of bytes, in a form that runs on `bytes` (interpreted) and on uint8 arrays (compiled)."""

from __future__ import annotations

from typing import Any


def u8(data: Any, i: int) -> int:
    """The byte at `i`; the sum makes numba widen it to a signed 64-bit number, as everything in the kernels is."""
    byte: int = data[i] + 0
    return byte


def le32(data: Any, i: int) -> int:
    """Little-endian 32 bits at `i`."""
    return u8(data, i) | (u8(data, i + 1) << 8) | (u8(data, i + 2) << 16) | (u8(data, i + 3) << 24)


def be16(data: Any, i: int) -> int:
    """Big-endian 16 bits at `i`."""
    return (u8(data, i) << 8) | u8(data, i + 1)


def be32(data: Any, i: int) -> int:
    """Big-endian 32 bits at `i`."""
    return (u8(data, i) << 24) | (u8(data, i + 1) << 16) | (u8(data, i + 2) << 8) | u8(data, i + 3)


def be64(data: Any, i: int) -> int:
    """Big-endian 64 bits at `i`, as a signed number."""
    high = be32(data, i)
    if high >= 0x80000000:
        high -= 0x100000000
    return (high << 32) | be32(data, i + 4)
