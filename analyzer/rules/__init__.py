"""Rules: one module each, found by being here. The module's docstring is its documentation, in four parts (see CONTRIBUTING).

A module has `CODE`, `NAME`, `SUMMARY`, `FIRES` and `QUIET` (cases), `select(story, settings)` (a cheap filter over tables) and
`examine(story, candidate, settings)` (careful, on the few that remain; a `Finding` or None). What it compares with stands in a
class `Thresholds` (see `_thresholds`), whose values of this run are `settings[Thresholds]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from analyzer.discovery import modules
from analyzer.model.findings import Finding, Severity
from analyzer.model.memory import uncollected
from analyzer.model.times import SECOND
from analyzer.model.timing import timed
from analyzer.rules._causes import chain
from analyzer.rules._ruleset import RuleSet, rule_set
from analyzer.rules._thresholds import DEFAULTS, Settings, Threshold, Values
from analyzer.timeline.order import marked
from analyzer.timeline.story import Story

__all__ = ["NEGATIVE", "Rule", "RuleSet", "rule_set", "rules", "run", "thresholds"]


class Rule(Protocol):
    """The interface of a rule module.

    `SEVERITIES` are those that it may give, the least first. It may have `FROM_LOGS`, the least and the most confidence that logs
    alone allow, and `Thresholds` (see `_thresholds`).
    """

    CODE: str
    NAME: str
    SUMMARY: str
    SEVERITIES: tuple[Severity, ...]
    FIRES: tuple[Any, ...]
    QUIET: tuple[Any, ...]

    def select(self, story: Story, settings: Settings) -> Iterable[Any]:
        """Candidates, what is worth examining: numbers of connections, or things of the rule's own.

        Where such a thing has a number as `connection`, or several as `connections`, their segments are at hand when it is examined.
        """

    def examine(self, story: Story, candidate: Any, settings: Settings) -> Finding | None:
        """The finding, if the evidence holds."""


#: Which finding on a connection makes which other one on it superfluous (DESIGN §6, "which rule wins").
REPLACES = {
    "R301": ("R302", "R303", "F203"),
    "F203": ("R303",),
    "L501": ("F201", "F204"),
}
#: The same between findings of one request that no connection is known of: what a server at its limit says explains its resets.
UNTOLD = {"L501": ("R303", "F203")}
#: The verdict that nothing explains a failure.
NEGATIVE = "N901"
#: Rules that speak of a failure only where no other finding explains it, by its request or within this time.
YIELDING = (NEGATIVE, "T602")
NEAR_NS = 60 * SECOND
#: Beside the clocks of a finding with such evidence.
UNPROVEN = "~ not proven to come after the line above"


def rules() -> list[Rule]:
    """Every rule, by code."""
    found: list[Rule] = modules(__name__, __path__)
    return sorted(found, key=lambda rule: rule.CODE)


def thresholds(rule: Rule) -> list[Threshold]:
    """What a rule compares with, in its own order."""
    kind: type[Values] = getattr(rule, "Thresholds", Values)
    return list(kind.declared.values())


def run(story: Story, settings: Settings = DEFAULTS) -> list[Finding]:
    """All findings, in order of time, with ids and causes."""
    with uncollected():
        found = _settle(story, [finding for finding in _examined(story, settings) if finding is not None])
    found.sort(key=lambda f: (f.time_ns, f.rule, f.connection or "", f.transport or ""))
    for number, finding in enumerate(found, 1):
        finding.id = f"F{number}"
    _name_servers(story, found)
    for finding in found:
        _tell_order(story, finding)
    chain(found)
    return found


def _examined(story: Story, settings: Settings) -> Iterator[Finding | None]:
    """Every rule's word on each of its candidates; connections group by group, so that each capture is read again once."""
    waiting: dict[tuple[int, ...], list[tuple[Rule, Any]]] = {}
    for rule in rules():
        with timed(f"{rule.CODE} looked") as told:
            candidates = list(rule.select(story, settings))
            told.append(f"{len(candidates):,} candidates")
        for candidate in candidates:
            if ks := _connections_of(story, candidate):
                waiting.setdefault(ks, []).append((rule, candidate))
            else:
                yield rule.examine(story, candidate, settings)
    for ks in story.connections.together(waiting):
        for rule, candidate in waiting[ks]:
            yield rule.examine(story, candidate, settings)


def _connections_of(story: Story, candidate: Any) -> tuple[int, ...]:
    """The connections whose packets a candidate's examination asks for: itself, its own, or its transport's."""
    if isinstance(candidate, int):
        return (candidate,)
    if several := getattr(candidate, "connections", None):
        return tuple(several)
    named = getattr(candidate, "connection", None)
    if named is None and (transport := getattr(candidate, "transport", None)) is not None:
        named = (story.transport(transport) if isinstance(transport, str) else transport).connection
    if named is None:
        return ()
    return (int(named[1:]) - 1 if isinstance(named, str) else named,)


def _settle(story: Story, found: list[Finding]) -> list[Finding]:
    """Drop what a better explanation of the same connection, or of the same request, replaces."""
    by_connection: dict[str, set[str]] = {}
    by_request: dict[str, set[str]] = {}
    for finding in found:
        for connection in finding.connections:
            by_connection.setdefault(connection, set()).add(finding.rule)
        for request in finding.request_ids:
            by_request.setdefault(request, set()).add(finding.rule)
    kept = [f for f in found if not _replaced(f, by_connection, by_request)]
    return [f for f in kept if not (_yields(f) and any(_explains(story, other, f) for other in kept))]


def _replaced(f: Finding, by_connection: dict[str, set[str]], by_request: dict[str, set[str]]) -> bool:
    """Whether another rule's word on the same connection, or what the log tells of the same request, makes this one superfluous."""
    told = by_connection.get(f.connection or "", set())
    if f.connection is None:
        told = set().union(*(by_request.get(request, ()) for request in f.request_ids))
        return any(f.rule in UNTOLD.get(rule, ()) for rule in told)
    return any(f.rule in REPLACES.get(rule, ()) for rule in told)


def _yields(finding: Finding) -> bool:
    """Whether a finding stands only where no other one explains the same failure."""
    return finding.rule == NEGATIVE or (finding.rule in YIELDING and finding.severity is not Severity.INFO)


def _explains(story: Story, other: Finding, yielding: Finding) -> bool:
    """Whether a finding leaves a yielding one nothing to say: it has its request, or its environment at that time.

    One whose environment is not known may have it, unless it is about other servers, or times of its sources are no times here.
    """
    if other.rule in YIELDING or other.severity is Severity.INFO:
        return False
    if not set(other.request_ids).isdisjoint(yielding.request_ids):
        return True
    if abs(other.time_ns - yielding.time_ns) > NEAR_NS or other.environment not in (None, yielding.environment):
        return False
    if other.environment is not None:
        return True
    servers = _servers(story, other), _servers(story, yielding)
    elsewhere = all(servers) and servers[0].isdisjoint(servers[1])
    return not elsewhere and _comparable(story, other, yielding)


def _servers(story: Story, f: Finding) -> set[str]:
    """The servers that a finding is about, as far as they are known."""
    return {story.connections.server(int(c[1:]) - 1) for c in f.connections} | ({f.server} if f.server else set())


def _comparable(story: Story, one: Finding, other: Finding) -> bool:
    """Whether the times of two findings are by clocks that have to do with each other."""
    return any(story.clock_error(a.source, b.source) is not None for a in one.evidence[:1] for b in other.evidence[:1])


def _tell_order(story: Story, finding: Finding) -> None:
    """Note where the clocks leave the order of its evidence open."""
    finding.evidence = marked(story, finding.evidence)
    if any(e.unproven for e in finding.evidence):
        finding.clock = f"{finding.clock}; {UNPROVEN}" if finding.clock else UNPROVEN


def _name_servers(story: Story, found: list[Finding]) -> None:
    """The server of each finding that is about one connection or transport."""
    for f in found:
        if f.server is None and f.connection:
            f.server = story.connections.server(int(f.connection[1:]) - 1)
        elif f.server is None and f.transport:
            f.server = story.transport(f.transport).remote
