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
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analyzer.model.addresses import endpoint
from analyzer.model.events import Event
from analyzer.model.records import Tie
from analyzer.model.times import MS, SECOND
from analyzer.tcp import fields as f
from analyzer.timeline.points import SERVER
from analyzer.timeline.story import Story

if TYPE_CHECKING:
    import numpy as np
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
#: Rivals that are told.
MOST_TOLD = 5


@dataclass(frozen=True, slots=True)
class _Sign:
    """What of a connection makes errors of some codes, how long before their line at most, and the words for it."""

    codes: frozenset[str]
    within_ns: int
    words: str


RESET = _Sign(frozenset(("ECONNRESET",)), TOLD_NS, "the server's reset")
REFUSED = _Sign(frozenset(("ECONNREFUSED",)), TOLD_NS, "the reset that answered its SYN")
UNANSWERED = _Sign(frozenset(("ETIMEDOUT",)), GIVEN_UP_NS, "its SYN, never answered")
CLOSED = _Sign(frozenset(("EPIPE", "CLOSED")), NOTICED_NS, "the server's close")


def tie_errors(story: Story) -> None:
    """Set `connection` of application errors that one connection explains; every tie is told in `story.ties`."""
    errors = [e for e in story.events if e.kind == "error" and e.connection is None and e.environment is not None]
    if not errors or not len(story.connections):
        return
    known = {sign.words: _seen(story, sign) for sign in (RESET, REFUSED, UNANSWERED, CLOSED)}
    ports = _ports(story) if any(e.attrs.get("local") for e in errors) else {}
    for e in errors:
        alive = [k for k in ports.get(e.attrs.get("local", ""), ()) if _alive(story, e, k)]
        if len(alive) == 1:
            _tie(story, e, alive[0], "certain", "it prints the client's own address")
            continue
        for sign in (RESET, REFUSED, UNANSWERED, CLOSED):
            if e.attrs.get("code") in sign.codes and _fits(e, sign):
                _by_sign(story, e, sign, known[sign.words])
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


def _seen(story: Story, sign: _Sign) -> dict[str, list[tuple[int, int]]]:
    """(aligned time, connection) of a sign, in order, by environment (`env …`) and by server (`to …`)."""
    cs = story.connections
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for k in range(len(cs)):
        point = cs.points[cs.seen_at(k)[0]]
        row = point.rows[cs.members[k, cs.seen_at(k)[0]]]
        if not (stamp := _stamp(row, sign)):
            continue
        when = (point.aligned(stamp), k)
        found[f"to {endpoint(int(row[f.S_HI]), int(row[f.S_LO]), int(row[f.S_PORT]))}"].append(when)
        for environment in _environments(story, k):
            found[f"env {environment}"].append(when)
    for times in found.values():
        times.sort()
    return found


def _stamp(row: NDArray[np.int64], sign: _Sign) -> int:
    """When a connection showed a sign, 0 where it did not."""
    syn, answer, fin, rst = row[[f.SYN_TS, f.SYN_ACK_TS, SERVER + f.FIN_TS, SERVER + f.RST_TS]].tolist()
    established = answer > 0 or syn <= 0
    if sign is CLOSED:
        return min((t for t in (fin, rst) if t > 0), default=0) if established else 0
    if sign is UNANSWERED:
        return 0 if established or rst > 0 else syn
    return rst if established == (sign is RESET) and rst > 0 else 0


def _environments(story: Story, k: int) -> set[str]:
    cs = story.connections
    behind = {cs.environment[k]} if k in cs.environment else set()
    return behind | {t.environment for t in map(story.transport, cs.transports.get(k, ())) if t.environment}


def _candidates(
    story: Story, e: Event, sign: _Sign, seen: dict[str, list[tuple[int, int]]]
) -> Iterator[tuple[int, int]]:
    """(how long before the line, connection) of what may have made an error."""
    times = seen.get(f"to {e.remote}" if e.remote else f"env {e.environment}", [])
    first = bisect_left(times, (e.time_ns - sign.within_ns - SECOND,))
    last = bisect_right(times, (e.time_ns + SECOND, len(story.connections)))
    for t, k in times[first:last]:
        behind, error = _environments(story, k), story.misplaced(e, k)
        if error is None or (behind and e.environment not in behind):
            continue
        if -error - 2 * MS <= e.time_ns - t <= sign.within_ns + error:
            yield e.time_ns - t, k


def _by_sign(story: Story, e: Event, sign: _Sign, seen: dict[str, list[tuple[int, int]]]) -> None:
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
