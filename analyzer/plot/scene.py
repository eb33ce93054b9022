"""What a timeline shows of one connection: everything that its lanes draw, picked from the story. No drawing here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analyzer.model.times import SECOND
from analyzer.report.timeline import states
from analyzer.tcp.states import STATES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from analyzer.model.events import Event
    from analyzer.model.findings import Finding
    from analyzer.model.records import Freeze, Invocation, Ping
    from analyzer.tcp.segments import Segment
    from analyzer.trace import Trace

#: Log lines this long before the first and after the last packet belong to the picture: as long as the connection lasts, but
#: at least and at most this long (`Trace.timeline` has the most).
LEAST_AROUND_NS, MOST_AROUND_NS = SECOND // 10, SECOND
#: Kinds of log lines that say that something went wrong.
ERROR_KINDS = frozenset(
    (
        "error",
        "timeout",
        "crash",
        "ping-timeout",
        "ping-error",
        "stream-error",
        "socket-error",
        "too-many-pings",
        "resolve-failed",
    )
)


@dataclass(frozen=True, slots=True)
class StateRun:
    """One endpoint in one state for a while."""

    state: str
    start_ns: int
    end_ns: int


@dataclass(slots=True)
class Scene:
    """One connection and what happened around it, from `start_ns` to `end_ns` (aligned). `zero_ns` is its first packet."""

    trace: Trace
    k: int
    segments: list[Segment]
    zero_ns: int
    environment: str | None
    events: list[Event]
    pings: list[Ping]
    findings: list[Finding]
    start_ns: int = 0
    end_ns: int = 0

    @property
    def invocations(self) -> list[Invocation]:
        """Those of the environment that were running in this time."""
        return [
            i
            for i in (self.trace.story.invocations if self.events else ())
            if i.environment == self.environment
            and i.start_ns <= self.end_ns
            and (i.end_ns is None or i.end_ns >= self.start_ns)
        ]

    @property
    def freezes(self) -> list[Freeze]:
        """Those of the environment that fell into this time."""
        if not self.events:
            return []
        return [z for z in self.trace.story.freezes_of(self.environment) if z.overlap(self.start_ns, self.end_ns)]

    @property
    def points(self) -> list[int]:
        """Capture points that saw the connection, nearest the client first."""
        return self.trace.story.connections.seen_at(self.k)

    def state_runs(self) -> tuple[list[StateRun], list[StateRun]]:
        """What state each endpoint was in, and how long: client, server."""
        series = states(self.segments)
        return self._runs([(t, a) for t, a, _ in series]), self._runs([(t, b) for t, _, b in series])

    def _runs(self, series: list[tuple[int, int]]) -> list[StateRun]:
        changes = [s for n, s in enumerate(series) if not n or s[1] != series[n - 1][1]]
        ends = [t for t, _ in changes[1:]] + [self.end_ns]
        return [StateRun(STATES[state], t, end) for (t, state), end in zip(changes, ends, strict=True)]

    def evidence_refs(self) -> set[tuple[str, str]]:
        """(source, ref) of every line and packet that a finding of this connection names."""
        return {place for f in self.findings for e in f.evidence for place in ((e.source, e.ref), *e.also)}

    def marks(self) -> list[int]:
        """Every time at which something is drawn: between two of them, there is silence."""
        inside = (t for i in self.invocations for t in (i.start_ns, i.end_ns) if t is not None)
        edges = (t for z in self.freezes for t in (z.start_ns, z.end_ns))
        marks = [t for t in (*_times(self), *inside, *edges) if self.start_ns <= t <= self.end_ns]
        return [*marks, self.start_ns, self.end_ns]


def scene(trace: Trace, connection: str) -> Scene:
    """The scene of one connection; raises `KeyError` for an unknown one, `ValueError` where no packets of it were kept."""
    k = trace.index(connection)
    story, cs = trace.story, trace.story.connections
    segments = cs.segments(k)
    if not segments:
        raise ValueError(f"no packets of {cs.id(k)} were kept: nothing to draw")
    environment = cs.environment.get(k)
    first, last = segments[0].time_ns, segments[-1].time_ns
    findings = [f for f in trace.findings if cs.id(k) in (f.connection, *f.connections)]
    events: list[Event] = []
    pings: list[Ping] = []
    if story.aligned:
        proof = [e.time_ns for f in findings for e in f.evidence]
        around = min(max(last - first, LEAST_AROUND_NS), MOST_AROUND_NS)
        near = story.events_between(min([first - around, *proof]), max([last + around, *proof]))
        events = [e for e in near if e.connection == cs.id(k) or (environment and e.environment == environment)]
        mine = set(cs.transports.get(k, ()))
        pings = [p for p in story.pings if p.transport in mine]
    found = Scene(trace, k, segments, first, environment, events, pings, findings)
    times = list(_times(found))
    found.start_ns, found.end_ns = min(times), max(times)
    return found


def _times(s: Scene) -> Iterable[int]:
    yield from (g.time_ns for g in s.segments)
    yield from (e.time_ns for e in s.events)
    for p in s.pings:
        yield from (t for t in (p.sent_ns, p.acked_ns, p.timed_out_ns) if t is not None)
    packets = {p.source.id for p in s.trace.story.connections.points}
    for f in s.findings:
        yield from (e.time_ns for e in f.evidence if s.events or e.source in packets)


def failed(event: Event) -> bool:
    """Whether a log line tells of a failure."""
    if event.kind in ("call-end", "call-cancelled"):
        return str(event.attrs.get("code", "0")) != "0"
    return event.kind in ERROR_KINDS or (event.layer == "app" and event.text.startswith("Invoke Error"))
