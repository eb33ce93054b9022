"""Transports out of gRPC trace events of every dialect, and the pings on them.

Theory of operation
-------------------
A *process* is one (environment, dialect, pid) between two starts of its environment; ids mean something only inside it.
No dialect prints one id on all lines of a transport: grpc-js has a transport id and a subchannel id that nothing links,
C-core pointers (freed and used again) beside lines that name only the peer, grpc-go and grpc-java one id in the library and
another in the frame log. So a transport is put together: a line belongs to the transport to which its (tracer, number) is
bound; else an open transport to the same address that has no number of this tracer yet adopts it; else it begins a new one,
if a line of its kind can. Numbers that are used again are bound anew once their transport has ended.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict

from msgspec import Struct

from analyzer.model.events import Event
from analyzer.model.grpc import CORE, GO, JAVA, JS
from analyzer.model.records import Freeze, Ping, Transport
from analyzer.model.times import SECOND
from analyzer.timeline.environments import EPOCH_ENDS
from analyzer.timeline.pings import ack_is_real, pings_of

__all__ = ["ack_is_real", "processes_of", "running_time", "transports_of"]

#: From `Established TCP connection` to the first line that carries the transport's id: SETTINGS of the server must come.
CONNECT_BEFORE_NS = 20 * SECOND
#: Lines without an address that end a transport stand this close to the others that do (grpc-go prints whole seconds).
SAME_END_NS = SECOND
#: A cause is printed with the end, before or after it (measured: within 12 ms); later lines are timers of the dead.
AFTERTHOUGHT_NS = SECOND // 2
#: A transport's first lines under either of its numbers lie this close (measured: 1 to 40 ms).
ADOPTION_NS = SECOND

#: Whose numbers name a transport; `peer` lines name only its address.
_SPACES = frozenset(("transport", "client_transport", "framer", "netty"))
#: Kinds that a transport can begin with, by dialect.
_BEGINS: dict[str, frozenset[str]] = {
    JS: frozenset((
        "settings-acked", "keepalive-armed", "ping-sent", "ping-acked", "ping-timeout", "ping-error", "goaway-received", "socket-error",
        "transport-closed", "trace",
    )),
    CORE: frozenset((
        "transport-opened", "transport-linked", "connected", "ping-frame-sent", "ping-sent", "ping-due", "bdp-ping-due",
        "ping-acked", "ping-timeout", "goaway-received",
    )),
    GO: frozenset(("transport-opened", "ping-sent", "bdp-ping-sent", "goaway-sent", "ping-timeout")),
    JAVA: frozenset(("transport-linked", "transport-opened", "ping-sent", "bdp-ping-sent", "goaway-received", "ping-timeout")),
}  # fmt: skip
#: Kinds that bind a number anew after its transport has ended.
_REBORN = {
    JS: frozenset(("settings-acked", "subchannel-state")),
    CORE: frozenset(("transport-opened", "transport-linked", "ping-frame-sent", "connected", "ping-sent")),
    GO: frozenset(("transport-opened", "subchannel-state")),
    JAVA: frozenset(("transport-linked",)),
}
_ENDS = frozenset(("ping-timeout", "socket-error", "transport-closed"))
#: Kinds that say nothing of a transport, though they carry a subchannel's number.
_SUBCHANNEL_ONLY = frozenset(("trace", "channel-options", "keepalive-throttled", "connect-failed", "backoff-elapsed"))
_CAUSES = {"goaway-received": "goaway", "ping-timeout": "keepalive-timeout", "socket-error": "socket-error"}
#: What a library's reason for the end means; the first that fits.
_REASONS = tuple(
    (re.compile(words), cause)
    for words, cause in (
        (r"[Kk]eepalive|ping timeout", "keepalive-timeout"),
        (r"GOAWAY received|GOAWAY shut|received goaway|got goaway", "goaway"),
        (r"[Cc]onnection reset|[Bb]roken pipe|timed out|Socket closed|EOF|io exception|Network closed|closed network|Connection refused",
         "socket-error"),
    )
)  # fmt: skip


class Process(Struct):
    """One process as its lines tell it apart: their indices into the trace's events."""

    environment: str | None
    dialect: str | None
    pid: str | None
    ordinal: int
    lines: list[int] = []


def processes_of(events: list[Event]) -> list[Process]:
    """The processes of a trace, by their first line. Events in time order."""
    found: dict[tuple[str | None, str | None, str | None, int], Process] = {}
    epochs: dict[str | None, int] = defaultdict(int)
    ordinals: Counter[tuple[str | None, str | None]] = Counter()
    for k, e in enumerate(events):
        if e.kind in EPOCH_ENDS:  # a new process: the same pid and ids may come again
            epochs[e.environment] += 1
        elif e.layer == "grpc":
            key = (e.environment, e.dialect, e.pid, epochs[e.environment])
            if key not in found:
                ordinals[e.environment, e.pid] += 1
                found[key] = Process(e.environment, e.dialect, e.pid, ordinals[e.environment, e.pid])
            found[key].lines.append(k)
    return list(found.values())


def transports_of(events: list[Event], processes: list[Process]) -> tuple[list[Transport], list[Ping]]:
    """Every transport of every process, with its pings; sets `transport` on the events."""
    transports: list[Transport] = []
    pings: list[Ping] = []
    for process in processes:
        assembly = _Assembly(process, events)
        for k in process.lines:
            assembly.line(k)
        lives = [life for life in assembly.lives if life.connected]
        counted = Counter(life.name for life in lives)
        again: Counter[str] = Counter()
        timeout_ms = _configured_timeout(process, events)
        for life in lives:
            again[life.name] += 1
            name = _numbered(life.name, counted[life.name], again[life.name])
            transport = _transport(process, name, life, events)
            transports.append(transport)
            pings += pings_of(transport, life.lines, events, timeout_ms)
    return transports, pings


def _numbered(name: str, count: int, ordinal: int) -> str:
    """The number of a transport: as printed, with an ordinal where it is used again; the ordinal alone where none is printed."""
    if name == "-":
        return str(ordinal)
    return name if count == 1 else f"{name}.{ordinal}"


def _configured_timeout(process: Process, events: list[Event]) -> int | None:
    """The timeout that the channels of a process were given, where their options are printed and agree."""
    found: set[int] = set()
    for k in process.lines:
        given = events[k].attrs.get("options")
        if given:
            timeout = given.get("grpc.http2.ping_timeout_ms", given.get("grpc.keepalive_timeout_ms"))
            found |= {timeout} if timeout else set()
    return found.pop() if len(found) == 1 else None


class _Life(Struct):
    """A transport while it is put together."""

    ids: dict[str, str]
    remote: str | None
    begun_ns: int
    lines: list[int] = []
    opened: int | None = None
    ended_ns: int | None = None
    connected: bool = True
    due_ns: int = -1
    asked_ns: int | None = None  # a ping is unanswered since then

    @property
    def name(self) -> str:
        """The number by which people find it in the log."""
        for space in ("transport", "netty", "framer", "subchannel"):
            if (number := self.ids.get(space)) and number != self.remote:
                return number
        return "-"


class _Assembly:
    """Puts the transports of one process together, line after line."""

    def __init__(self, process: Process, events: list[Event]) -> None:
        self.lives: list[_Life] = []
        self._events = events
        self._dialect = process.dialect or JS
        self._bound: dict[tuple[str, str], _Life] = {}
        self._open: dict[str | None, list[_Life]] = defaultdict(list)
        self._ended: list[_Life] = []
        self._connecting: dict[str | None, list[int]] = defaultdict(list)
        self._remote_of: dict[str, str] = {}
        self._floating: list[int] = []
        mine = [events[k] for k in process.lines]
        self._subchannels = {e.number for e in mine if e.tracer == "subchannel" and e.number}
        self._versioned = any(e.version for e in mine)

    def line(self, k: int) -> None:
        """Take the next line."""
        e = self._events[k]
        if e.kind == "tcp-connected" and self._dialect == JS:
            self._connecting[e.remote].append(k)
            return
        if e.tracer == "subchannel" and e.kind in ("connect-start", "connected") and e.remote:
            self._remote_of[e.number or ""] = e.remote
        space, number = self._name(e)
        if space is None:
            return
        if e.kind == "subchannel-state" and e.attrs.get("new") != "READY":
            self._leave(space, number, e)
            return
        life = self._find(k, e, space, number)
        if life is None:
            return
        if number is not None and (space, number) not in self._bound:
            self._bind(life, space, number)
        if life.remote is None and (remote := e.remote or self._remote_of.get(life.ids.get("subchannel", "?"))):
            self._place(life, remote)
        if e.attrs.get("subchannel") and "subchannel" not in life.ids:
            self._bind(life, "subchannel", e.attrs["subchannel"])
        self._take(life, k, e)

    def _name(self, e: Event) -> tuple[str | None, str | None]:
        """The tracer and number under which a line speaks of a transport; (None, None) where it does not."""
        if e.tracer == "peer":
            return ("peer", None) if e.remote else (None, None)
        if self._dialect == JS:
            return self._js_name(e)
        if e.tracer in _SPACES:
            return e.tracer, e.number
        if e.tracer == "subchannel" and e.kind in ("connected", "subchannel-state"):
            return "subchannel", e.number or ""
        return None, None

    def _js_name(self, e: Event) -> tuple[str | None, str | None]:
        """grpc-js: up to 1.8.1 the number is the subchannel's, up to 1.3 there is none but the address."""
        if e.remote is None or e.kind in _SUBCHANNEL_ONLY or e.kind == "connect-start":
            return None, None
        if e.tracer == "subchannel":
            return "subchannel", e.number or e.remote
        if e.tracer not in ("keepalive", "transport"):
            return None, None
        if e.number is None:
            return "subchannel", e.remote
        return ("subchannel" if not self._versioned and e.number in self._subchannels else "transport"), e.number

    def _find(self, k: int, e: Event, space: str, number: str | None) -> _Life | None:
        """The transport that a line speaks of, begun where need be."""
        remote = e.remote or (self._remote_of.get(number or "") if space == "subchannel" else None)
        life = self._bound.get((space, number)) if number is not None else None
        if life is not None and not (life.ended_ns is not None and self._reborn(e, space)):
            return life
        if life is not None and number is not None:
            del self._bound[space, number]
        life = self._adopting(k, e, space, number, remote)
        if life is not None or k in self._floating:
            return life
        if e.kind == "transport-closed" and space == "subchannel":  # an attempt that failed
            return None
        if e.kind == "subchannel-state" or e.kind in _BEGINS[self._dialect]:
            return self._begin(e, remote)
        return None

    def _reborn(self, e: Event, space: str) -> bool:
        return e.kind in _REBORN[self._dialect] and not (self._dialect == JS and space == "transport")

    def _adopting(self, k: int, e: Event, space: str, number: str | None, remote: str | None) -> _Life | None:
        """The open transport to which a line without a bound number belongs."""
        ending = e.kind in _ENDS or e.kind in ("transport-closing", "transport-draining")
        if ending and number is not None and remote is None:
            just = [x for x in self._ended[-8:] if space not in x.ids and e.time_ns - (x.ended_ns or 0) <= SAME_END_NS]
            if just:
                return just[-1]
        groups = [self._open[remote], self._open[None]] if remote else list(self._open.values())
        fitting = [x for group in groups for x in group if number is None or space not in x.ids]
        if remote is None and ending and len(fitting) > 1:
            self._floating.append(k)
            return None
        if number is None:
            fitting = self._late(e, remote) or fitting
        if not fitting:
            return self._just_ended(e, remote) if number is None else None
        if number is not None:
            fresh = [x for x in fitting if e.time_ns - x.begun_ns <= ADOPTION_NS]
            return min(fresh, key=lambda x: x.begun_ns) if fresh else (None if self._dialect == JS else fitting[-1])
        return _most_likely(e, fitting)

    def _late(self, e: Event, remote: str | None) -> list[_Life]:
        """Transports that have ended though a timer of theirs still runs: what it prints is not the next one's."""
        ended = [x for x in self._ended[-8:] if x.remote == remote]
        if e.kind == "ping-sent":
            return [x for x in ended if x.due_ns > 0 and e.time_ns - x.due_ns <= SAME_END_NS]
        if e.kind == "ping-timeout":
            return [x for x in ended if x.asked_ns is not None]
        return []

    def _just_ended(self, e: Event, remote: str | None) -> _Life | None:
        """A line without a number that follows the end of the transport it is about."""
        if e.kind in _REBORN[self._dialect]:
            return None
        for life in reversed(self._ended[-8:]):
            if life.remote == remote and e.time_ns - (life.ended_ns or 0) <= SAME_END_NS:
                return life
        return None

    def _begin(self, e: Event, remote: str | None) -> _Life:
        life = _Life({}, remote, e.time_ns, connected=e.kind != "transport-linked" or self._dialect == CORE)
        before = [
            k for k in self._connecting.get(remote, []) if self._events[k].time_ns >= e.time_ns - CONNECT_BEFORE_NS
        ]
        if before:
            life.opened = before[-1]
            self._connecting[remote].clear()
        self.lives.append(life)
        self._open[remote].append(life)
        return life

    def _bind(self, life: _Life, space: str, number: str) -> None:
        life.ids.setdefault(space, number)
        self._bound[space, number] = life

    def _place(self, life: _Life, remote: str) -> None:
        """The address of a transport becomes known."""
        life.remote = remote
        if life in self._open[None]:
            self._open[None].remove(life)
            self._open[remote].append(life)

    def _take(self, life: _Life, k: int, e: Event) -> None:
        life.lines.append(k)
        life.connected |= e.kind in ("subchannel-state", "settings-acked", "transport-opened", "tcp-connected")
        if e.kind in ("ping-due", "bdp-ping-due"):
            life.due_ns = e.time_ns
        elif e.kind in ("ping-sent", "ping-frame-sent"):
            life.due_ns = -1
            life.asked_ns = life.asked_ns or e.time_ns
        elif e.kind in ("ping-acked", "ping-frame-acked"):
            life.asked_ns = None
        elif e.kind in _ENDS:
            if e.kind == "ping-timeout":
                life.asked_ns = None
            self._end(life, e.time_ns)

    def _leave(self, space: str, number: str | None, e: Event) -> None:
        """A subchannel that leaves READY: its transport has ended."""
        life = self._bound.get((space, number or ""))
        if life is None or not life.connected or (self._dialect == CORE and "transport" in life.ids):
            return  # C-core prints the end of a transport itself; one that was told GOAWAY goes on until its calls end
        near = [k for k in self._floating if e.time_ns - self._events[k].time_ns <= SAME_END_NS]
        for k in near[:1]:
            self._floating.remove(k)
            other = self._events[k]
            if other.number is not None:
                self._bind(life, other.tracer or "transport", other.number)
            self._take(life, k, other)
        self._end(life, e.time_ns)

    def _end(self, life: _Life, time_ns: int) -> None:
        if life.ended_ns is not None:
            return
        life.ended_ns = time_ns
        group = self._open[life.remote]
        if life in group:
            group.remove(life)
        self._ended = [*self._ended[-31:], life]


def _most_likely(e: Event, lives: list[_Life]) -> _Life:
    """Which of several transports to one address a line means that names only the address."""
    if e.kind in ("ping-sent", "ping-frame-sent", "bdp-ping-sent"):
        return max(lives, key=lambda x: x.due_ns)
    if e.kind in ("ping-acked", "ping-timeout"):
        asked = [x for x in lives if x.asked_ns is not None]
        return min(asked, key=lambda x: x.asked_ns or 0) if asked else lives[-1]
    return lives[-1]


def _transport(process: Process, name: str, life: _Life, events: list[Event]) -> Transport:
    first = events[life.lines[0]] if life.lines else None
    number = name + (f"@{process.ordinal}" if process.ordinal > 1 else "")
    transport = Transport(
        id=f"{process.environment or '?'}/{process.pid or '?'}/transport/{number}",
        environment=process.environment, pid=process.pid, number=number, dialect=process.dialect or "",
        version=first.version if first else None, remote=life.remote, opened_ns=life.begun_ns,
        subchannel=life.ids.get("subchannel"),
    )  # fmt: skip
    if life.opened is not None:
        transport.opened_ns = events[life.opened].time_ns
        events[life.opened].transport = transport.id
    for k in life.lines:
        e = events[k]
        e.transport = transport.id
        if e.kind == "keepalive-armed" and transport.keepalive_ms is None:
            transport.keepalive_ms = e.attrs.get("interval_ms")
        elif e.kind == "connected" and transport.keepalive_ms is None:
            transport.keepalive_ms = e.attrs.get("options", {}).get("grpc.keepalive_time_ms")
        if transport.local is None and e.attrs.get("local"):
            transport.local = e.attrs["local"]
        cause = _cause(e)
        late = life.ended_ns is not None and e.time_ns > life.ended_ns + AFTERTHOUGHT_NS
        if cause is not None and transport.closed_by is None and not late:
            transport.closed_by, transport.closed_ns, transport.cause = cause, e.time_ns, k
    if transport.closed_by is None and life.ended_ns is not None:
        transport.closed_by, transport.closed_ns = "close", life.ended_ns
    return transport


def _cause(e: Event) -> str | None:
    """Why the transport ended, where this line tells."""
    if e.kind in _CAUSES:
        return _CAUSES[e.kind]
    if e.kind in ("transport-closing", "transport-closed", "transport-draining"):
        reason = str(e.attrs.get("reason", ""))
        return next((cause for words, cause in _REASONS if words.search(reason)), None)
    return None


def running_time(pings: list[Ping], transports: list[Transport], freezes: list[Freeze]) -> None:
    """Fill in how long the environment *ran* between sending a ping and its timeout: wall time less known freezes."""
    environment = {t.id: t.environment for t in transports}
    frozen: dict[str, list[Freeze]] = defaultdict(list)
    for z in freezes:
        frozen[z.environment].append(z)
    for ping in pings:
        if ping.timed_out_ns is None:
            continue
        mine = frozen[environment[ping.transport] or ""]
        first = bisect_right(mine, ping.sent_ns, key=lambda z: z.end_ns)
        last = bisect_left(mine, ping.timed_out_ns, key=lambda z: z.start_ns)
        lost = sum(z.overlap(ping.sent_ns, ping.timed_out_ns) for z in mine[first:last])
        ping.running_ns = ping.timed_out_ns - ping.sent_ns - lost
