"""Names of log streams: how AWS Lambda spells an execution environment's, in lines and in paths."""

from __future__ import annotations

import re

#: `2026/11/21/[$LATEST]32hex`, and `2026/11/21/function[56]32hex` in a log group of several functions.
STREAM = r"\d{4}/\d\d/\d\d/[^\s\[\]]{0,140}\[[^\s\[\]]{1,130}\]\[?[0-9a-fA-F-]{8,64}\]?"
_IN_PATH = re.compile(
    r"(\d{4})[-_](\d\d)[-_](\d\d)[-_]([^/\\\[\]]{0,140}\[[^/\\\[\]]{1,130}\]\[?[0-9a-fA-F-]{8,64}\]?)"
)


def export_of(path: str) -> str | None:
    """The folder of an S3 export in which the stream that a path names has a folder, None where the path names none."""
    m = _IN_PATH.search(path)
    return path[: m.start()] if m else None


def stream_in(path: str) -> str | None:
    """The stream that a path names (an S3 export writes `-` for `/`), None where it names none."""
    m = _IN_PATH.search(path)
    return f"{m[1]}/{m[2]}/{m[3]}/{m[4]}" if m else None
