"""Environments put together again by the connections that their invocations speak on: part of the truth, or nothing."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from analyzer.model.records import Invocation
from analyzer.model.times import MS
from analyzer.timeline.rejoining import by_connections


def run(name: str, start: int, end: int, cold: bool = False) -> Invocation:
    return Invocation(name, f"request-{name}", 1, start * MS, end * MS, cold_start=cold)


@st.composite
def fleets(draw):
    """Environments of several invocations each, and connections of theirs that speak in some of them; ms.

    (environment, start, end, times at which each of its connections speaks)
    """
    fleet = []
    for n in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, 3_000))
        for _ in range(draw(st.integers(1, 5))):
            length = draw(st.integers(5, 2_000))
            spoken = {c: draw(st.integers(0, length)) for c in range(draw(st.integers(0, 2)))}
            fleet.append((n, at, at + length, {(n, c): at + t for c, t in spoken.items()}))
            at += length + draw(st.sampled_from((12, 300, 4_000)))
    return fleet


@given(fleets(), st.booleans(), st.integers(0, 50))
def test_what_is_joined_was_one(fleet, nat, error):
    """Behind one address or each with its own; every invocation of an environment of its own at first. No two that are joined are
    of different environments, and none of the same ran in between."""
    fleet.sort(key=lambda x: x[1])
    runs, seen = [], set()
    for number, (n, start, end, _) in enumerate(fleet):
        runs.append(run(f"inferred-{number}", start, end, cold=n not in seen))
        seen.add(n)
    ids = {c: k for k, c in enumerate(sorted({c for *_, spoken in fleet for c in spoken}))}
    bursts = sorted((time * MS, ids[c]) for *_, spoken in fleet for c, time in spoken.items())
    hosts = {k: "10.0.0.1" if nat else f"10.0.0.{c[0]}" for c, k in ids.items()}
    names = by_connections(runs, {i.environment for i in runs}, bursts, hosts, error * MS)
    sets: dict[str, list[int]] = {}
    for number, i in enumerate(runs):
        sets.setdefault(names.get(i.environment, i.environment), []).append(number)
    for mine in sets.values():
        assert len({fleet[number][0] for number in mine}) == 1
        for a, b in pairwise(mine):
            assert not any(fleet[between][0] == fleet[a][0] for between in range(a + 1, b))


A, B, C, D = ("inferred-1", "inferred-2", "inferred-3", "inferred-4")


def joined(runs, *spoken: tuple[int, int], hosts=None):
    bursts = [(ms * MS, k) for ms, k in sorted(spoken)]
    return by_connections(runs, {A, B, C, D}, bursts, hosts or {k: "10.0.0.1" for _, k in spoken}, 5 * MS)


#: Two at a time, twice.
TWICE = [run(A, 0, 500), run(B, 200, 900), run(C, 5_000, 5_500), run(D, 5_200, 5_900)]


def test_a_connection_carries_on_in_its_environment():
    assert joined(TWICE, (20, 1), (800, 2), (5_030, 1), (5_800, 2)) == {C: A, D: B}


def test_who_runs_at_the_same_time_as_its_own_is_another():
    """A burst may be C's or D's; one of them speaks on the other connection, whose environment ran beside this one's."""
    assert joined(TWICE, (20, 1), (800, 2), (5_300, 1), (5_800, 2)) == {C: A, D: B}
    assert joined(TWICE, (20, 1), (800, 2), (5_030, 1), (5_300, 2)) == {C: A, D: B}
    assert joined(TWICE, (20, 1), (800, 2), (5_300, 1), (5_400, 2)) == {}


def test_what_may_have_run_in_between_divides():
    silent = run(B, 2_000, 2_500)
    assert joined([run(A, 0, 500), silent, run(C, 5_000, 5_500)], (20, 1), (5_030, 1)) == {}
    began = run(B, 2_000, 2_500, cold=True)
    assert joined([run(A, 0, 500), began, run(C, 5_000, 5_500)], (20, 1), (5_030, 1)) == {C: A}


def test_a_proxys_connection_is_nobodys():
    assert joined(TWICE, (20, 1), (800, 1), (5_030, 1), (5_800, 1)) == {}  # two speak on it at once
    anew = [run(A, 0, 500), run(C, 5_000, 5_500, cold=True)]
    assert joined(anew, (20, 1), (5_030, 1)) == {}  # a new process has none of before
    assert joined([run(A, 0, 500), run(C, 5_000, 5_500)], (20, 1), (3_000, 1), (5_030, 1)) == {}  # while nobody runs


def test_two_addresses_are_two_environments():
    alone = [run(A, 0, 500), run(C, 5_000, 5_500)]
    spoken = (20, 1), (30, 2), (5_030, 1)
    assert joined(alone, *spoken) == {C: A}
    assert joined(alone, *spoken, hosts={1: "10.0.0.1", 2: "10.0.0.2"}) == {}
