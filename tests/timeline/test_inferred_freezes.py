"""Freezes without a platform line: what shows them, what does not, and how well their ends are known."""

from __future__ import annotations

import pytest

import analyzer
from analyzer.rules._cases import EPOCH, Case
from analyzer.timeline.inferred_freezes import inferred_freezes
from tests.helpers import CAPTURES

S = 1_000_000_000
OPEN = "0.000 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.010 > 40\n0.012 < 90\n0.030 > ACK\n"
COPIES = "0.100 < 60\n" + "".join(f"{t} < 60 again\n" for t in ("0.300", "0.700", "1.500", "3.100"))


def freezes(packets: str, log: str = "") -> list[tuple[str, float, float, str]]:
    found = inferred_freezes(Case("", log, packets).story())
    return [(z.environment, (z.start_ns - EPOCH) / S, (z.end_ns - EPOCH) / S, z.source) for z in found]


def test_copies_that_waited_at_a_silent_hosts_door():
    answers = "5.000 > ACK\n5.0001 > ACK\n5.0002 > ACK\n"
    assert freezes(OPEN + COPIES + answers) == [("ip:10.0.3.17", 0.1, 5.0, "retransmissions")]


@pytest.mark.parametrize(
    ("what", "packets"),
    [
        ("ordinary idleness", OPEN + "9.000 > 40\n9.002 < 90\n9.042 > ACK\n"),
        ("a path that heals: the copy that got through is answered", OPEN + COPIES + "3.102 > ACK\n3.103 > 40\n"),
        ("one acknowledgement, long after", OPEN + COPIES + "5.000 > ACK\n6.000 > 40\n"),
        ("a client that acknowledges and says nothing", OPEN + "0.100 < 60\n0.140 > ACK\n9.000 > 40\n9.002 < 90\n"),
        ("nothing comes back at all", OPEN + COPIES),
    ],
)
def test_what_is_no_freeze(what, packets):
    assert freezes(packets) == [], what


def test_an_aligned_log_tells_better():
    log = "00:00:00.000 START 1\n00:00:00.060 REPORT 1\n00:00:05.000 START 2\n00:00:05.100 REPORT 2"
    assert freezes(OPEN + COPIES + "5.000 > ACK\n5.0001 > ACK\n5.0002 > ACK\n5.050 > 40\n5.052 < 90\n", log) == []


def test_a_ping_that_timed_out_late_in_a_bare_trace():
    line = "grpc - keepalive | (1) 10.0.0.9:443"
    log = f"""
        00:00:01.000 {line} Sending ping with timeout 1000ms
        00:00:01.002 {line} Received ping response
        00:00:06.000 {line} Sending ping with timeout 1000ms
        00:00:06.400 grpc - transport | (1) 10.0.0.9:443 new settings received: {{}}
        00:00:14.000 {line} Ping timeout passed without response
    """
    (z,) = inferred_freezes(Case("", log).story())
    assert (z.source, z.start_ns - EPOCH, z.end_ns - EPOCH) == ("ping-overshoot", 6_400_000_000, 14 * S)
    assert z.error_ns == 600_000_000  # of 7.6 s without a line it may have run 0.6 s, wherever
    on_time = log.replace("00:00:14.000", "00:00:07.001")
    assert inferred_freezes(Case("", on_time).story()) == []


@pytest.mark.parametrize(
    "name", ["frozen-call", "keepalive-fin-wait-2", "paused-clock", "work-outlives", "nat-silent", "healthy"]
)
def test_shipped_captures_agree_with_their_logs(name):
    """What the server's capture alone tells of freezes lies, within its error, on those that the log tells of."""
    folder = CAPTURES / name
    capture = folder / "server.pcap"
    whole = analyzer.read(folder).story
    (clock,) = {id(p.clock): p.clock for p in whole.connections.points if p.source.label == capture.name}.values()
    found = inferred_freezes(analyzer.read(capture).story)
    assert bool(found) == (name not in ("nat-silent", "healthy"))
    for z in found:
        start, end = clock.aligned(z.start_ns), clock.aligned(z.end_ns)
        assert any(
            abs(start - told.start_ns) <= z.error_ns + told.error_ns and abs(end - told.end_ns) <= z.error_ns + told.error_ns
            for told in whole.freezes
        ), z  # fmt: skip


def test_they_stand_in_the_table_and_explain_nothing():
    trace = analyzer.read(CAPTURES / "keepalive-fin-wait-2" / "server.pcap")
    assert trace.freezes[["environment", "from"]].to_numpy().tolist() == [["ip:10.0.1.11", "retransmissions"]]
    assert not trace.story.freezes
