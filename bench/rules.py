"""Time what rules cost on healthy connections: `python -m bench.rules [--connections 1000000] [--repeat 5]`.

Connections are made by repeating a few that the tracker has followed: short exchanges closed by either side, kept ones that
rest for a minute, some still open. Each rule's `select` runs `--repeat` times, and the fastest counts. Nothing may be found.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from analyzer.capture.reader import CaptureData
from analyzer.model.records import Clock, Source
from analyzer.rules import rules, run
from analyzer.rules._cases import Case
from analyzer.rules._thresholds import DEFAULTS
from analyzer.tcp import fields as f
from analyzer.timeline.build import build
from analyzer.timeline.points import Point

OPEN = "0.000 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.003 > 300\n0.008 < 900\n0.048 > ACK\n"
HEALTHY = (
    OPEN + "0.049 > FIN\n0.050 < FIN\n0.051 > ACK",
    OPEN + "0.049 < FIN\n0.050 > FIN\n0.051 < ACK",
    OPEN + "62.0 > 300\n62.005 < 900\n62.045 > ACK\n63.9 > FIN\n63.901 < FIN\n63.902 > ACK",
    OPEN + "1.5 > 300\n1.505 < 900\n1.545 > ACK",
)
TIMES = (f.FIRST_TS, f.LAST_TS, f.SYN_TS, f.SYN_ACK_TS, f.ESTABLISHED_TS, f.END_TS, f.WAKE_TS)
TIMES_OF_A_SIDE = (
    f.NXT_TS, f.UNACKED_TS, f.FIN_TS, f.FIN_ACKED_TS, f.FIN_LAST_TS, f.RST_TS, f.SIDE_LAST_TS, f.DATA_FIRST_TS,
    f.DATA_LAST_TS, f.STATE_TS,
)  # fmt: skip
#: Connections begin this far apart, from so many clients, to so many servers.
STEP_NS, CLIENTS, SERVERS = 50_000, 500, 20


def connections(count: int) -> np.ndarray:
    """`count` rows of healthy connections, in order of time."""
    made = [Case("", packets=packets).story().connections.points[0].rows[0] for packets in HEALTHY]
    rows = np.empty((count, f.N_FIELDS), np.int64)
    number = np.arange(count)
    for k, row in enumerate(made):
        rows[k :: len(made)] = row
    sides = [side + column for side in (f.SIDE, f.SIDE + f.SIDE_FIELDS) for column in TIMES_OF_A_SIDE]
    for column in (*TIMES, *sides):
        rows[:, column] += np.where(rows[:, column] > 0, number * STEP_NS, 0)
    rows[:, f.UID] = number
    rows[:, f.C_LO] += number % CLIENTS
    rows[:, f.S_LO] += number % SERVERS
    rows[:, f.C_PORT] = 1024 + number // CLIENTS % 64_000
    return rows


def fastest(work: Callable[[], object], repeat: int) -> float:
    """Seconds of the fastest of some runs."""
    took = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return min(took)


def main() -> None:
    """Each rule's filter, what they share, and all rules together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    wanted = parser.parse_args()
    rows = connections(wanted.connections)
    first, last = int(rows[0, f.FIRST_TS]), int(rows[:, f.LAST_TS].max())
    data = CaptureData("pcap", records=10 * len(rows), tcp=10 * len(rows), first_ns=first, last_ns=last, rows=rows)
    data.complete = False
    point = Point(Source("pcap1", "healthy.pcap", "pcap", "pcap", data.records, clocks=[Clock("packet")]), data)
    story = build([point], [])

    def forget() -> None:
        point.signs_read = None

    def read_signs() -> None:
        forget()
        assert len(point.signs)

    print(f"{len(rows):,} healthy connections, fastest of {wanted.repeat}\n\n| rule | candidates | ms |\n|---|---|---|")
    total = fastest(read_signs, wanted.repeat)
    print(f"| signs, for all rules | | {total * 1e3:.1f} |")
    for rule in rules():
        candidates = len(list(rule.select(story, DEFAULTS)))
        seconds = fastest(lambda rule=rule: list(rule.select(story, DEFAULTS)), wanted.repeat)
        total += seconds
        print(f"| {rule.CODE} | {candidates} | {seconds * 1e3:.2f} |")
    whole = fastest(lambda: (forget(), run(story)), wanted.repeat)
    print(
        f"| sum | | {total * 1e3:.1f} |\n| all rules, as the command runs them | {len(run(story))} findings | {whole * 1e3:.1f} |"
    )


if __name__ == "__main__":
    main()
