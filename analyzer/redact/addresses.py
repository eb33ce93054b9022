"""Prefix-preserving pseudonyms of IP addresses, after Crypto-PAn (Xu, Fan, Ammar, Moon: "Prefix-preserving IP address
anonymization", ICNP 2002): bit i of the pseudonym is bit i of the address, flipped or not by a keyed function of the bits
before it. Two addresses share as many leading bits afterwards as before, and no two become one.

The keyed function is BLAKE2b (RFC 7693) in place of the paper's AES. What is ours: prefixes that say what *kind* of address it is
stay what they are (`KINDS`), and addresses that mean the same everywhere stay whole (`PUBLIC_MEANING`). The price: another address
keeps the leading bits that it shares with such a prefix (`11.0.0.1` seven of 32, those of `10.0.0.0/8`).
"""

from __future__ import annotations

import hashlib
import ipaddress
from functools import lru_cache

#: Kept whole: unspecified, loopback, link-local (Lambda's own plumbing and instance metadata live there), multicast, reserved.
PUBLIC_MEANING = ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/127", "ff00::/8")
#: The prefix stays, the rest is pseudonymised: private (RFC 1918), shared (RFC 6598), unique local, link-local IPv6.
KINDS = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/8", "fd00::/8", "fe80::/10")
#: IPv6 forms of IPv4 addresses: the last 32 bits take the IPv4 pseudonym (RFC 4291 §2.5.5.2, RFC 6052 §2.1).
EMBEDS_IPV4 = (bytes(10) + b"\xff\xff", b"\x00\x64\xff\x9b" + bytes(8))
CACHE = 65_536

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _bits(networks: tuple[str, ...], width: int) -> list[str]:
    """The networks of one family as strings of bits."""
    parsed: list[_Network] = [ipaddress.ip_network(n) for n in networks]
    return [f"{int(n.network_address):0{width}b}"[: n.prefixlen] for n in parsed if n.max_prefixlen == width]


class Addresses:
    """The mapping under one key (16 to 64 bytes)."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._kept = {width: tuple(_bits(PUBLIC_MEANING, width)) for width in (32, 128)}
        #: Proper prefixes of every kept prefix: no flip there, so that a kept prefix is reached by itself only.
        self._pinned = {
            width: {p[:i] for p in _bits(PUBLIC_MEANING + KINDS, width) for i in range(len(p))} for width in (32, 128)
        }
        self.packed = lru_cache(maxsize=CACHE)(self._packed)
        self._flip = lru_cache(maxsize=CACHE)(self._flip_of)

    def _packed(self, address: bytes) -> bytes:
        """The pseudonym of a packed address, 4 or 16 bytes; raises `ValueError` for another length."""
        if len(address) not in (4, 16):
            raise ValueError(f"an address has 4 or 16 bytes, not {len(address)}")
        if len(address) == 16 and address[:12] in EMBEDS_IPV4:
            return address[:12] + self.packed(address[12:])
        width = 8 * len(address)
        bits = f"{int.from_bytes(address):0{width}b}"
        if bits.startswith(self._kept[width]):
            return address
        flips = "".join(self._flip(width, bits[:i]) for i in range(width))
        return (int(bits, 2) ^ int(flips, 2)).to_bytes(width // 8)

    def _flip_of(self, width: int, prefix: str) -> str:
        """`1` where the bit behind this prefix is flipped."""
        if prefix in self._pinned[width]:
            return "0"
        digest = hashlib.blake2b(
            prefix.encode(), digest_size=1, key=self._key, person=b"ipv4" if width == 32 else b"ipv6"
        )
        return "01"[digest.digest()[0] & 1]

    def text(self, address: str) -> str:
        """The pseudonym of an address as people write it; raises `ValueError` for anything else."""
        return str(ipaddress.ip_address(self.packed(ipaddress.ip_address(address).packed)))
