"""The tracker around the kernel: keeps room for its rows and its index, and hands the rows out."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any

import numpy as np

from analyzer.capture.columns import N_COLUMNS, V4_MAPPED
from analyzer.model.problems import Problem
from analyzer.tcp.connections import CLIENT, SERVER, one_sided
from analyzer.tcp.fields import N_FIELDS, N_RECENT, N_TRACKER, PKTS, RECENT, T_DUPLICATES, T_ROWS
from analyzer.tcp.states import TRANSITIONS
from analyzer.tcp.track import N_NETWORK, reindex, track

if TYPE_CHECKING:
    from numpy.typing import NDArray

Network = IPv4Network | IPv6Network

#: Ports that a server listens on, for captures that begin in the middle of a connection: the system ports
#: (RFC 6335 §6) and the registered ports of the databases, caches, brokers and proxies that functions talk to.
SERVICE_PORTS = (
    1433, 1521, 1883, 2181, 3000, 3128, 3306, 4222, 5000, 5044, 5432, 5671, 5672, 6379, 6380, 6432, 7000, 7687, 8000,
    8080, 8081, 8086, 8088, 8123, 8125, 8126, 8443, 8500, 8883, 8888, 9000, 9042, 9090, 9092, 9094, 9200, 9300, 9443,
    10000, 11211, 11434, 26379, 27017, 27018, 27019, 50051,
)  # fmt: skip


#: Packets from which on a connection tells whether a capture has both directions: a whole exchange with its close.
LONG_ENOUGH = 8


def service_ports(table: Any) -> Any:
    """65,536 zeros, of which those of known service ports become 1."""
    for port in (*range(1024), *SERVICE_PORTS):
        table[port] = 1
    return table


def _copies(count: int) -> list[Problem]:
    what = "duplicate frames counted once (same packet seen twice: -i any, bridge and veth, mirrored ports)"
    return [Problem("", f"{count:,} {what}")] if count else []


def _one_directional(rows: NDArray[np.int64]) -> list[Problem]:
    sides = one_sided(rows)
    if not any(side.any() for side in sides):
        return []
    long = rows[:, CLIENT + PKTS] + rows[:, SERVER + PKTS] >= LONG_ENOUGH
    no_client, no_server = (int(np.count_nonzero(mask & long)) for mask in sides)
    longer = int(np.count_nonzero(long))
    if 2 * (no_client + no_server) <= longer:
        return []
    side = "either side" if no_client and no_server else "the client" if no_client else "the server"
    what = f"one-directional: of {no_client + no_server:,} of {longer:,} longer connections only one side was captured"
    return [Problem("", f"{what}; silence of {side} proves nothing")]


def sides_of(clients: Iterable[Network], servers: Iterable[Network]) -> tuple[int, ...]:
    """Whose addresses the user says these are, for the direction of connections that begin in mid-stream.

    How many networks, then each as `track.N_NETWORK` numbers; longer prefixes first, they know better. Then, how many connections
    are known by themselves, and those (see `with_connections`).
    """
    named = [(1, network) for network in clients] + [(2, network) for network in servers]
    rows = []
    for side, network in named:
        first, mask = int(network.network_address), int(network.netmask)
        if network.version == 4:
            first, mask = V4_MAPPED | first, ((1 << 96) - 1) << 32 | mask
        halves = (first >> 64, first & (1 << 64) - 1, mask >> 64, mask & (1 << 64) - 1)
        rows.append((-mask.bit_count(), side, *(half - (half >> 63 << 64) for half in halves)))
    return len(rows), *(value for row in sorted(rows) for value in row[1:]), 0


#: `sides` where nobody said anything.
NOBODY = (0, 0)


def with_connections(sides: Sequence[int], ends: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """`sides` with these connections, each as the six numbers of its ends (`fields.C_HI` … `S_PORT`), in place of those it had."""
    return *sides[: 1 + sides[0] * N_NETWORK], len(ends), *(value for end in ends for value in end)


def positions(uids: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """Where each connection's segments stand, in order."""
    order = np.argsort(uids, kind="stable")
    cut = np.flatnonzero(np.diff(uids[order])) + 1
    return {int(uids[part[0]]): part for part in np.split(order, cut) if len(part)}


#: A table of this size is worth huge pages; a small capture's should not take 2 MB for a few rows.
HUGE = 1 << 24


class Table:
    """Rows of zeros that grow without being copied where the system can do that, and take memory only when written."""

    def __init__(self) -> None:
        self.capacity = 0
        self.array: Any = np.zeros(0, np.int64)
        self._map: mmap.mmap | None = None

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows. Views taken before must be gone: their memory may move."""
        if rows <= self.capacity:
            return
        wanted = max(rows, 2 * self.capacity)
        if sys.platform == "linux":
            self._remap(wanted * N_FIELDS * 8)
        else:
            grown = np.zeros(wanted * N_FIELDS, np.int64)
            grown[: len(self.array)] = self.array
            self.array = grown
        self.capacity = wanted

    def _remap(self, size: int) -> None:
        self.array = np.zeros(0, np.int64)  # a mapping with a view on it cannot be resized
        if self._map is None:
            self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        else:
            self._map.resize(size)
        if size >= HUGE:
            self._map.madvise(mmap.MADV_HUGEPAGE)  # rows are first written in order: a fault for 2 MB, not for 4 KB
        self.array = np.frombuffer(self._map, np.int64)


class Tracker:
    """Connections of one capture point. Feed chunks of segments in file order, then `finish`.

    State lives in lists while chunks are interpreted and moves to arrays with the first compiled chunk.
    """

    def __init__(self, sides: Sequence[int] = NOBODY) -> None:
        self.compiled = False
        self.counters: Any = [0] * N_TRACKER
        self.rows: Any = []
        self.index: Any = [0] * 1024
        self._table = Table()
        self._service: Any = service_ports([0] * 65_536)
        self._sides: Any = list(sides)
        self._recent: Any = [0] * (RECENT * (1 + N_RECENT))
        self._transitions: Any = [state for states in TRANSITIONS for state in states]

    def feed(self, segments: Any, n: int, compiled: bool) -> tuple[Any, Any]:
        """Take in `n` segments, columns end to end; returns each one's `UID` and classification (`fields.K_…`)."""
        if compiled and not self.compiled:
            self._to_arrays()
        elif not compiled and self.compiled:
            segments, compiled = np.array(segments[: n * N_COLUMNS], np.int64), True
        self._make_room(n)
        uids: Any = np.empty(n, np.int64) if compiled else [0] * n
        kinds: Any = np.empty(n, np.int64) if compiled else [0] * n
        run = track.compiled if compiled else track.interpreted
        run(
            segments, n, self.rows, self.index, len(self.index) - 1, self.counters,
            self._service, self._sides, self._transitions, self._recent, uids, kinds,
        )  # fmt: skip
        return uids, kinds

    def finish(self) -> NDArray[np.int64]:
        """Every connection's row, in order of creation (n × `fields.N_FIELDS`, int64). The tracker is done after it."""
        used = int(self.counters[T_ROWS])
        table: NDArray[np.int64] = np.asarray(self.rows[: used * N_FIELDS], np.int64).reshape(used, N_FIELDS)
        return table

    def problems(self) -> list[Problem]:
        """What the capture itself hides or repeats, so far."""
        return [*_copies(int(self.counters[T_DUPLICATES])), *_one_directional(self.finish())]

    # ---- room

    def _to_arrays(self) -> None:
        used = self.counters[T_ROWS]
        self._table.grow(used + 1024)
        self._table.array[: used * N_FIELDS] = self.rows[: used * N_FIELDS]
        self.rows = self._table.array
        self.index = np.array(self.index, np.int32)
        self.counters = np.array(self.counters, np.int64)
        self._service = service_ports(np.zeros(65_536, np.int64))
        self._sides = np.array(self._sides, np.int64)
        self._transitions = np.array(self._transitions, np.int64)
        self._recent = np.array(self._recent, np.int64)
        self.compiled = True

    def _make_room(self, n: int) -> None:
        used = int(self.counters[T_ROWS])
        if not self.compiled:
            self.rows.extend([0] * ((used + n) * N_FIELDS - len(self.rows)))
        elif used + n > self._table.capacity:
            self.rows = None
            self._table.grow(used + n)
            self.rows = self._table.array
        if 2 * (used + n) > len(self.index):
            self._reindex(2 << (2 * (used + n)).bit_length(), used)  # far ahead: each time all rows are looked at

    def _reindex(self, size: int, used: int) -> None:
        self.index = np.zeros(size, np.int32) if self.compiled else [0] * size
        if not used:
            return
        run = reindex.compiled if self.compiled else reindex.interpreted
        run(self.rows, used, self.index, size - 1)
