"""Two captures' clocks against each other: the same packet at both, in both directions.

A packet seen at A and later at B bounds the offset of B's clock from above when it travels A → B, from below when it travels
B → A (an effect cannot precede its cause): NTP, with the connection's own packets. Which of the two is nearer the client
is told by the same differences. Where common packets travel one way only, or there are none, `answers` bound it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from analyzer.capture import columns as col
from analyzer.model.clocks import Piece
from analyzer.model.times import SECOND, seconds
from analyzer.tcp import fields as f
from analyzer.timeline.answers import answered, bases_of, echoed, opened
from analyzer.timeline.bounds import Bounds, fit

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from analyzer.timeline.points import Point

    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

#: By how much two captures' stamps of one packet may contradict each other: both are taken in software, in batches.
NOISE_NS = 50_000
#: Fields that no two packets of a connection share, and no box on the way changes (a NAT changes addresses, some the last too).
KEYS = ["conn", "server", "seq", "ack", "len", "flags", "tsval", "ipid"]
#: What a segment has in common with the larger one into which an offload joined it with those that follow, or from which it was cut.
BEGINNING = ["conn", "server", "seq", "ack", "tsval"]
#: What the first packets of a connection are called in its row, and who sends them.
OPENING = ((f.SYN_TS, False), (f.SYN_ACK_TS, True), (f.ESTABLISHED_TS, False))
TCP_FLAGS = 0x3F  # without those of congestion notification, which routers may clear
#: A packet that takes longer between two points than this would be a finding of its own.
PASSES_WITHIN_NS = 2 * SECOND
#: So much of the packets must have lost hops on the way between two points for these to tell which is nearer their sender.
CLEAR_SHARE = 0.9


class Between(Struct, frozen=True):
    """From b's stamps into a's time, and whether a is nearer the client; None where the packets do not tell."""

    pieces: list[Piece]
    anchors: int
    how: str
    a_is_nearer: bool | None
    drift_proven: bool = False
    #: Nothing but how long a packet may be on the way bounds it.
    assumed: bool = False


class _Common(Struct, frozen=True):
    """Packets that both points saw: times at a and at b, connection, whether the server sent it, hops lost from a to b."""

    ta: Ints
    tb: Ints
    conn: Ints
    server: Bools
    hops: Ints

    @property
    def ahead(self) -> Ints:
        """How much later each was seen at b, by the two clocks."""
        return self.tb - self.ta


def between_captures(a: Point, b: Point, members: Ints, pa: int, pb: int) -> Between | None:
    """What to add to b's stamps to get a's time; None where packets do not bound it from both sides.

    `members[:, pa]` and `members[:, pb]` are the rows of the connections at both.
    """
    both = members[(members[:, pa] >= 0) & (members[:, pb] >= 0)][:, [pa, pb]]
    if not len(both):
        return None
    packets = _packets(a, both[:, 0]), _packets(b, both[:, 1])
    common = _common(a, b, both, *packets)
    near = _is_nearer(common)
    bounds, anchors, how = _by_common(common, near), len(common.ta), "the same packets in both captures"
    if not (len(bounds.low) and len(bounds.high)):
        bounds = _joined([bounds, *_by_answers(*packets, bases_of(a, b, both))])
        anchors, how = bounds.count, "packets and answers to them"
    assumed = not (len(bounds.low) and len(bounds.high))
    if assumed:
        bounds = _joined(
            [bounds, Bounds(common.tb, -common.ahead - PASSES_WITHIN_NS, common.tb, PASSES_WITHIN_NS - common.ahead)]
        )
        anchors, how = (
            len(common.ta),
            f"the same packets in both captures, one way only: {seconds(PASSES_WITHIN_NS)} at most",
        )
    found = fit(bounds, b.data.first_ns, b.data.last_ns, NOISE_NS)
    if found is None:
        return None
    how += "" if found.consistent else ", inconsistent"
    if len(found.pieces) > 1:
        how += f", set {len(found.pieces) - 1}× meanwhile"
    told = near[near != 0]
    nearer = bool(told.sum() > 0) if len(told) else None
    return Between(found.pieces, anchors, how, nearer, found.drift_proven, assumed)


# ---- bounds: of what is to be added, the negative of what b's clock is ahead


def _by_common(common: _Common, near: Ints) -> Bounds:
    """What packets that passed both points leave, where it is known which they passed first."""
    way = np.where(common.server, -near[common.conn], near[common.conn])
    later, earlier = way > 0, way < 0
    return Bounds(common.tb[later], -common.ahead[later], common.tb[earlier], -common.ahead[earlier])


def _by_answers(at_a: pd.DataFrame, at_b: pd.DataFrame, bases: Ints) -> list[Bounds]:
    """What follows from one point having seen what the other's packets answer."""
    found = []
    for asks, answers in ((answered, (bases,)), (echoed, ()), (opened, (bases,))):
        there, back = asks(at_a, at_b, *answers), asks(at_b, at_a, *answers)
        found.append(Bounds(there[1], there[0] - there[1], back[0], back[1] - back[0]))
    return found


def _joined(bounds: list[Bounds]) -> Bounds:
    low_at, low, high_at, high = zip(*((x.low_at, x.low, x.high_at, x.high) for x in bounds), strict=True)
    return Bounds(np.concatenate(low_at), np.concatenate(low), np.concatenate(high_at), np.concatenate(high))


def _is_nearer(common: _Common) -> Ints:
    """For each connection 1 where a is nearer its client, -1 where b is, 0 where its packets do not tell.

    The point nearer the client sees the client's packets before the other does and the server's after. Neighbours in time that
    travel in opposite directions are compared, so that neither drift nor a step matters; hops tell where all travel one way.
    """
    order = np.lexsort((common.tb, common.conn))
    conn, server, ahead = common.conn[order], common.server[order], common.ahead[order]
    turns = np.flatnonzero((server[1:] != server[:-1]) & (conn[1:] == conn[:-1]))
    rounds = np.where(server[turns], ahead[turns + 1] - ahead[turns], ahead[turns] - ahead[turns + 1])
    count = int(conn.max(initial=-1)) + 1
    votes = np.bincount(conn[turns], np.sign(rounds), count)
    hops = np.where(common.server, -common.hops, common.hops)
    fewer = np.bincount(common.conn, np.sign(hops), count)
    seen = np.bincount(common.conn, minlength=count)
    near = np.where(votes != 0, np.sign(votes), np.where(np.abs(fewer) >= CLEAR_SHARE * seen, np.sign(fewer), 0))
    return near.astype(np.int64)


# ---- packets


def _common(a: Point, b: Point, both: Ints, at_a: pd.DataFrame, at_b: pd.DataFrame) -> _Common:
    """The packets that both points saw. Where not all segments were kept, those that open a connection stand in its row."""
    joined = _same(at_a, at_b, KEYS)
    if not len(joined):
        joined = _same(at_a, at_b, KEYS[:-1])
    if not len(joined):
        joined = _same(_numbered(at_a), _numbered(at_b), [*KEYS[:-1], "copy", "copies"])
    cut = [frame[(frame["len"] > 0) & ~frame["no"].isin(joined[no])] for frame, no in ((at_a, "no_x"), (at_b, "no_y"))]
    parts = [_columns(joined), _columns(_same(cut[0], cut[1], BEGINNING))]
    if not (a.data.complete and b.data.complete):
        parts += [_opening(a.rows[both[:, 0]], b.rows[both[:, 1]], *which) for which in OPENING]
    ta, tb, conn, server, hops = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Common(ta, tb, conn, server != 0, hops)


def _opening(at_a: Ints, at_b: Ints, column: int, server: bool) -> tuple[Ints, ...]:
    ta, tb = at_a[:, column], at_b[:, column]
    conn = np.flatnonzero((ta > 0) & (tb > 0))
    return ta[conn], tb[conn], conn, np.full(len(conn), int(server)), np.zeros(len(conn), np.int64)


def _packets(point: Point, rows: Ints) -> pd.DataFrame:
    """The packets of these rows that a capture kept, in order of time; `conn` is an index into the rows."""
    import pandas as pd

    data = point.data
    number = np.full(int(point.rows[:, f.UID].max()) + 1, -1, np.int64)
    number[point.rows[rows, f.UID]] = np.arange(len(rows))
    conn = number[data.uids]
    mine = np.flatnonzero((conn >= 0) & (data.kinds & (f.K_DUPLICATE | f.K_OF_ANOTHER) == 0))
    mine = mine[np.argsort(data.segments[mine, col.TS], kind="stable")]
    s = data.segments[mine]
    return pd.DataFrame(
        {
            "conn": conn[mine], "server": data.kinds[mine] & f.K_SERVER, "seq": s[:, col.SEQ], "ack": s[:, col.ACK],
            "len": s[:, col.LEN], "flags": s[:, col.FLAGS] & TCP_FLAGS, "tsval": s[:, col.TSVAL], "ipid": s[:, col.IPID],
            "tsecr": s[:, col.TSECR], "ttl": s[:, col.TTL], "ts": s[:, col.TS], "no": s[:, col.NO],
        }
    )  # fmt: skip


def _same(at_a: pd.DataFrame, at_b: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Packets that are the only ones of their kind at both points."""
    one, other = (frame.drop_duplicates(keys, keep=False) for frame in (at_a, at_b))
    return one.merge(other, on=keys)


def _numbered(packets: pd.DataFrame) -> pd.DataFrame:
    """Packets with which of how many repetitions each is, where nothing else tells these apart."""
    repeated = packets.groupby(KEYS[:-1])["ts"]
    return packets.assign(copy=repeated.cumcount(), copies=repeated.transform("size"))


def _columns(joined: pd.DataFrame) -> tuple[Ints, ...]:
    ta, tb, conn, server, here, there = (
        joined[name].to_numpy(np.int64) for name in ("ts_x", "ts_y", "conn", "server", "ttl_x", "ttl_y")
    )
    return ta, tb, conn, server, here - there
