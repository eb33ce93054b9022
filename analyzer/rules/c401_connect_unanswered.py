"""connect-unanswered

## What it does
Flags a connection attempt whose SYN was repeated and never answered, neither by a SYN-ACK nor by a reset; and one whose SYN a
router answered with an ICMP error, which then is the proof.

## Why it matters
The client waits for its connect timeout: Linux gives up after 127 s (before 6.5) or 131–134 s; libraries sooner (10 s is
common). Nothing was ever connected, so this has nothing to do with a frozen or stale connection.

## What to do
Check the way to the server: security groups, network ACLs, routes, the server's accept queue. If it happens only in bursts
of new environments, reuse connections and ramp up.

## Known limits
A capture at the client cannot tell where the SYN was lost. A one-directional capture shows unanswered SYNs on healthy
connections; the rule keeps silent when the client goes on to send data, and in a capture that lacks the server's direction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.times import SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules._cases import Case
from analyzer.rules._thresholds import Settings, Values, count
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.tcp.segments import Segment
from analyzer.timeline.icmp import AboutConnection
from analyzer.timeline.points import SERVER
from analyzer.timeline.story import Story

CODE = "C401"
NAME = "connect-unanswered"
SUMMARY = "SYN repeated, never answered, or answered by a router's ICMP error"

#: What connect() reports: no answer in time, or what an ICMP error told it (Linux: icmp_err_convert).
CODES = ("ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "ECONNREFUSED", "EACCES")


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
)
QUIET = (
    Case("one lost SYN", packets="0.0 > SYN lost\n1.0 > SYN again\n1.001 < SYN-ACK\n1.002 > ACK"),
    Case(
        "refused",
        packets="0.0 > SYN\n0.001 < RST-ACK\n1.0 > SYN again\n1.001 < RST-ACK\n2.0 > SYN again\n2.001 < RST-ACK",
    ),
)


def select(story: Story, settings: Settings) -> Iterable[int]:
    """Connections of repeated SYNs alone."""
    least, cs = settings[Thresholds].least_syns, story.connections
    alone = cs.by_point(signs.SYN_ONLY, lambda rows: rows[:, f.SYN_COUNT] >= least)
    if reported := cs.with_icmp():
        undelivered = {k for k in reported if any(e.from_client and e.undelivered for e in cs.icmp(k))}
        alone = sorted(undelivered.intersection(cs.showing(signs.SYN_ONLY)).union(alone))
    return [k for k in alone if not any(row[SERVER + f.PKTS] for row, _ in cs.rows(k))]


def examine(story: Story, k: int, settings: Settings) -> Finding | None:
    """The proof: the SYNs, and nothing back."""
    icmp = [e for e in story.connections.icmp(k) if e.from_client and e.undelivered]
    if not icmp and not common.heard(story, k, "server"):
        return None
    syns = [s for s in story.connections.segments(k) if s.syn]
    first, last = syns[0], syns[-1]
    env = common.environment(story, k)
    span = last.time_ns - first.time_ns
    if not icmp and span < settings[Thresholds].stall_ns:
        return None
    errors = (
        common.errors_after(story, env, first.time_ns, last.time_ns + 130 * SECOND, CODES)
        if env and story.aligned
        else []
    )
    named = [
        e for e in errors if e.attrs.get("syscall") == "connect" and e.remote in (None, story.connections.server(k))
    ]
    if icmp:
        return _rejected(story, k, syns, icmp, named)
    evidence = [story.packet(first, primary=True), story.packet(last, f"{len(syns)} SYNs, none answered")]
    evidence += [story.evidence(e) for e in named[:1]]
    evidence.sort(key=lambda e: e.time_ns)
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.LIKELY,
        f"connect never answered: {len(syns)} SYNs in {seconds(span)}",
        first.time_ns, evidence,
        "no SYN-ACK and no reset came back: the SYNs are dropped on the way, or the answers are",
        connection=story.connections.id(k), connections=[story.connections.id(k)], environment=env,
        request_ids=common.failed_requests(story, named),
        ruled_out=["a stale connection (it was never established)", "a refusal (it would answer with a reset)"],
        help="check security groups, network ACLs, routes and the server's accept queue; in bursts: reuse connections and ramp up",
        upgrade=f"a capture at the server shows whether the SYNs arrive: {collect.capture(story.connections.server(k), collect.OPENINGS)}",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _rejected(story: Story, k: int, syns: list[Segment], icmp: list[AboutConnection], named: list[Event]) -> Finding:
    """No silence: something on the way said why no answer comes."""
    cs, error = story.connections, icmp[0]
    times = f"{len(icmp)} ICMP errors" if len(icmp) > 1 else ""
    evidence = [story.packet(syns[0]), replace(story.icmp(error, times), primary=True)]
    evidence += [story.evidence(e) for e in named[:1]]
    evidence.sort(key=lambda e: e.time_ns)
    return Finding(
        CODE, NAME, Severity.ERROR, Confidence.CERTAIN,
        f"connect failed: {error.what} from {error.sender}",
        error.time_ns, evidence,
        f"{error.sender} answered {'a SYN' if len(syns) == 1 else f'{len(syns)} SYNs'} with an ICMP error: no packet gets from there to the server",
        connection=cs.id(k), connections=[cs.id(k)], environment=common.environment(story, k),
        request_ids=common.failed_requests(story, named),
        ruled_out=["a stale connection (it was never established)", "SYNs dropped in silence (an ICMP error came back)"],
        help=f"check routes, address and firewall rules at {error.sender}, and that the server's host is up",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip
