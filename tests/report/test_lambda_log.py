"""Environments and invocations as a person reads them."""

from __future__ import annotations

import json

import pytest

import analyzer
from analyzer.report.style import Style
from analyzer.report.text import report
from tests.helpers import check_golden
from tests.logs import shapes
from tests.logs.shapes import START_MS, STREAMS, Line, iso, numbered, request, session


def busy():
    """Cold start, freezes, an error, a timeout and a crash in one environment; a second one that is well."""
    lines = [
        Line(START_MS - 200, STREAMS[0], "INIT_START Runtime Version: nodejs:22.v75\tRuntime Version ARN: arn:x\n")
    ]
    for k in range(16):
        lines += session(STREAMS[0], k, START_MS + 5_000 * k)
    late, name = START_MS + 90_000, request(90)
    lines += [
        Line(late, STREAMS[0], f"START RequestId: {name} Version: 7\n"),
        Line(late + 3000, STREAMS[0], f"{iso(late + 3000)} {name} Task timed out after 3.00 seconds\n\n"),
        Line(late + 3000, STREAMS[0], f"END RequestId: {name}\n"),
        Line(late + 3000, STREAMS[0], f"REPORT RequestId: {name}\tDuration: 3000.00 ms\tBilled Duration: 3000 ms\tMemory Size: 128 MB\tMax Memory Used: 64 MB\tStatus: timeout\n"),
    ]  # fmt: skip
    last, gone = START_MS + 100_000, request(91)
    lines += [
        Line(last, STREAMS[0], f"START RequestId: {gone} Version: 7\n"),
        Line(last + 50, STREAMS[0], f"RequestId: {gone} Error: Runtime exited with error: exit status 1\nRuntime.ExitError\n"),
        Line(last + 50, STREAMS[0], f"REPORT RequestId: {gone}\tDuration: 50.00 ms\tMemory Size: 128 MB\tMax Memory Used: 70 MB\tInit Duration: 120.00 ms\tStatus: error\tError Type: Runtime.ExitError\n"),
    ]  # fmt: skip
    return numbered(lines + session(STREAMS[1], 99, START_MS + 700))


def rendered(tmp_path, lines, width, **given):
    path = tmp_path / "export.json"
    path.write_text(shapes.filter_pretty(lines))
    trace = analyzer.read(path)
    return report(trace.story, trace.findings, Style(width=width), view="lambda", **given)


@pytest.mark.parametrize("width", [80, 120])
def test_rendering(tmp_path, width):
    text = rendered(tmp_path, busy(), width)
    commands = ("         --query-string ",)  # one word of a shell, which nothing may break
    assert max(len(line) for line in text.splitlines() if not line.startswith(commands)) <= width
    check_golden(f"lambda-log-{width}.txt", text)


def test_everything_is_shown_on_request(tmp_path):
    text = rendered(tmp_path, busy(), 120, everything=True)
    assert all(f"  {request(k)[:8]}  " in text for k in (0, 90)) and "more" not in text
    assert sum(line.startswith("  11-2") for line in text.splitlines()) == 19


def test_hostile_names_reach_no_terminal(tmp_path):
    lines = [
        Line(e.ms, "2026/11/21/[\x1b[31m]evil\u202e", e.message.replace("INFO", "\x1b]0;x\x07"), e.id)
        for e in session(STREAMS[0], 0, START_MS)
    ]
    assert not {c for c in rendered(tmp_path, lines, 80) if not c.isprintable() and c != "\n"}


def test_managed_instances_are_never_frozen(tmp_path):
    def platform(kind, ms, **record):
        return Line(ms, STREAMS[0], json.dumps({"time": iso(ms), "type": f"platform.{kind}", "record": record}))

    lines = [platform("initStart", START_MS, initializationType="lambda-managed-instances", phase="init")]
    for k in range(4):
        at = START_MS + 1000 + 5000 * k
        lines += [
            platform("start", at, requestId=request(k)),
            platform("report", at + 100, requestId=request(k), metrics={"durationMs": 100.0}),
        ]
    text = rendered(tmp_path, numbered(lines), 120)
    assert "never frozen" in text and "4 invocations" in text
    path = tmp_path / "export.json"
    assert analyzer.read(path).story.freezes == []
