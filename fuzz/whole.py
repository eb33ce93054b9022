"""A case's capture and log together, from files to findings, documents and reports."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import analyzer
from analyzer.model.problems import InputError
from analyzer.report import document, style, tables, text
from fuzz.accidents import BINARY, TEXT, damaged
from fuzz.seeds import CASES, LARGEST, Files

NAME, SHARE = "cases", 8
CAPTURES = (".pcap", ".pcapng")


def seeds() -> list[Files]:
    """The inputs of each shipped case."""
    found = []
    for folder in sorted(path.parent for path in CASES.glob("*/expected.json")):
        paths = [p for p in folder.iterdir() if p.suffix in (".json", ".log", *CAPTURES) and p.name != "expected.json"]
        found.append({p.name: p.read_bytes() for p in paths if p.stat().st_size <= LARGEST})
    return [files for files in found if files]


def damage(seed: Files, chance: random.Random) -> Files:
    """Accidents in one of the files."""
    name = chance.choice(sorted(seed))
    kind = BINARY if name.endswith(CAPTURES) else TEXT
    return seed | {name: damaged(seed[name], chance, kind)}


def check(found: Files) -> None:
    """Diagnose it; raises if that raises anything but `InputError`."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in found.items():
            (Path(folder) / name).write_bytes(content)
        try:
            trace = analyzer.read(folder)
        except InputError:
            return
        document.dumps(trace.document())
        tables.concise(trace)
        text.report(trace.story, trace.findings, style.Style())
        for name in trace.connections["id"][:3]:
            trace.timeline(name)
