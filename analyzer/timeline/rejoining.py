"""Environments whose log stream an export lost, put together again by the connections that their invocations speak on.

Nesting of START and REPORT cannot tell which of several idle environments took an invocation (`environments`): each such stands by
itself. A TCP connection is one process's, so two invocations in which it speaks are of one environment, whatever NAT is in
between. Where several invocations run as it speaks, those that run at the same time as another one of its own are none of its.

What does not fit together (one of its environments begins anew later, or two of its invocations overlap: a proxy's connection,
which carries many clients) joins nothing. Nor is anything joined across an invocation that may have run in between: what would look
like one freeze might be two.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from heapq import heappop, heappush
from itertools import islice, pairwise
from operator import attrgetter

from analyzer.model.records import Invocation
from analyzer.model.times import MS
from analyzer.timeline.joined import Joined
from analyzer.timeline.log_anchors import END_SLACK_NS, LONGEST_NS
from analyzer.timeline.shares import bursts_of
from analyzer.timeline.story import Story
from analyzer.timeline.transport_ties import frame_error

_START = attrgetter("start_ns")
#: Invocations overlap by more than this: REPORT is stamped a few ms after the next START now and then.
OVERLAP_NS = 10 * MS
#: A connection silent this long speaks anew.
SPEAKS_ANEW_NS = 20 * MS
#: Of more invocations at a time, or in a gap, none is told from the others; of more altogether, none is looked at.
MOST_AT_ONCE, MOST_BETWEEN, MOST_RUNS = 8, 64, 10_000
#: How often what is joined tells more, and how often a connection that does not fit is left out.
MOST_ROUNDS = 8


def rejoined(story: Story, invocations: list[Invocation], guessed: set[str]) -> dict[str, str]:
    """For environments of `guessed` that go on where others ended, the name of the first: what tells is in the captures that share
    a clock with them. `invocations` in order of time."""
    cs, found = story.connections, dict[str, str]()
    frame_of = {s.id: s.clocks[0].frame for s in story.sources if s.clocks}
    for frame in sorted({point.clock.frame for point in cs.points}) if guessed else ():
        runs = [i for i in invocations if i.start_ref and frame_of.get(i.start_ref[0]) == frame]
        if len(runs) <= MOST_RUNS and any(i.environment in guessed for i in runs):
            captures = [p for p, point in enumerate(cs.points) if point.clock.frame == frame]
            error = frame_error(story, frame, {cs.points[p].source.id for p in captures})
            ks, times = bursts_of(cs, captures, SPEAKS_ANEW_NS)
            bursts = list(zip(times.tolist(), ks.tolist(), strict=True))
            hosts = {k: cs.client(k).rpartition(":")[0] for k in set(ks.tolist())}
            found |= by_connections(runs, guessed, bursts, hosts, error)
    return found


def by_connections(
    runs: list[Invocation], guessed: set[str], bursts: list[tuple[int, int]], hosts: dict[int, str], error_ns: int
) -> dict[str, str]:
    """`rejoined` for one frame: `bursts` are (time, connection) in order, `hosts` the client's address of each connection."""
    return _Puzzle(runs, guessed, hosts).solved(_heard(runs, bursts, error_ns))


#: Which environments run each time that a connection speaks, by connection: none, or too many, is no names.
_Heard = dict[int, list[tuple[str, ...]]]


def _heard(runs: list[Invocation], bursts: list[tuple[int, int]], error_ns: int) -> _Heard:
    """`bursts` are (time, connection), in order."""
    found: _Heard = defaultdict(list)
    starts = sorted(runs, key=lambda i: i.start_ns - i.error_ns)
    at, running = 0, list[tuple[int, str]]()  # until when, whose
    for time, k in bursts:
        while at < len(starts) and starts[at].start_ns - starts[at].error_ns - error_ns <= time:
            i = starts[at]
            end = i.end_ns + END_SLACK_NS if i.end_ns is not None else i.start_ns + LONGEST_NS
            heappush(running, (end + i.error_ns + error_ns, i.environment))
            at += 1
        while running and running[0][0] < time:
            heappop(running)
        names = {name for _, name in running} if len(running) <= MOST_AT_ONCE else set[str]()
        found[k].append(tuple(sorted(names)))
    return found


class _Puzzle:
    """The invocations of logs that share a clock, and what fits together of their environments."""

    def __init__(self, runs: list[Invocation], guessed: set[str], hosts: dict[int, str]) -> None:
        self._guessed, self._hosts = guessed, hosts
        self._runs = sorted(runs, key=lambda i: i.start_ns)
        self._starts = [i.start_ns for i in self._runs]
        self._sets = Joined()
        self._groups: dict[str, list[Invocation]] = {}
        self._apart: dict[tuple[str, str], bool] = {}

    def solved(self, heard: _Heard) -> dict[str, str]:
        """The name for each environment that goes on where another one ended."""
        for _ in range(MOST_ROUNDS):
            self._join(heard)
            mixed = self._of_two_hosts(heard)
            wrong = {k for k in heard if self._sets.root(str(k)) in mixed or not self._fits(k, heard[k])}
            if not wrong:
                return self._named()
            heard = {k: times for k, times in heard.items() if k not in wrong}
        return {}

    def _join(self, heard: _Heard) -> None:
        """Join what only one environment can have said; what is joined tells who else cannot."""
        self._sets = Joined()
        for _ in range(MOST_ROUNDS):
            self._group(heard)
            before = len(self._groups)
            for k, times in heard.items():
                for names in set(times):
                    may_be = (env for env in names if len(names) == 1 or not self._told_apart(str(k), env))
                    only = list(islice(may_be, 2))
                    if len(only) == 1:
                        self._sets.join(str(k), only[0])
            self._group(heard)
            if len(self._groups) == before:
                return

    def _group(self, heard: _Heard) -> None:
        self._groups, self._apart = {self._sets.root(str(k)): [] for k in heard}, {}
        for i in self._runs:
            self._groups.setdefault(self._sets.root(i.environment), []).append(i)

    def _told_apart(self, one: str, other: str) -> bool:
        """Whether the sets of two names each begin with a process, or have invocations that run at the same time."""
        a, b = sorted((self._sets.root(one), self._sets.root(other)))
        if a == b:
            return False
        if (a, b) not in self._apart:
            few, many = sorted((self._groups.get(a, []), self._groups.get(b, [])), key=len)
            anew = bool(few) and few[0].cold_start and many[0].cold_start
            self._apart[a, b] = anew or any(_overlap(_neighbours(i, many)) for i in few)
        return self._apart[a, b]

    def _fits(self, k: int, times: list[tuple[str, ...]]) -> bool:
        """Whether a connection may be one process's: it speaks while its environment runs and at no other time (an extension
        may, after REPORT, and then in another's invocation), which begins once, and runs one invocation at a time."""
        root = self._sets.root(str(k))
        runs = self._groups[root]
        own = all(any(not self._told_apart(str(k), env) for env in names) for names in times)
        names = {i.environment for i in runs}
        anew = any(i.cold_start and i.environment != runs[0].environment for i in runs)
        return not runs or (own and names <= self._guessed and not anew and not _overlap(runs))

    def _of_two_hosts(self, heard: _Heard) -> set[str]:
        """The sets with connections of two addresses of one version: an environment has one."""
        known: dict[tuple[str, bool], set[str]] = defaultdict(set)
        for k in heard:
            known[self._sets.root(str(k)), ":" in self._hosts[k]].add(self._hosts[k])
        return {root for (root, _), hosts in known.items() if len(hosts) > 1}

    def _named(self) -> dict[str, str]:
        """The first name of each set, or of each part of it between which another invocation may have run."""
        found = dict[str, str]()
        for root, runs in self._groups.items():
            pieces: list[list[str]] = []
            for n, i in enumerate(runs):
                if not n or (i.environment != runs[n - 1].environment and self._between(runs[n - 1], i, root)):
                    pieces.append([])
                pieces[-1].append(i.environment)
            if sum(len(set(piece)) for piece in pieces) == len({i.environment for i in runs}):
                found |= {name: piece[0] for piece in pieces for name in piece if name != piece[0]}
        return found

    def _between(self, a: Invocation, b: Invocation, root: str) -> bool:
        """Whether another invocation may have run between two of a set."""
        first, last = bisect_right(self._starts, a.start_ns), bisect_left(self._starts, b.start_ns)
        if last - first > MOST_BETWEEN:
            return True
        others = {i.environment for i in self._runs[first:last] if i.environment in self._guessed and not i.cold_start}
        return any(self._sets.root(env) != root and not self._told_apart(env, a.environment) for env in others)


def _neighbours(i: Invocation, runs: list[Invocation]) -> list[Invocation]:
    """An invocation between the two of others, in order, beside which it begins."""
    at = bisect_right(runs, i.start_ns, key=_START)
    return [*runs[max(at - 1, 0) : at], i, *runs[at : at + 1]]


def _overlap(runs: list[Invocation]) -> bool:
    """Whether two of these, in order, run at the same time as far as their stamps tell, and are of different environments."""
    for a, b in pairwise(runs):
        end = a.end_ns if a.end_ns is not None else a.start_ns
        if a.environment != b.environment and b.start_ns + b.error_ns + OVERLAP_NS < end - a.error_ns:
            return True
    return False
