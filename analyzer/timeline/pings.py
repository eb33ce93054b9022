"""Pings of one transport: sent, answered, timed out, in every dialect."""

from __future__ import annotations

from analyzer.model.events import Event
from analyzer.model.grpc import CORE, JS
from analyzer.model.records import Ping, Transport
from analyzer.model.times import MS, SECOND

#: `Received ping response` this soon after the timeout line is the answer that waited in the socket (measured 0–15 ms);
#: C-core ≥ 1.8x reads the answer first and lets the timeout fire all the same, within a millisecond.
LATE_ACK_NS = 100 * MS


def version_of(text: str | None) -> tuple[int, ...] | None:
    """(1, 14, 7) of `1.14.7`; None when unknown."""
    if not text:
        return None
    parts = text.split("-")[0].split(".")
    return tuple(int(p) for p in parts) if all(p.isdecimal() and p.isascii() and len(p) < 9 for p in parts) else None


def ack_is_real(version: str | None, cancelled: bool, dialect: str | None = JS) -> bool:
    """Whether an ack line after a timeout proves an answer (formats differ by version: grpc-js transport.ts, subchannel.ts).

    grpc-js: from 1.10.10 on it does. 1.9.2 to 1.10.9 print it after every failure too, so only without a `Ping failed` just
    before. Before 1.9.2 it follows every timeout and means nothing; without a version (≤ 1.9.5) it cannot be told. The other
    dialects print it where the frame is read.
    """
    if dialect != JS:
        return True
    known = version_of(version)
    if known is None:
        return False
    if known >= (1, 10, 10):
        return True
    return known >= (1, 9, 2) and not cancelled


def pings_of(transport: Transport, lines: list[int], events: list[Event], timeout_ms: int | None = None) -> list[Ping]:
    """The keepalive pings of a transport, in order; bandwidth pings only where they timed out.

    After a timeout the transport is dead: in grpc-js 1.8 to 1.10.9 its timer goes on for a while, which counts for nothing.
    `timeout_ms` is the configured timeout, used where the lines do not print it.
    """
    pairing = _Pairing(transport, events, any(events[k].kind == "ping-sent" for k in lines))
    for k in lines:
        pairing.line(k, events[k])
    for ping in pairing.found:
        if ping.timeout_ms is None:
            ping.timeout_ms = timeout_ms
        if _is_coarse(ping, events):
            ping.resolution_ns = SECOND
    return [p for p in pairing.found if not p.bandwidth or p.timed_out is not None]


class _Pairing:
    """Matches what was sent with what came back: by payload where it is printed, by order otherwise."""

    def __init__(self, transport: Transport, events: list[Event], explicit: bool) -> None:
        self.found: list[Ping] = []
        self._transport = transport
        self._events = events
        self._explicit = explicit  # the dialect says which pings are keepalive's: frames count for nothing
        self._current: Ping | None = None
        self._dead: Ping | None = None
        self._frames: dict[str, Ping] = {}
        self._due: set[str] = set()
        self._closed = False
        self._told = False  # lines around the frames tell what they are for

    def line(self, k: int, e: Event) -> None:
        """Take the next line of the transport."""
        if self._dead is not None:
            self._after_timeout(k, e, self._dead)
        elif self._closed or e.kind == "transport-closed":  # what its timers still print counts for nothing
            self._closed = True
        elif e.kind == "ping-sent":
            self._current = self._sent(k, e)
        elif e.kind == "ping-acked":
            self._acked(self._current, k, e)
        elif e.kind == "ping-timeout":
            self._timed_out(k, e)
        elif e.kind == "ping-error" and self._current is not None:
            self._current.cancelled, self._current = k, None
        elif not self._explicit:
            self._frame(k, e)

    def _sent(self, k: int, e: Event) -> Ping:
        ping = Ping(self._transport.id, e.time_ns, k, e.attrs.get("timeout_ms"))
        self.found.append(ping)
        return ping

    def _acked(self, ping: Ping | None, k: int, e: Event) -> None:
        if ping is not None and ping.acked is None:
            ping.acked, ping.acked_ns = k, e.time_ns
            if ping is self._current:
                self._current = None

    def _timed_out(self, k: int, e: Event) -> None:
        open_ = [p for p in self.found if p.acked is None and p.cancelled is None][:1]
        ping = open_[0] if open_ else None
        if (
            ping is None
            and self.found
            and (last := self.found[-1]).acked_ns is not None
            and e.time_ns - last.acked_ns <= LATE_ACK_NS
        ):
            ping, last.late_ack, last.acked, last.acked_ns = last, last.acked, None, None
        if ping is not None:
            ping.timed_out, ping.timed_out_ns = k, e.time_ns
            self._dead = ping

    def _after_timeout(self, k: int, e: Event, dead: Ping) -> None:
        if e.kind == "ping-error" and dead.cancelled is None:
            dead.cancelled = k
        elif (
            e.kind in ("ping-acked", "ping-frame-acked")
            and dead.late_ack is None
            and e.time_ns - (dead.timed_out_ns or 0) <= LATE_ACK_NS
            and ack_is_real(e.version, dead.cancelled is not None, e.dialect)
        ):
            dead.late_ack = k

    def _frame(self, k: int, e: Event) -> None:
        """C-core from 1.60 on: the frame's line does not say what it is for; the lines around it do."""
        if e.kind in ("ping-due", "bdp-ping-due"):
            self._due.add(e.kind)
            self._told = True
        elif e.kind == "ping-frame-sent":
            if not self._told and self._current is not None:  # one at a time: that one kept nothing alive
                self._current.bandwidth = True
            ping = self._sent(k, e)
            ping.bandwidth = self._due == {"bdp-ping-due"}
            self._due.clear()
            self._frames[str(e.attrs.get("payload"))] = ping
            if not ping.bandwidth:
                self._current = ping
        elif e.kind == "bdp-ping-sent" and self.found and self.found[-1] is self._current:
            self._current.bandwidth, self._current = True, None
        elif e.kind == "ping-timer" and (ping_or_none := self._frames.get(str(e.attrs.get("payload")))) is not None:
            ping_or_none.timeout_ms = e.attrs.get("timeout_ms")
        elif e.kind == "ping-frame-acked":
            self._acked(self._frames.pop(str(e.attrs.get("payload")), None), k, e)


def _is_coarse(ping: Ping, events: list[Event]) -> bool:
    """Whether both stamps are whole seconds, as grpc-go and java.util.logging print them."""
    ends = [events[k] for k in (ping.sent, ping.timed_out) if k is not None]
    return all(e.dialect not in (JS, CORE) and (e.source_ns or 1) % SECOND == 0 for e in ends)
