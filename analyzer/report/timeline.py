"""A timeline as text: every source in order, states of both ends, invocations and freezes as a band, silence drawn.

> 18.750498~┃ grpc   lambda.json[155]  Ping timeout passed without response   ESTAB / ESTAB
│ │        ││ │      │                 └ what it says                         └ client / server
│ │        ││ │      └ where it stands
│ │        ││ └ who says so
│ │        │└ ┏ ┃ ┗ an invocation runs, ░ frozen
│ │        └ ~ the clocks do not prove that it came after the line above
│ └ seconds
└ > the line that a finding is, · what proves it
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from analyzer.model.times import SECOND, seconds
from analyzer.report.details import detail_lines
from analyzer.report.escape import clip, clip_place, count, terminal
from analyzer.report.folding import Folded, Quiet, summary, whole
from analyzer.report.style import Style
from analyzer.report.wrapping import wrap
from analyzer.timeline.order import error_between
from analyzer.timeline.steps import MAIN, TOLD, Step
from analyzer.timeline.subjects import CONNECTION, ENVIRONMENT, REQUEST, environment_of
from analyzer.timeline.tie_table import weak_ties
from analyzer.timeline.timelines import WHOLE, Cut, Timeline, proofs

if TYPE_CHECKING:
    from analyzer.model.records import Tie
    from analyzer.timeline.story import Story
    from analyzer.trace import Trace

#: From this width on states stand in a column of their own; below, a change has its own line.
WIDE = 100
#: From this width on a line names its layer and microseconds; below, the place and milliseconds must do.
FULL = 72
#: Connections that a head names.
NAMED = 4
#: What is said of a stretch in which nothing happened.
NOTHING = "nothing in this stretch"
#: Least columns for what a step says.
LEAST_ROOM = 12
#: Lines of a narrow page that what matters may take.
WRAPPED = 3
#: A silence is all frozen where all but this part of it is.
WHOLE_FREEZE = 0.95
#: A transport's number and address before a trace line: where all is about one connection, they say nothing.
_SUBJECT = re.compile(r"^\(\d+\) \S+:\d+ ")
_LAYERS = {"tcp": "pcap"}
_SHORT = {"ESTABLISHED": "ESTAB", "SYN_RECEIVED": "SYN_RCVD", "UNKNOWN": "?"}


def timeline_text(trace: Trace, name: str, style: Style, everything: bool = False, cut: Cut = WHOLE) -> str:
    """The timeline of a connection, request, environment or finding, in the style's width. Raises what `Trace.timeline` does."""
    told = trace.story_of(name, cut)
    head = _head(trace.story, told, style)
    body = list(Body(trace.story, told, style, everything).lines()) if told.steps else [NOTHING]
    return "\n".join([*head, "", *body, *_findings(told, style)]) + "\n"


# ---- what stands above and below


def _head(story: Story, told: Timeline, style: Style) -> list[str]:
    """What it is about, and what holds for all of it."""
    title, facts = heading(story, told, style)
    lines = [style.paint(line, "bold") for line in _wrapped(" · ".join(title), style.width, "", "  ")]
    return lines + [style.paint(line, "dim") for fact in facts for line in _wrapped(fact, style.width, "  ", "    ")]


def heading(story: Story, told: Timeline, style: Style) -> tuple[list[str], list[str]]:
    """The parts of a title, and what holds for all of it; neither is escaped."""
    kinds = {CONNECTION: _connection_head, ENVIRONMENT: _environment_head, REQUEST: _request_head}
    title, facts = kinds.get(told.subject.kind, _finding_head)(story, told)
    title.append(f"from {style.when(told.zero_ns, 6)}" if told.steps else "")
    return list(filter(None, title)), facts


def _connection_head(story: Story, told: Timeline) -> tuple[list[str], list[str]]:
    (k,) = told.subject.connections
    facts = detail_lines(story.connections, k) if story.connections.segments(k) else ["its packets were not kept"]
    facts += [_tie(tie) for tie in weak_ties(story, k)[:NAMED]]
    if story.events and not story.shares_clock(k):
        facts.append("log lines are left out: nothing aligns the logs with the captures")
    return [_ends(story, k), *(f"env {name}" for name in told.subject.environments)], facts


def _tie(tie: Tie) -> str:
    """A tie that is less than sure: what it says, and what else it might be."""
    rivals = f"; or {', '.join(tie.conflicts)}" if tie.conflicts and tie.used else ""
    state = tie.confidence if tie.used else "not tied"
    return f"{tie.left} ↔ {tie.right}: {state} ({tie.evidence}{rivals})"


def _environment_head(story: Story, told: Timeline) -> tuple[list[str], list[str]]:
    name = told.subject.id
    inferred = any(e.inferred for e in story.environments if e.id == name)
    statuses = [i.status for i in story.invocations if i.environment == name]
    facts = [count(len(statuses), "invocation")]
    facts += [f"{statuses.count(s)} {s}" for s in sorted({*statuses} - {"success", "unknown"})]
    if lengths := [z.length_ns for z in story.freezes_of(name)]:
        facts.append(f"frozen {seconds(sum(lengths))} in {count(len(lengths), 'gap')}, longest {seconds(max(lengths))}")
    return [f"env {name}{' (inferred)' if inferred else ''}"], [", ".join(facts), *_about(story, told)]


def _request_head(story: Story, told: Timeline) -> tuple[list[str], list[str]]:
    name = told.subject.id
    facts = []
    for i in (i for i in story.invocations if i.request_id == name):
        took = f" after {seconds(i.duration_ns)}" if i.duration_ns is not None else ""
        parts = [
            f"{i.status}{took}" if i.end_ns is not None else "unfinished",
            *(["cold start"] if i.cold_start else []),
        ]
        parts += [
            f"frozen {seconds(z.length_ns)} ± {seconds(z.error_ns)} {'before' if z.after == name else 'after'} it"
            for z in story.freezes_of(i.environment) if name in (z.before, z.after)
        ]  # fmt: skip
        facts.append(", ".join(parts))
    return [f"request {name}", *(f"env {e}" for e in told.subject.environments)], [*facts, *_about(story, told)]


def _finding_head(story: Story, told: Timeline) -> tuple[list[str], list[str]]:
    (finding,), about = told.findings, told.subject
    title = [f"{finding.id} {finding.severity.word}[{finding.rule}]"]
    title += [_ends(story, k) for k in about.connections if len(about.connections) == 1]
    title += [f"env {name}" for name in about.environments if len(about.environments) == 1]
    return title, [finding.title, *(_about(story, told) if len(about.connections) != 1 else [])]


def _about(story: Story, told: Timeline) -> list[str]:
    """The connections that a timeline speaks of, or why it speaks of none."""
    if story.connections.points and story.events and not story.aligned:
        return ["packets are left out: nothing aligns the captures with the logs"]
    ks = told.subject.connections or sorted({int(s.connection[1:]) - 1 for s in told.steps if s.connection})
    more = f"; and {len(ks) - NAMED:,} more" if len(ks) > NAMED else ""
    return [f"connections: {'; '.join(_ends(story, k) for k in ks[:NAMED])}{more}"] if ks else []


def _ends(story: Story, k: int) -> str:
    return f"{story.connections.id(k)} {story.connections.client(k)} → {story.connections.server(k)}"


def _wrapped(text: str, width: int, indent: str, hanging: str) -> list[str]:
    """A line in the width, escaped."""
    return wrap(terminal(text), width, initial_indent=indent, subsequent_indent=hanging)


def _findings(told: Timeline, style: Style) -> list[str]:
    lines = []
    for x in told.findings if told.subject.finding is None else []:
        head = f"{x.severity.word}[{x.rule}]"
        first, *rest = _wrapped(f"{head} {x.id} {x.title}", style.width, "", "    ")
        lines += [style.paint(head, x.severity.word) + first.removeprefix(head), *rest]
    return ["", *lines] if lines else []


# ---- the lines


class Row(Struct, frozen=True):
    """One line as data, nothing cut and nothing escaped. An aside (what was folded, a silence) has a text only."""

    text: str
    band: str  # ┏ ┃ ┗ an invocation runs, ░ ┊ frozen, blank
    time: str = ""
    proof: bool | None = None  # what a finding says (True), what proves it (False)
    step: Step | None = None
    place: str = ""
    note: str = ""
    states: str = ""  # of both ends, where this changed one
    unproven: bool = False  # that it came after the one above


class Body:
    """The steps of a timeline on their way to lines."""

    def __init__(self, story: Story, told: Timeline, style: Style, everything: bool) -> None:
        self.story, self.told, self.style, self.everything = story, told, style, everything
        self._states: dict[str | None, tuple[str, str]] = {}
        self._error_ns = -1  # of the clocks, where they left an order unproven
        self._border_ns = 0  # how far the ends of a freeze may be off, where something lies so near
        about, steps = told.subject, told.steps
        self._proof = proofs(self.told.findings)
        self._one = len(about.connections) == 1 and about.kind != ENVIRONMENT
        self._only = self.story.connections.id(about.connections[0]) if self._one else None
        self.items = whole(steps) if self.everything else summary(steps, self._proof, TOLD if self._one else MAIN)
        rows = [item for item in self.items if isinstance(item, Step)]
        self._environments = {s.environment for s in rows if s.environment} | set(about.environments)
        self._banded = any(
            self.story.freezes_of(e) or self.story.invocation_before(e, 1 << 62) for e in self._environments
        )
        width = self.style.width
        self._decimals = 6 if width >= FULL else 3
        self._gutter = max(len(self._time(t)) for t in (steps[0].time_ns, steps[-1].time_ns))
        self._place = min(max(len(self._where(s)) for s in rows), max(width // 5, 14)) if rows else 0
        wide = [s for s in rows if s.states] if width >= WIDE else []
        self._right = max((len(_both(s)) for s in wide), default=0)
        self._middle = max((len(s.text) + len(s.note) + 4 * bool(s.note) for s in wide), default=0)
        named = {s.connection for s in rows if s.connection}
        self._named = 0 if self._one else max(map(len, named), default=0)

    def lines(self) -> Iterator[str]:
        """All lines, and what their signs mean."""
        before: Step | None = None
        for item in self.items:
            if isinstance(item, Step):
                yield from self._row(item, before)
                before = item
            else:
                yield self._aside(item)
        yield from self._legend()

    def rows(self) -> Iterator[Row]:
        """All lines as data; `legend` is complete after them."""
        before: Step | None = None
        for item in self.items:
            if isinstance(item, Step):
                text, note = self._words(item)
                yield Row(
                    text, self._band(item), self._time(item.time_ns), self._mark(item), item, self._place_of(item), note,
                    self._change(item), self._order(item, before) != " ",
                )  # fmt: skip
                before = item
            else:
                yield Row(*self._aside_words(item))

    def legend(self) -> list[str]:
        """What the signs of the lines so far mean."""
        signs = []
        if self._error_ns >= 0:
            clocks = f" (clocks ± {seconds(self._error_ns)})" if self._error_ns else ""
            signs.append(f"~ not proven to come after the line above{clocks}")
        if self._banded:
            border = f" (┊ within {seconds(self._border_ns)} of a freeze's ends)" if self._border_ns else ""
            signs.append(f"┃ an invocation runs, ░ frozen{border}")
        if self._proof:
            signs.append("> the line that a finding is, · its proof")
        return signs

    # -- one line

    def _place_of(self, s: Step) -> str:
        return self.story.source(s.source).at(s.ref)

    def _row(self, s: Step, before: Step | None) -> Iterator[str]:
        told = self._mark(s)
        mark = self.style.paint(">", "error") if told else " " if told is None else "·"
        place = f"{_LAYERS.get(s.layer, s.layer):<6} " if self.style.width >= FULL else ""
        place += f"{clip_place(self._where(s), self._place):<{self._place}}  "
        if self._named:
            place += f"{s.connection or '':<{self._named}}  "
        taken = 2 + self._gutter + 1 + self._banded + 1 + len(place)
        room = max(self.style.width - taken, LEAST_ROOM)
        if s.states and self._right:
            middle = max(min(self._middle, room - self._right - 2), LEAST_ROOM)
            lines = [f"{self._said(s, middle)[0]:<{middle}}  {_both(s)}"]
        else:
            lines = self._said(s, room) + self._changed(s, room)
        order, band = self._order(s, before), self._band(s)
        yield f"{mark} {self._time(s.time_ns):>{self._gutter}}{order}{band} {place}{lines[0]}".rstrip()
        yield from (f"{'':{taken}}{line}" for line in lines[1:])

    def _mark(self, s: Step) -> bool | None:
        """Whether a step is what a finding says (True), proves it (False), or neither (None)."""
        told = [self._proof[place] for place in s.places if place in self._proof]
        return any(told) if told else None

    def _time(self, time_ns: int) -> str:
        text = f"{(time_ns - self.told.zero_ns) / SECOND:.{self._decimals}f}"
        return text if text.strip("-0.") else text.removeprefix("-")

    def _where(self, s: Step) -> str:
        return terminal(self._place_of(s))

    def _words(self, s: Step) -> tuple[str, str]:
        """What a step says, and what is to be said about it."""
        named = s.layer == "grpc" and s.connection is not None
        other = s.connection if self._one and s.connection not in (None, self._only) else None
        return _SUBJECT.sub("", s.text) if named else s.text, "; ".join(filter(None, [other, s.note, self._whose(s)]))

    def _said(self, s: Step, room: int) -> list[str]:
        """What a step says, in the room: what matters may take some lines of a narrow page, the rest is cut."""
        text, note = map(terminal, self._words(s))
        note = f"  ({note})" if note else ""
        if len(text) + len(note) <= room:
            return [text + note]
        if self._right or (s.weight < MAIN and self._mark(s) is None):
            return (
                [clip(text, max(room - len(note), 12)) + note]
                if len(note) < room // 2
                else [clip(text, room), note[2:]]
            )
        lines = wrap(text + note, room)
        return lines if len(lines) <= WRAPPED else [*lines[: WRAPPED - 1], clip(" ".join(lines[WRAPPED - 1 :]), room)]

    def _whose(self, s: Step) -> str:
        """Whose id a line carries, where it is not the id of the request that runs."""
        if not s.request_id or s.layer == "lambda":
            return ""
        running = self.story.invocation_at(s.environment, s.time_ns)
        if running is None or running.request_id == s.request_id:
            return ""
        earlier = self.story.invocation_before(s.environment, running.start_ns - 1)
        if earlier is not None and earlier.request_id == s.request_id:
            return "previous request's id"
        return f"id of request {s.request_id[:8]}…"

    def _changed(self, s: Step, room: int) -> list[str]:
        return [self.style.paint(line, "dim") for line in wrap(self._change(s), room)]

    def _change(self, s: Step) -> str:
        """States of both ends where a segment changed one."""
        if s.states is None or self._states.get(s.connection) == s.states:
            return ""
        self._states[s.connection] = s.states
        return f"client {_short(s.states[0])}, server {_short(s.states[1])}"

    def _order(self, s: Step, before: Step | None) -> str:
        """`~` where a line of another source may as well have come before the one above."""
        if before is None or before.source == s.source or not self.story.sources:
            return " "
        error = error_between(self.story, before, s)
        if error is None or s.time_ns - before.time_ns > error:
            return " "
        self._error_ns = max(self._error_ns, error)
        return "~"

    # -- bands and silences

    def _environment(self, s: Step) -> str | None:
        if s.environment is not None or s.connection is None:
            return s.environment
        return environment_of(self.story, int(s.connection[1:]) - 1)

    def _band(self, s: Step) -> str:
        if not self._banded:
            return ""
        sign = {"start": "┏", "report": "┗"}.get(s.kind if s.layer == "lambda" else "")
        return self._painted(self._environment(s), s.time_ns, sign)

    def _painted(self, environment: str | None, time_ns: int, sign: str | None = None) -> str:
        """The band of an environment at a time."""
        running = self.story.invocation_at(environment, time_ns)
        if sign or running is not None:
            bad = running is not None and running.status in ("error", "timeout", "crash")
            return self.style.paint(sign or "┃", "error" if bad else "green")
        z = next(iter(self.story.freezes_between(environment, time_ns - 1, time_ns + 1)), None)
        if z is None:
            return " "
        if not z.start_ns + z.error_ns <= time_ns <= z.end_ns - z.error_ns:
            self._border_ns = max(self._border_ns, z.error_ns)
            return self.style.paint("┊", "blue")
        return self.style.paint("░", "blue")

    def _aside(self, item: Folded | Quiet) -> str:
        text, band = self._aside_words(item)
        room = self.style.width - self._gutter - 3 - self._banded - 1
        return f"{'':{self._gutter + 3}}{band} {self.style.paint(clip(text, room), 'dim')}"

    def _aside_words(self, item: Folded | Quiet) -> tuple[str, str]:
        """A line that is no step, and its band: what was folded, or a silence."""
        only = next(iter(self._environments)) if len(self._environments) == 1 else None
        if isinstance(item, Quiet):
            middle, text = (item.start_ns + item.end_ns) // 2, f"⋮ {self._silence(item, only)}"
        elif item.rounds:
            every = f", every {seconds(item.every_ns)}" if item.every_ns else f", all within {seconds(item.within_ns)}"
            lines = "line above" if item.lines == 1 else f"{item.lines} lines above"
            middle, text = item.start_ns, f"… {item.rounds:,} more times the {lines}{every}"
        else:
            middle, text = item.start_ns, f"… {item.count:,} more"
        return text, self._painted(only, middle) if self._banded else ""

    def _silence(self, item: Quiet, environment: str | None) -> str:
        length = item.end_ns - item.start_ns
        freezes = self.story.freezes_between(environment, item.start_ns, item.end_ns)
        frozen = sum(z.overlap(item.start_ns, item.end_ns) for z in freezes)
        if not frozen:
            return f"{seconds(length)} silence"
        if frozen < WHOLE_FREEZE * length:
            return f"{seconds(length)} silence, {seconds(frozen)} of it frozen"
        if freezes[0].length_ns > length / WHOLE_FREEZE:
            return f"{seconds(length)} silence in a freeze of {seconds(freezes[0].length_ns)}"
        return f"{seconds(length)} frozen"

    def _legend(self) -> Iterator[str]:
        if signs := self.legend():
            yield ""
            yield from (
                self.style.paint(line, "dim")
                for line in _wrapped(f"signs: {'; '.join(signs)}", self.style.width, "", "  ")
            )


def _both(s: Step) -> str:
    """States of client and server."""
    client, server = s.states or ("", "")
    return f"{_short(client)} / {_short(server)}"


def _short(state: str) -> str:
    return _SHORT.get(state, state)
