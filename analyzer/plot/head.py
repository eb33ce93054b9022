"""What stands above every picture: its title, what it is made of, and the headlines of the findings that concern it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analyzer.plot.canvas import LARGE, NORMAL, clean, fit, text_width, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analyzer.model.findings import Finding
    from analyzer.plot.theme import Theme

#: Headlines of findings above a plot; the rest is counted.
HEADLINES = 4
#: Rules that are counted above a plot of many connections.
TALLIES = 6
#: Room from the page's border to the text, and of a headline, in inches.
INSET, ROW = 0.14, 0.19

#: (severity, code, title)
Headline = tuple[str, str, str]


def headlines(findings: list[Finding], named: bool = False) -> list[Headline]:
    """The first findings; `named` with the connection that each is about."""
    rows = [
        (f.severity.word, f.rule, f"{f.connection}: {f.title}" if named and f.connection else f.title)
        for f in findings[:HEADLINES]
    ]
    more = len(findings) - HEADLINES
    return [*rows, ("info", "", f"and {more:,} more")] if more > 0 else rows


def tallies(findings: list[Finding]) -> list[Headline]:
    """How often each rule fired, the gravest first; the title of one that fired once."""
    by_rule: dict[str, list[Finding]] = {}
    for f in findings:
        by_rule.setdefault(f.rule, []).append(f)
    groups = sorted(by_rule.values(), key=lambda g: (-max(f.severity for f in g), -len(g), g[0].rule))
    rows = []
    for group in groups[:TALLIES]:
        words = group[0].title if len(group) == 1 else f"{len(group):,} × {group[0].name.replace('-', ' ')}"
        rows.append((max(f.severity for f in group).word, group[0].rule, words))
    more = len(groups) - TALLIES
    return [*rows, ("info", "", f"and findings of {more} more rules")] if more > 0 else rows


def head_height(lines: list[Headline]) -> float:
    """Room that the head takes, in inches."""
    return 0.5 + ROW * len(lines)


def write_head(
    axes: Axes, theme: Theme, left: float, room: float, title: str, subtitle: list[str], lines: list[Headline]
) -> None:
    """Write it at the top of a page in inches, from `left` on, in so much room."""
    bold = {"fontsize": LARGE, "fontweight": "bold", "color": theme.ink}
    write(axes, left, 0.22, fit(clean(title), room, LARGE, bold=True), gid="title", **bold)
    what = fit(clean(" · ".join(subtitle)), room, NORMAL)
    write(axes, left, 0.44, what, color=theme.dim, fontsize=NORMAL, gid="subtitle")
    for row, (severity, code, text) in enumerate(lines):
        y = 0.65 + ROW * row
        write(axes, left, y, code, color=str(getattr(theme, severity)), fontsize=NORMAL, fontweight="bold")
        indent = text_width(code, NORMAL, bold=True) + 0.1 if code else 0.0
        write(axes, left + indent, y, fit(clean(text), room - indent, NORMAL), color=theme.ink, fontsize=NORMAL)
