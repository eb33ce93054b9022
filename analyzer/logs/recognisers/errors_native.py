"""Errors of Rust, PHP and C clients: `(os error 104)`, `SendRequest ConnectionReset`, `errno=32 Broken pipe`, curl's numbers."""

from __future__ import annotations

import re

from analyzer.logs.recognisers._errors import (
    CONNECT,
    ESTABLISHED,
    KERNEL,
    LIBRARY,
    RESOLVE,
    WORDS,
    Facts,
    Family,
    needles,
    numbered,
    row,
    worded,
)
from analyzer.logs.records import Recognised

RANK = 55
_NUMBER = re.compile(
    r"\(os error (?P<os>[0-9]{1,5})\)|\bOs \{ code: (?P<code>[0-9]{1,5}),|\berrno=(?P<errno>[0-9]{1,5}) |\[HY000\] \[(?P<sql>1[01][0-9])\]"
)
_KIND = re.compile(
    r"\b(?:SendRequest|Connect|kind: )[( ,]{0,3}(?P<name>ConnectionReset|BrokenPipe|ConnectionRefused|ConnectionAborted|TimedOut)\b"
)
_KINDS = {
    "ConnectionReset": "ECONNRESET",
    "BrokenPipe": "EPIPE",
    "ConnectionRefused": "ECONNREFUSED",
    "ConnectionAborted": "ECONNABORTED",
    "TimedOut": "ETIMEDOUT",
}
_WORDS = re.compile(rf"\[(?:2002|2006)\] (?P<words>{WORDS})\b")
_PEERS = (re.compile(r"(?:to|on|url \(https?://|://)[ (]?(?P<host>[\w.-]{1,253}):(?P<port>[0-9]{1,5})\b"), re.compile(r"Failed to connect to (?P<host>[\w.-]{1,253}) port (?P<port>[0-9]{1,5})"))  # fmt: skip
_CONNECTING = re.compile(r"tcp connect error|client error \(Connect\)|Connection refused|\[2002\]|ConnectionRefused")

ROWS = (
    row("client error (SendRequest)", "hyper"),
    row("client error (Connect)", "hyper"),
    row("hyper", "hyper", pattern=r"\bhyper(?:::Error|_util)"),
    row("SendRequest", "hyper", pattern=r"SendRequest"),
    row("connection closed before message completed", "hyper", "CLOSED", ESTABLISHED),
    row("operation timed out", "reqwest", "TIMEOUT", "", "timeout", pattern=r"(?:error sending request|reqwest|source: TimedOut).{0,300}operation timed out"),
    row("PoolTimedOut", "sqlx", "TIMEOUT", "pool", "acquire_timeout", 30_000),
    row("cURL error 28", "curl", "TIMEOUT", CONNECT, "CURLOPT_CONNECTTIMEOUT", 300_000, r"cURL error 28: (?:Connection timed out|Connection timeout|Failed to connect.{0,80}) after (?P<ms>[0-9]{1,9}) (?:ms|milli)"),
    row("cURL error 28", "curl", "TIMEOUT", ESTABLISHED, "CURLOPT_TIMEOUT", pattern=r"cURL error 28: (?:Operation timed out after (?P<ms>[0-9]{1,9}) milli)?"),
    row("cURL error 52", "curl", "CLOSED", ESTABLISHED, own="CURLE_GOT_NOTHING"),
    row("cURL error 56", "curl", "ECONNRESET", ESTABLISHED, own="CURLE_RECV_ERROR"),
    row("cURL error 6:", "curl", "ENOTFOUND", RESOLVE, own="CURLE_COULDNT_RESOLVE_HOST"),
    row("cURL error 7:", "curl", "CONNECT_FAILED", CONNECT, own="CURLE_COULDNT_CONNECT"),
    row("curl: (28)", "curl", "TIMEOUT", "", "--max-time", pattern=r"curl: \(28\) [^\n]{0,80}?after (?P<ms>[0-9]{1,9}) (?:ms|milli)"),
    row("curl: (56)", "curl", "ECONNRESET", ESTABLISHED, own="CURLE_RECV_ERROR", pattern=r"Connection reset by peer"),
    row("curl: (52)", "curl", "CLOSED", ESTABLISHED, own="CURLE_GOT_NOTHING"),
    row("SQLSTATE[HY000]", "pdo", "CLOSED", ESTABLISHED, pattern=r"\[HY000\].{0,40}(?:2006 MySQL server has gone away|2013 Lost connection)"),
    row("SQLSTATE[HY000]", "pdo"),
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
    if facts is None and (said := _WORDS.search(body)) is not None:
        facts = worded(said["words"])
    if facts is not None and _CONNECTING.search(body):
        facts |= {"syscall": "connect", "stage": CONNECT}
    return facts


NEEDLES = needles(ROWS, "(os error ", "Os { code: ", "SendRequest", "ConnectionReset", "errno=", "SQLSTATE[HY000] [")
FAMILY = Family(ROWS, kernel, peers=_PEERS)


def recognise(body: str) -> Recognised | None:
    """Kind `error`, as `_errors` documents."""
    return FAMILY.read(body)
