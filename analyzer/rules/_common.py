"""What rules share: where a connection lives, what stands around a time, known limits, the clock line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from analyzer.capture import columns as col
from analyzer.model.events import Event
from analyzer.model.findings import Evidence, Silence
from analyzer.model.records import Freeze, Transport
from analyzer.model.times import MS, SECOND, seconds
from analyzer.rules import _limits as limits
from analyzer.rules._thresholds import duration
from analyzer.tcp import detail
from analyzer.tcp import fields as f
from analyzer.tcp.segments import Segment
from analyzer.timeline import order
from analyzer.timeline.story import Story

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    #: Connections of one capture point as rows of `tcp.fields`, and what a filter makes of them.
    Rows = NDArray[np.int64]
    Mask = NDArray[np.bool_]
else:
    Rows = Mask = Any

#: A stall that a rule speaks of lasts at least this long and more than three retransmission time-outs (DESIGN §6).
LEAST_STALL_NS = f.WAKE_AFTER
#: What a server sends this shortly before its FIN announces it: both leave it in one go.
FAREWELL_NS = 50 * MS
#: Linux's first retransmission time-out is the smoothed round trip plus at least 200 ms (RTO minimum, TCP_RTO_MIN).
RTO_MIN_NS = 200 * MS

#: Lines that may be misplaced by more than this are beside nothing.
FARTHEST_NS = SECOND
#: An error that is handed on is printed again this soon (measured: 1 to 6 ms).
TOLD_AGAIN_NS = 50 * MS
#: How near a gap must come to a limit to be worth naming it.
NEAR_LIMIT = 1.25


def stall() -> int:
    """The threshold `stall_ns` of a rule: filters over connections see no shorter silence."""
    return duration(
        LEAST_STALL_NS,
        "s",
        "a stall lasts at least this long, and three retransmission time-outs",
        "five of Linux's least retransmission time-outs (200 ms)",
        least=LEAST_STALL_NS / SECOND,
    )


def rtt_ns(segments: list[Segment]) -> int | None:
    """The handshake's round trip: SYN to the client's first acknowledgement, which holds at any place on the path."""
    syn = next((s for s in segments if s.syn and s.from_client), None)
    up = next((s for s in segments if s.from_client and not s.syn), None)
    return max(up.time_ns - syn.time_ns, 0) if syn and up else None


def rto_ns(segments: list[Segment]) -> int:
    """A first guess of the retransmission time-out: round trip + 200 ms (RFC 6298 with Linux's minimum), 300 ms unknown."""
    rtt = rtt_ns(segments)
    return min(rtt, SECOND) + RTO_MIN_NS if rtt is not None else 300 * MS


def last_words(segments: list[Segment], end_ns: int) -> Segment | None:
    """The error by which the server said that it would close, where it was the last payload of either side until a time.

    None where the FIN itself carries it: that packet says it already.
    """
    said = next((s for s in reversed(segments) if s.payload and not s.retransmitted and s.time_ns <= end_ns), None)
    if said is None or said.from_client or said.fin or said.error is None or not said.error.is_final:
        return None
    return said


def asks_nothing(s: Segment) -> bool:
    """Whether a payload may be a close_notify, or frames that ask for nothing."""
    return bool(s.marks & FAREWELL) or manages(s) or bool(s.marks & col.M_TLS and s.length <= TLS13_ALERT_BYTES)


def manages(s: Segment) -> bool:
    """Whether a payload is HTTP/2 frames that manage the connection and, by its length, nothing else: no request, no answer."""
    if not s.marks & MANAGING or s.marks & (col.M_H2_HEADERS | col.M_H2_RST_STREAM):
        return False
    return s.length <= sum(size for mark, size in MANAGING_BYTES.items() if s.marks & mark)


def goaway_before(segments: list[Segment], close: Segment) -> Segment | None:
    """The server's GOAWAY that announced its close: an orderly end, by a limit of its own or a shutdown."""
    return next(
        (s for s in segments if s.marks & col.M_H2_GOAWAY and not s.from_client and s.time_ns <= close.time_ns), None
    )


def rest_before(segments: list[Segment], close: Segment) -> int | None:
    """How long neither side had sent data when the server closed (ns), None where nobody had or it was announced."""
    before = [s.time_ns for s in segments if s.payload and s.time_ns < close.time_ns]
    return close.time_ns - max(before) if before and goaway_before(segments, close) is None else None


def ends_exchange(segments: list[Segment], close: Segment) -> bool:
    """Whether a server's close ended what was going on, not a rest: within a second before, the client asked or data flowed.

    What the server sends in its last moment (an error, a GOAWAY, an alert) is its farewell, and no exchange.
    """
    for s in segments:
        if s.payload and not s.retransmitted and 0 < close.time_ns - s.time_ns <= LEAST_STALL_NS:
            if s.from_client and not asks_nothing(s):
                return True
            if not s.from_client and close.time_ns - s.time_ns > FAREWELL_NS and not s.marks & col.M_H2_GOAWAY:
                return True
    return False


def unasked(story: Story, k: int, sent: Segment, reset: Segment) -> bool:
    """Whether the capture nearest the server, of several, saw the reset and not what it seems to answer: the server ended it by itself."""
    points = story.connections.seen_at(k)
    if len(points) < 2 or reset.at(points[-1]) is None or sent.at(points[-1]) is not None:
        return False
    return heard_at(story, k, points[-1], "client")


#: What is said of a write that no request need have been.
REPLIED = "; it may have been the answer to what the server had sent in that rest (a ping, its protocol's own close), and then no request was harmed"


def may_reply(segments: list[Segment], until_ns: int, write: Segment) -> bool:
    """Whether a write is no longer than what the server had said unasked in the rest until a time: a pong (NATS), a heartbeat, a Close-Ok (AMQP)."""
    asked = max((s.time_ns for s in segments if s.from_client and s.payload and s.time_ns < until_ns), default=until_ns)
    since, until = asked + LEAST_STALL_NS, until_ns - rto_ns(segments)
    unasked = [s for s in segments if not s.from_client and not s.retransmitted and since <= s.time_ns < until]
    return write.length <= sum(s.length for s in unasked if s.payload)


def server_closed(segments: list[Segment], close: Segment) -> str:
    """What led to the server's close, as the beginning of a sentence."""
    if (goaway := goaway_before(segments, close)) is not None:
        data = (goaway.goaway or (0, ""))[1]
        return f"the server ended the connection by GOAWAY{f' ({data})' if data else ''}"
    rest = rest_before(segments, close)
    return "the server closed" + (f" after {seconds(rest)} idle" if rest is not None and rest >= SECOND else "")


def environment(story: Story, k: int) -> str | None:
    """The environment behind connection `k`, if known."""
    return story.connections.environment.get(k)


def witness(story: Story, k: int) -> str | None:
    """The environment behind connection `k`, where its log's times and those of the packets can be compared."""
    env = environment(story, k)
    return env if env is not None and story.shares_clock(k, env) else None


def frozen(story: Story, k: int, start_ns: int, end_ns: int) -> Freeze | None:
    """The freeze of the connection's environment that fills most of a stretch, as far as the clocks prove it."""
    found = story.freeze_covering(witness(story, k), start_ns, end_ns)
    return found if found is not None and order.fills(story, found, k, start_ns, end_ns) else None


def freeze_evidence(story: Story, freeze: Freeze | None) -> list[Evidence]:
    """The platform lines at both ends of a freeze."""
    if freeze is None:
        return []
    lines = []
    for i in story.invocations_near(freeze):
        if (
            i.request_id == freeze.before
            and i.end_ref
            and i.end_ns
            and abs(i.end_ns - freeze.start_ns) <= freeze.error_ns
        ):
            lines.append((i.end_ref, "frozen"))
        if i.request_id == freeze.after and i.start_ref and abs(i.start_ns - freeze.end_ns) <= freeze.error_ns:
            lines.append((i.start_ref, "thawed"))
    found = []
    for (source, ref), note in lines:
        event = story.event_at(source, ref)
        if event is not None:
            found.append(story.evidence(event, note))
    return found


def silence(story: Story, k: int | None, start_ns: int, end_ns: int, freeze: Freeze | None, what: str) -> list[Silence]:
    """The silent stretch as drawn: clipped to the freeze where there is one."""
    if freeze is not None:
        start_ns, end_ns = max(start_ns, freeze.start_ns), min(end_ns, freeze.end_ns)
    if end_ns - start_ns < LEAST_STALL_NS // 2:
        return []
    label = (
        f"{seconds(end_ns - start_ns)} frozen: {what}"
        if freeze is not None
        else f"{seconds(end_ns - start_ns)}: {what}"
    )
    return [Silence(start_ns, end_ns, label)]


def errors_after(story: Story, said: Event, within_ns: int, codes: Iterable[str], env: str | None) -> list[Event]:
    """Application errors of these codes or gRPC statuses that may follow a line so soon, of one environment if known."""
    wanted, farthest = coded(codes), FARTHEST_NS + clock_margin(story)
    near = story.events_between(said.time_ns - farthest, said.time_ns + within_ns, env)
    return [e for e in near if wanted(e) and _may_follow(story, e, said)]


def _may_follow(story: Story, e: Event, said: Event) -> bool:
    """Whether a line may come after another, as far as their clocks, and what stamps leave out, tell."""
    error = order.error_between(story, story.evidence(e), story.evidence(said))
    return error is not None and e.time_ns + error + e.placed_ns + said.placed_ns >= said.time_ns


def coded(codes: Iterable[str]) -> Callable[[Event], bool]:
    """Whether an event is an error of one of these codes or gRPC statuses."""
    wanted = set(codes)
    return lambda e: e.kind == "error" and not wanted.isdisjoint((e.attrs.get("code"), e.attrs.get("status")))


def clock_margin(story: Story) -> int:
    """How far apart one moment may stand by two clocks (ns)."""
    errors = [0]
    for source in story.sources:
        if source.first_ns is not None and source.last_ns is not None:
            for clock in source.clocks:
                if clock.offset_ns is not None:
                    worst = clock.worst_error(clock.stamp(source.first_ns), clock.stamp(source.last_ns))
                    errors.append(worst + clock.guest_error_ns)
    return max(errors)


def errors_beside(
    story: Story, k: int, start_ns: int, end_ns: int, codes: Iterable[str], anywhere: bool = False
) -> list[Event]:
    """Application errors of these codes in a stretch of packets' time, as `lines_beside` finds them.

    Where environments are guessed, lines of several may have got into one: then those of one request are sure to belong together.
    """
    found, env = lines_beside(story, k, start_ns, end_ns, coded(codes), anywhere), witness(story, k)
    guessed = [e.id for e in story.environments if e.inferred]
    if env not in guessed or len(guessed) < 2:
        return found
    return [e for e in found if e.request_id == found[0].request_id]


def lines_beside(
    story: Story, k: int, start_ns: int, end_ns: int, wanted: Callable[[Event], bool], anywhere: bool = False
) -> list[Event]:
    """Lines that `wanted` takes in a stretch of packets' time, of the environment behind connection `k`.

    Give or take what the clocks, or the cutting of stamps, may have misplaced them. `anywhere`: of all environments, where it
    is not known which is behind the connection.
    """
    env = witness(story, k)
    if env is None and (not anywhere or environment(story, k) is not None):
        return []
    farthest = FARTHEST_NS + clock_margin(story)
    near = [e for e in story.events_between(start_ns - farthest, end_ns + FARTHEST_NS, env) if wanted(e)]
    return [e for e in near if may_stand(story, e, k, start_ns, end_ns)]


def may_stand(story: Story, e: Event, k: int, start_ns: int, end_ns: int) -> bool:
    """Whether a line may belong to a stretch of the time of connection `k`'s packets, as far as the clocks tell."""
    off = story.misplaced(e, k)
    return off is not None and start_ns - min(off, FARTHEST_NS) <= e.time_ns <= end_ns + min(off, FARTHEST_NS)


def errors_of_reset(story: Story, k: int, sent: Segment, reset: Segment) -> list[Event]:
    """What the application said of a write that a reset answered: within 2 s."""
    codes = ("ECONNRESET", "EPIPE", "CLOSED", "BROKEN", "UNAVAILABLE")
    return errors_beside(story, k, sent.time_ns - 5 * MS, reset.time_ns + 2 * SECOND, codes)


def once(events: list[Event]) -> list[Event]:
    """Errors of one kind without those that say the one before in other words: caught, logged, and thrown on to the runtime."""
    found: list[Event] = []
    for e in events:
        last = found[-1] if found else None
        again = last is not None and e.time_ns - last.time_ns <= TOLD_AGAIN_NS and e.text != last.text
        if last is None or not again or e.request_id != last.request_id:
            found.append(e)
    return found


def failed_requests(story: Story, events: list[Event]) -> list[str]:
    """Request ids of the invocations in which these events stand."""
    found: list[str] = []
    for e in events:
        i = story.invocation_of(e, slack_ns=100 * MS)
        request_id = i.request_id if i is not None else e.request_id
        if request_id and request_id not in found:
            found.append(request_id)
    return found


def reconnect_ns(story: Story, transport: Transport, when_ns: int) -> int:
    """How long the client was without a connection to a transport's server after it gave this one up; 0 where it did not come back."""
    again = story.reopened_ns(transport, when_ns)
    return again - when_ns if again is not None else 0


def covers(story: Story, point: int, start_ns: int, end_ns: int) -> bool:
    """Whether a capture was running all through [start, end], as its own packets prove, and reports no drops."""
    p = story.connections.points[point]
    early = p.clock.error_at(p.clock.stamp(start_ns))
    return p.span[0] <= start_ns - early and runs_until(story, point, end_ns)


def runs_until(story: Story, point: int, end_ns: int) -> bool:
    """The same of a stretch that begins after a packet in this capture."""
    clock = story.connections.points[point].clock
    late = clock.error_at(clock.stamp(end_ns))
    return not lossy(story, point) and end_ns + late <= story.connections.points[point].span[1]


def lossy(story: Story, point: int) -> bool:
    """Whether a capture reports that it dropped packets: then what it did not see may have been there."""
    return any("dropped" in problem.what for problem in story.connections.points[point].data.problems)


def missed_by(story: Story, k: int, start_ns: int, end_ns: int) -> int | None:
    """A capture that did not see connection `k` though it holds others to its server and ran all through [start, end]."""
    near = story.connections.seen_at(k)[0]
    mine = story.connections.points[near].rows[story.connections.members[k, near]]
    for p, point in enumerate(story.connections.points):
        if story.connections.members[k, p] < 0 and len(point.rows):
            same = (point.rows[:, [f.S_HI, f.S_LO, f.S_PORT]] == mine[[f.S_HI, f.S_LO, f.S_PORT]]).all(axis=1)
            if same.any() and covers(story, p, start_ns, end_ns):
                return p
    return None


def heard_at(story: Story, k: int, point: int, side: str) -> bool:
    """Whether the direction of connection `k` that `side` ("client", "server") sends is in a capture.

    Where it is not, that side's silence proves nothing. It is missing where the other side's segments prove an answer that
    is not there, or where the capture as a whole lacks the direction.
    """
    record = story.connections.record(k, point)
    if (record.a if side == "client" else record.b).packets:
        return True
    whole = (f"silence of the {side} proves nothing", "silence of either side proves nothing")
    problems = story.connections.points[point].data.problems
    return record.one_sided != side and not any(problem.what.endswith(whole) for problem in problems)


def heard(story: Story, k: int, side: str) -> bool:
    """Whether some capture has the direction of connection `k` that `side` sends."""
    return any(heard_at(story, k, p, side) for p in story.connections.seen_at(k))


#: What hosts send with: Linux and macOS 64, Windows 128, network gear 255.
INITIAL_TTLS = (64, 128, 255)


def is_at_server(segments: list[Segment]) -> bool:
    """Whether the only capture stood at the server's host: its segments are as they were sent, the client's came over routers."""
    if any(len(s.places) > 1 for s in segments):
        return False
    ttls = {
        side: {s.ttl for s in segments if s.from_client is side and s.ttl > 0 and not s.rst} for side in (True, False)
    }
    return (
        bool(ttls[False])
        and ttls[False] <= set(INITIAL_TTLS)
        and bool(ttls[True])
        and not ttls[True] & set(INITIAL_TTLS)
    )


def reset_note(segments: list[Segment], reset: Segment) -> str:
    """What a reset's TTL and IP identification say of its sender, beside its line of proof; empty where they say nothing."""
    signs = detail.foreign_signs(segments, reset)
    return f"{'; '.join(signs)}: a middlebox?" if signs else ""


def copies_note(segments: list[Segment], first: Segment, what: str) -> str:
    """`5 copies, none answered (RTO 210 ms, doubled 3×)`: the copies of one segment as its sender's time-outs made them."""
    series = next(
        (b for b in detail.backoffs(segments) if (b.from_client, b.seq) == (first.from_client, first.seq)), None
    )
    doubled = f", doubled {series.doublings}×" if series and series.doublings else ""
    return f"{what} (RTO {seconds(series.initial_rto_ns)}{doubled})" if series else what


def clock_line(story: Story, evidence: list[Evidence]) -> str:
    """How well the clocks of the sources in evidence agree, empty for a single source."""
    used = sorted({e.source for e in evidence})
    if len(used) < 2:
        return ""
    parts = []
    for source_id in used:
        source = story.source(source_id)
        for clock in source.clocks[:1]:
            if clock.reference:
                continue
            if clock.offset_ns is None:
                parts.append(f"{source.label} unaligned: its order against the others is unknown")
            elif clock.error_ns:
                stamps = [e.source_ns for e in evidence if e.source == source_id and e.source_ns is not None]
                parts.append(f"{source.label} {clock.describe(stamps)} from {clock.anchors} anchors")
    return "; ".join(parts)


def limit_near(gap_ns: int, ends: str, server: str = "") -> str:
    """Names the known idle limits that a rest has just passed and that end as this one did; empty when none is near."""
    found = [limit for limit in limits.near(gap_ns, NEAR_LIMIT, server) if ends in limit.ends]
    return (
        f"{found[0].seconds} s ({', '.join(limit.whose for limit in found if limit.seconds == found[0].seconds)})"
        if found
        else ""
    )


#: Beside the packet of `last_words`.
OWN_REASON = "the server's own reason"
#: HTTP/2 frames that a client sends by itself or as it leaves: no request.
FAREWELL = col.M_TLS_ALERT | col.M_H2_GOAWAY
#: Frames that libraries send by themselves, as long as they come (RFC 9113 §3.4, §6): two WINDOW_UPDATEs, of the stream and of the
#: connection; SETTINGS with each of the six parameters and two of extensions.
MANAGING_BYTES = {
    col.M_H2_PREFACE: 24, col.M_H2_SETTINGS: 9 + 8 * 6, col.M_H2_SETTINGS_ACK: 9, col.M_H2_PING: 17, col.M_H2_PING_ACK: 17,
    col.M_H2_WINDOW_UPDATE: 2 * 13,
}  # fmt: skip
MANAGING = sum(MANAGING_BYTES)
#: A TLS 1.3 alert passes as application data: header, two bytes, content type, tag (RFC 8446 §5.2, §6).
TLS13_ALERT_BYTES = 5 + 2 + 1 + 16
