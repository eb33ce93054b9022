"""`--redact` on whatever a command writes: nothing that names a person, a company or a machine survives, and the findings do."""

from __future__ import annotations

import contextlib
import json
import ssl
import struct
from collections import Counter

import pyarrow.parquet as pq
import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from typer.testing import CliRunner

import analyzer
from analyzer.cli import app
from analyzer.model.problems import InputError
from analyzer.options import Picture
from analyzer.redact import Redactor
from analyzer.redact.words import clean
from analyzer.report.style import Style
from analyzer.report.text import report
from tests.capture.packets import pcap
from tests.helpers import ALL_CASES, CAPTURES, expected

CASE = CAPTURES / "nat-reset"
REAL = ["10.0.1.11", "10.0.2.", "22b0708603024ed58e0d6f3bcbcc6e4a", "e9acdca3-d672-4ce7-af52-a4a976991903"]
#: What people have in their logs, by what it would give away.
SECRETS = {
    "token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJkb2UifQ.c2lnbmVk",
    "password": "hunter2hunter2",
    "arn": "arn:aws:lambda:eu-central-1:123456789012:function:zahlungen-prod",
    "account": "210987654321",
    "mail": "erika.mustermann@kunde.de",
    "query": "/orders/4711?iban=DE89370400440532013000",
    "host": "orders-db.intern.kunde.de",
    "short": "dbprimary7",
    "env": "stage-blauwal",
    "name": "Mustermann",
    "key": "AKIAIOSFODNN7EXAMPLE",
    "card": "4111111111111111",
    "phone": "+4917012345678",
}


STAMP, STREAM = "2026-11-21T08:30:45.000000+00:00", "2026/11/21/[$LATEST]22b0708603024ed58e0d6f3bcbcc6e4a"
REQUEST = "e9acdca3-d672-4ce7-af52-a4a976991903"


def lines(secret):
    """Log lines that hold a secret where something is read of them."""
    label = "".join(c for c in secret if c.isalnum()) or secret
    yield f"START RequestId: {REQUEST} Version: {label}"
    yield f"EXTENSION\tName: {label}\tState: Ready\tEvents: [INVOKE]"
    yield json.dumps(
        {
            "level": label,
            "time": STAMP,
            "message": "read ECONNRESET",
            secret: {"logger": secret},
            "record": {"x": secret},
        }
    )
    yield json.dumps(
        {
            "level": "ERROR",
            "time": STAMP,
            "message": "m",
            "errorType": f"{label}Error",
            "err": {"code": "ECONNRESET", "hostname": label},
        }
    )
    for error in (
        "getaddrinfo ENOTFOUND",
        "connect ECONNREFUSED",
        "java.net.UnknownHostException:",
        "read ETIMEDOUT at",
    ):
        yield f"2026-11-21T08:30:45.000Z\t{REQUEST}\tERROR\tError: {error} {label}"
    trace = "D 2026-11-21T08:30:45.000Z | v1.14.7 18 | "
    yield f"{trace}keepalive | (1) 10.0.2.77:50051 Sending ping with timeout 1000ms"
    yield f"{trace}keepalive | (1) 10.0.2.77:50051 Ping timeout passed without response"
    yield f'{trace}channel | (1) dns:{label}:50051 createResolvingCall [0] method="/{label}/Get", deadline=Infinity'
    yield f"{trace}transport | (2) {label}:50051 Received GOAWAY with code 11, last stream id 1 and debug data {secret!r}"
    yield f"RequestId: {REQUEST} Error: Runtime exited with error: {secret}"


def client_hello(host):
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname=host).do_handshake()
    return out.read()


def wire():
    """A capture whose payloads tell the secrets: names in TLS and DNS, an HTTP request, replies of a database, GOAWAY data."""
    host = SECRETS["host"]
    request = f"GET {SECRETS['query']} HTTP/1.1\r\nHost: {host}\r\nCookie: {SECRETS['token']}\r\nX-Key: {SECRETS['key']}\r\n\r\n"
    said = " ".join(SECRETS.values()).encode()
    goaway = (8 + len(said)).to_bytes(3) + b"\x07" + bytes(9) + (11).to_bytes(4) + said
    payloads = [
        (443, client_hello(host), b""),
        (80, request.encode(), b"HTTP/1.1 500 " + said + b"\r\n\r\n"),
        (6379, b"*1\r\n$4\r\nPING\r\n", b"-ERR max number of clients reached " + said + b"\r\n"),
        (50051, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), goaway),
    ]  # fmt: skip
    packets = []
    for n, (port, asked, answered) in enumerate(payloads):
        ends = {"src": "10.0.1.11", "dst": "10.0.2.77"}, {"src": "10.0.2.77", "dst": "10.0.1.11"}
        ports = {"sport": 40000 + n, "dport": port}, {"sport": port, "dport": 40000 + n}
        steps = [(0, "S", 0, 0, b""), (1, "SA", 0, 1, b""), (0, "A", 1, 1, b""), (0, "PA", 1, 1, asked)]
        steps += [(1, "PA", 1, 1 + len(asked), answered), (1, "R", 1 + len(answered), 0, b"")]
        packets += [
            Ether() / IP(**ends[of]) / TCP(**ports[of], flags=flags, seq=seq, ack=ack) / Raw(data)
            for of, flags, seq, ack, data in steps
        ]
    packets += [
        Ether() / IP(src="10.0.2.2", dst="10.0.1.11") / UDP(sport=53, dport=5353)
        / DNS(qr=1, qd=DNSQR(qname=host), an=DNSRR(rrname=host, rdata="10.0.2.77"))
    ]  # fmt: skip
    return pcap((1795249845 * 10**9 + n * 10**6, bytes(packet)) for n, packet in enumerate(packets))


@pytest.fixture
def planted(tmp_path):
    """The case, its errors telling everything that they should not: in the folder's and the files' names too."""
    folder = tmp_path / SECRETS["env"]
    folder.mkdir()
    document = json.loads((CASE / "lambda.json").read_text())
    for event in document["events"]:
        head, error, tail = event["message"].partition("OperationalError: ")
        event["message"] = head + error + " ".join([*SECRETS.values(), ""]) * bool(error) + tail
    document["events"][5:5] = [
        document["events"][5] | {"eventId": f"p{n}", "message": f"ERROR {kind} {secret}\n"}
        for n, (kind, secret) in enumerate(SECRETS.items())
    ]
    (folder / f"{SECRETS['short']}.json").write_text(json.dumps(document))
    (folder / f"{SECRETS['key']}.pcap").write_bytes(wire())
    (folder / f"{SECRETS['short']}.log").write_text(
        "".join(f"{STAMP} {STREAM} {line}\n" for secret in SECRETS.values() for line in lines(secret))
    )
    for name in ("client", "server"):
        (folder / f"{SECRETS['name']}-{name}.pcap").write_bytes((CASE / f"{name}.pcap").read_bytes())
    (folder / f"{SECRETS['short']}-notes.xyz").write_text("nothing")
    return folder


def contents(path):
    """All that a file, or a folder of files, says: tables as text, since their pages are compressed."""
    if path.is_dir():
        return "".join(f"{p.name}\n{contents(p)}" for p in sorted(path.rglob("*")) if p.is_file())
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return f"{table.schema}\n{json.dumps(table.to_pylist(), default=repr)}"
    return path.read_bytes().decode("utf-8", "replace")


def leaked(text):
    halves = [str(struct.unpack(">q", b"\0\0\xff\xff" + bytes(map(int, ip.split("."))))[0]) for ip in ("10.0.1.11",)]
    small = text.lower()
    return sorted(secret for secret in [*SECRETS.values(), *REAL, *halves, "mustermann"] if secret.lower() in small)


def run(*args, wrong=0):
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == wrong, result.output
    return result


FORMATS = ["text", "concise", "json", "jsonl", "csv", "parquet", "markdown", "perfetto"]


@pytest.mark.parametrize("command", ["diagnose", "pcap", "lambda-log"])
def test_nothing_leaks_in_any_format(planted, tmp_path, command):
    for name in FORMATS:
        target = tmp_path / f"out.{name}"
        told = run(command, planted, "--redact", "--format", name, "-o", target)
        assert leaked(contents(target)) == [], name
        assert leaked(told.output) == [], name


@pytest.mark.parametrize("table", ["events", "connections", "invocations", "freezes", "environments", "sources"])
def test_nothing_leaks_in_any_table(planted, tmp_path, table):
    target = tmp_path / "out.csv"
    run("diagnose", planted, "--redact", "--format", "csv", "--table", table, "-o", target)
    assert target.stat().st_size > 100
    assert leaked(contents(target)) == []


def test_nothing_leaks_in_a_saved_folder_and_what_is_made_of_it(planted, tmp_path):
    run("diagnose", planted, "--redact", "--save", tmp_path / "saved", "-o", tmp_path / "out.txt")
    assert leaked(contents(tmp_path / "saved")) == []
    run("diagnose", tmp_path / "saved", "-o", tmp_path / "again.txt")
    assert (tmp_path / "again.txt").read_text() == (tmp_path / "out.txt").read_text()


@pytest.mark.parametrize("name", ["C1", "F2", "22b0708603024ed58e0d6f3bcbcc6e4a", "e9acdca3"])
def test_nothing_leaks_in_a_timeline_of_anything(planted, tmp_path, name):
    for target, *how in [("t.txt",), ("t.json", "--format", "json"), ("t.csv", "--format", "csv"), ("t.svg",)]:
        run("timeline", name, planted, "--redact", *how, "-o", tmp_path / target)
        assert leaked(contents(tmp_path / target)) == [], target


def test_nothing_leaks_in_pictures_and_pages(planted, tmp_path):
    run("plot", "sequence", "C1", planted, "--redact", "-o", tmp_path / "s.svg")
    pictures = [picture.value for picture in Picture if picture is not Picture.SEQUENCE]
    for picture in pictures:
        run("plot", picture, planted, "--redact", "-o", tmp_path / f"{picture}.svg")
    run("diagnose", planted, "--redact", "--report", tmp_path / "page.html", "-o", tmp_path / "out.txt")
    for name in ("s.svg", "page.html", *(f"{picture}.svg" for picture in pictures)):
        assert leaked(contents(tmp_path / name)) == [], name
    run("plot", "sequence", "C1", planted, "-o", tmp_path / "s.svg")
    assert leaked(contents(tmp_path / "s.svg")) != []


def test_nothing_leaks_in_an_extract(planted, tmp_path):
    (tmp_path / "out").mkdir()
    run(
        "extract", *analyzer.read(planted).connections["id"], planted, "--redact", "-o", tmp_path / "out" / "small.pcap"
    )
    written = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert len([name for name in written if name.endswith(".pcap")]) == 3
    assert {name.rpartition(".")[2] for name in written} == {"pcap", "json", "log"}
    assert leaked(contents(tmp_path / "out")) == []


def test_it_would_leak_without(planted, tmp_path):
    run("diagnose", planted, "--format", "json", "-o", tmp_path / "out.json")
    found = leaked(contents(tmp_path / "out.json"))
    assert set(REAL) - {"10.0.2."} <= set(found)
    assert SECRETS["password"] in found


@pytest.mark.parametrize("case", ALL_CASES, ids=lambda p: p.name)
def test_the_same_findings(case):
    trace = analyzer.read(*[case / name for name in expected(case)["inputs"]])
    told = trace.redacted("key")
    assert [(f.rule, f.id, f.connections, f.time_ns, f.caused_by, f.confidence, f.lost_ns) for f in told.findings] == [
        (f.rule, f.id, f.connections, f.time_ns, f.caused_by, f.confidence, f.lost_ns) for f in trace.findings
    ]
    assert Counter(e.layer for f in told.findings for e in f.evidence) == Counter(
        e.layer for f in trace.findings for e in f.evidence
    )
    plain = report(trace.story, trace.findings, Style(100, False, False), True, "", None, None)
    redacted = report(told.story, told.findings, Style(100, False, False), True, "", None, None)
    assert len(redacted) > 0.6 * len(plain)


def test_a_key_links_runs_and_none_does_not():
    trace = analyzer.read(CASE)
    assert trace.redacted("key").document() == trace.redacted("key").document()
    assert trace.redacted().document() != trace.redacted().document()


def test_the_trace_itself_stays():
    trace = analyzer.read(CASE)
    before = trace.document()
    trace.redacted("key")
    assert trace.document() == before


def test_an_empty_key_is_refused():
    with pytest.raises(InputError, match="empty"):
        Redactor("")
    assert "empty" in run("diagnose", CASE, "--redact-key", "", wrong=2).output


@pytest.mark.parametrize("secret", SECRETS.values())
def test_a_sentence_loses_every_secret(secret):
    assert secret not in clean(f"ETIMEDOUT after 13.3 s at {secret} ({secret}), '{secret}'", Redactor("k"))


def test_a_sentence_of_ours_stays():
    text = "the client spoke again 9.713 s after the FIN; the server stayed in FIN_WAIT_2"
    assert clean(text, Redactor("k")) == text
