"""Errors of Python and its clients.

An `OSError` prints its number (`[Errno 110]`), or libraries print its arguments (`(104, 'Connection reset by peer')`); a time-out
that `settimeout` made is an `OSError` without one (`TimeoutError: timed out`, `socket.timeout`). libpq prints strerror's words.
Defaults are those of the libraries' own sources.
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
    TLS,
    WORDS,
    Facts,
    Family,
    needles,
    numbered,
    row,
    worded,
)  # fmt: skip
from analyzer.logs.records import Recognised

RANK = 52
_NUMBER = re.compile(
    r"\[Errno (-?[0-9]{1,5})\]|\[WinError ([0-9]{1,5})\]|\bError (-?[0-9]{1,5}) (?:connecting to|while writing)|"
    r"\bsystem error: ([0-9]{1,5})\b|server on .{1,260}?\((1[01][0-9])\)"
)
_ARGUMENTS = re.compile(rf"\((?P<errno>[0-9]{{1,5}}),? ['\"]?(?P<words>{WORDS})['\"]?\)")
_CONNECTING = re.compile(
    r"connecting to|[Cc]ould not connect|[Cc]an.?t connect|Connect call failed|Cannot connect|establish a new connection|"
    r"connection to server at|onnection refused"
)
_CONNECT_CALL = re.compile(r"\.connect\(|create_connection")
_BUSY = re.compile(
    r"(?P<read>reading from|could not receive|\.recv(?:_into)?\(|RemoteDisconnected)|writing to|could not send|\.send(?:all)?\(|BrokenPipe"
)
#: What Python, libpq and the MySQL clients say with strerror's words and no number.
_STRERROR = re.compile(
    rf"(?:ConnectionResetError|BrokenPipeError|ConnectionRefusedError|TimeoutError|OSError|gaierror|failed|server|SSL SYSCALL error|address|host \"[^\"\n]{{1,253}}\"|"
    rf"\bhost [\w.:-]{{1,262}} ssl:\w{{1,20}} \[): ?(?P<words>{WORDS})\b"
)
_PEERS = (
    re.compile(r"(?:reading from|writing to|connecting to) (?P<peer>[\w.-]{1,253}:[0-9]{1,5}|\[[0-9a-f:]{2,39}\]:[0-9]{1,5})"),
    re.compile(r"server at \"(?:[^\"\n]{1,253}\" \()?(?P<host>[^\"\n()]{2,253})[\")], port (?P<port>[0-9]{1,5})"),
    re.compile(r"host \"(?:[^\"\n]{1,253}\" \()?(?P<host>[^\"\n()]{2,253})[\")] and accepting\s{1,4}TCP/IP connections on port (?P<port>[0-9]{1,5})"),
    re.compile(r"host=['\"](?P<host>[^'\"\n]{1,253})['\"], port=(?P<port>[0-9]{1,5})"),
    re.compile(r"Connect call failed \(['\"](?P<host>[0-9a-f.:]{2,45})['\"], (?P<port>[0-9]{1,5})"),
    re.compile(r"Cannot connect to host (?P<peer>[\w.-]{1,253}:[0-9]{1,5})"),
    re.compile(r"endpoint URL: ['\"]?https?://(?P<host>[\w.-]{1,253})(?::(?P<port>[0-9]{1,5}))?"),
    re.compile(r"Connection to (?P<host>[\w.-]{1,253}) timed out"),
    re.compile(r"(?:to host|request body for) https?://(?P<host>[\w.-]{1,253})(?::(?P<port>[0-9]{1,5}))?"),
    re.compile(r"MySQL server (?:on|at) '(?P<host>[\w.-]{1,253})(?::(?P<port>[0-9]{1,5}))?'"),
    re.compile(r"(?:Timeout|AutoReconnect|TimeoutError|error=\w{1,40}\()(?:: |')(?P<peer>[\w.-]{1,253}:[0-9]{1,5}): "),
    re.compile(r"host name \"(?P<host>[^\"\n]{1,253})\""),
    re.compile(r"Failed to resolve '(?P<host>[^'\n]{1,253})'"),
)  # fmt: skip
_PACKAGE = re.compile(r"/(?:site|dist)-packages/([a-z][a-z0-9_]{1,40})/")
_LIBRARIES = {
    "redis": "redis-py", "psycopg2": "psycopg2", "psycopg": "psycopg", "pymysql": "pymysql", "mysql": "mysql-connector",
    "pymongo": "pymongo", "botocore": "botocore", "requests": "requests", "urllib3": "urllib3", "httpx": "httpx", "httpcore": "httpx",
    "aiohttp": "aiohttp", "asyncpg": "asyncpg", "aiomysql": "aiomysql", "kafka": "kafka-python", "pika": "pika", "aiormq": "aio-pika", "aio_pika": "aio-pika",
    "aiobotocore": "botocore", "MySQLdb": "mysqlclient", "pg8000": "pg8000", "pymemcache": "pymemcache",
}  # fmt: skip

#: Lambda prints an exception's name without its module: httpx's own time-outs say nothing else, or httpcore's `timed out`.
_BARE, _NOTHING = r"(?:^|\n)", r": ?(?:timed out)?(?:\n|$)"
_S = r"(?P<s>[0-9]{1,6}(?:\.[0-9]{1,6})?)"

#: Python's asynchronous time-outs carry no message.
_EMPTY_TIMEOUT = re.compile(r"(?:^|\n)(?:asyncio\.exceptions\.|builtins\.)?TimeoutError:? ?(?:\n|$)")
#: Which of asyncpg's timers it was, by the innermost of these in the stack (asyncpg/connection.py: `timeout` 60 s, `command_timeout` none).
_ASYNCPG: tuple[tuple[str, Facts], ...] = (
    ("connect_utils.py", {"stage": CONNECT, "setting": "timeout", "default_ms": 60_000}),
    ("asyncpg/protocol/protocol.pyx", {"stage": ESTABLISHED, "setting": "command_timeout"}),
    ("asyncpg/pool.py", {"stage": POOL, "setting": "timeout"}),
)

#: Clients that print MySQL's own numbers and words alike; a stack tells which it is.
_MYSQL = "pymysql|mysqlclient"

ROWS = (
    # AWS SDK: the outermost wherever it stands. Both time-outs are 60 s (botocore/endpoint.py).
    row("Connect timeout on endpoint URL", "botocore", "TIMEOUT", CONNECT, "connect_timeout", 60_000),
    row("Read timeout on endpoint URL", "botocore", "TIMEOUT", ESTABLISHED, "read_timeout", 60_000),
    row("Could not connect to the endpoint URL", "botocore", "CONNECT_FAILED", CONNECT),
    row("Connection was closed before we received a valid response", "botocore", "CLOSED", ESTABLISHED),
    row("botocore.", "botocore", pattern=r"\bbotocore\.(?:exceptions|httpsession)\."),
    # Redis.
    row("Timeout connecting to server", "redis-py", "TIMEOUT", CONNECT, "socket_connect_timeout"),
    row("Timeout reading from", "redis-py", "TIMEOUT", ESTABLISHED, "socket_timeout", pattern=r"Timeout reading from (?:socket|[\w.-]{1,253}:[0-9]{1,5})"),
    row("Timeout writing to socket", "redis-py", "TIMEOUT", ESTABLISHED, "socket_timeout"),
    row("Connection closed by server", "redis-py", "CLOSED", ESTABLISHED),
    row("Error while reading from", "redis-py"),
    row("connecting to", "redis-py", pattern=r"\bError -?[0-9]{1,5} connecting to"),
    row("while writing to socket", "redis-py", "CLOSED", ESTABLISHED, pattern=r"Error UNKNOWN while writing to socket\. Connection lost"),
    row("while writing to socket", "redis-py"),
    row("redis.exceptions.", "redis-py"),
    # PostgreSQL.
    row("timeout expired", "psycopg", "TIMEOUT", CONNECT, "connect_timeout", pattern=r"(?:failed:|could not connect to server:|connection) timeout expired"),
    row("server closed the connection unexpectedly", "psycopg", "CLOSED", ESTABLISHED),
    row("CERTIFICATE_VERIFY_FAILED", "", "TLS", TLS, own="CERTIFICATE_VERIFY_FAILED"),
    row("[SSL: ", "", "TLS", TLS, pattern=r"\[SSL: (?P<library_code>(?:SSLV3|TLSV1|TLSV13)_ALERT_[A-Z_]{4,40}|WRONG_VERSION_NUMBER|UNSUPPORTED_PROTOCOL|NO_PROTOCOLS_AVAILABLE)\]"),
    row("SSL SYSCALL error: EOF detected", "psycopg", "CLOSED", ESTABLISHED),
    row("SSL SYSCALL error", "psycopg"),
    row("SSL connection has been closed unexpectedly", "psycopg", "CLOSED", ESTABLISHED),
    row("connection already closed", "psycopg", "NOT_CONNECTED", pattern=r"InterfaceError: connection already closed"),
    row("the connection is closed", "psycopg", "NOT_CONNECTED", pattern=r"OperationalError: the connection is closed"),
    row("the connection is lost", "psycopg", "CLOSED", ESTABLISHED, pattern=r"OperationalError: the connection is lost"),
    row("onnection to server at", "psycopg"),
    row("could not connect to server", "psycopg"),
    row("could not translate host name", "psycopg", "ENOTFOUND", RESOLVE),
    row("connection was closed in the middle of operation", "asyncpg", "CLOSED", ESTABLISHED),
    row("unexpected connection_lost() call", "asyncpg", "CLOSED", ESTABLISHED),
    row("connection is closed", "asyncpg", "NOT_CONNECTED", pattern=r"InterfaceError: (?:cannot call [\w.]{1,60}\(\): )?connection is closed"),
    row("couldn't get a connection after", "psycopg_pool", "TIMEOUT", POOL, "timeout", 30_000, rf"get a connection after {_S} sec"),
    row("QueuePool limit", "sqlalchemy", "TIMEOUT", POOL, "pool_timeout", 30_000, rf"connection timed out, timeout {_S}"),
    # MySQL: client errors CR_CONN_HOST_ERROR, CR_SERVER_GONE_ERROR, CR_SERVER_LOST.
    row("mysql.connector.", "mysql-connector", pattern=r"\bmysql\.connector\.errors\."),
    row("t connect to MySQL server", _MYSQL, "TIMEOUT", CONNECT, "connect_timeout", 10_000, r"\(?(?P<library_code>200[23]|2003)?.{0,80}t connect to MySQL server on .{1,260}?\((?:timed out|115)\)"),
    row("onnection to MySQL server", _MYSQL, "TIMEOUT", ESTABLISHED, "read_timeout", pattern=r"Lost connection to MySQL server.{0,80}?\((?:The read operation )?timed out\)", own="2013"),
    row("onnection to MySQL server", _MYSQL, "CLOSED", ESTABLISHED, pattern=r"Lost connection to MySQL server", own="2013"),
    row("MySQL server has gone away", _MYSQL, "CLOSED", ESTABLISHED, own="2006"),
    row("MySQL Connection not available", "mysql-connector", "NOT_CONNECTED"),
    row("(0, '')", "pymysql", "NOT_CONNECTED", pattern=r"InterfaceError\)?:? \(0, ''\)"),
    row("t connect to MySQL server", _MYSQL),
    # MongoDB.
    row("ServerSelectionTimeoutError", "pymongo", "TIMEOUT", CONNECT, "serverSelectionTimeoutMS", 30_000, adds=rf"\bTimeout: {_S}s"),
    row("WaitQueueTimeoutError", "pymongo", "TIMEOUT", POOL, "waitQueueTimeoutMS"),
    row("Timed out while checking out a connection", "pymongo", "TIMEOUT", POOL, "waitQueueTimeoutMS", pattern=rf"connection from connection pool.{{0,80}}?timeout: {_S}"),
    row("NetworkTimeout", "pymongo", "TIMEOUT", ESTABLISHED, "socketTimeoutMS", pattern=r"NetworkTimeout: "),
    row("AutoReconnect", "pymongo", "CLOSED", ESTABLISHED, pattern=r"AutoReconnect: .{0,262}?connection closed"),
    row("AutoReconnect", "pymongo", pattern="AutoReconnect: "),
    # AMQP: the kernel's word that it hands on (its own are in `errors_amqp`).
    row("StreamLostError", "pika"),
    row("Server connection reset", "aio-pika"),
    # HTTP.
    row("requests.exceptions.", "requests"),
    row("read timeout=", "urllib3", "TIMEOUT", ESTABLISHED, "read_timeout", pattern=rf"Read timed out\. \(read timeout={_S}\)"),
    row("connect timeout=", "urllib3", "TIMEOUT", CONNECT, "connect_timeout", pattern=rf"timed out\. \(connect timeout={_S}\)"),
    row("Remote end closed connection without response", "urllib3", "CLOSED", ESTABLISHED, own="RemoteDisconnected"),
    row("Connection broken: IncompleteRead", "urllib3", "CLOSED", ESTABLISHED),
    row("Failed to establish a new connection", "urllib3"),
    row("Failed to resolve", "urllib3", "ENOTFOUND", RESOLVE),
    row("Connection aborted.", "urllib3"),
    row("ConnectTimeout", "httpx", "TIMEOUT", CONNECT, "timeout.connect", 5_000, rf"(?:httpx|httpcore)\.ConnectTimeout\b|{_BARE}ConnectTimeout{_NOTHING}"),
    row("handshake operation timed out", "httpx", "TIMEOUT", TLS, "timeout.connect", 5_000, r"ConnectTimeout: _ssl\.c:[0-9]{1,6}: The handshake"),
    row("ReadTimeout", "httpx", "TIMEOUT", ESTABLISHED, "timeout.read", 5_000, rf"(?:httpx|httpcore)\.ReadTimeout\b|{_BARE}ReadTimeout{_NOTHING}"),
    row("WriteTimeout", "httpx", "TIMEOUT", ESTABLISHED, "timeout.write", 5_000, rf"(?:httpx|httpcore)\.WriteTimeout\b|{_BARE}WriteTimeout{_NOTHING}"),
    row("PoolTimeout", "httpx", "TIMEOUT", POOL, "timeout.pool", 5_000, rf"(?:httpx|httpcore)\.PoolTimeout\b|{_BARE}PoolTimeout{_NOTHING}"),
    row("PoolTimeout", "psycopg_pool", "TIMEOUT", POOL, "timeout", 30_000, r"psycopg_pool\.PoolTimeout\b"),
    row("MemcacheUnexpectedCloseError", "pymemcache", "CLOSED", ESTABLISHED),
    row("Server disconnected without sending a response", "httpx", "CLOSED", ESTABLISHED, own="RemoteProtocolError"),
    row("ReadError", "httpx", "BROKEN", ESTABLISHED, pattern=rf"(?:httpx|httpcore)\.ReadError\b|{_BARE}ReadError{_NOTHING}"),
    row("WriteError", "httpx", "BROKEN", ESTABLISHED, pattern=rf"(?:httpx|httpcore)\.WriteError\b|{_BARE}WriteError{_NOTHING}"),
    row("APITimeoutError", "openai or anthropic", "TIMEOUT", "", "timeout", 600_000, r"APITimeoutError: Request timed out"),
    row("APIConnectionError", "openai or anthropic", "BROKEN", pattern=r"APIConnectionError: Connection error"),
    row("All connection attempts failed", "httpx", "CONNECT_FAILED", CONNECT),
    row("Connection timeout to host", "aiohttp", "TIMEOUT", CONNECT, "timeout.sock_connect", 30_000),
    row("Timeout on reading data from socket", "aiohttp", "TIMEOUT", ESTABLISHED, "timeout.sock_read"),
    row("ServerDisconnectedError", "aiohttp", "CLOSED", ESTABLISHED),
    row("Can not write request body for", "aiohttp", "CLOSED", ESTABLISHED, pattern=r"\[Errno None\] Can not write request body for"),
    row("Cannot write to closing transport", "aiohttp", "CLOSED", ESTABLISHED),
    row("ClientPayloadError", "aiohttp", "CLOSED", ESTABLISHED, pattern=r"ClientPayloadError: Response payload is not completed"),
    row("aiohttp.client_exceptions.", "aiohttp"),
    row("Cannot connect to host", "aiohttp", "CONNECT_FAILED", CONNECT),
    row("Connect call failed", "asyncio", "CONNECT_FAILED", CONNECT),
    row("IncompleteReadError", "asyncio", "CLOSED", ESTABLISHED, pattern=r"IncompleteReadError: "),
    # The standard library: `settimeout`, and deadlines of the function's own.
    row("aiohttp/helpers.py", "aiohttp", "TIMEOUT", "", "timeout.total", 300_000, r"aiohttp/helpers\.py.{0,200}raise asyncio\.TimeoutError"),
    row("asyncio/timeouts.py", "asyncio", "TIMEOUT", "", "asyncio.wait_for", pattern=r"TimeoutError", by=FUNCTION),
    row("asyncio.TimeoutError", "asyncio", "TIMEOUT", "", "asyncio.wait_for", by=FUNCTION),
    row("asyncio.exceptions.TimeoutError", "asyncio", "TIMEOUT", "", "asyncio.wait_for", by=FUNCTION),
    row("TimeoutError: timed out", "python", "TIMEOUT", "", "socket timeout"),
    row("socket.timeout", "python", "TIMEOUT", "", "socket timeout", pattern=r"socket\.timeout: |socket\.timeout\('|timeout\('timed out'"),
    row("urlopen error timed out", "python", "TIMEOUT", "", "socket timeout"),
    row(" operation timed out", "python", "TIMEOUT", "", "socket timeout", pattern=r"\b[Tt]he (?:read|write|handshake) operation timed out"),
    row("handshake timed out", "python", "TIMEOUT", "tls", "socket timeout", pattern=r"_ssl\.c:[0-9]{1,6}: The handshake"),
)  # fmt: skip


def kernel(body: str) -> Facts | None:
    """The number or strerror's words of an `OSError`, or asyncpg's own timer; None where it speaks of no connection."""
    if (waited := _awaited(body)) is not None:
        return waited
    for m in _NUMBER.finditer(body):
        if (facts := numbered(int(m[m.lastindex or 0]))) is not None:
            return facts | _doing(body, facts["code"])
    if (said := _ARGUMENTS.search(body) or _STRERROR.search(body)) is None:
        return None
    facts = worded(said["words"])
    if number := said.groupdict().get("errno"):
        facts |= {"errno": int(number), "told_by": f"errno {number}"}
    return facts | _doing(body, facts["code"])


def _awaited(body: str) -> Facts | None:
    """asyncpg's time-outs: an empty TimeoutError, and the place in the stack tells which of them."""
    if "asyncpg" not in body or _EMPTY_TIMEOUT.search(body) is None:
        return None
    facts: Facts = {"code": "TIMEOUT", "raised_by": LIBRARY, "library": "asyncpg", "told_by": "asyncpg in the stack"}
    for place, found in _ASYNCPG:
        if place in body:
            return facts | found
    return None


def _doing(body: str, code: str) -> Facts:
    """What the socket was doing, as far as the text says; lines of source in a traceback tell less than messages."""
    if _CONNECTING.search(body) or (code not in ("ECONNRESET", "EPIPE") and _CONNECT_CALL.search(body)):
        return {"syscall": "connect", "stage": CONNECT}
    if m := _BUSY.search(body):
        return {"syscall": "read" if m["read"] else "write", "stage": ESTABLISHED}
    return {}


NEEDLES = needles(
    ROWS,
    "asyncpg/",
    "[Errno ",
    "[WinError ",
    "onnection reset by peer",
    "Broken pipe",
    "onnection refused",
    "onnection timed out",
    "ame or service not known",
    "ailure in name resolution",
    "while writing to socket",
)
FAMILY = Family(ROWS, kernel, _PACKAGE, _LIBRARIES, _PEERS)


def recognise(body: str) -> Recognised | None:
    """Kind `error`, as `_errors` documents."""
    return FAMILY.read(body)
