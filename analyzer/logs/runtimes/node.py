"""The Node.js runtime's prefix: `ISO⇥request id⇥LEVEL⇥message` (aws-lambda-nodejs-runtime-interface-client, LogPatch)."""

from __future__ import annotations

import re

from analyzer.logs.records import RuntimeLine
from analyzer.model.times import parse_iso

RANK = 10

#: The id is `undefined` (runtime client 3) or `-` (4) before the first invocation; Node 8 had no LEVEL column.
_LINE = re.compile(
    r"(?P<ts>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)\t(?P<id>[^\t\n]{0,64})\t"
    r"(?:(?P<level>TRACE|DEBUG|INFO|WARN|ERROR|FATAL)\t)?(?P<body>.*)",
    re.DOTALL,
)
NO_ID = frozenset(("undefined", "-", ""))


def parse(message: str) -> RuntimeLine | None:
    """The message without its prefix. The id is the runtime's *current* one: after a thaw it may still be the previous."""
    m = _LINE.match(message)
    if m is None:
        return None
    request_id = None if m["id"] in NO_ID else m["id"]
    return RuntimeLine("app", m["body"].rstrip("\n"), parse_iso(m["ts"]), request_id, m["level"])
