"""HTTP/2 frames in clear text (RFC 9113), as far as the kept bytes of a segment go."""

from __future__ import annotations

from typing import NamedTuple

HEADER = 9
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
NAMES = (
    "DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE",
    "CONTINUATION",
)  # fmt: skip
#: RFC 9113 §7.
ERRORS = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip
_ACK = 1
#: A GOAWAY without debug data and its header.
TAIL, GOAWAY_HEAD = 17, b"\0\0\x08\x07\0\0\0\0\0"


class Frame(NamedTuple):
    """One frame: kind, flags, stream, and its payload as far as it is there."""

    kind: int
    flags: int
    stream: int
    body: bytes


def frames(data: bytes) -> list[Frame]:
    """The frames that begin in a payload which begins with one, or with the connection preface; the last perhaps cut.

    A payload that begins in the middle of a frame may end with a GOAWAY, which is told by its header.
    """
    found = _walk(data)
    if data[-TAIL : HEADER - TAIL] == GOAWAY_HEAD and not any(frame.kind == GOAWAY for frame in found):
        return [Frame(GOAWAY, 0, 0, data[HEADER - TAIL :])]
    return found


def _walk(data: bytes) -> list[Frame]:
    found = []
    at = len(PREFACE) if data.startswith(PREFACE) else 0
    while at + HEADER <= len(data) and data[at + 3] <= CONTINUATION:
        size = int.from_bytes(data[at : at + 3])
        stream = int.from_bytes(data[at + 5 : at + 9]) & 0x7FFFFFFF
        found.append(Frame(data[at + 3], data[at + 4], stream, data[at + HEADER : at + HEADER + size]))
        at += HEADER + size
    return found


def error_name(code: int) -> str:
    """`ENHANCE_YOUR_CALM` of 11; an unknown code as its number."""
    return ERRORS[code] if code < len(ERRORS) else f"error {code}"


def goaway(data: bytes) -> tuple[int, str] | None:
    """(error code, debug data) of the first GOAWAY frame in a payload (RFC 9113 §6.8), None without one."""
    for frame in frames(data):
        if frame.kind == GOAWAY and len(frame.body) >= 8:
            return int.from_bytes(frame.body[4:8]), frame.body[8:].decode("utf-8", "replace")
    return None


def describe(data: bytes) -> list[str]:
    """The frames of a payload in words, in their order, equal neighbours once: `GOAWAY ENHANCE_YOUR_CALM too_many_pings`."""
    words = ["HTTP/2 preface"] if data.startswith(PREFACE) else []
    for frame in frames(data):
        word = _describe(frame)
        if not words or words[-1] != word:
            words.append(word)
    return words


def _describe(frame: Frame) -> str:
    name = NAMES[frame.kind]
    if frame.kind in (PING, SETTINGS) and frame.flags & _ACK:
        return f"{name} ack"
    if frame.kind == RST_STREAM and len(frame.body) == 4:
        return f"{name} {error_name(int.from_bytes(frame.body))}"
    if frame.kind == GOAWAY and len(frame.body) >= 8:
        debug = frame.body[8:].decode("utf-8", "replace")
        return f"{name} {error_name(int.from_bytes(frame.body[4:8]))}{f' {debug}' if debug else ''}"
    return name
