"""Exports that lost their log streams: what is inferred of environments is less than what the streams say, and never something else."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

import analyzer
from tests.helpers import ALL_CASES
from tests.logs.shapes import SHAPES, START_MS, Line, iso, numbered, request, stamped
from tests.timeline.test_fleet import stream

LOSING = [writer for writer, (_, streams) in SHAPES.items() if not streams]
ERROR = "redis error Error: read ECONNRESET\n    at TCP.onStreamRead {\n  errno: -104,\n  code: 'ECONNRESET'\n}\n"


def fleet(rng: Random, environments: int, invocations: int) -> list[Line]:
    """Invocations in whichever environment is free; each freezes between its own, and some lines after a thaw name the one before."""
    free_at = [rng.randrange(3_000) for _ in range(environments)]
    last: dict[int, str] = {}
    lines = []
    for number in range(invocations):
        n = rng.randrange(environments)
        at = START_MS + free_at[n] + rng.choice((300, 4_000, 30_000))
        name, cold = request(number), n not in last
        init = rng.randrange(150, 900)
        if cold:
            lines.append(Line(at - init - 5, stream(n), "INIT_START Runtime Version: nodejs:22.v1\n"))
        lines.append(Line(at, stream(n), f"START RequestId: {name} Version: $LATEST\n"))
        if not cold and rng.random() < 0.3:
            lines.append(Line(at + 3, stream(n), f"{iso(at + 3)}\t{last[n]}\tERROR\t{ERROR}"))
        lines.append(Line(at + 10, stream(n), f"{iso(at + 10)}\t{name}\tINFO\tworks\n"))
        end = at + rng.choice((40, 900))
        tail = f"\tInit Duration: {init}.00 ms" if cold else ""
        lines.append(
            Line(end, stream(n), f"REPORT RequestId: {name}\tDuration: 40.00 ms\tBilled Duration: 40 ms{tail}\t\n")
        )
        free_at[n], last[n] = end - START_MS, name
    return numbered(lines)


def told(path: Path | tuple[Path, ...]):
    """Freezes by the invocations around them, environments by their invocations, findings by rule and invocations."""
    trace = analyzer.read(*(path if isinstance(path, tuple) else (path,)))
    together: dict[str, set[str]] = {}
    for i in trace.story.invocations:
        together.setdefault(i.environment, set()).add(i.request_id)
    freezes = {(z.before, z.after) for z in trace.story.freezes}
    return freezes, list(together.values()), [(f.rule, set(f.request_ids)) for f in trace.findings], trace


def hold(whole: Path | tuple[Path, ...], lost: Path | tuple[Path, ...]):
    """What stands in the export without streams is part of what stands in the whole one."""
    freezes, environments, findings, _ = told(whole)
    inferred = told(lost)
    assert inferred[0] <= freezes
    assert all(any(some <= every for every in environments) for some in inferred[1])
    assert all(any(rule == r and some <= every for r, every in findings) for rule, some in inferred[2])
    return inferred


def write(tmp_path: Path, lines: list[Line], writer) -> tuple[Path, Path]:
    whole, lost = tmp_path / "whole.json", tmp_path / "lost.txt"
    events = [
        {"logStreamName": e.stream, "timestamp": e.ms, "message": e.message, "eventId": f"{e.id:056d}"} for e in lines
    ]
    whole.write_text(json.dumps({"events": events}))
    written = writer(lines)
    lost.write_bytes(written if isinstance(written, bytes) else written.encode())
    return whole, lost


@pytest.mark.parametrize("writer", LOSING, ids=lambda writer: writer.__name__)
def test_what_is_inferred_is_part_of_the_truth_in_every_shape(writer, tmp_path):
    for seed in range(4):
        lines = fleet(Random(seed), environments=2 + seed, invocations=12)
        hold(*write(tmp_path, lines, writer))


def test_one_environment_is_inferred_whole(tmp_path):
    whole, lost = write(tmp_path, fleet(Random(1), environments=1, invocations=8), stamped)
    inferred = hold(whole, lost)
    assert inferred[0] == told(whole)[0] and len(inferred[0]) == 7 and len(inferred[1]) == 1
    assert [p.what for p in inferred[3].story.sources[0].problems] == ["no log stream: environments are inferred"]


def test_a_stale_id_tells_which_environment_thawed(tmp_path):
    """Two are idle; a line with the id of an ended invocation is printed where that one ran."""
    lines = []
    for number, (at, n) in enumerate(((0, 0), (20, 1), (9_000, 0), (15_000, 1), (21_000, 0))):
        ms, name = START_MS + at, request(number)
        stale = {2: 0, 3: 1}.get(number)
        lines += [
            Line(ms, stream(n), f"START RequestId: {name} Version: $LATEST\n"),
            *([Line(ms + 2, stream(n), f"{iso(ms + 2)}\t{request(stale)}\tINFO\tredis event close\n")] if stale is not None else []),
            Line(ms + 50, stream(n), f"REPORT RequestId: {name}\tDuration: 50.00 ms\tBilled Duration: 50 ms\t\n"),
        ]  # fmt: skip
    inferred = hold(*write(tmp_path, numbered(lines), stamped))
    assert inferred[0] == {(request(0), request(2)), (request(1), request(3))}
    (source,) = inferred[3].story.sources
    assert any(p.what.startswith("1 invocation may be of any of several environments") for p in source.problems)


def test_environments_that_are_older_than_the_log_may_have_run_all_along(tmp_path):
    """Two that take turns look like one, until they run at the same time, and neither began in the log."""
    runs = ((0, 50, 0), (9_000, 9_050, 1), (20_000, 25_000, 0), (21_000, 21_050, 1), (40_000, 40_050, 0))
    lines = []
    for number, (start, end, n) in enumerate(runs):
        name = request(number)
        lines += [
            Line(START_MS + start, stream(n), f"START RequestId: {name} Version: $LATEST\n"),
            Line(
                START_MS + end, stream(n), f"REPORT RequestId: {name}\tDuration: 50.00 ms\tBilled Duration: 50 ms\t\n"
            ),
        ]
    inferred = hold(*write(tmp_path, numbered(sorted(lines, key=lambda e: e.ms)), stamped))
    assert not inferred[0] and all(len(some) == 1 for some in inferred[1])
    took_turns = write(tmp_path, numbered(lines[:6]), stamped)[1]
    assert len(told(took_turns)[0]) == 2  # as far as these lines tell


SEVERAL = [f for f in ALL_CASES if f.name in ("healthy", "late-keepalive", "paused-clock", "refused", "security-group")]


@pytest.mark.parametrize("folder", SEVERAL, ids=lambda folder: folder.name)
def test_cases_of_several_environments(folder, tmp_path):
    document = json.loads((folder / "lambda.json").read_bytes())
    events = document["events"] if isinstance(document, dict) else document
    lines = [Line(e["timestamp"], e["logStreamName"], e["message"], k) for k, e in enumerate(events)]
    assert len({e.stream for e in lines}) > 1
    hold(*write(tmp_path, sorted(lines, key=lambda e: e.ms), stamped))


@pytest.mark.parametrize("folder", SEVERAL, ids=lambda folder: folder.name)
def test_connections_tell_which_environment_went_on(folder, tmp_path):
    """Beside the captures: in an invocation that several idle environments could have taken, its environment's connection speaks."""
    document = json.loads((folder / "lambda.json").read_bytes())
    events = document["events"] if isinstance(document, dict) else document
    lines = [Line(e["timestamp"], e["logStreamName"], e["message"], k) for k, e in enumerate(events)]
    whole, lost = write(tmp_path, sorted(lines, key=lambda e: e.ms), stamped)
    captures = sorted(folder.glob("*.pcap"))
    inferred = hold((whole, *captures), (lost, *captures))
    # In the last two one process never spoke on a connection of before.
    if folder.name not in ("late-keepalive", "security-group"):
        assert inferred[0] == told((whole, *captures))[0]
        problems = [p.what for p in inferred[3].story.sources[0].problems]
        assert problems == ["no log stream: environments are inferred"]


def test_log_groups_are_told_apart(tmp_path):
    """Two functions in one result of Logs Insights, each with one environment."""
    rows = [
        {
            "@timestamp": iso(e.ms, 3, "").replace("T", " "),
            "@message": e.message,
            "@log": f"1:/aws/lambda/fn{e.stream[-1]}",
        }
        for e in numbered([e for n in range(2) for e in of_its_own(n)])
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(rows))
    freezes, environments, _, trace = told(path)
    assert (len(freezes), len(environments)) == (10, 2)
    assert {e.log_group for e in trace.story.environments} == {"/aws/lambda/fn0", "/aws/lambda/fn1"}


def of_its_own(n: int) -> list[Line]:
    """An environment of a function of its own, whose requests are nobody else's."""
    lines = fleet(Random(n), environments=1, invocations=6)
    return [Line(e.ms, stream(n), e.message.replace("6f0d", f"{n}f0d"), e.id) for e in lines]
