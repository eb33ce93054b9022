"""Packets that are no TCP segment and yet about connections: ICMP errors that quote one, DNS queries and answers that name a server."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from analyzer.capture.byteorder import be16, be32, be64
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
    ASIDE_ICMPV6,
    ASIDE_QUERY,
    N_ASIDE,
    V4_MAPPED,
)
from analyzer.capture.layers import IP_TCP, extensions
from analyzer.model.addresses import endpoint, host

#: The most of an ICMP error that is looked at: it quotes an IP header and eight bytes at least, of which IPv6 has no options.
MAX_ERROR = 128
#: More than this of either kind in one capture are counted, not kept.
MAX_ASIDES = 10_000
#: The largest answer kept: servers cut theirs to what the asker's EDNS buffer allows, 4096 at most by custom (RFC 6891 §6.2.5).
MAX_ANSWER = 4096

#: Type → code → name (RFC 792, 1122 §3.2.2.1, 1812 §5.2.7.1).
ICMP = {
    3: ("destination", (
        "network unreachable", "host unreachable", "protocol unreachable", "port unreachable",
        "fragmentation needed", "source route failed", "network unknown", "host unknown", "source host isolated",
        "network prohibited", "host prohibited", "network unreachable for this service",
        "host unreachable for this service", "communication prohibited", "host precedence violation",
        "precedence cutoff",
    )),
    4: ("source quench", ()),
    5: ("redirect", ()),
    11: ("time exceeded", ("time to live exceeded", "fragment reassembly time exceeded")),
    12: ("parameter problem", ()),
}  # fmt: skip
#: The same of ICMPv6 (RFC 4443 §3).
ICMPV6 = {
    1: ("destination unreachable", (
        "no route", "communication prohibited", "beyond scope of source address", "address unreachable",
        "port unreachable", "source address failed policy", "route rejected",
    )),
    2: ("packet too big", ()),
    3: ("time exceeded", ("hop limit exceeded", "fragment reassembly time exceeded")),
    4: ("parameter problem", ()),
}  # fmt: skip
#: They tell the MTU of the next hop: IPv4 (RFC 1191 §4), IPv6 (RFC 4443 §3.2).
TOO_BIG, TOO_BIG_V6 = (3, 4), (2, 0)


class IcmpError(Struct, frozen=True):
    """An ICMP error about a TCP segment: who says so, and the segment's addresses and sequence number as quoted."""

    no: int
    time_ns: int
    what: str  # "ICMP host unreachable"
    sender: str
    source: str  # ip:port that sent the quoted segment
    target: str
    seq: int


class DnsQuery(Struct, frozen=True):
    """A DNS query: its record, its time, who asks whom (`ip:port`), the message."""

    no: int
    time_ns: int
    client: str
    resolver: str
    message: bytes


class Asides:
    """What of them was kept: `icmp`, `dns` answers as (record number, time in ns, the message), and `queries`."""

    def __init__(self) -> None:
        self.icmp: list[IcmpError] = []
        self.dns: list[tuple[int, int, bytes]] = []
        self.queries: list[DnsQuery] = []
        self._more = {"ICMP errors": 0, "DNS answers": 0, "DNS queries": 0}

    def take(self, data: Any, asides: Any, n: int) -> None:
        """Keep the kernel's `n` rows before the window is dropped."""
        for at in range(0, n * N_ASIDE, N_ASIDE):
            row = [int(value) for value in asides[at : at + N_ASIDE]]
            if row[A_KIND] == ASIDE_DNS:
                if len(self.dns) < MAX_ASIDES:
                    self.dns.append((row[A_NO], row[A_TS], message_of(data, row)))
                else:
                    self._more["DNS answers"] += 1
            elif row[A_KIND] == ASIDE_QUERY:
                if len(self.queries) < MAX_ASIDES:
                    self.queries.append(_query(data, row))
                else:
                    self._more["DNS queries"] += 1
            elif len(self.icmp) < MAX_ASIDES:
                error = icmp_error(message_of(data, row), row)
                if error:
                    self.icmp.append(error)
            else:
                self._more["ICMP errors"] += 1

    def missed(self) -> list[str]:
        """What was not kept."""
        return [f"{count:,} more {what} were not looked at" for what, count in self._more.items() if count]


def message_of(data: Any, row: list[int]) -> bytes:
    """The start of the ICMP message, or of what the UDP datagram carries, that a row tells the place of."""
    dns = row[A_KIND] in (ASIDE_DNS, ASIDE_QUERY)
    start, most = (row[A_AT] + 8, MAX_ANSWER) if dns else (row[A_AT], MAX_ERROR)
    return bytes(data[start : min(row[A_END], start + most)])


def _query(data: Any, row: list[int]) -> DnsQuery:
    ports = bytes(data[row[A_AT] : row[A_AT] + 4])  # outside of a kernel an array's bytes do not widen
    client = endpoint(row[A_SRC_HI], row[A_SRC_LO], be16(ports, 0))
    resolver = endpoint(row[A_DST_HI], row[A_DST_LO], be16(ports, 2))
    return DnsQuery(row[A_NO], row[A_TS], client, resolver, message_of(data, row))


def icmp_error(message: bytes, row: list[int]) -> IcmpError | None:
    """The error of an ICMP message, None when it quotes no TCP segment."""
    quoted = message[8:]
    version = quoted[0] >> 4 if quoted else 0
    if version == 4 and len(quoted) >= 20:
        protocol, at = quoted[9], (quoted[0] & 15) * 4
        source, target = (0, V4_MAPPED | be32(quoted, 12)), (0, V4_MAPPED | be32(quoted, 16))
    elif version == 6 and len(quoted) >= 40:
        protocol, at = extensions(quoted, quoted[6], 40, len(quoted))
        source, target = (be64(quoted, 8), be64(quoted, 16)), (be64(quoted, 24), be64(quoted, 32))
    else:
        return None
    if protocol != IP_TCP or len(quoted) < at + 8:
        return None
    return IcmpError(
        no=row[A_NO], time_ns=row[A_TS], what=_what(message, row[A_KIND] == ASIDE_ICMPV6),
        sender=host(row[A_SRC_HI], row[A_SRC_LO]),
        source=endpoint(*source, be16(quoted, at)), target=endpoint(*target, be16(quoted, at + 2)),
        seq=be32(quoted, at + 4),
    )  # fmt: skip


def _what(message: bytes, v6: bool) -> str:
    kind, code = message[0], message[1]
    name, codes = (ICMPV6 if v6 else ICMP).get(kind, (f"error type {kind}", ()))
    text = codes[code] if code < len(codes) else name if not codes else f"{name} code {code}"
    if v6 and (kind, code) == TOO_BIG_V6:
        text += f", MTU {be32(message, 4)}"
    elif not v6 and (kind, code) == TOO_BIG:
        text += f", MTU {be16(message, 6)}"
    return f"ICMP{'v6' if v6 else ''} {text}"
