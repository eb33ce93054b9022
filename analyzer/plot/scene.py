"""What a timeline shows: everything that its lanes draw, picked from the story. No drawing here.

The scene of a connection, of an execution environment or of one invocation (a request). Connections are tied to log lines only
where logs and captures share a clock; where they do not, the scene is what one side tells, and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from analyzer.model.times import LATEST, MS, SECOND, seconds, stamp
from analyzer.plot.canvas import count
from analyzer.tcp.pings import pairs
from analyzer.tcp.states import STATES
from analyzer.timeline.endpoints import states
from analyzer.timeline.subjects import ENVIRONMENT, FINDING, REQUEST
from analyzer.timeline.whereabouts import fates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from analyzer.deep import DeepFrame
    from analyzer.model.events import Event
    from analyzer.model.findings import Finding
    from analyzer.model.records import Call, Freeze, Invocation, Transport
    from analyzer.tcp.segments import Segment
    from analyzer.trace import Trace

#: Log lines this long before the first and after the last packet belong to the picture: as long as the connection lasts, but
#: at least and at most this long (`Trace.timeline` has the most).
LEAST_AROUND_NS, MOST_AROUND_NS = SECOND // 10, SECOND
#: What is shown of the neighbours of an invocation, beyond the freezes on both sides.
MARGIN_NS = 50 * MS
#: Connections of an environment that are drawn with their packets; the others get a line each.
MOST_TRACKS = 4
#: … if they have no more packets than this each.
MOST_PACKETS = 200_000
#: Linux's TIME_WAIT (TCP_TIMEWAIT_LEN).
TIME_WAIT_NS = 60 * SECOND


class StateRun(Struct, frozen=True):
    """One endpoint in one state for a while."""

    state: str
    start_ns: int
    end_ns: int


class Arc(Struct, frozen=True):
    """A ping: when it was sent, and when it was answered or given up (one of the two, or neither). `late_ns`: answered after that."""

    sent_ns: int
    acked_ns: int | None = None
    timed_out_ns: int | None = None
    late_ns: int | None = None
    timeout_ns: int | None = None
    running_ns: int | None = None

    @property
    def times(self) -> list[int]:
        """All that is known."""
        return [t for t in (self.sent_ns, self.acked_ns, self.timed_out_ns, self.late_ns) if t is not None]

    @property
    def last_ns(self) -> int:
        """The latest of them."""
        return max(self.times)


class Track(Struct):
    """One connection with its packets. `fates` tells of each segment what the captures prove was its end, or nothing."""

    k: int
    name: str
    client: str
    server: str
    points: list[int]
    segments: list[Segment]
    fates: list[str]
    client_states: list[StateRun]
    server_states: list[StateRun]
    frames: list[DeepFrame]


class Life(Struct, frozen=True):
    """One connection as a line. `ended_by` as in the connection table; `ended_ns` is the last packet where nothing ended it."""

    name: str
    start_ns: int
    end_ns: int
    ended_by: str | None


class Scene(Struct):
    """What is drawn, from `start_ns` to `end_ns` (aligned). The axis counts from `zero_ns`, which is `zero` in words.

    `alone`: it is about its only connection."""

    trace: Trace
    title: str
    subtitle: list[str]
    zero_ns: int
    zero: str
    alone: bool = False
    tracks: list[Track] = []
    lives: list[Life] = []
    events: list[Event] = []
    invocations: list[Invocation] = []
    freezes: list[Freeze] = []
    transports: list[Transport] = []
    pings: list[Arc] = []
    wire_pings: bool = False
    calls: list[Call] = []
    findings: list[Finding] = []
    start_ns: int = 0
    end_ns: int = 0

    def evidence_refs(self) -> set[tuple[str, str]]:
        """(source, ref) of every line and packet that a finding of this scene names."""
        return {place for f in self.findings for e in f.evidence for place in ((e.source, e.ref), *e.also)}

    def marks(self) -> list[int]:
        """Every time at which something is drawn: between two of them, there is silence."""
        return [*(t for t in _times(self) if self.start_ns <= t <= self.end_ns), self.start_ns, self.end_ns]


def scene(
    trace: Trace, name: str, since_ns: int | None = None, until_ns: int | None = None, local: bool = False
) -> Scene:
    """The scene of a connection, an environment or a request, or the part of it in [since, until]; times in words of this machine's zone if `local`.

    Raises `KeyError` where nothing is called so, `ValueError` where there is nothing to draw.
    """
    kind, thing = resolve(trace, name)
    of: dict[str, Callable[[Trace, Any, bool], Scene]] = {
        "connection": _of_connection, "environment": _of_environment, "request": _of_request,
    }  # fmt: skip
    found = of[kind](trace, thing, local)
    _cut(found, since_ns, until_ns)
    if not any(found.start_ns <= t <= found.end_ns for t in _times(found)):
        raise ValueError(f"{found.title}: nothing of it was kept, or it lies outside of the time asked for")
    return found


def resolve(trace: Trace, name: str) -> tuple[str, Any]:
    """What is called so: ("connection", its number), ("environment", its id) or ("request", its invocation).

    A finding stands for its connection, or for its environment.
    """
    about = trace.find(name)
    if about.kind == REQUEST:
        runs = [i for i in trace.story.invocations if i.request_id == about.id]
        if not runs:
            raise ValueError(f"request {about.id}: its START is not in the log: nothing to draw")
        return "request", runs[-1]
    if about.kind == ENVIRONMENT or (about.kind == FINDING and len(about.connections) != 1 and about.environments):
        return "environment", about.environments[0]
    if len(about.connections) != 1:
        raise ValueError(f"{about.id} is about {count(len(about.connections), 'connection')}: name one of them")
    return "connection", about.connections[0]


# ---- a connection


def _of_connection(trace: Trace, k: int, local: bool) -> Scene:
    story, cs = trace.story, trace.story.connections
    segments = cs.segments(k)
    name, environment = cs.id(k), cs.environment.get(k)
    if not segments:
        raise ValueError(f"no packets of {name} were kept: nothing to draw")
    first, last = segments[0].time_ns, segments[-1].time_ns
    found = Scene(trace, f"{name}   {cs.client(k)} → {cs.server(k)}", [], first, "the first packet", alone=True)
    found.findings = [f for f in trace.findings if name in (f.connection, *f.connections)]
    if story.shares_clock(k, environment):
        proof = [e.time_ns for f in found.findings for e in f.evidence]
        around = min(max(last - first, LEAST_AROUND_NS), MOST_AROUND_NS)
        near = story.events_between(min([first - around, *proof]), max([last + around, *proof]))
        found.events = [e for e in near if e.connection == name or (environment and e.environment == environment)]
        _add_transports(found, lambda t: t.connection == name)
    _frame(found, [first, last])
    if found.events:
        _add_invocations(found, environment)
        found.calls += [
            c for c in story.calls
            if c.transport is None and c.environment == environment and found.start_ns <= (c.start_ns or 0) <= found.end_ns
        ]  # fmt: skip
    found.tracks = [_track(found, k)]
    _add_wire_pings(found)
    if environment:
        found.subtitle.append(f"environment {environment}")
    found.subtitle += [f"from {stamp(first, local=local)}", *_alignment(found)]
    return found


# ---- an environment, or a request in it


def _of_environment(trace: Trace, environment: str, local: bool) -> Scene:
    story = trace.story
    events = [e for e in story.events if e.environment == environment]
    found = Scene(trace, f"environment {environment}", [], events[0].time_ns if events else 0, "the first line")
    found.events = events
    found.findings = [f for f in trace.findings if f.environment == environment]
    _add_transports(found, lambda t: t.environment == environment)
    found.calls = [c for c in story.calls if c.environment == environment]
    mine = [k for k, env in story.connections.environment.items() if env == environment]
    spans = [_span(trace, k) for k in mine]
    _frame(found, [t for start, end in spans for t in (start, end)])
    _add_invocations(found, environment)
    if not events:
        found.zero_ns, found.zero = found.start_ns, "the first packet"
    _add_connections(found, mine)
    known = next(e for e in story.environments if e.id == environment)
    frozen = sum(z.length_ns for z in found.freezes)
    found.subtitle = [
        *([known.log_group] if known.log_group else []),
        *([count(len(found.invocations), "invocation")] if found.invocations else []),
        *([f"frozen {_often(len(found.freezes))}, {seconds(frozen)} in all"] if frozen else []),
        *([count(len(mine), "connection")] if mine else []),
        f"from {stamp(found.zero_ns, local=local)}",
        *_alignment(found),
    ]
    return found


def _of_request(trace: Trace, invocation: Invocation, local: bool) -> Scene:
    """One invocation, the freezes on both sides of it, and whatever else its findings name as proof."""
    story, environment = trace.story, invocation.environment
    found = Scene(trace, f"request {invocation.request_id}", [], invocation.start_ns, "START")
    found.findings = [
        f for f in trace.findings if f.environment == environment and invocation.request_id in f.request_ids
    ]
    mine = [e for e in story.events if e.environment == environment]
    own = [e.time_ns for e in mine if e.request_id == invocation.request_id]
    end = invocation.end_ns if invocation.end_ns is not None else max(own, default=invocation.start_ns)
    around = [z for z in story.freezes_of(environment) if z.end_ns == invocation.start_ns or z.start_ns == end]
    proof = [e.time_ns for f in found.findings for e in f.evidence]
    edges = [invocation.start_ns, end, *own, *proof, *(t for z in around for t in (z.start_ns, z.end_ns))]
    start, end = min(edges) - MARGIN_NS, max(edges) + MARGIN_NS
    found.events = [e for e in mine if start <= e.time_ns <= end]
    _add_transports(found, lambda t: t.environment == environment, start, end)
    found.calls = [
        c for c in story.calls
        if c.environment == environment and c.start_ns is not None and start <= (c.end_ns or end) and c.start_ns <= end
    ]  # fmt: skip
    found.start_ns, found.end_ns = start, end
    _add_invocations(found, environment)
    ks = [k for k, env in story.connections.environment.items() if env == environment]
    _add_connections(found, [k for k in ks if _span(trace, k)[0] <= end and _span(trace, k)[1] >= start])
    _cut(found, start, end)
    took = f" after {seconds(invocation.duration_ns)}" if invocation.duration_ns is not None else ""
    found.subtitle = [
        f"environment {environment}",
        (invocation.status if invocation.end_ns is not None else "unfinished") + took,
        *(["cold start"] if invocation.cold_start else []),
        f"from {stamp(invocation.start_ns, local=local)}",
        *_alignment(found),
    ]
    return found


# ---- what all of them have


def _frame(found: Scene, edges: list[int]) -> None:
    """Set the time that is shown: all that was picked so far, and these."""
    times = [*_times(found), *edges]
    found.start_ns, found.end_ns = min(times, default=0), max(times, default=0)


def _add_invocations(found: Scene, environment: str | None) -> None:
    """Invocations and freezes of the environment that reach into the time shown."""
    story = found.trace.story
    found.invocations = [
        i for i in story.invocations
        if i.environment == environment and i.start_ns <= found.end_ns and (i.end_ns is None or i.end_ns >= found.start_ns)
    ]  # fmt: skip
    found.freezes = story.freezes_between(environment, found.start_ns, found.end_ns)


def _add_transports(found: Scene, wanted: Callable[[Transport], bool], start: int = 0, end: int = LATEST) -> None:
    """gRPC transports, with their pings and calls."""
    story = found.trace.story
    found.transports = [
        t for t in story.transports if wanted(t) and (t.opened_ns or 0) <= end and (t.closed_ns or end) >= start
    ]
    mine = {t.id for t in found.transports}
    found.pings = [
        Arc(
            p.sent_ns, p.acked_ns, p.timed_out_ns,
            story.events[p.late_ack].time_ns if p.late_ack is not None else None,
            p.timeout_ms * MS if p.timeout_ms else None, p.running_ns if story.freezes else None,
        )
        for p in story.pings if p.transport in mine and p.sent_ns <= end and (p.acked_ns or p.timed_out_ns or end) >= start
    ]  # fmt: skip
    found.calls = [c for c in story.calls if c.transport in mine and c.start_ns is not None]


def _add_connections(found: Scene, ks: list[int]) -> None:
    """A few connections with their packets: where there are more, those of findings, else the largest; the rest as lines."""
    cs = found.trace.story.connections
    sizes = {k: sum(side.packets for side in cs.record(k).sides) for k in ks}
    chosen = sorted((k for k in ks if sizes[k] <= MOST_PACKETS), key=lambda k: (-sizes[k], k))
    if len(ks) > MOST_TRACKS:
        named = {f.connection for f in found.findings}
        chosen = [k for k in chosen if cs.id(k) in named][:MOST_TRACKS] or chosen[:1]
    chosen.sort()
    cs.load(chosen)
    found.tracks = [_track(found, k) for k in chosen]
    found.lives = [_life(found.trace, k) for k in sorted(set(ks) - set(chosen))]
    _add_wire_pings(found)


def _track(found: Scene, k: int) -> Track:
    cs = found.trace.story.connections
    segments, became = cs.segments(k), fates(cs, k)
    series = states(segments, became)
    client = _runs([(t, a) for t, a, _ in series], found)
    server = _runs([(t, b) for t, _, b in series], found)
    ends = (cs.client(k), cs.server(k))
    return Track(k, cs.id(k), *ends, cs.seen_at(k), segments, became, client, server, found.trace.deep.get(k, []))


def _runs(series: list[tuple[int, int]], found: Scene) -> list[StateRun]:
    """Stretches of one state. TIME_WAIT lasts a minute at most; CLOSED, where it is not all there is to see, is no endpoint any more."""
    changes = [s for n, s in enumerate(series) if not n or s[1] != series[n - 1][1]]
    ends = [t for t, _ in changes[1:]] + [found.end_ns]
    runs = [StateRun(STATES[state], t, end) for (t, state), end in zip(changes, ends, strict=True)]
    last = runs[-1]
    if last.state == "TIME_WAIT":
        runs[-1] = StateRun(last.state, last.start_ns, min(last.end_ns, last.start_ns + TIME_WAIT_NS))
    elif last.state == "CLOSED" and not found.alone:
        runs.pop()
    return runs


def _add_wire_pings(found: Scene) -> None:
    """Pings as captured, where no log tells of any."""
    if not found.pings:
        found.pings = [
            Arc(ping.time_ns, ack.time_ns if ack else None)
            for track in found.tracks
            for ping, ack in pairs(track.segments)
        ]
        found.wire_pings = bool(found.pings)


def _span(trace: Trace, k: int) -> tuple[int, int]:
    """First and last packet of a connection, aligned."""
    return trace.story.connections.life(k)


def _life(trace: Trace, k: int) -> Life:
    cs = trace.story.connections
    record, (start, last) = cs.record(k), _span(trace, k)
    end = cs.points[cs.fullest(k)].aligned(record.ended_ns) if record.ended_ns else last
    return Life(cs.id(k), start, end, record.ended_by)


def _alignment(found: Scene) -> list[str]:
    """How well log and packets are aligned, where both are drawn, or why one of them is missing."""
    story = found.trace.story
    sources = {p.source for track in found.tracks for s in track.segments[:1] for p in s.places}
    if found.events and sources:
        error = story.clock_error(*{e.source for e in found.events}, *sources)
        return [f"log and packets aligned to ±{error / MS:.3g} ms" if error else "log and packets aligned"]
    if story.events and len(story.connections) and not story.aligned:
        missing = "packets" if found.events else "log"
        return [f"{missing} not drawn: log and packets could not be aligned"]
    return []


def _cut(found: Scene, since_ns: int | None, until_ns: int | None) -> None:
    """Leave out what lies before and after."""
    if since_ns is None and until_ns is None:
        return
    found.start_ns = start = max(found.start_ns, since_ns if since_ns is not None else found.start_ns)
    found.end_ns = end = min(found.end_ns, until_ns if until_ns is not None else found.end_ns)
    for track in found.tracks:
        inside = [(s, fate) for s, fate in zip(track.segments, track.fates, strict=True) if start <= s.time_ns <= end]
        track.segments, track.fates = [s for s, _ in inside], [fate for _, fate in inside]
        track.client_states, track.server_states = (
            [
                StateRun(r.state, max(r.start_ns, start), min(r.end_ns, end))
                for r in runs
                if r.start_ns <= end and r.end_ns >= start
            ]
            for runs in (track.client_states, track.server_states)
        )
    found.events = [e for e in found.events if start <= e.time_ns <= end]
    found.pings = [p for p in found.pings if p.sent_ns <= end and p.last_ns >= start]
    found.calls = [c for c in found.calls if (c.start_ns or 0) <= end and (c.end_ns or end) >= start]
    found.lives = [x for x in found.lives if x.start_ns <= end and x.end_ns >= start]
    found.invocations = [i for i in found.invocations if i.start_ns <= end and (i.end_ns or end) >= start]
    found.freezes = [z for z in found.freezes if z.overlap(start, end)]
    found.findings = [f for f in found.findings if start <= f.time_ns <= end]


def _times(s: Scene) -> Iterator[int]:
    """When something is drawn."""
    yield from (g.time_ns for track in s.tracks for g in track.segments)
    yield from (e.time_ns for e in s.events)
    yield from (t for x in s.lives for t in (x.start_ns, x.end_ns))
    yield from (t for p in s.pings for t in p.times)
    yield from (t for c in s.calls for t in (c.start_ns, c.end_ns) if t is not None)
    yield from (t for i in s.invocations for t in (i.start_ns, i.end_ns) if t is not None)
    yield from (t for z in s.freezes for t in (z.start_ns, z.end_ns))
    packets = {p.source.id for p in s.trace.story.connections.points}
    for f in s.findings:
        yield from (e.time_ns for e in f.evidence if s.events or e.source in packets)


def _often(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number:,} times")
