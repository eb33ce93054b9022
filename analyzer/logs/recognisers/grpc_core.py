"""C-core trace lines (Python, C++, Ruby, PHP, Objective-C, old C#): src/core, three generations of prefixes.

    I1121 00:04:39.209647410   16888 chttp2_transport.cc:2827]   ipv4:10.20.0.5:50051: Start keepalive ping      gpr_log, ≤ 1.64
    I0000 00:00:1795219913.084178   28176 writing.cc:139] CLIENT[0x7fd2]: Ping 7130 sent [ipv4:10.20.0.5:50051]…  absl, 1.65 – 1.78
    I1121 00:07:49.131313    1219 writing.cc:144] CLIENT[0x7fd2]: Ping 7130 sent [ipv4:10.20.0.5:50051]: …        absl, ≥ 1.80

The first and the third carry no year and the local time; the second is no date but seconds since the epoch. The number
before the file is a thread. Ids are pointers, used again after the thing is freed. File names and lines move with every
release, so only the text counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from analyzer.logs.recognisers._grpc import Forms, options, peer, stamp
from analyzer.logs.records import LACKS_NOTHING, LACKS_YEAR, YEARLESS, Recognised
from analyzer.model.grpc import CORE, CORE_POLLED, STATUS_CODES
from analyzer.model.times import SECOND

RANK = 1
NEEDLES = (".cc:", ".h:")
#: Three lines of four speak of none of these: bytes written, headers, batches, pickers.
TELLING = (
    "Start keepalive ping", "Finish keepalive ping", "Keepalive watchdog", "Ping timeout", "Keepalive timeout", "BDP ping err=OK",
    "]: Ping ", "Ping sent [", "ping timeout timer", "received ping", "[KEEPALIVE_PING]", "[BDP_PING]", "[INITIAL_WRITE]",
    "[TRANSPORT_FLOW_CONTROL]", "[GOAWAY_SENT]", "Got goaway", "got goaway", "Received a GOAWAY", "CANCEL PINGS", "set connectivity_state",
    "]: IDLE -> ", "]: CONNECTING -> ", "]: READY -> ", "]: TRANSIENT_FAILURE -> ", "]: SHUTDOWN -> ", "new connected subchannel",
    "connect failed (", "backoff delay elapsed", "reporting connectivity state", "reports disconnection", "throttling keepalive",
    "starting name resolution", "got resolver result", "resolver transient failure", "in cooldown", "retrying in", "created call",
    "SEND_INITIAL_METADATA{", "recv_trailing_metadata_ready", "set_final_status", "call.cc:", "user-agent: ",
)  # fmt: skip

_HEAD = re.compile(
    r"[DIWEF](?:(?P<month>\d\d)(?P<day>\d\d) (?P<clock>\d\d:\d\d:\d\d)\.(?P<fraction>\d{9}|\d{6})|"
    r"0000 00:00:(?P<epoch>\d{1,11})\.(?P<micro>\d{6})) +(?P<tid>\d{1,12}) [\w.+-]{1,80}\.(?:cc|h):\d{1,6}\] *(?P<text>.*)",
    re.ASCII | re.DOTALL,
)
#: What the prefix alone tells of the version.
GPR, EARLY, LATE = CORE_POLLED, "1.65-1.78", "≥1.80"

_P = r"(?P<number>0x[0-9a-f]{1,16})"
_ID = r"(?P<payload>[0-9a-f]{1,20})"
#: Lines that hold no record of their own: the rest of a status printed with a source location (≥ 1.80), address dumps.
_CONTINUES = re.compile(r"=== Source Location Trace|src/core/|, | \(reason=|\)|UNKNOWN:|$| ")

_CLIENT = Forms(
    ("Ping ", "ping-frame-sent", rf"{_ID} sent \[(?P<peer>[^\]]{{1,200}})\]"),
    ("Set ping timeout timer of ", "ping-timer", rf"(?P<timeout_ms>\d{{1,12}})ms for ping id {_ID}"),
    ("received ping ack ", "ping-frame-acked", _ID),
    ("received ping ", "ping-received", _ID),
)
_PEER = Forms(
    ("Start keepalive ping", "ping-sent"),
    ("Finish keepalive ping", "ping-acked"),
    ("Keepalive watchdog fired", "ping-timeout"),
    ("Ping timeout. Closing", "ping-timeout"),
    ("Keepalive timeout. Closing", "ping-timeout"),
    ("Keepalive timeout triggered", "ping-timeout"),
    ("Start BDP ping err=OK", "bdp-ping-sent"),
    ("Complete BDP ping err=OK", "bdp-ping-acked"),
    (
        "Got goaway [", "goaway-received",
        r'(?P<code>\d{1,10})\](?:[^"]{0,400}?Debug Text: (?P<data>[^{]{0,400}?) \{|.{0,400}?raw_bytes:"(?P<raw>[^"]{0,400})")?',
    ),
    (
        "Received a GOAWAY with error code ENHANCE_YOUR_CALM", "too-many-pings",
        r".{0,200}?(?:before throttling\): (?P<interval_ms>\d{1,12})ms)?$",
    ),
)  # fmt: skip
_TRANSPORT = Forms(
    ("got goaway with last stream id ", "transport-draining"),
    ("set connectivity_state=4", "transport-closed", r"(?:; status=[^;]{0,400}; reason=(?P<reason>\w+))?"),
    ("set connectivity_state=3", "transport-draining", r"(?:; status=(?P<reason>.{0,400}))?"),
)
_SUBCHANNEL = Forms(
    ("new connected subchannel at ", "connected"),
    ("connect failed (", "connect-failed", r"(?P<error>.{0,2000}?)\)(?:, backing off for (?P<backoff_ms>\d{1,12}) ms)?$"),
    ("backoff delay elapsed", "backoff-elapsed"),
    ("reporting connectivity state ", "subchannel-state", r"(?P<new>[A-Z_]+), status: (?:OK|(?P<error>.{1,2000}))$"),
    ("connected subchannel ", "transport-closing", r"0x[0-9a-f]{1,16} reports disconnection: (?P<reason>[^\n]{0,2000})"),
    ("Connected subchannel ", "trace"),
    ("throttling keepalive time to ", "keepalive-throttled", r"(?P<new_interval_ms>\d{1,12})"),
)  # fmt: skip
_CHANNEL = Forms(
    ("starting name resolution", "resolve-start", r"(?: for (?P<target>\S{1,300}))?"),
    ("got resolver result", "resolved"),
    ("resolver transient failure: ", "resolve-failed", r"(?P<error>[^\n]{0,2000})"),
)
_CALL = Forms(
    ("created call", "call-start"),
    ("batch started from above:  SEND_INITIAL_METADATA{", "call-metadata"),
    ("got recv_trailing_metadata_ready: ", "call-trailers"),
)
_TRACKER = re.compile(
    rf"ConnectivityStateTracker client_(?P<what>channel|transport)\[{_P}\]: (?P<old>[A-Z_]+) -> (?P<new>[A-Z_]+)"
    r" \((?P<reason>.{0,2000})",
    re.ASCII | re.DOTALL,
)
_WRITE = re.compile(
    rf"W:{_P} CLIENT \[(?P<peer>[^\]]{{1,200}})\] state [A-Z+]+ -> [A-Z+]+ \[(?P<why>[\w ]+)\]", re.ASCII
)
#: Why a transport writes: what that says of the frame that follows.
_WRITES = {
    "TRANSPORT_FLOW_CONTROL": "transport-linked", "INITIAL_WRITE": "transport-opened", "KEEPALIVE_PING": "ping-due",
    "BDP_PING": "bdp-ping-due", "GOAWAY_SENT": "goaway-sent",
}  # fmt: skip
_COOLDOWN = re.compile(
    r"\[polling resolver 0x[0-9a-f]{1,16}\] (?:in cooldown from last resolution \(from -?\d+ ms ago\); will resolve again|retrying)"
    r" in (?P<ms>-?\d{1,12}) ms",
    re.ASCII,
)
_AGENT = re.compile(
    r"HTTP:\d{1,10}:HDR:CLI:user-agent: .{0,100}?grpc-(?!c/)[\w-]{1,20}/(?P<version>\d[\w.-]{0,30})", re.ASCII
)
_PATH = re.compile(r":path: (?P<method>[^\s,}]{1,300})")
_TIMEOUT = re.compile(r"grpc-timeout: (?P<value>\d{1,8})(?P<unit>[HMSmun])\b")
_UNITS = {"H": 3600 * SECOND, "M": 60 * SECOND, "S": SECOND, "m": 1_000_000, "u": 1000, "n": 1}

_STATUS = re.compile(r"grpc_status:(?P<code>\d{1,2})\b")
_MESSAGE = re.compile(r'grpc_message:"(?P<details>[^"]{0,1000})"')
_NAMED = re.compile(r"(?P<name>[A-Z_]{2,20})(?:$|:(?P<details>[^\n{]{0,1000}))")
_CAUSED = re.compile(r"(?:resolution failed|errors resolving|[Ff]ailed to (?:connect|pick))")


def continues(first: str, line: str) -> bool:
    """Whether a line without a prefix belongs to the record that `first` began."""
    return _CONTINUES.match(line) is not None and _HEAD.match(first) is not None


def recognise(body: str) -> Recognised | None:
    """One trace line as an event; a line of the prefix with other text is kind `trace`."""
    head = _HEAD.match(body)
    if head is None:
        return None
    found = _stamped(head)
    text = head["text"]
    read = _READERS.get(text[:4]) or (_cancelled if text.startswith("0x") else None)
    if read is not None:
        read(found, text)
    if found.kind in ("call-trailers", "call-end"):
        found.attrs["tid"] = head["tid"]
    return found


def _stamped(head: re.Match[str]) -> Recognised:
    if head["epoch"] is not None:
        ns = int(head["epoch"]) * SECOND + int(head["micro"]) * 1000
        return Recognised("grpc", "trace", ns, LACKS_NOTHING, CORE, version=EARLY)
    ns_or_none = stamp(f"{YEARLESS}-{head['month']}-{head['day']}T{head['clock']}", head["fraction"])
    version = GPR if len(head["fraction"]) == 9 else LATE
    return Recognised("grpc", "trace", ns_or_none, LACKS_YEAR, CORE, version=version)


def _client(found: Recognised, text: str) -> None:
    """`CLIENT[0x…]: …` of one transport; `CLIENT: Ping sent [peer]` before 1.60."""
    subject, colon, rest = text.partition("]: ")
    if subject.startswith("CLIENT[") and colon:
        if _CLIENT.fill(found, rest):
            found.tracer, found.number = "transport", subject[7:]
    elif text.startswith("CLIENT: Ping sent ["):
        found.kind, found.tracer, found.remote = "ping-frame-sent", "peer", peer(text[19:].partition("]")[0])


def _peer(found: Recognised, text: str) -> None:
    """`ipv4:10.20.0.5:50051: …`: only the peer is named, whichever transport it was."""
    name, _, rest = text.partition(": ")
    if not _PEER.fill(found, rest):
        return
    found.tracer, found.remote = "peer", peer(name)
    if "raw" in found.attrs:
        found.attrs["data"] = found.attrs.pop("raw")


def _write(found: Recognised, text: str) -> None:
    m = _WRITE.match(text)
    if m is not None and m["why"] in _WRITES:
        found.kind, found.tracer, found.number = _WRITES[m["why"]], "transport", m["number"]
        found.remote = peer(m["peer"])


def _cancelled(found: Recognised, text: str) -> None:
    """`0x… CANCEL PINGS: status`: part of every close, and before 1.8x the only line that says why."""
    name, mark, reason = text.partition(" CANCEL PINGS: ")
    if mark:
        found.kind, found.tracer, found.number = "transport-closing", "transport", name
        found.attrs["reason"] = reason[:2000]


def _transport(found: Recognised, text: str) -> None:
    """`transport 0x…: set connectivity_state=…`."""
    parts = text.split(" ", 2)
    if len(parts) == 3 and _TRANSPORT.fill(found, parts[2]):
        found.tracer, found.number = "transport", parts[1]
        if parts[2].startswith("got "):
            found.attrs["reason"] = parts[2][:80]


def _tracker(found: Recognised, text: str) -> None:
    m = _TRACKER.match(text)
    if m is None:
        return
    found.number = m["number"]
    if m["what"] == "channel":
        found.kind, found.tracer = "channel-state", "channel"
        found.attrs.update(old=m["old"], new=m["new"], reason=m["reason"].rstrip(")"))
        return
    found.tracer = "client_transport"  # the tracker's own address, never the transport's
    found.kind = "transport-closed" if m["new"] == "SHUTDOWN" else "transport-draining"
    found.attrs["reason"] = m["reason"].rstrip(")")


def _subchannel(found: Recognised, text: str) -> None:
    """`subchannel 0x… {address=ipv4:…, args={…}}: …`."""
    subject, brace, rest = text.partition("}}: ")
    name, _, described = subject.removeprefix("subchannel ").partition(" {address=")
    if not brace or not _SUBCHANNEL.fill(found, rest):
        return
    found.tracer, found.number = "subchannel", name
    found.remote = peer(described.partition(",")[0])
    if found.kind == "connected":
        found.attrs["options"] = options(described)


def _channel(found: Recognised, text: str) -> None:
    """`chand=0x…: …` and `chand=0x… calld=0x…: …`."""
    subject, _, rest = text.partition(": ")
    channel, calld, call = subject.removeprefix("chand=").partition(" calld=")
    if not calld:
        if _CHANNEL.fill(found, rest):
            found.tracer, found.number = "channel", channel
        return
    if _CALL.fill(found, rest):
        found.tracer, found.number = "call", call
        if found.kind == "call-metadata":
            _metadata(found, rest)


def _metadata(found: Recognised, text: str) -> None:
    if (m := _PATH.search(text)) is not None:
        found.attrs["method"] = m["method"]
    if (m := _TIMEOUT.search(text)) is not None:
        found.attrs["timeout_ns"] = int(m["value"]) * _UNITS[m["unit"]]


def _status(found: Recognised, text: str) -> None:
    """`set_final_status CLI …`; up to 1.5x the status is the next line of call.cc, and `UNKNOWN` is absl's wrapper."""
    text = text.removeprefix("set_final_status").strip()
    if not text.startswith("CLI ") and text != "CLI":
        return
    _final(found, text[4:])


def _final(found: Recognised, text: str) -> None:
    own = text.partition("children:[")[0]
    m = _STATUS.search(own) or _STATUS.search(text)
    named = _NAMED.match(text)
    if m is not None:
        code: str | None = m["code"]
    elif text.startswith("UNKNOWN:") and _CAUSED.search(text):
        code = STATUS_CODES["UNAVAILABLE"]
    else:
        code = STATUS_CODES.get(named["name"]) if named is not None else None
    if code is None:
        return
    found.kind, found.tracer = "call-end", "call"
    found.attrs["code"] = code
    message = _MESSAGE.search(own)
    details = message["details"] if message is not None else (named["details"] if named is not None else None)
    if details:
        found.attrs["details"] = details.strip()


def _excess(found: Recognised, text: str) -> None:
    """Before 1.60 the complaint about too many pings names nobody."""
    if text.startswith("Received a GOAWAY with error code ENHANCE_YOUR_CALM"):
        found.kind = "too-many-pings"


def _resolver(found: Recognised, text: str) -> None:
    if (m := _COOLDOWN.match(text)) is not None:
        found.kind, found.tracer = "resolve-delayed", "resolver"
        found.attrs["delay_ms"] = int(m["ms"])


def _agent(found: Recognised, text: str) -> None:
    if (m := _AGENT.match(text)) is not None:
        found.kind = "library"
        found.attrs["version"] = m["version"]


_READERS: dict[str, Callable[[Recognised, str], None]] = {
    "CLIE": _client,
    "ipv4": _peer,
    "ipv6": _peer,
    "unix": _peer,
    "W:0x": _write,
    "tran": _transport,
    "Conn": _tracker,
    "subc": _subchannel,
    "chan": _channel,
    "set_": _status,
    "OK": _final,
    "UNKN": _final,
    "[pol": _resolver,
    "HTTP": _agent,
    "Rece": _excess,
}
