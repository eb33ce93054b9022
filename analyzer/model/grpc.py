"""What gRPC traces speak of: one vocabulary for all dialects.

A recogniser turns a line into an event of one of these kinds. Beside its kind an event carries `dialect`, `pid` and `version`
where the line prints them, `tracer` (whose number it is: grpc-js's own tracer name, otherwise `transport`, `subchannel`,
`channel`, `call` …), `number` (an id that means something only within one process and tracer) and `remote` (`ip:port`).
"""

from __future__ import annotations

import re

JS, CORE, GO, JAVA = "grpc-js", "c-core", "grpc-go", "grpc-java"
DIALECTS = (JS, CORE, GO, JAVA)
#: The version that C-core's oldest prefix tells of: up to then a client reads its sockets only while a call runs
#: (seen in 1.48.2 and 1.60.2; from 1.65 on an event engine does).
CORE_POLLED = "≤1.64"

#: Kind → what happened, and its attributes (those in brackets are not in every dialect or version).
KINDS: dict[str, str] = {
    # names and subchannels
    "resolve-start": "name resolution begins: [host], [target]",
    "resolved": "addresses came back: [target], [addresses]",
    "resolve-failed": "name resolution failed: error, [target]",
    "resolve-delayed": "a resolution waits for its rate limit or back-off; no error: [delay_ms], [until]",
    "connect-start": "a connection attempt begins",
    "tcp-connected": "the TCP handshake is done",
    "connected": "the transport is usable: the peer's SETTINGS came",
    "connect-failed": "a connection attempt failed: error, [backoff_ms]",
    "backoff": "the next attempt waits: backoff_ms",
    "backoff-elapsed": "the wait is over",
    "channel-state": "connectivity of a channel: new, [old], [error], [target]",
    "subchannel-state": "connectivity of a subchannel: new, [old], [error], [backoff_ms]",
    "channel-options": "options of a channel or subchannel: options",
    "library": "the library names itself: version",
    # a transport's life
    "transport-opened": "a transport begins to write",
    "transport-linked": "a line that ties ids of one transport together",
    "settings-acked": "the peer acknowledged our SETTINGS",
    "transport-draining": "no new calls on this transport (GOAWAY): reason",
    "goaway-received": "the peer said GOAWAY: [code] (a decimal), [data]",
    "goaway-sent": "we said GOAWAY: [code], [data]",
    "too-many-pings": "the library says that the server threw it out for its pings: [target], [new_interval_ms]",
    "keepalive-throttled": "the library lengthens its ping interval: new_interval_ms",
    "socket-error": "the connection failed: error",
    "transport-closing": "the library gives the transport up: reason",
    "transport-closed": "the transport ended, for whatever cause: [reason], [had_error]",
    # pings; at most one keepalive ping of a transport is outstanding
    "keepalive-armed": "the keepalive timer was set: interval_ms",
    "ping-due": "a keepalive ping will be the next frame written",
    "bdp-ping-due": "a BDP ping will be the next frame written",
    "ping-sent": "a keepalive ping was sent: [timeout_ms]",
    "ping-acked": "its answer was read (not every version's line proves one: timeline.grpc.ack_is_real)",
    "ping-timeout": "its timeout fired",
    "ping-error": "it failed: error",
    "ping-timer": "the timeout of a ping frame was set: timeout_ms, payload",
    "ping-frame-sent": "a PING frame was written, whatever for: [payload]",
    "ping-frame-acked": "a PING frame's answer was read: [payload]",
    "bdp-ping-sent": "a bandwidth-delay-product ping was sent; says nothing of keepalive",
    "bdp-ping-acked": "its answer was read",
    "ping-received": "the peer's ping",
    "ping-answered": "we answered the peer's ping",
    # calls
    "call-start": "an RPC begins: [method], [deadline_ns]",
    "call-link": "an inner layer's number of the same RPC: child",
    "call-metadata": "the request's metadata: [method], [timeout_ns]",
    "call-pick": "the load balancer chose: result, with `remote`",
    "call-sent": "request data was handed to the transport",
    "call-headers": "response headers came",
    "call-trailers": "trailers came; the status line that follows on this thread is this call's",
    "call-cancelled": "the client gives up: code, details",
    "call-end": "the status: code (a decimal), [details]",
    "stream-error": "the HTTP/2 stream failed: error, [errno]",
    "stream-closed": "the HTTP/2 stream ended: code of RST_STREAM",
    "trace": "a line of the trace that says none of these",
}

#: Kinds that happen all the time and mean no harm: a timeline folds them.
ROUTINE = frozenset((
    "trace", "channel-options", "channel-state", "library", "resolve-start", "resolved", "resolve-delayed", "backoff", "backoff-elapsed",
    "transport-opened", "transport-linked", "ping-due", "bdp-ping-due", "ping-timer", "bdp-ping-sent", "bdp-ping-acked", "ping-received",
    "ping-answered", "call-link", "call-metadata", "call-pick", "call-sent", "call-headers", "call-trailers",
))  # fmt: skip

#: gRPC status codes (grpc/grpc doc/statuscodes.md) in order.
STATUS_NAMES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
STATUS_CODES = {name: str(code) for code, name in enumerate(STATUS_NAMES)}

#: HTTP/2 error codes (RFC 9113 §7) in order.
HTTP2_ERRORS = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip
HTTP2_CODES = {name: str(code) for code, name in enumerate(HTTP2_ERRORS)}


def status_name(code: int | None) -> str:
    """`UNAVAILABLE` of 14; the number itself where it has no name."""
    if code is None:
        return "unknown"
    return STATUS_NAMES[code] if 0 <= code < len(STATUS_NAMES) else str(code)


#: What stands before the message of a line, by dialect: its stamp, its place in the source, the logger.
_PREFIXES = {
    JS: re.compile(r"[^|\n]{0,120}\| (?:v\S+ \d{1,12} \| )?[a-z_0-9]{2,40} \| "),
    CORE: re.compile(r"[DIWEF]\d{4} [\d:. ]{8,40} [\w.+-]{1,80}:\d{1,6}\] *"),
    GO: re.compile(
        r"(?:(?:INFO|WARNING|ERROR|FATAL): )?(?:\d{4}/\d\d/\d\d [\d:.]{8,15} )?(?:(?:INFO|WARNING|ERROR|FATAL): )?(?:\[[a-z-]{2,20}\] )?"
    ),
    JAVA: re.compile(
        r"(?:[A-Z][a-z]{2} \d{1,2}, \d{4},? [\d:]{7,8}.[AP]M [^\n]{1,300}\n)?(?:[^\n\[]{0,60}\[io\.[\w.$]{1,120}\] )?(?:[A-Z]{4,7}: )?"
        r"(?:\[(?:id: 0x|Subchannel<)[^\]\n]{0,300}\] )?"
    ),
}


def message(text: str, dialect: str | None) -> str:
    """A trace line without its prefix, for people; as it is where the dialect is unknown."""
    prefix = _PREFIXES.get(dialect or "")
    found = prefix.match(text) if prefix is not None else None
    return text[found.end() :] if found is not None and found.end() < len(text) else text
