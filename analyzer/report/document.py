"""The JSON document (`analyzer/1`): complete, stable, described by `analyzer/model/schema/analyzer-1.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

from msgspec import to_builtins

from analyzer.model.findings import Finding
from analyzer.model.records import Freeze, Invocation, Tie
from analyzer.model.times import MS, SECOND, iso
from analyzer.report.causes import Impact, causes, total
from analyzer.report.coverage import unexplained, unseen
from analyzer.tcp.connections import PointConnection
from analyzer.timeline.inferred_freezes import inferred_freezes
from analyzer.timeline.points import Point
from analyzer.timeline.story import Story
from analyzer.timeline.tie_table import all_ties
from analyzer.timeline.timelines import Timeline

SCHEMA, TIMELINE_SCHEMA = "analyzer/1", "analyzer-timeline/1"
#: Records written at once.
BLOCK = 2_000


def dumps(content: dict[str, Any]) -> bytes:
    """The document as bytes: UTF-8, indented, with a line end; lone surrogates from hostile input are replaced."""
    import orjson

    try:
        return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        import json

        return json.dumps(content, indent=2, ensure_ascii=True).encode() + b"\n"


def _iso(ns: int | None) -> str | None:
    return iso(ns) if ns is not None else None


def _ms(ns: int | None) -> float | None:
    return round(ns / MS, 6) if ns is not None else None


def document(story: Story, findings: list[Finding]) -> dict[str, Any]:
    """Everything, as JSON types. The same input gives the same document."""
    return {name: list(part) if isinstance(part, Iterator) else part for name, part in _parts(story, findings)}


def stream(story: Story, findings: list[Finding]) -> Iterator[bytes]:
    """The bytes that `dumps(document(…))` gives, in pieces: a million connections never stand in memory as objects."""
    glue = b"{\n"
    for name, part in _parts(story, findings):
        if not isinstance(part, Iterator):
            yield glue + _inner(name, part)
        else:
            head, tail = f'  "{name}": [\n'.encode(), b"\n  ]"
            open_ = False
            while block := list(islice(part, BLOCK)):
                inner = _inner(name, block)[len(head) : -len(tail)]
                yield (b",\n" if open_ else glue + head) + inner
                open_ = True
            yield tail if open_ else glue + _inner(name, [])
        glue = b",\n"
    yield b"\n}\n"


def _inner(name: str, part: Any) -> bytes:
    return dumps({name: part})[len(b"{\n") : -len(b"\n}\n")]


def _parts(story: Story, findings: list[Finding]) -> Iterator[tuple[str, Any]]:
    yield "schema", SCHEMA
    yield "sources", sources(story)
    yield "environments", environments(story)
    yield "invocations", invocations(story)
    yield "freezes", freezes(story)
    yield "connections", connections(story)
    yield "transports", transports(story)
    yield "pings", pings(story)
    yield "calls", calls(story)
    yield "findings", [finding(story, f) for f in findings]
    yield "summary", summary(story, findings)


def sources(story: Story) -> list[dict[str, Any]]:
    """Inputs with their clocks and problems."""
    return [
        {
            "id": s.id, "path": s.path, "kind": s.kind, "format": s.format, "records": s.records,
            "first": _iso(s.first_ns), "last": _iso(s.last_ns),
            "clocks": [
                {
                    "name": c.name, "reference": c.reference, "offset_ms": _ms(c.offset_ns), "error_ms": _ms(c.error_ns),
                    "drift_ppm": c.drift_ppm, "anchors": c.anchors,
                }
                for c in s.clocks
            ],
            "problems": [{"ref": p.ref, "what": p.what} for p in s.problems],
        }
        for s in story.sources
    ]  # fmt: skip


def environments(story: Story) -> list[dict[str, Any]]:
    """Execution environments."""
    return [
        {
            "id": e.id, "log_group": e.log_group, "first": _iso(e.first_ns), "last": _iso(e.last_ns),
            "invocations": e.invocations, "inferred": e.inferred,
        }
        for e in story.environments
    ]  # fmt: skip


def invocations(story: Story, chosen: list[Invocation] | None = None) -> list[dict[str, Any]]:
    """Invocations, by start: all, or those chosen."""
    return [
        {
            "environment": i.environment, "request_id": i.request_id, "ordinal": i.ordinal, "start": _iso(i.start_ns),
            "end": _iso(i.end_ns), "duration_ms": _ms(i.duration_ns), "status": i.status, "cold_start": i.cold_start,
        }
        for i in (story.invocations if chosen is None else chosen)
    ]  # fmt: skip


def freezes(story: Story, chosen: list[Freeze] | None = None) -> list[dict[str, Any]]:
    """Freezes: those between invocations, then those that only packets or timers tell, each by start; or those chosen."""
    return [
        {
            "environment": z.environment, "start": _iso(z.start_ns), "end": _iso(z.end_ns),
            "seconds": round(z.length_ns / SECOND, 9), "error_ms": _ms(z.error_ns), "from": z.source,
        }
        for z in ([*story.freezes, *inferred_freezes(story)] if chosen is None else chosen)
    ]  # fmt: skip


def connections(story: Story) -> Iterator[dict[str, Any]]:
    """One row a connection; counts are those of the capture point that saw most of it."""
    for k, records in story.connections.records():
        yield connection(story, k, records)


def _path(point: Point, seen: PointConnection) -> dict[str, str]:
    """What a connection's packets were wrapped in, if they were."""
    return {"path": point.data.paths.get(seen.path, "not described")} if seen.path else {}


def connection(story: Story, k: int, records: dict[int, PointConnection]) -> dict[str, Any]:
    """Connection `k` as the contract has it, from its record at each point, nearest the client first."""
    cs = story.connections
    p, near = next(iter(records.items()))
    if len(records) > 1:
        p = max(records, key=lambda q: records[q].a.packets + records[q].b.packets)
    r = records[p]
    aligned = cs.points[p].aligned
    rtt = r.established_ns - r.syn_ns if r.syn_ns and r.established_ns else None
    closed = r.last_ns if r.ended_by else None
    return {
        "id": cs.id(k), "client": near.client, "server": near.server,
        "seen_as": [
            {"source": cs.points[q].source.id, "client": seen.client, "server": seen.server, **_path(cs.points[q], seen)}
            for q, seen in records.items()
        ],
        "opened": _iso(aligned(r.first_ns)), "closed": _iso(aligned(closed)) if closed else None,
        "duration_s": round((r.last_ns - r.first_ns) / SECOND, 9),
        "client_packets": r.a.packets, "server_packets": r.b.packets, "client_bytes": r.a.payload, "server_bytes": r.b.payload,
        "client_retransmits": r.a.retransmits, "server_retransmits": r.b.retransmits, "missed_bytes": r.missed,
        "conn_state": r.conn_state, "history": r.history, "client_state": r.a.state, "server_state": r.b.state,
        "ended_by": r.ended_by, "handshake_rtt_ms": _ms(rtt), "longest_idle_s": round(r.idle_ns / SECOND, 9),
        "oddities": list(r.oddities), "one_sided": r.one_sided,
        "names": cs.names(k, records), "sources": [cs.points[q].source.id for q in records],
        "environment": cs.environment.get(k), "transports": cs.transports.get(k, []),
    }  # fmt: skip


def transports(story: Story) -> list[dict[str, Any]]:
    """gRPC transports."""
    return [
        {
            "id": t.id, "environment": t.environment, "pid": int(t.pid) if t.pid and t.pid.isdigit() else None,
            "dialect": t.dialect, "remote": t.remote, "connection": t.connection,
            "opened": _iso(t.opened_ns), "closed": _iso(t.closed_ns), "closed_by": t.closed_by,
        }
        for t in story.transports
    ]  # fmt: skip


def pings(story: Story) -> list[dict[str, Any]]:
    """Keepalive pings."""
    connection_of = {t.id: t.connection for t in story.transports}
    return [
        {
            "transport": p.transport, "connection": connection_of[p.transport], "sent": _iso(p.sent_ns), "acked": _iso(p.acked_ns),
            "timed_out": _iso(p.timed_out_ns), "timeout_ms": p.timeout_ms, "running_ms": _ms(p.running_ns),
        }
        for p in story.pings
    ]  # fmt: skip


def calls(story: Story) -> list[dict[str, Any]]:
    """RPCs."""
    return [
        {
            "id": c.id, "transport": c.transport, "environment": c.environment, "request_id": c.request_id, "method": c.method,
            "start": _iso(c.start_ns), "end": _iso(c.end_ns), "status": c.status, "details": c.details,
        }
        for c in story.calls
    ]  # fmt: skip


def ties(story: Story) -> list[dict[str, Any]]:
    """What is tied to what; a table of its own, no part of the document."""
    names = list(Tie.__struct_fields__)
    return [{name: getattr(tie, name) for name in names} for tie in all_ties(story)]


def finding(story: Story, f: Finding) -> dict[str, Any]:
    """A finding with its evidence."""
    return {
        "id": f.id, "rule": f.rule, "name": f.name, "severity": f.severity.word, "confidence": f.confidence.word, "title": f.title,
        "time": _iso(f.time_ns), "connection": f.connection, "connections": f.connections, "transport": f.transport,
        "environment": f.environment, "request_ids": f.request_ids, "caused_by": f.caused_by,
        "evidence": [
            {
                "source": e.source, "ref": e.ref, "time": _iso(e.time_ns), "source_time": _iso(e.source_ns), "text": e.text,
                "note": e.note, "primary": e.primary, "order_proven": not e.unproven,
                "also": [{"source": s, "ref": r} for s, r in e.also],
            }
            for e in f.evidence
        ],
        "silence_s": round(f.silence_ns / SECOND, 9), "why": f.why, "ruled_out": f.ruled_out, "help": f.help, "upgrade": f.upgrade,
        "clock": f.clock, "server": f.server, "lost_s": round(f.lost_ns / SECOND, 9),
    }  # fmt: skip


def timeline(story: Story, told: Timeline, events: list[dict[str, Any]]) -> dict[str, Any]:
    """A timeline: its events, and the records that they tell of (schema `analyzer-timeline/1`)."""
    first, last = (told.steps[0].time_ns, told.steps[-1].time_ns) if told.steps else (0, -1)
    environments = {*told.subject.environments, *(s.environment for s in told.steps)}
    ks = {*told.subject.connections, *(int(s.connection[1:]) - 1 for s in told.steps if s.connection)}
    cs = story.connections
    return {
        "schema": TIMELINE_SCHEMA,
        "subject": {"kind": told.subject.kind, "id": told.subject.id, "zero": _iso(told.zero_ns)},
        "connections": [connection(story, k, {p: cs.record(k, p) for p in cs.seen_at(k)}) for k in sorted(ks)],
        "invocations": invocations(story, [
            i for i in story.invocations
            if i.environment in environments and i.start_ns <= last and (i.end_ns is None or i.end_ns >= first)
        ]),
        "freezes": freezes(story, [
            z for z in story.freezes if z.environment in environments and z.start_ns <= last and z.end_ns >= first
        ]),
        "findings": [finding(story, f) for f in told.findings],
        "events": events,
    }  # fmt: skip


def summary(story: Story, findings: list[Finding]) -> dict[str, Any]:
    """Counts per rule and severity, what was read, what began it all and what it cost, what could not be seen."""
    found = causes(findings)
    return {
        "rules": dict(sorted(Counter(f.rule for f in findings).items())),
        "severities": dict(sorted(Counter(f.severity.word for f in findings).items())),
        "sources": len(story.sources),
        "records": sum(s.records for s in story.sources),
        "connections": len(story.connections.in_view()),
        "environments": len(story.environments),
        "invocations": len(story.invocations),
        "log_events": len(story.events),
        "aligned": story.aligned or not (story.connections.points and story.events),
        "skipped": [{"path": path, "why": why} for path, why in story.skipped],
        "examined": story.examined and to_builtins(story.examined),
        "impact": _impact(total(found)),
        "causes": [
            {
                "rule": c.rule, "name": c.name, "server": c.server, "severity": c.severity.word, "confidence": c.confidence.word,
                "findings": [f.id for f in c.findings], "consequences": [f.id for f in c.consequences], **_impact(c.impact),
            }
            for c in found
        ],
        "unexplained": [
            {"code": x.code, "server": x.server or None, "errors": x.count, "source": x.first.source, "ref": x.first.ref}
            for x in unexplained(story, findings)
        ],
        "unseen": unseen(story),
    }  # fmt: skip


def _impact(told: Impact) -> dict[str, Any]:
    """What something cost."""
    return {
        "requests_failed": len(told.requests), "lost_s": round(told.lost_ns / SECOND, 9), "environments_affected": len(told.environments),
    }  # fmt: skip
