"""Clocks, environments, freezes, one event a line, one connection a record."""

from __future__ import annotations

import shutil

import pytest

import analyzer
from analyzer.model.events import Event
from analyzer.model.records import Invocation
from analyzer.timeline.dedupe import deduplicate
from analyzer.timeline.environments import concurrent_environments, freezes_of, infer_environments
from tests.helpers import CAPTURES

S = 1_000_000_000


def line(source, ref, text, environment=None, event_ns=None, request=None, **more):
    return Event(
        source,
        ref,
        more.pop("layer", "app"),
        more.pop("kind", "line"),
        text,
        event_ns=event_ns,
        environment=environment,
        request_id=request,
        **more,
    )


def test_a_line_in_two_inputs_is_one_event():
    export = [line("s1", f"[{k}]", t, "env", event_ns=k) for k, t in enumerate(["a", "b", "b", "c"])]
    plain = [line("s2", f":{k}", t) for k, t in enumerate(["a", "b", "b", "b", "d"])]
    events, _, _ = deduplicate([plain, export])
    assert [e.text for e in events] == ["a", "b", "b", "c", "b", "d"]
    assert [e.also for e in events] == [(("s2", ":0"),), (("s2", ":1"),), (("s2", ":2"),), (), (), ()]


def test_grpc_lines_of_two_processes_stay_apart():
    def ping(source, environment, pid):
        return line(
            source, ":1", "ping", environment, layer="grpc", inner_ns=5, pid=pid, tracer="keepalive", event_ns=5
        )

    assert len(deduplicate([[ping("s1", "a", "18"), ping("s1", "b", "18")]])[0]) == 2
    assert len(deduplicate([[ping("s1", "a", "18")], [ping("s2", "b", "18")]])[0]) == 2
    assert len(deduplicate([[ping("s1", "a", "18")], [ping("s2", "a", "18")]])[0]) == 1


def test_environments_are_inferred_from_nesting():
    kinds = [("start", "r1"), ("start", "r2"), ("report", "r1"), ("start", "r3"), ("report", "r2"), ("report", "r3")]
    events = [
        line("s1", f":{k}", "", kind=kind, request=request, layer="lambda", order=k)
        for k, (kind, request) in enumerate(kinds)
    ]
    infer_environments(events)
    assert [e.environment for e in events] == [
        "inferred-1",
        "inferred-2",
        "inferred-1",
        "inferred-1",
        "inferred-2",
        "inferred-1",
    ]


def test_overlapping_invocations_are_never_frozen():
    overlapping = [
        Invocation("e", "a", 1, 0, 5 * S),
        Invocation("e", "b", 1, 2 * S, 6 * S),
        Invocation("e", "c", 1, 20 * S, 21 * S),
    ]
    assert concurrent_environments(overlapping) == {"e"}
    assert freezes_of(overlapping, [], {"e"}) == []
    apart = [Invocation("e", "a", 1, 0, 5 * S), Invocation("e", "b", 1, 9 * S, 10 * S)]
    assert [(z.start_ns, z.end_ns) for z in freezes_of(apart, [], set())] == [(5 * S, 9 * S)]


def test_transports_are_tied_to_their_connections():
    trace = analyzer.read(CAPTURES / "frozen-keepalive")
    assert [(t.number, t.connection) for t in trace.story.transports] == [("1", "C1"), ("2", "C2")]
    assert set(trace.connections["environment"]) == set(trace.invocations["environment"])


def test_environments_are_tied_to_their_addresses():
    trace = analyzer.read(CAPTURES / "healthy")
    assert trace.connections["environment"].nunique() == 2


def test_the_same_capture_twice_is_one_connection_each(tmp_path):
    shutil.copy(CAPTURES / "healthy" / "server.pcap", tmp_path / "a.pcap")
    shutil.copy(CAPTURES / "healthy" / "server.pcap", tmp_path / "b.pcap")
    trace = analyzer.read(tmp_path)
    assert len(trace.connections) == 2
    assert [len(s) for s in trace.connections["seen_as"]] == [2, 2]


def test_an_unrelated_log_changes_no_finding(tmp_path):
    folder = CAPTURES / "zombie-fin-wait-2"
    alone = analyzer.read(folder / "lambda.json", folder / "server.pcap")
    both = analyzer.read(folder / "lambda.json", folder / "server.pcap", CAPTURES / "healthy" / "lambda.json")
    assert [(f.rule, f.connection, f.environment) for f in both.findings] == [
        (f.rule, f.connection, f.environment) for f in alone.findings
    ]


def test_an_unalignable_log_concludes_nothing():
    """A log of one incident beside a capture of another: no clock is invented, nothing is tied by time."""
    trace = analyzer.read(CAPTURES / "healthy" / "server.pcap", CAPTURES / "frozen-keepalive" / "lambda.json")
    assert not trace.story.aligned or all(f.rule == "K101" for f in trace.findings)
    assert {f.rule for f in trace.findings} <= {"K101"}


def test_timeline_is_in_order_and_complete():
    trace = analyzer.read(CAPTURES / "zombie-fin-wait-2")
    table = trace.timeline("C1")
    assert table["time"].is_monotonic_increasing
    assert (table["layer"] == "tcp").sum() == 27
    assert set(table["layer"]) == {"tcp", "app", "lambda"}
    with pytest.raises(KeyError, match="C1 … C2"):
        trace.timeline("C9")


def test_a_log_of_another_incident_is_not_aligned():
    """Bursts and invocations coincide at some offset in any two recordings; minutes apart, that is no evidence."""
    log = CAPTURES / "zombie-fin-wait-2" / "lambda.json"
    trace = analyzer.read(log, CAPTURES / "healthy" / "server.pcap")
    assert not trace.story.aligned
    assert trace.connections["environment"].isna().all()
    assert [(f.rule, f.confidence, f.title) for f in trace.findings] == [
        (f.rule, f.confidence, f.title) for f in analyzer.read(log).findings
    ]


def test_a_new_process_with_the_same_ids_is_another_transport():
    from analyzer.rules._cases import Case

    ping = "grpc 1 keepalive | (1) 10.0.0.9:443 Sending ping with timeout 1000ms"
    end = "grpc 1 keepalive | (1) 10.0.0.9:443 Ping timeout passed without response"
    story = Case(
        "",
        log=f"""
        00:00:00.000 START 1
        00:00:00.100 {ping}
        00:00:01.101 {end}
        00:00:01.200 REPORT 1
        00:00:09.000 INIT -
        00:00:09.100 START 2
        00:00:09.200 {ping}
        00:00:10.201 {end}
        00:00:10.300 REPORT 2
        """,
    ).story()
    assert [t.number for t in story.transports] == ["1", "1@2"]
    assert len(story.pings) == 2


@pytest.mark.parametrize(("cut", "confidence"), [(False, "certain"), (True, "likely")])
def test_a_capture_that_had_ended_proves_no_absence(cut, confidence):
    """A reset of a middlebox: the server's capture shows neither the write nor the reset, if it was still running."""
    from analyzer.rules import run
    from analyzer.rules._cases import Case

    opening = "0.000 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.010 > 40\n0.012 < 90\n0.050 > ACK\n"
    story = Case("", packets=opening + "14.3 > 8\n14.301 < RST", server_packets=opening).story()
    server = next(p for p in story.connections.points if p.source.label == "server.pcap")
    if cut:
        server.data.last_ns = int(server.data.segments[-1, 0])
    (finding,) = run(story)
    assert (finding.rule, finding.confidence.word) == ("R303", confidence)
