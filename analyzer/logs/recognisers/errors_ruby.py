"""Errors of Ruby and its clients: `Errno::ECONNRESET (Connection reset by peer)`, `Net::ReadTimeout`, `Redis::CannotConnectError`."""

from __future__ import annotations

import re

from analyzer.logs.recognisers._errors import (
    CONNECT,
    ESTABLISHED,
    KERNEL,
    POOL,
    TLS,
    WORDS,
    Facts,
    Family,
    needles,
    row,
    worded,
)  # fmt: skip
from analyzer.logs.records import Recognised

RANK = 49
_ERRNO = re.compile(
    r"(?:\bErrno::|Connection lost \()(?P<code>E(?:CONNRESET|TIMEDOUT|PIPE|CONNREFUSED|HOSTUNREACH|NETUNREACH|CONNABORTED|ADDRNOTAVAIL|MFILE|NOTCONN))\b"
)
#: Wrappers that hand on strerror's words.
_WORDS = re.compile(
    rf"(?:Faraday::ConnectionFailed|Seahorse::Client::NetworkingError|HTTP::ConnectionError|RedisClient::C\w{{1,20}}Error|Redis::C\w{{1,20}}Error|"
    rf"Excon::Errors?::Socket|PG::ConnectionBad|ActiveRecord::\w{{1,40}}): [^\n]{{0,320}}?\b(?P<words>{WORDS})\b"
)
_THROWN = re.compile(
    r'"errorMessage":\s{0,4}"(?P<message>(?:[^"\\]|\\.){0,4000})",\s{0,8}"errorType":\s{0,4}"Function<(?P<kind>[\w:]{1,100})>"'
)
_CONNECTING = re.compile(r"connect\(2\)|connection to server at|Failed to open TCP connection")
_PEERS = (
    re.compile(r"server at \"(?P<host>[^\"\n]{1,253})\"(?: \([0-9a-f.:]{2,45}\))?, port (?P<port>[0-9]{1,5})"),
    re.compile(r"peeraddr=(?P<peer>[0-9.]{7,15}:[0-9]{1,5})"),
    re.compile(r"connect\(2\) for \"?(?P<host>[\w.:-]{1,253})\"? port (?P<port>[0-9]{1,5})"),
    re.compile(r"\(rediss?://(?:[^@\s/]{0,100}@)?(?P<peer>[\w.-]{1,253}:[0-9]{1,5})"),
    re.compile(r"(?:to|on) (?P<peer>[\w.-]{1,253}:[0-9]{1,5})\b"),
    re.compile(r"MySQL server (?:on|at) '(?P<host>[\w.-]{1,253})'"),
)  # fmt: skip

ROWS = (
    row("SSL_connect SYSCALL", "openssl-rb", "CLOSED", TLS, pattern=r"SSL_connect SYSCALL returned=[0-9] errno=0"),
    row("SSL_connect SYSCALL", "openssl-rb", "BROKEN", TLS),
    row("OpenSSL::SSL::SSLError", "openssl-rb", "TLS", TLS, pattern=r"SSLError: SSL_connect returned=.{0,80}certificate verify failed"),
    row("OpenSSL::SSL::SSLError", "openssl-rb", "CLOSED", ESTABLISHED, pattern=r"SSLError: SSL_(?:read|write): (?:unexpected eof|bad write retry|SSL_ERROR_SYSCALL)"),
    row("Seahorse::Client::NetworkingError", "aws-sdk-ruby"),
    row("Redis::CannotConnectError", "redis-rb", "TIMEOUT", CONNECT, "connect_timeout", 1_000, r"CannotConnectError: (?:Connection timed out|Timed out connecting)"),
    row("RedisClient::CannotConnectError", "redis-rb", "TIMEOUT", CONNECT, "connect_timeout", 1_000, r"CannotConnectError: (?:Connection timed out|Timed out connecting)"),
    row("CannotConnectError", "redis-rb", "CONNECT_FAILED", CONNECT, pattern=r"Redis(?:Client)?::CannotConnectError"),
    row("Redis::TimeoutError", "redis-rb", "TIMEOUT", ESTABLISHED, "timeout", 1_000),
    row("RedisClient::ReadTimeoutError", "redis-rb", "TIMEOUT", ESTABLISHED, "read_timeout", 1_000),
    row("Redis::ConnectionError", "redis-rb", "CLOSED", ESTABLISHED, pattern=r"ConnectionError: Connection lost"),
    row("Redis::", "redis-rb", pattern=r"\bRedis::[A-Z]\w{2,30}Error"),
    row("Net::OpenTimeout", "net/http", "TIMEOUT", CONNECT, "open_timeout", 60_000),
    row("Net::ReadTimeout", "net/http", "TIMEOUT", ESTABLISHED, "read_timeout", 60_000),
    row("Net::WriteTimeout", "net/http", "TIMEOUT", ESTABLISHED, "write_timeout", 60_000),
    row("RedisClient::ConnectionError", "redis-rb", "CLOSED", ESTABLISHED, pattern=r"ConnectionError: EOFError"),
    row("RedisClient::", "redis-rb"),
    row("PG::UnableToSend", "ruby-pg", "CLOSED", ESTABLISHED),
    row("PG::ConnectionBad", "ruby-pg", "CLOSED", ESTABLISHED, pattern=r"PG::ConnectionBad: (?:PQ\w{3,30}\(\) )?.{0,60}?(?:server closed the connection|connection is closed|could not receive data)"),
    row("get socket descriptor", "ruby-pg", "NOT_CONNECTED", pattern=r"PG::ConnectionBad: PQsocket\(\)"),
    row("PG::ConnectionBad", "ruby-pg"),
    row("Mysql2::Error", "mysql2-rb", "TIMEOUT", ESTABLISHED, "read_timeout", pattern=r"Mysql2::Error(?:::TimeoutError)?: Timeout waiting for a response"),
    row("Mysql2::Error", "mysql2-rb", "CLOSED", ESTABLISHED, pattern=r"Mysql2::Error(?:::ConnectionError)?: (?:Lost connection|MySQL server has gone away|closed MySQL connection)"),
    row("Mongo::Error::SocketTimeoutError", "mongo-ruby", "TIMEOUT", ESTABLISHED, "socket_timeout"),
    row("Mongo::Error::NoServerAvailable", "mongo-ruby", "TIMEOUT", CONNECT, "server_selection_timeout", 30_000),
    row("ConnectionTimeoutError", "activerecord", "TIMEOUT", POOL, "checkout_timeout", 5_000, r"ActiveRecord::ConnectionTimeoutError(?:.{0,80}within (?P<s>[0-9.]{1,8}) seconds)?"),
    row("ActiveRecord::", "activerecord"),
    row("Faraday::", "faraday", "TIMEOUT", CONNECT, "open_timeout", pattern=r"Faraday::ConnectionFailed: .{0,120}execution expired"),
    row("Faraday::", "faraday", "CLOSED", ESTABLISHED, pattern=r"Faraday::ConnectionFailed: end of file reached"),
    row("Faraday::", "faraday"),
    row("Excon::Error", "excon", "TIMEOUT", CONNECT, "connect_timeout", 60_000, r"Timeout: connect timeout reached"),
    row("Excon::Error", "excon", "TIMEOUT", ESTABLISHED, "read_timeout", 60_000, r"Timeout: read timeout reached"),
    row("SocketError: ", "", "ENOTFOUND", by=KERNEL, pattern=r"SocketError: .{0,80}(?:getaddrinfo|Name or service not known|nodename nor servname)"),
    row("getaddrinfo", "", "ENOTFOUND", by=KERNEL, pattern=r"getaddrinfo(?:\(3\))?: (?:Name or service not known|nodename nor servname provided)[^\n]{0,60}(?:\)|$|\n)"),
    row("EOFError", "", "CLOSED", ESTABLISHED, pattern=r"\bEOFError:? \(?end of file reached|end of file reached \(EOFError\)"),
)  # fmt: skip


def kernel(body: str) -> Facts | None:
    """The errno that names an exception's class, or strerror's words in a wrapper's message; redis-rb's own timer borrows them."""
    facts: Facts
    if (m := _ERRNO.search(body)) is not None:
        facts = {"code": m["code"], "raised_by": KERNEL, "told_by": f"Errno::{m['code']}"}
    elif (m := _WORDS.search(body)) is not None and not ("Redis" in m[0] and "timed out" in m["words"]):
        facts = worded(m["words"])
    else:
        return None
    if _CONNECTING.search(body):
        facts |= {"syscall": "connect", "stage": CONNECT}
    return facts


NEEDLES = needles(
    ROWS,
    "Function<",
    "Errno::E",
    "NetworkingError",
    "HTTP::ConnectionError",
    "RedisClient::",
    "PG::ConnectionBad",
    "ActiveRecord::",
)
FAMILY = Family(ROWS, kernel, peers=_PEERS)


def recognise(body: str) -> Recognised | None:
    """Kind `error`, as `_errors` documents."""
    return FAMILY.read(_unhandled(body))


def _unhandled(body: str) -> str:
    """What Lambda's runtime prints of an exception that a handler let pass, as Ruby itself would: class, then message."""
    if (m := _THROWN.search(body)) is None:
        return body
    message = m["message"].replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"')
    return f"{m['kind']}: {message}\n{body[m.end() :]}"
