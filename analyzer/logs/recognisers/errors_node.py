"""Errors of Node.js and its clients, as `util.inspect` prints them, as one line, or as JSON.

Kernel errors carry a numeric `errno`, the `syscall` and, for a connect, the address (`exceptionWithHostPort` in Node's
lib/internal/errors.js). What a library's timer makes carries none of these: ioredis, mysql and mysql2 spell the key
`errorno`, and their `connect ETIMEDOUT` names no address. Defaults are those of the libraries' own sources.
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
    Facts,
    Family,
    joined,
    needles,
    row,
)  # fmt: skip
from analyzer.logs.records import Recognised

RANK = 50
CODES = (
    "ECONNRESET|ETIMEDOUT|EPIPE|ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN|ECONNABORTED|EADDRNOTAVAIL|"
    "ENOTCONN|EMFILE|EHOSTDOWN|ENETDOWN|ESOCKETTIMEDOUT"
)
_SYSCALL = re.compile(
    rf"(?<!Error\([\"'])\b(?P<syscall>connect|read|write|shutdown|getaddrinfo|query[A-Z][A-Za-z]{{0,8}}) (?P<code>{CODES})\b"
    r"(?: (?P<peer>[\w.:\[\]%/-]{3,255}))?(?: - Local \((?P<local>[\w.:\[\]%]{3,80})\))?"
)
#: A code that is said of an error, not mentioned: a key's value, an error's name or text, or all there is.
_CODE = re.compile(
    rf"(?:\bcode[\"']?[:=] ?[\"']?|[Ee]rrorCode[\"']?[:=] ?[\"']?|\bError: |\bError \[|AggregateError \[|^)(?P<code>{CODES})\b(?!,? [A-Z]{{5}})"
)
#: At the end of a message, after a colon: `request failed: ECONNRESET`. A list of codes is a setting, not an error.
_LAST = re.compile(rf": (?P<code>{CODES})(?=[.)\]]?\s*(?:$|\n))")
_ERRNO = re.compile(r"\berrno[\"']?: ?(?P<errno>-[0-9]{1,6})\b")
_ADDRESS = re.compile(r"\baddress[\"']?: ?[\"'](?P<host>[^\"']{2,255})[\"']")
_PORT = re.compile(r"\bport[\"']?: ?(?P<port>[0-9]{1,5})\b")
_HOSTNAME = re.compile(r"\bhostname[\"']?: ?[\"'](?P<host>[^\"']{1,255})[\"']")
_TIMERS = ("errorno", "_onTimeout", "listOnTimeout", "_handleTimeoutError", "_handleConnectTimeout")
#: Happy eyeballs: Node's own timer for one attempt, which makes its error look like the kernel's.
_ATTEMPT = "internalConnectMultipleTimeout"
#: What is always the kernel's word, though no errno is printed: libraries make up connects that time out, nothing else.
_NEVER_MADE_UP = ("ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "ENOTFOUND", "EAI_AGAIN", "EADDRNOTAVAIL", "EMFILE")

_PACKAGE = re.compile(
    r"node_modules/(?:\.pnpm/[^/\s]{1,100}/node_modules/)?(@redis/client|@smithy|@aws-sdk|@grpc/grpc-js|@prisma/client|"
    r"[a-z][a-z0-9._-]{1,40})/"
)
#: Packages that raise errors of connections, and what they are called.
_LIBRARIES = {
    "ioredis": "ioredis", "@redis/client": "node-redis", "redis": "node-redis", "mysql2": "mysql2", "mysql": "mysql", "pg": "pg",
    "pg-pool": "pg", "mongodb": "mongodb", "undici": "undici", "@smithy": "aws-sdk-js-v3", "@aws-sdk": "aws-sdk-js-v3",
    "aws-sdk": "aws-sdk-js-v2", "axios": "axios", "stripe": "stripe", "got": "got", "node-fetch": "node-fetch",
    "@grpc/grpc-js": "grpc-js", "@prisma/client": "prisma", "tedious": "tedious", "tarn": "knex", "knex": "knex",
    "kafkajs": "kafkajs", "amqplib": "amqplib", "superagent": "superagent", "request": "request", "ws": "ws",
}  # fmt: skip

#: OpenSSL's verdicts on certificates (X509_V_ERR_…), as the code of an error.
_CERTIFICATE = r"code[\"']?: ?[\"']"
_MS = r"(?P<ms>[0-9]{1,9}) ?ms"

ROWS = (
    # AWS SDK: the outermost wherever it stands.
    row("did not establish a connection", "aws-sdk-js-v3", "TIMEOUT", CONNECT, "connectionTimeout", adds=rf"timeout of {_MS}", own="TimeoutError"),
    row("exceeded the configured", "aws-sdk-js-v3", "TIMEOUT", ESTABLISHED, "requestTimeout", pattern=rf"exceeded the configured {_MS} requestTimeout", own="TimeoutError"),
    row("the request socket timed out", "aws-sdk-js-v3", "TIMEOUT", ESTABLISHED, "socketTimeout", pattern=rf"timed out after {_MS} of inactivity", own="TimeoutError"),
    row("Connection timed out after", "aws-sdk-js-v3", "TIMEOUT", ESTABLISHED, "requestTimeout", pattern=r"Connection timed out after (?P<ms>[0-9]{1,9}) ms", own="TimeoutError"),
    row("Connection timed out after", "aws-sdk-js-v2", "TIMEOUT", ESTABLISHED, "httpOptions.timeout", 120_000, r"Connection timed out after (?P<ms>[0-9]{1,9})ms", own="TimeoutError"),
    row("Socket timed out without establishing a connection", "aws-sdk", "TIMEOUT", CONNECT, "connectionTimeout", adds=rf"within {_MS}", own="TimeoutError"),
    row("socket usage at capacity", "aws-sdk-js-v3", "POOL_EXHAUSTED", POOL, "maxSockets", pattern=r"WARN.{0,40}socket usage at capacity"),
    row("NetworkingError", "aws-sdk-js-v2"),
    # HTTP.
    row("before secure TLS", "node", "ECONNRESET", TLS),
    row("SSL routines", "node", "TLS", TLS, pattern=r"EPROTO [0-9A-Fa-f]{2,20}:error:[0-9A-Fa-f]{4,12}:SSL routines", own="EPROTO"),
    row("SELF_SIGNED_CERT", "node", "TLS", TLS, pattern=rf"{_CERTIFICATE}(?P<library_code>DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN)"),
    row("UNABLE_TO_", "node", "TLS", TLS, pattern=rf"{_CERTIFICATE}(?P<library_code>UNABLE_TO_(?:VERIFY_LEAF_SIGNATURE|GET_ISSUER_CERT(?:_LOCALLY)?))"),
    row("CERT_HAS_EXPIRED", "node", "TLS", TLS, pattern=rf"{_CERTIFICATE}CERT_HAS_EXPIRED", own="CERT_HAS_EXPIRED"),
    row("ERR_TLS_CERT_ALTNAME_INVALID", "node", "TLS", TLS, own="ERR_TLS_CERT_ALTNAME_INVALID"),
    row("UND_ERR_CONNECT_TIMEOUT", "undici", "TIMEOUT", CONNECT, "connect.timeout", 10_000, own="UND_ERR_CONNECT_TIMEOUT"),
    row("Connect Timeout Error", "undici", "TIMEOUT", CONNECT, "connect.timeout", 10_000,
        rf"Connect Timeout Error(?: \(attempted address(?:es)?: (?P<peer>[\w.:\[\]-]{{3,255}}).{{0,80}}?timeout: {_MS})?"),
    row("UND_ERR_HEADERS_TIMEOUT", "undici", "TIMEOUT", ESTABLISHED, "headersTimeout", 300_000, own="UND_ERR_HEADERS_TIMEOUT"),
    row("Headers Timeout Error", "undici", "TIMEOUT", ESTABLISHED, "headersTimeout", 300_000),
    row("Body Timeout Error", "undici", "TIMEOUT", ESTABLISHED, "bodyTimeout", 300_000),
    row("UND_ERR_BODY_TIMEOUT", "undici", "TIMEOUT", ESTABLISHED, "bodyTimeout", 300_000, own="UND_ERR_BODY_TIMEOUT"),
    row("other side closed", "undici", "CLOSED", ESTABLISHED, own="UND_ERR_SOCKET"),
    row("UND_ERR_SOCKET", "undici", "CLOSED", ESTABLISHED, own="UND_ERR_SOCKET"),
    row("remoteAddress", "undici", pattern=r"remoteAddress['\"]?: ?['\"](?P<host>[^'\"]{2,60})['\"],\s{0,20}['\"]?remotePort['\"]?: ?(?P<port>[0-9]{1,5})"),
    row("localAddress", "undici", pattern=r"localAddress['\"]?: ?['\"](?P<local_host>[^'\"]{2,60})['\"],\s{0,20}['\"]?localPort['\"]?: ?(?P<local_port>[0-9]{1,5})"),
    row("ms exceeded", "axios", "TIMEOUT", "", "timeout", pattern=r"\btimeout of (?P<ms>[0-9]{1,9})ms exceeded", own="ECONNABORTED"),
    row("AxiosError", "axios"),
    row("ETIMEOUT", "c-ares", "TIMEOUT", RESOLVE, pattern=r"\bquery[A-Z]\w{0,8} ETIMEOUT (?P<peer>[\w.-]{1,253})", own="ETIMEOUT"),
    row("ESERVFAIL", "c-ares", "EAI_AGAIN", RESOLVE, pattern=r"\bquery[A-Z]\w{0,8} ESERVFAIL (?P<peer>[\w.-]{1,253})", own="ESERVFAIL"),
    row("EREFUSED", "c-ares", "EAI_AGAIN", RESOLVE, pattern=r"\bquery[A-Z]\w{0,8} EREFUSED (?P<peer>[\w.-]{1,253})", own="EREFUSED"),
    row("Stripe", "stripe", pattern=r"StripeConnectionError|StripeAPIError: An error occurred with our connection"),
    row("Request aborted due to timeout being reached", "stripe", "TIMEOUT", "", "timeout", 80_000, pattern=r"timeout being reached(?: \((?P<ms>[0-9]{1,9})ms\))?"),
    row("network timeout at", "node-fetch", "TIMEOUT", "", "timeout", own="request-timeout"),
    row("Timeout awaiting", "got", "TIMEOUT", "", "timeout", pattern=r"Timeout awaiting '[a-zA-Z]{1,20}' for (?P<ms>[0-9]{1,9})ms"),
    row("The operation was aborted due to timeout", "node", "TIMEOUT", "", "AbortSignal.timeout", by=FUNCTION),
    row("fetch failed", "undici"),
    row("fetch failed", "undici", "BROKEN", pattern=r"TypeError: fetch failed\b|\"errorMessage\": ?\"fetch failed\""),
    row("socket hang up", "node", "CLOSED", ESTABLISHED, own="ECONNRESET"),
    row("ended by the other party", "node", "EPIPE", ESTABLISHED),
    # Redis.
    row("ioredis", "ioredis", pattern=r"\[ioredis\]|ioredis:"),
    row("eached the max retries per request limit", "ioredis", "NOT_CONNECTED", "", "maxRetriesPerRequest", 20, r"MaxRetriesPerRequestError|eached the max retries"),
    row("ommand timed out", "ioredis", "TIMEOUT", ESTABLISHED, "commandTimeout", pattern=r"Command timed out(?! after)"),
    row("Socket timeout. Expecting data", "ioredis", "TIMEOUT", ESTABLISHED, "socketTimeout", pattern=r"in (?P<ms>[0-9]{1,9}) ?ms"),
    row("onnection is closed", "ioredis", "NOT_CONNECTED", pattern=r"(?:^|\n|Error: )Connection is closed\."),
    row("closed unexpectedly", "node-redis", "CLOSED", ESTABLISHED, pattern=r"Socket closed unexpectedly"),
    row("onnection timeout", "node-redis", "TIMEOUT", CONNECT, "socket.connectTimeout", 5_000, r"(?:^|\n|Error: )Connection timeout(?:$|\n)"),
    row("client is closed", "node-redis", "NOT_CONNECTED", pattern=r"ClientClosedError|(?:^|: |\n|\")The client is closed"),
    row("client is offline", "node-redis", "NOT_CONNECTED", pattern=r"ClientOfflineError|(?:^|: |\n|\")The client is offline"),
    row("SocketTimeoutError", "node-redis", "TIMEOUT", ESTABLISHED, "socket.socketTimeout", pattern=r"Expecting data, but didn't receive any in (?P<ms>[0-9]{1,9})ms"),
    # SQL.
    row("_handleConnectTimeout", "mysql", "ETIMEDOUT", CONNECT, "connectTimeout", 10_000),
    row("_handleTimeoutError", "mysql2", "ETIMEDOUT", CONNECT, "connectTimeout", 10_000),
    row("PROTOCOL_CONNECTION_LOST", "mysql|mysql2", "CLOSED", ESTABLISHED, own="PROTOCOL_CONNECTION_LOST"),
    row("onnection lost: The server closed the connection", "mysql|mysql2", "CLOSED", ESTABLISHED, own="PROTOCOL_CONNECTION_LOST"),
    row("inactivity timeout", "mysql|mysql2", "TIMEOUT", ESTABLISHED, "timeout", pattern=r"(?:Query|Quit|Handshake|Ping) inactivity timeout", own="PROTOCOL_SEQUENCE_TIMEOUT"),
    row("PROTOCOL_SEQUENCE_TIMEOUT", "mysql|mysql2", "TIMEOUT", ESTABLISHED, "timeout", own="PROTOCOL_SEQUENCE_TIMEOUT"),
    row("when connection is in closed state", "mysql2", "NOT_CONNECTED"),
    row("PROTOCOL_ENQUEUE_AFTER_", "mysql|mysql2", "NOT_CONNECTED", own="PROTOCOL_ENQUEUE_AFTER"),
    row("Cannot enqueue", "mysql", "NOT_CONNECTED", pattern=r"Cannot enqueue \w{3,20} after (?:fatal error|invoking quit|being destroyed)"),
    row("Connection terminated due to connection timeout", "pg", "TIMEOUT", CONNECT, "connectionTimeoutMillis"),
    row("timeout exceeded when trying to connect", "pg", "TIMEOUT", POOL, "connectionTimeoutMillis"),
    row("timeout expired", "pg", "TIMEOUT", CONNECT, "connectionTimeoutMillis", pattern=r"(?:^|\n|Error: )timeout expired"),
    row("Query read timeout", "pg", "TIMEOUT", ESTABLISHED, "query_timeout"),
    row("Connection terminated unexpectedly", "pg", "CLOSED", ESTABLISHED),
    row("Connection terminated", "pg", "CLOSED", ESTABLISHED, pattern=r"Error: Connection terminated(?:$|\n)"),
    row("Timeout acquiring a connection", "knex", "TIMEOUT", POOL, "acquireConnectionTimeout", 60_000),
    row("operation timed out for an unknown reason", "knex", "TIMEOUT", POOL, "acquireTimeoutMillis"),
    row("reach database server", "prisma", "CONNECT_FAILED", CONNECT, pattern=r"Can't reach database server at `?(?P<host>[\w.-]{1,253})`?:`?(?P<port>[0-9]{1,5})`?", own="P1001"),
    row("new connection from the connection pool", "prisma", "TIMEOUT", POOL, "pool_timeout", 10_000, adds=r"Timed out fetching a new connection.{0,300}?timeout: (?P<s>[0-9]{1,6})", own="P2024"),
    row("Server has closed the connection", "prisma", "CLOSED", ESTABLISHED, own="P1017"),
    # MongoDB.
    row("ServerSelectionError", "mongodb", pattern=r"Mongo(?:ose)?ServerSelectionError"),
    row("erver selection timed out", "mongodb", "TIMEOUT", CONNECT, "serverSelectionTimeoutMS", 30_000, r"timed out after (?P<ms>[0-9]{1,9}) ?ms"),
    row("buffering timed out after", "mongodb", "TIMEOUT", CONNECT, "bufferTimeoutMS", 10_000, r"buffering timed out after (?P<ms>[0-9]{1,9})ms"),
    row("connectTimeoutMS: ", "mongodb", "TIMEOUT", CONNECT, "connectTimeoutMS", 30_000, r"connectTimeoutMS: (?P<ms>[0-9]{1,9})\b(?!\.)"),
    row("MongoNetworkTimeoutError", "mongodb", "TIMEOUT", ESTABLISHED, "socketTimeoutMS", pattern=r"connection (?:<monitor>|[0-9]{1,9}) to (?P<peer>[\w.:\[\]-]{3,255}?) timed out"),
    row("MongoNetworkTimeoutError", "mongodb", "TIMEOUT"),
    row("MongoNetworkError", "mongodb", "CLOSED", ESTABLISHED, pattern=r"connection (?:<monitor>|[0-9]{1,9}) to (?P<peer>[\w.:\[\]-]{3,255}?) closed"),
    row("MongoWaitQueueTimeoutError", "mongodb", "TIMEOUT", POOL, "waitQueueTimeoutMS"),
    row("PoolClearedError", "mongodb", "NOT_CONNECTED", pattern=r"Connection pool for (?P<peer>[\w.:\[\]-]{3,255}) was cleared"),
    row("PoolClearedError", "mongodb", "NOT_CONNECTED"),
    row("MongoNetworkError", "mongodb"),
)  # fmt: skip


def kernel(body: str) -> Facts | None:
    """The errno in a Node error, and who raised it; None where no code is said of an error."""
    m = _SYSCALL.search(body)
    facts: Facts = {}
    if m is not None:
        facts = {name: text for name, text in m.groupdict().items() if text}
        _attempts(facts, body)
    elif (m := _coded(body)) is not None:
        facts["code"] = m["code"]
        if (host := _HOSTNAME.search(body)) is not None:
            facts["peer"] = host["host"]
    else:
        return None
    return _judged(facts, body)


def _coded(body: str) -> re.Match[str] | None:
    m = _CODE.search(body) or _LAST.search(body)
    return m if m is not None and not body.startswith("Errno::", max(m.start("code") - 7, 0)) else None


def _attempts(facts: Facts, body: str) -> None:
    """The peer of a connect, and all of them where Node tried several addresses (happy eyeballs)."""
    if facts["syscall"] == "connect" and "AggregateError" in body:
        peers = list(dict.fromkeys(m["peer"] for m in _SYSCALL.finditer(body) if m["peer"]))[:16]
        if len(peers) > 1:
            facts["peers"] = peers
    if "peer" not in facts and (host := _ADDRESS.search(body)) is not None:
        port = _PORT.search(body)
        facts["peer"] = joined(host["host"], port["port"] if port else None)
    if facts["syscall"] == "getaddrinfo" or facts["syscall"].startswith("query"):
        facts["stage"] = RESOLVE
    elif facts["syscall"] == "connect":
        facts["stage"] = CONNECT
    else:
        facts["stage"] = ESTABLISHED


def _judged(facts: Facts, body: str) -> Facts:
    """Who raised it, and what tells: errno and address are the kernel's, a timer in the stack or `errorno` a library's."""
    errno = _ERRNO.search(body)
    if errno is not None:
        facts["errno"] = int(errno["errno"])
    if _ATTEMPT in body and facts["code"] == "ETIMEDOUT":
        return facts | {
            "raised_by": LIBRARY, "told_by": "timer in the stack", "setting": "autoSelectFamilyAttemptTimeout",
            "default_ms": 250,
        }  # fmt: skip
    if errno is not None:
        return facts | {"raised_by": KERNEL, "told_by": f"errno {facts['errno']}"}
    connect = facts.get("syscall") == "connect"
    timer = next((word for word in _TIMERS if word in body), None) if facts["code"] == "ETIMEDOUT" else None
    if timer is not None:
        told = "errorno without errno" if timer == "errorno" else "timer in the stack"
        return facts | {"raised_by": LIBRARY, "told_by": told} | (_connect_timeout(body) if connect else {})
    if connect and facts["code"] == "ETIMEDOUT" and "peer" not in facts:
        return facts | {"raised_by": LIBRARY, "told_by": "no address"} | _connect_timeout(body)
    if facts["code"] in _NEVER_MADE_UP or (connect and "peer" in facts):
        return facts | {"raised_by": KERNEL, "told_by": "address" if "peer" in facts else "syscall connect"}
    if "syscall" in facts:
        return facts | {"raised_by": KERNEL, "told_by": f"syscall {facts['syscall']}"}
    return facts


def _connect_timeout(body: str) -> Facts:
    """Whose timer made a `connect ETIMEDOUT`: mysql2 marks it fatal, mysql names the method, else it is ioredis."""
    if "_handleConnectTimeout" in body:
        library = "mysql"
    elif "fatal" in body or "_handleTimeoutError" in body:
        library = "mysql2"
    else:
        library = FAMILY.in_stack(body) or "ioredis"
    return {"library": library, "setting": "connectTimeout", "default_ms": 10_000}


NEEDLES = needles(
    ROWS, "ECONN", "ETIMEDOUT", "EPIPE", "EHOSTUNREACH", "ENETUNREACH", "EADDRNOTAVAIL", "EAI_AGAIN", "ENOTFOUND"
)
FAMILY = Family(ROWS, kernel, _PACKAGE, _LIBRARIES)


def recognise(body: str) -> Recognised | None:
    """Kind `error`, as `_errors` documents."""
    return FAMILY.read(body)
