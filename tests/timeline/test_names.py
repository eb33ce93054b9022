"""Names of servers from hellos, answers and notes."""

from __future__ import annotations

from analyzer.capture.reader import CaptureData
from analyzer.model.clocks import Clock
from analyzer.model.records import Source
from analyzer.timeline.names import Names
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
