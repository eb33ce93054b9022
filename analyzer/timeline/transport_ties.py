"""Which gRPC transport is which TCP connection.

Theory of operation. What proves it comes first: the client's own port, where a dialect prints it. Then each transport has
candidates: connections to its address that were established when its `Established TCP connection` line was printed. Where one
transport and one connection have only each other, that is it. Where several environments connect to one server at a time, what both
sides did tells them apart: pings that the log and the capture have at the same times, a reset and its line; then the
source address that an environment is known by; then the order of connects, which an error of the clocks does not change. What
connected within a few milliseconds, or among a crowd, waits until more is known of addresses: by what was tied, and by when
environments run (`ties`). What is told apart by nothing stays untied, and its rivals are told.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Container, Iterable
from itertools import chain

from msgspec import Struct

from analyzer.capture import columns as col
from analyzer.model.addresses import endpoint, host
from analyzer.model.clocks import PPM
from analyzer.model.grpc import GO, JAVA
from analyzer.model.records import Tie, Transport
from analyzer.model.times import MS, SECOND, seconds
from analyzer.tcp import fields as f
from analyzer.timeline.joined import Joined
from analyzer.timeline.points import Connections
from analyzer.timeline.story import Story

KIND = "transport-connection"
#: A transport and a connection are one when its `Established TCP connection` line and the handshake lie this close,
#: beyond the clocks' error (an event loop may be busy in between).
CONNECT_SLACK_NS = 250 * MS
#: A handshake that was begun may end in a freeze, its line stand behind it: freezes that end so long before the line, or later.
FROZEN_NS = 900 * SECOND
#: A line and the packet that it is about, in a loop that is not busy.
LOOP_NS = 20 * MS
#: Handshakes this close, and their lines, may as well be each other's: lines are stamped to the millisecond.
SAME_NS = 3 * MS
#: Connections whose packets are looked at to tell transports apart.
MOST_LOOKED_AT = 2_000
#: Of a transport that may be any of more connections, only an address tells.
MOST_AT_ONCE = 100
#: Rivals of which a tie is told, and those that are named in a sentence.
MOST_TOLD, LISTED = 20, 5
#: How often what was tied is asked for addresses.
MOST_ROUNDS = 6


class _Pair(Struct):
    """A transport and a connection that may be it. `apart_ns`: its line after the handshake; `score`: what both sides did."""

    transport: Transport
    k: int
    apart_ns: int
    address: str
    score: int = 0
    told: str = ""
    frozen: bool = False  # a freeze lies between them

    def distance(self) -> tuple[int, str, int]:
        """Nearest first."""
        return abs(self.apart_ns), self.transport.id, self.k


class Unsettled(Struct):
    """What waits until more is known of addresses: of each transport that has rivals these, the best first; and transports that
    connected in a crowd."""

    rivals: list[list[_Pair]] = []
    candidates: _Candidates | None = None

    def maybe(self) -> dict[int, set[str]]:
        """By connection: environments one of whose transports it may be."""
        found: dict[int, set[str]] = defaultdict(set)
        for pair in chain.from_iterable(self.rivals):
            if pair.transport.environment is not None:
                found[pair.k].add(pair.transport.environment)
        return found

    def crowd(self) -> set[int]:
        """Connections that may be any of very many environments'."""
        return self.candidates.crowd() if self.candidates else set()


def tie_transports(story: Story) -> Unsettled:
    """Assign connections to transports, each at most once, and tell every tie (`story.ties`); `settle` has to end it.

    Times count where log and capture share a clock, to within its error; else a tie needs that there is one of each.
    """
    frames = {e.id: e.frame for e in story.environments}
    _by_own_address(story, frames)
    waiting = [t for t in story.transports if t.connection is None]
    if not waiting:
        return Unsettled()
    errors = {number: frame_error(story, number) for number in {*frames.values()}}
    candidates = _Candidates(story, waiting, frames, errors)
    pairs = candidates.pairs()
    for group in _groups(pairs):
        if len(group) == 1:
            _tie(story, group[0], "likely", _connected(group[0]))
    rest = [p for p in pairs if _free(story, p)]
    _look(story, rest, frames, errors)
    _by_deeds(story, rest)
    return Unsettled(_by_known(story, _by_time(story, _of_known_address(story, rest))), candidates)


def settle(story: Story, unsettled: Unsettled) -> None:
    """Tie what the source address tells that an environment was found to have meanwhile; tell of the rest what it may be."""
    if (candidates := unsettled.candidates) is None:
        return
    for group in _by_known(story, unsettled.rivals + candidates.of_crowded(_known(story))):
        _leave(story, group)


def frame_error(story: Story, frame: int, captures: Container[str] | None = None) -> int:
    """The largest error of a log's clock and of a capture's (one of `captures`, ids of sources, if given), together, in one frame."""
    worst = {"pcap": 0, "log": 0}
    for source in story.sources:
        kind = "pcap" if source.kind == "pcap" else "log"
        if kind == "pcap" and captures is not None and source.id not in captures:
            continue
        for clock in source.clocks:
            if clock.frame == frame:
                length = (source.last_ns or 0) - (source.first_ns or 0)
                errors = (piece.error_ns + round(length * piece.error_ppm * PPM) for piece in clock.pieces)
                worst[kind] = max(worst[kind], *errors, 0)
    return sum(worst.values())


def _tie(story: Story, pair: _Pair, confidence: str, evidence: str, conflicts: Iterable[str] = ()) -> None:
    t, cs = pair.transport, story.connections
    t.connection, t.tie = cs.id(pair.k), evidence
    cs.transports.setdefault(pair.k, []).append(t.id)
    story.ties.append(
        Tie(KIND, t.id, t.connection, confidence, evidence, conflicts=list(conflicts), refs=_refs(story, pair))
    )


def _refs(story: Story, pair: _Pair) -> list[str]:
    """Where the connection begins."""
    cs = story.connections
    point = cs.points[cs.seen_at(pair.k)[0]]
    source, row = getattr(point, "source", None), point.rows[cs.members[pair.k, cs.seen_at(pair.k)[0]]]
    return [f"{source.id}{source.packet_ref(int(row[f.FIRST_NO]))}"] if source is not None else []


def _connected(pair: _Pair) -> str:
    return f"same address, connected within {abs(pair.apart_ns) / MS:.0f} ms" + ", a freeze among them" * pair.frozen


# ---- what proves it


def _by_own_address(story: Story, frames: dict[str, int]) -> None:
    """Transports whose dialect prints the client's own port (grpc-java, sockets of grpc-go): the connection with both ends.

    Ports come round again, so among several the one that was established nearest in time; unaligned, only a single one. Where that
    was long before or after, and another one to the server was established just then, both are told.
    """
    connections = story.connections
    told: dict[tuple[str, str], list[Transport]] = defaultdict(list)
    for t in story.transports:
        if t.local and t.remote:
            told[t.local, t.remote].append(t)
    if not told:
        return
    remotes = {remote for _, remote in told}
    found: dict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
    begun: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    for k in range(len(connections)):
        if (server := connections.server(k)) not in remotes:
            continue
        point = connections.points[connections.seen_at(k)[0]]
        first = point.aligned(int(point.rows[connections.members[k, connections.seen_at(k)[0]]][f.FIRST_TS]))
        begun[server, point.clock.frame].append((first, k))
        found[connections.client(k), server].append((k, first, point.clock.frame))
    for rows in begun.values():
        rows.sort()
    for ends, mine in told.items():
        same = found[ends]
        for t in mine:
            frame = frames.get(t.environment or "", 0)
            near = [(abs(first - (t.opened_ns or 0)), k) for k, first, other in same if other == frame]
            if not near and len(same) == len(mine) == 1:
                near = [(0, same[0][0])]
            if near:
                pair = _Pair(t, min(near)[1], min(near)[0], "")
                slack = CONNECT_SLACK_NS + frame_error(story, frame)
                others = _begun(begun[ends[1], frame], t, slack) if pair.apart_ns > SECOND + slack else []
                if others:
                    _contradicted(story, pair, others)
                else:
                    _tie(story, pair, "certain", "both addresses")


def _begun(rows: list[tuple[int, int]], t: Transport, slack_ns: int) -> list[int]:
    """Which of these (time, connection) began when a transport did."""
    if t.opened_ns is None:
        return []
    ends = bisect_left(rows, (t.opened_ns - slack_ns,)), bisect_left(rows, (t.opened_ns + slack_ns + 1,))
    return [k for _, k in rows[slice(*ends)]]


def _contradicted(story: Story, pair: _Pair, others: list[int]) -> None:
    """Tie a transport by the addresses that it prints, and tell what times say."""
    t, cs = pair.transport, story.connections
    names = [cs.id(k) for k in others]
    why = f"both addresses, but established {seconds(pair.apart_ns)} from when the transport was"
    _tie(story, pair, "likely", why, names)
    for rank, name in enumerate(names[:MOST_TOLD], 2):
        told = "established when the transport was, from another address than it prints"
        story.ties.append(Tie(KIND, t.id, name, "possible", told, False, rank, [cs.id(pair.k)]))


# ---- candidates


class _Candidates:
    """The connections to the address of each transport that were established when it was."""

    def __init__(self, story: Story, waiting: list[Transport], frames: dict[str, int], errors: dict[int, int]) -> None:
        self._story, self._frames, self._errors = story, frames, errors
        self._established = _established(story.connections, {t.remote for t in waiting})
        self._waiting: list[Transport] = []
        self._crowded: list[Transport] = []
        for t in waiting:
            if t.opened_ns is not None and (near := self._near(t)):
                slack = self._slack(t)
                at_once = bisect_right(near, (t.opened_ns + slack, len(story.connections))) - bisect_left(
                    near, (t.opened_ns - slack,)
                )
                (self._waiting if at_once <= MOST_AT_ONCE else self._crowded).append(t)
        self._tie_single(waiting)

    def _near(self, t: Transport) -> list[tuple[int, int, str]]:
        return self._established.get((t.remote or "", self._frames.get(t.environment or "", 0)), [])

    def _tie_single(self, waiting: list[Transport]) -> None:
        """Where nothing shares a clock: the only transport and the only connection to an address."""
        anywhere = Counter(server for (server, _), rows in self._established.items() for _ in rows)
        count = Counter(t.remote for t in waiting)
        for t in waiting:
            if not self._near(t) and anywhere[t.remote or ""] == 1 and count[t.remote] == 1:
                only = next(rows[0] for (server, _), rows in self._established.items() if server == t.remote)
                _tie(self._story, _Pair(t, only[1], 0, ""), "likely", "the only connection to that address")

    def _slack(self, t: Transport) -> int:
        coarse = t.dialect in (GO, JAVA) and t.opened_ns is not None and t.opened_ns % SECOND == 0
        return CONNECT_SLACK_NS + self._errors[self._frames.get(t.environment or "", 0)] + SECOND * coarse

    def pairs(self) -> list[_Pair]:
        """Transports with those that each may be, nearest first; without what connected in a crowd."""
        found = [self._pair(t, row) for t in self._waiting for row in self._of(t)]
        return sorted(found, key=_Pair.distance)

    def of_crowded(self, known: dict[str | None, set[str]]) -> list[list[_Pair]]:
        """Of each transport that connected in a crowd what it may be: from the one address that is known of its environment."""
        found = []
        for t in self._crowded:
            mine = [self._pair(t, row) for row in self._of(t) if {row[2]} == known.get(t.environment)]
            found.append(sorted((p for p in mine if _free(self._story, p)), key=_Pair.distance))
        return [group for group in found if group]

    def crowd(self) -> set[int]:
        """Connections that transports which connected in a crowd may be."""
        return {k for t in self._crowded for _, k, _ in self._of(t)} - self._story.connections.transports.keys()

    def _pair(self, t: Transport, row: tuple[int, int, str]) -> _Pair:
        when, k, address = row
        apart = (t.opened_ns or 0) - when
        return _Pair(t, k, apart, address, frozen=apart > self._slack(t))

    def _of(self, t: Transport) -> list[tuple[int, int, str]]:
        near, slack = self._near(t), self._slack(t)
        stretches = _running(self._story, t, slack)
        return [row for a, b in stretches for row in near[bisect_left(near, (a,)) : bisect_left(near, (b + 1,))]]


def _running(story: Story, t: Transport, slack_ns: int) -> list[tuple[int, int]]:
    """When an environment ran, for so much time before a transport's line and after: a handshake that was begun may end before a
    freeze, and the line stand behind it."""
    at = t.opened_ns or 0
    found, until, left = [], at + slack_ns, slack_ns
    for freeze in reversed(story.freezes_between(t.environment, at - FROZEN_NS, at)):
        ran = max(at - freeze.end_ns, 0)
        if ran >= left:
            break
        left, at = left - ran, min(at, freeze.start_ns)
        edge = slack_ns + freeze.error_ns
        if freeze.length_ns > 2 * edge:
            found.append((freeze.end_ns - edge, until))
            until = freeze.start_ns + edge
    return [*found, (at - left, until)]


def _established(cs: Connections, wanted: set[str | None]) -> dict[tuple[str, int], list[tuple[int, int, str]]]:
    """By server and frame: when its connections were established (aligned), in order, with number and client's address."""
    found: dict[tuple[str, int], list[tuple[int, int, str]]] = defaultdict(list)
    for k in range(len(cs)):
        p = cs.seen_at(k)[0]
        if k in cs.transports:
            continue
        row, clock = cs.points[p].rows[cs.members[k, p]], cs.points[p].clock
        server = endpoint(int(row[f.S_HI]), int(row[f.S_LO]), int(row[f.S_PORT]))
        if server in wanted:
            established = int(row[f.ESTABLISHED_TS] or row[f.SYN_ACK_TS] or row[f.FIRST_TS])
            client = host(int(row[f.C_HI]), int(row[f.C_LO]))
            found[server, clock.frame].append((clock.aligned(established), k, client))
    return {place: sorted(rows) for place, rows in found.items()}


def _groups(pairs: list[_Pair]) -> list[list[_Pair]]:
    """Pairs that share a transport or a connection, over any number of steps."""
    joined = Joined()
    for p in pairs:
        joined.join(p.transport.id, f"C{p.k}")
    groups: dict[str, list[_Pair]] = defaultdict(list)
    for p in pairs:
        groups[joined.root(p.transport.id)].append(p)
    return list(groups.values())


# ---- what both sides did


def _look(story: Story, pairs: list[_Pair], frames: dict[str, int], errors: dict[int, int]) -> None:
    """Set the scores: how many pings of the transport passed on the connection when they were sent, less those that did not."""
    wanted = {p.transport.id for p in pairs}
    pings: dict[str, list[int]] = defaultdict(list)
    for ping in story.pings:
        if ping.transport in wanted:
            pings[ping.transport].append(ping.sent_ns)
    by_connection: dict[int, list[_Pair]] = defaultdict(list)
    for p in pairs:
        if pings[p.transport.id] or p.transport.closed_by == "socket-error":
            by_connection[p.k].append(p)
    if not by_connection or len(by_connection) > MOST_LOOKED_AT:
        return
    for k in story.connections.loaded(by_connection):
        segments = story.connections.segments(k)
        passed = [s.time_ns for s in segments if s.from_client and s.marks & col.M_PING and not s.retransmitted]
        resets = [s.time_ns for s in segments if s.rst and not s.from_client]
        for p in by_connection[k]:
            error = errors[frames.get(p.transport.environment or "", 0)]
            sent = pings[p.transport.id] if passed else []
            hits = sum(_near(passed, t, error) for t in sent)
            p.score = 2 * hits - len(sent)
            if hits:
                p.told = f"{hits} of {len(sent)} pings at the same times"
            ended = p.transport.closed_ns if p.transport.closed_by == "socket-error" else None
            if ended is not None and _near(resets, ended - LOOP_NS, error + LOOP_NS):
                p.score, p.told = p.score + 2, f"{p.told}, " * bool(p.told) + "its reset beside the line of its error"


def _near(times: list[int], line_ns: int, error_ns: int) -> bool:
    """Whether one of these packets passed when a line said so."""
    at = bisect_left(times, line_ns - 2 * MS - error_ns)
    return at < len(times) and times[at] <= line_ns + LOOP_NS + error_ns


def _by_deeds(story: Story, pairs: list[_Pair]) -> None:
    """Tie what was seen to do the same, where no rival of either was as well."""
    best: dict[str, list[int]] = defaultdict(list)
    for p in pairs:
        for name in (p.transport.id, f"C{p.k}"):
            best[name].append(p.score)
    for scores in best.values():
        scores.sort(reverse=True)
    for p in pairs:
        rivals = [best[name][1:2] for name in (p.transport.id, f"C{p.k}")]
        if p.score > 0 and all(not second or second[0] < p.score for second in rivals) and _free(story, p):
            sure = all(not second or second[0] <= 0 for second in rivals) and p.score > 1
            _tie(story, p, "certain" if sure else "likely", f"{_connected(p)}; {p.told}")


def _free(story: Story, p: _Pair) -> bool:
    return p.transport.connection is None and p.k not in story.connections.transports


# ---- when they were


def _known(story: Story) -> dict[str | None, set[str]]:
    """Source addresses of environments, by what is at least likely."""
    found: dict[str | None, set[str]] = defaultdict(set)
    for tie in story.ties:
        if tie.used and tie.confidence != "possible":
            if tie.kind == KIND:
                address = story.connections.client(int(tie.right[1:]) - 1).rpartition(":")[0].strip("[]")
                found[story.transport(tie.left).environment].add(address)
            elif tie.kind == "environment-address":
                found[tie.left].add(tie.right)
    return found


def _of_known_address(story: Story, pairs: list[_Pair]) -> list[_Pair]:
    """Pairs that are left; of an environment of which one source address is known, only those from there, if any."""
    known = _known(story)
    left = [p for p in pairs if _free(story, p)]
    fitting = {p.transport.id for p in left if known.get(p.transport.environment) == {p.address}}
    return [p for p in left if p.transport.id not in fitting or known[p.transport.environment] == {p.address}]


def _by_known(story: Story, rivals: list[list[_Pair]]) -> list[list[_Pair]]:
    """Of rivals, tie the one from the address that is known of an environment by now, and the one whose rivals are all tied by
    now, where no other transport has as good a claim; returns what is left."""
    for _ in range(MOST_ROUNDS):
        known, told = _known(story), []
        for group in rivals:
            free = [p for p in group if _free(story, p)]
            own = [p for p in free if known.get(p.transport.environment) == {p.address}]
            told += own if len(own) == 1 else free if len(free) == 1 else []
        claims = Counter(p.k for p in told)
        told = [p for p in told if claims[p.k] == 1]
        if not told:
            break
        for p in told:
            _tie(story, p, "likely", f"{_connected(p)}; others are taken, or not from the address of its environment")
        rivals = [group for group in rivals if group[0].transport.connection is None]
    return rivals


def _by_time(story: Story, pairs: list[_Pair]) -> list[list[_Pair]]:
    """Tie in the order of connects, else the nearest; returns what connected with another at once, each with its rivals."""
    left = []
    when = {p.k: (p.transport.opened_ns or 0) - p.apart_ns for p in pairs}
    for group in _groups(pairs):
        rivals: dict[str, list[_Pair]] = defaultdict(list)
        for p in group:
            rivals[p.transport.id].append(p)
        ordered = _in_order(group, rivals, when)
        same = SAME_NS if ordered else LOOP_NS  # which is nearest, clocks' error may change
        for p in ordered or _nearest(group):
            others = sorted((o for o in rivals[p.transport.id] if o.k != p.k), key=lambda o: abs(when[o.k] - when[p.k]))
            close = [o for o in others if abs(when[o.k] - when[p.k]) <= LOOP_NS]
            names = [story.connections.id(o.k) for o in close[:LISTED]]
            if close and abs(when[close[0].k] - when[p.k]) <= same and not _same_story(group, p, close[0]):
                left.append([p, *close])
            else:
                _tie(story, p, "possible" if close else "likely", _connected(p), names)
    return left


def _same_story(group: list[_Pair], p: _Pair, other: _Pair) -> bool:
    """Whether a rival connection is nobody else's: then one of both is the transport's, the nearer."""
    return not any(o.k == other.k and o.transport is not p.transport for o in group)


def _leave(story: Story, pairs: list[_Pair]) -> None:
    """Tell ties between which nothing decides, as far as somebody may read them."""
    names = [story.connections.id(p.k) for p in pairs]
    for rank, p in enumerate(pairs[:MOST_TOLD], 1):
        others = [name for name in names[: MOST_TOLD + 1] if name != names[rank - 1]][:MOST_TOLD]
        also = " and ".join(others[:LISTED]) + f" and {len(names) - 1 - LISTED} others" * (len(names) - 1 > LISTED)
        evidence = f"{_connected(p)}, as {also}: left untied"
        story.ties.append(
            Tie(KIND, p.transport.id, names[rank - 1], "possible", evidence, False, rank, others, _refs(story, p))
        )


def _in_order(group: list[_Pair], rivals: dict[str, list[_Pair]], when: dict[int, int]) -> list[_Pair]:
    """The k-th transport is the k-th connection, where there are as many of both and that fits all."""
    ks = sorted({p.k for p in group}, key=lambda k: (when[k], k))
    transports = sorted({p.transport.id: p.transport for p in group}.values(), key=lambda t: (t.opened_ns or 0, t.id))
    if len(ks) != len(transports):
        return []
    chosen = [next((p for p in rivals[t.id] if p.k == k), None) for t, k in zip(transports, ks, strict=True)]
    return [p for p in chosen if p is not None] if None not in chosen else []


def _nearest(group: list[_Pair]) -> list[_Pair]:
    found, taken = [], set[str | int]()
    for p in group:
        if p.transport.id not in taken and p.k not in taken:
            taken |= {p.transport.id, p.k}
            found.append(p)
    return found
