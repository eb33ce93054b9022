"""name-resolution-failed

## What it does
Flags a name that could not be resolved: ENOTFOUND and EAI_AGAIN in the application's log, resolver errors in a gRPC trace.
Where a capture holds DNS's own answer (NXDOMAIN, SERVFAIL, REFUSED), that decides which of the two it is. By a capture alone, a name
that a client asked for again a second or more after DNS had refused it, or repeated into silence, and that nobody was told an address of.

## Why it matters
No connection was attempted, so nothing on the server or on the path to it is to blame. ENOTFOUND means that a resolver
answered and knows no such name; EAI_AGAIN that none answered in time, or that it failed for the moment.

## What to do
ENOTFOUND: check the name, and in a VPC the private hosted zone and its association. EAI_AGAIN: check that the function reaches
its resolver (VPC DNS support, security groups, UDP and TCP port 53); retry after a pause.

## Known limits
Some runtimes put EAI_AGAIN and ENOTFOUND on the same failure, so that the line's word is taken and not more. Searching several domains for a short name, resolvers ask for many that do not exist, and hosts probe
names of their own (wpad): by a capture alone a name counts only if no form of it was ever answered, and a name that does not exist is info.
DNS over TCP, TLS or HTTPS is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.times import SECOND, seconds
from analyzer.rules import _common as common
from analyzer.rules._cases import Case
from analyzer.rules._lookups import Asked, unresolved
from analyzer.rules._thresholds import Settings, Values, duration
from analyzer.timeline import order
from analyzer.timeline.names import Refusal, refusals
from analyzer.timeline.story import Story

CODE = "C404"
NAME = "name-resolution-failed"
SUMMARY = "the name was not resolved: no connection was attempted"
SEVERITIES = (Severity.INFO, Severity.WARNING, Severity.ERROR)
FROM_LOGS = (Confidence.CERTAIN, Confidence.CERTAIN)

#: Where the name stands: Node, grpc-js (`target`), C-core, grpc-go, Java.
_NAME = re.compile(
    r"getaddrinfo E\w{4,10} (?P<a>[\w.-]{1,255})|resolution failed for (?P<b>[\w.-]{1,255})|lookup (?!error)(?P<c>[\w.-]{1,255})|"
    r"resolve host (?P<d>[\w.-]{1,255})"
)
#: Words for a resolver that did not answer, and for one that said no.
_NO_SUCH = re.compile(
    r"ENOTFOUND|NXDOMAIN|not known|no such host|Domain name not found|No address associated|UnknownHost|No data|not exist",
    re.IGNORECASE,
)
_UNANSWERED = re.compile(r"EAI_AGAIN|Temporary failure|i/o timeout|[Tt]imeout|Could not contact")
#: A call that waited for the name ends this long after the failure at most.
CALL_WITHIN_NS = 5 * SECOND
#: What is said where the error names nothing (Java's UnresolvedAddressException).
UNNAMED = "a name"
UNAVAILABLE = 14
_OPEN = "0.000 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.010 > 30\n0.011 < 30"


class Thresholds(Values):
    """What makes silence a failure."""

    least_silence_ns: int = duration(
        3 * SECOND, "s", "a query that was repeated for so long had no answer",
        "resolvers repeat after 1 to 5 s (Go, glibc, c-ares) and are answered within one",
    )  # fmt: skip


FIRES = (
    Case(
        "no such name",
        log="""
        00:00:00.000 START 1
        00:00:00.020 app 1 Error: getaddrinfo ENOTFOUND cache.internal { errno: -3008, code: 'ENOTFOUND', syscall: 'getaddrinfo' }
        00:00:00.100 REPORT 1
        """,
    ),
    Case(
        "Java's HttpClient names nothing",
        log="""
        00:00:00.000 START 1
        00:00:00.020 app 1 Caused by: java.nio.channels.UnresolvedAddressException
        00:00:00.100 REPORT 1
        """,
    ),
    Case(
        "a gRPC target whose resolver does not answer",
        log="""
        00:00:00.000 START 1
        00:00:05.020 grpc 1 dns_resolver | Resolution error for target dns:cache.internal:443: getaddrinfo EAI_AGAIN cache.internal
        00:00:10.040 grpc 1 dns_resolver | Resolution error for target dns:cache.internal:443: getaddrinfo EAI_AGAIN cache.internal
        00:00:10.100 REPORT 1
        """,
    ),
    Case(
        "in a capture alone: asked for again and again, and there is no such name",
        packets="0.0 > DNS 7 cahce.internal\n0.002 < DNS 7 cahce.internal 3\n3.0 > DNS 8 cahce.internal\n3.002 < DNS 8 cahce.internal 3\n"
        "9.0 > DNS 9 cahce.internal\n9.002 < DNS 9 cahce.internal 3",
    ),
    Case(
        "in a capture alone: the resolver fails",
        packets="0.0 > DNS 7 cache.internal\n0.9 < DNS 7 cache.internal 2\n3.0 > DNS 8 cache.internal\n3.9 < DNS 8 cache.internal 2",
    ),
    Case(
        "in a capture alone: the resolver keeps silent",
        packets=_OPEN
        + "\n5.0 > DNS 7 cache.internal\n10.0 > DNS 7 cache.internal\n15.0 > DNS 8 cache.internal\n20.0 > DNS 8 cache.internal",
    ),
)
QUIET = (
    Case(
        "an answer at last",
        packets="0.0 > DNS 7 cache.internal\n0.002 < DNS 7 cache.internal 2\n3.0 > DNS 8 cache.internal\n3.002 < DNS 8 cache.internal 2\n"
        "9.0 > DNS 9 cache.internal\n9.002 < DNS 9 cache.internal 0",
    ),
    Case(
        "a search through domains, again and again, that ends well",
        packets="".join(
            f"{t}.0 > DNS {t} db.shop.svc\n{t}.001 < DNS {t} db.shop.svc 3\n{t}.002 > DNS {t + 1} db.svc\n{t}.003 < DNS {t + 1} db.svc 0\n"
            for t in (10, 20, 30)
        ),
    ),
    Case(
        "a search that ends with the name as it was given",
        packets="".join(
            f"{t}.0 > DNS {t} api.example.com.svc\n{t}.001 < DNS {t} api.example.com.svc 3\n"
            f"{t}.002 > DNS {t + 1} api.example.com\n{t}.003 < DNS {t + 1} api.example.com 0\n"
            for t in (10, 20, 30)
        ),
    ),
    Case("asked once", packets="0.0 > DNS 7 cahce.internal\n0.002 < DNS 7 cahce.internal 3"),
    Case(
        "what hosts probe by themselves",
        packets="0.0 > DNS 7 wpad.internal\n0.002 < DNS 7 wpad.internal 3\n9.0 > DNS 8 wpad.internal\n9.002 < DNS 8 wpad.internal 3",
    ),
    Case(
        "queries alone: the capture may lack the other direction",
        packets="5.0 > DNS 7 cache.internal\n10.0 > DNS 7 cache.internal\n15.0 > DNS 8 cache.internal",
    ),
    Case(
        "one lost query",
        packets=_OPEN + "\n5.0 > DNS 7 cache.internal\n10.0 > DNS 7 cache.internal\n10.002 < DNS 7 cache.internal 0",
    ),
    Case(
        "a refusal comes after the name",
        log="""
        00:00:00.000 START 1
        00:00:00.020 app 1 Error: connect ECONNREFUSED 10.0.0.9:6379 { errno: -111, code: 'ECONNREFUSED', syscall: 'connect' }
        00:00:00.100 REPORT 1
        """,
    ),
)


class How(Struct, frozen=True):
    """How a name was not resolved: what is said of it."""

    title: str
    why: str
    help: str


_CHECK_NAME = "check the name, and in a VPC its hosted zone and association"
_CHECK_WAY = (
    "check the way to the resolver (VPC DNS support, security groups, port 53 over UDP and TCP) and retry after a pause"
)
NO_SUCH = How(": no such name", "the resolver answered that it knows no such name", _CHECK_NAME)
UNANSWERED = How(
    ": no answer from the resolver", "the resolver did not answer in time or failed for the moment", _CHECK_WAY
)
UNHEARD = How(": no answer from the resolver", "none of its queries for the name was answered", _CHECK_WAY)
UNTOLD = How(
    "",
    "the error does not say whether the resolver knows no such name or did not answer",
    f"{_CHECK_NAME}; {_CHECK_WAY}",
)


FAILED = How(
    ": the resolver failed",
    "the resolver answered that it could not, not that there is no such name",
    "check what the resolver asks in turn (a hosted zone's forwarding rules, its name servers), and retry after a pause",
)
#: What a DNS answer in a capture decides.
ANSWERED = {"NXDOMAIN": NO_SUCH, "SERVFAIL": FAILED, "REFUSED": FAILED}
#: Resolvers ask several times; their error follows the last answer, or the last time-out (glibc: 2 attempts of 5 s for each server).
ASKED_WITHIN_NS = 30 * SECOND


class Unresolved(Struct):
    """One name that one environment could not resolve."""

    name: str
    events: list[Event] = []


def select(story: Story, settings: Settings) -> Iterable[Unresolved | Asked]:
    """Names with a failure, by environment; names of which only captures tell."""
    found: dict[tuple[str, str], Unresolved] = {}
    for e in story.of_kind("resolve-failed", "error"):
        if e.kind == "resolve-failed" or e.attrs.get("stage") == "resolve":
            name = _name(e) or (UNNAMED if e.kind == "error" else None)
            if name is not None:
                found.setdefault((e.environment or "", name), Unresolved(name)).events.append(e)
    named = {env for env, name in found if name != UNNAMED}
    yield from (unresolved for (env, name), unresolved in found.items() if name != UNNAMED or env not in named)
    told = {name.lower().rstrip(".") for _, name in found}
    silence = settings[Thresholds].least_silence_ns
    yield from (asked for asked in unresolved(story, silence) if asked.name not in told)


def _name(e: Event) -> str | None:
    """The name that a line says; None where it only repeats that there are no addresses."""
    if e.attrs.get("peer"):
        return re.sub(r":[0-9]{1,5}$", "", str(e.attrs["peer"]))
    m = _NAME.search(f"{e.attrs.get('error', '')} {e.text[:2000]}")
    return next((x for x in m.groups() if x), None) if m else None


def examine(story: Story, candidate: Unresolved | Asked, settings: Settings) -> Finding | None:
    """The proof: the resolver's word, how often, and what failed by it."""
    return _in_vain(story, candidate) if isinstance(candidate, Asked) else _told(story, candidate)


def _in_vain(story: Story, asked: Asked) -> Finding:
    """A capture alone: the first query, the last refusal, or silence."""
    first, refused = asked.lookups[0], asked.refused
    how = ANSWERED[refused[-1].answer.code] if refused and refused[-1].answer else UNHEARD
    copies = sum(x.copies for x in asked.lookups)
    note = "" if refused else f"{copies} queries in {seconds(asked.asked_ns)}, none answered"
    evidence = [story.query(first, note, primary=not refused)]
    evidence += [story.refusal(x.answer, primary=True) for x in refused[-1:] if x.answer is not None]
    evidence.sort(key=lambda e: e.time_ns)
    times = f", {asked.times} times" if asked.times > 1 else ""
    return Finding(
        CODE, NAME, Severity.INFO if how is NO_SUCH else Severity.WARNING, Confidence.LIKELY,
        f"{asked.name} was not resolved{times}{how.title}",
        next(e.time_ns for e in evidence if e.primary), evidence,
        f"{asked.client} asked {first.resolver}: {how.why}; nobody was told an address of this name in the capture, and whether a request failed by it no line tells",
        ruled_out=["a search through several domains, or a host without an IPv6 address: no form of the name was ever answered"],
        help=how.help,
        upgrade="the log of the application at that time: an error that names it (ENOTFOUND, EAI_AGAIN, UnknownHostException)",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _told(story: Story, unresolved: Unresolved) -> Finding:
    """The log's word, and what a capture shows of DNS's answers."""
    events = unresolved.events
    first, last = events[0], events[-1]
    ended = [
        c for c in story.calls if c.environment == first.environment and c.status == UNAVAILABLE and c.end_ns is not None
        and first.time_ns <= c.end_ns <= last.time_ns + CALL_WITHIN_NS and unresolved.name in (c.details or "")
    ]  # fmt: skip
    said = f"{first.attrs.get('error', '')} {first.text[:2000]}"
    answers = _answers(story, unresolved)
    how = (
        ANSWERED[answers[-1].code]
        if answers
        else UNANSWERED
        if _UNANSWERED.search(said)
        else NO_SUCH
        if _NO_SUCH.search(said)
        else UNTOLD
    )
    errors = [e for e in events if e.kind == "error"]
    evidence = [story.evidence(first, primary=True)] + ([story.evidence(last)] if last is not first else [])
    evidence += [story.refusal(answers[-1])] if answers else []
    evidence.sort(key=lambda e: e.time_ns)
    count = len(common.once(events))
    times = f", {count:,} times" if count > 1 else ""
    requests = sorted({*common.failed_requests(story, errors), *(c.request_id for c in ended if c.request_id)})
    return Finding(
        CODE, NAME, Severity.ERROR if errors or ended else Severity.WARNING, Confidence.CERTAIN,
        f"{unresolved.name} was not resolved{times}{how.title}",
        first.time_ns, evidence,
        how.why + "; no connection was attempted" + (f"; {len(ended)} call{'s' if len(ended) > 1 else ''} failed by it" if ended else ""),
        environment=first.environment, request_ids=requests,
        ruled_out=["a dead connection or an unreachable server: it never came to a connection"],
        help=how.help,
        upgrade="" if answers else "a capture where the function's DNS passes (`tcpdump -i any -w dns.pcap port 53`) shows whether the query was answered, and with what",
        clock=common.clock_line(story, evidence) if answers else "",
    )  # fmt: skip


def _answers(story: Story, unresolved: Unresolved) -> list[Refusal]:
    """What a capture shows of DNS's answers about the name before the error, where clocks can be compared."""
    told, found = unresolved.events[0], []
    for refusal in refusals(story.connections.points, unresolved.name):
        error = order.error_between(story, story.refusal(refusal), story.evidence(told))
        if error is not None and -error <= told.time_ns - refusal.time_ns <= ASKED_WITHIN_NS + error:
            found.append(refusal)
    return found
