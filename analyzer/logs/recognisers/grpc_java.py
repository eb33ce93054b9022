"""grpc-java with the Netty transport: io.grpc.ChannelLogger, io.grpc.netty, io.netty.handler.codec.http2.Http2FrameLogger.

    Nov 21, 2026 12:04:14 AM io.netty.handler.codec.http2.Http2FrameLogger logPing            java.util.logging's default:
    FINE: [id: 0xc8bd004e, L:/10.20.0.5:32934 - R:svc/10.20.0.5:50051] OUTBOUND PING: ack=…    two lines, whole seconds, local
    2026-11-21T00:08:36.653+0000 FINEST  [io.grpc.ChannelLogger] [Channel<1>: (dns:///svc:50051)] Exiting idle mode    a one-line format

Logback, log4j and shaded artifacts print the same messages behind other prefixes. Ping payloads are constants, so pings are
matched by order; only the frame logger knows them. It prints both addresses of the connection; its `0x…` is Netty's id,
`NettyClientTransport<4>` gRPC's.
"""

from __future__ import annotations

import re

from analyzer.logs.recognisers._grpc import Forms, address, stamp
from analyzer.logs.records import LACKS_ZONE, Recognised
from analyzer.model.grpc import JAVA
from analyzer.model.times import parse_iso

RANK = 3
NEEDLES = (
    "io.grpc.",
    "io.netty.handler.codec.http2",
    "hannel<",
    "NettyClientTransport<",
    "[id: 0x",
    "GOAWAY with ENHANCE_YOUR_CALM",
)

_MONTHS = {
    m: f"{k:02d}"
    for k, m in enumerate(["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"], 1)
}
#: Since Java 20 the locale data put a narrow no-break space before AM and PM.
_TWO_LINES = re.compile(
    r"(?P<month>[A-Z][a-z]{2}) (?P<day>\d{1,2}), (?P<year>\d{4}),? (?P<hour>\d{1,2}):(?P<rest>\d\d:\d\d)[ \u00a0\u202f](?P<half>[AP])M "
    r"(?P<logger>[\w.$]{1,200})(?: [\w<>$]{1,80})?(?:\n(?:SEVERE|WARNING|INFO|CONFIG|FINE|FINER|FINEST): (?P<text>.*))?$",
    re.DOTALL,
)
_STAMP = re.compile(r"(?P<at>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?P<zone>Z|[+-]\d\d:?\d\d)?) ", re.ASCII)
_LOGGER = re.compile(r"[\w.$]{8,140}(?<!Exception)(?:\]:?| -| :) (?P<text>.*)", re.ASCII | re.DOTALL)
_OURS = ("io.grpc.", "io.netty.handler.codec.http2.")
#: A logger's name stands so near the beginning of its line.
PREFIX = 240
#: What a message of ours begins with, where no logger's name is printed.
_BARE = re.compile(
    r"[^\n]{0,200}?(?P<text>\[(?:(?:Subc|C)hannel<\d|NettyClientTransport<\d|id: 0x[0-9a-f]{8}[,\]]).*)", re.DOTALL
)
_SECOND_LINE = re.compile(
    r"(?:SEVERE|WARNING|INFO|CONFIG|FINE|FINER|FINEST): |$|[\w$.]+(?:Exception|Error)\b|\s|Caused by: |[})\]]"
)

_ENTITY = re.compile(
    r"\[(?P<what>Channel|Subchannel|NettyClientTransport)<(?P<number>\d{1,12})>: \((?P<name>[^)]{0,300})\)\] ", re.ASCII
)
_FRAME = re.compile(
    r"\[id: (?P<number>0x[0-9a-f]{8})(?:, L:(?P<local>\S{1,200}) [-!] R:(?P<remote>\S{1,200}))?\] "
    r"(?P<direction>IN|OUT)BOUND (?P<frame>[A-Z_]{3,20}): (?P<rest>.*)",
    re.ASCII | re.DOTALL,
)
_TRANSPORT = r"NettyClientTransport<(?P<transport>\d{1,12})>: \((?P<name>[^)]{0,300})\)"

_CHANNEL = Forms(
    ("Resolved address: ", "resolved", r"(?P<addresses>.{0,2000})"),
    ("Failed to resolve name", "resolve-failed", r"[:.] (?P<error>[^\n]{0,2000})"),
    ("Scheduling DNS resolution backoff for ", "resolve-delayed", r"(?P<delay_ns>[\d,]{1,25}) ns"),
    ("Entering ", "channel-state", r"(?P<new>[A-Z_]+) state"),
)
_SUBCHANNEL = Forms(
    ("CONNECTING ", "connect-start"),
    ("READY", "subchannel-state", "$"),
    ("Started transport ", "transport-linked", _TRANSPORT),
    ("NettyClientTransport<", "transport-closing", r"(?P<transport>\d{1,12})>: \((?P<name>[^)]{0,300})\) SHUTDOWN with (?P<reason>.{0,2000})"),
    ("NettyClientTransport<", "transport-closed", r"(?P<transport>\d{1,12})>: \((?P<name>[^)]{0,300})\) Terminated"),
    ("TRANSIENT_FAILURE (", "connect-failed", r"(?P<error>.{0,2000}?)\)\. Will reconnect after (?P<backoff_ns>-?[\d,]{1,25}) ns"),
)  # fmt: skip
_NETTY = Forms(("WaitUntilActive started", "connect-start"), ("WaitUntilActive completed", "tcp-connected"))
_PLAIN = Forms(
    ("Received GOAWAY with ENHANCE_YOUR_CALM", "too-many-pings", r"\. Debug data: (?P<data>[^\n]{0,400})"),
    ("Increased keepalive time nanos to ", "keepalive-throttled", r"(?P<new_interval_ns>[\d,]{1,25})"),
    ("Caught a connection error", "socket-error", r"\n(?P<error>[^\n]{1,400})"),
    ("Attempting DNS resolution of ", "resolve-start", r"(?P<host>\S{1,300})"),
)
_PING = re.compile(r"ack=(?P<ack>true|false) bytes=(?P<payload>-?\d{1,20})")
_GOAWAY = re.compile(r"lastStreamId=\d+ errorCode=(?P<code>\d{1,10}) length=\d+ bytes=(?P<hex>[0-9a-f]{0,800})")
_STREAM = re.compile(r"streamId=(?P<stream>\d{1,10})")
_RESET = re.compile(r"streamId=(?P<stream>\d{1,10}) errorCode=(?P<code>\d{1,10})")
_GRPC_PATH = re.compile(r":path: (?P<method>[^,\]]{1,300})")
_GRPC_STATUS = re.compile(r"grpc-status: (?P<code>\d{1,2})")
_GRPC_MESSAGE = re.compile(r"grpc-message: (?P<details>[^,\]]{1,400})")

#: Payloads of NettyClientHandler and AbstractNettyHandler: USER_PING_PAYLOAD is the keepalive's, the other measures bandwidth.
KEEPALIVE_PAYLOAD, BDP_PAYLOAD = "1111", "1234"


def continues(first: str, line: str) -> bool:
    """Whether a line belongs to the record that `first` began: the message below its header, or a stack trace."""
    return _SECOND_LINE.match(line) is not None and (_TWO_LINES.match(first) or _logged(first)) is not None


def recognise(body: str) -> Recognised | None:
    """One record as an event; other text of io.grpc's loggers is kind `trace`."""
    found = Recognised("grpc", "trace", dialect=JAVA)
    text = _two_lines(found, body)
    if text is None:
        text = _one_line(found, body)
    if text is None:
        return None
    _message(found, text.rstrip())
    return found


def _two_lines(found: Recognised, body: str) -> str | None:
    m = _TWO_LINES.match(body)
    if m is None or not m["logger"].startswith(_OURS):
        return None
    hour = int(m["hour"]) % 12 + (12 if m["half"] == "P" else 0)
    second = f"{m['year']}-{_MONTHS.get(m['month'], '00')}-{int(m['day']):02d}T{hour:02d}:{m['rest']}"
    found.inner_ns, found.lacks = stamp(second, ""), LACKS_ZONE
    return m["text"] or ""


def _logged(body: str) -> re.Match[str] | None:
    """What stands behind the name of one of our loggers on the first line."""
    for package in _OURS:
        at = body.find(package, 0, PREFIX)
        if at >= 0 and "\n" not in body[:at]:
            return _LOGGER.match(body, at)
    return None


def _one_line(found: Recognised, body: str) -> str | None:
    m = _logged(body)
    if m is None:
        bare = _BARE.match(body)
        return bare["text"] if bare is not None else None
    if (head := _STAMP.match(body)) is not None:
        found.inner_ns = parse_iso(head["at"])
        found.lacks = "" if head["zone"] else LACKS_ZONE
    return m["text"]


def _message(found: Recognised, text: str) -> None:
    if text.startswith("[id: "):
        if (frame := _FRAME.match(text)) is not None:
            _frame(found, frame)
        return
    entity = _ENTITY.match(text)
    if entity is None:
        if _PLAIN.fill(found, text):
            found.tracer = "resolver" if found.kind == "resolve-start" else "transport"
            _milliseconds(found)
        return
    rest = text[entity.end() :]
    what, number = entity["what"], entity["number"]
    if what == "Channel":
        found.tracer, found.number = "channel", number
        if _CHANNEL.fill(found, rest) and found.kind == "channel-state":
            found.attrs["target"] = entity["name"]
    elif what == "Subchannel":
        found.tracer, found.number = "subchannel", number
        if _SUBCHANNEL.fill(found, rest):
            _of_subchannel(found, rest)
    else:
        found.tracer, found.number, found.remote = "transport", number, _remote(entity["name"])
        _NETTY.fill(found, rest)
    _milliseconds(found)


def _of_subchannel(found: Recognised, rest: str) -> None:
    """What a subchannel says of its transport is the transport's event; the subchannel stays as an attribute."""
    if found.kind == "subchannel-state":
        found.attrs["new"] = rest.split(" ", 1)[0]
    elif found.kind == "connect-failed":
        found.attrs["new"] = "TRANSIENT_FAILURE"
    transport = found.attrs.pop("transport", None)
    if transport is None:
        return
    found.attrs["subchannel"] = found.number
    found.tracer, found.number, found.remote = "transport", transport, _remote(found.attrs.pop("name"))
    reason = found.attrs.get("reason", "")
    if "(Keepalive failed" in reason:
        found.kind = "ping-timeout"


def _milliseconds(found: Recognised) -> None:
    """Java prints nanoseconds; the vocabulary has milliseconds."""
    for name in [name for name in found.attrs if name.endswith("_ns")]:
        found.attrs[name[:-3] + "_ms"] = found.attrs.pop(name) // 1_000_000


def _remote(name: str) -> str | None:
    """`svc.example.test/10.20.0.5:50051` or `/10.20.0.5:50051` without its host name."""
    return address(name.rpartition("/")[2])


def _frame(found: Recognised, m: re.Match[str]) -> None:
    """A frame: `INBOUND PING: ack=true bytes=1111`, with the connection's two addresses."""
    found.tracer, found.number = "netty", m["number"]
    if m["remote"]:
        found.remote = _remote(m["remote"])
        found.attrs["local"] = _remote(m["local"]) or ""
    read = _FRAMES.get(m["frame"])
    if read is not None:
        read(found, m["rest"], m["direction"] == "IN")


def _ping(found: Recognised, text: str, inbound: bool) -> None:
    m = _PING.match(text)
    if m is None:
        return
    ours = inbound == (m["ack"] == "true")  # our ping goes out, its answer comes in
    if not ours:
        found.kind = "ping-received" if inbound else "ping-answered"
        return
    names = {KEEPALIVE_PAYLOAD: "ping", BDP_PAYLOAD: "bdp-ping"}
    found.kind = f"{names.get(m['payload'], 'ping-frame')}-{'acked' if inbound else 'sent'}"


def _goaway(found: Recognised, text: str, inbound: bool) -> None:
    m = _GOAWAY.match(text)
    if m is None:
        return
    found.kind = "goaway-received" if inbound else "goaway-sent"
    data = bytes.fromhex(m["hex"][: len(m["hex"]) // 2 * 2]).decode("utf-8", "replace")
    found.attrs.update(code=m["code"], data=data)


def _headers(found: Recognised, text: str, inbound: bool) -> None:
    m = _STREAM.match(text)
    if m is None:
        return
    found.tracer, found.number = "call", f"{found.number}/{m['stream']}"
    head = text[:4096]
    if not inbound:
        found.kind = "call-start"
        if (path := _GRPC_PATH.search(head)) is not None:
            found.attrs["method"] = path["method"]
        return
    found.kind = "call-headers"
    if (status := _GRPC_STATUS.search(head)) is not None:
        found.kind = "call-end"
        found.attrs["code"] = status["code"]
        if (message := _GRPC_MESSAGE.search(head)) is not None:
            found.attrs["details"] = message["details"]


def _reset(found: Recognised, text: str, inbound: bool) -> None:
    if (m := _RESET.match(text)) is not None:
        found.kind, found.tracer, found.number = "stream-closed", "call", f"{found.number}/{m['stream']}"
        found.attrs.update(code=m["code"], inbound=inbound)


def _data(found: Recognised, text: str, inbound: bool) -> None:
    if not inbound and (m := _STREAM.match(text)) is not None:
        found.kind, found.tracer, found.number = "call-sent", "call", f"{found.number}/{m['stream']}"


def _settings(found: Recognised, text: str, inbound: bool) -> None:
    if inbound and text.startswith("ack=true"):
        found.kind = "settings-acked"
    elif not inbound and text.startswith("ack=false"):
        found.kind = "transport-opened"


_FRAMES = {
    "PING": _ping, "GO_AWAY": _goaway, "HEADERS": _headers, "RST_STREAM": _reset, "DATA": _data, "SETTINGS": _settings,
}  # fmt: skip
