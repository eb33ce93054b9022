"""Many connections at a glance: how they ended, with whom, how long they lasted. Columns only, so that a million cost little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from analyzer.model.times import SECOND, iso, seconds
from analyzer.tcp import fields as f
from analyzer.tcp.connections import ENDED_BY
from analyzer.tcp.states import STATES
from analyzer.timeline.points import CLIENT, SERVER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analyzer.timeline.points import Connections
    from analyzer.timeline.story import Story

#: Fewer connections than this are seen at a glance in their table.
LEAST = 30
#: Servers, and pairs of endpoint states, that are named; the rest is counted together.
NAMED = 8
#: Borders of durations and idle gaps, in seconds: decades, and above a minute the idle limits that people know.
BORDERS_S = (0.001, 0.01, 0.1, 1, 10, 60, 300, 900, 3600)
#: Intervals of the time axis.
INTERVALS = 60


class Bars(Struct, frozen=True):
    """One distribution: (label, count) a bar. `across` draws them side by side along a time axis."""

    title: str
    bars: list[tuple[str, int]]
    note: str = ""
    across: bool = False

    @property
    def most(self) -> int:
        """The longest bar."""
        return max((n for _, n in self.bars), default=0)


class Columns:
    """Fields of many connections at once, each at the capture point that saw most of it."""

    def __init__(self, cs: Connections, ks: NDArray[np.int64]) -> None:
        self._points = [cs.points[p] for p in cs.nearness]
        self._members = cs.members[ks][:, cs.nearness]
        packets = np.full(self._members.shape, -1, np.int64)
        for p, point in enumerate(self._points):
            here = np.flatnonzero(self._members[:, p] >= 0)
            at = self._members[here, p]
            packets[here, p] = point.rows[at, CLIENT + f.PKTS] + point.rows[at, SERVER + f.PKTS]
        self._best = packets.argmax(axis=1) if len(ks) else np.empty(0, np.int64)

    def of(self, column: int) -> NDArray[np.int64]:
        """One field, a value a connection."""
        out = np.zeros(len(self._members), np.int64)
        for p, point in enumerate(self._points):
            here = np.flatnonzero(self._best == p)
            out[here] = point.rows[self._members[here, p], column]
        return out

    def opened_ns(self) -> NDArray[np.int64]:
        """Aligned time of the first packet."""
        opened = self.of(f.FIRST_TS)
        for p, point in enumerate(self._points):
            opened[self._best == p] = point.clock.aligned_all(opened[self._best == p])
        return opened

    def both(self, column: int) -> NDArray[np.int64]:
        """The sum of both sides' field."""
        both: NDArray[np.int64] = self.of(CLIENT + column) + self.of(SERVER + column)
        return both


def glance(story: Story) -> list[Bars]:
    """Distributions over all connections in view; none where there are few."""
    cs = story.connections
    ks = cs.in_view()
    if len(ks) < LEAST:
        return []
    columns = Columns(cs, ks)
    lasted = columns.of(f.LAST_TS) - columns.of(f.FIRST_TS)
    return [
        _opened(columns.opened_ns()),
        _ends(columns),
        _servers(cs, ks, columns),
        _states(columns),
        _lengths("How long they lasted", lasted),
        _lengths("Longest silence of each", columns.of(f.IDLE_NS)),
    ]


def _opened(opened_ns: NDArray[np.int64]) -> Bars:
    first, last = int(opened_ns.min()), int(opened_ns.max())
    step = max((last - first) // INTERVALS + 1, 1)
    counts = np.bincount((opened_ns - first) // step, minlength=min(INTERVALS, (last - first) // step + 1)).tolist()
    bars = [(iso(first + n * step), count) for n, count in enumerate(counts)]
    note = f"{iso(first)[:23]}Z to {iso(last)[:23]}Z, {seconds(step)} a bar, at most {max(counts):,}"
    return Bars("Opened over time", bars, note, across=True)


def _ends(columns: Columns) -> Bars:
    ended = columns.of(f.END_BY)
    answered = columns.of(SERVER + f.PKTS) > 0
    bars = [(str(word), int(np.count_nonzero(ended == n))) for n, word in enumerate(ENDED_BY) if word]
    bars.append(("open at the end of the capture", int(np.count_nonzero((ended == 0) & answered))))
    bars.append(("never answered", int(np.count_nonzero((ended == 0) & ~answered))))
    return Bars("How they ended", [bar for bar in bars if bar[1]], "by the first segment that began the end")


def _servers(cs: Connections, ks: NDArray[np.int64], columns: Columns) -> Bars:
    """The busiest servers, named by the story, never out of the columns."""
    keys = np.stack([columns.of(column) for column in (f.S_HI, f.S_LO, f.S_PORT)], axis=1)
    _, first, counts = np.unique(keys, axis=0, return_index=True, return_counts=True)
    order = np.lexsort((first, -counts))
    bars = [(cs.server(int(ks[first[n]])), int(counts[n])) for n in order[:NAMED]]
    return Bars("Servers", _with_rest(bars, counts[order[NAMED:]], "others"))


def _states(columns: Columns) -> Bars:
    pairs = columns.of(CLIENT + f.STATE) * len(STATES) + columns.of(SERVER + f.STATE)
    found, counts = np.unique(pairs, return_counts=True)
    order = np.lexsort((found, -counts))
    bars = [
        (f"{STATES[pair // len(STATES)]} / {STATES[pair % len(STATES)]}", n)
        for pair, n in zip(found[order[:NAMED]].tolist(), counts[order[:NAMED]].tolist(), strict=True)
    ]
    note = "client / server, as far as packets prove it"
    return Bars("Endpoint states at the end", _with_rest(bars, counts[order[NAMED:]], "others"), note)


def _with_rest(bars: list[tuple[str, int]], rest: NDArray[np.int64], name: str) -> list[tuple[str, int]]:
    return [*bars, (f"{len(rest):,} {name}", int(rest.sum()))] if len(rest) else bars


def _lengths(title: str, lengths_ns: NDArray[np.int64]) -> Bars:
    borders = [round(border * SECOND) for border in BORDERS_S]
    counts = np.bincount(np.searchsorted(borders, lengths_ns, side="right"), minlength=len(borders) + 1)
    names = [f"up to {seconds(border)}" for border in borders]
    bars = list(zip([*names, f"over {seconds(borders[-1])}"], counts.tolist(), strict=True))
    return Bars(title, _trimmed(bars))


def _trimmed(bars: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Without the empty bars at both ends."""
    filled = [n for n, (_, count) in enumerate(bars) if count]
    return bars[filled[0] : filled[-1] + 1] if filled else []
