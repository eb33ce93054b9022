"""What the gRPC recognisers share: dispatch by literal prefix, addresses, stamps. The vocabulary is `model.grpc.KINDS`."""

from __future__ import annotations

import re
from functools import lru_cache

from analyzer.logs.records import Recognised
from analyzer.model.addresses import normal
from analyzer.model.times import SECOND, parse_iso

#: Longer than any `[ipv6]:port`; longer text is no address.
LONGEST_ADDRESS = 80
#: Channel arguments that tell how keepalive was configured, as C-core and grpc-js print them.
_OPTION = re.compile(r'"?(grpc\.[a-z_0-9.]{1,60})"?(?:: |=)(-?[0-9]{1,15})', re.ASCII)

Form = tuple[str, str] | tuple[str, str, str]


class Forms:
    """Literal prefix → kind, and a pattern for what follows it. One look in a table finds the few that can fit.

    Groups named `number`, `remote` and `peer` fill the event's own fields, those ending in `_ms` and `_ns` become numbers,
    the others are attributes.
    """

    #: Letters by which forms are found; no prefix is shorter.
    HEAD = 4

    def __init__(self, *forms: Form) -> None:
        self._found: dict[str, list[tuple[str, str, re.Pattern[str] | None, tuple[str, ...]]]] = {}
        for prefix, kind, *pattern in forms:
            compiled = re.compile(pattern[0], re.ASCII | re.DOTALL) if pattern else None
            names = tuple(compiled.groupindex) if compiled is not None else ()
            self._found.setdefault(prefix[: self.HEAD], []).append((prefix, kind, compiled, names))

    def fill(self, found: Recognised, text: str) -> bool:
        """Set kind and attributes of `found` by the first form that fits, and tell whether one did."""
        for prefix, kind, pattern, names in self._found.get(text[: self.HEAD], ()):
            if not text.startswith(prefix):
                continue
            if pattern is not None:
                m = pattern.match(text, len(prefix))
                if m is None:
                    continue
                for name in names:
                    if (value := m[name]) is not None:
                        _set(found, name, value)
            found.kind = kind
            return True
        return False


def _set(found: Recognised, name: str, value: str) -> None:
    if name == "number":
        found.number = value
    elif name == "remote":
        found.remote = address(value)
    elif name == "peer":
        found.remote = peer(value)
    elif name.endswith(("_ms", "_ns")):
        found.attrs[name] = int(value.replace(",", ""))
    else:
        found.attrs[name] = value


def address(text: str) -> str | None:
    """`ip:port` in one spelling, None for anything else."""
    return _address(text) if len(text) <= LONGEST_ADDRESS else None


@lru_cache(4096)
def _address(text: str) -> str | None:
    return normal(text)


def peer(text: str) -> str | None:
    """C-core's `ipv4:10.0.0.1:443` or `ipv6:%5B::1%5D:443` as `ip:port`, None for others (`unix:` has no port)."""
    scheme, _, rest = text.partition(":")
    if scheme == "ipv6":
        rest = rest.replace("%5B", "[").replace("%5D", "]").replace("%25", "%")
    return address(rest) if scheme in ("ipv4", "ipv6") else None


@lru_cache(4096)
def _whole(text: str) -> int | None:
    return parse_iso(text)


def stamp(second: str, fraction: str) -> int | None:
    """Nanoseconds of a stamp: `second` as `2026-11-21T00:00:23` (remembered: many lines share it), and the fraction's digits."""
    whole = _whole(second)
    return None if whole is None else whole + int(fraction.ljust(9, "0") or 0)


def options(text: str) -> dict[str, int]:
    """Channel arguments with numbers, from the beginning of their printed list."""
    return {name: int(value) for name, value in _OPTION.findall(text[:4096])}


def in_second(ns: int) -> bool:
    """Whether a stamp has no fraction (libraries that print whole seconds)."""
    return ns % SECOND == 0
