"""What `analyze grpc-log` shows of a trace, at every width."""

from __future__ import annotations

import pytest

import analyzer
from analyzer.report.style import Style
from analyzer.report.text import report
from tests.conftest import shared_folder

A = "10.0.0.9:443"
TRACE = f"""\
D 2026-11-21T00:00:00.000Z | v1.14.7 18 | dns_resolver | Resolved addresses for target dns:svc.example:443: [{A}]
D 2026-11-21T00:00:00.010Z | v1.14.7 18 | connectivity_state | (1) dns:svc.example:443 IDLE -> CONNECTING
D 2026-11-21T00:00:00.020Z | v1.14.7 18 | subchannel | (1) {A} CONNECTING -> TRANSIENT_FAILURE with error "connect ECONNREFUSED {A}"
D 2026-11-21T00:00:01.000Z | v1.14.7 18 | keepalive | (1) {A} Starting keepalive timer for 1000ms
D 2026-11-21T00:00:01.001Z | v1.14.7 18 | subchannel | (1) {A} CONNECTING -> READY
D 2026-11-21T00:00:01.002Z | v1.14.7 18 | connectivity_state | (1) dns:svc.example:443 CONNECTING -> READY
D 2026-11-21T00:00:01.100Z | v1.14.7 18 | channel | (1) dns:svc.example:443 createResolvingCall [0] method="/t.S/Echo", deadline=Infinity
D 2026-11-21T00:00:01.200Z | v1.14.7 18 | resolving_call | [0] ended with status: code=14 details="\x1b[31mred\u202e text"
D 2026-11-21T00:00:02.000Z | v1.14.7 18 | keepalive | (1) {A} Sending ping with timeout 1000ms
D 2026-11-21T00:00:02.004Z | v1.14.7 18 | keepalive | (1) {A} Received ping response
D 2026-11-21T00:00:03.000Z | v1.14.7 18 | keepalive | (1) {A} Sending ping with timeout 1000ms
D 2026-11-21T00:00:06.500Z | v1.14.7 18 | keepalive | (1) {A} Ping timeout passed without response
D 2026-11-21T00:00:06.501Z | v1.14.7 18 | keepalive | (1) {A} Received ping response
D 2026-11-21T00:00:06.502Z | v1.14.7 18 | transport | (1) {A} connection closed by GOAWAY with code 11 and data too_many_pings
"""


def shown(path, width):
    trace = analyzer.read(path)
    return report(trace.story, trace.findings, Style(width), view="grpc")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_trace_is_told_whole(tmp_path, width):
    path = tmp_path / "trace.log"
    path.write_text(TRACE)
    text = shown(path, width)
    assert all(len(line) <= width for line in text.splitlines())
    flat = " ".join(text.split())
    for words in (
        "gRPC: grpc-js 1.14.7 · pid 18",
        "names resolved once",
        "channels (1) dns:svc.example:443: IDLE → CONNECTING → READY",
        f"(1) {A}: connected once; failed once: connect ECONNREFUSED {A}",
        f"(1) {A}: lived 5.5 s, ended by keepalive-timeout",
        "pings every 1 s: 2 sent, 1 acked within 4 ms, 1 timed out",
        "timed out 3.5 s after it was sent (timeout 1 s, overshoot 2.5 s); its answer was read right then",
        'GOAWAY received: ENHANCE_YOUR_CALM "too_many_pings" at 00:00:06.502',
        "calls 1: 1 UNAVAILABLE",
    ):
        assert words in flat, words
    assert "\x1b" not in text and "\u202e" not in text


def test_a_trace_without_connections_is_one_too(tmp_path):
    path = tmp_path / "trace.log"
    path.write_text(TRACE.splitlines()[0] + "\n")
    text = shown(path, 80)
    assert "resolved once" in text and "no gRPC trace" not in text


@pytest.mark.skipif(shared_folder() is None, reason="needs the conformance data")
@pytest.mark.parametrize(
    "name", ["grpc-go/1.64.0/b", "grpc-java/1.41.3/c", "grpcio/1.48.2/h", "grpcio/1.85.1/j", "grpc-js/1.8.22/m"]
)
def test_every_dialect_fits_its_width(name):
    path = shared_folder() / "samples" / "grpc" / f"{name}.log"
    for width in (60, 80, 120):
        assert max(map(len, shown(path, width).splitlines())) <= width
