"""Two captures' clocks against each other: the same packet at both, in both directions.

A packet seen at A and later at B bounds the offset of B's clock from above when it travels A → B, from below when it travels
B → A (an effect cannot precede its cause): NTP, with the connection's own packets. Which of the two is nearer the client
is told by the same differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analyzer.capture import columns as col
from analyzer.model.clocks import Piece
from analyzer.tcp import fields as f
from analyzer.timeline.bounds import Bounds, fit

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from analyzer.timeline.points import Point

    Ints = NDArray[np.int64]

#: By how much two captures' stamps of one packet may contradict each other: both are taken in software, in batches.
NOISE_NS = 50_000
#: Fields that no two packets of a connection share, and no box on the way changes (a NAT changes addresses, some the last too).
KEYS = ["conn", "server", "seq", "ack", "len", "flags", "tsval", "ipid"]
#: What the first packets of a connection are called in its row, and who sends them.
OPENING = ((f.SYN_TS, False), (f.SYN_ACK_TS, True), (f.ESTABLISHED_TS, False))


@dataclass(frozen=True, slots=True)
class Between:
    """From b's stamps into a's time, and whether a is nearer the client; None where the packets do not tell."""

    pieces: list[Piece]
    anchors: int
    how: str
    a_is_nearer: bool | None
    drift_proven: bool = False


def between_captures(a: Point, b: Point, members: Ints, pa: int, pb: int) -> Between | None:
    """What to add to b's stamps to get a's time; None without common packets.

    `members[:, pa]` and `members[:, pb]` are the rows of the connections at both. Packets of one direction only bound one
    side: a round trip of the handshake then bounds the other.
    """
    both = members[(members[:, pa] >= 0) & (members[:, pb] >= 0)][:, [pa, pb]]
    if not len(both):
        return None
    ta, tb, server = _common(a, b, both)
    if not len(ta):
        return None
    ahead = tb - ta
    if server.all() or not server.any():
        bounds, near = _one_way(ahead, tb, _round_trip(a, b, both)), None
        if bounds is None:
            return None
    else:
        near = _is_nearer(tb, ahead, server)
        later, earlier = (server, ~server) if near is False else (~server, server)
        # Of what is to be added: the offset's negative.
        bounds = Bounds(tb[later], -ahead[later], tb[earlier], -ahead[earlier])
    found = fit(bounds, b.data.first_ns, b.data.last_ns, NOISE_NS)
    if found is None:
        return None
    how = "the same packets in both captures" + ("" if found.consistent else ", inconsistent")
    if len(found.pieces) > 1:
        how += f", set {len(found.pieces) - 1}× meanwhile"
    return Between(found.pieces, len(ta), how, near, found.drift_proven)


def _is_nearer(tb: Ints, ahead: Ints, server: NDArray[np.bool_]) -> bool | None:
    """Whether a is nearer the client: b then sees the client's packets later and the server's earlier than a does.

    Neighbours in time that travel in opposite directions are compared, so that neither drift nor a step matters.
    """
    order = np.argsort(tb, kind="stable")
    ahead, server = ahead[order], server[order]
    turns = np.flatnonzero(server[1:] != server[:-1])
    rounds = np.where(server[turns], ahead[turns + 1] - ahead[turns], ahead[turns] - ahead[turns + 1])
    between = float(np.median(rounds))
    return between > 0 if between else None


def _one_way(ahead: Ints, tb: Ints, round_trip: int | None) -> Bounds | None:
    if round_trip is None:
        return None
    return Bounds(tb, -ahead - round_trip, tb, -ahead + round_trip)


def _round_trip(a: Point, b: Point, both: Ints) -> int | None:
    """The shortest handshake that either point saw."""
    shortest = [
        t[t > 0].min()
        for t in (a.rows[both[:, 0], f.HANDSHAKE_NS], b.rows[both[:, 1], f.HANDSHAKE_NS])
        if (t > 0).any()
    ]
    return int(max(shortest)) if shortest else None


def _common(a: Point, b: Point, both: Ints) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Times at a and at b of packets that both saw, and whether the server sent them.

    Where not all segments were kept, the packets that open a connection stand in its row.
    """
    found = [_segments(a, b, both)]
    for column, server in OPENING:
        ta, tb = a.rows[both[:, 0], column], b.rows[both[:, 1], column]
        seen = (ta > 0) & (tb > 0)
        found.append((ta[seen], tb[seen], np.full(int(seen.sum()), server)))
    ta, tb, server_sent = (np.concatenate([part[k] for part in found]) for k in range(3))
    return ta.astype(np.int64), tb.astype(np.int64), server_sent.astype(np.bool_)


def _segments(a: Point, b: Point, both: Ints) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """The segments that both captures kept."""
    import pandas as pd

    frames = []
    for point, rows in ((a, both[:, 0]), (b, both[:, 1])):
        number = np.full(int(point.rows[:, f.UID].max()) + 1, -1, np.int64)
        number[point.rows[rows, f.UID]] = np.arange(len(rows))
        conn = number[point.data.uids] if len(point.data.uids) else point.data.uids
        mine = (conn >= 0) & (point.data.kinds & f.K_DUPLICATE == 0)
        s = point.data.segments[mine]
        frame = pd.DataFrame(
            {
                "conn": conn[mine], "server": point.data.kinds[mine] & f.K_SERVER, "seq": s[:, col.SEQ], "ack": s[:, col.ACK],
                "len": s[:, col.LEN], "flags": s[:, col.FLAGS], "tsval": s[:, col.TSVAL], "ipid": s[:, col.IPID],
                "ts": s[:, col.TS],
            }
        )  # fmt: skip
        frames.append(frame)
    joined = _same(frames, KEYS)
    if not len(joined):
        joined = _same(frames, KEYS[:-1])
    return (
        joined["ts_x"].to_numpy(np.int64), joined["ts_y"].to_numpy(np.int64), joined["server"].to_numpy(np.int64) != 0
    )  # fmt: skip


def _same(frames: list[pd.DataFrame], keys: list[str]) -> pd.DataFrame:
    """Packets that are the only ones of their kind at both points."""
    one, other = (frame.drop_duplicates(keys, keep=False) for frame in frames)
    return one.merge(other, on=keys)
