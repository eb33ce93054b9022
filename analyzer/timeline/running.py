"""When environments run, as intervals that many times are looked up in at once.

Theory of operation. Intervals of one environment may lie over each other: clocks' errors widen them, managed instances run many
invocations at a time. Who runs at a time is asked of their union, so that each answers once; which of an environment's intervals a time
belongs to, of the intervals in order of their begin, from the latest back to where none before reaches so far.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


class Running:
    """Intervals (environment's number, begin, end; both ends belong to them) of a table, in order of environment and begin."""

    def __init__(self, table: Ints) -> None:
        table = table[np.lexsort((table[:, 2], table[:, 1], table[:, 0]))]
        self.env, self.begin, self.end = table.T
        #: So long would all intervals of the environment be together if each were as long as this one.
        self.each = np.bincount(self.env, minlength=1)[self.env] * (self.end - self.begin)
        self._begins = np.sort(self.begin)
        self._keys = self._key(self.env, self.begin)

    def _key(self, env: Ints, times: Ints) -> Ints:
        """Environments and times as one number, of which both are sorted."""
        return np.asarray(env * (len(self._begins) + 1) + np.searchsorted(self._begins, times, side="right"), np.int64)

    @cached_property
    def _reach(self) -> Ints:
        """How far an environment's intervals reach that begin up to each."""
        ends = np.unique(self.end)
        number = self.env * len(ends)
        return np.asarray(ends[np.maximum.accumulate(number + np.searchsorted(ends, self.end)) - number], np.int64)

    @cached_property
    def _least(self) -> Ints:
        """The least `each` of an environment's intervals that begin up to each."""
        values = np.unique(self.each)
        number = (self.env.max(initial=0) - self.env) * len(values)
        return np.asarray(values[np.minimum.accumulate(number + np.searchsorted(values, self.each)) - number], np.int64)

    @cached_property
    def _union(self) -> tuple[Ints, Ints, Ints]:
        """Environment, begin and end of the stretches in which each runs."""
        fresh = np.append(True, (np.diff(self.env) > 0) | (self.begin[1:] > self._reach[:-1]))[: len(self.env)]
        first = np.flatnonzero(fresh)
        last = np.append(first[1:], len(self.env))[: len(first)] - 1
        return self.env[first], self.begin[first], self._reach[last]

    def count_at(self, times: Ints) -> Ints:
        """How many environments run at each time."""
        _, begin, end = self._union
        begun = np.searchsorted(np.sort(begin), times, side="right")
        return np.asarray(begun - np.searchsorted(np.sort(end), times), np.int64)

    def at(self, times: Ints) -> tuple[Ints, Ints]:
        """(index of a time, environment) of all that run then; `times` are sorted."""
        env, begin, end = self._union
        first = np.searchsorted(times, begin)
        many = np.searchsorted(times, end, side="right") - first
        before = np.repeat(first - (np.cumsum(many) - many), many)
        return before + np.arange(len(before)), np.repeat(env, many)

    def interval(self, env: Ints, times: Ints) -> Ints:
        """The environment's interval that each time lies in, the latest of those that are shortest; -1 for none."""
        found = np.full(len(times), -1)
        at = np.searchsorted(self._keys, self._key(env, times), side="right") - 1
        asked = np.arange(len(times))
        while len(asked):
            asked = asked[at[asked] >= 0]
            asked = asked[(self.env[at[asked]] == env[asked]) & (self._reach[at[asked]] >= times[asked])]
            asked = asked[(found[asked] < 0) | (self._least[at[asked]] < self.each[found[asked]])]
            here = at[asked]
            inside = self.end[here] >= times[asked]
            inside &= (found[asked] < 0) | (self.each[here] < self.each[found[asked]])
            found[asked[inside]] = here[inside]
            at[asked] -= 1
        return found
