"""Silence of a capture that dropped packets proves less."""

from __future__ import annotations

import pytest

from analyzer.model.findings import Confidence
from analyzer.model.problems import Problem
from analyzer.rules import run
from analyzer.rules._cases import Case
from analyzer.rules.f201_fin_wait_2_stall import _OPEN

CLOSED = _OPEN + "\n6.5 < FIN\n6.54 > ACK"


@pytest.mark.parametrize(
    ("packets", "sure"),
    [(CLOSED, Confidence.POSSIBLE), (CLOSED + "\n36 > 60\n36.001 < RST", Confidence.LIKELY)],
    ids=["nothing after the acknowledgement", "the client's write ends the stall"],
)
def test_a_stall_that_nothing_ends_may_have_ended_in_what_was_dropped(packets, sure):
    story = Case("", packets=packets).story()
    assert [f.confidence for f in run(story) if f.rule == "F201"] == [Confidence.LIKELY]
    story.connections.points[0].data.problems.append(Problem("", "3 packets dropped by the kernel"))
    assert [f.confidence for f in run(story) if f.rule == "F201"] == [sure]
