"""The rules as a list, as JSON and as the reference in `docs/rules.md`, all from the rules' own modules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from analyzer.report.explain import documentation, example
from analyzer.report.style import Style
from analyzer.report.wrapping import wrap
from analyzer.rules import Rule, rules, thresholds

HEAD = """# Rules

Made from the rules' own modules by `analyze rules --format markdown`; `analyze explain CODE` prints one of them. All thresholds may be
changed, by `--threshold K101.overshoot_ms=300` or in a file of settings:

```toml
# analyze.toml; in pyproject.toml the tables are [tool.analyzer] and [tool.analyzer.thresholds]
select = ["K", "R30"]          # codes, or how they begin; all, if it is left out
ignore = ["L503"]
min-confidence = "likely"      # certain, likely or possible

[thresholds]
K101.overshoot_ms = 300
```

The nearest file from the working folder upwards counts, `--config FILE` names another, `--isolated` reads none; options go before
the file. Every rule runs whatever is chosen, as one finding may be the cause of another or take its place: what is not chosen is left out of
the report, and counted there.
"""


def entries() -> list[dict[str, Any]]:
    """Every rule, by code, as JSON has it."""
    return [
        {
            "code": rule.CODE, "name": rule.NAME, "summary": rule.SUMMARY,
            "severities": [one.word for one in rule.SEVERITIES], "from_logs": from_logs(rule),
            "thresholds": [
                {"name": f"{rule.CODE}.{t.name}", "default": t.default, "unit": t.unit or "count", "least": t.least,
                 "most": t.most, "what": t.what, "source": t.source}
                for t in thresholds(rule)
            ],
        }
        for rule in rules()
    ]  # fmt: skip


def as_json() -> str:
    """The list as a JSON document."""
    return json.dumps({"rules": entries()}, indent=2, ensure_ascii=False) + "\n"


def from_logs(rule: Rule) -> list[str]:
    """The confidence that logs alone allow, the least and the most; empty where they prove nothing."""
    return list(dict.fromkeys(one.word for one in getattr(rule, "FROM_LOGS", ())))


def levels(rule: Rule) -> str:
    """`warning to error; from logs alone likely to certain`."""
    severity = " to ".join(dict.fromkeys((rule.SEVERITIES[0].word, rule.SEVERITIES[-1].word)))
    alone = " to ".join(from_logs(rule))
    return f"{severity}; from logs alone {alone}" if alone else f"{severity}; not from logs alone"


def listing(style: Style) -> str:
    """A paragraph a rule."""
    lines = []
    for rule in rules():
        lines.append(style.paint(f"{rule.CODE}  {rule.NAME}", "bold"))
        own = ", ".join(f"{t.name} {t.default:.10g}" for t in thresholds(rule))
        for text in (rule.SUMMARY, f"severity {levels(rule)}", f"thresholds: {own}" if own else ""):
            lines += wrap(text, style.width, initial_indent=" " * 6, subsequent_indent=" " * 8)
    return "\n".join([*lines, "", "analyze explain CODE tells all about one"]) + "\n"


def reference() -> str:
    """The whole reference in Markdown."""
    contents = [f"* [{rule.CODE} {rule.NAME}](#{rule.CODE.lower()}-{rule.NAME}): {rule.SUMMARY}" for rule in rules()]
    return "\n".join([HEAD, *contents, "", *(line for rule in rules() for line in _section(rule))])


def _section(rule: Rule) -> Iterator[str]:
    yield from (f"## {rule.CODE} {rule.NAME}", "", f"{_sentence(rule.SUMMARY)} Severity {levels(rule)}.", "")
    for title, text in documentation(rule):
        yield from (f"### {title}", "", text, "")
    table = [f"| `{rule.CODE}.{t.name}` | {t} | {t.what} | {t.source} |" for t in thresholds(rule)]
    if table:
        yield from ("### Thresholds", "", "| threshold | default | meaning | source |", "|---|---|---|---|", *table, "")
    what, text = example(rule, Style(width=100))
    yield from ("### Example", "", f"{_sentence(what)}", "", "```", text, "```", "")


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
