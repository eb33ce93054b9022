"""What a server says before it closes a connection, or why it ended a statement, in the words that every client hands on: too many connections, going down, idle.

PostgreSQL's SQLSTATEs 53300, 57P01 … 57P05 (errcodes.txt), MySQL's ER_CON_COUNT_ERROR (1040), ER_USER_LIMIT_REACHED (1226) and, since 8.0.24, ER_CLIENT_INTERACTION_TIMEOUT (4031),
Redis's `max number of clients reached`, NATS's `-ERR 'Stale Connection'`. The process's own limit of file descriptors stands here too: it is another limit.
"""

from __future__ import annotations

from analyzer.logs.recognisers._errors import CONNECT, ESTABLISHED, KERNEL, SERVER, Family, Row, needles, row
from analyzer.logs.records import Recognised

RANK = 47


def _limit(word: str, library_code: str = "", pattern: str = "") -> Row:
    return row(word, "", "TOO_MANY_CONNECTIONS", CONNECT, by=SERVER, own=library_code, pattern=pattern)


def _ended(word: str, library_code: str, setting: str = "", pattern: str = "") -> Row:
    return row(word, "", "CLOSED", ESTABLISHED, setting, by=SERVER, own=library_code, pattern=pattern)


def _statement(word: str, library: str, setting: str, library_code: str) -> Row:
    return row(word, library, "QUERY_TIMEOUT", ESTABLISHED, setting, by=SERVER, own=library_code)


ROWS = (
    _limit("max number of clients reached"),
    _limit("ER_CON_COUNT_ERROR", "ER_CON_COUNT_ERROR"),
    _limit("oo many connections", "1040", r"1040|ER_CON_COUNT|Error: Too many connections|[Tt]oo many connections for (?:role|database)"),
    _limit("too many clients already", "53300"),
    _limit("connection slots are reserved", "53300"),
    _limit("max_user_connections", "1226", r"has (?:exceeded|already more than) the? ?'?max_user_connections|more than 'max_user_connections'"),
    _statement("canceling statement due to statement timeout", "PostgreSQL", "statement_timeout", "57014"),
    _statement("canceling statement due to lock timeout", "PostgreSQL", "lock_timeout", "55P03"),
    _statement("maximum statement execution time exceeded", "MySQL", "max_execution_time", "3024"),
    _ended("due to administrator command", "57P01"),
    _ended("due to unexpected postmaster exit", "57P02"),
    _ended("due to idle-session timeout", "57P05", "idle_session_timeout"),
    _ended("disconnected by the server because of inactivity", "4031", "wait_timeout"),
    _ended("due to idle-in-transaction timeout", "25P03", "idle_in_transaction_session_timeout"),
    _ended("Stale Connection", "Stale Connection", "ping_interval", r"(?:-ERR|NatsError:|nats[\w.]{0,20}:) '?Stale Connection'?"),
    _ended("57P0", "57P01", pattern=r"(?:code['\"]?: ?['\"]|SQLSTATE\W{0,3})57P0[1-5]"),
    row("database system is s", "", "CONNECT_FAILED", CONNECT, by=SERVER, own="57P03", pattern=r"FATAL: .{0,20}the database system is (?:starting up|shutting down)|error: the database system is"),
    row("oo many open files", "", "EMFILE", CONNECT, by=KERNEL, pattern=r"(?:socket|dial|accept|connect|EMFILE|SocketException|OSError|\[Errno 24\])[^\n]{0,160}[Tt]oo many open files"),
    row("EMFILE", "", "EMFILE", CONNECT, by=KERNEL, pattern=r"(?:connect|getaddrinfo|socket) EMFILE"),
)  # fmt: skip

NEEDLES = needles(ROWS)
FAMILY = Family(ROWS, lambda _: None)


def recognise(body: str) -> Recognised | None:
    """Kind `error`, as `_errors` documents."""
    return FAMILY.read(body)
