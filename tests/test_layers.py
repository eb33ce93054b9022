"""Imports go one way: model ← capture, tcp, logs ← timeline ← rules ← report, plot ← trace ← cli."""

from __future__ import annotations

import ast

import pytest

from tests.helpers import ROOT

#: Room → rooms it may import (besides itself). Single modules at the top level are rooms of their own.
MAY = {
    "kernel": set(),
    "discovery": set(),
    "model": set(),
    "streams": set(),
    "payload": set(),
    "tcp": {"model", "capture.columns", "kernel", "payload"},
    "capture": {"model", "kernel", "streams", "tcp"},
    "logs": {"model", "discovery", "streams"},
    "redact": {"model", "discovery", "capture", "logs"},
    "timeline": {"model", "capture", "payload", "tcp", "logs"},
    "standard_input": set(),
    "inputs": {"model", "capture", "logs", "standard_input", "streams", "timeline"},
    "rules": {"model", "capture", "payload", "tcp", "logs", "timeline", "discovery"},
    "report": {
        "connection",
        "doctor",
        "saved",
        "model",
        "capture",
        "streams",
        "tcp",
        "timeline",
        "rules",
        "trace",
        "plot.packets",
        "plot.scale",
        "plot.scene",
        "plot.theme",
    },
    "plot": {"model", "capture", "deep", "tcp", "timeline", "rules", "report", "trace"},
    "deep": {"model", "capture", "tcp", "timeline"},
    "saved": {"deep", "model", "capture", "tcp", "timeline", "inputs", "trace"},
    "connection": {"model", "tcp", "timeline", "report", "plot", "trace"},
    "trace": {
        "redacted",
        "redact",
        "connection",
        "saved",
        "deep",
        "model",
        "capture",
        "tcp",
        "timeline",
        "rules",
        "report",
        "inputs",
    },
    "extract": {"model", "capture", "logs", "redact", "streams", "tcp", "timeline", "trace"},
    "redacted": {"model", "capture", "payload", "redact", "tcp", "timeline", "trace"},
    "options": set(),
    "doctor": {"model", "deep", "kernel", "plot"},
    "config": {"model", "rules"},
    "cli": {
        "config",
        "doctor",
        "options",
        "model",
        "timeline",
        "report",
        "plot",
        "trace",
        "streams",
        "extract",
        "redact",
    },
    "__init__": {"saved", "model", "rules", "trace", "plot"},
    "__main__": {"cli"},
}
FILES = sorted((ROOT / "analyzer").rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("analyzer"):
            inner = node.module.removeprefix("analyzer").lstrip(".")
            yield from (f"{inner}.{alias.name}".lstrip(".") for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT / "analyzer")))
def test_imports_go_one_way(path):
    parts = path.relative_to(ROOT / "analyzer").with_suffix("").parts
    room = parts[0]
    for module in imports(path):
        target = module.split(".")[0]
        if target in (room, "__version__"):
            continue
        allowed = MAY[room]
        assert target in allowed or any(module.startswith(a) for a in allowed if "." in a), f"{room} imports {module}"


def test_scapy_has_one_door():
    """GPL-2.0-only code is imported in one module, when used."""
    users = [p for p in FILES if "scapy" in {n.split(".")[0] for n in _external(p)}]
    assert [p.name for p in users] == ["scapy_bridge.py"]


def _external(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
