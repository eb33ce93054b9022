"""A network between two capture points, made up: connections with a round trip, jitter and loss, and what each point's capture holds.

The client's host, point A beside it, the way to point B (with a NAT, perhaps), the server's host beside B. All times are true ones, ns;
a capture's own clock is laid over them when it is written.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

from tests.capture import packets

SECOND = 1_000_000_000
MS = 1_000_000
ZERO = 1_795_220_000 * SECOND
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MSS = 1448
RTO = 200 * MS
#: From a host to the point beside it.
BESIDE = 20_000
#: Where on the way from A to B a third point stands.
MIDDLE = 0.4

Ends = tuple[tuple[str, int], tuple[str, int]]


@dataclass(frozen=True)
class Packet:
    """One packet at one point: when (true time), of which connection, from the client or not, and its header."""

    at: int
    conn: int
    up: bool
    seq: int
    ack: int
    flags: int
    size: int
    tsval: int
    tsecr: int
    ipid: int


@dataclass
class Path:
    """The way between the points: least delays there and back, mean of the (exponential) jitter, how many packets are lost."""

    chance: random.Random
    up: int = 5 * MS
    down: int = 5 * MS
    jitter: float = 0.5 * MS
    loss: float = 0.0
    stamps: bool = True
    near: list[Packet] = field(default_factory=list)
    #: What passes a third point, `MIDDLE` of the way from A to B: half of what is lost is lost behind it.
    middle: list[Packet] = field(default_factory=list)
    far: list[Packet] = field(default_factory=list)
    #: The last arrival of each connection and direction: packets of one do not overtake each other.
    _last: dict[tuple[int, bool], int] = field(default_factory=dict)
    delays: list[tuple[int, int, bool, int]] = field(default_factory=list)

    @property
    def round_trip(self) -> int:
        """The smallest that neighbouring packets made, there and back."""
        both = sorted(self.delays)
        return min(a[3] + b[3] for a, b in pairwise(both) if a[2] != b[2])

    def carry(self, packet: Packet) -> int | None:
        """Send a packet; when it arrives, or None where it was lost on the way."""
        first, second = (self.near, self.far) if packet.up else (self.far, self.near)
        first.append(replace(packet, at=packet.at + BESIDE))
        if self.chance.random() < self.loss:
            if packet.seq % 2:
                self._pass_middle(packet, self.up if packet.up else self.down)
            return None
        delay = (self.up if packet.up else self.down) + round(self.chance.expovariate(1 / self.jitter))
        key = packet.conn, packet.up
        self.delays.append((packet.at, packet.conn, packet.up, delay))
        passed = self._last[key] = max(packet.at + BESIDE + delay, self._last.get(key, 0) + 1000)
        self._pass_middle(packet, passed - packet.at - BESIDE)
        second.append(replace(packet, at=passed))
        return passed + BESIDE

    def _pass_middle(self, packet: Packet, delay: int) -> None:
        share = MIDDLE if packet.up else 1 - MIDDLE
        self.middle.append(replace(packet, at=packet.at + BESIDE + round(share * delay)))


class Talk:
    """One connection: what its two ends send, each answer once what it answers has arrived."""

    def __init__(self, path: Path, conn: int, at: int) -> None:
        self.path, self.conn, self.now = path, conn, at
        chance = path.chance
        self.next = {True: chance.getrandbits(32), False: chance.getrandbits(32)}
        self.known = dict.fromkeys((True, False), -1)  # TSval that came last
        self.clock = {True: chance.getrandbits(30), False: chance.getrandbits(30)}
        self.ipid = {True: chance.getrandbits(16), False: chance.getrandbits(16)}

    def _packet(self, up: bool, flags: int, size: int, seq: int) -> Packet:
        stamps = self.path.stamps
        self.ipid[up] = self.ipid[up] + 1 & 0xFFFF
        return Packet(
            self.now, self.conn, up, seq, self.next[not up] if flags & ACK else 0, flags, size,
            self.clock[up] + (self.now - ZERO) // MS & 0xFFFFFFFF if stamps else -1,
            max(self.known[up], 0), 0 if flags & SYN and flags & ACK else self.ipid[up],
        )  # fmt: skip

    def send(self, up: bool, flags: int, size: int = 0, again: bool = True) -> bool:
        """One packet, again after a while where it is lost (if it has to arrive); the time goes on to its arrival."""
        seq = self.next[up]
        self.next[up] = seq + size + bool(flags & (SYN | FIN)) & 0xFFFFFFFF
        wait = RTO
        while (arrived := self.path.carry(packet := self._packet(up, flags, size, seq))) is None:
            if not again:
                return False
            self.now, wait = self.now + wait, wait * 2
        self.now, self.known[not up] = arrived, packet.tsval
        return True

    def open(self) -> Talk:
        self.send(True, SYN)
        self.send(False, SYN | ACK)
        self.send(True, ACK)
        return self

    def data(self, up: bool, sizes: list[int]) -> None:
        """A burst of segments, acknowledged at once."""
        sent = self.now
        for k, size in enumerate(sizes):
            arrived, self.now = self.now, sent + 10_000 * k
            self.send(up, ACK | (PSH if k == len(sizes) - 1 else 0), size)
            self.now = max(self.now, arrived)
        self.send(not up, ACK, again=False)

    def ask(self, request: int = 120, answer: int = 1, rest: int = 50 * MS) -> Talk:
        """A request, its answer of so many full segments, and then a rest."""
        self.data(True, [request])
        self.now += self.path.chance.randrange(100_000, 3 * MS)
        self.data(False, [MSS] * (answer - 1) + [300])
        self.now += rest
        return self

    def close(self) -> Talk:
        self.send(True, FIN | ACK)
        self.send(False, FIN | ACK)
        self.send(True, ACK, again=False)
        return self

    def zombie(self, frozen: int = 30 * SECOND) -> Talk:
        """The server closes while the client is frozen; the client's next request is answered by a reset."""
        self.send(False, FIN | ACK)
        self.send(True, ACK)
        self.now += frozen
        self.send(True, PSH | ACK, 90)
        self.send(False, RST)
        return self


def plain(path: Path, connections: int = 8, asks: int = 6, apart: int = 2 * SECOND, bulk: int = 1) -> Path:
    """Connections with a few requests each, one of them used again after the server closed it."""
    for k in range(connections):
        talk = Talk(path, k, ZERO + k * apart).open()
        for _ in range(asks):
            talk.ask(path.chance.randrange(20, 1400), answer=bulk, rest=path.chance.randrange(10, 400) * MS)
        talk.zombie() if k == 1 else talk.close()
    return path


# ---- what a point makes of it


def merged(sent: list[Packet]) -> list[Packet]:
    """As a host with segmentation offload captures it: a burst is one segment, at its end where it arrives."""
    out: list[Packet] = []
    open_: dict[tuple[int, bool], int] = {}
    for p in sorted(sent, key=lambda p: p.at):
        key = p.conn, p.up
        k = open_.get(key)
        last = out[k] if k is not None else None
        if (
            k is not None and last is not None and p.size and last.size + p.size < 60_000
            and last.seq + last.size & 0xFFFFFFFF == p.seq and (last.ack, last.tsval) == (p.ack, p.tsval)
            and not last.flags & PSH
        ):  # fmt: skip
            out[k] = replace(last, size=last.size + p.size, flags=last.flags | p.flags, at=p.at if p.up else last.at)
        elif p.size:
            open_[key] = len(out)
            out.append(p)
        else:
            out.append(p)
    return out


def one_way(sent: list[Packet], up: bool) -> list[Packet]:
    return [p for p in sent if p.up == up]


def since(sent: list[Packet], at: int) -> list[Packet]:
    return [p for p in sent if p.at >= at]


def twice(sent: list[Packet]) -> list[Packet]:
    """Each packet on two interfaces."""
    return [replace(p, at=p.at + k * 3000) for p in sent for k in (0, 1)]


def renumbered(sent: list[Packet]) -> list[Packet]:
    """By a box that writes IP identifications of its own."""
    return [replace(p, ipid=(n * 7 + 1) & 0xFFFF) for n, p in enumerate(sent)]


INSIDE = "10.0.0.1"
SERVER = ("10.9.0.2", 5432)


def capture(
    sent: list[Packet], clock: Callable[[int], int], nat: bool = False, ttl: int = 64, micro: bool = False
) -> bytes:
    """The file that a point writes by its own clock."""
    out = []
    for p in sorted(sent, key=lambda p: p.at):
        client = ("192.0.2.7", 20_000 + p.conn) if nat else (INSIDE, 40_000 + p.conn)
        (src, sport), (dst, dport) = (client, SERVER) if p.up else (SERVER, client)
        stamp = (
            b"\1\1\x08\x0a" + p.tsval.to_bytes(4) + p.tsecr.to_bytes(4) if p.tsval >= 0 and not p.flags & RST else b""
        )
        segment = packets.tcp(sport, dport, p.seq, p.ack, p.flags, bytes(p.size), options=stamp)
        out.append((clock(p.at), packets.ethernet(packets.ipv4(src, dst, segment, ttl=ttl, ip_id=p.ipid))))
    return packets.pcap(out, nano=not micro)
