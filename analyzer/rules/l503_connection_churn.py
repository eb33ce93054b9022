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

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from analyzer.model.addresses import endpoint, host
from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.times import SECOND, seconds
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, advice
from analyzer.rules._thresholds import Settings, count, duration, share
from analyzer.tcp import fields as f
from analyzer.timeline.points import CLIENT, SERVER
from analyzer.timeline.story import Story

CODE = "L503"
NAME = "connection-churn"
SUMMARY = "a connection for every exchange: what each set-up cost"


@dataclass(frozen=True, slots=True)
class Thresholds:
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


#: What makes a client and a server.
KEY = [f.C_HI, f.C_LO, f.S_HI, f.S_LO, f.S_PORT]
FACTORS = (0x1F123BB5, 0x2C1B3C6D, 0x27220A95, 0x9E3779B1, 0x165667B1)

_ONE = "{0}.000 > SYN\n{0}.002 < SYN-ACK\n{0}.004 > ACK\n{0}.005 > 30\n{0}.009 < 30\n{0}.010 > FIN\n{0}.011 < FIN\n{0}.012 > ACK\n"
FIRES = (Case("twelve connections in a row", packets="".join(_ONE.format(k) for k in range(12))),)
QUIET = (
    Case(
        "one connection, kept",
        packets="0 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.01 > 30\n0.02 < 30\n9.0 > 30\n9.01 < 30",
    ),
    Case("three connections are no habit", packets="".join(_ONE.format(k) for k in range(3))),
)


def select(story: Story, settings: Settings) -> Iterable[tuple[int, ...]]:
    """(client address, server address and port) with many short connections at the point nearest the client."""
    if not len(story.connections) or not story.connections.nearness:
        return []
    rows = story.connections.points[story.connections.nearness[0]].rows
    t = settings[Thresholds]
    short = np.flatnonzero(_short(rows, t.short_ns))
    # A sum of odd multiples stands for the five columns: cheap to count, and `examine` compares the columns themselves.
    mixed = np.zeros(len(short), np.int64)
    for column, factor in zip(KEY, FACTORS, strict=True):
        mixed += rows[short, column] * factor
    _, where, counts = np.unique(mixed, return_index=True, return_counts=True)
    return [tuple(pair) for pair in rows[short[where[counts >= t.least_connections]]][:, KEY].tolist()]


def _short(
    rows: np.ndarray[tuple[int, int], np.dtype[np.int64]], short_ns: int
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    whole = (rows[:, f.ESTABLISHED_TS] > 0) & (rows[:, CLIENT + f.FINS] > 0) & (rows[:, CLIENT + f.DATA_FIRST_TS] > 0)
    return np.asarray(
        whole & (rows[:, SERVER + f.DATA_FIRST_TS] > 0) & (rows[:, f.LAST_TS] - rows[:, f.FIRST_TS] < short_ns)
    )


def examine(story: Story, pair: tuple[int, ...], settings: Settings) -> Finding | None:
    """The proof: how many, one after the other, and the median set-up."""
    t = settings[Thresholds]
    point = story.connections.nearness[0]
    rows = story.connections.points[point].rows
    index = story.connections.members[:, point]
    mine = np.ones(len(rows), np.bool_)
    for column, value in zip(KEY, pair, strict=True):
        mine &= rows[:, column] == value
    wanted = np.flatnonzero(mine & _short(rows, t.short_ns))
    short = wanted[np.argsort(rows[wanted, f.FIRST_TS], kind="stable")]
    ends = rows[short, f.END_TS]
    sequential = float((rows[short[1:], f.FIRST_TS] >= ends[:-1]).mean())
    if sequential < t.least_sequential or len(short) < t.least_sequential * int(mine.sum()):
        return None
    opened = rows[short, f.SYN_TS]
    setup = int(np.median(rows[short, CLIENT + f.DATA_FIRST_TS] - opened))
    whole = int(np.median(ends - rows[short, f.FIRST_TS]))
    ks = np.flatnonzero(np.isin(index, wanted)).tolist()
    story.connections.load(ks[:1])
    segments = story.connections.segments(ks[0])
    syn = next((s for s in segments if s.syn), None)
    request = next((s for s in segments if s.from_client and s.payload), None)
    if syn is None or request is None:
        return None
    env = story.connections.environment.get(ks[0])
    invocations = sum(1 for i in story.invocations if i.environment == env) if env else 0
    server = endpoint(pair[2], pair[3], pair[4])
    return Finding(
        CODE, NAME, Severity.INFO, Confidence.CERTAIN,
        f"{len(short)} connections in a row to {server}" + (f", {invocations} invocations" if invocations else ""),
        syn.time_ns,
        [story.packet(syn, primary=True), story.packet(request, "the first request; the set-up before it recurs every time")],
        f"{host(pair[0], pair[1])} opens a connection for every exchange: median {seconds(setup)} from SYN to first request, "
        f"{seconds(whole)} in all ({setup / max(whole, 1):.0%} set-up)",
        connections=[story.connections.id(k) for k in ks], environment=env,
        ruled_out=["a pool (they do not overlap)"],
        help=advice(Trouble.CHURN, server, []),
    )  # fmt: skip
