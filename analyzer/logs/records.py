"""What passes between the three stages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

#: A message is inspected up to here; longer ones are data, and no recogniser needs more.
INSPECT = 16_384

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(slots=True)
class LogRecord:
    """One log event as its envelope gives it: where it stands, its stamp, its stream (= environment), its message."""

    ref: str
    message: str
    event_ns: int | None = None
    stream: str | None = None
    event_id: str | None = None


@dataclass(slots=True)
class RuntimeLine:
    """A message after its runtime's prefix: `kind` is `app` or one of the platform kinds of `runtimes.platform`."""

    kind: str
    body: str
    inner_ns: int | None = None
    request_id: str | None = None
    level: str | None = None
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Recognised:
    """What a recogniser read out of a body."""

    layer: str
    kind: str
    inner_ns: int | None = None
    pid: str | None = None
    version: str | None = None
    tracer: str | None = None
    number: str | None = None
    remote: str | None = None
    attrs: dict[str, Any] = field(default_factory=dict)
