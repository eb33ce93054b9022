"""The findings as Markdown, to paste into an issue: GitHub, GitLab and CommonMark render it.

Text from logs and packets stands in fenced blocks only, behind fences longer than any that it contains: it can neither end the block,
nor mention anybody, nor embed anything.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from analyzer.report import text
from analyzer.report.causes import causes
from analyzer.report.style import Style

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from analyzer.trace import Trace

#: What a code block shows on GitHub without a scroll bar.
WIDTH = 100
_BACKTICKS = re.compile("`+")


def markdown(trace: Trace, local: bool = False, everything: bool = False) -> Iterator[bytes]:
    """The document in pieces, UTF-8, folded as the text is unless `everything`; times in this machine's zone if `local`."""
    story, style = trace.story, Style(width=WIDTH, local=local)
    found = causes(trace.findings)
    yield _bytes("## What `analyze` found\n\n")
    yield _block([text.verdict(story, trace.findings, style)])
    if len(trace.findings) > 1:
        yield _block([text.overview(found, style)])
    for cause in found:
        shown, folded = text.told(cause, everything)
        for finding in shown:
            yield _bytes(f"### {finding.id} {finding.severity.word} {finding.rule} {finding.name}\n\n")
            yield _block([text.finding(story, finding, style)])
        yield from (_bytes(f"And {line} (`--all` shows them).\n\n") for line in folded)
    yield _bytes("<details><summary>What was read</summary>\n\n")
    yield _block([text.sources(story, style, everything), text.environments(story, style)])
    yield _bytes("</details>\n")


def _block(parts: Iterable[str]) -> bytes:
    content = "\n".join(part.strip("\n") for part in parts if part.strip())
    longest = max((len(run) for run in _BACKTICKS.findall(content)), default=0)
    fence = "`" * max(3, longest + 1)
    return _bytes(f"{fence}text\n{content}\n{fence}\n\n")


def _bytes(content: str) -> bytes:
    return content.encode("utf-8", "backslashreplace")
