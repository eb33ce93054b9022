"""Errors of Ruby and its clients: `Errno::ECONNRESET (Connection reset by peer)`, `Net::ReadTimeout`, `Redis::CannotConnectError`."""

from __future__ import annotations

import re

from analyzer.logs.recognisers._errors import CONNECT, ESTABLISHED, KERNEL, POOL, Facts, Family, needles, row
from analyzer.logs.records import Recognised

RANK = 49
_ERRNO = re.compile(
    r"\bErrno::(?P<code>E(?:CONNRESET|TIMEDOUT|PIPE|CONNREFUSED|HOSTUNREACH|NETUNREACH|CONNABORTED|ADDRNOTAVAIL|MFILE|NOTCONN))\b"
)
_PEERS = (
    re.compile(r"connect\(2\) for \"?(?P<host>[\w.:-]{1,253})\"? port (?P<port>[0-9]{1,5})"),
    re.compile(r"\(rediss?://(?:[^@\s/]{0,100}@)?(?P<peer>[\w.-]{1,253}:[0-9]{1,5})"),
    re.compile(r"(?:to|on) (?P<peer>[\w.-]{1,253}:[0-9]{1,5})\b"),
    re.compile(r"MySQL server (?:on|at) '(?P<host>[\w.-]{1,253})'"),
)  # fmt: skip

ROWS = (
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
    row("PG::UnableToSend", "pg", "CLOSED", ESTABLISHED),
    row("PG::ConnectionBad", "pg", "CLOSED", ESTABLISHED, pattern=r"PG::ConnectionBad: (?:PQ\w{3,30}\(\) )?.{0,60}?(?:server closed the connection|connection is closed|could not receive data)"),
    row("Mysql2::Error", "mysql2-rb", "TIMEOUT", ESTABLISHED, "read_timeout", pattern=r"Mysql2::Error(?:::TimeoutError)?: Timeout waiting for a response"),
    row("Mysql2::Error", "mysql2-rb", "CLOSED", ESTABLISHED, pattern=r"Mysql2::Error(?:::ConnectionError)?: (?:Lost connection|MySQL server has gone away|closed MySQL connection)"),
    row("Mongo::Error::SocketTimeoutError", "mongo-ruby", "TIMEOUT", ESTABLISHED, "socket_timeout"),
    row("Mongo::Error::NoServerAvailable", "mongo-ruby", "TIMEOUT", CONNECT, "server_selection_timeout", 30_000),
    row("ConnectionTimeoutError", "activerecord", "TIMEOUT", POOL, "checkout_timeout", 5_000, r"ActiveRecord::ConnectionTimeoutError(?:.{0,80}within (?P<s>[0-9.]{1,8}) seconds)?"),
    row("SocketError: ", "", "ENOTFOUND", by=KERNEL, pattern=r"SocketError: .{0,80}(?:getaddrinfo|Name or service not known|nodename nor servname)"),
    row("EOFError", "", "CLOSED", ESTABLISHED, pattern=r"\bEOFError: end of file reached|end of file reached \(EOFError\)"),
)  # fmt: skip


def kernel(body: str) -> Facts | None:
    """The errno that names an exception's class."""
    if (m := _ERRNO.search(body)) is None:
        return None
    facts: Facts = {"code": m["code"], "raised_by": KERNEL, "told_by": f"Errno::{m['code']}"}
    if "connect(2)" in body:
        facts |= {"syscall": "connect", "stage": CONNECT}
    return facts


NEEDLES = needles(ROWS, "Errno::E")
FAMILY = Family(ROWS, kernel, peers=_PEERS)


def recognise(body: str) -> Recognised | None:
    """Kind `error`, as `_errors` documents."""
    return FAMILY.read(body)
