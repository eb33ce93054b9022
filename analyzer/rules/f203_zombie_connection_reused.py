"""zombie-connection-reused

## What it does
Flags a client that writes on a connection which the server had closed long before (its FIN or RST is in a capture), and is
answered with a reset: EPIPE or ECONNRESET at the application.

## Why it matters
The request fails at once. If the reset answers the first data segment, the request never reached the server's application,
and one retry on a fresh connection is safe.

## What to do
Check by wall clock before reuse, drop connections idle longer than the server's limit, retry once on ECONNRESET/EPIPE.

## Known limits
Within a round trip of the server's FIN it is a race, not a zombie. Without the server's close in any capture the same picture
is R303. A close that the client answers with its own close and nothing else harmed no request.
"""

from __future__ import annotations

from collections.abc import Iterable

from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.times import MS, SECOND, seconds
from analyzer.rules import _common as common
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, for_connection
from analyzer.rules._thresholds import Settings, Values, factor
from analyzer.rules.f201_fin_wait_2_stall import _OPEN
from analyzer.tcp import signs
from analyzer.timeline.story import Story

CODE = "F203"
NAME = "zombie-connection-reused"
SUMMARY = "the client wrote on a connection that the server had closed long before"

ERROR_WITHIN_NS = 2 * SECOND


class Thresholds(Values):
    """What makes a write late."""

    race_rtos: float = factor(
        3,
        "a write sooner after the server's FIN than so many retransmission time-outs is a race (F204)",
        "one loss each way takes up to three",
        least=1,
    )


FIRES = (
    Case(
        "the server gave up its FIN; the function thaws and writes",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:00:16.100 START 2
        00:00:16.110 app 2 Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }
        00:00:16.300 REPORT 2
        """,
        packets=_OPEN
        + "\n6.500 < FIN lost\n6.710 < FIN again lost\n7.130 < FIN again lost\n7.970 < FIN again lost\n16.105 > 60\n16.106 < RST",
    ),
)
QUIET = (
    Case(
        "the client closes too, the server has forgotten it: no request was harmed",
        packets=_OPEN + "\n6.5 < FIN\n6.54 > ACK\n16.1 > FIN\n16.101 < RST",
    ),
    Case(
        "at the thaw the client reads GOAWAY and leaves: its own GOAWAY is no request",
        packets=_OPEN + "\n6.4 < GOAWAY 0 max_idle\n6.5 < FIN\n6.54 > ACK\n16.1 > GOAWAY 0\n16.1001 < RST\n16.1002 > FIN\n16.1003 < RST",
    ),
    Case("request and FIN crossed", packets=_OPEN + "\n6.500 < FIN\n6.501 > 60\n6.502 < RST"),
    Case("no close before the reset: R303", packets=_OPEN + "\n16.1 > 60\n16.101 < RST"),
)


def select(story: Story, settings: Settings) -> Iterable[int]:
    """Connections with the server's FIN and RST, and a client that woke and wrote."""
    return story.connections.showing(signs.SERVER_FIN | signs.WOKE | signs.SERVER_RESET)


def examine(story: Story, k: int, settings: Settings) -> Finding | None:
    """The proof: the close, the gap, the write, the reset, the error."""
    segments = story.connections.segments(k)
    close = next((s for s in segments if not s.from_client and s.fin), None)
    if close is None or any(s.from_client and (s.fin or s.rst) and s.time_ns < close.time_ns for s in segments):
        return None
    late = close.time_ns + settings[Thresholds].race_rtos * common.rto_ns(segments)
    write = next(
        (s for s in segments if s.from_client and s.payload and not s.retransmitted and s.time_ns > late and not common.asks_nothing(s)),
        None,
    )  # fmt: skip
    if write is None:
        return None
    before = [s for s in segments if s.from_client and s.payload and close.time_ns < s.time_ns < write.time_ns]
    reset = next((s for s in segments if not s.from_client and s.rst and s.time_ns >= write.time_ns), None)
    if before or reset is None or any(s.payload and not s.from_client and s.time_ns > write.time_ns for s in segments):
        return None  # a half-close in use, or an answer came
    env = common.environment(story, k)
    freeze = common.frozen(story, k, close.time_ns, write.time_ns)
    errors = common.errors_after(
        story, env, write.time_ns - 5 * MS, reset.time_ns + ERROR_WITHIN_NS, ("ECONNRESET", "EPIPE", "CLOSED", "UNAVAILABLE")
    ) if env and story.aligned else []  # fmt: skip
    evidence = [story.packet(close, "the server closed"), *common.freeze_evidence(story, freeze)]
    said = common.last_words(segments, close.time_ns)
    evidence += [story.packet(said, common.OWN_REASON)] if said else []
    evidence += [story.packet(write), story.packet(reset, common.reset_note(segments, reset), primary=True)] + [
        story.evidence(e) for e in errors[:2]
    ]
    evidence.sort(key=lambda e: e.time_ns)
    gap = write.time_ns - close.time_ns
    untouched = not any(not s.from_client and s.payload and s.time_ns > close.time_ns for s in segments)
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.CERTAIN,
        f"request written {seconds(gap)} after the server had closed the connection",
        reset.time_ns, evidence,
        "the server's close "
        + (f"came while the function was frozen ({seconds(freeze.length_ns)})" if freeze else "went unnoticed by the client")
        + "; its next write was answered with a reset"
        + ("; the request never reached the server's application: one retry is safe" if untouched else ""),
        connection=story.connections.id(k), connections=[story.connections.id(k)], environment=env,
        request_ids=common.failed_requests(story, errors),
        silences=common.silence(story, k, close.time_ns, write.time_ns, freeze, "the client knew nothing"),
        ruled_out=[
            "a middlebox that forgot the flow (R303): the server's own close was seen",
            f"a close race (F204): the write came {seconds(gap)} after the close",
            "a silent drop (R302): the server answered",
        ],
        help=for_connection(story, k, Trouble.STALE, errors),
        clock=common.clock_line(story, evidence),
    )  # fmt: skip
