"""Sentences in lines: a number keeps its unit, an environment its name, a quotation its words."""

from __future__ import annotations

import re
import textwrap
from typing import Any

_NO_BREAK = "\N{NO-BREAK SPACE}"
#: `6 min 16 s`, `4.17 s`, `2 requests`, `RFC 9113 §6.8`; `env NAME`; a short command, or words that someone printed.
_TIED = re.compile(
    r"(?<=\d) (?=(?:ms|s|min|h|B|copies|gaps?|invocations?|environments?|requests?)\b)|(?<=\d min) (?=\d)|(?<=\d h) (?=\d)|(?<=RFC) |(?<=±) |(?<=^env) |(?<=· env) |(?<=· from) |`[^`]*`"
)


def wrap(text: str, width: int, **how: Any) -> list[str]:
    """`textwrap.wrap` (same options; never at a hyphen), which breaks no measure and nothing in backticks."""
    tied = _TIED.sub(lambda m: m[0].replace(" ", _NO_BREAK), text)
    return [line.replace(_NO_BREAK, " ") for line in textwrap.wrap(tied, width, break_on_hyphens=False, **how)]
