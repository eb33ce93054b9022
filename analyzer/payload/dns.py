"""Messages of the domain name system (RFC 1035): what is asked, which addresses a queried name stands for, or why there are none."""

from __future__ import annotations

import ipaddress
import struct

from msgspec import Struct

A, CNAME, AAAA = 1, 5, 28
INTERNET = 1
HEADER = 12
#: Answers that are none (RFC 1035 §4.1.1).
REFUSALS = {2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}
#: A message that claims more records than this is read no further: 4 KB hold some 250 of the shortest.
MAX_RECORDS = 512
#: RFC 1035 §2.3.4; pointers may shorten what is stored, never lengthen a name beyond this.
MAX_NAME = 255
#: Aliases after one another; resolvers give up far earlier (BIND: 11).
MAX_ALIASES = 16
#: Pointers in one name; writers use one, for the rest of the name.
MAX_POINTERS = 16


class _CutError(Exception):
    """The message ends, or contradicts itself, here."""


def parse_answers(payload: bytes) -> list[tuple[str, str]]:
    """(queried name, address) for every address in a response that the question's name leads to through its aliases.

    What is cut or contradictory ends the reading; what came before counts. Names are in lower case without the final dot.
    """
    aliases: dict[str, str] = {}
    addresses: list[tuple[str, str]] = []
    question = ""
    try:
        _, flags, questions, answers = struct.unpack_from(">HHHH", payload) if len(payload) >= HEADER else (0, 0, 0, 0)
        if not flags & 0x8000 or questions != 1:
            return []
        question, at = _name(payload, HEADER)
        at += 4
        for _ in range(min(answers, MAX_RECORDS)):
            owner, at = _name(payload, at)
            kind, group, _, size = _fields(payload, at)
            at += 10
            if group == INTERNET and kind == CNAME:
                aliases.setdefault(owner, _name(payload, at)[0])
            elif group == INTERNET and (kind, size) in ((A, 4), (AAAA, 16)):
                addresses.append((owner, _address(payload, at, size)))
            at += size
    except _CutError:
        pass
    reached = _reached(question, aliases)
    return list(dict.fromkeys((question, address) for owner, address in addresses if owner in reached))


def parse_refusal(payload: bytes) -> tuple[str, str] | None:
    """(queried name, one of `REFUSALS`) of a response that says that there is no answer; None for any other message."""
    _, flags, questions = struct.unpack_from(">HHH", payload) if len(payload) >= HEADER else (0, 0, 0)
    code = REFUSALS.get(flags & 0xF)
    if not flags & 0x8000 or questions != 1 or code is None:
        return None
    try:
        return _name(payload, HEADER)[0], code
    except _CutError:
        return None


class Message(Struct, frozen=True):
    """What a message is about: the asker's id, the question's name and type, and for an answer its response code (None: a query)."""

    id: int
    name: str
    kind: int
    code: int | None


def parse_message(payload: bytes) -> Message | None:
    """A query or an answer with one question of the Internet class; None for any other message, or a cut one."""
    number, flags, questions = struct.unpack_from(">HHH", payload) if len(payload) >= HEADER else (0, 0, 0)
    if questions != 1:
        return None
    try:
        name, at = _name(payload, HEADER)
        kind, group = struct.unpack_from(">HH", payload, at) if at + 4 <= len(payload) else (0, 0)
    except _CutError:
        return None
    return Message(number, name, kind, flags & 0xF if flags & 0x8000 else None) if group == INTERNET else None


def _reached(name: str, aliases: dict[str, str]) -> set[str]:
    """A name and all that it is an alias for."""
    reached = {name}
    for _ in range(MAX_ALIASES):
        if name not in aliases:
            break
        name = aliases[name]
        reached.add(name)
    return reached


def _fields(payload: bytes, at: int) -> tuple[int, int, int, int]:
    """(type, class, time to live, length of the data) of a resource record after its name."""
    if at + 10 > len(payload):
        raise _CutError
    kind, group, ttl, size = struct.unpack_from(">HHIH", payload, at)
    return kind, group, ttl, size


def _address(payload: bytes, at: int, size: int) -> str:
    if at + size > len(payload):
        raise _CutError
    return str(ipaddress.ip_address(payload[at : at + size]))


def _name(payload: bytes, at: int) -> tuple[str, int]:
    """(name, where reading goes on). Each pointer must point further back than the one before (RFC 1035 §4.1.4)."""
    labels: list[str] = []
    used, pointers, after, limit = 0, 0, -1, at
    while True:
        if at >= len(payload):
            raise _CutError
        size = payload[at]
        if size == 0:
            return ".".join(labels), after if after >= 0 else at + 1
        if size >= 0xC0:
            if at + 1 >= len(payload):
                raise _CutError
            target = (size & 0x3F) << 8 | payload[at + 1]
            pointers += 1
            if target >= limit or pointers > MAX_POINTERS:
                raise _CutError
            after, at, limit = after if after >= 0 else at + 2, target, target
            continue
        used += size + 1
        if size > 63 or used > MAX_NAME or at + 1 + size > len(payload):
            raise _CutError
        labels.append(payload[at + 1 : at + 1 + size].decode("ascii", "replace").lower())
        at += 1 + size
