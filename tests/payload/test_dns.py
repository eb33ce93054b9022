"""DNS answers against dnspython, and against hostile messages."""

from __future__ import annotations

import struct
import time
from itertools import pairwise

import dns.message
import pytest
from dns import flags, rrset
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.payload.dns import Message, parse_answers, parse_message, parse_refusal


def name(text: str) -> bytes:
    return b"".join(bytes([len(p)]) + p.encode() for p in text.split(".")) + b"\0"


def record(owner: bytes, kind: int, data: bytes, group: int = 1) -> bytes:
    return owner + struct.pack(">HHIH", kind, group, 60, len(data)) + data


def response(question: str, *answers: bytes, flags: int = 0x8180) -> bytes:
    return (
        struct.pack(">HHHHHH", 1, flags, 1, len(answers), 0, 0) + name(question) + b"\0\x01\0\x01" + b"".join(answers)
    )


HERE = b"\xc0\x0c"  # the question's name
V4, V6 = bytes((10, 0, 0, 9)), bytes(15) + b"\1"


def test_addresses_of_the_question() -> None:
    assert parse_answers(response("Redis.Example.com", record(HERE, 1, V4), record(HERE, 28, V6))) == [
        ("redis.example.com", "10.0.0.9"), ("redis.example.com", "::1"),
    ]  # fmt: skip


@pytest.mark.parametrize(("code", "said"), [(0, None), (2, "SERVFAIL"), (3, "NXDOMAIN"), (5, "REFUSED"), (9, None)])
def test_answers_that_are_none(code: int, said: str | None) -> None:
    message = response("Cahce.Example.com", flags=0x8180 | code)
    assert parse_refusal(message) == ((said and ("cahce.example.com", said)) or None)
    assert parse_refusal(response("a.b", flags=0x0100 | code)) is None  # a query
    assert all(parse_refusal(message[:n]) is None for n in range(len("Cahce.Example.com") + 13))


def test_aliases_are_followed_and_strangers_are_not() -> None:
    message = response(
        "a.example", record(HERE, 5, name("b.example")), record(name("b.example"), 5, name("c.example")),
        record(name("c.example"), 1, V4), record(name("d.example"), 1, bytes(4)),
    )  # fmt: skip
    assert parse_answers(message) == [("a.example", "10.0.0.9")]


def test_queries_and_other_classes_say_nothing() -> None:
    assert parse_answers(response("a.example", record(HERE, 1, V4), flags=0x0100)) == []
    assert parse_answers(response("a.example", record(HERE, 1, V4, group=3))) == []


@pytest.mark.parametrize(
    "message",
    [
        response("a.example", record(b"\xc0\x1b", 1, V4)),  # a pointer to itself
        response("a.example", record(b"\x01a\xc0\x1b", 1, V4)),  # to its own start
        struct.pack(">HHHHHH", 1, 0x8180, 1, 65535, 0, 0) + b"\xc0\x0c",
        struct.pack(">HHHHHH", 1, 0x8180, 1, 65535, 0, 0) + b"\0\0\x01\0\x01" + b"\xc0\x0b" * 30_000,
    ],
)
def test_loops_end(message: bytes) -> None:
    assert parse_answers(message) == []


def test_the_worst_message_is_read_quickly() -> None:
    chain = b"\0\0" + b"".join(struct.pack(">H", 0xC000 | at) for at in range(12, 12 + 16_000, 2))
    message = struct.pack(">HHHHHH", 1, 0x8180, 1, 65535, 0, 0) + chain + record(b"\xff\xff", 1, V4) * 2_000
    began = time.perf_counter()
    parse_answers(message)
    assert time.perf_counter() - began < 1


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda b: response("a.b", b)))
def test_anything_is_read(data: bytes) -> None:
    parse_refusal(data)
    assert all(len(question) < 256 for question, _ in parse_answers(data))


LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12)
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join)


@settings(deadline=None)
@given(
    NAME,
    st.lists(NAME, max_size=3, unique=True),
    st.lists(st.ip_addresses(), max_size=5, unique=True),
    st.integers(0, 400),
)
def test_like_dnspython(question: str, aliases: list[str], addresses: list, cut: int) -> None:
    message = dns.message.make_response(dns.message.make_query(f"{question}.", "A"))
    owners = [question, *(a for a in aliases if a != question)]
    for owner, target in pairwise(owners):
        message.answer.append(rrset.from_text(f"{owner}.", 60, "IN", "CNAME", f"{target}."))
    for address in addresses:
        message.answer.append(
            rrset.from_text(f"{owners[-1]}.", 60, "IN", "AAAA" if address.version == 6 else "A", str(address))
        )
    assert message.flags & flags.QR
    wire = message.to_wire()
    assert parse_answers(wire) == [(question, str(address)) for address in addresses]
    assert set(parse_answers(wire[:cut])) <= set(parse_answers(wire))


@pytest.mark.parametrize("kind", ["A", "AAAA", "MX"])
@pytest.mark.parametrize("code", [None, 0, 2, 3])
def test_what_a_message_is_about(kind: str, code: int | None) -> None:
    query = dns.message.make_query("Cache.Example.com", kind)
    message = query if code is None else dns.message.make_response(query)
    if code is not None:
        message.set_rcode(code)
    wire, number = message.to_wire(), {"A": 1, "AAAA": 28, "MX": 15}[kind]
    assert parse_message(wire) == Message(query.id, "cache.example.com", number, code)
    assert all(parse_message(wire[:n]) is None for n in range(12 + 19 + 4))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_none(payload: bytes) -> None:
    parse_message(payload)
    parse_message(b"\0\1\1\0\0\1" + payload)
