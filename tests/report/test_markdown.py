"""Findings as Markdown, read back by a CommonMark parser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

import analyzer
from analyzer.report.markdown import markdown
from tests.helpers import ROOT


def blocks(trace: analyzer.Trace) -> list[tuple[str, str]]:
    text = b"".join(markdown(trace)).decode()
    return [(t.type, t.content) for t in MarkdownIt().parse(text) if t.type in ("fence", "inline", "html_block")]


@pytest.mark.parametrize("name", ["frozen-keepalive", "healthy"])
def test_a_heading_and_a_block_for_each_finding(name: str) -> None:
    trace = analyzer.read(ROOT / "captures" / name)
    found = blocks(trace)
    headings = [content for kind, content in found if kind == "inline"]
    assert headings[1:] == [f"{f.id} {f.severity.word} {f.rule} {f.name}" for f in trace.findings]
    fences = [content for kind, content in found if kind == "fence"]
    several = len(trace.findings) > 1
    assert len(fences) == len(trace.findings) + 2 + several
    assert fences[1].startswith("causes\n") is several
    assert all(f.title in " ".join(fences[1 + several :][n].split()) for n, f in enumerate(trace.findings))
    assert all(len(line) <= 100 for fence in fences for line in fence.splitlines())


def test_many_findings_of_a_cause_are_folded_as_in_the_text() -> None:
    trace = analyzer.read(ROOT / "captures" / "connect-burst")
    folded, whole = (b"".join(markdown(trace, everything=everything)).decode() for everything in (False, True))
    assert whole.count("\n### ") == len(trace.findings)
    shown = folded.count("\n### ")
    assert shown < len(trace.findings) / 2
    assert len(trace.findings) == shown + sum(map(int, re.findall(r"^And (\d+) more ", folded, re.MULTILINE)))


def test_text_of_a_log_cannot_leave_its_block(tmp_path: Path) -> None:
    log = tmp_path / "fn.log"
    hostile = "````` </details> @everyone"
    log.write_text(
        "2026-11-21T00:00:00.000Z\t6f0d0000-0000-4000-8000-000000000000\tERROR\tconnect ECONNREFUSED 10.0.0.1:6379 "
        f"{hostile}\n"
    )
    trace = analyzer.read(log)
    assert trace.findings
    found = blocks(trace)
    assert not any(
        "everyone" in content or "</details>" in content.removesuffix("</details>\n")
        for kind, content in found
        if kind != "fence"
    )
    assert any("everyone" in content for kind, content in found if kind == "fence")
