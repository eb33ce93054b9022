"""`aws logs tail`, formats detailed (stamp, stream, message) and short (stamp to the second, message)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from analyzer.logs.envelopes._lines import MAX_CONTINUATIONS, lines
from analyzer.logs.records import LogRecord
from analyzer.model.times import parse_iso

NAME = "aws logs tail"
LOST: tuple[str, ...] = ()

_DETAILED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?[+-]\d\d:\d\d) (\S*\[[^\]\s]*\]\S*) (.*)", re.DOTALL)
_SHORT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d) (.*)", re.DOTALL)
#: What follows the short stamp when it really is an envelope: a runtime's or the platform's own beginning.
_SHORT_NEXT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z\t|(?:START|END|REPORT) RequestId: |INIT_START |\[[A-Z]+\]\t|\{")


def _match(line: str) -> tuple[int | None, str | None, str] | None:
    if m := _DETAILED.match(line):
        return parse_iso(m[1]), m[2], m[3]
    if m := _SHORT.match(line):
        return parse_iso(m[1]), None, m[2]
    return None


def score(head: str) -> float:
    """The share of lines that carry a tail stamp; 0 unless some really wrap a runtime's line."""
    sample = [line for line in head.splitlines()[:400] if line.strip()]
    detailed = sum(1 for line in sample if _DETAILED.match(line))
    short = sum(1 for line in sample if (m := _SHORT.match(line)) and _SHORT_NEXT.match(m[2]))
    return 0.95 if detailed >= max(1, len(sample) // 20) or short >= max(1, len(sample) // 20) else 0.0


def read(stream: BinaryIO) -> Iterator[LogRecord]:
    """One record a stamped line; lines without a stamp continue it."""
    pending: LogRecord | None = None
    parts: list[str] = []
    for number, line in lines(stream):
        found = _match(line)
        if found is None:
            if pending is not None and len(parts) < MAX_CONTINUATIONS:
                parts.append(line)
            elif line.strip():
                yield LogRecord(ref=f":{number}", message=line)
            continue
        if pending is not None:
            pending.message = "\n".join(parts)
            yield pending
        pending, parts = LogRecord(ref=f":{number}", message="", event_ns=found[0], stream=found[1]), [found[2]]
    if pending is not None:
        pending.message = "\n".join(parts)
        yield pending
