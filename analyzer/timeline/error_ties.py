"""Which connection an application's error is about.

An error says what the operating system told the process, and at most the peer's address. So it belongs to a connection of its
environment, or to that address, on which at that moment passed what makes such an error: a reset for ECONNRESET, a refused or
unanswered SYN for a failed connect, the server's close for a write on a closed connection. Where the error prints the
client's own port, that settles it. Where several connections would do as well, the error is tied to none, and all are told.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from analyzer.model.addresses import halves, normal, split
from analyzer.model.events import Event
from analyzer.model.records import Tie
from analyzer.model.times import MS, SECOND
from analyzer.tcp import fields as f
from analyzer.timeline.points import SERVER
from analyzer.timeline.story import Story

if TYPE_CHECKING:
    from numpy.typing import NDArray

KIND = "error-connection"
#: From what passed on the wire to the line that tells of it: the process must run and print (measured: 1 to 40 ms).
TOLD_NS = 250 * MS
#: A connect is given up by the client's own timer or the kernel's (tcp_syn_retries 6: 127 s).
GIVEN_UP_NS = 140 * SECOND
#: A close is noticed at the next use, a freeze later.
NOTICED_NS = 900 * SECOND
#: What passes so much sooner than what a rival shows is no better a fit: lines are stamped to the millisecond.
SAME_NS = 20 * MS
#: So many of the latest connections before an error are looked at: more than this fit only where none is tied.
MOST_LOOKED = 256
#: Rivals that are told.
MOST_TOLD = 5


class _Sign(Struct, frozen=True):
    """What of a connection makes errors of some codes, how long before their line at most, and the words for it."""

    codes: frozenset[str]
    within_ns: int
    words: str


RESET = _Sign(frozenset(("ECONNRESET",)), TOLD_NS, "the server's reset")
REFUSED = _Sign(frozenset(("ECONNREFUSED",)), TOLD_NS, "the reset that answered its SYN")
UNANSWERED = _Sign(frozenset(("ETIMEDOUT",)), GIVEN_UP_NS, "its SYN, never answered")
CLOSED = _Sign(frozenset(("EPIPE", "CLOSED")), NOTICED_NS, "the server's close")
SIGNS = (RESET, REFUSED, UNANSWERED, CLOSED)


class _Seen(Struct):
    """The connections that showed a sign, as (aligned time, connection) in order: those of each environment, and those that no
    environment is known to own, with times, connections and servers (both halves, port) as arrays, and lists of them by server.
    """

    owned: dict[str, list[tuple[int, int]]]
    times: NDArray[np.int64]
    ks: NDArray[np.int64]
    servers: NDArray[np.int64]
    towards: dict[str, list[tuple[int, int]]] = {}

    def unowned(self, remote: str) -> list[tuple[int, int]]:
        """Those towards a server that no environment is known to own."""
        if remote not in self.towards:
            name, port = split(remote)
            chosen = (self.servers == (*halves(name), port)).all(axis=1)
            self.towards[remote] = list(zip(self.times[chosen].tolist(), self.ks[chosen].tolist(), strict=True))
        return self.towards[remote]


def tie_errors(story: Story) -> None:
    """Set `connection` of application errors that one connection explains; every tie is told in `story.ties`."""
    errors = [e for e in story.of_kind("error") if e.connection is None and e.environment is not None]
    if not errors or not len(story.connections):
        return
    codes = {e.attrs.get("code") for e in errors}
    behind = _environments(story)
    known = {sign: _seen(story, sign, behind) for sign in SIGNS if not codes.isdisjoint(sign.codes)}
    ports = _ports(story) if any(e.attrs.get("local") for e in errors) else {}
    for e in errors:
        alive = [k for k in ports.get(e.attrs.get("local", ""), ()) if _alive(story, e, k)]
        if len(alive) == 1:
            _tie(story, e, alive[0], "certain", "it prints the client's own address")
            continue
        for sign, seen in known.items():
            if e.attrs.get("code") in sign.codes and _fits(e, sign):
                _by_sign(story, e, sign, seen)
                break


def _ports(story: Story) -> dict[str, list[int]]:
    """Connections by the client's address; ports come round again."""
    found: dict[str, list[int]] = defaultdict(list)
    for k in range(len(story.connections)):
        found[story.connections.client(k)].append(k)
    return found


def _alive(story: Story, e: Event, k: int) -> bool:
    """Whether a connection was there before an error, and nothing passed on it long after."""
    error = story.misplaced(e, k)
    first, last = story.connections.life(k)
    return error is not None and first <= e.time_ns + error and e.time_ns - error <= last + NOTICED_NS


def _fits(e: Event, sign: _Sign) -> bool:
    """Whether an error is of the stage in which the sign shows."""
    connecting = e.attrs.get("stage") == "connect"
    return connecting == (sign in (REFUSED, UNANSWERED))


def _seen(story: Story, sign: _Sign, behind: dict[int, set[str]]) -> _Seen:
    """What showed a sign, by the point nearest the client."""
    cs = story.connections
    stamps = np.zeros(len(cs), np.int64)
    rest = np.ones(len(cs), np.bool_)
    for p in cs.nearness:
        ks = np.flatnonzero(rest & (cs.members[:, p] >= 0))
        rest[ks] = False
        found = _stamps(cs.points[p].rows[cs.members[ks, p]], sign)
        stamps[ks] = np.where(found > 0, cs.points[p].clock.aligned_all(found), 0)
    order = np.argsort(stamps, kind="stable")
    order = order[np.searchsorted(stamps[order], 1) :]
    mine = np.isin(order, np.fromiter(behind, np.int64, len(behind)))
    owned: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for k in order[mine].tolist():
        for environment in behind[k]:
            owned[environment].append((int(stamps[k]), k))
    others = order[~mine]
    return _Seen(owned, stamps[others], others, cs.servers(others))


def _stamps(rows: NDArray[np.int64], sign: _Sign) -> NDArray[np.int64]:
    """When each connection showed a sign, 0 where it did not."""
    syn, answer, fin, rst = (rows[:, k] for k in (f.SYN_TS, f.SYN_ACK_TS, SERVER + f.FIN_TS, SERVER + f.RST_TS))
    established = (answer > 0) | (syn <= 0)
    if sign is CLOSED:
        first = np.where((fin > 0) & ((rst <= 0) | (fin < rst)), fin, rst)
        return np.where(established, first, 0)
    if sign is UNANSWERED:
        return np.where(established | (rst > 0), 0, syn)
    return np.where(established == (sign is RESET), rst, 0)


def _environments(story: Story) -> dict[int, set[str]]:
    """The environments that own a connection, by its own tie or its transports'."""
    cs = story.connections
    found = {k: {environment} for k, environment in cs.environment.items()}
    for k, names in cs.transports.items():
        theirs = {t.environment for t in map(story.transport, names) if t.environment}
        if theirs:
            found.setdefault(k, set()).update(theirs)
    return found


def _candidates(story: Story, e: Event, sign: _Sign, seen: _Seen) -> Iterator[tuple[int, int]]:
    """(how long before the line, connection) of what may have made an error: of the nearest ones, which are enough to tell rivals."""
    remote = normal(e.remote) if e.remote else None
    for times, of_any_server in (
        (seen.owned.get(e.environment or "", []), True),
        (seen.unowned(remote) if remote else [], False),
    ):
        first = bisect_left(times, (e.time_ns - sign.within_ns - SECOND,))
        last = bisect_right(times, (e.time_ns + SECOND, len(story.connections)))
        for t, k in times[max(first, last - MOST_LOOKED) : last]:
            error = story.misplaced(e, k)
            if error is None or (of_any_server and e.remote and story.connections.server(k) != e.remote):
                continue
            if not of_any_server and not story.may_own(e.environment, k):
                continue
            if -error - 2 * MS <= e.time_ns - t <= sign.within_ns + error:
                yield e.time_ns - t, k


def _by_sign(story: Story, e: Event, sign: _Sign, seen: _Seen) -> None:
    fitting = sorted(_candidates(story, e, sign, seen), key=lambda x: (abs(x[0]), x[1]))
    if not fitting:
        return
    cs = story.connections
    (nearest, k), *others = fitting
    rivals = [(late, other) for late, other in others if sign is CLOSED or abs(late) - abs(nearest) <= SAME_NS]
    where = f"to {e.remote}" if e.remote else "of its environment"
    told = f"a connection {where}, {sign.words} {abs(nearest) / MS:.0f} ms {'before' if nearest >= 0 else 'after'} the line"
    if not rivals:
        _tie(story, e, k, "likely", told)
        return
    names = [cs.id(k), *(cs.id(other) for _, other in rivals)][:MOST_TOLD]
    for rank, name in enumerate(names, 1):
        rest = [other for other in names if other != name]
        story.ties.append(
            Tie(
                KIND,
                _name(e),
                name,
                "possible",
                f"{told if rank == 1 else sign.words}; {len(fitting)} connections fit: left untied",
                False,
                rank,
                rest,
                [_name(e)],
            )
        )


def _tie(story: Story, e: Event, k: int, confidence: str, evidence: str) -> None:
    e.connection = story.connections.id(k)
    story.ties.append(Tie(KIND, _name(e), e.connection, confidence, evidence, refs=[_name(e)]))


def _name(e: Event) -> str:
    """An error's place, which is all the name that it has."""
    return f"{e.source}{'' if e.ref[:1] in '#:[' else '!'}{e.ref}"
