"""idle-limit

## What it does
Compares, for one server, every idle gap after which a connection still worked with every gap after which it did not. Where
the two do not overlap, an idle limit lies between them, and known limits in that bracket are named.

## Why it matters
The gap before the failure decides, and is usually found by bisecting sleep times by hand. With the bracket it is plain which
box to look at, and how long a connection may rest before it has to be checked or replaced.

## What to do
Keep connections for less than the smallest gap that failed, less a margin, judged by wall clock on borrow; or raise the limit
of the box that is named.

## Known limits
Possible, not proven: a limit on a connection's age gives the same picture where connections that failed were also the oldest,
which is said. Two gaps of each kind are asked for. How it expired (a close, a reset, silence) narrows the candidates: NAT
gateways and network load balancers reset or keep silent, application load balancers and servers close.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from analyzer.model.addresses import endpoint
from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.times import SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules import r302_silent_drop as r302
from analyzer.rules._cases import Case
from analyzer.rules._thresholds import Settings, Values, count
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.tcp.segments import Segment
from analyzer.timeline.points import CLIENT, SERVER
from analyzer.timeline.story import Story

CODE = "R305"
NAME = "idle-limit"
SUMMARY = "the idle gaps that survived and those that failed bracket a limit"
SEVERITIES = (Severity.INFO,)


class Thresholds(Values):
    """What makes a bracket."""

    least_each: int = count(2, "fewer gaps of either kind, survived and failed, are no bracket", "one may be chance")


_OPEN = "{0}.000 > SYN\n{0}.001 < SYN-ACK\n{0}.002 > ACK\n{0}.010 > 40\n{0}.012 < 90\n"
_OK = "{1}.000 > 40\n{1}.002 < 90\n"
_FAILS = "{2}.000 > 40\n{2}.001 < RST\n"
FIRES = (
    Case(
        "300 s survive twice, 360 s and more fail twice",
        packets=(_OPEN + _OK + _FAILS).format(0, 300, 660) + (_OPEN + _OK + _FAILS).format(1000, 1310, 1700),
    ),
)
QUIET = (
    Case(
        "a gap as long as one that failed survived",
        packets=(_OPEN + _OK + _FAILS).format(0, 300, 660) + (_OPEN + _OK + _FAILS).format(1000, 1400, 1770),
    ),
    Case("one failure is no bracket", packets=(_OPEN + _OK + _FAILS).format(0, 300, 660)),
    Case("nothing failed", packets=(_OPEN + _OK).format(0, 300) + (_OPEN + _OK).format(1000, 1310)),
)


@dataclass(slots=True)
class Gap:
    """One reuse of a connection after a rest: how long, the write that ended it, how old the connection was, what came of it."""

    connection: int
    ns: int
    write: Segment
    age_ns: int
    ending: str = ""
    end: Segment | None = None


@dataclass(slots=True)
class Server:
    """One server with the connections that woke."""

    address: str
    woken: list[int]


def select(story: Story, settings: Settings) -> Iterable[Server]:
    """Servers with several connections that failed on reuse, and all connections to them that ever woke."""
    cs, least, copies = story.connections, settings[Thresholds].least_each, settings[r302.Thresholds].least_copies

    def silent(rows: common.Rows) -> common.Mask:
        repeated: common.Mask = rows[:, CLIENT + f.UNACKED_RETX] >= copies - 1
        return repeated & (rows[:, SERVER + f.SIDE_LAST_TS] < rows[:, CLIENT + f.UNACKED_TS])

    failed = {*cs.showing(signs.RESET_ON_WAKING), *cs.by_point(signs.WOKE | signs.UNANSWERED, silent)}
    if len(failed) < least:
        return []
    servers, counts = np.unique(cs.servers(np.array(sorted(failed))), axis=0, return_counts=True)
    woken = np.array(cs.showing(signs.WOKE))
    addresses = cs.servers(woken)
    found = [
        Server(endpoint(*server), woken[(addresses == server).all(axis=1)].tolist())
        for server in servers[counts >= least].tolist()
    ]
    return sorted(found, key=lambda server: server.address)


def examine(story: Story, server: Server, settings: Settings) -> Finding | None:
    """The bracket: the largest gap that survived, the smallest that failed."""
    least, copies = settings[Thresholds].least_each, settings[r302.Thresholds].least_copies
    gaps = [gap for group in story.connections.batches(server.woken) for gap in _gaps_of(story, group, copies)]
    lived = [gap for gap in gaps if not gap.ending]
    died = [gap for gap in gaps if gap.ending]
    if min(len(lived), len(died)) < least:
        return None
    longest, shortest = max(lived, key=lambda gap: gap.ns), min(died, key=lambda gap: gap.ns)
    if longest.ns >= shortest.ns:
        return None
    known = [
        f"{limit} s: {whose} (ends by {how})"
        for limit, whose, how in common.IDLE_LIMITS
        if longest.ns < limit * SECOND <= shortest.ns
    ]
    by_age = max(gap.age_ns for gap in lived) < min(gap.age_ns for gap in died)
    evidence = [story.packet(longest.write, f"after {seconds(longest.ns)}: answered, the longest that was")]
    evidence.append(
        story.packet(
            shortest.write, f"after {seconds(shortest.ns)}: {shortest.ending}, the shortest that was", primary=True
        )
    )
    evidence.sort(key=lambda e: e.time_ns)
    endings = ", ".join(sorted({gap.ending for gap in died}))
    ids = sorted({gap.connection for gap in died})
    return Finding(
        CODE, NAME, Severity.INFO, Confidence.POSSIBLE,
        f"idle limit towards {server.address} between {seconds(longest.ns)} and {seconds(shortest.ns)}",
        shortest.write.time_ns, evidence,
        f"{len(lived)} gaps up to {seconds(longest.ns)} survived, {len(died)} from {seconds(shortest.ns)} on failed ({endings})"
        + (f"; in that bracket: {'; '.join(known)}" if known else "; no known default lies in that bracket, so that it was probably configured")
        + ("; the connections that failed were also the oldest, so that a limit on their age would look the same" if by_age else ""),
        connections=[story.connections.id(k) for k in ids], server=server.address,
        ruled_out=["chance: no gap that survived is as long as one that failed"]
        + ([] if by_age else ["a limit on the connection's age: an older connection survived than one that failed"]),
        help=f"replace connections that rested longer than {seconds(longest.ns)} (wall clock, on borrow), or raise the limit of the box between",
        upgrade="rests between the two values narrow the bracket; who ended the connection (a FIN is the server's or an ALB's, a reset that the server did not send "
        f"a middlebox's), at the server: {collect.capture(server.address, collect.ENDINGS)}",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _gaps_of(story: Story, ks: list[int], copies: int) -> list[Gap]:
    story.connections.load(ks)
    heard = [k for k in ks if common.heard(story, k, "server")]
    return [gap for k in heard for gap in _gaps(k, story.connections.segments(k), copies)]


def _gaps(k: int, segments: list[Segment], least_copies: int) -> list[Gap]:
    """Every write of the client after a rest of both sides, with what came of it; keepalives end a rest."""
    found: list[Gap] = []
    for at, s in enumerate(segments):
        before = segments[at - 1] if at else None
        if (
            before is None
            or not s.from_client
            or not s.payload
            or s.retransmitted
            or s.time_ns - before.time_ns < f.WAKE_AFTER
        ):
            continue
        gap = Gap(k, s.time_ns - before.time_ns, s, s.time_ns - segments[0].time_ns)
        back = next((x for x in segments[at + 1 :] if not x.from_client), None)
        closed = any(x.fin and not x.from_client for x in segments[:at])
        copies = sum(x.seq == s.seq and x.from_client and x.payload for x in segments[at:])
        if back is None and copies < least_copies:
            continue  # nothing is known of it
        if back is None or back.rst:
            gap.ending = "silence" if back is None else "closed by the server before" if closed else "reset"
        found.append(gap)
    return found
