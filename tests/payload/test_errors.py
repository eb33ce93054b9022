"""Error replies as the servers send them (captured from Redis 7.0, MariaDB 10.11 and PostgreSQL 15)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analyzer.payload import errors
from analyzer.payload.errors import ServerError

MYSQL_1040 = b"\x17\0\0\0\xff\x10\x04Too many connections"
POSTGRES_53300 = b"E\0\0\0\x62SFATAL\0VFATAL\0C53300\0Msorry, too many clients already\0Fproc.c\0L358\0RInitProcess\0\0"


def test_redis() -> None:
    assert errors.redis(b"-ERR max number of clients reached\r\n") == ServerError(
        "Redis", "ERR", "max number of clients reached"
    )
    assert str(errors.redis(b"-NOAUTH Authentication required.\r\n")) == "Redis: NOAUTH Authentication required."
    assert errors.redis(b"+OK\r\n") is None


def test_mysql() -> None:
    assert errors.mysql(MYSQL_1040) == ServerError("MySQL", "1040", "Too many connections")
    denied = b"#28000Access denied for user 'a'@'b'"
    packet = (3 + len(denied)).to_bytes(3, "little") + b"\x02\xff\x15\x04" + denied
    assert errors.mysql(packet) == ServerError("MySQL", "1045 (28000)", "Access denied for user 'a'@'b'")


def test_postgresql() -> None:
    assert errors.postgresql(POSTGRES_53300) == ServerError(
        "PostgreSQL", "FATAL 53300", "sorry, too many clients already"
    )
    assert errors.postgresql(b"EHLO example.com\r\n") is None


@given(st.binary(max_size=400))
def test_anything_is_read_and_short(data: bytes) -> None:
    for parse, start in ((errors.redis, b"-"), (errors.mysql, b"\x20\0\0\0\xff"), (errors.postgresql, b"E\0\0\0\x60S")):
        for content in (data, start + data):
            found = parse(content)
            assert found is None or len(found.message) <= errors.MAX_SHOWN
