"""Only words of our own survive: what a sentence of a finding or a line of a trace may still say when it leaves the house.

Secrets have no common shape, so that none is looked for. A word stays where it stands in this program's own sources (the sentences of
rules, the words of recognisers, the names of settings and states), where it is a number with a unit, or a pseudonym; everything
else is cut. That errs towards cutting.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from analyzer.redact.redactor import Redactor

CUT = "…"
#: Rooms whose sources are the vocabulary: whoever writes a sentence that is shown.
ROOMS = (
    "rules",
    "report",
    "timeline",
    "tcp",
    "payload",
    "model",
    "capture",
    "logs/recognisers",
    "logs/envelopes",
    "logs/runtimes",
    "logs",
    "",
)
_WORD = re.compile(r"[A-Za-z][\w'/.-]*", re.ASCII)
_SPLIT = re.compile(r"(\s+)")
_EDGES = "`'\"()[]{}<>,;:!?.…=|&"
_NUMBER = re.compile(
    r"[±+\-−#:]?(?![0-9]{10})[0-9][0-9.,:]{0,24}(?:ns|ms|s|min|h|B|MB|KB|%|ppm|×|x)?|[A-Z][0-9]{1,6}|→|←|·|×|±|[-–—/+*&|≤≥⋮…<>=]{1,4}"
)
#: What a `Redactor` writes.
_PSEUDONYM = re.compile(
    r"h[0-9a-f]{8}\.(?:example|amazonaws\.com)(?::[0-9]{1,5})?|<[0-9a-z]{1,16}>|arn:[0-9a-f]{8}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|"
    r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?::[0-9]{1,5})?|\[?(?=[0-9a-f]{0,4}:[0-9a-f]{0,4}:)[0-9a-f:]{2,39}\]?(?::[0-9]{1,5})?|[0-9]{4}/[0-9]{2}/[0-9]{2}/\[(?:\$LATEST|[0-9]{1,9})\][0-9a-f]{32}|"
    r"[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}(?:T[0-9:.]+(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?|(?:nodejs|python|java|dotnet|ruby|go|provided)(?:[:.][a-z]{0,2}[0-9.]{1,12}){1,3}|"
    r"h[0-9a-f]{8}(?:Error|Exception)|s[0-9]{1,4}\.[a-z]{2,6}(?:[#:\[][0-9]{1,12}\]?)?"
)  # fmt: skip
#: What of a word could be a name: between the signs that sentences, addresses and commands are made of.
_TOKEN = re.compile(r"[^\s`'\"()\[\]{}<>,;!?…=|&:@/\\]+")
_CLASS = re.compile(r"(?:Error|Exception)$")
_GROUP = re.compile(r"/aws/lambda/[^\s'\"`]+")
LONGEST = 20_000


@cache
def vocabulary() -> frozenset[str]:
    """Every word of the sources, in small letters; empty where a package keeps none, so that all is cut."""
    found: set[str] = set()
    root = files("analyzer")
    for room in ROOMS:
        folder = root.joinpath(room) if room else root
        for file in folder.iterdir():
            if file.name.endswith(".py") and file.is_file():
                found.update(word.lower().strip(_EDGES) for word in _WORD.findall(file.read_text("utf-8")))
    return frozenset(found)


def plain(text: str) -> str:
    """`text` with every word cut that is none of ours. Linear."""
    pieces = _SPLIT.split(text[:LONGEST])
    kept = [piece if not piece or piece.isspace() or _may_stay(piece) else _cut(piece) for piece in pieces]
    return re.sub(rf"{CUT}(?:[ \t]*{CUT})+", CUT, "".join(kept))


def _cut(piece: str) -> str:
    """A word that may not stay, without it: the signs of a sentence around it are kept."""
    bare = piece.strip(_EDGES)
    head, _, tail = piece.partition(bare) if bare else (piece, "", "")
    return f"{head}{CUT}{tail}" if bare else CUT


def _may_stay(piece: str) -> bool:
    if _NUMBER.fullmatch(piece) or _PSEUDONYM.fullmatch(piece):
        return True
    bare = piece.strip(_EDGES)
    if not bare or _NUMBER.fullmatch(bare) or _PSEUDONYM.fullmatch(bare):
        return True
    word = bare.lower().removesuffix("'s")
    return word in vocabulary()


def named(text: str, redactor: Redactor) -> str:
    """Redacted text with every word that is none of ours under a pseudonym, so that what is read of a form can still be."""

    def pseudonym(m: re.Match[str]) -> str:
        if _may_stay(m[0]):
            return m[0]
        ending = _CLASS.search(m[0])
        return f"h{redactor.tag('host', m[0])}{ending[0] if ending else '.example'}"

    pieces = _SPLIT.split(_without_group(text))
    return "".join(p if not p or p.isspace() or _may_stay(p) else _TOKEN.sub(pseudonym, p) for p in pieces)


def _without_group(text: str) -> str:
    return _GROUP.sub("/aws/lambda/FUNCTION", text)


def clean(text: str, redactor: Redactor) -> str:
    """A sentence or a line as it may be shown: pseudonyms first, then only our own words."""
    return plain(redactor.text(_without_group(text)))


def masked(payload: bytes) -> bytes:
    """Kept payload with every word that is none of ours overwritten, all lengths unchanged."""
    return re.sub(rb"[!-~]{3,}", lambda m: m[0] if _may_stay(m[0].decode("ascii")) else b"x" * len(m[0]), payload)
