"""tls-handshake-failed

## What it does
Flags a connection that was established and whose TLS handshake did not end: a fatal alert in clear text, the server's close or
reset in answer to the ClientHello, or no word from the server until the client gave up. From the log: errors of the handshake.

## Why it matters
Libraries report it as ECONNRESET, `socket hang up` or a connect time-out, so that it looks like the network. TCP worked: the
cause is in certificates, names, versions, or in a device that answers TCP for a server that is not there.

## What to do
Read the alert: `unrecognized_name` and `handshake_failure` are the client's request not suiting the server, `unknown_ca` and
`certificate_expired` the certificate, `protocol_version` the version. Without an alert, try
`openssl s_client -connect HOST:PORT -servername NAME` from the same network.

## Known limits
From the ServerHello of TLS 1.3 on, alerts are encrypted, so that only what happens before it is judged. A client that leaves on
its own within seconds (a race of two addresses, a probe of the port) is not a failure.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from analyzer.capture import columns as col
from analyzer.model.events import Event
from analyzer.model.findings import Confidence, Evidence, Finding, Severity
from analyzer.model.times import SECOND, seconds
from analyzer.payload import tls
from analyzer.rules import _collect as collect
from analyzer.rules import _common as common
from analyzer.rules._cases import Case
from analyzer.rules._thresholds import Settings, Values, duration
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.tcp.segments import Segment
from analyzer.timeline.story import Story

CODE = "C405"
NAME = "tls-handshake-failed"
SUMMARY = "connected, then an alert, a close or silence before the TLS handshake ended"
SEVERITIES = (Severity.ERROR,)
FROM_LOGS = (Confidence.LIKELY, Confidence.LIKELY)

ERROR_WITHIN_NS = 2 * SECOND
#: How an application may call the end of a handshake.
SAID = ("ECONNRESET", "CLOSED", "TLS", "TIMEOUT", "ETIMEDOUT")
#: Alerts that end a connection in order.
ORDERLY = ("close_notify", "user_canceled")


class Thresholds(Values):
    """What makes silence a failure."""

    least_silence_ns: int = duration(
        3 * SECOND, "s", "a client that waited this long for a ServerHello, and left, was not answered",
        "no race of addresses (RFC 8305: 250 ms between attempts), and servers answer a hello within a second",
    )  # fmt: skip


_OPEN = "0.000 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.003 > CLIENT-HELLO\n"
FIRES = (
    Case("the server rejects the name", packets=_OPEN + "0.005 < ALERT 112\n0.0051 < FIN\n0.006 > FIN\n0.007 < ACK"),
    Case("the server resets in answer to the hello", packets=_OPEN + "0.005 < RST-ACK"),
    Case("no word from the server", packets=_OPEN + "0.004 < ACK\n10.003 > FIN\n10.004 < ACK"),
    Case(
        "its word comes when the client has left",
        packets=_OPEN + "0.004 < ACK\n10.003 > FIN\n10.04 < ACK\n12.0 < ALERT 90",
    ),
    Case(
        "from the log alone",
        log="""
        00:00:00.000 START 1
        00:00:00.120 app 1 Error: Client network socket disconnected before secure TLS connection was established { code: 'ECONNRESET' }
        00:00:00.200 REPORT 1
        """,
    ),
)
QUIET = (
    Case("the server answers", packets=_OPEN + "0.004 < ACK\n5.000 < TLS 90\n5.001 > FIN\n5.002 < FIN\n5.003 > ACK"),
    Case("the client leaves at once", packets=_OPEN + "0.004 > FIN\n0.005 < FIN\n0.006 > ACK"),
    Case("an orderly close", packets=_OPEN + "0.005 < ALERT 0\n0.0051 < FIN\n0.006 > FIN"),
    Case(
        "a reset in the middle of plain data is no handshake",
        packets="0.0 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.003 > 40\n0.004 < RST",
    ),
)


class Told(Struct):
    """What the log says of handshakes of one environment with one peer."""

    peer: str
    events: list[Event] = []


def select(story: Story, settings: Settings) -> Iterable[int | Told]:
    """Connections with a ClientHello and no application data; errors of the handshake in the log that none of them explains."""
    captured = story.connections.showing(signs.HELLO_ONLY)
    yield from captured
    told = [
        e for e in story.of_kind("error")
        if (e.attrs.get("code") == "TLS" or e.attrs.get("stage") == "tls")
        and e.attrs.get("code") not in ("ETIMEDOUT", "TIMEOUT")
    ]  # fmt: skip
    findings = [examine(story, k, settings) for k in captured] if told else []
    shown = {(e.source, e.ref) for finding in findings if finding for e in finding.evidence}
    found: dict[tuple[str, str], Told] = {}
    for e in told:
        evidence = story.evidence(e)
        if (evidence.source, evidence.ref) not in shown:
            found.setdefault((e.environment or "", e.remote or ""), Told(e.remote or "")).events.append(e)
    yield from found.values()


def examine(story: Story, candidate: int | Told, settings: Settings) -> Finding | None:
    """The proof: the hello, and how it ended."""
    if isinstance(candidate, Told):
        return _from_log(candidate, story)
    k = candidate
    segments = story.connections.segments(k)
    hello = next((s for s in segments if s.from_client and s.marks & col.M_TLS_CLIENT_HELLO), None)
    left_ns = next((s.time_ns for s in segments if s.from_client and (s.fin or s.rst)), segments[-1].time_ns)
    if (
        hello is None
        or not common.heard(story, k, "server")
        or any(s.kinds & f.K_LOST or (s.marks & col.M_TLS_DATA and s.time_ns <= left_ns) for s in segments)
    ):
        return None
    found = _failure(segments, hello, settings[Thresholds].least_silence_ns)
    if found is None:
        return None
    end, what, confidence = found
    blame = _CERTIFICATES if end.marks & col.M_TLS_ALERT else _SILENCE if end.from_client else _DEVICE
    env = common.environment(story, k)
    errors = _said(story, k, hello, end)
    evidence = [story.packet(hello), story.packet(end, primary=True)] + [story.evidence(e) for e in errors]
    evidence.sort(key=lambda e: e.time_ns)
    server = story.connections.server(k)
    told = tls.client_hello(hello.text)
    name = told.name if told and told.name else "NAME"
    return _finding(story, what, server, name, evidence, errors, confidence, env, story.connections.id(k), blame)


def _said(story: Story, k: int, hello: Segment, end: Segment) -> list[Event]:
    """What the application said of the end of a handshake: of an alert if it was one, else the nearest error."""
    errors = common.errors_beside(story, k, hello.time_ns, end.time_ns + ERROR_WITHIN_NS, SAID)
    alert = bool(end.marks & col.M_TLS_ALERT) and not end.from_client
    return sorted(errors, key=lambda e: (alert and "alert" not in e.text[:2000], abs(e.time_ns - end.time_ns)))[:1]


def _failure(segments: list[Segment], hello: Segment, least_silence_ns: int) -> tuple[Segment, str, Confidence] | None:
    """The segment that ended the handshake, what it means, how sure that is."""
    for s in segments:
        if s.time_ns < hello.time_ns or not s.marks & col.M_TLS_ALERT:
            continue
        said = [alert for alert in tls.alerts(s.text) if alert.startswith("fatal ") and not alert.endswith(ORDERLY)]
        if said:
            who = "the client" if s.from_client else "the server"
            return (
                s,
                f"{who} ended the TLS handshake with a fatal alert: {said[0].removeprefix('fatal ')}",
                Confidence.CERTAIN,
            )
    end = next((s for s in segments if (s.fin or s.rst) and s.time_ns >= hello.time_ns), None)
    if end is None or any(s.payload and not s.from_client and s.time_ns < end.time_ns for s in segments):
        return None
    waited = end.time_ns - hello.time_ns
    if not end.from_client:
        how = "reset" if end.rst else "closed"
        return (
            end,
            f"the server {how} the connection {seconds(waited)} after the ClientHello, without a word of TLS",
            Confidence.LIKELY,
        )
    if waited >= least_silence_ns:
        return (
            end,
            f"the server was silent for {seconds(waited)} after the ClientHello, until the client gave up",
            Confidence.LIKELY,
        )
    return None


#: What a failed handshake speaks of, and what to do about it: an alert or an error's code; an end without a word; silence.
_CERTIFICATES = (
    "certificates, names or versions do not agree",
    "read the alert or the code, check the certificate's names and dates, whom the client trusts, and the versions on both sides",
)
_DEVICE = (
    "what answers there may not speak TLS on this port, may be going down, or a device in front of it ended the connection",
    "check that this port speaks TLS; behind a load balancer, whether any healthy server stands behind it; in the client, what else closed the socket",
)
_SILENCE = (
    "the server was too busy to answer, or the ClientHello, the first long packet, was lost on the way (path MTU)",
    'look at the server\'s load at that time; ClientHellos that arrive nowhere point to a path MTU: allow ICMP "fragmentation needed", or lower the MTU',
)


def _from_log(told: Told, story: Story) -> Finding:
    first, last = told.events[0], told.events[-1]
    evidence = [story.evidence(first, primary=True)] + ([story.evidence(last)] if last is not first else [])
    times = f", {len(told.events)} times" if len(told.events) > 1 else ""
    codes = ", ".join(sorted({str(code) for e in told.events if (code := e.attrs.get("library_code"))}))
    what = f"the TLS handshake{f' with {told.peer}' if told.peer else ''} failed{times}{f' ({codes})' if codes else ''}"
    blame = _CERTIFICATES if codes else _DEVICE
    return _finding(
        story, what, told.peer, "NAME", evidence, told.events, Confidence.LIKELY, first.environment, None, blame
    )


def _finding(
    story: Story, what: str, server: str, name: str, evidence: list[Evidence], errors: list[Event], confidence: Confidence,
    env: str | None, connection: str | None, blame: tuple[str, str],
) -> Finding:  # fmt: skip
    whose, todo = blame
    return Finding(
        CODE, NAME, Severity.ERROR, confidence, what,
        next(e.time_ns for e in evidence if e.primary), evidence,
        f"TCP was connected; {what}: no request was sent yet; {whose}",
        connection=connection, connections=[connection] if connection else [], environment=env,
        request_ids=common.failed_requests(story, errors),
        ruled_out=["a stale or frozen connection (it was new)", "an unreachable server (TCP was answered)"],
        help=todo,
        upgrade=f"from the same network: `openssl s_client -connect {collect.host(server)}:{collect.port(server)} -servername {collect.host(name)}`; "
        f"or a capture from the first packet on: {collect.capture(server, whole=True, file='tls.pcap')}",
        clock=common.clock_line(story, evidence),
    )  # fmt: skip
