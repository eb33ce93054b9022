"""Colour as a second signal: text is complete without it."""

from __future__ import annotations

from msgspec import Struct

from analyzer.model.times import clock, stamp

_CODES = {"error": "1;31", "warning": "1;33", "info": "1;36", "dim": "2", "bold": "1", "blue": "34", "green": "32"}


class Style(Struct, frozen=True):
    """How wide, and whether in colour. `local` shows times in the machine's zone instead of UTC."""

    width: int = 100
    colour: bool = False
    local: bool = False

    def paint(self, text: str, role: str) -> str:
        """`text` in the colour of a role, where colour is on."""
        return f"\x1b[{_CODES[role]}m{text}\x1b[0m" if self.colour and text else text

    @property
    def zone(self) -> str:
        """What a heading says of times."""
        return "local" if self.local else "UTC"

    def clock(self, ns: int, form: str = "%H:%M:%S") -> str:
        """A time without its zone, for a table whose heading names that."""
        return clock(ns, form, self.local)

    def when(self, ns: int, decimals: int = 3) -> str:
        """A time, its zone beside it."""
        return stamp(ns, decimals, self.local)
