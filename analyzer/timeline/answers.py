"""What two captures that share no packets both ways still prove of their clocks: an answer passes any point after its question did.

A packet that acknowledges another was sent after that one had arrived, so wherever two points stand on the path, the one sees
the answer no earlier than the other saw what it answers. That bounds an offset with captures of one direction each, with
packets that offloads cut differently at both points, and without knowing which point is nearer the client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analyzer.capture import columns as col
from analyzer.tcp import fields as f
from analyzer.tcp.connections import CLIENT, SERVER

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from analyzer.timeline.points import Point

    Ints = NDArray[np.int64]
    #: Times of questions at one point and of their answers at the other.
    Answered = tuple[Ints, Ints]

CIRCLE = 1 << 32
#: A connection that sent more than this goes around the circle of sequence numbers, on which nothing is later any more.
LONGEST = 1 << 30
TURNING = col.SYN | col.FIN


def answered(asking: pd.DataFrame, answering: pd.DataFrame, bases: Ints) -> Answered:
    """For packets of `answering` the latest of `asking` that they acknowledge.

    Both are tables of packets, sorted by time, one connection the same number (`conn`) in both; `bases` has for each of them
    a sequence number of the client's and one of the server's stretch, -1 for none, connections × 2. Of the packets that carry
    a byte only the first counts: what is sent again may have arrived before.
    """
    asked = _of(asking, (asking["len"] > 0) | (asking["flags"] & TURNING > 0))
    ends = asked["seq"] + asked["len"] + _turns(asked["flags"])
    keys = np.maximum.accumulate(_keys(asked, asked["server"].to_numpy(np.int64), ends, bases))
    first = np.flatnonzero(np.diff(keys, prepend=-1) > 0)
    keys, times = keys[first], asked["ts"].to_numpy(np.int64)[first]
    answers = _of(answering, answering["flags"] & col.ACK_FLAG > 0)
    wanted = _keys(answers, 1 - answers["server"].to_numpy(np.int64), answers["ack"], bases)
    at = np.searchsorted(keys, wanted, side="right") - 1
    found = (at >= 0) & (wanted >= 0)
    found[found] = keys[at[found]] >> 33 == wanted[found] >> 33
    return times[at[found]], answers["ts"].to_numpy(np.int64)[found]


def echoed(asking: pd.DataFrame, answering: pd.DataFrame) -> Answered:
    """For time stamps that packets of `answering` echo (RFC 7323) the first packet of `asking` that bore each."""
    asked = asking[asking["tsval"] >= 0].drop_duplicates(["conn", "server", "tsval"])
    answers = answering[(answering["tsval"] >= 0) & (answering["flags"] & col.ACK_FLAG > 0)]
    answers = answers.drop_duplicates(["conn", "server", "tsecr"]).assign(server=1 - answers["server"])
    both = asked.merge(answers, left_on=["conn", "server", "tsval"], right_on=["conn", "server", "tsecr"])
    return both["ts_x"].to_numpy(np.int64), both["ts_y"].to_numpy(np.int64)


def opened(asking: pd.DataFrame, answering: pd.DataFrame, bases: Ints) -> Answered:
    """For SYNs and SYN-ACKs the first packet of the same side that shows that they were answered.

    The client's first acknowledgement follows its SYN's arrival at the server, the server's first of data its SYN-ACK's at the
    client: the one thing that packets of one direction prove by themselves.
    """
    asked = asking[asking["flags"] & col.SYN > 0].drop_duplicates(["conn", "server"])
    later = answering[(answering["flags"] & (col.SYN | col.RST) == 0) & (answering["flags"] & col.ACK_FLAG > 0)]
    base = bases[later["conn"].to_numpy(np.int64), 0]
    more = (later["ack"].to_numpy(np.int64) - base) % CIRCLE
    proven = (later["server"] == 0) | ((base >= 0) & (more > 0) & (more < LONGEST))
    both = asked.merge(later[proven].drop_duplicates(["conn", "server"]), on=["conn", "server"])
    return both["ts_x"].to_numpy(np.int64), both["ts_y"].to_numpy(np.int64)


def bases_of(a: Point, b: Point, both: Ints) -> Ints:
    """A number of each side's stretch that holds at both points, for connections by their rows at a and b; -1 where none does."""
    found = []
    for side in (CLIENT, SERVER):
        base = np.full(len(both), -1, np.int64)
        for rows in (b.rows[both[:, 1]], a.rows[both[:, 0]]):
            known = (rows[:, side + f.SEEN] > 0) & (rows[:, side + f.NXT] - rows[:, side + f.START] < LONGEST)
            base[known] = rows[known, side + f.START] % CIRCLE
        found.append(base)
    return np.stack(found, axis=1)


def _of(packets: pd.DataFrame, chosen: pd.Series[bool]) -> pd.DataFrame:
    """Those chosen, without resets, by connection and side; in order of time in each."""
    mine = packets[chosen & (packets["flags"] & col.RST == 0)]
    return mine.sort_values(["conn", "server"], kind="stable")


def _turns(flags: pd.Series[int]) -> pd.Series[int]:
    """The sequence numbers that SYN and FIN take."""
    return (flags & col.SYN > 0).astype(np.int64) + (flags & col.FIN > 0)


def _keys(packets: pd.DataFrame, side: Ints, numbers: pd.Series[int], bases: Ints) -> Ints:
    """Connection, side and place in the stretch as one number each, in their order; -1 where the stretch is not known."""
    conn = packets["conn"].to_numpy(np.int64)
    base = bases[conn, side]
    place = (numbers.to_numpy(np.int64) - base + CIRCLE // 2) % CIRCLE
    return np.where(base >= 0, (conn * 2 + side << 33) + place, -1)
