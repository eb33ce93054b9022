"""The tracker around the kernel: keeps room for its rows, sets aside what is closed, hands rows out."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from analyzer.capture.columns import TS
from analyzer.tcp.fields import (
    C_HI,
    C_LO,
    C_PORT,
    FIN_ACKED_TS,
    GONE,
    LAST_TS,
    N_FIELDS,
    N_TRACKER,
    RSTS,
    S_HI,
    S_LO,
    S_PORT,
    SIDE,
    SIDE_FIELDS,
    T_ROWS,
)
from analyzer.tcp.states import TRANSITIONS
from analyzer.tcp.track import mix, track

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A closed connection leaves the hot table when nothing came for this long: twice the 60 s that Linux keeps TIME_WAIT.
LINGER_NS = 120_000_000_000

#: Ports that a server listens on, for captures that begin in the middle of a connection: the system ports
#: (RFC 6335 §6) and the registered ports of the databases, caches, brokers and proxies that functions talk to.
SERVICE_PORTS = (
    1433, 1521, 1883, 2181, 3000, 3128, 3306, 4222, 5000, 5044, 5432, 5671, 5672, 6379, 6380, 6432, 7000, 7687, 8000,
    8080, 8081, 8086, 8088, 8123, 8125, 8126, 8443, 8500, 8883, 8888, 9000, 9042, 9090, 9092, 9094, 9200, 9300, 9443,
    10000, 11211, 11434, 26379, 27017, 27018, 27019, 50051,
)  # fmt: skip


@cache
def service_ports() -> list[int]:
    """1 for each known service port, else 0; indexed by port."""
    known = set(range(1024)) | set(SERVICE_PORTS)
    return [int(port in known) for port in range(65_536)]


class Tracker:
    """Connections of one capture point. Feed chunks of segments in file order, then `finish`.

    State lives in lists while chunks are interpreted and moves to arrays with the first compiled chunk.
    """

    def __init__(self) -> None:
        self.compiled = False
        self.counters: Any = [0] * N_TRACKER
        self.rows: Any = []
        self.index: Any = [0] * 1024
        self.done: list[NDArray[np.int64]] = []
        self._service: Any = service_ports()
        self._transitions: Any = TRANSITIONS

    def feed(self, segments: Any, n: int, compiled: bool) -> tuple[Any, Any]:
        """Take in `n` segments; returns for each the connection's `UID` and its classification (`fields.K_…`)."""
        if compiled and not self.compiled:
            self._to_arrays()
        elif not compiled and self.compiled:
            segments, compiled = np.array(segments[:n], np.int64), True
        self._make_room(n, segments)
        uids: Any = np.empty(n, np.int64) if compiled else [0] * n
        kinds: Any = np.empty(n, np.int64) if compiled else [0] * n
        run = track.compiled if compiled else track.interpreted
        run(
            segments, n, self.rows, self.index, len(self.index) - 1, self.counters,
            self._service, self._transitions, uids, kinds,
        )  # fmt: skip
        return uids, kinds

    def finish(self) -> NDArray[np.int64]:
        """Every connection's row, in order of creation (n × `fields.N_FIELDS`, int64)."""
        used = self.counters[T_ROWS]
        live = np.array(self.rows[:used], np.int64).reshape(used, N_FIELDS)
        everything = np.concatenate([*self.done, live]) if self.done else live
        return everything[np.argsort(everything[:, 0], kind="stable")]

    # ---- room

    def _to_arrays(self) -> None:
        used = self.counters[T_ROWS]
        rows = np.zeros((max(used, 1024), N_FIELDS), np.int64)
        if used:
            rows[:used] = np.array(self.rows[:used], np.int64)
        self.rows = rows
        self.index = np.array(self.index, np.int64)
        self.counters = np.array(self.counters, np.int64)
        self._service = np.array(self._service, np.int64)
        self._transitions = np.array(self._transitions, np.int64)
        self.compiled = True

    def _make_room(self, n: int, segments: Any) -> None:
        used = int(self.counters[T_ROWS])
        if not self.compiled:
            self.rows.extend([0] * N_FIELDS for _ in range(used + n + 1 - len(self.rows)))
        elif used + n + 1 > len(self.rows):
            if n:
                self._set_aside(int(segments[0][TS]))
            used = int(self.counters[T_ROWS])
            if used + n + 1 > len(self.rows) * 3 // 4:
                grown = np.zeros((max(2 * len(self.rows), used + 2 * n + 1), N_FIELDS), np.int64)
                grown[:used] = self.rows[:used]
                self.rows = grown
        if 2 * (used + n + 1) > len(self.index):
            self._reindex(max(2 * len(self.index), 1 << (4 * (used + n)).bit_length()))

    def _set_aside(self, now: int) -> None:
        """Move replaced and long-closed connections out of the hot table."""
        used = int(self.counters[T_ROWS])
        rows = self.rows[:used]
        client, server = SIDE, SIDE + SIDE_FIELDS
        closed = (rows[:, client + FIN_ACKED_TS] > 0) & (rows[:, server + FIN_ACKED_TS] > 0)
        closed |= (rows[:, client + RSTS] > 0) | (rows[:, server + RSTS] > 0)
        gone = (rows[:, GONE] == 1) | (closed & (now - rows[:, LAST_TS] > LINGER_NS))
        if gone.any():
            self.done.append(rows[gone].copy())
            kept = rows[~gone]
            self.rows[: len(kept)] = kept
            self.counters[T_ROWS] = len(kept)
            self._reindex(len(self.index))

    def _reindex(self, size: int) -> None:
        mask = size - 1
        index = [0] * size
        used = int(self.counters[T_ROWS])
        keys = (C_HI, C_LO, C_PORT, S_HI, S_LO, S_PORT)
        if self.compiled:
            table = self.rows[:used][:, [*keys, GONE]].tolist()
        else:
            table = [[row[k] for k in (*keys, GONE)] for row in self.rows[:used]]
        for number, (c_hi, c_lo, c_port, s_hi, s_lo, s_port, is_gone) in enumerate(table):
            if is_gone:
                continue
            slot = (mix(c_hi, c_lo, c_port) ^ mix(s_hi, s_lo, s_port)) & mask
            while index[slot]:
                slot = (slot + 1) & mask
            index[slot] = number + 1
        self.index = np.array(index, np.int64) if self.compiled else index
