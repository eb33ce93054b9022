"""When clients of a capture begin to speak, and which environments run then: how likely each makes it.

A burst in an environment's invocation, or initialisation, is as likely in one window as in another, anywhere in it at first. Once
connections of some environments are known, what comes as long after a START as theirs is likelier.
"""

from __future__ import annotations

from collections import defaultdict
from math import log
from typing import TYPE_CHECKING

import numpy as np

from analyzer.capture import columns as col
from analyzer.model.times import MS
from analyzer.tcp import fields as f
from analyzer.timeline.points import Connections
from analyzer.timeline.shown import BURST_GAP_NS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Share of an address's bursts that must fall into an environment's invocations.
LEAST_SHARE = 0.8
#: An environment is no rival of another with which the bursts are so much likelier (natural logarithm: 30 times).
CLEARLY = 3.4
#: An environment is taken to send this part of an address' bursts while it runs by its log.
WHILE_RUNNING = 0.95
#: Pairs of a burst and a window that are looked at together.
BLOCK = 1_000_000
#: Bursts that come as long after the beginning of an invocation, within this, are alike; what is known of so many bursts counts as
#: much as what may be supposed.
ALIKE_NS, UNLEARNT = 20 * MS, 10
#: Clocks that are off by more than they say are off by up to this, as far as ties ask.
FARTHEST_NS = 500 * MS
#: Clocks further apart than they may be fit better where the bursts are so much likelier (3 times).
BETTER = 1.1
#: Addresses that are asked whether they would.
MOST_ASKED = 400


class Shares:
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
        chosen = np.isin(self._address[self._ks], addresses[:: len(addresses) // MOST_ASKED + 1])
        ks, times = self._ks[chosen], self._times[chosen]
        if len(addresses) < 2 or not len(self._table):
            return False
        as_it_is = self._fit(ks, times, 0)
        shifts = range(self._slack * 5 // 2, max(FARTHEST_NS, self._slack * 3), self._slack)
        return any(self._fit(ks, times, sign * by) > as_it_is + BETTER for by in shifts for sign in (-1, 1))

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
