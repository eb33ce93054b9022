"""What people posted in public threads for want of a tool: a stack trace after a rest, no capture. The rule that it must lead to."""

from __future__ import annotations

import pytest

from analyzer.rules import run
from analyzer.rules._cases import Case

#: (project and issue, first line of what was posted, time of the second invocation's START, when its error came, rule, words of the title).
AFTER_A_REST = [
    ("grpc-node#2285", "Error: 14 UNAVAILABLE: read ECONNRESET", "00:06:02", 0.01, "R303", "6 min 02 s frozen"),
    ("grpc-node#692", "Error: 14 UNAVAILABLE: TCP Read failed", "00:05:01", 0.01, "F203", "had been ended"),
    ("python-firestore#12", "google.api_core.exceptions.ServiceUnavailable: 503 Socket closed", "00:05:01", 0.01, "F203", "the server had ended"),
    ("grpc-go#2443", "rpc error: code = Unavailable desc = transport is closing", "00:06:40", 0.01, "F203", "the server had ended"),
    ("grpc-java#7851", "io.grpc.StatusRuntimeException: UNAVAILABLE: Network closed for unknown reason", "00:06:40", 0.01, "F203", "the server had ended"),
    ("grpc-go: keepalive in a frozen process", "rpc error: code = Unavailable desc = keepalive ping failed to receive ACK within timeout", "00:06:40", 0.03, "K101", "keepalive timeout"),
    ("grpc-go: the peer is gone", "rpc error: code = Unavailable desc = keepalive ping failed to receive ACK within timeout", "00:06:40", 25, "K102", "was not answered in time"),
    ("golang/go: health check of HTTP/2", "Get \"https://api.example.test/\": http2: client connection lost", "00:06:40", 0.03, "K101", "keepalive timeout"),
    ("grpc#33661", "Error: 14 UNAVAILABLE: Connection closed by server: ENHANCE_YOUR_CALM too_many_pings", "00:01:00", 0.01, "K103", "too many pings"),
    ("ioredis#542", "[ioredis] Unhandled error event: Error: read ETIMEDOUT at TCP.onStreamRead (node:internal/stream_base_commons:217:20) { errno: -110, code: 'ETIMEDOUT', syscall: 'read' }", "00:20:00", 0.01, "R302", "the kernel's time-out"),
    ("ioredis#1358", "[ioredis] Unhandled error event: Error: connect ETIMEDOUT at Socket.<anonymous> (/var/task/node_modules/ioredis/built/redis/index.js:310:37) { errorno: 'ETIMEDOUT', code: 'ETIMEDOUT', syscall: 'connect' }", "00:20:00", 10, "R304", "ioredis's connectTimeout"),
    ("StackExchange.Redis#1269", "StackExchange.Redis.RedisConnectionException: SocketClosed (WriteSocketError/ConnectionReset) on redis.example.test:6380/Interactive, last-read: 420s ago", "00:07:00", 0.01, "R303", "reset on first use"),
    ("node-redis#3185", "Redis Client Error SocketClosedUnexpectedlyError: Socket closed unexpectedly", "00:01:00", 0.5, "F203", "the server had ended"),
    ("redis-py#1186", "redis.exceptions.ConnectionError: Error while reading from 10.0.0.9:6379 : (104, 'Connection reset by peer')", "02:00:00", 0.01, "R303", "2 h 00 min"),
    ("redis-py#722", "redis.exceptions.TimeoutError: [Errno 110] Connection timed out", "00:35:00", 925, "R302", "15 min 25 s"),
    ("node-mysql2#939", "Error: connect ETIMEDOUT at PoolConnection._handleTimeoutError (/var/task/node_modules/mysql2/lib/connection.js:189:13) { errorno: 'ETIMEDOUT', code: 'ETIMEDOUT', syscall: 'connect', fatal: true }", "00:10:00", 10, "R304", "mysql2's connectTimeout"),
    ("node-mysql2#2883", "Error: Connection lost: The server closed the connection. code: 'PROTOCOL_CONNECTION_LOST'", "00:10:12", 0.01, "F203", "10 min 12 s"),
    ("mysql#2091", "Error: Quit inactivity timeout at Quit.<anonymous> (/var/task/node_modules/mysql/lib/protocol/Protocol.js:160:17) { code: 'PROTOCOL_SEQUENCE_TIMEOUT', fatal: true, timeout: 30000 }", "00:05:12", 0.003, "T601", "right after"),
    ("node-postgres#2112", "Error: Connection terminated unexpectedly", "00:10:12", 0.01, "F203", "the server had ended"),
    ("node-postgres#2718", "Error: Connection terminated due to connection timeout", "00:10:12", 0.103, "T601", "right after"),
    ("prisma-client-js#791", "TypeError: fetch failed cause: SocketError: other side closed { code: 'UND_ERR_SOCKET' }", "00:01:01", 0.01, "F203", "the server had ended"),
    ("mongoose#9179", "MongoNetworkTimeoutError: connection 3 to 10.0.0.9:27017 timed out", "00:10:01", 30, "R304", "mongodb's socketTimeoutMS"),
    ("stripe-node#1040", "Error: write EPIPE { errno: -32, code: 'EPIPE', syscall: 'write' }", "00:01:03", 0.01, "F203", "the server had ended"),
    ("aws-sdk-js#3107", "Error: socket hang up { code: 'ECONNRESET' }", "00:01:03", 0.01, "F203", "the server had ended"),
    ("aws-lambda-web-adapter#830: no freeze is long enough", 'ERROR lambda_web_adapter: hyper_util::client::legacy::Error(SendRequest, hyper::Error(Io, Os { code: 104, kind: ConnectionReset, message: "Connection reset by peer" }))', "00:00:03", 0.69, "N901", "not the freeze"),
    ("firebase-functions#1529", "Error: 4 DEADLINE_EXCEEDED: Deadline exceeded after 99.990s,LB pick: 0.001s,remote_addr=142.250.1.1:443", "00:01:40", 0.002, "T601", "right after"),
    ("redis: clients of every invocation", "ReplyError: ERR max number of clients reached", "00:00:40", 0.01, "L501", "connection limit"),
    ("a client in every invocation", "Error: connect EMFILE 10.0.0.9:443 - Local (undefined:undefined) { errno: -24, code: 'EMFILE', syscall: 'connect' }", "00:00:40", 0.01, "L501", "no file descriptor left"),
]  # fmt: skip


def _at(start: str, seconds: float) -> str:
    hours, minutes, rest = start.split(":")
    total = int(hours) * 3600 + int(minutes) * 60 + int(rest) + seconds
    return f"{int(total // 3600):02}:{int(total // 60 % 60):02}:{total % 60:06.3f}"


@pytest.mark.parametrize(
    ("thread", "line", "start", "after", "rule", "words"), AFTER_A_REST, ids=[row[0] for row in AFTER_A_REST]
)
def test_a_stack_trace_after_a_rest(thread, line, start, after, rule, words):
    log = f"""
        00:00:00.000 START 1
        00:00:00.080 REPORT 1
        {start}.000 START 2
        {_at(start, after)} app 2 {line}
        {_at(start, after + 0.05)} REPORT 2
    """
    found = {f.rule: f for f in run(Case(thread, log=log).story())}
    assert rule in found, found
    assert words in found[rule].title
    assert found[rule].request_ids or rule == "T601"


def test_calls_that_fail_until_the_kernel_gives_up():
    """client-sdk-javascript#113: calls that miss a deadline of 50 s, one after the other, and no trace."""
    call = (
        "app {} Error: 4 DEADLINE_EXCEEDED: Deadline exceeded after 50.001s,LB pick: 0.001s,remote_addr=54.203.0.7:443"
    )
    log = f"""
        00:00:00.000 START 1
        00:00:00.080 REPORT 1
        00:10:02.100 START 2
        00:10:52.110 {call.format(2)}
        00:10:52.200 REPORT 2
        00:10:53.100 START 3
        00:11:43.110 {call.format(3)}
        00:11:43.200 REPORT 3
    """
    (finding,) = run(Case("", log=log).story())
    assert (finding.rule, finding.confidence.word, len(finding.request_ids)) == ("R302", "possible", 2)
    assert "10 min 02 s" in finding.why and "answers too slowly" in finding.why


def test_a_query_that_fails_after_the_end():
    """prisma#24718: P1001, seven seconds after the invocation had ended."""
    log = """
        00:00:00.000 START 1
        00:00:00.080 REPORT 1
        00:00:07.080 app 1 PrismaClientInitializationError: Can't reach database server at `db.example`:`5432` { errorCode: 'P1001' }
        00:01:00.000 START 2
        00:01:00.080 REPORT 2
    """
    (finding,) = run(Case("", log=log).story())
    assert (finding.rule, finding.confidence.word) == ("T602", "possible")
    assert "7 s before" in finding.why


@pytest.mark.parametrize(("quiet", "rules"), [(5.005, ["F204"]), (6.1, ["F204"]), (5.7, []), (60.2, ["F204"])])
def test_a_reset_within_an_invocation(quiet, rules):
    """undici#583: resets at the server's keepAliveTimeout, with no freeze in sight."""
    log = f"""
        00:00:00.000 START 1
        00:00:00.080 app 1 info ok
        {_at("00:00:00", 0.080 + quiet)} app 1 Error: read ECONNRESET {{ errno: -104, code: 'ECONNRESET', syscall: 'read' }}
        00:02:00.000 REPORT 1
    """
    found = run(Case("", log=log).story())
    assert [f.rule for f in found] == rules
    assert all(f.confidence.word == "possible" for f in found)


def test_bisected_sleeps():
    """grpc#8538: calls after 300 s idle work, calls after 400 s fail, found by trying; no trace."""
    log, at = "", 0
    for number, rest in enumerate((0, 300, 400, 290, 400, 300), 1):
        at += rest
        failed = (
            f"{_at('00:00:00', at + 0.03)} app {number} rpc error: code = Unavailable desc = transport is closing\n"
        )
        log += f"{_at('00:00:00', at)} START {number}\n{failed if rest == 400 else ''}{_at('00:00:00', at + 0.08)} REPORT {number}\n"
    found = {f.rule: f for f in run(Case("", log=log).story())}
    assert set(found) == {"F203", "R305"}
    assert "between 5 min 00 s and 6 min 40 s" in found["R305"].title
    assert found["R305"].confidence.word == "possible" and "Upstash" in found["R305"].why
