"""Which environment is behind which source address, and behind which connection where several share one.

By gRPC transports first; else by when an address speaks and the environment runs, of several addresses and environments by how
they fit together; and where an address speaks for several environments (NAT, a proxy), by when each connection does.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Container, Sequence
from math import log
from operator import neg
from typing import TYPE_CHECKING

import numpy as np

from analyzer.model.addresses import host
from analyzer.model.records import Environment, Tie
from analyzer.tcp import fields as f
from analyzer.timeline.joined import Joined
from analyzer.timeline.log_anchors import END_SLACK_NS, LONGEST_NS
from analyzer.timeline.pairing import best_of_both, best_pairs
from analyzer.timeline.points import Connections
from analyzer.timeline.shares import LEAST_SHARE, Shares
from analyzer.timeline.story import Story
from analyzer.timeline.transport_ties import frame_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

KIND, KIND_OF_ONE = "environment-address", "environment-connection"
#: An address is of an environment where all addresses together are so much likelier so (100 times); what is learnt from need only
#: be likelier than not (3 times).
SURELY, RATHER = 4.6, 1.1
#: So few bursts of one connection prove nothing against what is known of its address.
LEAST_BURSTS = 3
#: Environments between which nothing decides, where that is told at all.
MOST_TOLD = 32
#: Addresses of which every pairing is weighed; of more, each pair alone. How often what they tell is learnt from.
MOST_TOGETHER, MOST_ROUNDS = 400, 6


def tie_environments(story: Story, maybe: dict[int, set[str]], crowd: Container[int]) -> None:
    """Environment ↔ client address, or connection: `connections.environment`, and every tie with its rivals in `story.ties`. `maybe`
    has, by connection, environments one of whose transports it may be; those of a `crowd` may be any's."""
    if not story.environments:
        return
    connections = story.connections
    environments = {e.id: e for e in story.environments}
    together = connections.alike()
    addresses = _addresses(connections, together)
    address_of = np.empty(len(connections), np.int64)
    for n, ks in enumerate(addresses.values()):
        address_of[ks] = n
    shares = _shares(story, together, address_of)
    found: dict[int, list[_Address]] = defaultdict(list)
    for number, ((address, first), ks) in enumerate(addresses.items()):
        found[first].append(_Address(story, environments, address, number, ks, shares[first], maybe, crowd))
    for first, mine in found.items():
        sure = {(a.version, name) for a in mine for name in a.sure}
        for a in mine:
            a.forget(sure)
        shares[first].ask_addresses(a.number for a in mine if a.is_open)
        _decide(mine, shares[first])
        taken = sure | {(a.version, a.decided) for a in mine}
        for a in mine:
            a.forget(taken)
        shares[first].ask_connections(k for a in mine for k in a.single())
        for a in mine:
            a.tie(len(mine) == 1, taken)


def _addresses(cs: Connections, together: list[int]) -> dict[tuple[str, int], list[int]]:
    """Connections by client's address and the first of the captures that see the same hosts."""
    found: dict[tuple[str, int], list[int]] = defaultdict(list)
    for k in range(len(cs)):
        p = cs.seen_at(k)[0]
        row = cs.points[p].rows[cs.members[k, p]]
        found[host(int(row[f.C_HI]), int(row[f.C_LO])), together[p]].append(k)
    return dict(sorted(found.items()))


def _shares(story: Story, together: list[int], address_of: NDArray[np.int64]) -> dict[int, Shares]:
    """Who runs when clients speak, by the first of the captures that see the same hosts."""
    points = story.connections.points
    frames = {e.id: e.frame for e in story.environments}
    windows = _windows(story)
    logs: dict[str | None, set[str]] = defaultdict(set)
    for environment, source in {(e.environment, e.source) for e in story.events}:
        logs[environment].add(source)
    found = {}
    for first in sorted(set(together)):
        frame, captures = points[first].clock.frame, [p for p, g in enumerate(together) if g == first]
        here = {env: w for env, w in windows.items() if frames[env] == frame}
        # START is stamped before the guest runs, END after it has spoken.
        error = frame_error(story, frame, {points[p].source.id for p in captures})
        told_by = frozenset().union(*(points[p].told_by for p in captures))
        telling = {env for env in here if not told_by.isdisjoint(logs[env])}
        found[first] = Shares(story.connections, captures, address_of, here, telling, END_SLACK_NS, error)
    return found


def _decide(addresses: list[_Address], shares: Shares) -> None:
    """Tell addresses apart: an environment has one of each version, and so of those that it fits the one that it has where all fit
    together best, if nothing else fits nearly as well. Those told apart tell when environments speak, and so others apart."""
    known: dict[int, str] = {}
    for _ in range(MOST_ROUNDS):
        told = sum(a.known() is not None for a in addresses)
        prior = log((told + 1) / (len(addresses) - told + 1)) if told else 0.0
        for version in (4, 6):
            _pair([a for a in addresses if a.version == version], prior)
        now = {k: name for a in addresses if (name := a.known()) is not None for k in a.ks}
        if now == known:
            break
        known = now
        shares.learn(known)
    decided = {a.number: a.decided for a in addresses if a.decided is not None}
    if decided and shares.is_doubtful(decided):
        for a in addresses:
            a.decided = None


def _pair(addresses: list[_Address], prior: float) -> None:
    """Set what is decided; `prior` are the odds that an address is of some environment at all (natural logarithm)."""
    joined = Joined()
    gains: dict[int, dict[str, float]] = {}
    for n, a in enumerate(addresses):
        a.decided = a.supposed = None
        # What is likelier nobody's is in no best pairing.
        gains[n] = {environment: gain + prior for environment, gain in a.gains().items() if gain + prior > 0}
        for environment in gains[n]:
            joined.join(f"address {n}", f"environment {environment}")
    groups: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)
    for n, mine in gains.items():
        groups[joined.root(f"address {n}")][n] = mine
    for group in groups.values():
        pairs = best_pairs(group) if 1 < len(group) <= MOST_TOGETHER else best_of_both(group)
        for n, (environment, worth) in pairs.items():
            addresses[n].fits(environment, worth)


class _Address:
    """One source address on its way to the environments behind it."""

    def __init__(
        self, story: Story, environments: dict[str, Environment], address: str, number: int, ks: list[int], shares: Shares,
        maybe: dict[int, set[str]], crowd: Container[int],
    ) -> None:  # fmt: skip
        self._story, self._address, self.number, self.ks, self._shares = story, address, number, ks, shares
        self._environments = environments
        self.decided: str | None = None
        self.supposed: str | None = None
        #: Environments whose transports come from here, with their connections; none where one only may be its.
        self._named: dict[str, list[int]] = defaultdict(list)
        for k in ks:
            for t in story.connections.transports.get(k, []):
                self._named[story.transport(t).environment or ""].append(k)
            for environment in maybe.get(k, ()):
                self._named[environment] += []
        self._crowd = [k for k in ks if k in crowd]

    @property
    def sure(self) -> list[str]:
        """Environments whose transports come from here."""
        return [name for name, ks in self._named.items() if ks]

    def forget(self, elsewhere: Container[tuple[int, str | None]]) -> None:
        """Environments that have another address are not those of transports that only may be from here."""
        named = self._named.items()
        self._named = {name: ks for name, ks in named if ks or (self.version, name) not in elsewhere}

    def known(self) -> str | None:
        """The environment, where transports tell, or all addresses together rather than not."""
        return self.supposed or (next(iter(self._named)) or None if len(self._named) == 1 else None)

    def fits(self, environment: str, worth: float) -> None:
        """Note that all addresses together fit best if this one is of an environment, by how much."""
        self.supposed = environment if worth >= RATHER else None
        self.decided = environment if worth >= SURELY else None

    @property
    def is_open(self) -> bool:
        """Whether no transport tells."""
        return not self.sure

    def gains(self) -> dict[str, float]:
        """How well each environment fits by bursts alone; empty where transports tell which it is."""
        return self._shares.addresses.gains(self.number)

    @property
    def version(self) -> int:
        """Of the Internet Protocol."""
        return 6 if ":" in self._address else 4

    def tie(self, alone: bool, taken: Container[tuple[int, str | None]]) -> None:
        """Tie the whole address, the only one or one of several, else each connection for which something speaks; `taken` are
        environments that were told to have an address of a version."""
        if self.decided is not None:
            self._by_bursts(alone, taken)
        elif len(self._named) > 1:
            self._shared()
        elif self._named:
            ((environment, ks),) = self._named.items()
            self._by_transports(environment, ks)
        else:
            self._by_bursts(alone, taken)

    def single(self) -> list[int]:
        """Connections of which their own bursts are asked: strangers to the one environment whose transports the address has; all
        where there are several, or nothing fits the address."""
        if self.decided is not None:
            return []
        if len(self._named) == 1:
            ((environment, ks),) = self._named.items()
            return [k for k in self._telling(ks) if self._shares.share([k], environment) < LEAST_SHARE]
        if self._named or not self._shares.addresses.of(self.number):
            return self._telling({k for ks in self._named.values() for k in ks})
        return []

    def _telling(self, but: Container[int]) -> list[int]:
        return [k for k in self.ks if k not in but and self._shares.bursts([k]) >= LEAST_BURSTS]

    def _by_transports(self, environment: str, ks: list[int]) -> None:
        why = (
            f"{len(ks)} gRPC transports of this environment" if len(ks) > 1 else "a gRPC transport of this environment"
        )
        # Those that speak when this environment does not run, and another one does.
        strangers = [k for k in self.single() if self._shares.connections.of(k)]
        if self._crowd and self._shares.share(self.ks, environment) < LEAST_SHARE:
            strangers = sorted({*strangers, *self._crowd})
        self._whole(environment, why, "likely" if len(ks) < 2 or strangers else "certain", strangers)
        for k in strangers:
            self._one(k)

    def _by_bursts(self, alone: bool, taken: Container[tuple[int, str | None]]) -> None:
        """By those of the whole address: what was decided; where it is the only one, the environment that alone fits."""
        fitting = self._shares.addresses.of(self.number)
        if not fitting:
            for k in self.single():
                self._one(k)
            return
        if self.decided is None and not (alone and len(fitting) == 1):
            free = [x for x in fitting if (self.version, x[1]) not in taken]
            self._untied(KIND, self._address, free or fitting)
            return
        environment = self.decided or fitting[0][1]
        share = self._shares.share(self.ks, environment)
        why = f"{share:.0%} of its bursts fall into this environment's invocations"
        rivals = [name for _, name in fitting if name != environment]
        if rivals:
            why += "; all addresses together fit clearly best so"
        self._whole(environment, why, "likely", rivals=rivals)

    def _shared(self) -> None:
        """Several environments have transports from here: each connection is its transport's, others by themselves."""
        names = sorted(self._named)
        for environment in names:
            sure = bool(self._named[environment])
            why = f"a gRPC transport {'of' if sure else 'that may be of'} this environment; {len(names)} environments share the address"
            others = [name for name in names if name != environment]
            self._story.ties.append(
                Tie(KIND, environment, self._address, "likely" if sure else "possible", why, conflicts=others)
            )
            self._note(environment)
        for k in self.single():
            self._one(k)

    def _one(self, k: int) -> None:
        """One connection by its own bursts."""
        fitting = self._shares.connections.of(k)
        name = self._story.connections.id(k)
        if not fitting:
            return
        (best, environment), *rivals = fitting
        if rivals:
            self._untied(KIND_OF_ONE, name, fitting)
            return
        why = f"{best:.0%} of its bursts fall into this environment's invocations; others share its address"
        self._story.ties.append(Tie(KIND_OF_ONE, environment, name, "likely", why))
        self._story.connections.environment[k], self._story.connections.environment_tie[k] = environment, why
        self._note(environment)

    def _whole(
        self, environment: str, why: str, confidence: str, but: Container[int] = (), rivals: Sequence[str] = ()
    ) -> None:
        cs = self._story.connections
        for k in self.ks:
            if k not in but:
                cs.environment[k], cs.environment_tie[k] = environment, why
        self._story.ties.append(Tie(KIND, environment, self._address, confidence, why, conflicts=list(rivals)))
        self._note(environment)

    def _untied(self, kind: str, right: str, fitting: list[tuple[float, str]]) -> None:
        if len(fitting) > MOST_TOLD:
            return  # it may be nearly anybody's
        for rank, (share, environment) in enumerate(fitting, 1):
            others = [env for _, env in fitting if env != environment]
            also = f"as into those of {' and '.join(others)}" if others else "as they may by chance"
            why = f"{share:.0%} of its bursts fall into this environment's invocations, {also}: left untied"
            self._story.ties.append(Tie(kind, environment, right, "possible", why, False, rank, others))

    def _note(self, environment: str) -> None:
        if (found := self._environments.get(environment)) is not None:
            found.addresses.add(self._address)


def _windows(story: Story) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {e.id: [] for e in story.environments}
    starts: dict[str, list[int]] = defaultdict(list)
    for i in sorted(story.invocations, key=lambda i: i.start_ns, reverse=True):
        following = starts[i.environment][-1:]
        end = i.end_ns if i.end_ns is not None else min([i.start_ns + LONGEST_NS, *following])
        found[i.environment].append((i.start_ns - i.error_ns, end + i.error_ns))
        starts[i.environment].append(i.start_ns)
    # An initialisation, the first or one after a crash, runs until the next START.
    for e in story.of_kind("init-start"):
        if mine := starts.get(e.environment or ""):
            before = bisect_right(mine, -e.time_ns, key=neg)
            if before:
                found[e.environment or ""].append((e.time_ns, mine[before - 1]))
    return {env: w for env, w in found.items() if w}
