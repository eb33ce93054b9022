"""keepalive-timeout-after-freeze

## What it does
Flags a gRPC keepalive ping whose timeout fired although the process had not run for that long: the environment was frozen
while the ping was outstanding. With platform lines the *running* time (wall time less freezes) is compared with the
timeout; without them, a timeout line that comes later than the timer by more than 250 ms and 5 % of it.

## Why it matters
At the thaw the expired timer runs before the socket is read, so the answer that waits in the socket buffer counts for
nothing: the client tears down a healthy connection and the next request pays for a new one, or fails by its deadline.

## What to do
Turn keepalive pings off in functions (omit `grpc.keepalive_time_ms` and `grpc.keepalive_permit_without_calls`), and
recreate channels that were idle longer than 240 s by wall clock. Without pings a silent drop goes unnoticed: do
both. Where pings must stay, a timeout of 20 s or more makes the race rarer, not impossible.

## Known limits
Request ids support, never decide: a line printed right after the thaw can carry the previous id. A late
`Received ping response` proves an answer only in grpc-js ≥ 1.10.10 (1.9.2 to 1.10.9: only without a `Ping failed` just before);
C-core reads the answer first and lets the timeout fire all the same. grpc-go logs no pings (but for http2debug) and grpc-java no
timeout: there, platform lines must show the freeze. A blocked event loop looks the same in a bare trace. Inside TLS the answer in a
capture is told by size and timing (`PING ack?`): likely, and it raises no confidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from msgspec import Struct

from analyzer.capture import columns as col
from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Finding, Severity, Silence
from analyzer.model.records import Freeze, Ping, Transport
from analyzer.model.times import MS, SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, advice, dialect_of, for_transport, known
from analyzer.rules._thresholds import Settings, Values, duration, share
from analyzer.tcp.segments import Segment
from analyzer.tcp.sequence import delta32
from analyzer.timeline.environments import FREEZE_ERROR_NS
from analyzer.timeline.order import before
from analyzer.timeline.story import Story

CODE = "K101"
NAME = "keepalive-timeout-after-freeze"
SUMMARY = "a ping's timeout expired while the function was frozen; the connection was healthy"
SEVERITIES = (Severity.WARNING, Severity.ERROR)
FROM_LOGS = (Confidence.LIKELY, Confidence.CERTAIN)

#: grpc.keepalive_timeout_ms when a trace does not show it (grpc-js README).
DEFAULT_TIMEOUT_MS = 20_000
#: A timer that ran out in a freeze fires this soon after it (grpc-go stamps whole seconds).
AFTER_THAW_NS = 1_100 * MS
#: What an error says whose library gave the connection up because a ping was not answered.
PING_TIMEOUT = "PING_TIMEOUT"
#: START is stamped up to 91 ms before the guest runs (measured).
SLACK_NS = 100 * MS
#: What is missing where the clocks do not prove that the timer ran out in the freeze.
UNSURE = "the trace's and the platform's lines in one log (the trace on standard error, as the function prints it): their clocks do not prove that the timer ran out in the freeze"
#: Errors this soon after the timeout are its consequence: the reconnect that it forced.
CONSEQUENCE_NS = 5 * SECOND


class Thresholds(Values):
    """What tells a timer that ran out in a freeze from one that ran out in time."""

    overshoot_ns: int = duration(
        250 * MS,
        "ms",
        "without platform lines: a timeout line is late if it is later than this and than `overshoot_share`",
        "a busy process does not reach it (measured)",
    )
    overshoot_share: float = share(0.05, "… and than this part of the timeout", "as above, for long timeouts")
    running_share: float = share(
        0.5,
        "a peer that had this part of the timeout to answer while the process ran, and did not, was silent (K102)",
        "chosen: answers take milliseconds",
    )


STATUS = """
        00:00:00.000 START 1
        00:00:00.080 REPORT 1
        00:06:20.000 START 2
        00:06:20.030 app 2 rpc error: code = Unavailable desc = keepalive ping failed to receive ACK within timeout
        00:06:20.080 REPORT 2
"""
FIRES = (
    Case(
        "ping sent, function frozen for 5 s, timeout first and answer after",
        log="""
        00:00:00.000 START 1
        00:00:00.010 grpc 1 transport | dns:cache:443 10.0.0.9:443 Established TCP connection
        00:00:00.020 grpc 1 keepalive | (1) 10.0.0.9:443 Starting keepalive timer for 5000ms
        00:00:05.020 grpc 1 keepalive | (1) 10.0.0.9:443 Sending ping with timeout 1000ms
        00:00:05.024 REPORT 1
        00:00:10.190 START 2
        00:00:10.192 grpc 1 keepalive | (1) 10.0.0.9:443 Ping timeout passed without response
        00:00:10.193 grpc 1 subchannel | (1) 10.0.0.9:443 READY -> IDLE
        00:00:10.201 grpc 1 keepalive | (1) 10.0.0.9:443 Received ping response
        00:00:10.240 REPORT 2
        """,
    ),
    Case(
        "the same without platform lines: overshoot alone",
        log="""
        00:00:05.020 grpc - keepalive | (1) 10.0.0.9:443 Sending ping with timeout 1000ms
        00:00:10.192 grpc - keepalive | (1) 10.0.0.9:443 Ping timeout passed without response
        """,
    ),
    Case("the status of a call alone, right after the thaw", log=STATUS),
)
QUIET = (
    Case(
        "a real timeout: the process ran all the time",
        log="""
        00:00:00.000 START 1
        00:00:00.020 grpc 1 keepalive | (1) 10.0.0.9:443 Sending ping with timeout 1000ms
        00:00:01.021 grpc 1 keepalive | (1) 10.0.0.9:443 Ping timeout passed without response
        00:00:01.100 REPORT 1
        """,
    ),
    Case(
        "a real timeout that merely overlaps a short freeze: the timer ran out while the function ran",
        log="""
        00:00:00.000 START 1
        00:00:00.100 grpc 1 keepalive | (1) 10.0.0.9:443 Sending ping with timeout 1000ms
        00:00:00.110 REPORT 1
        00:00:00.510 START 2
        00:00:01.101 grpc 2 keepalive | (1) 10.0.0.9:443 Ping timeout passed without response
        00:00:01.200 REPORT 2
        """,
    ),
    Case(
        "the function logs on between two invocations: it was not frozen",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:00:00.500 app 1 tick
        00:00:01.000 app 1 tick
        00:00:01.010 grpc 1 keepalive | (1) 10.0.0.9:443 Sending ping with timeout 1000ms
        00:00:01.500 app 1 tick
        00:00:02.000 app 1 tick
        00:00:02.011 grpc 1 keepalive | (1) 10.0.0.9:443 Ping timeout passed without response
        00:00:02.500 app 1 tick
        00:00:03.000 START 2
        00:00:03.100 REPORT 2
        """,
    ),
    Case(
        "no platform lines, a late timer, but the process logs on: it was not frozen",
        log="""
        00:00:05.020 grpc - keepalive | (1) 10.0.0.9:443 Sending ping with timeout 1000ms
        00:00:06.500 grpc - subchannel | (2) 10.0.0.8:443 READY -> IDLE
        00:00:07.500 grpc - subchannel | (2) 10.0.0.8:443 IDLE -> CONNECTING
        00:00:08.500 grpc - subchannel | (2) 10.0.0.8:443 CONNECTING -> READY
        00:00:10.192 grpc - keepalive | (1) 10.0.0.9:443 Ping timeout passed without response
        """,
    ),
    Case(
        "a ping that was due during the freeze is sent late and answered",
        log="""
        00:00:00.000 START 1
        00:00:00.020 grpc 1 keepalive | (1) 10.0.0.9:443 Starting keepalive timer for 2000ms
        00:00:00.100 REPORT 1
        00:00:09.000 START 2
        00:00:09.001 grpc 1 keepalive | (1) 10.0.0.9:443 Sending ping with timeout 1000ms
        00:00:09.004 grpc 2 keepalive | (1) 10.0.0.9:443 Received ping response
        00:00:09.100 REPORT 2
        """,
    ),
)


def late_by(ping: Ping) -> int:
    """How much later than its timer the timeout line stands, ns."""
    return (ping.timed_out_ns or 0) - ping.sent_ns - timeout_ns(ping)


def freezes_known(story: Story, ping: Ping, transport: Transport) -> bool:
    """Whether platform lines account for all the time from the ping to its timeout: both ends lie in invocations whose
    bounds were seen. An export that lacks a START or REPORT in between says nothing of freezes."""
    if is_mixed(story, transport):
        return False
    sent = story.invocation_before(transport.environment, ping.sent_ns + SLACK_NS)
    end = story.invocation_before(transport.environment, (ping.timed_out_ns or 0) + SLACK_NS)
    if sent is None or end is None or sent.end_ns is None:
        return False
    return end.end_ns is None or end.end_ns >= (ping.timed_out_ns or 0) - SLACK_NS


def expired_in(story: Story, ping: Ping, transport: Transport, t: Thresholds) -> Freeze | None:
    """The freeze in which the timer ran out: it began after the ping, and the deadline lies in it (START may be stamped
    early, so a little after its end counts too)."""
    deadline = ping.sent_ns + timeout_ns(ping)
    for z in story.freezes_between(transport.environment, ping.sent_ns, ping.timed_out_ns or 0):
        # Stamps cut to seconds make a freeze as much longer or shorter at both ends: what ran for certain is less.
        ran = (ping.running_ns or 0) - 2 * max(0, z.error_ns - FREEZE_ERROR_NS)
        answerable = ran >= t.running_share * timeout_ns(ping)
        if z.start_ns <= deadline <= z.end_ns + z.error_ns and not answerable:
            return z
    return None


def _surely_in(story: Story, ping: Ping, freeze: Freeze) -> bool:
    """Whether the timer ran out in a freeze however far the clocks of the trace's and the platform's lines may be off."""
    off = story.events[ping.sent].error_ns
    ends = (ping.sent_ns + timeout_ns(ping) + by for by in (-off, off))
    return all(freeze.start_ns <= end <= freeze.end_ns + freeze.error_ns for end in ends)


def timeout_ns(ping: Ping) -> int:
    """The configured timeout; where no line tells it the library's default, or less if the timeout fired sooner."""
    if ping.timeout_ms is not None:
        return ping.timeout_ms * MS
    return min(DEFAULT_TIMEOUT_MS * MS, (ping.timed_out_ns or 0) - ping.sent_ns)


def overshoots(ping: Ping, t: Thresholds) -> bool:
    """Whether the timeout line is later than a busy process, or stamps cut to seconds, explain."""
    return late_by(ping) - ping.resolution_ns > max(t.overshoot_ns, t.overshoot_share * timeout_ns(ping))


def is_after_freeze(story: Story, ping: Ping, transport: Transport, t: Thresholds) -> bool:
    """The rule's condition."""
    if freezes_known(story, ping, transport):
        return expired_in(story, ping, transport, t) is not None
    return overshoots(ping, t) and was_silent(story, ping, transport)


def is_mixed(story: Story, transport: Transport) -> bool:
    """Whether lines of several environments may stand under the transport's: inferred ones, where nothing told them apart."""
    inferred = [e for e in story.environments if e.inferred]
    return len(inferred) > 1 and transport.pid is None and any(e.id == transport.environment for e in inferred)


def was_silent(story: Story, ping: Ping, transport: Transport) -> bool:
    """Whether one silence of the environment is as long as the timer was late: a process that logs on was not frozen."""
    if is_mixed(story, transport):
        return True
    end = ping.timed_out_ns or 0
    times = [e.time_ns for e in story.events_between(ping.sent_ns, end, transport.environment)]
    longest = max((b - a for a, b in pairwise([ping.sent_ns, *times, end])), default=0)
    return longest + ping.resolution_ns >= late_by(ping)


def consequences(story: Story, environment: str | None, remote: str | None, timeout: Event) -> list[Event]:
    """Calls that failed right after a timeout, towards the same server where they name one."""
    codes = ("DEADLINE_EXCEEDED", "UNAVAILABLE")
    errors = common.errors_after(story, timeout, CONSEQUENCE_NS, codes, environment)
    return [e for e in errors if e.remote in (None, remote) and e is not timeout]


class Told(Struct, frozen=True):
    """A keepalive timeout of which the log tells the end alone: a transport's line, or a call's status (then `failed`)."""

    event: Event
    environment: str | None
    remote: str | None
    transport: Transport | None
    freeze: Freeze | None  # that had ended just before

    @property
    def ran_out_in_it(self) -> bool:
        """Whether that freeze was long enough for the timer to have run out in it, whenever it began."""
        return self.freeze is not None and self.freeze.length_ns >= DEFAULT_TIMEOUT_MS * MS // 2

    @property
    def failed(self) -> bool:
        """Whether a call failed by it."""
        return self.transport is None

    @property
    def where(self) -> dict[str, Any]:
        """The transport and its connection, as a finding names them."""
        if self.transport is None:
            return {}
        connection = self.transport.connection
        return {
            "transport": self.transport.id,
            "connection": connection,
            "connections": [connection] if connection else [],
        }

    def help(self, story: Story, trouble: Trouble) -> str:
        """What to change."""
        if self.transport is not None:
            return for_transport(trouble, self.transport)
        return advice(
            trouble, self.remote or "", known(story, self.environment, self.remote or "", events=[self.event])
        )


def told(story: Story) -> Iterator[Told]:
    """Transports that a timeout ended, and statuses that tell of one, of environments whose log shows no ping that timed out."""
    pinged = {p.transport for p in story.pings if p.timed_out is not None}
    shown = {story.transport(transport).environment for transport in pinged}
    for t in story.transports:
        if t.closed_by == "keepalive-timeout" and t.cause is not None:
            shown.add(t.environment)
            if t.id not in pinged:
                event = story.events[t.cause]
                yield Told(event, t.environment, t.remote, t, _thawed(story, t.environment, event))
    for e in story.of_kind("error"):
        if e.attrs.get("code") == PING_TIMEOUT and e.environment not in shown:
            yield Told(e, e.environment, e.remote, None, _thawed(story, e.environment, e))


def _thawed(story: Story, environment: str | None, event: Event) -> Freeze | None:
    """The freeze that ended just before a timeout."""
    near = story.freezes_between(environment, event.time_ns - AFTER_THAW_NS, event.time_ns)
    return next((z for z in near if z.end_ns <= event.time_ns + z.error_ns), None)


def select(story: Story, settings: Settings) -> Iterable[Ping | Told]:
    """Pings that timed out; timeouts right after a freeze of pings that are not in the log."""
    yield from (p for p in story.pings if p.timed_out is not None)
    yield from (each for each in told(story) if each.ran_out_in_it)


def examine(story: Story, candidate: Ping | Told, settings: Settings) -> Finding | None:
    """The proof: sent, frozen, answered meanwhile (a capture), thawed, timed out, answered after (the log)."""
    if isinstance(candidate, Told):
        return _from_its_end(story, candidate)
    ping = candidate
    transport, t = story.transport(ping.transport), settings[Thresholds]
    if not is_after_freeze(story, ping, transport, t):
        return None
    sent, timed_out = story.events[ping.sent], story.events[ping.timed_out or 0]
    freeze = expired_in(story, ping, transport, t) if freezes_known(story, ping, transport) else None
    stale = _is_stale(story, timed_out.request_id, transport.environment, timed_out.time_ns)
    evidence = [story.evidence(sent), *common.freeze_evidence(story, freeze)]
    evidence.append(story.evidence(timed_out, "(previous request's id)" if stale else "", primary=True))
    if ping.late_ack is not None:
        late = story.events[ping.late_ack]
        note = (
            "(after its timeout)"
            if late.time_ns >= timed_out.time_ns
            else "(read at the thaw, the timer fired all the same)"
        )
        evidence.append(story.evidence(late, note))
    answer = _answer(story, transport, ping)
    if answer is not None:
        evidence.append(
            story.packet(
                answer.frame,
                "" if answer.delivered else f"sent {answer.copies} times, not acknowledged before the timeout",
            )
        )
    errors = consequences(story, transport.environment, transport.remote, timed_out)
    evidence += [story.evidence(e, "(consequence)") for e in errors[:2]]
    evidence.sort(key=lambda e: e.time_ns)
    certain = freeze is not None and freeze.source == "platform" and _surely_in(story, ping, freeze)
    return Finding(
        CODE, NAME,
        Severity.ERROR if errors else Severity.WARNING,
        Confidence.CERTAIN if certain else Confidence.LIKELY,
        _title(ping, freeze),
        timed_out.time_ns, evidence,
        _why(ping, freeze, answer),
        connection=transport.connection, connections=[transport.connection] if transport.connection else [],
        transport=transport.id, environment=transport.environment,
        request_ids=common.failed_requests(story, [timed_out, *errors]), lost_ns=common.reconnect_ns(story, transport, timed_out.time_ns),
        silences=_silences(ping, freeze),
        ruled_out=_ruled_out(story, ping, answer, transport),
        help=for_transport(Trouble.FROZEN_PING, transport),
        upgrade="" if certain else UNSURE if freeze else "what tells a freeze from a blocked event loop: the platform's lines "
        + collect.platform_lines(story, transport.environment, ping.sent_ns, timed_out.time_ns),
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _from_its_end(story: Story, told: Told) -> Finding:
    """The log shows no ping, only that one was not answered in time: sooner after a thaw than any sent since could be."""
    errors = consequences(story, told.environment, told.remote, told.event)
    evidence = [*common.freeze_evidence(story, told.freeze), story.evidence(told.event, primary=True)]
    evidence += [story.evidence(e, "(consequence)") for e in errors[:2]]
    evidence.sort(key=lambda e: e.time_ns)
    start, end = (told.freeze.start_ns, told.freeze.end_ns) if told.freeze else (0, 0)
    after = seconds(max(told.event.time_ns - end, 0))
    usual = seconds(told.event.attrs.get("default_ms", DEFAULT_TIMEOUT_MS) * MS)
    return Finding(
        CODE, NAME, Severity.ERROR if errors or told.failed else Severity.WARNING, Confidence.LIKELY,
        f"keepalive timeout {after} after a freeze of {seconds(end - start)}",
        told.event.time_ns, evidence,
        f"a ping sent after the thaw would have had longer than {after} ({usual} by default): this one's timer ran while the function was frozen, "
        "so the timeout says nothing of the peer",
        server=told.remote, environment=told.environment, **told.where,
        request_ids=common.failed_requests(story, [told.event, *errors]),
        silences=[Silence(start, end, f"{seconds(end - start)} frozen: no timer fires, no answer is read")],
        ruled_out=["a real keepalive timeout (K102): its timer would have run out while the function ran"],
        help=told.help(story, Trouble.FROZEN_PING),
        upgrade="the ping's own line, with its timeout: " + collect.trace(told.transport.dialect if told.transport else dialect_of(story, told.event)),
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


class _Answer(Struct, frozen=True):
    """The server's PING ack in a capture, how long after the ping there; `delivered` when the client's side is known to have got
    it before the timeout."""

    frame: Segment
    after_ns: int
    copies: int
    delivered: bool


def _title(ping: Ping, freeze: Freeze | None) -> str:
    when = "after a freeze" if freeze is not None else "the process did not run meanwhile"
    late = late_by(ping)
    told = ping.timeout_ms is not None and late > 0
    return f"keepalive timeout fired {seconds(late)} late, {when}" if told else f"keepalive timeout fired {when}"


def _timer(ping: Ping) -> str:
    """The timer, as far as the trace tells how long it is."""
    if ping.timeout_ms is not None:
        return f"the {seconds(timeout_ns(ping))} timer"
    return f"the timer ({seconds(DEFAULT_TIMEOUT_MS * MS)} by default; what was configured is not in the trace)"


def _why(ping: Ping, freeze: Freeze | None, answer: _Answer | None) -> str:
    timer = _timer(ping)
    healthy = ping.late_ack is not None or (answer is not None and answer.delivered and not answer.frame.likely_ping)
    if freeze is None:
        late = "late" if ping.timeout_ms is not None else "later than by default"
        return (
            f"{timer} fired {seconds(late_by(ping))} {late}: the process did not run in between (frozen, or its event loop "
            f"blocked), so the timeout says nothing of the peer{'; its answer was there' if healthy else ''}"
        )
    ran = f"the process ran only {seconds(max(ping.running_ns or 0, 0))} of it"
    if healthy:
        return f"{timer} expired during the freeze and fired before the socket was read ({ran}); the connection was healthy"
    if answer is not None:
        answered = "had most likely answered" if answer.frame.likely_ping else "had answered"
        return f"{timer} expired during the freeze and fired at the thaw ({ran}); the server {answered}, a frozen environment receives nothing"
    return f"{timer} expired during the freeze and fired at the thaw ({ran}); it says nothing of the peer"


def _is_stale(story: Story, request_id: str | None, env: str | None, time_ns: int) -> bool:
    current = story.invocation_at(env, time_ns)
    return bool(request_id and current is not None and current.request_id != request_id)


def _answer(story: Story, transport: Transport, ping: Ping) -> _Answer | None:
    """The answer on the wire, where the clocks prove that it came before the timeout, and whether it reached the client:
    acknowledged, or seen by the capture nearest the client."""
    k = int(transport.connection[1:]) - 1 if transport.connection is not None else None
    if k is None or not story.shares_clock(k, transport.environment):
        return None
    timed_out = story.evidence(story.events[ping.timed_out or 0])
    early = [s for s in story.connections.segments(k) if before(story, story.packet(s), timed_out)]
    pinged = max((s.time_ns for s in early if s.from_client and s.marks & col.M_PING), default=None)
    acks = [s for s in early if not s.from_client and s.marks & col.M_PING_ACK and s.time_ns >= ping.sent_ns - SLACK_NS]
    acks = [s for s in acks if pinged is not None and s.time_ns >= pinged]
    if not acks or pinged is None:
        return None
    points = story.connections.seen_at(k)
    near = len(points) > 1 and any(
        s.at(points[0]) is not None and before(story, story.packet(s, point=points[0]), timed_out) for s in acks
    )
    acknowledged = any(
        s.from_client and s.time_ns > acks[0].time_ns and delta32(s.ack, acks[0].end_seq) >= 0 for s in early
    )
    return _Answer(acks[0], acks[0].time_ns - pinged, len(acks), near or acknowledged)


def _silences(ping: Ping, freeze: Freeze | None) -> list[Silence]:
    what = "nothing from this environment in any source"
    if freeze is not None:
        return [Silence(freeze.start_ns, freeze.end_ns, f"{seconds(freeze.length_ns)} frozen: {what}")]
    return [
        Silence(
            ping.sent_ns,
            ping.timed_out_ns or 0,
            f"{seconds((ping.timed_out_ns or 0) - ping.sent_ns)}: no line of this process",
        )
    ]


def _ruled_out(story: Story, ping: Ping, answer: _Answer | None, transport: Transport) -> list[str]:
    found = []
    if answer is not None:
        after = seconds(answer.after_ns)
        suspects = "packet loss or a dead server" if answer.delivered else "a dead or slow server"
        ack = (
            f"what is most likely its ack, a {answer.frame.length}-byte TLS record,"
            if answer.frame.likely_ping
            else "its ack"
        )
        found.append(f"{suspects} ({ack} passed the capture {after} after the ping)")
    if ping.late_ack is not None:
        found.append("dead peer (its answer was read right after the timeout)")
    if transport.connection is not None:
        rtt = common.rtt_ns(story.connections.segments(int(transport.connection[1:]) - 1))
        if rtt is not None and rtt < timeout_ns(ping) // 2:
            found.append(f"slow network (handshake round trip {seconds(rtt)})")
    timer = timeout_ns(ping)
    if freezes_known(story, ping, transport):
        found.append("a real keepalive timeout (K102): its timer would have run out while the function ran")
    else:
        found.append(
            f"a real keepalive timeout (K102): its line would stand {seconds(timer)} after the ping{'' if ping.timeout_ms is not None else ' by default'}, not {seconds(timer + late_by(ping))}"
        )
    return found
