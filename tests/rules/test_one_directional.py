"""A direction that was not captured proves no silence: rules that conclude from silence say nothing of it."""

from __future__ import annotations

from pathlib import Path

import pytest

import analyzer
from tests.capture.packets import ACK, FIN, SYN, Record, ethernet, ipv4, pcap, tcp

START = 1_700_000_000 * 10**9
SECOND = 10**9


def talk(port: int, at: int) -> list[tuple[bool, Record]]:
    """(from the client, record) of a connection of ten segments."""
    steps = [(True, 0, 0, SYN, b""), (False, 0, 1, SYN | ACK, b""), (True, 1, 1, ACK, b"")]
    steps += [(True, 1 + 3 * n, 1 + 5 * n, ACK, b"get") for n in range(8)]
    steps += [(False, 1 + 5 * n, 4 + 3 * n, ACK, b"reply") for n in range(8)]
    steps += [(True, 25, 41, FIN | ACK, b""), (False, 41, 26, FIN | ACK, b""), (True, 26, 42, ACK, b"")]
    out = []
    for number, (client, seq, ack, flags, data) in enumerate(steps):
        ends, ports = (("10.0.0.1", "10.0.0.2"), (port, 443)) if client else (("10.0.0.2", "10.0.0.1"), (443, port))
        frame = ethernet(ipv4(*ends, tcp(*ports, seq + 1000, ack + 1000 if ack else 0, flags, data), ip_id=number + 1))
        out.append((client, (START + at * SECOND + number * 1_000_000, frame)))
    return out


SYNS = [
    (START + n * SECOND, ethernet(ipv4("10.0.0.1", "10.0.0.2", tcp(50_000, 443, 7, 0, SYN), ip_id=n + 1)))
    for n in (0, 1, 3, 7)
]


@pytest.mark.parametrize(("server_too", "codes"), [(True, ["C401"]), (False, [])])
def test_unanswered_syns_say_nothing_where_no_answer_was_captured(
    tmp_path: Path, server_too: bool, codes: list[str]
) -> None:
    """A refused connect, too, repeats its SYN on some systems."""
    others = [
        record for port in (40_001, 40_002) for client, record in talk(port, 20 + port % 10) if client or server_too
    ]
    path = tmp_path / "some.pcap"
    path.write_bytes(pcap([*SYNS, *others]))
    trace = analyzer.read(str(path))
    assert [finding.rule for finding in trace.findings if finding.rule == "C401"] == codes
    told = [problem.what for source in trace.story.sources for problem in source.problems]
    assert any("silence of the server proves nothing" in what for what in told) == (not server_too)
