"""Physical lines to messages: what is a new log event, and what continues the one before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from analyzer.logs.records import ANSI

#: A longer physical line is cut here: no runtime prints one, and memory stays bounded (CloudWatch's limit is 1 MB).
MAX_LINE = 1 << 20
#: A message grows by at most this many continuation lines.
MAX_CONTINUATIONS = 2_000

#: What continues the message above it: indentation, closing braces, blank lines (gRPC options, stack traces, headers).
CONTINUES = re.compile(r"(?:\s|[}\])]|$|caused by\b|Caused by:)")


def lines(stream: BinaryIO) -> Iterator[tuple[int, str]]:
    """(1-based number, text) of every line, decoded and stripped of its line end and of colour codes."""
    number = 0
    while raw := stream.readline(MAX_LINE):
        number += 1
        while not raw.endswith(b"\n") and len(raw) == MAX_LINE:
            if not (more := stream.readline(MAX_LINE)) or more.endswith(b"\n"):
                break
        text = raw.decode("utf-8", "replace").rstrip("\r\n")
        if number == 1:
            text = text.removeprefix("\ufeff")
        yield number, ANSI.sub("", text) if "\x1b" in text else text
