"""How far each event's time may be off, and which order that leaves unproven."""

from __future__ import annotations

import numpy as np
import pytest

import analyzer
from analyzer.report.style import Style
from analyzer.report.timeline import timeline_text
from tests.helpers import CAPTURES
from tests.timeline import warp

FOLDER = CAPTURES / "frozen-keepalive"


def read(tmp_path, capture=None, log=None, folder=FOLDER):
    """The case, its capture and its log by other clocks."""
    packets, lines = ((folder / name).read_bytes() for name in ("server.pcap", "lambda.json"))
    (tmp_path / "server.pcap").write_bytes(warp.pcap(packets, capture) if capture else packets)
    (tmp_path / "lambda.json").write_bytes(warp.log(lines, log, log) if log else lines)
    return analyzer.read(tmp_path / "server.pcap", tmp_path / "lambda.json")


def by_layer(trace):
    return {layer: events["error_ms"] for layer, events in trace.events.groupby("layer")}


def test_every_event_tells_its_error(tmp_path):
    trace = read(tmp_path, capture=warp.drifting(200, warp.first_ns((FOLDER / "server.pcap").read_bytes())))
    clock = trace.story.connections.points[0].clock
    packets = trace.events[trace.events["layer"] == "tcp"]
    stamps = packets["source_time"].astype("int64").tolist()
    assert np.allclose(packets["error_ms"], [clock.misplaced(stamp) / 1e6 for stamp in stamps])
    assert (by_layer(trace)["lambda"] == 0).all()  # the reference
    assert packets["error_ms"].min() > 0


def test_stamps_cut_to_seconds_are_half_a_second_off_or_less(tmp_path):
    errors = by_layer(read(tmp_path, log=warp.whole_seconds))
    assert 0 < errors["lambda"].max() <= 500.001 and errors["lambda"].notna().all()


def test_nothing_is_said_where_nothing_aligns(tmp_path):
    errors = by_layer(read(tmp_path, capture=warp.off(137), folder=CAPTURES / "zombie-fin-wait-2"))
    assert errors["tcp"].isna().all() and (errors["lambda"] == 0).all()


@pytest.mark.parametrize("name", ["C1", "F1"])
def test_the_error_of_a_cut_stamp_leaves_its_order_unproven(name, tmp_path):
    """A line of the log between packets: not proven to come before or after one that is nearer than both errors."""
    trace = read(tmp_path, log=warp.whole_seconds)
    steps = trace.story_of(name).steps
    body = timeline_text(trace, name, Style(width=160), everything=True).split("\n\n")[1]
    lines = [line for line in body.splitlines() if "⋮" not in line]
    assert len(lines) == len(steps)
    for before, after, line in zip(steps, steps[1:], lines[1:], strict=False):
        if before.source != after.source and after.time_ns - before.time_ns < before.placed_ns + after.placed_ns:
            assert "~" in line[:16], line


#: Clocks of captures, given when the capture began.
CLOCKS = {
    "9 s behind": lambda _: warp.off(-9),
    "200 ppm fast": lambda t0: warp.drifting(200, t0),
    "200 ppm slow": lambda t0: warp.drifting(-200, t0),
    "3.7 s ahead, 80 ppm fast": lambda t0: lambda t: warp.drifting(80, t0)(t) + 3_700_000_000,
}


def overstepped(folder, names, clock, tmp_path):
    """By how much a capture's times lie beyond their stated errors, ns. Clocks of the cases are one host's, before they are moved."""
    files = {name: (folder / name).read_bytes() for name in names}
    first = min(warp.first_ns(content) for name, content in files.items() if ".pcap" in name)
    moved = clock(first)
    for name, content in files.items():
        (tmp_path / name).write_bytes(warp.pcap(content, moved) if ".pcap" in name else content)
    for point in analyzer.read(*(tmp_path / name for name in names)).story.connections.points:
        stamps = np.linspace(point.data.first_ns, point.data.last_ns, 11).astype(np.int64).tolist()
        for stamp in stamps:
            true = stamp - (moved(stamp) - stamp)  # but for ppm of ppm
            yield abs(point.clock.aligned(stamp) - true) - (point.clock.misplaced(stamp) or 0)


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("case", ["tls-handshake", "late-keepalive"])
def test_the_stated_error_holds_the_truth(case, clock, tmp_path):
    names = {"tls-handshake": ["server.pcap", "lambda.json"], "late-keepalive": ["client.pcap", "lambda.json"]}[case]
    assert max(overstepped(CAPTURES / case, names, CLOCKS[clock], tmp_path)) < 1e6


@pytest.mark.shared
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("case", ["3_nat_idle_reset", "5_connection_storm"])
def test_the_stated_error_holds_the_truth_of_two_captures(case, clock, shared, tmp_path):
    names = ["fn.pcap", "srv.pcap", "lambda.json"]
    assert max(overstepped(shared / "cases" / case, names, CLOCKS[clock], tmp_path)) < 1e6
