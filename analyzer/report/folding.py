"""What of a timeline a person sees: ordinary steps folded, silences between them, and rounds that repeat told once.

Silence is evidence: it is measured between all steps, whether they are shown or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from msgspec import Struct

from analyzer.model.times import MS, SECOND
from analyzer.timeline.steps import MAIN, TOLD, Step

#: Silences at least this long are drawn.
DRAWN_NS = SECOND
#: More lines than this are a summary no longer: only what changes something is shown then, and of that the ends.
MOST = 240
#: A round of at most this many lines is found when it comes this often, and told once where that saves this many lines.
LONGEST_ROUND, LEAST_ROUNDS, LEAST_SAVED = 12, 6, 8
#: Rounds are told as regular where none takes longer than the shortest by this factor.
REGULAR = 1.3
#: Lines of one process this close that say the same of one thing are one to a person.
ECHO_NS = 10 * MS
_VARYING = re.compile(r"\b[0-9a-f]{6,40}\b|\d+", re.ASCII)


class Folded(Struct, frozen=True):
    """Steps that are not shown, from `start_ns` on; `rounds` of `lines` each where they repeat what stands above."""

    count: int
    start_ns: int
    rounds: int = 0
    lines: int = 0
    every_ns: int = 0  # 0 where they are irregular
    within_ns: int = 0


class Quiet(Struct, frozen=True):
    """A silence between two steps."""

    start_ns: int
    end_ns: int


Item = Step | Folded | Quiet
_Places = dict[tuple[str, str], bool]


def whole(steps: list[Step]) -> list[Item]:
    """Every step, and the silences between them."""
    return list(_with_silences(steps, [True] * len(steps)))


def summary(steps: list[Step], proof: _Places, least_tcp: int = TOLD) -> list[Item]:
    """What to show. Lines of `proof` always are, unless they alone are far too many; of segments those that weigh at least
    `least_tcp`."""
    proving = [not proof.keys().isdisjoint(s.places) for s in steps]
    echo = _echoes(steps)
    for least in (TOLD, MAIN):
        weighty = [s.weight >= (max(least, least_tcp) if s.layer == "tcp" else least) for s in steps]
        shown = _shown(steps, proving, weighty, echo)
        items = _rounds(list(_with_silences(steps, shown, echo)), proof)
        if len(items) <= MOST:
            return items
    items = list(_with_silences(steps, _ends(shown, proving), echo))
    return items if len(items) <= 2 * MOST else _middle_out(items)


def _middle_out(items: list[Item]) -> list[Item]:
    """Of far too many lines, proof among them, the first and the last."""
    middle = items[MOST // 2 : -MOST // 2]
    count = sum(item.count if isinstance(item, Folded) else isinstance(item, Step) for item in middle)
    return [*items[: MOST // 2], Folded(count, _start(middle[0])), *items[-MOST // 2 :]]


def _shown(steps: list[Step], proving: list[bool], weighty: list[bool], echo: list[bool]) -> list[bool]:
    """Which steps are shown: those that weigh enough and echo nothing, proof, and what stands beside a silence."""
    edges = [True, *(b.time_ns - a.time_ns >= DRAWN_NS for a, b in pairwise(steps)), True]
    return [proving[n] or (not echo[n] and (weighty[n] or edges[n] or edges[n + 1])) for n in range(len(steps))]


def _echoes(steps: list[Step]) -> list[bool]:
    """Log lines that a neighbour of the same process says again: END before REPORT, a status told by two layers."""
    echo = [False] * len(steps)
    last: dict[tuple[str | None, ...], Step] = {}
    for n, s in enumerate(steps):
        if s.layer not in ("lambda", "grpc"):
            continue
        what = "report" if s.kind == "end" else s.kind
        key = (s.layer, what, s.environment, s.request_id, s.transport, _said(s) if s.layer == "grpc" else "")
        before = last.get(key)
        if before is not None and s.time_ns - before.time_ns <= ECHO_NS and s.layer == "grpc":
            echo[n] = True
        last[key] = s
    for n, (s, after) in enumerate(pairwise(steps)):
        if s.kind == "end" and (after.kind, after.request_id) == ("report", s.request_id):
            echo[n] = after.time_ns - s.time_ns <= ECHO_NS
    return echo


def _said(s: Step) -> str:
    """The words before a status's details: who, and what became of it."""
    return s.text.split("details", 1)[0].rstrip(" :,")


def _with_silences(steps: list[Step], shown: Sequence[bool], echo: Sequence[bool] = ()) -> Iterator[Item]:
    """The steps that are shown, the silences between all of them, and how many are folded. One alone is not worth a line that
    says so: it is shown, and an echo is left out."""
    hidden: list[int] = []

    def flush() -> Iterator[Item]:
        told = [n for n in hidden if not (echo and echo[n])]
        if len(told) == 1:
            yield steps[told[0]]
        elif told:
            yield Folded(len(hidden), steps[hidden[0]].time_ns)
        hidden.clear()

    for n, s in enumerate(steps):
        silent = n > 0 and s.time_ns - steps[n - 1].time_ns >= DRAWN_NS
        if silent or shown[n]:
            yield from flush()
        if silent:
            yield Quiet(steps[n - 1].time_ns, s.time_ns)
        if shown[n]:
            yield s
        else:
            hidden.append(n)
    yield from flush()


def _ends(shown: list[bool], proving: list[bool]) -> list[bool]:
    """Of too many: the first, the last, and the proof."""
    at = [n for n, yes in enumerate(shown) if yes]
    kept = {*at[: MOST // 2], *at[-MOST // 2 :]}
    return [yes and (n in kept or proving[n]) for n, yes in enumerate(shown)]


# ---- rounds


def _rounds(items: list[Item], proof: _Places) -> list[Item]:
    """Rounds of lines that repeat: the first, how often, the last."""
    tokens = [_token(n, item, proof) for n, item in enumerate(items)]
    out: list[Item] = []
    n = 0
    while n < len(items):
        length, times = _round_at(tokens, n)
        if not length:
            out.append(items[n])
            n += 1
            continue
        end = n + length * times
        inner = items[n + length : end - length]
        count = sum(item.count if isinstance(item, Folded) else isinstance(item, Step) for item in inner)
        lines = sum(not isinstance(item, Quiet) for item in items[n : n + length])
        out += items[n : n + length]
        out.append(Folded(count, _start(inner[0]), times - 2, lines, *_pace(items, n, length, times)))
        out += items[end - length : end]
        n = end
    return out


def _round_at(tokens: list[str], n: int) -> tuple[int, int]:
    """(length, times) of the round that begins at `n` and saves most lines; (0, 0) where none does."""
    best, saved = (0, 0), LEAST_SAVED - 1
    for length in range(1, LONGEST_ROUND + 1):
        end = n + length
        while tokens[end : end + length] == tokens[n : n + length]:
            end += length
        times = (end - n) // length
        if times >= LEAST_ROUNDS and (times - 2) * length > saved:
            best, saved = (length, times), (times - 2) * length
    return best


def _token(n: int, item: Item, proof: _Places) -> str:
    """What makes two lines alike to a reader; proof is like nothing."""
    if isinstance(item, Quiet):
        return "quiet"
    if isinstance(item, Folded):
        return "folded"
    if not proof.keys().isdisjoint(item.places):
        return f"proof {n}"
    text = _VARYING.sub("#", item.text)
    return f"{item.layer} {item.kind} {item.connection} {item.states} {item.note} {text}"


def _pace(items: list[Item], n: int, length: int, times: int) -> tuple[int, int]:
    """(ns from round to round where they are regular, else 0; ns from the first to the last)."""
    starts = [_start(items[n + length * round_]) for round_ in range(times)]
    gaps = [b - a for a, b in pairwise(starts)]
    whole = starts[-1] - starts[0]
    return (whole // len(gaps) if max(gaps) <= REGULAR * min(gaps) else 0), whole


def _start(item: Item) -> int:
    return item.time_ns if isinstance(item, Step) else item.start_ns
