"""HTTP/2 PING and its ACK inside TLS, by size and timing: likely, never certain.

Theory of operation. A PING frame is 17 bytes and usually a write of its own, so it travels as one record of a known length
alone in its segment (`payload.tls.sealed_length`), and so does the answer, which the peer sends at once whatever else it
does. Hardly anything else in HTTP/2 is as long, alone, and answered by the same length. A pair counts when

* the connection speaks HTTP/2 for all that its plain handshake tells;
* the record's length is that of a PING under the negotiated version and cipher, where they were seen;
* the peer's next payload is a record of that length, within a round trip and the time a process may take to answer,
  and the asking side sent nothing in between.

Where a side has sent such a pair before, a later record of that length that nothing answers is likely a PING too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analyzer.capture import columns as col
from analyzer.payload import tls

if TYPE_CHECKING:
    from analyzer.tcp.segments import Segment

#: A PING frame: nine bytes of header, eight of data (RFC 9113 §6.7).
PING_BYTES = 17
#: How long a running process may take to answer a PING, beyond the round trip.
ANSWER_NS = 100_000_000


def mark_pings(segments: list[Segment]) -> None:
    """Mark (`M_TLS_PING`, `M_TLS_PING_ACK`) the likely ones among a connection's segments in order of time."""
    if not any(s.marks & col.M_TLS_PING_SIZED for s in segments) or not _may_be_http2(segments):
        return
    lengths = _lengths(segments)
    window = _round_trip(segments) + ANSWER_NS
    carrying = [s for s in segments if s.payload and not s.retransmitted]
    asks: set[bool] = set()
    silent: list[Segment] = []
    for ping, following in zip(carrying, [*carrying[1:], None], strict=True):
        if not _sized(ping, lengths) or ping.marks & col.M_TLS_PING_ACK:
            continue
        in_time = following is not None and following.time_ns - ping.time_ns <= window
        if following is not None and in_time and _answers(following, ping):
            ping.marks |= col.M_TLS_PING
            following.marks |= col.M_TLS_PING_ACK
            asks.add(ping.from_client)
        elif not in_time:
            silent.append(ping)
    for ping in silent:
        if ping.from_client in asks:
            ping.marks |= col.M_TLS_PING
    _mark_copies(segments)


def pairs(segments: list[Segment]) -> list[tuple[Segment, Segment | None]]:
    """Each PING among a connection's segments in order of time, seen or likely, with its ACK; None where none was captured.

    A side's PINGs are answered in their order (RFC 9113 §6.7 asks for it at once); copies count once.
    """
    found: list[tuple[Segment, Segment | None]] = []
    waiting: dict[bool, list[int]] = {True: [], False: []}
    for s in segments:
        if s.retransmitted:
            continue
        if s.marks & col.M_PING:
            waiting[s.from_client].append(len(found))
            found.append((s, None))
        if s.marks & col.M_PING_ACK and waiting[not s.from_client]:
            at = waiting[not s.from_client].pop(0)
            found[at] = (found[at][0], s)
    return found


def _mark_copies(segments: list[Segment]) -> None:
    """A retransmission is what its original is."""
    likely = col.M_TLS_PING | col.M_TLS_PING_ACK
    marked = {(s.from_client, s.seq, s.length): s.marks & likely for s in segments if s.marks & likely}
    for s in segments:
        if s.retransmitted and s.marks & col.M_TLS_PING_SIZED:
            s.marks |= marked.get((s.from_client, s.seq, s.length), 0)


def _sized(s: Segment, lengths: frozenset[int]) -> bool:
    return bool(s.marks & col.M_TLS_PING_SIZED) and s.length - tls.HEADER in lengths


def _answers(following: Segment, ping: Segment) -> bool:
    return (
        following.from_client != ping.from_client
        and following.length == ping.length
        and bool(following.marks & col.M_TLS_PING_SIZED)
    )


def _may_be_http2(segments: list[Segment]) -> bool:
    """Unless the client offered something else only, or the server chose something else in the clear."""
    for s in segments:
        if s.marks & col.M_TLS_CLIENT_HELLO and s.text:
            client = tls.client_hello(s.text)
            if client is not None and client.whole and "h2" not in client.alpn:
                return False
        if s.marks & col.M_TLS_SERVER_HELLO and s.text:
            server = tls.server_hello(s.text)
            if server is not None and server.alpn not in (None, "h2"):
                return False
    return True


def _lengths(segments: list[Segment]) -> frozenset[int]:
    """Lengths of a record with a PING in it."""
    for s in segments:
        if s.marks & col.M_TLS_SERVER_HELLO and s.text:
            hello = tls.server_hello(s.text)
            if hello is not None:
                return tls.sealed_length(PING_BYTES, hello.version, hello.cipher)
    return tls.sealed_length(PING_BYTES, None, None)


def _round_trip(segments: list[Segment]) -> int:
    """From the client's SYN to its acknowledgement, ns; 0 where the handshake was not seen."""
    syn = next((s for s in segments if s.syn and s.from_client), None)
    up = next((s for s in segments if s.from_client and not s.syn), None)
    return max(up.time_ns - syn.time_ns, 0) if syn and up else 0
