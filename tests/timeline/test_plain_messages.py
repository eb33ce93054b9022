"""Platform lines without stamps: their order in the file stands, whatever durations say; freezes stay freezes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import analyzer

IDS = [f"6f0d000{n}-0000-4000-8000-00000000000{n}" for n in range(4)]
TRACE = "v1.14.7 18 | keepalive | (1) 10.0.0.9:443"


def _invocation(number: int, lines: list[tuple[str, int, str]], duration_ms: float) -> str:
    """START, lines as (second, whose id, text), END, REPORT; as a console shows messages: only the function's have stamps."""
    said = "".join(f"2026-11-21T00:00:{at}Z\t{IDS[who]}\t{text}\n" for at, who, text in lines)
    end = f"END RequestId: {IDS[number]}\nREPORT RequestId: {IDS[number]}\tDuration: {duration_ms} ms\tBilled Duration: 1 ms\n"
    return f"START RequestId: {IDS[number]} Version: $LATEST\n{said}{end}"


def test_an_end_by_duration_does_not_overtake_the_next_start(tmp_path: Path) -> None:
    """A START stands where its first line does, which is late: END, a duration later, must not pass the START after it.

    It did, by 20 ms; the environment then counted as concurrent, had no freezes, and a keepalive timer that had waited out a
    freeze was called the work of a blocked event loop.
    """
    ping, late = (
        f"ERROR\tD 2026-11-21T00:00:{at}Z | {TRACE} {what}"
        for at, what in (
            ("03.100", "Sending ping with timeout 1000ms"),
            ("09.100", "Ping timeout passed without response"),
        )
    )
    text = (
        _invocation(0, [("01.000", 0, "INFO\tone"), ("01.020", 0, "INFO\ttwo")], 60)
        + _invocation(1, [("02.970", 1, "INFO\tlate first line")], 130)
        + _invocation(2, [("03.000", 2, "INFO\tnext at once"), ("03.100", 2, ping)], 130)
        + _invocation(3, [("09.100", 2, late), ("09.120", 3, "INFO\tafter the freeze")], 40)
    )
    path = tmp_path / "messages.txt"
    path.write_text(text)
    trace = analyzer.read(str(path))
    invocations = trace.story.invocations
    assert [i.request_id for i in invocations] == IDS
    assert all(i.end_ns <= j.start_ns for i, j in pairwise(invocations) if i.end_ns)
    assert [round((z.end_ns - z.start_ns) / 1e9) for z in trace.story.freezes if z.end_ns - z.start_ns > 10**9] == [
        2,
        6,
    ]
    assert [f.rule for f in trace.findings] == ["K101"]
