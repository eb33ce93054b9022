"""Names of servers: what a client asked for in its ClientHello, what DNS answered, what the capture itself notes."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analyzer.payload import dns, tls

if TYPE_CHECKING:
    from analyzer.timeline.points import Point


@dataclass(frozen=True, slots=True)
class Refusal:
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
