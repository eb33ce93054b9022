"""What a story may be about: a connection, a request, an environment, a finding, each found by the name that people have.

Names are told apart by what they are in this trace: `C7` and `F3` are ours, `ip:port` is a client's, anything else is the
beginning of a request id or a part of an environment's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import islice

import numpy as np
from msgspec import Struct

from analyzer.model.addresses import halves, split
from analyzer.model.findings import Finding
from analyzer.model.problems import UnknownNameError
from analyzer.model.times import iso
from analyzer.tcp import fields as f
from analyzer.timeline.story import Story

CONNECTION, REQUEST, ENVIRONMENT, FINDING = "connection", "request", "environment", "finding"
_OURS = re.compile(r"([CcFf])([0-9]{1,9})")
#: Names that an error lists.
LISTED = 5
#: Names that are searched for one that is nearly right: a comparison takes some microseconds.
SEARCHED = 5_000
#: Shorter beginnings of an id are rather a slip.
LEAST_LETTERS = 2


class Subject(Struct, frozen=True):
    """What a story is about. `id` is the whole name; `environments` are those behind it (of a retried request, several)."""

    kind: str
    id: str
    connections: tuple[int, ...] = ()
    environments: tuple[str, ...] = ()
    finding: Finding | None = None


def subject(story: Story, findings: list[Finding], name: str) -> Subject:
    """What `name` stands for: `C7`, `F3`, a client's `ip:port` (with the server's behind a dash), the beginning of a request id,
    a part of an environment's name. Raises `UnknownNameError` where that is nothing, or several things."""
    name = name.strip()
    if ours := _OURS.fullmatch(name):
        return _ours(story, findings, name, *ours.groups())
    if (ks := connections_at(story, name)) is not None:
        return _one_connection(story, name, ks)
    whole = _whole(story, name)
    if whole:
        return _named(story, *whole)
    found = list(islice(_beginning(story, name), LISTED + 1)) if len(name) >= LEAST_LETTERS else []
    if len(found) == 1:
        return _named(story, *found[0])
    if found:
        told = [f"{kind} {_shown(story, kind, full)}" for kind, full in found[:LISTED]]
        more = ", …" if len(found) > LISTED else ""
        raise UnknownNameError(f"{name!r} may be {', '.join(told)}{more}: write more of it")
    raise UnknownNameError(_unknown(story, findings, name))


def connections_at(story: Story, name: str) -> list[int] | None:
    """The connections of a client `ip:port` (or `ip`), with the server's behind a dash; None where `name` is no address."""
    ends = [_address(part) for part in name.split("-")]
    if None in ends or len(ends) > 2:
        return None
    return _with_ends(story, list(zip((f.C_HI, f.S_HI), (end for end in ends if end), strict=False)))


def _address(text: str) -> tuple[int, int, int | None] | None:
    """(high half, low half, port) of `ip:port`; the port is None where there is none, all is where it is no address."""
    try:
        address, port = split(text)
    except ValueError:
        address, port = text.strip("[]"), None
    try:
        return (*halves(address), port)
    except ValueError:
        return None


def _with_ends(story: Story, ends: list[tuple[int, tuple[int, int, int | None]]]) -> list[int]:
    """Connections with these ends (first column, address) at any capture point."""
    cs = story.connections
    chosen = np.zeros(len(cs), np.bool_)
    for p, point in enumerate(cs.points):
        rows = point.rows
        hit = np.ones(len(rows), np.bool_)
        for column, (high, low, port) in ends:
            hit &= (rows[:, column] == high) & (rows[:, column + 1] == low)
            if port is not None:
                hit &= rows[:, column + 2] == port
        here = np.flatnonzero(cs.members[:, p] >= 0)
        chosen[here] |= hit[cs.members[here, p]]
    return np.flatnonzero(chosen).tolist()


def _ours(story: Story, findings: list[Finding], name: str, letter: str, number: str) -> Subject:
    """`C7` or `F3`."""
    n = int(number)
    if letter in "Cc":
        count = len(story.connections)
        if not 1 <= n <= count:
            raise UnknownNameError(f"no connection {name!r}: {_connections(count)}")
        return _connection(story, n - 1)
    found = next((item for item in findings if item.id == f"F{n}"), None)
    if found is None:
        ids = [item.id for item in findings]
        told = f"{', '.join(ids[:LISTED])}{' …' if len(ids) > LISTED else ''}" if ids else "no findings"
        raise UnknownNameError(f"no finding {name!r}: there {'is' if len(ids) == 1 else 'are'} {told}")
    ks = tuple(
        int(c[1:]) - 1 for c in dict.fromkeys(([found.connection] if found.connection else []) + found.connections)
    )
    behind = [found.environment] if found.environment else [e for k in ks if (e := environment_of(story, k))]
    return Subject(FINDING, found.id, ks, tuple(dict.fromkeys(behind)), found)


def _connections(count: int) -> str:
    if not count:
        return "there are no connections"
    return f"there {'is' if count == 1 else 'are'} C1{f' … C{count}' if count > 1 else ''}"


def environment_of(story: Story, k: int) -> str | None:
    """The environment behind connection `k`: behind its client, or (where several share the address) of its transport."""
    cs = story.connections
    if k in cs.environment:
        return cs.environment[k]
    return next((story.transport(t).environment for t in cs.transports.get(k, ())), None)


def connections_of(story: Story, environment: str) -> list[int]:
    """The connections of an environment, in order."""
    cs = story.connections
    tied = {k for k, env in cs.environment.items() if env == environment}
    return sorted(tied | {k for k in cs.transports if environment_of(story, k) == environment})


def _connection(story: Story, k: int) -> Subject:
    environment = environment_of(story, k)
    return Subject(CONNECTION, story.connections.id(k), (k,), (environment,) if environment else ())


def _one_connection(story: Story, name: str, ks: list[int]) -> Subject:
    if len(ks) == 1:
        return _connection(story, ks[0])
    cs = story.connections
    if ks:
        told = [f"{cs.id(k)} to {cs.server(k)} from {iso(_opened(story, k))[:23]}Z" for k in ks[:LISTED]]
        raise UnknownNameError(f"{name} is {', '.join(told)}{', …' if len(ks) > LISTED else ''}: name one of them")
    address = _address(name)
    as_server = _with_ends(story, [(f.S_HI, address)]) if address else []
    if as_server:
        told = [cs.id(k) for k in as_server[:LISTED]]
        raise UnknownNameError(
            f"{name} is a server, of {', '.join(told)}{', …' if len(as_server) > LISTED else ''}: name one of them"
        )
    raise UnknownNameError(f"no connection of {name!r}: {_connections(len(cs))}")


def _opened(story: Story, k: int) -> int:
    return story.connections.life(k)[0]


# ---- requests and environments


def _names(story: Story) -> Iterator[tuple[str, str]]:
    """(kind, whole name) of every environment and request, each once."""
    for environment in story.environments:
        yield ENVIRONMENT, environment.id
    told = (i.request_id for i in story.invocations)
    printed = (e.request_id for e in story.events if e.request_id)
    for request in dict.fromkeys((*told, *printed)):
        yield REQUEST, request


def _whole(story: Story, name: str) -> tuple[str, str] | None:
    return next(((kind, full) for kind, full in _names(story) if full == name), None)


def _beginning(story: Story, name: str) -> Iterator[tuple[str, str]]:
    """Requests that begin with a name, environments that contain it."""
    wanted = name.lower()
    for kind, full in _names(story):
        lower = full.lower()
        if lower.startswith(wanted) if kind == REQUEST else wanted in lower:
            yield kind, full


def _named(story: Story, kind: str, full: str) -> Subject:
    if kind == ENVIRONMENT:
        return Subject(kind, full, tuple(connections_of(story, full)), (full,))
    ran = [i.environment for i in story.invocations if i.request_id == full]
    ran = ran or [e.environment for e in story.events if e.request_id == full and e.environment]
    return Subject(kind, full, (), tuple(dict.fromkeys(ran)))


def _shown(story: Story, kind: str, full: str) -> str:
    began = next((i.start_ns for i in story.invocations if i.request_id == full), None) if kind == REQUEST else None
    return full + (f" ({iso(began)[11:23]})" if began is not None else "")


def _unknown(story: Story, findings: list[Finding], name: str) -> str:
    """What to say of a name that is none: what comes near it, or what kinds of names there are."""
    near = _near(name, (full for _, full in _names(story)))
    if near:
        return f"nothing is called {name!r}: did you mean {' or '.join(near)}?"
    kinds = [
        ("connection", len(story.connections)), ("finding", len(findings)), ("invocation", len(story.invocations)),
        ("environment", len(story.environments)),
    ]  # fmt: skip
    told = [f"{count:,} {what}{'' if count == 1 else 's'}" for what, count in kinds if count]
    return f"nothing is called {name!r}: there are {', '.join(told) or 'no connections, requests or environments'}"


def _near(name: str, names: Iterable[str]) -> list[str]:
    """Whole names near a name that may be a part of them."""
    pieces: dict[str, str] = {}
    for full in islice(names, SEARCHED):
        for piece in (full, full.rpartition("]")[2], full[: len(name)], full.rpartition("]")[2][: len(name)]):
            pieces.setdefault(piece, full)
    found = get_close_matches(name, pieces, n=LISTED, cutoff=0.75)
    return list(dict.fromkeys(pieces[piece] for piece in found))[:3]
