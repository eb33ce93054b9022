"""Fields of Logs Insights as records: what CSV rows, exported JSON and GetQueryResults have in common."""

from __future__ import annotations

from collections.abc import Mapping

from analyzer.logs.records import LogRecord
from analyzer.logs.stamps import utc_ns, zoned_ns
from analyzer.model.times import MS

#: Row counts at which a query's `limit` is the likely end: its default once and now, and its most.
LIMITS = frozenset((1_000, 10_000))


def stamp_ns(value: object) -> int | None:
    """`2025-06-12 10:27:28.809` (UTC without saying so), ISO 8601, or milliseconds since the epoch."""
    if isinstance(value, int | float):
        return int(value) * MS if abs(value) < 1e15 else None
    text = str(value).strip()
    if text.isascii() and text.isdigit() and len(text) < 16:
        return int(text) * MS
    return zoned_ns(text) if text.endswith("Z") or "+" in text[19:] else utc_ns(text[:32])


def record_of(fields: Mapping[str, object], ref: str) -> LogRecord:
    """A record of a row's fields."""
    group = fields.get("@log")
    return LogRecord(
        ref, str(fields.get("@message") or ""), stamp_ns(fields.get("@timestamp") or ""), str(fields.get("@logStream") or "") or None,
        ingestion_ns=stamp_ns(fields.get("@ingestionTime") or ""), request_id=str(fields.get("@requestId") or "") or None,
        group=str(group).partition(":")[2] or None if group else None,
    )  # fmt: skip
