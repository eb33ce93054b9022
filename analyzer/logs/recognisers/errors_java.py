"""Errors of Java and its clients, as an exception's text with its causes, or as a logger's line.

The kernel's words are strerror's (`Connection reset`, `Connection timed out`, `Broken pipe`); `connect timed out` and `Read timed out`
in a `SocketTimeoutException` are the JDK's own timers (java.net.Socket). Defaults are those of the libraries' own sources.
"""

from __future__ import annotations

import re

from analyzer.logs.recognisers._errors import (
    CONNECT,
    ESTABLISHED,
    POOL,
    RESOLVE,
    WORDS,
    Facts,
    Family,
    needles,
    row,
    worded,
)  # fmt: skip
from analyzer.logs.records import Recognised

RANK = 53
_KERNEL = re.compile(
    rf"(?<!\\)\b(?:SocketException|ConnectException|IOException|NativeIoException|NoRouteToHostException|UnknownHostException)[:(][^\n]{{0,160}}?"
    rf"(?P<words>{WORDS}|Connection reset\b)|ConnectionException: (?:\(conn=[0-9]{{1,12}}\) )?(?P<driver>Connection reset(?: by peer)?|Broken pipe)\b"
)
_CONNECTING = ("ConnectException", "NoRouteToHostException", "PlainSocketImpl.socketConnect", "Net.connect(")
_UNKNOWN = re.compile(r"UnknownHostException: (?P<peer>[\w.-]{1,253})")
_PEERS = (
    re.compile(r"Connect to (?:https?://)?[\w.-]{1,253}:[0-9]{1,5} \[[^/\]\n]{0,253}/(?P<host>[0-9a-f.:]{2,45})\]"),
    re.compile(r"(?:Connect to|connecting to|Unable to connect to|connection timed out:|Connection refused:) (?:https?://)?[\w.-]{0,253}[/ ]?(?P<host>[0-9a-f.]{7,15}|\[[0-9a-f:]{2,39}\]|[\w.-]{1,253}):(?P<port>[0-9]{1,5})"),
    re.compile(r"(?<![\w.-])(?P<host>[\w.-]{1,253}):(?P<port>[0-9]{1,5}) failed to respond"),
    re.compile(r"Connection to (?P<host>[\w.-]{1,253}):(?P<port>[0-9]{1,5}) refused"),
)  # fmt: skip
_PACKAGE = re.compile(
    r"\b(software\.amazon\.awssdk|com\.amazonaws|com\.zaxxer\.hikari|io\.lettuce|redis\.clients\.jedis|com\.mysql|org\.postgresql|com\.mongodb|"
    r"org\.apache\.http|org\.apache\.hc|okhttp3|reactor\.netty|io\.netty|org\.mariadb|java\.net\.http|jdk\.internal\.net\.http|sun\.net\.www)\."
)
_LIBRARIES = {
    "software.amazon.awssdk": "aws-sdk-java-v2", "com.amazonaws": "aws-sdk-java-v1", "com.zaxxer.hikari": "hikaricp", "io.lettuce": "lettuce",
    "redis.clients.jedis": "jedis", "com.mysql": "mysql-connector-j", "org.postgresql": "pgjdbc", "com.mongodb": "mongodb-java",
    "org.apache.http": "apache-httpclient", "org.apache.hc": "apache-httpclient", "okhttp3": "okhttp", "reactor.netty": "reactor-netty",
    "io.netty": "netty", "org.mariadb": "mariadb-connector-j", "java.net.http": "java.net.http", "jdk.internal.net.http": "java.net.http",
    "sun.net.www": "HttpURLConnection",
}  # fmt: skip

ROWS = (
    # AWS SDK: the outermost wherever it stands.
    row("ApiCallTimeoutException", "aws-sdk-java-v2", "TIMEOUT", "", "apiCallTimeout", pattern=r"ApiCallTimeoutException(?:.{0,120}configuration: (?P<ms>[0-9]{1,9}) millis)?"),
    row("ApiCallAttemptTimeoutException", "aws-sdk-java-v2", "TIMEOUT", "", "apiCallAttemptTimeout", pattern=r"ApiCallAttemptTimeoutException(?:.{0,120}configuration: (?P<ms>[0-9]{1,9}) millis)?"),
    row("Acquire operation took longer", "aws-sdk-java-v2", "TIMEOUT", POOL, "connectionAcquisitionTimeout", 10_000),
    row("Timeout waiting for connection from pool", "apache-httpclient", "TIMEOUT", POOL, "connectionRequestTimeout"),
    row("software.amazon.awssdk", "aws-sdk-java-v2"),
    row("com.amazonaws.", "aws-sdk-java-v1"),
    row("execute HTTP request", "aws-sdk-java"),
    # Pools and databases.
    row("request timed out after", "hikaricp", "TIMEOUT", POOL, "connectionTimeout", 30_000, r"Connection is not available, request timed out after (?P<ms>[0-9]{1,9})ms"),
    row("validate connection", "hikaricp", "CLOSED", ESTABLISHED, pattern=r"Failed to validate connection"),
    row("Communications link failure", "mysql-connector-j"),
    row("last packet successfully received", "mysql-connector-j", pattern=r"successfully received from the server was (?P<idle_ms>[0-9,]{1,15}) milliseconds ago"),
    row("Can not read response from server", "mysql-connector-j", "CLOSED", ESTABLISHED),
    row("This connection has been closed", "pgjdbc", "NOT_CONNECTED", pattern=r"PSQLException: This connection has been closed"),
    row("PSQLException", "pgjdbc"),
    row("RedisCommandTimeoutException", "lettuce", "TIMEOUT", ESTABLISHED, "timeout", 60_000, r"timed out after (?:(?P<s>[0-9]{1,6}) second|(?P<ms>[0-9]{1,9}) (?:ms|milli))?"),
    row("Unable to connect to", "lettuce", "CONNECT_FAILED", CONNECT, pattern=r"RedisConnectionException: Unable to connect to (?:\[?(?P<peer>[\w.-]{1,253}:[0-9]{1,5})\]?)?"),
    row("RedisConnectionException", "lettuce"),
    row("JedisConnectionException", "jedis", "CLOSED", ESTABLISHED, pattern=r"Unexpected end of stream"),
    row("JedisConnectionException", "jedis", "TIMEOUT", ESTABLISHED, "soTimeout", 2_000, r"SocketTimeoutException: Read timed out"),
    row("JedisConnectionException", "jedis", "TIMEOUT", CONNECT, "connectionTimeout", 2_000, r"SocketTimeoutException: [Cc]onnect timed out"),
    row("JedisConnectionException", "jedis"),
    row("MongoSocketReadTimeoutException", "mongodb-java", "TIMEOUT", ESTABLISHED, "socketTimeoutMS"),
    row("Prematurely reached end of stream", "mongodb-java", "CLOSED", ESTABLISHED),
    row("MongoTimeoutException", "mongodb-java", "TIMEOUT", CONNECT, "serverSelectionTimeoutMS", 30_000, adds=r"Timed out (?:after|while waiting for a server.{0,40}? after) (?P<ms>[0-9]{1,9}) ms"),
    row("MongoSocketOpenException", "mongodb-java"),
    # HTTP.
    row("failed to respond", "apache-httpclient", "CLOSED", ESTABLISHED, pattern=r"NoHttpResponseException|target server failed to respond"),
    row("NoHttpResponseException", "apache-httpclient", "CLOSED", ESTABLISHED),
    row("ConnectTimeoutException", "netty", "TIMEOUT", CONNECT, "CONNECT_TIMEOUT_MILLIS", 30_000, r"io\.netty\.channel\.ConnectTimeoutException"),
    row("ConnectTimeoutException", "apache-httpclient", "TIMEOUT", CONNECT, "connectTimeout", pattern=r"apache\.(?:http|hc)\.[\w.]{0,40}ConnectTimeoutException"),
    row("PrematureCloseException", "reactor-netty", "CLOSED", ESTABLISHED),
    row("HttpConnectTimeoutException", "java.net.http", "TIMEOUT", CONNECT, "connectTimeout"),
    row("HttpTimeoutException", "java.net.http", "TIMEOUT", ESTABLISHED, "timeout", pattern=r"HttpTimeoutException: request timed out"),
    row("header parser received no bytes", "java.net.http", "CLOSED", ESTABLISHED),
    # The JDK.
    row("SocketTimeoutException", "", "TIMEOUT", CONNECT, "connectTimeout", pattern=r"SocketTimeoutException: (?:[^\n]{0,120}failed: )?[Cc]onnect(?:ion)? timed out"),
    row("SocketTimeoutException", "", "TIMEOUT", ESTABLISHED, "soTimeout", pattern=r"SocketTimeoutException: (?:Read timed out|timeout|.{0,40}SO_TIMEOUT|[0-9,]{1,9} milliseconds timeout)"),
    row("execute HTTP request", "", "TIMEOUT", ESTABLISHED, "socketTimeout", 30_000, r"HTTP request: Read timed out"),
    row("execute HTTP request", "", "TIMEOUT", CONNECT, "connectionTimeout", 2_000, r"HTTP request: (?:[^\n]{0,200}failed: )?[Cc]onnect timed out"),
    row("ConnectException", "", "CONNECT_FAILED", CONNECT, pattern=r"java\.net\.ConnectException(?:\n|$)"),
    row("ClosedChannelException", "", "NOT_CONNECTED", pattern=r"java\.nio\.channels\.ClosedChannelException"),
    row("EOFException", "", "CLOSED", ESTABLISHED, pattern=r"java\.io\.EOFException"),
    row("UnresolvedAddressException", "java.net.http", "ENOTFOUND", RESOLVE),
    row("UnknownHostException", "", "ENOTFOUND", RESOLVE, pattern=r"UnknownHostException: (?P<peer>[\w.-]{1,253})"),
    row("Connection pool shut down", "apache-httpclient", "NOT_CONNECTED"),
    row("Socket closed", "", "NOT_CONNECTED", pattern=r"SocketException: Socket (?:is )?closed"),
)  # fmt: skip


def kernel(body: str) -> Facts | None:
    """The kernel's words in the innermost exception that has some, None where there are none."""
    told = list(_KERNEL.finditer(body))
    if not told:
        return None
    said = told[-1]["words"] or told[-1]["driver"]
    words = "Connection reset by peer" if said == "Connection reset" else said
    facts = worded(words)
    if any(word in body for word in _CONNECTING):
        facts |= {"syscall": "connect", "stage": CONNECT}
    elif facts["code"] in ("ECONNRESET", "EPIPE"):
        facts |= {"stage": ESTABLISHED}
    if (host := _UNKNOWN.search(body)) is not None:
        facts["peer"] = host["peer"]
    return facts


NEEDLES = needles(ROWS, "java.net.", "java.io.IOException: ", "NativeIoException", "ConnectionException: ")
FAMILY = Family(ROWS, kernel, _PACKAGE, _LIBRARIES, _PEERS)


def recognise(body: str) -> Recognised | None:
    """Kind `error`, as `_errors` documents."""
    return FAMILY.read(body)
