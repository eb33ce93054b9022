"""Envelopes: one module each, found by being here. A module has

* `NAME`: for people; * `LOST`: what this format does not carry, said of every source read with it;
* `score(head)`: 0 … 1, how well the first bytes fit; * `read(stream)`: its `LogRecord`s, in file order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Protocol

from analyzer.discovery import modules
from analyzer.logs.records import LogRecord
from analyzer.model.problems import Problem


class Envelope(Protocol):
    """The interface of an envelope module."""

    NAME: str
    LOST: tuple[str, ...]

    def score(self, head: str) -> float:
        """How well `head` fits, 0 … 1."""

    def read(self, stream: BinaryIO) -> Iterator[LogRecord | Problem]:
        """The records of a whole file; raises `ValueError` (with a place) where the document cannot be read."""


def envelopes() -> list[Envelope]:
    """Every envelope module, in a fixed order."""
    return modules(__name__, __path__)  # type: ignore[return-value]


def best(head: str) -> tuple[float, Envelope | None]:
    """The envelope that fits `head` best, and how well."""
    scored = [(envelope.score(head), -k, envelope) for k, envelope in enumerate(envelopes())]
    top = max(scored, key=lambda s: s[:2], default=(0.0, 0, None))
    return top[0], top[2] if top[0] > 0 else None
