"""How much of a big trace goes into one page. What is left out is counted and said there."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """Upper bounds of what is shown one by one; summaries always cover everything."""

    examples: int = 5  # findings of one rule laid out in full
    cards: int = 40  # findings laid out in full
    findings: int = 2_000  # rows of the table of findings
    connections: int = 2_000  # rows of the table of connections, the most interesting ones
    rows: int = 500  # rows of any other table
    steps: int = 2_000  # lines of a timeline
    marks: int = 20_000  # packets and log lines in all timelines together
    drawn: int = 20  # connections without a finding that get a timeline
    segments: int = 100_000  # packets of a connection whose timeline shows packets


#: Without `--all`.
SUMMARY = Limits()
#: With `--all`: what a browser still opens.
EVERYTHING = Limits(
    examples=200, cards=200, findings=20_000, connections=20_000, rows=5_000, steps=20_000, marks=100_000, drawn=100
)
