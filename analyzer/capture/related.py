"""Packets that are no segment of a connection and yet about it: ICMP errors that quote it, DNS answers that gave its server.

A capture may hold millions of other packets, so a look at all headers at once (numpy) leaves few for the careful one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from analyzer.capture.columns import N_RECORD, R_CAPLEN, R_LINK, R_OFFSET
from analyzer.capture.layers import (
    LINK_DLT_RAW,
    LINK_DLT_RAW_OPENBSD,
    LINK_ETHERNET,
    LINK_IPV4,
    LINK_IPV6,
    LINK_LOOP,
    LINK_NULL,
    LINK_RAW,
    LINK_SLL,
    LINK_SLL2,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analyzer.capture.containers import Batch

#: Where the IP header begins behind each link header. Behind VLAN tags these packets are not looked for.
NETWORK_AT = {
    LINK_ETHERNET: 14, LINK_SLL: 16, LINK_SLL2: 20, LINK_NULL: 4, LINK_LOOP: 4, LINK_RAW: 0, LINK_DLT_RAW: 0,
    LINK_DLT_RAW_OPENBSD: 0, LINK_IPV4: 0, LINK_IPV6: 0,
}  # fmt: skip
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
#: Destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792): they quote a packet.
ICMP_ERRORS = frozenset((3, 4, 5, 11, 12))
#: ICMPv6 types below this are errors (RFC 4443 §2.1).
ICMPV6_INFORMATION = 128
DNS_PORT = 53
#: The least of a packet worth a look: IPv4 and eight bytes.
LEAST = 28

#: One end of a connection: (packed address, port).
End = tuple[bytes, int]


class Related:
    """The packets about some connections, each given as (client, server)."""

    def __init__(self, connections: Iterable[tuple[End, End]]) -> None:
        self._pairs: set[tuple[End, End]] = set()
        self._servers: dict[bytes, set[bytes]] = {}
        for client, server in connections:
            self._pairs |= {(client, server), (server, client)}
            self._servers.setdefault(client[0], set()).add(server[0])

    def positions(self, batch: Batch) -> list[int]:
        """Where in the batch they stand, in order."""
        data = batch.data if isinstance(batch.data, np.ndarray) else np.frombuffer(batch.data, np.uint8)
        records = np.asarray(batch.records[: batch.n * N_RECORD], np.int64).reshape(batch.n, N_RECORD)
        begin = np.full(batch.n, -1, np.int64)
        for link, skip in NETWORK_AT.items():
            begin[records[:, R_LINK] == link] = skip
        looked = np.flatnonzero((begin >= 0) & (records[:, R_CAPLEN] >= begin + LEAST))
        start = records[looked, R_OFFSET] + begin[looked]
        end = records[looked, R_OFFSET] + records[looked, R_CAPLEN]
        wanted = _no_tcp(data, start)
        return [
            int(position)
            for position, a, b in zip(looked[wanted], start[wanted], end[wanted], strict=True)
            if self._about(bytes(data[int(a) : int(b)]))
        ]

    def _about(self, packet: bytes) -> bool:
        parsed = network(packet)
        if parsed is None:
            return False
        protocol, _, receiver, at = parsed
        if protocol == UDP:
            named = packet[at + 8 :]
            return packet[at : at + 2] == DNS_PORT.to_bytes(2) and any(
                server in named for server in self._servers.get(receiver, ())
            )
        quoted = network(packet[at + 8 :])
        if not is_error(protocol, packet[at : at + 1]) or quoted is None or quoted[0] != TCP:
            return False
        ports = packet[at + 8 + quoted[3] :][:4]
        return ((quoted[1], int.from_bytes(ports[:2])), (quoted[2], int.from_bytes(ports[2:]))) in self._pairs


def _no_tcp(data: NDArray[np.uint8], start: NDArray[np.int64]) -> Any:
    """Which IP headers are followed by ICMP, or by UDP from the port of DNS (IPv4 without options)."""
    version = data[start] >> 4
    protocol = np.where(version == 4, data[start + 9], data[start + 6])
    from_dns = (version == 6) | ((data[start + 20] == 0) & (data[start + 21] == DNS_PORT))
    v4, v6 = version == 4, version == 6
    return (v4 & (protocol == ICMP)) | (v6 & (protocol == ICMPV6)) | ((v4 | v6) & (protocol == UDP) & from_dns)


def is_error(protocol: int, kind: bytes) -> bool:
    """Whether an ICMP message of this type byte is an error, which quotes a packet from its ninth byte on."""
    return bool(kind) and (kind[0] in ICMP_ERRORS if protocol == ICMP else kind[0] < ICMPV6_INFORMATION)


def network(packet: bytes) -> tuple[int, bytes, bytes, int] | None:
    """(protocol, packed source, packed destination, where its payload begins) of an IP packet, None for anything else."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        return packet[9], packet[12:16], packet[16:20], (packet[0] & 15) * 4
    if version == 6 and len(packet) >= 40:
        return packet[6], packet[8:24], packet[24:40], 40
    return None
