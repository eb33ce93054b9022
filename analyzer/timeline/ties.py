"""Which environment is behind which source address, and behind which connection where several share one.

By gRPC transports first; else by when an address speaks and the environment runs, of several addresses and environments by how
they fit together; and where an address speaks for several environments (NAT, a proxy), by when each connection does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Sequence
from math import log
from typing import TYPE_CHECKING

import numpy as np

from analyzer.capture import columns as col
from analyzer.model.addresses import host
from analyzer.model.events import Event
from analyzer.model.records import Environment, Invocation, Tie
from analyzer.model.times import MS, SECOND
from analyzer.tcp import fields as f
from analyzer.timeline.joined import Joined
from analyzer.timeline.log_anchors import END_SLACK_NS
from analyzer.timeline.pairing import best_of_both, best_pairs
from analyzer.timeline.points import Connections
from analyzer.timeline.shown import BURST_GAP_NS
from analyzer.timeline.story import Story
from analyzer.timeline.transport_ties import frame_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

KIND, KIND_OF_ONE = "environment-address", "environment-connection"
#: Share of an address's bursts that must fall into an environment's invocations.
LEAST_SHARE = 0.8
#: An environment is no rival of another with which the bursts are so much likelier (natural logarithm: 30 times).
CLEARLY = 3.4
#: An address is of an environment where all addresses together are so much likelier so (100 times); what is learnt from need only
#: be likelier than not (3 times).
SURELY, RATHER = 4.6, 1.1
#: An environment is taken to send this part of an address' bursts while it runs by its log.
WHILE_RUNNING = 0.95
#: So few bursts of one connection prove nothing against what is known of its address.
LEAST_BURSTS = 3
#: The longest an invocation that has no end may have run (Lambda's limit).
LONGEST_NS = 900 * SECOND
#: Pairs of a burst and a window that are looked at together.
BLOCK = 1_000_000
#: Bursts that come as long after the beginning of an invocation, within this, are alike; what is known of so many bursts counts as
#: much as what may be supposed.
ALIKE_NS, UNLEARNT = 20 * MS, 10
#: Clocks that are off by more than they say are off by up to this, as far as ties ask.
FARTHEST_NS = 500 * MS
#: Addresses of which every pairing is weighed; of more, each pair alone. How often what they tell is learnt from.
MOST_TOGETHER, MOST_ROUNDS = 400, 6


def tie_environments(story: Story) -> None:
    """Environment ↔ client address, or connection: `connections.environment`, and every tie with its rivals in `story.ties`."""
    if not story.environments:
        return
    connections = story.connections
    environments = {e.id: e for e in story.environments}
    frames = {e.id: e.frame for e in story.environments}
    windows = _windows(story.environments, story.invocations, story.events)
    logs: dict[str | None, set[str]] = defaultdict(set)
    for e in story.events:
        logs[e.environment].add(e.source)
    together = connections.alike()
    addresses: dict[tuple[str, int], list[int]] = defaultdict(list)
    for k in range(len(connections)):
        p = connections.seen_at(k)[0]
        row = connections.points[p].rows[connections.members[k, p]]
        addresses[host(int(row[f.C_HI]), int(row[f.C_LO])), together[p]].append(k)
    address_of = {k: n for n, mine in enumerate(addresses.values()) for k in mine}
    maybe: dict[str, set[str]] = defaultdict(set)  # connection → environments one of whose transports it may be
    for tie in story.ties:
        if not tie.used and (environment := story.transport(tie.left).environment) is not None:
            maybe[tie.right].add(environment)
    shares: dict[int, _Shares] = {}
    found: dict[int, list[_Address]] = defaultdict(list)
    for (address, first), ks in sorted(addresses.items()):
        if first not in shares:
            frame, captures = connections.points[first].clock.frame, [p for p, g in enumerate(together) if g == first]
            here = {env: w for env, w in windows.items() if frames[env] == frame}
            error = frame_error(story, frame, {connections.points[p].source.id for p in captures})
            # START is stamped before the guest runs, END after it has spoken.
            told_by = frozenset().union(*(connections.points[p].told_by for p in captures))
            telling = {env for env in here if not told_by.isdisjoint(logs[env])}
            shares[first] = _Shares(connections, captures, address_of, here, telling, END_SLACK_NS + error)
        found[first].append(_Address(story, environments, address, ks, shares[first], maybe))
    for first, mine in found.items():
        _decide(mine, shares[first])
        taken = {(a.version, a.decided) for a in mine}
        for a in mine:
            a.tie(len(mine) == 1, taken)


def _decide(addresses: list[_Address], shares: _Shares) -> None:
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
    if any(a.decided is not None for a in addresses) and shares.is_doubtful():
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
        pairs = best_pairs(group) if len(group) <= MOST_TOGETHER else best_of_both(group)
        for n, (environment, worth) in pairs.items():
            addresses[n].fits(environment, worth)


class _Shares:
    """How many bursts of each connection fall into each environment's invocations. `telling` are the environments of logs whose
    lines told of the captures' clock."""

    def __init__(
        self,
        cs: Connections,
        captures: list[int],
        address_of: dict[int, int],
        windows: dict[str, list[tuple[int, int]]],
        telling: set[str],
        slack_ns: int,
    ) -> None:
        self._names, self._telling = list(windows), telling
        self._number = {env: n for n, env in enumerate(windows)}
        self._bursts: dict[int, int] = {}
        #: By connection and environment: how many bursts are inside, and by how much more likely that makes them.
        self._inside: dict[int, dict[int, tuple[int, float]]] = {}
        ks, times = _bursts(cs, captures)
        begin, end = (int(times[0]) - slack_ns, int(times[-1]) + slack_ns + 1) if len(times) else (0, 1)
        self._span = end - begin
        self._address = np.array([address_of[k] for k in range(len(cs))], np.int64)
        table = np.array([(n, *w) for n, env in enumerate(windows) for w in windows[env]], np.int64).reshape(-1, 3)
        self._slack, self._ends, self._table = slack_ns, (begin, end), table
        self._ks, self._times = ks, times
        for k, count in zip(*(a.tolist() for a in np.unique(ks, return_counts=True)), strict=True):
            self._bursts[k] = count
        #: Bursts inside windows: connection, environment, and how long after the window's beginning; with the density there.
        self._hits, self._density, self._anybody = np.empty((0, 3), np.int64), np.empty(0), np.empty(0)
        if len(times) and len(table):
            self._hits, self._density, self._anybody = self._find(ks, times, 0)
            self._count(self._density)

    def _find(self, ks: Ints, times: Ints, shift_ns: int) -> tuple[Ints, Floats, Floats]:
        """The bursts in windows, by a log's clock that is shifted so, as `_hits` has them; how dense an environment's are there, and
        anybody's. An environment speaks as soon in one window as in another, in a long initialisation or in a short invocation."""
        windows = self._table + np.array([0, shift_ns - self._slack, shift_ns + self._slack])
        windows[:, 1:] = windows[:, 1:].clip(*self._ends)
        windows = windows[windows[:, 1] < windows[:, 2]]
        first = np.searchsorted(times, windows[:, 1])
        many = np.searchsorted(times, windows[:, 2], side="right") - first
        each = np.bincount(windows[:, 0], minlength=1)[windows[:, 0]] * (windows[:, 2] - windows[:, 1])
        edges = np.searchsorted(np.cumsum(many), np.arange(0, int(many.sum()) + BLOCK, BLOCK), side="right")
        found = np.empty((0, 3), np.int64)  # of bursts and environments as one number, what stands in `each`, lag
        for a, b in zip(edges, [*edges[1:], len(many)], strict=True):
            lengths, window = many[a:b], np.repeat(np.arange(a, b), many[a:b])
            burst = first[window] + np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            pair = burst * len(self._names) + windows[window, 0]
            found = np.concatenate([found, np.column_stack([pair, each[window], times[burst] - windows[window, 1]])])
            found = found[np.lexsort((found[:, 2], found[:, 1], found[:, 0]))]
            found = found[np.append(True, np.diff(found[:, 0]) > 0)[: len(found)]]  # at a border of windows once
        burst, env = np.divmod(found[:, 0], len(self._names))
        anybody = self._of_anybody(self._address[ks], times)[burst]
        return np.column_stack([ks[burst], env, found[:, 2]]), 1 / found[:, 1], anybody

    def is_doubtful(self) -> bool:
        """Whether addresses would find their environments better by clocks that are further apart than they may be: who runs when
        then proves nothing. Looks at some addresses of many."""
        addresses = np.unique(self._address[self._ks])
        chosen = np.isin(self._address[self._ks], addresses[:: len(addresses) // MOST_TOGETHER + 1])
        ks, times = self._ks[chosen], self._times[chosen]
        if len(addresses) < 2 or not len(self._table):
            return False
        as_it_is = self._fit(ks, times, 0)
        shifts = range(self._slack * 5 // 2, max(FARTHEST_NS, self._slack * 3), self._slack)
        return any(self._fit(ks, times, sign * by) > as_it_is + RATHER for by in shifts for sign in (-1, 1))

    def _fit(self, ks: Ints, times: Ints, shift_ns: int) -> float:
        """How well all addresses fit the environment that each fits best, by clocks that are shifted so."""
        hits, density, anybody = self._find(ks, times, shift_ns)
        address = self._address[ks]
        pairs, which, counts = np.unique(
            self._address[hits[:, 0]] * len(self._names) + hits[:, 1], return_inverse=True, return_counts=True
        )
        inside = np.bincount(which, np.log(WHILE_RUNNING * density / anybody), len(pairs))
        total = np.bincount(address)[pairs // len(self._names)]
        gains = inside + (total - counts) * log(1 - WHILE_RUNNING)
        best = np.zeros(int(address.max(initial=0)) + 1)
        np.maximum.at(best, pairs // len(self._names), np.where(counts >= LEAST_SHARE * total, gains, 0))
        return float(best.sum())

    def _of_anybody(self, address: Ints, times: Ints) -> Floats:
        """How dense bursts of somebody unknown may be: anywhere, or when other addresses speak as well."""
        everyone = np.ones(len(times), np.bool_)
        near = _near(np.zeros_like(times), times, everyone, BURST_GAP_NS)
        near -= _near(address, times, everyone, BURST_GAP_NS)
        others = len(times) - np.bincount(address)[address]
        beside = np.where(others > 0, near / np.maximum(others, 1) / BURST_GAP_NS, 1 / self._span)
        return np.asarray((beside + 1 / self._span) / 2, np.float64)

    def _count(self, density: Floats) -> None:
        """Sum the bursts up, with this density of each."""
        self._inside = defaultdict(dict)
        pairs, which, counts = np.unique(
            self._hits[:, 0] * len(self._names) + self._hits[:, 1], return_inverse=True, return_counts=True
        )
        together = np.bincount(which, np.log(WHILE_RUNNING * density / self._anybody))
        for pair, count, likelihood in zip(pairs.tolist(), counts.tolist(), together.tolist(), strict=True):
            self._inside[pair // len(self._names)][pair % len(self._names)] = count, likelihood

    def learn(self, known: dict[int, str]) -> None:
        """Expect bursts as soon after the beginning of invocations as those of other addresses whose environment is known, by
        connection."""
        ks, env, lags = self._hits.T
        of = np.full(len(self._address), -1)
        for k, environment in known.items():
            of[k] = self._number.get(environment, -1)
        mine, group = of[ks] == env, self._address[ks]
        near = _near(np.zeros_like(lags), lags, mine, ALIKE_NS) - _near(group, lags, mine, ALIKE_NS)
        count = mine.sum() - np.bincount(group, mine)[group] if len(group) else 0
        self._count((near / ALIKE_NS + UNLEARNT * self._density) / (count + UNLEARNT))

    def bursts(self, ks: list[int]) -> int:
        """How often these connections' client begins to speak."""
        return sum(self._bursts.get(k, 0) for k in ks)

    def of(self, ks: list[int]) -> list[tuple[float, str]]:
        """(share, environment) of the bursts of these connections, for each that fits, best first; without those that fit clearly
        worse, by the share or because they run so long that they would fit any bursts."""
        gains = self.gains(ks)
        least = max(gains.values(), default=0.0) - CLEARLY
        found = [(self.share(ks, env), env) for env, gain in gains.items() if gain >= least]
        return sorted(found, key=lambda x: (-x[0], x[1]))

    def gains(self, ks: list[int]) -> dict[str, float]:
        """By how much each environment that fits makes the bursts of these connections more likely than somebody unknown does
        (natural logarithm); where some stand in a log that told of the captures' clock, only these."""
        total = self.bursts(ks)
        found = {
            self._names[env]: likelihood + (total - count) * log(1 - WHILE_RUNNING)
            for env, (count, likelihood) in self._together(ks).items()
            if count >= LEAST_SHARE * total
        }
        return {env: gain for env, gain in found.items() if env in self._telling} or found

    def _together(self, ks: list[int]) -> dict[int, tuple[int, float]]:
        found: dict[int, tuple[int, float]] = {}
        for k in ks:
            for env, (count, likelihood) in self._inside.get(k, {}).items():
                before = found.get(env, (0, 0.0))
                found[env] = before[0] + count, before[1] + likelihood
        return found

    def share(self, ks: list[int], environment: str) -> float:
        """The share of one environment."""
        at, total = self._number.get(environment), self.bursts(ks)
        return self._together(ks).get(at, (0, 0.0))[0] / total if at is not None and total else 0.0


def _near(group: Ints, times: Ints, counted: NDArray[np.bool_], width_ns: int) -> Ints:
    """How many of those `counted`, of the same group, lie around each in a stretch of this width."""
    if not len(times):
        return times
    places = (times - times.min()) // 1_000
    places += group * (int(places.max()) + width_ns // 1_000)  # µs, one group after the other
    seen, half = np.sort(places[counted]), width_ns // 2_000
    return np.asarray(
        np.searchsorted(seen, places + half, side="right") - np.searchsorted(seen, places - half), np.int64
    )


class _Address:
    """One source address on its way to the environments behind it."""

    def __init__(
        self, story: Story, environments: dict[str, Environment], address: str, ks: list[int], shares: _Shares,
        maybe: dict[str, set[str]],
    ) -> None:  # fmt: skip
        self._story, self._address, self.ks, self._shares = story, address, ks, shares
        self._environments = environments
        self.decided: str | None = None
        self.supposed: str | None = None
        self._named: dict[str, list[int]] = defaultdict(list)
        for k in ks:
            for t in story.connections.transports.get(k, []):
                self._named[story.transport(t).environment or ""].append(k)
            for environment in maybe.get(story.connections.id(k), ()):
                self._named[environment] += []

    def known(self) -> str | None:
        """The environment, where transports tell, or all addresses together rather than not."""
        return next(iter(self._named)) or None if len(self._named) == 1 else self.supposed

    def fits(self, environment: str, worth: float) -> None:
        """Note that all addresses together fit best if this one is of an environment, by how much."""
        self.supposed = environment if worth >= RATHER else None
        self.decided = environment if worth >= SURELY else None

    def gains(self) -> dict[str, float]:
        """How well each environment fits by bursts alone; empty where transports tell which it is."""
        return self._shares.gains(self.ks) if self._shares.bursts(self.ks) and not self._named else {}

    @property
    def version(self) -> int:
        """Of the Internet Protocol."""
        return 6 if ":" in self._address else 4

    def tie(self, alone: bool, taken: Container[tuple[int, str | None]]) -> None:
        """Tie the whole address, the only one or one of several, else each connection for which something speaks; `taken` are
        environments that were told to have an address of a version."""
        if len(self._named) > 1:
            self._shared()
        elif self._named:
            ((environment, ks),) = self._named.items()
            self._by_transports(environment, ks)
        else:
            self._by_bursts(alone, taken)

    def _fitting(self) -> list[tuple[float, str]]:
        return self._shares.of(self.ks) if self._shares.bursts(self.ks) else []

    def _by_transports(self, environment: str, ks: list[int]) -> None:
        why = (
            f"{len(ks)} gRPC transports of this environment" if len(ks) > 1 else "a gRPC transport of this environment"
        )
        strangers = [k for k in self.ks if k not in ks and self._is_strange(k, environment)]
        self._whole(environment, why, "likely" if len(ks) < 2 or strangers else "certain", strangers)
        for k in strangers:
            self._one(k)

    def _is_strange(self, k: int, environment: str) -> bool:
        """Whether a connection speaks when this environment does not run, and another one does."""
        if self._shares.bursts([k]) < LEAST_BURSTS or self._shares.share([k], environment) >= LEAST_SHARE:
            return False
        return bool(self._shares.of([k]))

    def _by_bursts(self, alone: bool, taken: Container[tuple[int, str | None]]) -> None:
        """By those of the whole address: what was decided; where it is the only one, the environment that alone fits."""
        fitting = self._fitting()
        if not fitting:
            for k in self.ks:
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
        tied = {k for ks in self._named.values() for k in ks}
        for k in self.ks:
            if k not in tied:
                self._one(k)

    def _one(self, k: int) -> None:
        """One connection by its own bursts."""
        fitting = self._shares.of([k]) if self._shares.bursts([k]) >= LEAST_BURSTS else []
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
        for rank, (share, environment) in enumerate(fitting, 1):
            others = [env for _, env in fitting if env != environment]
            also = f"as into those of {' and '.join(others)}" if others else "as they may by chance"
            why = f"{share:.0%} of its bursts fall into this environment's invocations, {also}: left untied"
            self._story.ties.append(Tie(kind, environment, right, "possible", why, False, rank, others))

    def _note(self, environment: str) -> None:
        if (found := self._environments.get(environment)) is not None:
            found.addresses.add(self._address)


def _windows(
    environments: list[Environment], invocations: list[Invocation], events: list[Event]
) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {e.id: [] for e in environments}
    for i in invocations:
        end = i.end_ns if i.end_ns is not None else i.start_ns + LONGEST_NS
        found[i.environment].append((i.start_ns - i.error_ns, end + i.error_ns))
    first: dict[str, int] = {}
    for e in events:
        if e.kind == "init-start" and e.environment in found:
            first.setdefault(e.environment, e.time_ns)
    for env, start in first.items():  # initialisation runs until the first START
        if found[env]:
            found[env].append((start, found[env][0][0]))
    return {env: sorted(w) for env, w in found.items() if w}


def _bursts(cs: Connections, captures: list[int]) -> tuple[Ints, Ints]:
    """(connection, time) of each burst of a client, aligned and in order of time, at the point nearest it of each connection."""
    found = []
    for p, point in ((p, cs.points[p]) for p in captures):
        s, kinds = point.data.segments, point.data.kinds
        if not len(s) or not len(point.rows):
            continue
        own = (kinds & (f.K_SERVER | f.K_RETX | f.K_KEEPALIVE) == 0) & (
            (s[:, col.LEN] > 0) | (s[:, col.FLAGS] & (col.SYN | col.FIN) > 0)
        )
        uids = point.rows[:, f.UID]
        order = np.argsort(uids)
        row = order[np.minimum(np.searchsorted(uids[order], point.data.uids[own]), len(order) - 1)]
        ks, times = cs.owners(p)[row], point.clock.aligned_all(s[own, col.TS])
        mine = (uids[row] == point.data.uids[own]) & np.isin(
            ks, [k for k in np.unique(ks) if cs.seen_at(int(k))[0] == p]
        )
        found.append(np.column_stack([ks[mine], times[mine]]))
    table = np.concatenate(found) if found else np.empty((0, 2), np.int64)
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    begins = np.ones(len(table), bool)
    begins[1:] = (np.diff(table[:, 0]) != 0) | (np.diff(table[:, 1]) > BURST_GAP_NS)
    table = table[begins]
    table = table[np.argsort(table[:, 1], kind="stable")]
    return table[:, 0], table[:, 1]
