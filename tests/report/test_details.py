"""What stands under the head of a timeline, of segments whose story is known, and of real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

import analyzer
from analyzer.report.details import detail_lines
from analyzer.report.style import Style
from analyzer.report.timeline import timeline_text
from analyzer.rules._cases import Case
from analyzer.trace import Trace
from tests.helpers import CAPTURES

OPEN = "0.0 > SYN\n0.004 < SYN-ACK\n0.01 > ACK"


def lines(packets: str, server_packets: str = "") -> list[str]:
    return detail_lines(Case("", packets=packets, server_packets=server_packets).story().connections, 0)


def test_a_plain_connection_has_a_round_trip_and_nothing_else() -> None:
    assert lines(f"{OPEN}\n1 > 10\n1.1 < 10\n1.2 > FIN\n1.3 < FIN\n1.4 > ACK") == ["round trip: 10 ms in the handshake"]


def test_time_outs_keepalive_and_a_foreign_reset() -> None:
    copies = "".join(f"\n{at} > 60 again lost" for at in (5.2, 5.6, 6.4))
    assert lines(f"{OPEN}\n5 > 60 lost{copies}")[1:] == [
        "5.000000 the client's retransmission time-outs: first 200 ms, doubled 2×, 4 copies in 1.4 s"
    ]
    probes = "".join(f"\n{at} < PROBE" for at in (60.0, 70.0, 80.0))
    assert lines(f"{OPEN}\n1 < 5\n1.01 > ACK{probes}")[1:] == [
        "keepalive: the server probes after 59 s idle, then every 10 s: 3 unanswered"
    ]
    (reset,) = lines(f"{OPEN}\n1 < 5\n1.01 > ACK\n9 > 60\n9.1 < RST ttl=255")[1:]
    assert reset.startswith("9.100000 the server's reset: RST without ACK; window 500; without options; ")
    assert reset.endswith("TTL 255, its other packets 63; by a middlebox?")


def test_repeats_of_one_kind_are_counted() -> None:
    runs = "".join(f"\n{n}.0 < PROBE\n{n}.01 > ACK\n{n}.1 < 5\n{n}.2 > ACK" for n in range(10, 90, 10))
    found = lines(f"{OPEN}\n1 < 5\n1.01 > ACK{runs}")
    assert [line for line in found if "keepalive:" in line] == found[1:4]
    assert found[4:] == ["… 5 more runs of keepalive probes"]


def test_what_the_capture_lacks() -> None:
    one_sided = lines("0.0 > SYN\n0.01 > ACK\n0.02 > 60\n1 > 60\n6 > 60")
    assert one_sided[0] == "capture.pcap: the server's packets are missing, its silence proves nothing"
    assert lines("0.0 > 60\n0.01 < ACK")[0] == "capture.pcap: capture began mid-stream"


@pytest.mark.parametrize("width", [80, 120])
def test_lines_keep_to_the_width(width: int) -> None:
    trace = analyzer.read(*CAPTURES.glob("*/*.pcap"))
    for k in range(len(trace.story.connections)):
        head = timeline_text(trace, f"C{k + 1}", Style(width=width)).partition("\n\n")[0]
        assert "round trip: " in head or trace.story.connections.record(k).established_ns == 0
        assert all(len(line) <= width and not line.endswith(" ") for line in head.splitlines())


# ---- real captures whose truth is known


def first(path: Path) -> list[str]:
    return detail_lines(analyzer.read(path).story.connections, 0)


def test_the_router_s_reset(shared: Path) -> None:
    """The case's NAT answered for the server, which never saw the packet."""
    found = [line for line in first(shared / "cases" / "3_nat_idle_reset" / "fn.pcap") if "reset:" in line]
    assert len(found) == 1
    assert found[0].endswith("TTL 64, its other packets 63; by a middlebox?")


@pytest.mark.parametrize("name", ["drg6", "s1", "s2"])
def test_the_server_s_own_reset(shared: Path, name: str) -> None:
    """No middlebox stood between these two: the server's kernel had dropped the connection and said so."""
    for side in ("client", "server"):
        found = [line for line in first(shared / "cases" / "mechanisms" / f"{name}.{side}.pcap") if "reset:" in line]
        assert found
        assert all(line.endswith("by the host itself, as far as TTL and IP identification tell") for line in found)


def test_time_outs_and_keepalive_of_a_real_kernel(shared: Path) -> None:
    """Keepalive as libuv sets it (every second, ten probes) of a server that goes away; SYNs into the void with Linux's first time-out of a second; a write
    into the void with the 200 ms minimum above the round trip."""
    folder = shared / "cases" / "mechanisms"
    found = first(folder / "s3k.client.pcap")
    assert "keepalive: the client probes after 1 s idle, then every 1.024 s: 3 answered, then 10 unanswered" in found
    (syns,) = first(folder / "s5.client.pcap")
    assert "the client's retransmission time-outs: first 1.021 s, doubled 5×, 11 copies" in syns
    (data,) = [line for line in first(folder / "g2.client.pcap") if "time-outs" in line]
    assert "the client's retransmission time-outs: first 209 ms, doubled 5×, 8 copies" in data


def test_the_document_tells_what_is_missing() -> None:
    story = Case("", packets="0.0 > SYN\n0.01 > ACK\n0.02 > 60\n1 > 60\n6 > 60").story()
    (connection,) = Trace(story, []).document()["connections"]
    assert (connection["oddities"], connection["one_sided"]) == ([], "server")
    story = Case("", packets="0.0 > 60\n0.01 < ACK").story()
    (connection,) = Trace(story, []).document()["connections"]
    assert (connection["oddities"], connection["one_sided"]) == (["capture began mid-stream"], None)
