"""The Node.js and .NET runtimes' prefix: `ISO⇥request id⇥LEVEL⇥message`.

aws-lambda-nodejs-runtime-interface-client (LogPatch) and aws-lambda-dotnet (DefaultLogMessageFormatter).
"""

from __future__ import annotations

import re

from analyzer.logs.records import RuntimeLine
from analyzer.logs.stamps import quick_iso

RANK = 10
FIRST: frozenset[str] | None = frozenset("0123456789")

#: The id is `undefined` (runtime client 3) or `-` (4) before the first invocation; Node 8 had no LEVEL column.
_LINE = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?Z)\t([^\t\n]{0,64})\t"
    r"(?:(TRACE|DEBUG|INFO|WARN|ERROR|FATAL|trce|dbug|info|warn|fail|crit)(?:\t|$))?",
    re.ASCII,
)
NO_ID = frozenset(("undefined", "-", ""))
DOTNET: dict[str | None, str] = {
    "trce": "TRACE",
    "dbug": "DEBUG",
    "info": "INFO",
    "warn": "WARN",
    "fail": "ERROR",
    "crit": "FATAL",
}


def parse(message: str) -> RuntimeLine | None:
    """The message without its prefix. The id is the runtime's *current* one: after a thaw it may still be the previous."""
    m = _LINE.match(message)
    if m is None:
        return None
    stamp, name, level = m.groups()
    body = message[m.end() :].rstrip("\n")
    line = RuntimeLine("app", body, quick_iso(stamp)[0], None if name in NO_ID else name, DOTNET.get(level, level))
    if level == "ERROR" and body.startswith(("Invoke Error", "Uncaught Exception", "Unhandled Promise Rejection")):
        line.attrs["invoke_error"] = True
    return line
