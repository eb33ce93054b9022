"""Log messages without what they say of anybody: a body keeps what a recogniser reads out of it, and nothing else.

What "reads out of it" means is asked, not assumed: words are cut wherever the recogniser still says the same without them
(`_shrunk`). A new dialect needs nothing here. Free text inside (an error's own words) does not count as read; the fixed phrases
that recognisers search for are ours, not the user's, and stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from analyzer.logs import recognisers, runtimes
from analyzer.logs.records import Recognised
from analyzer.redact.redactor import Redactor

CUT = "…"
#: Words of a body that are looked at; the rest is cut. Recognisers read heads: no form of theirs is longer.
MAX_WORDS = 200
MAX_BODY = 16_384
#: Phrases that rules search for beside those of the recognisers (server limits, the runtime's own words, a local port).
PHRASES = (
    "Invoke Error", "max number of clients reached", "oo many connections", "ER_CON_COUNT_ERROR",
    "remaining connection slots are reserved", "too many clients already",
)  # fmt: skip
_PORT = r"\bport[ :=]{1,2}[0-9]{4,5}\b"
#: Keys of structured lines whose values stay (scrubbed): the platform's and the runtimes' own.
KEYS = frozenset((
    "timestamp", "time", "level", "type", "record", "requestId", "AWSRequestId", "request_id", "xRayTraceId", "status", "metrics",
    "durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs", "version", "phase",
    "initializationType", "runtimeVersion", "logger", "errorType", "stream",
))  # fmt: skip
#: Structured lines are followed this deep.
MAX_DEPTH = 8


@cache
def _phrases() -> re.Pattern[str]:
    fixed = sorted({n for n in (*recognisers.needles(), *PHRASES) if len(n.strip()) > 3}, key=lambda n: (-len(n), n))
    return re.compile("|".join([*map(re.escape, fixed), _PORT]))


def message(text: str, redactor: Redactor) -> str:
    """One log event's message, redacted: the prefix of its runtime and the platform's own lines scrubbed, its body cut."""
    if text.lstrip()[:1] == "{" and (structured := _structured(text, redactor)) is not None:
        return structured
    line = runtimes.parse(text)
    if line.kind != "app":
        return redactor.text(text)
    head, _, tail = text.rpartition(line.body) if line.body else (text, "", "")
    return redactor.text(head) + body(line.body, redactor) + redactor.text(tail)


def body(text: str, redactor: Redactor) -> str:
    """An application's or a library's own words, cut to what is recognised in them."""
    found = recognisers.recognise(text)
    kept = cut(text) if found is None else _shrunk(text, _meaning(found))
    return redactor.text(kept)


def _structured(text: str, redactor: Redactor) -> str | None:
    """A line of the JSON log format, None where it is no JSON object."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    return json.dumps(_walked(document, redactor, 0), ensure_ascii=False) + ("\n" if text.endswith("\n") else "")


def _walked(value: Any, redactor: Redactor, depth: int, known: bool = False) -> Any:
    if depth > MAX_DEPTH:
        return CUT
    if isinstance(value, dict):
        return {
            redactor.text(key) if key not in KEYS else key: _walked(v, redactor, depth + 1, known=key in KEYS)
            for key, v in value.items()
        }
    if isinstance(value, list):
        return [_walked(v, redactor, depth + 1, known) for v in value[:MAX_WORDS]]
    if isinstance(value, str):
        return redactor.text(value) if known else message(value, redactor)
    return value if known or isinstance(value, bool) or value is None else 0


def _meaning(found: Recognised) -> tuple[Any, ...]:
    """What was read, without the words of free text."""
    attrs = {
        k: None if isinstance(v, str) and (" " in v or len(v) > 80) else v for k, v in found.attrs.items() if v != ""
    }
    stamps = tuple(getattr(found, name) for name in ("inner_ns", "pid", "version", "tracer", "number", "remote"))
    return found.layer, found.kind, stamps, sorted(attrs.items(), key=str)


def _shrunk(text: str, meaning: tuple[Any, ...]) -> str:
    """`text` with every stretch of words cut that the recogniser does not need, by halves."""
    parts = re.split(r"(\s)", text[:MAX_BODY])
    words, rest = parts[: 2 * MAX_WORDS], parts[2 * MAX_WORDS :]
    kept: list[str] = []

    def same(candidate: list[str]) -> bool:
        found = recognisers.recognise("".join(candidate))
        return found is not None and _meaning(found) == meaning

    if rest and not same(words):
        return cut(text)
    _halve(words, [], kept, same)
    return re.sub(rf"{CUT}(?:\s?{CUT})+", CUT, "".join(kept))


def _halve(words: list[str], after: list[str], kept: list[str], same: Callable[[list[str]], bool]) -> None:
    """Append `words` to `kept`, cut where `same` allows it; `after` is what follows them."""
    if not words:
        return
    if (short := cut("".join(words))) != "".join(words) and same([*kept, short, *after]):
        kept.append(short)
    elif len(words) == 1:
        kept.append(words[0])
    else:
        half = len(words) // 2
        _halve(words[:half], [*words[half:], *after], kept, same)
        _halve(words[half:], after, kept, same)


def cut(text: str) -> str:
    """A cut: only the fixed phrases of recognisers and rules stay."""
    if not text.strip():
        return text
    found = " ".join(_phrases().findall(text)[:8])
    return f"{CUT} {found} {CUT}" if found else CUT
