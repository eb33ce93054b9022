"""The files of one ring buffer (`tcpdump -C/-G/-W`, `dumpcap -b`): names that differ in numbers only, times that follow."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from analyzer.capture.columns import R_LINK, R_TS
from analyzer.capture.containers import Container

#: A file may begin before the one before it ended, by packets that wait in buffers while the files are switched.
OVERLAP_NS = 1_000_000_000

_NUMBER = re.compile(r"\d+")


class First(Struct, frozen=True):
    """A capture file by its first record: time in ns, 0 if unknown, and link type."""

    path: str
    time_ns: int
    link: int


#: A first look reads so many bytes.
LOOK = 1 << 16


def first_of(path: str, stream: BinaryIO) -> First:
    """The first record of a capture."""
    for batch in Container(stream, read_size=LOOK).batches():
        return First(path, int(batch.records[R_TS]), int(batch.records[R_LINK]))
    return First(path, 0, -1)


def pattern(path: str) -> str:
    """The path with `*` for each number of its name: what the files of a ring have in common.

    `tcpdump -C` writes `trace.pcap`, `trace.pcap1`, `trace.pcap2`: a number at the very end may be missing.
    """
    name = Path(path).name
    inner = name.removesuffix(".gz").removesuffix(".zst").removesuffix(".lz4")
    return str(Path(path).with_name(_NUMBER.sub("*", inner.rstrip("0123456789")) + "*" + name[len(inner) :]))


def candidates(files: Iterable[First]) -> list[list[First]]:
    """Captures that could be one, each group in order of time; whether their times follow is known when they are read."""
    groups: dict[tuple[str, int], list[First]] = {}
    for file in files:
        key = (pattern(file.path), file.link) if file.time_ns else (file.path, file.link)
        groups.setdefault(key, []).append(file)
    return [sorted(group, key=lambda file: (file.time_ns, file.path)) for group in groups.values()]
