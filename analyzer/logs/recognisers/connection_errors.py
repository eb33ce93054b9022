"""Connection errors in application text: which errno, who raised it, and towards whom.

Kernel errors of Node.js carry a numeric `errno`, the syscall and, for a connect, the address. An ETIMEDOUT that a
library's own timer made has none of these (ioredis and mysql2 even spell the key `errorno`).
"""

from __future__ import annotations

import re

from analyzer.logs.records import Recognised
from analyzer.model.addresses import normal

RANK = 50
NEEDLES = (
    "ECONNRESET", "ETIMEDOUT", "EPIPE", "ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "ENOTFOUND", "EAI_AGAIN",
    "socket hang up", "other side closed", "DEADLINE_EXCEEDED", "UNAVAILABLE", "Deadline exceeded", "[Errno ",
    "Socket closed unexpectedly", "Connection terminated", "PROTOCOL_CONNECTION_LOST", "This socket has been ended",
    "Connection lost: The server closed", "max number of clients",
)  # fmt: skip

_NODE = re.compile(
    r"(?P<syscall>connect|read|write|getaddrinfo) (?P<code>ECONNRESET|ETIMEDOUT|EPIPE|ECONNREFUSED|EHOSTUNREACH|"
    r"ENETUNREACH|ENOTFOUND|EAI_AGAIN)(?: (?P<addr>[\w.:\[\]-]{3,80}))?"
)
_CODE = re.compile(
    r"\b(?P<code>ECONNRESET|ETIMEDOUT|EPIPE|ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN)\b"
)
_NUMERIC = re.compile(r"\"?errno\"?: (?P<errno>-[0-9]{1,6})")
_SYNTHETIC = re.compile(r"errorno|_onTimeout|listOnTimeout|_handleTimeoutError")
_GRPC = re.compile(r"(?:\b(?P<number>\d{1,2}) )?(?P<name>DEADLINE_EXCEEDED|UNAVAILABLE)\b:? ?(?P<details>.*)")
_DEADLINE = re.compile(r"Deadline exceeded after (?P<after>[0-9]{1,9}(?:\.[0-9]{1,9})?)s")
_REMOTE = re.compile(r"remote_addr=(?P<addr>[\w.:\[\]]{3,60})")
_CLOSED_BY_PEER = re.compile(
    r"This socket has been ended by the other party|socket hang up|other side closed|Socket closed unexpectedly|"
    r"Connection terminated unexpectedly|Connection lost: The server closed|PROTOCOL_CONNECTION_LOST"
)


def recognise(body: str) -> Recognised | None:
    """Kind `error` with `code`, `syscall`, `kernel` (True: numeric errno, False: a library's timer), `remote`."""
    if (m := _DEADLINE.search(body)) is not None or "DEADLINE_EXCEEDED" in body:
        return _grpc(body, "DEADLINE_EXCEEDED", m)
    if (g := _GRPC.search(body)) is not None and g["number"] == "14":
        return _grpc(body, "UNAVAILABLE", None)
    found = Recognised("app", "error")
    if (m := _NODE.search(body)) is not None:
        found.attrs.update(syscall=m["syscall"], code=m["code"])
        found.remote = normal(m["addr"].rstrip(",")) if m["addr"] else None
    elif _CLOSED_BY_PEER.search(body):
        found.attrs["code"] = "EPIPE" if "ended by the other party" in body else "CLOSED"
    elif (m := _CODE.search(body)) is not None:
        found.attrs["code"] = m["code"]
    else:
        return None
    numeric = _NUMERIC.search(body)
    if numeric:
        found.attrs.update(errno=int(numeric["errno"]), kernel=True)
    elif _SYNTHETIC.search(body):
        found.attrs["kernel"] = False
    return found


def _grpc(body: str, code: str, deadline: re.Match[str] | None) -> Recognised:
    found = Recognised("app", "error", attrs={"code": code})
    if deadline is not None:
        found.attrs["after_s"] = float(deadline["after"])
    if (m := _REMOTE.search(body)) is not None:
        found.remote = normal(m["addr"])
    if code == "UNAVAILABLE" and (m := _CODE.search(body)) is not None:
        found.attrs["errno_name"] = m["code"]
    return found
