"""grpc-js trace lines, every version from 1.2 (packages/grpc-js/src/{logging,transport,subchannel,resolving-call}.ts).

    2026-11-21T00:03:30.542Z | keepalive | Sending ping to 10.20.0.5:50051                                            ≤ 1.3
    D 2026-11-21T00:02:52.179Z | keepalive | (2) 10.20.0.5:50051 Sending ping with timeout 1000ms                     1.4 – 1.9.5
    D 2026-11-21T00:00:23.277Z | v1.14.7 19371 | keepalive | (1) 10.20.0.5:50051 Sending ping with timeout 1000ms     ≥ 1.9.6

The number in parentheses is a channelz id whose *kind depends on the tracer and the version*: under `keepalive` and
`transport` it is the transport from 1.8.2 on, the subchannel before; 1.2 and 1.3 print none. Ids restart in every process.
The text may itself contain ` | `.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from sys import intern

from analyzer.logs.recognisers._grpc import Forms, address, options
from analyzer.logs.records import Recognised
from analyzer.logs.stamps import zoned_ns
from analyzer.model.grpc import JS
from analyzer.model.times import parse_iso

RANK = 0
NEEDLES = (" | ", "rejected by server because of excess pings")

#: Of the many lines of one call only a few speak of these.
TELLING = (
    "| keepalive |", "| transport |", "| subchannel |", "| connectivity_state |", "| dns_resolver |", "| backoff |", "createResolvingCall",
    "createCall", "Created child", "Pick result", "attachHttp2Stream", "sending data chunk",
    "ended with status", "cancelWithStatus", "Node error event", "stream closed with code", "Received server headers",
    "Received server trailers", "constructed with options", "rejected by server because of excess pings",
)  # fmt: skip

#: `2026-11-21T00:00:23.277Z`, behind a letter from 1.4 on.
STAMP = 24
_SEVERITIES = frozenset(("", "D ", "I ", "E "))
_EXCESS = re.compile(
    r"(?:E )?Connection to (?P<target>\S+)(?: at (?P<addr>\S+))? rejected by server because of excess pings\."
    r" Increasing ping interval to (?P<ms>[0-9]{1,12}) ms"
)

_KEEPALIVE = Forms(
    ("Starting keepalive timer for ", "keepalive-armed", r"(?P<interval_ms>\d{1,12})ms"),
    ("Sending ping", "ping-sent", r"(?: with timeout (?P<timeout_ms>\d{1,12})ms| to (?P<remote>\S+))?$"),
    ("Received ping response", "ping-acked", "$"),
    ("Ping timeout passed without response", "ping-timeout", "$"),
    ("Ping failed with error", "ping-error", r":? (?P<error>.*)"),
    ("Ping send failed: ", "ping-error", r"(?P<error>.*)"),
)
#: Up to 1.8.1 the subchannel tracer prints these, from then on the transport tracer.
_TRANSPORT = Forms(
    ("local settings acknowledged by remote", "settings-acked"),
    ("connection closed by GOAWAY with code ", "goaway-received", r"(?P<code>\d{1,12})(?: and data (?P<data>.*))?"),
    ("connection closed with error ", "socket-error", r"(?P<error>.*)"),
    ("connection closed. hadError=", "transport-closed", r"(?P<had_error>\w+)"),
    ("connection closed", "transport-closed", "$"),
    ("connection failed with error ", "connect-failed", r"(?P<error>.*)"),
    ("session closed", "transport-closed", "$"),
    ("Established TCP connection", "tcp-connected", "$"),
    ("creating HTTP/2 session to ", "connect-start", r"(?P<remote>\S+)"),
    ("creating HTTP/2 session", "connect-start"),
)
_STATE = re.compile(r"(?P<old>[A-Z_]+) -> (?P<new>[A-Z_]+)(?: with error \"(?P<error>.*)\")?")
_CALL = Forms(
    (
        "ended with status: ",
        "call-end",
        r"code=(?P<code>\d{1,12}) details=\"(?P<details>.*?)\"(?: start time=\S+)?\s*$",
    ),
    ("cancelWithStatus code: ", "call-cancelled", r"(?P<code>\d{1,12}) details: \"(?P<details>.*?)\"\s*$"),
    (
        "Pick result: ",
        "call-pick",
        r"(?P<result>\w+) subchannel: (?:\((?P<subchannel>\d{1,12})\) )?(?P<remote>\S+) status",
    ),
    ("attachHttp2Stream from subchannel ", "call-pick", r"(?P<remote>\S+)"),
    ("Created child call [", "call-link", r"(?P<child>\d{1,12})\]"),
    ("Created child [", "call-link", r"(?P<child>\d{1,12})\]"),
    ("Node error event: ", "stream-error", r"message=(?P<error>.*?) code=(?P<errno>\w+)"),
    ("Received server headers", "call-headers"),
    ("Received server trailers", "call-trailers"),
    ("HTTP/2 stream closed with code ", "stream-closed", r"(?P<code>\d{1,12})"),
    ("sending data chunk", "call-sent"),
    ("calling end()", "call-sent"),
    ("write() called", "call-sent"),
)
_CHANNEL = Forms(
    ("createResolvingCall [", "call-start", r"(?P<number>\d{1,12})\] method=\"?(?P<method>[^\s\",]*)\"?, deadline=(?P<deadline>\S+)"),
    ("createCall [", "call-start", r"(?P<number>\d{1,12})\] method=\"?(?P<method>[^\s\",]*)\"?, deadline=(?P<deadline>\S+)"),
    ("Pick result for call [", "call-pick", r"(?P<number>\d{1,12})\]: (?P<result>\w+) subchannel: (?:\((?P<subchannel>\d{1,12})\) )?(?P<remote>\S+) status"),
    ("Channel constructed with options {", "channel-options"),
)  # fmt: skip
_RESOLVER = Forms(
    ("Looking up DNS hostname ", "resolve-start", r"(?P<host>\S+)"),
    ("Resolution update requested for target ", "resolve-start", r"(?P<target>\S+)"),
    ("Resolved addresses for target ", "resolved", r"(?P<target>\S+): \[(?P<addresses>.*)\]"),
    ("Returning IP address for target ", "resolved", r"(?P<target>\S+)"),
    ("Resolution error for target ", "resolve-failed", r"(?P<target>\S+): (?P<error>.*)"),
    ("resolution update delayed by backoff timer until ", "resolve-delayed", r"(?P<until>\S+)"),
    ("resolution update delayed by ", "resolve-delayed"),
)
_BACKOFF = Forms(
    ("runTimer(delay=", "backoff", r"(?P<backoff_ms>\d{1,12})(?:\.\d+)?\)"), ("timer fired", "backoff-elapsed")
)


def recognise(body: str) -> Recognised | None:
    """One trace line as an event. A line of a known prefix with unknown text is kind `trace`."""
    bar = body.find(" | ")
    size = STAMP if body[bar - 5 : bar - 4] == "." else STAMP - 4  # a collector may have cut the milliseconds
    if bar < size or body[bar - 1] != "Z" or body[: bar - size] not in _SEVERITIES:
        return _excess(body)
    ns = zoned_ns(body[bar - size : bar])
    rest = body[bar + 3 :]
    said = _said(rest) if len(rest) <= REMEMBERED else _read(rest)
    if ns is None or said is None:
        return None
    attrs = said.attrs.copy() if said.attrs else {}
    return Recognised(
        "grpc", said.kind, ns, "", JS, said.pid, said.version, said.tracer, said.number, said.remote, attrs
    )


def _read(line: str) -> Recognised | None:
    """What stands behind a line's stamp, which says who, and what; None where it is no trace's."""
    tracer, bar, text = line.partition(" | ")
    process: tuple[str, str] | tuple[None, None] | None = (None, None)
    if tracer[:1] == "v" and " " in tracer:
        process = _process(tracer)
        tracer, bar, text = text.partition(" | ")
    read = _READERS.get(tracer)
    if process is None or not bar or not (read or (tracer.isascii() and tracer.isidentifier())):
        return None
    version, pid = process
    found = Recognised("grpc", "trace", None, "", JS, pid, version, intern(tracer), None, None, {})
    if read is not None:
        read(found, text)
    return found


@lru_cache(maxsize=256)
def _process(text: str) -> tuple[str, str] | None:
    """Version and pid of `v1.14.7 19371`, None where it is none."""
    version, _, pid = text[1:].partition(" ")
    return (version, pid) if pid.isdecimal() and pid.isascii() and len(pid) < 13 else None


#: A transport says the same of itself with every ping: what such a line says is read once. Longer lines are never the same.
REMEMBERED = 250
_said = lru_cache(maxsize=4096)(_read)


def _excess(body: str) -> Recognised | None:
    """The one line of interest that has no prefix."""
    m = _EXCESS.match(body)
    if m is None:
        return None
    attrs = {"target": m["target"], "new_interval_ms": int(m["ms"])}
    return Recognised("grpc", "too-many-pings", dialect=JS, remote=address(m["addr"] or ""), attrs=attrs)


def _subject(found: Recognised, text: str) -> str:
    """Take `(id) address`, or the bare address of 1.2 and 1.3, off the front."""
    first, _, rest = text.partition(" ")
    found.number = _id(first) if len(first) < 15 else None
    if found.number is None:
        found.remote = address(first)
        return rest if found.remote is not None else text
    first, _, after = rest.partition(" ")
    found.remote = address(first)
    return after if found.remote is not None else rest


@lru_cache(maxsize=4096)
def _id(text: str) -> str | None:
    """The number of `(18)`, None for anything else."""
    return text[1:-1] if text[:1] == "(" and text[-1:] == ")" and text[1:-1].isdecimal() else None


def _keepalive(found: Recognised, text: str) -> None:
    rest = _subject(found, text)
    if not _KEEPALIVE.fill(found, rest):
        _KEEPALIVE.fill(found, rest.partition(" ")[2])  # a unix path stands for the address


def _transport(found: Recognised, text: str) -> None:
    rest = _subject(found, text)
    if not _TRANSPORT.fill(found, rest) and found.number is None:
        _connecting(found, text)


def _connecting(found: Recognised, text: str) -> None:
    """Before the connection there is no id: `target text`, `target address text`, or the bug `[object Object] text`."""
    rest = text.removeprefix("[object ").partition(" ")[2]
    first, _, after = rest.partition(" ")
    found.remote = address(first)
    _TRANSPORT.fill(found, after if found.remote is not None else rest)
    if found.kind == "connect-failed":
        found.remote = address(str(found.attrs["error"]).rpartition(" ")[2])


def _subchannel(found: Recognised, text: str) -> None:
    rest = _subject(found, text)
    if (m := _STATE.match(rest)) is not None:
        found.kind = "subchannel-state"
        found.attrs.update({k: v for k, v in m.groupdict().items() if v})
    elif not _TRANSPORT.fill(found, rest):
        _options(found, rest if found.remote is not None else text)
    elif found.kind == "socket-error" and str(found.attrs["error"]).startswith("connect "):
        found.kind = "connect-failed"


def _connectivity(found: Recognised, text: str) -> None:
    """A channel's state; the many lines `READY -> READY` say nothing."""
    if text.startswith("("):
        found.number = text[1 : text.find(")")][:12]
    at = text.rfind(" ", 0, text.find(" -> ")) + 1
    m = _STATE.match(text, at)
    if m is not None and m["old"] != m["new"]:
        found.kind = "channel-state"
        found.attrs.update(
            old=m["old"], new=m["new"], target=text[text.find(" ") + 1 if found.number else 0 : at].strip()[:200]
        )


def _channel(found: Recognised, text: str) -> None:
    """`(id) target text`, `target text` up to 1.3; a call's lines carry its number, others the channel's."""
    first, _, rest = text.partition(" ")
    if first.startswith("("):
        rest = rest.partition(" ")[2]
    if not _CHANNEL.fill(found, rest) and not _CHANNEL.fill(found, text):
        return
    if found.kind == "channel-options":
        found.attrs["options"] = options(text)
    elif found.kind == "call-start":
        found.attrs["deadline_ns"] = parse_iso(str(found.attrs.pop("deadline")))


def _options(found: Recognised, text: str) -> None:
    if text.startswith("Subchannel constructed with options {"):
        found.kind = "channel-options"
        found.attrs["options"] = options(text)


def _call(found: Recognised, text: str) -> None:
    number, bracket, rest = text[1:].partition("] ")
    if text[:1] == "[" and bracket and number.isdecimal() and len(number) < 13:
        found.number = number
        _CALL.fill(found, rest)


def _resolver(found: Recognised, text: str) -> None:
    _RESOLVER.fill(found, text)


def _backoff(found: Recognised, text: str) -> None:
    _BACKOFF.fill(found, text.partition("} ")[2])


_READERS: dict[str, Callable[[Recognised, str], None]] = {
    "keepalive": _keepalive,
    "transport": _transport,
    "subchannel": _subchannel,
    "channel": _channel,
    "connectivity_state": _connectivity,
    "dns_resolver": _resolver,
    "resolving_call": _call,
    "load_balancing_call": _call,
    "retrying_call": _call,
    "subchannel_call": _call,
    "call_stream": _call,
    "backoff": _backoff,
}
