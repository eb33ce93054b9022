"""Narrower views by address, port and time: against the tables of the whole."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

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

    assert list(shown["id"]) == [c for c, a in zip(whole["id"], whole[side], strict=True) if inside(a)]


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
