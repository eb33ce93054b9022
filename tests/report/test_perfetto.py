"""The Perfetto trace, read back with the schema that the format's own package carries."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import analyzer
from analyzer.model.problems import InputError
from analyzer.report import perfetto as module
from analyzer.report.perfetto import perfetto
from tests.helpers import ROOT

CASES = sorted(p.parent.name for p in (ROOT / "captures").glob("*/expected.json"))


@cache
def case(name: str) -> Any:
    return analyzer.read(ROOT / "captures" / name)


def parsed(trace: Any) -> Any:
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema

    found = schema.Trace()
    found.ParseFromString(b"".join(perfetto(trace)))
    return found


def tracks(found: Any) -> dict[int, Any]:
    return {p.track_descriptor.uuid: p.track_descriptor for p in found.packet if p.HasField("track_descriptor")}


def events(found: Any) -> list[Any]:
    return [p for p in found.packet if p.HasField("track_event")]


@pytest.mark.parametrize("name", CASES)
def test_every_track_is_described_and_its_slices_nest(name: str) -> None:
    found = parsed(case(name))
    known = tracks(found)
    assert all(t.HasField("process") or t.parent_uuid in known for t in known.values())
    depth: Counter[int] = Counter()
    latest: dict[int, int] = {}
    for packet in events(found):
        event = packet.track_event
        assert event.track_uuid in known
        if event.type == event.TYPE_INSTANT:
            continue
        assert packet.timestamp >= latest.get(event.track_uuid, 0)
        latest[event.track_uuid] = packet.timestamp
        depth[event.track_uuid] += 1 if event.type == event.TYPE_SLICE_BEGIN else -1
        assert depth[event.track_uuid] in (0, 1)
    assert not any(depth.values())


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_missing_and_nanoseconds_are_kept(name: str) -> None:
    trace = case(name)
    found = parsed(trace)
    known = tracks(found)
    begun = defaultdict(list)
    for packet in events(found):
        if packet.track_event.type != packet.track_event.TYPE_SLICE_END:
            begun[known[packet.track_event.track_uuid].name.rstrip(" 0123456789")].append(packet.timestamp)
    assert sorted(begun["invocations"]) == sorted(i.start_ns for i in trace.story.invocations)
    assert sorted(begun["freezes"]) == sorted(z.start_ns for z in trace.story.freezes)
    assert sorted(begun["pings"]) == sorted(p.sent_ns for p in trace.story.pings)
    assert sorted(begun["log"]) == sorted(e.time_ns for e in trace.story.events)
    segments = [s for k in range(len(trace.connections)) for s in trace.story.connections.segments(k)]
    assert sorted(begun["packets from client"] + begun["packets from server"]) == sorted(s.time_ns for s in segments)


def test_a_findings_evidence_is_joined_by_a_flow() -> None:
    trace = case("frozen-keepalive")
    finding = trace.findings[0]
    places = {(e.source, e.ref) for e in finding.evidence}
    through = [p for p in events(parsed(trace)) if 1 in p.track_event.flow_ids]
    assert {p.timestamp for p in through} == {e.time_ns for e in finding.evidence}
    refs = [
        "".join(a.string_value for key in ("source", "ref") for a in p.track_event.debug_annotations if a.name == key)
        for p in through
    ]
    assert sorted(refs) == sorted(source + ref for source, ref in places)


def test_the_same_trace_gives_the_same_bytes() -> None:
    again = analyzer.read(ROOT / "captures" / "frozen-keepalive")
    assert b"".join(perfetto(case("frozen-keepalive"))) == b"".join(perfetto(again))


def test_of_very_many_connections_the_rest_is_a_slice_each(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = case("frozen-keepalive")
    everyone = len(trace.connections)
    monkeypatch.setattr(module, "MOST_TRACKS", 1)
    found = parsed(trace)
    known = tracks(found)
    kept = [t for t in known.values() if t.name.startswith("C")]
    assert len(kept) == 1 < everyone
    others = [t.uuid for t in known.values() if t.name.startswith("other connections")]
    slices = [
        p for p in events(found) if p.track_event.track_uuid in others and p.track_event.type == p.track_event.TYPE_SLICE_BEGIN
    ]  # fmt: skip
    assert len(slices) == everyone - 1


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10), st.sampled_from("ab")), max_size=60))
def test_lanes_hold_every_slice_once_and_none_that_overlap(spans: list[tuple[int, int, str]]) -> None:
    """Slices that agree in everything but their details too: calls of one method in one millisecond."""
    schema = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    writer = module._Writer(case("healthy"), schema)
    slices = [module._Slice(start, start + length, name, {"n": n}) for n, (start, length, name) in enumerate(spans)]
    found = [packet for piece in writer._lanes("x", 0, slices) for packet in schema.Trace.FromString(piece).packet]
    lanes: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for packet in found:
        event = packet.track_event
        if event.type == event.TYPE_SLICE_BEGIN:
            lanes[event.track_uuid].append((packet.timestamp, 0))
        elif event.type == event.TYPE_SLICE_END:
            lanes[event.track_uuid][-1] = (lanes[event.track_uuid][-1][0], packet.timestamp)
    assert sorted(one for lane in lanes.values() for one in lane) == sorted((s.start_ns, s.end_ns) for s in slices)
    assert all(a[1] <= b[0] for lane in lanes.values() for a, b in pairwise(lane))
    most = max((sum(s.start_ns <= t < max(s.end_ns, s.start_ns + 1) for s in slices) for t in range(45)), default=0)
    assert len(lanes) <= most


def test_hostile_text_is_made_visible() -> None:
    line = "2026-11-21T00:00:00.000Z 6f0d0000-0000-4000-8000-000000000000 ERROR \x1b[2J\u202e connect ETIMEDOUT 10.0.0.1:6379"
    found = parsed(analyzer.read(write(line)))
    names = [p.track_event.name for p in events(found)]
    assert any("ETIMEDOUT" in name for name in names)
    assert not any(c in name for name in names for c in "\x1b\u202e")


def write(line: str) -> str:
    import tempfile
    from pathlib import Path

    path = Path(tempfile.mkdtemp()) / "fn.log"
    path.write_text(line + "\n")
    return str(path)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "perfetto", None)
    monkeypatch.setitem(sys.modules, "perfetto.protos.perfetto.trace", None)
    with pytest.raises(InputError, match=r"pip install 'connection-analyzer\[perfetto\]'"):
        perfetto(case("healthy"))
