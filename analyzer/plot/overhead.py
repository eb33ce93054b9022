"""What a new connection costs before the first byte of an answer, against a request on one that is open already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from msgspec import Struct, field

from analyzer.capture import columns as col
from analyzer.model.times import MS, seconds
from analyzer.plot.canvas import SETTINGS, SMALL, count, write
from analyzer.plot.chart import LEAST_WIDTH, WIDTH, Diagram, duration_ticks, ticks_at
from analyzer.plot.head import headlines
from analyzer.plot.lives import lives
from analyzer.plot.theme import BLUE, DARK, GREEN, LIGHT, ORANGE, PURPLE, Theme

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from analyzer.tcp.segments import Segment
    from analyzer.trace import Trace

#: Packets that are looked at; where there are more, connections evenly spaced.
MOST_PACKETS = 250_000
#: Points of a curve.
MOST_POINTS = 500
PERCENTILES = (50, 90, 99)
#: What is measured: words, colour, dashed for what is only a part.
PARTS = {
    "tcp": ("TCP handshake: SYN to established", BLUE, True),
    "tls": ("TLS handshake: ClientHello to the first request", PURPLE, True),
    "new": ("new connection: SYN to the first byte of the answer", ORANGE, False),
    "reused": ("open connection: request to the first byte of the answer", GREEN, False),
}
#: Of a segment that it asks for nothing an application waits for.
CONTROL = col.M_PING | col.M_PING_ACK
#: Height of a row of the table, in inches.
ROW = 0.2


class Overhead(Struct):
    """Durations in ns by part (keys of `PARTS`), of `looked` of `all` connections to one server, where `measured` saw them."""

    server: str
    measured: str
    looked: int
    all: int
    times: dict[str, list[int]] = field(default_factory=lambda: {part: [] for part in PARTS})


def overhead(trace: Trace, *, server: str | None = None, dark: bool = False, width: float = WIDTH) -> Figure:
    """Draw how long it takes to the first byte of an answer, on new connections and on open ones, as percentiles.

    Of a new connection the handshakes are drawn too, TLS where it is seen. An answer is the server's first payload after a
    request; HTTP/2 control frames are no requests. `server` is an `ip:port` of the connection table, by default the one with
    most connections. Times are those of the capture nearest the client: one at the server lacks a round trip, of both kinds
    alike. `width` is in inches (at least 6).

    Raises `KeyError` for an unknown server, `ValueError` where no connection was both opened and answered.
    """
    found = overhead_of(trace, server)
    with mpl.rc_context(SETTINGS):
        return _Picture(trace, found, DARK if dark else LIGHT, max(width, LEAST_WIDTH)).diagram.figure


def overhead_of(trace: Trace, server: str | None = None) -> Overhead:
    """The durations; raises as `overhead`."""
    cs = trace.story.connections
    nothing = ValueError("overhead is drawn of a capture with connections that were opened and answered: there is none")
    if not len(cs):
        raise nothing
    known = lives(trace.story)
    number = known.server_number(server)
    mine = np.flatnonzero((known.server == number) & known.accepted)
    looked = known.affordable(mine, MOST_PACKETS)
    near = cs.points[cs.nearness[0]].source
    found = Overhead(known.servers[number], near.label, len(looked), len(mine))
    for k in cs.loaded(known.ks[looked].tolist()):
        point = cs.seen_at(k)[0]
        seen = [(place.time_ns, s) for s in cs.segments(k) if (place := s.at(point))]
        for part, ns in durations(sorted(seen, key=lambda pair: pair[0])):
            found.times[part].append(ns)
    if not found.times["new"] and not found.times["reused"]:
        raise nothing
    return found


def durations(seen: list[tuple[int, Segment]]) -> Iterator[tuple[str, int]]:
    """(part, ns) of one connection's segments as one capture saw them, in order of time."""
    opened = next((t for t, s in seen if s.syn and s.from_client), None)
    accepted = any(s.syn and not s.from_client for _, s in seen)
    settled = next((t for t, s in seen if s.from_client and not s.syn), None) if accepted else None
    hello = next((t for t, s in seen if s.from_client and s.marks & col.M_TLS_CLIENT_HELLO), None)
    if opened is not None and settled is not None:
        yield "tcp", settled - opened
    first = True
    asked: int | None = None
    for t, s in seen:
        if not s.payload or s.retransmitted:
            continue
        if s.from_client and asked is None and _asks(s, hello is not None):
            asked = t
            if first and hello is not None:
                yield "tls", t - hello
        elif not s.from_client and asked is not None:
            if not first:
                yield "reused", t - asked
            elif opened is not None:
                yield "new", t - opened
            first, asked = False, None


def _asks(s: Segment, tls: bool) -> bool:
    """Whether a payload of the client is a request, as far as its markers tell."""
    if s.marks & col.M_H2 and not s.marks & col.M_H2_HEADERS:
        return False
    return not s.marks & CONTROL and (not tls or bool(s.marks & col.M_TLS_DATA))


def percentile(times: NDArray[np.int64], p: int) -> int:
    """The smallest value that p percent do not exceed, ns."""
    return int(np.percentile(times, p, method="inverted_cdf"))


def _told(times: NDArray[np.int64], p: int) -> str:
    """In words; nothing where there are too few for it to be more than the largest."""
    return seconds(percentile(times, p)) if len(times) * (100 - p) >= 100 or p == 50 else "–"


class _Picture:
    """The page with everything on it."""

    def __init__(self, trace: Trace, found: Overhead, theme: Theme, width: float) -> None:
        self.found, self.theme = found, theme
        self.parts = {part: np.sort(np.array(times)) for part, times in found.times.items() if times}
        lines = headlines([f for f in trace.findings if f.rule == "L503"])
        notes = [f"as captured at {found.measured}; a capture at the server lacks one round trip of both kinds"]
        if found.looked < found.all:
            notes.append(f"of {found.looked:,} of {count(found.all, 'connection')}, evenly spaced")
        if "reused" not in self.parts:
            notes.append("no connection had a second request: there is no reuse to compare with")
        heights = [2.6, ROW * (len(self.parts) + 1)]
        title = f"overhead of connections to {found.server}"
        self.diagram = Diagram(theme, width, heights, title, self._subtitle(), lines, [], notes, gap=0.6, below=0.15)
        curves, table = self.diagram.axes
        self._curves(curves)
        self._table(table)

    def _subtitle(self) -> list[str]:
        new, reused = (self.parts.get(part) for part in ("new", "reused"))
        told = []
        if new is not None:
            told.append(f"{count(len(new), 'new connection')}: median {seconds(percentile(new, 50))} to the first byte")
        if reused is not None:
            told.append(f"{count(len(reused), 'request')} on open ones: median {seconds(percentile(reused, 50))}")
        if new is not None and reused is not None:
            told.append(
                f"a connection for each request costs {seconds(max(percentile(new, 50) - percentile(reused, 50), 0))} more"
            )
        return told

    def _curves(self, axes: Axes) -> None:
        """How many percent were answered within a time."""
        every = np.concatenate(list(self.parts.values()))
        low, high = max(every.min(), 1000) / 1.5, max(every.max(), 2000) * 1.5
        axes.set_xscale("log")
        axes.set_xlim(low / MS, high / MS)
        axes.set_ylim(0, 103)
        duration_ticks(axes.xaxis, low, high, MS)
        ticks_at(axes.yaxis, [0, 25, 50, 75, 90, 99], ["0 %", "25 %", "50 %", "75 %", "90 %", "99 %"])
        for part, times in self.parts.items():
            _, hue, dashed = PARTS[part]
            shares = np.linspace(0, 100, min(len(times), MOST_POINTS) + 1)
            at = np.maximum(np.percentile(times, shares, method="inverted_cdf"), 1000) / MS
            style: dict[str, Any] = {
                "linestyle": (0, (3, 2)) if dashed else "solid",
                "linewidth": 1.2 if dashed else 2.0,
            }
            axes.step(at, shares, where="post", color=hue, gid=f"curve-{part}", **style)
        self.diagram.name(axes, x="within", y="share")

    def _table(self, axes: Axes) -> None:
        """Number and percentiles of each curve, beside its colour."""
        axes.axis("off")
        axes.set_xlim(0, self.diagram.inner)
        axes.set_ylim(len(self.parts) + 1, 0)
        columns = [self.diagram.inner - 0.8 * n for n in range(len(PERCENTILES), -1, -1)]
        heads = ["number", *(f"p{p}" if p != 50 else "median" for p in PERCENTILES)]
        for x, head in zip(columns, heads, strict=True):
            write(axes, x, 0.5, head, ha="right", color=self.theme.dim, fontsize=SMALL)
        for row, (part, times) in enumerate(self.parts.items(), 1):
            words, hue, dashed = PARTS[part]
            y = row + 0.5
            axes.plot(
                [0, 0.26],
                [y, y],
                color=hue,
                linewidth=1.2 if dashed else 2.0,
                linestyle=(0, (3, 2)) if dashed else "solid",
            )
            write(axes, 0.36, y, words, color=self.theme.ink, fontsize=SMALL, gid="part")
            told = [f"{len(times):,}", *(_told(times, p) for p in PERCENTILES)]
            for x, text in zip(columns, told, strict=True):
                write(axes, x, y, text, ha="right", color=self.theme.ink, fontsize=SMALL, gid=f"value-{part}")
