"""The status of a failed RPC in application text, as each gRPC library words it: deadline exceeded, or unavailable.

A status is the library's; what the kernel said stands in the details, if at all. Mentions of a status (a service configuration's
`retryableStatusCodes`) are no failures: a number, a class or `rpc error` must name it.
"""

from __future__ import annotations

import re

from analyzer.logs.recognisers._errors import FUNCTION, LIBRARY, WORDS, Facts, event, worded
from analyzer.logs.records import Recognised

RANK = 46
NEEDLES = (
    "DEADLINE_EXCEEDED",
    "UNAVAILABLE",
    "eadline exceeded after ",
    "DeadlineExceeded",
    "code = Unavailable",
    "StatusCode=",
)

_STATUS = re.compile(
    r"\b(?:(?:4|14) |StatusCode[.=]\"?|StatusRuntimeException: |StatusException: |code[=:] ?|code = |RpcError: |Exception: |grpc_status:)"
    r"(?P<name>DEADLINE_EXCEEDED|UNAVAILABLE|DeadlineExceeded|Unavailable)\b"
)
_DEADLINE = re.compile(r"[Dd]eadline exceeded after (?P<after>[0-9]{1,9}(?:\.[0-9]{1,9})?)s")
_REMOTE = re.compile(
    r"remote_addr=/?(?:[\w.-]{1,253}/)?(?P<addr>\[[0-9a-f:%.]{2,45}\]:[0-9]{1,5}|[\w.-]{3,253}:[0-9]{1,5})|ipv[46]:(?P<ip>[0-9.]{7,15}:[0-9]{1,5}|\[[0-9a-f:%]{2,45}\]:[0-9]{1,5})"
)
_ERRNO = re.compile(
    r"\b(?P<code>ECONNRESET|ETIMEDOUT|EPIPE|ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN)\b"
)
_WORDS = re.compile(rf"\b(?P<words>{WORDS})\b", re.IGNORECASE)
_LIBRARIES = (
    ("StatusRuntimeException", "grpc-java"), ("rpc error: code = ", "grpc-go"), ("StatusCode.", "grpcio"), ("grpc_status:", "grpcio"),
    ("StatusCode=", "grpc-dotnet"), ("@grpc/grpc-js", "grpc-js"), ("metadata filters: ", "grpc-js"), ("Waiting for LB pick", "grpc-js"),
    ("name resolution: ", "grpc-js"),
)  # fmt: skip


def recognise(body: str) -> Recognised | None:
    """Kind `error` with `code`, `after_s` (what the message says that the deadline took), `errno_name` (in the details), `remote`."""
    deadline = _DEADLINE.search(body)
    status = _STATUS.search(body)
    if deadline is None and status is None:
        return None
    late = deadline is not None or (status is not None and status["name"].upper().startswith("DEADLINE"))
    facts: Facts = {"code": "DEADLINE_EXCEEDED" if late else "UNAVAILABLE", "raised_by": FUNCTION if late else LIBRARY}
    facts["library"] = next((name for word, name in _LIBRARIES if word in body), "grpc")
    if late:
        facts["setting"] = "deadline"
    if deadline is not None:
        facts["after_s"] = float(deadline["after"])
    if (m := _REMOTE.search(body)) is not None:
        facts["peer"] = m["addr"] or m["ip"]
    if not late and (name := _errno(body)):
        facts["errno_name"] = name
    return event(facts)


def _errno(body: str) -> str:
    """What the kernel said, in the details of a status."""
    if (m := _ERRNO.search(body)) is not None:
        return m["code"]
    return str(worded(m["words"])["code"]) if (m := _WORDS.search(body)) is not None else ""
