"""The shipped cases: what must, must not and may be found, from all inputs together and from each by itself."""

from __future__ import annotations

import functools
import json
import shutil

import pytest

import analyzer
from analyzer.report.document import dumps
from analyzer.report.style import Style
from analyzer.report.text import report
from analyzer.rules import rules
from tests.helpers import ALL_CASES, CAPTURES, CASES, check_golden, expected, shift_pcap

MS = 1_000_000
LARGEST_CASE, ALL_TOGETHER = 200_000, 3_000_000
each_case = pytest.mark.parametrize("folder", ALL_CASES, ids=lambda p: p.name)


@functools.cache
def read(*paths):
    return analyzer.read(*paths)


def whole(folder):
    return read(*(folder / name for name in expected(folder)["inputs"]))


def clients(trace, finding):
    connections = trace.story.connections
    indices = [trace.index(c) for c in {finding.connection, *finding.connections} if c]
    return {connections.record(k, p).client for k in indices for p in connections.seen_at(k)}


def judge(trace, want):
    """(missing, forbidden, alarms)."""
    missing = []
    for w in want["require"]:
        hits = [
            f
            for f in trace.findings
            if f.rule in w["any_of"]
            and ("time" not in w or abs(f.time_ns / 1e9 - w["time"]) < 12)
            and (not w.get("client") or not clients(trace, f) or w["client"] in clients(trace, f))
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


def verdicts(trace):
    return sorted((f.rule, f.connection or "", f.confidence.word) for f in trace.findings)


@each_case
def test_expected_findings(folder):
    assert judge(whole(folder), expected(folder)) == ([], [], [])


@pytest.mark.parametrize(
    ("folder", "name"), [(folder, name) for folder in ALL_CASES for name in expected(folder)["alone"]], ids=str
)
def test_an_input_alone_says_nothing_wrong(folder, name):
    assert judge(read(folder / name), expected(folder)["alone"][name]) == ([], [], [])


@each_case
def test_what_is_expected_of_each_input_alone_is_written_down(folder):
    want = expected(folder)
    assert set(want["alone"]) == (set(want["inputs"]) if len(want["inputs"]) > 1 else set())


@each_case
def test_a_folder_given_whole_is_the_same(folder):
    trace, parts = analyzer.read(folder), whole(folder)
    assert [(f.rule, f.connection, f.time_ns) for f in trace.findings] == [
        (f.rule, f.connection, f.time_ns) for f in parts.findings
    ]
    assert {path.rsplit("/", 1)[1] for path, _ in trace.story.skipped} == {"README.md", "truth.json", "expected.json"}


@each_case
def test_the_order_of_inputs_changes_nothing(folder):
    paths = [folder / name for name in expected(folder)["inputs"]]
    assert dumps(analyzer.read(*paths[::-1]).document()) == dumps(whole(folder).document())


@each_case
def test_freezes_are_the_true_ones(folder):
    begun, true = {}, []
    for e in json.loads((folder / "truth.json").read_text())["events"]:
        if e["type"] == "freeze":
            begun[e["container"]] = e["t"]
        elif e["type"] == "thaw" and e["t"] - begun[e["container"]] > 0.05:
            true.append((begun[e["container"]], e["t"]))
    story = whole(folder).story
    found = [(z.start_ns / 1e9, z.end_ns / 1e9) for z in story.freezes]
    begun_anew = [e.time_ns / 1e9 for e in story.events if e.kind == "init-start"]
    for start, end in true:
        if any(start < t < end for t in begun_anew):
            continue  # what was frozen never thawed: another process took its place
        assert any(abs(a - start) <= 0.2 and abs(b - end) <= 0.2 for a, b in found), (start, end)


@each_case
def test_clocks_are_the_true_ones(folder):
    for source in whole(folder).story.sources:
        for clock in source.clocks:  # all stamps of a case are one machine's
            if clock.offset_ns is not None:
                assert abs(clock.offset_ns) <= clock.error_ns + MS, (source.path, clock)


def shifted(folder, seconds, target):
    """The case in `target`, its captures' clocks off by `seconds`."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.md", "truth.json", "expected.json"))
    for capture in folder.glob("*.pcap"):
        shift_pcap(capture, target / capture.name, seconds)
    return analyzer.read(target)


@pytest.mark.parametrize("seconds", [0.3, -9.0, 7200.0])
@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_a_clock_that_is_off_is_put_right(folder, seconds, tmp_path):
    (clock,) = [s.clocks[0] for s in shifted(folder, seconds, tmp_path / "case").story.sources if s.kind == "pcap"]
    assert abs(clock.offset_ns / 1e9 + seconds) <= clock.error_ns / 1e9 + 0.001


@pytest.mark.parametrize(
    ("folder", "seconds"),
    [(folder, (0.3, -9.0, 7200.0)[k % 3]) for k, folder in enumerate(ALL_CASES)],
    ids=str,
)
def test_a_clock_that_is_off_changes_no_finding(folder, seconds, tmp_path):
    trace = shifted(folder, seconds, tmp_path / "case")
    if all(clock.offset_ns is not None for source in trace.story.sources for clock in source.clocks):
        assert verdicts(trace) == verdicts(whole(folder))
    else:  # too few anchors for a shift so large: less is known, nothing is wrong
        assert judge(trace, expected(folder))[1] == []


@each_case
def test_rendering(folder):
    trace = whole(folder)
    for width in (80, 160):
        lines = report(trace.story, trace.findings, Style(width=width)).splitlines()
        too_long = [line for line in lines if len(line) > width]
        assert all("--log-stream-names" in line for line in too_long)  # one word of a command to paste
    check_golden(f"{folder.name}-80.txt", report(trace.story, trace.findings, Style(width=80)))


@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_rendering_wide(folder):
    trace = whole(folder)
    check_golden(f"{folder.name}-120.txt", report(trace.story, trace.findings, Style(width=120)))


def test_the_cases_are_listed_explained_and_small():
    listed = (CAPTURES / "README.md").read_text()
    total = 0
    for folder in ALL_CASES:
        assert f"[`{folder.name}`]({folder.name}/)" in listed
        assert f"python captures/make/make.py {folder.name}" in (folder / "README.md").read_text()
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        assert size < LARGEST_CASE, (folder.name, size)
        total += size
    assert total < ALL_TOGETHER


#: Rules that no shipped case requires yet.
WANTING = ""


def test_every_rule_has_a_case():
    required = {
        rule
        for folder in ALL_CASES
        for want in expected(folder)["require"]
        if len(want["any_of"]) == 1
        for rule in want["any_of"]
    }
    assert {rule.CODE for rule in rules()} - required == set(WANTING.split())
