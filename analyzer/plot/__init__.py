"""Plots: matplotlib Figures of a trace, for a notebook, a report or a file. They only read the result."""

from analyzer.plot.fleet import fleet
from analyzer.plot.sequence import sequence
from analyzer.plot.timeline import timeline

__all__ = ["fleet", "sequence", "timeline"]
