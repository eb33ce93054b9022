"""Findings and summaries for a person, as plain text of a given width."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from analyzer.model.clocks import Clock
from analyzer.model.findings import Confidence, Finding, Silence
from analyzer.model.records import Ping, Source
from analyzer.model.times import MS, SECOND, seconds
from analyzer.report import connections, grpc, lambda_log
from analyzer.report.causes import Cause, Impact, causes, total
from analyzer.report.coverage import said, unexplained, unseen
from analyzer.report.escape import clip, clip_place, count, ended, short_environment, terminal
from analyzer.report.style import Style
from analyzer.report.wrapping import wrap
from analyzer.rules import rules
from analyzer.timeline.story import Story

GUTTER = "   |"
MARK = " > |"
UNALIGNED = (
    "logs and captures could not be aligned (nothing in both names the same moment): they are shown apart, "
    "and nothing is concluded from their order"
)
#: Environments and transports shown in a summary.
SHOWN = 12
#: Sources, problems of one, and names of files that were no input, in a summary.
SOURCES, PROBLEMS, SKIPPED = 20, 5, 12
#: Findings that a folded line names.
NAMED = 8
#: Lines of a note below its evidence, and of a line of a summary.
NOTE_LINES = 3


def finding(story: Story, item: Finding, style: Style) -> str:
    """One finding: headline, where, the evidence in order of time with silence drawn, why, what was ruled out, help."""
    head = f"{item.severity.word}[{item.rule}]"
    title = wrap(f"{head}: {terminal(item.title)}", style.width, subsequent_indent="    ")
    first = style.paint(head, item.severity.word) + style.paint(title[0].removeprefix(head), "bold")
    lines = [first, *(style.paint(line, "bold") for line in title[1:])]
    lines += _where(story, item, style)
    lines.append(GUTTER)
    lines += _evidence(story, item, style)
    lines.append(GUTTER)
    notes = [("why", item.why), ("ruled out", "; ".join(item.ruled_out)), ("clock", item.clock), ("help", item.help)]
    notes += [("would settle it", item.upgrade), ("caused by", ", ".join(item.caused_by))]
    for name, text in notes:
        if text:
            lines += _note(name, terminal(text), style)
    lines += _note("confidence", f"{item.confidence.word} · analyze explain {item.rule}", style)
    return "\n".join(lines)


def _where(story: Story, item: Finding, style: Style) -> list[str]:
    parts = [item.id] if item.id else []
    if item.connection:
        k = int(item.connection[1:]) - 1
        parts.append(f"{item.connection} {story.connections.client(k)} → {story.connections.server(k)}")
    if item.transport:
        t = story.transport(item.transport)
        parts.append(f"transport ({t.number})" + ("" if item.connection else f" to {t.remote}"))
    if item.environment:
        parts.append(f"env {short_environment(item.environment)}")
    if item.request_ids:
        parts.append(
            f"request {item.request_ids[0][:8]}…"
            + (f" and {len(item.request_ids) - 1} more" if len(item.request_ids) > 1 else "")
        )
    parts.append(style.when(item.time_ns))
    wrapped = wrap(terminal(" · ".join(parts)), style.width - 6, break_long_words=False)
    return [f"  {style.paint('-->', 'blue')} {wrapped[0]}", *(f"      {line}" for line in wrapped[1:])]


#: So much of a file's name stands beside its number.
NAMED_PLACE = 24


def _evidence(story: Story, item: Finding, style: Style) -> list[str]:
    """The proof in order of time, silence drawn where it lies; on a narrow terminal the text goes below its place."""
    if not item.evidence:
        return []
    zero = item.evidence[0].time_ns
    gutter = max(9, *(len(f"{(e.time_ns - zero) / SECOND:.6f}") for e in item.evidence))
    most = style.width // 4 if style.width < 80 else style.width // 3
    column = max(len(_place(story.source(e.source), e.ref, most)) for e in item.evidence)
    margin = gutter + column + 18
    out: list[str] = []
    for e in item.told():
        if isinstance(e, Silence):
            told = wrap(terminal(e.text), style.width - gutter - 8)
            lead = f"{GUTTER}  {' ' * (gutter - 1)}"
            out += [f"{lead}{'  ' if n else '⋮ '}{style.paint(line, 'dim')}" for n, line in enumerate(told)]
            continue
        label = _place(story.source(e.source), e.ref, most)
        mark = style.paint(MARK, "error") if e.primary else GUTTER
        sign = "~" if e.unproven else " "
        place = f"{mark}{sign}{(e.time_ns - zero) / SECOND:{gutter}.6f}  {e.layer:<6}  {label:<{column}}"
        lines = _fit(terminal(e.text), terminal(e.note), max(style.width - margin, 12), style)
        out.append(f"{place}  {lines[0]}".rstrip())
        out += [f"{GUTTER}{' ' * (margin - 5)}{line}" for line in lines[1:]]
    return out


def _place(source: Source, ref: str, room: int) -> str:
    """Where a piece of evidence stands, in so many columns: of a long file name the start, and the number."""
    whole = terminal(source.at(ref))
    return clip_place(whole, min(room, NAMED_PLACE + len(terminal(ref))))


def _fit(text: str, note: str, room: int, style: Style) -> list[str]:
    """Text and note on one line where both fit, the note below where they do not."""
    if not note:
        return [clip(text, room)]
    if len(text) + 2 + len(note) <= room:
        return [f"{text}  {style.paint(note, 'dim')}"]
    below = wrap(note, room, max_lines=NOTE_LINES, placeholder=" …")
    return [clip(text, room), *(style.paint(line, "dim") for line in below)]


def _note(name: str, text: str, style: Style) -> list[str]:
    """A named remark; its long commands get lines of their own, so that they can be pasted."""
    pieces = _pieces(text)
    hang = " " * (len(name) + 7 if len(pieces) == 1 else 5)
    lines: list[str] = []
    for piece, is_command in pieces:
        if is_command:
            lines += [f"{hang}  {line}" for line in _command(piece, style.width - len(hang) - 2)]
        elif words := piece.strip(" ;"):
            lead = hang if lines else f"   = {name}: "
            room = max(style.width, len(hang) + 30)
            lines += wrap(words, room, initial_indent=lead, subsequent_indent=hang, break_long_words=False)
    return [lines[0].replace(name, style.paint(name, "bold"), 1), *lines[1:]]


#: What stands in backticks and is longer than this is a command, not a word of the sentence.
LONG_COMMAND = 40


def _pieces(text: str) -> list[tuple[str, bool]]:
    """Sentences and the commands between them, in order; True for a command."""
    found = [("", False)]
    for number, part in enumerate(text.split("`")):
        if number % 2 and len(part) > LONG_COMMAND:
            found += [(part, True), ("", False)]
        else:
            found[-1] = found[-1][0] + (f"`{part}`" if number % 2 else part), False
    return found


def _command(text: str, room: int) -> list[str]:
    """A command in lines that a shell joins again, broken between its words where it is wider than the terminal; settings one a line."""
    if len(text) > room and _SETTINGS.fullmatch(text):
        return text.split()
    lines = [""]
    for word in _WORDS.findall(text):
        if lines[-1].endswith(";") and len(text) > room:
            lines.append(word)
        elif lines[-1] and len(lines[-1]) + len(word) + 3 > room:
            lines[-1] += " \\"
            lines.append(f"  {word}")
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return lines


#: Words of a command as a shell takes them: what stands in quotes is one; an option keeps its value.
_WORDS = re.compile(r"(?:-{1,2}[\w-]+ (?!-))?(?:'[^']*'|[^\s'])+")
#: Environment variables, or logging properties: no command.
_SETTINGS = re.compile(r"[\w.]+=\S+(?: [\w.]+=\S+)*")


# ---- summaries


def report(
    story: Story,
    findings: list[Finding],
    style: Style,
    everything: bool = False,
    view: str = "",
    sort: str | None = None,
    limit: int | None = None,
) -> str:
    """What a command prints: sources, causes with the worst first, then what else there is. View `grpc` tells all that a
    trace says, `lambda` every environment's invocations; `sort` and `limit` are for the connections (`connections.section`)."""
    blocks = [sources(story, style, everything)]
    blocks += _findings(story, findings, style, everything)
    if view == "lambda":
        blocks.append(lambda_log.section(story, style, everything))
    elif story.invocations:
        blocks.append(environments(story, style))
    if view == "grpc":
        blocks.append(grpc.section(story, style, everything))
    elif story.transports:
        blocks.append(transports(story, style, everything))
    if len(story.connections.in_view()):
        blocks.append(connections.section(story, findings, style, everything, sort, limit))
    blocks.append(verdict(story, findings, style))
    return "\n\n".join(block for block in blocks if block) + "\n"


def _findings(story: Story, findings: list[Finding], style: Style, everything: bool) -> list[str]:
    """What began it all, cause by cause: the first example in full, what followed from it, the rest folded."""
    found = causes(findings)
    blocks = [overview(found, style)] if len(findings) > 1 else []
    for cause in found:
        shown, folded = told(cause, everything)
        blocks += [finding(story, item, style) for item in shown]
        if folded:
            blocks.append("\n".join("\n".join(_lines(f"… {line} (`--all` shows them)", style)) for line in folded))
    return blocks


def told(cause: Cause, everything: bool = False) -> tuple[list[Finding], list[str]]:
    """The findings of a cause that are shown in full, the first of each rule, and what is said of the others."""
    by_rule: dict[str, list[Finding]] = {}
    for item in (*(cause.findings if everything else cause.examples), *cause.consequences):
        by_rule.setdefault(item.rule, []).append(item)
    if everything:
        return [item for same in by_rule.values() for item in same], []
    return [same[0] for same in by_rule.values()], [_folded(same[1:]) for same in by_rule.values() if len(same) > 1]


def _folded(items: list[Finding]) -> str:
    """`22 more F202: F3, F4, F5 …`."""
    named = ", ".join(item.id for item in items[:NAMED])
    return f"{len(items):,} more {items[0].rule}: {named}{' …' if len(items) > NAMED else ''}"


def overview(found: list[Cause], style: Style) -> str:
    """A line a cause: how bad, what, towards which server, how often, what followed, what it cost."""
    lines = [style.paint("causes", "bold")]
    for cause in found:
        own = max(item.severity for item in cause.findings)
        head = f"{own.word}[{cause.rule}]"
        led = Counter(item.rule for item in cause.consequences)
        parts = [f"{cause.name}{f' · {terminal(cause.server)}' if cause.server else ''}"]
        parts += [f"{len(cause.findings):,} times"] if len(cause.findings) > 1 else []
        parts += [f"then {', '.join(f'{n:,} × {rule}' if n > 1 else rule for rule, n in led.items())}"] if led else []
        parts += [cost] if (cost := _cost(cause.impact)) else _connections(cause)
        wrapped = wrap(f"{head} {'; '.join(parts)}", style.width - 2, subsequent_indent="    ")
        first = style.paint(head, own.word) + wrapped[0].removeprefix(head)
        lines += [f"  {first}", *(f"  {line}" for line in wrapped[1:])]
    return "\n".join(lines)


def _connections(cause: Cause) -> list[str]:
    """How many connections findings about a whole server concern."""
    concerned = {c for f in cause.findings if f.connection is None for c in f.connections}
    return [count(len(concerned), "connection")] if concerned else []


def _cost(told: Impact) -> str:
    """`2 requests failed, 26.8 s lost, 1 environment`; empty where nothing failed and nothing was lost."""
    parts = [f"{count(len(told.requests), 'request')} failed"] if told.requests else []
    parts += [f"{seconds(told.lost_ns)} lost"] if told.lost_ns >= MS else []
    parts += [count(len(told.environments), "environment")] if told.requests and told.environments else []
    return ", ".join(parts)


def sources(story: Story, style: Style, everything: bool = False) -> str:
    """What was read, how the clocks stand, what could not be read."""
    lines = []
    shown = story.sources if everything or len(story.sources) <= SOURCES else story.sources[: SOURCES - 1]
    for s in shown:
        state = clock_state(s.clocks[0] if s.clocks else None)
        read = _read(s.kind, s.records) + (f" in {len(s.parts)} files" if s.parts else "")
        lines += _lines(f"{terminal(s.label)}: {s.format}, {read}{', ' + state if state else ''}", style)
        problems = s.problems if everything else s.problems[:PROBLEMS]
        for p in problems:
            lines += _lines(f"    {terminal(p.ref + ': ' if p.ref else '')}{terminal(p.what)}", style)
        if more := len(s.problems) - len(problems):
            lines.append(f"    … {count(more, 'more problem')}")
    if rest := story.sources[len(shown) :]:
        lines.append(f"… {_of_sources(rest)} (`--all` shows them)")
    if story.interrupted:
        lines.append("interrupted: what follows is what had come until then")
    if story.skipped:
        names = Counter(terminal(path.rsplit("/", 1)[-1]) for path, _ in story.skipped)
        listed = [f"{name} ({n:,}×)" if n > 1 else name for name, n in names.items()]
        more = len(listed) - SKIPPED
        if more > 0 and not everything:
            listed = [*listed[:SKIPPED], f"and {more:,} more names"]
        lines += wrap(
            f"skipped (no input): {', '.join(listed)}", style.width, subsequent_indent="    ", break_long_words=False
        )
    if story.connections.points and story.events and not story.aligned:
        lines += wrap(UNALIGNED, style.width, subsequent_indent="    ")
    return "\n".join(style.paint(line, "dim") for line in lines)


def _read(kind: str, records: int) -> str:
    return count(records, "packet" if kind == "pcap" else "event")


def _of_sources(rest: list[Source]) -> str:
    """`188 more inputs: 1,204 packets, 31,070 events, 12 with problems`."""
    records = {kind: sum(s.records for s in rest if (s.kind == "pcap") is (kind == "pcap")) for kind in ("pcap", "log")}
    parts = [_read(kind, n) for kind, n in records.items() if n]
    damaged = sum(bool(s.problems) for s in rest)
    return f"{count(len(rest), 'more input')}: {', '.join(parts)}" + (f"; {damaged:,} with problems" if damaged else "")


def clock_state(clock: Clock | None) -> str:
    """How a clock stands to the reference; empty where there is nothing to say."""
    if clock is None:
        return "no time stamps"
    if clock.reference:
        return "reference clock"
    if clock.offset_ns is None:
        return "clock unaligned"
    if clock.anchors or clock.error_ns:
        return f"clock {clock.describe()}"
    return ""


def environments(story: Story, style: Style) -> str:
    """One line an environment: invocations, how they ended, how long it was frozen."""
    lines = [style.paint("environments", "bold")]
    rows = []
    statuses: dict[str, Counter[str]] = defaultdict(Counter)
    lengths: dict[str, list[int]] = defaultdict(list)
    for i in story.invocations:
        statuses[i.environment][i.status] += 1
    for z in story.freezes:
        lengths[z.environment].append(z.length_ns)
    for e in story.environments:
        bad = {status: n for status, n in statuses[e.id].items() if status not in ("success", "unknown")}
        frozen, longest = sum(lengths[e.id]), max(lengths[e.id], default=0)
        text = f"  {terminal(short_environment(e.id))}{' (inferred)' if e.inferred else ''}: {count(e.invocations, 'invocation')}"
        text += "".join(f", {ended(n, status)}" for status, n in sorted(bad.items()))
        if frozen:
            text += f", frozen {seconds(frozen)} in {count(len(lengths[e.id]), 'gap')}, longest {seconds(longest)}"
        if e.addresses:
            text += f", {', '.join(sorted(e.addresses))}"
        rows.append((-sum(bad.values()), text))
    rows.sort(key=lambda r: r[0])
    for _, text in rows[:SHOWN]:
        lines += wrap(text, style.width, subsequent_indent="      ", break_long_words=False)
    if len(rows) > SHOWN:
        lines.append(f"  … {len(rows) - SHOWN:,} more (`--all` shows them)")
    return "\n".join(lines)


def transports(story: Story, style: Style, everything: bool) -> str:
    """One line a gRPC transport: its pings and how it ended."""
    lines = [style.paint("gRPC transports", "bold")]
    shown = story.transports if everything else story.transports[:SHOWN]
    pings: dict[str, list[Ping]] = defaultdict(list)
    for p in story.pings:
        pings[p.transport].append(p)
    for t in shown:
        mine = pings[t.id]
        acked, lost = sum(p.acked_ns is not None for p in mine), sum(p.timed_out_ns is not None for p in mine)
        text = f"  ({t.number}) {t.remote or '?'}: {count(len(mine), 'ping')}, {acked} acked, {lost} timed out"
        text += f", closed by {t.closed_by}" if t.closed_by else ", open at the end"
        text += f", {t.connection}" if t.connection else ""
        lines += _lines(terminal(text), style)
    if len(story.transports) > len(shown):
        lines.append(f"  … {len(story.transports) - len(shown):,} more (`--all` shows them)")
    return "\n".join(lines)


def verdict(story: Story, findings: list[Finding], style: Style) -> str:
    """The last lines: counts, and with no finding what that is worth."""
    outside = f"; {count(story.outside, 'finding')} outside of this view" if story.outside else ""
    if findings:
        counts = Counter(item.severity.word for item in findings)
        words = ", ".join(
            count(counts[w], w) if w != "info" else f"{counts[w]:,} info"
            for w in ("error", "warning", "info")
            if counts[w]
        )
        cost = _cost(total(causes(findings)))
        tail = f"; {cost}" if cost else ""
        text = f"{count(len(findings), 'finding')}: {words}{tail}{outside}"
        heads = wrap(text, style.width, subsequent_indent="  ")
        notes = [*said(story, unexplained(story, findings)), *choice(story)]
        return "\n".join([*(style.paint(line, "bold") for line in heads), *_indented(notes, style)])
    have = []
    if connections := len(story.connections.in_view()):
        have.append(count(connections, "connection"))
    if story.events:
        have.append(count(len(story.events), "log event"))
    if story.invocations:
        have.append(count(len(story.invocations), "invocation"))
    text = f"no findings in {', '.join(have) or ('this view' if story.outside else 'these inputs')}{outside}"
    errors = said(story, unexplained(story, findings))
    partial = errors or story.outside or (story.examined is not None and story.examined.left_out)
    lines = [style.paint(text, "bold" if partial else "green")]
    return "\n".join([*lines, *_indented([*errors, *unseen(story), *choice(story)], style)])


def _indented(items: list[str], style: Style) -> list[str]:
    lines = []
    for item in items:
        lines += wrap(item, style.width, initial_indent="    ", subsequent_indent="    ")
    return lines


def _lines(text: str, style: Style) -> list[str]:
    """A line of a summary, in as many as it takes: what was read may be named at any length, so that no more than a few do."""
    indent = " " * (len(text) - len(text.lstrip()))
    return wrap(text, style.width, subsequent_indent=f"{indent}    ", max_lines=NOTE_LINES, placeholder=" …")


def choice(story: Story) -> list[str]:
    """What the user chose of rules and thresholds, and what that left out; nothing where all is as it is by default."""
    examined, said = story.examined, []
    if examined is None:
        return []
    silent = [rule.CODE for rule in rules() if rule.CODE not in examined.rules]
    if silent:
        few = len(silent) <= len(examined.rules)
        said.append(f"without rules {', '.join(silent)}" if few else f"rules {', '.join(examined.rules)} only")
    if examined.min_confidence != Confidence.POSSIBLE.word:
        said.append(f"confidence {examined.min_confidence} or more only")
    if examined.left_out:
        said.append(f"{count(examined.left_out, 'finding')} left out by this choice")
    if examined.thresholds:
        changed = ", ".join(f"{name} = {value:.10g}" for name, value in examined.thresholds.items())
        said.append(f"thresholds changed: {changed}")
    return said
