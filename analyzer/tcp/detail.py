"""What one connection's segments tell on a closer look: back-off, keepalive, windows, round trips, resets, guest clock.

Pure functions of the merged segments (`segments.merge`) of a connection that something has flagged. All times are aligned
ns. Selective acknowledgements are not among the decoded columns, so nothing here speaks of SACK.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import groupby, pairwise
from statistics import median

from msgspec import Struct

from analyzer.capture import columns as col
from analyzer.model.times import MS, SECOND, seconds
from analyzer.tcp import fields as f
from analyzer.tcp.segments import Segment
from analyzer.tcp.sequence import delta32

#: A repetition sooner than this was not sent by a time-out: Linux's minimum is 200 ms (TCP_RTO_MIN), less measuring error.
RTO_AT_LEAST_NS = 190 * MS
#: Rates at which kernels let TSval tick, Hz (RFC 7323 §5.4 allows 1 to 1000): Linux 1000 since 4.13, before that CONFIG_HZ.
TSVAL_RATES = (1000, 300, 250, 100, 10, 2)
#: How far a measured rate may be from one of these.
RATE_TOLERANCE = 0.05
#: A host that counts IP identifications for all its connections is taken to send no more packets a second than this.
IDS_A_SECOND = 1000
#: The next packets of one counter.
NEXT_IDS = 16
#: A pause shorter than this shows no stalled clock: a tick of the slowest usual rate and the capture's own jitter.
LEAST_PAUSE_NS = SECOND


def retransmission_kind(segment: Segment) -> str | None:
    """Which kind of repetition a segment is, None for none.

    One of "SYN", "FIN", "fast", "spurious", "timeout", "out of order", "keepalive probe", "zero-window probe". "timeout" is
    what is left, as with tshark: repetitions inside a recovery that SACK steers are counted there.
    """
    kinds = segment.kinds
    for bit, name in (
        (f.K_KEEPALIVE, "keepalive probe"),
        (f.K_ZERO_PROBE, "zero-window probe"),
        (f.K_OOO, "out of order"),
    ):
        if kinds & bit:
            return name
    if not kinds & f.K_RETX:
        return None
    if segment.syn or segment.fin:
        return "SYN" if segment.syn else "FIN"
    return "fast" if kinds & f.K_FAST else "spurious" if kinds & f.K_SPURIOUS else "timeout"


# ---- back-off


class Backoff(Struct, frozen=True):
    """Copies of one segment sent by time-outs: when, and the waits between them."""

    from_client: bool
    seq: int
    times_ns: tuple[int, ...]

    @property
    def waits_ns(self) -> tuple[int, ...]:
        """Between each copy and the one before."""
        return tuple(b - a for a, b in pairwise(self.times_ns))

    @property
    def initial_rto_ns(self) -> int:
        """The first wait: what the sender held for its retransmission time-out."""
        return self.waits_ns[0]

    @property
    def doublings(self) -> int:
        """Waits that are about twice the one before (RFC 6298 §5.5), within a quarter."""
        return sum(1.75 <= b / a <= 2.25 for a, b in pairwise(self.waits_ns))

    def __str__(self) -> str:
        waits = ", ".join(seconds(wait) for wait in self.waits_ns)
        return f"{len(self.times_ns)} copies, waits {waits}" + (
            f" ({self.doublings}× doubled)" if self.doublings else ""
        )


def backoffs(segments: list[Segment]) -> list[Backoff]:
    """Every series of at least two copies of one segment, the later ones sent by time-outs, in order of their start."""
    copies: dict[tuple[bool, int, bool], list[int]] = {}
    for s in segments:
        if s.end_seq != s.seq and not s.rst and not s.keepalive:
            copies.setdefault((s.from_client, s.seq, s.syn), []).append(s.time_ns)
    found = []
    for (from_client, seq, _), times in copies.items():
        late = times[:1] + [b for a, b in pairwise(times) if b - a >= RTO_AT_LEAST_NS]
        if len(late) >= 2:
            found.append(Backoff(from_client, seq, tuple(late)))
    return sorted(found, key=lambda b: b.times_ns)


# ---- keepalive


class Keepalive(Struct, frozen=True):
    """TCP keepalive of one side as its probes show it (tcp_keepalive_time, _intvl, _probes of Linux).

    `unanswered` counts the last probes, after which nothing more of the other side was heard.
    """

    from_client: bool
    idle_ns: int
    interval_ns: int | None
    probes: int
    unanswered: int

    def __str__(self) -> str:
        every = f", then every {seconds(self.interval_ns)}" if self.interval_ns else ""
        answered = self.probes - self.unanswered
        counts = (
            f"{answered} answered" if answered else "",
            f"{self.unanswered} unanswered" if self.unanswered else "",
        )
        side = "client" if self.from_client else "server"
        return f"the {side} probes after {seconds(self.idle_ns)} idle{every}: {', then '.join(filter(None, counts))}"


def keepalives(segments: list[Segment]) -> list[Keepalive]:
    """Each run of probes of one side with nothing else of that side between them."""
    found = []
    for from_client in (True, False):
        heard = [s.time_ns for s in segments if s.from_client != from_client]
        before: Segment | None = None
        for probing, run in groupby((s for s in segments if s.from_client == from_client), key=lambda s: s.keepalive):
            own = list(run)
            if probing:
                found.append((own[0].time_ns, _run_of_probes(heard, before, own)))
            before = own[-1]
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def _run_of_probes(heard: list[int], before: Segment | None, probes: list[Segment]) -> Keepalive:
    """`heard`: the times of the other side's segments, in order; `before`: the prober's own last segment."""
    first, last = probes[0], probes[-1]
    at = bisect_left(heard, first.time_ns)
    start = max([*heard[max(at - 1, 0) : at], *([before.time_ns] if before else [])], default=first.time_ns)
    waits = [b.time_ns - a.time_ns for a, b in pairwise(probes)]
    until = last.time_ns + (max(waits) if waits else SECOND)
    answer = bisect_left(heard, last.time_ns)
    answered = answer < len(heard) and heard[answer] <= until
    life = heard[answer - 1] if answer else 0
    unanswered = 0 if answered else sum(p.time_ns > life for p in probes)
    interval = int(median(waits)) if waits else None
    return Keepalive(first.from_client, first.time_ns - start, interval, len(probes), unanswered)


# ---- windows


class ZeroWindow(Struct, frozen=True):
    """A stretch in which one side's window was closed; `end_ns` None where it never opened again."""

    from_client: bool
    start_ns: int
    end_ns: int | None
    probes: int


def zero_windows(segments: list[Segment]) -> list[ZeroWindow]:
    """Each stretch from the first segment with window 0 to the next one of that side with another."""
    found = []
    for from_client in (True, False):
        start = None
        probes = 0
        for s in segments:
            if s.from_client != from_client:
                probes += bool(start is not None and s.kinds & f.K_ZERO_PROBE)
            elif s.kinds & f.K_ZERO_WINDOW:
                start = s.time_ns if start is None else start
            elif start is not None and not s.rst:
                found.append(ZeroWindow(from_client, start, s.time_ns, probes))
                start, probes = None, 0
        if start is not None:
            found.append(ZeroWindow(from_client, start, None, probes))
    return sorted(found, key=lambda z: z.start_ns)


# ---- round trips


def handshake_rtt_ns(segments: list[Segment]) -> int | None:
    """From the client's latest SYN to its first segment after the SYN-ACK: the round trip, wherever the capture stands."""
    answer = next((s for s in segments if s.syn and not s.from_client), None)
    if answer is None:
        return None
    syn = max((s.time_ns for s in segments if s.syn and s.from_client and s.time_ns <= answer.time_ns), default=None)
    up = next((s.time_ns for s in segments if s.from_client and not s.syn and s.time_ns >= answer.time_ns), None)
    return up - syn if syn is not None and up is not None else None


def echo_rtts_ns(segments: list[Segment]) -> dict[bool, list[int]]:
    """Times from a segment of one side (True: the client's) to the first echo of its TSval by the other (RFC 7323 §4).

    Only first echoes of first uses count, so delayed acknowledgements and pauses make a time longer, never shorter: take
    the minimum or the median. It is the round trip from the capture to the other side and back.
    """
    sent: dict[tuple[bool, int], int] = {}
    echoed: set[tuple[bool, int]] = set()
    found: dict[bool, list[int]] = {True: [], False: []}
    for s in segments:
        if s.tsval < 0:
            continue
        echo = (not s.from_client, s.tsecr)
        if echo in sent and echo not in echoed:
            echoed.add(echo)
            found[not s.from_client].append(s.time_ns - sent[echo])
        if s.end_seq != s.seq:
            sent.setdefault((s.from_client, s.tsval), s.time_ns)
    return found


# ---- guest clock


class ClockStall(Struct, frozen=True):
    """A pause of one side in which its TSval advanced by less than the time that passed."""

    from_client: bool
    start_ns: int
    passed_ns: int
    advanced_ns: int

    @property
    def missing_ns(self) -> int:
        """By how much the side's clock fell behind."""
        return self.passed_ns - self.advanced_ns


def tsval_rate_hz(segments: list[Segment], from_client: bool) -> int | None:
    """Ticks a second of one side's TSval in its busy stretches, one of `TSVAL_RATES`; None where too little shows it."""
    stamps = _stamps(segments, from_client)
    steps = [(b[0] - a[0], delta32(b[1], a[1])) for a, b in pairwise(stamps)]
    busy = [(wall, ticks) for wall, ticks in steps if 0 < wall < LEAST_PAUSE_NS and ticks >= 0]
    wall, ticks = sum(w for w, _ in busy), sum(t for _, t in busy)
    if wall < 100 * MS or ticks < 10:
        return None
    rate = ticks * SECOND / wall
    return next((hz for hz in TSVAL_RATES if abs(rate - hz) <= hz * RATE_TOLERANCE), None)


def clock_stalls(segments: list[Segment], from_client: bool) -> list[ClockStall]:
    """Pauses of one side of at least `LEAST_PAUSE_NS` in which its TSval advanced by less than half of the time.

    A process that slept leaves TSval running: only a guest whose clock stood still (a frozen or paused machine) falls behind.
    Retransmissions delivered late do not count, as their TSval is older than one already seen.
    """
    rate = tsval_rate_hz(segments, from_client)
    if rate is None:
        return []
    found = []
    for (start, before), (end, after) in pairwise(_stamps(segments, from_client)):
        advanced = delta32(after, before) * SECOND // rate
        if end - start >= LEAST_PAUSE_NS and 0 <= advanced < (end - start) // 2:
            found.append(ClockStall(from_client, start, end - start, advanced))
    return found


def _stamps(segments: list[Segment], from_client: bool) -> list[tuple[int, int]]:
    """(time, TSval) of one side, as far as TSval does not go back."""
    out: list[tuple[int, int]] = []
    for s in segments:
        if (
            s.from_client == from_client
            and s.tsval >= 0
            and not s.rst
            and (not out or delta32(s.tsval, out[-1][1]) >= 0)
        ):
            out.append((s.time_ns, s.tsval))
    return out


# ---- resets


def describe_reset(segments: list[Segment], k: int) -> str:
    """The fingerprint of the reset `segments[k]`: shape, what it answered, and whether its sender was that host.

    Facts first, joined by semicolons; the last part is a judgement: "by the host itself", "by a middlebox?" or "sender not
    certain". Linux answers data for a socket it does not know with RST, sequence = the acknowledgement it was sent, window 0
    and no options; one that closes with unread data sends RST-ACK in sequence (RFC 9293 §3.5.2, RFC 2525 §2.17).
    """
    reset = segments[k]
    own = [s for s in segments[:k] if s.from_client == reset.from_client and not s.rst]
    peer = [s for s in segments[:k] if s.from_client != reset.from_client]
    words = [f"RST{' with' if reset.flags & col.ACK_FLAG else ' without'} ACK", f"window {reset.window}"]
    words.append("with options" if reset.has_options else "without options")
    answered = _answered(reset, peer)
    words.append(_position(reset, own, answered))
    if answered is not None:
        verb = "acknowledges" if reset.flags & col.ACK_FLAG and not answered.syn else "answers"
        words.append(f"{verb} {answered.describe()}, {seconds(reset.time_ns - answered.time_ns)} earlier")
    signs = foreign_signs(segments, reset)
    return "; ".join([*words, *signs, _sender(own, signs)])


def _answered(reset: Segment, peer: list[Segment]) -> Segment | None:
    """The peer's segment whose acknowledgement the reset took its sequence number from, or that it acknowledges."""
    for s in reversed(peer):
        if reset.flags & col.ACK_FLAG and s.end_seq == reset.ack and s.end_seq != s.seq:
            return s
        if not reset.flags & col.ACK_FLAG and s.flags & col.ACK_FLAG and s.ack == reset.seq:
            return s
    return None


def _position(reset: Segment, own: list[Segment], answered: Segment | None) -> str:
    if not own:
        return "its sender sent nothing else"
    end = max((s.end_seq for s in own), key=lambda seq: delta32(seq, own[0].seq))
    if reset.seq == end:
        return "sequence as expected"
    if answered is not None and not reset.flags & col.ACK_FLAG:
        return "sequence taken from what it answers"
    return f"sequence {delta32(reset.seq, end):+d} from expected"


def foreign_signs(segments: list[Segment], reset: Segment) -> list[str]:
    """What sets a reset apart from its sender's earlier packets at the same capture point; empty where nothing does.

    An identification counts for as long as a counter that the host's other connections share cannot have run ahead.
    """
    here = _before_at_its_point(segments, reset)
    signs = []
    if here and reset.ttl not in {s.ttl for s in here}:
        signs.append(f"TTL {reset.ttl}, its other packets {here[-1].ttl}")
    numbers = _counter(here)
    room = IDS_A_SECOND * (1 + (reset.time_ns - here[-1].time_ns) // SECOND) if here else 0
    if numbers and reset.ip_id > 0 and not 0 < (reset.ip_id - numbers[-1]) & 0xFFFF <= room:
        signs.append(f"IP identification {reset.ip_id}, its other packets up to {numbers[-1]}")
    return signs


def agrees(segments: list[Segment], reset: Segment) -> bool:
    """Whether TTL and IP identification both tie a reset to its sender's earlier packets at the same capture point."""
    here = _before_at_its_point(segments, reset)
    numbers = _counter(here)
    follows = bool(numbers) and reset.ip_id > 0 and 0 < (reset.ip_id - numbers[-1]) & 0xFFFF <= NEXT_IDS
    return follows and reset.ttl in {s.ttl for s in here}


def _before_at_its_point(segments: list[Segment], reset: Segment) -> list[Segment]:
    point = reset.places[0].point
    return [
        s for s in segments
        if s.from_client == reset.from_client and not s.rst and s.time_ns <= reset.time_ns and s.at(point) is not None
    ]  # fmt: skip


def _counter(segments: list[Segment]) -> list[int]:
    """Identifications that are a counter, each a little ahead of the one before; empty where they are none.

    Zero is none: Linux sends it in a SYN-ACK, and in a reset for an unknown socket whatever the connection's counter said.
    """
    numbers = [s.ip_id for s in segments if s.ip_id > 0]
    counted = all(0 < (b - a) & 0xFFFF <= IDS_A_SECOND for a, b in pairwise(numbers))
    return numbers if len(numbers) >= 3 and counted else []


def _sender(own: list[Segment], signs: list[str]) -> str:
    if signs:
        return "by a middlebox?"
    return "by the host itself, as far as TTL and IP identification tell" if own else "sender not certain"
