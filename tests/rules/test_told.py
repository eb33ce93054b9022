"""Deaths that only the log tells of: what is said without a packet, what a capture adds, and when packets speak instead."""

from __future__ import annotations

import pytest

import analyzer
from analyzer.model.findings import Confidence
from analyzer.rules import run
from analyzer.rules._cases import Case
from analyzer.rules.f201_fin_wait_2_stall import _OPEN
from tests.helpers import CAPTURES

LOG = """
    00:00:00.000 START 1
    00:00:00.100 REPORT 1
    00:00:14.290 START 2
    00:00:14.302 app {}
    00:00:14.400 REPORT 2
"""
RESET = "Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }"


def told(log, packets="", server_packets=""):
    return [
        (f.rule, f.confidence, f.connection)
        for f in run(Case("", log=log, packets=packets, server_packets=server_packets).story())
    ]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (RESET, "R303"),
        ("Error: 14 UNAVAILABLE: read ECONNRESET", "R303"),
        ("redis.exceptions.ConnectionError: Error while reading from 10.0.0.9:6379 : (104, 'Connection reset by peer')", "R303"),
        ("write tcp 10.0.3.17:40312->10.0.0.9:6379: write: broken pipe", "F203"),
        ("Error: write EPIPE { errno: -32, code: 'EPIPE', syscall: 'write' }", "F203"),
        ("Error: This socket has been ended by the other party { code: 'EPIPE' }", "F203"),
        ("TypeError: fetch failed [cause]: SocketError: other side closed { code: 'UND_ERR_SOCKET' }", "F203"),
        ("Error: socket hang up { code: 'ECONNRESET' }", "F203"),
        ("SocketClosedUnexpectedlyError: Socket closed unexpectedly", "F203"),
        ("Error: Connection terminated unexpectedly", "F203"),
        ("Error: Connection lost: The server closed the connection. { code: 'PROTOCOL_CONNECTION_LOST' }", "F203"),
        ("error: terminating connection due to idle-session timeout { code: '57P05' }", "F203"),
        ("Error: 14 UNAVAILABLE: Connection dropped", "F203"),
        ("Error: read ETIMEDOUT { errno: -110, code: 'ETIMEDOUT', syscall: 'read' }", "R302"),
        ("TimeoutError: [Errno 110] Connection timed out while reading from 10.0.0.9:6379", "R302"),
        ("Error: connect ETIMEDOUT 10.0.0.9:6379 { errno: -110, code: 'ETIMEDOUT', syscall: 'connect' }", "C401"),
        ("dial tcp 10.0.0.9:6379: connect: connection timed out", "C401"),
        ("Error: connect EHOSTUNREACH 10.0.0.9:6379 { errno: -113, code: 'EHOSTUNREACH', syscall: 'connect' }", "C403"),
        ("Error: connect ENETUNREACH 10.0.0.9:6379 - Local (0.0.0.0:0) { errno: -101, code: 'ENETUNREACH', syscall: 'connect' }", "C403"),
        ("Error: connect ECONNREFUSED 10.0.0.9:6379 { errno: -111, code: 'ECONNREFUSED', syscall: 'connect' }", "C403"),
        ("Error: getaddrinfo ENOTFOUND cache.internal { code: 'ENOTFOUND', syscall: 'getaddrinfo' }", "C404"),
        ("Error: Client network socket disconnected before secure TLS connection was established { code: 'ECONNRESET' }", "C405"),
        ("Error: connect ETIMEDOUT { errorno: 'ETIMEDOUT', code: 'ETIMEDOUT', syscall: 'connect' }", "R304"),
        ("Error: Command timed out", "R304"),
        ("Error: Socket timeout. Expecting data, but didn't receive any in 5000ms.", "R304"),
        ("ERR max number of clients reached", "L501"),
    ],
)  # fmt: skip
def test_each_error_has_its_verdict_from_the_log_alone(line, rule):
    assert rule in [r for r, _, _ in told(LOG.format(f"2 {line}"))]
    assert "N901" not in [r for r, _, _ in told(LOG.format(f"2 {line}"))]


def test_packets_speak_where_there_are_some():
    """The capture shows the reset: one finding, of the connection."""
    assert told(LOG.format(f"2 {RESET}"), packets=_OPEN + "\n14.300 > 8\n14.301 < RST") == [
        ("R303", Confidence.LIKELY, "C1")
    ]


LIBPQ = "psycopg.OperationalError: consuming input failed: server closed the connection unexpectedly"


BROKEN = "PHP Fatal error:  Uncaught RedisException: read error on connection to 10.0.0.9:6379 in /var/task/index.php:6"


@pytest.mark.parametrize("line", [RESET, LIBPQ, BROKEN])
def test_a_capture_that_saw_nothing_is_evidence(line):
    """The server's capture ran on; the function's reset did not come from there, nor an end that libpq speaks of. (An earlier reset aligns the clocks.)"""
    other = "\n0.020 > SYN port=50000\n0.021 < SYN-ACK port=50000\n0.022 > ACK port=50000\n0.023 > 40 port=50000\n0.060 < RST port=50000"
    log = LOG.replace("00:00:00.100", f"00:00:00.061 app 1 {RESET}\n    00:00:00.100").replace("{}", f"2 {line}")
    found = [f for f in told(log, packets=_OPEN.replace("0.050 > ACK", "0.0125 > ACK") + other) if f[2] == "C1"]
    assert found == [("R303", Confidence.LIKELY, "C1")]


def test_without_a_capture_a_short_rest_is_possible_only():
    assert told(LOG.format(f"2 {RESET}")) == [("R303", Confidence.POSSIBLE, None)]


def test_what_recurs_after_each_rest_is_likely():
    log = (
        LOG.format(f"2 {RESET}")
        + f"    00:00:40.000 START 3\n    00:00:40.010 app 3 {RESET}\n    00:00:40.100 REPORT 3\n"
    )
    assert {c for _, c, _ in told(log)} == {Confidence.LIKELY}
    before = LOG.format(f"2 {RESET}").replace(
        "00:00:00.100 REPORT 1", f"00:00:00.050 app 1 {RESET}\n    00:00:00.100 REPORT 1"
    )
    assert {c for r, c, _ in told(before) if r == "R303"} == {Confidence.POSSIBLE}


def test_a_fresh_connection_that_was_reset_is_no_idle_one():
    packets = (
        _OPEN
        + "\n14.295 > SYN port=50000\n14.296 < SYN-ACK port=50000\n14.297 > ACK port=50000\n14.298 > 40 port=50000\n14.300 < RST port=50000"
    )
    assert "R303" not in [r for r, _, _ in told(LOG.format(f"2 {RESET}"), packets=packets)]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("case", "files", "rules"),
    [
        ("1b_upstash_zombie_rst", ("lambda.json",), ["R303"]),
        ("1c_upstash_zombie_silent", ("lambda.json",), ["R302"]),
        ("3_nat_idle_reset", ("lambda.json",), ["R303", "R303"]),
        ("3_nat_idle_reset", ("lambda.json", "srv.pcap"), ["R303", "R303"]),
        ("mechanisms", ("drg5.grpc.log",), ["R302"]),
        ("mechanisms", ("drg6.grpc.log",), []),
        ("4_healthy", ("lambda.json",), []),
        ("8_clean_half_close", ("lambda.json",), []),
    ],
)  # fmt: skip
def test_real_logs(shared, case, files, rules):
    folder = shared / "cases" / case
    trace = analyzer.read(*(folder / name for name in files))
    assert [f.rule for f in trace.findings if f.severity.word != "info"] == rules


def test_a_connection_that_fails_at_once_is_no_time_out():
    """phpredis says the same of an end, a reset and its own read timer: which of them, only time tells."""
    late = LOG.replace("00:00:14.302", "00:00:17.302").replace("00:00:14.400", "00:00:17.400")
    assert told(LOG.format(f"2 {BROKEN}")) == [("F203", Confidence.POSSIBLE, None)]
    assert told(late.format(f"2 {BROKEN}")) == []


@pytest.mark.parametrize(
    ("words", "title"),
    [
        ("SocketError: other side closed { code: 'UND_ERR_SOCKET' }", "reset or ended on first use"),
        ("ConnectionClosedError: Connection was closed before we received a valid response", "reset or ended on first use"),
        ("Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }", "reset on first use"),
    ],
)  # fmt: skip
def test_an_end_that_the_servers_capture_does_not_show_is_not_the_servers(tmp_path, words, title):
    log = (CAPTURES / "nat-reset" / "lambda.json").read_text()
    said = "OperationalError: consuming input failed: server closed the connection unexpectedly"
    assert said in log
    (tmp_path / "lambda.json").write_text(log.replace(said, words))
    found = analyzer.read(tmp_path / "lambda.json", CAPTURES / "nat-reset" / "server.pcap").findings
    first = next(f for f in found if f.severity.word == "error")  # the capture ends before the second
    assert first.rule == "R303"
    assert first.title.startswith(title) and "not from the server: server.pcap saw nothing" in first.title


def test_a_drop_that_packets_and_a_trace_show_is_one():
    """Without platform lines too, where only each call's end says when it was."""
    call = "Error: 4 DEADLINE_EXCEEDED: Deadline exceeded after 1.101s,LB pick: 0.001s,remote_addr=10.0.0.9:6379"
    log = f"""
    00:00:00.010 grpc 1 transport | dns:10.0.0.9:6379 10.0.0.9:6379 Established TCP connection
    00:00:00.012 grpc 1 subchannel | (1) 10.0.0.9:6379 CONNECTING -> READY
    00:00:00.018 grpc 1 transport | (1) 10.0.0.9:6379 local settings acknowledged by remote: {{}}
    00:00:00.020 grpc 1 resolving_call | [0] ended with status: code=0 details="OK"
    00:06:17.210 app 2 {call}
    00:06:20.110 app 3 {call}
    """
    opened = "0.008 > SYN\n0.009 < SYN-ACK\n0.010 > ACK\n0.011 > 60\n0.0175 < 40\n0.0180 > ACK\n376.12 > 60 lost\n"
    copies = "\n".join(f"{376.12 + late:.3f} > 60 again lost" for late in (0.2, 0.6, 1.4, 3.0, 6.2))
    drops = [f for f in run(Case("", log, opened + copies).story()) if f.rule == "R302"]
    assert [(len(f.request_ids), f.connection) for f in drops] == [(2, "C1")]
    assert [len(f.request_ids) for f in run(Case("", log).story()) if f.rule == "R302"] == [2]


def test_a_kernels_time_out_on_a_connection_of_this_invocation_that_the_server_reset():
    """It rested within the invocation: no packet of it stands before the invocation, and the reset that did not arrive is shown."""
    log, packets = [], []
    for n, at in enumerate((0, 7, 15, 26, 33, 45, 52)):
        log += [f"00:00:{at:02}.{ms} {what} {n + 1}" for ms, what in (("000", "START"), ("060", "REPORT"))]
        what = "> SYN", "< SYN-ACK", "> ACK", "> 40", "< 60", "> FIN", "< FIN", "> ACK"
        packets += [f"{at}.01{ms} {each} port={4000 + n}" for ms, each in enumerate(what)]
    log += ["00:01:10.000 START 8", "00:01:14.030 app 8 Error: read ETIMEDOUT", "00:01:14.050 REPORT 8"]
    opened = ("10", "> SYN"), ("11", "< SYN-ACK"), ("12", "> ACK"), ("13", "> 40"), ("14", "< 60"), ("54", "> ACK")
    packets += [f"70.0{ms} {each} port=5000" for ms, each in opened] + ["74.000 < RST port=5000"]
    story = Case("", "\n".join(log), "\n".join(packets)).story()
    (found,) = run(story)
    assert (found.rule, found.connection) == ("R302", "C8")
    assert [e.note for e in found.evidence][2:] == ["the server reset it", "syscall read"]
