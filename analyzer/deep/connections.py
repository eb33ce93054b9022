"""Chosen connections through tshark, and back to the packets of the captures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from analyzer.capture.columns import M_H2
from analyzer.capture.extract import copy_records, record_numbers
from analyzer.deep.frames import TELLING, Frame
from analyzer.deep.tshark import TIMEOUT_S, dissect
from analyzer.model.problems import InputError
from analyzer.tcp.segments import Place
from analyzer.timeline.points import Connections
from analyzer.timeline.story import Story

#: Deep mode is for the few: more connections than this are not looked into, and said so.
MAX_CONNECTIONS = 100


class DeepFrame(Struct, frozen=True):
    """One HTTP/2 or gRPC frame of a connection, at the packet of the capture that ended it."""

    from_client: bool
    layer: str
    kind: str
    text: str
    stream: int
    place: Place

    @property
    def telling(self) -> bool:
        """Whether it says something by itself, or only goes on with what another frame began."""
        return self.kind in TELLING

    def describe(self) -> str:
        """What a person reads: `← PING ack`, `→ POST /cache.Cache/Get, stream 1`."""
        return f"{'→' if self.from_client else '←'} {self.text}"


class Deepened(Struct):
    """What tshark found: frames by connection, in order, and what it could not see."""

    frames: dict[int, list[DeepFrame]] = {}
    #: (source id, what could not be seen there)
    notes: list[tuple[str, str]] = []


def deepen(
    story: Story,
    ks: Iterable[int],
    keylog: str | None = None,
    decode_as: Iterable[str] = (),
    timeout_s: float = TIMEOUT_S,
) -> Deepened:
    """Look into connections `ks`, each at the capture that saw most of it.

    `keylog` is a file of TLS secrets (SSLKEYLOGFILE); secrets inside a pcapng are used without. `decode_as` are tshark's own words,
    `tcp.port==8443,http2`. Raises `InputError` (see `tshark.dissect`), also for a key log that cannot be read.
    """
    rules = dict(_rule(text) for text in decode_as)
    if ks := list(ks):
        story.connections.require_packets()
    if keylog is not None:
        _readable(keylog)
    by_point: dict[int, list[int]] = {}
    for k in sorted(set(ks)):
        by_point.setdefault(story.connections.fullest(k), []).append(k)
    found = Deepened()
    for p, mine in sorted(by_point.items()):
        _look(story.connections, p, mine[:MAX_CONNECTIONS], keylog, rules, timeout_s, found)
        _tell(story.connections, p, mine, found)
    return found


def _tell(connections: Connections, p: int, ks: list[int], found: Deepened) -> None:
    """What was not looked into, and where nothing was found."""
    source = connections.points[p].source.id
    if len(ks) > MAX_CONNECTIONS:
        found.notes.append((source, f"deep mode looked into the first {MAX_CONNECTIONS} of {len(ks):,} connections"))
    blind = [connections.id(k) for k in ks[:MAX_CONNECTIONS] if not found.frames.get(k)]
    if blind:
        names = ", ".join(blind[:8]) + (" …" if len(blind) > 8 else "")
        why = "another protocol, no TLS secrets for it, or its beginning was not captured"
        found.notes.append((source, f"deep mode found no HTTP/2 in {names}: {why}"))


def _look(
    connections: Connections,
    p: int,
    ks: list[int],
    keylog: str | None,
    rules: dict[str, str],
    timeout_s: float,
    found: Deepened,
) -> None:
    point = connections.points[p]
    rows = point.rows[[int(connections.members[k, p]) for k in ks]]
    with tempfile.TemporaryDirectory(prefix="analyze-") as folder:
        small = Path(folder) / "small.pcap"
        with small.open("wb") as out:
            copied = copy_records(point.parts, record_numbers(point.parts, rows), out)
        frames = dissect(str(small), keylog, _clear_text(connections, ks) | rules, timeout_s)
    segments = {
        place.no: (k, segment.from_client, place)
        for k in ks for segment in connections.segments(k) for place in segment.places if place.point == p
    }  # fmt: skip
    for frame in frames:
        _place(frame, copied.numbers, segments, found)


def _clear_text(connections: Connections, ks: list[int]) -> dict[str, str]:
    """tshark looks for HTTP/2 without TLS only where it is told to: at the ports where our own markers saw it."""
    ports = {
        connections.record(k).server.rpartition(":")[2]
        for k in ks if any(segment.marks & M_H2 for segment in connections.segments(k))
    }  # fmt: skip
    return {f"tcp.port=={port}": "http2" for port in sorted(ports)}


def _place(frame: Frame, numbers: Sequence[int], segments: dict[int, tuple[int, bool, Place]], found: Deepened) -> None:
    """Tie a frame to the packet of the original; one of a packet that tshark made up, or that was thinned, has none."""
    original = numbers[frame.number - 1] if 0 < frame.number <= len(numbers) else 0
    if original in segments:
        k, from_client, place = segments[original]
        found.frames.setdefault(k, []).append(
            DeepFrame(from_client, frame.layer, frame.kind, frame.text, frame.stream, place)
        )


def _rule(text: str) -> tuple[str, str]:
    criterion, comma, protocol = text.rpartition(",")
    if not comma or "==" not in criterion or not protocol.strip():
        raise InputError(f"--decode-as {text!r}: say it as tshark does, tcp.port==8443,http2")
    return criterion.strip(), protocol.strip()


def _readable(keylog: str) -> None:
    try:
        with Path(keylog).open("rb") as f:
            f.read(1)
    except OSError as error:
        raise InputError(f"{keylog}: {error.strerror or error}") from error
