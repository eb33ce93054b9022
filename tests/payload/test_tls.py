"""TLS without keys against Python's own TLS, and against cut and broken input."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.payload import tls


def hello(
    name: str | None = "redis.example.com", alpn: tuple[str, ...] = ("h2", "http/1.1"), **options: ssl.TLSVersion
) -> bytes:
    """A ClientHello as OpenSSL writes it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for key, value in options.items():
        setattr(context, key, value)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def vector(width: int, content: bytes) -> bytes:
    return len(content).to_bytes(width) + content


def message(kind: int, body: bytes) -> bytes:
    return b"\x16\x03\x03" + vector(2, bytes([kind]) + vector(3, body))


def server(version: int, cipher: int, extensions: bytes) -> bytes:
    return message(2, version.to_bytes(2) + bytes(32) + b"\0" + cipher.to_bytes(2) + b"\0" + vector(2, extensions))


WHOLE = hello()


def test_hello_of_openssl() -> None:
    found = tls.client_hello(WHOLE)
    assert found is not None
    assert (found.name, found.alpn, found.whole) == ("redis.example.com", ("h2", "http/1.1"), True)
    assert found.versions[0] == 0x0304


def test_hello_without_name_and_protocols() -> None:
    found = tls.client_hello(hello(None, (), maximum_version=ssl.TLSVersion.TLSv1_2))
    assert found is not None
    assert (found.name, found.alpn, found.versions) == (None, (), (0x0303,))


def test_hello_over_several_records() -> None:
    body = WHOLE[5:]
    split = b"".join(b"\x16\x03\x01" + vector(2, body[at : at + 40]) for at in range(0, len(body), 40))
    assert tls.client_hello(split) == tls.client_hello(WHOLE)


@given(st.integers(0, len(WHOLE)))
def test_a_cut_hello_says_no_more_than_the_whole(cut: int) -> None:
    found, whole = tls.client_hello(WHOLE[:cut]), tls.client_hello(WHOLE)
    assert whole is not None
    if found is not None:
        assert found.whole == (cut == len(WHOLE))
        assert found.name is None or (whole.name is not None and whole.name.startswith(found.name))
        assert len(found.alpn) <= len(whole.alpn)


@given(
    st.binary(max_size=200) | st.binary(max_size=200).map(lambda b: b"\x16\x03\x01" + vector(2, b"\x01" + vector(3, b)))
)
def test_anything_is_read_or_not(data: bytes) -> None:
    tls.client_hello(data)
    tls.server_hello(data)
    assert sum(len(r.body) + tls.HEADER for r in tls.records(data)) <= len(data)
    assert len(tls.alerts(data)) <= len(data) // tls.HEADER


@given(st.lists(st.tuples(st.sampled_from([20, 21, 22, 23]), st.binary(max_size=50))))
def test_records(parts: list[tuple[int, bytes]]) -> None:
    found = tls.records(b"".join(bytes([kind, 3, 3]) + vector(2, body) for kind, body in parts))
    assert [(r.kind, r.body, r.whole) for r in found] == [(kind, body, True) for kind, body in parts]


def test_server_hello() -> None:
    assert tls.server_hello(server(0x0303, 0x1301, b"\0\x2b\0\x02\x03\x04")) == tls.ServerHello(0x0304, 0x1301)
    chosen = b"\0\x10" + vector(2, vector(2, vector(1, b"h2")))
    assert tls.server_hello(server(0x0303, 0xC02F, chosen)) == tls.ServerHello(0x0303, 0xC02F, "h2")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x15\x03\x03\0\x02\x02\x28", "fatal handshake_failure"),
        (b"\x15\x03\x03\0\x02\x01\0", "warning close_notify"),
        (b"\x15\x03\x03\0\x02\x02\xfe", "fatal alert 254"),
        (b"\x15\x03\x03\0\x1a" + bytes(26), "encrypted alert"),
        (b"\x15\x03\x03\0\x02", "alert"),
    ],
)
def test_alerts(data: bytes, words: str) -> None:
    assert tls.alerts(data) == [words]


def test_a_record_of_17_bytes_is_as_long_as_openssl_makes_it() -> None:
    """RFC arithmetic against the library that most peers run: `SSLObject` would need keys, so the sizes are literal here."""
    assert tls.sealed_length(17, 0x0304, 0x1301) == {34}
    assert tls.sealed_length(17, 0x0303, 0xC02F) == {41}
    assert tls.sealed_length(17, 0x0303, 0xCCA8) == {33}
    assert tls.sealed_length(17, None, None) == {33, 34, 41}
