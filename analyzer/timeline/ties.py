"""Which environment is behind which source address, and behind which connection where several share one.

By gRPC transports first; else by when an address speaks and the environment runs; and where an address speaks for several
environments (NAT, a proxy), by when each connection does.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from math import log
from typing import TYPE_CHECKING

import numpy as np

from analyzer.capture import columns as col
from analyzer.model.addresses import host
from analyzer.model.events import Event
from analyzer.model.records import Environment, Invocation, Tie
from analyzer.model.times import SECOND
from analyzer.tcp import fields as f
from analyzer.timeline.log_anchors import END_SLACK_NS
from analyzer.timeline.points import Connections
from analyzer.timeline.shown import BURST_GAP_NS
from analyzer.timeline.story import Story
from analyzer.timeline.transport_ties import frame_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

KIND, KIND_OF_ONE = "environment-address", "environment-connection"
#: Share of an address's bursts that must fall into an environment's invocations.
LEAST_SHARE = 0.8
#: An environment is no rival of another with which the bursts are so much likelier (natural logarithm: 30 times).
CLEARLY = 3.4
#: An environment is taken to send this part of an address' bursts while it runs by its log.
WHILE_RUNNING = 0.95
#: So few addresses may by chance speak only when one environment runs.
FEW_BY_CHANCE = 0.1
#: So few bursts of one connection prove nothing against what is known of its address.
LEAST_BURSTS = 3
#: The longest an invocation that has no end may have run (Lambda's limit).
LONGEST_NS = 900 * SECOND
#: Pairs of a burst and a window that are looked at together.
BLOCK = 1_000_000


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
            shares[first] = _Shares(connections, captures, here, telling, END_SLACK_NS + error)
        found[first].append(_Address(story, environments, address, ks, shares[first], maybe))
    for mine in found.values():
        claims = Counter(environment for a in mine if (environment := a.claimed()) is not None)
        surely = ((name, a) for a in mine if (name := a.claimed()) is not None and a.is_surely(name, len(mine)))
        taken = {name: a for name, a in surely if claims[name] == 1}
        for a in mine:
            a.tie(claims, {name for name, other in taken.items() if other is not a and other.version == a.version})


class _Shares:
    """How many bursts of each connection fall into each environment's invocations. `telling` are the environments of logs whose
    lines told of the captures' clock."""

    def __init__(
        self,
        cs: Connections,
        captures: list[int],
        windows: dict[str, list[tuple[int, int]]],
        telling: set[str],
        slack_ns: int,
    ) -> None:
        self._names, self._telling = list(windows), telling
        self._number = {env: n for n, env in enumerate(windows)}
        self._runs = {env: max(sum(end - start + 2 * slack_ns for start, end in w), 1) for env, w in windows.items()}
        self._bursts: dict[int, int] = {}
        self._inside: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        ks, times = _bursts(cs, captures)
        self._span = int(times[-1] - times[0]) + slack_ns + 1 if len(times) else 1
        for k, count in zip(*(a.tolist() for a in np.unique(ks, return_counts=True)), strict=True):
            self._bursts[k] = count
        if len(times) and windows:
            self._count(ks, times, [(n, *w) for n, env in enumerate(windows) for w in windows[env]], slack_ns)

    def _count(self, ks: Ints, times: Ints, windows: list[tuple[int, int, int]], slack_ns: int) -> None:
        table = np.array(windows, np.int64)
        first = np.searchsorted(times, table[:, 1] - slack_ns)
        many = np.maximum(np.searchsorted(times, table[:, 2] + slack_ns, side="right") - first, 0)
        edges = np.searchsorted(np.cumsum(many), np.arange(0, int(many.sum()) + BLOCK, BLOCK), side="right")
        seen = np.empty(0, np.int64)
        for a, b in zip(edges, [*edges[1:], len(many)], strict=True):
            starts, lengths = first[a:b], many[a:b]
            offsets = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            hits = (np.repeat(starts, lengths) + offsets) * len(self._names) + np.repeat(table[a:b, 0], lengths)
            seen = np.union1d(seen, hits)  # a burst at the border of two invocations is inside once
        burst, env = np.divmod(seen, len(self._names))
        pairs, counts = np.unique(ks[burst] * len(self._names) + env, return_counts=True)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            self._inside[pair // len(self._names)][pair % len(self._names)] = count

    def bursts(self, ks: list[int]) -> int:
        """How often these connections' client begins to speak."""
        return sum(self._bursts.get(k, 0) for k in ks)

    def of(self, ks: list[int]) -> list[tuple[float, str]]:
        """(share, environment) of the bursts of these connections, for each that fits, best first; without those that fit clearly
        worse, by the share or because they run so long that they would fit any bursts; and where some stand in a log that told of
        the captures' clock, only these."""
        total = self.bursts(ks)
        inside: dict[int, int] = defaultdict(int)
        for k in ks:
            for env, count in self._inside.get(k, {}).items():
                inside[env] += count
        found = [(count / total, self._names[env]) for env, count in inside.items() if count >= LEAST_SHARE * total]
        likely = {env: self._likelihood(share, env) * total for share, env in found}
        least = max(likely.values(), default=0.0) - CLEARLY
        found = [x for x in found if likely[x[1]] >= least]
        return sorted([x for x in found if x[1] in self._telling] or found, key=lambda x: (-x[0], x[1]))

    def _likelihood(self, share: float, environment: str) -> float:
        """Of one burst, where this share falls into the environment's invocations (natural logarithm, per ns)."""
        outside = log((1 - WHILE_RUNNING) / self._span)
        return share * log(WHILE_RUNNING / self._runs[environment]) + (1 - share) * outside

    def chance(self, ks: list[int], environment: str) -> float:
        """How likely bursts anywhere, as many as these connections', would all fall into an environment's invocations."""
        return min(self._runs[environment] / self._span, 1.0) ** self.bursts(ks)

    def share(self, ks: list[int], environment: str) -> float:
        """The share of one environment."""
        at, total = self._number.get(environment), self.bursts(ks)
        return sum(self._inside.get(k, {}).get(at, 0) for k in ks) / total if at is not None and total else 0.0


class _Address:
    """One source address on its way to the environments behind it."""

    def __init__(
        self, story: Story, environments: dict[str, Environment], address: str, ks: list[int], shares: _Shares,
        maybe: dict[str, set[str]],
    ) -> None:  # fmt: skip
        self._story, self._address, self._ks, self._shares = story, address, ks, shares
        self._environments = environments
        self._named: dict[str, list[int]] = defaultdict(list)
        for k in ks:
            for t in story.connections.transports.get(k, []):
                self._named[story.transport(t).environment or ""].append(k)
            for environment in maybe.get(story.connections.id(k), ()):
                self._named[environment] += []

    @property
    def version(self) -> int:
        """Of the Internet Protocol."""
        return 6 if ":" in self._address else 4

    def is_surely(self, environment: str, addresses: int) -> bool:
        """Whether none of so many addresses would fit an environment by chance as this one does."""
        return addresses * self._shares.chance(self._ks, environment) <= FEW_BY_CHANCE

    def claimed(self) -> str | None:
        """The only environment that bursts alone tie this address to."""
        fitting = self._fitting()
        return fitting[0][1] if len(fitting) == 1 and not self._named else None

    def tie(self, claims: Counter[str], taken: set[str]) -> None:
        """Tie the whole address, else each connection for which something speaks; `claims` are how many addresses each environment
        alone fits, `taken` the environments that are surely behind another: an environment has one address."""
        if len(self._named) > 1:
            self._shared()
        elif self._named:
            ((environment, ks),) = self._named.items()
            self._by_transports(environment, ks)
        else:
            self._by_bursts(claims, taken)

    def _fitting(self) -> list[tuple[float, str]]:
        return self._shares.of(self._ks) if self._shares.bursts(self._ks) else []

    def _by_transports(self, environment: str, ks: list[int]) -> None:
        why = (
            f"{len(ks)} gRPC transports of this environment" if len(ks) > 1 else "a gRPC transport of this environment"
        )
        strangers = [k for k in self._ks if k not in ks and self._is_strange(k, environment)]
        self._whole(environment, why, "likely" if len(ks) < 2 or strangers else "certain", [], strangers)
        for k in strangers:
            self._one(k)

    def _is_strange(self, k: int, environment: str) -> bool:
        """Whether a connection speaks when this environment does not run, and another one does."""
        if self._shares.bursts([k]) < LEAST_BURSTS or self._shares.share([k], environment) >= LEAST_SHARE:
            return False
        return bool(self._shares.of([k]))

    def _by_bursts(self, claims: Counter[str], taken: set[str]) -> None:
        every = self._fitting()
        fitting = [(share, env) for share, env in every if env not in taken] or every
        if not fitting:
            for k in self._ks:
                self._one(k)
            return
        (best, environment), *rivals = fitting
        if rivals and rivals[0][0] == best:
            self._untied(KIND, self._address, fitting)
            return
        why = f"{best:.0%} of its bursts fall into this environment's invocations"
        if len(fitting) < len(every):
            why += "; the others that fit have other addresses"
        if (many := claims[environment]) > 1 and not self.is_surely(environment, many):
            why += f", as those of {many - 1} other address{'es' if many > 2 else ''} do: left untied"
            self._story.ties.append(Tie(KIND, environment, self._address, "possible", why, False))
            return
        self._whole(environment, why, "possible" if rivals else "likely", [env for _, env in rivals], [])
        self._rivals(KIND, self._address, environment, rivals)

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
        for k in self._ks:
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

    def _whole(self, environment: str, why: str, confidence: str, rivals: list[str], but: list[int]) -> None:
        cs = self._story.connections
        for k in self._ks:
            if k not in but:
                cs.environment[k], cs.environment_tie[k] = environment, why
        self._story.ties.append(Tie(KIND, environment, self._address, confidence, why, conflicts=rivals))
        self._note(environment)

    def _rivals(self, kind: str, right: str, chosen: str, rivals: list[tuple[float, str]]) -> None:
        for rank, (share, environment) in enumerate(rivals, 2):
            why = f"{share:.0%} of its bursts fall into this environment's invocations"
            self._story.ties.append(Tie(kind, environment, right, "possible", why, False, rank, [chosen]))

    def _untied(self, kind: str, right: str, fitting: list[tuple[float, str]]) -> None:
        for rank, (share, environment) in enumerate(fitting, 1):
            others = [env for _, env in fitting if env != environment]
            why = f"{share:.0%} of its bursts fall into this environment's invocations, as into those of {' and '.join(others)}: left untied"
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
