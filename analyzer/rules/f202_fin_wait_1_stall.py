"""fin-wait-1-stall

## What it does
Flags a server's FIN that was retransmitted and never acknowledged, or only when the client woke: the server was in
FIN_WAIT_1, the client frozen or gone.

## Why it matters
The client still believes in the connection. When the server's kernel gives up (Linux: after tcp_orphan_retries, about 106 s by
default) it forgets the connection without a word; the client's next write meets a reset.

## What to do
As for F201: check by wall clock before reuse. The server cannot do better than to close earlier or later.

## Known limits
An unacknowledged FIN is FIN_WAIT_1, never FIN_WAIT_2. A late acknowledgement (what waited at a stopped machine's door is
answered at the thaw) harms nobody where the client then closes too and was not frozen, nor does the end of an exchange that the
client was frozen in, and did not go on with: info. Whether the client was frozen or its path was cut cannot be told from
the server's side alone; the function's platform lines can.
"""

from __future__ import annotations

from collections.abc import Iterable

from analyzer.model.findings import Confidence, Finding, Severity
from analyzer.model.times import seconds
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, for_connection
from analyzer.rules._thresholds import Settings, Values, count
from analyzer.rules.f201_fin_wait_2_stall import _OPEN
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.timeline.points import SERVER
from analyzer.timeline.story import Story

CODE = "F202"
NAME = "fin-wait-1-stall"
SUMMARY = "the server's FIN was not acknowledged; the client is frozen or gone"
SEVERITIES = (Severity.INFO, Severity.WARNING)


class Thresholds(Values):
    """What makes an unacknowledged FIN a stall."""

    least_fins: int = count(3, "fewer copies of the FIN are an ordinary loss", "one loss each way", least=2)
    stall_ns: int = common.stall()


FIRES = (
    Case(
        "the FIN is repeated into the void",
        packets=_OPEN
        + "\n6.500 < FIN lost\n6.710 < FIN again lost\n7.130 < FIN again lost\n7.970 < FIN again lost\n9.650 < FIN again lost",
    ),
    Case(
        "the copies wait at a frozen machine's door; it answers when the server has forgotten",
        log="""
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:00:16.100 START 2
        00:00:16.130 app 2 Error: write EPIPE { errno: -32, code: 'EPIPE', syscall: 'write' }
        00:00:16.300 REPORT 2
        """,
        packets=_OPEN
        + "\n6.500 < FIN lost\n6.710 < FIN again lost\n7.130 < FIN again lost\n7.970 < FIN again\n16.105 > ACK\n16.106 < RST",
    ),
    Case(
        "a GOAWAY and the FIN after it, repeated into the void; then the client writes, and has heard of neither",
        packets=_OPEN
        + "\n6.500 < GOAWAY 0 max_idle lost\n6.501 < FIN lost\n6.710 < FIN again lost\n7.130 < FIN again lost\n9.650 < FIN again lost"
        + "\n16.1 > 60\n16.101 < ACK\n18.1 > 60\n18.101 < ACK\n21.1 < FIN again lost",
    ),
)
QUIET = (
    Case(
        "the client talks between the copies",
        packets=_OPEN
        + "\n6.5 < FIN lost\n6.9 > 40\n7.1 < FIN again lost\n7.9 > 40 again\n8.0 < FIN again lost\n9.9 > 40 again",
    ),
    Case(
        "one loss, then acknowledged",
        packets=_OPEN + "\n6.5 < FIN lost\n6.7 < FIN again\n6.75 > ACK\n6.8 > FIN\n6.81 < ACK",
    ),
    Case("acknowledged at once", packets=_OPEN + "\n6.5 < FIN\n6.54 > ACK\n16.1 > FIN\n16.2 < RST"),
    Case(
        "the client's direction was not captured",
        packets="0.001 < SYN-ACK\n0.012 < 90\n6.5 < FIN lost\n6.7 < FIN again lost\n7.1 < FIN again lost\n7.9 < FIN again",
    ),
)


def select(story: Story, settings: Settings) -> Iterable[int]:
    """Connections in which some point saw the server's FIN several times, over a stall's length."""
    t = settings[Thresholds]

    def unanswered(rows: common.Rows) -> common.Mask:
        repeated: common.Mask = rows[:, SERVER + f.FINS] >= t.least_fins
        repeated &= rows[:, SERVER + f.FIN_LAST_TS] - rows[:, SERVER + f.FIN_TS] >= t.stall_ns
        return repeated

    return story.connections.by_point(signs.FIN_REPEATED, unanswered)


def examine(story: Story, k: int, settings: Settings) -> Finding | None:
    """The proof: the FINs, the client's silence, what came after."""
    if not common.heard(story, k, "client"):
        return None
    segments, t = story.connections.segments(k), settings[Thresholds]
    first = next((s for s in segments if s.fin and not s.from_client), None)
    if first is None or any(s.from_client and (s.fin or s.rst) and s.time_ns < first.time_ns for s in segments):
        return None
    after = next((s for s in segments if s.from_client and s.time_ns > first.time_ns), None)
    fins = [s for s in segments if s.fin and not s.from_client and (after is None or s.time_ns < after.time_ns)]
    last = fins[-1]
    if len(fins) < t.least_fins or last.time_ns - first.time_ns < max(t.stall_ns, 3 * common.rto_ns(segments)):
        return None  # a client that talks between them is alive: its acknowledgement is missing for another reason
    late = after if after is not None and not after.rst and after.ack == first.end_seq else None
    env = common.environment(story, k)
    freeze = common.frozen(story, k, first.time_ns, after.time_ns if after else last.time_ns)
    reply = next((s for s in segments if after and not s.from_client and s.time_ns >= after.time_ns and s.rst), None)
    count = "none acknowledged" if late is None else "none acknowledged until then"
    evidence = [story.packet(first, "server: FIN_WAIT_1", primary=True)]
    evidence.append(story.packet(fins[1]))
    evidence.append(story.packet(last, common.copies_note(segments, first, f"{len(fins)} FINs, {count}")))
    evidence += common.freeze_evidence(story, freeze)
    evidence += [
        story.packet(s, note)
        for s, note in (
            (after, "the first acknowledgement" if late else "client still ESTABLISHED"),
            (reply, "the server had forgotten it"),
        )
        if s is not None
    ]
    evidence.sort(key=lambda e: e.time_ns)
    span = last.time_ns - first.time_ns
    back = after.time_ns - first.time_ns if after else 0
    # What ended an exchange, and nobody used again, was to be closed anyway.
    over = common.ends_exchange(segments, first) and not (after and after.payload and not common.asks_nothing(after))
    title = f"server's FIN never acknowledged: sent {len(fins)} times in {seconds(span)}"
    if late is not None:
        title = f"server's FIN acknowledged only after {seconds(back)}: sent {len(fins)} times"
    return Finding(
        CODE, NAME,
        Severity.WARNING if (late is None or freeze or reply) and not over else Severity.INFO,
        Confidence.CERTAIN if freeze else Confidence.LIKELY,
        title, first.time_ns, evidence,
        f"{common.server_closed(segments, first)}; "
        + (f"the client was frozen for {seconds(freeze.length_ns)}" if freeze else "no acknowledgement reached it: the client was frozen, gone, or cut off")
        + ", so the server stayed in FIN_WAIT_1"
        + _ending(back, late is not None, reply is not None),
        connection=story.connections.id(k), connections=[story.connections.id(k)], environment=env,
        silences=common.silence(story, k, last.time_ns, after.time_ns, freeze, "no packet from the client") if after else [],
        ruled_out=["F201 (no acknowledgement of the FIN was seen while the server waited, so FIN_WAIT_2 was not reached)"],
        help=for_connection(story, k, Trouble.STALE),
        upgrade="" if freeze else "what tells a freeze from a cut path: the platform's lines " + collect.platform_lines(story, env, first.time_ns, last.time_ns),
        clock=common.clock_line(story, evidence),
    )  # fmt: skip


def _ending(back_ns: int, acknowledged: bool, forgotten: bool) -> str:
    """How the wait of the server ended, as far as it was seen."""
    if not acknowledged:
        return " and never reached FIN_WAIT_2" + (
            f"; the client spoke again {seconds(back_ns)} after the FIN" if back_ns else ""
        )
    if forgotten:
        return f" until it forgot the connection; the client acknowledged {seconds(back_ns)} after the FIN and was answered with a reset"
    return f" for {seconds(back_ns)}, until the client acknowledged"
