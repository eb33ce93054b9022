"""The shipped cases: what must, must not and may be found, from all inputs, from the server's capture alone, from logs alone."""

from __future__ import annotations

import itertools
import shutil

import pytest

import analyzer
from analyzer.report.style import Style
from analyzer.report.text import report
from analyzer.report.timeline import timeline_text
from tests.helpers import CASES, check_golden, expected, shift_pcap

MS = 1_000_000
#: What logs alone can prove.
FROM_LOGS = {"K101", "K102", "K103"}


def clients(trace, finding):
    if not finding.connection:
        return set()
    connections = trace.story.connections
    k = trace.index(finding.connection)
    return {connections.record(k, p).client for p in connections.seen_at(k)}


def judge(trace, want):
    """(missing, forbidden, alarms)."""
    missing = []
    for w in want["require"]:
        hits = [
            f
            for f in trace.findings
            if f.rule in w["any_of"]
            and ("time" not in w or abs(f.time_ns / 1e9 - w["time"]) < 12)
            and (not w.get("client") or not f.connection or w["client"] in clients(trace, f))
        ]
        if not hits:
            missing.append(w)
    forbidden = [
        f.rule
        for b in want["forbid"]
        for f in trace.findings
        if f.rule in b["rules"]
        and (not b.get("client") or b["client"] in clients(trace, f))
        and ("time" not in b or abs(f.time_ns / 1e9 - b["time"]) < 1.5)
    ]
    wanted = {rule for w in want["require"] for rule in w["any_of"]} | set(want["allow"])
    alarms = [f.rule for f in trace.findings if f.severity.word != "info" and f.rule not in wanted]
    return missing, forbidden, alarms


@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_expected_findings(folder):
    want = expected(folder)
    assert judge(analyzer.read(*(folder / n for n in want["inputs"])), want) == ([], [], [])


@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_a_folder_given_whole_is_the_same(folder):
    want = expected(folder)
    whole, parts = analyzer.read(folder), analyzer.read(*(folder / n for n in want["inputs"]))
    assert [(f.rule, f.connection, f.time_ns) for f in whole.findings] == [
        (f.rule, f.connection, f.time_ns) for f in parts.findings
    ]
    assert {path.rsplit("/", 1)[1] for path, _ in whole.story.skipped} >= {"README.md", "truth.json", "expected.json"}


@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_logs_alone_say_nothing_wrong(folder):
    want = expected(folder)
    want["require"] = [w for w in want["require"] if set(w["any_of"]) & FROM_LOGS]
    assert judge(analyzer.read(folder / "lambda.json"), want) == ([], [], [])


@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_the_capture_alone_says_nothing_wrong(folder):
    want = expected(folder)
    want["require"] = [w for w in want["require"] if not set(w["any_of"]) & FROM_LOGS]
    assert judge(analyzer.read(folder / "server.pcap"), want) == ([], [], [])


@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_freezes_are_the_true_ones(folder):
    import json

    events = json.loads((folder / "truth.json").read_text())["events"]
    begun, true = {}, []
    for e in events:
        who = e.get("container") or e.get("environment")
        if e["type"] == "freeze":
            begun[who] = e["t"]
        elif e["type"] == "thaw" and who in begun:
            true.append((begun.pop(who), e["t"]))
    assert true
    found = [(z.start_ns / 1e9, z.end_ns / 1e9) for z in analyzer.read(folder / "lambda.json").story.freezes]
    for start, end in true:
        assert any(abs(a - start) <= 0.1 and abs(b - end) <= 0.1 for a, b in found), (start, end)


@pytest.mark.parametrize("seconds", [0.3, -9.0, 7200.0])
@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_a_clock_that_is_off_changes_no_finding(folder, seconds, tmp_path):
    shutil.copy(folder / "lambda.json", tmp_path)
    shift_pcap(folder / "server.pcap", tmp_path / "server.pcap", seconds)
    plain, shifted = analyzer.read(folder / "lambda.json", folder / "server.pcap"), analyzer.read(tmp_path)
    assert [(f.rule, f.connection, f.confidence) for f in shifted.findings] == [
        (f.rule, f.connection, f.confidence) for f in plain.findings
    ]
    (clock,) = [s.clocks[0] for s in shifted.story.sources if s.kind == "pcap"]
    assert abs(clock.offset_ns / 1e9 + seconds) <= clock.error_ns / 1e9 + 0.001


@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_the_order_of_inputs_changes_nothing(folder):
    from analyzer.report.document import dumps

    paths = [folder / n for n in expected(folder)["inputs"]]
    documents = {dumps(analyzer.read(*order).document()) for order in itertools.permutations(paths)}
    assert len(documents) == 1


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_rendering(folder, width):
    trace = analyzer.read(*(folder / n for n in expected(folder)["inputs"]))
    text = report(trace.story, trace.findings, Style(width=width))
    assert all(len(line) <= width for line in text.splitlines())
    check_golden(f"{folder.name}-{width}.txt", text)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_timeline_rendering(folder, width):
    trace = analyzer.read(*(folder / n for n in expected(folder)["inputs"]))
    text = timeline_text(trace, "C1", Style(width=width))
    assert all(len(line) <= width for line in text.splitlines())
    check_golden(f"{folder.name}-timeline-{width}.txt", text)
