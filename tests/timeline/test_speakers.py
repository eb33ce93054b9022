"""A capture of one host, and the log of all: which environments speak through it, and what its clock is."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

import analyzer
from tests.helpers import ALL_CASES
from tests.logs import shapes
from tests.timeline import warp
from tests.timeline.test_invariance import inputs, said

FOLDERS = [f for f in ALL_CASES if f.name in ("frozen-keepalive", "nat-reset", "zombie-fin-wait-2", "server-stalled")]
EXPORT = "lambda.json"
#: Whom the others of the fleet talk to.
SERVER = "10.0.2.20:50051"


def among(lines, environments, seed=1):
    """The same lines among those of environments that the capture knows nothing of, at the same time."""
    dice = random.Random(seed)
    first, last = min(line.ms for line in lines), max(line.ms for line in lines)
    every = list(lines)
    for n in range(environments):
        stream, ms = f"2026/11/21/[$LATEST]{n:032x}", first - dice.randint(0, 9000)
        while ms < last:
            request = f"{dice.getrandbits(32):08x}-0000-4000-8000-{dice.getrandbits(48):012x}"
            took = dice.randint(20, 400)
            ping = f"{shapes.iso(ms + 5)}\t{request}\tERROR\tD {shapes.iso(ms + 5)} | v1.14.7 8 | keepalive | (1) {SERVER} Sending ping"
            report = f"REPORT RequestId: {request}\tDuration: {took}.00 ms\tBilled Duration: {took} ms\n"
            every += [
                shapes.Line(ms, stream, f"START RequestId: {request} Version: $LATEST\n"),
                shapes.Line(ms + 5, stream, f"{ping} with timeout 1000ms\n"),
                shapes.Line(ms + took, stream, f"END RequestId: {request}\n"),
                shapes.Line(ms + took, stream, report),
            ]
            ms += took + dice.randint(500, 9000)
    return [replace(line, id=n) for n, line in enumerate(sorted(every, key=lambda line: line.ms))]


def read(files, folder):
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return analyzer.read(*(folder / name for name in files))


def clocks(trace):
    return {s.path.rsplit("/", 1)[-1]: s.clocks[0] for s in trace.story.sources if s.kind == "pcap"}


@pytest.mark.parametrize("seconds", [0, 7])
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_one_of_a_fleet(folder, seconds, tmp_path):
    files = inputs(folder)
    alone = analyzer.read(*(folder / name for name in files))
    export = shapes.filter_pretty(among(warp.lines(files[EXPORT]), 20)).encode()
    moved = {n: c if n == EXPORT else warp.pcap(c, warp.off(seconds)) for n, c in files.items()}
    fleet = read({**moved, EXPORT: export}, tmp_path)
    for name, clock in clocks(fleet).items():
        true = clocks(alone)[name]
        assert clock.offset_ns is not None
        assert abs(clock.offset_ns + seconds * 10**9 - true.offset_ns) <= clock.error_ns + true.error_ns
    assert said(fleet) == said(alone)


def test_none_of_a_fleet(tmp_path):
    """No environment speaks through the capture: nothing is known of its clock."""
    folder = FOLDERS[0]
    files = inputs(folder)
    strangers = [x for x in among(warp.lines(files[EXPORT]), 60) if not x.stream.endswith("8bd648985")]
    other = {n: c for n, c in files.items() if n != EXPORT}
    fleet = read({**other, EXPORT: shapes.filter_pretty(strangers).encode()}, tmp_path)
    assert not any(clock.offset_ns for clock in clocks(fleet).values())


@pytest.mark.parametrize("name", ["server-killed", "event-loop-blocked"])
@pytest.mark.parametrize("seed", range(4))
def test_chance_is_no_witness(seed, name, tmp_path):
    """A busy capture, and environments that have nothing to do with it: that START and a ping of theirs both find a burst is one coincidence."""
    (folder,) = (f for f in ALL_CASES if f.name == name)
    capture = (folder / "server.pcap").read_bytes()
    begin = warp.first_ns(capture) // 10**6
    span = [shapes.Line(begin, "x", ""), shapes.Line(begin + 60_000, "x", "")]
    strangers = [x for x in among(span, 50, seed) if x.stream != "x"]
    trace = read({"server.pcap": capture, EXPORT: shapes.filter_pretty(strangers).encode()}, tmp_path)
    assert clocks(trace)["server.pcap"].offset_ns is None


@pytest.mark.parametrize("seconds", [-8.58, 0.992, 7.857, 1_800, -45_900])
def test_few_lines_of_one_environment_stand_beside_replies(seconds, tmp_path):
    """Two invocations find bursts at many an offset; that what they print follows what servers sent is no chance."""
    (folder,) = (f for f in ALL_CASES if f.name == "late-keepalive")
    files = inputs(folder)
    plain = said(analyzer.read(*(folder / name for name in files)))
    files["client-b.pcap"] = warp.pcap(files["client-b.pcap"], warp.off(seconds))
    trace = read(files, tmp_path)
    assert said(trace) == plain
    clock = clocks(trace)["client-b.pcap"]
    assert abs(clock.offset_ns + seconds * 1e9) <= clock.error_ns < 20e6
