"""The segments of one connection, from every capture point that saw it, in order: what a rule examines."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from msgspec import Struct

from analyzer.capture import columns as col
from analyzer.payload import errors, http1, http2, tls
from analyzer.tcp import fields as f
from analyzer.tcp.pings import mark_pings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analyzer.model.clocks import Clock


class Place(Struct):
    """One sighting of a segment: which capture, which packet, its raw and its aligned time."""

    point: int
    source: str
    no: int
    source_ns: int
    time_ns: int


class Segment(Struct):
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
    tsecr: int = -1
    ip_id: int = -1
    options: int = 0

    @property
    def time_ns(self) -> int:
        """Aligned time of the first sighting."""
        places = self.places
        return places[0].time_ns if len(places) == 1 else min(p.time_ns for p in places)

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
        """Aborts this connection."""
        return bool(self.flags & col.RST) and not self.of_another

    @property
    def of_another(self) -> bool:
        """Is about an earlier connection of the same ports: a challenge ACK and the reset that answers it."""
        return bool(self.kinds & f.K_OF_ANOTHER)

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

    @property
    def error(self) -> errors.ServerError | None:
        """The error reply of a database that it carries, where its text was kept."""
        for mark, parse in (
            (col.M_RESP_ERROR, errors.redis),
            (col.M_MYSQL_ERROR, errors.mysql),
            (col.M_PG_ERROR, errors.postgresql),
        ):
            if self.marks & mark:
                return parse(self.text)
        return None

    @property
    def likely_ping(self) -> bool:
        """A PING or its ACK inside TLS, by size and timing only."""
        return bool(self.marks & (col.M_TLS_PING | col.M_TLS_PING_ACK))

    @property
    def goaway(self) -> tuple[int, str] | None:
        """(error code, debug data) of the GOAWAY frame that it carries, where its text was kept."""
        return http2.goaway(self.text) if self.marks & col.M_H2_GOAWAY else None

    def at(self, point: int) -> Place | None:
        """Its sighting at one capture point."""
        return next((p for p in self.places if p.point == point), None)

    def describe(self) -> str:
        """What a person reads: `→ PING (17 B)`, `← FIN`, `→ 60 B, retransmitted`."""
        words = _flags(self) or _content(self) or _plain(self)
        return f"{'→' if self.from_client else '←'} {words}{', retransmitted' if self.retransmitted else ''}"


def _flags(s: Segment) -> str:
    if s.of_another:
        return "RST of an earlier connection" if s.flags & col.RST else "challenge ACK of an earlier connection"
    if s.syn:
        return "SYN-ACK" if s.flags & col.ACK_FLAG else "SYN"
    if s.rst:
        return f"RST{'-ACK' if s.flags & col.ACK_FLAG else ''}"
    if s.fin:
        inner = _content(s) if s.length else ""
        return f"FIN after {inner or f'{s.length} B'}" if s.length else "FIN"
    return ""


#: Markers of frames that need no text to be named.
_FRAME_NAMES = (
    (col.M_H2_GOAWAY, "GOAWAY"), (col.M_H2_PREFACE, "HTTP/2 preface"), (col.M_H2_PING_ACK, "PING ack"), (col.M_H2_PING, "PING"),
    (col.M_H2_SETTINGS, "SETTINGS"), (col.M_H2_SETTINGS_ACK, "SETTINGS ack"), (col.M_H2_RST_STREAM, "RST_STREAM"),
    (col.M_H2_HEADERS, "HEADERS"), (col.M_H2_WINDOW_UPDATE, "WINDOW_UPDATE"),
)  # fmt: skip


def _content(s: Segment) -> str:
    """What is inside, as far as markers and kept text tell, with its size; empty where they tell nothing."""
    words = _http2(s) or _tls(s) or _error(s) or _http1(s)
    return f"{' + '.join(words)} ({s.length}{'-byte TLS record' if words[-1].endswith('?') else ' B'})" if words else ""


def _http2(s: Segment) -> list[str]:
    if not s.marks & col.M_H2:
        return []
    said = http2.describe(s.text) if s.text else []
    return said or [name for mark, name in _FRAME_NAMES if s.marks & mark]


def _tls(s: Segment) -> list[str]:
    """In TLS, plain messages by name, likely ones with a question mark and the size that makes them likely."""
    if s.likely_ping:
        return [f"{'PING' if s.marks & col.M_TLS_PING else 'PING ack'}?"]
    if s.marks & col.M_TLS_ALERT_SIZED:
        return ["TLS alert?"]
    words = []
    if s.marks & col.M_TLS_CLIENT_HELLO:
        words.append(_client_hello(s.text))
    if s.marks & col.M_TLS_SERVER_HELLO:
        hello = tls.server_hello(s.text)
        words.append(f"ServerHello {tls.VERSIONS.get(hello.version, '')}".rstrip() if hello else "ServerHello")
    if s.marks & col.M_TLS_ALERT:
        words += [f"TLS alert: {alert}" for alert in tls.alerts(s.text)] or ["TLS alert"]
    return words


def _client_hello(text: bytes) -> str:
    hello = tls.client_hello(text)
    name = f" {hello.name}" if hello and hello.name else ""
    alpn = f" ({', '.join(hello.alpn)})" if hello and hello.alpn else ""
    return f"ClientHello{name}{alpn}"


def _error(s: Segment) -> list[str]:
    error = s.error
    return [str(error)] if error else []


def _http1(s: Segment) -> list[str]:
    if s.marks & col.M_HTTP1 and s.text:
        return [http1.first_line(s.text)]
    return ["HTTP/1 request"] if s.marks & col.M_HTTP1_REQUEST else ["HTTP/1 response"] if s.marks & col.M_HTTP1 else []


def _plain(s: Segment) -> str:
    if s.keepalive:
        return "keepalive probe"
    if s.length:
        return f"{s.length} B{', zero-window probe' if s.kinds & f.K_ZERO_PROBE else ''}"
    words = "ACK, window 0" if s.kinds & f.K_ZERO_WINDOW else "ACK"
    if s.options & col.O_DSACK:
        return f"{words}, D-SACK"
    return f"{words}, SACK" if s.options & col.O_SACK else words


#: What is the same in all sightings of a segment; a NAT may change the last.
IDENTITY = (col.SEQ, col.ACK, col.LEN, col.FLAGS, col.TSVAL, col.IPID)

#: Fewer shared segments may be repetitions, of which each point saw another.
RENUMBERED_FROM = 3


def _renumbered(tables: list[NDArray[np.int64]]) -> bool:
    """Whether the points share segments, but not one of them with its IP identification: then something on the way wrote it."""
    if len(tables) < 2:
        return False
    first = {tuple(rest): number for *rest, number in tables[0][:, IDENTITY].tolist()}
    later = [(tuple(rest), number) for table in tables[1:] for *rest, number in table[:, IDENTITY].tolist()]
    shared = {key: number for key, number in later if key in first}
    return len(shared) >= RENUMBERED_FROM and not any(first.get(key) == number for key, number in later)


#: What a point saw of a connection: (point, source, segments, kinds, clock, payload texts).
Seen: TypeAlias = "tuple[int, str, NDArray[np.int64], NDArray[np.int64], Clock, dict[int, bytes]]"


def merge(parts: list[Seen]) -> list[Segment]:
    """One list out of several points' rows.

    Sightings of one segment are joined by direction, sequence, acknowledgement, length, flags, timestamp option and, where
    no NAT writes its own, IP identification; the k-th copy at one point is the k-th at another.
    """
    segments = [s for _, s in _seen_at(*parts[0])] if len(parts) == 1 else _joined(parts)
    if len(parts) > 1 or any(b.places[0].time_ns < a.places[0].time_ns for a, b in pairwise(segments)):
        segments.sort(key=lambda s: (s.time_ns, s.places[0].point, s.places[0].no))
    mark_pings(segments)
    return segments


class Columns(Struct):
    """What a search through thousands of connections looks at, of the segments of one in their order: an array each."""

    times_ns: NDArray[np.int64]
    from_client: NDArray[np.bool_]
    seq: NDArray[np.int64]
    payload: NDArray[np.bool_]
    fin: NDArray[np.bool_]
    rst: NDArray[np.bool_]
    retransmitted: NDArray[np.bool_]


def columns_of(segments: list[Segment]) -> Columns:
    """The columns of segments that are at hand."""
    told = [(s.time_ns, s.from_client, s.seq, s.payload, s.fin, s.rst, s.retransmitted) for s in segments]
    times, client, seq, *flags = np.array(told, np.int64).reshape(-1, 7).T
    return Columns(times, client != 0, seq, *(flag != 0 for flag in flags))


def columns_at(
    point: int, source: str, rows: NDArray[np.int64], kinds: NDArray[np.int64], clock: Clock, texts: dict[int, bytes]
) -> Columns:
    """The columns of what `merge` makes of the only point's rows; a tenth of its cost."""
    once = kinds & f.K_DUPLICATE == 0
    rows, kinds = rows[once], kinds[once]
    times = clock.aligned_all(rows[:, col.TS])
    if (times[1:] < times[:-1]).any():
        order = np.lexsort((rows[:, col.NO], times))
        rows, kinds, times = rows[order], kinds[order], times[order]
    flags = rows[:, col.FLAGS]
    return Columns(
        times, kinds & f.K_SERVER == 0, rows[:, col.SEQ],
        (rows[:, col.LEN] > 0) & (kinds & f.K_KEEPALIVE == 0),
        flags & col.FIN != 0, (flags & col.RST != 0) & (kinds & f.K_OF_ANOTHER == 0), kinds & f.K_RETX != 0,
    )  # fmt: skip


def _joined(parts: list[Seen]) -> list[Segment]:
    """The segments of several points, each once."""
    joined: dict[tuple[int, ...], Segment] = {}
    fields = IDENTITY[:-1] if _renumbered([part[2] for part in parts]) else IDENTITY
    for part in parts:
        seen: dict[tuple[int, ...], int] = {}
        for row, segment in _seen_at(*part):
            key = (segment.kinds & f.K_SERVER, *[row[k] for k in fields])
            count = seen[key] = seen.get(key, 0) + 1
            known = joined.setdefault((*key, count), segment)
            if known is not segment:
                known.places += segment.places
                known.kinds |= segment.kinds
    return list(joined.values())


def _seen_at(
    point: int, source: str, rows: NDArray[np.int64], kinds: NDArray[np.int64], clock: Clock, texts: dict[int, bytes]
) -> Iterator[tuple[list[int], Segment]]:
    """What one point saw, copies of one packet left out: the row, and the segment made of it."""
    times = clock.aligned_all(rows[:, col.TS])
    for row, kind, time in zip(rows.tolist(), kinds.tolist(), times.tolist(), strict=True):
        if not kind & f.K_DUPLICATE:
            yield row, Segment(
                from_client=not kind & f.K_SERVER,
                flags=row[col.FLAGS], seq=row[col.SEQ], ack=row[col.ACK], length=row[col.LEN], window=row[col.WIN],
                ttl=row[col.TTL], tsval=row[col.TSVAL], marks=row[col.MARKS], kinds=kind,
                places=[Place(point, source, row[col.NO], row[col.TS], time)],
                text=texts.get(row[col.NO], b""), has_options=row[col.TSVAL] >= 0,
                tsecr=row[col.TSECR], ip_id=row[col.IPID], options=row[col.OPTIONS],
            )  # fmt: skip
