"""What the page says of a trace, ready for the templates: the verdict, the findings laid out, the sources. Text is as it came:
the templates escape it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct

from analyzer.model.findings import Evidence, Finding, Silence
from analyzer.model.times import MS, SECOND, iso, seconds
from analyzer.report.causes import total
from analyzer.report.coverage import said, unexplained, unseen
from analyzer.report.escape import count, short_environment
from analyzer.report.explain import documentation
from analyzer.report.style import Style
from analyzer.report.text import UNALIGNED, choice, clock_state, verdict
from analyzer.rules import rules

if TYPE_CHECKING:
    from analyzer.model.records import Source
    from analyzer.report.causes import Cause, Impact
    from analyzer.report.html.limits import Limits
    from analyzer.timeline.story import Story
    from analyzer.trace import Trace

#: Wider than any sentence: the browser breaks lines.
UNBROKEN = Style(width=100_000)


def worst_first(findings: list[Finding]) -> list[Finding]:
    """The worst first, whatever caused it."""
    return sorted(findings, key=lambda x: (-x.severity, -x.confidence, x.time_ns, x.id))


def causes_first(roots: list[Cause]) -> list[Finding]:
    """Each cause, its best example first, followed by its consequences; every finding once."""
    order = (item for cause in roots for item in (*cause.examples, *cause.consequences))
    return list({item.id: item for item in order}.values())


def laid_out(findings: list[Finding], limits: Limits) -> list[Finding]:
    """The findings that are shown in full: some of each rule, in order."""
    seen: Counter[str] = Counter()
    shown: list[Finding] = []
    for item in findings:
        seen[item.rule] += 1
        if seen[item.rule] <= limits.examples and len(shown) < limits.cards:
            shown.append(item)
    return shown


# ---- the verdict


class Verdict(Struct, frozen=True):
    """The first screen: what happened in a sentence, what it cost, what it rests on."""

    severity: str
    title: str
    headline: str
    causes: list[Cause]
    impact: list[tuple[str, str]]
    coverage: list[str]


def summary(trace: Trace, findings: list[Finding], roots: list[Cause]) -> Verdict:
    """The verdict on a trace; `findings` are the worst first, `roots` their causes."""
    story = trace.story
    headline = verdict(story, trace.findings, UNBROKEN).splitlines()[0]
    severity = findings[0].severity.word if findings else "good"
    title = roots[0].examples[0].title if len(roots) == 1 else headline
    return Verdict(severity, title, headline, roots, _impact(story, findings, total(roots)), _coverage(story, findings))


def _impact(story: Story, findings: list[Finding], cost: Impact) -> list[tuple[str, str]]:
    if not findings:
        return []
    connections = {c for item in findings for c in item.connections}
    environments = {item.environment for item in findings if item.environment}
    rows = []
    if cost.requests or story.invocations:
        rows.append(("requests failed", f"{len(cost.requests):,}"))
    if cost.lost_ns >= MS:
        rows.append(("time lost", seconds(cost.lost_ns)))
    if listed := len(story.connections.in_view()):
        rows.append(("connections concerned", f"{len(connections):,} of {listed:,}"))
    if story.environments:
        rows.append(("environments concerned", f"{len(environments):,} of {len(story.environments):,}"))
    if silence := max(item.silence_ns for item in findings):
        rows.append(("longest silence", seconds(silence)))
    return rows


def _coverage(story: Story, findings: list[Finding]) -> list[str]:
    lines = []
    if story.interrupted:
        lines.append("interrupted: this is what had come until then")
    if story.connections.points and story.events and not story.aligned:
        lines.append(UNALIGNED)
    lines += [*said(story, unexplained(story, findings)), *unseen(story), *choice(story)]
    if problems := sum(len(s.problems) for s in story.sources):
        lines.append(f"{count(problems, 'remark')} on what the inputs lost or could not tell, under Sources")
    return lines


# ---- a finding


class Row(Struct, frozen=True):
    """A line of evidence, or (`number` 0) a silence."""

    number: int
    gutter: str
    layer: str = ""
    place: str = ""
    text: str = ""
    note: str = ""
    primary: bool = False
    stamps: str = ""
    also: str = ""


class Card(Struct, frozen=True):
    """A finding, laid out. `notes` are what the text report says below the evidence; `figure` is the key of its timeline."""

    finding: Finding
    ends: str
    transport: str
    environment: str
    time: str
    rows: list[Row]
    notes: list[tuple[str, str | list[str]]]
    figure: str | None
    first: bool  # of its rule: open when the page opens


def card(story: Story, item: Finding, figure: str | None, first: bool) -> Card:
    """One finding for the template."""
    transport = story.transport(item.transport) if item.transport else None
    notes: list[tuple[str, str | list[str]]] = [
        ("why", item.why), ("ruled out", item.ruled_out), ("clock", item.clock), ("help", item.help),
        ("would settle it", item.upgrade),
    ]  # fmt: skip
    return Card(
        item,
        story.connections.ends(item.connection) if item.connection else "",
        f"({transport.number}){f' to {transport.remote}' if transport.remote else ''}" if transport else "",
        short_environment(item.environment or ""),
        f"{iso(item.time_ns)[:23]}Z".replace("T", " "),
        _rows(story, item),
        [(name, text) for name, text in notes if text],
        figure,
        first,
    )


def _rows(story: Story, item: Finding) -> list[Row]:
    rows: list[Row] = []
    zero = item.evidence[0].time_ns if item.evidence else 0
    number = 0
    for told in item.told():
        if isinstance(told, Silence):
            rows.append(Row(0, "⋮", text=told.text))
            continue
        number += 1
        rows.append(_row(story, told, number, zero))
    return rows


def _row(story: Story, e: Evidence, number: int, zero: int) -> Row:
    stamps = iso(e.time_ns) + (f", in its own clock {iso(e.source_ns)}" if e.source_ns not in (None, e.time_ns) else "")
    also = ", ".join(story.source(source).at(ref) for source, ref in e.also)
    place = story.source(e.source).at(e.ref)
    return Row(
        number,
        f"{'~' * e.unproven}{(e.time_ns - zero) / SECOND:.6f}",
        e.layer,
        place,
        e.text,
        e.note,
        e.primary,
        stamps,
        also,
    )


# ---- sources


class Read(Struct, frozen=True):
    """One source: what it is, from when to when (as shares of the whole time), how its clocks stand."""

    source: Source
    records: str
    first: str
    last: str
    start: float
    width: float
    clocks: list[tuple[str, str]]


def sources(story: Story) -> list[Read]:
    """Every input, in order."""
    times = [t for s in story.sources for t in (s.first_ns, s.last_ns) if t is not None]
    zero, whole = min(times, default=0), max(max(times, default=0) - min(times, default=0), 1)
    return [_read(s, zero, whole) for s in story.sources]


def _read(s: Source, zero: int, whole: int) -> Read:
    first, last = s.first_ns, s.last_ns
    start = (first - zero) / whole * 100 if first is not None else 0.0
    width = (last - first) / whole * 100 if first is not None and last is not None else 0.0
    clocks = []
    for c in s.clocks:
        detail = f", from {count(c.anchors, 'anchor')}" if c.anchors else ""
        detail += f", drift {c.drift_ppm:+.1f} ppm" if c.drift_ppm else ""
        detail += f" ({c.how})" if c.how else ""
        clocks.append((c.name, f"{clock_state(c) or 'in step'}{detail}"))
    records = count(s.records, "packet" if s.kind == "pcap" else "event")
    began, ended = (iso(t) if t is not None else "" for t in (first, last))
    return Read(s, records, began, ended, round(start, 3), round(width, 3), clocks)


# ---- rules


class Rule(Struct, frozen=True):
    """A rule's own documentation: (heading, paragraphs) in order."""

    code: str
    name: str
    summary: str
    parts: list[tuple[str, list[str]]]


def rules_of(findings: list[Finding]) -> list[Rule]:
    """The documentation of the rules that these findings name, by code."""
    wanted = {item.rule for item in findings}
    return [
        Rule(r.CODE, r.NAME, r.SUMMARY, [(title, text.split("\n\n")) for title, text in documentation(r)])
        for r in rules()
        if r.CODE in wanted
    ]
