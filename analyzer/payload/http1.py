"""HTTP/1 in clear text (RFC 9112): the first line of a request or a response, for evidence."""

from __future__ import annotations

#: A request line is shown up to here; the rest is the application's own business.
MAX_SHOWN = 80


def first_line(data: bytes) -> str:
    """`GET /path` of a request, `HTTP/1.1 502 Bad Gateway` of a response, as far as it is there; shortened."""
    line = data.split(b"\r\n", 1)[0].decode("ascii", "replace")
    if not line.startswith("HTTP/"):
        line = line.removesuffix(" HTTP/1.1").removesuffix(" HTTP/1.0")
    return line if len(line) <= MAX_SHOWN else f"{line[: MAX_SHOWN - 1]}…"
