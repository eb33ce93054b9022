"""What could not be read, and where: damage is data, not an exception."""

from __future__ import annotations

from msgspec import Struct


class Problem(Struct, frozen=True):
    """One thing in a source that could not be read, or that its format lost.

    `ref` is the place (`#12` a packet, `:7` a line, `[3]` an event of a document, empty for the whole source); `what`
    says what is wrong and what follows from it.
    """

    ref: str
    what: str


class InputError(Exception):
    """An input that cannot be used at all. Its text is one line for a person: what, where, what to do."""


class UnknownNameError(InputError, KeyError):
    """A name of a connection, request, environment or finding that stands for nothing in this trace, or for several things."""

    def __str__(self) -> str:
        return str(self.args[0])
