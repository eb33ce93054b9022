"""connection-churn

## What it does
Counts the connections of one client to one server that were opened for an exchange and closed again, one after the other, and
measures what each cost before its first request: connect-per-invocation.

## Why it matters
It is safe, since nothing stale is ever reused, and it costs: a handshake each time, more with TLS, ports and TIME_WAIT entries.

## What to do
Nothing, if the measured overhead is small beside the work. Else keep the connection across invocations with a check by wall
clock before reuse, or put a proxy close by.

## Known limits
The figures are of this capture: they include the network and the server's accept queue, not the client's own work.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from analyzer.model.addresses import endpoint, host
from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.times import SECOND, seconds
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, advice
from analyzer.rules._thresholds import Settings, Values, count, duration, share
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.timeline.points import CLIENT, Connections
from analyzer.timeline.story import Story

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODE = "L503"
NAME = "connection-churn"
SUMMARY = "a connection for every exchange: what each set-up cost"
SEVERITIES = (Severity.INFO,)


class Thresholds(Values):
    """What makes a habit."""

    least_connections: int = count(10, "fewer connections are no habit", "chosen", least=2)
    short_ns: int = duration(
        10 * SECOND,
        "s",
        "a connection that lives longer is reused, not thrown away",
        "chosen: most invocations are shorter",
    )
    least_sequential: float = share(
        0.9, "this part of the connections begins after the one before has ended: a pool would overlap", "chosen"
    )


#: Who began the end, as `fields.END_BY` has it: the server's FIN or RST; of more than this part of the connections.
ENDED_BY_SERVER, MOST = (2, 4), 0.5
SERVER_SIDE = "see why the server closes (keep-alive off, a limit of one request, an idle limit below the pause between requests) before the client is changed"
#: What makes a client and a server.
KEY = [f.C_HI, f.C_LO, f.S_HI, f.S_LO, f.S_PORT]

_ONE = "{0}.000 > SYN\n{0}.002 < SYN-ACK\n{0}.004 > ACK\n{0}.005 > 30\n{0}.009 < 30\n{0}.010 > FIN\n{0}.011 < FIN\n{0}.012 > ACK\n"
FIRES = (Case("twelve connections in a row", packets="".join(_ONE.format(k) for k in range(12))),)
QUIET = (
    Case(
        "one connection, kept",
        packets="0 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.01 > 30\n0.02 < 30\n9.0 > 30\n9.01 < 30",
    ),
    Case("three connections are no habit", packets="".join(_ONE.format(k) for k in range(3))),
)


class Habit(Struct, frozen=True):
    """Short connections of one client to one server, in order of time: rows at the point nearest the client, connections."""

    connection: int
    point: int
    rows: NDArray[np.int64]
    connections: list[int]


def select(story: Story, settings: Settings) -> Iterator[Habit]:
    """Clients that opened many short connections to a server, one after the other, and few others."""
    for place, p in enumerate(story.connections.nearness):
        yield from _habits(story.connections, p, story.connections.nearness[:place], settings[Thresholds])


def _habits(cs: Connections, p: int, nearer: list[int], t: Thresholds) -> Iterator[Habit]:
    """Habits that a point shows, of connections that no point nearer the client saw."""
    point = cs.points[p]
    if not len(point.rows):
        return
    # Rows by client and server, those of one pair in order of time; sizes of these groups.
    keyed = np.sort(point.pairs.astype(np.int64) << 32 | np.arange(len(point.rows)))
    order, starts = keyed & 0xFFFFFFFF, np.flatnonzero(np.diff(keyed >> 32, prepend=-1))
    sizes = np.diff(starts, append=len(order))
    whole = point.signs[order] & signs.EXCHANGE > 0
    if nearer:
        whole &= (cs.members[cs.owners(p)[order]][:, nearer] < 0).all(axis=1)
    many = np.add.reduceat(whole, starts) >= np.maximum(t.least_connections, t.least_sequential * sizes)
    at, group = (x[whole & np.repeat(many, sizes)] for x in (order, np.repeat(np.arange(len(starts)), sizes)))
    first = point.rows[at, f.FIRST_TS]
    short = point.rows[at, f.LAST_TS] - first < t.short_ns
    at, group, first = at[short], group[short], first[short]
    apart = (first[1:] >= point.rows[at[:-1], f.END_TS]) & (group[1:] == group[:-1])
    number = np.bincount(group, minlength=len(starts))
    sequential = np.bincount(group[1:][apart], minlength=len(starts)) >= t.least_sequential * (number - 1)
    habits = (number >= np.maximum(t.least_connections, t.least_sequential * sizes)) & sequential
    ends, owners = np.cumsum(number), cs.owners(p) if habits.any() else at
    for g in np.flatnonzero(habits).tolist():
        mine = at[ends[g] - number[g] : ends[g]]
        yield Habit(int(owners[mine[0]]), p, mine, np.sort(owners[mine]).tolist())


def examine(story: Story, habit: Habit, settings: Settings) -> Finding | None:
    """The proof: how many, one after the other, and the median set-up."""
    rows, short, ks = story.connections.points[habit.point].rows, habit.rows, habit.connections
    pair = rows[short[0], KEY].tolist()
    if (rows[short[:, None], KEY] != pair).any():
        return None  # two pairs of one hash: once in some billions
    opened = rows[short, f.SYN_TS]
    setup = int(np.median(rows[short, CLIENT + f.DATA_FIRST_TS] - opened))
    whole = int(np.median(rows[short, f.END_TS] - rows[short, f.FIRST_TS]))
    segments = story.connections.segments(ks[0])
    syn = next((s for s in segments if s.syn), None)
    request = next((s for s in segments if s.from_client and s.payload), None)
    if syn is None or request is None:
        return None
    env = story.connections.environment.get(ks[0])
    by_server = np.isin(rows[short, f.END_BY], ENDED_BY_SERVER).mean() > MOST
    invocations = sum(1 for i in story.invocations if i.environment == env) if env else 0
    server = endpoint(pair[2], pair[3], pair[4])
    return Finding(
        CODE, NAME, Severity.INFO, Confidence.CERTAIN,
        f"{len(short)} connections in a row to {server}" + (f", {invocations} invocations" if invocations else ""),
        syn.time_ns,
        [story.packet(syn, primary=True), story.packet(request, "the first request; the set-up before it recurs every time")],
        f"{host(pair[0], pair[1])} opens a connection for every exchange: median {seconds(setup)} from SYN to first request, "
        f"{seconds(whole)} in all ({setup / max(whole, 1):.0%} set-up); {'the server' if by_server else 'the client'} closes it",
        connections=[story.connections.id(k) for k in ks], server=server, environment=env, lost_ns=setup * len(ks),
        ruled_out=["a pool (they do not overlap)"],
        help=(f"{SERVER_SIDE}; " if by_server else "") + advice(Trouble.CHURN, server, []),
    )  # fmt: skip
