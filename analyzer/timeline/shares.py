"""When clients of a capture begin to speak, and which environments run then: how likely each makes it.

A burst in an environment's invocation, or initialisation, is as likely in one window as in another, anywhere in it at first. Once
connections of some environments are known, what comes as long after a START as theirs is likelier.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, pairwise
from math import log
from typing import TYPE_CHECKING

import numpy as np

from analyzer.capture import columns as col
from analyzer.model.times import MS
from analyzer.tcp import fields as f
from analyzer.timeline.points import Connections
from analyzer.timeline.running import Running
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
#: Pairs of a burst and an environment that are looked at together.
BLOCK = 1_000_000
#: So many pairs of a burst and an environment that fits are weighed, of addresses that fewest fit first: what fits hundreds tells
#: nothing.
MOST_WEIGHED = 1_000_000
#: Bursts that come as long after the beginning of an invocation, within this, are alike; what is known of so many bursts counts as
#: much as what may be supposed.
ALIKE_NS, UNLEARNT = 20 * MS, 10
#: Clocks that are off by more than they say are off by up to this, as far as ties ask.
FARTHEST_NS = 500 * MS
#: Clocks further apart than they may be fit better where the bursts are so much likelier (3 times).
BETTER = 1.1
#: Addresses that are asked whether they would, and at most how many clocks within their error, on either side.
MOST_ASKED, MOST_SHIFTS = 400, 12


class Shares:
    """How many bursts of each address, or connection, fall into each environment's invocations. `address_of` numbers the address of
    each connection; `telling` are the environments of logs whose lines told of the captures' clock. Windows are wider by a slack, and
    by the clocks' error."""

    def __init__(
        self,
        cs: Connections,
        captures: list[int],
        address_of: Ints,
        windows: dict[str, list[tuple[int, int]]],
        telling: set[str],
        slack_ns: int,
        error_ns: int,
    ) -> None:
        self._names, self._number = list(windows), {env: n for n, env in enumerate(windows)}
        self._telling = np.array([env in telling for env in windows], np.bool_)
        self._ks, self._times = bursts_of(cs, captures)
        apart = slack_ns + error_ns
        ends = (int(self._times[0]) - apart, int(self._times[-1]) + apart + 1) if len(self._times) else (0, 1)
        self._ends, self._slack, self._error, self._address_of = ends, slack_ns + error_ns, error_ns, address_of
        self._table = np.array([(n, *w) for n, env in enumerate(windows) for w in windows[env]], np.int64).reshape(
            -1, 3
        )
        self._running = self._shifted(0, apart)
        self._address = address_of[self._ks]
        self._anybody = _of_anybody(self._address, self._times, ends)
        self._count = np.bincount(self._ks, minlength=len(address_of)).tolist()
        #: The bursts of each connection, one behind the other.
        self._in_order, self._first = np.argsort(self._ks, kind="stable"), [0, *accumulate(self._count)]
        self._learnt = _Learnt(*np.empty((2, 0), np.int64))
        self.addresses, self.connections = self._fitting(self._address, ()), self._fitting(self._ks, ())

    def _shifted(self, shift_ns: int, slack_ns: int) -> Running:
        """When environments run by a log's clock that is shifted so, as far as the capture goes."""
        windows = self._table + np.array([0, shift_ns - slack_ns, shift_ns + slack_ns])
        windows[:, 1:] = windows[:, 1:].clip(*self._ends)
        return Running(windows[windows[:, 1] < windows[:, 2]])

    def _fitting(self, group: Ints, wanted: Iterable[int]) -> Fitting:
        """What fits those wanted of these groups of bursts."""
        mine = np.isin(group, list(wanted))
        return Fitting(self._names, self._telling, self._running, group[mine], self._times[mine], self._anybody[mine])

    def ask_addresses(self, wanted: Iterable[int]) -> None:
        """Find out what fits these addresses (`addresses`)."""
        self.addresses = self._fitting(self._address, wanted)

    def ask_connections(self, wanted: Iterable[int]) -> None:
        """Find out what fits these connections (`connections`), by what was learnt."""
        self.connections = self._fitting(self._ks, wanted)
        self.connections.weigh(self._learnt, self._address_of)

    def learn(self, known: dict[int, str]) -> None:
        """Expect bursts as soon after the beginning of invocations as those of other addresses whose environment is known, by
        connection."""
        of = np.full(len(self._address_of), -1)
        for k, environment in known.items():
            of[k] = self._number.get(environment, -1)
        mine = of[self._ks] >= 0
        at = self._running.interval(of[self._ks[mine]], self._times[mine])
        inside = at >= 0
        lags = self._times[mine][inside] - self._running.begin[at[inside]]
        self._learnt = _Learnt(self._address[mine][inside], lags)
        self.addresses.weigh(self._learnt, np.arange(len(self._address_of)))

    def bursts(self, ks: Iterable[int]) -> int:
        """How often these connections' client begins to speak."""
        return sum(self._count[k] for k in ks)

    def share(self, ks: Iterable[int], environment: str) -> float:
        """The share of these connections' bursts that fall into an environment's invocations."""
        at = self._number.get(environment)
        mine = [self._in_order[self._first[k] : self._first[k + 1]] for k in ks]
        times = self._times[np.concatenate(mine)] if mine else self._times[:0]
        if at is None or not len(times):
            return 0.0
        return float((self._running.interval(np.full(len(times), at), times) >= 0).mean())

    def is_doubtful(self, decided: dict[int, str]) -> bool:
        """Whether what was decided of addresses hangs on the clocks: by clocks that are further apart than they may be addresses
        would find other environments, and better, or by clocks that are as far apart as they may be others as well. Who runs when then
        proves nothing. Looks at some addresses of many."""
        addresses = np.unique(self._address)
        if len(addresses) < 2 or not len(self._table):
            return False
        pairs = int(self._running.count_at(self._times).sum())
        step = max(len(addresses) // MOST_ASKED + 1, -(-pairs // BLOCK))
        chosen = np.isin(self._address, addresses[::step])
        group, times = self._address[chosen], self._times[chosen]
        anybody, nobody = _of_anybody(group, times, self._ends), np.zeros_like(self._telling)

        def fit(shift_ns: int, slack_ns: int) -> Fitting:
            return Fitting(self._names, nobody, self._shifted(shift_ns, slack_ns), group, times, anybody)

        asked = decided.keys() & set(group.tolist())

        def same(fitting: Fitting) -> int:
            return sum(fitting.favourite(g) == decided[g] for g in asked)

        as_it_is = fit(0, self._slack).best()
        for by in range(self._slack * 5 // 2, max(FARTHEST_NS, self._slack * 3), self._slack):
            for further in (fit(sign * by, self._slack) for sign in (-1, 1)):
                if further.best() > as_it_is + BETTER and same(further) < LEAST_SHARE * len(asked):
                    return True
        shifts = range(-self._error, self._error + 1, max(self._slack - self._error, self._error // MOST_SHIFTS))
        within = [(f.best(), same(f)) for f in (fit(shift, self._slack - self._error) for shift in shifts)]
        best = max(how_well for how_well, _ in within)
        return any(2 * alike < len(asked) for how_well, alike in within if how_well > best - CLEARLY)


class Fitting:
    """The environments into whose invocations most bursts of a group (an address, a connection) fall, and by how much each makes
    them more likely than somebody unknown does (natural logarithm); of groups that very many fit none."""

    def __init__(
        self, names: list[str], telling: NDArray[np.bool_], running: Running, group: Ints, times: Ints, anybody: Floats
    ) -> None:
        self._names, self._running = names, running
        order = np.argsort(group, kind="stable")
        self._times, self._anybody = times[order], anybody[order]
        self._groups, self._first, self._total = np.unique(group[order], return_index=True, return_counts=True)
        #: Pairs of a group, as an index, and an environment, in order of both.
        self._group, self._env, self._inside = self._pairs(np.repeat(np.arange(len(self._groups)), self._total))
        fitting = np.bincount(self._group, minlength=len(self._groups))
        few = np.argsort(fitting, kind="stable")
        few = few[np.cumsum((fitting * self._total)[few]) <= MOST_WEIGHED]
        self._keep(np.isin(self._group, few))
        # Where some that fit stand in a log that told of the captures' clock, only these.
        tell = telling[self._env]
        self._keep(tell | (np.bincount(self._group, tell, minlength=1)[self._group] == 0))
        self._hits()
        self._gains = self._sum(self._density)

    def _keep(self, wanted: NDArray[np.bool_]) -> None:
        self._group, self._env, self._inside = self._group[wanted], self._env[wanted], self._inside[wanted]

    def _pairs(self, group: Ints) -> tuple[Ints, Ints, Ints]:
        """Group, environment, how many bursts: where that is enough of them."""
        least, found = LEAST_SHARE * self._total, [np.empty((0, 2), np.int64)]
        for a, b in _blocks(self._running.count_at(self._times)):
            order = a + np.argsort(self._times[a:b])
            which, env = self._running.at(self._times[order])
            pairs, counts = _counted(group[order][which], env, len(self._names))
            mine = pairs // len(self._names)
            # Groups at the edges may go on in the next block.
            wanted = (counts >= least[mine]) | (mine == group[a]) | (mine == group[b - 1])
            found.append(np.column_stack([pairs[wanted], counts[wanted]]))
        table = np.concatenate(found)
        pairs, which = np.unique(table[:, 0], return_inverse=True)
        counts = np.bincount(which, table[:, 1], len(pairs)).astype(np.int64)
        mine, env = np.divmod(pairs, max(len(self._names), 1))
        wanted = counts >= least[mine]
        return mine[wanted], env[wanted], counts[wanted]

    def _hits(self) -> None:
        """The bursts of each pair that are inside: how long after the begin of an invocation, how dense they would be anywhere in it,
        and from anybody. An environment speaks as soon in one window as in another, in a long initialisation or in a short invocation."""
        many = self._total[self._group]
        found = [np.empty((0, 3), np.int64)]
        for a, b in _blocks(many):
            pair = np.repeat(np.arange(a, b), many[a:b])
            burst = np.arange(len(pair)) + np.repeat(
                self._first[self._group[a:b]] - (np.cumsum(many[a:b]) - many[a:b]), many[a:b]
            )
            at = self._running.interval(self._env[pair], self._times[burst])
            found.append(np.column_stack([pair, burst, at])[at >= 0])
        self._pair, burst, at = np.concatenate(found).T
        self._lags = self._times[burst] - self._running.begin[at]
        self._density, self._unknown = 1 / self._running.each[at], self._anybody[burst]

    def _sum(self, density: Floats) -> Floats:
        """How much likelier each pair makes the bursts, with this density of each."""
        inside = np.bincount(self._pair, np.log(WHILE_RUNNING * density / self._unknown), len(self._group))
        return np.asarray(inside + (self._total[self._group] - self._inside) * log(1 - WHILE_RUNNING), np.float64)

    def weigh(self, learnt: _Learnt, address_of: Ints) -> None:
        """Take what was learnt from other addresses into account; `address_of` are those of the groups."""
        self._gains = self._sum(
            learnt.density(address_of[self._groups][self._group][self._pair], self._lags, self._density)
        )

    def best(self) -> float:
        """How well all groups fit the environment that each fits best."""
        best = np.zeros(len(self._groups))
        np.maximum.at(best, self._group, self._gains)
        return float(best.sum())

    def favourite(self, group: int) -> str | None:
        """The environment that fits best."""
        gains = self.gains(group)
        return max(gains, key=gains.__getitem__, default=None)

    def _of(self, group: int) -> tuple[list[str], list[float], list[float]]:
        """Names, gains and shares of those that fit."""
        at = int(np.searchsorted(self._groups, group))
        if at == len(self._groups) or self._groups[at] != group:
            return [], [], []
        mine = slice(*np.searchsorted(self._group, (at, at + 1)))
        names = [self._names[env] for env in self._env[mine].tolist()]
        return names, self._gains[mine].tolist(), (self._inside[mine] / self._total[at]).tolist()

    def gains(self, group: int) -> dict[str, float]:
        """How much likelier each environment that fits makes the bursts of a group."""
        names, gains, _ = self._of(group)
        return dict(zip(names, gains, strict=True))

    def of(self, group: int) -> list[tuple[float, str]]:
        """(share, environment) of a group's bursts, for each that fits, best first; without those that fit clearly worse, by the
        share or because they run so long that they would fit any bursts."""
        found = list(zip(*self._of(group), strict=True))
        least = max((gain for _, gain, _ in found), default=0.0) - CLEARLY
        return sorted(((share, env) for env, gain, share in found if gain >= least), key=lambda x: (-x[0], x[1]))


class _Learnt:
    """How long after the beginning of invocations clients speak whose environment is known: address and lag of each burst."""

    def __init__(self, address: Ints, lags: Ints) -> None:
        self._address, self._lags = address, lags

    def density(self, address: Ints, lags: Ints, supposed: Floats) -> Floats:
        """How dense bursts of these addresses are at these lags: as those of others, and as was supposed."""
        near = _near(np.zeros_like(lags), lags, np.zeros_like(self._lags), self._lags, ALIKE_NS)
        near -= _near(address, lags, self._address, self._lags, ALIKE_NS)
        own = np.bincount(self._address, minlength=int(address.max(initial=0)) + 1)
        others = len(self._lags) - own[address]
        return np.asarray((near / ALIKE_NS + UNLEARNT * supposed) / (others + UNLEARNT), np.float64)


def _blocks(many: Ints) -> Iterable[tuple[int, int]]:
    """Stretches of so many things each that hold a block of them together."""
    upto = np.cumsum(many)
    edges = np.searchsorted(upto, np.arange(BLOCK, int(upto[-1]) if len(upto) else 0, BLOCK))
    return pairwise(np.unique([0, *edges.tolist(), len(many)]).tolist())


def _counted(group: Ints, env: Ints, many: int) -> tuple[Ints, Ints]:
    """Pairs of a group and one of so many environments as one number, in order, and how often there is each."""
    first = int(group.min()) if len(group) else 0
    pairs = (group - first) * many + env
    if int(pairs.max(initial=0)) > 4 * len(pairs):
        found, counts = np.unique(pairs, return_counts=True)
    else:
        dense = np.bincount(pairs)
        found = np.flatnonzero(dense)
        counts = dense[found]
    return found + first * many, counts


def _of_anybody(address: Ints, times: Ints, ends: tuple[int, int]) -> Floats:
    """How dense bursts of somebody unknown may be: anywhere, or when other addresses speak as well."""
    anywhere = 1 / (ends[1] - ends[0])
    near = _near(np.zeros_like(times), times, np.zeros_like(times), times, BURST_GAP_NS)
    near -= _near(address, times, address, times, BURST_GAP_NS)
    others = len(times) - np.bincount(address, minlength=1)[address]
    beside = np.where(others > 0, near / np.maximum(others, 1) / BURST_GAP_NS, anywhere)
    return np.asarray((beside + anywhere) / 2, np.float64)


def _near(group: Ints, times: Ints, seen_group: Ints, seen: Ints, width_ns: int) -> Ints:
    """How many of those seen, of the same group, lie around each in a stretch of this width."""
    if not len(times) or not len(seen):
        return np.zeros(len(times), np.int64)
    first, half = min(times.min(), seen.min()), width_ns // 2_000
    apart = int(max(times.max(), seen.max()) - first) // 1_000 + width_ns // 1_000  # µs, one group after the other
    places = (times - first) // 1_000 + group * apart
    marks = np.sort((seen - first) // 1_000 + seen_group * apart)
    return np.asarray(
        np.searchsorted(marks, places + half, side="right") - np.searchsorted(marks, places - half), np.int64
    )


def bursts_of(cs: Connections, captures: list[int], gap_ns: int = BURST_GAP_NS) -> tuple[Ints, Ints]:
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
    begins[1:] = (np.diff(table[:, 0]) != 0) | (np.diff(table[:, 1]) > gap_ns)
    table = table[begins]
    table = table[np.argsort(table[:, 1], kind="stable")]
    return table[:, 0], table[:, 1]
