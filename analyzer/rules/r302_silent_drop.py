"""silent-drop

## What it does
Flags client data that was retransmitted after an idle gap and got no answer of any kind, not even an acknowledgement, to the
end of the connection: something on the way forgot the flow and drops it in silence.

## Why it matters
Nothing tells the client. With Linux defaults its kernel reports ETIMEDOUT after 924.6 s at the earliest (tcp_retries2 = 15),
longer than a Lambda invocation may last: what is seen is DEADLINE_EXCEEDED, again and again on the same connection, a
library's timer, or `Task timed out`.

## What to do
Recreate connections idle longer than the path's limit (350 s for NAT gateway, NLB, PrivateLink; see R305), by wall clock.
Bound the damage where the library can: TCP_USER_TIMEOUT (gRPC keepalive sets it, except in grpc-js), a command timeout that
destroys the socket.

## Known limits
A capture at one side cannot tell a middlebox from a server host that vanished; a capture at the server can. Data that stays
unanswered because the capture missed a direction proves nothing: one-directional captures are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.times import SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, for_connection
from analyzer.rules._thresholds import Settings, Values, count
from analyzer.rules.f201_fin_wait_2_stall import _OPEN
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.tcp.segments import Segment
from analyzer.timeline.icmp import AboutConnection
from analyzer.timeline.points import CLIENT, SERVER
from analyzer.timeline.story import Story

CODE = "R302"
NAME = "silent-drop"
SUMMARY = "data after an idle gap was retransmitted and never answered: a middlebox forgot the flow"

CONSEQUENCE_NS = 300 * SECOND


class Thresholds(Values):
    """What makes silence a drop."""

    least_copies: int = count(3, "fewer copies of the same data are an ordinary loss", "one loss each way", least=2)
    stall_ns: int = common.stall()


FIRES = (
    Case(
        "data after 15 s idle goes into the void",
        packets=_OPEN
        + "\n16.110 > 60 lost\n16.320 > 60 again lost\n16.740 > 60 again lost\n17.580 > 60 again lost\n19.260 > 60 again lost",
    ),
)
QUIET = (
    Case(
        "a loss that heals",
        packets=_OPEN
        + "\n16.11 > 60 lost\n16.32 > 60 again lost\n16.74 > 60 again lost\n17.58 > 60 again\n17.581 < 30",
    ),
    Case("the server answers with a reset (R303)", packets=_OPEN + "\n16.1 > 60\n16.101 < RST"),
    Case("the server acknowledges and is slow", packets=_OPEN + "\n16.1 > 60\n16.14 < ACK"),
)


@dataclass(slots=True)
class Outage:
    """Client data that nothing answers: first and last copy, how many, and when the client was last heard before."""

    first: Segment
    last: Segment
    copies: int
    last_before_ns: int
    gap_ns: int


def select(story: Story, settings: Settings) -> Iterable[int]:
    """Connections whose client data stays unacknowledged through several retransmissions, both directions having been seen."""
    least = settings[Thresholds].least_copies

    def unanswered(rows: common.Rows) -> common.Mask:
        silent = rows[:, SERVER + f.SIDE_LAST_TS] < rows[:, CLIENT + f.UNACKED_TS]
        copies = rows[:, CLIENT + f.UNACKED_RETX] >= least - 1
        return silent & copies & (rows[:, CLIENT + f.NXT] > rows[:, CLIENT + f.UNA]) & (rows[:, SERVER + f.PKTS] > 0)

    return story.connections.by_point(signs.UNANSWERED, unanswered)


def outage(story: Story, k: int, t: Thresholds) -> Outage | None:
    """The unanswered tail of a connection, None where something answered."""
    segments = story.connections.segments(k)
    last_server = max((s.time_ns for s in segments if not s.from_client and _reached_client(story, k, s)), default=0)
    tail = [s for s in segments if s.from_client and s.payload and s.time_ns > last_server]
    if not tail:
        return None
    first = tail[0]
    copies = [s for s in tail if s.seq == first.seq]
    if len(copies) < t.least_copies or first.retransmitted:
        return None
    span = copies[-1].time_ns - first.time_ns
    before = max(
        (s.time_ns for s in segments if s.time_ns < first.time_ns and (s.from_client or s.payload)),
        default=first.time_ns,
    )
    own = max((s.time_ns for s in segments if s.from_client and s.time_ns < first.time_ns), default=first.time_ns)
    gap = first.time_ns - own
    if gap < t.stall_ns or span < max(t.stall_ns, 3 * common.rto_ns(segments)):
        return None
    return Outage(first, copies[-1], len(copies), min(before, own), gap)


def _reached_client(story: Story, k: int, s: Segment) -> bool:
    """Whether a segment of the server was seen at the point nearest the client (all there is, with one point)."""
    return s.at(story.connections.seen_at(k)[0]) is not None


def examine(story: Story, k: int, settings: Settings) -> Finding | None:
    """The proof: the gap, the copies, nothing back; and where a second capture looked for them."""
    found = outage(story, k, settings[Thresholds])
    if found is None:
        return None
    segments = story.connections.segments(k)
    closed = next(
        (s for s in segments if not s.from_client and (s.fin or s.rst) and s.time_ns < found.first.time_ns), None
    )
    points = story.connections.seen_at(k)
    arrived = len(points) > 1 and found.last.at(points[-1]) is not None
    if closed is not None or arrived:
        return _server_side(story, k, found, closed)
    icmp = [
        e for e in story.connections.icmp(k)
        if e.from_client and e.undelivered and e.time_ns >= found.first.time_ns
    ]  # fmt: skip
    if icmp:
        return _rejected(story, k, found, icmp)
    env = common.environment(story, k)
    freeze = common.frozen(story, k, found.last_before_ns, found.first.time_ns)
    errors = common.errors_after(
        story, env, found.first.time_ns, found.last.time_ns + CONSEQUENCE_NS, ("DEADLINE_EXCEEDED", "ETIMEDOUT", "UNAVAILABLE")
    ) if env and story.aligned else []  # fmt: skip
    evidence = common.freeze_evidence(story, freeze)
    evidence += [
        story.packet(found.first, primary=True),
        story.packet(found.last, common.copies_note(segments, found.first, f"{found.copies} copies, none answered")),
    ]
    evidence += [story.evidence(e, "(consequence)") for e in errors[:3]]
    evidence.sort(key=lambda e: e.time_ns)
    proven = (
        len(points) > 1
        and common.covers(story, points[-1], found.first.time_ns, found.last.time_ns)
        and common.heard_at(story, k, points[-1], "client")
    )
    near = common.limit_near(found.gap_ns)
    server = story.connections.server(k)
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.CERTAIN if proven else Confidence.LIKELY,
        f"silent drop: {found.copies} copies of a request after {seconds(found.gap_ns)} idle, no answer of any kind",
        found.first.time_ns, evidence,
        f"after {seconds(found.gap_ns)} idle the flow was forgotten between client and server and its packets are dropped in silence"
        + (f" (near a known limit: {near})" if near else "")
        + ("; the server's capture saw none of the copies" if proven else ""),
        connection=story.connections.id(k), connections=[story.connections.id(k)], environment=env,
        request_ids=common.failed_requests(story, errors),
        silences=common.silence(story, k, found.last_before_ns, found.first.time_ns, freeze, "no packet of this connection"),
        ruled_out=["a slow server (it would acknowledge)", "a reset or a close (neither arrived)"]
        + (["a dead server (its capture went on and never saw the data)"] if proven else []),
        help=for_connection(story, k, Trouble.SILENT, errors),
        upgrade="" if proven else f"a capture at the server for the same time would tell a middlebox from a dead server: {collect.capture(server)}",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _rejected(story: Story, k: int, found: Outage, icmp: list[AboutConnection]) -> Finding:
    """Not silent after all: a router says why no answer comes."""
    segments, error = story.connections.segments(k), icmp[0]
    copies = common.copies_note(segments, found.first, f"{found.copies} copies")
    evidence = [
        story.packet(found.first, primary=True),
        story.icmp(error, f"{len(icmp)} ICMP errors" if len(icmp) > 1 else ""),
        story.packet(found.last, copies),
    ]
    evidence.sort(key=lambda e: e.time_ns)
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.CERTAIN,
        f"{found.copies} copies of a request after {seconds(found.gap_ns)} idle, answered by {error.what} from {error.sender}",
        found.first.time_ns, evidence,
        f"while the connection was idle the way to the server closed: {error.sender} answers its packets with ICMP errors, "
        "which an established connection survives until its retransmissions give up",
        connection=story.connections.id(k), connections=[story.connections.id(k)], environment=common.environment(story, k),
        silences=common.silence(story, k, found.last_before_ns, found.first.time_ns, None, "no packet of this connection"),
        ruled_out=["a slow server (it would acknowledge)", "a flow forgotten in silence (an ICMP error came back)"],
        help=f"check routes and firewall rules at {error.sender}; until then: {for_connection(story, k, Trouble.SILENT)}",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _server_side(story: Story, k: int, found: Outage, closed: Segment | None) -> Finding:
    """The data did reach a place where the server had closed: no middlebox is needed to explain the silence."""
    evidence = [story.packet(closed, "the server had closed")] if closed is not None else []
    evidence += [
        story.packet(found.first, primary=True),
        story.packet(found.last, f"{found.copies} copies, none answered"),
    ]
    evidence.sort(key=lambda e: e.time_ns)
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.POSSIBLE,
        f"{found.copies} copies of a request after {seconds(found.gap_ns)} idle, no answer: the server "
        + ("had closed" if closed is not None else "received them and kept silent"),
        found.first.time_ns, evidence,
        "the server no longer knows the connection and its reset is not seen: filtered on the server or on the way",
        connection=story.connections.id(k), connections=[story.connections.id(k)], environment=common.environment(story, k),
        silences=common.silence(story, k, found.last_before_ns, found.first.time_ns, None, "no packet from the client"),
        ruled_out=["a slow server (it would acknowledge)"],
        help="let the server's resets through to the client; " + for_connection(story, k, Trouble.STALE),
        upgrade="the application's error (ETIMEDOUT?) and a capture on the client's side",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip
