"""What a log and a capture both tell of: lines and the packets that caused them, or that they caused."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from math import log
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from analyzer.model.clocks import PPM
from analyzer.model.events import Event
from analyzer.model.records import Invocation
from analyzer.model.times import MS, SECOND
from analyzer.timeline.shown import FRAMES, Shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

#: START is stamped up to 91 ms before the guest runs (measured), END a few ms after its last packet.
START_SLACK_NS = 100 * MS
END_SLACK_NS = 10 * MS
#: … and a guest may run on for as long before it is frozen.
RUNS_ON_NS = 10 * MS
#: Of several thaws in a row that are alike the quickest takes no longer than this (measured: 12 to 23 ms).
QUICK_START_NS = 50 * MS
#: Offsets that fit about as well are told apart by how many invocations begin to send within this.
QUICK_NS = 15 * MS
#: Lines of a kind that are looked at together; more add nothing but time.
MOST_LINES = 300
#: What a client's log says it sent: ping frames, by the layer that asks for one or by the one that writes it.
_PINGS = frozenset(("ping-sent", "ping-frame-sent"))
#: Errors that a reset causes.
_RESET = frozenset(("ECONNRESET", "ECONNREFUSED"))
#: No invocation runs longer, nor an initialisation.
LONGEST_NS, LONGEST_INIT_NS = 900 * SECOND, 10 * SECOND
#: A client is taken to send this part of its bursts while an environment of its log runs, so long before and after included.
WHILE_RUNNING, ABOUT_NS = 0.95, 200 * MS
#: What a line says against an offset that must find a packet there, and finds none (besides not being a hit).
DOUBT_OF_MISSED = 1.5
#: Bursts beyond the first and the last invocation that are held against an offset: captures may be longer than logs.
MOST_UNKNOWN = 6
#: So few coincidences are expected where none is.
FEW_STRAYS = 0.1
#: A hit by chance is never taken to be less probable than this: clocks, and captures, are no dice.
LEAST_CHANCE = 1e-4
#: How long after its packet a line is printed at most; a JVM loads the classes of its first error (measured: 66 to 260 ms).
PRINTED = {"tcp-connected": 20 * MS, "reset": 100 * MS, "reset in Java": 400 * MS}
#: A class of Java's, where an exception is named.
_JAVA = re.compile(r"\b(?:[a-z]\w*\.){2,}[A-Z]\w*(?:Exception|Error)\b")
#: Later than any packet may be after a line.
_NO_PAIR = 1 << 62
_PORT = re.compile(r"\bport[ :=]{1,2}(\d{4,5})\b")


class Pairs(Struct, frozen=True):
    """packet − line of every hit at one offset, for several drifts, one a row: in order, lines without a packet behind them."""

    apart: Ints
    count: Ints
    first: Ints  # of the first line that finds a packet

    def share(self, percent: int) -> Ints:
        """The percentile of each row, interpolated as numpy does by default; means nothing of a row without pairs."""
        below, rest = np.divmod((self.count - 1).clip(0) * percent, 100)
        rows = np.arange(len(self.count))
        low, high = self.apart[rows, below], self.apart[rows, np.minimum(below + 1, (self.count - 1).clip(0))]
        share: Ints = low + (high - low) * rest // 100
        return share


class Kind(Struct, frozen=True):
    """Log times and packet times of one kind of anchor, sorted; a pair is a hit when packet − line − offset lies in the window."""

    log: Ints
    packet: Ints
    before: int  # the packet may precede the line by this much (its cause)
    after: int  # … or follow it (its effect)
    weight: float
    error: int = 0  # how far the lines may be misplaced; `before` and `after` include it
    #: Pairs may be a coincidence (another environment's packet): the middle one is trusted, not the tightest …
    loose: bool = False
    #: … unless nobody else's packets were about.
    alone: bool = False
    #: Whose each line is, by number, where a packet cannot answer two of one environment: it begins a burst once.
    owner: Ints | None = None

    @property
    def at_hand(self) -> bool:
        """Whether there are lines and packets of it."""
        return bool(len(self.log) and len(self.packet))

    def part(self, start: int, end: int) -> Kind:
        """Only the lines of [start, end)."""
        return self.of(_slice(self.log, start, end))

    def of(self, chosen: slice | NDArray[np.bool_]) -> Kind:
        """Only these lines."""
        return replace(self, log=self.log[chosen], owner=None if self.owner is None else self.owner[chosen])

    def within(self, start: int, end: int) -> Kind:
        """The same, or some of them where they are many."""
        return self.of(_some(self.log, start, end))

    def tilted(self, ppm: float, at: int) -> Kind:
        """The lines where a clock that was right at `at` and drifts so would have stamped them."""
        return replace(self, log=tilted(self.log, ppm, at))

    def quick(self) -> Kind:
        """Only effects that follow at once."""
        return replace(self, after=min(self.after, QUICK_NS + self.error))

    def hits(self, candidates: Ints) -> NDArray[np.float64]:
        """How many lines find a packet, for each candidate offset."""
        if not self.at_hand or not len(candidates):
            return np.zeros(len(candidates))
        return np.asarray(self.found(candidates).sum(axis=1) * self.weight, np.float64)

    def count(self, offset: int) -> int:
        """How many lines find a packet at this offset."""
        return int(self.found(np.array([offset])).sum()) if self.at_hand else 0

    def pairs(self, offset: int, lines: Ints) -> Pairs:
        """The hits at this offset of lines as they stand for several drifts (`lines`, one a row); of lines and packets that are there."""
        hit, found = self._next(lines + offset)
        return _pairs(hit, found - lines)

    def surprises(self, offsets: Ints, first_ns: int, last_ns: int) -> NDArray[np.float64]:
        """How improbable so many hits are by chance at packets that stand anywhere in a capture from `first_ns` to `last_ns`, for each offset."""
        if not self.at_hand:
            return np.zeros(len(offsets))
        wanted = self.log[None, :] + offsets[:, None]
        there = ((wanted >= first_ns - self.after) & (wanted <= last_ns + self.before)).sum(axis=1)
        return surprises(self.found(offsets).sum(axis=1), there, self.chance(first_ns, last_ns))

    def missed(self, offset: int, first_ns: int, last_ns: int) -> int:
        """How many lines find none, though all of their window is in a capture from `first_ns` to `last_ns`."""
        wanted = self.log + offset
        inside = (wanted - self.before >= first_ns) & (wanted + self.after <= last_ns)
        return int((inside & ~self.found(np.array([offset]))[0]).sum())

    def chance(self, first_ns: int, last_ns: int) -> float:
        """How probable a hit is by chance, at packets that stand anywhere in a capture from `first_ns` to `last_ns`."""
        reach = self.before + self.after
        covered = np.minimum(np.diff(self.packet), reach).sum() + reach
        return min(max(float(covered) / (last_ns - first_ns + reach), LEAST_CHANCE), 1 - LEAST_CHANCE)

    def found(self, offsets: Ints) -> NDArray[np.bool_]:
        """For each offset (rows) which lines find a packet; those of one environment that follow each other soon, each one of its own."""
        wanted = self.log[None, :] + offsets[:, None]
        if not (soon := self._soon()):
            return self._next(wanted)[0]
        first, end = (np.searchsorted(self.packet, wanted + way) for way in (-self.before, self.after + 1))
        for line, before in soon:  # windows of one length: who comes first takes the first that is free
            taken = first[:, before] < end[:, before]
            first[:, line] = np.maximum(first[:, line], first[:, before] + taken)
        return np.asarray(first < end)

    def _soon(self) -> list[tuple[int, int]]:
        """The lines that follow one of the same environment so soon that one packet stands in the windows of both, and that one."""
        if self.owner is None or not len(self.log):
            return []
        order = np.argsort(self.owner, kind="stable")
        near = (np.diff(self.owner[order]) == 0) & (np.diff(self.log[order]) <= self.before + self.after)
        return sorted(zip(order[1:][near].tolist(), order[:-1][near].tolist(), strict=True))

    def last_before(self, offsets: Ints, lines: Ints) -> Pairs:
        """The same with the last packet before each line, at an offset for each row."""
        at = np.searchsorted(self.packet, lines + offsets[:, None] + self.after) - 1
        apart = self.packet[np.maximum(at, 0)] - lines
        return _pairs((at >= 0) & (apart >= offsets[:, None] - self.before), apart)

    def _next(self, wanted: Ints) -> tuple[NDArray[np.bool_], Ints]:
        """For each time whether a packet stands in the window around it, and the first from the window's beginning on."""
        first, last = np.searchsorted(self.packet, (wanted.min() - self.before, wanted.max() + self.after))
        near = self.packet[first : last + 1]  # the few that are near at hand, and one beyond them
        if not len(near):
            return np.zeros(wanted.shape, np.bool_), wanted
        at = np.searchsorted(near, wanted - self.before)
        found = near[np.minimum(at, len(near) - 1)]
        return (at < len(near)) & (found <= wanted + self.after), found


class Speech(Struct, frozen=True):
    """When some environment of a log runs (stretches apart from each other, n × 2), and when clients begin to send, each by its number."""

    running: Ints
    bursts: Ints
    callers: Ints

    def doubt(self, offset: int, start: int, end: int) -> float:
        """What speaks against this offset, as `Kind.surprises` counts: that clients send while all environments rest, from `start` to
        `end` of the log's time, or before the first runs, or after the last. Of several clients those are asked that do so least, half
        of who speaks while some run."""
        if not len(self.running) or not len(self.bursts):
            return 0.0
        at = self.bursts - offset
        inside = at <= self.running[np.searchsorted(self.running[:, 0], at, side="right") - 1, 1]
        unknown = (at < self.running[0, 0]) | (at > self.running[-1, 1])
        resting = ~inside & ~unknown & (at >= start) & (at <= end)
        clients = int(self.callers.max()) + 1
        speaks, rests, beyond = (
            np.bincount(self.callers[some], minlength=clients) for some in (inside & ~unknown, resting, unknown)
        )
        runs = (self.running.clip(start, end) @ (-1, 1)).sum() / max(end - start, 1)
        while_resting = max(log((1 - min(runs, WHILE_RUNNING)) / (1 - WHILE_RUNNING)), 0.0)
        against = rests * while_resting + np.minimum(beyond, MOST_UNKNOWN)
        order = np.argsort(against / np.maximum(speaks, 0.1), kind="stable")
        asked = order[: int(np.searchsorted(np.cumsum(speaks[order]), speaks.sum() / 2)) + 1]
        return float(against[asked].sum())


class Kinds(Struct, frozen=True):
    """Anchors between a log and a capture: causes (packet, then line), effects (line, then packet), invocations' windows.

    `lines` are those that replies may have caused; `error` is how far lines may be misplaced in the log's own time, ns. `spans`
    are the invocations (start and end, n × 2), `lone` those starts at which no other one ran. `to_client` is the round trip between
    the capture and the clients: so much later than it was sent a client's packet stands there at most.
    """

    cause: list[Kind]
    effect: list[Kind]
    window: list[Kind]
    lines: Ints
    replies: Ints
    round_trip: int
    to_client: int
    error: int
    spans: Ints
    lone: Ints
    speech: Speech

    @property
    def voters(self) -> list[Kind]:
        """The kinds that say which offset it is."""
        return [k for k in (*self.cause, *self.effect, *self.window) if k.weight > 0]

    @property
    def possible(self) -> float:
        """The hits if each line of theirs found a packet."""
        return float(sum(len(k.log) * k.weight for k in self.voters))

    def surprise(self, offset: int, first_ns: int, last_ns: int) -> float:
        """How improbable the hits of all kinds are by chance, as `Kind.surprises` counts."""
        return float(self.surprises(np.array([offset]), first_ns, last_ns)[0])

    def surprises(self, offsets: Ints, first_ns: int, last_ns: int) -> NDArray[np.float64]:
        """The same for each offset."""
        found = np.zeros(len(offsets))
        for k in self.voters:
            found += k.surprises(offsets, first_ns, last_ns)
        return found

    def doubt(self, offset: int, first_ns: int, last_ns: int) -> float:
        """What speaks against an offset, to be taken from that: lines whose packet must be there and is not, and `Speech.doubt`."""
        times = self.voting_times()
        missed = sum(k.missed(offset, first_ns, last_ns) for k in self.voters if k.at_hand and not k.loose)
        return missed * DOUBT_OF_MISSED + self.speech.doubt(offset, int(times[0]), int(times[-1]))

    def each(self, change: Callable[[Kind], Kind]) -> Kinds:
        """The same with every kind changed."""
        cause, effect, window = ([change(k) for k in kinds] for kinds in (self.cause, self.effect, self.window))
        return replace(self, cause=cause, effect=effect, window=window)

    def part(self, start: int, end: int) -> Kinds:
        """Only the lines of [start, end), and the invocations that begin in it."""
        a, b = np.searchsorted(self.spans[:, 0], [start, end])
        lines, lone = (times[_slice(times, start, end)] for times in (self.lines, self.lone))
        return replace(self.each(lambda k: k.part(start, end)), lines=lines, spans=self.spans[a:b], lone=lone)

    def within(self, start: int, end: int) -> Kinds:
        """Only the lines of [start, end), or some of them where they are many."""
        return replace(self.each(lambda k: k.within(start, end)), lines=self.lines[_some(self.lines, start, end)])

    def undisturbed(self, offset: int) -> Kinds:
        """The same, with only such starts of invocations as nobody else's packets can have met at this offset, if those are most;
        if not, without ends: the last packet before one is somebody's."""
        if 2 * len(self.lone) <= len(self.spans):
            return replace(self, window=[])

        def trusted(k: Kind) -> bool:
            return k.loose and _strays(k.packet - offset, self.spans) < FEW_STRAYS

        effect = [replace(k, log=self.lone, owner=None, alone=True) if trusted(k) else k for k in self.effect]
        return replace(self, effect=effect)

    def apart(self) -> Kinds:
        """The same without starts of invocations soon after which a line tells of the same packets: both are one coincidence."""
        exact = np.sort(
            np.concatenate([np.empty(0, np.int64), *(k.log for k in self.voters if k.at_hand and not k.loose)])
        )

        def alone(k: Kind) -> Kind:
            if not k.loose:
                return k
            told = np.searchsorted(exact, k.log + k.after, side="right") > np.searchsorted(exact, k.log)
            return k.of(~told)

        return self.each(alone)

    def tilted(self, ppm: float, at: int) -> Kinds:
        """All lines where a clock that was right at `at` and drifts so would have stamped them."""
        if not ppm:
            return self
        speech = replace(self.speech, running=tilted(self.speech.running, ppm, at))
        return replace(self.each(lambda k: k.tilted(ppm, at)), lines=tilted(self.lines, ppm, at), speech=speech)

    def voting_times(self) -> Ints:
        """The lines that vote."""
        return np.sort(np.concatenate([np.empty(0, np.int64), *(k.log for k in self.voters)]))


def surprises(hits: Ints | int, tried: Ints | int, chance: float) -> NDArray[np.float64]:
    """How improbable so many hits among so many tries are by chance: the logarithm of the likelihood ratio (Bernoulli), 0 where
    chance gives as many."""
    share = hits / np.maximum(tried, 1)
    missed = (1 - share) * np.log(np.maximum(1 - share, LEAST_CHANCE) / (1 - chance))
    found = share * np.log(np.maximum(share, LEAST_CHANCE) / chance)
    return np.where(share > chance, tried * (found + missed), 0.0)


def _strays(bursts: Ints, spans: Ints) -> float:
    """How many bursts of nobody's invocation are likely to stand at the starts of some, by those that stand between them."""
    starts, ends = spans[:, 0] - SECOND, np.maximum.accumulate(spans[:, 1]) + SECOND
    at = np.searchsorted(starts, bursts, side="right") - 1
    strays = int(((at < 0) | (bursts > ends[np.maximum(at, 0)])).sum())
    covered = int((ends - np.maximum(starts, np.append(starts[0], ends[:-1]))).clip(0).sum())
    whole = int(max(bursts.max(initial=0), ends[-1]) - min(bursts.min(initial=starts[0]), starts[0]))
    return strays * len(spans) * START_SLACK_NS / max(whole - covered, SECOND)


def _pairs(hit: NDArray[np.bool_], apart: Ints) -> Pairs:
    found = np.where(hit, apart, _NO_PAIR)
    first: Ints = np.take_along_axis(found, hit.argmax(axis=1)[:, None], axis=1)[:, 0]
    found.sort(axis=1)
    return Pairs(found, hit.sum(axis=1), first)


def tilted(times: Ints, ppm: float | NDArray[np.float64], at: int) -> Ints:
    """Times where a clock that was right at `at` and drifts so would have stamped them."""
    moved: Ints = times + np.rint((times - at) * (ppm * PPM)).astype(np.int64)
    return moved


def _slice(times: Ints, start: int, end: int) -> slice:
    """Where those of [start, end) are."""
    return slice(*np.searchsorted(times, [start, end]).tolist())


def _some(times: Ints, start: int, end: int) -> slice:
    """The same, evenly thinned where they are many."""
    inside = _slice(times, start, end)
    return slice(inside.start, inside.stop, (inside.stop - inside.start) // MOST_LINES + 1)


class Said(Struct):
    """What of a log packets may answer to: times of its lines by kind and address, of its invocations, of ports it names."""

    by_remote: dict[tuple[str, str | None], list[int]]
    lines: list[int]
    ports: dict[int, int]
    starts: list[int]
    #: Whose each start is, by number.
    owners: list[int]
    ends: list[int]
    #: Start and end of each, of one that is not finished the start of its environment's next.
    spans: list[tuple[int, int]]
    #: Starts after an initialisation, which may have sent something before them.
    cold: list[int]
    error: int = 0  # how far lines may be misplaced in the log's own time, because stamps were cut, ns
    window_error: int = 0  # … and invocations


def said(events: Iterable[Event], invocations: list[Invocation]) -> Said:
    """The anchors that a log offers, aligned with nothing yet."""
    found = Said(defaultdict(list), [], {}, [], [], [], [], [])
    resets: dict[tuple[str | None, str, str | None], int] = {}
    for e in events:
        if e.resolution_ns >= SECOND and e.layer != "lambda":
            found.error = max(found.error, e.resolution_ns // 2)
        if e.kind == "tcp-connected" or e.kind in FRAMES:
            found.by_remote[e.kind, e.remote].append(e.time_ns)
        elif e.kind in _PINGS:
            found.by_remote["ping-sent", e.remote].append(e.time_ns)
        elif e.kind == "socket-error" or (e.kind == "error" and e.attrs.get("code") in _RESET):
            kind = "reset in Java" if _JAVA.search(e.text[:300]) else "reset"
            if e.time_ns - resets.get((e.environment, kind, e.remote), e.time_ns - _NO_PAIR) > PRINTED[kind]:
                found.by_remote[kind, e.remote].append(e.time_ns)
            resets[e.environment, kind, e.remote] = e.time_ns
        if e.layer in ("app", "grpc") and e.inner_ns is not None:
            found.lines.append(e.time_ns)
        if e.layer == "app" and "port" in e.text and (m := _PORT.search(e.text[:200])):
            found.ports.setdefault(int(m[1]), e.time_ns)
    owners: dict[str, int] = {}
    for i in invocations:
        found.starts.append(i.start_ns)
        found.owners.append(owners.setdefault(i.environment, len(owners)))
        if i.end_ns is not None:
            found.ends.append(i.end_ns)
        found.window_error = max(found.window_error, i.error_ns)
    found.spans = _spans(invocations)
    found.cold = [i.start_ns for i in invocations if i.cold_start]
    return found


def _spans(invocations: list[Invocation]) -> list[tuple[int, int]]:
    following: dict[str, int] = {}
    spans = []
    for i in sorted(invocations, key=lambda i: i.start_ns, reverse=True):
        end = i.end_ns if i.end_ns is not None else following.get(i.environment, i.start_ns + LONGEST_NS)
        following[i.environment] = i.start_ns
        spans.append((i.start_ns, max(end, i.start_ns)))
    return spans[::-1]


def _lone(spans: Ints, cold: list[int]) -> Ints:
    """The starts of invocations at which no other one runs or starts, nor an initialisation ends."""
    if not len(spans):
        return spans[:, 0]
    starts = spans[:, 0]
    running = np.append(np.iinfo(np.int64).min // 2, np.maximum.accumulate(spans[:, 1])[:-1])
    following = np.append(starts[1:], np.iinfo(np.int64).max)
    alone = (running < starts) & (following > starts + 3 * START_SLACK_NS)
    return starts[alone & ~np.isin(starts, cold)]


def anchors_of(log: Said, shown: Shown) -> Kinds:
    """The anchors between a log and one capture. Lines that name an address only meet connections to it."""
    rtt, off, late = shown.round_trip, log.error, log.window_error
    cause, effect = [], []
    for (kind, remote), times in sorted(log.by_remote.items(), key=str):
        packets = shown.packets(kind, remote)
        if packets is None:
            continue
        if kind == "ping-sent":
            effect.append(_kind(times, packets, 2 * MS, 20 * MS + rtt, 3.0, off))
        else:
            cause.append(_kind(times, packets, PRINTED.get(kind, 20 * MS) + rtt, 2 * MS, 3.0, off))
    for port, time in sorted(log.ports.items())[:MOST_LINES]:  # a connection's local port is printed once it is up
        if port in shown.ports:
            cause.append(_kind([time], np.array([shown.ports[port]], np.int64), 20 * MS + rtt, 2 * MS, 3.0, off))
    if len(shown.bursts):  # else nothing is at hand but what opened connections, which most invocations do not
        starts = _kind(log.starts, shown.begins, 5 * MS, 3 * START_SLACK_NS + rtt, 1.0, late, loose=True)
        owner = np.array(log.owners, np.int64)[np.argsort(log.starts, kind="stable")]
        effect.append(replace(starts, owner=owner))
    # Misplaced ends are looked for that far on either side, at offsets that are not known better.
    ends = _calm(log.ends, log.starts, START_SLACK_NS + 4 * late)
    window = [_kind(ends, shown.lasts, 3 * SECOND, END_SLACK_NS + RUNS_ON_NS + rtt, 0.0, late)]
    spans = np.array(log.spans, np.int64).reshape(-1, 2)
    lines = np.sort(np.array(log.lines, np.int64))
    speech = Speech(_running(spans, log.cold, ABOUT_NS + rtt + late), shown.bursts, shown.callers)
    lone = _lone(spans, log.cold)
    return Kinds(cause, effect, window, lines, shown.replies, rtt, shown.to_client, off, spans, lone, speech)


def _running(spans: Ints, cold: list[int], slack: int) -> Ints:
    """When some invocation or initialisation runs, and so long before and after: stretches apart from each other, n × 2."""
    starts = spans[:, 0] - slack - LONGEST_INIT_NS * np.isin(spans[:, 0], cold)
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(spans[order, 1] + slack)
    begins = np.append(True, starts[1:] > ends[:-1])[: len(spans)]
    return np.column_stack([starts[begins], ends[np.append(begins[1:], True)[: len(spans)]]])


def _calm(ends: list[int], starts: list[int], within: int) -> list[int]:
    """The ends that no invocation follows so soon that its packets might be taken for the last ones before the end."""
    begun = np.sort(np.array(starts, np.int64))
    at = np.searchsorted(begun, ends)
    after = np.take(np.append(begun, np.iinfo(np.int64).max), at)
    return [end for end, start in zip(ends, after.tolist(), strict=True) if start - end > within]


def _kind(
    log: list[int], packets: Ints, before: int, after: int, weight: float, error: int, loose: bool = False
) -> Kind:
    lines = np.sort(np.array(log, np.int64))
    return Kind(lines, packets, before + error, after + error, weight, error, loose)
