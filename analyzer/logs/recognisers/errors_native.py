"""Errors of Rust, PHP and C clients: `(os error 104)`, `SendRequest ConnectionReset`, `errno=32 Broken pipe`, curl's numbers.

Asked before the families whose words they share: what follows them tells who speaks.
"""

from __future__ import annotations

import re

from analyzer.logs.recognisers._errors import (
    CONNECT,
    ESTABLISHED,
    FUNCTION,
    KERNEL,
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
)
from analyzer.logs.records import Recognised

RANK = 48
_NUMBER = re.compile(
    r"\(os error (?P<os>[0-9]{1,5})\)|\bOs \{ code: (?P<code>[0-9]{1,5}),|\berrno=(?P<errno>[0-9]{1,5}) |\[HY000\] \[(?P<sql>1[01][0-9])\]"
)
_KIND = re.compile(
    r"\b(?:SendRequest|Connect|kind: |Kind)[( ,]{0,3}(?P<name>ConnectionReset|BrokenPipe|ConnectionRefused|ConnectionAborted|TimedOut)\b"
)
_KINDS = {
    "ConnectionReset": "ECONNRESET",
    "BrokenPipe": "EPIPE",
    "ConnectionRefused": "ECONNREFUSED",
    "ConnectionAborted": "ECONNABORTED",
    "TimedOut": "ETIMEDOUT",
}
_WORDS = re.compile(
    rf"(?:\[(?:2002|2006)\] |cURL error (?:7|35|55|56): [^\n]{{0,200}}?|curl: \((?:7|35|55|56)\) [^\n]{{0,200}}?|SQLSTATE\[08006\] \[7\] [^\n]{{0,320}}?failed: |"
    rf"RedisException: |\\ConnectionException: |Failed to open stream: |Unable to connect to tcp://[\w.:\[\]-]{{1,262}} \()(?P<words>{WORDS})\b"
)
_PEERS = (re.compile(r"(?:to|on|url \(https?://|://)[ (]?(?P<host>[\w.-]{1,253}):(?P<port>[0-9]{1,5})\b"), re.compile(r"Failed to connect to (?P<host>[\w.-]{1,253}) port (?P<port>[0-9]{1,5})"), re.compile(r"in connection to (?P<peer>[\w.-]{1,253}:[0-9]{1,5})"))  # fmt: skip
_CONNECTING = re.compile(
    r"tcp connect error|client error \(Connect\)|Connection refused|\[2002\]|ConnectionRefused|error connecting to server|Unable to connect to|Failed to open stream"
)
#: PHP's streams call their own timer's end ETIMEDOUT, and none waits as long as the kernel unless told to (main/network.c).
_PHP_TIMER = re.compile(
    r"\[2002\] |RedisException: |\\ConnectionException: |Failed to open stream: |Unable to connect to tcp://"
)

ROWS = (
    row("failed to lookup address information", "", "ENOTFOUND", RESOLVE, by=KERNEL, pattern=r"lookup address information: (?:Name or service not known|No address|nodename nor)"),
    row("failed to lookup address information", "", "EAI_AGAIN", RESOLVE, by=KERNEL),
    row("client error (SendRequest)", "hyper"),
    row("client error (Connect)", "hyper", stage=CONNECT),
    row("hyper", "hyper", pattern=r"\bhyper(?:::Error|_util)"),
    row("SendRequest", "hyper", pattern=r"SendRequest"),
    row("connection closed before message completed", "hyper", "CLOSED", ESTABLISHED),
    row("IncompleteMessage", "hyper", "CLOSED", ESTABLISHED, pattern=r"hyper::Error\(IncompleteMessage"),
    row("keep-alive timed out", "hyper", "PING_TIMEOUT", ESTABLISHED, "http2_keep_alive_timeout", 20_000),
    row("reading a body from connection", "hyper", "ECONNRESET", ESTABLISHED, by=KERNEL, pattern=r"reading a body from connection: connection reset"),
    row("reading a body from connection", "hyper", "CLOSED", ESTABLISHED),
    row("error sending request for url", "reqwest", adds=r"for url \(https?://(?P<host>[\w.-]{1,253})(?::(?P<port>[0-9]{1,5}))?"),
    row("communicating with the server: ", "tokio-postgres", stage=ESTABLISHED),
    row("communicating with database: ", "sqlx", stage=ESTABLISHED),
    row("error connecting to server: ", "tokio-postgres", stage=CONNECT),
    row("kind: Closed, cause: None", "tokio-postgres", "CLOSED", ESTABLISHED),
    row("bytes at EOF", "sqlx", "CLOSED", ESTABLISHED, pattern=r"expected to read [0-9]{1,9} bytes, got [0-9]{1,9} bytes at EOF"),
    row("unexpected end of file", "", "CLOSED", ESTABLISHED, pattern=r"(?:communicating with (?:the server|database)|connection error): [^\n]{0,80}unexpected end of file"),
    row("without sending TLS close_notify", "rustls", "CLOSED", ESTABLISHED, pattern=r"peer closed connection without sending TLS close_notify"),
    row("deadline has elapsed", "tokio", "TIMEOUT", CONNECT, "connect_timeout", pattern=r"(?:connect error|connecting to server|client error \(Connect\)): [^\n]{0,60}deadline has elapsed"),
    row("deadline has elapsed", "tokio", "TIMEOUT", "", "tokio::time::timeout", pattern=r"(?:^|: |\()deadline has elapsed", by=FUNCTION),
    row("Timeout expired", "tonic", "TIMEOUT", "", "timeout", pattern=r"message: \"Timeout expired"),
    row("source: TimedOut", "reqwest", "TIMEOUT", "", "timeout", pattern=r"reqwest::Error.{0,300}source: TimedOut"),
    row("operation timed out", "reqwest", "TIMEOUT", "", "timeout", pattern=r"(?:error sending request|reqwest|source: TimedOut).{0,300}operation timed out"),
    row("PoolTimedOut", "sqlx", "TIMEOUT", POOL, "acquire_timeout", 30_000),
    row("pool timed out while waiting for an open connection", "sqlx", "TIMEOUT", POOL, "acquire_timeout", 30_000),
    row("cURL error 28", "curl", "TIMEOUT", CONNECT, "CURLOPT_CONNECTTIMEOUT", 300_000, r"cURL error 28: (?:Connection timed out|Connection timeout|Failed to connect.{0,80}) after (?P<ms>[0-9]{1,9}) (?:ms|milli)"),
    row("cURL error 28", "curl", "TIMEOUT", ESTABLISHED, "CURLOPT_TIMEOUT", pattern=r"cURL error 28: (?:Operation timed out after (?P<ms>[0-9]{1,9}) milli)?"),
    row("cURL error 52", "curl", "CLOSED", ESTABLISHED, own="CURLE_GOT_NOTHING"),
    row("cURL error 56", "curl", "BROKEN", ESTABLISHED, own="CURLE_RECV_ERROR"),
    row("cURL error 55", "curl", "BROKEN", ESTABLISHED, own="CURLE_SEND_ERROR"),
    row("cURL error 35", "curl", "CLOSED", TLS, own="CURLE_SSL_CONNECT_ERROR", pattern=r"cURL error 35: .{0,80}(?:SSL_ERROR_SYSCALL|unexpected eof)"),
    row("cURL error 35", "curl", "TLS", TLS, own="CURLE_SSL_CONNECT_ERROR"),
    row("cURL error 60", "curl", "TLS", TLS, own="CURLE_PEER_FAILED_VERIFICATION"),
    row("cURL error 92", "curl", "RST_STREAM", ESTABLISHED, own="CURLE_HTTP2_STREAM"),
    row("cURL error 6:", "curl", "ENOTFOUND", RESOLVE, own="CURLE_COULDNT_RESOLVE_HOST"),
    row("cURL error 7:", "curl", "CONNECT_FAILED", CONNECT, own="CURLE_COULDNT_CONNECT"),
    row("curl: (28)", "curl", "TIMEOUT", "", "--max-time", pattern=r"curl: \(28\) [^\n]{0,80}?after (?P<ms>[0-9]{1,9}) (?:ms|milli)"),
    row("curl: (56)", "curl", "BROKEN", ESTABLISHED, own="CURLE_RECV_ERROR"),
    row("curl: (52)", "curl", "CLOSED", ESTABLISHED, own="CURLE_GOT_NOTHING"),
    row("SQLSTATE[HY000]", "pdo", "CLOSED", ESTABLISHED, pattern=r"\[HY000\].{0,40}(?:2006 MySQL server has gone away|2013 Lost connection)"),
    row("SQLSTATE[HY000]", "pdo", "CLOSED", ESTABLISHED, pattern=r"General error: 7 (?:server closed the connection|SSL connection has been closed|no connection to the server)"),
    row("SQLSTATE[", "pdo", "TIMEOUT", CONNECT, "PDO::ATTR_TIMEOUT", 30_000, r"SQLSTATE\[08006\] \[7\] .{0,320}timeout expired|\[HY000\] \[2002\] Connection timed out"),
    row("SQLSTATE[", "pdo", pattern=r"SQLSTATE\[(?:HY000|08006)\]"),
    row("mysqli_sql_exception", "mysqli", "CLOSED", ESTABLISHED, pattern=r"mysqli_sql_exception: (?:MySQL server has gone away|Lost connection to MySQL)"),
    row("RedisException", "phpredis", "TIMEOUT", CONNECT, "timeout", 60_000, r"RedisException: (?:Connection|Operation) timed out"),
    row("RedisException", "phpredis", "CLOSED", ESTABLISHED, pattern=r"RedisException: (?:Connection lost|Redis server (?:(?P<peer>[\w.-]{1,253}:[0-9]{1,5}) )?went away)"),
    row("RedisException", "phpredis", "BROKEN", ESTABLISHED, pattern=r"RedisException: (?:read error on connection(?: to (?P<peer>[\w.-]{1,253}:[0-9]{1,5}))?|socket error on (?:read|write) socket)"),
    row("RedisException", "phpredis", pattern=r"RedisException: "),
    row("Predis", "predis", "TIMEOUT", CONNECT, "timeout", 5_000, r"Predis\\Connection\\ConnectionException: (?:Connection|Operation) timed out"),
    row("Predis", "predis", "BROKEN", ESTABLISHED, pattern=r"ConnectionException: Error while (?:reading|writing) (?:line|bytes) (?:from|to) the server"),
    row("Predis", "predis", adds=r"\[tcp://(?P<peer>[\w.-]{1,253}:[0-9]{1,5})"),
    row("Idle timeout reached for", "symfony", "TIMEOUT", ESTABLISHED, "timeout", 60_000, r"Idle timeout reached for \\?\"https?://(?P<host>[\w.-]{1,253})(?::(?P<port>[0-9]{1,5}))?"),
    row("Connection timed out", "php", "TIMEOUT", CONNECT, "default_socket_timeout", 60_000, r"(?:Failed to open stream: |Unable to connect to tcp://(?P<peer>[\w.-]{1,253}:[0-9]{1,5}) \()Connection timed out"),
    row("errno=", "php", pattern=r"(?:fwrite|fread|send of|recv of|SSL).{0,80}errno=[0-9]{1,5} "),
)  # fmt: skip


def kernel(body: str) -> Facts | None:
    """The number or the name of an `io::Error`; None where it speaks of no connection."""
    facts: Facts | None = None
    for m in _NUMBER.finditer(body):
        if (facts := numbered(int(m[m.lastindex or 0]))) is not None:
            break
    if facts is None and (kind := _KIND.search(body)) is not None:
        by = LIBRARY if kind["name"] == "TimedOut" else KERNEL
        facts = {"code": _KINDS[kind["name"]], "raised_by": by, "told_by": f"ErrorKind::{kind['name']}"}
    if facts is None and (said := _WORDS.search(body)) is not None and not _own_timer(body, said["words"]):
        facts = worded(said["words"]) | ({"stage": TLS} if "rror 35" in body or "curl: (35)" in body else {})
    if facts is not None and _CONNECTING.search(body):
        facts |= {"syscall": "connect", "stage": CONNECT}
    return facts


def _own_timer(body: str, words: str) -> bool:
    """Whether it is PHP's own timer that says so."""
    return "timed out" in words and _PHP_TIMER.search(body) is not None


NEEDLES = needles(
    ROWS,
    "(os error ",
    "Os { code: ",
    "SendRequest",
    "ConnectionReset",
    "errno=",
    "SQLSTATE[",
    "RedisException",
    "Predis",
    "Failed to open stream",
    "Unable to connect to tcp",
)
FAMILY = Family(ROWS, kernel, peers=_PEERS)


def recognise(body: str) -> Recognised | None:
    """Kind `error`, as `_errors` documents."""
    return FAMILY.read(body)
