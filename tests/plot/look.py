"""What tests of pictures share: reading a Figure back."""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from analyzer.plot.canvas import SETTINGS
from analyzer.rules import run
from analyzer.rules._cases import Case
from analyzer.trace import Trace

#: Words that logs and packets may hold: formulas, escapes, other scripts, markup, length.
HOSTILE = [
    "read ECONNRESET $\\frac{1}{$ $x^2$ \\$",
    "ECONNRESET \x1b[31m\x07\x00 \u202egnihton",
    "ECONNRESET 漢字 🧊 \ud800 é",
    "ECONNRESET <script>&amp;\"'",
    "ECONNRESET " + "w" * 5000,
]


def traced(case: Case) -> Trace:
    """A case as a trace, examined."""
    story = case.story()
    return Trace(story, run(story))


def saved(figure: Figure, kind: str) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format=kind)
    return out.getvalue()


def gids(figure: Figure) -> set[str]:
    """Names of the artists."""
    return {str(a.get_gid()) for a in figure.findobj() if a.get_gid()}


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def is_blank(figure: Figure) -> bool:
    """Whether a PNG of it shows nothing but its ground."""
    import matplotlib.image

    pixels = matplotlib.image.imread(io.BytesIO(saved(figure, "png")))[..., :3]
    return bool(np.ptp(pixels.reshape(-1, 3), axis=0).max() < 0.5)


def collisions(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of upright texts that cover each other, and texts that leave the page (as pairs with nothing)."""
    with mpl.rc_context(SETTINGS):
        figure.draw_without_rendering()
        shown = [t for t in figure.findobj(Text) if t.get_text() and t.get_visible() and not t.get_rotation()]
        boxes = [(t.get_text(), t.get_window_extent()) for t in shown]
    covered = [
        (a, b)
        for n, (a, box) in enumerate(boxes)
        for b, other in boxes[:n]
        if min(box.x1, other.x1) - max(box.x0, other.x0) > 1 and min(box.y1, other.y1) - max(box.y0, other.y0) > 2
    ]
    page = figure.bbox
    outside = [(t, "") for t, b in boxes if b.x0 < 0 or b.x1 > page.x1 or b.y0 < 0 or b.y1 > page.y1]
    return covered + outside
