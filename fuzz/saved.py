"""Saved traces: damaged files that still carry the right digests, as if somebody had written them so."""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from functools import cache
from pathlib import Path

import analyzer
from analyzer.inputs import MANIFEST, STORY
from analyzer.model.problems import InputError
from analyzer.report import document, style, text
from fuzz.accidents import BINARY, TEXT, damaged
from fuzz.seeds import CASES, Files

NAME, SHARE = "saved traces", 8


@cache
def _saved(case: Path) -> tuple[tuple[str, bytes], ...]:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "case.trace"
        analyzer.read(case).save(target)
        paths = sorted(p for p in target.rglob("*") if p.is_file() and (p.parent.name == STORY or p.name == MANIFEST))
        return tuple((p.relative_to(target).as_posix(), p.read_bytes()) for p in paths)


def seeds() -> list[Files]:
    """Some of the shipped cases, saved."""
    return [dict(_saved(CASES / name)) for name in ("frozen-keepalive", "nat-silent", "connection-limit", "healthy")]


def damage(seed: Files, chance: random.Random) -> Files:
    """Accidents in one file, and most often its right digest in the manifest."""
    name = chance.choice(sorted(seed))
    found = seed | {name: damaged(seed[name], chance, TEXT if name.endswith(".json") else BINARY)}
    if name != MANIFEST and chance.random() < 0.9:
        manifest = json.loads(found[MANIFEST])
        manifest["files"][name] = {"bytes": len(found[name]), "sha256": hashlib.sha256(found[name]).hexdigest()}
        found[MANIFEST] = json.dumps(manifest).encode()
    return found


def check(found: Files) -> None:
    """Load it and tell what it says; raises if that raises anything but `InputError`."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in found.items():
            path = Path(folder) / "case.trace" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        try:
            trace = analyzer.load(path.parents[name.count("/")])
        except InputError:
            return
        document.dumps(trace.document())
        text.report(trace.story, trace.findings, style.Style())
