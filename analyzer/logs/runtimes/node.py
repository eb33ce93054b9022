"""The Node.js and .NET runtimes' prefix: `ISO⇥request id⇥LEVEL⇥message`.

aws-lambda-nodejs-runtime-interface-client (LogPatch) and aws-lambda-dotnet (DefaultLogMessageFormatter).
"""

from __future__ import annotations

import re
from sys import intern

from analyzer.logs.records import RuntimeLine
from analyzer.logs.stamps import milliseconds_ns, zoned_ns

RANK = 10
FIRST: frozenset[str] | None = frozenset("0123456789")

#: The id is `undefined` (runtime client 3) or `-` (4) before the first invocation; Node 8 had no LEVEL column.
_LINE = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?Z)\t([^\t\n]{0,64})\t"
    r"(?:(TRACE|DEBUG|INFO|WARN|ERROR|FATAL|trce|dbug|info|warn|fail|crit)(?:\t|$))?",
    re.ASCII,
)
#: Characters of a request id: no name of another length is read without the pattern.
ID = 36
NO_ID = frozenset(("undefined", "-", ""))
_DOTNET = {"trce": "TRACE", "dbug": "DEBUG", "info": "INFO", "warn": "WARN", "fail": "ERROR", "crit": "FATAL"}
LEVELS: dict[str | None, str | None] = {None: None} | _DOTNET | {level: level for level in _DOTNET.values()}


def parse(message: str) -> RuntimeLine | None:
    """The message without its prefix. The id is the runtime's *current* one: after a thaw it may still be the previous."""
    parts = message.split("\t", 3) if message[10:11] == "T" else []
    if len(parts) == 4 and parts[2] in LEVELS and len(parts[1]) == ID and "\n" not in parts[1]:
        stamp = milliseconds_ns(parts[0])
    else:
        stamp = None
    if stamp is not None:
        _, name, level, body = parts  # what the pattern says, in half the time
    elif m := _LINE.match(message):
        stamp, name, level, body = zoned_ns(m[1]), m[2], m[3], message[m.end() :]
    else:
        return None
    body = body.rstrip("\n")
    line = RuntimeLine("app", body, stamp, None if name in NO_ID else intern(name), LEVELS[level])
    if level == "ERROR" and body.startswith(("Invoke Error", "Uncaught Exception", "Unhandled Promise Rejection")):
        line.attrs["invoke_error"] = True
    return line
