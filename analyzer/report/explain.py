"""`analyze explain`: a rule's own documentation and a real rendering of its first case."""

from __future__ import annotations

import inspect
import textwrap

from analyzer.model.problems import InputError
from analyzer.report.style import Style
from analyzer.report.text import finding as render
from analyzer.rules import Rule, rules, run


def find(name: str) -> Rule:
    """A rule by code or name, any case; raises `InputError` with the list of what there is."""
    for rule in rules():
        if name.lower() in (rule.CODE.lower(), rule.NAME):
            return rule
    raise InputError(f"no rule {name!r}; there are {', '.join(f'{r.CODE} {r.NAME}' for r in rules())}")


def explanation(name: str, style: Style) -> str:
    """The rule's documentation, then its first case as `analyze` prints it."""
    rule = find(name)
    doc = inspect.cleandoc(rule.__doc__ or "").split("\n\n")
    lines = [style.paint(f"{rule.CODE} {rule.NAME}", "bold"), *textwrap.wrap(rule.SUMMARY, style.width), ""]
    for block in doc[1:]:
        head, _, body = block.partition("\n")
        if head.startswith("## "):
            lines.append(style.paint(head[3:], "bold"))
        else:
            body = block
        lines += textwrap.wrap(
            " ".join(body.replace("`", "").split()),
            style.width - 2,
            initial_indent="  ",
            subsequent_indent="  ",
            break_on_hyphens=False,
        )
        lines.append("")
    case = rule.FIRES[0]
    story = case.story()
    example = next(f for f in run(story) if f.rule == rule.CODE)
    lines += [style.paint("Example", "bold"), f"  {case.what}:", "", render(story, example, style)]
    return "\n".join(lines) + "\n"
