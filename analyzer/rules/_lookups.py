"""Names that clients asked for again and again and that DNS never answered, by what captures show of it alone (C404).

Most names that do not exist are no failure: a resolver that searches several domains for a short name asks for many, and a host without an
IPv6 address answers so for that. A name counts here only if no form of it was ever answered to anybody.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator

from msgspec import Struct

from analyzer.capture.asides import MAX_ASIDES
from analyzer.model.times import SECOND
from analyzer.rules import _common as common
from analyzer.tcp import fields as f
from analyzer.timeline.names import Lookup, lookups
from analyzer.timeline.points import CLIENT, SERVER
from analyzer.timeline.story import Story

#: Asked for together: a search through domains, both families of addresses, the servers of a list.
TOGETHER_NS = 5 * SECOND
#: Asked for by hosts on their own, whether they exist or not: a proxy's settings (WPAD), an IPv6 router (RFC 5214).
PROBED = frozenset(("wpad", "isatap"))


class Asked(Struct, frozen=True):
    """A name that one client asked for in vain: its lookups in order; `refused` are those that DNS answered so."""

    name: str
    client: str
    lookups: list[Lookup]

    @property
    def refused(self) -> list[Lookup]:
        """Lookups with a refusal for an answer."""
        return [x for x in self.lookups if x.answer is not None]

    @property
    def asked_ns(self) -> int:
        """How long it was asked for, from the first to the last time."""
        return max(x.last_ns for x in self.lookups) - self.lookups[0].time_ns

    @property
    def times(self) -> int:
        """How often it was asked for anew: not by the resolver's own repeats, nor once for each family of addresses."""
        anew = [b for a, b in zip(self.lookups, self.lookups[1:], strict=False) if b.time_ns - a.time_ns >= SECOND]
        return 1 + len(anew)


def unresolved(story: Story, least_silence_ns: int) -> Iterator[Asked]:
    """Names that nobody was ever told an address of, asked for anew after a refusal, or repeated into silence for so long."""
    points = story.connections.points
    whole = [
        max(len(p.data.dns), len(p.data.queries)) < MAX_ASIDES and not common.lossy(story, n)
        for n, p in enumerate(points)
    ]
    every = lookups(points)
    if not every or not all(whole):
        return
    resolved = _Resolved(every)
    by_client: dict[str, dict[str, list[Lookup]]] = defaultdict(lambda: defaultdict(list))
    for x in every:
        by_client[x.client][x.name].append(x)
    told: set[str] = set()
    for client, names in sorted(by_client.items()):
        forms: dict[str, list[int]] = defaultdict(list)  # when names were asked for that are told, by their first label
        for name, mine in sorted(names.items(), key=lambda item: item[1][0].time_ns):
            seen = Asked(name, client, [x for x in mine if x.point == mine[0].point])
            if name in told or not _is_hosts(name) or any(base in names for base in _bases(name)):
                continue
            label = name.partition(".")[0]
            if any(resolved.has(x) for x in mine) or _near(forms[label], mine[0]):
                continue
            if _failed(story, seen, least_silence_ns):
                told.add(name)
                for x in mine:
                    insort(forms[label], x.time_ns)
                yield seen


def _failed(story: Story, seen: Asked, least_silence_ns: int) -> bool:
    """Whether it was asked for anew after a refusal; or, by a client that hears others, repeated and never answered."""
    if seen.refused:
        return seen.refused[-1].time_ns - seen.refused[0].time_ns >= SECOND
    first = seen.lookups[0]
    end = max(x.last_ns for x in seen.lookups) + SECOND
    return (
        seen.asked_ns >= least_silence_ns
        and _hears(story, first.point)
        and end <= story.connections.points[first.point].span[1]
    )


def _hears(story: Story, point: int) -> bool:
    """Whether a capture holds both directions of what passed it."""
    rows = story.connections.points[point].rows
    both = len(rows) and ((rows[:, CLIENT + f.PKTS] > 0) & (rows[:, SERVER + f.PKTS] > 0)).any()
    return bool(both) or bool(story.connections.points[point].data.dns)


def _is_hosts(name: str) -> bool:
    """Whether a name may be one that a program connects to: no service (RFC 6763), no address turned round, no probe."""
    labels = name.split(".")
    named = all(labels) and not any(label.startswith("_") for label in labels)
    return named and labels[0] not in PROBED and labels[-1] not in ("arpa", "local")


def _bases(name: str) -> list[str]:
    """What a resolver may have begun a search with: `a.b.c` is searched for as `a.b.c.example`."""
    labels = name.split(".")
    return [".".join(labels[:n]) for n in range(1, len(labels))]


def _near(times: list[int], x: Lookup) -> bool:
    """Whether one of these moments, in order, is about that of a lookup."""
    at = bisect_left(times, x.time_ns - TOGETHER_NS)
    return at < len(times) and times[at] <= x.last_ns + TOGETHER_NS


class _Resolved:
    """Names that were answered, and when, so that forms of one are found: behind it, before it, beside it."""

    def __init__(self, every: list[Lookup]) -> None:
        answered = [x for x in every if x.code == 0]
        self._names = {x.name for x in answered}
        self._bases = {base for name in self._names for base in _bases(name)}
        self._times: dict[str, list[int]] = defaultdict(list)
        for x in answered:
            self._times[x.name.partition(".")[0]].append(x.time_ns)

    def has(self, x: Lookup) -> bool:
        """Whether the name, or a form of it that was asked for together with it, was answered."""
        if x.name in self._names or x.name in self._bases or not self._names.isdisjoint(_bases(x.name)):
            return True
        return _near(self._times.get(x.name.partition(".")[0], []), x)
