"""All environments at a glance: one row each, with its invocations, freezes, connections and failures.

Works from one environment to thousands: where rows get too low, neighbours share one, and the picture says how many; what falls
on one spot of a row is drawn once, so that a picture costs what its page can show.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from msgspec import Struct

from analyzer.model.times import SECOND, seconds, stamp
from analyzer.plot.canvas import SETTINGS, Shelf, clean, count, fit, text_width, write
from analyzer.plot.chart import LEAST_WIDTH, Diagram, time_axis
from analyzer.plot.head import tallies
from analyzer.plot.lives import Lives, lives
from analyzer.plot.pen import HATCH, Key, Pen
from analyzer.plot.theme import DARK, ENDINGS, LIGHT, Theme

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from analyzer.model.findings import Finding
    from analyzer.trace import Trace

WIDTH = 13.0
LEFT = 1.25
#: Heights of a row in inches: the usual one, the least, and of all rows together at most.
ROW, LEAST_ROW, MOST_HEIGHT = 0.27, 0.05, 8.0
#: Lower rows have no names.
NAMED_ROW = 0.13
#: Spots an inch: what falls on one is drawn once.
SPOTS = 200
#: Connections side by side in one row; above so many of them, all of a row lie on one line.
TRACKS = 3
MOST_TRACKED = 20_000
#: How a finding is marked, by severity: shape, size.
MARKS = {"error": ("X", 6.0), "warning": ("v", 5.0), "info": ("o", 4.0)}


class Spans(Struct):
    """Things that last for a while: the row of each, from when to when, and on which of the row's tracks."""

    row: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    track: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)


class Fleet(Struct):
    """What is drawn: `names` of the rows, environments by their first sign of life, then clients of whom nothing else is known.

    `connections` are by ending (as in `ENDINGS`); `marks` are (row, ns, finding), in row −1 where a finding is about no row.
    """

    names: list[str]
    environments: int
    invocations: Spans
    failed: Spans
    freezes: Spans
    connections: dict[str, Spans]
    marks: list[tuple[int, int, Finding]] = []
    notes: list[str] = []

    @property
    def times(self) -> NDArray[np.int64]:
        """All times at which something is drawn."""
        spans = [self.invocations, self.failed, self.freezes, *self.connections.values()]
        marks = np.array([t for _, t, _ in self.marks], np.int64)
        return np.concatenate([*(s.start_ns for s in spans), *(s.end_ns for s in spans), marks])


def fleet(trace: Trace, *, dark: bool = False, width: float = WIDTH, local: bool = False) -> Figure:
    """Draw one row for each execution environment: when it was invoked and frozen, its connections, its failures.

    Connections whose environment is unknown get a row for each client address. `width` is in inches (at least 6); the height
    grows with the rows up to some ten inches, from where on neighbours share a row, which is said. The axis is the reference
    clock, in UTC or (`local`) in this machine's zone.

    Raises `ValueError` where the trace has neither environments nor connections.
    """
    found = fleet_of(trace)
    with mpl.rc_context(SETTINGS):
        return _Picture(trace, found, DARK if dark else LIGHT, max(width, LEAST_WIDTH), local).diagram.figure


# ---- what is drawn


def fleet_of(trace: Trace) -> Fleet:
    """The rows and what lies in them; raises as `fleet`."""
    story = trace.story
    by_log = [e.id for e in sorted(story.environments, key=lambda e: (e.first_ns or 0, e.id))]
    drawn = len(story.connections) > 0 and (story.aligned or not by_log)
    known = lives(story) if drawn else None
    row_of = {name: row for row, name in enumerate(by_log)}
    owner, strangers = _owners(trace, known, row_of)
    invoked = [(row_of[i.environment], i.start_ns, i.end_ns or i.start_ns, i.status) for i in story.invocations]
    bad = ("error", "timeout", "crash")
    found = Fleet(
        [*by_log, *strangers], len(by_log),
        _spans(i[:3] for i in invoked if i[3] not in bad), _spans(i[:3] for i in invoked if i[3] in bad),
        _spans((row_of[z.environment], z.start_ns, z.end_ns) for z in story.freezes if z.environment in row_of),
        _connections(known, owner),
    )  # fmt: skip
    for f in trace.findings:
        row = row_of.get(f.environment or "", -1)
        if row < 0 and f.connection and known is not None:
            at = np.searchsorted(known.ks, trace.index(f.connection))
            row = int(owner[at]) if at < len(owner) and known.ks[at] == trace.index(f.connection) else -1
        found.marks.append((row, f.time_ns, f))
    if not len(found.times):
        raise ValueError("a fleet is drawn of environments and connections: this trace has neither")
    if len(story.connections) and not drawn:
        found.notes.append("connections are not drawn: log and packets could not be aligned")
    return found


def _owners(trace: Trace, known: Lives | None, row_of: dict[str, int]) -> tuple[NDArray[np.int64], list[str]]:
    """The row of each connection, and the names of the rows that clients without an environment need."""
    if known is None:
        return np.empty(0, np.int64), []
    environment = trace.story.connections.environment
    owner = np.array([row_of.get(environment.get(k, ""), -1) for k in known.ks.tolist()], np.int64)
    lost = np.flatnonzero(owner < 0)
    clients, first = np.unique(known.client[lost], return_index=True)
    clients = clients[np.argsort(first, kind="stable")]  # connections are in order of time
    place = np.zeros(len(known.clients), np.int64)
    place[clients] = len(row_of) + np.arange(len(clients))
    owner[lost] = place[known.client[lost]]
    return owner, [known.clients[c] for c in clients.tolist()]


def _connections(known: Lives | None, owner: NDArray[np.int64]) -> dict[str, Spans]:
    if known is None:
        return {}
    track = (
        _tracks(owner, known.first_ns, known.end_ns) if len(known) <= MOST_TRACKED else np.zeros(len(known), np.int64)
    )
    found = {}
    for kind, name in enumerate(ENDINGS):
        mine = known.kind == kind
        if mine.any():
            found[name] = Spans(owner[mine], known.first_ns[mine], known.end_ns[mine], track[mine])
    return found


def _tracks(owner: NDArray[np.int64], start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each connection the first track of its row that is free, else the last."""
    tracks = np.zeros(len(owner), np.int64)
    busy: dict[int, list[int]] = {}
    for n in np.lexsort((start, owner)).tolist():
        ends = busy.setdefault(int(owner[n]), [-1] * TRACKS)
        free = next((t for t, until in enumerate(ends) if until <= start[n]), TRACKS - 1)
        ends[free] = max(ends[free], int(end[n]))
        tracks[n] = free
    return tracks


def _spans(rows: Iterable[tuple[int, int, int]]) -> Spans:
    table = np.array(list(rows), np.int64).reshape(-1, 3)
    return Spans(table[:, 0], table[:, 1], table[:, 2], np.zeros(len(table), np.int64))


def merged(
    row: NDArray[np.int64], x0: NDArray[np.int64], x1: NDArray[np.int64], rows: int, columns: int, least: int = 1
) -> list[tuple[int, int, int]]:
    """Spans of spots, joined where they touch: (row, first spot, spot after the last), in order; each at least `least` spots."""
    edges = np.zeros((rows, columns + least + 1), np.int32)
    np.add.at(edges, (row, x0), 1)
    np.add.at(edges, (row, np.maximum(x1, x0 + least)), -1)
    inside = np.zeros((rows, columns + least + 2), np.int8)
    inside[:, 1:] = np.cumsum(edges, axis=1) > 0
    change = np.diff(inside, axis=1)
    begins, ends = np.argwhere(change > 0), np.argwhere(change < 0)
    return [(r, a, b) for (r, a), b in zip(begins.tolist(), ends[:, 1].tolist(), strict=True)]


# ---- the picture


class _Picture:
    """The page with everything on it: x counts seconds, y inches downwards."""

    def __init__(self, trace: Trace, found: Fleet, theme: Theme, width: float, local: bool = False) -> None:
        self.found, self.theme = found, theme
        times = found.times
        self.start, self.end = int(times.min()), int(times.max())
        lane = any(row < 0 for row, _, _ in found.marks)
        rows = len(found.names) + lane
        self.row = min(max(MOST_HEIGHT / rows, LEAST_ROW), ROW)
        self.shared = max(math.ceil(rows * LEAST_ROW / MOST_HEIGHT), 1)
        self.lane = int(lane)
        self.rows = -(-len(found.names) // self.shared) + self.lane
        high = self.rows * self.row
        title, subtitle = _words(trace, found, self.start, self.end, local)
        notes = list(found.notes)
        if self.shared > 1:
            notes.insert(0, f"each row is {self.shared} neighbours, in order of their first sign of life")
        lines = tallies(trace.findings)
        self.diagram = Diagram(
            theme, width, [high], title, subtitle, lines, self._keys(), notes, left=LEFT, local=local
        )
        self.axes = self.diagram.axes[0]
        self.pen = Pen(self.axes, theme, self.diagram.pen.scale)
        time_axis(self.diagram, self.start, self.end)
        self.axes.set_ylim(high, 0)
        self.axes.set_yticks([])
        self.axes.grid(False, axis="y")
        self._draw()

    def _keys(self) -> list[Key]:
        found, theme = self.found, self.theme
        keys = [Key("invocation", fill=theme.invocation)] if len(found.invocations) else []
        keys += [Key("invocation failed", fill=theme.error)] if len(found.failed) else []
        keys += [Key("frozen", fill=theme.freeze, hatched=self.row >= NAMED_ROW)] if len(found.freezes) else []
        keys += [Key(ENDINGS[kind].label, colour=ENDINGS[kind].hue(theme)) for kind in found.connections]
        severities = {f.severity.word for _, _, f in found.marks}
        keys += [
            Key(f"finding: {word}", colour=str(getattr(theme, word)), marker=marker, line=False)
            for word, (marker, _) in MARKS.items() if word in severities
        ]  # fmt: skip
        return keys

    def _draw(self) -> None:
        self.axes.set_facecolor(self.theme.page)
        lanes = [(*self.axes.get_xlim(), n * self.row, (n + 0.92) * self.row) for n in range(self.rows)]
        self.pen.boxes(lanes, self.theme.lane, zorder=0.5)
        hatched: dict[str, Any] = {"hatch": HATCH, "edgecolor": self.theme.hatch} if self.row >= NAMED_ROW else {}
        self._layer(self.found.freezes, 0.0, 0.92, self.theme.freeze, zorder=1, gid="freeze", **hatched)
        self._layer(self.found.invocations, 0.06, 0.5, self.theme.invocation, least=3, zorder=3, gid="invocation")
        self._layer(self.found.failed, 0.0, 0.56, self.theme.error, least=6, zorder=3.1, gid="invocation-failed")
        for kind, spans in self.found.connections.items():
            for track in range(TRACKS):
                mine = spans.track == track
                part = Spans(spans.row[mine], spans.start_ns[mine], spans.end_ns[mine], spans.track[mine])
                y = 0.58 + 0.12 * track
                self._layer(part, y, y + 0.08, ENDINGS[kind].hue(self.theme), zorder=3.2, gid=f"connections-{kind}")
        self._names()
        self._marks()

    def _layer(self, spans: Spans, y0: float, y1: float, fill: str, least: int = 1, **style: Any) -> None:
        """Boxes between two heights of their row, given as shares of it."""
        columns = int(self.diagram.inner * SPOTS)
        scale = columns / max(self.end - self.start, 1)
        x0, x1 = (np.rint((t - self.start) * scale).astype(np.int64) for t in (spans.start_ns, spans.end_ns))
        joined = merged(spans.row // self.shared + self.lane, x0, x1, self.rows, columns, least)
        second = 1 / scale / SECOND
        boxes = [(a * second, b * second, (r + y0) * self.row, (r + y1) * self.row) for r, a, b in joined]
        self.pen.boxes(boxes, fill, **style)

    def _names(self) -> None:
        if self.row < NAMED_ROW or self.shared > 1:
            return
        names = ["all"] * self.lane + [_short(name) for name in self.found.names]
        for n, name in enumerate(names):
            y = self.diagram.spans[0][0] + (n + 0.46) * self.row
            text = fit(clean(name), LEFT - 0.2)
            write(self.diagram.pen.axes, LEFT - 0.06, y, text, ha="right", color=self.theme.ink, gid="environment")

    def _marks(self) -> None:
        """Findings in their rows, with their codes where there is room."""
        shelves: dict[int, Shelf] = {}
        inches = self.diagram.inner / max((self.end - self.start) / SECOND * 1.02, 1e-9)
        for word, (marker, size) in MARKS.items():
            mine = [
                (self._row(row), (t - self.start) / SECOND, f)
                for row, t, f in self.found.marks
                if f.severity.word == word
            ]
            colour = str(getattr(self.theme, word))
            spots = sorted({(row, round(x * inches * 20) / inches / 20) for row, x, _ in mine})
            ys = [(row + 0.3) * self.row for row, _ in spots]
            style = {"zorder": 6, "markeredgecolor": self.theme.page, "markeredgewidth": 0.6, "gid": f"finding-{word}"}
            self.pen.marks(
                [x for _, x in spots], ys, colour, marker, size if self.row >= NAMED_ROW else size * 0.6, **style
            )
            for row, x, f in mine if self.row >= NAMED_ROW and self.shared == 1 else ():
                shelf = shelves.setdefault(row, Shelf(1, 0.0, self.diagram.inner))
                if shelf.place(x * inches + 0.07, text_width(f.rule)) is not None:
                    self.pen.text(x + 0.07 / inches, (row + 0.3) * self.row, f.rule, colour, gid="finding-text")

    def _row(self, row: int) -> int:
        return row // self.shared + self.lane if row >= 0 else 0


def _words(trace: Trace, found: Fleet, start: int, end: int, local: bool) -> tuple[str, list[str]]:
    clients = len(found.names) - found.environments
    named = [count(found.environments, "environment")] if found.environments else []
    title = " and ".join(named + ([count(clients, "client")] if clients else []))
    invoked = len(found.invocations) + len(found.failed)
    frozen = int((found.freezes.end_ns - found.freezes.start_ns).sum())
    connections = sum(map(len, found.connections.values()))
    subtitle = [
        *(
            [count(invoked, "invocation") + (f", {len(found.failed):,} failed" if len(found.failed) else "")]
            if invoked
            else []
        ),
        *([f"frozen {seconds(frozen)} in all"] if frozen else []),
        *([count(connections, "connection")] if connections else []),
        *([count(len(trace.findings), "finding")] if trace.findings else []),
        f"{stamp(start, 0, local)} to {stamp(end, 0, local)}",
    ]
    return title, subtitle


def _short(name: str) -> str:
    """What tells a log stream apart from its neighbours: the beginning of its hash."""
    stem = name.rpartition("]")[2]
    return f"{stem[:10]}…" if len(stem) == 32 else name
