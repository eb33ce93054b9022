"""One connection as a picture: every source in its lane, one time axis, silence cut out and said so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.lines import Line2D

from analyzer.model.times import MS, iso, seconds
from analyzer.plot import lanes as ln
from analyzer.plot.canvas import LARGE, NORMAL, SETTINGS, SMALL, clean, fit, page, text_width, write
from analyzer.plot.scale import Scale, ticks
from analyzer.plot.scene import Scene, scene
from analyzer.plot.theme import DARK, LIGHT, Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analyzer.trace import Trace

#: Inches, unless the caller says otherwise: a landscape page, or a notebook's cell.
WIDTH = 13.0
LEAST_WIDTH = 7.0
LEFT, RIGHT = 1.12, 0.2
#: Between two lanes.
GAP = 0.05
#: Headlines of findings above the plot; the rest is counted.
HEADLINES = 4


def timeline(trace: Trace, connection: str, *, dark: bool = False, width: float = WIDTH) -> Figure:
    """Draw everything that the sources say about one connection.

    `connection` is an id (`C1`) or the client's `ip:port`; `width` is in inches (at least 7), the height follows. The x axis
    counts seconds since the connection's first packet; silences of a second and more that would fill a tenth of it are cut out,
    and each stretch between two cuts has a scale of its own, linear inside. Returns a matplotlib Figure that needs no pyplot:
    it shows itself in a notebook; `figure.savefig("c1.svg")` writes it, the same bytes every time.

    Raises `KeyError` for an unknown connection.
    """
    found = scene(trace, connection)
    with mpl.rc_context(SETTINGS):
        return _figure(found, DARK if dark else LIGHT, max(width, LEAST_WIDTH))


def _figure(found: Scene, theme: Theme, width: float) -> Figure:
    """Lay out, then draw."""
    scale = Scale(found.marks(), width - LEFT - RIGHT)
    chosen = _lanes(found, scale)
    keys = _legend_rows([key for lane in chosen for key in lane.keys(theme)], scale.width)
    head = 0.5 + 0.19 * len(_headlines(found)) + (0.3 if scale.breaks else 0.16)
    height = head + sum(lane.height for lane in chosen) + GAP * (len(chosen) - 1) + 0.6 + 0.19 * len(keys)
    figure, axes = page(width, height, LEFT, theme.page)
    pen = ln.Pen(axes, theme, scale)
    _headline(pen, found)
    bottom = _draw_lanes(pen, found, chosen, head)
    _breaks(pen, head, bottom)
    _axis(pen, found, bottom)
    _legend(pen, keys, bottom + 0.56)
    return figure


def _lanes(found: Scene, scale: Scale) -> list[ln.Lane]:
    client, server = found.state_runs()
    chosen: list[ln.Lane] = []
    if found.invocations:
        chosen.append(ln.Invocations(found, scale))
    if found.pings:
        chosen.append(ln.Pings(found, scale))
    chosen += [ln.States("client", client, scale), ln.States("server", server, scale), ln.Packets(found, scale)]
    if found.events:
        chosen.append(ln.Log(found, scale))
    if found.findings:
        chosen.append(ln.Findings(found, scale))
    return chosen


# ---- above the lanes


def _headlines(found: Scene) -> list[tuple[str, str, str]]:
    """(severity, code, title) of the first findings."""
    rows = [(f.severity.word, f.rule, f.title) for f in found.findings[:HEADLINES]]
    more = len(found.findings) - HEADLINES
    return [*rows, ("info", "", f"and {more} more")] if more > 0 else rows


def _headline(pen: ln.Pen, found: Scene) -> None:
    cs = found.trace.story.connections
    left = 0.14 - LEFT
    room = pen.scale.width - left
    bold = {"fontsize": LARGE, "fontweight": "bold", "color": pen.theme.ink}
    title = clean(f"{cs.id(found.k)}   {cs.client(found.k)} → {cs.server(found.k)}")
    write(pen.axes, left, 0.22, fit(title, room, LARGE, bold=True), gid="title", **bold)
    write(pen.axes, left, 0.44, fit(clean(_subtitle(found)), room, NORMAL), color=pen.theme.dim, fontsize=NORMAL)
    for row, (severity, code, text) in enumerate(_headlines(found)):
        y = 0.65 + 0.19 * row
        colour = str(getattr(pen.theme, severity))
        write(pen.axes, left, y, code, color=colour, fontsize=NORMAL, fontweight="bold")
        indent = text_width(code, NORMAL, bold=True) + 0.1 if code else 0.0
        write(pen.axes, left + indent, y, fit(clean(text), room - indent, NORMAL), color=pen.theme.ink, fontsize=NORMAL)


def _subtitle(found: Scene) -> str:
    story = found.trace.story
    parts = [f"from {iso(found.zero_ns)[:23].replace('T', ' ')} UTC"]
    if found.environment:
        parts.insert(0, f"environment {found.environment}")
    if found.events:
        error = story.clock_error(
            *{e.source for e in found.events}, *{p.source for s in found.segments[:1] for p in s.places}
        )
        parts.append(f"log and packets aligned to ±{error / MS:.3g} ms" if error else "log and packets aligned")
    elif story.events and not story.aligned:
        parts.append("log not drawn: it could not be aligned with the packets")
    return " · ".join(parts)


# ---- the lanes and what runs through them


def _draw_lanes(pen: ln.Pen, found: Scene, chosen: list[ln.Lane], top: float) -> float:
    y = top
    theme = pen.theme
    tops = []
    for lane in chosen:
        tops.append(y)
        pen.box(0, pen.scale.width, y, y + lane.height, theme.lane, zorder=0.5)
        y += lane.height + GAP
    bottom = y - GAP
    for z in found.freezes:
        x0, x1 = pen.scale.x(z.start_ns), pen.scale.x(z.end_ns)
        style = {"hatch": "////", "edgecolor": theme.hatch, "linewidth": 0, "zorder": 1, "gid": "freeze"}
        pen.box(x0, x1, top, bottom, theme.freeze, **style)
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
        if not isinstance(lane, ln.Packets):
            name = {"client": "client state", "server": "server state"}.get(lane.name, lane.name)
            write(pen.axes, -0.06, y0 + lane.height / 2, name, ha="right", color=theme.ink, fontsize=SMALL)
    return bottom


def _breaks(pen: ln.Pen, top: float, bottom: float) -> None:
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


def _axis(pen: ln.Pen, found: Scene, bottom: float) -> None:
    for s in pen.scale.stretches:
        pen.lines([[(s.x0, bottom + 0.04), (s.x1, bottom + 0.04)]], pen.theme.ink, linewidths=0.8)
    for tick in ticks(pen.scale, found.zero_ns):
        pen.lines([[(tick.x, bottom + 0.04), (tick.x, bottom + 0.09)]], pen.theme.ink, linewidths=0.8)
        write(pen.axes, tick.x, bottom + 0.18, tick.label, ha="center", color=pen.theme.ink)
    note = "seconds since the first packet"
    if pen.scale.breaks:
        note += "; ⋮ silence left out, each stretch between has its own scale"
    write(pen.axes, pen.scale.width / 2, bottom + 0.37, fit(note, pen.scale.width), ha="center", color=pen.theme.dim)


# ---- the legend


def _legend_rows(keys: list[ln.Key], room: float) -> list[list[ln.Key]]:
    """Entries once each, broken into rows."""
    unique = list({key.label: key for key in keys}.values())
    rows: list[list[ln.Key]] = []
    left = 0.0
    for key in unique:
        if not rows or left < ln.legend_width(key):
            rows.append([])
            left = room
        rows[-1].append(key)
        left -= ln.legend_width(key)
    return rows


def _legend(pen: ln.Pen, rows: list[list[ln.Key]], top: float) -> None:
    for n, row in enumerate(rows):
        x, y = 0.0, top + 0.19 * n + 0.05
        for key in row:
            _swatch(pen, key, x, y)
            write(pen.axes, x + 0.3, y, key.label, color=pen.theme.ink)
            x += ln.legend_width(key)


def _swatch(pen: ln.Pen, key: ln.Key, x: float, y: float) -> None:
    if key.fill is not None:
        frozen = key.fill == "freeze"
        fill = pen.theme.freeze if frozen else key.fill
        pen.box(x, x + 0.23, y - 0.055, y + 0.055, fill, hatch="////" if frozen else None, edgecolor=pen.theme.hatch)
        return
    dash: Any = (0, (2.5, 1.5)) if key.dashed else "solid"
    marker = "v" if key.marker == ">" else key.marker
    edge = 1.6 if marker == "x" else 0
    bare = marker == "v" and key.label.startswith("log")
    pen.axes.add_line(
        Line2D(
            [x + 0.01, x + 0.115, x + 0.22], [y] * 3, color=key.colour, linestyle="none" if bare else dash, linewidth=1.2,
            marker=marker, markevery=[1], markersize=5, markeredgewidth=edge,
        )
    )  # fmt: skip
