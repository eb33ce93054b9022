"""Names of servers from hellos, answers and notes."""

from __future__ import annotations

from analyzer.capture.asides import DnsQuery
from analyzer.capture.reader import CaptureData
from analyzer.model.clocks import Clock
from analyzer.model.records import Source
from analyzer.model.times import SECOND
from analyzer.rules._cases import Case
from analyzer.timeline.names import Names, lookups
from analyzer.timeline.points import Point
from tests.payload.test_dns import HERE, V4, record, response
from tests.payload.test_tls import WHOLE


def test_names() -> None:
    data = CaptureData(texts={7: WHOLE}, owners={7: 3}, names={"10.0.0.9": "cache"})
    data.dns = [
        (1, 100, response("old.example", record(HERE, 1, V4))),
        (2, 900, response("new.example", record(HERE, 1, V4))),
    ]
    names = Names([Point(Source("s1", "a.pcap", "pcap", "pcap", 0, clocks=[Clock("packet")]), data)])
    assert names.of([(0, 3)], "10.0.0.9", 500) == ["redis.example.com", "old.example", "cache"]
    assert names.of([(0, 4)], "10.0.0.9", 1_000) == ["new.example", "cache"]
    assert names.of([(0, 4)], "10.0.0.9", 50) == ["cache"]
    assert names.of([(0, 4)], "10.0.0.8", 500) == []


def test_a_question_has_its_own_answers() -> None:
    case = Case(
        "",
        packets="""
        0.0 > DNS 7 cache.internal
        5.0 > DNS 7 cache.internal
        5.1 < DNS 7 other.internal 0
        5.2 < DNS 8 cache.internal 0
        6.0 > DNS 8 cache.internal
        6.1 < DNS 8 cache.internal 2
        6.2 < DNS 8 cache.internal 0
        60.0 > DNS 8 cache.internal
        60.1 < DNS 8 cache.internal 3
        """,
    )
    points = case.story().connections.points
    found = [(x.no, x.copies, x.code, x.answer and x.answer.code) for x in lookups(points)]
    assert found == [(1, 2, None, None), (5, 1, 0, None), (8, 1, 3, "NXDOMAIN")]


def test_a_resolver_that_answers_nobody_is_asked_in_linear_time() -> None:
    """One id and one name, again and again: neither the queries nor the answers are compared with one another."""
    data, message = CaptureData(last_ns=10**15), response("a.b", flags=0x8182)
    data.queries = [
        DnsQuery(n, n * 40 * SECOND, "10.0.3.17:1", "10.0.0.2:53", message[:2] + b"\1\0" + message[4:])
        for n in range(9_000)
    ]
    data.dns = [(n, n * 40 * SECOND + 1, message) for n in range(9_000)]
    point = Point(Source("s1", "a.pcap", "pcap", "pcap", 0, clocks=[Clock("packet")]), data)
    assert [x.code for x in lookups([point])] == [2] * 9_000
