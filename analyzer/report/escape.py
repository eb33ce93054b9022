"""Text from logs and packets is hostile: nothing of it reaches a terminal unescaped."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator

#: Control characters (C0, DEL, C1), bidirectional marks and overrides, invisible characters and separators that could rewrite or
#: reorder a line, tags that spell what nobody sees.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def terminal(text: str) -> str:
    """`text` with every character that is none to see shown as `\\xNN`, `\\uNNNN` or `\\UNNNNNNNN`."""
    return _UNSAFE.sub(_escaped, text)


def _escaped(m: re.Match[str]) -> str:
    code = ord(m[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def json_on_terminal(chunks: Iterable[bytes]) -> Iterator[str]:
    """JSON (and other lines of UTF-8) with the same characters as `\\uNNNN`, which says the same to a parser; line ends stay."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for chunk in chunks:
        yield _UNSAFE.sub(_json_escaped, decoder.decode(chunk))


def _json_escaped(m: re.Match[str]) -> str:
    if m[0] in "\n\r\t":
        return m[0]
    units = m[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[k : k + 2].hex()}" for k in range(0, len(units), 2))


def clip(text: str, width: int) -> str:
    """`text` in at most `width` columns, an ellipsis where it was cut."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def clip_place(place: str, width: int) -> str:
    """A place (`fn.log:12`, `server.pcap#17`) in at most `width` columns: of a long name the beginning, of the number all."""
    if len(place) <= width:
        return place
    at = max(place.rfind("#"), place.rfind(":"), place.rfind("["))
    number = place[at:] if at > 0 else ""
    room = width - len(number)
    return clip(place.removesuffix(number), room) + number if room > 0 else place[-width:]


def short_environment(name: str) -> str:
    """A log stream name without most of its hash."""
    return name[:-24] + "…" if len(name) > 40 and "]" in name else name


def count(n: int, noun: str) -> str:
    """`1 connection`, `2 connections`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def ended(n: int, status: str) -> str:
    """How many invocations ended so: `1 error`, `2 timeouts`, `2 crashes`."""
    return count(n, status) if n == 1 or status != "crash" else f"{n:,} crashes"
