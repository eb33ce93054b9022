"""How the log events of a case leave CloudWatch: one writer per way to export them."""

import csv
import gzip
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from service import LogEvent

GROUP = "/aws/lambda/orders"


def _iso(event: LogEvent, zone: str = "Z", digits: int = 3) -> str:
    seconds, ms = divmod(event.timestamp_ms, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{ms:03d}".ljust(digits + 1, "0") + zone


def _id(event: LogEvent) -> str:
    return f"{event.timestamp_ms:020d}{event.order:036d}"


def filter_log_events(events: list[LogEvent], folder: Path) -> str:
    """`aws logs filter-log-events --output json`."""
    rows = [
        {
            "logStreamName": event.stream,
            "timestamp": event.timestamp_ms,
            "message": event.message,
            "ingestionTime": event.ingestion_ms,
            "eventId": _id(event),
        }
        for event in events
    ]
    (folder / "lambda.json").write_text(json.dumps({"events": rows, "searchedLogStreams": []}, indent=4) + "\n")
    return "lambda.json"


def tail(events: list[LogEvent], folder: Path) -> str:
    """`aws logs tail GROUP --since 1h > lambda.log`."""
    lines = (f"{_iso(event, '+00:00', 6)} {event.stream} {event.message.rstrip()}\n" for event in events)
    (folder / "lambda.log").write_text("".join(lines))
    return "lambda.log"


def insights(events: list[LogEvent], folder: Path) -> str:
    """Logs Insights, `fields @timestamp, @message, @logStream | sort @timestamp desc`, exported as CSV."""
    with (folder / "logs-insights-results.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["@timestamp", "@message", "@logStream"])
        for event in reversed(events):
            writer.writerow([_iso(event, "").replace("T", " "), event.message, event.stream])
    return "logs-insights-results.csv"


def s3(events: list[LogEvent], folder: Path) -> str:
    """An export task to S3, copied from there: a folder per log stream, in a folder named by the task."""
    task = str(uuid.uuid4())
    for stream in sorted({event.stream for event in events}):
        path = folder / task / stream.replace("/", "-")
        path.mkdir(parents=True)
        lines = (f"{_iso(event)} {event.message}\n" for event in events if event.stream == stream)
        (path / "000000.gz").write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    return task


def firehose(events: list[LogEvent], folder: Path) -> str:
    """A subscription through Firehose to S3: JSON documents, one behind the other, gzipped."""
    documents = []
    for event in events:
        document = {
            "messageType": "DATA_MESSAGE",
            "owner": "123456789012",
            "logGroup": GROUP,
            "logStream": event.stream,
            "subscriptionFilters": ["to-s3"],
            "logEvents": [{"id": _id(event), "timestamp": event.timestamp_ms, "message": event.message}],
        }
        documents.append(json.dumps(document))
    (folder / "to-s3-2026.gz").write_bytes(gzip.compress("".join(documents).encode(), mtime=0))
    return "to-s3-2026.gz"


Export = Callable[[list[LogEvent], Path], str]
