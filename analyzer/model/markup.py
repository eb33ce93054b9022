"""HTML for notebooks, in pieces: text is escaped, and no colour is set, so that it reads on light and dark pages alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

#: Of what is said in passing: less of whatever the page's own colour is.
DIM = "opacity:0.65"
#: A frame in the page's own colour.
FRAME = "border-left:3px solid;padding:0.1em 0 0.1em 0.8em;margin:0.3em 0;max-width:75em"
_CELL = "text-align:left;vertical-align:top;padding:0.1em 0.8em 0.1em 0"


class Html(str):
    """Text that is HTML already; any other is escaped."""

    __slots__ = ()


def element(tag: str, *children: object, style: str = "") -> Html:
    """`<tag>children</tag>`."""
    inner = "".join(child if isinstance(child, Html) else escape(str(child)) for child in children)
    return Html(f"<{tag}{f' style={chr(34)}{style}{chr(34)}' if style else ''}>{inner}</{tag}>")


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> Html:
    """A table; without rows, nothing."""
    body = [element("tr", *(element("td", cell, style=_CELL) for cell in row)) for row in rows]
    if not body:
        return Html("")
    titles = [element("tr", *(element("th", cell, style=_CELL) for cell in head))] if any(head) else []
    return element("table", *titles, *body, style="border-collapse:collapse;background:none")


def frame(*children: object) -> Html:
    """What belongs together."""
    return element("div", *children, style=FRAME)


def line(*children: object, dim: bool = False) -> Html:
    """A line of its own."""
    return element("div", *children, style=DIM if dim else "")
