"""grpc-go log lines (google.golang.org/grpc grpclog, clientconn.go, internal/transport/http2_client.go).

    INFO: 2026/11/21 00:04:20 [core] Subchannel Connectivity change to READY                              ≤ 1.41
    2026/11/21 00:05:37 INFO: [core] [Channel #1 SubChannel #2]Subchannel Connectivity change to READY    ≥ 1.42
    {"message":"[core] [Channel #1]Channel created\\n","severity":"INFO"}                                  GRPC_GO_LOG_FORMATTER=json
    2026/11/21 00:06:50 http2: Framer 0xc000196000: wrote PING len=8 ping="\\x00\\x00…"                     GODEBUG=http2debug=2

Stamps are whole seconds of local time unless the program changed log flags; the JSON form has none. Pings are logged by
http2debug alone; `[Channel #N SubChannel #M]` came with 1.46, `[client-transport 0x…]` with 1.55. Calls are not logged, but
http2debug shows their streams.
"""

from __future__ import annotations

import re

import orjson

from analyzer.logs.recognisers._grpc import Forms, stamp
from analyzer.logs.records import LACKS_NOTHING, LACKS_ZONE, Recognised
from analyzer.model.grpc import GO, HTTP2_CODES

RANK = 2
NEEDLES = (
    "[core]",
    "[transport]",
    "[dns]",
    "http2: Framer 0x",
    "http2: decoded hpack",
    "onnectivity change to ",
    "ccResolverWrapper",
)
#: What frames of data, flow control and settings, and the balancer's echoes, do not speak of.
TELLING = (
    "onnectivity change to ", "picks a new address", "createTransport failed", "Resolver state updated", "ccResolverWrapper: ",
    "name resolver: ", "ResolverError", "GoAway", "Closing: ", "closing: ", "loopyWriter.run returning", " PING ", " GOAWAY ", " HEADERS ",
    " RST_STREAM ", "wrote DATA", "wrote SETTINGS len", "read SETTINGS flags", "grpc-status",
)  # fmt: skip

_SEVERITY = r"(?:INFO|WARNING|ERROR|FATAL)"
_HEAD = re.compile(
    rf"(?P<first>{_SEVERITY}: )?(?:(?P<day>\d{{4}}/\d\d/\d\d) (?P<clock>\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d{{6}}))? )?(?P<second>{_SEVERITY}: )?"
    r"(?:\[(?P<component>core|transport|dns|balancer|roundrobin|grpclb|xds|resolver|credentials|stats)\] )?(?P<text>.*)",
    re.ASCII | re.DOTALL,
)
_SUBJECT = re.compile(
    r"\[(?:Channel #(?P<channel>\d{1,12})(?: SubChannel #(?P<subchannel>\d{1,12}))?|client-transport (?P<transport>0x[0-9a-f]{1,16})|"
    r"pick-first-lb 0x[0-9a-f]{1,16})\] ?",
    re.ASCII,
)
_FRAMER = re.compile(r"http2: Framer (?P<framer>0x[0-9a-f]{1,16}): ", re.ASCII)
_ADDRESS = re.compile(r'"Addr": "([^"]{1,200})"|\{\[?\{([^\s"]{1,200}) ')
#: The keepalive ping is all zero, the bandwidth estimator's a constant (internal/transport/{http2_client,bdp_estimator}.go).
_KEEPALIVE_PING = r'ping="(?:\\x00){8}"'
_BDP_PING = r'ping="\\x02\\x04\\x10\\x10\\t\\x0e\\a\\a"'
_DESC = r'connection error: desc = "'

_CORE = Forms(
    ("Subchannel Connectivity change to ", "subchannel-state", r"(?P<new>[A-Z_]+)(?:, last error: (?P<error>.{1,2000}))?"),
    ("Channel Connectivity change to ", "channel-state", r"(?P<new>[A-Z_]+)"),
    ("Subchannel picks a new address ", "connect-start", r'"(?P<remote>[^"]{1,200})" to connect'),
    (
        "grpc: addrConn.createTransport failed to connect to {", "connect-failed",
        r'(?:Addr: ")?(?P<remote>[^"\s,]{1,200}).{0,300}?\. Err: (?P<error>[^\n]{0,2000})',
    ),
    ("Resolver state updated: {", "resolved"),
    ("ccResolverWrapper: sending update to cc: {[{", "resolved"),
    ("ccResolverWrapper: reporting error to cc: ", "resolve-failed", r"(?P<error>[^\n]{0,2000})"),
    ("Received error from the name resolver: ", "resolve-failed", r"(?P<error>produced zero addresses)"),
    ("pickfirstBalancer: ResolverError called with error ", "resolve-failed", r"(?P<error>produced zero addresses)"),
    ("Client received GoAway with error code ENHANCE_YOUR_CALM", "goaway-received", r'(?:.{0,60}ASCII "(?P<data>[^"]{0,400})")?'),
    ("Client received GoAway with http2.ErrCodeEnhanceYourCalm", "goaway-received"),
    ("Closing: ", "transport-closing", rf'(?:{_DESC})?(?P<reason>[^\n]{{0,2000}}?)"?$'),
    ("transport: closing: ", "transport-closing", rf'(?:{_DESC})?(?P<reason>[^\n]{{0,2000}}?)"?$'),
    ("transport: loopyWriter.run returning. ", "transport-closed", rf'(?:{_DESC})?(?P<reason>[^\n]{{0,2000}}?)"?$'),
)  # fmt: skip
_FRAMES = Forms(
    ("wrote PING len=8 ", "ping-sent", _KEEPALIVE_PING),
    ("wrote PING len=8 ", "bdp-ping-sent", _BDP_PING),
    ("wrote PING len=8 ", "ping-frame-sent"),
    ("wrote PING flags=ACK ", "ping-answered"),
    ("read PING flags=ACK len=8 ", "ping-acked", _KEEPALIVE_PING),
    ("read PING flags=ACK len=8 ", "bdp-ping-acked", _BDP_PING),
    ("read PING flags=ACK ", "ping-frame-acked"),
    ("read PING ", "ping-received"),
    ("read GOAWAY ", "goaway-received", r'len=\d+ LastStreamID=\d+ ErrCode=(?P<code>\w+)(?: Debug="(?P<data>[^"]{0,400})")?'),
    ("wrote GOAWAY ", "goaway-sent", r'len=\d+ LastStreamID=\d+ ErrCode=(?P<code>\w+)(?: Debug="(?P<data>[^"]{0,400})")?'),
    ("wrote SETTINGS len=", "transport-opened"),
    ("read SETTINGS flags=ACK", "settings-acked"),
    ("wrote HEADERS ", "call-start", r"(?:flags=\S+ )?stream=(?P<number>\d{1,10})"),
    ("wrote DATA ", "call-sent", r"(?:flags=\S+ )?stream=(?P<number>\d{1,10})"),
    ("read HEADERS flags=END_STREAM", "call-trailers", r"\S* stream=(?P<number>\d{1,10})"),
    ("read HEADERS ", "call-headers", r"(?:flags=\S+ )?stream=(?P<number>\d{1,10})"),
    ("read RST_STREAM ", "stream-closed", r"(?:flags=\S+ )?stream=(?P<number>\d{1,10}) len=\d+ ErrCode=(?P<code>\w+)"),
    ("wrote RST_STREAM ", "stream-closed", r"(?:flags=\S+ )?stream=(?P<number>\d{1,10}) len=\d+ ErrCode=(?P<code>\w+)"),
)  # fmt: skip
_HPACK = Forms(
    ('http2: decoded hpack field header field "grpc-status" = "', "call-end", r'(?P<code>\d{1,2})"'),
    ("http2: ", "trace"),
)
_OF_CALLS = frozenset(("call-start", "call-sent", "call-trailers", "call-headers", "stream-closed"))

#: `Closing: …` in these words is an event of its own; anything else is the transport's end, with its reason.
_CLOSINGS = (
    ("keepalive ping failed to receive ACK within timeout", "ping-timeout"),
    ("error reading from server: EOF", "transport-closing"),
    ("error reading from server: ", "socket-error"),
    ("error writing to server: ", "socket-error"),
)
#: The one place of this dialect that names the client's own port.
_SOCKET = re.compile(r"(?:read|write) tcp (?P<local>\S{1,80})->(?P<remote>\S{1,80}): ")


def recognise(body: str) -> Recognised | None:
    """One line as an event; a line of a known component with other text is kind `trace`."""
    if body.startswith("{"):
        return _json(body)
    head = _HEAD.match(body)
    if head is None:
        return None
    text = head["text"]
    found = Recognised("grpc", "trace", dialect=GO)
    if head["day"] is not None:
        found.inner_ns = stamp(f"{head['day'].replace('/', '-')}T{head['clock']}", head["fraction"] or "")
        found.lacks = LACKS_ZONE
    if text.startswith(("http2: Framer 0x", "http2: decoded hpack")):
        _frame(found, text)
        return found
    known = _line(found, text)
    ours = head["component"] is not None and (
        head["first"] is not None or head["second"] is not None or found.tracer is not None
    )
    return found if known or ours else None


def _json(body: str) -> Recognised | None:
    """The JSON formatter's line: the same message, no stamp."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    message = document.get("message") if isinstance(document, dict) else None
    if not isinstance(message, str) or "severity" not in document or message.startswith("{"):
        return None
    found = recognise(f"{document['severity']}: {message}".rstrip("\n"))
    if found is not None:
        found.inner_ns, found.lacks = None, LACKS_NOTHING
    return found


def _line(found: Recognised, text: str) -> bool:
    """A message of the library, with the channel, subchannel or transport that it is about."""
    subject = _SUBJECT.match(text)
    known = _CORE.fill(found, text[subject.end() :] if subject is not None else text)
    if subject is not None:
        _about(found, subject)
    elif known:
        found.tracer = _TRACERS.get(found.kind, "channel")
    if found.kind == "goaway-received":
        found.attrs["code"] = HTTP2_CODES["ENHANCE_YOUR_CALM"]
    elif found.kind == "transport-closing":
        _closing(found)
    elif found.kind == "resolved":
        found.attrs["addresses"] = ",".join(a or b for a, b in _ADDRESS.findall(text[:4096]))
    return known or subject is not None


#: Before 1.46 no line says which; the kind tells at least of what sort it is.
_TRACERS = {
    "subchannel-state": "subchannel", "connect-start": "subchannel", "connect-failed": "subchannel",
    "transport-closing": "transport", "transport-closed": "transport", "goaway-received": "transport",
}  # fmt: skip


def _about(found: Recognised, subject: re.Match[str]) -> None:
    for name in ("transport", "subchannel", "channel"):
        if subject[name] is not None:
            found.tracer, found.number = name, subject[name]
            return


def _closing(found: Recognised) -> None:
    reason = found.attrs["reason"]
    for words, kind in _CLOSINGS:
        if reason.startswith(words):
            found.kind = kind
            break
    if found.kind == "socket-error":
        found.attrs["error"] = found.attrs.pop("reason")
    if (m := _SOCKET.search(reason[:400])) is not None:
        found.attrs["local"] = m["local"]


def _frame(found: Recognised, text: str) -> None:
    """A frame as golang.org/x/net/http2 prints it, or a decoded header (which names no stream)."""
    head = _FRAMER.match(text)
    if head is None:
        if _HPACK.fill(found, text) and found.kind == "call-end":
            found.tracer = "call"
        return
    if not _FRAMES.fill(found, text[head.end() :]):
        return
    framer = head["framer"]
    if found.kind in _OF_CALLS:
        found.tracer, found.number = "call", f"{framer}/{found.number}"
    else:
        found.tracer, found.number = "framer", framer
    if "code" in found.attrs:
        found.attrs["code"] = HTTP2_CODES.get(found.attrs["code"], found.attrs["code"])
