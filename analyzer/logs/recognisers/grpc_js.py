"""grpc-js trace lines, every version from 1.4 (packages/grpc-js/src/{logging,transport,subchannel,resolving-call}.ts).

`D 2026-11-21T00:00:23.277Z | v1.14.7 19371 | keepalive | (1) 10.20.0.5:50051 Sending ping with timeout 1000ms`

The number in parentheses is a channelz id whose *kind depends on the tracer and the version*: under `keepalive` and
`transport` it is the transport from 1.8.2 on, the subchannel before. Ids restart in every process.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from analyzer.logs.records import Recognised
from analyzer.model.addresses import normal
from analyzer.model.times import parse_iso

RANK = 0
NEEDLES = (" | ", "rejected by server because of excess pings")

_HEAD = re.compile(
    r"(?:[DIE] )?(?P<ts>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) \| (?:v(?P<ver>\S+) (?P<pid>[0-9]{1,12}) \| )?"
    r"(?P<tracer>[a-z_0-9]{2,40}) \| (?P<text>.*)",
    re.DOTALL,
)
_SUBJECT = re.compile(r"\((?P<id>[0-9]{1,12})\) (?P<addr>\S+) (?P<rest>.*)", re.DOTALL)
_CALL = re.compile(r"\[(?P<id>[0-9]{1,12})\] (?P<rest>.*)", re.DOTALL)
_EXCESS = re.compile(
    r"(?:E )?Connection to (?P<target>\S+)(?: at (?P<addr>\S+))? rejected by server because of excess pings\."
    r" Increasing ping interval to (?P<ms>[0-9]{1,12}) ms"
)

_Build = Callable[[re.Match[str]], tuple[str, dict[str, object]]]


def _plain(kind: str) -> _Build:
    return lambda m: (kind, {k: v for k, v in m.groupdict().items() if v is not None})


_KEEPALIVE: tuple[tuple[re.Pattern[str], _Build], ...] = tuple(
    (re.compile(form), _plain(kind))
    for form, kind in (
        (r"Starting keepalive timer for (?P<interval_ms>[0-9]{1,12})ms", "keepalive-armed"),
        (r"Sending ping(?: with timeout (?P<timeout_ms>[0-9]{1,12})ms)?$", "ping-sent"),
        (r"Received ping response$", "ping-acked"),
        (r"Ping timeout passed without response$", "ping-timeout"),
        (r"Ping failed with error:? (?P<error>.*)", "ping-error"),
        (r"Ping send failed: (?P<error>.*)", "ping-error"),
    )
)
_TRANSPORT = tuple(
    (re.compile(form), _plain(kind))
    for form, kind in (
        (r"local settings acknowledged by remote", "settings-acked"),
        (r"connection closed by GOAWAY with code (?P<code>[0-9]{1,12})(?: and data (?P<data>.*))?", "goaway-received"),
        (r"connection closed with error (?P<error>.*)", "socket-error"),
        (r"connection closed\. hadError=(?P<had_error>\w+)", "transport-closed"),
        (r"session closed$", "transport-closed"),
        (r"Established TCP connection$", "tcp-connected"),
    )
)
_STATE = re.compile(r"(?P<old>[A-Z_]+) -> (?P<new>[A-Z_]+)(?: with error \"(?P<error>.*)\")?")
_CALL_FORMS = tuple(
    (re.compile(form, re.DOTALL), kind)
    for form, kind in (
        (
            r"ended with status: code=(?P<code>[0-9]{1,12}) details=\"(?P<details>.*?)\"(?: start time=\S+)?\s*$",
            "call-end",
        ),
        (r"cancelWithStatus code: (?P<code>[0-9]{1,12}) details: \"(?P<details>.*?)\"\s*$", "call-cancelled"),
        (r"Pick result: (?P<result>\w+) subchannel: (?:\(\d+\) )?(?P<remote>\S+) status", "call-pick"),
        (r"Node error event: message=(?P<error>.*?) code=(?P<errno>\w+)", "stream-error"),
        (r"Received server headers", "call-headers"),
        (r"HTTP/2 stream closed with code (?P<code>[0-9]{1,12})", "stream-closed"),
        (r"(?:sending data chunk|calling end\(\)|write\(\) called)", "call-sent"),
    )
)
_CALL_START = re.compile(
    r"create(?:ResolvingCall|Call) \[(?P<id>[0-9]{1,12})\] method=\"?(?P<method>[^\s\",]*)\"?, deadline=(?P<deadline>\S+)"
)
_OPTIONS = re.compile(r"(?:Channel|Subchannel) constructed with options \{(?P<options>.*)", re.DOTALL)
_OPTION = re.compile(r'"(grpc\.[a-z_0-9.]+)": (-?[0-9]{1,15})')
_RESOLVE = tuple(
    (re.compile(form), kind)
    for form, kind in (
        (r"Resolved addresses for target (?P<target>\S+): \[(?P<addresses>.*)\]", "resolved"),
        (r"Resolution error for target (?P<target>\S+): (?P<error>.*)", "resolve-failed"),
        (r"Looking up DNS hostname (?P<host>\S+)", "resolve-start"),
    )
)


def recognise(body: str) -> Recognised | None:
    """One trace line as an event. A line of a known prefix with unknown text is kind `trace`."""
    if (m := _EXCESS.match(body)) is not None:
        attrs = {"target": m["target"], "new_interval_ms": int(m["ms"])}
        return Recognised("grpc", "too-many-pings", remote=normal(m["addr"] or ""), attrs=attrs)
    head = _HEAD.match(body)
    if head is None:
        return None
    found = Recognised(
        "grpc", "trace", inner_ns=parse_iso(head["ts"]), pid=head["pid"], version=head["ver"], tracer=head["tracer"]
    )
    read = _READERS.get(head["tracer"])
    if read is not None:
        read(found, head["text"])
    return found


def _first(found: Recognised, text: str, forms: tuple[tuple[re.Pattern[str], _Build], ...]) -> None:
    for form, build in forms:
        if (m := form.match(text)) is not None:
            found.kind, attrs = build(m)
            found.attrs.update(attrs)
            return


def _subject(found: Recognised, text: str) -> str:
    """Take `(id) address` off the front."""
    if (m := _SUBJECT.match(text)) is not None:
        found.number, found.remote = m["id"], normal(m["addr"])
        return m["rest"]
    return text


def _keepalive(found: Recognised, text: str) -> None:
    rest = _subject(found, text)
    if found.remote is None and found.number is not None:
        rest = text
    _first(found, rest, _KEEPALIVE)
    for key in ("interval_ms", "timeout_ms"):
        if key in found.attrs:
            found.attrs[key] = int(str(found.attrs[key]))


def _transport(found: Recognised, text: str) -> None:
    rest = _subject(found, text)
    if found.number is None:  # before the connection there is no id: `target address text`
        parts = text.split(" ", 2)
        if len(parts) == 3 and normal(parts[1]):
            found.remote, rest = normal(parts[1]), parts[2]
    _first(found, rest, _TRANSPORT)


def _subchannel(found: Recognised, text: str) -> None:
    rest = _subject(found, text)
    if (m := _STATE.match(rest)) is not None:
        found.kind = "subchannel-state"
        found.attrs.update({k: v for k, v in m.groupdict().items() if v})
    else:
        _options(found, rest)


def _channel(found: Recognised, text: str) -> None:
    if (m := _CALL_START.search(text)) is not None:
        found.kind, found.number = "call-start", m["id"]
        deadline = parse_iso(m["deadline"])
        found.attrs.update(method=m["method"], deadline_ns=deadline)
        return
    if (m := _SUBJECT.match(text)) is not None:
        _options(found, m["rest"])


def _options(found: Recognised, text: str) -> None:
    if (m := _OPTIONS.match(text)) is not None:
        found.kind = "channel-options"
        found.attrs["options"] = {name: int(value) for name, value in _OPTION.findall(m["options"][:4096])}


def _call(found: Recognised, text: str) -> None:
    m = _CALL.match(text)
    if m is None:
        return
    found.number = m["id"]
    for form, kind in _CALL_FORMS:
        if (c := form.match(m["rest"])) is not None:
            found.kind = kind
            found.attrs.update({k: v for k, v in c.groupdict().items() if v is not None})
            if "remote" in found.attrs:
                found.remote = normal(str(found.attrs.pop("remote")))
            return


def _resolver(found: Recognised, text: str) -> None:
    for form, kind in _RESOLVE:
        if (m := form.match(text)) is not None:
            found.kind = kind
            found.attrs.update(m.groupdict())
            return


_READERS: dict[str, Callable[[Recognised, str], None]] = {
    "keepalive": _keepalive,
    "transport": _transport,
    "subchannel": _subchannel,
    "channel": _channel,
    "dns_resolver": _resolver,
    "resolving_call": _call,
    "load_balancing_call": _call,
    "retrying_call": _call,
    "subchannel_call": _call,
    "call_stream": _call,
}
