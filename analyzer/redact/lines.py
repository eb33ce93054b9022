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
from analyzer.redact.words import CUT, named

#: Words of a body that are looked at; the rest is cut. Recognisers read heads: no form of theirs is longer.
MAX_WORDS = 200
MAX_BODY = 16_384
#: Phrases that rules search for beside those of the recognisers (server limits, the runtime's own words, a local port).
PHRASES = (
    "Invoke Error", "max number of clients reached", "oo many connections", "ER_CON_COUNT_ERROR",
    "remaining connection slots are reserved", "too many clients already",
)  # fmt: skip
_PORT = r"\bport[ :=]{1,2}[0-9]{4,5}\b"
#: Keys of structured lines whose values stay, names in them as pseudonyms: the runtimes' own, and the platform's.
KEYS = frozenset((
    "timestamp", "time", "level", "type", "requestId", "AWSRequestId", "request_id", "xRayTraceId", "status", "logger",
    "errorType", "stream",
))  # fmt: skip
PLATFORM = KEYS | frozenset((
    "record", "metrics", "durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs", "version", "phase",
    "initializationType", "runtimeVersion",
))  # fmt: skip
_SPACES = re.compile(r"(\s+)")
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
        return frame(text, redactor)
    head, _, tail = text.rpartition(line.body) if line.body else (text, "", "")
    return frame(head, redactor) + body(line.body, redactor) + frame(tail, redactor)


def frame(text: str, redactor: Redactor) -> str:
    """What the platform, a runtime or an export wrote: its words stay, names in it become pseudonyms."""
    return named(redactor.text(text), redactor)


def body(text: str, redactor: Redactor) -> str:
    """An application's or a library's own words, cut to what is recognised in them; names in it become pseudonyms."""
    found = recognisers.recognise(text)
    if found is None:
        return redactor.text(cut(text))
    kept = redactor.text(_shrunk(text, _meaning(found)))
    wanted, words = _form(recognisers.recognise(kept)), _SPACES.split(kept)
    if _form(recognisers.recognise(whole := named(kept, redactor))) == wanted:
        return whole
    for n, word in enumerate(words):  # a word that is itself the form (a class of errors) stays
        other = [*words[:n], named(word, redactor), *words[n + 1 :]]
        if other[n] != word and _form(recognisers.recognise("".join(other))) == wanted:
            words = other
    return "".join(words)


def _structured(text: str, redactor: Redactor) -> str | None:
    """A line of the JSON log format, None where it is no JSON object."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    platform = str(document.get("type")).startswith("platform.")
    return json.dumps(_walked(document, redactor, 0, platform), ensure_ascii=False) + (
        "\n" if text.endswith("\n") else ""
    )


def _walked(value: Any, redactor: Redactor, depth: int, platform: bool, known: bool = False) -> Any:
    if depth > MAX_DEPTH:
        return CUT
    if isinstance(value, dict):
        return {
            frame(key, redactor): _walked(v, redactor, depth + 1, platform, key in (PLATFORM if platform else KEYS))
            for key, v in value.items()
        }
    if isinstance(value, list):
        return [_walked(v, redactor, depth + 1, platform, known) for v in value[:MAX_WORDS]]
    if isinstance(value, str):
        return frame(value, redactor) if known else message(value, redactor)
    return value if known or isinstance(value, bool) or value is None else 0


def _meaning(found: Recognised) -> tuple[Any, ...]:
    """What was read, without the words of free text."""
    attrs = {
        k: None if isinstance(v, str) and (" " in v or len(v) > 80) else v for k, v in found.attrs.items() if v != ""
    }
    stamps = tuple(getattr(found, name) for name in ("inner_ns", "pid", "version", "tracer", "number", "remote"))
    return found.layer, found.kind, stamps, sorted(attrs.items(), key=str)


def _form(found: Recognised | None) -> tuple[Any, ...] | None:
    """What was read but for the names in it: two readings of one form are told alike."""
    if found is None:
        return None
    attrs = {k: isinstance(v, str) or v for k, v in found.attrs.items() if v != ""}
    stamps = tuple(getattr(found, name) for name in ("inner_ns", "pid", "version", "tracer", "number"))
    return found.layer, found.kind, stamps, found.remote is None, sorted(attrs.items(), key=str)


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
