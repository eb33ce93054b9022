"""HTTP/2 frames in words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analyzer.payload import http1, http2


def frame(kind: int, body: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    return len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body


PING = frame(6, b"12345678")
GOAWAY = frame(7, bytes(4) + (11).to_bytes(4) + b"too_many_pings")


def test_frames_in_their_order_with_codes_in_words() -> None:
    data = (
        frame(0, b"x" * 40, stream=1) + frame(3, (8).to_bytes(4), stream=1) + PING + PING + frame(4, flags=1) + GOAWAY
    )
    assert http2.describe(data) == [
        "DATA",
        "RST_STREAM CANCEL",
        "PING",
        "SETTINGS ack",
        "GOAWAY ENHANCE_YOUR_CALM too_many_pings",
    ]
    assert http2.goaway(data) == (11, "too_many_pings")
    assert http2.describe(http2.PREFACE + frame(4, bytes(6))) == ["HTTP/2 preface", "SETTINGS"]
    assert http2.describe(frame(6, bytes(8), flags=1)) == ["PING ack"]


def test_an_unknown_code_is_a_number() -> None:
    assert http2.describe(frame(7, bytes(4) + (77).to_bytes(4))) == ["GOAWAY error 77"]


def test_a_goaway_behind_the_end_of_a_frame_that_began_before() -> None:
    assert http2.goaway(b"\xff\xfe the rest of some DATA" + frame(7, bytes(4) + (2).to_bytes(4))) == (2, "")


@given(st.binary(max_size=300))
def test_anything_is_read(data: bytes) -> None:
    found = http2.frames(data)
    assert len(found) <= len(data) // http2.HEADER
    assert len(http2.describe(data)) <= len(found) + 1


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.binary(max_size=30), st.integers(0, 255), st.integers(0, 2**31 - 1)),
        max_size=20,
    )
)
def test_what_was_written_is_read(parts: list[tuple[int, bytes, int, int]]) -> None:
    found = http2.frames(b"".join(frame(kind, body, flags, stream) for kind, body, flags, stream in parts))
    assert [(f.kind, f.body, f.flags, f.stream) for f in found] == parts


def test_first_lines_of_http1() -> None:
    assert http1.first_line(b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n") == "GET /a?b=c"
    assert http1.first_line(b"HTTP/1.1 502 Bad Gateway\r\n\r\n") == "HTTP/1.1 502 Bad Gateway"
    assert len(http1.first_line(b"GET /" + b"x" * 1000)) == http1.MAX_SHOWN
