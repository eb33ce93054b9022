"""What a closer look at one connection's segments adds under the head of its timeline: a line each, none where all is plain."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING

from msgspec.structs import replace

from analyzer.model.times import SECOND, seconds
from analyzer.tcp import detail

if TYPE_CHECKING:
    from analyzer.tcp.segments import Segment
    from analyzer.timeline.points import Connections

#: Of one kind at most this many lines, then a count.
LISTED = 3
#: Fewer copies of a segment are an ordinary loss.
LEAST_COPIES = 3


def detail_lines(cs: Connections, k: int) -> list[str]:
    """Opening and captures, round trips, back-off, keepalive, windows, guest clock, resets of connection `k`."""
    segments = cs.segments(k)
    if not segments:
        return []
    return [
        *_capture(cs, k), *_round_trips(cs, k), *_backoffs(segments), *_keepalive(segments), *_windows(segments),
        *_clock(segments), *_resets(segments),
    ]  # fmt: skip


def _side(from_client: bool) -> str:
    return "client" if from_client else "server"


def _at(segments: list[Segment], time_ns: int) -> str:
    """Seconds from the first segment, as the rows below count."""
    return f"{(time_ns - segments[0].time_ns) / SECOND:.6f}"


def _some(lines: list[str], what: str) -> Iterator[str]:
    yield from lines[:LISTED]
    if len(lines) > LISTED:
        yield f"… {len(lines) - LISTED:,} more {what}"


def _capture(cs: Connections, k: int) -> Iterator[str]:
    for p in cs.seen_at(k):
        record = cs.record(k, p)
        told = list(record.oddities)
        if record.one_sided:
            told.append(f"the {record.one_sided}'s packets are missing, its silence proves nothing")
        if told:
            yield f"{cs.points[p].source.label}: {'; '.join(told)}"


def _round_trips(cs: Connections, k: int) -> Iterator[str]:
    """At the capture nearest the client, so that both ends of a time are one clock's and one place's."""
    p = cs.seen_at(k)[0]
    segments = _seen_at(cs.segments(k), p)
    handshake = detail.handshake_rtt_ns(segments)
    words = [f"{seconds(handshake)} in the handshake"] if handshake is not None else []
    words += [
        f"{cs.points[p].source.label} ↔ {_side(not of_client)} {seconds(min(times))}, median {seconds(int(median(times)))}"
        for of_client, times in detail.echo_rtts_ns(segments).items()
        if times
    ]
    if words:
        yield f"round trip: {'; '.join(words)}"


def _seen_at(segments: list[Segment], point: int) -> list[Segment]:
    """The segments as one capture point saw them."""
    own = [replace(s, places=[place]) for s in segments if (place := s.at(point)) is not None]
    return sorted(own, key=lambda s: s.time_ns)


def _backoffs(segments: list[Segment]) -> Iterator[str]:
    found = [b for b in detail.backoffs(segments) if len(b.times_ns) >= LEAST_COPIES]
    lines = [
        f"{_at(segments, b.times_ns[0])} the {_side(b.from_client)}'s retransmission time-outs: first "
        f"{seconds(b.initial_rto_ns)}, {f'doubled {b.doublings}×' if b.doublings else 'never doubled'}, "
        f"{len(b.times_ns)} copies in {seconds(b.times_ns[-1] - b.times_ns[0])}"
        for b in found
    ]
    yield from _some(lines, "series of time-outs")


def _keepalive(segments: list[Segment]) -> Iterator[str]:
    yield from _some([f"keepalive: {one}" for one in detail.keepalives(segments)], "runs of keepalive probes")


def _windows(segments: list[Segment]) -> Iterator[str]:
    episodes = detail.zero_windows(segments)
    for from_client in (True, False):
        own = [z for z in episodes if z.from_client == from_client]
        if own:
            closed = sum((z.end_ns or segments[-1].time_ns) - z.start_ns for z in own)
            probes = sum(z.probes for z in own)
            yield (
                f"the {_side(from_client)}'s window was closed {len(own):,}×, {seconds(closed)} in all"
                + (f", {probes:,} probes" if probes else "")
                + ("; it never opened again" if own[-1].end_ns is None else "")
            )


def _clock(segments: list[Segment]) -> Iterator[str]:
    lines = [
        f"{_at(segments, stall.start_ns)} the {_side(stall.from_client)}'s clock stood still: TSval advanced "
        f"{seconds(stall.advanced_ns)} in a pause of {seconds(stall.passed_ns)}"
        for from_client in (True, False)
        for stall in detail.clock_stalls(segments, from_client)
    ]
    yield from _some(lines, "pauses of a clock")


def _resets(segments: list[Segment]) -> Iterator[str]:
    resets = [number for number, s in enumerate(segments) if s.rst]
    for number in resets[:LISTED]:
        s = segments[number]
        yield (
            f"{_at(segments, s.time_ns)} the {_side(s.from_client)}'s reset: {detail.describe_reset(segments, number)}"
        )
    if len(resets) > LISTED:
        yield f"… {len(resets) - LISTED:,} more resets"
