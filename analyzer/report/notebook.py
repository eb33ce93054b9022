"""What a trace and a connection show of themselves in a notebook: compact, escaped, for light and dark pages alike."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from analyzer.model.markup import Html, element, frame, line, table
from analyzer.model.times import seconds, stamp
from analyzer.report.escape import count

if TYPE_CHECKING:
    from collections.abc import Iterable

    from analyzer.connection import Connection
    from analyzer.model.findings import Finding
    from analyzer.trace import Trace

#: Findings and sources that are listed.
LISTED = 8


def trace_html(trace: Trace) -> str:
    """What was found, in what, and where to look next."""
    story = trace.story
    severities = Counter(f.severity.word for f in trace.findings)
    found = ", ".join(count(severities[word], word) for word in ("error", "warning", "info") if severities[word])
    connections, frozen = len(story.connections.in_view()), sum(z.length_ns for z in story.freezes)
    facts = [count(len(story.sources), "source")]
    facts += [count(connections, "connection")] if connections else []
    facts += [count(len(story.environments), "environment")] if story.environments else []
    facts += [count(len(story.invocations), "invocation")] if story.invocations else []
    facts += [f"frozen {seconds(frozen)} in {count(len(story.freezes), 'gap')}"] if frozen else []
    sources = [
        (s.label, s.format, f"{s.records:,}", count(len(s.problems), "problem") if s.problems else "")
        for s in story.sources[:LISTED]
    ]
    apart = bool(story.connections.points and story.events and not story.aligned)
    return frame(
        line(element("b", found or "no findings"), f" in {', '.join(facts)}"),
        line("logs and captures could not be aligned: they are told apart") if apart else Html(""),
        _findings(trace.findings),
        table(("source", "format", "records", ""), sources),
        line("trace.findings[0], trace.connection(…), trace.timeline(…), trace.connections, trace.events, …", dim=True),
    )


def _findings(findings: Iterable[Finding]) -> Html:
    listed = list(findings)
    rows = [
        (x.id, element("b", x.severity.word), x.rule, x.title, x.connection or "", stamp(x.time_ns))
        for x in sorted(listed, key=lambda x: (-x.severity, -x.confidence, x.time_ns))[:LISTED]
    ]
    more = line(f"and {len(listed) - LISTED:,} more", dim=True) if len(listed) > LISTED else Html("")
    return Html(table(("", "", "", "", "", ""), rows) + more)


def connection_html(connection: Connection) -> str:
    """One connection: who, how long, how much, how it ended, what was found."""
    c = connection
    opened = stamp(c.opened.value)
    rows = [
        ("states at the end", f"{c.client_state} / {c.server_state}", "ended by", c.ended_by or "nothing seen"),
        ("opened", opened, "lasted", f"{seconds(round(c.duration_s * 1e9))}, longest silence {seconds(round(c.longest_idle_s * 1e9))}"),
        ("client sent", _sent(c.client_packets, c.client_bytes, c.client_retransmits),
         "server sent", _sent(c.server_packets, c.server_bytes, c.server_retransmits)),
        ("Zeek", f"{c.conn_state} {c.history}", "seen by", ", ".join(c.sources)),
    ]  # fmt: skip
    known = [("environment", c.environment), ("names", ", ".join(c.names)), ("transports", ", ".join(c.transports))]
    rows += [(name, value, "", "") for name, value in known if value]
    bold = [tuple(element("b", cell) if n in (0, 2) else cell for n, cell in enumerate(row)) for row in rows]
    return frame(line(element("b", f"{c.id}  {c.client} → {c.server}")), table((), bold), _findings(c.findings))


def _sent(packets: int, payload: int, again: int) -> str:
    return f"{packets:,} packets, {payload:,} B" + (f", {again:,} retransmitted" if again else "")
