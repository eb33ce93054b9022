"""Connections that died in the log: errors of connections, the rest before them, and what captures, where there are some, saw meanwhile.

Packets know better. An error is left to the rules that look at packets as soon as a capture saw what the environment's connections
did at that time. Where a capture held the connection, ran on, and saw nothing, that is evidence too: what happened, happened
between the function and that capture.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable

import numpy as np
from msgspec import Struct

from analyzer.model.addresses import endpoint
from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Evidence, Silence
from analyzer.model.records import Freeze, Invocation
from analyzer.model.times import MS, SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules import _remedies as remedies
from analyzer.rules import n901_not_the_freeze as n901
from analyzer.rules._thresholds import Settings
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.tcp.segments import Segment
from analyzer.timeline.environments import EPOCH_ENDS, FREEZE_ERROR_NS
from analyzer.timeline.points import CLIENT, SERVER
from analyzer.timeline.story import Story

#: The shortest that load balancers and servers outside of HTTP have by default (ALB, classic ELB): a rest as long makes the rest
#: the likely reason by itself.
USUAL_LIMIT_NS = 60 * SECOND
#: A function uses what it kept within this time of its start, or something else comes first (chosen).
FIRST_USE_NS = 5 * SECOND
#: What a library or a program prints of a new connection.
OPENED = re.compile(r"\b(?:connect|connected|ready|open|opened)\b", re.IGNORECASE)
#: START is stamped up to 91 ms before the guest runs (measured).
SLACK_NS = 100 * MS
#: The initialisation that the first request waits for takes no longer (Lambda developer guide, runtime environment: the Init phase is
#: limited to 10 seconds); what was initialised earlier was so ahead of any request (provisioned concurrency, proactive initialisation).
INIT_NS = 10 * SECOND
#: Signs of a connection that died, or that may have.
DEADLY = (signs.SERVER_FIN, signs.SERVER_RESET, signs.UNANSWERED)
#: Without invocations, lines of one failure stand this close.
SAME_NS = SECOND
#: No library's timer is set to less (chosen).
AT_ONCE_NS = 250 * MS
#: What is said of a reset as of the end of the stream, and who says it: libpq (fe-secure.c, fe-misc.c), C-core of any read that failed,
#: Java's HttpClient (Http1Response.java), which prints the cause below, botocore of any ProtocolError of urllib3 (httpsession.py).
EITHER_END = {
    "server closed the connection unexpectedly": "libpq", "TCP Read failed": "gRPC", "header parser received no bytes": "java.net.http",
    "Connection was closed before we received a valid response": "botocore",
}  # fmt: skip


class Death(Struct):
    """Errors of one kind, of one environment, towards one peer, in one invocation: one dead connection as far as the log tells.

    `freeze` is the one that ended with this invocation; `connection` the only one of the environment that a capture holds and
    that can be it, `absent` that capture, which ran on and saw nothing of it; or the one whose `reset` by the server, in the rest
    before, a capture saw.
    """

    environment: str
    peer: str
    events: list[Event] = []
    freeze: Freeze | None = None
    began_ns: int | None = None
    began_error_ns: int = 0
    connection: int | None = None
    absent: int | None = None
    reset: Segment | None = None
    recurs: bool = False  # such errors of one function came at least twice, and never without a rest before

    @property
    def first(self) -> Event:
        """The first of the errors."""
        return self.events[0]

    @property
    def by_server(self) -> bool:
        """Whether the server itself says that it ended the connection."""
        return self.first.attrs.get("raised_by") == "server"

    @property
    def rest_ns(self) -> int:
        """How long the environment had rested before: frozen, or as long as the text says that the connection was idle."""
        told = int(self.first.attrs.get("idle_ms") or 0) * MS
        return max(told, self.freeze.length_ns if self.freeze else 0)


def rested(story: Story, wanted: Callable[[Event], bool], settings: Settings) -> list[Death]:
    """Deaths after a rest that could have been one too long; what comes sooner is N901's matter."""
    return [
        death
        for death in deaths(story, wanted, settings)
        if death.reset is None and death.rest_ns >= settings[n901.Thresholds].shortest_limit_ns
    ]


def reset_meanwhile(story: Story, wanted: Callable[[Event], bool], settings: Settings) -> list[Death]:
    """Deaths of connections that the server had reset in the rest before, as a capture saw."""
    return [death for death in deaths(story, wanted, settings) if death.reset is not None]


def deaths(story: Story, wanted: Callable[[Event], bool], settings: Settings) -> list[Death]:
    """Errors that `wanted` takes, one an invocation and peer, where no capture saw what became of the connection."""
    found: list[Death] = []
    latest: dict[tuple[str, str], Death] = {}
    for e in story.of_kind("error"):
        if not e.environment or e.level == "INFO" or not wanted(e):
            continue
        invocation = story.invocation_of(e, SLACK_NS)
        began, off = (invocation.start_ns, invocation.error_ns) if invocation else (None, 0)
        death = latest.get((e.environment, e.remote or ""))
        if (
            death is None
            or death.began_ns != began
            or (began is None and e.time_ns - death.events[-1].time_ns > SAME_NS)
        ):
            death = Death(
                e.environment,
                e.remote or "",
                began_ns=began,
                began_error_ns=off,
                freeze=freeze_before(story, invocation),
            )
            latest[e.environment, death.peer] = death
            found.append(death)
        death.events.append(e)
    of: dict[str, list[Death]] = defaultdict(list)
    for death in found:
        of[story.function_of(death.environment)].append(death)
    for group in of.values():
        always = all(death.rest_ns >= settings[n901.Thresholds].shortest_limit_ns for death in group)
        for death in group:
            death.recurs = always and len(group) > 1
    return _left_to_the_log(story, found)


def in_use(e: Event) -> bool:
    """Whether an error may be of a connection that was up: it says nothing of an attempt, or of a handshake."""
    return e.attrs.get("stage") in (None, "established")


def either_end(e: Event) -> str:
    """Who says of an end what it would say of a reset, empty where an end is meant, or the server gave its reason."""
    said = EITHER_END.items() if e.attrs.get("code") == "CLOSED" and e.attrs.get("raised_by") != "server" else ()
    return next((who for words, who in said if words in e.text[:2000]), "")


def unclear_end(story: Story, e: Event) -> str:
    """As `either_end`, or who says no more than that the connection failed, and that at once."""
    return str(e.attrs.get("library") or "the library") if broke_at_once(story, e) else either_end(e)


def broke_at_once(story: Story, e: Event) -> bool:
    """Whether an established connection failed without a word of why (phpredis, curl), sooner than any timer of a library runs out."""
    broken = e.kind == "error" and e.attrs.get("code") == "BROKEN" and e.attrs.get("stage") == "established"
    invocation = story.invocation_of(e, SLACK_NS) if broken else None
    return invocation is not None and e.time_ns - invocation.start_ns <= AT_ONCE_NS


def freeze_before(story: Story, invocation: Invocation | None) -> Freeze | None:
    """The freeze that ended with an invocation's start, if it lasted."""
    if invocation is None:
        return None
    near = story.freezes_between(invocation.environment, invocation.start_ns - SECOND, invocation.start_ns + SECOND)
    found = next((z for z in near if z.after == invocation.request_id and z.length_ns >= common.LEAST_STALL_NS), None)
    if found is None:
        return _initialised_ahead(story, invocation)
    meanwhile = story.events_between(found.start_ns, invocation.start_ns, invocation.environment)
    return found if not any(e.kind in EPOCH_ENDS for e in meanwhile) else None  # no socket survives a new process


def _initialised_ahead(story: Story, invocation: Invocation) -> Freeze | None:
    """The rest of a process between its initialisation and its first invocation, where it was started before anybody asked for it."""
    env, start = invocation.environment, invocation.start_ns
    earlier = story.invocation_before(env, start - 1)
    since = earlier.start_ns if earlier is not None else 0
    begun = [e for e in story.events_between(since, start - 1, env) if e.kind == "init-start"]
    if not begun:
        return None
    last = story.events_between(begun[-1].time_ns, start - 1, env)[-1].time_ns
    error = FREEZE_ERROR_NS + invocation.error_ns
    return Freeze(env, last, start, error, "platform", after=invocation.request_id) if start - last > INIT_NS else None


def _left_to_the_log(story: Story, found: list[Death]) -> list[Death]:
    """Deaths of which no capture saw more; each with the connection that a capture held, and saw nothing of, if there is one."""
    if not found or not len(story.connections):
        return found
    if not story.aligned:
        rested = story.connections.loaded(story.connections.by_point(signs.SERVER_RESET, _ended_rest))
        unsaid = {k for k in rested if _idle_reset(story.connections.segments(k)) is not None}
        # What the log tells of died after a rest: so did a connection that may be the same.
        dying = [k for sign in DEADLY for k in story.connections.showing(sign | signs.IDLE) if k not in unsaid]
        servers = {
            endpoint(*ends) for ends in np.unique(story.connections.servers(np.array(dying, np.int64)), axis=0).tolist()
        }
        return [death for death in found if not servers or (death.peer and death.peer not in servers)]
    margin = SLACK_NS + common.clock_margin(story)
    _find_resets(story, found, margin)
    windows = [((d.began_ns or d.first.time_ns) - d.began_error_ns - margin, d.first.time_ns + margin) for d in found]
    quiet, doubtful = _candidates(story, found, windows)
    seen = _unowned(story, found, windows)
    for k in story.connections.loaded(doubtful):
        segments = story.connections.segments(k)
        for number in doubtful[k]:
            start, end = windows[number]
            before = [s for s in segments if s.time_ns < start]
            woke = next((s for s in segments if s.from_client and start <= s.time_ns <= end), None)
            anew = segments[0].time_ns > found[number].first.time_ns  # the one that the client opened instead
            if woke is not None and not anew and not _only_said(found[number], segments, woke):
                seen.add(number)
            elif before and not any(s.fin or s.rst for s in before):
                quiet[number].append(k)
    for number, ks in quiet.items():
        point = story.connections.seen_at(ks[0])[-1]
        if (
            len(ks) == 1
            and not found[number].by_server
            and common.covers(story, point, *windows[number])
            and common.heard_at(story, ks[0], point, "client")
        ):
            found[number].connection, found[number].absent = ks[0], point
    return [death for number, death in enumerate(found) if number not in seen or death.reset is not None]


def _only_said(death: Death, segments: list[Segment], woke: Segment) -> bool:
    """Whether the server ended it in words that the error hands on, and by no FIN or RST before the client spoke: AMQP's Connection.Close."""
    closed = any(not s.from_client and (s.fin or s.rst) and s.time_ns <= woke.time_ns for s in segments)
    return death.by_server and not closed


def _ended_rest(rows: common.Rows) -> common.Mask:
    """Reset by the server after a rest, and nothing more: if nobody asked for it, rules that look at packets say nothing of it."""
    reset, spoke = rows[:, SERVER + f.RST_TS], rows[:, SERVER + f.DATA_LAST_TS]
    found: common.Mask = (spoke >= rows[:, CLIENT + f.DATA_LAST_TS]) & (reset - spoke >= common.LEAST_STALL_NS)
    found &= (rows[:, f.LAST_TS] <= reset) & (rows[:, SERVER + f.FINS] == 0) & (rows[:, CLIENT + f.FINS] == 0)
    return found


def _find_resets(story: Story, found: list[Death], margin_ns: int) -> None:
    """Give each death after a freeze the connection that the server reset meanwhile, if a capture holds one."""
    frozen: dict[str, list[tuple[int, Death]]] = defaultdict(list)
    for death in found:
        if death.freeze is not None:
            frozen[death.environment].append((death.freeze.start_ns - margin_ns, death))
    for deaths_of in frozen.values():
        deaths_of.sort(key=lambda x: x[0])
    ks = [k for k in story.connections.showing(signs.SERVER_RESET) if common.witness(story, k) in frozen]
    for k in story.connections.loaded(ks):
        reset = _idle_reset(story.connections.segments(k))
        mine = frozen[common.witness(story, k) or ""]
        at = bisect_right(mine, reset.time_ns, key=lambda x: x[0]) if reset is not None else 0
        for n in range(at - 1, -1, -1):
            death = mine[n][1]
            if reset is None or reset.time_ns > death.first.time_ns + margin_ns:
                break  # freezes follow one another
            if death.peer in ("", story.connections.server(k)):
                death.connection, death.absent, death.reset = k, None, reset


def _idle_reset(segments: list[Segment]) -> Segment | None:
    """The server's reset that ended a rest by itself: both sides had been silent, all was answered, the client sent nothing more."""
    at = next((n for n, s in enumerate(segments) if s.rst or s.fin), None)
    if at is None or segments[at].from_client or not segments[at].rst:
        return None
    reset, before = segments[at], segments[:at]
    farewell, rto = reset.time_ns - common.FAREWELL_NS, common.rto_ns(segments)
    data = [s for s in before if s.payload and (s.from_client or s.time_ns < farewell)]  # a heartbeat, a last word
    if (
        not data
        or data[-1].from_client
        or any(s.from_client and (s.payload or s.time_ns > reset.time_ns + rto) for s in segments[at:])
    ):
        return None
    prompted = any(s.from_client and reset.time_ns - s.time_ns < rto for s in before)
    return None if prompted or reset.time_ns - data[-1].time_ns < common.LEAST_STALL_NS else reset


def _candidates(
    story: Story, found: list[Death], windows: list[tuple[int, int]]
) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """By their rows: for each death the open connections of its environment that had no packet since before it; and for each
    connection that had some, the deaths that it may be."""
    wanted = {death.environment for death in found}
    of: dict[str, list[int]] = defaultdict(list)
    for k, env in story.connections.environment.items():
        if env in wanted and story.shares_clock(k, env):
            of[env].append(k)
    lives = {env: np.array([_life(story, k) for k in ks], np.int64) for env, ks in of.items()}
    quiet: dict[int, list[int]] = defaultdict(list)
    doubtful: dict[int, list[int]] = defaultdict(list)
    for number, (death, (start, end)) in enumerate(zip(found, windows, strict=True)):
        if death.environment not in lives:
            continue
        first, last, ended = lives[death.environment].T
        for at in np.flatnonzero((first <= end) & ((last >= start) | (ended == 0))).tolist():
            k = of[death.environment][at]
            if death.peer and story.connections.server(k) != death.peer:
                continue
            if last[at] >= start:
                doubtful[k].append(number)
            else:
                quiet[number].append(k)
    return quiet, doubtful


def _unowned(story: Story, found: list[Death], windows: list[tuple[int, int]]) -> set[int]:
    """Deaths at whose time a connection died that no environment is known to own: it is most likely that one."""
    cs = story.connections
    owned = np.fromiter(cs.environment, np.int64, len(cs.environment))
    least, most = min(start for start, _ in windows), max(end for _, end in windows)
    parts = [np.empty((0, 2), np.int64)]
    for p, point in enumerate(cs.points):
        at = np.flatnonzero(point.signs & sum(DEADLY))
        ks = cs.owners(p)[at]
        at, ks = at[~np.isin(ks, owned)], ks[~np.isin(ks, owned)]
        for column in (SERVER + f.RST_TS, SERVER + f.FIN_TS, CLIENT + f.UNACKED_TS):
            stamps = point.rows[at, column]
            times = point.clock.aligned_all(stamps)
            near = (stamps > 0) & (least <= times) & (times <= most)
            parts.append(np.stack([times[near], ks[near]], axis=1))
    ends = np.concatenate(parts)
    ends = ends[np.argsort(ends[:, 0], kind="stable")]
    firsts = np.searchsorted(ends[:, 0], [start for start, _ in windows])
    lasts = np.searchsorted(ends[:, 0], [end for _, end in windows], side="right")
    seen = set()
    for number, (first, last) in enumerate(zip(firsts.tolist(), lasts.tolist(), strict=True)):
        death = found[number]
        near = (k for k in ends[first:last, 1].tolist() if death.peer in ("", cs.server(k)))
        if any(story.may_own(death.environment, k) for k in near):
            seen.add(number)
    return seen


def _life(story: Story, k: int) -> tuple[int, int, int]:
    """When a connection's first and last packet passed, ns, and which side ended it first (0 for none)."""
    rows = list(story.connections.rows(k))
    first = min(aligned(int(row[f.FIRST_TS])) for row, aligned in rows)
    last = max(aligned(int(row[f.LAST_TS])) for row, aligned in rows)
    return first, last, max(int(row[f.END_BY]) for row, _ in rows)


def confidence(story: Story, death: Death) -> Confidence:
    """How sure a rest before the error makes it: by its length, by its coming again after each rest, or by a capture; not where
    a connection was opened since, or where the error comes late in the invocation."""
    if death.absent is not None:
        return Confidence.LIKELY
    soon = death.began_ns is None or death.first.time_ns - death.began_ns <= FIRST_USE_NS
    used = death.freeze is None or bool(death.freeze.before)  # not only initialised: that it had a connection is known
    sure = (death.rest_ns >= USUAL_LIMIT_NS and soon and used) or death.recurs
    return Confidence.LIKELY if sure and opened(story, death) is None else Confidence.POSSIBLE


def opened(story: Story, death: Death) -> Event | None:
    """The line that tells of a new connection between the thaw and the error: then it may be that one that ended."""
    if death.began_ns is None:
        return None
    lines = story.events_between(death.began_ns, death.first.time_ns - 1, death.environment)
    return next((e for e in lines if _opens(e) and death.peer in ("", e.remote or death.peer)), None)


def _opens(e: Event) -> bool:
    if e.layer == "grpc":
        return e.kind in ("tcp-connected", "connected")
    return e.layer == "app" and e.kind == "line" and OPENED.search(e.text[:300]) is not None


def evidence(story: Story, death: Death) -> list[Evidence]:
    """The freeze before, the last packet that a capture saw, the errors; in order of time."""
    found = common.freeze_evidence(story, death.freeze)
    if death.freeze is not None and not death.freeze.before:
        begun = story.events_between(death.freeze.start_ns, death.freeze.start_ns, death.environment)
        found += [story.evidence(e, "initialised ahead, then frozen") for e in begun[-1:]]
    if death.connection is not None:
        until = death.began_ns if death.began_ns is not None else death.first.time_ns
        before = [s for s in story.connections.segments(death.connection) if s.time_ns < until]
        found += [story.packet(s, "the last packet of this connection in this capture") for s in before[-1:]]
    if death.reset is not None:
        found.append(story.packet(death.reset, "the server reset it"))
    found.append(story.evidence(death.first, str(death.first.attrs.get("told_by", "")), primary=True))
    found += [story.evidence(e, "(consequence)") for e in death.events[1:2]]
    return sorted(found, key=lambda e: e.time_ns)


def silences(story: Story, death: Death) -> list[Silence]:
    """The freeze before."""
    if death.freeze is None:
        return []
    z = death.freeze
    return common.silence(story, None, z.start_ns, z.end_ns, z, "the connection rested")


def when(story: Story, death: Death) -> str:
    """`35 ms into the first invocation after 16 s frozen`."""
    first = death.first
    new = "; a connection was opened in this invocation before, and may be the one" if opened(story, death) else ""
    since = f"{seconds(max(first.time_ns - death.began_ns, 0))} into " if death.began_ns is not None else ""
    if death.freeze is not None:
        return f"{since}the first invocation after {seconds(death.freeze.length_ns)} frozen{new}"
    if death.rest_ns:
        return f"{since or 'at '}the first use after {seconds(death.rest_ns)} idle, as the error itself says"
    return f"{since}the invocation" if since else "outside of any invocation"


def capture(story: Story, death: Death) -> str:
    """The command for a capture at the server."""
    peer = death.peer or (story.connections.server(death.connection) if death.connection is not None else "")
    return collect.capture(peer)


def advice(story: Story, death: Death, trouble: remedies.Trouble) -> str:
    """What to change, in the language of the library that the errors name."""
    if death.connection is not None:
        return remedies.for_connection(story, death.connection, trouble, death.events)
    return remedies.advice(
        trouble, death.peer, remedies.known(story, death.environment, death.peer, events=death.events)
    )
