"""Lines that are JSON objects: the platform's events of the JSON log format, and application lines of every runtime.

Runtimes and loggers agree on the idea and on no name: Node.js, Python, Java, .NET and Go in JSON format, Powertools, pino,
winston, slog. What matters of a line is its stamp, its request id, its level, and a text that recognisers can read: the message
followed by whatever error object stands beside it, written as Node's `util.inspect` would.
"""

from __future__ import annotations

from typing import Any

import orjson

from analyzer.logs.records import LACKS_NOTHING, LACKS_ZONE, RuntimeLine
from analyzer.logs.runtimes.platform import kebab
from analyzer.logs.stamps import quick_iso
from analyzer.model.times import MS, SECOND

RANK = 5
FIRST: frozenset[str] | None = frozenset("{ \n\t")
BEGINS = ("platform.start", "platform.initStart", "platform.restoreStart", "platform.invokeStart")
ENDS = ("platform.report",)
NEEDLES = ("platform.",)

#: A longer message is data, not a line.
LONGEST = 1 << 20
REQUEST_IDS = (
    "requestId", "AWSRequestId", "awsRequestId", "aws_request_id", "function_request_id", "request_id", "lambda_request_id",
)  # fmt: skip
NO_ID = frozenset(("undefined", "-", ""))
MESSAGES = ("message", "msg", "log", "event")
ERRORS = ("err", "error", "exception", "reason", "cause")
#: Of an error object, in the order in which Node prints them.
DETAILS = ("errno", "errorno", "code", "syscall", "address", "port", "hostname", "fatal")
STAMPS = ("timestamp", "time", "@timestamp", "ts", "date")
#: pino's numbers (getpino.io/#/docs/api?id=loggerlevels-object).
LEVELS = {10: "TRACE", 20: "DEBUG", 30: "INFO", 40: "WARN", 50: "ERROR", 60: "FATAL"}
#: Lines of a stack that recognisers see: the timer that made an error stands near the top.
STACK = 12
#: Causes of causes are followed so far.
CAUSES = 8
#: A number of milliseconds since the epoch is above, a number of seconds below (1973 in milliseconds, 5138 in seconds).
MILLISECONDS_FROM = 1e11


def parse(message: str) -> RuntimeLine | None:
    """A line whose whole text is one JSON object, None for any other."""
    text = message.strip()
    if not text.startswith("{") or not text.endswith("}") or len(text) > LONGEST:
        return None
    try:
        entry = orjson.loads(text)
    except ValueError:
        return None
    kind = entry.get("type")
    if isinstance(kind, str) and kind.startswith("platform."):
        return _platform(kind, entry, text)
    return _application(entry, text) if _is_line(entry) else None


def _is_line(entry: dict[str, Any]) -> bool:
    """Whether an object is a log line: a message or an error beside a stamp, a level or a request id."""
    says = any(key in entry for key in (*MESSAGES, *ERRORS, "errorType"))
    return says and any(key in entry for key in ("level", "log_level", "severity", *STAMPS, *REQUEST_IDS))


# ---- the platform's


def _platform(kind: str, entry: dict[str, Any], text: str) -> RuntimeLine:
    record = entry.get("record")
    record = record if isinstance(record, dict) else {}
    line = RuntimeLine(kebab(kind.removeprefix("platform.")[:60]), text, attrs=_attributes(record))
    line.kind = {"fault": "crash", "invoke-start": "start", "invoke-report": "report"}.get(line.kind, line.kind)
    line.request_id = _id(record)
    line.service_ns = _stamp(entry)[0]
    if line.kind == "report" and "billed_ns" not in line.attrs and line.attrs.get("duration_ns") is not None:
        line.attrs["managed"] = True  # Lambda Managed Instances bill the instance, not the invocation
    return line


def _attributes(record: dict[str, Any]) -> dict[str, Any]:
    metrics = record.get("metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    durations = {
        "duration_ns": "durationMs", "billed_ns": "billedDurationMs", "init_ns": "initDurationMs",
        "restore_ns": "restoreDurationMs", "billed_restore_ns": "billedRestoreDurationMs",
    }  # fmt: skip
    found: dict[str, Any] = {name: _ms(metrics.get(key)) for name, key in durations.items()}
    found |= {
        name: f"{metrics[key]} MB"
        for name, key in (("memory", "memorySizeMB"), ("max_memory", "maxMemoryUsedMB"))
        if key in metrics
    }
    names = {
        "status": "status", "error_type": "errorType", "runtime": "runtimeVersion", "phase": "phase", "version": "version",
        "initialization": "initializationType", "name": "name", "state": "state", "reason": "reason", "instance": "instanceId",
    }  # fmt: skip
    found |= {name: str(record[key])[:200] for name, key in names.items() if isinstance(record.get(key), str)}
    found |= {
        name: record.get(key)
        for name, key in (("dropped", "droppedRecords"), ("dropped_bytes", "droppedBytes"))
        if key in record
    }
    return {name: value for name, value in found.items() if value is not None}


def _ms(value: Any) -> int | None:
    return round(value * MS) if isinstance(value, int | float) and abs(value) < 1e12 else None


# ---- the application's


def _application(entry: dict[str, Any], text: str) -> RuntimeLine:
    stamp, lacks = _stamp(entry)
    level = entry.get("level", entry.get("log_level", entry.get("severity")))
    if isinstance(level, int | float):
        level = LEVELS.get(int(level)) if abs(level) < 1e9 else None
    line = RuntimeLine("app", _body(entry, text), stamp, _id(entry), level if isinstance(level, str) else None, lacks)
    if isinstance(entry.get("errorType"), str) and "stackTrace" in entry and not entry.get("message"):
        line.attrs["invoke_error"] = True  # the runtime's own record of an unhandled error has no message
    return line


def _body(entry: dict[str, Any], text: str) -> str:
    """The message, then the error beside it; the whole line where neither is there."""
    message = next((entry[key] for key in MESSAGES if entry.get(key)), None)
    parts = []
    if isinstance(message, str):
        parts.append(message)
    elif isinstance(message, dict):
        parts.append(_error(message) or _nested(message) or orjson.dumps(message).decode())
    own = _error(entry, skip=parts[0] if parts else "")
    parts += [own] if own else []
    for key in ERRORS:
        value = entry.get(key)
        if isinstance(value, dict):
            parts.append(_error(value))
        elif isinstance(value, str) and not any(value in part for part in parts):
            parts.append(value)  # slog, zap and logrus write the error's text
    return "\n".join(part for part in parts if part) or text


def _nested(message: dict[str, Any]) -> str:
    return "\n".join(_error(value) for value in message.values() if isinstance(value, dict))


def _error(error: dict[str, Any], skip: str = "", causes: int = CAUSES) -> str:
    """An error object as `Name: text\\n    at …{ errno: -104, code: 'ECONNRESET' }`; empty where it is none."""
    name = error.get("errorType") or error.get("name") or error.get("exception_name") or error.get("type")
    what = error.get("errorMessage") or (error.get("message") if not skip else None) or error.get("exception")
    details = [f"{key}: {_quoted(error[key])}" for key in DETAILS if isinstance(error.get(key), str | int)]
    stack = error.get("stackTrace") or error.get("stack")
    lines = stack.split("\n") if isinstance(stack, str) else stack if isinstance(stack, list) else []
    if not details and not lines and not (isinstance(what, str) and isinstance(name, str)):
        return ""
    head = (
        f"{name}: {what}" if isinstance(name, str) and isinstance(what, str) else what if isinstance(what, str) else ""
    )
    if skip and isinstance(what, str) and what in skip:
        head = ""
    parts = [head, *(str(line) for line in lines[:STACK] if head not in str(line) or not head)]
    if details:
        parts.append(f"{{ {', '.join(details)} }}")
    nested = [
        _error(error[key], "", causes - 1) for key in ("reason", "cause") if causes and isinstance(error.get(key), dict)
    ]
    return "\n".join(part for part in [*parts, *nested] if part)


def _quoted(value: str | int) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value)


def _id(entry: dict[str, Any]) -> str | None:
    for key in REQUEST_IDS:
        value = entry.get(key)
        if isinstance(value, str) and value not in NO_ID:
            return value[:64]
    return None


def _stamp(entry: dict[str, Any]) -> tuple[int | None, str]:
    """The line's own stamp and what it lacks: ISO 8601 in its spellings, or a number of seconds or milliseconds."""
    for key in STAMPS:
        value = entry.get(key)
        if isinstance(value, str):
            stamp, zoned = quick_iso(value)
            if stamp is not None:
                return stamp, LACKS_NOTHING if zoned else LACKS_ZONE
        elif isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e14:
            return (round(value * MS) if value >= MILLISECONDS_FROM else round(value * SECOND)), LACKS_NOTHING
    return None, LACKS_NOTHING
