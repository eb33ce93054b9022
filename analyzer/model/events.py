"""One event: something that one source says happened at one time."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

#: What an event speaks of; the column `layer` of the event table.
LAYERS = ("lambda", "app", "grpc", "tcp", "icmp", "http2")


class Event(Struct):
    """An event as read, and what correlation later learns of it.

    `source` and `ref` are the place; `also` the same line in other inputs (one event, several refs). `clock` names the
    clock of `source_ns` (`packet`, `event`: the log service's stamp, `inner`: the one the guest printed). `event_ns` and
    `inner_ns` keep both stamps of a log line. `time_ns` is the aligned time, `error_ns` how far it may be off, `placed_ns` the
    part of that which is the line's own: its stamp is missing or was cut.
    """

    source: str
    ref: str
    layer: str
    kind: str
    text: str
    clock: str = "event"
    source_ns: int | None = None
    event_ns: int | None = None
    inner_ns: int | None = None
    environment: str | None = None
    request_id: str | None = None
    level: str | None = None
    dialect: str | None = None
    pid: str | None = None
    tracer: str | None = None
    number: str | None = None
    remote: str | None = None
    version: str | None = None
    attrs: dict[str, Any] = {}
    also: tuple[tuple[str, str], ...] = ()
    order: int = 0
    time_ns: int = 0
    error_ns: int = 0
    placed_ns: int = 0
    resolution_ns: int = 0  # what its stamp was cut to
    transport: str | None = None
    connection: str | None = None
    invocation: int | None = None
    ingestion_ns: int | None = None  # when the log service took it in: later by ms to tens of seconds, no order

    @property
    def dialect_key(self) -> tuple[str | None, str | None]:
        """Pid and number: what scopes a gRPC transport inside one environment."""
        return self.pid, self.number
