"""Lambda logs for a person: environments with their epochs, and the invocations that matter in each."""

from __future__ import annotations

from collections import Counter, defaultdict

from msgspec import Struct, field

from analyzer.model.events import Event
from analyzer.model.records import Environment, Freeze, Invocation
from analyzer.model.times import seconds
from analyzer.report.escape import clip, count, ended, terminal
from analyzer.report.style import Style
from analyzer.report.wrapping import wrap
from analyzer.timeline.environments import EPOCH_ENDS
from analyzer.timeline.story import Story

#: Environments and invocations shown; `--all` shows the rest.
ENVIRONMENTS, INVOCATIONS = 8, 12
HEAD = ("request", "duration", "memory", "idle before", "what")
STAMP = "%m-%d %H:%M:%S"
#: The memory column is left out on a narrower page.
MEMORY_FROM = 100
#: What an epoch's first event is called.
BEGINS = {"init-start": "init", "restore-start": "restore", "timeout": "after a timeout", "crash": "after a crash"}


class _Told(Struct):
    """What one environment's events say beside its invocations."""

    runtime: str = ""
    epochs: list[Event] = []
    inits: list[Event] = []
    reports: dict[tuple[str, str], Event] = {}
    errors: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = {}


def section(story: Story, style: Style, everything: bool) -> str:
    """Environments, worst first, each with its invocations."""
    if not story.environments:
        return ""
    told = _told(story)
    invocations: dict[str, list[Invocation]] = defaultdict(list)
    for invocation in story.invocations:
        invocations[invocation.environment].append(invocation)
    order = sorted(story.environments, key=lambda e: (-_bad(invocations[e.id]), e.first_ns or 0, e.id))
    order = [e for e in order if invocations[e.id] or told[e.id].epochs] or order
    shown = order if everything else order[:ENVIRONMENTS]
    blocks = [_totals(story, order, invocations, style)]
    for environment in shown:
        mine = invocations[environment.id]
        lines = _environment(environment, mine, story.freezes_of(environment.id), told[environment.id], style)
        blocks.append("\n".join(lines + _invocations(mine, told[environment.id], style, everything)))
    if len(order) > len(shown):
        blocks.append(f"… {len(order) - len(shown):,} more environments (`--all` shows them)")
    return "\n\n".join(blocks)


def _told(story: Story) -> dict[str, _Told]:
    told: dict[str, _Told] = defaultdict(_Told)
    for e in story.events:
        mine = told[e.environment or ""]
        if e.kind in EPOCH_ENDS:
            mine.epochs.append(e)
            mine.runtime = mine.runtime or str(e.attrs.get("runtime") or "")
        elif e.kind == "report":
            mine.reports[e.source, e.ref] = e
        elif e.kind in ("init-report", "restore-report"):
            mine.inits.append(e)
        if e.kind == "error" and e.request_id:
            mine.errors[e.request_id] += 1
            mine.details.setdefault(e.request_id, str(e.attrs.get("code") or "error"))
    return told


def _bad(invocations: list[Invocation]) -> int:
    return sum(i.status not in ("success", "unknown") for i in invocations)


def _totals(
    story: Story, environments: list[Environment], invocations: dict[str, list[Invocation]], style: Style
) -> str:
    everyone = [i for e in environments for i in invocations[e.id]]
    cold = sum(i.cold_start for i in everyone)
    statuses = Counter(i.status for i in everyone if i.status not in ("success", "unknown"))
    open_ = sum(i.end_ns is None for i in everyone)
    parts = [count(len(environments), "environment"), count(len(everyone), "invocation"), count(cold, "cold start")]
    parts += [ended(n, status) for status, n in sorted(statuses.items())]
    parts += [f"{open_:,} unfinished"] if open_ else []
    durations = sorted(i.duration_ns for i in everyone if i.duration_ns is not None)
    if durations:
        parts.append(f"duration median {seconds(durations[len(durations) // 2])}, longest {seconds(durations[-1])}")
    if story.freezes:
        lengths = [z.length_ns for z in story.freezes]
        parts.append(f"{count(len(lengths), 'freeze')}, longest {seconds(max(lengths))}")
    lines = wrap(", ".join(parts), style.width - 2)
    return "\n".join([style.paint("Lambda", "bold"), *(f"  {line}" for line in lines)])


def _environment(
    environment: Environment, mine: list[Invocation], freezes: list[Freeze], told: _Told, style: Style
) -> list[str]:
    """The environment's name, then what holds for all of it."""
    name = terminal(environment.id) + (" (inferred)" if environment.inferred else "")
    facts = [terminal(told.runtime)] if told.runtime else []
    facts += [terminal(environment.log_group)] if environment.log_group else []
    facts.append(count(len(mine), "invocation"))
    if environment.concurrent:
        facts.append("several at a time: never frozen between two")
    elif freezes:
        total, longest = sum(z.length_ns for z in freezes), max(z.length_ns for z in freezes)
        facts.append(f"frozen {seconds(total)} in {count(len(freezes), 'gap')}, longest {seconds(longest)}")
    if len(told.epochs) > 1 or any(e.kind in ("timeout", "crash") for e in told.epochs):
        facts.append(
            "epochs: " + ", ".join(_epoch(e, style) for e in told.epochs[:6]) + (" …" if len(told.epochs) > 6 else "")
        )
    facts += [_init(e, style) for e in told.inits if e.attrs.get("status") not in (None, "success")]
    lines = [style.paint(clip(name, style.width), "bold")]
    return lines + [f"  {line}" for line in wrap(" · ".join(facts), style.width - 2, break_long_words=False)]


def _epoch(e: Event, style: Style) -> str:
    return f"{BEGINS.get(e.kind, e.kind)} {style.clock(e.time_ns, STAMP)}"


def _init(e: Event, style: Style) -> str:
    what = f"{e.kind.removesuffix('-report')} {terminal(str(e.attrs['status']))} {style.clock(e.time_ns, STAMP)}"
    return what + (f" ({terminal(str(e.attrs['error_type']))})" if e.attrs.get("error_type") else "")


def _invocations(mine: list[Invocation], told: _Told, style: Style, everything: bool) -> list[str]:
    """A table: all invocations, or those that failed, started cold, found an error or waited longest, in order of time."""
    before = dict(zip((id(i) for i in mine[1:]), mine, strict=False))
    shown = mine if everything or len(mine) <= INVOCATIONS else _chosen(mine, before, told)
    table = [(f"start ({style.zone})", *HEAD), *(_row(i, before.get(id(i)), told, style) for i in shown)]
    if style.width < MEMORY_FROM:
        table = [row[:3] + row[4:] for row in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [_line(row, widths, style.width) for row in table]
    painted = [style.paint(lines[0], "dim")]
    for line, invocation in zip(lines[1:], shown, strict=True):
        painted.append(line if invocation.status in ("success", "unknown") else style.paint(line, "error"))
    if rest := len(mine) - len(shown):
        well = ", all successful" if _rest_is_well(mine, shown) else ""
        painted.append(f"  … {rest:,} more{well} (`--all` shows them)")
    return painted if mine else []


def _line(row: tuple[str, ...], widths: list[int], width: int) -> str:
    """A row of the table: start and request to the left, numbers to the right, what happened behind."""
    cells = [
        f"{cell:{'<' if n < 2 else '>'}{wide}}" for n, (cell, wide) in enumerate(zip(row[:-1], widths, strict=False))
    ]
    return clip(f"  {'  '.join(cells)}  {row[-1]}".rstrip(), width)


def _rest_is_well(mine: list[Invocation], shown: list[Invocation]) -> bool:
    seen = {id(i) for i in shown}
    return all(i.status == "success" for i in mine if id(i) not in seen)


def _chosen(mine: list[Invocation], before: dict[int, Invocation], told: _Told) -> list[Invocation]:
    def weight(i: Invocation) -> tuple[bool, bool, bool, int]:
        gap = _gap(i, before.get(id(i)))
        return (i.status not in ("success", "unknown"), told.errors[i.request_id] > 0, i.cold_start, gap or 0)

    best = {id(i) for i in sorted(mine, key=weight, reverse=True)[:INVOCATIONS]}
    return [i for i in mine if id(i) in best]


def _row(i: Invocation, before: Invocation | None, told: _Told, style: Style) -> tuple[str, ...]:
    report = told.reports.get(i.end_ref) if i.end_ref else None
    attrs = report.attrs if report else {}
    used, size = str(attrs.get("max_memory") or ""), str(attrs.get("memory") or "")
    memory = f"{used.removesuffix(' MB')}/{size}" if used and size else used or size or "–"
    gap = _gap(i, before)
    what = (
        []
        if i.status in ("success", "unknown") and i.end_ns is not None
        else [i.status if i.end_ns is not None else "unfinished"]
    )
    if attrs.get("error_type"):
        what.append(str(attrs["error_type"]))
    if i.cold_start:
        init = attrs.get("init_ns") or attrs.get("restore_ns")
        what.append(("restored" if attrs.get("restore_ns") else "cold start") + (f" ({seconds(init)})" if init else ""))
    if i.ordinal > 1:
        what.append(f"run {i.ordinal} of this request")
    if told.errors[i.request_id]:
        n = told.errors[i.request_id]
        what.append(f"{told.details[i.request_id]}" + (f" and {n - 1} more" if n > 1 else ""))
    return (
        style.clock(i.start_ns, STAMP), terminal(i.request_id[:8]), seconds(i.duration_ns) if i.duration_ns is not None else "–",
        terminal(memory), seconds(gap) if gap is not None else "–", terminal(", ".join(what)),
    )  # fmt: skip


def _gap(i: Invocation, before: Invocation | None) -> int | None:
    """How long the environment had been idle when the invocation began; None for its first, or where they overlap."""
    if before is None or before.end_ns is None or i.start_ns < before.end_ns:
        return None
    return i.start_ns - before.end_ns
