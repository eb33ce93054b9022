"""Causes, not noise: findings by the cause that began them, with what each cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable

from msgspec import Struct

from analyzer.model.findings import Confidence, Finding, Severity


class Impact(Struct):
    """What something cost: requests that failed, time that requests waited for nothing, environments concerned."""

    requests: set[Hashable] = set()
    environments: set[str] = set()
    lost_ns: int = 0


class Cause(Struct):
    """Findings of one rule about one server that nothing else caused, in order of time, and what followed from them."""

    rule: str
    name: str
    server: str | None
    findings: list[Finding]
    consequences: list[Finding]
    impact: Impact

    @property
    def examples(self) -> list[Finding]:
        """Its own findings, the one that shows most first: the surest, with most witnesses; else in order of time."""
        best = max(
            self.findings, key=lambda f: (f.severity, f.confidence, len({e.source for e in f.evidence}), -f.time_ns)
        )
        return [best, *(f for f in self.findings if f is not best)]

    @property
    def severity(self) -> Severity:
        """The worst of it all."""
        return max(f.severity for f in (*self.findings, *self.consequences))

    @property
    def confidence(self) -> Confidence:
        """Of the surest of its own findings."""
        return max(f.confidence for f in self.findings)


def causes(findings: list[Finding]) -> list[Cause]:
    """Findings grouped by what began them, the worst first. A finding whose cause is not among them begins its own chain."""
    known = {f.id for f in findings}
    following: dict[str, list[Finding]] = defaultdict(list)
    roots: dict[tuple[str, str | None], list[Finding]] = defaultdict(list)
    for f in findings:
        causes_here = [cause for cause in f.caused_by if cause in known]
        for cause in causes_here:
            following[cause].append(f)
        if not causes_here:
            roots[f.rule, f.server].append(f)
    found = [_cause(own, following) for own in roots.values()]
    return sorted(
        found,
        key=lambda c: (
            -c.severity,
            -len(c.impact.requests),
            -c.confidence,
            c.findings[0].time_ns,
            c.rule,
            c.server or "",
        ),
    )


def _cause(own: list[Finding], following: dict[str, list[Finding]]) -> Cause:
    consequences: dict[str, Finding] = {}
    told, counted = Impact(), set[str]()
    for f in own:
        chain = _chain(f, following)
        consequences |= {x.id: x for x in chain if x is not f}
        # One wait, told by several rules.
        told.lost_ns += max((x.lost_ns for x in chain if x.id not in counted), default=0)
        counted |= {x.id for x in chain}
        told.requests |= _requests(chain)
        # What followed and cost nothing is left out.
        harmed = [x for x in chain if x is f or x.severity is not Severity.INFO]
        told.environments |= {x.environment for x in harmed if x.environment}
    return Cause(own[0].rule, own[0].name, own[0].server, own, list(consequences.values()), told)


def _chain(first: Finding, following: dict[str, list[Finding]]) -> list[Finding]:
    """A finding and all that follows from it, each once."""
    found = {first.id: first}
    waiting = [first]
    while waiting:
        for f in following[waiting.pop().id]:
            if f.id not in found:
                found[f.id] = f
                waiting.append(f)
    return list(found.values())


def _requests(chain: list[Finding]) -> set[Hashable]:
    """The requests that a chain says failed: by id, else one a connection.

    What is about a whole server and names no requests counts none: how many there were is not known.
    """
    failed = [f for f in chain if f.severity is Severity.ERROR]
    named: set[Hashable] = {(f.environment, request) for f in failed for request in f.request_ids}
    return named or {f.connection or f.id for f in failed if f.connection or not f.connections}


def total(found: list[Cause]) -> Impact:
    """What all causes cost together; a request that several of them concern counts once."""
    whole = Impact()
    for cause in found:
        whole.requests |= cause.impact.requests
        whole.environments |= cause.impact.environments
        whole.lost_ns += cause.impact.lost_ns
    return whole
