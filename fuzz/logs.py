"""Lambda logs: from any bytes to events, or to a word on what they are."""

from __future__ import annotations

import io
import random

from analyzer.logs.reader import describe, pick, read_log
from analyzer.model.problems import InputError
from fuzz.accidents import TEXT, damaged
from fuzz.seeds import Files, files

NAME, SHARE = "logs", 200
ENDINGS = (".json", ".jsonl", ".txt", ".log", ".csv")
#: Of a large log only a stretch is read: every line of it is much like the others.
STRETCH = 6_000


def seeds() -> list[Files]:
    """Logs of every shape."""
    return [{path.name: path.read_bytes()} for path in files("samples/lambda", ENDINGS)]


def damage(seed: Files, chance: random.Random) -> Files:
    """Accidents of text in its beginning, or in its first lines and some later ones."""
    found = {}
    for name, content in seed.items():
        start = chance.randrange(max(len(content) - STRETCH, 1))
        head = content[: chance.choice((STRETCH, 600))]
        found[name] = damaged(head + content[max(start, len(head)) : start + STRETCH], chance, TEXT)
    return found


def check(found: Files) -> None:
    """Recognise and read it; raises if that raises anything but `InputError`."""
    for name, content in found.items():
        choice = pick(content[:65_536])
        if choice.envelope is None:
            describe(content)
            continue
        try:
            data = read_log(io.BytesIO(content), name, choice)
        except InputError:
            continue
        times = [time for e in data.events for time in (e.source_ns, e.ingestion_ns) if time is not None]
        assert all(0 <= time < 1 << 63 for time in times), "a time that no table holds"
