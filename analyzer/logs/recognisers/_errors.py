"""How connection errors in application text are read: a family of libraries is a table of rows, and a body is one error.

An event of kind `error` says in `attrs`:

| name | meaning |
|---|---|
| `code` | what happened, in one vocabulary for all languages: an errno's name (`ETIMEDOUT`, `ECONNRESET` …), or `TIMEOUT` (a timer above the kernel, where the library does not call it ETIMEDOUT), `CLOSED` (the peer ended the connection, no errno), `NOT_CONNECTED` (refused without trying: no usable connection), `POOL_EXHAUSTED`, `CONNECT_FAILED`, `BROKEN` (a connect, an established connection: no cause given), `QUERY_TIMEOUT` (the server ended a statement that ran too long, and said so: the connection lives), `TOO_MANY_CONNECTIONS`, `TLS`, `PING_TIMEOUT` (a keepalive ping was not answered), `ENHANCE_YOUR_CALM` (too many pings), `RST_STREAM` (the stream, not the connection), `DEADLINE_EXCEEDED`, `UNAVAILABLE` |
| `raised_by` | `kernel`: a system call failed; `library`: a client library's own timer or check; `function`: a deadline that the function's own code set; `server`: the peer said so. Absent where the text does not tell |
| `told_by` | what tells who raised it: `errno -110`, `syscall read`, `errorno without errno`, `no address`, `timer in the stack` … |
| `errno`, `syscall` | as printed (libuv prints errno negative) |
| `peer`, `peers`, `local` | `host:port` as printed; all attempts of one connect; the socket's own address |
| `library` | the outermost library that names itself, else the first one in the stack |
| `setting`, `timeout_ms`, `default_ms` | the knob that made a time-out; its value where printed; its default, in milliseconds |
| `stage` | `resolve`, `connect`, `tls`, `established`, `pool` |
| `status` | the gRPC status that passed it on |
| `library_code` | the library's own code: `PROTOCOL_CONNECTION_LOST`, `57P01`, `UND_ERR_SOCKET` |
| `idle_ms`, `elapsed_ms` | how long the connection was idle, how long the operation ran, where the text says so |
| `kernel` | `raised_by == "kernel"`, for time-outs and errnos |

Theory of operation: `kernel` of a family reads the errno, and it decides what happened; rows (the outermost library first) name the
library, or say what happened where there was no errno. A row is asked only where its word stands, and its pattern sees a
window around it: cost is linear whatever the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final

from msgspec import Struct

from analyzer.logs.records import Recognised
from analyzer.model.addresses import normal

Facts = dict[str, Any]

RESOLVE, CONNECT, TLS, ESTABLISHED, POOL = "resolve", "connect", "tls", "established", "pool"
KERNEL, LIBRARY, FUNCTION, SERVER = "kernel", "library", "function", "server"

#: A row's pattern sees so many characters on each side of its word.
WINDOW: Final = 320
#: So many places where a row's word stands are tried.
PLACES: Final = 4
#: Longer names and addresses are no names (RFC 1035: 253 characters, a port, brackets).
LONGEST = 262

#: errno(3) names that speak of connections, and what strerror(3) of glibc calls them.
STRERROR = {
    "Connection reset by peer": "ECONNRESET", "Connection timed out": "ETIMEDOUT", "Connection refused": "ECONNREFUSED",
    "Broken pipe": "EPIPE", "No route to host": "EHOSTUNREACH", "Network is unreachable": "ENETUNREACH",
    "Software caused connection abort": "ECONNABORTED", "Transport endpoint is not connected": "ENOTCONN",
    "Cannot assign requested address": "EADDRNOTAVAIL", "Too many open files": "EMFILE",
    "Name or service not known": "ENOTFOUND", "nodename nor servname provided": "ENOTFOUND",
    "No address associated with hostname": "ENOTFOUND", "Temporary failure in name resolution": "EAI_AGAIN",
    "Operation timed out": "ETIMEDOUT",
}  # fmt: skip
#: Numbers of Linux (errno.h), then macOS, then Winsock; negative ones are getaddrinfo's (netdb.h).
ERRNO = {
    104: "ECONNRESET", 110: "ETIMEDOUT", 111: "ECONNREFUSED", 32: "EPIPE", 113: "EHOSTUNREACH", 101: "ENETUNREACH",
    103: "ECONNABORTED", 107: "ENOTCONN", 99: "EADDRNOTAVAIL", 24: "EMFILE",
    54: "ECONNRESET", 60: "ETIMEDOUT", 61: "ECONNREFUSED", 65: "EHOSTUNREACH", 51: "ENETUNREACH",
    10053: "ECONNABORTED", 10054: "ECONNRESET", 10060: "ETIMEDOUT", 10061: "ECONNREFUSED", 11001: "ENOTFOUND",
    -2: "ENOTFOUND", -3: "EAI_AGAIN", -5: "ENOTFOUND",
}  # fmt: skip
RESOLVER = ("ENOTFOUND", "EAI_AGAIN")
#: A refusal, or no way to the host, is the answer to a connect; a broken pipe never is.
STAGES = (
    dict.fromkeys(RESOLVER, RESOLVE)
    | dict.fromkeys(("ECONNREFUSED", "EADDRNOTAVAIL"), CONNECT)
    | {"EPIPE": ESTABLISHED}
)
TIMERS = ("ETIMEDOUT", "TIMEOUT", "DEADLINE_EXCEEDED")


class Row(Struct, frozen=True):
    """What a library prints, and what it means. A row without a code only names the library or adds a number.

    `pattern` must match for the row to hold; `adds` finds numbers and addresses where they are printed.
    """

    word: str
    library: str = ""
    code: str = ""
    stage: str = ""
    setting: str = ""
    default_ms: int | None = None
    by: str = LIBRARY
    own: str = ""
    pattern: str = ""
    adds: str = ""

    def facts(self, body: str) -> Facts | None:
        """What the row says of this body, None where it is not in it."""
        at = body.find(self.word)
        for _ in range(PLACES):
            if at < 0:
                return None
            start, end = max(at - WINDOW, 0), at + len(self.word) + WINDOW
            m = compiled(self.pattern).search(body, start, end) if self.pattern else None
            if m is not None or not self.pattern:
                more = compiled(self.adds).search(body, start, end) if self.adds else None
                return self._said() | (groups(m) if m else {}) | (groups(more) if more else {})
            at = body.find(self.word, at + 1)
        return None

    def _said(self) -> Facts:
        said = {
            "code": self.code, "library": self.library, "stage": self.stage, "setting": self.setting,
            "default_ms": self.default_ms, "library_code": self.own, "raised_by": self.by if self.code else "",
        }  # fmt: skip
        return {name: value for name, value in said.items() if value not in ("", None)}


def row(
    word: str, library: str = "", code: str = "", stage: str = "", setting: str = "", default_ms: int | None = None,
    pattern: str = "", by: str = LIBRARY, own: str = "", adds: str = "",
) -> Row:  # fmt: skip
    """A row of a table. Groups of `pattern` and `adds`: `ms`, `s` (the timer's value), `idle_ms`, `elapsed_ms`, `peer` or `host` and `port`, `local` or `local_host` and `local_port`, `library_code`, `version`."""
    return Row(word, library, code, stage, setting, default_ms, by, own, pattern, adds)


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """A row's pattern, compiled when it is first asked: most logs speak of one or two libraries."""
    return re.compile(pattern, re.DOTALL)


def needles(rows: Iterable[Row], *others: str) -> tuple[str, ...]:
    """What a body must hold for a family to look at it: the words of rows that make an error, the shortest of those that overlap."""
    words = sorted({each.word for each in rows if each.code} | set(others), key=lambda word: (len(word), word))
    kept: list[str] = []
    for word in words:
        if not any(shorter in word for shorter in kept):
            kept.append(word)
    return tuple(kept)


def groups(m: re.Match[str]) -> Facts:
    """The named groups of a match as facts; numbers of seconds become milliseconds."""
    found: Facts = {}
    for name, text in m.groupdict().items():
        if not text:
            continue
        if name in ("ms", "s"):
            found["timeout_ms"] = round(number(text) * (1000 if name == "s" else 1))
        elif name in ("idle_ms", "elapsed_ms"):
            found[name] = round(number(text))
        elif name in ("host", "local_host"):
            end = "peer" if name == "host" else "local"
            found[end] = joined(text, m.groupdict().get("port" if name == "host" else "local_port"))
        elif name not in ("port", "local_port"):
            found[name] = text
    return found


def number(text: str) -> float:
    """A number with or without thousands separators, at most 15 digits of it."""
    return float(text.replace(",", "")[:15])


def joined(host: str, port: str | int | None) -> str:
    """`host:port`, an IPv6 host in brackets; the host alone where no port is printed."""
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


class Family(Struct, frozen=True):
    """How the errors of one runtime's libraries are read.

    `kernel` reads an errno, None where there is none; without `raised_by` its code is what is printed, and rows may know better.
    `package` finds a library's name in a stack, `libraries` says what it is called. `peers` are patterns of addresses, for
    errors that name theirs outside of what a row sees.
    """

    rows: tuple[Row, ...]
    kernel: Callable[[str], Facts | None]
    package: re.Pattern[str] | None = None
    libraries: Mapping[str, str] = {}
    peers: tuple[re.Pattern[str], ...] = ()

    def read(self, body: str) -> Recognised | None:
        """The error in a body; None where nothing says what happened."""
        printed = self.kernel(body) or {}
        facts = printed if "raised_by" in printed else {}
        library = ""
        for each in self.rows:
            if each.word in body and (said := each.facts(body)) is not None:
                named = str(said.pop("library", ""))
                library = library or named
                _add(facts, said)
        facts = printed | facts
        if "code" not in facts:
            return None
        library = facts.setdefault("library", library)
        if not library or "|" in library:  # one of several: the stack may tell which
            facts["library"] = self.in_stack(body) or library.replace("|", " or ")
        if "peer" not in facts:
            facts["peer"] = self._peer(body)
        return event(facts)

    def in_stack(self, body: str) -> str:
        """The first library in a stack that is known to raise errors of connections, empty for none."""
        if self.package is not None:
            for m in self.package.finditer(body):
                if m[1] in self.libraries:
                    return self.libraries[m[1]]
        return ""

    def _peer(self, body: str) -> str:
        found = next((m for pattern in self.peers if (m := pattern.search(body)) is not None), None)
        return str(groups(found).get("peer", "")) if found is not None else ""


def _add(facts: Facts, said: Facts) -> None:
    """Facts of a further row: they complete what is known, and never contradict it."""
    if "code" in facts and said.get("code", facts["code"]) != facts["code"]:
        said = {name: value for name, value in said.items() if name in ("stage", "peer")}
    if facts.get("raised_by") == KERNEL:
        said = {
            name: value
            for name, value in said.items()
            if name in ("stage", "peer", "library_code", "idle_ms", "version")
        }
    for name, value in said.items():
        facts.setdefault(name, value)


def event(facts: Facts) -> Recognised:
    """The event that facts make: the peer's address in one spelling, what follows from the code, no empty names."""
    code = facts["code"]
    facts.setdefault("stage", STAGES.get(code, ""))
    if "raised_by" not in facts and "errno" in facts:
        facts["raised_by"] = KERNEL
    if facts.get("raised_by") == KERNEL:
        facts["kernel"] = True
    elif "raised_by" in facts and code in TIMERS:
        facts["kernel"] = False
    for name in ("peer", "local"):
        facts[name] = (normal(facts[name]) or facts[name]) if 0 < len(facts.get(name, "")) <= LONGEST else ""
    peer, version = facts["peer"], facts.pop("version", None)
    attrs = {name: value for name, value in facts.items() if value not in ("", None)}
    return Recognised("app", "error", remote=normal(peer) if peer else None, version=version, attrs=attrs)


def worded(text: str) -> Facts:
    """A kernel error told by strerror's words, whatever their case (Go's are small)."""
    return {"code": _BY_WORDS[text.lower()], "raised_by": KERNEL, "told_by": "strerror's words"}


def numbered(number: int) -> Facts | None:
    """A kernel error told by its number, None where it speaks of no connection."""
    code = ERRNO.get(number)
    return {"code": code, "errno": number, "raised_by": KERNEL, "told_by": f"errno {number}"} if code else None


_BY_WORDS = {words.lower(): code for words, code in STRERROR.items()}
#: strerror's words, as a pattern; Go's.
WORDS = "|".join(STRERROR)
SMALL_WORDS = WORDS.lower()
