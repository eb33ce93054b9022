"""Text from logs and packets is hostile: nothing of it reaches a terminal unescaped."""

from __future__ import annotations

import re

#: Control characters (C0, DEL, C1), bidirectional overrides and separators that could rewrite or reorder a terminal line.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def terminal(text: str) -> str:
    """`text` with every control character shown as `\\xNN` or `\\uNNNN`."""
    return _UNSAFE.sub(lambda m: f"\\x{ord(m[0]):02x}" if ord(m[0]) < 256 else f"\\u{ord(m[0]):04x}", text)


def clip(text: str, width: int) -> str:
    """`text` in at most `width` columns, an ellipsis where it was cut."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def short_environment(name: str) -> str:
    """A log stream name without most of its hash."""
    return name[:-24] + "…" if len(name) > 40 and "]" in name else name
