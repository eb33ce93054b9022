"""`analyze explain`: a rule's own documentation and a real rendering of its first case."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from analyzer.model.problems import InputError
from analyzer.report.style import Style
from analyzer.report.text import finding as render
from analyzer.report.wrapping import wrap
from analyzer.rules import Rule, rules, run, thresholds


def find(name: str) -> Rule:
    """A rule by code or name, any case; raises `InputError` with the list of what there is."""
    for rule in rules():
        if name.lower() in (rule.CODE.lower(), rule.NAME):
            return rule
    raise InputError(f"no rule {name!r}; there are {', '.join(f'{r.CODE} {r.NAME}' for r in rules())}")


def documentation(rule: Rule) -> Iterator[tuple[str, str]]:
    """The parts of a rule's docstring: (title, text as it stands there)."""
    for part in inspect.cleandoc(rule.__doc__ or "").split("\n## ")[1:]:
        title, _, text = part.partition("\n")
        yield title, text.strip()


def example(rule: Rule, style: Style) -> tuple[str, str]:
    """What a rule's first case is, and its finding as `analyze` prints it."""
    case = rule.FIRES[0]
    story = case.story()
    return case.what, render(story, next(f for f in run(story) if f.rule == rule.CODE), style)


def explanation(name: str, style: Style) -> str:
    """The rule's documentation and thresholds, then its first case as `analyze` prints it."""
    rule = find(name)
    lines = [style.paint(f"{rule.CODE} {rule.NAME}", "bold"), *wrap(rule.SUMMARY, style.width), ""]
    for title, text in documentation(rule):
        lines.append(style.paint(title, "bold"))
        for paragraph in text.split("\n\n"):
            lines += [*_indented(" ".join(paragraph.replace("`", "").split()), style), ""]
    own = [f"{rule.CODE}.{t.name} = {t.default:.10g}: {t.what}; {t.source}" for t in thresholds(rule)]
    if own:
        lines += [
            style.paint("Thresholds", "bold"),
            *(line for text in own for line in _indented(text.replace("`", ""), style, 4)),
            "",
        ]
    what, text = example(rule, style)
    lines += [style.paint("Example", "bold"), f"  {what}:", "", text]
    return "\n".join(lines) + "\n"


def _indented(text: str, style: Style, hanging: int = 2) -> list[str]:
    return wrap(text, style.width - 2, initial_indent="  ", subsequent_indent=" " * hanging)
