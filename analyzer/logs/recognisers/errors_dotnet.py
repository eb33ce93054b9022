"""Errors of .NET and its clients: `SocketException (104): Connection reset by peer`, wrapped in what the library says."""

from __future__ import annotations

import re

from analyzer.logs.recognisers._errors import (
    CONNECT,
    ESTABLISHED,
    FUNCTION,
    KERNEL,
    POOL,
    SERVER,
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

RANK = 51
_NUMBER = re.compile(r"SocketException \((?P<errno>[0-9]{1,5})\)")
_WORDS = re.compile(
    rf"(?:SocketException[^\n]{{0,40}}|HttpRequestException|transport connection): (?P<words>{WORDS})\b"
)
#: How StackExchange.Redis calls what the socket said (PhysicalConnection: `SocketClosed (WriteSocketError/ConnectionReset, …)`).
_ENUM = re.compile(
    r"Socket(?:Closed|Failure) \((?:(?P<doing>Read|Write)SocketError)?/?(?P<name>ConnectionReset|TimedOut|ConnectionAborted)?"
)
_ENUMS = {"ConnectionReset": "ECONNRESET", "TimedOut": "ETIMEDOUT", "ConnectionAborted": "ECONNABORTED"}
_PEERS = (
    re.compile(r"serverEndpoint: (?:Unspecified/)?(?P<peer>[\w.:\[\]-]{3,255}?:[0-9]{1,5})"),
    re.compile(r"\b(?:on|UnableToConnect on) (?P<peer>[\w.-]{1,253}:[0-9]{1,5})/(?:Interactive|Subscription)"),
    re.compile(r"\((?P<peer>[\w.-]{1,253}:[0-9]{1,5})\)"),
    re.compile(r"\[::ffff:(?P<host>[0-9.]{7,15})\]:(?P<port>[0-9]{1,5})"),
)  # fmt: skip
_PACKAGE = re.compile(
    r"\b(StackExchange\.Redis|Npgsql|MySqlConnector|MySql\.Data|Microsoft\.Data\.SqlClient|System\.Data\.SqlClient|MongoDB\.Driver|Amazon\.Runtime|System\.Net\.Http|Grpc\.Net)\b"
)
_LIBRARIES = {
    "StackExchange.Redis": "StackExchange.Redis", "Npgsql": "npgsql", "MySqlConnector": "MySqlConnector", "MySql.Data": "MySql.Data",
    "Microsoft.Data.SqlClient": "SqlClient", "System.Data.SqlClient": "SqlClient", "MongoDB.Driver": "mongodb-csharp",
    "Amazon.Runtime": "aws-sdk-net", "System.Net.Http": "HttpClient", "Grpc.Net": "grpc-dotnet",
}  # fmt: skip

_CONNECTING = ("ConnectAsync", "UnableToConnect", "DoConnect", "Failed to connect to")

ROWS = (
    row("Timeout awaiting response", "StackExchange.Redis", "TIMEOUT", ESTABLISHED, "AsyncTimeout", 5_000,
        adds=r"(?P<elapsed_ms>[0-9]{1,9})ms elapsed, timeout is (?P<ms>[0-9]{1,9})ms"),
    row("Timeout performing", "StackExchange.Redis", "TIMEOUT", ESTABLISHED, "SyncTimeout", 5_000, r"Timeout performing \w{1,30}(?: [^\n]{0,200}?)?\((?P<ms>[0-9]{1,9})ms\)"),
    row("Timeout performing", "StackExchange.Redis", "TIMEOUT", ESTABLISHED, "SyncTimeout", 5_000),
    row("connect to the redis server", "StackExchange.Redis", "TIMEOUT", CONNECT, "ConnectTimeout", 5_000, r"not possible to connect to the redis server.{0,200}ConnectTimeout"),
    row("connect to the redis server", "StackExchange.Redis", "CONNECT_FAILED", CONNECT),
    row("SocketClosed", "StackExchange.Redis", "CLOSED", ESTABLISHED, pattern=r"SocketClosed(?: \(|\b)"),
    row("No connection is a", "StackExchange.Redis", "NOT_CONNECTED", pattern=r"No connection is a(?:ctive/a)?vailable to service this operation"),
    row("clientName: ", "StackExchange.Redis", pattern=r"\bv: (?P<version>[0-9.]{3,20})"),
    row("StackExchange.Redis", "StackExchange.Redis", pattern=r"\(v: (?P<version>[0-9.]{3,20})\)"),
    row("HttpClient.Timeout", "HttpClient", "TIMEOUT", "", "Timeout", 100_000, r"HttpClient\.Timeout of (?P<s>[0-9.]{1,9}) seconds"),
    row("Timeout during reading attempt", "npgsql", "TIMEOUT", ESTABLISHED, "Command Timeout", 30_000),
    row("The operation has timed out", "npgsql", "TIMEOUT", CONNECT, "Timeout", 15_000, r"NpgsqlException.{0,200}The operation has timed out"),
    row("connection pool has been exhausted", "npgsql", "TIMEOUT", POOL, "Timeout", 15_000),
    row("Attempted to read past the end of the stream", "", "CLOSED", ESTABLISHED),
    row("header bytes but only received", "MySqlConnector", "CLOSED", ESTABLISHED, pattern=r"Expected to read [0-9]{1,4} header bytes but only received 0"),
    row("The Command Timeout expired", "MySqlConnector", "TIMEOUT", ESTABLISHED, "DefaultCommandTimeout", 30_000),
    row("selecting a server using", "mongodb-csharp", "TIMEOUT", CONNECT, "ServerSelectionTimeout", 30_000, r"A timeout occurred after (?P<ms>[0-9]{1,9})ms selecting a server"),
    row("obtaining a connection from the pool", "SqlClient", "TIMEOUT", POOL, "Connect Timeout", 15_000),
    row("onnection Timeout Expired", "SqlClient", "TIMEOUT", CONNECT, "Connect Timeout", 15_000),
    row("xecution Timeout Expired", "SqlClient", "TIMEOUT", ESTABLISHED, "Command Timeout", 30_000),
    row("Connect Timeout expired", "MySqlConnector", "TIMEOUT", CONNECT, "ConnectionTimeout", 15_000),
    row("transport-level error has occurred", "SqlClient", "ECONNRESET", ESTABLISHED, by=KERNEL, pattern=r"error has occurred when.{0,120}forcibly closed by the remote host"),
    row("transport-level error has occurred", "SqlClient", "BROKEN", ESTABLISHED),
    row("network-related or instance-specific error", "SqlClient", "CONNECT_FAILED", CONNECT),
    row("SSL connection could not be established", "HttpClient", "CLOSED", TLS, pattern=r"could not be established.{0,200}unexpected EOF or 0 bytes"),
    row("SSL connection could not be established", "HttpClient", "TLS", TLS),
    row("response ended prematurely", "HttpClient", "CLOSED", ESTABLISHED),
    row("HTTP/2 server closed the connection", "HttpClient", "CLOSED", ESTABLISHED, by=SERVER),
    row("respond to a ping request within", "HttpClient", "PING_TIMEOUT", ESTABLISHED, "KeepAlivePingTimeout", 20_000),
    row("Exception while ", "npgsql", "BROKEN", ESTABLISHED, pattern=r"NpgsqlException.{0,40}Exception while (?:reading from|writing to) stream"),
    row("did not properly respond", "", "ETIMEDOUT", CONNECT, by="kernel"),
    row("HttpRequestException", "HttpClient"),
    row("TaskCanceledException", "", "TIMEOUT", "", "CancellationToken", by=FUNCTION, pattern=r"TaskCanceledException: .{0,80}\n.{0,200}TimeoutException"),
)  # fmt: skip


def kernel(body: str) -> Facts | None:
    """The number or strerror's words of a `SocketException`, or the name that StackExchange.Redis gives it."""
    facts: Facts | None = None
    if (m := _NUMBER.search(body)) is not None:
        facts = numbered(int(m["errno"]))
    if facts is None and (m := _WORDS.search(body)) is not None:
        facts = worded(m["words"])
    if facts is None and (m := _ENUM.search(body)) is not None and m["name"]:
        facts = {
            "code": _ENUMS[m["name"]],
            "raised_by": "kernel",
            "told_by": f"SocketError.{m['name']}",
            "stage": ESTABLISHED,
        }
        if m["doing"]:
            facts["syscall"] = m["doing"].lower()
    if facts is not None and "transport connection" in body:
        facts |= (
            {"syscall": "read", "stage": ESTABLISHED}
            if "read data from" in body
            else {"syscall": "write", "stage": ESTABLISHED}
        )
    if facts is not None and "SSL connection could not be established" in body:
        facts["stage"] = TLS
    if facts is not None and any(word in body for word in _CONNECTING):
        facts |= {"syscall": "connect", "stage": CONNECT}
    return facts


NEEDLES = needles(ROWS, "SocketException (", "HttpRequestException", "transport connection", "SocketFailure (")
FAMILY = Family(ROWS, kernel, _PACKAGE, _LIBRARIES, _PEERS)


def recognise(body: str) -> Recognised | None:
    """Kind `error`, as `_errors` documents."""
    return FAMILY.read(body)
