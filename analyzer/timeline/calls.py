"""RPCs out of gRPC trace events, one each, and the transports that carried them."""

from __future__ import annotations

from collections import defaultdict

from analyzer.model.events import Event
from analyzer.model.grpc import CORE
from analyzer.model.records import Call, Transport
from analyzer.timeline.grpc import Process

#: grpc-js prints the end in every layer: the outermost is the call's.
_RANK = {
    "resolving_call": 3,
    "call": 3,
    "retrying_call": 2,
    "load_balancing_call": 2,
    "call_stream": 2,
    "subchannel_call": 1,
}
_OUTERMOST = frozenset(("resolving_call", "call_stream", "call", "channel"))


def calls_of(events: list[Event], processes: list[Process], transports: list[Transport]) -> list[Call]:
    """Every RPC of every process, by start; `events` already know their transports."""
    by_process: dict[tuple[str | None, str | None], list[Transport]] = defaultdict(list)
    for t in transports:
        by_process[t.environment, t.pid].append(t)
    found: list[Call] = []
    for process in processes:
        calls = _Calls(process)
        for k in process.lines:
            calls.line(events[k])
        for call in calls.found:
            if call.transport is None:
                _tie(call, by_process[process.environment, process.pid])
        found += calls.found
    return sorted(found, key=lambda c: (c.start_ns or 0, c.id))


class _Calls:
    """The calls of one process, line after line."""

    def __init__(self, process: Process) -> None:
        self.found: list[Call] = []
        self._process = process
        self._open: dict[str, Call] = {}
        self._rank: dict[str, int] = {}
        self._outer: dict[str, str] = {}  # an inner layer's number → the call's
        self._again: dict[str, int] = defaultdict(int)
        self._trailers: dict[str | None, str] = {}  # thread → the call whose status comes next
        self._owner: dict[str, str] = {}  # frame logger's id → transport

    def line(self, e: Event) -> None:
        """Take the next line."""
        if e.tracer in ("netty", "framer") and e.number and e.transport:
            self._owner[e.number] = e.transport
        kind = e.kind
        if kind[:5] != "call-" and kind != "stream-closed":
            return
        if kind == "call-link":
            self._outer[e.attrs["child"]] = self._call_number(e.number or "", e)
            return
        number = self._number(e)
        if number is None:
            return
        if kind == "call-start":
            self._start(number, e)
        elif (call := self._open.get(number) or self._begun_unseen(number, e)) is not None:
            self._continue(call, number, e)

    def _number(self, e: Event) -> str | None:
        """Whose line this is: the number printed, or that of the call whose trailers came last on this thread."""
        if (number := e.number) is not None:
            if e.kind == "call-trailers":
                self._trailers[e.attrs.get("tid")] = number
            return self._call_number(number, e)
        if e.kind != "call-end":
            return None
        number = self._trailers.pop(e.attrs.get("tid"), None)
        if number is not None:
            return number
        unended = [n for n, call in self._open.items() if call.end_ns is None]
        return unended[0] if unended else None

    def _call_number(self, number: str, e: Event) -> str:
        """The outermost number; where no line links the load balancer's call, its number is the next after its parent's."""
        if e.kind == "call-start":
            return number
        if e.tracer == "load_balancing_call" and number not in self._outer and number not in self._open:
            before = str(int(number) - 1)
            if before in self._outer:
                self._outer[number] = self._outer[before]
        return self._outer.get(number, number)

    def _start(self, number: str, e: Event) -> None:
        call = self._new(number, e)
        call.method, call.request_id, call.deadline_ns = e.attrs.get("method"), e.request_id, e.attrs.get("deadline_ns")
        owner, slash, _ = number.partition("/")
        if slash:
            call.transport = self._owner.get(owner)

    def _new(self, number: str, e: Event) -> Call:
        again = self._again[number] = self._again[number] + 1
        name = number if again == 1 else f"{number}.{again}"
        if self._process.ordinal > 1:
            name += f"@{self._process.ordinal}"
        p = self._process
        call = Call(
            f"{p.environment or '?'}/{p.pid or '?'}/call/{name}", p.environment, p.pid, e.request_id, None, e.time_ns
        )
        self._open[number], self._rank[number] = call, 0
        self.found.append(call)
        return call

    def _begun_unseen(self, number: str, e: Event) -> Call | None:
        """A call whose first lines the trace lacks: only its outermost layer speaks for it."""
        return self._new(number, e) if e.tracer in _OUTERMOST and e.kind != "stream-closed" else None

    def _continue(self, call: Call, number: str, e: Event) -> None:
        if e.kind == "call-metadata":
            call.method = e.attrs.get("method", call.method)
            if "timeout_ns" in e.attrs and call.start_ns is not None:
                call.deadline_ns = call.start_ns + e.attrs["timeout_ns"]
        elif e.kind == "call-pick" and e.remote:
            call.remote = e.remote
            call.subchannel = e.attrs.get("subchannel")
        elif e.kind == "call-trailers":
            call.answered = (
                self._process.dialect != CORE
            )  # which prints that line for calls that it cancels itself, too
        elif e.kind == "call-end" and (rank := _RANK.get(e.tracer or "", 0)) > self._rank[number]:
            self._rank[number] = rank
            call.end_ns, call.status, call.details = e.time_ns, int(e.attrs.get("code", -1)), e.attrs.get("details")
            if self._process.dialect == CORE:  # the pointer is the next call's
                self._open.pop(number, None)


def fitting(call: Call, transports: list[Transport]) -> list[Transport]:
    """The transports of the subchannel, or to the address, that a call picked, which were open while it ran."""
    if call.start_ns is None:
        return []
    end = call.end_ns if call.end_ns is not None else call.start_ns
    return [
        t
        for t in transports
        if (call.remote is None or t.remote == call.remote)
        and (call.subchannel is None or t.subchannel in (None, call.subchannel))
        and (t.opened_ns or 0) <= end
        and (t.closed_ns is None or t.closed_ns >= call.start_ns)
    ]


def _tie(call: Call, transports: list[Transport]) -> None:
    """The transport of a call: the only one that fits."""
    found = fitting(call, transports)
    if len(found) == 1:
        call.transport = found[0].id
        call.remote = call.remote or found[0].remote
