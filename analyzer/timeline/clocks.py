"""Clocks: how far one source's clock is from another's, bounded from both sides, with the anchors that bound it.

Everything here is one idea, NTP's: an effect cannot precede its cause. A packet seen at A and later at B bounds the
offset of B's clock from above when it travels A → B, from below when it travels B → A. A line printed after a server's
packet arrived bounds it from one side, a packet sent after a line was printed from the other. The offset is the middle
of what remains; its error is half the width.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analyzer.capture import columns as col
from analyzer.model.addresses import endpoint
from analyzer.model.events import Event
from analyzer.model.records import Invocation
from analyzer.model.times import MS, SECOND
from analyzer.tcp import fields as f
from analyzer.tcp.pings import ANSWER_NS
from analyzer.timeline.points import SERVER, Point

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analyzer.capture.reader import CaptureData

#: Runtime stamps are cut to milliseconds.
STAMP_NS = 1 * MS
#: START is stamped up to 91 ms before the guest runs (measured), END a few ms after its last packet.
START_SLACK_NS = 100 * MS
END_SLACK_NS = 10 * MS
#: A client silent this long begins a new burst when it sends again.
BURST_GAP_NS = 500 * MS
#: Anchors of one kind that are looked at; more add nothing but time.
MAX_ANCHORS = 300
MAX_CANDIDATES = 4_000
#: Offsets beyond this, time zones aside, need anchors that cannot be coincidence (connects, pings, resets, ports).
SHIFT_NS = 11 * SECOND
STRONG_ANCHORS = 2
#: A line that a reply caused is printed this soon after it (JavaScript runs to its next turn).
REPLY_TO_LINE_NS = 4 * MS
_PORT = re.compile(r"\bport[ :=]{1,2}(\d{4,5})\b")


@dataclass(slots=True)
class Offset:
    """`value` ± `error` ns is what to subtract from the second clock's stamps to get the first's, from `anchors` pairs."""

    value: int
    error: int
    anchors: int
    how: str


def middle(low: int, high: int, anchors: int, how: str) -> Offset:
    """The middle of a bounded interval; bounds that contradict each other by noise widen the error instead."""
    return Offset((low + high) // 2, abs(high - low) // 2 + 1, anchors, how)


# ---- guest clock against the log service's


def guest_offsets(events: list[Event]) -> dict[str | None, Offset]:
    """Per environment: the service's event stamp less the stamp that the guest printed, from lines that carry both."""
    pairs: dict[str | None, list[int]] = defaultdict(list)
    for e in events:
        if e.event_ns is not None and e.inner_ns is not None and e.layer in ("app", "grpc"):
            pairs[e.environment].append(e.event_ns - e.inner_ns)
    found = {}
    for environment, differences in pairs.items():
        low, mid, high = np.percentile(np.array(differences), (5, 50, 95)).astype(np.int64).tolist()
        found[environment] = Offset(mid, (high - low) // 2 + STAMP_NS, len(differences), "both stamps of a line")
    return found


# ---- two captures


def between_points(a: Point, b: Point, members: NDArray[np.int64], pa: int, pb: int) -> tuple[Offset, bool] | None:
    """How far b's clock is ahead of a's, and whether `a` is nearer the client; None without common packets."""
    both = members[(members[:, pa] >= 0) & (members[:, pb] >= 0)]
    if not len(both):
        return None
    ta, tb, server = _common(a, b, a.rows[both[:, pa], f.UID], b.rows[both[:, pb], f.UID])
    forward, backward = (tb - ta)[~server], (tb - ta)[server]
    if not len(forward) or not len(backward):
        return None
    near = bool(np.median(forward) > np.median(backward))
    later, earlier = (forward, backward) if near else (backward, forward)
    low, high = int(earlier.max()), int(later.min())
    if low > high:  # clocks drift against each other, or stamps jitter: the middle stays, the error grows
        low, high = int(np.percentile(earlier, 50)), int(np.percentile(later, 50))
        spread = int(max(np.ptp(earlier), np.ptp(later)))
        return Offset((low + high) // 2, abs(high - low) // 2 + spread, len(ta), "the same packets, inconsistent"), near
    return middle(low, high, len(ta), "the same packets in both captures"), near


def _common(
    a: Point, b: Point, ua: NDArray[np.int64], ub: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Times of packets that both captures hold, each recognised by fields that no two packets of a connection share."""
    import pandas as pd

    keys = ["conn", "server", "seq", "ack", "len", "flags", "tsval", "ipid"]
    frames = []
    for point, uids in ((a, ua), (b, ub)):
        order = {int(uid): k for k, uid in enumerate(uids.tolist())}
        mine = np.isin(point.data.uids, uids)
        s, kinds = point.data.segments[mine], point.data.kinds[mine]
        frame = pd.DataFrame(
            {
                "conn": [order[u] for u in point.data.uids[mine].tolist()],
                "server": kinds & f.K_SERVER, "seq": s[:, col.SEQ], "ack": s[:, col.ACK], "len": s[:, col.LEN],
                "flags": s[:, col.FLAGS], "tsval": s[:, col.TSVAL], "ipid": s[:, col.IPID], "ts": s[:, col.TS],
            }
        )  # fmt: skip
        frames.append(frame.drop_duplicates(keys, keep=False))
    joined = frames[0].merge(frames[1], on=keys)
    return (
        joined["ts_x"].to_numpy(np.int64),
        joined["ts_y"].to_numpy(np.int64),
        joined["server"].to_numpy(np.int64) != 0,
    )


# ---- a capture against a log


@dataclass(slots=True)
class _Kind:
    """Log times and packet times of one kind of anchor; a pair is a hit when packet − line − offset lies in the window."""

    log: NDArray[np.int64]
    packet: NDArray[np.int64]
    before: int  # the packet may precede the line by this much (its cause)
    after: int  # … or follow it (its effect)
    weight: float
    #: Pairs may be wrong (another environment's packet): the middle one is trusted, not the tightest.
    loose: bool = False

    def hits(self, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        """How many lines find a packet, for each candidate offset."""
        if not len(self.log) or not len(self.packet):
            return np.zeros(len(candidates))
        wanted = self.log[None, :] + candidates[:, None]
        at = np.searchsorted(self.packet, wanted - self.before)
        found = np.take(np.append(self.packet, np.iinfo(np.int64).max), at) <= wanted + self.after
        return np.asarray(found.sum(axis=1) * self.weight, np.float64)

    def pairs(self, offset: int) -> NDArray[np.int64]:
        """packet − line of every hit at this offset."""
        if not len(self.log) or not len(self.packet):
            return np.empty(0, np.int64)
        wanted = self.log + offset
        at = np.searchsorted(self.packet, wanted - self.before)
        found = np.take(np.append(self.packet, np.iinfo(np.int64).max), at)
        hit = found <= wanted + self.after
        return np.asarray((found - self.log)[hit], np.int64)


def _thin(times: list[int]) -> NDArray[np.int64]:
    array = np.array(sorted(times), np.int64)
    return array if len(array) <= MAX_ANCHORS else array[:: len(array) // MAX_ANCHORS + 1]


def log_kinds(events: list[Event], invocations: list[Invocation], point: Point) -> dict[str, list[_Kind]]:
    """Anchors between a log and one capture: `cause` (packet, then line), `effect` (line, then packet), `window`."""
    rows, data = point.rows, point.data
    rtt = _rtt(point)
    by_remote: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for e in events:
        if e.kind in ("tcp-connected", "ping-sent"):
            by_remote[e.kind, e.remote].append(e.time_ns)
        elif e.kind == "socket-error" or (e.kind == "error" and e.attrs.get("code") == "ECONNRESET"):
            by_remote["reset", e.remote].append(e.time_ns)
    pings = (
        _pings(data, rtt + ANSWER_NS) if any(kind == "ping-sent" for kind, _ in by_remote) else np.empty(0, np.int64)
    )
    servers = [endpoint(*r) for r in rows[:, [f.S_HI, f.S_LO, f.S_PORT]].tolist()]
    name = np.array(servers, object)
    found: dict[str, list[_Kind]] = {"cause": [], "effect": [], "window": []}
    for (kind, remote), times in sorted(by_remote.items(), key=str):
        mine = name == remote if remote else np.ones(len(rows), bool)
        if kind == "tcp-connected":
            packets = rows[mine, f.SYN_ACK_TS]
            found["cause"].append(_Kind(_thin(times), np.sort(packets[packets > 0]), 20 * MS + rtt, 2 * MS, 3.0))
        elif kind == "reset":
            packets = rows[mine, SERVER + f.RST_TS]
            found["cause"].append(_Kind(_thin(times), np.sort(packets[packets > 0]), 50 * MS + rtt, 2 * MS, 3.0))
        else:
            packets = data.segments[pings[np.isin(data.uids[pings], rows[mine, f.UID])], col.TS]
            found["effect"].append(_Kind(_thin(times), np.sort(packets), 2 * MS, 20 * MS + rtt, 3.0))
    found["cause"].extend(_local_ports(events, rows, rtt))
    bursts, lasts = client_bursts(point)
    bursts = np.unique(np.concatenate([bursts, rows[rows[:, f.SYN_TS] > 0, f.SYN_TS]]))
    ends = [i.end_ns for i in invocations if i.end_ns is not None]
    found["effect"].append(
        _Kind(_thin([i.start_ns for i in invocations]), bursts, 5 * MS, 3 * START_SLACK_NS + rtt, 1.0, True)
    )
    found["window"].append(_Kind(_thin(ends), lasts, 3 * SECOND, END_SLACK_NS + rtt, 0.0))
    return found


def _pings(data: CaptureData, within_ns: int) -> NDArray[np.int64]:
    """Numbers of the segments that are a client's PING: in the clear, or likely one inside TLS."""
    clear = (data.segments[:, col.MARKS] & col.M_H2_PING > 0) & (data.kinds & (f.K_SERVER | f.K_RETX) == 0)
    return np.concatenate([np.flatnonzero(clear), _tls_pings(data, within_ns)])


def _tls_pings(data: CaptureData, within_ns: int) -> NDArray[np.int64]:
    """What is most likely a PING inside TLS: answered at once, next thing, by one record of the same length, alone."""
    s = data.segments
    own = np.flatnonzero((s[:, col.LEN] > 0) & (data.kinds & (f.K_RETX | f.K_KEEPALIVE) == 0))
    own = own[np.argsort(data.uids[own], kind="stable")]
    sized = s[own, col.MARKS] & col.M_TLS_PING_SIZED > 0
    server = data.kinds[own] & f.K_SERVER > 0
    pair = sized[:-1] & sized[1:] & ~server[:-1] & server[1:]
    for values in (data.uids[own], s[own, col.LEN]):
        pair &= values[:-1] == values[1:]
    pair &= np.diff(s[own, col.TS]) <= within_ns
    return np.asarray(own[:-1][pair], np.int64)


def _local_ports(events: list[Event], rows: NDArray[np.int64], rtt: int) -> list[_Kind]:
    """Lines that name the local port of a connection (`connected from local port 46046`): printed once it is up."""
    first_line: dict[int, int] = {}
    for e in events:
        if e.layer == "app" and "port" in e.text and (m := _PORT.search(e.text[:200])):
            first_line.setdefault(int(m[1]), e.time_ns)
    found = []
    for port, time in sorted(first_line.items())[:MAX_ANCHORS]:
        packets = rows[(rows[:, f.C_PORT] == port) & (rows[:, f.SYN_ACK_TS] > 0), f.SYN_ACK_TS]
        if len(packets) == 1:
            found.append(_Kind(np.array([time]), packets, 20 * MS + rtt, 2 * MS, 3.0))
    return found


def _rtt(point: Point) -> int:
    rows = point.rows
    if not len(rows):
        return 0
    whole = (rows[:, f.ESTABLISHED_TS] > 0) & (rows[:, f.SYN_TS] > 0)
    times = rows[whole, f.ESTABLISHED_TS] - rows[whole, f.SYN_TS]
    return int(min(np.median(times), SECOND)) if len(times) else 0


def client_bursts(point: Point, address: tuple[int, int] | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last times of the bursts in which clients send data, SYN or FIN of their own; of one client address if given."""
    data = point.data
    s = data.segments
    own = (data.kinds & (f.K_SERVER | f.K_RETX | f.K_KEEPALIVE) == 0) & (
        (s[:, col.LEN] > 0) | (s[:, col.FLAGS] & (col.SYN | col.FIN) > 0)
    )
    if address is not None:
        own &= (s[:, col.SRC_HI] == address[0]) & (s[:, col.SRC_LO] == address[1])
    groups = s[own][:, [col.SRC_HI, col.SRC_LO]]
    times = s[own, col.TS]
    firsts, lasts = [], []
    if len(times):
        for hi, lo in np.unique(groups, axis=0).tolist():
            t = np.sort(times[(groups[:, 0] == hi) & (groups[:, 1] == lo)])
            cut = np.flatnonzero(np.diff(t) > BURST_GAP_NS)
            firsts.append(t[np.concatenate(([0], cut + 1))])
            lasts.append(t[np.concatenate((cut, [len(t) - 1]))])
    empty = np.empty(0, np.int64)
    return np.sort(np.concatenate(firsts or [empty])), np.sort(np.concatenate(lasts or [empty]))


def against_log(events: list[Event], invocations: list[Invocation], point: Point) -> Offset | None:
    """How far the capture's clock is ahead of the log's, None where too little matches.

    Candidates are all differences of anchors of one kind; the one that most anchors agree with wins, the smallest of
    equals. Causes and effects then bound it; lines printed right after a reply narrow what remains.
    """
    kinds = log_kinds(events, invocations, point)
    voters = [k for group in kinds.values() for k in group if k.weight > 0]
    candidates = [(k.packet[None, :] - k.log[:, None]).ravel() for k in voters if len(k.log) and len(k.packet)]
    if not candidates:
        return None
    every = np.unique(np.concatenate([*candidates, np.zeros(1, np.int64)]) // MS) * MS
    if len(every) > MAX_CANDIDATES:
        every = np.unique(np.concatenate([every[:: len(every) // MAX_CANDIDATES + 1], every[np.abs(every) <= SECOND]]))
    scores = np.sum([k.hits(every) for k in voters], axis=0)
    best = scores.max()
    possible = float(sum(len(k.log) * k.weight for k in voters))
    if best < 2 or best < 0.3 * possible:
        return None
    winners = every[scores == best]
    start = int(winners[np.argmin(np.abs(winners))])
    if abs(start) > SECOND and (np.abs(every[scores >= 0.9 * best] - start) > SECOND).any():
        return None  # another alignment fits as well, and neither is "the clocks agree"
    if not plausible(start) and sum(len(k.pairs(start)) for k in voters if not k.loose) < STRONG_ANCHORS:
        return None  # a coincidence of bursts is no proof that log and capture are of the same incident
    low, high, anchors = _bounds(kinds, start)
    return _narrow(events, point, low, high, anchors)


def plausible(offset: int) -> bool:
    """Whether a clock may be off by this much without saying more: a few seconds, or a time zone (multiples of 15 min)."""
    zone = 900 * SECOND
    return abs(offset) <= SHIFT_NS or (
        abs(offset) <= 26 * 3600 * SECOND and abs((offset + zone // 2) % zone - zone // 2) <= SHIFT_NS
    )


def _bounds(kinds: dict[str, list[_Kind]], offset: int) -> tuple[int, int, int]:
    """The interval that causes (lower bounds) and effects (upper bounds) leave, both sides by their window at least."""
    low, high, anchors = offset - 3 * START_SLACK_NS, offset + 3 * START_SLACK_NS, 0
    for k in kinds["cause"]:
        pairs = k.pairs(offset)
        if len(pairs):
            bound = int(np.percentile(pairs, 90)) - STAMP_NS
            low, high, anchors = max(low, bound), min(high, bound + k.before), anchors + len(pairs)
    for k in kinds["effect"]:
        pairs = k.pairs(offset)
        if len(pairs):
            bound = int(np.percentile(pairs, 50 if k.loose else 10)) + 2 * STAMP_NS
            low, high, anchors = max(low, bound - min(k.after, START_SLACK_NS)), min(high, bound), anchors + len(pairs)
    for k in kinds["window"]:
        last = _last_before(k, offset)
        if len(last):
            low, anchors = max(low, int(np.percentile(last, 90)) - k.after), anchors + len(last)
    if low > high:  # anchors contradict each other: what is left is the neighbourhood of both
        low, high = high - START_SLACK_NS, low + START_SLACK_NS
    return low, high, anchors


def _last_before(kind: _Kind, offset: int) -> NDArray[np.int64]:
    """packet − line for the last packet before each line."""
    if not len(kind.log) or not len(kind.packet):
        return np.empty(0, np.int64)
    at = np.searchsorted(kind.packet, kind.log + offset + kind.after) - 1
    ok = at >= 0
    difference = kind.packet[np.maximum(at, 0)] - kind.log
    return np.asarray(difference[ok & (difference >= offset - kind.before)], np.int64)


def _narrow(events: list[Event], point: Point, low: int, high: int, anchors: int) -> Offset:
    """Lines are printed within a few ms of the reply that caused them: the offset at which most do."""
    lines = _thin([e.time_ns for e in events if e.layer in ("app", "grpc") and e.inner_ns is not None])
    data = point.data
    came = (data.kinds & f.K_SERVER > 0) & (
        (data.segments[:, col.LEN] > 0) | (data.segments[:, col.FLAGS] & (col.SYN | col.FIN | col.RST) > 0)
    )
    replies = np.sort(data.segments[came, col.TS])
    how = "invocation windows, connects, pings and resets"
    if high - low < 4 * MS or len(lines) < 4 or not len(replies):
        return middle(low, high, anchors, how)
    beside = _Kind(lines, replies, REPLY_TO_LINE_NS + _rtt(point) // 2, 0, 1.0)
    offsets = np.arange(low, high + 1, MS, dtype=np.int64)
    scores = beside.hits(offsets)
    best = scores.max()
    if best < 3 or best < 0.25 * len(lines) or best < 1.5 * max(scores.mean(), 1):
        return middle(low, high, anchors, how)
    good = offsets[scores >= 0.85 * best]
    slack = REPLY_TO_LINE_NS + _rtt(point) // 2  # where on the path the capture stands is not known
    narrowed = middle(
        int(good.min()) - slack, int(good.max()) + slack, anchors + int(best), f"{how}; lines beside replies"
    )
    return narrowed if narrowed.error < (high - low) // 2 else middle(low, high, anchors, how)
