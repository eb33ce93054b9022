"""What a capture shows that a log may tell of, each kind looked up once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from analyzer.capture import columns as col
from analyzer.model.times import MS, SECOND
from analyzer.tcp import fields as f
from analyzer.tcp.pings import ANSWER_NS
from analyzer.timeline.points import CLIENT, SERVER, Point, servers_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analyzer.capture.reader import CaptureData

    Ints = NDArray[np.int64]

#: A client silent this long begins a new burst when it sends again.
BURST_GAP_NS = 500 * MS
#: What a client's log says it got, and the mark of the server's frame: lines of a kind that no packet shows (in TLS) say nothing.
FRAMES = {"ping-acked": col.M_H2_PING_ACK, "goaway-received": col.M_H2_GOAWAY}


class Shown:
    """Times of one capture's packets by what lines may tell of them, ns by its clock, in order."""

    def __init__(self, point: Point) -> None:
        self.point = point
        self._packets: dict[tuple[str, str | None], Ints | None] = {}

    def packets(self, kind: str, remote: str | None) -> Ints | None:
        """What a line of this kind, about this server or some, may be about; None where it says nothing."""
        if (kind, remote) not in self._packets:
            found = self._looked_up(kind, self._of_server(remote))
            self._packets[kind, remote] = None if found is None else np.sort(found)
        return self._packets[kind, remote]

    def _looked_up(self, kind: str, rows: Ints) -> Ints | None:
        data = self.point.data
        if kind == "ping-sent":
            mine = self._pings[np.isin(data.uids[self._pings], rows[:, f.UID])]
            return np.asarray(data.segments[mine, col.TS], np.int64)
        if kind in FRAMES:
            frames = _frames(data, FRAMES[kind], rows[:, f.UID])
            return frames if len(frames) else None
        if kind == "tcp-connected":
            times = rows[:, f.SYN_ACK_TS]
        elif _ended_rests(rows):
            return None
        else:
            times = rows[:, SERVER + f.RST_TS]
        return np.asarray(times[times > 0], np.int64)

    def _of_server(self, remote: str | None) -> Ints:
        rows = self.point.rows
        if not remote:
            return rows
        names, number = self._servers
        return rows[number == names.index(remote)] if remote in names else rows[:0]

    @cached_property
    def _servers(self) -> tuple[list[str], Ints]:
        return servers_of(self.point.rows)

    @cached_property
    def _pings(self) -> Ints:
        return _pings(self.point.data, self.round_trip + ANSWER_NS)

    @cached_property
    def round_trip(self) -> int:
        """The median of those of handshakes, 0 where there are none."""
        return self._until_established(f.SYN_TS)

    @cached_property
    def to_client(self) -> int:
        """The median round trip between here and the clients, 0 where no handshake tells: next to nothing in a client's own capture."""
        return self._until_established(f.SYN_ACK_TS)

    def _until_established(self, since: int) -> int:
        rows = self.point.rows
        whole = (rows[:, f.ESTABLISHED_TS] > 0) & (rows[:, since] > 0) if len(rows) else np.empty(0, np.bool_)
        times = rows[whole, f.ESTABLISHED_TS] - rows[whole, since]
        return int(min(np.median(times), SECOND)) if len(times) else 0

    @cached_property
    def _bursts(self) -> tuple[Ints, Ints, Ints]:
        return client_bursts(self.point)

    @property
    def bursts(self) -> Ints:
        """When clients began to send after a rest."""
        return self._bursts[0]

    @property
    def lasts(self) -> Ints:
        """When clients last sent before a rest."""
        return self._bursts[1]

    @property
    def callers(self) -> Ints:
        """Whose each burst is, by number."""
        return self._bursts[2]

    @cached_property
    def begins(self) -> Ints:
        """Bursts, and what opened connections."""
        rows = self.point.rows
        return np.unique(np.concatenate([self.bursts, rows[rows[:, f.SYN_TS] > 0, f.SYN_TS]]))

    @cached_property
    def replies(self) -> Ints:
        """When something came from a server."""
        s, kinds = self.point.data.segments, self.point.data.kinds
        ends = s[:, col.FLAGS] & (col.SYN | col.FIN | col.RST) > 0
        return np.sort(s[(kinds & f.K_SERVER > 0) & ((s[:, col.LEN] > 0) | ends), col.TS])

    @cached_property
    def ports(self) -> dict[int, int]:
        """When the one connection of each local port was up."""
        rows = self.point.rows
        up = rows[rows[:, f.SYN_ACK_TS] > 0]
        ports, at, count = np.unique(up[:, f.C_PORT], return_index=True, return_counts=True)
        return dict(zip(ports[count == 1].tolist(), up[at[count == 1], f.SYN_ACK_TS].tolist(), strict=True))


def _ended_rests(rows: Ints) -> bool:
    """Whether some reset came long after all was answered: it ended a rest, and the client hears of it at its next use, whenever that is.

    What the server says just before it (a heartbeat, a farewell) may be no answer: the client's last data tells how long it rested.
    """
    asked = rows[:, CLIENT + f.DATA_LAST_TS]
    answer = rows[:, SERVER + f.DATA_LAST_TS]
    return bool(((asked > 0) & (answer >= asked) & (rows[:, SERVER + f.RST_TS] - asked > BURST_GAP_NS)).any())


def _frames(data: CaptureData, mark: int, uids: Ints) -> Ints:
    """When a server's frame of a kind passed, of some connections."""
    of_server = (data.segments[:, col.MARKS] & mark > 0) & (data.kinds & (f.K_SERVER | f.K_RETX) == f.K_SERVER)
    return np.asarray(data.segments[of_server & np.isin(data.uids, uids), col.TS], np.int64)


def _pings(data: CaptureData, within_ns: int) -> Ints:
    """Numbers of the segments that are a client's PING: in the clear, or likely one inside TLS."""
    clear = (data.segments[:, col.MARKS] & col.M_H2_PING > 0) & (data.kinds & (f.K_SERVER | f.K_RETX) == 0)
    return np.concatenate([np.flatnonzero(clear), _tls_pings(data, within_ns)])


def _tls_pings(data: CaptureData, within_ns: int) -> Ints:
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


def client_bursts(point: Point) -> tuple[Ints, Ints, Ints]:
    """First and last times of the bursts in which clients send data, SYN or FIN of their own, each in order; whose the first are, by number.

    Of a connection that a sample leaves out its row says when it first and last sent something. Where that is longer apart than
    a burst's gap, bursts may be hidden in it, the quick ones before others: then nothing is known of its client.
    """
    data = point.data
    s = data.segments
    own = (data.kinds & (f.K_SERVER | f.K_RETX | f.K_KEEPALIVE) == 0) & (
        (s[:, col.LEN] > 0) | (s[:, col.FLAGS] & (col.SYN | col.FIN) > 0)
    )
    sent = s[own][:, [col.SRC_HI, col.SRC_LO, col.TS, col.TS]]
    if not data.complete:
        others = point.rows[~np.isin(point.rows[:, f.UID], data.uids)]
        first, last = client_sent(others)
        stretches = np.column_stack([others[:, [f.C_HI, f.C_LO]], first, last])
        sent = np.concatenate([sent, stretches[first > 0]])
    if not len(sent):
        return sent[:, 2], sent[:, 3], sent[:, 0]
    hi, lo, starts, ends = sent[np.lexsort((sent[:, 2], sent[:, 1], sent[:, 0]))].T
    client = np.cumsum(np.append(False, (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1])))
    known = np.bincount(client, ends - starts > BURST_GAP_NS)[client] == 0
    starts, ends, client = starts[known], ends[known], client[known]
    latest = _running_latest(client, ends)
    begins = np.append(True, (client[1:] != client[:-1]) | (starts[1:] - latest[:-1] > BURST_GAP_NS))[: len(client)]
    order = np.argsort(starts[begins], kind="stable")
    lasts = np.sort(latest[np.append(begins[1:], True)[: len(client)]])
    return starts[begins][order], lasts, client[begins][order]


def client_sent(rows: Ints) -> tuple[Ints, Ints]:
    """When the client of each of these connections first and last sent data, SYN or FIN; 0 for never."""
    times = rows[:, [f.SYN_TS, CLIENT + f.DATA_FIRST_TS, CLIENT + f.DATA_LAST_TS, CLIENT + f.FIN_TS]]
    first = np.where(times > 0, times, np.iinfo(np.int64).max).min(axis=1)
    return np.where(times.any(axis=1), first, 0), times.max(axis=1)


def _running_latest(client: Ints, times: Ints) -> Ints:
    """The latest time of a client so far, clients in order one after the other."""
    order = np.argsort(times, kind="stable")
    rank = np.empty(len(times), np.int64)
    rank[order] = np.arange(len(times))
    latest = np.maximum.accumulate(client * len(times) + rank) - client * len(times)
    return times[order[latest]]
