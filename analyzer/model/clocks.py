"""Clocks: what to add to a source's stamps to get aligned time, and how far that may be off."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from analyzer.model.times import MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: A millionth.
PPM = 1e-6
#: A stamp that was found by going back and forth may lie this much before the one it stands for.
ROUNDING_NS = 2


class Piece(Struct):
    """From the stamp `since_ns` on: `shift_ns` is added at the stamp `at_ns`, and `ppm` millionths of the time from there.

    The error is `error_ns` at `at_ns`, and `error_ppm` millionths more of the time from there, in both directions.
    """

    since_ns: int
    at_ns: int
    shift_ns: int
    ppm: float = 0.0
    error_ns: int = 0
    error_ppm: float = 0.0

    def shift(self, stamp_ns: int) -> int:
        """What to add to a stamp."""
        return self.shift_ns + round((stamp_ns - self.at_ns) * (self.ppm * PPM)) if self.ppm else self.shift_ns

    def error(self, stamp_ns: int) -> int:
        """How far the shift of a stamp may be off."""
        return self.error_ns + round(abs(stamp_ns - self.at_ns) * (self.error_ppm * PPM))


class Clock(Struct):
    """One clock of a source.

    `offset_ns` is what to add to the stamp in the middle of its records to get aligned time, or where its anchors are if those
    are all away from there; None: could not be aligned with the reference. `error_ns` bounds the offset then; `drift_ppm` is how much it grows with its stamps, None where no drift
    is proven; `anchors` is the number of matched pairs that gave it; `how` says which. Clocks of one `frame` are aligned with
    each other, and with the reference where it is in that frame. `pieces` tell the shift into the frame at every time:
    one for a clock that runs evenly, more for one that was set meanwhile, none for one that gives the frame's time itself.
    It was aligned through the source `via` (an id, empty for none), which added `via_error_ns` at most; `own_error_ns` is what
    the source's clocks are apart, `guest_error_ns` what those of a log are with whose lines a capture was aligned.
    """

    name: str
    reference: bool = False
    offset_ns: int | None = None
    error_ns: int | None = None
    drift_ppm: float | None = None
    anchors: int = 0
    how: str = ""
    frame: int = 0
    via: str = ""
    via_error_ns: int = 0
    own_error_ns: int = 0
    guest_error_ns: int = 0
    pieces: list[Piece] = []

    def describe(self, stamps_ns: Sequence[int] = ()) -> str:
        """`-1.8 ms ± 0.4 ms`, with its drift where one is proven; of an aligned clock. For stamps: where it is known least of them."""
        worst = max(stamps_ns, key=self.error_at, default=None)
        offset, error = self.offset_ns or 0, self.error_ns or 0
        if worst is not None and self.error_at(worst) + self.guest_error_ns > error:
            offset, error = self.aligned(worst) - worst, self.error_at(worst) + self.guest_error_ns
        drift = f", drifting {self.drift_ppm:+.0f} ppm" if self.drift_ppm else ""
        return f"{offset / MS:+.1f} ms ± {error / MS:.1f} ms{drift}"

    @property
    def steady(self) -> tuple[int, int] | None:
        """What to add to any stamp, and how far that may be off, where both are the same at all times; else None."""
        if len(self.pieces) > 1 or any(piece.ppm or piece.error_ppm for piece in self.pieces):
            return None
        return (self.pieces[0].shift_ns, self.pieces[0].error_ns) if self.pieces else (0, 0)

    def aligned(self, stamp_ns: int) -> int:
        """A stamp of this clock in its frame's time."""
        piece = self.piece_at(stamp_ns)
        return stamp_ns + piece.shift(stamp_ns) if piece is not None else stamp_ns

    def aligned_all(self, stamps_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Stamps of this clock in its frame's time."""
        if not self.pieces:
            return stamps_ns
        aligned = np.array(stamps_ns, np.int64)
        at = np.searchsorted([p.since_ns for p in self.pieces], aligned, side="right") - 1
        for number, piece in enumerate(self.pieces):
            mine = np.maximum(at, 0) == number
            stamps = aligned[mine]
            drift = np.rint((stamps - piece.at_ns) * (piece.ppm * PPM)).astype(np.int64) if piece.ppm else 0
            aligned[mine] = stamps + piece.shift_ns + drift
        return aligned

    def stamp(self, aligned_ns: int) -> int:
        """What this clock shows at an aligned time, to within its step where it was set just then."""
        stamp = aligned_ns
        for _ in range(3):
            stamp = aligned_ns - (self.aligned(stamp) - stamp)
        return stamp

    def error_at(self, stamp_ns: int) -> int:
        """How far the aligned time of a stamp may be off, ns."""
        piece = self.piece_at(stamp_ns)
        return piece.error(stamp_ns) if piece is not None else 0

    def misplaced(self, stamp_ns: int) -> int | None:
        """How far the aligned time of a stamp may be off the reference clock, ns; None where that is not known."""
        return self.error_at(stamp_ns) + self.guest_error_ns if self.offset_ns is not None else None

    def worst_error(self, first_ns: int, last_ns: int) -> int:
        """The largest error between two stamps."""
        ends = [first_ns, last_ns, *(p.since_ns for p in self.pieces if first_ns < p.since_ns <= last_ns)]
        return max(self.error_at(end) for end in (*ends, *(p.since_ns - 1 for p in self.pieces[1:])))

    def piece_at(self, stamp_ns: int) -> Piece | None:
        """The piece in which a stamp is."""
        pieces = self.pieces
        if len(pieces) < 2:
            return pieces[0] if pieces else None
        return pieces[max(bisect_right(pieces, stamp_ns, key=lambda p: p.since_ns) - 1, 0)]


def chained(inner: list[Piece], outer: list[Piece]) -> list[Piece]:
    """The pieces of `inner` and then `outer`: from a clock's stamps into another's, and from there on. Errors add up."""
    if not inner or not outer:
        return [Piece(p.since_ns, p.at_ns, p.shift_ns, p.ppm, p.error_ns, p.error_ppm) for p in inner or outer]
    first, second = Clock("", pieces=inner), Clock("", pieces=outer)
    starts = {p.since_ns for p in inner} | {first.stamp(p.since_ns) for p in outer}
    found = []
    for since in sorted(starts):
        a = first.piece_at(since) or inner[0]
        b = second.piece_at(since + a.shift(since) + ROUNDING_NS) or outer[0]
        known_best = a.at_ns, b.at_ns - a.shift(b.at_ns - a.shift_ns)
        found.append(min((_one(a, b, since, at) for at in known_best), key=lambda p: p.error_ns))
    return found


def _one(a: Piece, b: Piece, since_ns: int, at_ns: int) -> Piece:
    """First one piece and then another, stated at a stamp of the first: errors grow to both sides from wherever that is."""
    shown = at_ns + a.shift(at_ns)
    return Piece(
        since_ns, at_ns, a.shift(at_ns) + b.shift(shown), a.ppm + b.ppm + a.ppm * b.ppm * PPM,
        a.error(at_ns) + b.error(shown), a.error_ppm + b.error_ppm,
    )  # fmt: skip


def inverted(pieces: list[Piece]) -> list[Piece]:
    """The way back: from the other clock's stamps into this one's."""
    return [
        Piece(
            p.since_ns + p.shift(p.since_ns), p.at_ns + p.shift_ns, -p.shift_ns, -p.ppm / (1 + p.ppm * PPM),
            p.error_ns, p.error_ppm,
        )
        for p in pieces
    ]  # fmt: skip
