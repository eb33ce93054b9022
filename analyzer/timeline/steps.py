"""What every source says, step by step, each with how much it weighs.

One list for all: tables are made of it, and reports draw it. A step's weight says what a summary may fold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from analyzer.capture import columns as col
from analyzer.model.events import Event
from analyzer.model.findings import Evidence
from analyzer.model.grpc import ROUTINE
from analyzer.tcp import fields as f
from analyzer.tcp.segments import Place, Segment
from analyzer.tcp.states import STATES
from analyzer.timeline.endpoints import states
from analyzer.timeline.story import Story, event_text
from analyzer.timeline.whereabouts import fates

if TYPE_CHECKING:
    from analyzer.timeline.icmp import AboutConnection

#: What happens all the time; what is told; what changes something.
PLAIN, TOLD, MAIN = 0, 1, 2

#: Kinds of log lines that say that something went wrong.
FAILURES = frozenset((
    "error", "timeout", "crash", "ping-timeout", "ping-error", "stream-error", "socket-error", "too-many-pings",
    "resolve-failed", "connect-failed",
))  # fmt: skip
_PLAIN_GRPC = ROUTINE | {"keepalive-armed", "settings-acked"}
_MAIN_GRPC = frozenset((
    "tcp-connected", "goaway-received", "goaway-sent", "transport-draining", "transport-closing", "transport-closed",
    "keepalive-throttled",
))  # fmt: skip
_MAIN_LAMBDA = frozenset(("start", "report", "init-start", "restore-start"))
_NOTABLE = f.K_RETX | f.K_KEEPALIVE | f.K_ZERO_PROBE | f.K_WAKE | f.K_STATE | f.K_LOST | f.K_ACKED_UNSEEN


class Step(Struct):
    """One thing that one source saw. Times are ns: aligned, and as the source stamped it.

    `error_ns` is how far the aligned time may be off the reference clock, None where unaligned; `placed_ns` the part of that
    which is the line's own.
    `states` are those of client and server after a segment; `note` is what other captures add to it; `also` the same line or
    segment in other inputs.
    """

    time_ns: int
    source: str
    ref: str
    layer: str
    kind: str
    text: str
    weight: int
    order: int = 0
    source_ns: int | None = None
    error_ns: int | None = None
    placed_ns: int = 0
    ingested_ns: int | None = None
    connection: str | None = None
    environment: str | None = None
    transport: str | None = None
    request_id: str | None = None
    level: str | None = None
    states: tuple[str, str] | None = None
    note: str = ""
    also: Sequence[tuple[str, str]] = ()

    @property
    def places(self) -> Iterator[tuple[str, str]]:
        """(source, ref) of every sighting."""
        yield self.source, self.ref
        yield from self.also


class Frame(Protocol):
    """A frame that deep mode found (`analyzer.deep.DeepFrame`)."""

    @property
    def layer(self) -> str:
        """`http2` or `grpc`."""

    @property
    def kind(self) -> str:
        """What it is."""

    @property
    def place(self) -> Place:
        """The packet that ended it."""

    @property
    def telling(self) -> bool:
        """Whether it says something by itself."""

    def describe(self) -> str:
        """In words."""


Deep = Mapping[int, Sequence[Frame]]


def in_order(steps: Iterable[Step]) -> list[Step]:
    """By time; lines of one source that share a stamp as the source has them."""
    return sorted(steps, key=lambda s: (s.time_ns, s.source, s.order))


# ---- what log lines say


def failed(event: Event) -> bool:
    """Whether a log line tells of a failure."""
    if event.kind in ("call-end", "call-cancelled"):
        return str(event.attrs.get("code", "0")) != "0"
    return event.kind in FAILURES or "invoke_error" in event.attrs


def log_step(story: Story, e: Event) -> Step:
    """A log line."""
    error = e.error_ns if story.is_placed(e.source) else None
    return Step(
        e.time_ns, e.source, e.ref, e.layer, e.kind, event_text(e), _log_weight(e), e.order, e.source_ns, error, e.placed_ns,
        e.ingestion_ns, e.connection, e.environment, e.transport, e.request_id, e.level, also=e.also,
    )  # fmt: skip


def _log_weight(e: Event) -> int:
    if failed(e):
        return MAIN
    if e.layer == "lambda":
        return MAIN if e.kind in _MAIN_LAMBDA else PLAIN
    if e.layer == "grpc":
        return MAIN if e.kind in _MAIN_GRPC else PLAIN if e.kind in _PLAIN_GRPC else TOLD
    return TOLD


# ---- what captures saw


def kind_of(segment: Segment) -> str:
    """The event kind of a segment, in the field's words."""
    if segment.rst:
        return "rst"
    if segment.syn:
        return "syn-ack" if segment.flags & col.ACK_FLAG else "syn"
    if segment.fin:
        return "fin-retransmission" if segment.retransmitted else "fin"
    for mark, name in ((col.M_H2_GOAWAY, "goaway"), (col.M_PING, "ping"), (col.M_PING_ACK, "ping-ack")):
        if segment.marks & mark:
            return name
    if segment.retransmitted:
        return "retransmission"
    if segment.keepalive:
        return "keepalive-probe"
    return "data" if segment.payload else "ack"


def _segment_weight(s: Segment) -> int:
    """It opens, ends, changes a state or says why: main. It repeats, probes, wakes or carries another marker: told."""
    if s.syn or s.fin or s.rst or s.kinds & f.K_STATE or s.marks & col.M_WHY:
        return MAIN
    return TOLD if s.kinds & _NOTABLE or s.marks & col.M_NOTABLE else PLAIN


def connection_steps(
    story: Story, k: int, deep: Deep, least: int = PLAIN, proof: Collection[tuple[str, str]] = ()
) -> Iterator[Step]:
    """What captures saw of connection `k`: segments, ICMP errors about it, frames that deep mode found; of at least this weight,
    or a place of `proof`."""
    cs = story.connections
    segments, became = cs.segments(k), fates(cs, k)
    for s, (_, client, server), fate in zip(segments, states(segments, became), became, strict=True):
        weight = MAIN if fate else _segment_weight(s)
        if weight >= least or (
            proof and any((p.source, story.source(p.source).packet_ref(p.no)) in proof for p in s.places)
        ):
            step = _seen(story, k, _first(s), "tcp", kind_of(s), s.describe(), weight, s.places)
            step.states, step.note = (STATES[client], STATES[server]), fate
            yield step
    for error in cs.icmp(k):
        yield _seen(story, k, _first(error), "icmp", "icmp-error", error.describe(), MAIN, error.places)
    for frame in deep.get(k, ()):
        weight = TOLD if frame.telling else PLAIN
        if weight >= least:
            yield _seen(story, k, frame.place, frame.layer, frame.kind, frame.describe(), weight)


def evidence_step(story: Story, e: Evidence) -> Step:
    """A packet of no connection that a finding names: a DNS query or answer."""
    clock = story.source(e.source).clocks[0]
    error = clock.misplaced(e.source_ns) if e.source_ns is not None else None
    return Step(e.time_ns, e.source, e.ref, e.layer, "dns", e.text, MAIN, 0, e.source_ns, error, also=e.also)


def _first(seen: Segment | AboutConnection) -> Place:
    return min(seen.places, key=lambda p: p.time_ns)


def _seen(
    story: Story, k: int, place: Place, layer: str, kind: str, text: str, weight: int, places: Iterable[Place] = ()
) -> Step:
    also = tuple((p.source, story.source(p.source).packet_ref(p.no)) for p in places if p is not place)
    source = story.source(place.source)
    return Step(
        place.time_ns, place.source, source.packet_ref(place.no), layer, kind, text, weight, place.no, place.source_ns,
        source.clocks[0].misplaced(place.source_ns), connection=story.connections.id(k), environment=story.connections.environment.get(k), also=also,
    )  # fmt: skip


def all_steps(story: Story, deep: Deep) -> list[Step]:
    """Every log line in view, and what is notable of every connection in view."""
    steps = [log_step(story, e) for e in story.events]
    since, until = story.window
    for k in story.connections.loaded(story.connections.in_view().tolist()):
        steps += (
            s for s in connection_steps(story, k, deep, TOLD)
            if (since is None or s.time_ns >= since) and (until is None or s.time_ns <= until)
        )  # fmt: skip
    return in_order(steps)
