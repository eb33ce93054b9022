"""What a gRPC trace says, for a person: names, channels, subchannels, transports with their pings, GOAWAYs, calls by status."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby

from analyzer.model.events import Event
from analyzer.model.grpc import GO, HTTP2_ERRORS, JS, status_name
from analyzer.model.records import Call, Ping, Transport
from analyzer.model.times import MS, seconds
from analyzer.report.escape import clip, short_environment, terminal
from analyzer.report.style import Style
from analyzer.report.wrapping import wrap
from analyzer.timeline.grpc import Process, processes_of
from analyzer.timeline.story import Story

#: Processes, and things of a kind in one process, that a summary shows; `--all` shows the rest.
PROCESSES, SHOWN = 6, 8
#: Timed-out pings shown of one transport (more than one are rare: the first ends it).
TIMEOUTS = 2
#: Letters of an error or of GOAWAY data.
DETAIL = 100


def section(story: Story, style: Style, everything: bool = False) -> str:
    """Every process that printed trace lines, with what is in them."""
    processes = processes_of(story.events)
    shown = processes if everything else processes[:PROCESSES]
    pings: dict[str, list[Ping]] = defaultdict(list)
    for p in story.pings:
        pings[p.transport].append(p)
    calls: dict[tuple[str | None, str | None], list[Call]] = defaultdict(list)
    for c in story.calls:
        calls[c.environment, c.pid].append(c)
    blocks = [_Section(story, x, pings, calls[x.environment, x.pid], style, everything).text() for x in shown]
    if len(processes) > len(shown):
        blocks.append(f"… {len(processes) - len(shown)} more processes (`--all` shows them)")
    return "\n\n".join(blocks)


class _Section:
    """One process."""

    def __init__(
        self, story: Story, process: Process, pings: dict[str, list[Ping]], calls: list[Call], style: Style, everything: bool
    ) -> None:  # fmt: skip
        self._process = process
        self._style = style
        self._limit = None if everything else SHOWN
        self._events = [story.events[k] for k in process.lines]
        self._transports = [story.transport(x) for x in dict.fromkeys(e.transport for e in self._events) if x]
        self._pings = pings
        self._kinds: dict[str, list[Event]] = defaultdict(list)
        self._said: dict[str | None, list[Event]] = defaultdict(list)
        for e in self._events:
            self._kinds[e.kind].append(e)
            if e.kind in ("goaway-received", "goaway-sent", "socket-error"):
                self._said[e.transport].append(e)
        span = (self._events[0].time_ns, self._events[-1].time_ns)
        self._calls = [c for c in calls if span[0] <= (c.start_ns or 0) <= span[1]]
        self._carried: dict[str | None, list[Call]] = defaultdict(list)
        for c in self._calls:
            self._carried[c.transport].append(c)

    def text(self) -> str:
        """The whole section."""
        lines = [self._style.paint(line, "bold") for line in self._wrapped("", self._head())]
        for name, rows in (
            ("names", self._names()),
            ("channels", self._channels()),
            ("subchannels", self._subchannels()),
            ("transports", self._transport_rows()),
            ("calls", self._call_rows()),
        ):
            lines += self._listed(name, rows)
        if len(lines) == 1:
            lines.append(f"  {len(self._events):,} lines of trace, none about connections, pings or calls")
        return "\n".join(lines)

    def _head(self) -> str:
        process = self._process
        version = next((str(e.attrs["version"]) for e in self._events if e.kind == "library"), None)
        version = version or next((e.version for e in self._events if e.version), None)
        parts = [f"gRPC: {process.dialect or 'trace'}{f' {version}' if version else ''}"]
        parts += [f"pid {process.pid}"] if process.pid else []
        parts += [short_environment(process.environment)] if process.environment else []
        parts += [f"{self._clock(self._events[0])} to {self._clock(self._events[-1])}"]
        return terminal(" · ".join(parts))

    def _clock(self, e: Event) -> str:
        return self._style.clock(e.time_ns)

    def _listed(self, name: str, rows: Sequence[Callable[[], list[str]] | list[str]]) -> list[str]:
        """Rows under a name; each is a line and what stands below it, made when it is shown."""
        out = []
        shown = [row() if callable(row) else row for row in rows[: self._limit]]
        for at, (first, *rest) in enumerate(shown):
            out += self._wrapped(f"  {name if at == 0 else '':<12}", first)
            for below in rest:
                out += self._wrapped(" " * 18, below)
        if len(rows) > len(shown):
            out.append(f"{' ' * 14}… {len(rows) - len(shown):,} more (`--all` shows them)")
        return out

    def _wrapped(self, indent: str, text: str) -> list[str]:
        hang = " " * (len(indent) + 2)
        return wrap(text, self._style.width, initial_indent=indent, subsequent_indent=hang)

    def _of(self, *kinds: str) -> list[Event]:
        return self._kinds[kinds[0]] if len(kinds) == 1 else [e for e in self._events if e.kind in kinds]

    def _names(self) -> list[list[str]]:
        resolved, failed, delayed = (self._of(kind) for kind in ("resolved", "resolve-failed", "resolve-delayed"))
        parts = [f"resolved {_times(len(resolved))}"] if resolved else []
        if failed:
            parts.append(f"failed {_times(len(failed))}: {_detail(failed[-1].attrs.get('error'))}")
        if delayed and (resolved or failed):
            parts.append(f"delayed {_times(len(delayed))} (rate limit or back-off: no error)")
        return [["; ".join(parts)]] if parts else []

    def _channels(self) -> list[list[str]]:
        """One row a channel: its states in order."""
        found: dict[str, list[Event]] = defaultdict(list)
        for e in self._of("channel-state"):
            found[e.number or ""].append(e)
        rows = []
        for number, states in found.items():
            path = [str(states[0].attrs["old"])] if states[0].attrs.get("old") else []
            path += [str(e.attrs["new"]) for e in states]
            path = [state for state, _ in groupby(path)]
            cut = ["…", *path[-6:]] if len(path) > 7 and self._limit else path
            rows.append([_numbered(number, states[0].attrs.get("target")) + " → ".join(cut)])
        return rows

    def _subchannels(self) -> list[list[str]]:
        """One row a subchannel, or an address where lines name no subchannel: how often it connected, and failed."""
        ready: Counter[tuple[str, str]] = Counter()
        failed: dict[tuple[str, str], list[str]] = defaultdict(list)
        remotes = {e.number: e.remote for e in self._events if e.tracer == "subchannel" and e.remote}
        for e in self._events:
            key = (e.number or "" if e.tracer == "subchannel" else "", remotes.get(e.number) or e.remote or "")
            new = e.attrs.get("new")
            if e.kind == "connected" or (e.kind == "subchannel-state" and new == "READY" and e.tracer == "subchannel"):
                ready[key] += 1
            elif e.kind == "connect-failed" or (
                e.kind == "subchannel-state" and new == "TRANSIENT_FAILURE" and e.attrs.get("error")
            ):
                failed[key].append(str(e.attrs.get("error", "")))
        if self._of("connected"):  # C-core says READY too
            ready = Counter((e.number or "", e.remote or "") for e in self._of("connected"))
        rows = []
        for key in dict.fromkeys([*ready, *failed]):
            parts = [f"connected {_times(ready[key])}"] if ready[key] else []
            if failed[key]:
                parts.append(f"failed {_times(len(failed[key]))}: {_detail(failed[key][-1])}")
            rows.append([_numbered(key[0], key[1]) + "; ".join(parts)])
        return rows

    def _transport_rows(self) -> list[Callable[[], list[str]]]:
        """One row a transport; those that something happened to come first where not all are shown."""
        order = self._transports
        if self._limit is not None and len(order) > self._limit:
            order = sorted(order, key=lambda t: (t.closed_by in (None, "close"), t.opened_ns or 0))
        return [partial(self._transport_row, t) for t in order]

    def _transport_row(self, t: Transport) -> list[str]:
        return [self._transport(t), *self._of_transport(t)]

    def _transport(self, t: Transport) -> str:
        name = _numbered(t.number, t.remote)
        lived = (
            f"lived {seconds(t.closed_ns - t.opened_ns)}" if t.closed_ns is not None and t.opened_ns is not None else ""
        )
        ended = (
            f"ended by {t.closed_by}"
            if t.closed_by and t.closed_by != "close"
            else ("closed" if t.closed_by else "open at the end")
        )
        return name + ", ".join(part for part in (lived, ended, t.connection) if part)

    def _of_transport(self, t: Transport) -> Iterator[str]:
        yield from self._ping_rows(t, self._pings[t.id])
        said = []
        for e in self._said[t.id]:
            if e.kind == "goaway-received" or (e.kind == "goaway-sent" and e.attrs.get("data")):
                said.append(f"GOAWAY {e.kind.removeprefix('goaway-')}: {_goaway(e)} at {self._clock(e)}")
            elif e.kind == "socket-error":
                said.append(f"socket: {_detail(e.attrs.get('error'))}")
        if t.closed_by == "goaway" and not any(text.startswith("GOAWAY received") for text in said):
            said.append("GOAWAY received: its code is not logged")
        yield from dict.fromkeys(said)
        calls = _by_status(self._carried[t.id])
        if calls:
            yield f"calls: {calls}"

    def _ping_rows(self, t: Transport, pings: list[Ping]) -> Iterator[str]:
        if not pings:
            if t.dialect == GO and t.closed_by == "keepalive-timeout":
                yield "pings: this log does not show them (GODEBUG=http2debug=2 does)"
            return
        acked = [p.acked_ns - p.sent_ns for p in pings if p.acked_ns is not None]
        late = [p for p in pings if p.timed_out_ns is not None]
        parts = [f"{len(pings):,} sent"]
        if acked:
            parts.append(f"{len(acked):,} acked{_within(acked)}")
        elif t.dialect == JS and not self._of("ping-acked"):
            parts.append("answers not logged by this version")
        lost = len(pings) - len(acked) - len(late)
        if lost and (acked or late):
            parts.append(f"{lost:,} unanswered at the end")
        parts += [f"{len(late):,} timed out"] if late else []
        every = f" every {seconds(t.keepalive_ms * MS)}" if t.keepalive_ms else ""
        yield f"pings{every}: {', '.join(parts)}"
        for p in late[:TIMEOUTS]:
            yield f"timed out {_timed_out(p)}"

    def _call_rows(self) -> list[list[str]]:
        """All calls by status, then the failed ones by what was said of them."""
        if not self._calls:
            return []
        rows = [[f"{len(self._calls):,}: {_by_status(self._calls)}"]]
        said = Counter((c.status, _detail(c.details)) for c in self._calls if c.status and c.details)
        rows += [
            [f"{status_name(code)}{f' ({n:,})' if n > 1 else ''}: {text}"] for (code, text), n in said.most_common()
        ]
        return rows


def _numbered(number: str, what: str | None) -> str:
    """`(2) 10.0.0.1:443: `, without what is not known."""
    parts = [f"({number})"] if number else []
    parts += [what] if what else []
    return terminal(" ".join(parts)) + (": " if parts else "")


def _times(count: int) -> str:
    return ("once", "twice")[count - 1] if 0 < count < 3 else f"{count:,} times"


def _detail(text: object) -> str:
    plain = str(text or "").split("=== Source Location", 1)[0]  # C-core appends where in its source a status was made
    return clip(terminal(" ".join(plain.split())), DETAIL)


def _within(times: list[int]) -> str:
    """How long answers took: the longest, and the middle one of several; nothing where stamps are too coarse to tell."""
    if not max(times):
        return ""
    if len(times) < 3:
        return f" within {seconds(max(times))}"
    return f" (median {seconds(sorted(times)[len(times) // 2])}, at most {seconds(max(times))})"


def _timed_out(p: Ping) -> str:
    """How late a timeout fired, and how long of it the process ran where that is known."""
    took = (p.timed_out_ns or 0) - p.sent_ns
    about = "about " if p.resolution_ns else ""
    text = f"{about}{seconds(took)} after it was sent"
    if p.timeout_ms is None:
        return f"{text} (its timeout is not in the log)"
    over = took - p.timeout_ms * MS
    text += f" (timeout {seconds(p.timeout_ms * MS)}, overshoot {about}{seconds(max(over, 0))}"
    if p.running_ns is not None and took - p.running_ns > MS:
        text += f"; the function ran {seconds(max(p.running_ns, 0))} of it"
    return text + ")" + ("; its answer was read right then" if p.late_ack is not None else "")


def _goaway(e: Event) -> str:
    code, data = str(e.attrs.get("code", "")), e.attrs.get("data")
    name = HTTP2_ERRORS[int(code)] if code.isdecimal() and int(code) < len(HTTP2_ERRORS) else code or "code not logged"
    return name + (f' "{_detail(data)}"' if data and data != "undefined" else "")


def _by_status(calls: Iterable[Call]) -> str:
    """`4 OK, 1 UNAVAILABLE`, the most frequent first."""
    counts = Counter("status not logged" if c.status is None else status_name(c.status) for c in calls)
    return ", ".join(f"{n:,} {name}" for name, n in sorted(counts.items(), key=lambda x: (-x[1], x[0])))
