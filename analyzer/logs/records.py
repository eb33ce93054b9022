"""What passes between the three stages."""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

#: A message is inspected up to here; longer ones are data, and no recogniser needs more.
INSPECT = 16_384

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


#: What a stamp may lack: nothing, its zone (nanoseconds are then as if it were UTC), or its year too (as if it were `YEARLESS`).
LACKS_NOTHING, LACKS_ZONE, LACKS_YEAR = "", "zone", "year"
#: The year in which a stamp without one is written down: a leap year, so that every day exists.
YEARLESS = 2000


class LogRecord(Struct):
    """One log event as its envelope gives it: where it stands, its stamp, its stream (= environment), its message."""

    ref: str
    message: str
    event_ns: int | None = None
    stream: str | None = None
    event_id: str | None = None
    ingestion_ns: int | None = None
    request_id: str | None = None
    group: str | None = None


class RuntimeLine(Struct):
    """A message after its runtime's prefix: `kind` is `app` or one of the platform kinds of `runtimes.platform`."""

    kind: str
    body: str
    inner_ns: int | None = None
    request_id: str | None = None
    level: str | None = None
    lacks: str = LACKS_NOTHING
    attrs: dict[str, Any] = {}
    #: The service's stamp, where the platform prints it into the line (JSON log format).
    service_ns: int | None = None


class Recognised(Struct):
    """What a recogniser read out of a body. `lacks` says what the reader must add to `inner_ns`: zone, or year and zone."""

    layer: str
    kind: str
    inner_ns: int | None = None
    lacks: str = LACKS_NOTHING
    dialect: str | None = None
    pid: str | None = None
    version: str | None = None
    tracer: str | None = None
    number: str | None = None
    remote: str | None = None
    attrs: dict[str, Any] = {}
