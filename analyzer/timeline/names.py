"""Names of servers: what a client asked for in its ClientHello, what DNS answered, what the capture itself notes."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from analyzer.model.times import SECOND
from analyzer.payload import dns, tls

if TYPE_CHECKING:
    from analyzer.timeline.points import Point


#: An id that comes again later than this is of another question: resolvers give one up after 30 s at most (glibc: RES_MAXRETRANS).
ASKED_ANEW_NS = 30 * SECOND


class Refusal(Struct, frozen=True):
    """A DNS answer that says that a name has none: at which point, which record, when, and its code (`dns.REFUSALS`)."""

    point: int
    no: int
    source_ns: int
    time_ns: int
    name: str
    code: str


def refusals(points: list[Point], name: str) -> list[Refusal]:
    """What DNS answered about a name that it could not resolve, by aligned time."""
    found = []
    for p, point in enumerate(points):
        for no, ns, message in point.data.dns:
            refused = dns.parse_refusal(message)
            if refused is not None and refused[0] == name.lower().rstrip("."):
                found.append(Refusal(p, no, ns, point.aligned(ns), *refused))
    return sorted(found, key=lambda r: (r.time_ns, r.point, r.no))


class Lookup(Struct):
    """One question of a client and what became of it, seen at one point: `last_ns` when it was asked for the last time, in how many copies;
    `code` None where no answer to it was seen, else that of DNS (0: an answer, be it empty)."""

    point: int
    no: int
    source_ns: int
    time_ns: int
    client: str
    resolver: str
    name: str
    last_ns: int
    copies: int = 1
    code: int | None = None
    answer: Refusal | None = None


def lookups(points: list[Point]) -> list[Lookup]:
    """What clients asked DNS for addresses of, by aligned time; a question that is repeated with the same id is one."""
    found = []
    for p, point in enumerate(points):
        asked: dict[tuple[int, str, int], list[Lookup]] = defaultdict(list)
        for query in sorted(point.data.queries, key=lambda q: (q.time_ns, q.no)):
            said = dns.parse_message(query.message)
            if said is None or said.code is not None or said.kind not in (dns.A, dns.AAAA):
                continue
            now, same = point.aligned(query.time_ns), asked[said.id, said.name, said.kind]
            if same and now - same[-1].last_ns <= ASKED_ANEW_NS:
                same[-1].last_ns, same[-1].copies = now, same[-1].copies + 1
            else:
                client = query.client.rpartition(":")[0]
                same.append(Lookup(p, query.no, query.time_ns, now, client, query.resolver, said.name, now))
        for no, ns, message in point.data.dns:
            said = dns.parse_message(message)
            same = asked.get((said.id, said.name, said.kind), []) if said is not None else []
            now = point.aligned(ns)
            at = bisect_right(same, now, key=lambda lookup: lookup.time_ns) - 1
            if said is not None and at >= 0 and now <= same[at].last_ns + ASKED_ANEW_NS and same[at].code != 0:
                same[at].code = said.code
                word = dns.REFUSALS.get(said.code or 0)
                same[at].answer = Refusal(p, no, ns, now, said.name, word) if word else None
        found += [lookup for same in asked.values() for lookup in same]
    return sorted(found, key=lambda x: (x.time_ns, x.point, x.no))


class Names:
    """Names by capture point and connection, and by address and time."""

    def __init__(self, points: list[Point]) -> None:
        self._asked: dict[tuple[int, int], list[str]] = defaultdict(list)
        self._answers: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self._noted: dict[str, str] = {}
        for p, point in enumerate(points):
            for number, uid in sorted(point.data.owners.items()):
                hello = tls.client_hello(point.data.texts.get(number, b""))
                if hello is not None and hello.name and hello.name not in self._asked[p, uid]:
                    self._asked[p, uid].append(hello.name)
            for _, ns, message in point.data.dns:
                for name, address in dns.parse_answers(message):
                    self._answers[address].append((point.aligned(ns), name))
            self._noted |= point.data.names
        for answers in self._answers.values():
            answers.sort()

    def __bool__(self) -> bool:
        """Whether any name is known at all."""
        return bool(self._asked or self._answers or self._noted)

    def asked(self, point: int, uid: int) -> list[str]:
        """Names that a connection's client asked for in TLS, by point and `UID`."""
        return self._asked.get((point, uid), [])

    def known(self) -> Iterator[tuple[str, str, str]]:
        """(name, address, how) of everything told about addresses rather than connections."""
        for address, answers in self._answers.items():
            yield from ((name, address, "DNS answer") for _, name in answers)
        yield from ((name, address, "note") for address, name in self._noted.items())

    def of(self, members: list[tuple[int, int]], address: str, opened_ns: int) -> list[str]:
        """Names of one connection, seen as these (point, `UID`), to a server's address; the latest answer before it opened."""
        found = [name for member in members for name in self._asked.get(member, ())]
        answers = self._answers.get(address, [])
        at = bisect_right(answers, opened_ns, key=lambda answer: answer[0])
        if at:
            found.append(answers[at - 1][1])
        if address in self._noted:
            found.append(self._noted[address])
        return list(dict.fromkeys(found))
