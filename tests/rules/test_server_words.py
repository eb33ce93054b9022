"""What real servers say before they close, and pings that only sizes tell of, in the findings."""

from __future__ import annotations

from pathlib import Path

import pytest

import analyzer
from analyzer.model.findings import Confidence, Finding
from analyzer.rules import run
from analyzer.rules._cases import Case
from analyzer.rules._common import OWN_REASON

DATA = Path(__file__).parent / "data"
OPEN = "0.0 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.003 > 40\n0.004 < 200\n0.044 > ACK\n"
IDLE = {
    "MySQL: 4031 The client was disconnected by the server": r"\x37\0\0\0\xff\xbf\x0fThe_client_was_disconnected_by_the_server_inactivity",
    "PostgreSQL: FATAL 57P05 idle": r"E\0\0\0\x20SFATAL\0VFATAL\0C57P05\0Midle\0\0",
}


def by_code(case: Case) -> dict[str, Finding]:
    return {finding.rule: finding for finding in run(case.story())}


def noted(finding: Finding) -> list[str]:
    return [e.text for e in finding.evidence if e.note == OWN_REASON]


@pytest.mark.parametrize(
    ("name", "thrown", "text"),
    [
        ("redis-maxclients", ["C4", "C5"], "← Redis: ERR max number of clients reached (36 B)"),
        ("mariadb-max-connections", ["C12", "C13"], "← MySQL: 1040 Too many connections (27 B)"),
        ("postgresql-limits", ["C5"], "← PostgreSQL: FATAL 53300 sorry, too many clients already (86 B)"),
    ],
)
def test_real_servers_at_their_limit(name: str, thrown: list[str], text: str) -> None:
    (finding,) = [f for f in analyzer.read(DATA / f"{name}.pcap").findings if f.rule == "L501"]
    assert finding.connections == thrown and finding.confidence is Confidence.CERTAIN
    assert {e.text for e in finding.evidence} == {text}


def test_a_real_idle_timeout_is_given_in_the_servers_words() -> None:
    found = [f for f in analyzer.read(DATA / "postgresql-limits.pcap").findings if f.rule == "F201"]
    finding = next(f for f in found if f.connection == "C1")
    (text,) = noted(finding)
    assert text.startswith("← PostgreSQL: FATAL 57P05 terminating connection due to idle-session timeout")
    assert "after 1 s idle" in finding.why


@pytest.mark.parametrize("text", IDLE)
@pytest.mark.parametrize(
    ("code", "rest"),
    [
        ("F201", "6.501 < FIN\n6.54 > ACK\n16.1 > FIN\n16.101 < RST"),
        ("F203", "6.501 < FIN\n6.54 > ACK\n16.1 > 60\n16.101 < RST"),
        ("R303", "6.54 > ACK\n16.1 > 60\n16.101 < RST"),
        ("R303", "6.71 < ACK again lost\n16.1 > 60\n16.101 < RST"),  # frozen as a machine: nothing is acknowledged
    ],
)
def test_the_servers_own_reason(text: str, code: str, rest: str) -> None:
    found = by_code(Case("", packets=f"{OPEN}6.5 < RAW {IDLE[text]}\n{rest}"))
    (words,) = noted(found[code])
    assert words.startswith(f"← {text}")


@pytest.mark.parametrize(
    "before",
    [
        "6.5 < TEXT -ERR_unknown_command",  # an answer, after which no server closes
        f"6.4 < RAW {IDLE['PostgreSQL: FATAL 57P05 idle']}\n6.45 > ACK\n6.5 < 20",  # something came after it
    ],
)
def test_an_earlier_error_is_no_reason(before: str) -> None:
    found = by_code(Case("", packets=f"{OPEN}{before}\n6.501 < FIN\n6.54 > ACK\n16.1 > 60\n16.101 < RST"))
    assert noted(found["F203"]) == []


def test_a_frozen_keepalive_inside_tls() -> None:
    """The answer is found by its size, at the right packet, and the pings align the clocks as well as plain ones do."""
    trace = analyzer.read(DATA / "frozen-keepalive-tls")
    (finding,) = trace.findings
    assert finding.rule == "K101" and finding.confidence is Confidence.CERTAIN  # by the platform's lines
    (answer,) = [e for e in finding.evidence if e.layer == "pcap"]
    assert (answer.ref, answer.text) == ("#45", "← PING ack? (39-byte TLS record)")
    assert answer.note == "sent 6 times, not acknowledged before the timeout"
    assert "most likely answered" in finding.why and "39-byte TLS record" in finding.ruled_out[0]
    (clock,) = [c for s in trace.story.sources for c in s.clocks if s.kind == "pcap"]
    assert clock.error_ns is not None and clock.error_ns < 13_000_000


FROZEN = """
00:00:00.000 START 1
00:00:00.001 grpc 1 transport | dns:cache:443 10.0.0.9:6379 Established TCP connection
00:00:02.000 grpc 1 keepalive | (1) 10.0.0.9:6379 Sending ping with timeout 1000ms
00:00:02.003 grpc 1 keepalive | (1) 10.0.0.9:6379 Received ping response
00:00:04.000 grpc 1 keepalive | (1) 10.0.0.9:6379 Sending ping with timeout 1000ms
00:00:04.003 grpc 1 keepalive | (1) 10.0.0.9:6379 Received ping response
00:00:06.000 grpc 1 keepalive | (1) 10.0.0.9:6379 Sending ping with timeout 1000ms
"""
PINGS = "0.0 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n2.001 > TLS 39\n2.002 < TLS 39\n4.001 > TLS 39\n4.002 < TLS 39\n6.001 > TLS 39\n"


def test_a_silent_server_inside_tls() -> None:
    found = by_code(
        Case(
            "",
            log=FROZEN
            + "00:00:07.001 grpc 1 keepalive | (1) 10.0.0.9:6379 Ping timeout passed without response\n00:00:07.100 REPORT 1",
            packets=PINGS + "6.002 < ACK\n7.002 > FIN\n7.003 < FIN",
        )
    )
    assert [e.text for e in found["K102"].evidence if e.layer == "pcap"] == ["→ PING? (39-byte TLS record)", "← ACK"]
    assert found["K102"].confidence is Confidence.LIKELY
    assert "never answered" in found["K102"].why


def test_too_many_pings_inside_tls() -> None:
    """The GOAWAY stands in the log only; how often the client pinged, the sizes of its records tell."""
    log = """
    00:00:00.000 START 1
    00:00:00.001 grpc 1 transport | dns:cache:443 10.0.0.9:6379 Established TCP connection
    00:00:06.002 grpc 1 transport | (1) 10.0.0.9:6379 connection closed by GOAWAY with code 11 and data too_many_pings
    00:00:06.100 REPORT 1
    """
    finding = by_code(Case("", log=log, packets=PINGS + "6.0011 < TLS 61\n6.002 > FIN\n6.003 < FIN"))["K103"]
    assert "pings every 2 s" in finding.title
    assert [e.text for e in finding.evidence if e.layer == "pcap"] == ["→ PING? (39-byte TLS record)"] * 2
