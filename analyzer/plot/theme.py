"""Colours, in a light and a dark set. The hues are Okabe and Ito's, which people with any colour vision tell apart
(https://jfly.uni-koeln.de/color/); shape and label always say the same thing a second time.
"""

from __future__ import annotations

from msgspec import Struct

ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)


class Theme(Struct, frozen=True):
    """One set: page, ink, and the few hues that differ between light and dark pages."""

    page: str
    lane: str
    ink: str
    dim: str
    faint: str
    freeze: str
    hatch: str
    data: str
    ping: str
    invocation: str
    error: str
    warning: str
    info: str
    good: str

    def tint(self, hue: str, strength: float) -> str:
        """A hue mixed with the page: what a transparent colour would look like, without transparency."""
        mixed = (
            round(int(hue[i : i + 2], 16) * strength + int(self.page[i : i + 2], 16) * (1 - strength))
            for i in (1, 3, 5)
        )
        return "#{:02x}{:02x}{:02x}".format(*mixed)

    def on(self, fill: str) -> str:
        """Black or white: what can be read on a fill."""
        red, green, blue = (int(fill[i : i + 2], 16) for i in (1, 3, 5))
        return "#111111" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"

    def state(self, name: str) -> str:
        """The fill of an endpoint state: pale while all is well, strong while one side waits for the other."""
        hue, strength = _STATES.get(name, ("#888888", 0.15))
        return self.tint(hue, strength)


class Ending(Struct, frozen=True):
    """How a connection ended, in the legend's words, and its colour: a hue, or the theme's of that name."""

    label: str
    colour: str

    def hue(self, theme: Theme) -> str:
        """The colour on a page."""
        return self.colour if self.colour.startswith("#") else str(getattr(theme, self.colour))


#: Kinds of endings, the gravest last.
ENDINGS = {
    "open": Ending("connection, not ended", GREEN),
    "client": Ending("ended by the client", BLUE),
    "server": Ending("ended by the server", ORANGE),
    "reset": Ending("ended by a reset", "error"),
}


def ending(ended_by: str | None) -> str:
    """The key of `ENDINGS` for `ended_by` of the connection table."""
    if ended_by is None:
        return "open"
    return "reset" if ended_by.endswith("rst") else ended_by.removesuffix("-fin")


_STATES = {
    "SYN_SENT": (SKY, 0.6), "SYN_RECEIVED": (SKY, 0.9), "ESTABLISHED": (GREEN, 0.32), "FIN_WAIT_1": (YELLOW, 0.9),
    "FIN_WAIT_2": (ORANGE, 0.95), "CLOSE_WAIT": (RED, 0.9), "CLOSING": (PURPLE, 0.6), "LAST_ACK": (PURPLE, 0.95),
    "TIME_WAIT": (BLUE, 0.6), "CLOSED": ("#888888", 0.45), "UNKNOWN": ("#888888", 0.15),
}  # fmt: skip

LIGHT = Theme(
    page="#ffffff", lane="#f6f7f8", ink="#1c2024", dim="#667079", faint="#c3c9ce", freeze="#eaedf0", hatch="#cdd4da",
    data=BLUE, ping=SKY, invocation="#8aa4b8", error="#c0391b", warning="#b87400", info=BLUE, good=GREEN,
)  # fmt: skip
DARK = Theme(
    page="#14181c", lane="#1a1f24", ink="#e8ebee", dim="#98a2ab", faint="#4a535b", freeze="#262e36", hatch="#46525d",
    data=SKY, ping=YELLOW, invocation="#5f7f98", error="#ff7a5c", warning="#f0b040", info=SKY, good="#2fc99c",
)  # fmt: skip
