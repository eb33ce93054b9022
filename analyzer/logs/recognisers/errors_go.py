"""Errors of Go's net package and what wraps it: `read tcp 10.0.3.17:40312->10.0.0.1:6379: read: connection reset by peer`.

A `net.OpError` prints operation, network, both addresses and the cause; a cause that names the system call again (`read: …`) is the
kernel's, `i/o timeout` is a deadline above it (net.Dialer.Timeout, SetDeadline), `context deadline exceeded` the function's.
"""

from __future__ import annotations

import re

from analyzer.logs.recognisers._errors import (
    CONNECT,
    ESTABLISHED,
    FUNCTION,
    LIBRARY,
    POOL,
    RESOLVE,
    SERVER,
    SMALL_WORDS,
    TLS,
    Facts,
    Family,
    needles,
    row,
    worded,
)  # fmt: skip
from analyzer.logs.records import Recognised

RANK = 54
#: Go prints `->` or, escaped as JSON, `-\\u003e`.
_OP = re.compile(
    r"\b(?P<op>dial|read|write) (?:tcp|tcp4|tcp6|udp) (?:(?P<local>[\w.:\[\]%-]{3,80}?)(?:->|-\\u003e))?(?P<peer>[\w.\[\]%-][\w.:\[\]%-]{1,260}?)?: "
    rf"(?:(?P<cause>i/o timeout|EOF|use of closed network connection)|lookup (?P<host>[\w.-]{{1,253}})|(?P<call>connect|connectex|read|write|wsarecv|wsasend): (?P<words>{SMALL_WORDS}))"
)
_LOOKUP = re.compile(
    r"\blookup (?P<peer>[\w.-]{1,253})(?: on [\w.:\[\]-]{3,60})?: (?:[^\n]{0,120}?: )?(?P<why>no such host|server misbehaving|i/o timeout|[Tt]emporary failure in name resolution)"
)
_LOOKUPS = {"no such host": "ENOTFOUND", "server misbehaving": "EAI_AGAIN", "i/o timeout": "TIMEOUT"}
_PACKAGE = re.compile(r"\b(go-redis|redigo|go-sql-driver|lib/pq|pgx|mongo-driver|aws-sdk-go-v2|aws-sdk-go)\b")
_LIBRARIES = {
    name: name
    for name in ("go-redis", "redigo", "go-sql-driver", "lib/pq", "pgx", "mongo-driver", "aws-sdk-go-v2", "aws-sdk-go")
}

#: How the MongoDB driver names a connection.
_MONGO = r"connection\((?P<peer>[\w.-]{1,253}:[0-9]{1,5})\[-?[0-9]{1,9}\]\) "

ROWS = (
    row("operation error", "aws-sdk-go-v2", pattern=r"operation error [A-Z][\w ]{1,40}: \w"),
    row("RequestError: send request failed", "aws-sdk-go"),
    row("Client.Timeout", "net/http", "TIMEOUT", "", "Client.Timeout", pattern=r"Client\.Timeout (?:or context cancellation )?(?:exceeded )?while"),
    row("TLS handshake timeout", "net/http", "TIMEOUT", TLS, "TLSHandshakeTimeout", 10_000),
    row("timeout awaiting response headers", "net/http", "TIMEOUT", ESTABLISHED, "ResponseHeaderTimeout"),
    row("server closed idle connection", "net/http", "CLOSED", ESTABLISHED),
    row("client connection lost", "net/http", "PING_TIMEOUT", ESTABLISHED, "PingTimeout", 15_000, pattern=r"http2: client connection lost"),
    row("redis: connection pool timeout", "go-redis", "TIMEOUT", POOL, "PoolTimeout", 4_000),
    row("redis: client is closed", "go-redis", "NOT_CONNECTED"),
    row("bad connection", "database/sql", "CLOSED", ESTABLISHED, pattern=r"driver: bad connection"),
    row("invalid connection", "go-sql-driver", "CLOSED", ESTABLISHED, pattern=r"(?:^|\n|: |\")invalid connection(?:$|\"|\n)"),
    row("[mysql]", "go-sql-driver"),
    row("failed to connect to", "pgx", pattern=r"failed to connect to `"),
    row("dial error", "pgx", stage=CONNECT, pattern=r"dial error: timeout: "),
    row("conn closed", "pgx", "NOT_CONNECTED", pattern=r"(?:^|\n|: )conn closed(?:$|\n|\")"),
    row("incomplete read of message header", "mongo-driver", "CLOSED", ESTABLISHED, pattern=rf"{_MONGO}incomplete read of message header: (?:unexpected )?EOF"),
    row("socket was unexpectedly closed", "mongo-driver", "CLOSED", ESTABLISHED, pattern=rf"{_MONGO}socket was unexpectedly closed"),
    row("erver selection timeout", "mongo-driver", "TIMEOUT", CONNECT, "serverSelectionTimeout", 30_000, r"server selection error: .{0,40}erver selection timeout"),
    row("error reading from server", "grpc-go", "CLOSED", ESTABLISHED, pattern=r"error reading from server: EOF"),
    row("server sent GOAWAY and closed the connection", "net/http", "CLOSED", ESTABLISHED, by=SERVER),
    row("graceful shutdown GOAWAY", "net/http", "CLOSED", ESTABLISHED, by=SERVER),
    row("client conn not usable", "net/http", "NOT_CONNECTED", pattern=r"http2: client conn not usable"),
    row("received from peer", "net/http", "RST_STREAM", ESTABLISHED, by=SERVER, pattern=r"stream error: stream ID [0-9]{1,10}; (?P<library_code>[A-Z_]{3,30}); received from peer"),
    row("remote error: tls: ", "", "TLS", TLS),
    row("failed to verify certificate", "", "TLS", TLS, pattern=r"tls: failed to verify certificate"),
    row("context deadline exceeded", "", "TIMEOUT", "", "context deadline", by=FUNCTION),
    row("use of closed network connection", "", "NOT_CONNECTED", ESTABLISHED),
    row("unexpected EOF", "", "CLOSED", ESTABLISHED, pattern=r"(?:^|: |\"|read )unexpected EOF"),
    row(": EOF", "", "CLOSED", ESTABLISHED, pattern=r"(?:(?:Get|Head|Post|Put|Patch|Delete) \\?\"https?://(?P<host>[\w.-]{1,253})(?::(?P<port>[0-9]{1,5}))?[^\"\n]{0,200}\"|redis|read|tcp|packets\.go:[0-9]{1,5}): EOF"),
)  # fmt: skip


def kernel(body: str) -> Facts | None:
    """A `net.OpError` or a `net.DNSError`; None where there is none."""
    if (m := _LOOKUP.search(body)) is not None:
        return {
            "code": _LOOKUPS.get(m["why"].lower(), "EAI_AGAIN"),
            "stage": RESOLVE,
            "raised_by": LIBRARY,
            "library": "net",
            "peer": m["peer"],
            "told_by": m["why"],
        }
    m = _OP.search(body)
    if m is None or (m["words"] is None and m["cause"] is None):
        return None
    facts: Facts = {name: m[name] for name in ("peer", "local") if m[name]}
    facts |= {
        "syscall": "connect" if m["op"] == "dial" else m["op"],
        "stage": CONNECT if m["op"] == "dial" else ESTABLISHED,
    }
    if m["words"]:
        return facts | worded(m["words"])
    if m["cause"] == "i/o timeout":
        setting = "net.Dialer.Timeout" if m["op"] == "dial" else f"Set{m['op'].title()}Deadline"
        return facts | {"code": "TIMEOUT", "raised_by": LIBRARY, "told_by": "i/o timeout", "setting": setting}
    return facts | {
        "code": "CLOSED" if m["cause"] == "EOF" else "NOT_CONNECTED",
        "raised_by": LIBRARY,
        "told_by": m["cause"],
    }


NEEDLES = needles(ROWS, "dial tcp", "read tcp", "write tcp", "no such host", "server misbehaving")
FAMILY = Family(ROWS, kernel, _PACKAGE, _LIBRARIES)


def recognise(body: str) -> Recognised | None:
    """Kind `error`, as `_errors` documents."""
    return FAMILY.read(body)
