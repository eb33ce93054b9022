"""K101, K102 and K103 in dialects other than grpc-js, inside a Lambda export: C-core and Go print no request id."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

import analyzer
from analyzer.model.times import SECOND, iso
from analyzer.rules import k101_keepalive_timeout_after_freeze as k101

T0 = 1_795_219_200 * SECOND
STREAM = "2026/11/21/[$LATEST]3f1c0de3f1c0de3f1c0de3f1c0de3f1c"
IDS = {k: f"6f0d000{k}-0000-4000-8000-000000000001" for k in (1, 2)}
A = "10.0.0.9:443"


def core(at, text, gpr=False):
    stamp = iso(T0 + round(at * SECOND))
    fraction = stamp[20:29] if gpr else stamp[20:26]
    return f"I{stamp[5:7]}{stamp[8:10]} {stamp[11:19]}.{fraction}   18 x.cc:1] {text}"


def go(at, text):
    stamp = iso(T0 + round(at * SECOND))
    return f"{stamp[:10].replace('-', '/')} {stamp[11:19]} INFO: {text}"


def java(at, text):
    return f"Nov 21, 2026 12:00:{int(at):02d} AM io.grpc.ChannelLogger log\nFINEST: {text}"


def platform(message):
    """`START 1` and `REPORT 1` as the platform prints them."""
    if message.startswith("START"):
        return f"START RequestId: {IDS[int(message[6:])]} Version: $LATEST\n"
    if message.startswith("REPORT"):
        return f"REPORT RequestId: {IDS[int(message[7:])]}\tDuration: 4.00 ms\tBilled Duration: 5 ms\t\n"
    return message


def findings(tmp_path, *lines):
    """Findings of an export; lines are (seconds, message), START and REPORT by number."""
    events = [
        {"logStreamName": STREAM, "timestamp": (T0 + round(at * SECOND)) // 1_000_000, "message": platform(message)}
        for at, message in lines
    ]
    path = tmp_path / "export.json"
    path.write_text(json.dumps({"events": events, "searchedLogStreams": []}))
    return analyzer.read(path).findings


def around(before, after):
    """Two invocations with a freeze of five seconds between them."""
    return [(0, "START 1"), *before, (1.2, "REPORT 1"), (6.2, "START 2"), *after, (6.4, "REPORT 2")]


P = "0x7f01"
LATE_TIMEOUT = around(
    [
        (0.1, core(0.1, f"W:{P} CLIENT [ipv4:{A}] state WRITING -> WRITING+MORE [INITIAL_WRITE]")),
        (1.1, core(1.1, f"W:{P} CLIENT [ipv4:{A}] state IDLE -> WRITING [KEEPALIVE_PING]")),
        (1.1, core(1.1, f"CLIENT[{P}]: Ping 7130 sent [ipv4:{A}]: max_pings_without_data: 0")),
        (1.1, core(1.1, f"CLIENT[{P}]: Set ping timeout timer of 1000ms for ping id 7130")),
    ],
    [
        (6.21, core(6.21, f"CLIENT[{P}]: received ping ack 7130")),
        (6.21, core(6.2101, f"ipv4:{A}: Ping timeout. Closing transport.")),
    ],
)


def test_core_after_a_freeze(tmp_path):
    (finding,) = findings(tmp_path, *LATE_TIMEOUT)
    assert (finding.rule, finding.confidence.word) == ("K101", "certain")
    assert "the connection was healthy" in finding.why
    assert any("the timer fired all the same" in e.note for e in finding.evidence)


def test_core_on_time(tmp_path):
    lines = [
        (0, "START 1"), *LATE_TIMEOUT[1:5], (2.1, core(2.1, f"ipv4:{A}: Ping timeout. Closing transport.")), (3, "REPORT 1"),
    ]  # fmt: skip
    (finding,) = findings(tmp_path, *lines)
    assert (finding.rule, finding.confidence.word) == ("K102", "likely")
    assert "the peer did not answer" in finding.title


@pytest.mark.parametrize("calling", [True, False])
def test_old_core_reads_only_while_a_call_runs(tmp_path, calling):
    call = [(0.5, core(0.5, "chand=0x1 calld=0xa: created call", gpr=True))] if calling else []
    lines = [
        (0, "START 1"),
        (0.1, core(0.1, f"W:{P} CLIENT [ipv4:{A}] state WRITING -> WRITING+MORE [INITIAL_WRITE]", gpr=True)),
        *call,
        (1.1, core(1.1, f"ipv4:{A}: Start keepalive ping", gpr=True)),
        (2.1, core(2.1, f"ipv4:{A}: Keepalive watchdog fired. Closing transport.", gpr=True)),
        (3, "REPORT 1"),
    ]
    (finding,) = findings(tmp_path, *lines)
    assert finding.rule == "K102"
    assert ("nobody was reading" in finding.title) is not calling


GO_END = '[transport] [client-transport 0xc1] Closing: connection error: desc = "keepalive ping failed to receive ACK within timeout"'
READY = "[core] [Channel #1 SubChannel #2]Subchannel Connectivity change to READY"


def test_go_logs_no_pings_and_nothing_is_claimed_of_them(tmp_path):
    (finding,) = findings(tmp_path, *around([(0.1, go(0.1, READY))], [(6.21, go(6.21, GO_END))]))
    assert (finding.rule, finding.confidence.word) == ("K102", "possible")
    assert "right after a thaw" in finding.title and "frozen (K101)" in finding.why


def test_go_with_its_frames_after_a_freeze(tmp_path):
    zero = r'ping="\x00\x00\x00\x00\x00\x00\x00\x00"'
    frame = "http2: Framer 0xc2: "
    before = [
        (0.1, go(0.1, "x").split(" INFO")[0] + f" {frame}wrote SETTINGS len=0"),
        (0.2, go(0.2, READY)),
        (1.1, go(1.1, "x").split(" INFO")[0] + f" {frame}wrote PING len=8 {zero}"),
    ]
    (finding,) = findings(tmp_path, *around(before, [(6.21, go(6.21, GO_END))]))
    assert (finding.rule, finding.confidence.word) == ("K101", "certain")


def test_java_after_a_freeze(tmp_path):
    frame = "[id: 0xc8bd004e, L:/10.0.0.1:5000 - R:svc/10.0.0.9:443] "
    end = f"[Subchannel<3>: (svc:443)] NettyClientTransport<4>: (svc/{A}) SHUTDOWN with UNAVAILABLE(Keepalive failed. The connection is likely gone)"
    before = [
        (0.1, java(0.1, f"[Subchannel<3>: (svc:443)] Started transport NettyClientTransport<4>: (svc/{A})")),
        (0.2, java(0.2, frame + "OUTBOUND SETTINGS: ack=false settings={}")),
        (1.1, java(1.1, frame + "OUTBOUND PING: ack=false bytes=1111")),
    ]
    (finding,) = findings(tmp_path, *around(before, [(6.21, java(6.21, end))]))
    assert (finding.rule, finding.confidence.word) == ("K101", "certain")


def test_too_many_pings_of_core_counts_its_frames(tmp_path):
    lines = [(0, "START 1"), (0.1, core(0.1, f"W:{P} CLIENT [ipv4:{A}] state WRITING -> WRITING+MORE [INITIAL_WRITE]"))]
    for k in (1, 2, 3):
        lines.append((k, core(k, f"W:{P} CLIENT [ipv4:{A}] state IDLE -> WRITING [KEEPALIVE_PING]")))
        lines.append((k, core(k, f"CLIENT[{P}]: Ping {k} sent [ipv4:{A}]: max")))
        lines.append((k + 0.1, core(k + 0.1, f"CLIENT[{P}]: received ping ack {k}")))
    goaway = f"ipv4:{A}: Got goaway [11] err=UNAVAILABLE:GOAWAY received; Error code: 11; Debug Text: too_many_pings {{http2_error:11}}"
    (finding,) = findings(tmp_path, *lines, (3.2, core(3.2, goaway)), (4, "REPORT 1"))
    assert (finding.rule, finding.title) == ("K103", "the server closed the connection: pings every 1 s were too many")


def test_a_timer_that_no_line_names_is_not_given_a_length():
    """grpc-go's trace has no timeout: what passed until it fired is no setting."""
    story = k101.FIRES[0].story()
    ping = replace(next(p for p in story.pings if p.timed_out is not None), timeout_ms=None)
    (freeze,) = story.freezes
    assert k101._title(ping, freeze) == "keepalive timeout fired after a freeze"
    assert k101._why(ping, freeze, None).startswith(
        "the timer (20 s by default; what was configured is not in the trace) expired"
    )
