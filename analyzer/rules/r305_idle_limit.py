"""idle-limit

## What it does
Compares, for one server, every idle gap after which a connection still worked with every gap that the server closed, or after
which it was reset or never answered; without packets, the gaps between the calls of each gRPC transport, or the freezes after
which the log has an error of the connection and those after which it has none. Where the two do not overlap, an idle limit lies
between them, and known limits in that bracket that end a connection in the same way are named.

## Why it matters
The gap before the failure decides, and is usually found by bisecting sleep times by hand. With the bracket it is plain which
box to look at, and how long a connection may rest before it has to be checked or replaced.

## What to do
Keep connections for less than the smallest gap that failed, less a margin, judged by wall clock on borrow; or raise the limit
of the box that is named.

## Known limits
Possible, not proven: a limit on a connection's age gives the same picture where connections that failed were also the oldest,
which is said. Two gaps of each kind are asked for. How it expired (a close, a reset, silence) narrows the candidates: NAT
gateways and network load balancers reset or keep silent, application load balancers and servers close. A server's close after a
rest measures its limit; one that closes for another reason after a rest of any length looks the same. By errors alone, an invocation
without one is taken to have used the connection, and a bracket that is wider than fourfold is not told.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from analyzer.model.addresses import endpoint
from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Evidence, Finding, Severity
from analyzer.model.records import Call, Freeze, Transport
from analyzer.model.times import SECOND, seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules import _limits as limits
from analyzer.rules import _told as told
from analyzer.rules import r302_silent_drop as r302
from analyzer.rules._cases import Case
from analyzer.rules._thresholds import Settings, Values, count
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.tcp.segments import Columns
from analyzer.timeline.environments import EPOCH_ENDS
from analyzer.timeline.points import CLIENT, SERVER, Connections
from analyzer.timeline.story import Story

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODE = "R305"
NAME = "idle-limit"
SUMMARY = "the idle gaps that survived and those that failed bracket a limit"
SEVERITIES = (Severity.INFO,)
FROM_LOGS = (Confidence.POSSIBLE, Confidence.POSSIBLE)

#: `fields.END_BY` of a connection that the server's FIN began to end.
SERVER_FIN = 2


#: gRPC statuses.
OK, DEADLINE = 0, 4
_NEVER = 1 << 62
#: A server that stops closes all its connections within this time; limits that run out do so one by one.
AT_ONCE_NS = SECOND


#: Without packets and traces: how an error says that a connection ended.
_HOW = {"ECONNRESET": limits.RST, "CLOSED": limits.FIN, "EPIPE": limits.FIN, "ETIMEDOUT": limits.SILENCE}
#: … and a wider bracket, shortest by longest, tells little (chosen).
MOST_WIDE = 4


class Thresholds(Values):
    """What makes a bracket."""

    least_each: int = count(2, "fewer gaps of either kind, survived and failed, are no bracket", "one may be chance")


_OPEN = "{0}.000 > SYN\n{0}.001 < SYN-ACK\n{0}.002 > ACK\n{0}.010 > 40\n{0}.012 < 90\n"
_OK = "{1}.000 > 40\n{1}.002 < 90\n"
_FAILS = "{2}.000 > 40\n{2}.001 < RST\n"
_CLOSES = "{2}.000 < FIN\n{2}.001 > FIN\n{2}.002 < ACK\n"
_H = "{0}:00.000 grpc - transport | ({1}) 10.0.0.9:443 local settings acknowledged by remote: {{}}\n"
_CALL = (
    '{0} grpc - channel | (1) dns:svc:443 createResolvingCall [{1}] method="/a.B/C", deadline=Infinity\n'
    "{0} grpc - load_balancing_call | [{1}] Pick result: COMPLETE subchannel: ({2}) 10.0.0.9:443 status: undefined undefined\n"
)
_ENDS = '{0} grpc - resolving_call | [{1}] ended with status: code={2} details="{3}"\n'
_CUT = "{0} grpc - transport | ({1}) 10.0.0.9:443 connection closed with error read ECONNRESET\n"


def _life(transport: int, *minutes: str) -> str:
    """A transport whose calls are answered at these minutes, and reset at the last."""
    lines = _H.format(minutes[0], transport)
    for number, minute in enumerate(minutes, 10 * transport):
        last = minute == minutes[-1]
        lines += _CALL.format(f"{minute}:01.000", number, transport)
        lines += _CUT.format(f"{minute}:01.004", transport) if last else ""
        lines += _ENDS.format(f"{minute}:01.005", number, 14 if last else 0, "read ECONNRESET" if last else "OK")
    return lines


def _woken(*times: float, failing: tuple[float, ...], unit_s: int = 60) -> str:
    """Invocations at these times, some of which find their connection reset."""
    lines = ""
    for number, time in enumerate(times, 1):
        minute, second = divmod(round(time * unit_s), 60)
        at = f"00:{minute:02}:{second:02}"
        error = f"{at}.020 app {number} Error: read ECONNRESET {{ errno: -104, code: 'ECONNRESET', syscall: 'read' }}\n"
        lines += f"{at}.000 START {number}\n{error if time in failing else ''}{at}.100 REPORT {number}\n"
    return lines


FIRES = (
    Case(
        "300 s survive twice, 360 s and more fail twice",
        packets=(_OPEN + _OK + _FAILS).format(0, 300, 660) + (_OPEN + _OK + _FAILS).format(1000, 1310, 1700),
    ),
    Case(
        "from the trace alone: calls after 5 min were answered, calls after 6 min were reset",
        log=_life(1, "00:00", "00:05", "00:11") + _life(2, "00:20", "00:25", "00:31"),
    ),
    Case(
        "from errors alone: nothing failed after 5 min frozen, twice a reset after 6 min and more",
        log=_woken(0, 5, 11, 16, 24, 27, failing=(11, 24)),
    ),
    Case(
        "the server closes what rests for 60 s",
        packets=(_OPEN + _OK + _CLOSES).format(0, 50, 110) + (_OPEN + _OK + _CLOSES).format(1000, 1055, 1115),
    ),
)
QUIET = (
    Case(
        "errors alone: no error after a rest as long as one that failed",
        log=_woken(0, 5, 11, 16, 24, 33, failing=(11, 24)),
    ),
    Case(
        "errors alone: a rest of two seconds is shorter than any limit",
        log=_woken(0, 1, 3, 4, 6, 7, failing=(3, 6), unit_s=1),
    ),
    Case(
        "errors alone: a bracket from one minute to six tells little", log=_woken(0, 1, 7, 8, 14, 15, failing=(7, 14))
    ),
    Case(
        "gRPC calls: a rest as long as one that failed survived",
        log=_life(1, "00:00", "00:05", "00:11") + _life(2, "00:20", "00:27", "00:33"),
    ),
    Case(
        "a gap as long as one that failed survived",
        packets=(_OPEN + _OK + _FAILS).format(0, 300, 660) + (_OPEN + _OK + _FAILS).format(1000, 1400, 1770),
    ),
    Case(
        "a server that stops closes what rested for different times at once",
        packets="\n".join(
            f"{at} > SYN port={p}\n{at}.001 < SYN-ACK port={p}\n{at}.002 > ACK port={p}\n{at}.01 > 40 port={p}\n{at}.012 < 90 port={p}\n{at + 20} > 40 port={p}\n{at + 20}.002 < 90 port={p}"
            for at, p in ((0, 1001), (30, 1002))
        )
        + "\n200 < FIN port=1001\n200.001 > FIN port=1001\n200.002 < ACK port=1001\n200.003 < FIN port=1002\n200.004 > FIN port=1002\n200.005 < ACK port=1002",
    ),
    Case("one failure is no bracket", packets=(_OPEN + _OK + _FAILS).format(0, 300, 660)),
    Case("nothing failed", packets=(_OPEN + _OK).format(0, 300) + (_OPEN + _OK).format(1000, 1310)),
)


class Nth(Struct):
    """A segment among those of its connection, and when it was: it is made when a person is to see it."""

    number: int
    time_ns: int


class Gap(Struct):
    """One rest of a connection, or of a gRPC transport that no capture holds, and what came of it: how long, what ended it (the line
    or the segment), how old the connection was by then.

    `ending` is empty where the connection survived, else how it had ended: FIN (the server closed it, after `ns` without
    anything), RST (in answer to the first write), silence.
    """

    connection: int
    ns: int
    at: Nth | Event
    age_ns: int
    ending: str = ""
    transport: str = ""  # its id, where no connection is known


class Bracket(Struct, frozen=True):
    """Between which rests a limit lies, by how connections end at it, and whether their age would explain it as well."""

    longest: Gap
    shortest: Gap
    ending: str
    lived: int
    died: int
    by_age: bool


def bracket(gaps: list[Gap], least: int) -> Bracket | None:
    """The limit that the shortest rest that failed obeys, judged by the rests that ended as it did; None where survivors
    contradict it, or where there are too few of either kind."""
    lived = [gap for gap in gaps if not gap.ending]
    failed = [gap for gap in gaps if gap.ending]
    if not lived or not failed:
        return None
    shortest = min(failed, key=lambda gap: gap.ns)
    died = [gap for gap in failed if gap.ending == shortest.ending]
    longest = max(lived, key=lambda gap: gap.ns)
    if min(len(lived), len(died)) < least or longest.ns >= shortest.ns:
        return None
    by_age = max(gap.age_ns for gap in lived) < min(gap.age_ns for gap in died)
    return Bracket(longest, shortest, shortest.ending, len(lived), len(died), by_age)


def independent(gaps: list[Gap]) -> list[Gap]:
    """Without closes of several connections at one moment after rests of different lengths: a server that stops, and no limit."""
    closes = sorted((gap for gap in gaps if gap.ending == limits.FIN), key=lambda gap: gap.at.time_ns)
    together = {
        id(gap)
        for a, b in pairwise(closes)
        for gap in (a, b)
        if b.at.time_ns - a.at.time_ns <= AT_ONCE_NS
        and abs(b.ns - a.ns) > AT_ONCE_NS
        and (a.connection, a.transport) != (b.connection, b.transport)
    }
    return [gap for gap in gaps if id(gap) not in together]


class Server(Struct):
    """One server with the connections that woke, or the rests of its transports."""

    address: str
    woken: list[int]
    told: list[Gap] = []
    by_errors: bool = False  # rests of environments, told by errors and by their absence


def select(story: Story, settings: Settings) -> Iterable[Server]:
    """Servers with several connections that failed on reuse, and all connections to them that ever woke."""
    cs, least, copies = story.connections, settings[Thresholds].least_each, settings[r302.Thresholds].least_copies

    def silent(rows: common.Rows) -> common.Mask:
        repeated: common.Mask = rows[:, CLIENT + f.UNACKED_RETX] >= copies - 1
        return repeated & (rows[:, SERVER + f.SIDE_LAST_TS] < rows[:, CLIENT + f.UNACKED_TS])

    failed = {
        *cs.showing(signs.RESET_ON_WAKING),
        *cs.by_point(signs.WOKE | signs.UNANSWERED, silent),
        *cs.by_point(signs.SERVER_FIN | signs.IDLE, lambda rows: rows[:, f.END_BY] == SERVER_FIN),
    }
    spoken = _told(story, least) or _failed(story, settings)
    if len(failed) < least:
        return spoken
    servers, counts = np.unique(_where(cs, np.array(sorted(failed))), axis=0, return_counts=True)
    woken = np.array(sorted({*cs.showing(signs.WOKE), *failed}))
    places = _where(cs, woken)
    found = [
        Server(endpoint(*server), woken[(places == [*server, captures]).all(axis=1)].tolist())
        for *server, captures in servers[counts >= least].tolist()
    ]
    seen = {server.address for server in found}
    found += [server for server in spoken if server.address not in seen and not _may_be(story, server, found)]
    return sorted(found, key=lambda server: (server.address, server.woken))


def _may_be(story: Story, spoken: Server, found: list[Server]) -> bool:
    """Whether a server that errors do not name may be one of these, whose connections captures hold."""
    environments = {gap.transport for gap in spoken.told} if not spoken.address else ()
    return any(story.may_own(env, k) for env in environments for server in found for k in server.woken)


def _where(cs: Connections, ks: NDArray[np.int64]) -> NDArray[np.int64]:
    """The server of each connection, and its captures: one address in captures that share no connection may be two servers."""
    return np.column_stack([cs.servers(ks), cs.networks(ks)])


def examine(story: Story, server: Server, settings: Settings) -> Finding | None:
    """The bracket: the longest rest that survived, the shortest that failed."""
    least, copies = settings[Thresholds].least_each, settings[r302.Thresholds].least_copies
    gaps = server.told or [
        gap for group in story.connections.batches(server.woken) for gap in gaps_of(story, group, copies)
    ]
    found = bracket(independent(gaps), least)
    if found is None or (server.by_errors and found.shortest.ns > MOST_WIDE * found.longest.ns):
        return None
    longest, shortest = found.longest, found.shortest
    if not server.told:
        story.connections.load((longest.connection, shortest.connection))
    ended = "closed by the server" if found.ending == limits.FIN else _ENDED[found.ending]
    worked = "no error" if server.by_errors else "answered"
    towards = server.address or "a server that the errors do not name"
    evidence = [
        _proof(story, longest, f"{worked} after {seconds(longest.ns)}, the longest"),
        _proof(story, shortest, f"{ended} after {seconds(shortest.ns)}, the shortest", primary=True),
    ]
    evidence.sort(key=lambda e: e.time_ns)
    ids = sorted({gap.connection for gap in gaps if gap.ending == found.ending and not gap.transport})
    return Finding(
        CODE, NAME, Severity.INFO, Confidence.POSSIBLE,
        f"idle limit towards {towards} between {seconds(longest.ns)} and {seconds(shortest.ns)}",
        shortest.at.time_ns, evidence,
        f"{found.lived} rests up to {seconds(longest.ns)} survived, {found.died} from {seconds(shortest.ns)} on did not ({ended}); {_candidates(found, server.address)}"
        + (_ASSUMED if server.by_errors else "")
        + ("; the connections that failed were also the oldest, so that a limit on their age would look the same" if found.by_age else ""),
        connections=[story.connections.id(k) for k in ids], server=server.address or None,
        ruled_out=["chance: no rest that survived is as long as one that failed"]
        + ([] if found.by_age else ["a limit on the connection's age: an older connection survived than one that failed"]),
        help=f"replace connections that rested longer than {seconds(longest.ns)} (wall clock, on borrow){_raising(_fitting(found, server.address))}",
        upgrade=_upgrade(server.address, found),
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _proof(story: Story, gap: Gap, note: str, primary: bool = False) -> Evidence:
    at = gap.at
    if isinstance(at, Event):
        return story.evidence(at, note, primary)
    return story.packet(story.connections.segments(gap.connection)[at.number], note, primary)


_ASSUMED = "; an invocation without an error is taken to have used the connection"
_ENDED = {limits.RST: "reset when used", limits.SILENCE: "never answered again"}


def _fitting(found: Bracket, address: str) -> list[limits.Limit]:
    """Known limits in the bracket that end a connection in the same way."""
    known = limits.between(found.longest.ns, found.shortest.ns, address)
    return [limit for limit in known if found.ending in limit.ends]


def _raising(fitting: list[limits.Limit]) -> str:
    """The other way out, where a limit can be raised."""
    fixed = [limit.whose for limit in fitting if limit.range_s is None]
    if fitting and len(fixed) == len(fitting):
        return f"; {' and '.join(fixed)}: not to be raised"
    return ", or raise the limit of the box that sets it" + (f" ({', '.join(fixed)}: fixed)" if fixed else "")


def _candidates(found: Bracket, address: str) -> str:
    """Known limits in the bracket: those that end so, and those that would end in another way."""
    known, fitting = limits.between(found.longest.ns, found.shortest.ns, address), _fitting(found, address)
    others = [limit for limit in known if found.ending not in limit.ends]
    if not fitting:
        named = "no known default in that bracket ends so: it was probably configured"
    else:
        named = f"known limits in that bracket that end so: {'; '.join(map(str, fitting))}"
    return named + (
        f"; not {', '.join(limit.whose for limit in others)}, which would end it by {' or '.join(sorted({e for limit in others for e in limit.ends}))}"
        if others
        else ""
    )


def _upgrade(address: str, found: Bracket) -> str:
    """What separates the candidates."""
    checks = [f"what {x.whose} is set to: {x.check}" for x in _fitting(found, address) if x.check]
    narrower = f"rests between {seconds(found.longest.ns)} and {seconds(found.shortest.ns)} narrow the bracket"
    who = f"who ended the connection (a FIN is the server's or its proxy's; a reset that the server's side does not show is a middlebox's), at the server: {collect.capture(address, collect.ENDINGS)}"
    return "; ".join([narrower, *checks, who])


def _told(story: Story, least: int) -> list[Server]:
    """Servers of gRPC transports that no capture holds, several of which failed after a rest."""
    calls: dict[str, list[Call]] = defaultdict(list)
    for c in story.calls:
        if c.transport and c.start_ns is not None:
            calls[c.transport].append(c)
    pinged: dict[str, list[int]] = defaultdict(list)
    for ping in story.pings if calls else ():
        pinged[ping.transport] += [ping.sent_ns] + ([ping.acked_ns] if ping.acked_ns is not None else [])
    found: dict[str, list[Gap]] = defaultdict(list)
    for t in story.transports:
        if t.connection is None and t.remote and t.opened_ns is not None and t.id in calls:
            found[t.remote] += _rests(story, t, calls[t.id], sorted(pinged[t.id]))
    return [
        Server(address, [], gaps)
        for address, gaps in sorted(found.items())
        if sum(bool(gap.ending) for gap in gaps) >= least
    ]


def _failed(story: Story, settings: Settings) -> list[Server]:
    """Servers of which only errors tell: the freezes before those, and the freezes of the same environments after which nothing failed."""
    deaths: dict[str, list[told.Death]] = defaultdict(list)
    for death in told.rested(story, _is_end, settings):
        if death.freeze is not None and death.freeze.before and told.opened(story, death) is None:
            deaths[death.peer].append(death)
    least = settings[Thresholds].least_each
    return [
        Server(address, [], _freezes(story, mine), True)
        for address, mine in sorted(deaths.items())
        if len(mine) >= least
    ]


def _is_end(e: Event) -> bool:
    """Whether an error says that a connection in use had ended, and how."""
    code = e.attrs.get("code")
    kernels = code != "ETIMEDOUT" or e.attrs.get("kernel") is True
    return code in _HOW and told.in_use(e) and kernels and not told.either_end(e)


def _freezes(story: Story, deaths: list[told.Death]) -> list[Gap]:
    """The freezes of the environments of these deaths, and what came of each; those after which something else failed tell nothing."""
    failed = {(death.environment, death.freeze.after): death for death in deaths if death.freeze is not None}
    found = []
    for env in sorted({death.environment for death in deaths}):
        since = story.invocations_of(env)[0].start_ns
        for z in story.freezes_of(env):
            death = failed.get((env, z.after))
            if death is not None:
                error, how = death.first, _HOW[str(death.first.attrs["code"])]
                found.append(Gap(-1, z.length_ns, error, error.time_ns - since, how, env))
                since = error.time_ns
            elif (start := _succeeded(story, env, z)) is not None:
                found.append(Gap(-1, z.length_ns, start, start.time_ns - since, "", env))
    return found


def _succeeded(story: Story, env: str, freeze: Freeze) -> Event | None:
    """The START of the invocation after a freeze, where it succeeded and printed no error of a connection."""
    mine = next((i for i in story.invocations_near(freeze) if i.request_id == freeze.after), None)
    if mine is None or mine.status != "success" or mine.end_ns is None or mine.start_ref is None:
        return None
    if any(e.kind in ("error", *EPOCH_ENDS) for e in story.events_between(freeze.start_ns, mine.end_ns, env)):
        return None
    return story.event_at(*mine.start_ref)


def _rests(story: Story, t: Transport, calls: list[Call], pinged: list[int]) -> Iterator[Gap]:
    """The rests of a transport between its calls, from the last line that shows it in use to the start of the next call."""
    busy_until = opened = t.opened_ns or 0
    silent = sum(1 for _ in takewhile(_expired, reversed(calls)))  # its last calls, none of them answered
    for left, c in zip(range(len(calls), 0, -1), calls, strict=True):
        start = c.start_ns or 0
        pings = bisect_right(pinged, start)
        last = max(busy_until, pinged[pings - 1] if pings else opened)
        busy_until = max(busy_until, c.end_ns if c.end_ns is not None else _NEVER)
        ending = _call_ending(c, r302.LEAST_DEADLINES <= left <= silent)
        line = next((e for e in story.events_between(start, start, c.environment) if e.kind == "call-start"), None)
        if start - last >= f.WAKE_AFTER and ending is not None and line is not None:
            yield Gap(-1, start - last, line, start - opened, ending, t.id)


def _expired(call: Call) -> bool:
    return call.status == DEADLINE and not call.answered


def _call_ending(call: Call, silent: bool) -> str | None:
    """What a call met: an answer, a reset; silence where no call after it was answered either; else None."""
    if call.status == OK or call.answered:
        return ""
    if "ECONNRESET" in (call.details or "") or "reset by peer" in (call.details or ""):
        return limits.RST
    return limits.SILENCE if silent else None


def gaps_of(story: Story, ks: list[int], copies: int) -> list[Gap]:
    """Every rest of these connections, where the server can be heard; `copies` of a write that nothing answers are a failure.
    Loads their segments."""
    story.connections.load(ks)
    heard = [k for k in ks if common.heard(story, k, "server")]
    return [gap for k in heard for gap in _gaps(k, story.connections.columns(k), copies)]


def _gaps(k: int, seen: Columns, least_copies: int) -> Iterator[Gap]:
    """Every rest of both sides and what ended it: a write of the client, answered or not, or the server's own close.

    Keepalives end a rest. What follows the server's close is no rest any more.
    """
    times, ends = seen.times_ns, np.flatnonzero(seen.fin | seen.rst)
    last = int(ends[0]) if len(ends) else len(times) - 1
    rested = (np.diff(times[: last + 1]) >= f.WAKE_AFTER) & ~seen.retransmitted[1 : last + 1]
    servers = np.flatnonzero(~seen.from_client)
    copies = _copies(seen, int(servers[-1]) + 1 if len(servers) else 0)
    for at in (np.flatnonzero(rested) + 1).tolist():
        when = int(times[at])
        gap = Gap(k, when - int(times[at - 1]), Nth(at, when), when - int(times[0]))
        if not seen.from_client[at] and seen.fin[at] and not seen.payload[at]:
            yield replace(gap, ending=limits.FIN)
        elif seen.from_client[at] and seen.payload[at]:
            following = int(np.searchsorted(servers, at))
            if following < len(servers):
                yield replace(gap, ending=limits.RST if seen.rst[servers[following]] else "")
            elif copies[at] >= least_copies:
                yield replace(gap, ending=limits.SILENCE)  # nothing is known of fewer


def _copies(seen: Columns, first: int) -> dict[int, int]:
    """For each segment with data from a place on, of how many copies it is the first, itself among them."""
    numbers: Counter[int] = Counter()
    found: dict[int, int] = {}
    for at in (np.flatnonzero(seen.payload[first:])[::-1] + first).tolist():
        number = int(seen.seq[at])
        numbers[number] += 1
        found[at] = numbers[number]
    return found
