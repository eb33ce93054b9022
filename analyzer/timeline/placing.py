"""When lines were printed whose stamps are missing or cut to seconds: between their neighbours, as long apart as they say."""

from __future__ import annotations

from collections import defaultdict

from msgspec import Struct

from analyzer.model.events import Event
from analyzer.model.times import MS, SECOND

#: Platform lines without a stamp stand where their neighbours do, give or take what a handler does in silence: so much, where
#: no REPORT says how long it ran.
NEIGHBOUR_ERROR_NS = SECOND
#: REPORT's duration and its line's place agree to this much.
DURATION_SLACK_NS = 10 * MS
#: Lines that stand before what follows them, not after what precedes them.
BEGINS = frozenset(("start", "init-start", "restore-start"))
_EARLIEST, _LATEST = -(1 << 62), 1 << 62


class _Span(Struct):
    """Between when and when a line was printed; `coarse` for those that have to be placed."""

    event: Event
    low: int
    high: int
    stamped: bool
    coarse: bool
    error_ns: int = NEIGHBOUR_ERROR_NS  # of a line without a stamp


def place(events: list[Event], unstamped: set[int]) -> list[Event]:
    """Set the times of lines without a stamp of their own, or with one cut to seconds; the events that have a time then.

    `unstamped` are the `id()`s of events whose `time_ns` no stamp gave; events stand in the order of their input.
    """
    if not unstamped and not any(e.resolution_ns >= SECOND for e in events):
        return events
    groups: dict[tuple[str | None, str], list[Event]] = defaultdict(list)
    for e in events:
        groups[e.environment, e.source].append(e)
    placed: set[int] = set()
    for lines in groups.values():
        placed |= _place(sorted(lines, key=lambda e: e.order), unstamped)
    return [e for e in events if id(e) in placed or id(e) not in unstamped]


def _place(lines: list[Event], unstamped: set[int]) -> set[int]:
    """One environment's lines of one source; the ids of those that were placed."""
    spans = [_span(e, id(e) not in unstamped) for e in lines]
    _narrow(spans)
    _by_durations(spans)
    _narrow(spans)
    # Lines that stand by a guest's clock bound others no better than that is known.
    shaky = max((span.event.error_ns for span in spans if not span.coarse), default=0)
    found, last = set(), _EARLIEST
    for span in spans:
        if not span.coarse:
            last = span.low
        elif (time := _chosen(span)) is not None:
            time = last = _after(last, time, span)
            clock_error = span.event.error_ns if span.stamped else 0
            span.event.error_ns = clock_error + _whole_error(span, time, shaky)
            span.event.time_ns, span.event.placed_ns = time, _error(span, time)
            if not span.stamped:
                span.event.source_ns = time
                span.event.attrs["stamp"] = "neighbour"
            found.add(id(span.event))
    return found


def _span(e: Event, stamped: bool) -> _Span:
    if not stamped:
        return _Span(e, _EARLIEST, _LATEST, False, True)
    coarse = e.resolution_ns >= SECOND
    return _Span(e, e.time_ns, e.time_ns + (e.resolution_ns - 1 if coarse else 0), True, coarse)


def _narrow(spans: list[_Span]) -> None:
    """Lines stand in their order."""
    low = _EARLIEST
    for span in spans:
        if span.coarse:
            span.low = max(span.low, min(low, span.high))
        low = max(low, span.low)
    high = _LATEST
    for span in reversed(spans):
        if span.coarse:
            span.high = min(span.high, max(high, span.low))
        high = min(high, span.high)


def _by_durations(spans: list[_Span]) -> None:
    """REPORT says how long the invocation ran: that long after START."""
    began: dict[str, _Span] = {}
    since: list[_Span] = []  # the last START, and what follows it
    for span in spans:
        e = span.event
        if e.kind == "start" and e.request_id is not None:
            began[e.request_id], since = span, []
        since.append(span)
        if e.kind == "report" and e.request_id in began and (duration := e.attrs.get("duration_ns")):
            start = began[e.request_id]
            if since[0] is start:
                _bound(since, int(duration))
            _apart(start, span, int(duration))


def _bound(invocation: list[_Span], duration: int) -> None:
    """What an invocation did in silence, before its first line and after its last: no more than those leave of it."""
    start, report = invocation[0], invocation[-1]
    if start.high == _LATEST or report.low == _EARLIEST:
        return
    silent = max(duration - (report.low - start.high), 0) + DURATION_SLACK_NS
    for span in invocation:
        span.error_ns = silent


def _apart(start: _Span, report: _Span, duration: int) -> None:
    if start.coarse and report.stamped:
        start.low = max(start.low, min(report.low - duration - DURATION_SLACK_NS, start.high))
        start.high = min(start.high, max(report.high - duration + DURATION_SLACK_NS, start.low))
    begun = start.low - DURATION_SLACK_NS if start.stamped else _chosen(start)
    if report.coarse and begun is not None:
        report.low = max(report.low, min(begun + duration, report.high))
        if start.stamped:
            report.high = min(report.high, max(start.high + duration + DURATION_SLACK_NS, report.low))


def _chosen(span: _Span) -> int | None:
    """The middle, so that lines stay in order; without a stamp, where its nearest neighbour stands, None where none has a time."""
    if span.stamped:
        return (span.low + span.high) // 2
    if span.event.kind in BEGINS:
        first, second = span.high, span.low
    else:
        first, second = span.low, span.high
    if first not in (_EARLIEST, _LATEST):
        return first
    return second if second not in (_EARLIEST, _LATEST) else None


def _after(last: int, time: int, span: _Span) -> int:
    """A moment later than the line before, where there is room: what is in order stays so."""
    return max(time, min(last + (1 if span.stamped else 0), span.high))


def _error(span: _Span, time: int) -> int:
    return max(span.high - time, time - span.low) if span.stamped else span.error_ns


def _whole_error(span: _Span, time: int, shaky: int) -> int:
    """`_error`, and how far the lines around it may be off: no more than a stamp of its own leaves."""
    around = _error(span, time) + shaky
    if not span.stamped:
        return around
    stamp = span.event.time_ns
    return min(around, max(time - stamp, stamp + span.event.resolution_ns - 1 - time))
