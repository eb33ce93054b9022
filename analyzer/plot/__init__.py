"""Plots: matplotlib Figures of a trace, for a notebook, a report or a file. They only read the result."""

from analyzer.plot.connections_over_time import connections_over_time
from analyzer.plot.fleet import fleet
from analyzer.plot.idle_gaps import idle_gaps
from analyzer.plot.overhead import overhead
from analyzer.plot.pings import pings
from analyzer.plot.sequence import sequence
from analyzer.plot.timeline import timeline

__all__ = ["connections_over_time", "fleet", "idle_gaps", "overhead", "pings", "sequence", "timeline"]
