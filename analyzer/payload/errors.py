"""Error replies of Redis, MySQL and PostgreSQL in clear text: what a server says before it closes.

Sources: the RESP specification (redis.io, "simple errors"); MySQL's ERR_Packet (dev.mysql.com, client/server protocol);
PostgreSQL's ErrorResponse (documentation, §55.7 and §55.8).
"""

from __future__ import annotations

from typing import NamedTuple

#: ER_CON_COUNT_ERROR and ER_TOO_MANY_USER_CONNECTIONS; ER_USER_LIMIT_REACHED is also said of queries, which end nothing.
MYSQL_LIMITS, MYSQL_USER_LIMIT = frozenset(("1040", "1203")), "1226"
#: After these too MySQL or MariaDB closes: access denied, shutdown, host blocked, host not allowed, read interrupted, killed
#: (MariaDB's 1927, MySQL's 3169), idle for too long (4031, ER_CLIENT_INTERACTION_TIMEOUT).
MYSQL_FINAL = frozenset(("1045", "1053", "1129", "1130", "1159", "1927", "3169", "4031"))
#: SQLSTATE too_many_connections: `max_connections`, reserved slots, limits of a role or a database.
POSTGRESQL_LIMIT = "53300"
#: PgBouncer has no SQLSTATE of its own for it, Redis no code at all.
PGBOUNCER_LIMIT, REDIS_LIMIT = "max_client_conn", "max number of clients"
#: Longer texts are cut: they are evidence, not content.
MAX_SHOWN = 160


class ServerError(NamedTuple):
    """Whose error, its code as the protocol has it (`ERR`, `1040`, `53300`), and its text."""

    protocol: str
    code: str
    message: str

    @property
    def names_limit(self) -> bool:
        """Whether it says that there are too many connections, by its code where the protocol has one for that."""
        if self.protocol == "MySQL":
            number = self.code[:4]
            return number in MYSQL_LIMITS or (number == MYSQL_USER_LIMIT and "connections" in self.message)
        if self.protocol == "PostgreSQL":
            return self.code.endswith(POSTGRESQL_LIMIT) or PGBOUNCER_LIMIT in self.message
        return self.code == "ERR" and self.message.startswith(REDIS_LIMIT)

    @property
    def is_final(self) -> bool:
        """Whether the server closes the connection after it."""
        if self.protocol == "PostgreSQL":
            return self.code.startswith(("FATAL", "PANIC"))
        return self.names_limit or (self.protocol == "MySQL" and self.code[:4] in MYSQL_FINAL)

    def __str__(self) -> str:
        return f"{self.protocol}: {self.code} {self.message}".rstrip()


def redis(data: bytes) -> ServerError | None:
    """`-ERR max number of clients reached`: the word after the minus is the code."""
    if data[:1] != b"-":
        return None
    code, _, message = _text(data[1:].split(b"\r\n", 1)[0]).partition(" ")
    return ServerError("Redis", code, message)


def mysql(data: bytes) -> ServerError | None:
    """An ERR packet: length (3), sequence (1), 0xff, code (2, little endian), `#` and SQL state after the login, text."""
    if len(data) < 7 or data[4] != 0xFF:
        return None
    text = data[7 : 4 + int.from_bytes(data[:3], "little")]
    state = f" ({_text(text[1:6])})" if text[:1] == b"#" and len(text) >= 6 else ""
    return ServerError("MySQL", f"{int.from_bytes(data[5:7], 'little')}{state}", _text(text[6:] if state else text))


def postgresql(data: bytes) -> ServerError | None:
    """An ErrorResponse: `E`, length (4), then fields of a letter and a string each: severity, SQLSTATE, message."""
    if len(data) < 6 or data[:1] != b"E":
        return None
    fields: dict[str, str] = {}
    for field in data[5 : 1 + int.from_bytes(data[1:5])].split(b"\0"):
        if not field:
            break
        fields.setdefault(chr(field[0]), _text(field[1:]))
    if not {"S", "C"} <= fields.keys():
        return None
    return ServerError("PostgreSQL", f"{fields.get('V', fields['S'])} {fields['C']}", fields.get("M", ""))


def _text(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
