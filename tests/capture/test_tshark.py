"""Packets, connections and TCP analysis flags against tshark, an independent implementation with the same definitions."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import analyzer
from analyzer.capture.columns import FLAGS, NO, O_DSACK, OPTIONS, RST
from analyzer.capture.reader import CaptureData
from analyzer.tcp import detail
from analyzer.tcp.connections import connections_of
from analyzer.tcp.fields import (
    K_ACKED_UNSEEN,
    K_DUP_ACK,
    K_FAST,
    K_KEEPALIVE,
    K_KEEPALIVE_ACK,
    K_LOST,
    K_OOO,
    K_RETX,
    K_SPURIOUS,
    K_ZERO_PROBE,
    K_ZERO_WINDOW,
)
from tests.capture import packets

#: One holds every packet twice (`-i any`): tshark takes the copies for retransmissions, we count a packet once.
DOUBLED = "any-interface"
CAPTURES = sorted(
    path for path in (Path(__file__).parents[2] / "captures").glob("*/server.pcap*") if path.parent.name != DOUBLED
)

ANALYSIS = {
    "retransmission": K_RETX,  # fast and spurious ones are counted in it
    "fast_retransmission": K_FAST,
    "spurious_retransmission": K_SPURIOUS,
    "out_of_order": K_OOO,
    "duplicate_ack": K_DUP_ACK,
    "keep_alive": K_KEEPALIVE,
    "keep_alive_ack": K_KEEPALIVE_ACK,
    "zero_window": K_ZERO_WINDOW,
    "zero_window_probe": K_ZERO_PROBE,
    "lost_segment": K_LOST,
    "ack_lost_segment": K_ACKED_UNSEEN,
}
FIELDS = (
    "frame.number", "frame.protocols", "tcp.stream", "tcp.flags", "tcp.completeness", "tcp.connection.fin_active", "tcp.options.sack.dsack_le",
    *(f"tcp.analysis.{name}" for name in ANALYSIS),
)  # fmt: skip
#: Fragments apart, as we see them; no application protocols, which cost time.
PREFERENCES = ("ip.defragment:FALSE", "ipv6.defragment:FALSE", "tcp.desegment_tcp_streams:FALSE")

Verdict = dict[str, set[int]]  # what → packet numbers

NO_PORTS = "tshark counts a packet of whose TCP header too little was captured to hold the flags"
BACKWARDS = "time stamps go backwards: tshark takes the negative difference for a huge one, hence not out of order"
COPIES = "copies of one packet within 2 ms are counted once here, as retransmissions and duplicate ACKs by tshark"
ACKED_TWICE = (
    "acknowledgements beyond a hole are told each time they move; tshark passes some over behind lost fragments"
)
#: Where we differ, what differs, and why.
DIFFERENT: dict[str, tuple[set[str], str]] = {
    "AlexeyVasilev__PcapFlowLab/tests/data/parsing/tcp_options/19_tcp_syn_tcp_header_snaplen_truncated.pcap": (
        {"packets", "streams"},
        NO_PORTS,
    ),
    "simsong__tcpflow/tests/simson.pcap": ({"packets", "streams"}, NO_PORTS),
    "the-tcpdump-group__tcpdump/tests/tcp_header_heapoverflow.pcap": ({"packets", "streams"}, NO_PORTS),
    "simsong__tcpflow/tests/test1-out-of-order.pcap": ({"retransmission", "out_of_order"}, BACKWARDS),
    "simsong__tcpflow/tests/test5-lines-randomized2.pcap": ({"retransmission", "out_of_order"}, BACKWARDS),
    "simsong__tcpflow/samplePcaps/jpegs.cap": ({"ack_lost_segment"}, ACKED_TWICE),
    "zeek__zeek/testing/btest/Traces/ftp/bigtransfer.pcap": (
        {"ack_lost_segment", "completeness"},
        ACKED_TWICE + "; of its data connections tshark forgets the SYN where they use a port again",
    ),
    "simsong__tcpflow/tests/test5-lines-randomized.pcap": (
        {"completeness"},
        "a SYN behind the first data: tshark counts the ACK before it for that SYN's connection, we begin another one",
    ),
    "simsong__tcpflow/tests/bug6.pcap": (
        {"ack_lost_segment"},
        "connections whose first packet is a keepalive probe: tshark misses the byte that the answer acknowledges beyond it",
    ),
    "the-tcpdump-group__tcpdump/tests/bgp-shutdown-communication.pcapng": ({"retransmission"}, COPIES),
    "the-tcpdump-group__tcpdump/tests/kday3.pcap": ({"duplicate_ack"}, COPIES),
    "the-tcpdump-group__tcpdump/tests/kday4.pcap": ({"retransmission", "duplicate_ack"}, COPIES),
    "the-tcpdump-group__tcpdump/tests/kday7.pcap": ({"retransmission", "duplicate_ack"}, COPIES),
    "the-tcpdump-group__tcpdump/tests/bigtcp-ipv6.pcap": (
        {"packets", "streams"},
        "an IPv6 payload length of 0 in front of a jumbogram: tshark 4.0 stops, we take the length on the wire",
    ),
    "zeek__zeek/testing/btest/Traces/cisco-fabric-path.pcap": (
        {"retransmission"},
        "each SYN twice, the copy in a FabricPath header: tshark calls the copies malformed and does not analyse them; those "
        "of IPv4 are duplicates here, those of IPv6 have no identification that would tell",
    ),
}

LINKS = {"EN10MB", "LINUX_SLL", "LINUX_SLL2", "RAW", "RAW(12)", "NULL", "IPV4", "IPV6", "EN10MB,NULL"}
FORMATS = {"pcap", "pcap-ns", "pcapng", "pcap.gz", "pcapng.gz"}
TUNNELS = ("tunnel", "GRE", "MPLS", "Geneve", "VXLAN", "GTP", "PPPoE", "IPIP", "6in4", "Teredo", "ERSPAN", "PPTP")


def need_tshark() -> None:
    if not shutil.which("tshark"):
        if os.environ.get("CI"):
            pytest.fail("tshark is missing: CI installs it")
        pytest.skip("needs tshark")


def ask_tshark(path: Path) -> list[dict[str, str]]:
    """One row for each TCP packet that is not quoted inside an ICMP error."""
    command = [
        "tshark",
        "-2",
        "-n",
        "-r",
        str(path),
        "-Y",
        "tcp",
        "-T",
        "fields",
    ]  # twice: completeness is known at the end
    for preference in PREFERENCES:
        command += ["-o", preference]
    for name in FIELDS:
        command += ["-e", name]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    rows = [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in lines]
    return [row for row in rows if "icmp" not in row["frame.protocols"]]


def their_verdict(rows: list[dict[str, str]]) -> Verdict:
    verdict = {"packets": {int(row["frame.number"]) for row in rows}}
    for name in ANALYSIS:
        verdict[name] = {int(row["frame.number"]) for row in rows if row[f"tcp.analysis.{name}"]}
    verdict["resets"] = {int(row["frame.number"]) for row in rows if int(row["tcp.flags"] or "0", 16) & RST}
    verdict["D-SACK"] = {int(row["frame.number"]) for row in rows if row["tcp.options.sack.dsack_le"]}
    return verdict


def our_verdict(data: CaptureData) -> Verdict:
    numbers = [int(segment[NO]) for segment in data.segments]
    verdict = {"packets": set(numbers)}
    for name, bit in ANALYSIS.items():
        verdict[name] = {number for number, kind in zip(numbers, data.kinds, strict=True) if kind & bit}
    verdict["resets"] = {int(segment[NO]) for segment in data.segments if segment[FLAGS] & RST}
    verdict["D-SACK"] = {int(segment[NO]) for segment in data.segments if segment[OPTIONS] & O_DSACK}
    return verdict


def streams(owners: Iterable[tuple[int, int]]) -> set[frozenset[int]]:
    """Connections as sets of packet numbers, whatever they are called."""
    groups: dict[int, set[int]] = {}
    for number, owner in owners:
        groups.setdefault(owner, set()).add(number)
    return {frozenset(group) for group in groups.values()}


#: Bits of `tcp.completeness` that mean the same here: data are payload of one's own here, not probes.
LIFE = {"SYN": 1, "SYN-ACK": 2, "ACK": 4, "FIN": 16, "RST": 32}


def their_lives(rows: list[dict[str, str]]) -> dict[int, int]:
    """What each connection had, as `tcp.completeness` counts it, by its first packet."""
    first: dict[str, int] = {}
    for row in rows:
        first.setdefault(row["tcp.stream"], int(row["frame.number"]))
    return {first[row["tcp.stream"]]: int(row["tcp.completeness"] or 0) & sum(LIFE.values()) for row in rows}


def our_lives(data: CaptureData) -> dict[int, int]:
    """The same of connections that begin with their SYN."""
    lives = {}
    for c in connections_of(data.rows):
        if c.syn_ns:
            had = (True, c.syn_ack_ns > 0, c.established_ns > 0, c.a.fins + c.b.fins > 0, c.a.rsts + c.b.rsts > 0)
            lives[c.first_no] = sum(bit for bit, yes in zip(LIFE.values(), had, strict=True) if yes)
    return lives


def differences(rows: list[dict[str, str]], data: CaptureData) -> dict[str, tuple[list[int], list[int]]]:
    """What differs: packets only tshark has, packets only we have (of connections: their first packets)."""
    theirs, ours = their_verdict(rows), our_verdict(data)
    out = {
        name: (sorted(theirs[name] - ours[name]), sorted(ours[name] - theirs[name]))
        for name in theirs
        if theirs[name] != ours[name]
    }
    a = streams((int(row["frame.number"]), int(row["tcp.stream"] or -1)) for row in rows)
    b = streams((int(segment[NO]), int(uid)) for segment, uid in zip(data.segments, data.uids, strict=True))
    if theirs["packets"] == ours["packets"] and a != b:
        out["streams"] = (sorted(min(group) for group in a - b), sorted(min(group) for group in b - a))
    elif len(a) != len(b):
        out["streams"] = ([len(a)], [len(b)])
    if "streams" not in out and "packets" not in out:
        lives, ours = their_lives(rows), our_lives(data)
        # tshark takes the ACK of a reset for the handshake's.
        doubtful = {n: LIFE["ACK"] if life & LIFE["RST"] else 0 for n, life in ours.items()}
        if wrong := [n for n, life in ours.items() if (lives.get(n, 0) ^ life) & ~doubtful[n]]:
            out["completeness"] = ([lives.get(n, -1) for n in wrong], [ours[n] for n in wrong])
    return out


def corpus_files(folder: Path) -> list[str]:
    """Captures of link layers that we decode, with TCP, without tunnels."""
    with (folder / "INDEX.tsv").open() as index:
        return [
            row["path"]
            for row in csv.DictReader(index, delimiter="\t")
            if row["format"] in FORMATS
            and row["linktype"] in LINKS
            and int(row["tcp_packets"] or 0)
            and not any(tunnel in row["tags"] for tunnel in TUNNELS)
        ]


def compare(paths: dict[str, Path]) -> dict[str, dict[str, tuple[list[int], list[int]]]]:
    """Differences of each file; tshark runs on two cores beside us."""
    with ThreadPoolExecutor(2) as pool:
        answers = dict(zip(paths, pool.map(ask_tshark, paths.values()), strict=True))
    found = {name: differences(answers[name], packets.read(path)) for name, path in paths.items()}
    return {name: difference for name, difference in found.items() if difference}


def has_analysis(path: Path) -> bool:
    """Whether we find anything to analyse in a capture. Of the others a sample will do: each costs a start of tshark."""
    kinds = packets.read(path).kinds
    return any((kinds & bit).any() for bit in ANALYSIS.values())


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.parent.name)
def test_shipped_captures_agree_with_tshark(path: Path) -> None:
    need_tshark()
    assert differences(ask_tshark(path), packets.read(path)) == {}


@pytest.mark.shared
def test_cases_agree_with_tshark(shared: Path) -> None:
    need_tshark()
    paths = {str(path): path for path in sorted((shared / "cases").rglob("*.pcap*"))}
    assert len(paths) > 30
    assert compare(paths) == {}


@pytest.mark.shared
def test_public_captures_agree_with_tshark_but_where_a_reason_is_given(shared: Path) -> None:
    need_tshark()
    paths = {name: shared / "corpus" / name for name in corpus_files(shared / "corpus")}
    assert len(paths) >= 150
    chosen = {name: path for name, path in paths.items() if name in DIFFERENT or has_analysis(path)}
    assert len(chosen) >= 50
    rest = [name for name in paths if name not in chosen][::8]
    found = {name: set(difference) for name, difference in compare(chosen | {n: paths[n] for n in rest}).items()}
    assert found == {name: what for name, (what, _) in DIFFERENT.items()}


def test_random_conversations_agree_with_tshark(tmp_path: Path) -> None:
    """Losses, repetitions, overlaps, probes, resets, reused ports, wrapped numbers: many of each.

    After an acknowledgement of data never seen, tshark takes whatever it finds for a fast retransmission once, and passes
    over some further ones of that kind: there we differ, in a few of a hundred retransmissions.
    """
    need_tshark()
    path = tmp_path / "random.pcap"
    content = packets.pcap(packets.conversations(seed=7, count=800))
    path.write_bytes(content)
    rows, data = ask_tshark(path), packets.read(content)
    found = differences(rows, data)
    beyond, told = found.pop("ack_lost_segment", ([], []))
    fast, ours_fast = found.pop("fast_retransmission", ([], []))
    doubtful = {n for name in ("retransmission", "out_of_order") for side in found.pop(name, ([], [])) for n in side}
    assert found == {}
    assert (ours_fast, doubtful <= set(fast), len(beyond) <= 2) == ([], True, True)
    counts = Counter({name: len(numbers) for name, numbers in our_verdict(data).items()})
    assert len(fast) <= counts["retransmission"] / 100
    assert len(told) <= counts["ack_lost_segment"] / 3
    assert min(counts[name] for name in ANALYSIS if name != "fast_retransmission") > 50


@pytest.mark.parametrize(
    "name", ["nat-silent/client", "close-delayed/server", "connect-burst/server", "reset-dropped/server"]
)
def test_backoff_waits_as_tshark(name: str) -> None:
    """Of each repetition by a time-out: the time since the first copy, as `tcp.analysis.rto` has it."""
    need_tshark()
    path = Path(__file__).parents[2] / "captures" / f"{name}.pcap"
    command = ["tshark", "-n", "-r", str(path), "-Y", "tcp.analysis.rto", "-T", "fields"]
    fields = ["-e", "frame.number", "-e", "tcp.analysis.rto"]
    lines = subprocess.run(command + fields, capture_output=True, text=True, check=True).stdout.splitlines()
    theirs = {int(number): round(float(rto) * 1e6) for number, rto in (line.split("\t") for line in lines)}
    cs = analyzer.read(path).story.connections
    ours = {}
    for k in range(len(cs)):
        numbers = {s.time_ns: s.places[0].no for s in cs.segments(k)}
        for series in detail.backoffs(cs.segments(k)):
            first, *later = series.times_ns
            ours.update({numbers[time]: (time - first) // 1000 for time in later})
    assert ours and {number: theirs.get(number) for number in ours} == ours
