"""The trace for ui.perfetto.dev: Perfetto's own format, protobuf, with times in whole nanoseconds.

A process stands for an execution environment or, where none is known, for a client's host; its tracks are invocations, freezes, calls, pings,
log lines and connections. Under a connection stand the states of both endpoints (RFC 9293) and its packets. Flows, which the viewer draws
as arrows, lead through the evidence of each finding and from a gRPC transport to its connection.

Sources: the schema in the `perfetto` package (`TrackDescriptor`, `TrackEvent`) and perfetto.dev/docs/reference/synthetic-track-event.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from analyzer.model.problems import InputError
from analyzer.report.escape import terminal
from analyzer.tcp.states import STATES, UNKNOWN
from analyzer.timeline.endpoints import states
from analyzer.timeline.story import event_text
from analyzer.timeline.whereabouts import fates

if TYPE_CHECKING:
    from analyzer.model.events import Event
    from analyzer.model.findings import Finding
    from analyzer.model.records import Call, Freeze, Invocation, Ping, Transport
    from analyzer.tcp.segments import Segment
    from analyzer.trace import Trace

#: Connections that get tracks of their own, those of findings first, then the largest; of the others, a slice each.
MOST_TRACKS = 500
#: One writer wrote all of it.
SEQUENCE = 1
#: Builtin clocks of the format: times are wall-clock times, and the viewer's own clock is told to be the same.
REALTIME, BOOTTIME = 1, 6

Place = tuple[str, str]
_Thing = TypeVar("_Thing")


class _Slice(NamedTuple):
    start_ns: int
    end_ns: int
    name: str
    about: dict[str, str | int]
    flows: tuple[int, ...] = ()


def perfetto(trace: Trace) -> Iterator[bytes]:
    """The trace in pieces. The same trace gives the same bytes. Raises `InputError` where the package `perfetto` is missing."""
    try:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema
    except ImportError:
        raise InputError("--format perfetto needs a library: pip install 'connection-analyzer[perfetto]'") from None
    return _Writer(trace, schema).pieces()


class _Writer:
    """Packets of the format, and what numbers tracks and flows."""

    def __init__(self, trace: Trace, schema: Any) -> None:
        self.trace, self.story, self.schema = trace, trace.story, schema
        self.tracks = 0
        self.processes: dict[str, int] = {}
        #: Flows through a place: a finding's number.
        self.flows: dict[Place, list[int]] = {}
        for number, finding in enumerate(trace.findings, 1):
            for e in finding.evidence:
                for place in ((e.source, e.ref), *e.also):
                    self.flows.setdefault(place, []).append(number)
        #: … and from a transport to its connection.
        first = len(trace.findings) + 1
        self.ties = {t.id: first + n for n, t in enumerate(self.story.transports) if t.connection}

    def pieces(self) -> Iterator[bytes]:
        yield self._clocks()
        yield from self._findings(self.trace.findings)
        lines = _grouped(self.story.events, lambda e: e.environment)
        yield from self._environments(lines)
        yield from self._log_lines(lines.get(None, []), "log lines of no environment")
        yield from self._connections()

    # ---- what is shown

    def _findings(self, findings: list[Finding]) -> Iterator[bytes]:
        if not findings:
            return
        home = yield from self._process("findings")
        for number, f in enumerate(findings, 1):
            track = yield from self._track(f"{f.rule} {f.name}", home, number)
            ends = [e.time_ns for e in f.evidence] or [f.time_ns]
            about: dict[str, str | int] = {
                "id": f.id, "severity": f.severity.word, "confidence": f.confidence.word, "why": f.why, "help": f.help,
                "connection": f.connection or "", "environment": f.environment or "",
            }  # fmt: skip
            yield from self._slices(track, [_Slice(min(ends), max(ends), f.title, about)])

    def _environments(self, lines: dict[str | None, list[Event]]) -> Iterator[bytes]:
        story = self.story
        invocations = _grouped(story.invocations, lambda i: i.environment)
        freezes = _grouped(story.freezes, lambda z: z.environment)
        calls = _grouped((c for c in story.calls if c.start_ns is not None), lambda c: c.environment)
        transports = _grouped(story.transports, lambda t: t.environment)
        pings = _grouped(story.pings, lambda p: p.transport)
        for environment in story.environments:
            name = environment.id
            home = yield from self._process(name)
            yield from self._lanes("invocations", home, [_invocation(i) for i in invocations.get(name, [])])
            yield from self._lanes("freezes", home, [_freeze(z) for z in freezes.get(name, [])])
            yield from self._lanes("calls", home, [_call(c) for c in calls.get(name, [])])
            for transport in transports.get(name, []):
                yield from self._transport(home, transport, pings.get(transport.id, []))
            yield from self._log_lines(lines.get(name, []), name)

    def _transport(self, home: int, transport: Transport, pings: list[Ping]) -> Iterator[bytes]:
        ends = [t for p in pings for t in (p.sent_ns, p.acked_ns, p.timed_out_ns) if t]
        opened = transport.opened_ns or min(ends, default=None)
        if opened is None:
            return
        closed = transport.closed_ns or max(ends, default=opened)
        about: dict[str, str | int] = {"connection": transport.connection or "", "closed_by": transport.closed_by or ""}
        flows = (self.ties[transport.id],) if transport.id in self.ties else ()
        name = f"transport ({transport.number}) {transport.remote or ''}"
        track = yield from self._track(name, home)
        yield from self._slices(track, [_Slice(opened, closed, name, about, flows)])
        yield from self._lanes("pings", track, [_ping(p) for p in pings])

    def _log_lines(self, events: list[Event], home: str) -> Iterator[bytes]:
        if not events:
            return
        process = self.processes.get(home) or (yield from self._process(home))
        track = yield from self._track("log", process)
        for e in events:
            about = {"source": e.source, "ref": e.ref, "kind": e.kind, "request_id": e.request_id or "", "text": e.text}
            yield self._event(
                track, e.time_ns, "INSTANT", event_text(e), about, self._through([(e.source, e.ref), *e.also])
            )

    def _connections(self) -> Iterator[bytes]:
        cs = self.story.connections
        named = {name for f in self.trace.findings for name in (f.connection, *f.connections) if name}
        everyone = cs.in_view().tolist()
        chosen = everyone
        if len(everyone) > MOST_TRACKS:
            sizes = {k: (cs.id(k) in named, sum(side.packets for side in cs.record(k).sides)) for k in everyone}
            chosen = sorted(sorted(everyone, key=lambda k: sizes[k], reverse=True)[:MOST_TRACKS])
        for group in cs.batches(chosen):
            cs.load(group)
            for k in group:
                yield from self._connection(k)
        others: dict[str, list[_Slice]] = {}
        for k in sorted(set(everyone) - set(chosen)):
            others.setdefault(self._home(k), []).append(self._life(k))
        for home, lives in others.items():
            process = self.processes.get(home) or (yield from self._process(home))
            yield from self._lanes("other connections", process, lives)

    def _connection(self, k: int) -> Iterator[bytes]:
        cs = self.story.connections
        home = self._home(k)
        process = self.processes.get(home) or (yield from self._process(home))
        life = self._life(k)
        track = yield from self._track(life.name, process)
        flows = tuple(self.ties[t] for t in cs.transports.get(k, []) if t in self.ties)
        segments = cs.segments(k)
        if segments:  # their times are those of all captures
            ends = (min(segments[0].time_ns, life.start_ns), max(segments[-1].time_ns, life.start_ns))
            life = life._replace(start_ns=ends[0], end_ns=ends[1])
        yield from self._slices(track, [life._replace(flows=flows)])
        series = states(segments, fates(cs, k))
        for rank, (side, column) in enumerate((("client", 1), ("server", 2))):
            below = yield from self._track(f"{side} state", track, rank)
            yield from self._slices(below, _runs([(s[0], s[column]) for s in series], life.end_ns))
        for rank, (side, ours) in enumerate((("from client", True), ("from server", False)), 2):
            below = yield from self._track(f"packets {side}", track, rank)
            yield from self._packets(below, [s for s in segments if s.from_client is ours])
        if errors := cs.icmp(k):
            below = yield from self._track("ICMP", track, 4)
            for error in errors:
                places = [(p.source, self.story.source(p.source).packet_ref(p.no)) for p in error.places]
                at = min(p.time_ns for p in error.places)
                yield self._event(
                    below, at, "INSTANT", error.describe(), {"ref": "".join(places[0])}, self._through(places)
                )

    def _packets(self, track: int, segments: list[Segment]) -> Iterator[bytes]:
        for s in segments:
            places = [(p.source, self.story.source(p.source).packet_ref(p.no)) for p in s.places]
            about = {
                "ref": " ".join(f"{source}{ref}" for source, ref in places), "seq": s.seq, "ack": s.ack, "len": s.length,
                "window": s.window, "ttl": s.ttl,
            }  # fmt: skip
            yield self._event(track, s.time_ns, "INSTANT", s.describe(), about, self._through(places))

    def _home(self, k: int) -> str:
        cs = self.story.connections
        return cs.environment.get(k) or f"host {cs.client(k).rpartition(':')[0]}"

    def _life(self, k: int) -> _Slice:
        cs = self.story.connections
        record = cs.record(k)
        about: dict[str, str | int] = {
            "conn_state": record.conn_state,
            "history": record.history,
            "ended_by": record.ended_by or "",
        }
        name = f"{cs.id(k)} {cs.client(k)} → {cs.server(k)}"
        return _Slice(*cs.life(k), name, about)

    # ---- the format

    def _through(self, places: Iterable[Place]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(flow for place in places for flow in self.flows.get(place, ())))

    def _lanes(self, name: str, parent: int, slices: list[_Slice]) -> Iterator[bytes]:
        """Slices that may overlap: a track for as many as run at once, as slices of one track must nest."""
        lanes: list[list[_Slice]] = []
        free: list[int] = []
        busy: list[tuple[int, int]] = []
        for one in sorted(slices, key=lambda s: s[:3]):
            while busy and busy[0][0] <= one.start_ns:
                heappush(free, heappop(busy)[1])
            if not free:
                heappush(free, len(lanes))
                lanes.append([])
            number = heappop(free)
            lanes[number].append(one)
            heappush(busy, (one.end_ns, number))
        for number, lane in enumerate(lanes):
            track = yield from self._track(f"{name} {number + 1}" if number else name, parent)
            yield from self._slices(track, lane)

    def _slices(self, track: int, slices: Iterable[_Slice]) -> Iterator[bytes]:
        for one in slices:
            yield self._event(track, one.start_ns, "SLICE_BEGIN", one.name, one.about, one.flows)
            yield self._event(track, max(one.start_ns, one.end_ns), "SLICE_END")

    def _event(
        self,
        track: int,
        time_ns: int,
        kind: str,
        name: str = "",
        about: dict[str, Any] | None = None,
        flows: tuple[int, ...] = (),
    ) -> bytes:
        packet = self.schema.TracePacket(timestamp=time_ns, trusted_packet_sequence_id=SEQUENCE)
        event = packet.track_event
        event.type = event.Type.Value(f"TYPE_{kind}")
        event.track_uuid = track
        if name:
            event.name = _plain(name)
        event.flow_ids.extend(flows)
        for key, value in (about or {}).items():
            if isinstance(value, int):
                event.debug_annotations.add(name=key, int_value=value)
            elif value:
                event.debug_annotations.add(name=key, string_value=_plain(value))
        return self._piece(packet)

    def _process(self, name: str) -> Generator[bytes, None, int]:
        self.tracks += 1
        packet = self.schema.TracePacket(trusted_packet_sequence_id=SEQUENCE)
        packet.track_descriptor.uuid = self.tracks
        packet.track_descriptor.process.pid = len(self.processes) + 1
        packet.track_descriptor.process.process_name = _plain(name)
        self.processes[name] = self.tracks
        yield self._piece(packet)
        return self.tracks

    def _track(self, name: str, parent: int, rank: int | None = None) -> Generator[bytes, None, int]:
        self.tracks += 1
        packet = self.schema.TracePacket(trusted_packet_sequence_id=SEQUENCE)
        track = packet.track_descriptor
        track.uuid, track.parent_uuid, track.name = self.tracks, parent, _plain(name)
        track.sibling_merge_behavior = track.SiblingMergeBehavior.Value("SIBLING_MERGE_BEHAVIOR_NONE")
        if rank is not None:
            track.sibling_order_rank = rank
        track.child_ordering = track.ChildTracksOrdering.Value("EXPLICIT")
        number = self.tracks
        yield self._piece(packet)
        return number

    def _clocks(self) -> bytes:
        first = min((s.first_ns for s in self.story.sources if s.first_ns is not None), default=0)
        packet = self.schema.TracePacket(trusted_packet_sequence_id=SEQUENCE)
        for clock in (REALTIME, BOOTTIME):
            packet.clock_snapshot.clocks.add(clock_id=clock, timestamp=first)
        return self._piece(packet)

    def _piece(self, packet: Any) -> bytes:
        """A whole message of one packet: concatenated, they are one trace."""
        piece: bytes = self.schema.Trace(packet=[packet]).SerializeToString(deterministic=True)
        return piece


def _plain(text: str) -> str:
    """Text from logs and packets with control characters made visible; lone surrogates cannot be encoded."""
    return terminal(text).encode("utf-8", "backslashreplace").decode()


def _grouped(things: Iterable[_Thing], key: Callable[[_Thing], str | None]) -> dict[str | None, list[_Thing]]:
    groups: dict[str | None, list[_Thing]] = defaultdict(list)
    for thing in things:
        groups[key(thing)].append(thing)
    return groups


def _invocation(i: Invocation) -> _Slice:
    end = i.start_ns if i.end_ns is None else i.end_ns
    name = f"{i.request_id[:8]} {i.status}{', cold start' if i.cold_start else ''}"
    return _Slice(i.start_ns, end, name, {"request_id": i.request_id, "unfinished": "yes" if i.end_ns is None else ""})


def _freeze(z: Freeze) -> _Slice:
    return _Slice(z.start_ns, z.end_ns, "frozen", {"error_ns": z.error_ns})


def _call(call: Call) -> _Slice:
    about: dict[str, str | int] = {
        "details": call.details or "",
        "request_id": call.request_id or "",
        "transport": call.transport or "",
    }
    status = "unfinished" if call.end_ns is None else "no status" if call.status is None else f"status {call.status}"
    start = call.start_ns or 0
    return _Slice(start, call.end_ns or start, f"{call.method or 'call'} {status}", about)


def _ping(ping: Ping) -> _Slice:
    end = ping.acked_ns or ping.timed_out_ns
    outcome = "acknowledged" if ping.acked_ns else "timed out" if ping.timed_out_ns else "no answer seen"
    about: dict[str, str | int] = {"timeout_ms": ping.timeout_ms} if ping.timeout_ms else {}
    if ping.running_ns is not None:
        about["running_ns"] = ping.running_ns
    return _Slice(ping.sent_ns, end or ping.sent_ns, f"PING {outcome}", about)


def _runs(series: list[tuple[int, int]], end_ns: int) -> list[_Slice]:
    """Stretches of one state; what is unknown is left blank."""
    changes = [s for n, s in enumerate(series) if not n or s[1] != series[n - 1][1]]
    ends = [t for t, _ in changes[1:]] + [end_ns]
    return [
        _Slice(t, end, STATES[state], {}) for (t, state), end in zip(changes, ends, strict=True) if state != UNKNOWN
    ]
