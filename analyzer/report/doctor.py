"""What an installation can do, as lines for a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from analyzer.doctor import MISSING, OK

if TYPE_CHECKING:
    from analyzer.doctor import Check
    from analyzer.report.style import Style
from analyzer.report.wrapping import wrap


def lines(found: list[Check], style: Style) -> Iterator[str]:
    """A line a check; below it, what to do."""
    room = max(len(check.what) for check in found)
    indent = " " * (room + 11)
    for check in found:
        role = "green" if check.state == OK else "error" if check.state == MISSING else "warning"
        state = style.paint(f"{check.state:<7}", role)
        first, *more = wrap(check.found, style.width - len(indent)) or [""]
        yield f"{check.what:<{room}}  {state}  {first}"
        yield from (f"{indent}{line}" for line in more)
        for line in wrap(check.then, style.width - len(indent) - 2):
            yield f"{indent}→ {line}"
