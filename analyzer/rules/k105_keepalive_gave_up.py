"""keepalive-gave-up

## What it does
Flags TCP keepalive probes that nobody answered until the prober reset the connection.

## Why it matters
The application reads ETIMEDOUT although no connect and no request timed out. When the server probes, it was the function
that did not answer: frozen or gone. When the function probes, the server or the path was dead.

## What to do
Expect it where idle connections outlive their peer: reconnect on ETIMEDOUT, check by wall clock before reuse. Node.js hard-codes
ten probes a second apart after `setKeepAlive(true, delay)` (libuv).

## Known limits
Unanswered probes that stop at the thaw are no failure, and are not reported.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from statistics import median

from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.times import SECOND, seconds
from analyzer.rules import _common as common
from analyzer.rules import _timers as timers
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, for_connection
from analyzer.rules._thresholds import Settings, Values, count
from analyzer.rules.f201_fin_wait_2_stall import _OPEN
from analyzer.tcp import detail, signs
from analyzer.tcp import fields as f
from analyzer.tcp.segments import Segment
from analyzer.timeline.points import CLIENT, SERVER
from analyzer.timeline.story import Story

CODE = "K105"
NAME = "keepalive-gave-up"
SUMMARY = "TCP keepalive probes went unanswered until the prober reset the connection"
SEVERITIES = (Severity.WARNING, Severity.ERROR)


class Thresholds(Values):
    """What makes probes a series."""

    least_probes: int = count(
        3, "fewer unanswered probes are no series", "the smallest useful tcp_keepalive_probes of Linux"
    )


FIRES = (
    Case(
        "the function probes a dead server", packets=_OPEN + "\n5 > PROBE\n6 > PROBE\n7 > PROBE\n8 > PROBE\n9 > RST-ACK"
    ),
)
QUIET = (
    Case(
        "probes that are answered",
        packets=_OPEN + "\n5 > PROBE\n5.001 < ACK\n6 > PROBE\n6.001 < ACK\n7 > PROBE\n7.001 < ACK\n8 > RST-ACK",
    ),
    Case(
        "the other direction was not captured",
        packets="0 > SYN\n0.002 > ACK\n5 > PROBE\n6 > PROBE\n7 > PROBE\n8 > PROBE\n9 > RST-ACK",
    ),
    Case(
        "probes that stop, and a reset an hour later",
        packets=_OPEN + "\n5 > PROBE\n6 > PROBE\n7 > PROBE\n8 > PROBE\n3600 > RST-ACK",
    ),
    Case("the peer comes back", packets=_OPEN + "\n5 > PROBE\n6 > PROBE\n7 > PROBE\n7.5 < 20\n7.51 > ACK"),
)


def select(story: Story, settings: Settings) -> Iterable[int]:
    """Connections with several probes of a side that reset in the end."""
    least = settings[Thresholds].least_probes

    def probed(rows: common.Rows) -> common.Mask:
        client: common.Mask = (rows[:, CLIENT + f.KEEPALIVES] >= least) & (rows[:, CLIENT + f.RSTS] > 0)
        return client | (rows[:, SERVER + f.KEEPALIVES] >= least) & (rows[:, SERVER + f.RSTS] > 0)

    return story.connections.by_point(signs.PROBED, probed)


def examine(story: Story, k: int, settings: Settings) -> Finding | None:
    """The proof: the last answer, the probes after it, the reset."""
    segments = story.connections.segments(k)
    reset = next((s for s in segments if s.rst), None)
    if reset is None or not common.heard(story, k, "server" if reset.from_client else "client"):
        return None
    heard = max(
        (s.time_ns for s in segments if s.from_client != reset.from_client and s.time_ns < reset.time_ns), default=0
    )
    probes = [
        s for s in segments if s.keepalive and s.from_client == reset.from_client and heard < s.time_ns < reset.time_ns
    ]
    if len(probes) < settings[Thresholds].least_probes or any(
        s.payload and s.from_client == reset.from_client and s.time_ns > heard for s in segments
    ):
        return None
    interval = int(median(b.time_ns - a.time_ns for a, b in pairwise(probes)))
    waited = reset.time_ns - probes[-1].time_ns
    if waited > 2 * interval + SECOND:
        return None  # who stops probing waits for something else
    due = timers.fits(waited, interval)
    env = common.environment(story, k)
    freeze = common.frozen(story, k, heard, reset.time_ns) if not reset.from_client else None
    errors = common.errors_beside(story, k, probes[0].time_ns, reset.time_ns + SECOND, ("ETIMEDOUT",))
    evidence = [
        *common.freeze_evidence(story, freeze),
        story.packet(probes[0]),
        story.packet(probes[-1], f"{len(probes)} probes, none answered"),
    ]
    evidence += [story.packet(reset, primary=True), *(story.evidence(e) for e in errors[:1])]
    evidence.sort(key=lambda e: e.time_ns)
    who, other = ("client", "server") if reset.from_client else ("server", "client")
    state = f"it was frozen for {seconds(freeze.length_ns)}" if freeze else "it was gone, frozen, or cut off"
    return Finding(
        CODE, NAME, Severity.ERROR if errors else Severity.WARNING, Confidence.CERTAIN if due else Confidence.POSSIBLE,
        f"keepalive gave up: {len(probes)} probes of the {who} unanswered, then its reset",
        reset.time_ns, evidence,
        f"the {other} did not answer {len(probes)} probes {seconds(interval)} apart; {state}; the {who} ended the connection"
        + (f": its kernel, when the next probe was due{', and its application reads ETIMEDOUT' if reset.from_client else ''}" if due
           else f" {seconds(waited)} after the last, not when the next was due: its application may have closed it")
        + _settings(segments, reset),
        connection=story.connections.id(k), connections=[story.connections.id(k)], environment=env,
        request_ids=common.failed_requests(story, errors),
        ruled_out=["a silent drop of a request (no data was under way)", f"a reset by the {other} (the {who} sent it)"],
        help=("reconnect on ETIMEDOUT; " if reset.from_client else "") + for_connection(story, k, Trouble.STALE, errors, closes=False),
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _settings(segments: list[Segment], reset: Segment) -> str:
    """What the series of probes shows of its settings: `13.3 s + 10 × 1 s`."""
    runs = [run for run in detail.keepalives(segments) if run.from_client == reset.from_client and run.unanswered]
    if not runs or not runs[-1].interval_ns:
        return ""
    return f"; {timers.keepalive_of(runs[-1].idle_ns, runs[-1].interval_ns, runs[-1].unanswered)}"
