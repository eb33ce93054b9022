"""Names that belong together: disjoint sets, joined pair by pair."""

from __future__ import annotations


class Joined:
    """Sets of names. The one that stands for a set is the least of it, so that the order of joining does not matter."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def root(self, name: str) -> str:
        """The name that stands for the set of this one; a name never heard of is a set of its own."""
        above = self._above
        while above.setdefault(name, name) != name:
            above[name] = name = above[above[name]]
        return name

    def join(self, one: str, other: str) -> None:
        """Make one set of the sets of both."""
        a, b = sorted((self.root(one), self.root(other)))
        self._above[b] = a
