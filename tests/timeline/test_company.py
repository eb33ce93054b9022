"""A case beside another of the same minute: each says what it says alone, as surely."""

from __future__ import annotations

import gzip
import json
from collections import Counter

import pytest

import analyzer
from tests.helpers import ALL_CASES
from tests.timeline import warp

#: Cases, the inputs of the second that are given, and by how many seconds these are moved.
NEAR = {
    "the log of another function does not move a capture's clock": (
        "tls-handshake", "slow-query", ("server.pcap", "lambda.json"), -9_856.578,
    ),
    "an export of the same log group, of other environments": (
        "reset-dropped", "connection-limit", ("to-s3-2026.gz",), -2_946.189,
    ),
    "resets of two functions do not recur": ("go-nat-reset", "mariadb-idle-reset", ("logs-insights-results.csv",), 0),
    "another function's errors do not contradict": ("close-race", "redis-closed-in-freeze", ("lambda.log",), 0),
    "time-outs of two functions do not recur": ("nat-silent", "slow-query", ("lambda.json",), 0),
    "a server's address in two networks": (
        "go-nat-reset", "late-keepalive", ("client.pcap", "client-b.pcap", "lambda.json"), 0,
    ),
    "a reset that no log shares a clock with explains nothing": (
        "server-killed", "late-keepalive", ("client.pcap",), -2_576.19,
    ),
    "a connection that can only be one of two others' is not a third's": (
        "server-killed", "reset-dropped", ("to-s3-2026.gz",), 3_064.706,
    ),
    "an environment that runs nearly always fits any bursts": (
        "half-close", "redis-closed-in-freeze", ("server.pcap", "lambda.log"), 4_866.128,
    ),
    "an environment that bursts of two addresses meet by chance is behind neither": (
        "work-outlives", "connection-limit", ("server.pcap",), 1_695.136,
    ),
    "few lines find packets at some offset or other": (
        "close-race", "any-interface", ("logs-insights-results.csv",), -4_874.121,
    ),
    "an idle limit that errors tell of is none of servers that only others speak with": (
        "grpc-max-age", "redis-closed-in-freeze", ("lambda.log",), 790.793,
    ),
}  # fmt: skip


def said(trace):
    """What was found: rule, connections by their addresses, requests, how grave and how sure it is."""
    cs = trace.story.connections
    ends = {cs.id(k): f"{cs.client(k)} {cs.server(k)}" for k in range(len(cs))}
    return Counter(
        (
            f.rule,
            tuple(sorted(map(ends.__getitem__, f.connections))),
            tuple(sorted(f.request_ids)),
            f.severity,
            f.confidence,
        )
        for f in trace.findings
    )


def folder_of(name):
    return next(f for f in ALL_CASES if f.name == name)


@pytest.mark.parametrize("why", NEAR)
def test_another_incident_changes_nothing(why, tmp_path):
    name, other, names, seconds = NEAR[why]
    own = [folder_of(name) / n for n in json.loads((folder_of(name) / "expected.json").read_text())["inputs"]]
    clock, strange = warp.off(seconds), []
    for n in names:
        content = (folder_of(other) / n).read_bytes()
        content = gzip.decompress(content) if n.endswith(".gz") else content
        strange.append(tmp_path / n.replace(".gz", ".json"))
        strange[-1].write_bytes(warp.pcap(content, clock) if ".pcap" in n else warp.log(content, clock, clock))
    assert said(analyzer.read(*own, *strange)) == said(analyzer.read(*own)) + said(analyzer.read(*strange))
