"""Which finding is the consequence of which: a ping that times out because its packets are dropped, a request that fails because the
server had closed while the function was frozen.

Two findings belong together where they share a connection or a transport, a request of one environment, or a line of proof. Which of
the two is the cause follows from the rules: the table has no circles, so that every chain has a beginning.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from analyzer.model.findings import Finding

#: Rule → its possible consequences.
CONSEQUENCES = {
    "F201": ("F203", "R301", "R304", "T605"),
    "F202": ("F203", "R301", "R304", "T605"),
    "F203": ("F205",),
    "K103": ("F205",),
    "K105": ("F203",),
    "R301": ("R304", "T605"),
    "R302": ("K102", "R304", "T605"),
    "L501": ("F201", "F202", "R304", "T605"),
    "C402": ("C401", "R304", "T605"),
    "C401": ("R304", "T605"),
    "C403": ("R304", "T605"),
    "C404": ("R304", "T605"),
    "C405": ("R304", "T605"),
    "T601": ("R304",),
}


def chain(found: list[Finding]) -> None:
    """Note in each consequence the ids of its causes, in order."""
    shared: dict[tuple[str, ...], list[Finding]] = defaultdict(list)
    for finding in found:
        for key in _ties(finding):
            shared[key].append(finding)
    for finding in found:
        causes = {
            other.id: other
            for key in _ties(finding)
            for other in shared[key]
            if finding.rule in CONSEQUENCES.get(other.rule, ()) and not _elsewhere(finding, other)
        }
        finding.caused_by = [other.id for other in sorted(causes.values(), key=lambda f: (f.time_ns, f.id))]


def _elsewhere(a: Finding, b: Finding) -> bool:
    """Whether two findings speak of different servers."""
    return a.server is not None and b.server is not None and a.server != b.server


def _ties(finding: Finding) -> Iterable[tuple[str, ...]]:
    """What ties a finding to others."""
    yield from (("connection", c) for c in finding.connections)
    if finding.transport:
        yield "transport", finding.transport
    yield from (("request", finding.environment or "", r) for r in finding.request_ids)
    yield from (("line", e.source, e.ref) for e in finding.evidence if e.layer in ("app", "grpc"))
