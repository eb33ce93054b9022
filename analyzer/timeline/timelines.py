"""The timeline of one subject: what belongs to it of every source, in order, and the stretch of it that is asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime

from msgspec import Struct

from analyzer.model.findings import Finding
from analyzer.model.problems import InputError
from analyzer.model.records import Invocation
from analyzer.model.times import MS, SECOND, duration, moment
from analyzer.timeline.steps import MAIN, PLAIN, TOLD, Deep, Step, connection_steps, evidence_step, in_order, log_step
from analyzer.timeline.story import Story
from analyzer.timeline.subjects import CONNECTION, ENVIRONMENT, FINDING, REQUEST, Subject, connections_of, subject

#: Lines of an environment this long before a connection's first and after its last packet belong to its story; and the stretch
#: around a centre where no other is asked for.
AROUND_NS = SECOND
#: An invocation's story goes on this long into the freeze after it: what its libraries still print, and the server's answer.
AFTER_NS = 100 * MS

#: A time as a user gives it: ISO 8601, seconds as the gutter of a timeline counts them, ns since the epoch, a datetime.
Time = str | int | datetime


class Window(Struct, frozen=True):
    """A stretch of time, aligned ns, either end of which may be open."""

    start_ns: int | None = None
    end_ns: int | None = None

    def __contains__(self, time_ns: int) -> bool:
        return (self.start_ns is None or time_ns >= self.start_ns) and (self.end_ns is None or time_ns <= self.end_ns)

    def meets(self, first_ns: int, last_ns: int) -> bool:
        """Whether [first, last] reaches into it."""
        return (self.end_ns is None or first_ns <= self.end_ns) and (self.start_ns is None or last_ns >= self.start_ns)


class Cut(Struct, frozen=True):
    """What of a timeline is asked for. `around` is a duration (`5s`, or ns) around `at`: a time, a finding, a request."""

    since: Time | None = None
    until: Time | None = None
    around: str | int | None = None
    at: Time | None = None


WHOLE = Cut()


class Timeline(Struct):
    """A subject's steps in order, where its seconds begin (`zero_ns`), and the findings about it."""

    subject: Subject
    steps: list[Step]
    zero_ns: int
    findings: list[Finding]


def timeline_of(story: Story, findings: list[Finding], deep: Deep, name: str, cut: Cut = WHOLE) -> Timeline:
    """The timeline of what `name` stands for (see `subjects.subject`).

    A connection's has every segment, and what its environment printed in its life. An environment's: its log lines, and what is
    notable of its connections. A request's: from the end of the invocation before, so that the freeze before it is there, to
    its own end. A finding's: what was around its proof. Raises `UnknownNameError`, and `InputError` for a cut that makes no sense.
    """
    about = subject(story, findings, name)
    steps = in_order(_SELECT[about.kind](story, findings, about, deep))
    zero = _zero(story, about, steps)
    windows = _windows(story, findings, about, cut, zero)
    kept = [s for s in steps if all(s.time_ns in window for window in windows)]
    return Timeline(about, kept, zero, findings_of(story, findings, about))


# ---- what belongs to a subject


def findings_of(story: Story, findings: list[Finding], about: Subject) -> list[Finding]:
    """The findings about a subject."""
    if about.finding is not None:
        return [about.finding]
    if about.kind == REQUEST:
        return [x for x in findings if about.id in x.request_ids]
    names = {story.connections.id(k) for k in about.connections}
    return [x for x in findings if x.environment == about.id or names & {x.connection, *x.connections}]


def proofs(findings: Iterable[Finding]) -> dict[tuple[str, str], bool]:
    """(source, ref) of every line of proof, and whether it is the line that is the finding."""
    found: dict[tuple[str, str], bool] = {}
    for finding in findings:
        for e in finding.evidence:
            for place in ((e.source, e.ref), *e.also):
                found[place] = found.get(place, False) or e.primary
    return found


def span_of(story: Story, findings: Iterable[Finding], k: int) -> tuple[int, int]:
    """Aligned ns from a second before connection `k` to a second after it, or as far as its findings' evidence goes."""
    segments = story.connections.segments(k)
    times = [segments[0].time_ns - AROUND_NS, segments[-1].time_ns + AROUND_NS] if segments else []
    name = story.connections.id(k)
    times += [e.time_ns for x in findings if name in x.connections for e in x.evidence]
    return (min(times), max(times)) if times else (0, 0)


def _connection(story: Story, findings: list[Finding], about: Subject, deep: Deep) -> Iterator[Step]:
    (k,) = about.connections
    yield from connection_steps(story, k, deep)
    # Behind an address that several environments share, only lines about this connection are surely of its environment.
    whole = story.connections.environment.get(k)
    for e in story.events_between(*span_of(story, findings, k)):
        if not story.shares_clock(k, e.environment):
            continue
        if e.connection == about.id or (whole is not None and e.environment == whole):
            step = log_step(story, e)
            if e.connection not in (None, about.id) and step.weight < MAIN:
                step.weight = PLAIN  # ordinary life of another connection
            yield step


def _environment(story: Story, findings: list[Finding], about: Subject, deep: Deep) -> Iterator[Step]:
    yield from (log_step(story, e) for e in story.events if e.environment == about.id)
    proof = proofs(findings_of(story, findings, about))
    for k in story.connections.loaded(k for k in about.connections if story.shares_clock(k, about.id)):
        yield from connection_steps(story, k, deep, TOLD, proof)


def _request(story: Story, findings: list[Finding], about: Subject, deep: Deep) -> Iterator[Step]:
    windows = {env: _around_request(story, about.id, env) for env in about.environments}
    proof = proofs(findings_of(story, findings, about)).keys()
    for e in story.events:
        inside = any(e.time_ns in w for w in windows.get(e.environment or "", ()))
        if inside or e.request_id == about.id or not proof.isdisjoint([(e.source, e.ref), *e.also]):
            yield log_step(story, e)
    for env, spans in windows.items():
        ks = [k for k in connections_of(story, env) if story.shares_clock(k, env)]
        for k in story.connections.loaded(_living(story, ks, spans)):
            for s in connection_steps(story, k, deep):
                if any(s.time_ns in w for w in spans) or not proof.isdisjoint(s.places):
                    yield s


def _around_request(story: Story, request_id: str, environment: str) -> list[Window]:
    """For each run of a request in an environment: from the end of the run before it to its end, or a moment into the freeze."""
    runs = [i for i in story.invocations if i.environment == environment]
    return [_around(story, runs, n) for n, i in enumerate(runs) if i.request_id == request_id]


def _around(story: Story, runs: list[Invocation], n: int) -> Window:
    this, before = runs[n], runs[n - 1] if n else None
    after = runs[n + 1].start_ns if n + 1 < len(runs) else None
    start = min(before.end_ns or before.start_ns, this.start_ns) if before else None
    if this.end_ns is None:
        return Window(start, after)
    freeze = next((z for z in story.freezes_of(this.environment) if z.start_ns >= this.end_ns), None)
    ends = [freeze.start_ns + AFTER_NS] if freeze else []
    ends += [after] if after is not None else []
    return Window(start, max(min(ends), this.end_ns) if ends else None)


def _living(story: Story, ks: Collection[int], spans: list[Window]) -> list[int]:
    """Those of the connections that were there in one of these stretches."""
    return [k for k in ks if any(w.meets(*story.connections.life(k)) for w in spans)]


def _finding(story: Story, _: list[Finding], about: Subject, deep: Deep) -> Iterator[Step]:
    steps = list(_around_finding(story, about, deep))
    yield from steps
    shown = {place for s in steps for place in s.places}
    packets = [e for e in about.finding.evidence if e.layer == "pcap"] if about.finding else []
    yield from (evidence_step(story, e) for e in packets if (e.source, e.ref) not in shown)


def _around_finding(story: Story, about: Subject, deep: Deep) -> Iterator[Step]:
    window, proof, least = Window(), proofs([about.finding] if about.finding else []), PLAIN
    if about.finding is not None and about.finding.evidence:
        times = [e.time_ns for e in about.finding.evidence]
        window = Window(min(times) - AROUND_NS, max(times) + AROUND_NS)
    if len(about.connections) > 1:
        least = TOLD
    for k in story.connections.loaded(about.connections):
        yield from (s for s in connection_steps(story, k, deep, least, proof) if s.time_ns in window)
    names = {story.connections.id(k) for k in about.connections}
    comparable = {e.id for e in story.environments if all(story.shares_clock(k, e.id) for k in about.connections)}
    for e in story.events_between(window.start_ns or 0, window.end_ns or 0):
        mine = e.environment in comparable and (e.environment in about.environments or e.connection in names)
        if mine or not proof.keys().isdisjoint([(e.source, e.ref), *e.also]):
            yield log_step(story, e)


_SELECT = {CONNECTION: _connection, ENVIRONMENT: _environment, REQUEST: _request, FINDING: _finding}


# ---- the stretch that is asked for


def _zero(story: Story, about: Subject, steps: list[Step]) -> int:
    """Where a timeline's seconds begin: with a connection's first packet, a request's START, a finding's first proof, else
    with the first step."""
    if about.finding is not None and about.finding.evidence:
        return min(e.time_ns for e in about.finding.evidence)
    if about.kind == CONNECTION and (segments := story.connections.segments(about.connections[0])):
        return segments[0].time_ns
    starts = [i.start_ns for i in story.invocations if about.kind == REQUEST and i.request_id == about.id]
    return min(starts) if starts else steps[0].time_ns if steps else 0


def _windows(story: Story, findings: list[Finding], about: Subject, cut: Cut, zero: int) -> list[Window]:
    """Stretches in all of which a step must lie."""
    windows = [Window(_moment("since", cut.since, zero), _moment("until", cut.until, zero))]
    if cut.around is not None or cut.at is not None:
        width = AROUND_NS if cut.around is None else duration(cut.around)
        if width is None:
            raise InputError(f"--around {cut.around!r} is no duration: write 5s, 500ms or 2min")
        first, last = _centre(story, findings, about, cut.at, zero)
        windows.append(Window(first - width, last + width))
    return windows


def _moment(option: str, value: Time | None, zero: int) -> int | None:
    """Aligned ns of a time that a user gave; raises `InputError` for text that is none."""
    found = moment(value, zero) if value is not None else None
    if value is not None and found is None:
        raise InputError(
            f"--{option} {value!r} is no time: write 2026-11-21T00:06, 2026-11-21T00:06:05.860Z, "
            "or seconds as the timeline counts them"
        )
    return found


def _centre(story: Story, findings: list[Finding], about: Subject, at: Time | None, zero: int) -> tuple[int, int]:
    """First and last ns of what is looked around: of a time, a finding's line, a request's run. By default the subject's own."""
    if at is not None:
        found = moment(at, zero)
        if found is not None:
            return found, found
        about = subject(story, findings, str(at))
    if about.kind == REQUEST:
        runs = [i for i in story.invocations if i.request_id == about.id]
        times = [t for i in runs for t in (i.start_ns, i.end_ns) if t is not None]
        times = times or [e.time_ns for e in story.events if e.request_id == about.id]
        return min(times), max(times)
    worst = max(findings_of(story, findings, about), key=lambda x: (x.severity, x.confidence, -x.time_ns), default=None)
    if worst is None:
        raise InputError(
            f"nothing says where to look around in {about.id}: add --at with a time, a finding or a request"
        )
    return worst.time_ns, worst.time_ns
