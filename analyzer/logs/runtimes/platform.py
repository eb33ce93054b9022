"""The platform's own lines in text form: INIT_START, START, END, REPORT, crashes, extensions of AWS Lambda.

REPORT is a bag of `Key: value` pairs: what it holds has grown over the years (Init Duration, Restore Duration, Status,
Error Type), X-Ray adds a second line to it, and copy and paste turns its tabs into spaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from analyzer.logs.records import RuntimeLine
from analyzer.model.times import MS

RANK = 0
#: First letters of every form: most lines are refused by one look.
FIRST = frozenset("SERITLUX")
BEGINS = ("START RequestId: ", "INIT_START Runtime", "RESTORE_START Runtime")
ENDS = ("REPORT RequestId: ",)
NEEDLES = (
    "END RequestId: ", " Error: Runtime exited", " Error: fork/exec", "Process exited before",
    "INIT_REPORT Init", "RESTORE_REPORT Restore", "Unknown application error",
)  # fmt: skip

_ID = r"(?P<id>[0-9a-fA-FxX]{8}-[0-9a-fA-FxX-]{4,40})"
_START = re.compile(rf"START RequestId: {_ID}(?:\s+Version: (?P<version>\S+))?\s*$")
_END = re.compile(rf"END RequestId: {_ID}\s*$")
_REPORT = re.compile(
    rf"REPORT RequestId: {_ID}\s+(?P<bag>(?:Init )?Duration: [^\n]*)(?:\n(?P<xray>XRAY TraceId: [^\n]*))?"
)
_DIED = re.compile(
    rf"RequestId: {_ID} (?:Error: (?P<why>Runtime exited[^\n]*|fork/exec [^\n]*)|Process exited before completing request)"
    r"(?:\n(?P<error_type>Runtime\.\w{1,40}))?"
)
_INIT = re.compile(r"(?P<what>INIT|RESTORE)_START Runtime Version: (?P<runtime>\S+)")
_INIT_REPORT = re.compile(r"(?P<what>INIT|RESTORE)_REPORT (?P<bag>(?:Init|Restore) Duration: [^\n]*)")
_EXTENSION = re.compile(r"(?:EXTENSION|TELEMETRY|LOGS)\s+Name: (?P<name>\S+)\s+State: (?P<state>\w+)")
_UNKNOWN = re.compile(r"Unknown application error occurred(?:\n(?P<error_type>Runtime\.\w{1,40}))?")

#: A value in milliseconds → nanoseconds. Keys of REPORT and of INIT_REPORT.
DURATIONS = {
    "Duration": "duration_ns", "Billed Duration": "billed_ns", "Init Duration": "init_ns",
    "Restore Duration": "restore_ns", "Billed Restore Duration": "billed_restore_ns",
}  # fmt: skip
TEXTS = {"Memory Size": "memory", "Max Memory Used": "max_memory", "Error Type": "error_type", "Phase": "phase"}
#: Keys follow each other without a tab in some lines (`Restore Duration: 1 ms Status: error Error Type: X`).
_PAIR = re.compile(rf"({'|'.join(sorted([*DURATIONS, *TEXTS, 'Status'], key=len, reverse=True))}): ?")


def bag(text: str) -> dict[str, Any]:
    """`Key: value` pairs, separated by tabs or spaces, as attributes."""
    parts = _PAIR.split(text)
    found: dict[str, Any] = {}
    for key, raw in zip(parts[1::2], parts[2::2], strict=False):
        value = raw.strip()
        if key in DURATIONS:
            found[DURATIONS[key]] = _ms(value)
        elif key == "Status":
            found["status"] = value.lower()
        else:
            found[TEXTS[key]] = value
    return {key: value for key, value in found.items() if value not in (None, "")}


def _ms(value: str) -> int | None:
    try:
        return round(float(value.split(maxsplit=1)[0]) * MS) if value else None
    except (ValueError, OverflowError):
        return None


def _start(text: str) -> RuntimeLine | None:
    m = _START.match(text)
    return RuntimeLine("start", text, request_id=m["id"], attrs={"version": m["version"]}) if m else None


def _end(text: str) -> RuntimeLine | None:
    if m := _END.match(text):
        return RuntimeLine("end", text, request_id=m["id"])
    m = _EXTENSION.match(text)
    return RuntimeLine("extension", text, attrs={"name": m["name"], "state": m["state"]}) if m else None


def _r(text: str) -> RuntimeLine | None:
    if m := _REPORT.match(text):
        attrs = bag(m["bag"])
        if m["xray"]:
            attrs["trace_id"] = m["xray"][len("XRAY TraceId: ") :].split("\t")[0][:80]
        return RuntimeLine("report", text, request_id=m["id"], attrs=attrs)
    if m := _DIED.match(text):
        attrs = {k: v for k, v in (("why", m["why"]), ("error_type", m["error_type"])) if v}
        return RuntimeLine("crash", text, request_id=m["id"], attrs=attrs)
    return _init(text)


def _init(text: str) -> RuntimeLine | None:
    if m := _INIT.match(text):
        return RuntimeLine(f"{m['what'].lower()}-start", text, attrs={"runtime": m["runtime"]})
    m = _INIT_REPORT.match(text)
    return RuntimeLine(f"{m['what'].lower()}-report", text, attrs=bag(m["bag"])) if m else None


def _unknown(text: str) -> RuntimeLine | None:
    m = _UNKNOWN.match(text)
    return RuntimeLine("crash", text, attrs={"why": "unknown", "error_type": m["error_type"]}) if m else None


def _xray(text: str) -> RuntimeLine | None:
    return RuntimeLine("xray", text) if text.startswith("XRAY TraceId: ") else None


_FORMS: dict[str, Callable[[str], RuntimeLine | None]] = {
    "S": _start, "E": _end, "T": _end, "L": _end, "R": _r, "I": _init, "U": _unknown, "X": _xray,
}  # fmt: skip


def parse(message: str) -> RuntimeLine | None:
    """A platform line, its numbers in `attrs` (`duration_ns`, `init_ns`, `status`, `memory`), None for anything else."""
    form = _FORMS.get(message[:1])
    return form(message) if form is not None else None


@lru_cache(maxsize=256)
def kebab(name: str) -> str:
    """`initRuntimeDone` as `init-runtime-done`."""
    return re.sub(r"(?<!^)([A-Z])", r"-\1", name).lower()
