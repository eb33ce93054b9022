"""The clocks of logs: the service's event stamps, the stamps that guests print, and logs that carry the same lines.

Exports of the log service share its clock. A guest's clock is another one (0.05 to 0.7 s apart in virtual machines): lines
that carry both stamps say how far, environment by environment. A runtime may hand its lines on with the guest's time as the
event's stamp, too: then they stand before START or after END of the requests that they name, which says how far. A log without
event stamps (a bare trace) is placed by the lines that it shares with another, or by the requests that its lines name; else it
stands alone until packets place it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from analyzer.model.clocks import Clock, Piece, chained
from analyzer.model.events import Event
from analyzer.model.grpc import message
from analyzer.model.times import MS, SECOND
from analyzer.timeline.bounds import Bounds, fit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analyzer.model.records import Source

    Ints = NDArray[np.int64]

#: Stamps are cut to milliseconds.
STAMP_NS = MS
#: That many stamps must all be whole seconds for a clock to be taken to show no fractions: of two, one pair in a million is so.
WHOLE_FROM = 2
#: Delivery of a line takes longer now and then; a clock that really moves does so by more than lines differ.
STEADY = (5, 50, 95)
#: The times of a guest's lines are looked at for drift and steps from this many on.
LEAST_MOVING = 8
#: A guest's clock that may be off by more tells less than the service's stamps: one that stands while its machine is frozen.
MOST_GUEST_ERROR_NS = SECOND
#: Lines of requests stand this far outside START and END at most by a clock that agrees (measured: none of 2,147 requests before START).
OUTSIDE_NS = 5 * MS
#: A guest whose lines stand before START is behind, as one request proves. Lines after END may be late ones: two must say the same,
#: and no more than that. What they say must fit most requests.
LEAST_AFTER, MOST_REQUESTS, MOST_AHEAD_NS = 2, 0.8, 2 * SECOND
#: A guest prints this long after END was stamped at most.
LATE_LINE_NS = 20 * MS
#: Between these a request's lines stand.
_BOUNDS = frozenset(("start", "end", "report"))
#: Lines by which two logs are compared, and how many of them must meet at one distance.
SAMPLE, LEAST_TWINS, LEAST_TWIN_SHARE = 400, 3, 0.5
#: A time inside a line.
_TIME = re.compile(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z")
#: A content that is printed more often than this tells nothing of where it stands.
MOST_COPIES = 8
#: Twins may be this far from one distance: stamps cut to seconds, drift in between.
TOGETHER_NS = 1_500 * MS
#: A line with a request's id stands between its START and the next one of its environment (stale ids), or so long after END.
STALE_NS = 900 * SECOND


def resolution(stamps: list[int]) -> int:
    """What stamps were cut to: a second where all of several are whole ones, else a millisecond."""
    if len(stamps) >= WHOLE_FROM and not any(stamp % SECOND for stamp in stamps):
        return SECOND
    return STAMP_NS


# ---- guests


def guest_clocks(events: list[Event], event_cut: int, inner_cut: int) -> dict[str | None, Clock | None]:
    """Per environment: from the stamps that a guest prints to the service's, from lines that carry both.

    `event_cut` and `inner_cut` are what the stamps were cut to, ns. None is a clock that is of no use.
    """
    pairs: dict[str | None, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for e in events:
        if e.event_ns is not None and e.inner_ns is not None and e.layer in ("app", "grpc"):
            stamps, differences = pairs[e.environment]
            stamps.append(e.inner_ns)
            differences.append(e.event_ns - e.inner_ns)
    found: dict[str | None, Clock | None] = {}
    most = MOST_GUEST_ERROR_NS + event_cut + inner_cut
    for environment, (stamps, differences) in pairs.items():
        at, apart = np.array(stamps, np.int64), np.array(differences, np.int64)
        clock = Clock(
            "inner", anchors=len(at), how="both stamps of a line", pieces=_guest(at, apart, event_cut, inner_cut)
        )
        found[environment] = clock if clock.worst_error(int(at.min()), int(at.max())) <= most else None
    return found


def apart_from_platform(events: list[Event], event_cut: int) -> dict[str | None, list[Piece]]:
    """By environment, from the event stamps of a guest's lines to those of the service's own, START and END, where these are of
    another clock: such as lines of requests that stand before START, or after END, say."""
    found: dict[str | None, list[Piece]] = {}
    for environment, requests in _requests(events, event_cut).items():
        at, low, high = np.array(requests, np.int64).T
        if (np.any(low > OUTSIDE_NS) or np.any(high < -OUTSIDE_NS)) and (pieces := _outside(at, low, high)):
            found[environment] = pieces
    return found


def _printed_by_guest(events: list[Event], clocks: dict[str | None, Clock]) -> dict[str | None, bool]:
    """By environment whose guest's clock is another than the service's, whether that stamped its lines without a stamp of their own,
    too: as more of them stand in invocations so or otherwise; not known where as many do."""
    starts, ends, lines = (defaultdict[str | None, list[int]](list) for _ in range(3))
    for e in events if clocks else ():
        if e.environment not in clocks or e.event_ns is None:
            continue
        if e.layer == "lambda":
            if e.kind in ("start", "report"):
                (starts if e.kind == "start" else ends)[e.environment].append(e.event_ns)
        elif e.inner_ns is None:
            lines[e.environment].append(e.event_ns)
    found = {}
    for environment, stamps in lines.items():
        at, clock = np.array(stamps, np.int64), clocks[environment]
        error = clock.worst_error(int(at.min()), int(at.max()))
        begun, over = np.sort(starts[environment]) - error, np.sort(ends[environment]) + LATE_LINE_NS + error
        by_guest, by_service = (_inside(times, begun, over) for times in (clock.aligned_all(at), at))
        if by_guest != by_service:
            found[environment] = by_guest > by_service
    return found


def _inside(times: Ints, begun: Ints, over: Ints) -> int:
    """How many of these times stand in invocations that began and ended at those, in order."""
    return int(np.count_nonzero(np.searchsorted(begun, times, side="right") > np.searchsorted(over, times)))


def _requests(events: list[Event], event_cut: int) -> dict[str | None, list[tuple[int, int, int]]]:
    """By environment, for each request with START, END and lines: when it began to print, and by how much its lines' clock is
    behind at least and at most."""
    some = _with_lines_outside(events)
    ran: dict[tuple[str | None, str], tuple[list[int], list[int]]] = {}
    lines: dict[tuple[str | None, str], list[int]] = {}
    for e in events if some else ():
        if e.event_ns is None or e.request_id is None or e.environment not in some:
            continue
        if e.layer == "lambda":
            if e.kind in _BOUNDS:
                ran.setdefault((e.environment, e.request_id), ([], []))[e.kind != "start"].append(e.event_ns)
        elif e.inner_ns is not None:
            lines.setdefault((e.environment, e.request_id), []).append(e.event_ns)
    found: dict[str | None, list[tuple[int, int, int]]] = defaultdict(list)
    for key, stamps in lines.items():
        starts, ends = ran.get(key, ((), ()))
        if len(starts) != 1 or not ends:
            continue
        start, end, first = starts[0], min(ends), min(stamps)
        latest = first + end - start + LATE_LINE_NS  # later ones carry a stale id
        last = max(stamp for stamp in stamps if stamp <= latest) if latest >= first else first
        found[key[0]].append((first, start - first - event_cut, end - last + LATE_LINE_NS + event_cut))
    return found


def _with_lines_outside(events: list[Event]) -> set[str | None]:
    """The environments one of whose lines stands outside the request that it names, as the log has them in order."""
    found: set[str | None] = set()
    running: dict[str | None, str] = {}
    for e in events:
        if e.request_id is None:
            continue
        if e.layer != "lambda":
            if running.get(e.environment) != e.request_id:
                found.add(e.environment)
        elif e.kind == "start":
            running[e.environment] = e.request_id
        elif e.kind == "report":
            running.pop(e.environment, None)
    return found


def _outside(at: Ints, low: Ints, high: Ints) -> list[Piece]:
    """How far a clock is behind whose lines stand outside some requests: as far as fits most of them, or where that differs (it
    stands in freezes) as each of them says; nothing where the lines may be late instead."""
    behind, ahead = np.count_nonzero(low > OUTSIDE_NS), np.count_nonzero(high < -OUTSIDE_NS)
    fitting = np.searchsorted(np.sort(low), low, side="right") - np.searchsorted(np.sort(high), low)
    most = low[np.argmax(fitting)]
    same = (low <= most) & (high >= most)
    if (behind or ahead >= LEAST_AFTER) and np.count_nonzero(same) >= MOST_REQUESTS * len(at):
        found = fit(Bounds(at[same], low[same], at[same], high[same]), int(at.min()), int(at.max()), 2 * STAMP_NS)
        if found is not None and found.consistent and found.pieces[0].shift_ns >= -MOST_AHEAD_NS:
            return found.pieces
    if 2 * behind <= len(at):
        return []
    order = np.argsort(at, kind="stable")
    each = np.column_stack([at, (low + high) // 2, (high - low) // 2])[order].tolist()
    return [Piece(first, first, shift, error_ns=error) for first, shift, error in each]


def _guest(at: Ints, apart: Ints, event_cut: int, inner_cut: int) -> list[Piece]:
    if event_cut > STAMP_NS:
        if inner_cut > STAMP_NS:  # both cut: what is lost at either end is the same on average
            error = round(2 * float(apart.std()) / len(at) ** 0.5) + 3 * event_cut // len(at)
            return [Piece(int(at.min()), int(at.min()), round(float(apart.mean())), error_ns=error)]
        return _cut(at, apart, event_cut)
    low, middle, high = (int(v) for v in np.percentile(apart, STEADY))
    if len(at) >= LEAST_MOVING and high - low > 2 * STAMP_NS and (pieces := _moving(at, apart)):
        return pieces
    return [Piece(int(at.min()), int(at.min()), middle, error_ns=(high - low) // 2 + STAMP_NS)]


def _cut(at: Ints, apart: Ints, event_cut: int) -> list[Piece]:
    """A guest's clock by stamps of the service that were cut: where they allow it, the two clocks agree."""
    found = fit(Bounds(at, apart, at, apart + event_cut), int(at.min()), int(at.max()), 2 * STAMP_NS)
    if found is None:
        return []
    if len(found.pieces) == 1 and abs((piece := found.pieces[0]).shift_ns) <= piece.error_ns:
        piece.error_ns += abs(piece.shift_ns)
        piece.shift_ns, piece.ppm = 0, 0.0
    return found.pieces


def _moving(at: Ints, apart: Ints) -> list[Piece] | None:
    """The pieces of a guest's clock that drifts, or was set, by more than its lines differ among themselves; else None."""
    order = np.argsort(at, kind="stable")
    at, apart = at[order], apart[order]
    jitter = 3 * int(np.median(np.abs(np.diff(apart)))) + STAMP_NS
    found = fit(Bounds(at, apart - jitter, at, apart + jitter), int(at[0]), int(at[-1]))
    if found is None or not found.consistent or not (found.drift_proven or len(found.pieces) > 1):
        return None
    return found.pieces


# ---- logs that carry the same lines


class Twin(Struct):
    """How to read a log's own stamps as another's: `clock` from one to the other, `tolerance_ns` for a line in both."""

    of: str
    clock: Clock
    tolerance_ns: int


def content(event: Event) -> tuple[object, ...]:
    """What a line says, without its stamps, and without times that the same clock gave (a call's deadline)."""
    if event.layer == "grpc":
        said = message(event.text, event.dialect)
        return (event.pid, event.tracer, event.number, _TIME.sub("", said))
    return (event.request_id, event.text)


def twins(inputs: list[list[Event]]) -> dict[str, Twin]:
    """Logs whose lines another log carries too, with other stamps. The first inputs are the ones to be compared with.

    Lines that both carry with the same stamps need no clock.
    """
    found: dict[str, Twin] = {}
    for number, events in enumerate(inputs):
        mine = [e for e in events if e.inner_ns is not None and e.layer in ("app", "grpc")]
        if not mine or not number:
            continue
        sample = mine[:: max(len(mine) // SAMPLE, 1)]
        for other in inputs[:number]:
            twin = _twin(mine, sample, other)
            if twin is not None:
                found[mine[0].source] = twin
                break
    return found


def _twin(mine: list[Event], sample: list[Event], other: list[Event]) -> Twin | None:
    wanted = {content(e) for e in sample}
    tails = {e.text[-24:] for e in sample}
    theirs: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for e in other:
        if e.inner_ns is not None and e.text[-24:] in tails and (key := content(e)) in wanted:
            theirs[key].append(e.inner_ns)
    if not theirs:
        return None
    own: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for e in mine:
        if e.text[-24:] in tails and e.inner_ns is not None and (key := content(e)) in theirs:
            own[key].append(e.inner_ns)
    at, apart = _distances(own, theirs)
    at, apart = _densest(at, apart)
    if len(at) < max(LEAST_TWINS, LEAST_TWIN_SHARE * len(own)) or not np.any(apart):
        return None
    mine_cut, other_cut = (resolution([t for ts in group.values() for t in ts]) for group in (own, theirs))
    bounds = Bounds(at, apart - mine_cut, at, apart + other_cut)
    found = fit(bounds, int(at.min()), int(at.max()), 2 * STAMP_NS)
    if found is None:
        return None
    clock = Clock("inner", anchors=len(at), how="lines in both", pieces=found.pieces)
    return Twin(other[0].source, clock, max(mine_cut, other_cut) + max(p.error_ns for p in found.pieces) + 5 * MS)


def _distances(
    own: dict[tuple[object, ...], list[int]], theirs: dict[tuple[object, ...], list[int]]
) -> tuple[Ints, Ints]:
    """Own stamps and what the other's is later, of lines that say the same: in their order where both have as many of them, else
    of every pair where there are few."""
    at, apart = [], []
    for key, stamps in own.items():
        others = theirs[key]
        if len(stamps) == len(others):
            at += stamps
            apart += [b - a for a, b in zip(stamps, others, strict=True)]
        elif len(stamps) <= MOST_COPIES and len(others) <= MOST_COPIES:
            at += [a for a in stamps for _ in others]
            apart += [b - a for a in stamps for b in others]
    return np.array(at, np.int64), np.array(apart, np.int64)


def _densest(at: Ints, apart: Ints) -> tuple[Ints, Ints]:
    """The pairs at the distance at which most stand."""
    if not len(at):
        return at, apart
    order = np.argsort(apart, kind="stable")
    at, apart = at[order], apart[order]
    ends = np.searchsorted(apart, apart + TOGETHER_NS, side="right")
    start = int(np.argmax(ends - np.arange(len(apart))))
    return at[start : ends[start]], apart[start : ends[start]]


# ---- everything


class _Guest(Struct):
    """How the stamps are read that a library of one environment prints: `believed` before the service's, where there are both."""

    clock: Clock | None
    steady: tuple[int, int] | None
    cut: int
    lost: bool
    believed: bool


class LogClock(Struct):
    """The clocks of one log: into the time of `frame`, which other logs may share."""

    source: Source
    frame: str
    event: Clock | None
    inner: Clock | None
    #: By environment, where guests differ; None where a guest's stamps do not run as the service's do.
    guests: dict[str | None, Clock | None]
    event_cut: int
    inner_cut: dict[str | None, int]  # by dialect: one library prints fractions, another does not
    #: First and last stamp of either kind.
    event_span: tuple[int, int] | None = None
    #: By environment, from a guest's event stamps to the service's, where they are of another clock than START and END.
    behind: dict[str | None, Clock] = {}
    #: … and whether lines without a stamp of their own have the guest's, where that is known.
    printed: dict[str | None, bool] = {}
    inner_span: tuple[int, int] | None = None

    @property
    def guest_error_ns(self) -> int:
        """How far its guests' clocks may be off the service's, beyond the cutting of stamps."""
        if self.event is None or self.inner is None or not any(map(self._is_believed, self.inner_cut.values())):
            return max((piece.error_ns for clock in self.behind.values() for piece in clock.pieces), default=0)
        return max((piece.error_ns for piece in self.inner.pieces), default=STAMP_NS) - STAMP_NS

    def read(self, events: Iterable[Event]) -> set[int]:
        """Set events' times in the frame, how far they may be off, and which stamp that comes from; the `id()`s of those
        without a stamp."""
        guests: dict[tuple[str | None, str | None], _Guest] = {}
        service = self.event.steady if self.event is not None else (0, 0)
        unstamped = set()
        for e in events:
            guest = guests.get((e.environment, e.dialect))
            if guest is None:
                guest = guests[e.environment, e.dialect] = self._printed_by(e.environment, e.dialect)
            stamp, clock, steady = e.inner_ns, guest.clock, guest.steady
            if stamp is not None and (guest.believed or (e.event_ns is None and not guest.lost)):
                e.clock, e.resolution_ns = "inner", guest.cut
            elif e.event_ns is not None:
                stamp, clock, steady = e.event_ns, self.event, service
                e.clock, e.resolution_ns = "event", self.event_cut
            else:
                unstamped.add(id(e))
                continue
            e.source_ns = stamp
            if steady is not None:
                e.time_ns, e.error_ns = stamp + steady[0], steady[1]
            elif clock is not None:
                e.time_ns, e.error_ns = clock.aligned(stamp), clock.error_at(stamp)
            if self.behind and e.clock == "event" and e.layer in ("app", "grpc"):
                self._by_guest(e)
        return unstamped

    def _by_guest(self, e: Event) -> None:
        """A line by its event stamp: the guest's, where a logger stamped it as well; who stamped what was just printed may not be known."""
        behind = self.behind.get(e.environment)
        guests = True if e.inner_ns is not None else self.printed.get(e.environment)
        if behind is None or e.event_ns is None or guests is False:
            return
        aligned = behind.aligned(e.event_ns)
        e.error_ns += behind.error_at(e.event_ns)
        if guests:
            e.time_ns += aligned - e.event_ns
        else:
            e.error_ns += abs(aligned - e.event_ns)

    def _printed_by(self, environment: str | None, dialect: str | None) -> _Guest:
        clock = self.guests.get(environment, self.inner)
        lost, cut = clock is None and environment in self.guests, self.inner_cut.get(dialect, STAMP_NS)
        steady = clock.steady if clock is not None else (0, 0)
        return _Guest(clock, steady, cut, lost, not lost and self._is_believed(cut))

    def _is_believed(self, cut: int) -> bool:
        """Whether a guest's stamps tell more than the service's: of two that were cut to seconds the service's need no other clock."""
        return cut <= STAMP_NS or cut < self.event_cut


#: The frame of logs that carry the log service's own stamps.
SERVICE = "service"


def log_clocks(logs: list[tuple[Source, list[Event]]], twin_of: dict[str, Twin]) -> dict[str, LogClock]:
    """The clocks of every log, by source id; each log is in the service's frame, in that of its twin, or in one of its own."""
    found: dict[str, LogClock] = {}
    order = list(twin_of)  # a twin's twin comes first
    for source, events in sorted(logs, key=lambda log: order.index(log[0].id) + 1 if log[0].id in twin_of else 0):
        stamps = [e.event_ns for e in events if e.event_ns is not None]
        cut = resolution(stamps)
        printed: dict[str | None, list[int]] = defaultdict(list)
        for e in events:
            if e.inner_ns is not None:
                printed[e.dialect].append(e.inner_ns)
        inner_cut = {dialect: resolution(times) for dialect, times in printed.items()}
        if stamps:
            finest = min(inner_cut.values(), default=cut)
            guests = guest_clocks(events, cut, finest) if finest <= cut else {}
            behind = apart_from_platform(events, cut)
            guests |= {name: _behind(guests[name], pieces) for name, pieces in behind.items() if name in guests}
            clock = LogClock(source, SERVICE, Clock("event"), _summary(guests), guests, cut, inner_cut)
            clock.behind = {name: Clock("event", pieces=pieces) for name, pieces in behind.items()}
            clock.printed = _printed_by_guest(events, clock.behind)
        elif source.id in twin_of:
            clock = _as_twin(source, twin_of[source.id], found, cut, inner_cut)
        else:
            clock = LogClock(source, source.id, None, Clock("inner"), {}, cut, inner_cut)
        clock.event_span = (min(stamps), max(stamps)) if stamps else None
        inner = printed.values()
        clock.inner_span = (min(map(min, inner)), max(map(max, inner))) if inner else None
        found[source.id] = clock
    return found


def _behind(guest: Clock | None, pieces: list[Piece]) -> Clock | None:
    """A guest's clock where its event stamps are of that clock too."""
    if guest is None:
        return None
    how = f"{guest.how}; START and END of the requests that they name"
    return Clock("inner", anchors=guest.anchors, how=how, pieces=chained(guest.pieces, pieces))


def _as_twin(
    source: Source, twin: Twin, known: dict[str, LogClock], cut: int, inner_cut: dict[str | None, int]
) -> LogClock:
    of = known[twin.of]

    def through(clock: Clock | None) -> Clock:
        pieces = chained(twin.clock.pieces, clock.pieces if clock is not None else [])
        return Clock("inner", pieces=pieces, anchors=twin.clock.anchors, how=f"{twin.clock.how} ({of.source.label})")

    guests = {environment: clock and through(clock) for environment, clock in of.guests.items()}
    return LogClock(source, of.frame, None, through(of.inner), guests, cut, inner_cut)


def _summary(guests: dict[str | None, Clock | None]) -> Clock | None:
    """One clock for a log of several guests: the middle one's, all of them inside its error."""
    clocks = [clock for clock in guests.values() if clock is not None]
    if len(clocks) < 2:
        return clocks[0] if clocks else None
    shifts = [(piece.shift_ns, piece.error_ns) for clock in clocks for piece in clock.pieces]
    middle = int(np.median([shift for shift, _ in shifts]))
    error = max(abs(shift - middle) + error for shift, error in shifts)
    first = min(clock.pieces[0].since_ns for clock in clocks if clock.pieces)
    pieces = [Piece(first, first, middle, error_ns=error)]
    return Clock("inner", pieces=pieces, anchors=sum(c.anchors for c in clocks), how=clocks[0].how)


def by_requests(events: list[Event], windows: dict[str, tuple[int, int]]) -> Clock | None:
    """The clock of a log whose lines name requests: a line stands in its request's window (START, next START), by the frame."""
    named = [(e.inner_ns, windows[e.request_id]) for e in events if e.inner_ns is not None and e.request_id in windows]
    if len(named) < LEAST_TWINS:
        return None
    at = np.array([stamp for stamp, _ in named], np.int64)
    low = np.array([start for _, (start, _) in named], np.int64) - at
    high = np.array([end for _, (_, end) in named], np.int64) - at
    found = fit(Bounds(at, low, at, high), int(at.min()), int(at.max()), 2 * STAMP_NS)
    if found is None or not found.consistent:
        return None
    return Clock("inner", pieces=found.pieces, anchors=len(named), how="requests that its lines name")


def request_windows(events: list[Event]) -> dict[str, tuple[int, int]]:
    """From START of a request to the next START of its environment, or long after: lines may carry a stale id."""
    found: dict[str, tuple[int, int]] = {}
    running: dict[str | None, str] = {}
    for e in events:
        if e.kind == "start" and e.request_id and e.event_ns is not None:
            before = running.get(e.environment)
            if before is not None:
                found[before] = (found[before][0], e.event_ns + STAMP_NS)
            running[e.environment] = e.request_id
            found[e.request_id] = (e.event_ns - STAMP_NS, e.event_ns + STALE_NS)
    return found
