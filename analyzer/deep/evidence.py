"""What tshark saw, beside the evidence of the findings: a packet's line says what was in it, and frames between are told."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from analyzer.deep.connections import DeepFrame
from analyzer.model.findings import Evidence, Finding

#: Marks what was learnt from it, so that looking twice adds nothing.
SEEN_BY = "tshark"
#: A finding's lines are for reading: so many frames are added to it, those nearest its primary line.
MOST = 8
#: Frames this long before the first evidence and behind the last belong to it.
MARGIN_NS = 1_000_000_000


def with_frames(finding: Finding, frames: list[DeepFrame], ref_of: Callable[[DeepFrame], str]) -> None:
    """Add to a finding's evidence what the frames of its connection say; `ref_of` gives a frame's place in its source."""
    told = [f for f in frames if f.telling]
    if not told or not finding.evidence:
        return
    inside: dict[tuple[str, str], list[str]] = {}
    for frame in told:
        inside.setdefault((frame.place.source, ref_of(frame)), []).append(frame.text)
    shown = {(e.source, e.ref) for e in finding.evidence}
    finding.evidence = [_noted(e, inside.get((e.source, e.ref), [])) for e in finding.evidence]
    first = min(e.time_ns for e in finding.evidence) - MARGIN_NS
    last = max(e.time_ns for e in finding.evidence) + MARGIN_NS
    near = [f for f in told if first <= f.place.time_ns <= last and (f.place.source, ref_of(f)) not in shown]
    near.sort(key=lambda f: abs(f.place.time_ns - finding.time_ns))
    finding.evidence += [
        Evidence(f.place.source, ref_of(f), f.layer, f.place.time_ns, f.place.source_ns, f.describe(), SEEN_BY)
        for f in near[:MOST]
    ]
    finding.evidence.sort(key=lambda e: e.time_ns)


def _noted(evidence: Evidence, inside: list[str]) -> Evidence:
    inside = [text for text in inside if text not in evidence.text]
    if not inside or SEEN_BY in evidence.note:
        return evidence
    words = f"{SEEN_BY}: {' + '.join(inside[:4])}"
    return replace(evidence, note=f"{evidence.note}; {words}" if evidence.note else words)
