"""connection-refused

## What it does
Flags a connection attempt that was answered with a reset or with an ICMP error (host, network or port unreachable, prohibited), or
that the application reports as ECONNREFUSED, EHOSTUNREACH or ENETUNREACH: nothing listens on that port, a firewall refuses in its
place, or no way leads there.

## Why it matters
The request fails within a round trip, so it is neither slow nor stale: nothing was connected, and a frozen function or an idle
limit cannot be the reason. After a restart of the server it heals by itself, with a wrong port it does not.

## What to do
Check that the server runs and listens on this address and port (`ss -ltn`), that the name still points to it (failover,
deployment), and security devices that answer with resets. After an ICMP error check routes and rules at its sender. Retry with a
pause where the server may be restarting.

## Known limits
A reset in answer to a SYN looks the same from a full accept queue (Linux with tcp_abort_on_overflow), a firewall, or a closed
port. A client that is refused by ten ports or more is scanning and is left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Evidence, Finding, Severity
from analyzer.model.times import SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules._cases import Case
from analyzer.rules._thresholds import Settings, Values, count
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.tcp.segments import Segment
from analyzer.timeline.icmp import AboutConnection
from analyzer.timeline.order import before
from analyzer.timeline.points import SERVER
from analyzer.timeline.story import Story

CODE = "C403"
NAME = "connection-refused"
SUMMARY = "the SYN was answered with a reset or an ICMP error: nothing listens there, or no way leads there"
SEVERITIES = (Severity.ERROR,)
FROM_LOGS = (Confidence.CERTAIN, Confidence.CERTAIN)

ERROR_WITHIN_NS = 2 * SECOND
#: What an attempt that is refused reads as, and what that means (Linux: icmp_err_convert; ENETUNREACH also without a packet).
MEANING = {
    "ECONNREFUSED": "answered the attempt to connect with a refusal: nothing accepts connections there, or a firewall says so in its place",
    "EHOSTUNREACH": "was not reached: a router, or the own host after asking for its hardware address in vain, says that the host is not there",
    "ENETUNREACH": "was not reached: no route leads there, from this host or from a router on the way",
    "EACCES": "was not reached: a firewall on the way prohibits it",
}


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
    Case(
        "from the log alone: Java's HttpClient does not say who refused",
        log="""
        00:00:00.000 START 1
        00:00:00.020 app 1 java.net.ConnectException: Connection refused
        00:00:00.021 app 1 Caused by: java.net.ConnectException: Connection refused
        00:00:00.100 REPORT 1
        """,
    ),
    Case(
        "from the log alone: no way there",
        log="""
        00:00:00.000 START 1
        00:00:03.090 app 1 Error: connect EHOSTUNREACH 10.0.0.9:6379 { errno: -113, code: 'EHOSTUNREACH', syscall: 'connect', address: '10.0.0.9', port: 6379 }
        00:00:03.100 REPORT 1
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


class Refused(Struct):
    """What the log says of one server that refused one environment, where no capture shows it."""

    code: str
    server: str
    events: list[Event] = []


def select(story: Story, settings: Settings) -> Iterable[int | Refused]:
    """Connections of SYNs and a reset or an ICMP error; servers that only the log speaks of."""
    scan_ports = settings[Thresholds].scan_ports
    refused = sorted(_reset(story, scan_ports) | _rejected(story, scan_ports))
    yield from refused
    shown = {story.connections.server(k) for k in refused}
    groups: dict[tuple[str, str, str], Refused] = {}
    for e in story.of_kind("error", "connect-failed"):
        told = _refused_by(e)
        if told and told[1] not in shown and (told[1] or not shown):
            groups.setdefault((e.environment or "", *told), Refused(*told)).events.append(e)
    named = {env for env, _, server in groups if server}
    yield from (refused for (env, *_), refused in groups.items() if refused.server or env not in named)


def _reset(story: Story, scan_ports: int) -> set[int]:
    """Connections of SYNs and resets alone."""
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


def _rejected(story: Story, scan_ports: int) -> set[int]:
    """Connections of SYNs alone, at least one of which an ICMP error quotes."""
    cs = story.connections
    told = {k for k in cs.with_icmp() if _icmp(story, k)}
    found = (
        [k for k in cs.showing(signs.SYN_ONLY) if k in told and not any(row[SERVER + f.PKTS] for row, _ in cs.rows(k))]
        if told
        else []
    )
    servers: dict[str, set[str]] = defaultdict(set)
    for k in found:
        servers[cs.client(k).rpartition(":")[0]].add(cs.server(k))
    return {k for k in found if len(servers[cs.client(k).rpartition(":")[0]]) < scan_ports}


def _icmp(story: Story, k: int) -> list[AboutConnection]:
    """The ICMP errors that stopped a segment of the client."""
    return [e for e in story.connections.icmp(k) if e.from_client and e.undelivered]


def _refused_by(e: Event) -> tuple[str, str] | None:
    """(errno, address) of an error line that says who refused; Java's HttpClient says only that somebody did."""
    code = str(e.attrs.get("code"))
    refused = code == "ECONNREFUSED" or (code in MEANING and e.attrs.get("stage") == "connect")
    if e.kind == "error" and e.level != "INFO" and refused and (e.remote or code == "ECONNREFUSED"):
        return code, e.remote or ""
    if e.kind == "connect-failed" and e.remote:
        said = str(e.attrs.get("error", ""))
        return next(((code, e.remote) for code, words in _WORDS if words in said), None)
    return None


#: How gRPC libraries say it, each in its language's words.
_WORDS = (
    ("ECONNREFUSED", "refused"), ("ECONNREFUSED", "ECONNREFUSED"), ("EHOSTUNREACH", "EHOSTUNREACH"), ("EHOSTUNREACH", "o route to host"),
    ("ENETUNREACH", "ENETUNREACH"), ("ENETUNREACH", "etwork is unreachable"),
)  # fmt: skip


def examine(story: Story, candidate: int | Refused, settings: Settings) -> Finding | None:
    """The proof: the SYN and the reset or the ICMP error, or the kernel's word in the log."""
    if isinstance(candidate, Refused):
        return _from_log(story, candidate)
    k = candidate
    segments = story.connections.segments(k)
    syns = [s for s in segments if s.syn and s.from_client]
    reset = next((s for s in segments if s.rst and not s.from_client), None)
    if not syns:
        return None
    if reset is None:
        return _from_icmp(story, k, syns)
    if before(story, story.packet(reset), story.packet(syns[0])):
        return None
    server = story.connections.server(k)
    errors = _errors(story, k, syns[0].time_ns, reset.time_ns)
    evidence = [story.packet(syns[0]), story.packet(reset, primary=True)] + [story.evidence(e) for e in errors[:1]]
    return _finding(
        story, server, f"connection refused by {server} after {seconds(max(reset.time_ns - syns[0].time_ns, 0))}", MEANING["ECONNREFUSED"], evidence, errors, k,
        common.environment(story, k),
    )  # fmt: skip


def _errors(story: Story, k: int, start_ns: int, end_ns: int) -> list[Event]:
    """What the application said of it."""
    server, env = story.connections.server(k), common.environment(story, k)

    def names_it(e: Event) -> bool:
        said = _refused_by(e)
        return said is not None and (said[1] == server or (not said[1] and e.environment == env))

    return common.lines_beside(story, k, start_ns, end_ns + ERROR_WITHIN_NS, names_it, anywhere=True)


def _from_icmp(story: Story, k: int, syns: list[Segment]) -> Finding | None:
    """Something on the way said why no answer comes."""
    icmp = _icmp(story, k)
    if not icmp:
        return None
    error, server = icmp[0], story.connections.server(k)
    errors = _errors(story, k, syns[0].time_ns, error.time_ns)
    told = replace(story.icmp(error, f"{len(icmp)} ICMP errors" if len(icmp) > 1 else ""), primary=True)
    evidence = [story.packet(syns[0]), told] + [story.evidence(e) for e in errors[:1]]
    why = f"was not reached: {error.sender} answered {'a SYN' if len(syns) == 1 else f'{len(syns)} SYNs'} with an ICMP error, no packet gets from there to the server"
    found = _finding(
        story, server, f"connect to {server} failed: {error.what} from {error.sender}", why, evidence, errors, k, common.environment(story, k)
    )  # fmt: skip
    if error.sender != collect.host(server):
        found.help = f"check routes, address and firewall rules at {error.sender}, and that the server's host is up"
        found.upgrade = (
            f"at {error.sender}, which rule or route it was: `ip route get {collect.host(server)}; nft list ruleset`"
        )
    return found


def _from_log(story: Story, refused: Refused) -> Finding:
    events = refused.events
    last = [story.evidence(events[-1])] if len(events) > 1 else []
    count = len(common.once(events))
    times = f" {count:,} times" if count > 1 else ""
    title = (
        f"connection refused{f' by {refused.server}' if refused.server else ''}{times}"
        if refused.code == "ECONNREFUSED"
        else f"no way to {refused.server}: {refused.code}{times}"
    )
    found = _finding(
        story, refused.server, title, MEANING[refused.code], [story.evidence(events[0], primary=True), *last], events, None, events[0].environment
    )  # fmt: skip
    if refused.code != "ECONNREFUSED":
        found.ruled_out[1:] = []  # the host itself gives up on a neighbour only after some seconds
        found.help = (
            "check that the name points to a host that is up, and routes, security groups and network ACLs between"
        )
        found.upgrade = f"from the same network: `ip route get {collect.host(refused.server)}; nc -vz -w 5 {collect.host(refused.server)} {collect.port(refused.server)}`"
    return found


def _finding(
    story: Story, server: str, title: str, why: str, evidence: list[Evidence], errors: list[Event], k: int | None, env: str | None
) -> Finding:  # fmt: skip
    evidence.sort(key=lambda e: e.time_ns)
    ids = [story.connections.id(k)] if k is not None else []
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.CERTAIN, title,
        next(e.time_ns for e in evidence if e.primary), evidence, f"{server or 'a server that the error does not name'} {why}",
        connection=ids[0] if ids else None, connections=ids, server=server or None, environment=env,
        request_ids=common.failed_requests(story, errors),
        ruled_out=["a stale or frozen connection (none was established)", "a silent drop or an overloaded path (an answer came at once)"],
        help="check that the server listens on this address and port and that its name points to it; retry with a pause if it may be restarting",
        upgrade=f"on the server: `ss -ltn 'sport = :{collect.port(server)}'` shows whether anything listens",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip
