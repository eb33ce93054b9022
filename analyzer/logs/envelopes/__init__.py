"""Envelopes: one module each, found by being here (or by an entry point). A module has

* `NAME`: for people; * `SHAPE`: for `--shape`; * `EXPECTS`: what its first record looks like;
* `LOST`: what this format does not carry, said of every source read with it;
* `score(head)`: 0 … 1, how well the first characters fit; * `read(stream)`: its `LogRecord`s, in file order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from msgspec import Struct

from analyzer.discovery import modules
from analyzer.logs.records import LogRecord
from analyzer.logs.stream import LogStream
from analyzer.model.problems import InputError, Problem

#: Envelopes that fit nearly as well as the best are named beside it.
NEARLY = 0.1


class Envelope(Protocol):
    """The interface of an envelope module."""

    NAME: str
    SHAPE: str
    EXPECTS: str
    LOST: tuple[str, ...]

    def score(self, head: str) -> float:
        """How well `head` fits, 0 … 1."""

    def read(self, stream: LogStream) -> Iterator[LogRecord | Problem]:
        """The records of a whole file; raises `ValueError` (with a place) where the document cannot be read."""


class Choice(Struct, frozen=True):
    """The envelope that fits best, how well, and which others fit nearly as well."""

    fit: float
    envelope: Envelope | None
    rivals: tuple[str, ...] = ()


def envelopes() -> list[Envelope]:
    """Every envelope module, in a fixed order."""
    found: list[Envelope] = modules(__name__, __path__, "envelopes")
    return found


def named(shape: str) -> Envelope:
    """The envelope of a `SHAPE`; raises `InputError` that lists them."""
    for envelope in envelopes():
        if shape == envelope.SHAPE:
            return envelope
    raise InputError(f"no shape {shape!r}: there are {', '.join(sorted(e.SHAPE for e in envelopes()))}")


def choose(head: str) -> Choice:
    """The envelope that fits `head` best; ties go to the first by name."""
    scored = [(envelope.score(head), -k, envelope) for k, envelope in enumerate(envelopes())]
    fit, _, top = max(scored, key=lambda s: s[:2])
    if fit <= 0:
        return Choice(0.0, None)
    return Choice(fit, top, tuple(e.SHAPE for score, _, e in scored if e is not top and score > fit - NEARLY))
