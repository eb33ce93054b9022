"""The segments of one connection, from every capture point that saw it, in order: what a rule examines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analyzer.capture import columns as col
from analyzer.tcp import fields as f

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

H2_ERRORS = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip


@dataclass(slots=True)
class Place:
    """One sighting of a segment: which capture, which packet, its raw and its aligned time."""

    point: int
    source: str
    no: int
    source_ns: int
    time_ns: int


@dataclass(slots=True)
class Segment:
    """One TCP segment. `places` holds its sightings, the one nearest the client first; `kinds` are `fields.K_…`."""

    from_client: bool
    flags: int
    seq: int
    ack: int
    length: int
    window: int
    ttl: int
    tsval: int
    marks: int
    kinds: int
    places: list[Place]
    text: bytes = b""
    has_options: bool = False

    @property
    def time_ns(self) -> int:
        """Aligned time of the first sighting."""
        return min(p.time_ns for p in self.places)

    @property
    def syn(self) -> bool:
        """Opens: SYN or SYN-ACK."""
        return bool(self.flags & col.SYN)

    @property
    def fin(self) -> bool:
        """Closes its direction."""
        return bool(self.flags & col.FIN)

    @property
    def rst(self) -> bool:
        """Aborts."""
        return bool(self.flags & col.RST)

    @property
    def retransmitted(self) -> bool:
        """Repeats data, a SYN or a FIN, by the sequence numbers seen at that point."""
        return bool(self.kinds & f.K_RETX)

    @property
    def keepalive(self) -> bool:
        """A keepalive probe (RFC 9293 §3.8.4)."""
        return bool(self.kinds & f.K_KEEPALIVE)

    @property
    def payload(self) -> bool:
        """Carries data of its own (a keepalive probe's one byte is none)."""
        return self.length > 0 and not self.keepalive

    @property
    def end_seq(self) -> int:
        """The sequence number after this segment, on the 32-bit circle."""
        return (self.seq + self.length + (1 if self.syn else 0) + (1 if self.fin else 0)) & 0xFFFFFFFF

    def at(self, point: int) -> Place | None:
        """Its sighting at one capture point."""
        return next((p for p in self.places if p.point == point), None)

    def describe(self) -> str:
        """What a person reads: `→ PING (17 B)`, `← FIN`, `→ 60 B, retransmitted`."""
        words = _flags(self) or _frames(self) or _plain(self)
        return f"{'→' if self.from_client else '←'} {words}{', retransmitted' if self.retransmitted else ''}"


def _flags(s: Segment) -> str:
    if s.syn:
        return "SYN-ACK" if s.flags & col.ACK_FLAG else "SYN"
    if s.rst:
        return f"RST{'-ACK' if s.flags & col.ACK_FLAG else ''}"
    if s.fin:
        inner = _frames(s) if s.length else ""
        return f"FIN after {inner or f'{s.length} B'}" if s.length else "FIN"
    return ""


def _frames(s: Segment) -> str:
    names = []
    if s.marks & col.M_H2_GOAWAY:
        goaway = parse_goaway(s.text)
        if goaway is not None:
            code, data = goaway
            name = H2_ERRORS[code] if code < len(H2_ERRORS) else str(code)
            names.append(f"GOAWAY {name}{f' {data}' if data else ''}")
        else:
            names.append("GOAWAY")
    for mark, name in (
        (col.M_H2_PREFACE, "HTTP/2 preface"),
        (col.M_H2_PING_ACK, "PING ack"),
        (col.M_H2_PING, "PING"),
        (col.M_H2_RST_STREAM, "RST_STREAM"),
    ):
        if s.marks & mark:
            names.append(name)
    if s.marks & col.M_RESP_ERROR and s.text:
        names.append(s.text.split(b"\r\n")[0].decode("ascii", "replace")[:80])
    return f"{' + '.join(names)} ({s.length} B)" if names else ""


def _plain(s: Segment) -> str:
    if s.keepalive:
        return "keepalive probe"
    if s.length:
        return f"{s.length} B{', zero-window probe' if s.kinds & f.K_ZERO_PROBE else ''}"
    return "ACK, window 0" if s.kinds & f.K_ZERO_WINDOW else "ACK"


def parse_goaway(data: bytes) -> tuple[int, str] | None:
    """(error code, debug data) of the first GOAWAY frame in a payload (RFC 9113 §6.8), None without one."""
    i = 0
    while i + 17 <= len(data):
        size, kind = int.from_bytes(data[i : i + 3]), data[i + 3]
        if kind == 7 and size >= 8:
            return int.from_bytes(data[i + 13 : i + 17]), data[i + 17 : i + 9 + size].decode("utf-8", "replace")
        i += 9 + size
    return None


def merge(
    parts: list[tuple[int, str, NDArray[np.int64], NDArray[np.int64], int, dict[int, bytes]]],
) -> list[Segment]:
    """One list out of several points' rows: (point, source, segments, kinds, clock offset ns, payload texts).

    Sightings of one segment are joined by direction, sequence, acknowledgement, length, flags, timestamp option and IP
    identification; the k-th copy at one point is the k-th at another.
    """
    joined: dict[tuple[int, ...], Segment] = {}
    for point, source, rows, kinds, offset, texts in parts:
        seen: dict[tuple[int, ...], int] = {}
        for row, kind in zip(rows.tolist(), kinds.tolist(), strict=True):
            if kind & f.K_DUPLICATE:
                continue
            key = (
                kind & f.K_SERVER, row[col.SEQ], row[col.ACK], row[col.LEN], row[col.FLAGS], row[col.TSVAL], row[col.IPID],
            )  # fmt: skip
            count = seen[key] = seen.get(key, 0) + 1
            place = Place(point, source, row[col.NO], row[col.TS], row[col.TS] + offset)
            segment = joined.get((*key, count))
            if segment is not None:
                segment.places.append(place)
                segment.kinds |= kind
                continue
            joined[(*key, count)] = Segment(
                from_client=not kind & f.K_SERVER,
                flags=row[col.FLAGS], seq=row[col.SEQ], ack=row[col.ACK], length=row[col.LEN], window=row[col.WIN],
                ttl=row[col.TTL], tsval=row[col.TSVAL], marks=row[col.MARKS], kinds=kind, places=[place],
                text=texts.get(row[col.NO], b""), has_options=row[col.TSVAL] >= 0,
            )  # fmt: skip
    return sorted(joined.values(), key=lambda s: (s.time_ns, s.places[0].point, s.places[0].no))
