"""`analyze extract`: a piece of a trace that tells the same story, and redacted nothing of whom it is about."""

from __future__ import annotations

import gzip
import ipaddress
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime

import pytest

import analyzer
from analyzer.capture import reader
from analyzer.extract import chosen, extract, names_first
from analyzer.model.problems import InputError
from analyzer.redact import Redactor
from tests.capture import packets
from tests.helpers import CAPTURES, CASES, shift_pcap

CASE = CAPTURES / "frozen-keepalive"
CONNECTION = ["conn_state", "history", "client_state", "server_state", "ended_by", "client_packets", "server_packets", "client_bytes",
              "server_bytes", "client_retransmits", "server_retransmits", "missed_bytes", "duration_s", "longest_idle_s"]  # fmt: skip


def analyze(*args, stdin=b"", **env):
    return subprocess.run(
        [sys.executable, "-m", "analyzer", *map(str, args)], input=stdin, capture_output=True, timeout=60,
        env={**os.environ, **env}, check=False,
    )  # fmt: skip


def verdicts(trace):
    return Counter((f.rule, f.severity, f.confidence, bool(f.connection)) for f in trace.findings)


def rows(trace, connections=None):
    table = trace.connections
    if connections is not None:
        table = table[table.id.isin(connections)]
    return sorted(table[CONNECTION].astype(object).fillna("").itertuples(index=False, name=None))


def pieces(folder, tmp_path, redactor=None):
    """The flagged connections of a case (its first without findings), extracted; and the case itself."""
    trace = analyzer.read(folder)
    names = sorted({c for f in trace.findings for c in f.connections}) or ["C1"]
    target = tmp_path / ("redacted" if redactor else "plain")
    target.mkdir()
    extract(trace, chosen(trace, names), str(target / "small.pcap"), redactor)
    return trace, names, target


@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_the_pieces_tell_the_same(folder, tmp_path):
    trace, names, plain = pieces(folder, tmp_path)
    again = analyzer.read(plain)
    assert verdicts(again) == verdicts(trace)
    assert rows(again) == rows(trace, names)
    assert {p.suffix for p in plain.iterdir()} == {".pcap", ".json"}


@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_redacted_they_tell_the_same_of_nobody(folder, tmp_path):
    trace, names, red = pieces(folder, tmp_path, Redactor("a key"))
    again = analyzer.read(red)
    assert verdicts(again) == verdicts(trace)
    assert rows(again) == rows(trace, names)
    written = b"".join(p.read_bytes() for p in red.iterdir())
    known = set(trace.invocations.request_id) | set(trace.environments.id)
    known |= {a.rpartition(":")[0] for c in ("client", "server") for a in trace.connections[c]}
    assert not [name for name in known if name.encode() in written]
    assert not [a for a in known if a.count(".") == 3 and bytes(map(int, a.split("."))) in written]


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
def test_tshark_finds_no_fault_with_redacted_packets(tmp_path):
    _, _, red = pieces(CAPTURES / "zombie-fin-wait-2", tmp_path, Redactor())
    wrong = "tcp.checksum.status==0 || ip.checksum.status==0 || _ws.malformed"
    said = subprocess.run(
        ["tshark", "-r", red / "small.pcap", "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-Y", wrong],
        capture_output=True, check=True,
    )  # fmt: skip
    assert said.stdout == b""


def test_a_key_makes_runs_linkable(tmp_path):
    trace = analyzer.read(CASE)
    made = []
    for number, redactor in enumerate((Redactor("a key"), Redactor("a key"), Redactor(), Redactor())):
        target = tmp_path / f"{number}.pcap"
        extract(trace, [0], str(target), redactor)
        made.append(target.read_bytes() + target.with_suffix(".json").read_bytes())
    assert made[0] == made[1] and len(set(made)) == 3


def test_captures_too_large_to_keep_are_read_again(tmp_path, monkeypatch):
    records = packets.conversations(seed=9, count=40)
    path = tmp_path / "all.pcap.gz"
    path.write_bytes(gzip.compress(packets.pcap(records)))
    kept = analyzer.read(path)
    monkeypatch.setattr(reader, "KEEP_SEGMENTS", 10)
    trace = analyzer.read(path)
    assert not trace.story.connections.points[0].data.complete
    for name, each in (("a.pcap", kept), ("b.pcap", trace)):
        extract(each, [3, 17], str(tmp_path / name))
    assert (tmp_path / "a.pcap").read_bytes() == (tmp_path / "b.pcap").read_bytes()
    assert rows(analyzer.read(tmp_path / "b.pcap")) == rows(kept, ["C4", "C18"])


def test_every_capture_point_gets_a_file(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir(), out.mkdir()
    shutil.copy(CASE / "server.pcap", folder / "server.pcap")
    shift_pcap(CASE / "server.pcap", folder / "proxy.pcap", 0.002)
    trace = analyzer.read(folder)
    extract(trace, [0], str(out / "small.pcap"))
    assert sorted(p.name for p in out.iterdir()) == ["small-proxy.pcap", "small-server.pcap"]
    extract(trace, [0], str(out / "red.pcap"), Redactor())
    assert {p.name for p in out.glob("red*")} == {"red-s1.pcap", "red-s2.pcap"}
    with pytest.raises(InputError, match="takes one capture"):
        extract(trace, [0], "-")


def test_lines_stay_the_logs_own(tmp_path):
    events = json.loads((CASE / "lambda.json").read_text())["events"]
    lines = [f"{e['message'].rstrip()}\n" for e in events if " | " in e["message"]]
    text = "".join(lines)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "trace.log").write_text(text)
    shutil.copy(CASE / "server.pcap", folder)
    trace = analyzer.read(folder)
    names = {c for f in trace.findings for c in f.connections} or {"C1"}
    extract(trace, chosen(trace, names), str(tmp_path / "small.pcap"))
    small = (tmp_path / "small.log").read_text()
    assert small and all(line in text for line in small.splitlines(keepends=True))
    positions = [text.index(line) for line in small.splitlines(keepends=True) if text.count(line) == 1]
    assert positions == sorted(positions) and len(positions) > 20


def tailed(event):
    stamp = datetime.fromtimestamp(event["timestamp"] / 1000, UTC).isoformat(timespec="milliseconds")
    return f"{stamp} {event['logStreamName']} {event['message'].rstrip()}\n"


def bare(event):
    return f"{event['message'].rstrip()}\n"


@pytest.mark.parametrize("shape", [tailed, bare])
def test_lines_of_every_shape_are_redacted_in_place(shape, tmp_path):
    """Redacted, a log of lines is still a log of that shape, and says the same."""
    folder, red = tmp_path / "in", tmp_path / "red"
    folder.mkdir(), red.mkdir()
    events = json.loads((CASE / "lambda.json").read_text())["events"]
    (folder / "fn.log").write_text("".join(map(shape, events)))
    shutil.copy(CASE / "server.pcap", folder)
    trace = analyzer.read(folder)
    assert trace.findings
    extract(trace, [0], str(red / "small.pcap"), Redactor("a key"))
    again = analyzer.read(red)
    formats = [next(s.format for s in t.story.sources if s.kind != "pcap") for t in (trace, again)]
    assert formats[0] == formats[1]
    assert verdicts(again) == verdicts(trace)
    written = (red / "small.log").read_text()
    assert "10.0.2.20" not in written and "b9cb51a5-67ef" not in written and "20e6082ed656" not in written


def test_a_finding_stands_for_its_connections(tmp_path):
    done = analyze("extract", "F1", CASE, "-o", tmp_path / "small.pcap")
    assert done.returncode == 0 and done.stdout == b"" and b"55 packets" in done.stderr
    assert analyze("extract", "f1", CASE, "-q", "-o", "-").stdout == (tmp_path / "small.pcap").read_bytes()


def test_standard_input_and_addresses(tmp_path):
    content = (CASE / "server.pcap").read_bytes()
    done = analyze("extract", "10.0.1.11:54122", "-", "-q", "-o", tmp_path / "a.pcap", stdin=content)
    assert done.returncode == 0 and done.stderr == b""
    analyze("extract", "10.0.1.11:54122-10.0.2.20:50051", CASE / "server.pcap", "-o", tmp_path / "b.pcap")
    assert (tmp_path / "a.pcap").read_bytes() == (tmp_path / "b.pcap").read_bytes()


def test_names_come_before_paths():
    assert names_first(["C1", "F2", "[::1]:443", "10.0.0.1:1-10.0.0.2:2", "./C7", "x.pcap"]) == (
        ["C1", "F2", "[::1]:443", "10.0.0.1:1-10.0.0.2:2"],
        ["./C7", "x.pcap"],
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((CASE, "-o", "x.pcap"), b"no connection"),
        (("C1", "-o", "x.pcap"), b"no input"),
        (("C99", CASE, "-o", "x.pcap"), b"C1"),
        (("F99", CASE, "-o", "x.pcap"), b"no finding"),
        (("1.2.3.4:5", CASE, "-o", "x.pcap"), b"1.2.3.4:5"),
        (("C1", CASE, "-o", "no/such/folder/x.pcap"), b"no/such/folder"),
        (("C1", CASE), b"output"),
    ],
)
def test_errors_are_one_line_and_status_2(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(CAPTURES.parent))
    done = analyze("extract", *arguments)
    assert done.returncode == 2 and words in done.stderr and b"Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_input_is_never_written_over(tmp_path):
    path = tmp_path / "server.pcap"
    shutil.copy(CASE / "server.pcap", path)
    done = analyze("extract", "C1", path, "-o", path)
    assert done.returncode == 2 and b"one of the inputs" in done.stderr
    assert path.read_bytes() == (CASE / "server.pcap").read_bytes()


def test_nothing_is_left_where_something_fails(tmp_path):
    trace = analyzer.read(CASE)
    (tmp_path / "small.json").mkdir()
    with pytest.raises(OSError):
        extract(trace, [0], str(tmp_path / "small.pcap"))
    assert [p.name for p in tmp_path.iterdir()] == ["small.json"]


def test_a_log_that_gives_nothing_is_told(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(CASE / "server.pcap", folder)
    shutil.copy(CAPTURES / "zombie-fin-wait-2" / "lambda.json", folder)
    done = analyze("extract", "C1", folder, "-o", tmp_path / "small.pcap")
    assert done.returncode == 0 and b"lambda.json: no log lines" in done.stderr
    assert not (tmp_path / "small.json").exists()


@pytest.mark.shared
def test_public_captures_stay_what_they_are(shared, tmp_path, monkeypatch):
    """Every tenth file of the corpus: all its connections extracted, and redacted as far as its headers are understood."""
    monkeypatch.setenv("ANALYZER_JIT", "0")
    redactor, compared = Redactor("a key"), Counter()
    names = [line.split("\t")[0] for line in (shared / "corpus" / "INDEX.tsv").read_text().splitlines()[1::10]]
    for name in names:
        path = shared / "corpus" / name
        try:
            trace = analyzer.read(path)
        except InputError:
            continue
        if not len(trace.connections):
            continue
        ks = list(range(len(trace.connections)))
        extract(trace, ks, str(tmp_path / "plain.pcap"))
        assert rows(analyzer.read(tmp_path / "plain.pcap")) == rows(trace), name
        compared["plain"] += 1
        try:
            told = extract(trace, ks, str(tmp_path / "red.pcap"), redactor)
        except InputError as refused:
            assert "can be redacted" in str(refused), name
            continue
        if not any("left out" in line for line in told):
            assert rows(analyzer.read(tmp_path / "red.pcap")) == rows(trace), name
            compared["redacted"] += 1
    assert compared["plain"] > 20 and compared["redacted"] > 0.8 * compared["plain"]


NAMED = "db.internal.example.com"
PEOPLE = [("10.1.2.3", "54.203.0.7"), ("fd12:3456:789a::1234", "2001:db8:77::7")]
MACS = ("00:1a:2b:3c:4d:5e", "00:99:88:77:66:55")


def gossip():
    """A pcapng in which everything names somebody: link layer, ARP, DNS, options, extension headers, SNI, quoted headers, blocks."""
    from scapy.layers import dns, inet, inet6, l2
    from scapy.packet import Raw

    hello = bytes(
        Raw(b"\x16\x03\x01\0\x40\x01\0\0\x3c\x03\x03" + bytes(32) + NAMED.encode() + b"\r\nHost: " + NAMED.encode())
    )
    frames = []
    for source, target in PEOPLE:
        v6 = ":" in source
        ether = l2.Ether(src=MACS[0], dst=MACS[1])
        plain = inet6.IPv6(src=source, dst=target) if v6 else inet.IP(src=source, dst=target)
        up = plain if v6 else inet.IP(src=source, dst=target, options=[inet.IPOption_RR(routers=[target])])
        back = inet6.IPv6(src=target, dst=source) if v6 else inet.IP(src=target, dst=source)
        if v6:
            up = up / inet6.IPv6ExtHdrRouting(addresses=[target, source])
        address = bytes(map(int, source.split("."))) if not v6 else b"\1\2\3\4"
        tcp = inet.TCP(sport=40_000, dport=443, seq=1, flags="S", options=[("MSS", 1460), (30, b"\x30\1" + address)])
        frames += [ether / up / tcp, ether / back / inet.TCP(sport=443, dport=40_000, seq=9, ack=2, flags="SA")]
        frames += [ether / up / inet.TCP(sport=40_000, dport=443, seq=2, ack=10, flags="PA") / hello]
        answer = dns.DNS(
            qr=1, qd=dns.DNSQR(qname=NAMED), an=dns.DNSRR(rrname=NAMED, type="AAAA" if v6 else "A", rdata=target)
        )
        frames += [ether / back / inet.UDP(sport=53, dport=5000) / answer]
        quoted = bytes(back / inet.TCP(sport=443, dport=40_000, seq=10, ack=2, flags="PA") / hello)
        error = inet6.ICMPv6DestUnreach() if v6 else inet.ICMP(type=3, code=1)
        frames += [
            ether / plain / error / Raw(quoted),
            l2.Ether(src=MACS[0]) / l2.ARP(psrc="10.1.2.3", pdst="54.203.0.7", hwsrc=MACS[0]),
        ]
    names = packets.block("<", 4, packets.option("<", 1, bytes((54, 203, 0, 7)) + NAMED.encode() + b"\0") + bytes(4))
    secret = packets.block("<", 10, b"KSLT" + len(NAMED).to_bytes(4, "little") + NAMED.encode())
    head = packets.section() + packets.interface(resolution=9) + names + secret
    return head + b"".join(packets.enhanced("<", 0, 10**18 + n * 10**6, bytes(frame)) for n, frame in enumerate(frames))


def test_of_a_capture_full_of_names_not_one_survives(tmp_path):
    (tmp_path / "in.pcapng").write_bytes(gossip())
    trace = analyzer.read(tmp_path / "in.pcapng")
    assert len(trace.connections) == 2 and NAMED in {n for names in trace.connections["names"] for n in names}
    told = extract(trace, [0, 1], str(tmp_path / "small.pcapng"), Redactor("a key"))
    written = (tmp_path / "small.pcapng").read_bytes()
    known = [NAMED.encode(), NAMED.encode().partition(b".")[0] + b"."] + [
        bytes.fromhex(m.replace(":", "")) for m in MACS
    ]
    known += [ipaddress.ip_address(a).packed for pair in PEOPLE for a in pair]
    assert all(name in gossip() for name in known[2:]) and not [name for name in known if name in written]
    again = analyzer.read(tmp_path / "small.pcapng")
    assert rows(again) == rows(trace) and len(again.story.connections.points[0].data.icmp) == 2
    assert any("of DNS, ARP or unknown headers" in line for line in told)


def test_headers_that_cannot_be_redacted_are_refused(tmp_path):
    records = packets.conversations(seed=9, count=1)
    hsr = [(ns, frame[:12] + b"\x89\x2f\0\0\0\0" + frame[12:]) for ns, frame in records]
    (tmp_path / "ring.pcap").write_bytes(packets.pcap(hsr))
    trace = analyzer.read(tmp_path / "ring.pcap")
    with pytest.raises(
        InputError, match=r"no packet of these connections can be redacted \([0-9]+ of DNS, ARP or unknown"
    ):
        extract(trace, [0], str(tmp_path / "small.pcap"), Redactor("a key"))
    assert [p.name for p in tmp_path.iterdir()] == ["ring.pcap"]
