"""Two captures of the same traffic: the offset between their clocks lies inside the stated error, and that is half a round trip."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path as FilePath

import pytest

import analyzer
from analyzer.timeline.points import Point
from tests.timeline import two_points as net
from tests.timeline.two_points import MS, SECOND, ZERO, Packet, Path, Talk

#: By how much the far clock is ahead, in seconds, and how fast it is, in millionths.
CLOCKS = ((0, 0), (-0.3, 35), (10, 200), (-20_700, -200))

Seen = list[Packet]
#: Traffic, and what is left of it at the near and at the far point.
Shape = tuple[Callable[[Path], object], Callable[[Seen], Seen], Callable[[Seen], Seen]]


def whole(sent: Seen) -> Seen:
    return sent


def up(sent: Seen) -> Seen:
    return net.one_way(sent, True)


def down(sent: Seen) -> Seen:
    return net.one_way(sent, False)


def late(sent: Seen) -> Seen:
    """From mid-stream on, with one direction."""
    return up(net.since(sent, ZERO + 3 * SECOND + 30 * MS))


def bulk(path: Path) -> None:
    net.plain(path, 4, 4, bulk=12)


def upload(path: Path) -> None:
    talk = Talk(path, 0, ZERO).open()
    for _ in range(20):
        talk.data(True, [net.MSS] * 10)


def handshake(path: Path) -> None:
    Talk(path, 0, ZERO).open()


def both_ways_opened(path: Path) -> None:
    """Either host opens connections to the other: a client's packets travel either way."""
    net.plain(path, 4)
    other = Path(path.chance, path.down, path.up)
    net.plain(other, 4)
    path.near += [replace(p, conn=p.conn + 100) for p in other.far]
    path.far += [replace(p, conn=p.conn + 100) for p in other.near]
    path.delays += other.delays


SHAPES: dict[str, Shape] = {
    "plain": (net.plain, whole, whole),
    "a handshake": (handshake, whole, whole),
    "one way at one point": (net.plain, whole, up),
    "opposite ways": (net.plain, up, down),
    "opposite ways from mid-stream": (net.plain, late, down),
    "from mid-stream, one way": (net.plain, late, whole),
    "offloads at one point": (bulk, whole, net.merged),
    "an upload, offloads at one point": (upload, lambda s: net.since(s, ZERO + 50 * MS), net.merged),
    "each packet twice": (net.plain, whole, net.twice),
    "opened from both sides": (both_ways_opened, whole, whole),
}


def said(trace: analyzer.Trace) -> Counter[tuple[str, str]]:
    cs = trace.story.connections
    port = {cs.id(k): cs.client(k).rpartition(":")[2] for k in range(len(cs))}
    return Counter((f.rule, port.get(f.connection or "", "")) for f in trace.findings)


def between(trace: analyzer.Trace, ahead: Callable[[int], int], last: int) -> float:
    """The worst of: what the two clocks are found to be apart, by what they are, by the stated error."""
    near, far = (point.clock for point in sorted(trace.story.connections.points, key=lambda p: p.source.path))
    assert near.frame == far.frame
    worst = 0.0
    for at in range(ZERO, last, max((last - ZERO) // 16, 1)):
        apart = abs(near.aligned(at) - far.aligned(ahead(at)))
        worst = max(worst, apart / (near.error_at(at) + far.error_at(ahead(at))))
    return worst


@pytest.mark.parametrize("nat", [False, True], ids=["plain", "NAT"])
@pytest.mark.parametrize("stamps", [True, False], ids=["time stamps", "none"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_truth_lies_inside_half_a_round_trip(shape, stamps, nat, tmp_path):  # type: ignore[no-untyped-def]
    talk, at_near, at_far = SHAPES[shape]
    path = Path(random.Random(7), loss=0.02, stamps=stamps)
    talk(path)
    near, far = at_near(path.near), at_far(path.far)
    last = max(p.at for p in near + far)
    (tmp_path / "near.pcap").write_bytes(net.capture(near, lambda t: t))
    found = []
    for seconds, ppm in CLOCKS:

        def ahead(t: int, seconds: float = seconds, ppm: int = ppm) -> int:
            return t + round(seconds * SECOND) + round((t - ZERO) * ppm * 1e-6)

        (tmp_path / "near2.pcap").write_bytes(net.capture(far, ahead, nat=nat))
        trace = analyzer.read(tmp_path)
        assert between(trace, ahead, last) <= 1
        stated = max(point.clock.error_ns or 0 for point in trace.story.connections.points)
        assert stated <= path.round_trip / 2 + MS
        found.append(said(trace))
    assert found[1:] == found[:-1]


@pytest.mark.parametrize("hops", [0, 3])
def test_captures_of_one_way_alone_are_bounded_by_handshakes(hops, tmp_path):  # type: ignore[no-untyped-def]
    """Either point may be nearer then, unless packets lost hops on the way between them."""
    path = net.plain(Path(random.Random(7)))
    (tmp_path / "near.pcap").write_bytes(net.capture(up(path.near), lambda t: t))
    (tmp_path / "near2.pcap").write_bytes(net.capture(up(path.far), lambda t: t + SECOND, ttl=64 - hops))
    trace = analyzer.read(tmp_path)
    assert between(trace, lambda t: t + SECOND, max(p.at for p in path.far)) <= 1
    stated = max(point.clock.error_ns or 0 for point in trace.story.connections.points)
    assert stated <= path.round_trip / (2 if hops else 1) + 2 * MS


def test_packets_one_way_without_handshakes_are_as_far_as_a_packet_may_take(tmp_path):  # type: ignore[no-untyped-def]
    path = net.plain(Path(random.Random(7), stamps=False), connections=1)
    (tmp_path / "near.pcap").write_bytes(net.capture(up(path.near)[2:], lambda t: t))
    (tmp_path / "near2.pcap").write_bytes(net.capture(up(path.far)[2:], lambda t: t + 3 * SECOND))
    trace = analyzer.read(tmp_path)
    assert len(trace.connections) == 1
    assert between(trace, lambda t: t + 3 * SECOND, max(p.at for p in path.far)) <= 1


def test_what_shares_nothing_in_time_stays_apart(tmp_path):  # type: ignore[no-untyped-def]
    """One connection, the one capture over before the other begins: their packets have no common order."""
    path = net.plain(Path(random.Random(7)), connections=1, asks=20)
    cut = ZERO + 2 * SECOND
    (tmp_path / "near.pcap").write_bytes(net.capture([p for p in path.near if p.at < cut], lambda t: t))
    (tmp_path / "near2.pcap").write_bytes(net.capture(net.since(path.far, cut + SECOND), lambda t: t - 5 * SECOND))
    trace = analyzer.read(tmp_path)
    assert [point.clock.frame for point in trace.story.connections.points] == [0, 1]
    assert len(trace.connections) == 2


NAMES = ("function", "gateway", "server")
#: The clocks of a gateway and of a server beside the function's: ahead by so many seconds, and fast by so many millionths.
THREE = (((0, 0), (0, 0)), ((3, 35), (-0.3, -50)), ((-7200, 200), (10, -200)))


@pytest.mark.parametrize("gateway", ["inside", "outside"])
@pytest.mark.parametrize("clocks", THREE)
def test_three_captures_agree_with_each_pair_of_them(clocks, gateway, tmp_path):  # type: ignore[no-untyped-def]
    """Function, NAT gateway, server: every two of them stand as they do alone, and all findings are those of both ends."""
    path = net.plain(Path(random.Random(7), loss=0.02))
    ahead = [lambda t: t] + [
        lambda t, s=s, p=p: t + round(s * SECOND) + round((t - ZERO) * p * 1e-6) for s, p in clocks
    ]
    seen = (path.near, False), (path.middle, gateway == "outside"), (path.far, True)
    files = [net.capture(sent, clock, nat=nat) for (sent, nat), clock in zip(seen, ahead, strict=True)]
    last = max(p.at for p in path.far)
    three = _read(tmp_path / "all", files, (0, 1, 2))
    assert len(three.connections) == 8
    points = three.story.connections.points
    assert [_name(points[k]) for k in three.story.connections.nearness] == list(NAMES)
    for pair, share in (((0, 1), net.MIDDLE), ((1, 2), 1 - net.MIDDLE), ((0, 2), 1)):
        two = _read(tmp_path / f"{pair}", files, pair)
        for trace in (two, three):
            clocks_of = [p.clock for p in trace.story.connections.points if _name(p) in {NAMES[k] for k in pair}]
            if any(clock.reference for clock in clocks_of):
                assert sum(clock.error_ns or 0 for clock in clocks_of) <= share * path.round_trip / 2 + MS
        for at in range(ZERO, last, (last - ZERO) // 16):
            apart, error = _apart(three, pair, [clock(at) for clock in ahead])
            alone, alone_error = _apart(two, pair, [clock(at) for clock in ahead])
            assert abs(apart) <= error and abs(alone) <= alone_error
            assert abs(apart - alone) <= error + alone_error
        if pair == (0, 2):
            assert said(two) == said(three)


def _read(folder, files, which):  # type: ignore[no-untyped-def]
    folder.mkdir()
    for k in which:
        (folder / f"{NAMES[k]}.pcap").write_bytes(files[k])
    return analyzer.read(folder)


def _name(point: Point) -> str:
    return FilePath(point.source.path).stem


def _apart(trace: analyzer.Trace, pair: tuple[int, int], stamps: list[int]) -> tuple[int, int]:
    """By how much two captures' stamps of one moment are apart once they are aligned, and how much that may be."""
    clocks = {_name(point): point.clock for point in trace.story.connections.points}
    one, other = (clocks[NAMES[k]] for k in pair)
    assert one.frame == other.frame
    errors = sum(clock.error_at(stamps[k]) for k, clock in zip(pair, (one, other), strict=True))
    return one.aligned(stamps[pair[0]]) - other.aligned(stamps[pair[1]]), errors
