"""The page: a Figure whose data coordinates are inches, and text that measures itself, stays literal and finds free room.

Text from logs and packets is hostile: `$` must not start a formula, control characters and letters that the font lacks are
shown as escapes, and every label is clipped to the room that it has.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

from analyzer.report.escape import terminal

#: Comes with matplotlib, so a plot looks the same everywhere.
FONT = "DejaVu Sans"
SMALL, NORMAL, LARGE = 7.0, 8.0, 10.5
FILE_DPI = 160
SCREEN_DPI = 100
#: What a user's matplotlibrc must not change, while a figure is made (some are read then) and while it is drawn.
SETTINGS: Any = {
    "text.usetex": False, "font.family": [FONT], "hatch.linewidth": 0.6, "svg.hashsalt": "analyzer", "svg.fonttype": "path",
    "text.hinting": "none", "path.simplify": True, "pdf.fonttype": 42, "path.sketch": None, "path.effects": [],
}  # fmt: skip
_METADATA: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


class Chart(Figure):
    """A Figure that needs no pyplot, shows itself in a notebook, and is saved to the same bytes every time."""

    def draw(self, renderer: Any) -> None:
        """Draw with our settings, whatever the user's are."""
        with mpl.rc_context(SETTINGS):
            super().draw(renderer)

    def savefig(self, fname: Any, *, transparent: bool | None = None, **kwargs: Any) -> None:
        """As `Figure.savefig`, at a resolution for print, without the date."""
        kind = str(kwargs.get("format") or (fname if isinstance(fname, str) else getattr(fname, "name", "")))
        kind = kind.rsplit(".", 1)[-1].lower()
        kwargs.setdefault("dpi", FILE_DPI)
        if kind in _METADATA:
            kwargs["metadata"] = _METADATA[kind] | (kwargs.get("metadata") or {})
        with mpl.rc_context(SETTINGS):
            super().savefig(fname, transparent=transparent, **kwargs)

    def _repr_png_(self) -> bytes:
        """For a notebook, which keeps it: in 256 colours it is a third as large, and looks the same."""
        from PIL import Image

        drawn, out = io.BytesIO(), io.BytesIO()
        self.savefig(drawn, format="png", dpi=SCREEN_DPI)
        Image.open(drawn).convert("RGB").quantize(256).save(out, format="PNG", optimize=True)
        return out.getvalue()


def page(width: float, height: float, left: float, colour: str) -> tuple[Chart, Axes]:
    """A page of this size in inches; on its axes, (0, 0) is `left` inches from the left border, at the top, y grows downwards."""
    figure = Chart(figsize=(width, height), dpi=SCREEN_DPI, facecolor=colour)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-left, width - left)
    axes.set_ylim(height, 0)
    axes.axis("off")
    return figure, axes


@lru_cache(maxsize=4096)
def text_width(text: str, size: float = SMALL, bold: bool = False) -> float:
    """Width of a clean text, in inches."""
    font = FontProperties(family=FONT, size=size, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 72


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    regular, bold = (get_font(findfont(FontProperties(family=FONT, weight=w))) for w in ("normal", "bold"))
    return frozenset(regular.get_charmap()) & frozenset(bold.get_charmap())


def clean(text: str) -> str:
    """`text` in one line of letters that the font has; all else as escapes."""
    return "".join(
        c if ord(c) in _letters() else c.encode("ascii", "backslashreplace").decode() for c in terminal(text)
    )


def fit(text: str, room: float, size: float = SMALL, bold: bool = False) -> str:
    """`text`, cut with an ellipsis to `room` inches; empty where not even a few letters fit."""
    if text_width(text, size, bold) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(text[:middle] + "…", size, bold) <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…" if low >= 3 else ""


def count(number: int, noun: str) -> str:
    """`1 packet`, `2,000 packets`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def write(axes: Axes, x: float, y: float, text: str, **style: Any) -> Any:
    """Literal text at a place in inches; `y` is its middle unless `va` says otherwise."""
    defaults: dict[str, Any] = {
        "fontsize": SMALL,
        "va": "center_baseline",
        "ha": "left",
        "zorder": 6,
        "fontfamily": FONT,
    }
    return axes.text(x, y, text, parse_math=False, **(defaults | style))


class Shelf:
    """Rows in which labels find free room: what would overlap goes to the next row, or is left out."""

    def __init__(self, rows: int, left: float, right: float) -> None:
        self._texts: list[list[tuple[float, float]]] = [[] for _ in range(rows)]
        self._stems: list[list[tuple[float, float]]] = [[] for _ in range(rows)]
        self.left, self.right = left, right

    def place(self, x: float, width: float, gap: float = 0.06, stem: float | None = None) -> int | None:
        """The first row with room for [x, x + width], which is then taken; None where there is none.

        With a `stem`, the rows on the way there must have room for a line at that place, and keep it.
        """
        if x < self.left - 1e-6 or x + width > self.right + 1e-6:
            return None
        for row, (texts, stems) in enumerate(zip(self._texts, self._stems, strict=True)):
            if _free(texts, x, x + width, gap) and _free(stems, x, x + width, 0.02):
                texts.append((x, x + width))
                if stem is not None:
                    for passed in self._stems[:row]:
                        passed.append((stem, stem))
                return row
            if stem is not None and not _free(texts, stem, stem, 0.02):
                return None
        return None

    @property
    def used(self) -> int:
        """Number of rows with a label."""
        return sum(bool(r) for r in self._texts)


def _free(taken: list[tuple[float, float]], start: float, end: float, gap: float) -> bool:
    return all(end + gap <= a or b + gap <= start for a, b in taken)
