"""How many connections a server held, against its limit: opened, closed, evicted, thrown out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from msgspec import Struct

from analyzer.model.times import SECOND, clock, seconds, stamp
from analyzer.plot.canvas import SETTINGS, count, write
from analyzer.plot.chart import LEAST_WIDTH, WIDTH, Diagram, time_axis, whole_ticks
from analyzer.plot.head import headlines
from analyzer.plot.lives import lives
from analyzer.plot.pen import Key
from analyzer.plot.theme import BLUE, DARK, GREEN, LIGHT, ORANGE, PURPLE, Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from analyzer.trace import Trace

#: A server that closes after such a silence of both sides did so because of it.
IDLE_NS = SECOND
#: Spots at which the number is told, and bars of openings and closings.
MOST_STEPS, BARS = 3_000, 90
#: What became of connections: label, colour (a hue, or the theme's of that name).
ENDS = {
    "client": ("closed by the client", BLUE),
    "server": ("closed by the server", PURPLE),
    "evicted": ("closed by the server while idle (evicted)", ORANGE),
    "thrown": ("thrown out at the limit", "error"),
    "reset": ("reset", "dim"),
}


class Held(Struct):
    """One server: its connections' beginnings, and their ends by what became of them, ns; `open` is (time, connections) after
    each change. `others` counts the connections of other servers."""

    server: str
    opened: NDArray[np.int64]
    ended: dict[str, NDArray[np.int64]]
    times: NDArray[np.int64]
    open: NDArray[np.int64]
    others: int
    servers: int

    @property
    def peak(self) -> tuple[int, int]:
        """When most were open, and how many."""
        at = int(np.argmax(self.open))
        return int(self.times[at]), int(self.open[at])


def connections_over_time(
    trace: Trace,
    *,
    server: str | None = None,
    soft: int | None = None,
    hard: int | None = None,
    dark: bool = False,
    width: float = WIDTH,
    local: bool = False,
) -> Figure:
    """Draw how many connections of one server were open, and how many were opened and ended at a time, by whom.

    `server` is its `ip:port` as the connection table has it, by default the one with most connections. `soft` and `hard` are
    its limits: above the first a server evicts what is idle, above the second it refuses. Where rule L501 found that it threw
    connections out, the number that it held then is drawn. `width` is in inches (at least 6). The axis is the reference clock in
    UTC, or (`local`) in this machine's zone.

    Counts are those of the captures: a connection that ended without a packet there (a process that died, a firewall that
    forgot) counts as open. Raises `KeyError` for an unknown server, `ValueError` where no connection was accepted.
    """
    found = held(trace, server)
    with mpl.rc_context(SETTINGS):
        return _Picture(
            trace, found, (soft, hard), DARK if dark else LIGHT, max(width, LEAST_WIDTH), local
        ).diagram.figure


def held(trace: Trace, server: str | None = None) -> Held:
    """The numbers; raises as `connections_over_time`."""
    known = lives(trace.story) if len(trace.story.connections) else None
    if known is None or not known.accepted.any():
        raise ValueError(
            "connections over time are drawn of a capture with connections that were accepted: there is none"
        )
    number = known.server_number(server)
    mine = known.accepted & (known.server == number)
    thrown = {c for f in trace.findings if f.rule == "L501" for c in f.connections}
    is_thrown = np.array([trace.story.connections.id(k) in thrown for k in known.ks[mine].tolist()], np.bool_)
    kind, end = known.kind[mine], known.end_ns[mine]
    idle = known.idle_ns[mine] >= IDLE_NS
    # Kinds count in ENDINGS: 0 open, 1 client, 2 server, 3 reset.
    ended = {
        "client": end[(kind == 1) & ~is_thrown],
        "server": end[(kind == 2) & ~idle & ~is_thrown],
        "evicted": end[(kind == 2) & idle & ~is_thrown],
        "thrown": end[(kind > 0) & is_thrown],
        "reset": end[(kind == 3) & ~is_thrown],
    }
    opened = known.opened_ns[mine]
    gone = np.concatenate(list(ended.values()))
    moments = np.concatenate([opened, gone])
    change = np.concatenate([np.ones(len(opened), np.int64), -np.ones(len(gone), np.int64)])
    order = np.lexsort((change, moments))  # what ends at a time leaves before what begins
    elsewhere = int(known.accepted.sum()) - len(opened)
    return Held(
        known.servers[number], opened, ended, moments[order], np.cumsum(change[order]), elsewhere, len(known.servers)
    )


def steps(
    times: NDArray[np.int64], values: NDArray[np.int64], most: int = MOST_STEPS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A staircase of at most so many steps: where there are more, each stands for a stretch and tells its highest value."""
    if len(times) <= most:
        return times, values
    edges = np.linspace(times[0], times[-1], most, endpoint=False).astype(np.int64)
    first = np.unique(np.searchsorted(times, edges))
    before = np.concatenate([[values[0]], values[first[1:] - 1]])  # what held when the stretch began
    return times[first], np.maximum(np.maximum.reduceat(values, first), before)


class _Picture:
    """The page with everything on it."""

    def __init__(
        self, trace: Trace, found: Held, limits: tuple[int | None, int | None], theme: Theme, width: float, local: bool
    ) -> None:
        self.found, self.theme = found, theme
        captured = [s.last_ns for s in trace.story.sources if s.kind == "pcap" and s.last_ns]
        self.start, self.end = int(found.times[0]), max([int(found.times[-1]), *captured])
        ends = {kind: self._hue(kind) for kind, times in found.ended.items() if len(times)}
        keys = [Key("open", colour=theme.ink), Key("opened", fill=GREEN)]
        keys += [Key(ENDS[kind][0], fill=hue) for kind, hue in ends.items()]
        when, peak = found.peak
        gone = sum(map(len, found.ended.values()))
        subtitle = [
            f"{count(len(found.opened), 'connection')} opened, {gone:,} ended",
            f"at most {peak:,} open, at {clock(when, local=local)[:8]}",
            f"{stamp(self.start, 0, local)} to {stamp(self.end, 0, local)}",
        ]
        notes = ["what ended without a packet at the capture counts as open"]
        if found.others:
            notes.append(f"{count(found.others, 'connection')} to {count(found.servers - 1, 'other server')} not drawn")
        lines = headlines([f for f in trace.findings if f.rule == "L501"])
        title = f"connections to {found.server}"
        self.diagram = Diagram(theme, width, [2.6, 1.3], title, subtitle, lines, keys, notes, local=local)
        upper, lower = self.diagram.axes
        time_axis(self.diagram, self.start, self.end)
        self._open(upper, *limits)
        self._changes(lower, ends)
        self.diagram.name(lower, y=f"opened, ended per {seconds((self.end - self.start) // BARS)}")
        self.diagram.name(upper, y="open connections")

    def _hue(self, kind: str) -> str:
        colour = ENDS[kind][1]
        return colour if colour.startswith("#") else str(getattr(self.theme, colour))

    def _seconds(self, times: NDArray[np.int64]) -> NDArray[np.float64]:
        return (times - self.start) / SECOND

    def _open(self, axes: Axes, soft: int | None, hard: int | None) -> None:
        times, values = steps(self.found.times, self.found.open)
        xs, ys = self._seconds(np.append(times, self.end)), np.append(values, self.found.open[-1])
        axes.fill_between(xs, ys, step="post", color=self.theme.tint(BLUE, 0.16), linewidth=0)
        axes.step(xs, ys, where="post", color=self.theme.ink, linewidth=1.2, gid="open")
        for name, value, colour, valign in (("soft", soft, "warning", "top"), ("hard", hard, "error", "bottom")):
            if value:
                self._limit(axes, value, f"{name} limit {value:,}", colour, x=0.995, ha="right", va=valign)
        if len(thrown := np.sort(self.found.ended["thrown"])):
            before = int(np.searchsorted(self.found.times, thrown[0], side="left")) - 1
            full = int(self.found.open[before]) - 1  # the one that is thrown out is among those that are open
            self._limit(
                axes,
                full,
                f"{full:,} held when the first was thrown out",
                "dim",
                x=0.62 if hard else 0.995,
                ha="right",
                va="bottom",
            )
            marks = self.found.open[np.searchsorted(self.found.times, thrown, side="right") - 1]
            style: dict[str, Any] = {
                "color": self.theme.error,
                "markersize": 4.5,
                "markeredgewidth": 1.2,
                "gid": "thrown",
            }
            axes.plot(self._seconds(thrown), marks, "x", **style)
        axes.set_ylim(0, max(self.found.peak[1], soft or 0, hard or 0) * 1.15 + 1)
        whole_ticks(axes, 6)

    def _limit(self, axes: Axes, value: int, text: str, colour: str, x: float, **style: Any) -> None:
        """A line across, its words at `x`, a share of the width."""
        hue = str(getattr(self.theme, colour))
        axes.axhline(value, color=hue, linewidth=1.0, linestyle=(0, (5, 3)), gid="limit")
        write(axes, x, value, text, color=hue, transform=axes.get_yaxis_transform(), **style)

    def _changes(self, axes: Axes, ends: dict[str, str]) -> None:
        edges = np.linspace(self.start, max(self.end, self.start + 1), BARS + 1)
        place, wide = self._seconds(edges[:-1].astype(np.int64)), (edges[1] - edges[0]) / SECOND
        opened = np.histogram(self.found.opened, edges)[0]
        axes.bar(place, opened, wide, align="edge", color=GREEN, gid="opened")
        below = np.zeros(BARS)
        for kind, hue in ends.items():
            number = np.histogram(self.found.ended[kind], edges)[0]
            axes.bar(place, -number, wide, bottom=-below, align="edge", color=hue, gid=f"ended-{kind}")
            below += number
        axes.axhline(0, color=self.theme.dim, linewidth=0.6)
        axes.set_ylim(-max(below.max(), 1) * 1.1, max(opened.max(), 1) * 1.1)
        whole_ticks(axes, 6)
