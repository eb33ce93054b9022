"""Views of captures by address, port and time against the tables of the whole; what networks tell of directions."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

import analyzer
from analyzer.model.addresses import split
from analyzer.model.problems import InputError
from tests.capture import packets
from tests.helpers import CAPTURES

CASE = CAPTURES / "zombie-fin-wait-2"


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("view") / "many.pcap"
    path.write_bytes(packets.pcap(packets.conversations(seed=11, count=60)))
    return str(path)


@pytest.mark.parametrize(
    "network", ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/31", "192.168.0.0/16", "::/0", "2001:db8::/32"]
)
@pytest.mark.parametrize("side", ["client", "server"])
def test_addresses_are_chosen_as_ipaddress_does(capture: str, side: str, network: str) -> None:
    whole = analyzer.read(capture).connections
    shown = analyzer.read(capture, **{side: [network]}).connections  # type: ignore[arg-type]
    wanted = ip_network(network)

    def inside(address: str) -> bool:
        ip = ip_address(split(address)[0])
        return ip in wanted if ip.version == wanted.version else network == "::/0"

    # Of connections that begin in mid-stream, the networks also tell the direction.
    opened = set(whole["id"][whole["history"].str.startswith("S")])
    wanted_ids = [c for c, a in zip(whole["id"], whole[side], strict=True) if c in opened and inside(a)]
    assert [c for c in shown["id"] if c in opened] == wanted_ids
    assert all(inside(address) for address in shown[side])


def test_ports_and_times(capture: str) -> None:
    whole = analyzer.read(capture).connections
    port = split(whole["server"][0])[1]
    shown = analyzer.read(capture, port=[port]).connections
    assert list(shown["id"]) == [c for c, s in zip(whole["id"], whole["server"], strict=True) if split(s)[1] == port]
    middle = int(whole["opened"].astype("int64").median())
    late = analyzer.read(capture, since=middle).connections
    ends = whole["opened"].astype("int64") + (whole["duration_s"] * 1e9).round().astype("int64")
    assert list(late["id"]) == list(whole["id"][ends >= middle])


def test_a_finding_outside_is_counted_not_shown() -> None:
    inside = analyzer.read(CASE, port=[6379])
    outside = analyzer.read(CASE, port=[1])
    assert inside.findings
    assert (outside.findings, outside.story.outside, len(outside.connections)) == ([], len(inside.findings), 0)


def test_what_is_no_network_is_an_error() -> None:
    with pytest.raises(InputError, match=r"--client 'here'.*10\.0\.0\.0/16"):
        analyzer.read(CASE, client=["here"])


# ---- direction


def midstream(
    tmp_path: Path, sides: dict[str, list[str]], jit: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str]:
    """(client, server) of a connection that begins with data between two ports that no service is known for."""
    monkeypatch.setenv("ANALYZER_JIT", jit)
    one, other = ("10.0.1.7", "10.0.2.9", 40_000, 41_000), ("10.0.2.9", "10.0.1.7", 41_000, 40_000)
    records = []
    for number, (src, dst, sport, dport) in enumerate((one, other, one)):
        segment = packets.tcp(sport, dport, 100 + number, 500, 0x18, b"x")
        records.append((10**18 + number, packets.ethernet(packets.ipv4(src, dst, segment))))
    (tmp_path / "middle.pcap").write_bytes(packets.pcap(records))
    row = analyzer.read(tmp_path / "middle.pcap", **sides).connections.iloc[0]  # type: ignore[arg-type]
    return row["client"], row["server"]


@pytest.mark.parametrize("jit", ["0", "1"])
@pytest.mark.parametrize(
    ("sides", "turned"),
    [
        ({}, False),
        ({"client": ["10.0.1.0/24"]}, False),
        ({"server": ["10.0.1.0/24"]}, True),
        ({"client": ["10.0.2.9"]}, True),
        ({"client": ["10.0.0.0/8"], "server": ["10.0.1.7"]}, True),  # the longer prefix knows better
        ({"client": ["10.0.0.0/8"]}, False),  # says nothing: both are
    ],
)
def test_networks_tell_the_direction(
    sides: dict[str, list[str]], turned: bool, jit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = ("10.0.1.7:40000", "10.0.2.9:41000")
    assert midstream(tmp_path, sides, jit, monkeypatch) == (ends[::-1] if turned else ends)


def test_a_handshake_tells_more_than_networks(tmp_path: Path) -> None:
    syn = packets.ethernet(packets.ipv4("10.0.1.7", "10.0.2.9", packets.tcp(40_000, 41_000, 1, 0, 2)))
    (tmp_path / "syn.pcap").write_bytes(packets.pcap([(10**18, syn)]))
    trace = analyzer.read(tmp_path / "syn.pcap", server=["10.0.1.7"])
    assert trace.story.connections.client(0) == "10.0.1.7:40000"


# ---- checksums


@pytest.mark.parametrize(("how", "kept"), [("sample", 2), ("check", 2), ("drop", 1)])
def test_packets_with_a_bad_checksum(how: str, kept: int, tmp_path: Path) -> None:
    from scapy.all import IP, TCP, Ether

    good = Ether() / IP(src="10.0.1.7", dst="10.0.2.9") / TCP(sport=40_000, dport=80, flags="S", seq=1)
    bad = Ether() / IP(src="10.0.1.7", dst="10.0.2.9") / TCP(sport=40_001, dport=80, flags="S", seq=1, chksum=0x1234)
    (tmp_path / "sums.pcap").write_bytes(packets.pcap([(10**18, bytes(good)), (10**18 + 1, bytes(bad))]))
    trace = analyzer.read(tmp_path / "sums.pcap", checksums=how)
    assert len(trace.connections) == kept
    assert "bad checksum" in trace.sources["problems"][0][0]["what"]
    with pytest.raises(InputError, match="sample, check, drop"):
        analyzer.read(tmp_path / "sums.pcap", checksums="no")
