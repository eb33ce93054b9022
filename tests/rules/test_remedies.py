"""What to change: the recognised library's setting, its price, and never half of a cure."""

from __future__ import annotations

import re

import pytest

from analyzer.model.grpc import DIALECTS, JS
from analyzer.rules import _remedies as remedies
from analyzer.rules import rules, run
from analyzer.rules._cases import Case
from analyzer.rules._remedies import Trouble, advice
from analyzer.rules.f201_fin_wait_2_stall import _OPEN

#: Half a cure → what must stand beside it.
TRAPS = [
    (r"turn keepalive pings off|no pings at all|omit grpc\.keepalive_time_ms|keepAliveTime unset", r"rested longer than 240 s"),
    (r"commandTimeout", r"socketTimeout"),
    (r"idleTimeout|pingInterval|client_idle_timeout_ms|WithIdleTimeout", r"timer|frozen"),
    (r"autoResendUnfulfilledCommands", r"applied twice"),
    (r"KEEPALIVE_TIME_MS and", r"too_many_pings|where the server permits"),
    (r"ClientParameters, Time", r"where the server permits"),
    (r"raising the server's", r"outlive 300 s"),
    (r"heartbeat=0", r"new connection .* by wall clock"),
]  # fmt: skip


def everything():
    """Every advice that can be given."""
    servers = ["10.0.0.9:6379", "10.0.0.9:3306", "10.0.0.9:5432", "10.0.0.9:27017", "10.0.0.9:50051", "10.0.0.9:443"]
    names = {name for rows in remedies._TABLE.values() for name in rows}
    yield from (advice(trouble, server, [name]) for trouble in Trouble for server in servers for name in sorted(names))
    yield from (advice(trouble, server, []) for trouble in Trouble for server in servers)
    yield from (remedies.timer(*key, "connect") for key in remedies._TIMERS)
    yield from (remedies.timer("", "", stage) for stage in ("pool", "connect", "established", "tls", ""))


@pytest.mark.parametrize(("half", "other"), TRAPS, ids=[half for half, _ in TRAPS])
def test_no_half_of_a_cure_stands_alone(half, other):
    told = [text for text in everything() if re.search(half, text)]
    assert told
    assert [text for text in told if not re.search(other, text)] == []


def test_every_trouble_has_a_word_where_no_library_is_known():
    assert all(advice(trouble, "10.0.0.9:443", []) for trouble in Trouble)


def test_dialects_are_known_by_the_names_that_traces_have():
    for trouble in (Trouble.STALE, Trouble.SILENT, Trouble.FROZEN_PING, Trouble.DEAD_PING, Trouble.MANY_PINGS):
        assert set(DIALECTS) <= set(remedies._TABLE[trouble])


RESET = _OPEN + "\n14.300 > 8\n14.301 < RST"
LOG = """
    00:00:00.000 START 1
    00:00:00.100 REPORT 1
    00:00:14.290 START 2
    00:00:14.302 app 2 {}
    00:00:14.400 REPORT 2
"""


@pytest.mark.parametrize(
    ("line", "there", "not_there"),
    [
        ("[ioredis] Unhandled error event: Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }", "ioredis: ", "redis-py"),
        ("SocketClosedUnexpectedlyError: Socket closed unexpectedly", "node-redis: ", "ioredis"),
        ("redis.exceptions.ConnectionError: Error while reading from 10.0.0.9:6379 : (104, 'Connection reset by peer')", "redis-py: ", "ioredis"),
        ("Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }", "redis-py: ", "cost: "),
    ],
)  # fmt: skip
def test_the_library_that_the_log_names_is_advised(line, there, not_there):
    (finding,) = [f for f in run(Case("", log=LOG.format(line), packets=RESET).story()) if f.rule == "R303"]
    assert there in finding.help and not_there not in finding.help


def test_a_library_of_another_service_is_not_advised():
    line = "Error: Connection terminated unexpectedly at Client (/app/node_modules/pg/lib/client.js:132:73)"
    (finding,) = [f for f in run(Case("", log=LOG.format(line), packets=RESET).story()) if f.rule == "R303"]
    assert "pg:" not in finding.help and "ioredis:" in finding.help


def test_a_transport_is_advised_in_its_own_language():
    k101 = next(r for r in rules() if r.CODE == "K101")
    (finding,) = [f for f in run(k101.FIRES[0].story()) if f.rule == "K101"]
    assert finding.help == advice(Trouble.FROZEN_PING, "10.0.0.9:443", [JS])
    assert "grpc.keepalive_permit_without_calls" in finding.help
