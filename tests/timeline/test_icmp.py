"""ICMP errors find the connection whose segment they quote, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.layers.l2 import CookedLinux, Dot1Q, Ether
from scapy.packet import Packet, Raw

import analyzer
from analyzer.report.style import Style
from analyzer.report.timeline import timeline_text
from analyzer.trace import Trace
from tests.capture import packets

DATA = Path(__file__).parent / "data"
ZERO = 1_790_000_000 * 10**9
MAC = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
#: Link layer → (link type, what stands before the IP header).
LINKS = {"Ethernet": (1, MAC), "VLAN": (1, MAC / Dot1Q(vlan=7)), "SLL": (113, CookedLinux())}
HOST_UNREACHABLE = "← ICMP host unreachable from 192.0.2.9"


def ip(source: str, target: str) -> Packet:
    return (IPv6 if ":" in source else IP)(src=source, dst=target)


def segment(client: str, server: str, port: int = 40_000, seq: int = 1000, ack: int = 0, flags: str = "S") -> Packet:
    return ip(client, server) / TCP(sport=port, dport=443, seq=seq, ack=ack, flags=flags)


def error(quoted: Packet) -> Packet:
    """A router's error about a packet: IPv4's 28 bytes of it, IPv6's whole."""
    if quoted.version == 6:
        return ip("fd00::9", quoted.src) / ICMPv6DestUnreach(code=3) / Raw(bytes(quoted))
    return ip("192.0.2.9", quoted.src) / ICMP(type=3, code=1) / Raw(bytes(quoted)[:28])


def write(path: Path, link: str, what: list[tuple[float, Packet]], late: float = 0) -> Path:
    kind, before = LINKS[link]
    frames = []
    for at, packet in what:
        outer = before.copy()
        outer.lastlayer().fields.update(
            {"type" if link != "SLL" else "proto": 0x86DD if packet.version == 6 else 0x800}
        )
        frames.append((ZERO + round((at + late) * 10**9), bytes(outer / packet)))
    path.write_bytes(packets.pcap(frames, link=kind))
    return path


def said(trace: Trace) -> list[list[str]]:
    cs = trace.story.connections
    return [[e.describe() for e in cs.icmp(k)] for k in range(len(cs))]


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("six", [False, True])
def test_an_error_about_either_side(tmp_path: Path, link: str, six: bool) -> None:
    a, b = ("fd00::1", "fd00::2") if six else ("10.0.0.1", "10.0.0.2")
    syn = segment(a, b)
    answer = ip(b, a) / TCP(sport=443, dport=40_000, seq=77, ack=1001, flags="SA")
    trace = analyzer.read(
        write(tmp_path / "a.pcap", link, [(0, syn), (0.1, error(syn)), (1, syn), (1.1, answer), (1.2, error(answer))])
    )
    name = "ICMPv6 address unreachable from fd00::9" if six else "ICMP host unreachable from 192.0.2.9"
    assert said(trace) == [[f"← {name}", f"→ {name}"]]
    rows = trace.timeline("C1").query("layer == 'icmp'")
    assert list(rows["ref"]) == ["#2", "#5"]
    assert set(rows["kind"]) == {"icmp-error"}
    assert len(trace.events.query("layer == 'icmp'")) == 2
    assert f"← {name}" in timeline_text(trace, "C1", Style(width=120))


@pytest.mark.parametrize(
    ("at", "quoted"),
    [
        (0.5, {"port": 40_001}),
        (0.5, {"server": "10.0.0.3"}),
        (0.5, {"seq": 5_000_000}),
        (0.5, {"seq": 900}),
        (9.0, {}),
    ],
)
def test_what_is_about_another_connection_is_counted(tmp_path: Path, at: float, quoted: dict) -> None:  # type: ignore[type-arg]
    pair = {"client": "10.0.0.1", "server": "10.0.0.2"}
    stranger = error(segment(**{**pair, **quoted}))
    trace = analyzer.read(write(tmp_path / "a.pcap", "Ethernet", [(0, segment(**pair)), (at, stranger)]))
    assert said(trace) == [[]]
    problems = [p["what"] for p in trace.document()["sources"][0]["problems"]]
    assert "1 ICMP error about connections that this capture does not hold" in problems


def test_errors_that_come_when_address_resolution_gave_up(tmp_path: Path) -> None:
    syn = segment("10.0.0.1", "10.0.0.2")
    assert said(analyzer.read(write(tmp_path / "a.pcap", "Ethernet", [(0, syn), (3.05, error(syn))]))) == [
        [HOST_UNREACHABLE]
    ]


def test_of_a_port_used_again_the_later_connection(tmp_path: Path) -> None:
    first, second = segment("10.0.0.1", "10.0.0.2"), segment("10.0.0.1", "10.0.0.2", seq=900_000_000)
    reset = ip("10.0.0.2", "10.0.0.1") / TCP(sport=443, dport=40_000, ack=1001, flags="RA")
    what = [(0, first), (0.1, error(first)), (0.2, reset), (1, second), (1.1, error(second)), (1.2, error(first))]
    trace = analyzer.read(write(tmp_path / "a.pcap", "Ethernet", what))
    assert said(trace) == [[HOST_UNREACHABLE, HOST_UNREACHABLE], [HOST_UNREACHABLE]]
    assert [e.places[0].no for k in (0, 1) for e in trace.story.connections.icmp(k)] == [2, 6, 5]


def test_one_error_at_two_points_is_one(tmp_path: Path) -> None:
    """Captured on the way in and out at the first, where a copy counts once; with the next repetition at both."""
    syn = segment("10.0.0.1", "10.0.0.2")
    near = [(0, syn), (0.1, error(syn)), (0.1001, error(syn)), (1, syn), (1.1, error(syn))]
    far = [(0, syn), (0.1, error(syn)), (1, syn), (1.1, error(syn))]
    write(tmp_path / "a.pcap", "Ethernet", near, late=0.001)
    write(tmp_path / "b.pcap", "SLL", far)
    errors = analyzer.read(tmp_path).story.connections.icmp(0)
    assert [[(p.source, p.no) for p in e.places] for e in errors] == [[("s1", 2), ("s2", 2)], [("s1", 5), ("s2", 4)]]


def test_what_a_firewall_answered(tmp_path: Path) -> None:
    """A router with nftables rejects what it let through before, IPv4 and IPv6; one host does not exist. Captured at the client
    and, on all its interfaces, at the router."""
    trace = analyzer.read(*sorted(DATA.glob("icmp-reject-*.pcap.gz")))
    cs = trace.story.connections
    assert [(cs.icmp(k)[0].describe(), len(cs.icmp(k))) for k in range(len(cs))] == [
        ("← ICMP host unreachable from 10.77.1.1", 8),
        ("← ICMPv6 communication prohibited from fd77:1::1", 6),
        ("← ICMP host unreachable from 10.77.1.1", 2),
        ("← ICMP host unreachable from 10.77.1.1", 1),
    ]
    assert all(len(e.places) == 2 for k in range(len(cs)) for e in cs.icmp(k))
    saved = tmp_path / "reject.trace"
    trace.save(saved)
    assert said(analyzer.load(saved)) == said(trace)
