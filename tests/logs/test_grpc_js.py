"""grpc-js trace lines, by version."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.logs.recognisers import recognise
from analyzer.timeline.grpc import ack_is_real

HEAD = "D 2026-11-21T00:00:23.277Z | v1.14.7 19371 | "
OLD = "D 2026-11-21T00:02:52.179Z | "


@pytest.mark.parametrize(
    ("line", "kind", "attrs"),
    [
        (HEAD + "keepalive | (1) 10.20.0.5:50051 Starting keepalive timer for 1000ms", "keepalive-armed", {"interval_ms": 1000}),
        (HEAD + "keepalive | (1) 10.20.0.5:50051 Sending ping with timeout 1000ms", "ping-sent", {"timeout_ms": 1000}),
        (OLD + "keepalive | (2) 10.20.0.5:50051 Sending ping", "ping-sent", {}),
        (HEAD + "keepalive | (1) [2600:1f00::1]:443 Received ping response", "ping-acked", {}),
        (HEAD + "keepalive | (1) 10.20.0.5:50051 Ping timeout passed without response", "ping-timeout", {}),
        (HEAD + "keepalive | (1) 10.20.0.5:50051 Ping failed with error HTTP2 ping cancelled", "ping-error", {"error": "HTTP2 ping cancelled"}),
        (HEAD + "transport | (1) 10.20.0.5:50051 connection closed by GOAWAY with code 11 and data too_many_pings", "goaway-received", {"code": "11", "data": "too_many_pings"}),
        (OLD + "transport | (3) 10.20.0.5:50051 connection closed by GOAWAY with code 11", "goaway-received", {"code": "11"}),
        (HEAD + "transport | (1) 10.20.0.5:50051 connection closed with error read ECONNRESET", "socket-error", {"error": "read ECONNRESET"}),
        (HEAD + "transport | dns:svc:50051 10.20.0.5:50051 Established TCP connection", "tcp-connected", {}),
        (HEAD + "subchannel | (1) 10.20.0.5:50051 CONNECTING -> READY", "subchannel-state", {"old": "CONNECTING", "new": "READY"}),
        (HEAD + 'resolving_call | [0] ended with status: code=4 details="Deadline exceeded after 5.218s"', "call-end", {"code": "4", "details": "Deadline exceeded after 5.218s"}),
        (HEAD + "channel | (1) dns:x:1 callRefTimer.unref | configSelectionQueue.length=0 pickQueue.length=0", "trace", {}),
        ("E Connection to dns:svc:50051 at 10.20.0.5:50051 rejected by server because of excess pings. Increasing ping interval to 2000 ms", "too-many-pings", {"target": "dns:svc:50051", "new_interval_ms": 2000}),
    ],
)  # fmt: skip
def test_lines(line, kind, attrs):
    found = recognise(line)
    assert (found.layer, found.kind, found.attrs) == ("grpc", kind, attrs)


def test_prefixes_are_optional():
    assert recognise("2026-11-21T00:02:52.179Z | keepalive | (2) 10.20.0.5:50051 Sending ping").version is None
    assert recognise(HEAD + "keepalive | (1) 10.20.0.5:50051 Sending ping with timeout 1ms").pid == "19371"


def test_a_server_line_has_no_address():
    found = recognise(HEAD + "keepalive | (1) Sending ping with timeout 1000ms")
    assert found.remote is None


@pytest.mark.parametrize(
    ("version", "cancelled", "real"),
    [
        ("1.14.7", True, True), ("1.10.10", True, True), ("1.10.9", True, False), ("1.10.9", False, True),
        ("1.9.2", False, True), ("1.9.1", False, False), (None, False, False),
    ],
)  # fmt: skip
def test_which_late_ack_is_real(version, cancelled, real):
    assert ack_is_real(version, cancelled) is real


@given(st.text(max_size=400))
def test_hostile_text_never_raises(text):
    recognise(text)
    recognise(HEAD + "keepalive | " + text)
    recognise(HEAD + "resolving_call | [1] " + text)
