"""Cases of rules: a few lines of log and of packets, run through the same path as real input.

Packets: `SECONDS > WHAT` from the client, `<` from the server, where WHAT is SYN, SYN-ACK, ACK, FIN, RST, PING, PING-ACK,
HEADERS (a gRPC call's, or an answer's), CLIENT-HELLO, `ALERT description`, `GOAWAY code data`, `TEXT words_joined_so`, `RAW bytes\\0with\\xffescapes` (`_` is a space
there too), `TLS n` (one record of application data, n bytes with its header), PROBE (a keepalive probe), or a number of payload
bytes. `again` repeats the sender's last segment; `lost` means that the other side never got it (its acknowledgements
do not move); `crossing`: sent before it heard of anything since its own last segment; `ttl=N` sets the TTL, `port=N` the client's port, `ts=N` its sender's
TSval. `> DNS id NAME` asks a resolver for an IPv4 address, `< DNS id NAME CODE` answers (0 with an address). Log:
`HH:MM:SS.mmm` and then `INIT -`, `RESTORE -`, `START n`, `TIMEOUT n SECONDS`, `REPORT n`, `grpc n TRACER | TEXT` (n the request, `-` for a bare trace line) or
`app n TEXT` (level ERROR; `info`: level INFO); `other` before it: in another environment.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from analyzer.capture import columns as col
from analyzer.capture.asides import DnsQuery
from analyzer.capture.markers import payload_marks
from analyzer.capture.reader import CaptureData
from analyzer.model.clocks import Clock
from analyzer.model.records import Source
from analyzer.model.times import SECOND, parse_iso
from analyzer.tcp.tracker import Tracker
from analyzer.timeline.build import build
from analyzer.timeline.points import Point

if TYPE_CHECKING:
    from analyzer.timeline.story import Story

DAY = "2026-11-21"
#: The environment of the log's lines, and that of those marked `other`.
ENVIRONMENT, OTHER = (f"2026/11/21/[$LATEST]{name * 4}" for name in ("3f1c0de3", "77aa01b2"))
CLIENT_PORT, SERVER_PORT = 48822, 6379
CLIENT_IP, SERVER_IP = (10 << 24) | (3 << 8) | 17, (10 << 24) | 9
EPOCH = parse_iso(f"{DAY}T00:00:00Z") or 0
_FLAGS = {
    "SYN": col.SYN, "SYN-ACK": col.SYN | col.ACK_FLAG, "ACK": col.ACK_FLAG, "FIN": col.FIN | col.ACK_FLAG, "RST": col.RST,
    "RST-ACK": col.RST | col.ACK_FLAG, "PROBE": col.ACK_FLAG,
}  # fmt: skip


class Case(Struct, frozen=True):
    """A scene: a sentence, a log, the packets of one connection at one capture point (`side`: server or function)."""

    what: str
    log: str = ""
    packets: str = ""
    server_packets: str = ""  # a second capture, at the server, where the first is at the client

    def story(self) -> Story:
        """The scene, correlated."""
        points = [
            _point(script, name)
            for script, name in (
                (self.packets, "client.pcap" if self.server_packets else "capture.pcap"),
                (self.server_packets, "server.pcap"),
            )
            if script.strip()
        ]
        logs = []
        if self.log.strip():
            from analyzer.logs.envelopes import plain
            from analyzer.logs.reader import read_log

            data = read_log(io.BytesIO(_log(self.log).encode()), "log", plain)
            stamps, others = _stamps(self.log), [" other " in line[:20] for line in _lines(self.log)]
            for event in data.events:
                event.environment = OTHER if others[event.order - 1] else ENVIRONMENT
                stamp = stamps[event.order - 1]
                event.event_ns = stamp
                if event.source_ns is None:
                    event.source_ns = stamp
            logs.append((Source("log", "fn.log", "lambda-log", data.format, data.records), data.events))
        for number, point in enumerate(points):
            point.source.id = f"pcap{number + 1}"
        return build(points, logs)


def _lines(script: str) -> list[str]:
    return [line.strip() for line in script.strip().splitlines() if line.strip()]


def _stamps(script: str) -> list[int]:
    return [parse_iso(f"{DAY}T{line.split(' ', 1)[0]}Z") or 0 for line in _lines(script)]


def _log(script: str) -> str:
    """The lines as a Lambda function would print them."""
    out = []
    for line in _lines(script):
        stamp, kind, rest = line.replace(" other ", " ", 1).split(" ", 2)
        iso = f"{DAY}T{stamp}Z"
        if kind == "INIT":
            out.append("INIT_START Runtime Version: nodejs:22.v1")
            continue
        if kind == "TIMEOUT":
            number, limit = rest.split(" ")
            out.append(f"{iso} {_request(number)} Task timed out after {limit} seconds")
            continue
        if kind == "RESTORE":
            out.append("RESTORE_START Runtime Version: java:21.v1")
            continue
        if kind in ("START", "REPORT"):
            request = _request(rest)
            out.append(
                f"{kind} RequestId: {request}"
                + (" Version: $LATEST" if kind == "START" else "\tDuration: 4.00 ms\tBilled Duration: 5 ms")
            )
            continue
        number, text = rest.split(" ", 1)
        level = "INFO" if kind == "info" else "ERROR"
        prefix = "" if number == "-" else f"{iso}\t{_request(number)}\t{level}\t"
        out.append(f"{prefix}D {iso} | v1.14.7 18 | {text}" if kind == "grpc" else f"{prefix}{text}")
    return "\n".join(out) + "\n"


def _request(number: str) -> str:
    return f"6f0d{int(number):04x}-0000-4000-8000-{int(number):012x}"


class _End:
    """One side's sequence numbers."""

    def __init__(self, isn: int) -> None:
        self.next = isn
        self.acked = 0
        self.acked_before = 0  # as its last segment said
        self.last: tuple[int, int, bytes] = (0, 0, b"")


def _point(script: str, name: str) -> Point:
    connections: dict[int, dict[str, _End]] = {}
    rows, texts = [], {}
    answers, queries, stamps = [], [], []
    for number, line in enumerate(_lines(script), 1):
        seconds, arrow, what, *options = line.split()
        stamps.append(EPOCH + round(float(seconds) * SECOND))
        if what == "DNS":
            message = _dns(options, arrow == "<")
            if arrow == "<":
                answers.append((number, stamps[-1], message))
            else:
                queries.append(DnsQuery(number, stamps[-1], "10.0.3.17:40000", "10.0.0.2:53", message))
            continue
        port = next((int(o[5:]) for o in options if o.startswith("port=")), CLIENT_PORT)
        ends = connections.setdefault(port, {">": _End(1000), "<": _End(500_000)})
        me, peer = ends[arrow], ends["<" if arrow == ">" else ">"]
        flags, payload, size = _segment(what, options)
        if "again" in options:
            seq, flags, payload = me.last
            size = max(size, len(payload))
        else:
            seq = me.next
            me.next += size + bool(flags & (col.SYN | col.FIN))
            me.last = (seq, flags, payload)
        if what == "PROBE":
            seq = me.next - 1
        if flags & col.RST and not flags & col.ACK_FLAG:
            seq = peer.acked
        if "crossing" not in options:
            me.acked_before = me.acked
        ack = me.acked_before if flags & col.ACK_FLAG else 0
        if "lost" not in options:
            peer.acked = max(peer.acked, seq + size + bool(flags & (col.SYN | col.FIN)))
        row = [0] * col.N_COLUMNS
        row[col.TS], row[col.NO] = stamps[-1], number
        a, b = (CLIENT_IP, port), (SERVER_IP, SERVER_PORT)
        (src, sport), (dst, dport) = (a, b) if arrow == ">" else (b, a)
        row[col.SRC_LO], row[col.DST_LO], row[col.SPORT], row[col.DPORT] = (
            col.V4_MAPPED | src,
            col.V4_MAPPED | dst,
            sport,
            dport,
        )
        row[col.FLAGS], row[col.SEQ], row[col.ACK], row[col.LEN] = flags, seq, ack, size
        row[col.WIN], row[col.IPID], row[col.TSECR], row[col.WSCALE] = 500, number, -1, -1
        row[col.TSVAL] = next((int(o[3:]) for o in options if o.startswith("ts=")), -1)
        row[col.TTL] = next((int(o[4:]) for o in options if o.startswith("ttl=")), 64 if arrow == ">" else 63)
        row[col.MARKS] = payload_marks(payload, 0, len(payload), len(payload)) if payload else 0
        if row[col.MARKS] & col.M_KEEP:
            texts[number] = payload
        rows.append(row)
    tracker = Tracker()
    uids, kinds = tracker.feed([value for row in rows for value in row], len(rows), False)
    data = CaptureData(
        "pcap", len(stamps), len(rows), stamps[0], stamps[-1] + 60 * SECOND, tracker.finish(),
        np.array(rows, np.int64).reshape(-1, col.N_COLUMNS), np.array(uids, np.int64), np.array(kinds, np.int64), True, texts,
        dns=answers, queries=queries,
    )  # fmt: skip
    return Point(Source("", name, "pcap", "pcap", len(rows), clocks=[Clock("packet")]), data)


def _dns(options: list[str], answer: bool) -> bytes:
    """A message about an A record (RFC 1035 §4.1)."""
    code = int(options[2]) if answer else 0
    head = (int(options[0]), 0x8180 | code if answer else 0x0100, 1, int(answer and not code), 0, 0)
    name = b"".join(bytes([len(label)]) + label.encode() for label in options[1].split(".")) + b"\0"
    address = b"\xc0\x0c" + struct.pack(">HHIHI", 1, 1, 60, 4, SERVER_IP) if head[3] else b""
    return struct.pack(">6H", *head) + name + b"\0\x01\0\x01" + address


def _segment(what: str, options: list[str]) -> tuple[int, bytes, int]:
    """(flags, payload, payload bytes)."""
    if what in _FLAGS:
        return _FLAGS[what], b"", 0
    if what == "TEXT":
        payload = options[0].replace("_", " ").encode() + b"\r\n"
    elif what == "RAW":
        payload = options[0].replace("_", " ").encode("latin-1").decode("unicode_escape").encode("latin-1")
    elif what == "TLS":
        payload = b"\x17\x03\x03" + (int(options[0]) - 5).to_bytes(2) + bytes(int(options[0]) - 5)
    elif what == "CLIENT-HELLO":
        hello = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
        payload = b"\x16\x03\x01" + (len(hello) + 4).to_bytes(2) + b"\x01" + len(hello).to_bytes(3) + hello
    elif what == "ALERT":
        payload = b"\x15\x03\x03\x00\x02\x02" + int(options[0]).to_bytes(1)
    elif what == "HEADERS":
        payload = b"\x00\x00\x01\x01\x04" + (1).to_bytes(4) + b"\x88"
    elif what in ("PING", "PING-ACK"):
        payload = b"\x00\x00\x08\x06" + (b"\x01" if what == "PING-ACK" else b"\x00") + bytes(4) + b"keepaliv"
    elif what == "GOAWAY":
        debug = options[1].encode() if len(options) > 1 else b""
        payload = (
            (8 + len(debug)).to_bytes(3)
            + b"\x07\x00"
            + bytes(4)
            + (1).to_bytes(4)
            + int(options[0]).to_bytes(4)
            + debug
        )
    else:
        return col.ACK_FLAG | col.PSH, b"", int(what)
    return col.ACK_FLAG | col.PSH, payload, len(payload)
