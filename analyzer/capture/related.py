"""Packets that are no segment of a connection and yet about it: ICMP errors that quote it, DNS answers that gave its server.

They are what `unwrap` finds beside the segments, so behind every tag and tunnel that the segments are read behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyzer.capture.asides import icmp_error, message_of
from analyzer.capture.columns import A_DST_HI, A_DST_LO, A_KIND, A_NO, ASIDE_DNS, ASIDE_QUERY, N_ASIDE, R_NO, V4_MAPPED
from analyzer.capture.unwrapper import Unwrapper
from analyzer.model.addresses import endpoint
from analyzer.tcp import fields as f

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from analyzer.capture.containers import Batch


class Related:
    """The packets of one capture about the connections in `rows` (n × `tcp.fields.N_FIELDS`)."""

    def __init__(self, rows: NDArray[np.int64]) -> None:
        self._unwrapper = Unwrapper()
        self._pairs: set[tuple[str, str]] = set()
        self._servers: dict[tuple[int, int], set[bytes]] = {}
        for row in rows.tolist():
            client = endpoint(row[f.C_HI], row[f.C_LO], row[f.C_PORT])
            server = endpoint(row[f.S_HI], row[f.S_LO], row[f.S_PORT])
            self._pairs |= {(client, server), (server, client)}
            self._servers.setdefault((row[f.C_HI], row[f.C_LO]), set()).add(_packed(row[f.S_HI], row[f.S_LO]))

    def positions(self, batch: Batch) -> list[int]:
        """Where in the batch they stand, in order."""
        first = int(batch.records[R_NO])
        found = self._unwrapper.unwrapped(batch)
        table = found.asides[: found.beside * N_ASIDE]
        rows = [[int(value) for value in table[at : at + N_ASIDE]] for at in range(0, len(table), N_ASIDE)]
        return sorted({row[A_NO] - first for row in rows if self._is_about(batch.data, row)})

    def _is_about(self, data: Any, row: list[int]) -> bool:
        if row[A_KIND] == ASIDE_QUERY:
            return False  # the answer repeats the question
        message = message_of(data, row)
        if row[A_KIND] == ASIDE_DNS:
            return any(server in message for server in self._servers.get((row[A_DST_HI], row[A_DST_LO]), ()))
        error = icmp_error(message, row)
        return error is not None and (error.source, error.target) in self._pairs


def _packed(hi: int, lo: int) -> bytes:
    """An address as it stands in packets."""
    if hi == 0 and lo >> 32 == V4_MAPPED >> 32:
        return (lo & 0xFFFFFFFF).to_bytes(4)
    return ((hi & (1 << 64) - 1) << 64 | lo & (1 << 64) - 1).to_bytes(16)
