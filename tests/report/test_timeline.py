"""Timelines as text: read by a person in the goldens, in every width, and honest about order."""

from __future__ import annotations

import functools
import json
from importlib.resources import files

import jsonschema
import pytest
from referencing import Registry
from referencing.jsonschema import DRAFT202012

import analyzer
from analyzer.model.findings import Evidence
from analyzer.model.tables import TABLES
from analyzer.report.document import dumps
from analyzer.report.style import Style
from analyzer.report.tables import timeline_as
from analyzer.report.timeline import timeline_text
from analyzer.rules import rules, run
from analyzer.rules._cases import Case
from analyzer.timeline.timelines import Cut
from analyzer.trace import Trace
from tests.helpers import CAPTURES, CASES, check_golden

FROZEN, ZOMBIE = CAPTURES / "frozen-keepalive", CAPTURES / "zombie-fin-wait-2"
#: What each golden is about, by the name that a user would give.
TOLD = [
    *((folder, "connection", "C1") for folder in CASES[:3]),
    (FROZEN, "finding", "F1"),
    (FROZEN, "request", "b9cb51a5"),
    (FROZEN, "environment", "20e6082e"),
    (ZOMBIE, "finding", "F1"),
    (ZOMBIE, "request", "1741ca7d"),
    (ZOMBIE, "environment", "63a637de"),
]
FIRES = [pytest.param(case, id=f"{rule.CODE}-{n}") for rule in rules() for n, case in enumerate(rule.FIRES, 1)]


@functools.cache
def trace_of(folder):
    return analyzer.read(folder)


def traced(case):
    story = case.story()
    return Trace(story, run(story))


def names(trace):
    """Everything that a timeline may be about."""
    yield from (trace.story.connections.id(k) for k in range(len(trace.story.connections)))
    yield from (finding.id for finding in trace.findings)
    yield from (e.id for e in trace.story.environments)
    yield from dict.fromkeys(i.request_id for i in trace.story.invocations)


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize(("folder", "kind", "name"), TOLD, ids=lambda p: getattr(p, "name", p))
def test_goldens(folder, kind, name, width):
    text = timeline_text(trace_of(folder), name, Style(width=width))
    check_golden(f"{folder.name}-timeline-{kind}-{width}.txt", text)


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("width", [60, 80, 160])
@pytest.mark.parametrize("case", FIRES)
def test_no_line_is_wider_than_the_page(case, width, everything):
    trace = traced(case)
    for name in names(trace):
        lines = timeline_text(trace, name, Style(width=width), everything).splitlines()
        assert max(map(len, lines)) <= width


@pytest.mark.parametrize("case", FIRES)
def test_proof_is_marked_in_every_timeline_of_it(case):
    """Each line that a finding names stands in the finding's timeline, marked, however much is folded."""
    trace = traced(case)
    for finding in trace.findings:
        lines = timeline_text(trace, finding.id, Style(width=400)).splitlines()
        marked = [line for line in lines if line.startswith(("> ", "· "))]
        for e in finding.evidence:
            where = trace.story.source(e.source).at(e.ref)
            assert any(f" {where} " in line for line in marked), (finding.id, where)
        primary = [line for line in marked if line.startswith(">")]
        assert len(primary) == len({(e.source, e.ref) for e in finding.evidence if e.primary})


def test_it_is_the_same_every_time_and_plain_without_colour():
    for name in ("C1", "F1", "20e6082e"):
        first, second = (timeline_text(trace_of(FROZEN), name, Style(width=100)) for _ in range(2))
        assert first == second and "\x1b" not in first
    assert "\x1b[" in timeline_text(trace_of(FROZEN), "C1", Style(width=100, colour=True))


def test_hostile_text_is_escaped():
    log = """
    00:00:00.000 START 1
    00:00:00.001 app 1 \x1b]0;owned\x07 read ECONNRESET \u202egnihton
    00:00:00.010 REPORT 1
    """
    trace = traced(Case("hostile", log=log))
    text = timeline_text(trace, trace.story.environments[0].id, Style(width=160))
    assert "\\x1b]0;owned\\x07 read ECONNRESET \\u202e" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_states_of_both_ends_stand_at_each_segment():
    wide = timeline_text(trace_of(ZOMBIE), "C1", Style(width=160))
    segments = [line for line in wide.splitlines() if " pcap " in line]
    assert segments and all(" / " in line for line in segments)
    narrow = timeline_text(trace_of(ZOMBIE), "C1", Style(width=80))
    assert "client CLOSE_WAIT, server FIN_WAIT_2" in narrow


def test_an_order_that_the_clocks_do_not_prove_is_marked():
    """The error of the clocks decides, and only between different sources."""
    trace = analyzer.read(FROZEN)
    error = trace.story.clock_error("s1", "s2")
    steps = trace.story_of("C1").steps
    text = timeline_text(trace, "C1", Style(width=160), everything=True).split("\n\n", 1)[1]
    lines = [line for line in text.split("\n\n")[0].splitlines() if "⋮" not in line]
    assert len(lines) == len(steps)
    for before, after, line in zip(steps, steps[1:], lines[1:], strict=False):
        close = after.time_ns - before.time_ns <= error and before.source != after.source
        assert ("~" in line[:16]) == close, line
    assert "not proven to come after the line above (clocks ± 14.4 ms)" in timeline_text(trace, "C1", Style(width=160))


def test_lines_of_two_sources_that_cannot_be_aligned_are_not_mixed():
    case = Case(
        "unaligned", log="00:00:00.000 START 1\n00:00:00.010 REPORT 1", packets="5000.0 > SYN\n5000.1 < SYN-ACK"
    )
    trace = traced(case)
    assert not trace.story.aligned
    connection = timeline_text(trace, "C1", Style(width=120))
    assert "log lines are left out" in connection and "START" not in connection
    environment = timeline_text(trace, trace.story.environments[0].id, Style(width=120))
    assert "packets are left out" in environment and "SYN" not in environment


# ---- stretches


def gutter(text):
    rows = [
        line for line in text.split("\n\n")[1].splitlines() if " lambda" in line or " pcap" in line or " grpc" in line
    ]
    return [float(line[2:].split("~")[0].split()[0]) for line in rows]


def test_a_stretch_in_seconds_of_the_gutter():
    text = timeline_text(trace_of(FROZEN), "C1", Style(width=160), True, Cut(since="13.2", until="14"))
    times = gutter(text)
    assert times and min(times) >= 13.2 and max(times) <= 14
    assert (
        timeline_text(trace_of(FROZEN), "C1", Style(width=160), True, Cut(since="900")).count("nothing in this stretch")
        == 1
    )


def test_around_a_finding_a_request_a_time():
    trace = trace_of(FROZEN)
    style = Style(width=160)
    of_finding = gutter(timeline_text(trace, "C1", style, True, Cut(around="500ms")))
    assert min(of_finding) >= 18.750644 - 0.5 and max(of_finding) <= 18.750644 + 0.5
    assert of_finding == gutter(timeline_text(trace, "C1", style, True, Cut(around="500ms", at="F1")))
    assert of_finding == gutter(timeline_text(trace, "C1", style, True, Cut(around="500ms", at="18.750644")))
    at = gutter(timeline_text(trace, "C1", style, True, Cut(around="1s", at="2026-11-21T01:49:50.320Z")))
    assert at and max(at) - min(at) <= 2
    request = gutter(timeline_text(trace, "C1", style, True, Cut(around="0s", at="b9cb51a5")))
    assert request[0] == 18.750644 and request[-1] == 18.890644


@pytest.mark.parametrize(
    ("name", "cut", "message"),
    [
        ("C1", Cut(around="soon"), "is no duration"),
        ("C1", Cut(since="yesterday"), "is no time"),
        ("C2", Cut(around="5s"), "nothing says where to look around"),
        ("C1", Cut(at="nobody"), "nothing is called 'nobody'"),
    ],
)
def test_a_stretch_that_makes_no_sense(name, cut, message):
    with pytest.raises(analyzer.InputError, match=message):
        timeline_text(trace_of(FROZEN), name, Style(width=100), cut=cut)


# ---- for machines


def test_one_story_in_every_form():
    trace = trace_of(FROZEN)
    for name in ("C1", "F1", "b9cb51a5", "20e6082e"):
        table = trace.timeline(name)
        rows = [json.loads(line) for line in b"".join(timeline_as(trace, name, Cut(), "jsonl")).splitlines()]
        document = json.loads(b"".join(timeline_as(trace, name, Cut(), "json")))
        assert document["events"] == rows and len(rows) == len(table)
        assert b"".join(timeline_as(trace, name, Cut(), "csv")).count(b"\r\n") == len(table) + 1
        assert [r["time"] for r in rows] == sorted(r["time"] for r in rows)


SCHEMAS = [
    json.loads((files("analyzer.model") / "schema" / name).read_text("utf-8"))
    for name in ("analyzer-timeline-1.json", "analyzer-1.json")
]
VALIDATOR = jsonschema.Draft202012Validator(
    SCHEMAS[0], registry=Registry().with_resources((s["$id"], DRAFT202012.create_resource(s)) for s in SCHEMAS)
)


@pytest.mark.parametrize("case", FIRES)
def test_documents_are_of_the_published_schema(case):
    trace = traced(case)
    for name in names(trace):
        document = b"".join(timeline_as(trace, name, Cut(), "json"))
        assert [f"{e.json_path}: {e.message[:200]}" for e in VALIDATOR.iter_errors(json.loads(document))] == []
        assert dumps(json.loads(document)) == document


def test_the_schema_has_every_column_and_requires_what_it_describes():
    assert list(SCHEMAS[0]["$defs"]["event"]["properties"]) == [column.name for column in TABLES["events"]]
    for described in (SCHEMAS[0], *SCHEMAS[0]["$defs"].values()):
        assert described["required"] == list(described["properties"]) and described["additionalProperties"] is True


def test_evidence_outside_of_the_captures_changes_nothing():
    """A finding may name a line that a narrower view left out: its timeline is what there is."""
    trace = traced(FIRES[0].values[0])
    trace.findings[0].evidence.append(Evidence("log", ":9999", "app", trace.findings[0].time_ns, None, "gone"))
    assert "gone" not in timeline_text(trace, "F1", Style(width=120))
