"""Captures too large to keep: a sample of their connections ties them to logs and to each other as well as all of them."""

from __future__ import annotations

import numpy as np
import pytest

import analyzer
from analyzer.capture import again, reader
from analyzer.tcp import fields as f
from analyzer.timeline import points, samples
from analyzer.timeline.points import CLIENT, SERVER, Point
from tests.helpers import CAPTURES, expected
from tests.timeline.test_invariance import said

ROOM = 100
#: Cases, and room for about half of their segments.
LARGE = {
    "any-interface": 100, "churn": 100, "connect-burst": 60, "connection-limit": 100, "frozen-keepalive": 60, "grpc-max-age": 60,
    "half-close": 60, "healthy": 60, "redis-closed-in-freeze": 100,
}  # fmt: skip


def give(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    for module in (reader, again, points, samples):
        monkeypatch.setattr(module, "KEEP_SEGMENTS", room)


@pytest.mark.parametrize("name", LARGE)
def test_findings_are_those_of_a_capture_that_was_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CAPTURES / name
    files = [folder / one for one in expected(folder)["inputs"]]
    whole = analyzer.read(*files)
    assert all(point.data.complete for point in whole.story.connections.points)
    give(monkeypatch, LARGE[name])
    some = analyzer.read(*files)
    (point,) = some.story.connections.points
    assert not point.data.complete and len(point.data.segments)
    assert said(some) == said(whole)


def crowd(count: int, each: int) -> Point:
    rows = np.zeros((count, f.N_FIELDS), np.int64)
    rows[:, f.UID] = np.arange(count)
    rows[:, f.S_PORT] = 5000 + np.arange(count) % 10
    rows[:, CLIENT + f.PKTS] = rows[:, SERVER + f.PKTS] = each // 2
    rows[:, CLIENT + f.ISN], rows[:, SERVER + f.ISN] = np.random.default_rng(1).integers(0, 1 << 32, (2, count))
    data = reader.CaptureData(rows=rows)
    source = type("Source", (), {"clocks": []})()
    return Point(source, data)


def test_as_many_are_chosen_as_there_is_room_for_those_that_a_log_names_first(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, ROOM)
    one = crowd(1_000, 10)
    names, number = points.servers_of(one.rows)
    assert len(samples.chosen(one, set())) == ROOM // 10
    named = samples.chosen(one, {names[3]})
    assert len(named) == ROOM // 10 and set(number[named].tolist()) == {3}


def test_the_sample_of_two_points_is_the_same_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, ROOM)
    one = crowd(1_000, 10)
    other = Point(one.source, reader.CaptureData(rows=one.rows[::-1].copy()))
    assert (
        one.rows[samples.chosen(one, set()), f.UID].tolist()
        == other.rows[samples.chosen(other, set()), f.UID][::-1].tolist()
    )
