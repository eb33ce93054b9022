"""fin-wait-2-stall

## What it does
Flags a connection that the server closed and the client's kernel acknowledged, while the client's application did nothing for
at least a second and three retransmission time-outs: the server sits in FIN_WAIT_2, the client in CLOSE_WAIT.

## Why it matters
The client does not know yet that its connection is dead. The server forgets the half-closed connection after a while (Linux:
tcp_fin_timeout, 60 s); what the client then writes is answered with a reset. A function frozen between invocations is the
usual reason; a client that never reads its idle sockets (a leak) the other.

## What to do
Do not trust a pooled connection by its flag: check by wall clock before reuse, drop it when idle longer than the server's
limit. Raise the server's idle limit above the time a function is idle, or close the connection in each invocation.

## Known limits
A FIN that was never acknowledged is not this but F202. A client that still sends after the server's FIN (a half-close) is
healthy. A capture that ends during the stall shows only that it lasted until then.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.records import Freeze
from analyzer.model.times import MS, SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, for_connection
from analyzer.rules._thresholds import Settings, Values, duration
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.tcp.segments import Segment
from analyzer.tcp.sequence import delta32
from analyzer.timeline.points import CLIENT, SERVER
from analyzer.timeline.story import Story

CODE = "F201"
NAME = "fin-wait-2-stall"
SUMMARY = "the server closed and was acknowledged; the client did not close, frozen or leaking"
SEVERITIES = (Severity.INFO, Severity.WARNING)


class Thresholds(Values):
    """How long a half-closed connection stays before it is a stall, and before it costs something."""

    stall_ns: int = common.stall()
    fin_timeout_ns: int = duration(
        60 * SECOND,
        "s",
        "a stall of this length is a warning even without a freeze: it cost the server a socket",
        "Linux tcp_fin_timeout",
    )


#: A client that runs again prints a line within this of its reaction: that it closed, or the platform's START.
BESIDE_NS = 50 * MS

_OPEN = """
        0.000 > SYN
        0.001 < SYN-ACK
        0.002 > ACK
        0.010 > 40
        0.012 < 90
        0.050 > ACK
"""
FIRES = (
    Case(
        "the server closes an idle connection while the function is frozen; the kernel acknowledges",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:00:16.100 START 2
        00:00:16.104 app 1 redis close
        00:00:16.300 REPORT 2
        """,
        packets=_OPEN
        + """
        6.500 < FIN
        6.540 > ACK
        16.103 > FIN
        16.104 < RST
        """,
    ),
)
QUIET = (
    Case(
        "the client asked for the close, and was frozen before its own",
        packets=_OPEN + "\n0.090 > 14\n0.092 < 5\n0.093 < FIN\n0.130 > ACK\n16.1 > FIN\n16.101 < ACK",
    ),
    Case("the client closes at once", packets=_OPEN + "\n6.500 < FIN\n6.540 > ACK\n6.600 > FIN\n6.601 < ACK"),
    Case(
        "half-close with data still flowing",
        packets=_OPEN
        + "\n1.000 < FIN\n1.001 > ACK\n"
        + "\n".join(f"{1.5 + k / 2} > 300\n{1.51 + k / 2} < ACK" for k in range(8))
        + "\n6.000 > FIN\n6.001 < ACK",
    ),
    Case(
        "half-close: the client goes on after a pause, and the server reads it",
        packets=_OPEN + "\n1 < FIN\n1.001 > ACK\n6 > 300\n6.001 < ACK\n11 > 300\n11.001 < ACK\n16 > FIN\n16.001 < ACK",
    ),
    Case(
        "a client beyond the server's limit, which it throws out (L501)",
        packets="0 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.010 > 40\n0.012 < RAW E\\x00\\x00\\x00\\x3aSFATAL\\0VFATAL\\0C53300\\0Msorry,_too_many_clients_already\\0\\0\n0.013 < FIN\n0.05 > ACK",
    ),
    Case(
        "a FIN that nobody acknowledges is F202",
        packets=_OPEN + "\n6.5 < FIN lost\n6.7 < FIN again lost\n7.1 < FIN again lost\n8.0 < FIN again lost",
    ),
)


def select(story: Story, settings: Settings) -> Iterable[int]:
    """Connections whose server closed first and was acknowledged, and whose client stayed for a second."""
    stall_ns = settings[Thresholds].stall_ns

    def stalled(rows: common.Rows) -> common.Mask:
        least = rows[:, SERVER + f.FIN_ACKED_TS] + stall_ns
        own_ends = (rows[:, CLIENT + f.FIN_TS], rows[:, CLIENT + f.RST_TS])
        stayed: common.Mask = np.all([(own_end == 0) | (own_end >= least) for own_end in own_ends], axis=0)
        return stayed

    return story.connections.by_point(signs.LEFT_OPEN, stalled)


def examine(story: Story, k: int, settings: Settings) -> Finding | None:
    """The proof: FIN, its acknowledgement, the client's silence, and how it ended."""
    segments = story.connections.segments(k)
    fin = next((s for s in segments if s.fin and not s.from_client), None)
    if fin is None or any(s.from_client and (s.fin or s.rst) and s.time_ns < fin.time_ns for s in segments):
        return None
    ack = next(
        (s for s in segments if s.from_client and s.time_ns >= fin.time_ns and not s.rst and s.ack == fin.end_seq), None
    )
    if ack is None or ack.payload or ack.fin:
        return None
    # A FIN repeated after its acknowledgement was sent shows that the acknowledgement was lost: then this is F202's matter.
    if any(s.fin and not s.from_client and s.time_ns > ack.time_ns + SECOND for s in segments):
        return None
    reset = next((s for s in segments if s.rst and not s.from_client and s.time_ns > ack.time_ns), None)
    next_own = next(
        (s for s in segments if s.from_client and s.time_ns > ack.time_ns and (s.payload or s.fin or s.rst)), None
    )
    watched = _watched_until(story, k)
    if reset is not None and (next_own is None or reset.time_ns < next_own.time_ns):
        end, how = reset.time_ns, "the server reset it"
    elif next_own is not None:
        end, how = (
            next_own.time_ns,
            "the client closed"
            if next_own.fin
            else "the client wrote again"
            if next_own.payload
            else "the client reset it",
        )
    else:
        end, how = watched, ""
    stall = end - ack.time_ns
    if stall < max(settings[Thresholds].stall_ns, 3 * common.rto_ns(segments)):
        return None
    wrote = next_own is not None and next_own.payload
    if next_own is not None and wrote and _is_heard(segments, next_own):
        return None  # a half-close that the server reads on
    leaked = stall >= settings[Thresholds].fin_timeout_ns and common.frozen(story, k, ack.time_ns, end) is None
    if common.ends_exchange(segments, fin) and not wrote and not leaked:
        return None  # both were to close; a freeze delayed the client's part
    return _finding(story, k, segments, fin, ack, next_own, end, stall, how, settings[Thresholds].fin_timeout_ns)


def _confidence(story: Story, k: int, freeze: Freeze | None, ended: bool) -> Confidence:
    """Less sure without a freeze; and where nothing ends the stall and every capture dropped packets: the client's FIN may be one."""
    if not ended and all(common.lossy(story, point) for point in story.connections.seen_at(k)):
        return Confidence.POSSIBLE
    return Confidence.CERTAIN if freeze is not None else Confidence.LIKELY


def _is_heard(segments: list[Segment], sent: Segment) -> bool:
    """Whether the server acknowledged what the client sent after its FIN: a socket that was closed, and not half, would reset."""
    return any(
        not s.from_client and not s.rst and s.time_ns > sent.time_ns and delta32(s.ack, sent.end_seq) >= 0
        for s in segments
    )


def _watched_until(story: Story, k: int) -> int:
    """The last packet of the captures that saw this connection: silence after it proves nothing."""
    points = [story.connections.points[p] for p in story.connections.seen_at(k)]
    return max(p.span[1] for p in points)


def _finding(
    story: Story,
    k: int,
    segments: list[Segment],
    fin: Segment,
    ack: Segment,
    after: Segment | None,
    end: int,
    stall: int,
    how: str,
    fin_timeout_ns: int,
) -> Finding:
    env, beside = common.environment(story, k), common.witness(story, k)
    freeze = common.frozen(story, k, ack.time_ns, end)
    said = common.last_words(segments, fin.time_ns)
    closing = said or fin
    reply = next((s for s in segments if after and not s.from_client and s.time_ns >= after.time_ns and s.rst), None)
    evidence = [
        story.packet(fin, "server: FIN_WAIT_1", primary=True),
        story.packet(ack, "server: FIN_WAIT_2, client: CLOSE_WAIT"),
    ]
    evidence += [story.packet(said, common.OWN_REASON)] if said else []
    evidence += common.freeze_evidence(story, freeze)
    if after is not None:
        evidence.append(story.packet(after, "client: LAST_ACK" if after.fin else ""))
    if reply is not None:
        evidence.append(story.packet(reply, "the server had forgotten the connection"))
    if after is not None and beside:
        evidence += [
            story.evidence(e)
            for e in story.events_between(after.time_ns - 20 * MS, after.time_ns + 50 * MS, beside)
            if e.layer == "app"
        ][:2]
    evidence.sort(key=lambda e: e.time_ns)
    idle = common.rest_before(segments, closing)
    # A client that merely closes late harms nothing; one that was frozen, that wrote, or that holds a minute's socket does.
    # One that was told by GOAWAY reads that first.
    told = common.goaway_before(segments, fin) is not None and (
        after is None or common.asks_nothing(after) or after.fin
    )
    troubled = (not told and (freeze is not None or bool(after and after.payload))) or stall >= fin_timeout_ns
    why = f"{common.server_closed(segments, closing)}; the client's kernel acknowledged, its application "
    why += (
        f"was frozen for {seconds(freeze.length_ns)} and could not close"
        if freeze
        else f"did not react for {seconds(stall)}"
    )
    ruled = [
        "F202 (the FIN was acknowledged, so it arrived and the client's kernel was running)",
        "a half-close (the client sent nothing meanwhile)",
    ]
    requests = _woken_by(story, k, end) if after is not None else []
    near = common.limit_near(idle, "FIN", story.connections.server(k)) if idle is not None else ""
    return Finding(
        CODE, NAME,
        Severity.WARNING if troubled else Severity.INFO,
        _confidence(story, k, freeze, bool(how)),
        f"server in FIN_WAIT_2, client in CLOSE_WAIT for {seconds(stall)}" + ("" if how else " and still at the end of the capture"),
        fin.time_ns, evidence, why + (f"; idle time near a known limit: {near}" if near else ""),
        connection=story.connections.id(k), connections=[story.connections.id(k)], environment=env, request_ids=requests,
        silences=common.silence(story, k, ack.time_ns, end, freeze, "server in FIN_WAIT_2, client in CLOSE_WAIT"),
        ruled_out=ruled,
        help=for_connection(story, k, Trouble.STALE),
        upgrade="" if freeze else "what tells a freeze from a client that leaks its socket: the platform's lines " + collect.platform_lines(story, env, fin.time_ns, end),
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _woken_by(story: Story, k: int, end: int) -> list[str]:
    """The request whose lines stand beside the client's reaction; none where clocks, or stamps, leave several open."""
    lines = common.lines_beside(story, k, end - BESIDE_NS, end + BESIDE_NS, lambda e: e.request_id is not None)
    found = common.failed_requests(story, lines)
    return found if len(found) == 1 else []
