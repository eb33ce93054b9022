"""reset-seen-as-etimedout

## What it does
Flags an application's ETIMEDOUT on a connection that the server had closed, forgotten or reset, where the client got no word
of it: it retransmits into silence until its kernel or its library gives up.

## Why it matters
The error names the wrong suspect. A reset that *arrives* becomes ECONNRESET or EPIPE, never ETIMEDOUT of the kernel; so when
the server forgot the connection and the client reports a time-out, the server's answer was dropped on the way (a firewall
that filters resets, a NAT that lost the flow) or was never sent.

## What to do
Find what drops the reset between server and function. Until then bound the damage: a command or request timeout that also
destroys the socket, and check-on-borrow by wall clock.

## Known limits
The kernel's own ETIMEDOUT on established connections takes 924.6 s with Linux defaults (tcp_retries2 = 15), longer than a
Lambda invocation may last: there the same death shows as a function timeout or as a library's timer.
"""

from __future__ import annotations

from collections.abc import Iterable

from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Evidence, Finding, Severity
from analyzer.model.times import MS, SECOND, seconds
from analyzer.rules import _common as common
from analyzer.rules import _told as told
from analyzer.rules import r302_silent_drop as r302
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, for_connection
from analyzer.rules._thresholds import Settings
from analyzer.rules.f201_fin_wait_2_stall import _OPEN
from analyzer.tcp.segments import Segment
from analyzer.timeline.order import before
from analyzer.timeline.story import Story

CODE = "R301"
NAME = "reset-seen-as-etimedout"
SUMMARY = "the server had forgotten the connection, the client never heard, the application saw ETIMEDOUT"
SEVERITIES = (Severity.ERROR,)

_RETRIES = (
    "\n16.110 > 60 lost\n16.320 > 60 again lost\n16.740 > 60 again lost\n17.580 > 60 again lost\n19.260 > 60 again lost"
)
_LOG = """
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:00:16.100 START 2
        00:00:22.700 app 2 Error: read ETIMEDOUT { errno: -110, code: 'ETIMEDOUT', syscall: 'read' }
        00:00:22.800 REPORT 2
"""
FIRES = (
    Case(
        "the server closed while the function was frozen, its reset is filtered",
        log=_LOG,
        packets=_OPEN
        + "\n6.500 < FIN lost\n6.710 < FIN again lost\n7.130 < FIN again lost\n7.970 < FIN again lost"
        + _RETRIES,
    ),
)
QUIET = (
    Case("no close by the server is known: a silent drop (R302)", log=_LOG, packets=_OPEN + _RETRIES),
    Case(
        "the reset arrived: ECONNRESET, F203",
        packets=_OPEN + "\n6.5 < FIN lost\n6.7 < FIN again lost\n7.1 < FIN again lost\n16.1 > 60\n16.101 < RST",
    ),
)

#: Linux waits for the last retransmission's time-out before it reports: at most TCP_RTO_MAX, 120 s, after the last copy.
GIVE_UP_NS = 125 * SECOND
#: The kernel's time-out, and those of libraries that give up an answer.
CODES = ("ETIMEDOUT", "TIMEOUT")


def select(story: Story, settings: Settings) -> Iterable[int]:
    """The candidates of R302, where the application reports a time-out at all."""
    if not any(e.attrs.get("code") in CODES for e in story.of_kind("error")):
        return []
    return r302.unanswered(story, settings)


def examine(story: Story, k: int, settings: Settings) -> Finding | None:
    """The proof: the server's forgetting, the unanswered data, the application's ETIMEDOUT."""
    outage = r302.outage(story, k, settings[r302.Thresholds])
    if outage is None:
        return None
    segments = story.connections.segments(k)
    env = common.environment(story, k)
    error = _etimedout(story, k, outage)
    forgotten = _forgotten(story, k, segments, outage)
    if error is None or forgotten is None:
        return None
    freeze = common.frozen(story, k, outage.last_before_ns, outage.first.time_ns)
    written, line = story.packet(outage.first), story.evidence(error, primary=True)
    certain = forgotten[1] != "silence" and before(story, written, line) and before(story, forgotten[0], line)
    evidence: list[Evidence] = [forgotten[0], *common.freeze_evidence(story, freeze)]
    evidence += [
        written,
        story.packet(outage.last, common.copies_note(segments, outage.first, f"{outage.copies} copies, none answered")),
        line,
    ]
    evidence.sort(key=lambda e: e.time_ns)
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.CERTAIN if certain else Confidence.LIKELY,
        f"{'ETIMEDOUT' if error.attrs['code'] == 'ETIMEDOUT' else 'time-out'} {seconds(error.time_ns - outage.first.time_ns)} after writing on a connection that the server had forgotten",
        error.time_ns, evidence,
        "a reset that arrives never becomes a kernel ETIMEDOUT: the server "
        + {"close": "had closed the connection", "reset": "answered with a reset", "silence": "received the data and kept silent"}[forgotten[1]]
        + f", and no answer to {outage.copies} copies of the request reached the client"
        + r302.gave_up(story, outage, [error]),
        connection=story.connections.id(k), connections=[story.connections.id(k)], environment=env,
        request_ids=common.failed_requests(story, [error]), lost_ns=error.time_ns - outage.first.time_ns,
        silences=common.silence(story, k, outage.last_before_ns, outage.first.time_ns, freeze, "the server closed meanwhile"),
        ruled_out=[
            "a slow server (not even an acknowledgement came back)",
            "a connect time-out (the connection was established)",
            "an ordinary reset (it would read ECONNRESET or EPIPE)",
        ],
        help="find what drops the server's resets on the way to the function; " + for_connection(story, k, Trouble.STALE, [error]),
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _etimedout(story: Story, k: int, outage: r302.Outage) -> Event | None:
    """The application's ETIMEDOUT for this connection: by address where it names one, by time and environment else."""
    for e in common.errors_beside(story, k, outage.first.time_ns + 500 * MS, outage.last.time_ns + GIVE_UP_NS, CODES):
        if told.in_use(e) and e.remote in (None, story.connections.server(k)):
            return e
    return None


def _forgotten(story: Story, k: int, segments: list[Segment], outage: r302.Outage) -> tuple[Evidence, str] | None:
    """What shows that the server had forgotten: its close before the data, or its capture receiving the data in silence."""
    close = next(
        (s for s in segments if not s.from_client and (s.fin or s.rst) and s.time_ns < outage.first.time_ns), None
    )
    if close is not None:
        note = common.reset_note(segments, close) if close.rst else ""
        return story.packet(close, note or "the server closed"), "close"
    reset = next((s for s in segments if s.rst and not s.from_client and s.time_ns >= outage.first.time_ns), None)
    if reset is not None:
        return story.packet(reset, "the client repeats its data all the same"), "reset"
    server_side = story.connections.seen_at(k)[-1]
    far = len(story.connections.seen_at(k)) > 1 or common.is_at_server(segments)
    if far and outage.last.at(server_side) is not None:
        return story.packet(outage.last, "arrived at the server's side, no answer", point=server_side), "silence"
    return None
