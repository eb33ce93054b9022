"""The story: everything that all sources say, aligned and tied together. What rules examine and reports render."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, TypeVar

from msgspec import Struct, field

from analyzer.model.events import Event
from analyzer.model.findings import Evidence
from analyzer.model.grpc import message
from analyzer.model.records import Call, Environment, Examined, Freeze, Invocation, Ping, Source, Tie, Transport
from analyzer.model.times import SECOND, seconds
from analyzer.tcp.segments import Segment
from analyzer.timeline.functions import functions_of
from analyzer.timeline.icmp import AboutConnection
from analyzer.timeline.names import Lookup, Refusal
from analyzer.timeline.points import Connections

_Placed = TypeVar("_Placed", Invocation, Freeze)

#: `(1) 10.0.0.9:443 ` of a trace line: a finding's headline names both.
_SUBJECT = re.compile(r"^\(\d+\) \S+:\d+ ")
#: By what things of an environment are searched for a time.
_TIME, _BEGUN, _FROZEN, _THAWED = (attrgetter(name) for name in ("time_ns", "start_ns", "start_ns", "end_ns"))
#: Invocations before and after a time that are looked at for one in which a line with a coarse stamp may stand.
MOST_NEAR = 8
#: Guests' clocks are off by no more (measured: 0.7 s).
GUEST_AHEAD_NS = SECOND


class Story(Struct):
    """The result of correlation. Times are aligned ns; `events` are log events in time order.

    `aligned` tells whether some log and some capture share a clock; whether two things do, `shares_clock` and `clock_error`
    tell, and where not, nothing may be tied by time.
    """

    sources: list[Source]
    connections: Connections
    events: list[Event] = []
    environments: list[Environment] = []
    invocations: list[Invocation] = []
    freezes: list[Freeze] = []
    transports: list[Transport] = []
    pings: list[Ping] = []
    calls: list[Call] = []
    ties: list[Tie] = []
    skipped: list[tuple[str, str]] = []
    aligned: bool = False
    interrupted: bool = False
    outside: int = 0  # findings that a narrower view leaves out
    window: tuple[int | None, int | None] = (None, None)  # the stretch of time of a narrower view
    examined: Examined | None = None
    _functions: dict[str | None, str] = {}
    _sources: dict[str, Source] = {}
    _placed: dict[str, bool] = {}
    _transports: dict[str, Transport] = {}
    _environments: dict[str, Environment] = {}
    #: By environment, with how many there were when they were grouped.
    _invocations: tuple[int, dict[str, list[Invocation]]] = (0, {})
    _named: tuple[int, dict[tuple[str | None, str], list[Invocation]]] = (0, {})
    _freezes: tuple[int, dict[str, list[Freeze]]] = (0, {})
    #: Environments between which nothing decided, by connection or address; with how many ties there were then.
    _rivals: tuple[int, dict[str, set[str]]] = (0, {})
    _libraries: dict[str, list[str]] | None = None
    _by_environment: tuple[int, dict[str | None, list[Event]]] = field(default_factory=lambda: (-1, {}))
    _by_kind: tuple[int, dict[str, list[int]]] = field(default_factory=lambda: (-1, {}))
    _places: tuple[int, dict[str, dict[str, Event]]] = (0, {})
    _columns: dict[tuple[Callable[[Any], int], str | None], array[int]] = {}
    _openings: dict[tuple[str | None, str | None], list[int]] | None = None

    def source(self, source_id: str) -> Source:
        """A source by id."""
        if len(self._sources) != len(self.sources):
            self._sources = {s.id: s for s in self.sources}
        return self._sources[source_id]

    def is_placed(self, source_id: str) -> bool:
        """Whether a source's times are the reference clock's; its clocks may be thousands, one for each guest."""
        if source_id not in self._placed:
            clocks = self.source(source_id).clocks
            self._placed[source_id] = any(clock.offset_ns is not None for clock in clocks)
        return self._placed[source_id]

    def transport(self, transport_id: str) -> Transport:
        """A transport by id."""
        if len(self._transports) != len(self.transports):
            self._transports = {t.id: t for t in self.transports}
        return self._transports[transport_id]

    def function_of(self, environment: str | None) -> str:
        """What names the function of an environment, as far as exports tell: the same for environments of one function."""
        if not self._functions:
            self._functions = functions_of(self.sources, self.events)
        return self._functions.get(environment, "")

    def invocations_of(self, environment: str | None) -> list[Invocation]:
        """Invocations of one environment, in order."""
        if self._invocations[0] != len(self.invocations):
            self._invocations = len(self.invocations), _grouped(self.invocations)
        return self._invocations[1].get(environment or "", [])

    def invocation_before(self, environment: str | None, time_ns: int) -> Invocation | None:
        """The latest invocation of an environment that had started by a time."""
        mine = self.invocations_of(environment)
        at = bisect_right(self._column(_BEGUN, environment, mine), time_ns)
        return mine[at - 1] if at else None

    def invocation_at(self, environment: str | None, time_ns: int, slack_ns: int = 0) -> Invocation | None:
        """The invocation of an environment that runs at a time, else the first that begins within `slack_ns` after."""
        mine = self.invocations_of(environment)
        at = bisect_right(self._column(_BEGUN, environment, mine), time_ns)
        if at and ((end := mine[at - 1].end_ns) is None or time_ns <= end):
            return mine[at - 1]
        return mine[at] if at < len(mine) and mine[at].start_ns <= time_ns + slack_ns else None

    def invocation_of(self, event: Event, slack_ns: int = 0) -> Invocation | None:
        """The invocation in which a line stands: where its stamp leaves that open the one that it names, or whose START is
        above it in its log, or the only one that it may stand in.

        A line may carry the id of an invocation that ended long before: then it is not that one.
        """
        if event.request_id is not None:
            named = self._invocations_named().get((event.environment, event.request_id), [])
            own = next((i for i in named if _may_stand_in(event, i)), None)
            running = own or self.invocation_at(event.environment, event.time_ns, slack_ns)
            return running or (self._since(named[-1], event) if named else None)
        mine = self.invocations_of(event.environment)
        at = bisect_right(self._column(_BEGUN, event.environment, mine), event.time_ns)
        near = [i for i in reversed(mine[max(at - MOST_NEAR, 0) : at + MOST_NEAR]) if _may_stand_in(event, i)]
        above = next((i for i in near if self._begins_above(i, event)), None)
        if above is not None or len(near) == 1:
            return above or near[0]
        return self.invocation_at(event.environment, event.time_ns, 0 if near else slack_ns)

    def _since(self, named: Invocation, event: Event) -> Invocation | None:
        """The invocation that began since the one that a line names, and ended just before the line: lines are printed while some
        invocation runs, and a guest's clock may be ahead."""
        mine = self.invocations_of(event.environment)
        at = bisect_right(self._column(_BEGUN, event.environment, mine), event.time_ns) - 1
        if at < 0 or mine[at].start_ns <= named.start_ns:
            return None
        end = mine[at].end_ns
        return mine[at] if end is not None and event.time_ns - end <= GUEST_AHEAD_NS else None

    def _invocations_named(self) -> dict[tuple[str | None, str], list[Invocation]]:
        if self._named[0] != len(self.invocations):
            found: dict[tuple[str | None, str], list[Invocation]] = {}
            for i in self.invocations:
                found.setdefault((i.environment, i.request_id), []).append(i)
            self._named = len(self.invocations), found
        return self._named[1]

    def _begins_above(self, invocation: Invocation, event: Event) -> bool:
        """Whether an invocation's START stands above a line in the line's own log."""
        if invocation.start_ref is None or invocation.start_ref[0] != event.source:
            return False
        start = self.event_at(*invocation.start_ref)
        return start is not None and start.order < event.order

    def invocations_near(self, freeze: Freeze) -> list[Invocation]:
        """The invocations of a freeze's environment that may end before it or begin after it, by its bounds and their error."""
        mine = self.invocations_of(freeze.environment)
        starts = self._column(_BEGUN, freeze.environment, mine)
        first = bisect_left(starts, freeze.start_ns - freeze.error_ns)
        last = bisect_right(starts, freeze.end_ns + freeze.error_ns)
        return mine[max(first - 1, 0) : last]

    def event_at(self, source: str, ref: str) -> Event | None:
        """The log event at a place, None where there is none."""
        if self._places[0] != len(self.events):
            places: dict[str, dict[str, Event]] = defaultdict(dict)
            for e in self.events:
                places[e.source][e.ref] = e
            self._places = len(self.events), places
        return self._places[1].get(source, {}).get(ref)

    def freezes_of(self, environment: str | None) -> list[Freeze]:
        """Freezes of one environment, in order."""
        if self._freezes[0] != len(self.freezes):
            self._freezes = len(self.freezes), _grouped(self.freezes)
        return self._freezes[1].get(environment or "", [])

    def freezes_between(self, environment: str | None, start_ns: int, end_ns: int) -> list[Freeze]:
        """Freezes of one environment that overlap [start, end]."""
        mine = self.freezes_of(environment)
        first = bisect_right(self._column(_THAWED, environment, mine), start_ns)
        last = bisect_left(self._column(_FROZEN, environment, mine), end_ns)
        return mine[first:last]

    def freeze_covering(self, environment: str | None, start_ns: int, end_ns: int) -> Freeze | None:
        """The longest freeze that fills most of [start, end]."""
        between = self.freezes_between(environment, start_ns, end_ns)
        found = max(between, key=lambda z: z.overlap(start_ns, end_ns), default=None)
        if found is None or 2 * found.overlap(start_ns, end_ns) < end_ns - start_ns:
            return None
        return found

    def events_between(self, start_ns: int, end_ns: int, environment: str | None = None) -> list[Event]:
        """Log events in [start, end], of one environment if given."""
        events = self.events if environment is None else self.events_of(environment)
        times = self.times_of(environment)
        first = bisect_left(times, start_ns)
        return events[first : bisect_right(times, end_ns, lo=first)]

    def times_of(self, environment: str | None) -> array[int]:
        """The times of an environment's events, in order; of all events without one."""
        return self._column(_TIME, environment, self.events if environment is None else self.events_of(environment))

    def _column(self, of: Callable[[Any], int], environment: str | None, things: Sequence[Any]) -> array[int]:
        """The times of an environment's things: a search among numbers side by side takes a tenth of one among the things."""
        found = self._columns.get((of, environment))
        if found is None or len(found) != len(things):
            found = self._columns[of, environment] = array("q", map(of, things))
        return found

    def of_kind(self, *kinds: str) -> list[Event]:
        """Log events of these kinds, in time order: of a million lines most say nothing that is looked for."""
        return [self.events[number] for number in self.numbers_of_kind(*kinds)]

    def numbers_of_kind(self, *kinds: str) -> list[int]:
        """The same, as indices into `events`."""
        if self._by_kind[0] != len(self.events):
            numbers: dict[str, list[int]] = {}
            for number, e in enumerate(self.events):
                numbers.setdefault(e.kind, []).append(number)
            self._by_kind = len(self.events), numbers
        found = [self._by_kind[1].get(kind, []) for kind in kinds]
        return sorted(chain(*found)) if len(found) > 1 else found[0]

    def events_of(self, environment: str) -> list[Event]:
        """Log events of one environment, in time order."""
        if self._by_environment[0] != len(self.events):
            groups: dict[str | None, list[Event]] = {}
            for e in self.events:
                groups.setdefault(e.environment, []).append(e)
            self._by_environment = len(self.events), groups
        return self._by_environment[1].get(environment, [])

    def libraries_of(self, environment: str) -> list[str]:
        """Client libraries that name themselves in an environment's errors, those named most often first."""
        if self._libraries is None:
            counts: dict[str, Counter[str]] = {}
            for e in self.of_kind("error"):
                if e.environment and (library := e.attrs.get("library")):
                    counts.setdefault(e.environment, Counter())[str(library)] += 1
            self._libraries = {env: [name for name, _ in named.most_common()] for env, named in counts.items()}
        return self._libraries.get(environment, [])

    def reopened_ns(self, transport: Transport, when_ns: int) -> int | None:
        """When the next transport of the same environment to the same server was open, from a time on."""
        if self._openings is None:
            self._openings = {}
            for t in self.transports:
                if t.opened_ns is not None:
                    self._openings.setdefault((t.environment, t.remote), []).append(t.opened_ns)
            for times in self._openings.values():
                times.sort()
        mine = self._openings.get((transport.environment, transport.remote), [])
        at = bisect_left(mine, when_ns)
        return mine[at] if at < len(mine) else None

    def may_own(self, environment: str | None, k: int) -> bool:
        """Whether connection `k` may be an environment's: it is, or nobody's is known, nor that it can only be some others'."""
        owners = self.owners(k)
        return not owners or environment in owners

    def owners(self, k: int) -> set[str]:
        """The environment of connection `k`, or those between which nothing decided; empty where none is known."""
        if (owner := self.connections.environment.get(k)) is not None:
            return {owner}
        if self._rivals[0] != len(self.ties):
            found: dict[str, set[str]] = {}
            for tie in self.ties:
                if tie.kind.startswith("environment-") and not tie.used:
                    found.setdefault(tie.right, set()).add(tie.left)
            self._rivals = len(self.ties), found
        names = self.connections.id(k), self.connections.client(k).rpartition(":")[0].strip("[]")
        return next((mine for name in names if (mine := self._rivals[1].get(name))), set())

    def shares_clock(self, k: int, environment: str | None = None) -> bool:
        """Whether the captures of connection `k` share a clock with the logs of an environment; with any, where none is named."""
        frame = self.connections.frame(k)
        if environment is None:
            return any(e.frame == frame for e in self.environments)
        if len(self._environments) != len(self.environments):
            self._environments = {e.id: e for e in self.environments}
        return environment in self._environments and self._environments[environment].frame == frame

    def clock_error(self, *source_ids: str) -> int | None:
        """How far times of two of these sources may be misplaced against each other at most, None where two share no clock."""
        ids = sorted(set(source_ids))
        errors = [self._error_between(a, b) for n, a in enumerate(ids) for b in ids[n + 1 :]]
        return None if None in errors else max((e for e in errors if e is not None), default=0)

    def misplaced(self, event: Event, k: int) -> int | None:
        """How far a log event's time may be off against the packets of connection `k`; None where they share no clock."""
        source = self.connections.points[self.connections.seen_at(k)[0]].source
        between = self._error_between(event.source, source.id, own=False)
        return between + event.error_ns if between is not None else None

    def _error_between(self, a: str, b: str, own: bool = True) -> int | None:
        """Errors add up along the way from one clock to the other, which may be shorter than that over the reference."""
        one, other = self.source(a), self.source(b)
        if not one.clocks or not other.clocks or one.clocks[0].frame != other.clocks[0].frame:
            return None
        way, back = self._way(a), self._way(b)
        common = next((step for step in way if step in back), None)
        inside = sum(max((c.own_error_ns for c in s.clocks), default=0) for s in (one, other)) if own else 0
        if common is not None:
            return inside + way[common] + back[common]
        return (
            inside + max(way.values()) + max(back.values())
        )  # both lead to the reference, through one log of several or another

    def _way(self, source_id: str) -> dict[str, int]:
        """The sources through which a clock was aligned, with the error up to there."""
        found, error = {source_id: 0}, 0
        clock = self.source(source_id).clocks[0]
        while clock.via and clock.via not in found:
            error += clock.via_error_ns
            found[clock.via] = error
            clock = self.source(clock.via).clocks[0]
        return found

    def evidence(self, event: Event, note: str = "", primary: bool = False) -> Evidence:
        """A log event as a line of proof."""
        return Evidence(
            event.source,
            event.ref,
            event.layer,
            event.time_ns,
            event.source_ns,
            _SUBJECT.sub("", event_text(event)),
            note,
            primary,
            tuple(event.also),
        )

    def packet(self, segment: Segment, note: str = "", primary: bool = False, point: int | None = None) -> Evidence:
        """A segment as a line of proof, at its first sighting or at a chosen point; other sightings as further refs."""
        place = (segment.at(point) if point is not None else None) or min(segment.places, key=lambda p: p.time_ns)
        also = tuple((p.source, self.source(p.source).packet_ref(p.no)) for p in segment.places if p is not place)
        return Evidence(
            place.source,
            self.source(place.source).packet_ref(place.no),
            "pcap",
            place.time_ns,
            place.source_ns,
            segment.describe(),
            note,
            primary,
            also,
        )

    def icmp(self, error: AboutConnection, note: str = "") -> Evidence:
        """An ICMP error as a line of proof, at its first sighting; others as further refs."""
        place = min(error.places, key=lambda p: p.time_ns)
        also = tuple((p.source, self.source(p.source).packet_ref(p.no)) for p in error.places if p is not place)
        ref = self.source(place.source).packet_ref(place.no)
        return Evidence(
            place.source, ref, "icmp", place.time_ns, place.source_ns, error.describe(), note, also=also
        )  # fmt: skip

    def refusal(self, answer: Refusal, note: str = "", primary: bool = False) -> Evidence:
        """A DNS answer that is none as a line of proof."""
        return self._dns(answer, f"DNS answer {answer.code} for {answer.name}", note, primary)

    def query(self, asked: Lookup, note: str = "", primary: bool = False) -> Evidence:
        """A DNS query as a line of proof."""
        return self._dns(asked, f"DNS query to {asked.resolver} for {asked.name}", note, primary)

    def _dns(self, message: Refusal | Lookup, text: str, note: str, primary: bool) -> Evidence:
        source = self.connections.points[message.point].source
        ref = source.packet_ref(message.no)
        return Evidence(source.id, ref, "pcap", message.time_ns, message.source_ns, text, note, primary)


def _grouped(items: Iterable[_Placed]) -> dict[str, list[_Placed]]:
    """Things of an environment by environment, in order of their start."""
    groups: dict[str, list[_Placed]] = {}
    for item in items:
        groups.setdefault(item.environment, []).append(item)
    for group in groups.values():
        group.sort(key=lambda item: item.start_ns)
    return groups


def _may_stand_in(event: Event, invocation: Invocation) -> bool:
    """Whether a line's stamp allows that it stands in an invocation."""
    off, end = event.error_ns + invocation.error_ns, invocation.end_ns
    return invocation.start_ns - off <= event.time_ns and (end is None or event.time_ns <= end + off)


#: The second line of an error, where it is none of a stack, of an object's fields, or of a sentence that goes on.
_OWN = re.compile(r"(?!at |Traceback|Caused by|File )[\w(]")


def event_text(event: Event) -> str:
    """One line for a person: a trace line without its prefix, a platform line shortened, the first line of the rest, and an
    error's own beside the message that reports it."""
    line, _, rest = event.text.partition("\n")
    line = line.strip()
    if event.kind == "error" and _OWN.match(rest):
        line = f"{line.rstrip(':')}: {rest.partition(chr(10))[0]}"
    if event.layer == "lambda" and event.kind in ("start", "end", "report") and event.request_id:
        duration = event.attrs.get("duration_ns")
        return f"{event.kind.upper()} {event.request_id[:8]}…" + (f" after {seconds(duration)}" if duration else "")
    if event.kind in ("init-start", "restore-start"):
        line = line.partition(" Runtime Version ARN")[0]  # as long as the line, and the version says it
    if event.layer == "grpc":
        line = message(event.text, event.dialect).strip().split("\n", 1)[0]
    return " ".join(line.split())
