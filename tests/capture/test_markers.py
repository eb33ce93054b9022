"""Markers against tshark, on captures with TLS and HTTP/2; the bounds of the kept payload texts."""

from __future__ import annotations

import csv
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.capture import columns as col
from analyzer.capture import texts
from analyzer.capture.reader import CaptureData, read_capture
from analyzer.tcp import fields as f
from tests.capture.test_tshark import need_tshark
from tests.helpers import CAPTURES

FIELDS = ("frame.number", "tls.handshake.type", "tls.alert_message", "http2.type", "http2.flags", "tcp.len")
#: tshark's name of a message -> our marker: (field, value) by packet.
EXPECTED = {
    ("tls.handshake.type", "1"): col.M_TLS_CLIENT_HELLO,
    ("tls.handshake.type", "2"): col.M_TLS_SERVER_HELLO,
    ("tls.alert_message", ""): col.M_TLS_ALERT,
    ("http2.type", "1"): col.M_H2_HEADERS,
    ("http2.type", "3"): col.M_H2_RST_STREAM,
    ("http2.type", "4"): col.M_H2_SETTINGS | col.M_H2_SETTINGS_ACK,
    ("http2.type", "6"): col.M_H2_PING | col.M_H2_PING_ACK,
    ("http2.type", "7"): col.M_H2_GOAWAY,
    ("http2.type", "8"): col.M_H2_WINDOW_UPDATE,
}
#: Reassembly would move a message to the packet that completes it; a marker is about the segment in which it begins.
PREFERENCES = (
    "tcp.desegment_tcp_streams:FALSE",
    "tls.desegment_ssl_records:FALSE",
    "tls.desegment_ssl_application_data:FALSE",
)


def ask_tshark(path: Path, *decode_as: str) -> dict[int, set[tuple[str, str]]]:
    """The messages of each packet."""
    need_tshark()
    command = ["tshark", "-n", "-2", "-r", str(path), "-T", "fields"]
    for option, values in (("-o", PREFERENCES), ("-e", FIELDS), ("-d", decode_as)):
        for value in values:
            command += [option, value]
    found: dict[int, set[tuple[str, str]]] = defaultdict(set)
    for line in subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines():
        number, *values = line.split("\t")
        for name, value in zip(FIELDS[1:], values, strict=True):
            for one in filter(None, value.split(",")):
                found[int(number)].add((name, "" if name == "tls.alert_message" else one))
    return found


def read(path: Path) -> CaptureData:
    with path.open("rb") as file:
        return read_capture(file, path.stat().st_size)


def differences(path: Path, *decode_as: str) -> dict[str, tuple[list[int], list[int]]]:
    """Messages of which only tshark, or only a marker, tells: packet numbers. tshark does not look into retransmissions."""
    data, theirs = read(path), ask_tshark(path, *decode_as)
    again = data.kinds & (f.K_RETX | f.K_DUPLICATE) > 0
    ours = {int(s[col.NO]): int(s[col.MARKS]) for s in data.segments[~again]}
    found = {}
    for (name, value), marks in EXPECTED.items():
        a = {number for number, messages in theirs.items() if (name, value) in messages and number in ours}
        b = {number for number, seen in ours.items() if seen & marks}
        if a != b:
            found[f"{name} {value}".strip()] = (sorted(a - b), sorted(b - a))
    return found


#: Where a message begins in one segment and ends in another, or beyond the snap length, tshark names it only where it is whole.
GOES_ON = "begins here and goes on in a later segment"
CUT = "cut by the snap length"
PUBLIC = {
    "ipv6_tls_constricted_1.pcap": ({"tls.handshake.type 2": ([], [6])}, CUT),
    "ipv6_tls_strong_constrict_1.pcap": ({"tls.handshake.type 2": ([], [6])}, CUT),
    "tls_1_3_many_records_continuation_11.pcap": ({"tls.handshake.type 1": ([], [4])}, GOES_ON),
    "tls_1_3_split_client_hello_10.pcap": ({"tls.handshake.type 1": ([], [4])}, GOES_ON),
    "tls_sni_in_second_segment_20.pcap": (
        {"tls.handshake.type 1": ([], [4]), "tls.handshake.type 2": ([], [8])},
        GOES_ON,
    ),
    "pppoe.pcap": ({"tls.handshake.type 1": ([4], [])}, "an SSL 2.0 hello, which is no TLS record"),
    "4in6tunnel.pcap": ({"tls.handshake.type 2": ([], [4])}, GOES_ON),
    "smtp.pcap": ({"tls.handshake.type 2": ([], [102])}, GOES_ON),
    "https-to-http.pcap": ({"tls.handshake.type 1": ([], [4])}, "to port 80, where tshark expects HTTP"),
}


@pytest.mark.shared
def test_tls_as_tshark_on_public_captures(shared: Path) -> None:
    with (shared / "corpus" / "INDEX.tsv").open() as index:
        paths = [
            shared / "corpus" / row["path"]
            for row in csv.DictReader(index, delimiter="\t")
            if "TLS" in row["tags"].split(",") and not row["path"].endswith(".gz")
        ]
    found = {path.name: difference for path in paths if (difference := differences(path))}
    assert len(paths) > 30
    assert found == {name: difference for name, (difference, _) in PUBLIC.items()}


@pytest.mark.parametrize("name", ["frozen-keepalive", "healthy"])
def test_http2_as_tshark_on_shipped_captures(name: str) -> None:
    assert differences(CAPTURES / name / "server.pcap", "tcp.port==50051,http2") == {}


@pytest.mark.shared
@pytest.mark.parametrize(
    "name",
    [
        "2_momento_keepalive/fn.pcap",
        "2_momento_keepalive/srv.pcap",
        "7_goaway_too_many_pings/srv.pcapng",
        "mechanisms/g2.client.pcap",
    ],
)
def test_http2_as_tshark_on_played_cases(name: str, shared: Path) -> None:
    path = shared / "cases" / name
    (port,) = {
        int(s[col.SPORT])
        for s in read(path).segments
        if s[col.FLAGS] & (col.SYN | col.ACK_FLAG) == col.SYN | col.ACK_FLAG
    }
    assert differences(path, f"tcp.port=={port},http2") == {}


# ---- what is kept


ROWS = st.lists(
    st.tuples(st.sampled_from([0, col.M_H2_GOAWAY, col.M_TLS_CLIENT_HELLO, col.M_HTTP1_REQUEST, col.M_TLS_DATA, col.M_PG_ERROR | col.M_HTTP1_REQUEST]), st.integers(1, 400)),
    max_size=60,
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(ROWS, max_size=4), st.integers(0, 2_000))
def test_never_more_is_kept_than_the_budgets_allow(chunks: list[list[tuple[int, int]]], room: int) -> None:
    """Whatever comes in whatever order; what is not kept is counted, and what is kept are the first bytes."""
    budgets = tuple(texts.Budget(b.marks, 100, room, b.what) for b in texts.BUDGETS)
    wanted = refused = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "BUDGETS", budgets)
        kept = texts.Texts()
        number = 0
        for chunk in chunks:
            data = bytes(range(256)) * 2
            out = [0] * (len(chunk) * col.N_COLUMNS)
            for row, (marks, size) in enumerate(chunk):
                at, number = row * col.N_COLUMNS, number + 1
                out[at + col.NO], out[at + col.MARKS] = number, marks
                out[at + col.LEN] = out[at + col.CAPTURED] = size
                wanted += bool(marks & (col.M_WHY | col.M_HELLO))
            kept.take(data, 0, out, len(chunk))
        refused = sum(int(line.split()[3].replace(",", "")) for line in kept.missed())
    for budget in budgets:
        mine = [t for n, t in kept.kept.items() if _budget(n, chunks, budgets) is budget]
        assert sum(len(t) + texts.OVERHEAD for t in mine) <= room
        assert all(len(t) <= 100 and t == bytes(range(len(t))) for t in mine)
        if budget.what:
            wanted -= len(mine)
    assert wanted == refused


def _budget(number: int, chunks: list[list[tuple[int, int]]], budgets: tuple[texts.Budget, ...]) -> texts.Budget:
    marks = [row[0] for chunk in chunks for row in chunk][number - 1]
    return next(b for b in budgets if marks & b.marks)
