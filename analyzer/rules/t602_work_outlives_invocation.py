"""work-outlives-invocation

## What it does
Flags work of the application that went on after the request that began it had ended: a call that begins when no invocation runs, or
that begins in one and ends in a later one; a request sent, a line printed or an operation that failed under a request's id, when no
invocation runs.

## Why it matters
The environment is frozen as soon as the response is out and all extensions are done: what is under way stops in the middle and goes on
at the next invocation, minutes or hours later, or never. Answers wait in the socket, timers run out, connections go stale while a request
is on them, and what is printed then carries another request's id.

## What to do
Await everything before the handler returns (every promise, stream and queue; flush loggers, metrics and traces). Hand what may take
longer to a queue or another function.

## Known limits
A stream that is kept open on purpose looks the same, and so does work of a library in the background: an operation that failed is
possible only. What happens at the thaw under
the id of the request before is no sign: callbacks of sockets and timers run first. Fire-and-forget work that ended in time leaves no trace.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from analyzer.capture import columns as col
from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Evidence, Finding, Severity, Silence
from analyzer.model.grpc import status_name
from analyzer.model.records import Call, Freeze, Invocation
from analyzer.model.times import MS, seconds
from analyzer.rules import _common as common
from analyzer.rules._cases import Case
from analyzer.rules._thresholds import Settings, Values, duration
from analyzer.rules.f201_fin_wait_2_stall import _OPEN
from analyzer.tcp import fields as f
from analyzer.tcp.segments import Segment
from analyzer.timeline import order
from analyzer.timeline.environments import ENDED, EPOCH_ENDS
from analyzer.timeline.points import CLIENT
from analyzer.timeline.story import Story

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODE = "T602"
NAME = "work-outlives-invocation"
SUMMARY = "a call, a request or a line of the application after its invocation had ended: not awaited"
SEVERITIES = (Severity.INFO, Severity.ERROR)
FROM_LOGS = (Confidence.POSSIBLE, Confidence.LIKELY)

#: What ends by itself or by its own limit says nothing: OK, CANCELLED, DEADLINE_EXCEEDED (T601).
NO_FAILURE = frozenset((0, 1, 4))
#: Levels of lines that report a failure: callbacks of sockets and timers print them.
FAILURES = frozenset(("ERROR", "WARN", "WARNING", "FATAL"))
#: Errors that somebody's operation ends with: a call, a query, a wait for the pool. A socket's own (a reset, an end, a reconnect that
#: timed out) come without one.
OPERATIONS = frozenset(
    ("TIMEOUT", "DEADLINE_EXCEEDED", "UNAVAILABLE", "CONNECT_FAILED", "QUERY_TIMEOUT", "NOT_CONNECTED")
)
#: Pieces of evidence shown.
SHOWN = 3


class Thresholds(Values):
    """How far from an invocation something is outside of it."""

    slack_ns: int = duration(
        100 * MS, "ms", "nearer to an invocation's START or REPORT, beyond the clocks' error, something may belong to it",
        "measured: START is stamped up to 91 ms before the guest runs, REPORT some ms after the response",
    )  # fmt: skip


_CALL = 'grpc {0} channel | (1) dns:svc:443 createResolvingCall [7] method="/a.B/C", deadline=Infinity'
_END = 'grpc {0} resolving_call | [7] ended with status: code={1} details=""'
FIRES = (
    Case(
        "a call is not awaited and ends in the next invocation",
        log=f"""
        00:00:00.000 START 1
        00:00:00.050 {_CALL.format(1)}
        00:00:00.100 REPORT 1
        00:01:00.000 START 2
        00:01:00.020 {_END.format(1, 0)}
        00:01:00.300 REPORT 2
        """,
    ),
    Case(
        "a request is sent when no invocation runs",
        log="".join(f"00:0{k}:00.000 START {k + 1}\n00:0{k}:00.100 REPORT {k + 1}\n" for k in range(8)),
        packets=_OPEN
        + "\n1.5 > 300\n1.502 < 20"
        + "".join(f"\n{60 * k}.02 > 40\n{60 * k}.03 < 90" for k in range(1, 8)),
    ),
    Case(
        "a line of a request long after its end",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:00:02.100 info 1 uploaded 3 files
        00:01:00.000 START 2
        00:01:00.300 REPORT 2
        """,
    ),
    Case(
        "a query fails seven seconds after the end of its request",
        log="""
        00:00:00.000 START 1
        00:00:00.080 REPORT 1
        00:00:07.080 app 1 PrismaClientInitializationError: Can't reach database server at `db.example`:`5432` { errorCode: 'P1001' }
        00:01:00.000 START 2
        00:01:00.080 REPORT 2
        """,
    ),
)
QUIET = (
    Case(
        "a socket that nobody uses is reset",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:00:02.100 app 1 Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }
        00:01:00.000 START 2
        00:01:00.300 REPORT 2
        """,
    ),
    Case(
        "awaited",
        log=f"""
        00:00:00.000 START 1
        00:00:00.050 {_CALL.format(1)}
        00:00:00.080 {_END.format(1, 0)}
        00:00:00.100 REPORT 1
        00:01:00.000 START 2
        00:01:00.300 REPORT 2
        """,
    ),
    Case(
        "a timer's line at the thaw carries the id of the request before",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:01:00.000 START 2
        00:01:00.002 info 1 tick
        00:01:00.300 REPORT 2
        """,
    ),
    Case(
        "nobody comes back: the environment is shut down",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:06:00.100 info 1 closing
        """,
    ),
    Case(
        "the client's kernel acknowledges, and closes, in the freeze",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:01:00.000 START 2
        00:01:00.300 REPORT 2
        """,
        packets=_OPEN + "\n6.5 < FIN\n6.54 > ACK\n20 > FIN\n20.001 < ACK",
    ),
    Case(
        "a request shortly before the next START: no frozen process sends one, the clocks are further apart than they seem",
        log="".join(f"00:0{k}:00.000 START {k + 1}\n00:0{k}:00.100 REPORT {k + 1}\n" for k in range(8)),
        packets=_OPEN
        + "\n59.7 > 40\n59.71 < 90"
        + "".join(f"\n{60 * k}.02 > 40\n{60 * k}.03 < 90" for k in range(2, 8)),
    ),
    Case(
        "its deadline ran out in the freeze: that is T601",
        log=f"""
        00:00:00.000 START 1
        00:00:00.050 {_CALL.format(1)}
        00:00:00.100 REPORT 1
        00:01:00.000 START 2
        00:01:00.020 {_END.format(1, 4)}
        00:01:00.300 REPORT 2
        """,
    ),
)


class Gap(Struct, frozen=True):
    """A stretch of one process in which no invocation runs."""

    start_ns: int
    end_ns: int
    before: Invocation
    after: Invocation


class Work(Struct):
    """What an environment did after the request that began it: calls, lines, operations that failed, connections that sent something."""

    environment: str
    gaps: list[Gap]
    calls: list[tuple[Call, Invocation]] = []
    lines: list[tuple[Event, Invocation]] = []
    errors: list[tuple[Event, Invocation]] = []
    connections: list[int] = []

    _starts: list[int] = []
    _ended: set[int] = set()

    def __post_init__(self) -> None:
        self._starts = [gap.start_ns for gap in self.gaps]
        self._ended = {id(gap.before) for gap in self.gaps}

    def gap(self, time_ns: int) -> Gap | None:
        """The gap that a time lies in."""
        at = bisect_right(self._starts, time_ns) - 1
        return self.gaps[at] if at >= 0 and time_ns <= self.gaps[at].end_ns else None

    def ended(self, invocation: Invocation) -> bool:
        """Whether a gap begins with the end of an invocation."""
        return id(invocation) in self._ended

    def outside(self, times_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these times lie in gaps."""
        starts, ends = np.array(self._starts), np.array([gap.end_ns for gap in self.gaps])
        at = np.searchsorted(starts, times_ns, side="right") - 1
        inside: NDArray[np.bool_] = (at >= 0) & (times_ns <= ends[np.maximum(at, 0)])
        return inside


def select(story: Story, settings: Settings) -> Iterable[Work]:
    """Environments with calls, lines or data of the client outside of the invocations they belong to."""
    slack = settings[Thresholds].slack_ns + common.clock_margin(story)
    works = {env: Work(env, gaps) for env, gaps in _gaps(story, slack).items()}
    for call in story.calls:
        work = works.get(call.environment or "")
        begun = _outlived(story, work, call, slack) if work is not None else None
        if work is not None and begun is not None:
            work.calls.append((call, begun))
    for e in story.of_kind("line", "error"):
        work = works.get(e.environment or "") if e.layer == "app" and e.inner_ns is not None else None
        if work is None or not (_failed(e) or (e.kind == "line" and e.level not in FAILURES)):
            continue
        gap = work.gap(e.time_ns)
        if gap is not None and e.request_id == gap.before.request_id:
            (work.errors if _failed(e) else work.lines).append((e, gap.before))
    mine: dict[str, list[int]] = defaultdict(list)
    for k, env in story.connections.environment.items():
        if story.shares_clock(k, env):
            mine[env].append(k)
    for env, ks in mine.items():
        if env in works:
            works[env].connections = sorted(_may_have_sent(story, works[env], np.array(ks)))
    return [work for _, work in sorted(works.items()) if work.calls or work.lines or work.errors or work.connections]


def _failed(e: Event) -> bool:
    """Whether an error is what somebody's operation ended with."""
    return e.kind == "error" and e.attrs.get("code") in OPERATIONS and e.level != "INFO"


def _gaps(story: Story, slack_ns: int) -> dict[str, list[Gap]]:
    """The stretches between two invocations of one process, by environment."""
    never = {environment.id for environment in story.environments if environment.concurrent or environment.inferred}
    runs: dict[str, list[Invocation]] = defaultdict(list)
    for i in story.invocations:
        if i.environment not in never:
            runs[i.environment].append(i)
    ends: dict[str, list[int]] = defaultdict(list)
    for e in story.of_kind(*EPOCH_ENDS):
        if e.environment in runs:
            ends[e.environment or ""].append(e.time_ns)
    found: dict[str, list[Gap]] = {}
    for env, mine in runs.items():
        mine_anew = ends[env]  # in order
        for before, after in pairwise(sorted(mine, key=lambda i: i.start_ns)):
            if before.end_ns is None or before.inferred or after.inferred or before.status in ENDED:
                continue
            end, start = before.end_ns + slack_ns + before.error_ns, after.start_ns - slack_ns - after.error_ns
            new = bisect_left(mine_anew, before.end_ns)
            if end < start and not (new < len(mine_anew) and mine_anew[new] <= after.start_ns):
                found.setdefault(env, []).append(Gap(end, start, before, after))
    return found


def _outlived(story: Story, work: Work, call: Call, slack_ns: int) -> Invocation | None:
    """The invocation that had ended when a call began, or before it ended."""
    if call.start_ns is None or call.status == 4:
        return None
    gap = work.gap(call.start_ns)
    if gap is not None:
        return gap.before
    begun = story.invocation_at(call.environment, call.start_ns)
    if begun is None or begun.end_ns is None or call.end_ns is None or call.end_ns <= begun.end_ns + slack_ns:
        return None
    return begun if work.ended(begun) else None


def _may_have_sent(story: Story, work: Work, ks: NDArray[np.int64]) -> set[int]:
    """Connections with data of the client outside of invocations; of a capture too large to keep, those whose row shows it: by
    the latest data, or the latest after a rest."""
    cs, found = story.connections, set()
    for p, point in enumerate(cs.points):
        at = cs.members[ks, p]
        here, at = ks[at >= 0], at[at >= 0]
        for column in (CLIENT + f.DATA_LAST_TS, f.WAKE_TS):
            found.update(here[work.outside(point.clock.aligned_all(point.rows[at, column]))].tolist())
        if point.data.complete:
            data = np.flatnonzero((point.data.segments[:, col.LEN] > 0) & (point.data.kinds & f.K_SERVER == 0))
            data = data[work.outside(point.clock.aligned_all(point.data.segments[data, col.TS]))]
            found.update(here[np.isin(point.rows[at, f.UID], point.data.uids[data])].tolist())
    return found


def _sent(story: Story, work: Work) -> list[tuple[int, Segment, Invocation]]:
    """Requests that the client sent when no invocation ran: new data, and no ping or farewell."""
    found = []
    for k in story.connections.loaded(work.connections):
        own = [s for s in story.connections.segments(k) if s.from_client and s.payload and not s.retransmitted]
        closing = next((s.time_ns for s in own if s.fin or s.rst), None)
        for s in own:
            gap = work.gap(s.time_ns)
            if gap is None or common.asks_nothing(s) or (closing is not None and s.time_ns >= closing):
                continue
            end = story.event_at(*gap.before.end_ref) if gap.before.end_ref else None
            proven = end is None or order.before(story, story.evidence(end), story.packet(s))
            if (
                proven and s.time_ns - gap.start_ns <= gap.end_ns - s.time_ns
            ):  # later, the freeze holds it: the clocks are off
                found.append((k, s, gap.before))
    return found


def examine(story: Story, work: Work, settings: Settings) -> Finding | None:
    """The proof: the invocation's end, and what came after it."""
    sent = _sent(story, work)
    whose = [i for _, i in work.calls + work.lines + work.errors] + [i for _, _, i in sent]
    if not whose:
        return None
    proof: list[Evidence] = []
    for call, begun in work.calls[:SHOWN]:
        proof += _call(story, call, begun)
    proof += [story.evidence(e, "its request had ended") for e, _ in work.lines[:SHOWN]]
    proof += [story.evidence(e, "its request had ended") for e, _ in work.errors[:SHOWN]]
    proof += [story.packet(s, "no invocation runs") for _, s, _ in sent[:SHOWN]]
    first = min(whose, key=lambda i: i.start_ns)
    freeze = next((z for z in story.freezes_of(work.environment) if z.before == first.request_id), None)
    platform = [e for e in common.freeze_evidence(story, freeze) if (e.source, e.ref) != first.end_ref]
    if first.end_ref and (end := story.event_at(*first.end_ref)) is not None:
        platform.append(story.evidence(end))
    evidence = _with_primary(sorted(proof, key=lambda e: e.time_ns)) + platform
    evidence.sort(key=lambda e: e.time_ns)
    failed = [call for call, _ in work.calls if call.status is not None and call.status not in NO_FAILURE]
    ids = sorted({k for k, _, _ in sent})
    late = _late(work, sent)
    only_errors = not (work.calls or work.lines or sent)
    return Finding(
        CODE, NAME, Severity.ERROR if failed or work.errors else Severity.INFO, Confidence.POSSIBLE if only_errors else Confidence.LIKELY,
        f"{_what(work, sent)} after the invocation had ended", next(e.time_ns for e in evidence if e.primary), evidence,
        f"the invocation had ended up to {seconds(late)} before: it did not wait for this work, which a freeze stops in the middle"
        + (f"; {len(failed)} of the calls failed" if failed else "")
        + ("; what a library does by itself in the background (a reconnect, a health check) may fail so, too" if only_errors else ""),
        connection=story.connections.id(ids[0]) if len(ids) == 1 else None, connections=[story.connections.id(k) for k in ids],
        environment=work.environment, request_ids=list(dict.fromkeys(i.request_id for i in whose)),
        silences=_silences(proof, freeze),
        ruled_out=["a close or an acknowledgement by the kernel (these carry no request)", "a callback at the thaw (this was not within "
                   f"{seconds(settings[Thresholds].slack_ns)} of an invocation)" if work.lines or work.errors or sent else "a deadline that ran out in the freeze (T601)"],
        upgrade="the stack of the error, which tells whether the handler began it" if only_errors else "",
        help="await every promise, stream and queue before the handler returns, and flush loggers, metrics and traces; hand longer work to a queue",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _call(story: Story, call: Call, begun: Invocation) -> list[Evidence]:
    """The lines at both ends of a call."""
    found = []
    for time, kind, note in (
        (call.start_ns, "call-start", "" if (call.start_ns or 0) < (begun.end_ns or 0) else "no invocation runs"),
        (call.end_ns, "call-end", f"{status_name(call.status)}, begun by the request before"),
    ):
        lines = story.events_between(time, time, call.environment) if time is not None else []
        found += [story.evidence(e, note) for e in lines if e.kind == kind][:1]
    return found


def _with_primary(proof: list[Evidence]) -> list[Evidence]:
    """The last line is what tells."""
    return [*proof[:-1], replace(proof[-1], primary=True)]


def _silences(proof: list[Evidence], freeze: Freeze | None) -> list[Silence]:
    """The freeze, from the last sign of the work on."""
    if freeze is None:
        return []
    start = max([freeze.start_ns, *(e.time_ns for e in proof if e.time_ns < freeze.end_ns)])
    return [Silence(start, freeze.end_ns, f"{seconds(freeze.end_ns - start)} frozen: what is under way stands still")]


def _late(work: Work, sent: list[tuple[int, Segment, Invocation]]) -> int:
    """How long after its invocation's end the latest of it came, ns."""
    times = [((c.end_ns or c.start_ns or 0), i) for c, i in work.calls]
    times += [(e.time_ns, i) for e, i in work.lines + work.errors]
    times += [(s.time_ns, i) for _, s, i in sent]
    return max(time - (i.end_ns or time) for time, i in times)


def _what(work: Work, sent: list[tuple[int, Segment, Invocation]]) -> str:
    counts = (
        (len(work.calls), "call", " under way"),
        (len(sent), "request", ""),
        (len(work.lines), "line", ""),
        (len(work.errors), "failed operation", ""),
    )
    return " and ".join(f"{n} {noun}{'s' if n > 1 else ''}{how}" for n, noun, how in counts if n)
