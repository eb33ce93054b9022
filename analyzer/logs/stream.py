"""A log file as its envelope reads it: bytes or numbered lines, recoded to UTF-8, with a place for what goes wrong.

Big inputs are mostly lines that say nothing about connections. Past the first `READ_WHOLE` bytes lines go through a sieve
(`logs.sieve`): whole blocks are searched for the words that any reader knows, and only records that hold one, or that stand
outside an invocation, become text at all.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from itertools import compress
from typing import BinaryIO

import numpy as np
from msgspec import Struct

from analyzer.logs.options import DEFAULTS, Options
from analyzer.logs.records import ANSI
from analyzer.logs.sieve import Layout, Sieve
from analyzer.model.problems import Problem
from analyzer.streams import READ_ERRORS

BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
#: Read at a time.
BLOCK = 1 << 20
#: A longer line is cut: no runtime prints one (CloudWatch's limit for an event is 1 MB).
LONGEST_LINE = 1 << 22
#: A message of more lines is none: lines without a head follow one that has one by mistake (files put together).
MOST_LINES = 2_000
#: So much of a file is read line by line, whatever the lines say; small cases keep their every line.
READ_WHOLE = 1 << 22


class LogStream(Struct):
    """What an envelope reads from. `path` is the input's (an S3 export's names its log stream)."""

    raw: BinaryIO
    path: str = ""
    options: Options = DEFAULTS
    problems: list[Problem] = []
    #: Records that were counted, not kept: no known word, inside an invocation.
    folded: int = 0
    #: Lines for which their message had no room, and where the first such message stands.
    cut: int = 0
    cut_at: str = ""
    _started: bool = False
    _any: bool = False
    _damaged: bool = False
    _head: bytes = b""
    _decode: codecs.IncrementalDecoder | None = None

    def read(self, size: int = -1) -> bytes:
        """The next bytes (all of them without a size), UTF-8 without a byte order mark; fewer than asked only at the end."""
        if not self._started:
            self._start()
        if size < 0:
            return self._recoded(self._take(self._read(-1)), final=True)
        data = b""
        while len(data) < size:
            piece = self._take(self._read(size - len(data) - len(self._head)))
            data += self._recoded(piece, final=not piece)
            if not piece:
                break
        return data

    def _read(self, size: int) -> bytes:
        """The next bytes of the file; one that is damaged further on ends there, and it is said."""
        if self._damaged:
            return b""
        try:
            data = self.raw.read(size)
        except READ_ERRORS as error:
            if not self._any:
                raise
            self._damaged = True
            self.problems.append(Problem("", f"damaged, what follows is not read: {error}"))
            return b""
        self._any = self._any or bool(data)
        return data

    def _start(self) -> None:
        self._started = True
        self._head = self._read(3)
        for mark, encoding in BYTE_ORDER_MARKS:
            if self._head.startswith(mark):
                self._head = self._head[len(mark) :]
                if encoding != "utf-8":
                    self._decode = codecs.getincrementaldecoder(encoding)("replace")

    def _take(self, data: bytes) -> bytes:
        head, self._head = self._head, b""
        return head + data

    def _recoded(self, data: bytes, final: bool) -> bytes:
        return data if self._decode is None else self._decode.decode(data, final).encode("utf-8", "replace")

    def lines(self, layout: Callable[[str], Layout | None] | None = None) -> Iterator[tuple[int, str]]:
        """(1-based number, text) of lines, without line ends and colour codes.

        `layout` describes a line that begins a record, for the sieve; without it every line is given.
        """
        number, done = 1, 0
        sieve = Sieve(layout) if layout is not None and self.may_skip else None
        for block in self._blocks():
            if sieve is not None and done + len(block) > READ_WHOLE and sieve.fits(block):
                yield from self._sieved(sieve, block, number)
            else:
                yield from enumerate(_texts(block), number)
            number += block.count(b"\n")
            done += len(block)

    @property
    def may_skip(self) -> bool:
        """Whether records without a known word may be skipped in a big file: a user's own pattern may match any."""
        return not self.options.counters

    def grow(self, parts: list[str], line: str, ref: str) -> None:
        """One more line of the message that stands at `ref`, if there is room."""
        if len(parts) < MOST_LINES:
            parts.append(line)
            return
        self.cut_at = self.cut_at or ref
        self.cut += 1

    def _blocks(self) -> Iterator[bytes]:
        """Whole lines, a megabyte or so at a time. A line of many JSON objects comes in parts; any other long one is cut."""
        carry, number, cutting = b"", 1, False
        while data := self.read(BLOCK):
            if cutting:
                _, newline, data = data.partition(b"\n")
                cutting, carry = not newline, carry + newline
            data = carry + data if carry else data
            if b"\r\n" in data:
                data = data.replace(b"\r\n", b"\n")
            end = data.rfind(b"\n") + 1
            if not end and not cutting and len(data) >= LONGEST_LINE:
                end = data.rfind(b'}{"') + 1
                if not end:
                    what = f"a line longer than {LONGEST_LINE >> 20} MB: its rest is not read"
                    self.problems.append(Problem(f":{number}", what))
                    cutting, data = True, data[:LONGEST_LINE]
            if end:
                yield data[:end]
                number += data.count(b"\n", 0, end)
            carry = data[end:]
        if carry:
            yield carry

    def _sieved(self, sieve: Sieve, block: bytes, number: int) -> Iterator[tuple[int, str]]:
        starts, kept = sieve.keep(block)
        self.folded += sieve.folded
        rows = np.flatnonzero(kept)
        if 2 * len(rows) > len(starts):
            yield from compress(enumerate(_texts(block), number), kept.tolist())
            return
        ends = np.append(starts[1:], len(block))
        for row, start, end in zip(rows.tolist(), starts[rows].tolist(), ends[rows].tolist(), strict=True):
            for text in _texts(block[start:end]):
                yield number + row, text


def _texts(block: bytes) -> list[str]:
    """The lines of a block."""
    text = block.decode("utf-8", "replace")
    if "\x1b" in text:
        text = ANSI.sub("", text)
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    elif lines[-1].endswith("\r"):  # the file's last line; all others have lost theirs
        lines[-1] = lines[-1][:-1]
    return lines
