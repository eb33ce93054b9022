"""What could not be seen from these inputs, and what was seen and stays unexplained: the worth of a report, whatever it finds."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from analyzer.model.events import Event
from analyzer.model.findings import Finding
from analyzer.model.times import MS
from analyzer.report.escape import count, terminal
from analyzer.rules import n901_not_the_freeze as n901
from analyzer.tcp import signs
from analyzer.timeline.story import Story


def unseen(story: Story) -> list[str]:
    """A sentence each, the heaviest first."""
    found = []
    if not story.connections.points:
        found.append("no capture: what only packets prove (closes, resets, drops) could not be looked for")
    if not story.events and story.connections.points:
        found.append("no log: what the application saw, and when it was frozen, is unknown")
    elif not story.invocations:
        found.append("no platform lines: freezes are unknown")
    if _speaks_grpc(story) and not story.transports:
        found.append("no gRPC trace: pings and calls are not seen from inside")
    if sealed := _most(story, signs.IN_TLS):
        found.append(
            f"{sealed:,} connection{'s' if sealed > 1 else ''} in TLS: frames and errors inside are not seen without keys (--keylog)"
        )
    if any(s.records and not s.clocks for s in story.sources):
        found.append(
            "lines without time stamps cannot be placed: give the export that stamps them (CloudWatch, docker)"
        )
    return found


#: START is stamped up to 91 ms before the guest runs (measured).
_SLACK_NS = 100 * MS
#: Codes of ours that no application prints.
WORDS = n901.WORDS | {
    "CONNECT_FAILED": "a connect that failed", "TIMEOUT": "a time-out", "TLS": "a TLS handshake that failed", "POOL_EXHAUSTED": "an exhausted pool",
    "TOO_MANY_CONNECTIONS": "too many connections", "PING_TIMEOUT": "a ping without an answer", "RST_STREAM": "a stream that was reset",
}  # fmt: skip
#: So many kinds of errors are named.
_NAMED = 5


class Unexplained(Struct):
    """Errors of one kind, towards one server, that no finding is about: how many, and the first."""

    code: str
    server: str
    first: Event
    count: int = 0


def unexplained(story: Story, findings: list[Finding]) -> list[Unexplained]:
    """Connection errors in the logs that no finding cites, counts among its failed requests or has the server of; by kind and server, the first first."""
    kinds: set[tuple[object, ...]] = set()
    requests: set[tuple[str | None, str | None]] = set()
    servers: set[str] = set()
    for item in findings:
        servers.update(
            [item.server] if item.server else [story.connections.server(int(c[1:]) - 1) for c in item.connections]
        )
        requests |= {(item.environment, request) for request in item.request_ids}
        cited = (story.event_at(line.source, line.ref) for line in item.evidence)
        kinds |= {_kind(e) for e in cited if e is not None and e.kind == "error"}
    found: dict[tuple[str, str], Unexplained] = {}
    for e in story.events:
        if e.kind == "error" and e.remote not in servers and _kind(e) not in kinds:
            request = _request(story, e)
            if not {(e.environment, request), (None, request)} & requests:
                code, server = str(e.attrs["code"]), e.remote or ""
                found.setdefault((code, server), Unexplained(code, server, e)).count += 1
    return list(found.values())


def _kind(e: Event) -> tuple[object, ...]:
    return e.environment, e.attrs.get("code"), e.remote


def _request(story: Story, e: Event) -> str | None:
    invocation = story.invocation_at(e.environment, e.time_ns, _SLACK_NS)
    return invocation.request_id if invocation is not None else e.request_id


def said(story: Story, items: list[Unexplained]) -> list[str]:
    """What a person reads of them: nothing, or one sentence."""
    if not items:
        return []
    total = sum(x.count for x in items)
    named = [
        f"{WORDS.get(x.code, x.code)}{f' from {terminal(x.server)}' if x.server else ''} ({terminal(story.source(x.first.source).at(x.first.ref))}{f', {x.count:,} times' if x.count > 1 else ''})"
        for x in items[:_NAMED]
    ]
    more = [count(len(items) - _NAMED, "more kind")] if len(items) > _NAMED else []
    return [f"{count(total, 'connection error')} that no finding explains: {', '.join(named + more)}"]


def _most(story: Story, sign: int) -> int:
    """Connections that show this sign, in the capture with most of them."""
    return max((int(np.count_nonzero(point.signs & sign)) for point in story.connections.points), default=0)


def _speaks_grpc(story: Story) -> bool:
    """Whether gRPC is used, as far as the log's errors or frames in the clear tell."""
    named = any("grpc" in str(e.attrs.get("library", "")) for e in story.of_kind("error"))
    return named or _most(story, signs.IN_HTTP_2) > 0
