"""A connection, an environment or a request as a picture: every source in its lane, one time axis, silence cut out and said so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

from analyzer.model.times import seconds
from analyzer.plot import lanes as ln
from analyzer.plot.canvas import SETTINGS, SMALL, fit, page, write
from analyzer.plot.head import INSET, head_height, headlines, write_head
from analyzer.plot.packets import Conversation
from analyzer.plot.pen import Pen, grain, legend, legend_rows
from analyzer.plot.scale import Scale, ticks
from analyzer.plot.scene import Scene, scene
from analyzer.plot.theme import DARK, LIGHT, Theme
from analyzer.trace import time_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analyzer.trace import Trace

#: Inches, unless the caller says otherwise: a landscape page, or a notebook's cell.
WIDTH = 13.0
LEAST_WIDTH = 7.0
LEFT, RIGHT = 1.12, 0.2
#: Between two lanes.
GAP = 0.05


def timeline(
    trace: Trace,
    name: str,
    *,
    dark: bool = False,
    width: float = WIDTH,
    since: int | str | None = None,
    until: int | str | None = None,
    local: bool = False,
) -> Figure:
    """Draw everything that the sources say about a connection, an execution environment or a request.

    `name` is a connection (`C1`, or the client's `ip:port`), an environment (its id, or a part that only it has) or a request
    id (or its beginning); `width` is in inches (at least 7), the height follows; `since` and `until` (ISO 8601, or ns since the
    epoch) cut out a part; `local` says its times in this machine's zone. The x axis counts seconds; silences of a second and more that would fill a tenth of it are cut out,
    and each stretch between two cuts has a scale of its own, linear inside. Of an environment's connections the four that
    matter most are drawn with their packets, the others as lines. Returns a matplotlib Figure that needs no pyplot: it shows
    itself in a notebook; `figure.savefig("c1.svg")` writes it, the same bytes every time.

    Raises `KeyError` where nothing is called so, `ValueError` where there is nothing to draw.
    """
    found = scene(trace, name, time_of("since", since), time_of("until", until), local)
    with mpl.rc_context(SETTINGS):
        return _figure(found, DARK if dark else LIGHT, max(width, LEAST_WIDTH))


def _figure(found: Scene, theme: Theme, width: float) -> Figure:
    """Lay out, then draw."""
    scale = Scale(found.marks(), width - LEFT - RIGHT)
    chosen = _lanes(found, scale)
    keys = legend_rows([key for lane in chosen for key in lane.keys(theme)], scale.width)
    lines = headlines(found.findings, named=not found.alone)
    head = head_height(lines) + (0.3 if scale.breaks else 0.16)
    height = head + sum(lane.height for lane in chosen) + GAP * (len(chosen) - 1) + 0.6 + 0.19 * len(keys)
    figure, axes = page(width, height, LEFT, theme.page)
    pen = Pen(axes, theme, scale)
    left = INSET - LEFT
    write_head(axes, theme, left, scale.width - left, found.title, found.subtitle, lines)
    bottom = _draw_lanes(pen, found, chosen, head)
    _breaks(pen, head, bottom)
    _axis(pen, found, bottom)
    legend(pen, keys, bottom + 0.56)
    return figure


def _lanes(found: Scene, scale: Scale) -> list[ln.Lane]:
    drawn = {track.name for track in found.tracks}
    unseen = [t for t in found.transports if t.connection not in drawn]
    slim = len(found.tracks) + len(found.lives) > 1 or not found.alone
    chosen: list[ln.Lane] = []
    if found.invocations:
        chosen.append(ln.Invocations(found, scale))
    if found.pings:
        chosen.append(ln.Pings(found))
    if found.calls:
        chosen.append(ln.Calls(found, scale))
    chosen += [Conversation(found, track, scale, slim) for track in found.tracks]
    if found.lives:
        chosen.append(ln.Lives(found, scale))
    if unseen:
        chosen.append(ln.Transports(found, scale, unseen))
    if found.events:
        chosen.append(ln.Log(found, scale))
    if found.findings:
        chosen.append(ln.Findings(found, scale))
    return chosen


# ---- the lanes and what runs through them


def _draw_lanes(pen: Pen, found: Scene, chosen: list[ln.Lane], top: float) -> float:
    y = top
    theme = pen.theme
    tops = []
    for lane in chosen:
        tops.append(y)
        pen.box(0, pen.scale.width, y, y + lane.height, theme.lane, zorder=0.5)
        y += lane.height + GAP
    bottom = y - GAP
    ends = [(pen.scale.x(z.start_ns), pen.scale.x(z.end_ns)) for z in found.freezes]
    pen.freezes([(grain(x0), grain(x1), top, bottom) for x0, x1 in ends])
    for f in found.findings:
        x = pen.scale.x(f.time_ns)
        pen.lines(
            [[(x, top), (x, bottom)]],
            str(getattr(theme, f.severity.word)),
            linewidths=0.8,
            linestyles=(0, (4, 2)),
            zorder=2.8,
        )
    for lane, y0 in zip(chosen, tops, strict=True):
        lane.draw(pen, y0)
        if not isinstance(lane, Conversation):
            write(pen.axes, -0.06, y0 + lane.height / 2, lane.name, ha="right", color=theme.ink, fontsize=SMALL)
    return bottom


def _breaks(pen: Pen, top: float, bottom: float) -> None:
    """A white cut with wavy borders through all lanes, and above it how much time is missing."""
    for b in pen.scale.breaks:
        middle = (b.x0 + b.x1) / 2
        wave = [
            (0.018 if n % 2 else -0.018, top - 0.03 + n * 0.06) for n in range(int((bottom - top + 0.06) / 0.06) + 1)
        ]
        left = [(middle - 0.028 + dx, y) for dx, y in wave]
        right = [(middle + 0.028 + dx, y) for dx, y in wave]
        pen.axes.fill(
            [p[0] for p in left + right[::-1]],
            [p[1] for p in left + right[::-1]],
            color=pen.theme.page,
            lw=0,
            zorder=5.8,
        )
        pen.lines([left, right], pen.theme.dim, linewidths=0.6, zorder=5.9, gid="break")
        write(
            pen.axes, middle, top - 0.11, f"⋮{_brief(b.length_ns)}", ha="center", color=pen.theme.ink, gid="break-label"
        )


def _brief(ns: int) -> str:
    value = ns / 1e9
    return f"{value:.3g} s" if value < 100 else seconds(ns)


def _axis(pen: Pen, found: Scene, bottom: float) -> None:
    for s in pen.scale.stretches:
        pen.lines([[(s.x0, bottom + 0.04), (s.x1, bottom + 0.04)]], pen.theme.ink, linewidths=0.8)
    for tick in ticks(pen.scale, found.zero_ns):
        pen.lines([[(tick.x, bottom + 0.04), (tick.x, bottom + 0.09)]], pen.theme.ink, linewidths=0.8)
        write(pen.axes, tick.x, bottom + 0.18, tick.label, ha="center", color=pen.theme.ink)
    note = f"seconds since {found.zero}"
    if pen.scale.breaks:
        note += "; ⋮ silence left out, each stretch between has its own scale"
    write(pen.axes, pen.scale.width / 2, bottom + 0.37, fit(note, pen.scale.width), ha="center", color=pen.theme.dim)
