"""What happens to files: bits flip, lengths lie, parts go missing or come twice."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.capture.hostile import EXTREMES

Accident = Callable[[bytearray, int, random.Random], None]
#: Characters that mean something to some reader of text.
TELLING = b"\0\t\n\r\x1b \"'()*+,-./0189:;<=>[\\]{|}\x7f\x80\xc3\xed\xff"


def flip(data: bytearray, at: int, chance: random.Random) -> None:
    """One bit."""
    data[at] ^= 1 << chance.randrange(8)


def extreme(data: bytearray, at: int, chance: random.Random) -> None:
    """A number that some length field does not expect."""
    size = chance.choice((1, 2, 4))
    value = chance.choice(EXTREMES) & ((1 << 8 * size) - 1)
    data[at : at + size] = value.to_bytes(size, chance.choice(("little", "big")))


def cut(data: bytearray, at: int, chance: random.Random) -> None:
    """A part, or all that follows."""
    del data[at : chance.choice((at + 1, at + 4, at + 60, len(data)))]


def repeat(data: bytearray, at: int, chance: random.Random) -> None:
    """A part twice."""
    data[at:at] = data[at : at + chance.choice((4, 24, 200))]


def noise(data: bytearray, at: int, chance: random.Random) -> None:
    """Random bytes in place of others."""
    size = min(chance.choice((2, 8, 40)), len(data) - at)
    data[at : at + size] = chance.randbytes(size)


def letter(data: bytearray, at: int, chance: random.Random) -> None:
    """A character of meaning, in place of another or between two."""
    data[at : at + chance.randrange(2)] = bytes([chance.choice(TELLING)])


def number(data: bytearray, at: int, chance: random.Random) -> None:
    """Other digits where digits stand, perhaps far too many."""
    end = at
    while end < len(data) and 48 <= data[end] < 58:
        end += 1
    data[at:end] = chance.choice((b"", b"-1", b"0", b"1e999", b"NaN", b"9" * chance.choice((1, 10, 19, 400))))


def move(data: bytearray, at: int, chance: random.Random) -> None:
    """A line goes elsewhere."""
    start, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at) + 1 or len(data)
    line = data[start:end]
    del data[start:end]
    there = data.rfind(b"\n", 0, chance.randrange(len(data) + 1)) + 1
    data[there:there] = line


BINARY: tuple[Accident, ...] = (flip, flip, extreme, extreme, cut, repeat, noise)
TEXT: tuple[Accident, ...] = (flip, cut, repeat, noise, letter, letter, number, number, move)


def damaged(content: bytes, chance: random.Random, accidents: tuple[Accident, ...] = BINARY) -> bytes:
    """The content after one to eight accidents."""
    data = bytearray(content)
    for _ in range(chance.randrange(1, 9)):
        if data:
            chance.choice(accidents)(data, chance.randrange(len(data)), chance)
    return bytes(data)
