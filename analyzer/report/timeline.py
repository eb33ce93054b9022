"""One connection's story as text: every source in order, states of both ends at each step, silence drawn, freezes marked."""

from __future__ import annotations

import re
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from analyzer.capture import columns as col
from analyzer.model.grpc import ROUTINE
from analyzer.model.times import SECOND, iso, seconds
from analyzer.report.details import detail_lines
from analyzer.report.escape import clip, terminal
from analyzer.report.style import Style
from analyzer.tcp.states import (
    ACKS_FIN,
    FIN_ACKED,
    GETS_RST,
    SENDS,
    SENDS_FIN,
    SENDS_RST,
    SENDS_SYN,
    SENDS_SYN_ACK,
    STATES,
    SYN_ACKED,
    TRANSITIONS,
)  # fmt: skip
from analyzer.timeline.story import event_text
from analyzer.timeline.whereabouts import fates, is_lost
from analyzer.trace import is_notable

if TYPE_CHECKING:
    from analyzer.tcp.segments import Segment
    from analyzer.trace import Trace

#: Silences at least this long are drawn.
DRAWN_NS = SECOND
#: Runs of ordinary rows longer than this are folded.
FOLD = 3
_UNIT = re.compile(r"(\d) (?=(?:ms|s|min|h|B|copies)\b)")

SHORT = {
    "UNKNOWN": "?", "SYN_SENT": "SYN_SENT", "SYN_RECEIVED": "SYN_RCVD", "ESTABLISHED": "ESTAB", "FIN_WAIT_1": "FIN_WAIT_1",
    "FIN_WAIT_2": "FIN_WAIT_2", "CLOSE_WAIT": "CLOSE_WAIT", "LAST_ACK": "LAST_ACK", "TIME_WAIT": "TIME_WAIT", "CLOSING": "CLOSING",
    "CLOSED": "CLOSED", "LISTEN": "LISTEN",
}  # fmt: skip


def states(segments: list[Segment], fates: list[str]) -> list[tuple[int, int, int]]:
    """(time, client state, server state) after each segment: the machine of `tcp.states` over merged segments.

    A segment whose fate (`timeline.whereabouts`) is to be lost changes nothing at its receiver, one made on the way nothing at
    the side that it seems to come from.
    """
    ends = {True: 0, False: 0}
    fin_end: dict[bool, int | None] = {True: None, False: None}
    series = []
    for s, fate in zip(segments, fates, strict=True):
        me, peer = s.from_client, not s.from_client
        if s.rst:
            steps = [(me, SENDS_RST), (peer, GETS_RST)]
        else:
            steps = [(me, (SENDS_SYN_ACK if s.flags & col.ACK_FLAG else SENDS_SYN) if s.syn else SENDS)]
            if s.flags & col.ACK_FLAG and not s.syn:
                steps.append((peer, SYN_ACKED))
            if s.flags & col.ACK_FLAG and fin_end[peer] is not None and s.ack == fin_end[peer]:
                steps += [(me, ACKS_FIN), (peer, FIN_ACKED)]
            if s.fin:
                fin_end[me] = s.end_seq
                steps.append((me, SENDS_FIN))
        unmoved = {peer} if is_lost(fate) else {me} if fate else set()
        for side, event in steps:
            if side in unmoved:
                continue
            ends[side] = TRANSITIONS[event][ends[side]]
        series.append((s.time_ns, ends[True], ends[False]))
    return series


def timeline_text(trace: Trace, connection: str, style: Style, everything: bool = False) -> str:
    """The merged story of one connection."""
    story = trace.story
    k = trace.index(connection)
    cs = story.connections
    segments = cs.segments(k)
    if not segments:
        return f"{cs.id(k)}: no segments kept\n"
    env = cs.environment.get(k)
    zero = segments[0].time_ns
    head = (
        f"{cs.id(k)} {cs.client(k)} → {cs.server(k)}"
        + (f" · env {terminal(env)}" if env else "")
        + f" · from {iso(zero)[:26]}Z"
    )
    rows: list[tuple[int, str, str, str, bool]] = []  # time, layer, place, text, notable
    became = fates(cs, k)
    for s, (_, a, b), fate in zip(segments, states(segments, became), became, strict=True):
        place = min(s.places, key=lambda p: p.time_ns)
        where = story.source(place.source).at(story.source(place.source).packet_ref(place.no))
        text = f"{s.describe():<44} {SHORT[STATES[a]]:>10} / {SHORT[STATES[b]]}"
        text += f"  {fate}" if fate else ""
        rows.append((s.time_ns, "pcap", where, text, is_notable(s) or bool(fate)))
    for error in cs.icmp(k):
        place = min(error.places, key=lambda p: p.time_ns)
        where = story.source(place.source).at(story.source(place.source).packet_ref(place.no))
        rows.append((error.time_ns, "icmp", where, error.describe(), True))
    for f in trace.deep.get(k, []):
        where = story.source(f.place.source).at(story.source(f.place.source).packet_ref(f.place.no))
        rows.append((f.place.time_ns, f.layer, where, f.describe(), f.telling))
    if env and story.aligned:
        for e in story.events_between(*trace.span(k), env):
            where = story.source(e.source).at(e.ref)
            plain = e.layer == "grpc" and e.kind in ROUTINE
            rows.append(
                (
                    e.time_ns,
                    e.layer,
                    where,
                    event_text(e) + (f"  [{(e.request_id or '')[:8]}]" if e.request_id else ""),
                    not plain,
                )
            )
    rows.sort(key=lambda r: r[0])
    lines = [style.paint(clip(head, style.width), "bold")]
    lines += [style.paint(part, "dim") for line in detail_lines(cs, k) for part in _folded(terminal(line), style.width)]
    lines += ["", *_body(trace, rows, style, zero, env, everything)]
    related = [f for f in trace.findings if cs.id(k) in f.connections]
    if related:
        lines += [""] + [clip(f"{f.severity.word}[{f.rule}] {terminal(f.title)}", style.width) for f in related]
    return "\n".join(lines) + "\n"


def _folded(line: str, width: int) -> list[str]:
    """A line in the width, numbers beside their units."""
    tied = _UNIT.sub("\\1\N{NO-BREAK SPACE}", line)
    parts = wrap(tied, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
    return [part.replace("\N{NO-BREAK SPACE}", " ") for part in parts]


def _body(
    trace: Trace,
    rows: list[tuple[int, str, str, str, bool]],
    style: Style,
    zero: int,
    env: str | None,
    everything: bool,
) -> list[str]:
    out: list[str] = []
    column = min(max(len(r[2]) for r in rows), max(style.width // 4, 14))
    gaps = np.diff([r[0] for r in rows])
    folded = 0
    for number, (time, layer, where, text, notable) in enumerate(rows):
        drawn = bool(number and gaps[number - 1] >= DRAWN_NS)
        edge = drawn or number + 1 == len(rows) or (number + 1 < len(rows) and gaps[number] >= DRAWN_NS)
        if not everything and not notable and not edge:
            folded += 1
            continue
        if folded:
            out.append(style.paint(f"{'':>12}  … {folded} more", "dim"))
            folded = 0
        if drawn:
            freeze = trace.story.freeze_covering(env, rows[number - 1][0], time)
            what = (
                f"{seconds(int(gaps[number - 1]))}"
                + (f" (frozen {seconds(freeze.length_ns)})" if freeze else "")
                + " silence"
            )
            out.append(style.paint(f"{'':>12}  ⋮ {what}", "dim"))
        out.append(
            clip(
                f"{(time - zero) / SECOND:12.6f}  {layer:<6} {clip(terminal(where), column):<{column}}  {terminal(text)}",
                style.width,
            )
        )
    if folded:
        out.append(style.paint(f"{'':>12}  … {folded} more", "dim"))
    return out
