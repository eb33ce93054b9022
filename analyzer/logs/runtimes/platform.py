"""The platform's own lines in text form: INIT_START, START, END, REPORT, time-outs and crashes of AWS Lambda."""

from __future__ import annotations

import re

from analyzer.logs.records import RuntimeLine
from analyzer.model.times import MS, parse_iso

RANK = 0

_ID = r"(?P<id>[0-9a-fA-FxX]{8}-[0-9a-fA-FxX-]{4,40})"
_START = re.compile(rf"START RequestId: {_ID}(?:\s+Version: (?P<version>\S+))?\s*$")
_END = re.compile(rf"END RequestId: {_ID}\s*$")
_REPORT = re.compile(rf"REPORT RequestId: {_ID}\s+(?P<bag>Duration: [^\n]*)")
_TIMEOUT = re.compile(
    rf"(?P<ts>\d{{4}}-\d\d-\d\dT[\d:.]+Z) {_ID} Task timed out after (?P<s>[0-9]{{1,9}}(?:\.[0-9]{{1,9}})?) seconds"
)
_DIED = re.compile(
    rf"RequestId: {_ID} (?:Error: (?P<why>Runtime exited[^\n]*|fork/exec [^\n]*)|Process exited before completing request)"
)
_INIT = re.compile(r"INIT_START Runtime Version: (?P<version>\S+)")
_INIT_REPORT = re.compile(r"INIT_REPORT (?P<bag>Init Duration: [^\n]*)")
_RESTORE = re.compile(r"RESTORE_START Runtime Version: (?P<version>\S+)")
_RESTORE_REPORT = re.compile(r"RESTORE_REPORT (?P<bag>Restore Duration: [^\n]*)")
_EXTENSION = re.compile(r"(?:EXTENSION|TELEMETRY|LOGS)\s+Name: (?P<name>\S+)\s+State: (?P<state>\w+)")

#: First letters of every form: most lines are refused by one look.
_FIRST = frozenset("SERITL0123456789")


def bag(text: str) -> dict[str, str]:
    """`Key: value` pairs, separated by tabs or by runs of spaces (copy and paste turns tabs into spaces)."""
    pairs = re.split(r"\t+| {2,}", text.strip())
    return {key.strip(): value.strip() for key, colon, value in (pair.partition(":") for pair in pairs) if colon}


def _ms(value: str | None) -> int | None:
    try:
        return round(float(value.split()[0]) * MS) if value else None
    except (ValueError, OverflowError):
        return None


def parse(message: str) -> RuntimeLine | None:
    """A platform line, its numbers in `attrs` (`duration_ns`, `init_ns`, `status`, `memory`), None for anything else."""
    if not message or message[0] not in _FIRST:
        return None
    text = message.rstrip()
    if m := _START.match(text):
        return RuntimeLine("start", text, request_id=m["id"], attrs={"version": m["version"]})
    if m := _END.match(text):
        return RuntimeLine("end", text, request_id=m["id"])
    if m := _REPORT.match(text):
        values = bag(m["bag"])
        attrs = {
            "duration_ns": _ms(values.get("Duration")),
            "init_ns": _ms(values.get("Init Duration")),
            "restore_ns": _ms(values.get("Restore Duration")),
            "memory": values.get("Memory Size"),
            "status": values.get("Status", "").lower() or None,
            "error_type": values.get("Error Type"),
        }
        return RuntimeLine("report", text, request_id=m["id"], attrs={k: v for k, v in attrs.items() if v is not None})
    if m := _TIMEOUT.match(text):
        limit = float(m["s"])
        return RuntimeLine("timeout", text, parse_iso(m["ts"]), m["id"], attrs={"timeout_s": limit})
    if m := _DIED.match(text):
        return RuntimeLine("crash", text, request_id=m["id"])
    for kind, form in (("init-start", _INIT), ("restore-start", _RESTORE)):
        if m := form.match(text):
            return RuntimeLine(kind, text, attrs={"runtime": m["version"]})
    for kind, form in (("init-report", _INIT_REPORT), ("restore-report", _RESTORE_REPORT)):
        if m := form.match(text):
            return RuntimeLine(kind, text, attrs={"status": bag(m["bag"]).get("Status")})
    if m := _EXTENSION.match(text):
        return RuntimeLine("extension", text, attrs={"name": m["name"]})
    return None
