"""The states of both endpoints, segment by segment: the machine of `tcp.states` over a connection's merged segments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analyzer.capture import columns as col
from analyzer.tcp.states import (
    ACKS_FIN,
    FIN_ACKED,
    GETS_RST,
    SENDS,
    SENDS_FIN,
    SENDS_RST,
    SENDS_SYN,
    SENDS_SYN_ACK,
    SYN_ACKED,
    TRANSITIONS,
)
from analyzer.timeline.whereabouts import is_lost

if TYPE_CHECKING:
    from analyzer.tcp.segments import Segment


def states(segments: list[Segment], fates: list[str]) -> list[tuple[int, int, int]]:
    """(time, client state, server state) after each segment, as numbers of `tcp.states.STATES`.

    A segment whose fate (`whereabouts`) is to be lost changes nothing at its receiver, one made on the way nothing at the side
    that it seems to come from.
    """
    ends = {True: 0, False: 0}
    fin_end: dict[bool, int | None] = {True: None, False: None}
    series = []
    for s, fate in zip(segments, fates, strict=True):
        me, peer = s.from_client, not s.from_client
        steps: list[tuple[bool, int]] = []
        if s.rst:
            steps = [(me, SENDS_RST), (peer, GETS_RST)]
        elif not s.of_another:
            steps = [(me, (SENDS_SYN_ACK if s.flags & col.ACK_FLAG else SENDS_SYN) if s.syn else SENDS)]
            if s.flags & col.ACK_FLAG:
                steps.append((peer, SYN_ACKED))
            if s.flags & col.ACK_FLAG and fin_end[peer] is not None and s.ack == fin_end[peer]:
                steps += [(me, ACKS_FIN), (peer, FIN_ACKED)]
            if s.fin:
                fin_end[me] = s.end_seq
                steps.append((me, SENDS_FIN))
        unmoved = {peer} if is_lost(fate) else {me} if fate else set()
        for side, event in steps:
            if side not in unmoved:
                ends[side] = TRANSITIONS[event][ends[side]]
        series.append((s.time_ns, ends[True], ends[False]))
    return series
