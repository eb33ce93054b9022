"""The status of a failed RPC in application text, as each gRPC library words it, and what its details say happened to the connection.

A status is the library's; where its details quote the kernel or tell of the connection's end, that is what happened, and the
status only how it was passed on. Mentions of a status (a service configuration's `retryableStatusCodes`) are no failures: a
number, a class or `rpc error` must name it.
"""

from __future__ import annotations

import re

from analyzer.logs.recognisers._errors import (
    CONNECT,
    ESTABLISHED,
    FUNCTION,
    KERNEL,
    LIBRARY,
    RESOLVE,
    SERVER,
    WORDS,
    Facts,
    event,
    worded,
)
from analyzer.logs.records import Recognised

RANK = 46
NEEDLES = (
    "DEADLINE_EXCEEDED",
    "UNAVAILABLE",
    "RST_STREAM",
    "eadline exceeded after ",
    "DeadlineExceeded",
    "code = Unavailable",
    "StatusCode=",
    "ServiceUnavailable: 503",
    "GRPC::",
)

#: google-api-core calls UNAVAILABLE ServiceUnavailable and DEADLINE_EXCEEDED DeadlineExceeded (google/api_core/exceptions.py).
_STATUS = re.compile(
    r"\b(?:(?:4|13|14) |StatusCode[.=]\"?|StatusRuntimeException: |StatusException: |code[=:] ?|code = |RpcError: |Exception: |grpc_status:|exceptions\.|GRPC::)"
    r"(?P<name>DEADLINE_EXCEEDED|UNAVAILABLE|INTERNAL|DeadlineExceeded|Unavailable|ServiceUnavailable|Internal)\b"
)
_DEADLINE = re.compile(r"[Dd]eadline exceeded after (?P<after>[0-9]{1,9}(?:\.[0-9]{1,9})?)s")
_ADDRESS = r"(?:[0-9.]{7,15}|\[[0-9a-f:%.]{2,45}\]):[0-9]{1,5}"
_REMOTE = re.compile(
    r"remote_addr=/?(?:[\w.-]{1,253}/)?(\[[0-9a-f:%.]{2,45}\]:[0-9]{1,5}|[\w.-]{3,253}:[0-9]{1,5})|ipv[46]:([0-9.]{7,15}:[0-9]{1,5}|\[[0-9a-f:%]{2,45}\]:[0-9]{1,5})"
    rf"|\bconnect E[A-Z]{{4,12}} ({_ADDRESS})"
)
#: Go's `read tcp LOCAL->PEER` and `dial tcp PEER`.
_TCP = re.compile(rf"\btcp (?:(?P<local>{_ADDRESS})->)?(?P<peer>{_ADDRESS})")
_ERRNO = re.compile(
    r"\b(?:(?P<syscall>read|write|connect|getaddrinfo) )?(?P<code>ECONNRESET|ETIMEDOUT|EPIPE|ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN)\b"
)
#: Go prints the operation and both ends before the words, C-core the system call.
_WORDS = re.compile(
    rf"(?:\b(?P<syscall>read|write|connect|recvmsg|sendmsg|dial)\b[^\n]{{0,120}}?)?(?<!\w)(?P<words>{WORDS})\b",
    re.IGNORECASE,
)
_STAGES = {"connect": CONNECT, "dial": CONNECT, "getaddrinfo": RESOLVE} | dict.fromkeys(
    ("read", "write", "recvmsg", "sendmsg"), ESTABLISHED
)
#: What they say when the peer ended the connection (grpc-js, C-core, Go, Java), and what C-core said up to 1.2x of any failed read.
_ENDED = re.compile(
    "Connection dropped|[Ss]ocket closed|transport is closing|Network closed for unknown reason|error reading from server: EOF|TCP Read failed|"
    "The response ended prematurely|The HTTP/2 server closed the connection"
)
#: Debug data of the GOAWAY that gRPC servers send a client that pings too often; ENHANCE_YOUR_CALM alone may be about memory.
_TOO_MANY_PINGS = "too_many_pings"
_UNRESOLVED = re.compile(r"(?:[Nn]ame|DNS) resolution failed for (?:target )?(?:dns:/{0,3})?(?P<name>[\w.-]{1,253})")
#: What they say when a keepalive ping was not answered (Go, Java, C-core up to 1.5x and since, grpc-js).
_PING_TIMEOUT = re.compile(
    r"keepalive ping failed to receive ACK|[Kk]eepalive failed|keepalive watchdog timeout|[Kk]eepalive timeout|ping timeout|"
    "server didn't respond to a ping request"
)
#: grpc-go's dialer gave up: a connect may take MinConnectTimeout, and longer as the back-off grows (its dialoptions.go).
_UNDIALLED = re.compile(r"error while dialing: dial tcp [^\n]{1,100}: i/o timeout", re.IGNORECASE)
_RST_STREAM = re.compile(r"RST_STREAM with (?:error )?code:? ?(?P<h2>[0-9]{1,2})")
_LIBRARIES = (
    ("StatusRuntimeException", "grpc-java"), ("rpc error: code = ", "grpc-go"), ("StatusCode.", "grpcio"), ("grpc_status:", "grpcio"),
    ("StatusCode=", "grpc-dotnet"), ("@grpc/grpc-js", "grpc-js"), ("metadata filters: ", "grpc-js"), ("Waiting for LB pick", "grpc-js"),
    ("name resolution: ", "grpc-js"), ("google.api_core", "google-api-core"), ("GRPC::", "grpc-ruby"),
)  # fmt: skip


def recognise(body: str) -> Recognised | None:
    """Kind `error` with `code`: what the details say happened to the connection, else the status; `status`, `after_s` (what the message says that the deadline took), `h2_code` of a stream's reset, `remote`."""
    deadline = _DEADLINE.search(body)
    status = _STATUS.search(body)
    if deadline is None and status is None:
        return None
    name = status["name"].upper() if status is not None else ""
    late = deadline is not None or name.startswith("DEADLINE")
    facts: Facts = {"library": next((name for word, name in _LIBRARIES if word in body), "grpc")}
    if late:
        facts |= {"code": "DEADLINE_EXCEEDED", "raised_by": FUNCTION, "setting": "deadline"}
    elif (said := _details(body)) is not None or name != "INTERNAL":
        facts |= {"status": "INTERNAL" if name == "INTERNAL" else "UNAVAILABLE"}
        facts |= said or {"code": "UNAVAILABLE", "raised_by": LIBRARY}
    else:
        return None  # INTERNAL says nothing of a connection by itself
    if deadline is not None:
        facts["after_s"] = float(deadline["after"])
    if (m := _REMOTE.search(body)) is not None:
        facts["peer"] = next(filter(None, m.groups()))
    if (m := _TCP.search(body)) is not None:
        facts |= {"local": m["local"], "peer": m["peer"]} if m["local"] else {"peer": m["peer"]}
    return event(facts)


def _details(body: str) -> Facts | None:
    """What the details of a status say of the connection: the kernel's word, its end, the server's reason."""
    if (m := _UNRESOLVED.search(body)) is not None:
        return {"code": "UNAVAILABLE", "raised_by": LIBRARY, "stage": RESOLVE, "peer": m["name"]}
    if (m := _ERRNO.search(body)) is not None:
        return {"code": m["code"], "raised_by": KERNEL, "told_by": "details of the status"} | _stage(m["syscall"])
    if _TOO_MANY_PINGS in body:
        return {"code": "ENHANCE_YOUR_CALM", "raised_by": SERVER}
    if _PING_TIMEOUT.search(body) is not None:
        return {"code": "PING_TIMEOUT", "raised_by": LIBRARY, "stage": ESTABLISHED}
    if (m := _WORDS.search(body)) is not None:
        return worded(m["words"]) | _stage(m["syscall"])
    if _UNDIALLED.search(body) is not None:
        return {
            "code": "TIMEOUT",
            "raised_by": LIBRARY,
            "stage": CONNECT,
            "setting": "MinConnectTimeout",
            "default_ms": 20_000,
        }
    if _ENDED.search(body) is not None:
        return {"code": "CLOSED", "raised_by": LIBRARY, "stage": ESTABLISHED}
    if (m := _RST_STREAM.search(body)) is not None:
        return {"code": "RST_STREAM", "raised_by": SERVER, "h2_code": int(m["h2"]), "stage": ESTABLISHED}
    return None


def _stage(syscall: str | None) -> Facts:
    known = _STAGES.get((syscall or "").lower())
    return {"syscall": syscall.lower(), "stage": known} if syscall and known else {}
