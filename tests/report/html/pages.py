"""Traces for the tests of the page: many findings, many connections, hostile text."""

from __future__ import annotations

from msgspec.structs import replace

import analyzer
from analyzer.model.problems import Problem
from analyzer.rules import run
from analyzer.rules._cases import Case
from analyzer.trace import Trace
from tests.helpers import CAPTURES

HOSTILE = (
    "<script>pwned()</script><img src=x onerror=pwned()>\"'><svg/onload=pwned()></script>"
    "<!--{{ 7*7 }}{% raw %}${pwned()}javascript:pwned()`tick`$$x$$@tip@{tip}{safe}\x1b[31mred\x07\u202egnp\ud800\x00&amp;"
)


def traced(case: Case) -> Trace:
    story = case.story()
    return Trace(story, run(story))


def many_resets(n: int = 12) -> Trace:
    """`n` connections to one server, each idle for a while and then reset at its first write."""
    lines = []
    for k in range(n):
        port, at = 40_000 + k, k / 10
        lines += [
            (at, f"> SYN port={port}"), (at + 0.001, f"< SYN-ACK port={port}"), (at + 0.002, f"> ACK port={port}"),
            (at + 0.003, f"> 60 port={port}"), (at + 0.005, f"< 30 port={port}"), (at + 0.006, f"> ACK port={port}"),
            (at + 400 + k, f"> {60 + k} port={port}"), (at + 400.002 + k, f"< RST port={port}"),
        ]  # fmt: skip
    lines.sort()
    return traced(Case("many resets", packets="\n".join(f"{time:.3f} {what}" for time, what in lines)))


def many_connections(n: int = 1_500) -> Trace:
    """`n` short connections of which every hundredth was never answered."""
    lines = []
    for k in range(n):
        port, at = 10_000 + k, k / 100
        if k % 100 == 99:
            lines += [(at, f"> SYN port={port}")]
            continue
        lines += [
            (at, f"> SYN port={port}"), (at + 0.001, f"< SYN-ACK port={port}"), (at + 0.002, f"> ACK port={port}"),
            (at + 0.003, f"> {100 + k % 7} port={port}"), (at + 0.004 + k % 5 / 1000, f"< FIN port={port}"),
            (at + 0.01, f"> FIN port={port}"), (at + 0.011, f"< ACK port={port}"),
        ]  # fmt: skip
    lines.sort()
    return traced(Case("many connections", packets="\n".join(f"{time:.3f} {what}" for time, what in lines)))


def hostile() -> Trace:
    """A shipped case in which every text that comes from an input is an attack."""
    trace = analyzer.read(CAPTURES / "frozen-keepalive")
    story = trace.story
    environment = HOSTILE
    for thing in (*story.events, *story.invocations, *story.freezes, *story.transports, *story.calls):
        thing.environment = environment
    for e in story.environments:
        e.id = environment
        e.log_group = HOSTILE
        e.addresses = {HOSTILE}
    story.connections.environment = dict.fromkeys(story.connections.environment, environment)
    for e in story.events:
        e.layer, e.kind, e.text, e.request_id = "app", "error", HOSTILE, HOSTILE
    for i in story.invocations:
        i.request_id, i.status = HOSTILE, "error"
    for c in story.calls:
        c.method, c.details, c.request_id = HOSTILE, HOSTILE, HOSTILE
    for t in story.transports:
        t.remote, t.dialect, t.closed_by = HOSTILE, HOSTILE, HOSTILE
    for s in story.sources:
        s.path, s.format = f"/tmp/{HOSTILE.replace('/', '')}", HOSTILE
        s.problems.append(Problem(HOSTILE, HOSTILE))
    story.skipped = [(HOSTILE, HOSTILE)]
    (found,) = trace.findings
    found.evidence = [replace(e, text=HOSTILE, note=HOSTILE, layer=HOSTILE) for e in found.evidence]
    found.silences = [replace(s, text=HOSTILE) for s in found.silences]
    found.title = found.why = found.clock = found.help = found.upgrade = HOSTILE
    found.ruled_out, found.request_ids, found.environment = [HOSTILE], [HOSTILE], environment
    return Trace(story, trace.findings)
