"""The tables of the page: what a reader sorts and filters there, bounded, the interesting rows first."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from analyzer.model.tables import TABLES
from analyzer.model.times import SECOND
from analyzer.report import document as doc
from analyzer.report.html.glance import Columns
from analyzer.tcp import fields as f
from analyzer.timeline.points import SERVER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analyzer.model.findings import Finding
    from analyzer.model.records import Invocation
    from analyzer.report.html.limits import Limits
    from analyzer.timeline.points import Connections
    from analyzer.timeline.story import Story
    from analyzer.trace import Trace

#: How a column is shown and sorted: text, count (an integer), seconds, time (ISO 8601), link (ids on this page), state.
KINDS = ("text", "count", "seconds", "time", "link", "severity")


class Column(Struct, frozen=True):
    """One column. `detail` ones are shown only when a row is opened."""

    name: str
    title: str
    kind: str = "text"
    doc: str = ""
    detail: bool = False


class Table(Struct):
    """One table: rows are lists in the columns' order. `total` counts what there is, rows may be fewer."""

    id: str
    title: str
    columns: tuple[Column, ...]
    rows: list[list[Any]]
    total: int
    order: str = ""  # what the rows shown were chosen by, where they are not all
    notes: list[str] = []

    def content(self) -> dict[str, Any]:
        """As the page's script takes it."""
        columns = [[c.name, c.title, c.kind, c.doc, c.detail] for c in self.columns]
        return {"id": self.id, "title": self.title, "columns": columns, "rows": self.rows, "total": self.total}


def _columns(table: str, text: str) -> tuple[Column, ...]:
    """`name kind title` a line, `+` before what is shown only in an opened row; meanings come from the public tables."""
    meanings = {c.name: c.doc for c in TABLES[table]}
    out = []
    for line in text.strip().splitlines():
        name, kind, title = line.strip().split(None, 2)
        bare = name.removeprefix("+")
        out.append(Column(bare, title, kind, meanings.get(bare, ""), name.startswith("+")))
    return tuple(out)


CONNECTIONS = _columns("connections", """
    id link id
    client text client
    server text server
    +names text names of the server
    opened time opened (UTC)
    duration_s seconds lasted
    packets count packets
    bytes count bytes
    retransmits count retransmitted
    longest_idle_s seconds longest idle
    conn_state text state
    ended_by text ended by
    client_state text client
    server_state text server
    findings link findings
    +environment text environment
    +transports text gRPC transports
    +history text history (Zeek's letters)
    +handshake_rtt_ms text handshake round trip, ms
    +client_packets count packets of the client
    +server_packets count packets of the server
    +client_bytes count bytes of the client
    +server_bytes count bytes of the server
    +missed_bytes count bytes that the capture missed
    +oddities text oddities
    +seen text seen as
""")  # fmt: skip


def connections(trace: Trace, limits: Limits) -> Table:
    """Connections: those with findings first, then those in trouble, then the largest."""
    story = trace.story
    flagged: dict[str, list[str]] = defaultdict(list)
    for item in trace.findings:
        for name in item.connections:
            flagged[name].append(item.id)
    ks = story.connections.in_view()
    order = ""
    if len(ks) > limits.connections:
        ks = ks[np.sort(_interesting(story.connections, ks, flagged)[: limits.connections])]
        order = "with findings first, then reset or unanswered, then retransmitted, then the largest"
    chosen = replace(story.connections, listed=ks)
    rows = [
        _connection(doc.connection(story, k, records), flagged.get(chosen.id(k), [])) for k, records in chosen.records()
    ]
    return Table("connections", "Connections", CONNECTIONS, rows, len(story.connections.in_view()), order)


def _connection(c: dict[str, Any], findings: list[str]) -> list[Any]:
    more = {
        "packets": c["client_packets"] + c["server_packets"],
        "bytes": c["client_bytes"] + c["server_bytes"],
        "retransmits": c["client_retransmits"] + c["server_retransmits"],
        "ended_by": c["ended_by"] or "open",
        "findings": findings,
        "seen": [f"{s['source']}: {s['client']} → {s['server']}" for s in c["seen_as"][1:]],
    }
    return [(c | more)[column.name] for column in CONNECTIONS]


def _interesting(cs: Connections, ks: NDArray[np.int64], flagged: Iterable[str]) -> NDArray[np.int64]:
    """Positions in `ks`, the most interesting first. Columns only: no record is built."""
    columns = Columns(cs, ks)
    has_finding = np.isin(ks, [int(name[1:]) - 1 for name in flagged])
    trouble = (columns.both(f.RSTS) > 0) | (columns.of(SERVER + f.PKTS) == 0)
    return np.lexsort((-columns.both(f.PKTS), -columns.both(f.RETX), ~trouble, ~has_finding))


FINDINGS = _columns("findings", """
    id link id
    severity severity severity
    rule text rule
    confidence text confidence
    title text what happened
    time time time (UTC)
    connections link connections
    environment text environment
    request_ids text requests
    caused_by link caused by
    +why text why
    +evidence text evidence
""")  # fmt: skip


def findings(story: Story, worst_first: list[Finding], limits: Limits) -> Table:
    """All findings, the worst first; what was ruled out, helps and would settle it is said where the first ones of a rule are laid out."""
    rows = []
    for item in worst_first[: limits.findings]:
        whole = doc.finding(story, item)
        whole["evidence"] = [f"{story.source(e.source).at(e.ref)}: {e.text}" for e in item.evidence]
        rows.append([whole[column.name] for column in FINDINGS])
    return Table("all-findings", "All findings", FINDINGS, rows, len(worst_first), "the worst first")


ENVIRONMENTS = (
    Column("id", "environment", "text", "log stream name; inferred-N where the export lost it"),
    Column("log_group", "log group", detail=True),
    Column("invocations", "invocations", "count"),
    Column("failed", "failed", "count", "invocations that ended in an error, a time-out or a crash"),
    Column("cold_starts", "cold starts", "count"),
    Column("freezes", "freezes", "count"),
    Column("frozen_s", "frozen", "seconds", "all freezes together"),
    Column("longest_s", "longest freeze", "seconds"),
    Column("addresses", "addresses", doc="its addresses, as packets prove them"),
    Column("first", "first", "time", "first sign of life"),
    Column("last", "last", "time", "last sign of life"),
)


def environments(story: Story, limits: Limits) -> Table:
    """Execution environments: those with failed invocations first, then those frozen longest."""
    invocations: dict[str, list[Invocation]] = defaultdict(list)
    for invocation in story.invocations:
        invocations[invocation.environment].append(invocation)
    rows = []
    for e, whole in zip(story.environments, doc.environments(story), strict=True):
        lengths = [z.length_ns / SECOND for z in story.freezes_of(e.id)]
        more = {
            "failed": sum(_failed(i.status) for i in invocations[e.id]),
            "cold_starts": sum(i.cold_start for i in invocations[e.id]),
            "freezes": len(lengths), "frozen_s": sum(lengths), "longest_s": max(lengths, default=0.0),
            "addresses": sorted(e.addresses),
        }  # fmt: skip
        rows.append([(whole | more)[column.name] for column in ENVIRONMENTS])
    rows.sort(key=lambda row: (-row[3], -row[6]))
    order = "with failed invocations first, then those frozen longest"
    return Table("environments", "Environments", ENVIRONMENTS, rows[: limits.rows], len(rows), order)


def _failed(status: str) -> bool:
    return status not in ("success", "unknown")


INVOCATIONS = _columns("invocations", """
    request_id text request
    status text status
    start time start (UTC)
    duration_ms count duration, ms
    cold_start text cold start
    environment text environment
""")  # fmt: skip


def failed_invocations(story: Story, limits: Limits) -> Table:
    """Invocations that did not succeed, by start."""
    rows = [i for i in doc.invocations(story) if _failed(i["status"])]
    return _plain("invocations", "Invocations that failed", INVOCATIONS, rows, limits)


CALLS = _columns("calls", """
    method text method
    status text status
    details text details
    start time start (UTC)
    end time end (UTC)
    transport text transport
    request_id text request
""")  # fmt: skip


def failed_calls(story: Story, limits: Limits) -> Table:
    """Calls that ended with another status than OK, by start."""
    return _plain("calls", "Calls that failed", CALLS, [c for c in doc.calls(story) if c["status"]], limits)


TRANSPORTS = (
    *_columns("transports", """
        id text transport
        remote text remote
        connection link connection
        dialect text library
        opened time opened (UTC)
        closed time closed (UTC)
        closed_by text closed by
    """),
    Column("pings", "pings", "count"),
    Column("acked", "answered", "count"),
    Column("timed_out", "timed out", "count"),
)  # fmt: skip


def transports(story: Story, limits: Limits) -> Table:
    """gRPC transports with the fate of their pings."""
    sent, acked, lost = Counter[str](), Counter[str](), Counter[str]()
    for p in story.pings:
        sent[p.transport] += 1
        acked[p.transport] += p.acked_ns is not None
        lost[p.transport] += p.timed_out_ns is not None
    rows = [
        t | {"pings": sent[t["id"]], "acked": acked[t["id"]], "timed_out": lost[t["id"]]}
        for t in doc.transports(story)
    ]  # fmt: skip
    return _plain("transports", "gRPC transports", TRANSPORTS, rows, limits)


def _plain(name: str, title: str, columns: tuple[Column, ...], rows: list[dict[str, Any]], limits: Limits) -> Table:
    shown = [[row[c.name] for c in columns] for row in rows[: limits.rows]]
    return Table(name, title, columns, shown, len(rows), "the first")


def tables(trace: Trace, worst_first: list[Finding], limits: Limits, folded: bool) -> list[Table]:
    """Those that have rows, in the order of the page; findings only where some are not laid out (`folded`)."""
    story = trace.story
    found = [
        findings(story, worst_first if folded else [], limits), connections(trace, limits), environments(story, limits),
        failed_invocations(story, limits), transports(story, limits), failed_calls(story, limits),
    ]  # fmt: skip
    return [table for table in found if table.rows]
