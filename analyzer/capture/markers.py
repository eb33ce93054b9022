"""What a segment's payload looks like, cheaply and without keys: HTTP/2 frames, TLS records, error replies, HTTP/1.

Called from the decoding kernel for every payload, so the first byte decides nearly always. A marker is a hint for the
rules, never a proof of the protocol: `payload` parses the kept text where it matters.
"""

# ruff: noqa: PLR1714, SIM102, SIM109
# As in the decoding kernel that calls this: chains of `==` and nested conditions are what the compiler makes fast.
from __future__ import annotations

from typing import Any

from analyzer.capture.byteorder import be16, be32, u8
from analyzer.capture.columns import (
    M_H2_GOAWAY,
    M_H2_HEADERS,
    M_H2_PING,
    M_H2_PING_ACK,
    M_H2_PREFACE,
    M_H2_RST_STREAM,
    M_H2_SETTINGS,
    M_H2_SETTINGS_ACK,
    M_H2_WINDOW_UPDATE,
    M_HTTP1_REQUEST,
    M_HTTP1_RESPONSE,
    M_MYSQL_ERROR,
    M_PG_ERROR,
    M_RESP_ERROR,
    M_TLS,
    M_TLS_ALERT,
    M_TLS_ALERT_SIZED,
    M_TLS_CLIENT_HELLO,
    M_TLS_DATA,
    M_TLS_HANDSHAKE,
    M_TLS_PING_SIZED,
    M_TLS_SERVER_HELLO,
)

#: More frames or records than this in one segment are not walked: enough for a PING behind small DATA, and bounded.
MAX_FRAMES = 32
#: HTTP/2 frame length before SETTINGS_MAX_FRAME_SIZE raises it (RFC 9113 §4.2).
H2_MAX_FRAME = 16_384
#: The first four bytes of a PING and of a GOAWAY without debug data, which are 17 bytes each.
H2_PING_HEAD, H2_GOAWAY_HEAD = 0x0000_0806, 0x0000_0807
#: The longest record that TLS 1.2 allows (RFC 5246 §6.2.3).
TLS_MAX_RECORD = 16_384 + 2_048
#: A PING is 17 bytes: ChaCha20-Poly1305 of TLS 1.2 adds 16, TLS 1.3 17, AES-GCM of TLS 1.2 24 (`payload.tls.sealed_length`).
TLS_PING_CHACHA20, TLS_PING_13, TLS_PING_GCM = 33, 34, 41
#: An alert is 2 bytes, in TLS 1.3 17 more.
TLS_ALERT_13 = 19


def h2_marks(data: Any, i: int, end: int, length: int) -> int:
    """Markers of the HTTP/2 frames at `i`, 0 unless every walked frame is well-formed (RFC 9113 §4.1, §6).

    The last frame may go on in the next segment; a SETTINGS, PING, RST_STREAM or WINDOW_UPDATE counts only when it is whole.
    """
    marks = 0
    pos = i
    stop = i + length
    for _ in range(MAX_FRAMES):
        if pos + 9 > end:
            break
        size = (u8(data, pos) << 16) | (u8(data, pos + 1) << 8) | u8(data, pos + 2)
        kind = u8(data, pos + 3)
        flags = u8(data, pos + 4)
        stream = be32(data, pos + 5)
        if kind > 9 or stream >= 0x80000000 or size > H2_MAX_FRAME:
            return 0
        whole = pos + 9 + size <= stop
        mark = 0
        if kind == 6:
            if size != 8 or stream != 0 or (flags & 0xFE) != 0:
                return 0
            mark = M_H2_PING_ACK if flags & 1 else M_H2_PING
        elif kind == 7:
            if size < 8 or stream != 0 or flags != 0:
                return 0
            marks |= M_H2_GOAWAY
        elif kind == 4:
            if stream != 0 or size % 6 != 0 or (flags & 0xFE) != 0 or (flags & 1 and size != 0):
                return 0
            mark = M_H2_SETTINGS_ACK if flags & 1 else M_H2_SETTINGS
        elif kind == 3:
            if stream == 0 or size != 4:
                return 0
            mark = M_H2_RST_STREAM
        elif kind == 1:
            if stream == 0:
                return 0
            marks |= M_H2_HEADERS
        elif kind == 8:
            if size != 4 or flags != 0:
                return 0
            mark = M_H2_WINDOW_UPDATE
        elif kind == 0:
            if stream == 0 or (flags & 0xF6) != 0:
                return 0
        elif kind == 2:
            if stream == 0 or size != 5:
                return 0
        elif kind == 5 or stream == 0:  # nobody is sent PUSH_PROMISE who did not ask for it
            return 0
        if whole:
            marks |= mark
        pos += 9 + size
    return marks


def h2_tail(data: Any, end: int) -> int:
    """The marker of a PING or GOAWAY that ends a segment which begins in the middle of a frame: nine bytes, all known."""
    head = be32(data, end - 17)
    if head != H2_PING_HEAD and head != H2_GOAWAY_HEAD:
        return 0
    flags = u8(data, end - 13)
    if be32(data, end - 12) != 0 or flags > 1:
        return 0
    if head == H2_PING_HEAD:
        return M_H2_PING_ACK if flags else M_H2_PING
    return 0 if flags else M_H2_GOAWAY


def tls_marks(data: Any, i: int, end: int, length: int) -> int:
    """Markers of the TLS records at `i`, the first of which has the look of one (RFC 8446 §5.1)."""
    marks = 0
    pos = i
    for _ in range(MAX_FRAMES):
        if pos + 5 > end:
            break
        kind = u8(data, pos)
        size = be16(data, pos + 3)
        if kind < 20 or kind > 23 or u8(data, pos + 1) != 3 or u8(data, pos + 2) > 4 or size > TLS_MAX_RECORD:
            break
        marks |= M_TLS
        if kind == 21:
            marks |= M_TLS_ALERT
        elif kind == 22:
            marks |= M_TLS_HANDSHAKE
            # In the clear: message type, three bytes of length, version. Encrypted, all six would have to match by chance.
            if pos + 11 <= end and u8(data, pos + 6) == 0 and u8(data, pos + 9) == 3 and u8(data, pos + 10) <= 3:
                message = u8(data, pos + 5)
                if message == 1:
                    marks |= M_TLS_CLIENT_HELLO
                elif message == 2:
                    marks |= M_TLS_SERVER_HELLO
        elif kind == 23:
            marks |= M_TLS_DATA
            if length == size + 5 and pos == i:
                if size == TLS_PING_13 or size == TLS_PING_GCM or size == TLS_PING_CHACHA20:
                    marks |= M_TLS_PING_SIZED
                elif size == TLS_ALERT_13:
                    marks |= M_TLS_ALERT_SIZED
        pos += 5 + size
    return marks


def text_marks(data: Any, i: int, end: int) -> int:
    """Markers of a payload of at least five bytes that begins with a capital letter: HTTP/1, or an error of PostgreSQL."""
    head = be32(data, i)
    fifth = u8(data, i + 4)
    if head == 0x48545450:  # HTTP
        return M_HTTP1_RESPONSE if fifth == 0x2F else 0
    if head == 0x47455420 or head == 0x50555420:  # GET, PUT and a space
        return M_HTTP1_REQUEST
    if (
        (head == 0x504F5354 and fifth == 0x20)  # POST
        or (head == 0x48454144 and fifth == 0x20)  # HEAD
        or (head == 0x44454C45 and fifth == 0x54)  # DELETE
        or (head == 0x4F505449 and fifth == 0x4F)  # OPTIONS
        or (head == 0x50415443 and fifth == 0x48)  # PATCH
        or (head == 0x434F4E4E and fifth == 0x45)  # CONNECT
    ):
        return M_HTTP1_REQUEST
    # E, a length below 64 KB, the field S (severity), a capital letter
    if head >> 8 == 0x450000 and i + 7 <= end and u8(data, i + 5) == 0x53 and 0x41 <= u8(data, i + 6) <= 0x5A:
        return M_PG_ERROR
    return 0


def first_marks(data: Any, i: int, end: int, length: int) -> int:
    """Markers by the first byte of a payload of at least five."""
    first = u8(data, i)
    if first >= 0x41:
        if first == 0x50 and end - i >= 24 and be32(data, i) == 0x50524920:  # "PRI * HTTP/2.0 … SM …" (RFC 9113 §3.4)
            if u8(data, i + 4) == 0x2A and u8(data, i + 18) == 0x53 and u8(data, i + 19) == 0x4D:
                return M_H2_PREFACE | h2_marks(data, i + 24, end, length - 24)
        return text_marks(data, i, end)
    if first == 0:
        return h2_marks(data, i, end, length)
    if first == 0x2D:  # '-' and three capital letters: an error of Redis
        if 0x41 <= u8(data, i + 1) <= 0x5A and 0x41 <= u8(data, i + 2) <= 0x5A and 0x41 <= u8(data, i + 3) <= 0x5A:
            return M_RESP_ERROR
        return 0
    if first >= 20 and u8(data, i + 1) == 3 and u8(data, i + 2) <= 4:
        return tls_marks(data, i, end, length)
    return 0


def payload_marks(data: Any, i: int, end: int, length: int) -> int:
    """Markers of the payload at `i`, of which `end - i` bytes of `length` were captured."""
    available = end - i
    if available < 5:
        return 0
    first = u8(data, i)
    fifth = u8(data, i + 4)
    marks = 0
    if first <= 0x5A and (first >= 0x41 or first == 0x2D or first <= 23):
        marks = first_marks(data, i, end, length)
    # Three bytes of length that name this payload, a small sequence number, 0xff, a code from 1000 up: an error of MySQL.
    if fifth == 0xFF and available >= 7 and u8(data, i + 2) == 0 and u8(data, i + 3) <= 8:
        if (first | (u8(data, i + 1) << 8)) + 4 == length and 3 < u8(data, i + 6) < 32:
            return M_MYSQL_ERROR
    if marks == 0 and available == length and available >= 17:
        return h2_tail(data, end)
    return marks


#: What the decoding kernel calls, innermost first.
MARKERS = (h2_marks, h2_tail, tls_marks, text_marks, first_marks, payload_marks)
