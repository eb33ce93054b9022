"""A capture's clock against a log's: lines and the packets that caused them, or that they caused.

The idea is NTP's: an effect cannot precede its cause. A line printed after a server's packet arrived bounds the offset from one
side, a packet sent after a line was printed from the other. Which line belongs to which packet is not known, so offsets vote
first: the one at which most lines find a packet of their kind. Of a log that is longer than the capture only the part is looked
at that the capture may be of: at the same time, else at that of another time zone. A long recording is looked at stretch by
stretch, outwards from where most happens; a line through the stretches' bounds gives the drift.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from analyzer.model.clocks import PPM, Clock, Piece, inverted
from analyzer.model.times import MS, SECOND
from analyzer.timeline.bounds import MAX_PPM, Bounds, fit
from analyzer.timeline.log_anchors import (
    LEAST_CHANCE,
    QUICK_START_NS,
    START_SLACK_NS,
    Kind,
    Kinds,
    Pairs,
    Said,
    anchors_of,
    surprises,
    tilted,
)
from analyzer.timeline.points import Point
from analyzer.timeline.shown import Shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

#: A guest that runs takes so long at least to send its first packet (measured: 12 ms and more).
FIRST_PACKET_NS = 10 * MS
#: So many thaws that took as long as each other, within this, were quick ones.
ALIKE, ALIKE_NS = 5, 25 * MS
#: Candidate offsets that are scored, and pairs of a line and a packet that propose them.
MAX_CANDIDATES, MAX_PAIRS = 4_000, 4_000_000
#: Proposals are counted in bins of this width where there are more than can be scored.
BIN_NS = 20 * MS
#: Offsets beyond this, time zones aside, need anchors that cannot be coincidence (connects, pings, resets, ports).
SHIFT_NS = 11 * SECOND
STRONG_ANCHORS = 2
#: Time zones differ by multiples of this, and by no more than that.
ZONE_NS, FARTHEST_ZONE_NS = 900 * SECOND, 26 * 3600 * SECOND
ZONES = sorted(range(-FARTHEST_ZONE_NS, FARTHEST_ZONE_NS + 1, ZONE_NS), key=abs)
#: An offset with at least this part of the best's hits is its rival: of those around it, of those of other time zones.
RIVAL_SHARE, RIVAL_ZONE_SHARE = 0.9, 0.75
#: Where nothing but bursts tells, so many invocations must find one, or all where there are fewer (a slow first use finds none),
#: before clocks are taken to be further apart than hosts that keep time.
LOOSE_ANCHORS, AGREE_NS = 4, 200 * MS
#: How improbable by chance the hits at an offset must be, as `Kind.surprises` counts: where clocks agree as those of hosts that keep
#: time do; where they are a plausible shift apart and each line finds a packet, or most; anywhere else. (Logs of the same incident
#: have 2.6 and more, 3.2 where each line finds one; of others of that hour few have 5 at offsets at which some lines find none.)
EXPECTED, SHIFTED, MISSED, ANYWHERE = 2.0, 3.0, 5.5, 15.0
#: So many hits are asked of lines of the capture's own time where lines around it do not agree, or all.
FEWEST = 3
#: A recording is looked at in stretches of this length, or of this many lines; the vote has this many, and no more than an hour.
STRETCH_NS, LEAST_LINES, LEAST_VOTERS, LONGEST_SEED_NS = 180 * SECOND, 4, 60, 3600 * SECOND
#: A log's clock and a capture's drift apart by no more than this: one of them is the log service's, and true.
DRIFT_PPM = 210.0
#: Drifts are tried so near each other that lines at the ends of a stretch move by no more than this: for a vote, for bounds.
SMEAR_NS, FINE_NS, MOST_TILTS = 50 * MS, 2 * MS, 8
#: Offsets at which this part of the best's lines stand beside a reply are as good as it.
GOOD_SHARE = 0.85
#: A line that a reply caused is printed this soon after it (JavaScript runs to its next turn).
REPLY_TO_LINE_NS = 4 * MS
#: … or by a busy guest so much later, all of them.
BUSY_NS = 8 * MS
#: So improbable by chance, as `Kind.surprises` counts and given how many places there are, is no coincidence.
CLEARLY = 3.0
HOW = "invocation windows, connects, pings and resets"


class Against(Struct, frozen=True):
    """What to add to a capture's stamps to get a log's time, and how many pairs of line and packet gave it.

    `strong` of them are no mere coincidence of bursts and invocations.
    """

    pieces: list[Piece]
    anchors: int
    strong: int
    how: str
    drift_proven: bool = False
    surprise: float = 0.0  # how improbable the hits are by chance, given how many offsets of its kind there are


class _Leeway(Struct, frozen=True):
    """packet − line lies between `low` and `high` in the middle of a stretch, if the clocks drift apart so; ns.

    `beside` lines stand beside a reply that caused them.
    """

    ppm: float
    low: int
    high: int
    anchors: int
    beside: int = 0


class _Range(Struct, frozen=True):
    """packet − line lies between `low` and `high` at `at` (time of the log); `ends` has the same at both ends of a stretch too."""

    at: int
    low: int
    high: int
    anchors: int
    narrowed: bool
    ends: tuple[tuple[int, int, int], ...]

    @property
    def middle(self) -> int:
        return (self.low + self.high) // 2


class _Vote(NamedTuple):
    """The drift and the offset that most anchors of a stretch agree with, and the outermost of its neighbours that are its equals."""

    start: int
    end: int
    ppm: float
    offsets: list[int]
    hits: float
    surprise: float  # how improbable the hits are by chance

    @property
    def offset(self) -> int:
        return self.offsets[0]

    @property
    def proof(self) -> float:
        """How improbable the hits are by chance, given how many offsets of its kind there are."""
        return self.surprise - _elsewhere(self.offset)


def against_log(told: Said, shown: Shown) -> Against | None:
    """How the capture's clock stands to the log's, None where too little matches."""
    point = shown.point
    of_its_time = _of_its_time(anchors_of(told, shown), point)
    if of_its_time is None:
        return None
    every, vote = of_its_time
    start, end, ppm, first = vote.start, vote.end, vote.ppm, vote.offset
    inside, at = every.within(start, end), (start + end) // 2
    kinds, times = every.undisturbed(first), every.voting_times()
    begin = _begin(kinds.tilted(ppm, at), times, start, end, first)
    drifted = round((sum(begin) // 2 - at) * (ppm * PPM))
    begun = _merged([_range(kinds.within(*begin), offset + drifted) for offset in vote.offsets])
    found = _outwards(kinds, times, begin, begun)
    pieces, proven = _line(found, point)
    anchors = sum(r.anchors for r in found)
    how = HOW + ("; lines beside replies" if any(r.narrowed for r in found) else "")
    strong = sum(k.count(first) for k in inside.tilted(ppm, at).voters if not k.loose)
    return Against(pieces, anchors, strong, how, proven, vote.proof)


def _of_its_time(kinds: Kinds, point: Point) -> tuple[Kinds, _Vote] | None:
    """The lines among which the capture has its place, and their vote; None where they are none, or several places fit."""
    tight, wide = (_zone(kinds, point, 0, slack) for slack in (SECOND, SHIFT_NS))
    least = min(LOOSE_ANCHORS, kinds.possible)
    near = _elected(wide, point, least, SHIFT_NS)
    if (near is None or near.surprise < ANYWHERE) and (far := _elected(wide, point, least)):
        near = max(near or far, far, key=lambda vote: vote.proof)
    if len(tight.voting_times()) < len(wide.voting_times()):
        agreed = _elected(tight, point, least)
        if (
            agreed and abs(agreed.offset) <= AGREE_NS and agreed.hits >= min(FEWEST, tight.possible)
            and (not near or agreed.proof >= near.proof)
        ):  # fmt: skip
            return tight, agreed
    if near:
        return wide, near
    parts = {_lines(part): part for part in (_zone(kinds, point, zone, SHIFT_NS) for zone in ZONES)}
    found = [
        (part, vote)
        for lines, part in parts.items()
        if lines != _lines(wide) and (vote := _elected(part, point, least))
    ]
    if not found:
        return (kinds, vote) if _lines(kinds) not in parts and (vote := _elected(kinds, point, least)) else None
    part, best = max(found, key=lambda x: (x[1].hits, -abs(x[1].offset)))
    same = SECOND + 2 * kinds.error
    rival = any(v.hits >= RIVAL_ZONE_SHARE * best.hits and abs(v.offset - best.offset) > same for _, v in found)
    return None if rival else (part, best)


def _zone(kinds: Kinds, point: Point, zone: int, slack: int) -> Kinds:
    """The lines that the capture may be of, if its clock is that of another time zone, and off by so much more."""
    return kinds.part(point.data.first_ns - zone - slack, point.data.last_ns - zone + slack)


def _lines(kinds: Kinds) -> tuple[int, ...]:
    """What tells the lines of two parts of a log apart."""
    times = kinds.voting_times()
    return len(times), *times[:1].tolist()


def _elected(kinds: Kinds, point: Point, least: float, around: int | None = None) -> _Vote | None:
    """The vote of the stretch in which most happens, None where as much is likely by chance; about offsets up to `around` if any.

    `least` invocations must find a burst where nothing else tells. In a long capture some far offset does as well as the true one by chance.
    """
    times = kinds.voting_times()
    if not len(times):
        return None
    start, end = _seed(times)
    inside, at = kinds.within(start, end), (start + end) // 2
    vote = _vote([(ppm, inside.tilted(ppm, at)) for ppm in _tilts(end - start, SMEAR_NS)], least, around)
    if vote is None:
        return None
    ppm, (offset, *_), _ = vote
    voted = inside.tilted(ppm, at)
    span = point.data.first_ns, point.data.last_ns
    surprise = voted.surprise(offset, *span) - (voted.doubt(offset, *span) if abs(offset) > AGREE_NS else 0.0)
    return _Vote(start, end, *vote, surprise) if surprise >= _needed(voted, offset) else None


def supports(told: Said, shown: Shown, pieces: list[Piece]) -> bool:
    """Whether a log's lines find packets of their kind where others say that the capture's clock stands, more than chance would have it."""
    to_capture = Clock("", pieces=inverted(pieces))
    moved = anchors_of(told, shown).each(lambda k: replace(k, log=to_capture.aligned_all(k.log)))
    return moved.surprise(0, shown.point.data.first_ns, shown.point.data.last_ns) >= EXPECTED


def _line(found: list[_Range], point: Point) -> tuple[list[Piece], bool]:
    """What to add to the capture's stamps (the offset's negative), and whether drift is proven."""
    first, last = point.data.first_ns, point.data.last_ns
    ends = np.array([end for r in found for end in r.ends], np.int64)
    at = ends[:, 0] + (ends[:, 1] + ends[:, 2]) // 2  # by the capture's clock
    line = fit(Bounds(at, -ends[:, 2], at, -ends[:, 1]), first, last, 2 * MS if len(found) > 1 else 0)
    assert line is not None  # there are bounds of both sides
    return line.pieces, line.drift_proven


def _seed(times: Ints) -> tuple[int, int]:
    """The stretch from which to begin: where most happens, and enough to vote."""
    if times[-1] - times[0] <= STRETCH_NS:
        return int(times[0]), int(times[-1]) + 1
    counts = np.searchsorted(times, times + STRETCH_NS) - np.arange(len(times))
    at = int(np.argmax(counts))
    last = min(at + max(int(counts[at]), LEAST_VOTERS), len(times)) - 1
    at = max(min(at, last + 1 - LEAST_VOTERS), 0)
    last = min(last, int(np.searchsorted(times, times[at] + LONGEST_SEED_NS)) - 1)
    return int(times[at]), int(times[last]) + 1


def _tilts(span: int, smear: int) -> list[float]:
    """Drifts to be tried for lines of this span, flat first: no two neighbours are further apart than `smear` at its ends."""
    steps = min(int(DRIFT_PPM * PPM * span / smear), MOST_TILTS)
    return [0.0, *(sign * DRIFT_PPM * step / steps for step in range(1, steps + 1) for sign in (1, -1))]


def _begin(kinds: Kinds, times: Ints, start: int, end: int, first: int) -> tuple[int, int]:
    """The stretch of [start, end) in which most lines agree with the offset that was voted for."""
    stretches, edge = [], start
    while (stretch := _next(times, edge, 1)) is not None and stretch[0] < end:
        stretches.append(stretch)
        edge = stretch[1]
    return max(stretches, key=lambda s: sum(float(k.hits(np.array([first]))[0]) for k in kinds.within(*s).voters))


def _outwards(kinds: Kinds, times: Ints, begin: tuple[int, int], begun: _Range) -> list[_Range]:
    """The ranges of all stretches that have some, each looked for near its neighbour's."""
    found = [begun]
    for step in (1, -1):
        near, edge = begun, begin[1] if step > 0 else begin[0]
        while (stretch := _next(times, edge, step)) is not None:
            edge = stretch[1] if step > 0 else stretch[0]
            inside = kinds.within(*stretch)
            slack = round(MAX_PPM * PPM * abs(sum(stretch) // 2 - near.at)) + BIN_NS
            grid = np.arange(near.middle - slack, near.middle + slack + 1, BIN_NS // 4, dtype=np.int64)
            scores = np.sum([k.hits(grid) for k in inside.voters], axis=0)
            if scores.max() < STRONG_ANCHORS:
                continue
            best = grid[scores == scores.max()]
            near = _range(inside, int(best[np.argmin(np.abs(best - near.middle))]))
            found.append(near)
    return sorted(found, key=lambda r: r.at)


def _next(times: Ints, edge: int, step: int) -> tuple[int, int] | None:
    """The stretch that follows (or precedes) an edge and begins with a line: longer where lines are few."""
    k = int(np.searchsorted(times, edge)) - (step < 0)
    if not 0 <= k < len(times):
        return None
    other = int(times[min(max(k + step * (LEAST_LINES - 1), 0), len(times) - 1)])
    if step > 0:
        return int(times[k]), max(int(times[k]) + STRETCH_NS, other + 1)
    return min(int(times[k]) + 1 - STRETCH_NS, other), int(times[k]) + 1


# ---- which offset


def _vote(tried: list[tuple[float, Kinds]], least: float, around: int | None) -> tuple[float, list[int], float] | None:
    """The drift and the offset that most anchors agree with, of rivals those of clocks that agree, the quickest, the smallest; the
    outermost of its neighbours that are about as quick, as where one environment starts after the other; how many agree. None where
    too few do, or another offset does as well."""
    every, scores, drifts = (np.empty(0, dtype) for dtype in (np.int64, np.float64, np.float64))
    for ppm, kinds in tried:
        candidates = _candidates(kinds.voters, around)
        every = np.concatenate([every, candidates])
        scores = np.concatenate([scores, np.sum([k.hits(candidates) for k in kinds.voters], axis=0)])
        drifts = np.concatenate([drifts, np.full(len(candidates), ppm)])
    if not len(every):
        return None
    kinds, best = tried[0][1], scores.max()
    if best < 2 or best < 0.3 * kinds.possible:
        return None
    rivals = scores >= RIVAL_SHARE * best
    every, scores, drifts = every[rivals], scores[rivals], drifts[rivals]
    quick = np.zeros(len(every))
    for drift, kinds_then in tried:
        mine = drifts == drift
        quick[mine] = np.sum([k.quick().hits(every[mine]) for k in kinds_then.voters if k.loose], axis=0)
    agreeing = np.abs(every) <= SECOND  # clocks that agree need not be the quickest of those that fit as well
    ranked = np.lexsort((np.abs(drifts), np.abs(every), -scores - quick))
    chosen = ranked[agreeing[ranked]][0] if scores[agreeing].max(initial=0.0) == best else ranked[0]
    start, ppm = int(every[chosen]), float(drifts[chosen])
    near = np.abs(every - start) <= SECOND + 2 * kinds.error
    if abs(start) > SECOND and not near.all():
        return None  # another alignment fits as well, and neither is "the clocks agree"
    strong = sum(k.count(start) for k in dict(tried)[ppm].voters if not k.loose)
    error = max(k.error for k in kinds.voters)
    if not strong and (best < least or error) and abs(start) > AGREE_NS + error:
        return None  # some of a few invocations, or of those by stamps cut to seconds, find a burst somewhere
    if not plausible(start) and strong < STRONG_ANCHORS:
        return None  # a coincidence of bursts is no proof that log and capture are of the same incident
    same = every[near & (quick >= RIVAL_SHARE * quick[chosen] if quick[chosen] else scores == best)]
    edges = [edge for edge in (int(same.min()), int(same.max())) if abs(edge - start) > BIN_NS]
    return ppm, [start, *edges], float(scores[chosen])


def _candidates(voters: list[Kind], around: int | None) -> Ints:
    """Differences of anchors of one kind, up to `around` if any, to the millisecond; where there are too many, those that most pairs are near."""
    every = _differences(voters)
    every.sort()
    if around is not None:
        every = every[slice(*np.searchsorted(every, (-around // MS, around // MS + 1)))]
    if not len(every):
        return np.empty(0, np.int64)
    distinct = np.append(True, every[1:] != every[:-1])
    if np.count_nonzero(distinct) <= MAX_CANDIDATES:
        return np.unique(np.append(every[distinct] * np.int64(MS), 0))
    near = np.unique(every[slice(*np.searchsorted(every, (-SECOND // MS, SECOND // MS + 1)))]) * np.int64(MS)
    spread = (_crowded(every)[:, None] + np.arange(0, BIN_NS, BIN_NS // 4)[None, :]).ravel()
    return np.unique(np.concatenate([near, spread, np.zeros(1, np.int64)]))


def _differences(voters: list[Kind]) -> Ints:
    """packet − line of pairs of each kind, ms: millions of small numbers, for which memory is what takes time."""
    some = [(k.log[: max(MAX_PAIRS // len(k.packet), 1)], k.packet) for k in voters if k.at_hand]
    widest = max((max(abs(int(p[-1] - log[0])), abs(int(p[0] - log[-1]))) for log, p in some), default=0)
    narrow = widest // MS < 1 << 30
    every: Ints = np.empty(sum(len(log) * len(p) for log, p in some), np.int32 if narrow else np.int64)
    at = 0
    for log, packets in some:
        for line in log.tolist():
            np.floor_divide(packets - line, MS, out=every[at : at + len(packets)], casting="unsafe")
            at += len(packets)
    return every


def _crowded(every: Ints) -> Ints:
    """The bins in which most of these differences are (in order; ms), the fullest first: where they begin, ns."""
    binned = every // (BIN_NS // MS)
    first = np.flatnonzero(np.append(True, binned[1:] != binned[:-1]))
    counts, most = np.diff(first, append=len(binned)), MAX_CANDIDATES // 4
    if len(counts) > most:
        full = counts >= np.partition(counts, len(counts) - most)[len(counts) - most]
        first, counts = first[full], counts[full]
    fullest: Ints = binned[first[np.argsort(-counts, kind="stable")[:most]]] * np.int64(BIN_NS)
    return fullest


def plausible(offset: int) -> bool:
    """Whether a clock may be off by this much without saying more: a few seconds, or a time zone (multiples of 15 min)."""
    return abs(offset) <= SHIFT_NS or (
        abs(offset) <= FARTHEST_ZONE_NS and abs((offset + ZONE_NS // 2) % ZONE_NS - ZONE_NS // 2) <= SHIFT_NS
    )


def _needed(kinds: Kinds, offset: int) -> float:
    """How improbable by chance hits must be that prove an offset; lines that may be anywhere near prove nothing against clocks that agree."""
    missed = [k for k in kinds.voters if k.count(offset) < len(k.log)]
    error = max(k.error for k in kinds.voters)
    if abs(offset) <= AGREE_NS + error:  # what the capture shows none of contradicts nothing
        return 0.0 if error and not any(k.at_hand for k in missed) else EXPECTED
    if not plausible(offset):
        return ANYWHERE
    return MISSED if missed else SHIFTED


def _elsewhere(offset: int) -> float:
    """How many offsets, a window apart, are as plausible as this one (natural logarithm): so much chance has had."""
    if abs(offset) <= AGREE_NS:
        return 0.0
    if not plausible(offset):
        return ANYWHERE
    zones = 1 if abs(offset) <= SHIFT_NS else 2 * FARTHEST_ZONE_NS // ZONE_NS
    return math.log(2 * SHIFT_NS / (3 * START_SLACK_NS) * zones)


# ---- how near it is


def _range(kinds: Kinds, offset: int) -> _Range:
    """Where the offset is over a stretch of lines: between what causes and effects leave for any drift that may be."""
    times = kinds.voting_times()
    start, end = int(times[0]), int(times[-1])
    at, tilts = (start + end) // 2, _tilts(end - start, FINE_NS)
    tilts = tilts if len(tilts) > 1 else [0.0, DRIFT_PPM, -DRIFT_PPM]
    tried = _leeways(kinds, offset, tilts, at)
    about = [replace(x, low=min(x.low, x.high), high=max(x.low, x.high)) for x in tried if x.low <= x.high + MS]
    possible = about if any(x.low <= x.high for x in tried) else []  # stamps cut to ms contradict each other by as much
    if not possible:  # anchors contradict each other: what is left is the neighbourhood of both
        flat = tried[0]
        possible = [replace(flat, low=flat.high - START_SLACK_NS, high=flat.low + START_SLACK_NS)]
    beside = max(x.beside for x in possible)
    possible = [x for x in possible if x.beside >= GOOD_SHARE * beside]
    between = DRIFT_PPM * PPM / (len(tilts) - 1)  # half a step: drifts between those that were tried

    def ends(time: int) -> tuple[int, int, int]:
        way = [round((time - at) * (x.ppm * PPM)) for x in possible]
        more = round(abs(time - at) * between)
        low, high = (
            min(x.low + w for x, w in zip(possible, way, strict=True)),
            max(x.high + w for x, w in zip(possible, way, strict=True)),
        )
        return time, low - more, high + more

    middle = ends(at)
    return _Range(
        at, middle[1], middle[2], max(x.anchors for x in possible), beside > 0, (ends(start), middle, ends(end))
    )


def _merged(ranges: list[_Range]) -> _Range:
    """What offsets that are as good as each other leave of one stretch: all of it, and as much on the other side of the best."""
    best = ranges[0]
    more = max(max(best.low - r.low, r.high - best.high, 0) for r in ranges)
    ends = tuple((at, low - more, high + more) for at, low, high in best.ends)
    return replace(best, low=best.low - more, high=best.high + more, ends=ends)


def _leeways(kinds: Kinds, offset: int, ppms: list[float], at: int) -> list[_Leeway]:
    """For each drift the interval that causes and effects leave around an offset, narrowed by lines that replies caused."""
    drifts = np.array(ppms)[:, None]
    reach = 3 * START_SLACK_NS + max((k.error for k in kinds.voters), default=0)
    low, high = np.full(len(ppms), offset - reach), np.full(len(ppms), offset + reach)
    anchors = np.zeros(len(ppms), np.int64)
    for k in kinds.cause:
        if k.at_hand:
            pairs = k.pairs(offset, tilted(k.log, drifts, at))
            some, most = pairs.count > 0, pairs.share(90)
            low = np.where(some, np.maximum(low, most - k.error - MS), low)
            high = np.where(some, np.minimum(high, (pairs.share(10) if k.error else most) - MS + k.before), high)
            anchors += pairs.count
    for k in kinds.effect:
        if k.at_hand:
            lines = tilted(k.log, drifts, at)
            pairs = k.pairs(offset, lines)
            some, (quick, bound) = pairs.count > 0, _effect(k, pairs)
            low = np.where(
                some, np.maximum(low, quick + 2 * MS - k.error - _slack(k, pairs, lines, kinds.to_client)), low
            )
            if not k.loose:
                low = np.where(some, np.maximum(low, pairs.share(90) - k.after), low)
            high = np.where(some, np.minimum(high, bound + 2 * MS + k.error), high)
            anchors += pairs.count
    for k in kinds.window:
        if k.at_hand:
            last = k.last_before(high, tilted(k.log, drifts, at))
            low = np.where(last.count > 0, np.maximum(low, last.share(90) - k.after), low)
            anchors += last.count
    left = zip(ppms, low.tolist(), high.tolist(), anchors.tolist(), strict=True)
    return _narrowed(kinds, [_Leeway(*x) for x in left], tilted(kinds.lines, drifts, at))


def _effect(kind: Kind, pairs: Pairs) -> tuple[Ints, Ints]:
    """The quickest of an effect's pairs, for what is at least, and the one to trust for what is at most."""
    tenth = pairs.share(10)
    if not kind.loose or kind.error:
        return tenth, tenth
    alike, middle, quickest = _alike(pairs), pairs.share(50), pairs.apart[:, 0]
    trusted = np.where(alike, tenth, quickest) if kind.alone else middle
    return np.where(alike, middle, quickest), trusted


def _alike(pairs: Pairs) -> NDArray[np.bool_]:
    return (pairs.count >= ALIKE) & (pairs.share(90) - pairs.share(10) <= ALIKE_NS)


def _slack(kind: Kind, pairs: Pairs, lines: Ints, to_client: int) -> Ints | int:
    """How long before its effect a line may stand at most, where the quickest effect of several is looked at: the guest's time, and
    its packet's way to the capture.

    Where most lines find none in time the quickest is a slow one, too.
    """
    if not kind.loose:
        return min(kind.after - kind.error, START_SLACK_NS + to_client)
    expected = lines + pairs.first[:, None]
    looked = ((expected >= kind.packet[0]) & (expected <= kind.packet[-1])).sum(axis=1)
    most_late = 2 * pairs.count <= looked
    slow = np.where(most_late, kind.after - kind.error, START_SLACK_NS + FIRST_PACKET_NS + to_client)
    return np.where(_alike(pairs), QUICK_START_NS + to_client, slow)


def _narrowed(kinds: Kinds, found: list[_Leeway], lines: Ints) -> list[_Leeway]:
    """Lines (one row for each) are printed within a few ms of the reply that caused them: the offset at which most do."""
    if not len(kinds.replies) or kinds.error or not lines.shape[1]:
        return found
    # The first of lines printed together: what one turn of a trace prints, thirty lines at a connect, is one witness.
    moments = np.diff(lines, prepend=lines[:, :1] - SECOND) > REPLY_TO_LINE_NS
    return [_beside(kinds, x, row[first]) for x, row, first in zip(found, lines, moments, strict=True)]


def _beside(kinds: Kinds, found: _Leeway, lines: Ints) -> _Leeway:
    if found.high - found.low < 4 * MS or len(lines) < 4:
        return found
    slack = REPLY_TO_LINE_NS + kinds.round_trip // 2  # where on the path the capture stands is not known
    beside = Kind(lines, kinds.replies, slack, 0, 1.0)
    offsets = np.arange(found.low, found.high + 1, MS, dtype=np.int64)
    scores = beside.hits(offsets)
    best, usual = scores.max(), min(max(scores.mean() / len(lines), LEAST_CHANCE), 1 - LEAST_CHANCE)
    places = max((found.high - found.low) / slack, 1)
    if best < 0.25 * len(lines) or surprises(best, len(lines), usual) < CLEARLY + math.log(places):
        return found
    good = offsets[scores >= GOOD_SHARE * best]
    low, high = int(good.min()) - slack, min(int(good.max()) + slack + BUSY_NS, found.high)
    if high - low >= found.high - found.low:
        return found
    return replace(found, low=low, high=high, anchors=found.anchors + int(best), beside=int(best))
