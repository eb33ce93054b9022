"""SnapStart: a restore begins a process of its own, whatever the export's shape: no thaw of the one before, whose sockets are gone."""

from __future__ import annotations

import json

import pytest

import analyzer
from tests.logs.shapes import SHAPES, START_MS, STREAMS, Line, iso, numbered, request

#: Restored, invoked twice with a freeze between; then restored again from the same snapshot, and invoked.
AT = {"restore": 0, "first": 500, "second": 20_500, "again": 60_000, "third": 60_500}
ARN = "Runtime Version ARN: arn:aws:lambda:eu-west-1::runtime:1"


def trace_lines(ms: int, name: str) -> list[tuple[int, str]]:
    """A ping of transport (1): its number comes again in every process."""
    said = [(2, "Sending ping with timeout 1000ms"), (5, "Received ping response")]
    return [
        (ms + after, f"{iso(ms + after)}\t{name}\tERROR\tD {iso(ms + after)} | v1.14.7 8 | keepalive | (1) 10.0.0.9:443 {text}\n")
        for after, text in said
    ]  # fmt: skip


def as_text() -> list[tuple[int, str]]:
    found = []
    for n, (what, at) in enumerate(AT.items()):
        ms, name = START_MS + at, request(n)
        if what in ("restore", "again"):
            found += [
                (ms, f"RESTORE_START Runtime Version: java:17.v9\t{ARN}\n"),
                (ms + 300, "RESTORE_REPORT Restore Duration: 244.38 ms\n"),
            ]
            continue
        found.append((ms, f"START RequestId: {name} Version: 56\n"))
        found += trace_lines(ms, name)
        report = f"REPORT RequestId: {name}\tDuration: 30.00 ms\tBilled Duration: 30 ms\tMemory Size: 128 MB\t"
        found += [
            (ms + 30, f"END RequestId: {name}\n"),
            (ms + 30, f"{report}Restore Duration: 244.38 ms\t\n" * (what != "second") or f"{report}\n"),
        ]
    return found


def as_json() -> list[tuple[int, str]]:
    def platform(ms: int, kind: str, **record: object) -> tuple[int, str]:
        return ms, json.dumps({"time": iso(ms), "type": f"platform.{kind}", "record": record}) + "\n"

    found = []
    for n, (what, at) in enumerate(AT.items()):
        ms, name = START_MS + at, request(n)
        if what in ("restore", "again"):
            found += [
                platform(ms, "restoreStart", functionName="fn", runtimeVersion="java:17.v9"),
                platform(ms + 300, "restoreReport", status="success", metrics={"durationMs": 244.0}),
            ]
            continue
        found.append(platform(ms, "start", requestId=name, version="56"))
        found += trace_lines(ms, name)
        metrics = {"durationMs": 30.0, "billedDurationMs": 30, "memorySizeMB": 128, "maxMemoryUsedMB": 67}
        found.append(platform(ms + 30, "report", requestId=name, status="success", metrics=metrics))
    return found


@pytest.mark.parametrize("lines", [as_text, as_json])
@pytest.mark.parametrize("writer", SHAPES, ids=lambda writer: writer.__name__)
def test_a_restore_begins_another_process(writer, lines, tmp_path):
    events = numbered([Line(ms, STREAMS[1], text) for ms, text in lines()])
    written = writer(events)
    path = tmp_path / "export.txt"
    path.write_bytes(written if isinstance(written, bytes) else written.encode())
    story = analyzer.read(path).story
    assert [(i.request_id, i.cold_start) for i in story.invocations] == [
        (request(1), True), (request(2), False), (request(4), True),
    ]  # fmt: skip
    assert [(z.before, z.after) for z in story.freezes] == [(request(1), request(2))]
    assert len(story.transports) == 2 and len(story.pings) == 3
    assert len({i.environment for i in story.invocations}) == (1 if SHAPES[writer][1] else 2)
