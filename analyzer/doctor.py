"""What this installation can do, and how to get what it lacks: versions, libraries, tshark, machine code, fonts, the terminal."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from analyzer import __version__
from analyzer.model.problems import InputError

#: Distribution, its module, what it is for; those of an extra name it.
REQUIRED = (
    ("numpy", "numpy", "packets as columns"),
    ("numba", "numba", "machine code for large captures"),
    ("pandas", "pandas", "tables"),
    ("pyarrow", "pyarrow", "Parquet, saved traces"),
    ("typer", "typer", "the command line"),
    ("orjson", "orjson", "JSON"),
    ("msgspec", "msgspec", "JSON of logs"),
    ("zstandard", "zstandard", ".zst inputs"),
    ("ahocorasick_rs", "ahocorasick_rs", "search in logs"),
    ("matplotlib", "matplotlib", "plots"),
)
EXTRAS = (
    ("scapy", "scapy", "scapy", "packet objects of evidence (trace.packet)"),
    ("pyshark", "pyshark", "deep", "HTTP/2 and gRPC inside TLS (--deep, --keylog)"),
    ("bokeh", "bokeh", "report", "timelines of the HTML report (--report)"),
    ("jinja2", "jinja2", "report", "the HTML report (--report)"),
    ("lz4", "lz4", "lz4", ".lz4 inputs"),
    ("perfetto", "perfetto", "perfetto", "--format perfetto"),
)
OK, MISSING, NOTE = "ok", "missing", "note"


class Check(NamedTuple):
    """One thing looked at. `state` is `OK`, `MISSING` (something the tool needs) or `NOTE` (an option that is not there)."""

    what: str
    state: str
    found: str
    then: str = ""


def checks() -> Iterator[Check]:
    """Everything that is looked at, in the order in which it is told."""
    yield Check(
        "analyze",
        OK,
        f"{__version__} with Python {platform.python_version()} on {platform.system()} {platform.machine()}",
    )
    for name, module, purpose in REQUIRED:
        version = _version(name, module)
        yield Check(name, OK if version else MISSING, version or purpose, "" if version else f"pip install {name}")
    for name, module, extra, purpose in EXTRAS:
        version = _version(name, module)
        yield Check(
            name, OK if version else NOTE, version or f"not installed: {purpose}",
            "" if version else f"pip install 'connection-analyzer[{extra}]'",
        )  # fmt: skip
    yield _tshark()
    yield _machine_code()
    yield _font()
    yield _terminal()


def _version(name: str, module: str) -> str | None:
    """The version of a distribution whose module can be imported."""
    try:
        importlib.import_module(module)
        return importlib.metadata.version(name)
    except Exception:  # whatever a broken installation raises when it is imported
        return None


def _tshark() -> Check:
    from analyzer.deep.tshark import INSTALL, OLDEST, installed

    try:
        found = installed()
    except InputError as error:
        return Check("tshark", NOTE, str(error), INSTALL)
    if found is None:
        return Check("tshark", NOTE, "not installed: needed for --deep and --keylog", INSTALL)
    path, version = found
    told = f"{'.'.join(map(str, version))} ({path})"
    if version < OLDEST:
        return Check("tshark", NOTE, f"{told} is older than {'.'.join(map(str, OLDEST))}", INSTALL)
    return Check("tshark", OK, told)


def _machine_code() -> Check:
    from analyzer.kernel import compiled_before
    from analyzer.kernel.native import places

    if compiled_before():
        return Check("machine code", OK, "kept from an earlier run")
    place = next((p for p in places() if os.access(p if p.exists() else p.parent, os.W_OK)), None)
    if place is None:
        return Check(
            "machine code", NOTE, "cannot be kept: every large capture waits some 5 s for it",
            "make the package's folder or ~/.cache writable, or set XDG_CACHE_HOME",
        )  # fmt: skip
    return Check("machine code", OK, "made at the first large capture (5 s, once)")


def _font() -> Check:
    from matplotlib.font_manager import FontProperties, findfont

    from analyzer.plot.canvas import FONT

    try:
        path = findfont(FontProperties(family=FONT), fallback_to_default=False)
        return Check("font of plots", OK, f"{FONT} ({Path(path).name})")
    except ValueError:
        return Check(
            "font of plots",
            NOTE,
            f"{FONT} not found: plots look different here",
            "pip install --force-reinstall matplotlib",
        )


def _terminal() -> Check:
    encoding = sys.stdout.encoding or "unknown"
    size = shutil.get_terminal_size().columns
    colour = "without colour (NO_COLOR)" if "NO_COLOR" in os.environ else "colour where it is a terminal"
    told = f"{size} columns, {encoding}, {colour}"
    if encoding.lower().replace("-", "") != "utf8":
        return Check(
            "terminal", NOTE, f"{told}: arrows and bars may look odd", "set LANG=C.UTF-8, or on Windows: chcp 65001"
        )
    return Check("terminal", OK, told)
