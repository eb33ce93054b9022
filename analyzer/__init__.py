"""A network trace analyzer for connection-lifecycle diagnosis.

>>> import analyzer
>>> trace = analyzer.read("captures/frozen-keepalive/")
>>> trace.findings_frame[["rule", "title"]]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Finding", "InputError", "RuleSet", "Trace", "load", "plot", "read", "rule_set"]

if TYPE_CHECKING:
    from analyzer import plot
    from analyzer.model.findings import Finding
    from analyzer.model.problems import InputError
    from analyzer.rules import RuleSet, rule_set
    from analyzer.saved import load
    from analyzer.trace import Trace, read

_PLACES = {
    "Finding": "analyzer.model.findings",
    "InputError": "analyzer.model.problems",
    "RuleSet": "analyzer.rules",
    "Trace": "analyzer.trace",
    "load": "analyzer.saved",
    "read": "analyzer.trace",
    "rule_set": "analyzer.rules",
}


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that the command line starts at once."""
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    if name == "plot":
        return import_module("analyzer.plot")
    raise AttributeError(f"module 'analyzer' has no attribute {name!r}")
