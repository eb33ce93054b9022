"""A dissected packet to HTTP/2 and gRPC frames, in the words of RFC 9113 and of gRPC over HTTP/2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from msgspec import Struct

from analyzer.model.grpc import HTTP2_ERRORS, STATUS_NAMES

#: HTTP/2 frame types (RFC 9113 §6, RFC 9218 §7.1).
TYPES = {
    0: "DATA", 1: "HEADERS", 2: "PRIORITY", 3: "RST_STREAM", 4: "SETTINGS", 5: "PUSH_PROMISE", 6: "PING", 7: "GOAWAY",
    8: "WINDOW_UPDATE", 9: "CONTINUATION", 16: "PRIORITY_UPDATE",
}  # fmt: skip
#: Frames that say something by themselves; the others are the body of what these began.
TELLING = frozenset(("request", "response", "status", "ping", "ping-ack", "goaway", "rst-stream", "headers"))
#: Words of a peer that are shown are cut here.
MAX_TEXT = 200


class Frame(Struct, frozen=True):
    """One frame. `number` is the packet that ended it; `kind` a `TELLING` one or the frame type; `stream` 0 for the connection."""

    number: int
    layer: str
    kind: str
    text: str
    stream: int


def frames_of(packet: Any) -> Iterator[Frame]:
    """The frames of a pyshark packet, in order."""
    number, stream = int(packet.number), 0
    for layer in packet.layers:
        if layer.layer_name == "http2":
            if (kind := _number(layer, "http2.type")) is not None:
                frame = _http2(layer, number, kind)
                stream = frame.stream
                yield frame
        elif layer.layer_name == "grpc":
            size = _number(layer, "grpc.message_length")
            packed = ", compressed" if _number(layer, "grpc.compressed_flag") else ""
            yield Frame(number, "grpc", "message", f"message of {size or 0:,} B{packed}, stream {stream}", stream)


def _http2(layer: Any, number: int, kind: int) -> Frame:
    stream, name = _number(layer, "http2.streamid") or 0, TYPES.get(kind, f"frame type {kind}")
    if name == "HEADERS":
        return _headers(layer, number, stream)
    plain = name.lower().replace("_", "-")
    if name == "PING":
        ack = bool(_number(layer, "http2.flags.ack.ping"))
        return Frame(number, "http2", "ping-ack" if ack else "ping", "PING ack" if ack else "PING", 0)
    if name == "SETTINGS":
        return Frame(number, "http2", plain, "SETTINGS ack" if _number(layer, "http2.flags.ack.settings") else name, 0)
    if name == "GOAWAY":
        said = _bytes(layer, "http2.goaway.addata").decode("utf-8", "replace")[:MAX_TEXT]
        last = _number(layer, "http2.goaway.last_stream_id")
        words = f"GOAWAY {_error(layer, 'http2.goaway.error')}{f' {said}' if said else ''}, last stream {last}"
        return Frame(number, "http2", plain, words, 0)
    if name == "RST_STREAM":
        return Frame(
            number, "http2", plain, f"{name} {_error(layer, 'http2.rst_stream.error')}, stream {stream}", stream
        )
    return Frame(
        number, "http2", plain, f"{name} of {_number(layer, 'http2.length') or 0:,} B, stream {stream}", stream
    )


def _headers(layer: Any, number: int, stream: int) -> Frame:
    """A request, a response, trailers, or a block that tshark could not read (its dictionary was not captured)."""
    names, values = (_all(layer, f"http2.header.{part}") for part in ("name", "value"))
    headers = dict(zip(names, values, strict=False))
    protocol = "grpc" if headers.get("content-type", "").startswith("application/grpc") else "http2"
    if "grpc-status" in headers:
        return Frame(number, "grpc", "status", f"{_grpc_status(headers)}, stream {stream}", stream)
    if ":path" in headers or ":method" in headers:
        target = f"{headers.get(':method', '?')} {headers.get(':path', '')}"[:MAX_TEXT].strip()
        return Frame(number, protocol, "request", f"{target}, stream {stream}", stream)
    if ":status" in headers:
        return Frame(number, protocol, "response", f"{headers[':status'][:MAX_TEXT]}, stream {stream}", stream)
    return Frame(
        number, "http2", "headers", f"HEADERS of {_number(layer, 'http2.length') or 0:,} B, stream {stream}", stream
    )


def _grpc_status(headers: dict[str, str]) -> str:
    """`grpc-status 14 UNAVAILABLE: upstream gone`; the message is percent-encoded (gRPC over HTTP/2, "Responses")."""
    code, message = headers["grpc-status"][:MAX_TEXT], unquote(headers.get("grpc-message", ""))[:MAX_TEXT]
    name = STATUS_NAMES[int(code)] if code.isascii() and code.isdigit() and int(code[:4]) < len(STATUS_NAMES) else ""
    return f"grpc-status {code}{f' {name}' if name else ''}{f': {message}' if message else ''}"


def _error(layer: Any, field: str) -> str:
    code = _number(layer, field)
    return "?" if code is None else HTTP2_ERRORS[code] if code < len(HTTP2_ERRORS) else str(code)


def _all(layer: Any, field: str) -> list[str]:
    found = layer.get_field(field)
    return [] if found is None else [str(one.show or "") for one in found.all_fields]


def _number(layer: Any, field: str) -> int | None:
    """A field as a number; tshark shows booleans as `0`/`1` (from 4.2 on `False`/`True`)."""
    shown = next(iter(_all(layer, field)), "")
    if shown in ("True", "False"):
        return int(shown == "True")
    try:
        return int(shown, 0)
    except ValueError:
        return None


def _bytes(layer: Any, field: str) -> bytes:
    try:
        return bytes.fromhex(next(iter(_all(layer, field)), "").replace(":", ""))
    except ValueError:
        return b""
