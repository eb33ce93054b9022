"""Transports, pings and calls out of gRPC trace events (grpc-js dialect)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict

from analyzer.model.events import Event
from analyzer.model.records import Call, Freeze, Ping, Transport
from analyzer.model.times import MS, SECOND
from analyzer.timeline.environments import EPOCH_ENDS

#: `Received ping response` this soon after the timeout line is the answer that waited in the socket (measured 0–15 ms).
LATE_ACK_NS = 100 * MS
#: From `Established TCP connection` to the first line that carries the transport's id: SETTINGS of the server must come.
CONNECT_BEFORE_NS = 20 * SECOND


def version_of(text: str | None) -> tuple[int, ...] | None:
    """(1, 14, 7) of `1.14.7`; None when unknown."""
    if not text:
        return None
    parts = text.split("-")[0].split(".")
    return tuple(int(p) for p in parts) if all(p.isdecimal() and p.isascii() and len(p) < 9 for p in parts) else None


def ack_is_real(version: str | None, cancelled: bool) -> bool:
    """Whether an ack line after a timeout proves an answer (formats differ by version: grpc-js transport.ts, subchannel.ts).

    From 1.10.10 on it does. 1.9.2 to 1.10.9 print it after every failure too, so only without a `Ping failed` just before.
    Before 1.9.2 it follows every timeout and means nothing; without a version (≤ 1.9.5) it cannot be told.
    """
    known = version_of(version)
    if known is None:
        return False
    if known >= (1, 10, 10):
        return True
    return known >= (1, 9, 2) and not cancelled


def transports_of(events: list[Event]) -> tuple[list[Transport], list[Ping]]:
    """Every transport of every process, with its pings; sets `transport` on the events. Events in time order."""
    groups: dict[tuple[str | None, str | None, int], list[int]] = defaultdict(list)
    epochs: dict[str | None, int] = defaultdict(int)
    for k, e in enumerate(events):
        if e.kind in EPOCH_ENDS:  # a new process: the same pid and ids may come again
            epochs[e.environment] += 1
        elif e.layer == "grpc" and e.tracer is not None:
            groups[e.environment, e.pid, epochs[e.environment]].append(k)
    seen: dict[tuple[str | None, str | None], int] = defaultdict(int)
    transports: list[Transport] = []
    pings: list[Ping] = []
    for (environment, pid, _), indices in sorted(groups.items(), key=lambda g: g[1][0]):
        seen[environment, pid] += 1
        found = _process(environment, pid, seen[environment, pid], indices, events)
        for transport, lines in found:
            transports.append(transport)
            pings.extend(_pings(transport, lines, events))
    return transports, pings


def _process(
    environment: str | None, pid: str | None, process: int, indices: list[int], events: list[Event]
) -> list[tuple[Transport, list[int]]]:
    lines: dict[str, list[int]] = defaultdict(list)
    connected: dict[str | None, list[int]] = defaultdict(list)
    ready: dict[str, list[int]] = defaultdict(list)
    subchannels = {events[k].number for k in indices if events[k].tracer == "subchannel" and events[k].number}
    versioned = any(events[k].version for k in indices)
    for k in indices:
        e = events[k]
        if e.kind == "tcp-connected":
            connected[e.remote].append(k)
        if e.tracer in ("keepalive", "transport") and e.number is not None and e.remote is not None:
            lines[e.number].append(k)
        elif e.kind == "subchannel-state" and e.attrs.get("new") == "READY" and e.number:
            ready[e.number].append(k)
    found = []
    for number, ks in lines.items():
        by_subchannel = not versioned and number in subchannels
        cuts = [events[k].time_ns for k in ready.get(number, [])] if by_subchannel else []
        parts: dict[int, list[int]] = defaultdict(list)
        for k in ks:
            parts[max(0, bisect_right(cuts, events[k].time_ns) - 1)].append(k)
        for ordinal, part in sorted(parts.items()):
            name = (number if len(parts) == 1 else f"{number}.{ordinal + 1}") + (f"@{process}" if process > 1 else "")
            found.append((_transport(environment, pid, name, part, events, connected), part))
    return found


def _transport(
    environment: str | None,
    pid: str | None,
    number: str,
    ks: list[int],
    events: list[Event],
    connected: dict[str | None, list[int]],
) -> Transport:
    first = events[ks[0]]
    tracer = "transport"
    transport = Transport(
        id=f"{environment or '?'}/{pid or '?'}/{tracer}/{number}",
        environment=environment, pid=pid, number=number, dialect="grpc-js", version=first.version, remote=first.remote,
        opened_ns=first.time_ns,
    )  # fmt: skip
    before = [
        k
        for k in connected.get(first.remote, [])
        if k <= ks[0] and events[k].time_ns >= first.time_ns - CONNECT_BEFORE_NS
    ]
    if before:
        transport.opened_ns = events[before[-1]].time_ns
        events[before[-1]].transport = transport.id
    for k in ks:
        e = events[k]
        e.transport = transport.id
        if e.kind == "keepalive-armed" and transport.keepalive_ms is None:
            transport.keepalive_ms = e.attrs.get("interval_ms")
        closed_by = {
            "goaway-received": "goaway", "ping-timeout": "keepalive-timeout", "socket-error": "socket-error",
            "transport-closed": "close",
        }.get(e.kind)  # fmt: skip
        if closed_by and transport.closed_by is None:
            transport.closed_by, transport.closed_ns = closed_by, e.time_ns
    return transport


def _pings(transport: Transport, ks: list[int], events: list[Event]) -> list[Ping]:
    """Pair pings in order (one is outstanding at a time). After a timeout the id is dead: later pings on it are the dead
    transport's own timer (1.8 to 1.10.9) and count for nothing."""
    found: list[Ping] = []
    current: Ping | None = None
    dead: Ping | None = None
    for k in ks:
        e = events[k]
        if dead is not None:
            if e.kind == "ping-error" and dead.cancelled is None:
                dead.cancelled = k
            elif (
                e.kind == "ping-acked"
                and dead.late_ack is None
                and e.time_ns - (dead.timed_out_ns or 0) <= LATE_ACK_NS
                and ack_is_real(e.version, dead.cancelled is not None)
            ):
                dead.late_ack = k
            continue
        if e.kind == "ping-sent":
            current = Ping(transport.id, e.time_ns, k, e.attrs.get("timeout_ms"))
            found.append(current)
        elif current is None:
            continue
        elif e.kind == "ping-acked" and current.acked is None:
            current.acked, current.acked_ns, current = k, e.time_ns, None
        elif e.kind == "ping-timeout":
            current.timed_out, current.timed_out_ns, dead = k, e.time_ns, current
        elif e.kind == "ping-error":
            current.cancelled, current = k, None
    return found


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


def calls_of(events: list[Event]) -> list[Call]:
    """RPCs, one each, by process and call number; the outermost end wins over the inner layers'."""
    rank = {"resolving_call": 3, "load_balancing_call": 2, "call_stream": 2, "subchannel_call": 1}
    found: dict[tuple[str | None, str | None, str], Call] = {}
    ended: dict[tuple[str | None, str | None, str], int] = {}
    for e in events:
        if e.layer != "grpc" or e.number is None or not e.kind.startswith("call-"):
            continue
        key = (e.environment, e.pid, e.number)
        call = found.get(key)
        if call is None or (e.kind == "call-start" and call.method is not None):
            call = found[key] = Call(
                f"{e.environment or '?'}/{e.pid or '?'}/call/{e.number}", e.environment, e.pid, e.request_id, None
            )
            ended[key] = 0
        if call.start_ns is None or e.kind == "call-start":
            call.start_ns = e.time_ns
        if e.kind == "call-start":
            call.method, call.request_id, call.deadline_ns = (
                e.attrs.get("method"),
                e.request_id,
                e.attrs.get("deadline_ns"),
            )
        elif e.kind == "call-pick" and e.remote:
            call.remote = e.remote
        elif e.kind == "call-end" and rank.get(e.tracer or "", 0) > ended[key]:
            ended[key] = rank.get(e.tracer or "", 0)
            call.end_ns, call.status, call.details = e.time_ns, int(e.attrs.get("code", -1)), e.attrs.get("details")
    return sorted(found.values(), key=lambda c: (c.start_ns or 0, c.id))
