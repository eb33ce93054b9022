"""Inputs made worse: another clock, cut stamps, lines twice, one file in pieces. Bytes in, bytes out."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from tests.logs.shapes import Line

SECOND = 1_000_000_000
MS = 1_000_000

#: A clock that is off: a stamp in ns as it is, to the stamp that it shows.
Clock = Callable[[int], int]

#: How lines of the platform begin.
_PLATFORM = re.compile(r'(?:START|END|REPORT) RequestId|[A-Z]+_START|\S+ \S+ Task timed out|\{"time":[^}]*"platform\.')
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(rb"(?<!\d)(20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{3})Z")
_EVENT = re.compile(rb'("(?:timestamp|ingestionTime)":\s*)(\d{13})')
#: The service's stamp before a line: of `aws logs tail`, or of Logs Insights' CSV.
_EVENT_TEXT = re.compile(rb'(?m)^(20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d)\.(\d{3})(?=000\+00:00 |,")')


def off(seconds: float) -> Clock:
    """A clock that is ahead."""
    ns = round(seconds * 1000) * MS
    return lambda t: t + ns


def drifting(ppm: float, since_ns: int) -> Clock:
    """A clock that was right once and is fast."""
    return lambda t: t + round((t - since_ns) * ppm * 1e-6)


def standing(pauses: Iterable[tuple[int, int]]) -> Clock:
    """A clock that stood still from time to time."""
    pauses = list(pauses)
    return lambda t: t - sum(end - start for start, end in pauses if end <= t)


def jumping(seconds: float, at_ns: int) -> Clock:
    """A clock that is set forward at a time."""
    ns = round(seconds * SECOND)
    return lambda t: t + ns if t >= at_ns else t


def whole_seconds(t: int) -> int:
    """A clock that shows no fractions."""
    return t // SECOND * SECOND


# ---- captures


def pcap(data: bytes, clock: Clock) -> bytes:
    """A capture (pcap of either precision, little endian; pcapng) as it would be by another clock."""
    return _pcapng(data, clock) if data[:4] == b"\x0a\x0d\x0d\x0a" else b"".join(_records(data, clock))


def first_ns(data: bytes) -> int:
    """The first stamp of a capture."""
    stamps: list[int] = []

    def note(t: int) -> int:
        stamps.append(t)
        return t

    pcap(data, note)
    return stamps[0]


def _records(data: bytes, clock: Clock = lambda t: t) -> list[bytes]:
    """File header and records of a classic pcap."""
    unit = 1 if data[:4] == b"\x4d\x3c\xb2\xa1" else 1000
    out, at = [data[:24]], 24
    while at + 16 <= len(data):
        seconds, fraction, caplen, wire = struct.unpack_from("<IIII", data, at)
        ns = clock(seconds * SECOND + fraction * unit)
        head = struct.pack("<IIII", ns // SECOND, ns % SECOND // unit, caplen, wire)
        out.append(head + data[at + 16 : at + 16 + caplen])
        at += 16 + caplen
    return out


def _pcapng(data: bytes, clock: Clock) -> bytes:
    """Enhanced packet blocks with stamps in units of the (only) interface's resolution."""
    out, at, unit = bytearray(data), 0, 1000
    while at + 12 <= len(data):
        kind, size = struct.unpack_from("<II", data, at)
        if kind == 1:  # option 9: if_tsresol
            unit = 1 if b"\x09\x00\x01\x00\x09" in data[at : at + size] else 1000
        elif kind == 6:
            high, low = struct.unpack_from("<II", data, at + 12)
            stamp = clock(((high << 32) | low) * unit) // unit
            struct.pack_into("<II", out, at + 12, stamp >> 32, stamp & 0xFFFFFFFF)
        at += size
    return bytes(out)


def packets_twice(data: bytes) -> bytes:
    """Every packet captured on two interfaces at once."""
    head, *records = _records(data)
    return head + b"".join(record + record for record in records)


def merged(captures: Iterable[bytes]) -> bytes:
    """Captures of one format and link type as one, in order of time."""
    heads, records = set(), []
    for head, *packets in map(_records, captures):
        heads.add(head)
        records += packets
    (head,) = heads
    return head + b"".join(sorted(records, key=lambda record: struct.unpack_from("<II", record)))


def in_two(data: bytes) -> tuple[bytes, bytes]:
    """A capture as two files, one after the other."""
    head, *records = _records(data)
    half = len(records) // 2
    return head + b"".join(records[:half]), head + b"".join(records[half:])


# ---- logs


def log(data: bytes, inner: Clock | None = None, event: Clock | None = None, digits: int = 3) -> bytes:
    """A log by other clocks: `inner` for the stamps that lines print, `event` for the service's own.

    `digits` of a second are printed; with none the point goes too.
    """

    def shown(match: re.Match[bytes], clock: Clock | None) -> str:
        stamp = datetime.fromisoformat(match[1].decode()).replace(tzinfo=UTC)
        ns = ((stamp - _EPOCH) // timedelta(seconds=1)) * SECOND + int(match[2]) * MS
        return (_EPOCH + timedelta(microseconds=(clock(ns) if clock else ns) // 1000)).isoformat(" ", "microseconds")

    def printed(match: re.Match[bytes]) -> bytes:
        text = shown(match, inner).replace(" ", "T")
        return (text[: 20 + digits] if digits else text[:19]).encode() + b"Z"

    def before(match: re.Match[bytes]) -> bytes:
        return shown(match, event)[:23].replace(" ", match[1][10:11].decode()).encode()

    def stamped(match: re.Match[bytes]) -> bytes:
        return match[1] + str((event(int(match[2]) * MS) if event else int(match[2]) * MS) // MS).encode()

    return _EVENT_TEXT.sub(before, _EVENT.sub(stamped, _ISO.sub(printed, data)))


def guest(export: bytes, clock: Clock) -> bytes:
    """A JSON export whose guest's clock stamped its lines and their events, but not the platform's lines."""
    document = json.loads(export)
    for event in document["events"]:
        if not _PLATFORM.match(event["message"]):
            event["timestamp"] = clock(event["timestamp"] * MS) // MS
            event["message"] = log(event["message"].encode(), clock).decode()
    document["events"].sort(key=lambda event: event["timestamp"])
    return json.dumps(document).encode()


def lines(export: bytes) -> list[Line]:
    """The events of a JSON export."""
    events = json.loads(export)["events"]
    return [Line(e["timestamp"], e["logStreamName"], e["message"], number) for number, e in enumerate(events)]


def lines_twice(data: bytes) -> bytes:
    """Every line, or every event of a JSON export (with its id), delivered twice."""
    if data.lstrip().startswith(b"{"):
        document = json.loads(data)
        document["events"] = [event for event in document["events"] for _ in range(2)]
        return json.dumps(document).encode()
    return b"".join(line + line for line in data.splitlines(keepends=True))
