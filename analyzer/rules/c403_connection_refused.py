"""connection-refused

## What it does
Flags a connection attempt that was answered with a reset, or that the application reports as ECONNREFUSED: the host is there,
nothing listens on that port, or a firewall refuses in its place.

## Why it matters
The request fails within a round trip, so it is neither slow nor stale: nothing was connected, and a frozen function or an idle
limit cannot be the reason. After a restart of the server it heals by itself, with a wrong port it does not.

## What to do
Check that the server runs and listens on this address and port (`ss -ltn`), that the name still points to it (failover,
deployment), and security devices that answer with resets. Retry with a pause where the server may be restarting.

## Known limits
A reset in answer to a SYN looks the same from a full accept queue (Linux with tcp_abort_on_overflow), a firewall, or a closed
port. A client that is refused by ten ports or more is scanning and is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Evidence, Finding, Severity
from analyzer.model.times import SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules._cases import Case
from analyzer.rules._thresholds import Settings, Values, count
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.timeline.points import SERVER
from analyzer.timeline.story import Story

CODE = "C403"
NAME = "connection-refused"
SUMMARY = "the SYN was answered with a reset: nothing listens there"

ERROR_WITHIN_NS = 2 * SECOND


class Thresholds(Values):
    """What is no failure but a search."""

    scan_ports: int = count(
        10,
        "a client refused by so many different ports is looking for open ones",
        "no client has that many wrong addresses",
        least=2,
    )


FIRES = (
    Case("a closed port", packets="0.0 > SYN\n0.001 < RST-ACK"),
    Case(
        "from the log alone",
        log="""
        00:00:00.000 START 1
        00:00:00.020 app 1 Error: connect ECONNREFUSED 10.0.0.9:6379 { errno: -111, code: 'ECONNREFUSED', syscall: 'connect' }
        00:00:00.040 app 1 Error: connect ECONNREFUSED 10.0.0.9:6379 { errno: -111, code: 'ECONNREFUSED', syscall: 'connect' }
        00:00:00.100 REPORT 1
        """,
    ),
)
QUIET = (
    Case("accepted, then reset", packets="0.0 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.003 < RST-ACK"),
    Case("no answer at all is C401", packets="0.0 > SYN lost\n1.0 > SYN again lost\n3.0 > SYN again lost"),
    Case(
        "a word in a line of no error",
        log="""
        00:00:00.000 START 1
        00:00:00.020 app 1 retries on: ECONNREFUSED, ECONNRESET
        00:00:00.100 REPORT 1
        """,
    ),
)


@dataclass(slots=True)
class Refused:
    """What the log says of one server that refused one environment, where no capture shows it."""

    server: str
    events: list[Event] = field(default_factory=list)


def select(story: Story, settings: Settings) -> Iterable[int | Refused]:
    """Connections of a SYN and a reset; servers that only the log speaks of."""
    refused = sorted(_in_captures(story, settings[Thresholds].scan_ports))
    yield from refused
    shown = {story.connections.server(k) for k in refused}
    groups: dict[tuple[str, str], Refused] = {}
    for e in story.events:
        server = _refused_by(e)
        if server and server not in shown:
            groups.setdefault((e.environment or "", server), Refused(server)).events.append(e)
    yield from groups.values()


def _in_captures(story: Story, scan_ports: int) -> set[int]:
    found = set()
    for p, point in enumerate(story.connections.points):
        rows, wanted = point.rows, signs.SYN_ONLY | signs.SERVER_RESET
        at = np.flatnonzero(point.signs & wanted == wanted)
        at = at[(rows[at, f.SYN_ACK_TS] == 0) & (rows[at, SERVER + f.RSTS] == rows[at, SERVER + f.PKTS])]
        if not len(at):
            continue
        targets = np.unique(rows[at[:, None], [f.C_HI, f.C_LO, f.S_HI, f.S_LO, f.S_PORT]], axis=0)
        clients, ports = np.unique(targets[:, :2], axis=0, return_counts=True)
        scanners = {tuple(c) for c in clients[ports >= scan_ports].tolist()}
        kept = [r for r in at.tolist() if (int(rows[r, f.C_HI]), int(rows[r, f.C_LO])) not in scanners]
        found.update(story.connections.owners(p)[kept].tolist())
    return found


def _refused_by(e: Event) -> str | None:
    """The address that an error line says refused."""
    if e.kind == "error" and e.attrs.get("code") == "ECONNREFUSED" and e.remote:
        return e.remote
    if e.kind == "connect-failed" and "refused" in str(e.attrs.get("error", "")):
        return e.remote
    return None


def examine(story: Story, candidate: int | Refused, settings: Settings) -> Finding | None:
    """The proof: the SYN and the reset, or the kernel's word in the log."""
    if isinstance(candidate, Refused):
        return _from_log(story, candidate)
    k = candidate
    segments = story.connections.segments(k)
    syn = next((s for s in segments if s.syn and s.from_client), None)
    reset = next((s for s in segments if s.rst and not s.from_client), None)
    if syn is None or reset is None or reset.time_ns < syn.time_ns:
        return None
    env, server = common.environment(story, k), story.connections.server(k)
    errors = [
        e for e in story.events_between(syn.time_ns, reset.time_ns + ERROR_WITHIN_NS, env) if _refused_by(e) == server
    ] if story.aligned else []  # fmt: skip
    evidence = [story.packet(syn), story.packet(reset, primary=True)] + [story.evidence(e) for e in errors[:1]]
    evidence.sort(key=lambda e: e.time_ns)
    return _finding(
        story, server, f"connection refused by {server} after {seconds(reset.time_ns - syn.time_ns)}", evidence, errors,
        connection=story.connections.id(k), env=env,
    )  # fmt: skip


def _from_log(story: Story, refused: Refused) -> Finding:
    events = refused.events
    last = [story.evidence(events[-1])] if len(events) > 1 else []
    times = f" {len(events)} times" if len(events) > 1 else ""
    return _finding(
        story, refused.server, f"connection refused by {refused.server}{times}",
        [story.evidence(events[0], primary=True), *last], events, connection=None, env=events[0].environment,
    )  # fmt: skip


def _finding(
    story: Story,
    server: str,
    title: str,
    evidence: list[Evidence],
    errors: list[Event],
    connection: str | None,
    env: str | None,
) -> Finding:
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.CERTAIN, title,
        next(e.time_ns for e in evidence if e.primary), evidence,
        f"{server} answered the attempt to connect with a refusal: nothing accepts connections there, or a firewall says so in its place",
        connection=connection, connections=[connection] if connection else [], environment=env,
        request_ids=common.failed_requests(story, errors),
        ruled_out=["a stale or frozen connection (none was established)", "a silent drop or an overloaded path (an answer came at once)"],
        help="check that the server listens on this address and port and that its name points to it; retry with a pause if it may be restarting",
        upgrade=f"on the server: `ss -ltn 'sport = :{collect.port(server)}'` shows whether anything listens",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip
