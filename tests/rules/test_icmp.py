"""An ICMP error takes the silence out of a finding."""

from __future__ import annotations

from pathlib import Path

import analyzer
from analyzer.model.findings import Confidence
from tests.timeline.test_icmp import DATA, error, segment, write

PAIR = ("10.0.0.1", "10.0.0.2")


def test_a_router_s_answer_to_a_syn() -> None:
    """The firewall's host-unreachable, and the router that found nobody at the address: both captures, then each alone."""
    for names in ("client", "router"), ("client",), ("router",):
        trace = analyzer.read(*(DATA / f"icmp-reject-{name}.pcap.gz" for name in names))
        found = [f for f in trace.findings if f.rule == "C403"]
        assert [f.connection for f in found] == ["C3", "C4"]
        for f in found:
            assert f.title.endswith(" failed: ICMP host unreachable from 10.77.1.1") and f.title.startswith(
                "connect to "
            )
            assert [(e.layer, e.primary) for e in f.evidence] == [("pcap", False), ("icmp", True)]
            assert f.confidence is Confidence.CERTAIN


def test_one_syn_and_its_error_are_enough_but_no_redirect(tmp_path: Path) -> None:
    syn = segment(*PAIR)
    (found,) = analyzer.read(write(tmp_path / "a.pcap", "Ethernet", [(0, syn), (0.1, error(syn))])).findings
    assert (
        found.why
        == "10.0.0.2:443 was not reached: 192.0.2.9 answered a SYN with an ICMP error, no packet gets from there to the server"
    )
    redirect = error(syn)
    redirect["ICMP"].type = 5
    assert analyzer.read(write(tmp_path / "b.pcap", "Ethernet", [(0, syn), (0.1, redirect)])).findings == []


def test_data_that_a_router_rejects_is_no_silent_drop(tmp_path: Path) -> None:
    swap = {"sport": 443, "dport": 40_000}
    answer = segment(PAIR[1], PAIR[0], seq=500, ack=1001, flags="SA")
    answer["TCP"].sport, answer["TCP"].dport = swap.values()
    up = segment(*PAIR, seq=1001, ack=501, flags="A")
    data = segment(*PAIR, seq=1001, ack=501, flags="PA") / b"request"
    opened = [(0, segment(*PAIR)), (0.01, answer), (0.02, up)]
    copies = [(20 + late, data) for late in (0, 0.2, 0.6, 1.4, 3)]
    path = write(tmp_path / "a.pcap", "Ethernet", opened + copies)
    (silent,) = analyzer.read(path).findings
    assert (silent.rule, silent.confidence) == ("R302", Confidence.LIKELY)
    told = sorted([*opened, *copies, (20.001, error(data)), (21.401, error(data))], key=lambda pair: pair[0])
    (said,) = analyzer.read(write(tmp_path / "b.pcap", "VLAN", told)).findings
    assert said.title == "5 copies of a request after 20 s idle, answered by ICMP host unreachable from 192.0.2.9"
    assert [e.note for e in said.evidence] == ["", "2 ICMP errors", "5 copies (RTO 200 ms, doubled 3×)"]
    assert "a flow forgotten in silence (an ICMP error came back)" in said.ruled_out
