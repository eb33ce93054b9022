"""C-core, grpc-go and grpc-java lines, by version; hostile variants of lines of every dialect."""

from __future__ import annotations

import io
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.logs.reader import pick, read_log, to_event
from analyzer.logs.recognisers import continues, grpc_core, grpc_go, grpc_java, grpc_js, recognise
from analyzer.logs.records import LACKS_NOTHING, LACKS_YEAR, LACKS_ZONE, LogRecord
from analyzer.logs.stamps import completed
from analyzer.model.grpc import CORE, GO, JAVA, KINDS, message
from analyzer.model.times import parse_iso

GPR = "I1121 00:04:39.209647410   16888 chttp2_transport.cc:2827]   "
EARLY = "I0000 00:00:1795219913.084178   28176 writing.cc:139] "
LATE = "I1121 00:07:49.131313    1219 writing.cc:144] "
SUB = "subchannel 0x7f67b0006a50 {address=ipv4:10.20.0.5:50051, args={grpc.keepalive_time_ms=1000, grpc.x={y=1}}}: "
PTR = "0x7fd23c006f70"

CORE_LINES = [
    (GPR + "ipv4:10.20.0.5:50051: Start keepalive ping", "ping-sent", "peer", None, "10.20.0.5:50051", {}),
    (GPR + "ipv6:%5B2001:db8::1%5D:443: Finish keepalive ping", "ping-acked", "peer", None, "[2001:db8::1]:443", {}),
    (GPR + "ipv4:10.20.0.5:50051: Keepalive watchdog fired. Closing transport.", "ping-timeout", "peer", None, "10.20.0.5:50051", {}),
    (GPR + "ipv4:10.20.0.5:50051: Keepalive ping cancelled. Resetting timer.", "trace", None, None, None, {}),
    (GPR + "CLIENT: Ping sent [ipv4:10.20.0.5:50051]: 0/0", "ping-frame-sent", "peer", None, "10.20.0.5:50051", {}),
    (GPR + "ipv4:10.20.0.5:50051: Start BDP ping err=OK", "bdp-ping-sent", "peer", None, "10.20.0.5:50051", {}),
    (GPR + "UNKNOWN {grpc_status:0, grpc_message:\"\"}", "call-end", "call", None, None, {"code": "0", "tid": "16888"}),
    (
        GPR + 'UNKNOWN:Error received from peer ipv4:10.20.0.5:50051 {created_time:"x", grpc_status:14, grpc_message:"keepalive watchdog timeout"}',
        "call-end", "call", None, None, {"code": "14", "details": "keepalive watchdog timeout", "tid": "16888"},
    ),
    (GPR + "set_final_status CLI", "trace", None, None, None, {}),
    (LATE + "set_final_status CLI UNAVAILABLE:Stream removed (ping timeout)", "call-end", "call", None, None, {"code": "14", "details": "Stream removed (ping timeout)", "tid": "1219"}),
    (LATE + "set_final_status CLI OK", "call-end", "call", None, None, {"code": "0", "tid": "1219"}),
    (EARLY + f"CLIENT[{PTR}]: Ping 7130 sent [ipv4:10.20.0.5:50051]: max_pings_without_data: 0", "ping-frame-sent", "transport", PTR, "10.20.0.5:50051", {"payload": "7130"}),
    (LATE + f"CLIENT[{PTR}]: Ping 2bd0eabe86f803db sent [ipv4:10.20.0.5:50051]: max_pings", "ping-frame-sent", "transport", PTR, "10.20.0.5:50051", {"payload": "2bd0eabe86f803db"}),
    (LATE + f"CLIENT[{PTR}]: Set ping timeout timer of 1000ms for ping id 7130", "ping-timer", "transport", PTR, None, {"timeout_ms": 1000, "payload": "7130"}),
    (LATE + f"CLIENT[{PTR}]: received ping ack 7130", "ping-frame-acked", "transport", PTR, None, {"payload": "7130"}),
    (LATE + f"CLIENT[{PTR}]: received ping 7130", "ping-received", "transport", PTR, None, {"payload": "7130"}),
    (LATE + "ipv4:10.20.0.5:50051: Ping timeout. Closing transport.", "ping-timeout", "peer", None, "10.20.0.5:50051", {}),
    (
        LATE + "ipv4:10.20.0.5:50051: Got goaway [11] err=UNAVAILABLE:GOAWAY received; Error code: 11; Debug Text: too_many_pings {http2_error:11}",
        "goaway-received", "peer", None, "10.20.0.5:50051", {"code": "11", "data": "too_many_pings"},
    ),
    (
        GPR + 'ipv4:10.20.0.5:50051: Got goaway [2] err=UNKNOWN:GOAWAY received {created_time:"x", http2_error:2, raw_bytes:"connection idle"}',
        "goaway-received", "peer", None, "10.20.0.5:50051", {"code": "2"},
    ),
    (LATE + f"W:{PTR} CLIENT [ipv4:10.20.0.5:50051] state IDLE -> WRITING [KEEPALIVE_PING]", "ping-due", "transport", PTR, "10.20.0.5:50051", {}),
    (LATE + f"W:{PTR} CLIENT [ipv4:10.20.0.5:50051] state IDLE -> WRITING [BDP_PING]", "bdp-ping-due", "transport", PTR, "10.20.0.5:50051", {}),
    (GPR + f"transport {PTR} set connectivity_state=4", "transport-closed", "transport", PTR, None, {}),
    (LATE + f"transport {PTR} set connectivity_state=4; status=OK; reason=close_transport", "transport-closed", "transport", PTR, None, {"reason": "close_transport"}),
    (LATE + f"ConnectivityStateTracker client_transport[{PTR}]: READY -> SHUTDOWN (close_transport, OK)", "transport-closed", "client_transport", PTR, None, {"reason": "close_transport, OK"}),
    (LATE + f"ConnectivityStateTracker client_channel[{PTR}]: IDLE -> CONNECTING (started resolving, OK)", "channel-state", "channel", PTR, None, {"old": "IDLE", "new": "CONNECTING", "reason": "started resolving, OK"}),
    (GPR + SUB + "new connected subchannel at 0x7f67c0007650", "connected", "subchannel", "0x7f67b0006a50", "10.20.0.5:50051", {"options": {"grpc.keepalive_time_ms": 1000}}),
    (
        LATE + SUB + "connect failed (UNKNOWN:Failed to connect to remote host: Connection refused), backing off for 905 ms",
        "connect-failed", "subchannel", "0x7f67b0006a50", "10.20.0.5:50051",
        {"error": "UNKNOWN:Failed to connect to remote host: Connection refused", "backoff_ms": 905},
    ),
    (LATE + "chand=0x55: starting name resolution for dns:///svc:50051", "resolve-start", "channel", "0x55", None, {"target": "dns:///svc:50051"}),
    (LATE + "chand=0x55 calld=0x66: created call", "call-start", "call", "0x66", None, {}),
    (
        LATE + "(EventEngine c-ares resolver) resolver:0x7 OnHostbynameDoneLocked: address lookup failed for svc:50051: DNS server returned answer with no data",
        "trace", None, None, None, {},
    ),
    (LATE + "[polling resolver 0x7] in cooldown from last resolution (from 2000 ms ago); will resolve again in 28000 ms", "resolve-delayed", "resolver", None, None, {"delay_ms": 28000}),
    (GPR + "HTTP:0:HDR:CLI:user-agent: grpc-python/1.48.2 grpc-c/26.0.0 (linux; chttp2)", "library", None, None, None, {"version": "1.48.2"}),
]  # fmt: skip

DIAL = (
    'connection error: desc = "transport: Error while dialing: dial tcp 10.20.0.5:50051: connect: connection refused"'
)
GO_LINES = [
    ("INFO: 2026/11/21 00:04:20 [core] Subchannel Connectivity change to READY", "subchannel-state", "subchannel", None, None, {"new": "READY"}),
    ("2026/11/21 00:05:37 INFO: [core] [Channel #1 SubChannel #2]Subchannel Connectivity change to READY", "subchannel-state", "subchannel", "2", None, {"new": "READY"}),
    ('{"message":"[core] [Channel #1]Channel Connectivity change to IDLE\\n","severity":"INFO"}', "channel-state", "channel", "1", None, {"new": "IDLE"}),
    ('2026/11/21 00:05:37 INFO: [core] [Channel #1 SubChannel #2]Subchannel picks a new address "10.20.0.5:50051" to connect', "connect-start", "subchannel", "2", "10.20.0.5:50051", {}),
    (
        f'WARNING: [core] [Channel #1 SubChannel #2]grpc: addrConn.createTransport failed to connect to {{Addr: "10.20.0.5:50051", ServerName: "svc", }}. Err: {DIAL}',
        "connect-failed", "subchannel", "2", "10.20.0.5:50051", {"error": DIAL},
    ),
    (
        '2026/11/21 00:05:41 INFO: [transport] [client-transport 0xc0000dd200] Closing: connection error: desc = "keepalive ping failed to receive ACK within timeout"',
        "ping-timeout", "transport", "0xc0000dd200", None, {"reason": "keepalive ping failed to receive ACK within timeout"},
    ),
    (
        '2026/11/21 00:05:41 INFO: [transport] [client-transport 0xc0000dd200] Closing: connection error: desc = "error reading from server: read tcp 10.20.0.5:60444->10.20.0.6:50051: read: connection reset by peer"',
        "socket-error", "transport", "0xc0000dd200", None,
        {"error": "error reading from server: read tcp 10.20.0.5:60444->10.20.0.6:50051: read: connection reset by peer", "local": "10.20.0.5:60444"},
    ),
    (
        'ERROR: [transport] Client received GoAway with error code ENHANCE_YOUR_CALM and debug data equal to ASCII "too_many_pings".',
        "goaway-received", "transport", None, None, {"code": "11", "data": "too_many_pings"},
    ),
    ("INFO: 2026/11/21 00:04:20 [transport] Client received GoAway with http2.ErrCodeEnhanceYourCalm.", "goaway-received", "transport", None, None, {"code": "11"}),
    (r'2026/11/21 00:06:50 http2: Framer 0xc000196000: wrote PING len=8 ping="\x00\x00\x00\x00\x00\x00\x00\x00"', "ping-sent", "framer", "0xc000196000", None, {}),
    (r'2026/11/21 00:06:50 http2: Framer 0xc000196000: read PING flags=ACK len=8 ping="\x00\x00\x00\x00\x00\x00\x00\x00"', "ping-acked", "framer", "0xc000196000", None, {}),
    (r'http2: Framer 0xc000196000: wrote PING len=8 ping="\x02\x04\x10\x10\t\x0e\a\a"', "bdp-ping-sent", "framer", "0xc000196000", None, {}),
    (r'http2: Framer 0xc000196000: read PING len=8 ping="[W\r<1e\xa4\""', "ping-received", "framer", "0xc000196000", None, {}),
    ('http2: Framer 0xc0: read GOAWAY len=22 LastStreamID=3 ErrCode=ENHANCE_YOUR_CALM Debug="too_many_pings"', "goaway-received", "framer", "0xc0", None, {"code": "11", "data": "too_many_pings"}),
    ("http2: Framer 0xc0: wrote HEADERS flags=END_HEADERS stream=1 len=88", "call-start", "call", "0xc0/1", None, {}),
    ('http2: decoded hpack field header field "grpc-status" = "14"', "call-end", "call", None, None, {"code": "14"}),
]  # fmt: skip

HEADER = "Nov 21, 2026 12:04:14 AM io.netty.handler.codec.http2.Http2FrameLogger logPing\nFINE: "
CHANNEL = "Nov 21, 2026 12:04:14\u202fPM io.grpc.ChannelLogger log\nFINEST: "
FRAME = "[id: 0xc8bd004e, L:/10.20.0.5:32934 - R:svc.example.test/10.20.0.6:50051] "
ONE = "2026-11-21T00:08:36.653+0000 FINE    [io.grpc.netty.NettyClientHandler] "
LOCAL = {"local": "10.20.0.5:32934"}
NETTY = ("netty", "0xc8bd004e", "10.20.0.6:50051")
JAVA_LINES = [
    (HEADER + FRAME + "OUTBOUND PING: ack=false bytes=1111", "ping-sent", *NETTY, LOCAL),
    (ONE + FRAME + "INBOUND PING: ack=true bytes=1111 ", "ping-acked", *NETTY, LOCAL),
    ("00:07:11.123 [main] DEBUG io.grpc.netty.shaded.io.grpc.netty.NettyClientHandler - " + FRAME + "OUTBOUND PING: ack=false bytes=1234", "bdp-ping-sent", *NETTY, LOCAL),
    (HEADER + FRAME + "INBOUND PING: ack=false bytes=-77", "ping-received", *NETTY, LOCAL),
    (HEADER + FRAME + "OUTBOUND PING: ack=true bytes=-77", "ping-answered", *NETTY, LOCAL),
    (HEADER + FRAME + "INBOUND GO_AWAY: lastStreamId=3 errorCode=11 length=14 bytes=746f6f5f6d616e795f70696e6773", "goaway-received", *NETTY, LOCAL | {"code": "11", "data": "too_many_pings"}),
    (HEADER + FRAME.replace(" - R", " ! R") + "OUTBOUND RST_STREAM: streamId=5 errorCode=8", "stream-closed", "call", "0xc8bd004e/5", "10.20.0.6:50051", LOCAL | {"code": "8", "inbound": False}),
    (
        HEADER + FRAME + "OUTBOUND HEADERS: streamId=3 headers=GrpcHttp2OutboundHeaders[:authority: svc:50051, :path: /t.S/Echo, :method: POST] padding=0 endStream=false",
        "call-start", "call", "0xc8bd004e/3", "10.20.0.6:50051", LOCAL | {"method": "/t.S/Echo"},
    ),
    (
        HEADER + FRAME + "INBOUND HEADERS: streamId=3 headers=GrpcHttp2ResponseHeaders[grpc-status: 14, grpc-message: Too many pings] padding=0 endStream=true",
        "call-end", "call", "0xc8bd004e/3", "10.20.0.6:50051", LOCAL | {"code": "14", "details": "Too many pings"},
    ),
    (CHANNEL + "[Subchannel<3>: (svc:50051)] READY", "subchannel-state", "subchannel", "3", None, {"new": "READY"}),
    (CHANNEL + "[Subchannel<3>: (svc:50051)] Started transport NettyClientTransport<4>: (svc/10.20.0.6:50051)", "transport-linked", "transport", "4", "10.20.0.6:50051", {"subchannel": "3"}),
    (
        CHANNEL + "[Subchannel<3>: (svc:50051)] NettyClientTransport<4>: (svc/10.20.0.6:50051) SHUTDOWN with UNAVAILABLE(Keepalive failed. The connection is likely gone)",
        "ping-timeout", "transport", "4", "10.20.0.6:50051", {"subchannel": "3", "reason": "UNAVAILABLE(Keepalive failed. The connection is likely gone)"},
    ),
    (
        CHANNEL + "[Subchannel<3>: (svc:50051)] TRANSIENT_FAILURE (UNAVAILABLE(io exception)). Will reconnect after 707,278,730 ns",
        "connect-failed", "subchannel", "3", None, {"error": "UNAVAILABLE(io exception)", "backoff_ms": 707, "new": "TRANSIENT_FAILURE"},
    ),
    (CHANNEL + "[Channel<1>: (dns:///svc:50051)] Entering READY state with picker: Picker{x}", "channel-state", "channel", "1", None, {"new": "READY", "target": "dns:///svc:50051"}),
    ("WARNING: Received GOAWAY with ENHANCE_YOUR_CALM. Debug data: too_many_pings", None, None, None, None, {}),
    ("Nov 21, 2026 12:04:14 AM io.grpc.netty.NettyClientHandler$2 onGoAwayReceived\nWARNING: Received GOAWAY with ENHANCE_YOUR_CALM. Debug data: too_many_pings", "too-many-pings", "transport", None, None, {"data": "too_many_pings"}),
]  # fmt: skip


def check(line, kind, tracer, number, remote, attrs, dialect):
    found = recognise(line)
    if kind is None:
        assert found is None or found.layer != "grpc"
        return
    assert (found.layer, found.dialect, found.kind) == ("grpc", dialect, kind)
    assert (found.tracer, found.number, found.remote) == (tracer, number, remote)
    shown = {k: v for k, v in found.attrs.items() if k in attrs or k != "raw"}
    assert attrs.items() <= shown.items()


@pytest.mark.parametrize(("line", "kind", "tracer", "number", "remote", "attrs"), CORE_LINES)
def test_core(line, kind, tracer, number, remote, attrs):
    check(line, kind, tracer, number, remote, attrs, CORE)


@pytest.mark.parametrize(("line", "kind", "tracer", "number", "remote", "attrs"), GO_LINES)
def test_go(line, kind, tracer, number, remote, attrs):
    check(line, kind, tracer, number, remote, attrs, GO)


@pytest.mark.parametrize(("line", "kind", "tracer", "number", "remote", "attrs"), JAVA_LINES)
def test_java(line, kind, tracer, number, remote, attrs):
    check(line, kind, tracer, number, remote, attrs, JAVA)


@pytest.mark.parametrize(
    "line",
    [
        "io.grpc.StatusRuntimeException: UNAVAILABLE: io exception",
        "Exception in thread main io.grpc.StatusRuntimeException: DEADLINE_EXCEEDED: deadline exceeded after 4.9s",
        "http2: client connection lost",
        "[core] dumped",
        'rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing"',
        "see chttp2_transport.cc:2827 for the reason",
    ],
)
def test_what_applications_say_is_no_trace(line):
    found = recognise(line)
    assert found is None or found.layer == "app"


# ---- stamps


def ns(text):
    return parse_iso(text)


@pytest.mark.parametrize(
    ("line", "lacks", "stamp"),
    [
        (GPR + "x", LACKS_YEAR, "2000-11-21T00:04:39.209647410Z"),
        (LATE + "x", LACKS_YEAR, "2000-11-21T00:07:49.131313Z"),
        (EARLY + "x", LACKS_NOTHING, "2026-11-21T00:11:53.084178Z"),
        (GO_LINES[0][0], LACKS_ZONE, "2026-11-21T00:04:20Z"),
        (GO_LINES[1][0], LACKS_ZONE, "2026-11-21T00:05:37Z"),
        (HEADER + "x", LACKS_ZONE, "2026-11-21T00:04:14Z"),
        (CHANNEL + "x", LACKS_ZONE, "2026-11-21T12:04:14Z"),
        (ONE + "x", LACKS_NOTHING, "2026-11-21T00:08:36.653Z"),
    ],
)
def test_stamps_say_what_they_lack(line, lacks, stamp):
    found = recognise(line)
    assert (found.lacks, found.inner_ns) == (lacks, ns(stamp))


@pytest.mark.parametrize(
    ("stamp", "near", "result"),
    [
        ("2000-11-21T00:04:39.2Z", "2026-11-21T00:04:39.3Z", "2026-11-21T00:04:39.2Z"),
        ("2000-12-31T23:59:59.9Z", "2027-01-01T00:00:00.1Z", "2026-12-31T23:59:59.9Z"),
        ("2000-01-01T05:30:00Z", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"),
        ("2000-02-29T12:00:00Z", "2028-02-29T12:00:01Z", "2028-02-29T12:00:00Z"),
        ("2000-06-01T14:00:00Z", "2026-06-01T12:00:00.5Z", "2026-06-01T12:00:00Z"),
    ],
)
def test_the_envelope_tells_year_and_zone(stamp, near, result):
    assert completed(ns(stamp), LACKS_YEAR, ns(near)) == ns(result)


def test_whole_seconds_yield_to_the_milliseconds_of_an_export():
    near = ns("2026-11-21T00:04:20.734Z")
    for line in (GO_LINES[0][0], GO_LINES[1][0], HEADER + FRAME + "OUTBOUND PING: ack=false bytes=1111"):
        assert to_event(LogRecord(":1", line, near), "s1", 1).source_ns == near
        assert to_event(LogRecord(":1", line, ns("2026-11-21T00:04:20Z")), "s1", 1).inner_ns % 1_000_000_000 == 0
    assert to_event(LogRecord(":1", GPR + "x", near + 1), "s1", 1).inner_ns == ns("2026-11-21T00:04:39.209647410Z")


# ---- records over several lines


def events(text):
    data = text.encode()
    return read_log(io.BytesIO(data), "s1", pick(data)).events


def test_a_header_and_its_message_are_one_record():
    lines = [text for text, *_ in JAVA_LINES if text.startswith("Nov 21")]
    found = events("\n".join(lines) + "\njava.net.SocketException: Connection reset\n\tat x.y(Z.java:1)\n")
    assert [e.kind for e in found] == [recognise(text).kind for text in lines]
    assert found[-1].text.endswith("at x.y(Z.java:1)")


def test_a_status_with_its_source_location_is_one_record():
    status = (
        LATE
        + "[PF 0x7] x status=UNKNOWN: refused\n=== Source Location Trace: === \nsrc/core/util/status_helper.cc:185\n\n, watcher=0x7\n"
    )
    found = events(status + LATE + "ipv4:10.20.0.5:50051: Finish keepalive ping\n")
    assert [e.kind for e in found] == ["trace", "ping-acked"]


def test_only_what_belongs_to_a_record_continues_it():
    assert continues(GPR + "x", "UNKNOWN:rest")
    assert not continues(GPR + "x", GPR + "y")
    assert not continues("hello", "UNKNOWN:rest")
    assert not continues(HEADER.split("\n", maxsplit=1)[0], HEADER.split("\n", maxsplit=1)[0])
    assert not continues("INFO: 2026/11/21 00:04:20 [core] x", "INFO: 2026/11/21 00:04:20 [core] y")


# ---- text for people, hostile text


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (GPR + "ipv4:1.2.3.4:5: Start keepalive ping", "ipv4:1.2.3.4:5: Start keepalive ping"),
        (EARLY + "CLIENT[0x7]: Ping", "CLIENT[0x7]: Ping"),
        (GO_LINES[0][0], "Subchannel Connectivity change to READY"),
        (JAVA_LINES[0][0], "OUTBOUND PING: ack=false bytes=1111"),
        (ONE + FRAME + "INBOUND PING: ack=true bytes=1111", "INBOUND PING: ack=true bytes=1111"),
    ],
)
def test_people_see_the_message(line, text):
    assert message(line, recognise(line).dialect) == text


SEEDS = [line for line, *_ in CORE_LINES + GO_LINES + JAVA_LINES] + [
    "D 2026-11-21T00:00:23.277Z | v1.14.7 19371 | keepalive | (1) 10.20.0.5:50051 Sending ping with timeout 1000ms",
    'D 2026-11-21T00:00:23.277Z | resolving_call | [0] ended with status: code=4 details="Deadline exceeded"',
    '2026-11-21T00:03:30.542Z | channel | dns:svc:1 createCall [0] method="/t.S/Echo", deadline=Infinity',
    "D 2026-11-21T00:00:23.277Z | connectivity_state | (1) dns:svc:1 IDLE -> READY",
    "D 2026-11-21T00:00:23.277Z | transport | [object Object] connection failed with error connect ECONNREFUSED 1.2.3.4:5",
]


@st.composite
def mutations(draw):
    """A line of some dialect with pieces cut out, doubled or replaced."""
    line = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        a, b = sorted((draw(st.integers(0, len(line))), draw(st.integers(0, len(line)))))
        piece = draw(
            st.sampled_from(["", line[a:b] * 2, "\x00", "9" * 30, "²", '"', "]", "{", "0x", " ", "\n"])
            | st.text(max_size=5)
        )
        line = line[:a] + piece + line[b:]
    return line


@given(mutations())
@settings(max_examples=400)
def test_any_mutated_line_is_read_or_refused(line):
    for recogniser in (grpc_js, grpc_core, grpc_go, grpc_java):
        found = recogniser.recognise(line)
        if found is not None:
            assert found.kind in KINDS and found.layer == "grpc"
            message(line, found.dialect)
    continues(line, line)


def test_cost_is_linear_in_hostile_lines():
    """Each line's pieces repeated a hundred times more cost at most a few hundred times more."""

    def cost(text):
        best = 9.0
        for _ in range(3):
            began = time.perf_counter()
            for recogniser in (grpc_js, grpc_core, grpc_go, grpc_java):
                recogniser.recognise(text)
            best = min(best, time.perf_counter() - began)
        return best

    for seed in SEEDS:
        half = len(seed) // 2
        for text in (lambda n, s=seed, h=half: s[:h] + s[h:] * n, lambda n, s=seed: s + " " + s[-20:] * n):
            assert cost(text(2000)) < 400 * max(cost(text(20)), 2e-5)
