"""connect-unanswered

## What it does
Flags a connection attempt whose SYN was repeated and never answered, neither by a SYN-ACK nor by a reset or an ICMP error (those
are C403's). From the log alone: the kernel's own `connect ETIMEDOUT` with the address.

## Why it matters
The client waits for its connect timeout: Linux gives up after 127 s (before 6.5) or 131–134 s, libraries sooner (10 s is
common), and the finding says whose timer it was and by which numbers. Nothing was ever connected, so this has nothing to do with a frozen or stale connection.

## What to do
Check the way to the server: security groups, network ACLs, routes, the server's accept queue. If it happens only in bursts
of new environments, reuse connections and ramp up.

## Known limits
A capture at the client cannot tell where the SYN was lost; one at the server beside it can, and by itself tells that they came. Where a
capture was taken is read from TTLs: hosts begin with 64, 128 or 255, and each router takes one. A one-directional capture shows unanswered SYNs on healthy
connections; the rule keeps silent when the client goes on to send data, and in a capture that lacks the server's direction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from msgspec import Struct

from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.times import SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules import _timers as timers
from analyzer.rules._cases import Case
from analyzer.rules._thresholds import Settings, Values, count
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.tcp.segments import Segment
from analyzer.timeline.points import SERVER
from analyzer.timeline.story import Story

CODE = "C401"
NAME = "connect-unanswered"
SUMMARY = "SYN repeated, never answered"
SEVERITIES = (Severity.ERROR,)
FROM_LOGS = (Confidence.LIKELY, Confidence.LIKELY)

#: What a connect that nobody answers ends with: the kernel's time-out, or a timer above it.
CODES = ("ETIMEDOUT", "TIMEOUT")
#: Where a capture stands that was taken at the server, and what to look at then.
BESIDE = "this capture is beside the server (TTLs tell: no router between), so the SYNs arrive: its firewall or its accept queue drops them"
HELP_BESIDE = (
    "check the firewall of the server's own host and its accept queue (net.core.somaxconn, listen backlog); "
    "in bursts: keep connections across invocations and ramp up"
)
HELP = "check security groups, network ACLs, routes and the server's accept queue; in bursts: keep connections across invocations and ramp up"
_KERNEL = "127 s by default, 131 to 134 s from Linux 6.5 on"

#: What hosts put into their packets (RFC 1700: 64; Windows 128, network devices 255).
INITIAL_TTLS = (64, 128, 255)

#: After its last SYN a kernel waits for its longest time-out and a little more (127 s with Linux' defaults, 134 s measured).
GIVES_UP_NS = 130 * SECOND


class Thresholds(Values):
    """What makes a connect unanswered."""

    least_syns: int = count(
        3, "fewer copies of the SYN are an ordinary loss", "two repeats: 3 s by the kernel's first time-outs of 1 and 2 s (1 s each from Linux 6.5 on)", least=2
    )  # fmt: skip
    stall_ns: int = common.stall()


FIRES = (
    Case(
        "four SYNs into the void",
        packets="0.0 > SYN lost\n1.0 > SYN again lost\n3.0 > SYN again lost\n7.0 > SYN again lost",
    ),
    Case(
        "a library gives up while the kernel repeats its SYN",
        log="""
        00:00:00.000 START 1
        00:00:10.020 app 1 [ioredis] Unhandled error event: Error: connect ETIMEDOUT { errorno: 'ETIMEDOUT', code: 'ETIMEDOUT', syscall: 'connect' }
        00:00:10.100 REPORT 1
        """,
        packets="0.010 > SYN lost\n1.010 > SYN again lost\n3.010 > SYN again lost\n7.010 > SYN again lost",
    ),
    Case(
        "at the server's own interface, which answers others: the SYNs arrive",
        packets="0.0 > SYN port=50000 ttl=62\n0.001 < SYN-ACK port=50000 ttl=64\n0.002 > ACK port=50000 ttl=62\n"
        "1.0 > SYN ttl=62\n2.0 > SYN again ttl=62\n4.0 > SYN again ttl=62\n8.0 > SYN again ttl=62",
    ),
    Case(
        "from the log alone: the kernel's own time-out",
        log="""
        00:00:00.000 START 1
        00:02:14.020 app 1 Error: connect ETIMEDOUT 10.0.0.9:6379 { errno: -110, code: 'ETIMEDOUT', syscall: 'connect', address: '10.0.0.9', port: 6379 }
        00:02:14.100 REPORT 1
        """,
    ),
)
QUIET = (
    Case("one lost SYN", packets="0.0 > SYN lost\n1.0 > SYN again\n1.001 < SYN-ACK\n1.002 > ACK"),
    Case(
        "refused",
        packets="0.0 > SYN\n0.001 < RST-ACK\n1.0 > SYN again\n1.001 < RST-ACK\n2.0 > SYN again\n2.001 < RST-ACK",
    ),
    Case(
        "a library's timer is R304's, where no packet tells more",
        log="""
        00:00:00.000 START 1
        00:00:10.020 app 1 Error: connect ETIMEDOUT { errorno: 'ETIMEDOUT', code: 'ETIMEDOUT', syscall: 'connect' }
        00:00:10.100 REPORT 1
        """,
    ),
)


class Told(Struct):
    """What the log says of connects to one server that one environment's kernel gave up."""

    server: str
    events: list[Event] = []


def select(story: Story, settings: Settings) -> Iterable[int | Told]:
    """Connections of repeated SYNs alone; servers that only the log speaks of."""
    found = unanswered(story, settings)
    yield from found
    shown: dict[str, list[int]] = defaultdict(list)
    for k in found:
        shown[story.connections.server(k)].append(k)
    groups: dict[tuple[str, str], Told] = {}
    for e in filter(_is_kernels, story.of_kind("error")):
        server = e.remote or ""
        if not any(_may_be(story, e, k) for k in shown.get(server, ())):
            groups.setdefault((e.environment or "", server), Told(server)).events.append(e)
    yield from groups.values()


def _is_kernels(e: Event) -> bool:
    """Whether an error is the kernel's time-out of a connect."""
    a = e.attrs
    return a.get("code") == "ETIMEDOUT" and bool(a.get("kernel")) and a.get("stage") == "connect" and e.level != "INFO"


def _may_be(story: Story, e: Event, k: int) -> bool:
    """Whether an error may be of this connect: it stands between the first SYN and where a kernel has given up for certain, give or
    take what the clocks are off; always, where they cannot be compared."""
    if not story.shares_clock(k):
        return True
    row, aligned = next(story.connections.rows(k))
    first, last = aligned(int(row[f.FIRST_TS])), aligned(int(row[f.LAST_TS]))
    return common.may_stand(story, e, k, first, last + GIVES_UP_NS)


def unanswered(story: Story, settings: Settings) -> list[int]:
    """Connections of repeated SYNs alone, that no ICMP error answered."""
    least, cs = settings[Thresholds].least_syns, story.connections
    alone = cs.by_point(signs.SYN_ONLY, lambda rows: rows[:, f.SYN_COUNT] >= least)
    told = {k for k in cs.with_icmp() if any(e.from_client and e.undelivered for e in cs.icmp(k))}
    return [k for k in alone if k not in told and not any(row[SERVER + f.PKTS] for row, _ in cs.rows(k))]


def examine(story: Story, candidate: int | Told, settings: Settings) -> Finding | None:
    """The proof: the SYNs, and nothing back; or the kernel's word in the log."""
    if isinstance(candidate, Told):
        return _from_log(story, candidate)
    k = candidate
    if not common.heard(story, k, "server"):
        return None
    syns = [s for s in story.connections.segments(k) if s.syn]
    first, last = syns[0], syns[-1]
    env = common.environment(story, k)
    span = last.time_ns - first.time_ns
    if span < settings[Thresholds].stall_ns:
        return None
    named = _errors(story, k, first, last)
    env = env or (named[0].environment if named else None)
    evidence = [story.packet(first, primary=True), story.packet(last, f"{len(syns)} SYNs, none answered")]
    evidence += [story.evidence(e) for e in named[:1]]
    evidence.sort(key=lambda e: e.time_ns)
    where, proven = _where(story, k, syns)
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.CERTAIN if proven else Confidence.LIKELY,
        f"connect never answered: {len(syns)} SYNs in {seconds(span)}",
        first.time_ns, evidence,
        f"no SYN-ACK and no reset came back: {where}{_gave_up(story, k, syns, named)}{_elsewhen(story, k)}",
        connection=story.connections.id(k), connections=[story.connections.id(k)], environment=env,
        request_ids=common.failed_requests(story, named), lost_ns=max(named[0].time_ns - first.time_ns, 0) if named else span,
        ruled_out=["a stale connection (it was never established)", "a refusal (it would answer with a reset, or an ICMP error)"],
        help=HELP_BESIDE if where == BESIDE else HELP,
        upgrade="" if proven else _upgrade(story, k, syns[0]),
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _errors(story: Story, k: int, first: Segment, last: Segment) -> list[Event]:
    """What the application said of the connect, whoever's timer it was; of an unknown environment where it is the only one that did."""
    said = common.errors_beside(story, k, first.time_ns, last.time_ns + GIVES_UP_NS, CODES, anywhere=True)
    server = story.connections.server(k)
    mine = [e for e in said if e.attrs.get("stage") == "connect" and e.remote in (None, server)]
    return mine if len({e.environment for e in mine}) == 1 else []


def _where(story: Story, k: int, syns: list[Segment]) -> tuple[str, bool]:
    """Where the SYNs were lost, as far as captures tell, and whether that is proven."""
    start, end = syns[0].time_ns, syns[-1].time_ns
    beyond = common.missed_by(story, k, start, end)
    if beyond is not None:
        return (
            f"{story.connections.points[beyond].source.label} ran on and saw none of the SYNs: they are dropped before it",
            True,
        )
    points = story.connections.seen_at(k)
    if len(points) > 1:
        far = story.connections.points[points[-1]].source.label
        return (
            f"the SYNs passed {far}, and no answer came from behind it: the server's host or its accept queue drops them",
            False,
        )
    return _where_alone(story, k, points[0], syns[0]), False


def _where_alone(story: Story, k: int, point: int, syn: Segment) -> str:
    """Where the SYNs were lost, as far as the only capture that saw them tells by its TTLs."""
    if syn.ttl in INITIAL_TTLS or not 0 < syn.ttl < max(INITIAL_TTLS):
        return "the SYNs are dropped on the way, or the answers are"
    rows = story.connections.points[point].rows
    mine = rows[story.connections.members[k, point], [f.S_HI, f.S_LO]]
    beside = (rows[:, [f.S_HI, f.S_LO]] == mine).all(axis=1) & np.isin(rows[:, SERVER + f.TTL_SEEN], INITIAL_TTLS)
    if beside.any():
        return BESIDE
    hops = min(ttl for ttl in INITIAL_TTLS if ttl > syn.ttl) - syn.ttl
    routers = "a router" if hops == 1 else f"{hops} routers"
    return f"the SYNs passed {routers} before this capture (TTL {syn.ttl}); if it was taken at the server, its firewall or its accept queue drops them, else what lies behind"


def _upgrade(story: Story, k: int, syn: Segment) -> str:
    server = story.connections.server(k)
    queue = f"on the server, what its accept queue holds and has refused: {collect.accept_queue(server)}"
    arrives = f"a capture at the server shows whether the SYNs arrive: {collect.capture(server, collect.OPENINGS)}"
    return arrives if syn.ttl in INITIAL_TTLS else queue


def _gave_up(story: Story, k: int, syns: list[Segment], named: list[Event]) -> str:
    """Which timer ended the waiting, with the numbers that tell."""
    first = syns[0].time_ns
    if named:
        e = named[0]
        waited = seconds(max(e.time_ns - first, 0))
        if e.attrs.get("kernel"):
            return f"; the kernel gave up {waited} after the first SYN ({_KERNEL})"
        whose = f"{e.attrs.get('library') or 'a library'}'s {e.attrs.get('setting') or 'timer'}"
        return f"; {whose} gave up {waited} after the first SYN, sooner than the kernel ({_KERNEL})"
    p = story.connections.points[story.connections.seen_at(k)[0]]
    told = timers.connect_given_up([s.time_ns for s in syns], p.span[1])
    return f"; {told}" if told else ""


def _elsewhen(story: Story, k: int) -> str:
    """Errors that may be of this connect, or of another: no clock says which."""
    if story.shares_clock(k):
        return ""
    mine = [e for e in story.of_kind("error") if _is_kernels(e) and e.remote == story.connections.server(k)]
    if not mine:
        return ""
    first, more = mine[0], f" and {len(mine) - 1} more" if len(mine) > 1 else ""
    place = f"{story.source(first.source).label}{first.ref}{more}"
    return f"; {place} says that the kernel gave up a connect to {first.remote}: this one, or another (log and capture share no clock)"


def _from_log(story: Story, told: Told) -> Finding:
    """The kernel's `connect ETIMEDOUT`: no answer to any SYN."""
    first, last = told.events[0], told.events[-1]
    began = [i for e in told.events if (i := story.invocation_at(e.environment, e.time_ns, 0)) is not None]
    waited = told.events[0].time_ns - began[0].start_ns if began else None
    evidence = [story.evidence(first, str(first.attrs.get("told_by", "")), primary=True)]
    evidence += [story.evidence(last)] if last is not first else []
    count = len({i.request_id for i in began}) if began else len(told.events)
    times = f", in {count} invocations" if count > 1 else ""
    before, _ = timers.connect_limits_ns()
    sooner = waited is not None and waited < before
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.LIKELY,
        f"connect to {told.server or 'a server'} never answered: the kernel's own time-out{times}",
        first.time_ns, evidence,
        f"the kernel raised it, so no SYN was answered until its last repeat was over ({_KERNEL})"
        + (f"; {seconds(waited or 0)} into the invocation is sooner: the connect was begun earlier, or tcp_syn_retries is lower there" if sooner else ""),
        server=told.server or None, environment=first.environment, request_ids=common.failed_requests(story, told.events), lost_ns=waited or 0,
        ruled_out=["a library's connect timer (those have no errno and no address)", "a stale connection (it was never established)", "a refusal (it reads ECONNREFUSED, at once)"],
        help=HELP,
        upgrade=f"a capture at the server shows whether the SYNs arrive: {collect.capture(told.server, collect.OPENINGS)}",
    )  # fmt: skip
