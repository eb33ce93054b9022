"""Of a capture too large to keep: the segments of some connections, read again, by which clocks and ties are found.

A row tells of a connection's first and last packets. What ties a capture to a log, or to another capture, stands in between: when
a client began to send after a rest, pings, frames. A fair sample of connections holds enough of it, and of two captures of
the same traffic it is the same connections.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from analyzer.capture.again import THIN_ENDS, THIN_FROM, THIN_NS, segments_of
from analyzer.capture.reader import KEEP_SEGMENTS
from analyzer.model.events import Event
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.timeline.points import CLIENT, SERVER, Point, servers_of
from analyzer.timeline.shown import BURST_GAP_NS, client_sent

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: An odd 64-bit number that spreads what is multiplied by it (2^64 divided by the golden ratio).
SPREAD = np.uint64(0x9E3779B97F4A7C15)


def read_samples(points: Iterable[Point], events: Iterable[Event]) -> None:
    """Give each point whose segments were not kept those of a sample of its connections, `KEEP_SEGMENTS` at most."""
    named = {e.remote for e in events if e.remote}
    for point in points:
        if not point.data.complete and point.parts:
            rows = point.rows[chosen(point, named)]
            point.data.segments, point.data.uids, point.data.kinds = segments_of(point.parts, rows, point.how)


def chosen(point: Point, named: set[str]) -> NDArray[np.int64]:
    """The rows to read again: of some clients all that a burst may be hidden in, those clients first that connect to servers that a
    log names, then those with connections that rested or were left open; where there is room, some of others.

    What a client sent first after a rest is known only where all of its connections are, or were too short to rest.
    """
    rows = point.rows
    if not len(rows):
        return np.empty(0, np.int64)
    servers, number = servers_of(rows)
    wanted = np.array([server in named for server in servers])[number]
    packets = rows[:, CLIENT + f.PKTS] + rows[:, SERVER + f.PKTS]
    fat = packets > THIN_FROM
    thinned = 2 * THIN_ENDS + 4 * (rows[:, f.LAST_TS] - rows[:, f.FIRST_TS]) // THIN_NS
    size = np.where(fat, np.minimum(packets, thinned), packets)
    lives = point.signs & (signs.WOKE | signs.IDLE | signs.OPEN) != 0
    sent_first, sent_last = client_sent(rows)
    long = sent_last - sent_first > BURST_GAP_NS
    key = _any(rows)
    clients, number = np.unique(rows[:, [f.C_HI, f.C_LO]], axis=0, return_inverse=True)
    first, of_client = np.lexsort((key, ~lives, ~wanted)), number.reshape(-1)
    _, best = np.unique(of_client[first], return_index=True)  # each client's best connection
    sizes, whole, room = (
        np.bincount(of_client, np.where(long, size, 0), len(clients)),
        np.zeros(len(clients), np.bool_),
        KEEP_SEGMENTS,
    )
    for client in np.argsort(best).tolist():
        if (needed := int(sizes[client])) <= room:
            whole[client] = True
            room -= needed
    order = np.lexsort((key, fat, ~lives, ~wanted, ~(whole[of_client] & long)))
    return np.sort(order[np.cumsum(size[order]) <= KEEP_SEGMENTS])


def _any(rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A number for each connection that says nothing of it, and is the same at every point: of how far its initial sequence
    numbers are apart."""
    one, other = (rows[:, side + f.ISN].astype(np.uint64) for side in (CLIENT, SERVER))
    mixed = (one - other) * SPREAD
    spread: NDArray[np.uint64] = (mixed ^ (mixed >> np.uint64(29))) * SPREAD
    return spread
