"""What lanes and ladders draw with: boxes, strokes, marks, arcs and text on a page in inches, many of a kind as one artist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from msgspec import Struct

from analyzer.plot.canvas import NORMAL, SMALL, fit, text_width, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analyzer.plot.scale import Scale
    from analyzer.plot.theme import Theme

#: Resolution at which marks that fall together are drawn once, in marks an inch: a million packets cost a screenful.
GRAIN = 400
#: The hatching of a freeze.
HATCH = "////"

#: x0, x1, y0, y1 in inches.
Box = tuple[float, float, float, float]
Point = tuple[float, float]


def grain(x: float) -> float:
    """A place, rounded to what can be told apart."""
    return round(x * GRAIN) / GRAIN


class Pen(Struct):
    """What everything is drawn with."""

    axes: Axes
    theme: Theme
    scale: Scale

    def box(self, x0: float, x1: float, y0: float, y1: float, fill: str, **style: Any) -> None:
        """A filled rectangle."""
        self.boxes([(x0, x1, y0, y1)], fill, **style)

    def boxes(self, boxes: list[Box], fill: str, **style: Any) -> None:
        """Filled rectangles of one look."""
        corners = [((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)) for x0, x1, y0, y1 in dict.fromkeys(boxes)]
        codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
        self._path([p for c in corners for p in c], codes * len(corners), facecolor=fill, **({"zorder": 3} | style))

    def freezes(self, boxes: list[Box]) -> None:
        """Hatched bands."""
        self.boxes(boxes, self.theme.freeze, hatch=HATCH, edgecolor=self.theme.hatch, zorder=1, gid="freeze")

    def arcs(self, arcs: list[tuple[float, float, float]], base: float, colour: str, **style: Any) -> None:
        """Arcs over `base` from x0 to x1, so high: (x0, x1, height)."""
        # The control points of a cubic stand a third higher than its top.
        points = [
            p for x0, x1, h in arcs for p in ((x0, base), (x0, base - h * 4 / 3), (x1, base - h * 4 / 3), (x1, base))
        ]
        codes = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4] * len(arcs)
        self._path(points, codes, fill=False, edgecolor=colour, linewidth=1.5, zorder=4, **style)

    def _path(self, points: list[Point], codes: list[Any], **style: Any) -> None:
        if points:
            self.axes.add_patch(PathPatch(Path(points, codes), **({"linewidth": 0} | style)))

    def polygon(self, corners: list[Point], fill: str, **style: Any) -> None:
        """A filled shape."""
        codes = [Path.MOVETO, *[Path.LINETO] * (len(corners) - 1), Path.CLOSEPOLY]
        self._path([*corners, corners[0]], codes, facecolor=fill, **style)

    def lines(self, segments: list[list[Point]], colour: str, **style: Any) -> None:
        """Many strokes at once."""
        if segments:
            self.axes.add_collection(LineCollection(segments, colors=colour, **style), autolim=False)

    def marks(self, xs: list[float], ys: list[float], colour: str, marker: Any, size: float, **style: Any) -> None:
        """Many marks at once."""
        if xs:
            style = {"zorder": 5, "markeredgewidth": 0} | style
            self.axes.add_line(Line2D(xs, ys, linestyle="none", marker=marker, markersize=size, color=colour, **style))

    def text(self, x: float, y: float, text: str, colour: str, **style: Any) -> None:
        """Text with a rim in the page's colour, readable on hatching and across lines; across a break, on a ground of its own."""
        width = text_width(text, style.get("fontsize", SMALL))
        left = x - {"center": width / 2, "right": width}.get(style.get("ha", "left"), 0.0)
        if self.scale.cuts(left, left + width):
            style["bbox"] = {"boxstyle": "square,pad=0.1", "facecolor": self.theme.lane, "linewidth": 0}
        else:
            style["path_effects"] = [withStroke(linewidth=2.2, foreground=self.theme.page)]
        write(self.axes, x, y, text, color=colour, **style)

    def label(self, x0: float, x1: float, y: float, texts: tuple[str, ...], colour: str, fill: str) -> bool:
        """The first of these texts that fits into [x0, x1], beside the breaks if it can, else on a ground that hides the break."""
        for text in texts:
            found = self.scale.room(x0 + 0.04, x1 - 0.04, text_width(text))
            if found is not None:
                ground = {"boxstyle": "square,pad=0.12", "facecolor": fill, "linewidth": 0}
                write(self.axes, found[0], y, text, ha="center", color=colour, bbox=ground)
                return True
        return False


class Key(Struct):
    """An entry of the legend: a patch (`fill`, hatched for a freeze), or a marker on a line."""

    label: str
    fill: str | None = None
    colour: str = ""
    marker: Any = None
    dashed: bool = False
    line: bool = True
    hatched: bool = False
    hollow: bool = False

    @property
    def width(self) -> float:
        """Room that it takes, its swatch included, in inches."""
        return 0.3 + text_width(self.label, SMALL) + 0.2


FLAG_HEIGHT = 0.17


def flag_width(rule: str) -> float:
    """Room of a finding's flag, in inches."""
    return text_width(rule, NORMAL, bold=True) + 0.14


def flag(pen: Pen, x: float, y: float, rule: str, colour: str) -> None:
    """A finding's code on its colour, around (x, y)."""
    half = flag_width(rule) / 2
    box = (x - half, x + half, y - FLAG_HEIGHT / 2, y + FLAG_HEIGHT / 2)
    pen.boxes([box], colour, zorder=7, gid=f"finding-{rule}")
    style: dict[str, Any] = {"ha": "center", "zorder": 8, "fontsize": NORMAL, "fontweight": "bold"}
    write(pen.axes, x, y + 0.003, rule, color=pen.theme.on(colour), **style)


def legend_rows(keys: list[Key], room: float) -> list[list[Key]]:
    """Entries once each, broken into rows."""
    rows: list[list[Key]] = []
    left = 0.0
    for key in {key.label: key for key in keys}.values():
        if not rows or left < key.width:
            rows.append([])
            left = room
        rows[-1].append(key)
        left -= key.width
    return rows


def legend(pen: Pen, rows: list[list[Key]], top: float, left: float = 0.0) -> None:
    """Draw the entries, from `top` downwards."""
    for n, row in enumerate(rows):
        x, y = left, top + 0.19 * n + 0.05
        for key in row:
            _swatch(pen, key, x, y)
            write(pen.axes, x + 0.3, y, fit(key.label, pen.scale.width + left - x - 0.3), color=pen.theme.ink)
            x += key.width


def _swatch(pen: Pen, key: Key, x: float, y: float) -> None:
    if key.hatched:
        pen.boxes([(x, x + 0.23, y - 0.055, y + 0.055)], pen.theme.freeze, hatch=HATCH, edgecolor=pen.theme.hatch)
    elif key.fill is not None:
        pen.box(x, x + 0.23, y - 0.055, y + 0.055, key.fill)
    else:
        dash: Any = (0, (2.5, 1.5)) if key.dashed else "solid"
        xs = [x + 0.01, x + 0.115, x + 0.22]
        style: dict[str, Any] = {"linestyle": dash if key.line else "none", "linewidth": 1.2, "color": key.colour}
        style["markerfacecolor"] = "none" if key.hollow else key.colour
        edge = 1.6 if key.marker == "x" or key.hollow else 0
        pen.axes.add_line(
            Line2D(xs, [y] * 3, marker=key.marker, markevery=[1], markersize=5, markeredgewidth=edge, **style)
        )
