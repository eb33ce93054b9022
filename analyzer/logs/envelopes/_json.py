"""Elements of JSON documents of any size, a few megabytes at a time: a list inside an object, a bare list, documents in a row.

Between two elements stands `}`, perhaps a comma, and `{ "KEY":` with the first key of the first element. Inside a JSON string
no quotation mark stands without a backslash before it, so this is never found inside a message. What lies between two such
borders is one element or several (where one begins with another key), and always whole ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
from msgspec import Struct, field
from numpy.typing import NDArray

from analyzer.logs.sieve import Sieve, stream_keys
from analyzer.logs.stream import BLOCK, READ_WHOLE, LogStream
from analyzer.model.problems import Problem

#: An element that fills so much is none of a log.
LONGEST = 1 << 25
#: Of the first key, as it is written between two elements, so many bytes tell their border from all other text.
TOKEN = 24
_FIRST = re.compile(rb'\s*((?:\[\s*)?\{\s*"(?:[^"\\]|\\.){1,64}"\s*:)')
_NAMED = re.compile(rb'"logStreamName"\s*:\s*"([^"\\]{8,512})"')


class Elements(Struct):
    """The elements of a document, as `(number from 1, element)`; afterwards `rest` holds the document's other keys."""

    stream: LogStream
    #: Matches from the document's start up to where its first element begins; empty for documents in a row.
    opening: re.Pattern[bytes]
    rest: dict[str, Any] = {}
    _number: int = 0
    _sieve: Sieve = field(default_factory=Sieve)

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        head = self.stream.read(BLOCK)
        opened = self.opening.match(head)
        if opened is None:
            raise ValueError("the document does not begin as expected")
        first = _FIRST.match(head, opened.end())
        if first is None:
            rest = head[opened.end() :] + self.stream.read(LONGEST)
            if len(rest) >= LONGEST:
                raise ValueError(f"no element within its first {LONGEST >> 20} MB")
            yield from self._last(head[: opened.end()], rest)
            return
        token = re.sub(rb"(?:\\[ \t\r\n])+", rb"\\s*", re.escape(first[1]))
        border = re.compile(rb"[}\]]\s*(?:,\s*)?(?=" + token + b")")
        buffer, done, before, wanted = head[opened.end() :], 0, head[: opened.end()], 0
        while True:
            more = self.stream.read(max(BLOCK, wanted))
            if not more:
                break
            end = _last_border(border, buffer)
            if end is None:
                if len(buffer) > LONGEST:
                    raise ValueError(f"[{self._number + 1}] an element longer than {LONGEST >> 20} MB")
                buffer += more
                # Twice as much each time: an element of many blocks is not looked at again for every block.
                wanted = len(buffer)
                continue
            wanted = 0
            yield from self._elements(buffer[:end], border, done + end > READ_WHOLE and self.stream.may_skip)
            done += end
            buffer = buffer[end:] + more
        end = _last_border(border, buffer)
        if end is not None:
            yield from self._elements(buffer[:end], border, done + end > READ_WHOLE and self.stream.may_skip)
            buffer = buffer[end:]
        yield from self._last(before, buffer)

    def _last(self, before: bytes, rest: bytes) -> Iterator[tuple[int, Any]]:
        """The last elements with the end of the document."""
        whole = (before or b"[") + rest + (b"" if before.strip() else b"]")
        try:
            document = parse(whole)
        except ValueError as error:
            yield from self._salvaged(rest, error)
            return
        if isinstance(document, dict):
            lists = [key for key, value in document.items() if isinstance(value, list) and key in LISTS]
            self.rest = {key: value for key, value in document.items() if key not in lists}
            document = document[lists[0]] if lists else []
        for element in document:
            self._number += 1
            yield self._number, element

    def _salvaged(self, rest: bytes, error: ValueError) -> Iterator[tuple[int, Any]]:
        """The elements before the damage."""
        text, at = rest.decode("utf-8", "replace"), 0
        while (at := _skip(text, at)) < len(text) and text[at] in "{[":
            try:
                element, at = _DECODER.raw_decode(text, at)
            except (ValueError, RecursionError):
                break
            self._number += 1
            yield self._number, element
        if not self._number:
            raise error
        self.stream.problems.append(
            Problem(f"[{self._number}]", f"the document ends or breaks after this element: {error}")
        )

    def _elements(self, piece: bytes, border: re.Pattern[bytes], sieved: bool) -> Iterator[tuple[int, Any]]:
        """Whole elements; `piece` may end with a comma."""
        if sieved and (kept := self._kept(piece, border)) is not None:
            numbers, pieces = kept
            elements = _parsed(b",".join(pieces), border)
            if elements is not None and len(elements) == len(numbers):
                yield from zip(numbers, elements, strict=True)
            else:
                yield from self._one_by_one(numbers, pieces)
            return
        first, elements = self._number + 1, _parsed(piece, border)
        if elements is not None:
            self._number += len(elements)
            yield from enumerate(elements, first)
            return
        pieces = _split(piece, border)
        self._number += len(pieces)
        yield from self._one_by_one(range(first, first + len(pieces)), pieces)

    def _one_by_one(self, numbers: Sequence[int], pieces: list[bytes]) -> Iterator[tuple[int, Any]]:
        """The elements of pieces one of which is damaged: it is said, and the others are read."""
        for number, piece in zip(numbers, pieces, strict=True):
            try:
                elements = parse(b"[" + piece.rstrip(b", \r\n\t") + b"]")
            except ValueError as error:
                self.stream.problems.append(Problem(f"[{number}]", f"no JSON: {error}"))
                continue
            for element in elements:
                yield number, element

    def _kept(self, piece: bytes, border: re.Pattern[bytes]) -> tuple[list[int], list[bytes]] | None:
        """Numbers and bytes of the elements that say anything; None where elements are not alike enough to tell apart."""
        separator = border.search(piece)
        if separator is None:
            return None
        cut = separator.end() - separator.start()
        token = piece[separator.start() : separator.end() + TOKEN]
        starts = np.concatenate((np.zeros(1, np.int64), _places(piece, token) - TOKEN))
        ends = np.append(starts[1:] - cut + 1, len(piece))
        keys = _keys(piece, starts, ends)
        if keys is None:
            return None
        kept = self._sieve.records(piece, starts, np.arange(1, len(starts) + 1), keys)[1:]
        base, self._number = self._number, self._number + len(starts)
        self.stream.folded += int(len(kept) - np.count_nonzero(kept))
        rows = np.flatnonzero(kept)
        pieces = [
            piece[s:e].rstrip(b", \r\n\t") for s, e in zip(starts[rows].tolist(), ends[rows].tolist(), strict=True)
        ]
        return (rows + base + 1).tolist(), pieces


#: Names of the list that holds the elements.
LISTS = frozenset(("events", "results", "logEvents", "Records", "records"))


def _keys(piece: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint64] | None:
    """Each element's stream; None where not every element names one in the first's spelling, though one does."""
    first = _NAMED.search(piece)
    if first is None:
        return np.zeros(len(starts), np.uint64)
    names = _places(piece, piece[first.start() : first.start(1)])
    if len(names) != len(starts) or bool(((names <= starts) | (names > ends)).any()):
        return None
    data = np.frombuffer(piece, np.uint8)
    quotes = np.append(np.flatnonzero(data == ord('"')), len(piece))
    return stream_keys(data, quotes[np.searchsorted(quotes, names)], len(piece))


def _places(piece: bytes, token: bytes) -> NDArray[np.int64]:
    """Where each occurrence of a token ends."""
    from ahocorasick_rs import BytesAhoCorasick

    return np.array([end for _, _, end in BytesAhoCorasick([token]).find_matches_as_indexes(piece)], np.int64)


def _last_border(border: re.Pattern[bytes], buffer: bytes) -> int | None:
    """The end of the last border in the buffer."""
    window = 1 << 16
    while True:
        last = None
        for last in border.finditer(buffer, max(0, len(buffer) - window)):  # noqa: B007 - the last one is wanted
            pass
        if last is not None:
            return last.end()
        if window >= len(buffer):
            return None
        window *= 4


def _parsed(piece: bytes, border: re.Pattern[bytes]) -> list[Any] | None:
    """Elements as a list: separated by commas, by nothing or by line ends; a comma behind the last is cut. None for damage."""
    body = piece.rstrip(b", \r\n\t")
    try:
        return orjson.loads(b"[" + body + b"]")  # type: ignore[no-any-return]
    except orjson.JSONDecodeError:
        separated = border.sub(lambda m: m[0][:1] + b",", body)
    try:
        return parse(b"[" + separated + b"]")  # type: ignore[no-any-return]
    except ValueError:
        return None


def _split(piece: bytes, border: re.Pattern[bytes]) -> list[bytes]:
    """A piece cut at its borders."""
    ends = [0, *(m.end() for m in border.finditer(piece)), len(piece)]
    return [piece[start:end] for start, end in pairwise(ends) if piece[start:end].strip(b", \r\n\t")]


_DECODER = json.JSONDecoder(strict=False)


def parse(data: bytes) -> Any:
    """A document; orjson is strict about lone surrogates and control characters, which real messages cut in half contain."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data.decode("utf-8", "replace"), strict=False)
        except (ValueError, RecursionError) as error:
            raise ValueError(str(error)) from error


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n,":
        at += 1
    return at
