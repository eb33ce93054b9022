"""Rests that connections survived and rests that they did not, against the idle limits that are known."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from msgspec import Struct

from analyzer.model.times import SECOND, seconds
from analyzer.plot.canvas import SETTINGS, Shelf, count, text_width, write
from analyzer.plot.chart import LEAST_WIDTH, WIDTH, Diagram, duration_ticks, whole_ticks
from analyzer.plot.head import headlines
from analyzer.plot.lives import lives
from analyzer.plot.pen import Key
from analyzer.plot.theme import DARK, GREEN, LIGHT, ORANGE, PURPLE, Theme
from analyzer.rules import _limits as limits
from analyzer.rules.r302_silent_drop import Thresholds
from analyzer.rules.r305_idle_limit import Gap, bracket, gaps_of
from analyzer.tcp import signs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analyzer.trace import Trace

#: Packets of connections that are looked at; where there are more, connections evenly spaced.
MOST_PACKETS = 250_000
#: Bars a decade, and the shortest rest, ns: `tcp.fields.WAKE_AFTER`.
BARS, SHORTEST = 12, SECOND
#: No limit is longer, ns.
MOST_NS = 10**6 * SECOND
#: How a rest ended badly: words, colour (a hue, or the theme's of that name).
ENDINGS = {
    limits.RST: ("reset when used", "error"),
    limits.FIN: ("closed by the server", ORANGE),
    limits.SILENCE: ("never answered again", PURPLE),
}
#: Single rests are marked below the bars where there are not more.
MOST_MARKS = 300
#: Rows in which the lengths of limits find room.
NAME_ROWS = 3


class Rests(Struct):
    """Rests of connections in view: those that they survived, those that they did not. `looked` of `all` connections that woke."""

    survived: list[Gap]
    failed: list[Gap]
    servers: list[str]
    looked: int
    all: int

    @property
    def bracket(self) -> tuple[int, int] | None:
        """The longest that survived and the shortest that failed, ns, where R305 would take them for a limit of one server."""
        found = bracket([*self.survived, *self.failed], 1) if len(self.servers) == 1 else None
        return (found.longest.ns, found.shortest.ns) if found else None


def idle_gaps(trace: Trace, *, dark: bool = False, width: float = WIDTH) -> Figure:
    """Draw how long connections rested, and whether they survived it: two histograms over one logarithmic axis of durations,
    with the known idle limits of load balancers, NAT gateways and servers.

    A rest lasts a second or more; keepalives end it, too. It survived where the client's next payload was answered; it failed
    where that was reset, or repeated and never answered, or where the server closed (as rule R305 counts). `--client` and `--server`, or the same
    arguments of `analyzer.read`, choose connections; limits belong to one path. `width` is in inches (at least 6).

    Raises `ValueError` where no connection rested.
    """
    found = rests(trace)
    with mpl.rc_context(SETTINGS):
        return _Picture(trace, found, DARK if dark else LIGHT, max(width, LEAST_WIDTH)).diagram.figure


def rests(trace: Trace) -> Rests:
    """All rests, or those of evenly spaced connections where there are very many; raises as `idle_gaps`."""
    story, cs = trace.story, trace.story.connections
    known = lives(story)
    rested = sorted({*cs.showing(signs.WOKE), *cs.showing(signs.SERVER_FIN | signs.IDLE)})
    woken = np.flatnonzero(np.isin(known.ks, rested))
    looked = known.affordable(woken, MOST_PACKETS)
    groups = cs.batches(known.ks[looked].tolist())
    gaps = [gap for group in groups for gap in gaps_of(story, group, Thresholds.least_copies)]
    if not gaps:
        raise ValueError(
            "idle gaps are drawn of connections that were used again, or closed by the server, after a second or more of silence: there is none"
        )
    servers = sorted({cs.server(g.connection) for g in gaps})
    survived, failed = ([g for g in gaps if bool(g.ending) is bad] for bad in (False, True))
    return Rests(survived, failed, servers, len(looked), len(woken))


def _range(gaps: list[Gap], word: str, of: Any, to: str) -> str:
    return f"{len(gaps):,} {word}" + (f", {to} {seconds(of(g.ns for g in gaps))}" if gaps else "")


class _Picture:
    """The page with everything on it."""

    def __init__(self, trace: Trace, found: Rests, theme: Theme, width: float) -> None:
        self.found, self.theme = found, theme
        longest = max(g.ns for g in (*found.survived, *found.failed))
        self.least = 0.93 * SHORTEST
        address = found.servers[0] if len(found.servers) == 1 else ""
        above = limits.between(longest, MOST_NS, address)
        #: So that the next limit is there too.
        self.most = 1.25 * (above[0].seconds * SECOND if above else 2 * longest)
        self.edges = np.geomspace(SHORTEST, self.most, math.ceil(math.log10(self.most / SHORTEST) * BARS) + 1) / SECOND
        self.limits = limits.between(SHORTEST, int(self.most), address)
        self.endings = [e for e in ENDINGS if any(g.ending == e for g in found.failed)]
        one = len(found.servers) == 1
        title = f"idle gaps of connections to {found.servers[0] if one else count(len(found.servers), 'server')}"
        subtitle = [_range(found.survived, "survived", max, "up to"), _range(found.failed, "failed", min, "from")]
        lines = headlines([f for f in trace.findings if f.rule == "R305"])
        heights = [0.16 * NAME_ROWS, 1.5, 1.0]
        self.diagram = Diagram(theme, width, heights, title, subtitle, lines, self._keys(), self._notes(), gap=0.1)
        self._draw()

    def _keys(self) -> list[Key]:
        keys = [Key("survived", fill=GREEN)] if self.found.survived else []
        keys += [Key(f"failed: {ENDINGS[e][0]}", fill=self._hue(e)) for e in self.endings]
        if self.found.bracket:
            keys.append(Key("between the longest that survived and the shortest that failed", fill=self._between()))
        return keys

    def _notes(self) -> list[str]:
        found = self.found
        notes = []
        for length, group in groupby(self.limits, key=lambda limit: limit.seconds):
            whose = "; ".join(f"{limit.whose} ({' or '.join(limit.ends)})" for limit in group)
            notes.append(f"{length} s: {whose}")
        if found.looked < found.all:
            notes.append(f"of {found.looked:,} of {count(found.all, 'connection')} that rested, evenly spaced")
        return notes

    def _hue(self, ending: str) -> str:
        colour = ENDINGS[ending][1]
        return colour if colour.startswith("#") else str(getattr(self.theme, colour))

    def _between(self) -> str:
        return self.theme.tint(ORANGE, 0.22)

    def _draw(self) -> None:
        names, upper, lower = self.diagram.axes
        for axes in self.diagram.axes:
            axes.set_xscale("log")
            axes.set_xlim(self.least / SECOND, self.most / SECOND)
            duration_ticks(axes.xaxis, SHORTEST, self.most, SECOND)
            if axes is not lower:
                axes.tick_params(labelbottom=False, bottom=False)
        for axes in (upper, lower) if self.found.bracket else ():
            ends = [b / SECOND for b in self.found.bracket or ()]
            axes.axvspan(*ends, color=self._between(), linewidth=0, zorder=0.6, gid="bracket")
        names.axis("off")
        self._limits(names, upper, lower)
        self._bars(upper, [("survived", GREEN, self.found.survived)])
        self._bars(lower, [(e, self._hue(e), [g for g in self.found.failed if g.ending == e]) for e in self.endings])
        lower.invert_yaxis()
        lower.yaxis.get_major_ticks()[0].label1.set_visible(False)  # the other zero
        self.diagram.name(upper, y="survived")
        self.diagram.name(lower, x="how long the connection had rested", y="failed")

    def _bars(self, axes: Axes, groups: list[tuple[str, str, list[Gap]]]) -> None:
        below = np.zeros(len(self.edges) - 1)
        for name, hue, gaps in groups:
            lengths = np.array([g.ns / SECOND for g in gaps])
            number = np.histogram(np.clip(lengths, self.edges[0], self.edges[-1]), self.edges)[0]
            axes.bar(
                self.edges[:-1],
                number,
                np.diff(self.edges),
                bottom=below,
                align="edge",
                color=hue,
                edgecolor=self.theme.lane,
                linewidth=0.5,
                gid=f"gaps-{name}",
            )
            below += number
            if len(lengths) <= MOST_MARKS:
                axes.plot(
                    lengths,
                    np.zeros(len(lengths)),
                    "|",
                    color=self.theme.ink,
                    markersize=7,
                    markeredgewidth=0.7,
                    clip_on=False,
                    gid="gap",
                )
        axes.set_ylim(0, max(below.max(), 1) * 1.12)
        whole_ticks(axes, 4)

    def _limits(self, names: Axes, *bars: Axes) -> None:
        """A line at each known limit, its length above; the notes say whose it is."""
        shelf = Shelf(NAME_ROWS, 0.0, self.diagram.inner)
        for limit in sorted({limit.seconds for limit in self.limits}):
            style: dict[str, Any] = {"color": self.theme.warning, "linewidth": 0.9, "linestyle": (0, (4, 2))}
            for axes in bars:
                axes.axvline(limit, zorder=1.5, gid="limit", **style)
            at = self.diagram.inner * math.log(limit * SECOND / self.least) / math.log(self.most / self.least)
            text = f"{limit} s"
            row = shelf.place(at - text_width(text) / 2, text_width(text), stem=at)
            if row is not None:
                x, y = at / self.diagram.inner, (row + 0.5) / NAME_ROWS
                write(
                    names,
                    x,
                    y,
                    text,
                    transform=names.transAxes,
                    ha="center",
                    color=self.theme.warning,
                    gid="limit-name",
                )
