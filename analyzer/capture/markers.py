"""What a segment's payload looks like, cheaply and without keys: HTTP/2 frames, TLS records, error replies.

Called from the decoding kernel for every payload, so the first byte decides nearly always. A marker is a hint for the
rules, never a proof of the protocol: `tcp.segments` and the rules read the kept text where it matters.
"""

from __future__ import annotations

from typing import Any

from analyzer.capture.byteorder import be32, u8
from analyzer.capture.columns import (
    M_H2_GOAWAY,
    M_H2_HEADERS,
    M_H2_PING,
    M_H2_PING_ACK,
    M_H2_PREFACE,
    M_H2_RST_STREAM,
    M_H2_SETTINGS,
    M_RESP_ERROR,
    M_TLS,
    M_TLS_ALERT,
    M_TLS_HANDSHAKE,
)

#: More frames than this in one segment are not walked: enough for a PING beside a GOAWAY, and bounded.
MAX_H2_FRAMES = 8
#: HTTP/2 frame length before SETTINGS_MAX_FRAME_SIZE raises it (RFC 9113 §4.2).
H2_MAX_FRAME = 16_384


def h2_marks(data: Any, i: int, end: int, length: int) -> int:
    """Markers of the HTTP/2 frames at `i`, 0 unless every walked frame is well-formed (RFC 9113 §4.1, §6)."""
    marks = 0
    pos = i
    for _ in range(MAX_H2_FRAMES):
        if pos + 9 > end:
            break
        size = (u8(data, pos) << 16) | (u8(data, pos + 1) << 8) | u8(data, pos + 2)
        kind = u8(data, pos + 3)
        flags = u8(data, pos + 4)
        stream = be32(data, pos + 5)
        if kind > 9 or stream >= 0x80000000 or size > H2_MAX_FRAME:
            return 0
        if kind == 6:
            if size != 8 or stream != 0 or (flags & 0xFE) != 0:
                return 0
            marks |= M_H2_PING_ACK if flags & 1 else M_H2_PING
        elif kind == 7:
            if size < 8 or stream != 0 or flags != 0:
                return 0
            marks |= M_H2_GOAWAY
        elif kind == 4:
            if stream != 0 or size % 6 != 0 or (flags & 0xFE) != 0:
                return 0
            marks |= M_H2_SETTINGS
        elif kind == 3:
            if stream == 0 or size != 4:
                return 0
            marks |= M_H2_RST_STREAM
        elif kind == 1:
            if stream == 0:
                return 0
            marks |= M_H2_HEADERS
        elif kind == 8:
            if size != 4 or flags != 0:
                return 0
        elif kind == 0:
            if stream == 0 or (flags & 0xF6) != 0:
                return 0
        else:
            return 0
        pos += 9 + size
    # A DATA or WINDOW_UPDATE frame alone proves little; a frame that overruns the segment is fine (it continues).
    if pos > i + length and marks & (M_H2_PING | M_H2_PING_ACK | M_H2_SETTINGS) == marks:
        return 0
    return marks


def payload_marks(data: Any, i: int, end: int, length: int) -> int:
    """Markers of the payload at `i`, of which `end - i` bytes of `length` were captured."""
    available = end - i
    if available < 5:
        return 0
    first = u8(data, i)
    if first == 0x2D:  # '-'
        if u8(data, i + 1) == 0x45 and u8(data, i + 2) == 0x52 and u8(data, i + 3) == 0x52 and u8(data, i + 4) == 0x20:
            return M_RESP_ERROR
        return 0
    if 20 <= first <= 23 and u8(data, i + 1) == 3 and u8(data, i + 2) <= 4:
        if first == 22:
            return M_TLS | M_TLS_HANDSHAKE
        if first == 21:
            return M_TLS | M_TLS_ALERT
        return M_TLS
    if (
        first == 0x50
        and available >= 24
        and u8(data, i + 1) == 0x52
        and u8(data, i + 2) == 0x49
        and u8(data, i + 4) == 0x2A
    ):
        if u8(data, i + 18) != 0x53 or u8(data, i + 19) != 0x4D:
            return 0
        return M_H2_PREFACE | h2_marks(data, i + 24, end, length - 24)
    if first == 0 and available >= 9:
        return h2_marks(data, i, end, length)
    return 0
