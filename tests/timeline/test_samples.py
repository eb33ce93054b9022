"""Captures too large to keep: a sample of their connections ties them to logs and to each other as well as all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import analyzer
from analyzer.capture import again, reader
from analyzer.capture import columns as col
from analyzer.model.times import MS
from analyzer.tcp import fields as f
from analyzer.timeline import points, samples
from analyzer.timeline.points import CLIENT, SERVER, Point
from analyzer.timeline.shown import BURST_GAP_NS, client_bursts
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


@pytest.mark.parametrize(("name", "room"), [("tls-handshake", 32), ("connect-burst", 57)])
def test_a_client_of_many_short_connections_is_still_tied_to_its_environment(
    name: str, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(trace: analyzer.Trace) -> list[tuple[str, str | None]]:
        return sorted((finding.rule, finding.environment) for finding in trace.findings)

    files = [CAPTURES / name / one for one in expected(CAPTURES / name)["inputs"]]
    whole = analyzer.read(*files)
    give(monkeypatch, room)
    some = analyzer.read(*files)
    assert not some.story.connections.points[0].data.complete
    assert told(some) == told(whole)


#: Connections of two clients: when each sent data.
sendings = st.lists(st.tuples(st.integers(1, 2), st.lists(st.integers(1, 5_000), min_size=1, max_size=4)), max_size=12)


def spoken(sent: list[tuple[int, list[int]]], kept: set[int]) -> Point:
    """A capture of which the segments of some connections were kept; times in ms."""
    rows = np.zeros((len(sent), f.N_FIELDS), np.int64)
    segments = []
    for uid, (client, times) in enumerate(sent):
        rows[uid, [f.UID, f.C_LO]] = uid, client
        rows[uid, [CLIENT + f.DATA_FIRST_TS, CLIENT + f.DATA_LAST_TS]] = min(times) * MS, max(times) * MS
        segments += [(uid, client, t * MS) for t in times if uid in kept]
    table = np.zeros((len(segments), col.N_COLUMNS), np.int64)
    uids, table[:, col.SRC_LO], table[:, col.TS] = np.array(segments, np.int64).reshape(-1, 3).T
    table[:, col.LEN] = 1
    data = reader.CaptureData(rows=rows, segments=table, uids=uids, kinds=np.zeros(len(uids), np.int64))
    data.complete = len(kept) == len(sent)
    return Point(type("Source", (), {"clocks": []})(), data)


@given(sendings)
def test_what_is_said_of_bursts_of_a_sample_is_what_the_whole_capture_says(sent: list[tuple[int, list[int]]]) -> None:
    """All of them where what was left out is too short for two bursts, none of a client of which something longer was."""
    long = {uid for uid, (_, times) in enumerate(sent) if (max(times) - min(times)) * MS > BURST_GAP_NS}
    every = set(range(len(sent)))
    whole = [times.tolist() for times in client_bursts(spoken(sent, every))]
    assert [times.tolist() for times in client_bursts(spoken(sent, long))] == whole
    first = next(iter(sorted(long)), None)
    if first is not None:
        others = [x for x in sent if x[0] != sent[first][0]]
        left = client_bursts(spoken(others, set(range(len(others)))))
        some = client_bursts(spoken(sent, long - {first}))
        assert [times.tolist() for times in some[:2]] == [times.tolist() for times in left[:2]]
        assert (
            np.unique(some[2], return_inverse=True)[1].tolist() == np.unique(left[2], return_inverse=True)[1].tolist()
        )
