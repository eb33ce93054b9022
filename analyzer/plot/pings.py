"""Pings over time: how long the answers took, how far apart they were sent, and how late their timeouts fired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from msgspec import Struct

from analyzer.capture.columns import M_PING
from analyzer.model.times import MS, SECOND, seconds, stamp
from analyzer.plot.canvas import SETTINGS, Shelf, count, text_width
from analyzer.plot.chart import LEAST_WIDTH, WIDTH, Diagram, duration_ticks, second_ticks, time_axis
from analyzer.plot.head import headlines
from analyzer.plot.lives import lives
from analyzer.plot.pen import Key, Pen, grain
from analyzer.plot.theme import DARK, LIGHT, Theme
from analyzer.tcp import fields as f
from analyzer.tcp.pings import pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analyzer.trace import Trace

#: Packets of connections with PINGs that are looked at; where there are more, connections evenly spaced.
MOST_PACKETS = 250_000
#: Rules that speak of pings.
RULES = ("K101", "K102", "K103")
#: A text stands above its mark: so much longer on the logarithmic axis.
ABOVE = 1.3
#: Freezes of more environments than this are not drawn: they would cover the page.
MOST_FROZEN = 3
#: A logarithmic axis has no zero: what took no time by its stamps stands here.
LEAST_NS = 1000


class Sent(Struct, frozen=True):
    """One ping, ns: of whom, when it was sent, answered, given up; `timeout_ns` as configured, `ran_ns` how long the process ran
    until it was given up; `late_ns` an answer after that."""

    who: str
    sent_ns: int
    acked_ns: int | None = None
    timed_out_ns: int | None = None
    late_ns: int | None = None
    timeout_ns: int | None = None
    ran_ns: int | None = None

    @property
    def rtt_ns(self) -> int | None:
        """From sending it to reading its answer."""
        return None if self.acked_ns is None or self.timed_out_ns is not None else self.acked_ns - self.sent_ns

    @property
    def overshoot_ns(self) -> int | None:
        """How much later than configured its timeout fired."""
        if self.timed_out_ns is None or self.timeout_ns is None:
            return None
        return self.timed_out_ns - self.sent_ns - self.timeout_ns


class Pings(Struct):
    """All pings in order; `captured`: from packets, for want of log lines; `looked` of `all` connections then."""

    sent: list[Sent]
    captured: bool
    looked: int = 0
    all: int = 0

    @property
    def intervals(self) -> list[tuple[int, int]]:
        """(when, how long after the one before of the same transport), ns."""
        last: dict[str, int] = {}
        found = []
        for ping in self.sent:
            if ping.who in last:
                found.append((ping.sent_ns, ping.sent_ns - last[ping.who]))
            last[ping.who] = ping.sent_ns
        return found


def pings(trace: Trace, *, dark: bool = False, width: float = WIDTH, local: bool = False) -> Figure:
    """Draw keepalive pings over time: round trips and timeouts, the intervals between them, and by how much timeouts overshot.

    They are those of gRPC traces; without any, HTTP/2 PINGs as captured (inside TLS likely ones), whose round trips are the
    capture's: at the server they are the server's own time. A timeout that fired much later than configured while the process
    ran only for a moment is the mark of a freeze. `width` is in inches (at least 6). The axis is the reference clock in UTC, or (`local`) in
    this machine's zone.

    Raises `ValueError` where neither logs nor captures have pings.
    """
    found = pings_of(trace)
    with mpl.rc_context(SETTINGS):
        return _Picture(trace, found, DARK if dark else LIGHT, max(width, LEAST_WIDTH), local).diagram.figure


def pings_of(trace: Trace) -> Pings:
    """The pings that are drawn; raises as `pings`."""
    story = trace.story
    logged = [
        Sent(
            p.transport, p.sent_ns, p.acked_ns, p.timed_out_ns,
            story.events[p.late_ack].time_ns if p.late_ack is not None else None,
            p.timeout_ms * MS if p.timeout_ms else None, p.running_ns if story.freezes else None,
        )
        for p in story.pings
    ]  # fmt: skip
    found = Pings(sorted(logged, key=lambda p: p.sent_ns), captured=False) if logged else _captured(trace)
    if not found.sent:
        raise ValueError(
            "pings are drawn of gRPC traces (GRPC_TRACE with keepalive) or of captures with HTTP/2 PINGs: there is none here"
        )
    return found


def _captured(trace: Trace) -> Pings:
    cs = trace.story.connections
    if not len(cs):
        return Pings([], captured=True)
    known = lives(trace.story)
    marked = np.zeros(len(cs), np.bool_)
    for p, point in enumerate(cs.points):
        here = np.flatnonzero(cs.members[:, p] >= 0)
        marked[here] |= point.rows[cs.members[here, p], f.MARKS_SEEN] & M_PING > 0
    mine = np.flatnonzero(marked[known.ks])
    looked = known.affordable(mine, MOST_PACKETS)
    found = []
    for k in cs.loaded(known.ks[looked].tolist()):
        for ping, ack in pairs(cs.segments(k)):
            who = f"{cs.id(k)} {'client' if ping.from_client else 'server'}"
            found.append(Sent(who, ping.time_ns, ack.time_ns if ack else None))
    return Pings(sorted(found, key=lambda p: p.sent_ns), True, len(looked), len(mine))


# ---- the picture


class _Picture:
    """The page with everything on it."""

    def __init__(self, trace: Trace, found: Pings, theme: Theme, width: float, local: bool) -> None:
        self.trace, self.found, self.theme = trace, found, theme
        every = [t for p in found.sent for t in (p.sent_ns, p.acked_ns, p.timed_out_ns) if t is not None]
        self.start, self.end = min(every), max(every)
        self.late = [p for p in found.sent if p.overshoot_ns is not None]
        panels = [(1.7, self._answers)]
        panels += [(1.0, self._intervals)] if found.intervals else []
        panels += [(1.0, self._overshoots)] if self.late else []
        lines = headlines([f for f in trace.findings if f.rule in RULES], named=True)
        notes = (
            []
            if found.looked == found.all
            else [f"PINGs of {found.looked:,} of {count(found.all, 'connection')}, evenly spaced"]
        )
        title = "HTTP/2 PINGs as captured" if found.captured else "gRPC keepalive pings"
        self.diagram = Diagram(
            theme,
            width,
            [high for high, _ in panels],
            title,
            self._subtitle(local),
            lines,
            self._keys(),
            notes,
            local=local,
        )
        time_axis(self.diagram, self.start, self.end)
        self._freezes()
        for (_, draw), axes in zip(panels, self.diagram.axes, strict=True):
            draw(axes)

    def _subtitle(self, local: bool) -> list[str]:
        sent = self.found.sent
        answered = [p.rtt_ns for p in sent if p.rtt_ns is not None]
        dead = sum(p.timed_out_ns is not None for p in sent)
        unknown = len(sent) - len(answered) - dead
        who = len({p.who for p in sent})
        return [
            f"{count(len(sent), 'ping')} of {count(who, 'connection' if self.found.captured else 'transport')}",
            *([f"{len(answered):,} answered, median {seconds(int(np.median(answered)))}"] if answered else []),
            *([f"{dead:,} timed out"] if dead else []), *([f"{unknown:,} neither"] if unknown else []),
            f"{stamp(self.start, 0, local)} to {stamp(self.end, 0, local)}",
        ]  # fmt: skip

    def _keys(self) -> list[Key]:
        sent, theme = self.found.sent, self.theme
        keys = (
            [Key("answered", colour=theme.good, marker="o", line=False)]
            if any(p.rtt_ns is not None for p in sent)
            else []
        )
        if any(p.timed_out_ns is not None for p in sent):
            keys.append(Key("timed out", colour=theme.error, marker="X", line=False))
        if any(p.late_ns is not None for p in sent):
            keys.append(Key("answer after the timeout", colour=theme.good, marker="D", line=False, hollow=True))
        if any(p.timeout_ns for p in sent):
            keys.append(Key("configured timeout", colour=theme.warning, dashed=True))
        if self.late:
            keys.append(Key("overshoot", fill=theme.tint(theme.error, 0.6)))
        if self._frozen():
            keys.append(Key("frozen", hatched=True))
        return keys

    def _frozen(self) -> list[tuple[int, int]]:
        story = self.trace.story
        mine = {p.who for p in self.found.sent}
        environments = {t.environment for t in story.transports if t.id in mine}
        if not 0 < len(environments) <= MOST_FROZEN:
            return []
        spans = [(z.start_ns, z.end_ns) for z in story.freezes if z.environment in environments]
        return [(max(a, self.start), min(b, self.end)) for a, b in spans if a < self.end and b > self.start]

    def _x(self, ns: int) -> float:
        return (ns - self.start) / SECOND

    def _freezes(self) -> None:
        for axes in self.diagram.axes:
            for a, b in self._frozen():
                style: dict[str, Any] = {
                    "hatch": "////",
                    "edgecolor": self.theme.hatch,
                    "linewidth": 0,
                    "zorder": 0.6,
                    "gid": "freeze",
                }
                axes.axvspan(self._x(a), self._x(b), facecolor=self.theme.freeze, **style)

    def _log(self, axes: Axes, values: list[int]) -> None:
        """A logarithmic upright axis of durations, in ms, with room on both sides."""
        low, high = min(values) / 2.5, max(values) * 4
        axes.set_yscale("log")
        axes.set_ylim(low / MS, high / MS)
        duration_ticks(axes.yaxis, low, high, MS, most=6)

    def _answers(self, axes: Axes) -> None:
        answered = [(p.sent_ns, p.rtt_ns) for p in self.found.sent if p.rtt_ns is not None]
        dead = [(max(p.timed_out_ns - p.sent_ns, LEAST_NS), p) for p in self.found.sent if p.timed_out_ns is not None]
        limits = sorted({p.timeout_ns for p in self.found.sent if p.timeout_ns})
        values = [max(rtt, LEAST_NS) for _, rtt in answered] + [wall for wall, _ in dead] + limits
        self._log(axes, values or [SECOND])
        self._dots(axes, [(t, max(v, LEAST_NS)) for t, v in answered], self.theme.good, "o", 3.6, "ping-acked")
        self._dots(axes, [(p.sent_ns, wall) for wall, p in dead], self.theme.error, "X", 6.5, "ping-timeout")
        late = [(p.sent_ns, max(p.late_ns - p.sent_ns, LEAST_NS)) for _, p in dead if p.late_ns is not None]
        self._dots(
            axes,
            late,
            self.theme.good,
            "D",
            5,
            "ping-late",
            markerfacecolor="none",
            markeredgewidth=1,
            markeredgecolor=self.theme.good,
        )
        for limit in limits:
            axes.axhline(limit / MS, color=self.theme.warning, linewidth=0.9, linestyle=(0, (4, 2)), gid="timeout")
        self._say(axes, dead)
        self.diagram.name(axes, y="to the answer, or given up")

    def _say(self, axes: Axes, dead: list[tuple[int, Sent]]) -> None:
        """Beside a timeout what it took, and how much of that the process ran, where there is room."""
        pen = Pen(axes, self.theme, self.diagram.pen.scale)
        inches = self.diagram.inner / max(axes.get_xlim()[1] - axes.get_xlim()[0], 1e-9)
        shelf = Shelf(1, 0.0, self.diagram.inner)
        for wall, p in dead:
            text = f"after {seconds(wall)}" + (f", ran {seconds(p.ran_ns)}" if p.ran_ns is not None else "")
            wide, at = text_width(text), (self._x(p.sent_ns) - axes.get_xlim()[0]) * inches
            left = at + 0.09 if at + 0.09 + wide < self.diagram.inner else at - 0.09 - wide
            if shelf.place(left, wide) is not None:
                pen.text(left / inches + axes.get_xlim()[0], wall * ABOVE / MS, text, self.theme.error, gid="ping-text")

    def _intervals(self, axes: Axes) -> None:
        found = self.found.intervals
        self._log(axes, [max(v, MS) for _, v in found])
        self._dots(axes, [(t, max(v, MS)) for t, v in found], self.theme.data, "s", 3.2, "ping-interval")
        self.diagram.name(axes, y="since the one before")

    def _overshoots(self, axes: Axes) -> None:
        values = [max(p.overshoot_ns or 0, 0) for p in self.late]
        high = max(*values, 2 * MS) * 1.15 / SECOND
        axes.set_ylim(0, high)
        second_ticks(axes.yaxis, high, 5)
        places = [self._x(p.sent_ns) for p in self.late]
        fill = self.theme.tint(self.theme.error, 0.6)
        axes.vlines(places, 0, [v / SECOND for v in values], colors=fill, linewidth=3, gid="overshoot")
        axes.plot(places, [v / SECOND for v in values], "_", color=self.theme.error, markersize=7, markeredgewidth=1.5)
        self.diagram.name(axes, y="timeout too late by")

    def _dots(
        self, axes: Axes, places: list[tuple[int, int]], colour: str, marker: str, size: float, gid: str, **style: Any
    ) -> None:
        """Dots; those that fall on one spot once."""
        if not places:
            return
        inches = self.diagram.inner / max((self.end - self.start) / SECOND, 1e-9)
        spots = sorted(
            {
                (grain(self._x(t) * inches) / inches, float(f"{v / MS:.2g}") if len(places) > 2_000 else v / MS)
                for t, v in places
            }
        )
        plain: dict[str, Any] = {
            "markeredgewidth": 0,
            "linestyle": "none",
            "color": colour,
            "zorder": 4,
            "clip_on": False,
        }
        axes.plot(
            [x for x, _ in spots], [y for _, y in spots], marker=marker, markersize=size, gid=gid, **(plain | style)
        )
