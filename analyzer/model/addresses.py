"""Addresses as people write them, from the 128-bit form that the packet path uses."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

V4_MAPPED_PREFIX = 0xFFFF


@lru_cache(maxsize=65_536)
def host(hi: int, lo: int) -> str:
    """`10.0.0.1` or `2001:db8::1` from two signed 64-bit halves (IPv4 is IPv4-mapped, RFC 4291 §2.5.5.2)."""
    if hi == 0 and (lo >> 32) == V4_MAPPED_PREFIX:
        return str(ipaddress.IPv4Address(lo & 0xFFFFFFFF))
    return str(ipaddress.IPv6Address(((hi & (1 << 64) - 1) << 64) | (lo & (1 << 64) - 1)))


def halves(address: str) -> tuple[int, int]:
    """The two signed 64-bit halves of an address, as `host` takes them; raises `ValueError` where it is none."""
    ip = ipaddress.ip_address(address)
    number = V4_MAPPED_PREFIX << 32 | int(ip) if ip.version == 4 else int(ip)
    high, low = number >> 64, number & (1 << 64) - 1
    return high - (high >> 63 << 64), low - (low >> 63 << 64)


def network(hi: int, lo: int) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """The network of one address, from its halves."""
    return ipaddress.ip_network(host(hi, lo))


def endpoint(hi: int, lo: int, port: int) -> str:
    """`10.0.0.1:443` or `[2001:db8::1]:443`."""
    name = host(hi, lo)
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def split(address: str) -> tuple[str, int]:
    """(`10.0.0.1`, 443) from `10.0.0.1:443` or `[2001:db8::1]:443`; raises `ValueError` on anything else."""
    name, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or len(port) > 5 or int(port) > 65_535:
        raise ValueError(f"not an ip:port: {address!r}")
    return str(ipaddress.ip_address(name.strip("[]"))), int(port)


def normal(address: str) -> str | None:
    """The same address in one spelling, None when it is no `ip:port`."""
    try:
        name, port = split(address)
    except ValueError:
        return None
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
