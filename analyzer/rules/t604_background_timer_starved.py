"""background-timer-starved

## What it does
Flags a counter that a background timer should advance once a second and that falls behind the wall clock by the time that
the environment was frozen.

## Why it matters
No timer fires while the environment is frozen, and missed ticks are not made up for: an overdue timer fires once. Everything
that lives on background timers (keepalive pings, pool reapers, heartbeats, cache refresh, token renewal) is starved alike.

## What to do
Do time-dependent work at the beginning of an invocation, by wall clock: compare `Date.now()` with the time of the last run.

## Known limits
Without platform lines the frozen time is unknown; then the rule keeps silent. A blocked event loop starves timers too, but
while the function runs.
"""

from __future__ import annotations

from collections.abc import Iterable

from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.times import SECOND, seconds
from analyzer.rules._cases import Case
from analyzer.rules._thresholds import Settings, Values, duration
from analyzer.timeline.story import Story

CODE = "T604"
NAME = "background-timer-starved"
SUMMARY = "a background counter fell behind the wall clock by the time that the function was frozen"
SEVERITIES = (Severity.INFO,)
FROM_LOGS = (Confidence.CERTAIN, Confidence.CERTAIN)


class Thresholds(Values):
    """What makes a counter late, and what ties that to the freezes."""

    least_drift_ns: int = duration(
        2 * SECOND, "s", "a counter that is less behind may be rounded", "both sides are printed in whole seconds"
    )
    tick_ns: int = duration(
        SECOND,
        "s",
        "each freeze costs at most so much more or less than its length",
        "the tick that was pending fires at the thaw",
    )


FIRES = (
    Case(
        "two freezes of five seconds",
        log="""
        00:00:00.000 START 1
        00:00:02.000 app 1 Calculated: 2 seconds, Background Task: 2 seconds
        00:00:02.100 REPORT 1
        00:00:07.100 START 2
        00:00:08.100 app 2 Calculated: 8 seconds, Background Task: 4 seconds
        00:00:08.200 REPORT 2
        00:00:13.200 START 3
        00:00:14.200 app 3 Calculated: 14 seconds, Background Task: 6 seconds
        00:00:14.300 REPORT 3
        """,
    ),
)
QUIET = (
    Case(
        "the counter keeps up",
        log="""
        00:00:00.000 START 1
        00:00:02.000 app 1 Calculated: 2 seconds, Background Task: 2 seconds
        00:00:12.000 app 1 Calculated: 12 seconds, Background Task: 11 seconds
        00:00:12.100 REPORT 1
        """,
    ),
    Case(
        "behind without a freeze: something else",
        log="""
        00:00:00.000 START 1
        00:00:02.000 app 1 Calculated: 2 seconds, Background Task: 2 seconds
        00:00:22.000 app 1 Calculated: 22 seconds, Background Task: 9 seconds
        00:00:22.100 REPORT 1
        """,
    ),
)


def select(story: Story, settings: Settings) -> Iterable[tuple[str, list[Event]]]:
    """Environments with at least two counter lines."""
    found: dict[str, list[Event]] = {}
    for e in story.of_kind("counter"):
        if e.environment:
            found.setdefault(e.environment, []).append(e)
    return [(env, lines) for env, lines in sorted(found.items()) if len(lines) > 1]


def examine(story: Story, candidate: tuple[str, list[Event]], settings: Settings) -> Finding | None:
    """The drift between the first and the last line against the time frozen in between."""
    env, lines = candidate
    first, last = lines[0], lines[-1]
    drift = (last.attrs["wall_s"] - first.attrs["wall_s"]) - (last.attrs["ticked_s"] - first.attrs["ticked_s"])
    between = [z for z in story.freezes_of(env) if z.overlap(first.time_ns, last.time_ns)]
    frozen = sum(z.overlap(first.time_ns, last.time_ns) for z in between)
    t = settings[Thresholds]
    if drift * SECOND < t.least_drift_ns or abs(drift * SECOND - frozen) > t.tick_ns * (len(between) + 1):
        return None
    longest = max(between, key=lambda z: z.length_ns)
    evidence = [
        story.evidence(first),
        *(story.evidence(e) for e in lines[1:-1][-2:]),
        story.evidence(last, primary=True),
    ]
    return Finding(
        CODE, NAME, Severity.INFO, Confidence.CERTAIN,
        f"a background counter is {drift:.0f} s behind the wall clock: {seconds(frozen)} frozen",
        last.time_ns, evidence,
        f"no timer fires while frozen: {len(between)} freezes of {seconds(frozen)} in all cost {drift:.0f} ticks of a second",
        environment=env, request_ids=[last.request_id] if last.request_id else [],
        ruled_out=[f"a blocked event loop (the drift of {drift:.0f} s is the frozen time, {seconds(longest.length_ns)} at most at once)"],
        help="do time-dependent work at the beginning of an invocation by wall clock; do not rely on background timers",
    )  # fmt: skip
