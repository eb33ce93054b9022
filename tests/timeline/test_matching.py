"""Which connections of several captures are one: those that are, and never others."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import analyzer
from analyzer.capture.again import segments_of
from analyzer.capture.reader import CaptureData
from analyzer.model.records import Source
from analyzer.tcp import fields as f
from analyzer.tcp.connections import CLIENT, SERVER
from analyzer.timeline import matching
from analyzer.timeline.matching import match_points
from analyzer.timeline.points import Point
from analyzer.timeline.whereabouts import fates
from tests.capture import packets

SECOND = 10**9
ZERO = 1_790_000_000 * SECOND
FIN, SYN, PSH, ACK = 1, 2, 8, 16

# ---- handshakes

#: (client ISN, server ISN, client port): few values, so that keys meet often.
ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 2), st.integers(1, 3)), max_size=12)


def point(rows: list[tuple[int, int, int]]) -> Point:
    table = np.zeros((len(rows), f.N_FIELDS), np.int64)
    for row, (client_isn, server_isn, port) in zip(table, rows, strict=True):
        row[[CLIENT + f.ISN, SERVER + f.ISN, f.C_PORT]] = client_isn, server_isn, port
    return Point(Source("", "", "pcap", ""), CaptureData(rows=table))


def plainly(tables: list[list[tuple[int, int, int]]]) -> set[tuple[int, ...]]:
    owners: dict[tuple[object, ...], list[int]] = {}
    for p, rows in enumerate(tables):
        seen: dict[tuple[object, ...], int] = {}
        for number, (client_isn, server_isn, port) in enumerate(rows):
            key: tuple[object, ...] = (client_isn, port)
            if server_isn >= 0:
                key = (client_isn, server_isn, "any address")
            seen[key] = seen.get(key, 0) + 1
            owners.setdefault((*key, seen[key]), [-1] * len(tables))[p] = number
    return {tuple(members) for members in owners.values()}


@settings(max_examples=200, deadline=None)
@given(st.lists(ROWS, min_size=2, max_size=3))
def test_every_handshake_meets_its_own(tables: list[list[tuple[int, int, int]]]) -> None:
    members = [tuple(m) for m in match_points([point(rows) for rows in tables]).tolist()]
    assert len(set(members)) == len(members)
    assert set(members) == plainly(tables)


def test_keys_of_one_mixture_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = np.array([[1, 2], [3, 4], [1, 2], [3, 4]], np.int64)
    monkeypatch.setattr(np, "unique", _colliding(np.unique))
    groups = matching._groups(keys)
    assert groups[0] == groups[2] != groups[1] == groups[3]


def _colliding(unique):  # type: ignore[no-untyped-def]
    def call(values, **options):  # type: ignore[no-untyped-def]
        return unique(values if "axis" in options else np.zeros_like(values), **options)

    return call


# ---- loose rows: real packets of real connections, of which each capture has a part


@dataclass
class Sent:
    """One packet of a connection, as it left: (ns, from the client, sequence, acknowledgement, flags, bytes, TSval)."""

    at: int
    up: bool
    seq: int
    ack: int
    flags: int
    size: int
    tsval: int


def talk(chance: random.Random, start: int, stamps: bool, rounds: int) -> list[Sent]:
    """A handshake, `rounds` requests with their answers, and perhaps a close."""
    numbers = [chance.getrandbits(32), chance.getrandbits(32)]
    clocks = [chance.getrandbits(31), chance.getrandbits(31)]
    out: list[Sent] = []

    def send(up: bool, flags: int, size: int) -> None:
        own, peer = (0, 1) if up else (1, 0)
        now = start + 20_000_000 * len(out)
        tsval = clocks[own] + now // 1_000_000 & 0xFFFFFFFF if stamps else -1
        out.append(Sent(now, up, numbers[own], numbers[peer] if flags & ACK else 0, flags, size, tsval))
        numbers[own] = numbers[own] + size + bool(flags & (SYN | FIN)) & 0xFFFFFFFF

    send(True, SYN, 0)
    send(False, SYN | ACK, 0)
    send(True, ACK, 0)
    for _ in range(rounds):
        send(True, PSH | ACK, chance.randrange(1, 1400))
        send(False, PSH | ACK, chance.randrange(1, 1400))
    if chance.random() < 0.5:
        send(True, FIN | ACK, 0)
        send(False, FIN | ACK, 0)
        send(True, ACK, 0)
    return out


Ends = tuple[tuple[str, int], tuple[str, int]]


def frame(sent: Sent, ends: Ends, v6: bool = False) -> bytes:
    (src, sport), (dst, dport) = ends if sent.up else ends[::-1]
    stamp = b"\1\1\x08\x0a" + sent.tsval.to_bytes(4) + bytes(4) if sent.tsval >= 0 else b""
    segment = packets.tcp(sport, dport, sent.seq, sent.ack, sent.flags, b"x" * sent.size, options=stamp)
    if not v6:
        return packets.ethernet(packets.ipv4(src, dst, segment, ip_id=1 + sent.seq % 60_000))
    return packets.ethernet6(packets.ipv6(src, dst, segment))


def records(parts: list[tuple[list[Sent], Ends]]) -> list[tuple[int, bytes]]:
    """The records of a capture that holds these packets."""
    return sorted((sent.at, frame(sent, ends)) for sents, ends in parts for sent in sents)


def read(parts: list[tuple[list[Sent], Ends]], kept: bool) -> tuple[Point, list[int]]:
    """A point, and which part each of its rows is."""
    content = packets.pcap(records(parts))
    data = packets.read(content)
    starts = {sents[0].at: number for number, (sents, _) in enumerate(parts)}
    owners = [starts[ts] for ts in data.rows[:, f.FIRST_TS].tolist()]
    if not kept:
        data.complete, data.segments, data.uids, data.kinds = False, data.segments[:0], data.uids[:0], data.kinds[:0]
    return Point(Source("", "", "pcap", ""), data, [(lambda: io.BytesIO(content), len(content))]), owners


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32), kept=st.booleans(), stamps=st.booleans(), v=st.integers(1, 12))
def test_parts_of_one_connection_meet_and_no_others(seed: int, kept: bool, stamps: bool, v: int) -> None:
    """Two captures, each from some packet to some packet of each connection; ports used again, and a NAT for some."""
    chance = random.Random(seed)
    near: list[tuple[int, list[Sent], Ends]] = []
    far: list[tuple[int, list[Sent], Ends]] = []
    truth: list[tuple[int, set[int]]] = []
    for number in range(v):
        start = ZERO + 100 * SECOND * number
        sents = talk(chance, start, stamps, chance.randrange(1, 6))
        port = 40_000 + chance.randrange(2)
        inside: Ends = (("10.0.0.1", port), ("10.9.0.2", 15_432))
        outside: Ends = (("192.0.2.1", 50_000 + number), ("10.9.0.2", 15_432)) if chance.random() < 0.4 else inside
        seen = []
        for capture, ends in ((near, inside), (far, outside)):
            first, end = sorted(chance.sample(range(len(sents) + 1), 2))
            again = any(ends == before for *_, before in capture)  # then only a SYN tells another connection
            part = [] if chance.random() < 0.1 else sents[0 if again or chance.random() < 0.5 else first : end]
            if part:
                capture.append((number, part, ends))
            seen.append({s.at for s in part})
        truth.append((number, seen[0] & seen[1]))
    if not near or not far:
        return
    points, names = [], []
    for capture in (near, far):
        point, owners = read([(sents, ends) for _, sents, ends in capture], kept)
        points.append(point)
        names.append([capture[owner][0] for owner in owners])
    members = match_points(points)
    assert sorted(members[:, 0][members[:, 0] >= 0].tolist()) == list(range(len(names[0])))
    assert sorted(members[:, 1][members[:, 1] >= 0].tolist()) == list(range(len(names[1])))
    met = {(names[0][a], names[1][b]) for a, b in members.tolist() if a >= 0 and b >= 0}
    assert all(a == b for a, b in met), "unrelated connections made one"
    if kept:
        assert not {n for n, shared in truth if len(shared) > 2} - {a for a, _ in met}


def both(left: list[Sent], right: list[Sent], ends: Ends, other: Ends, kept: bool = True) -> list[Point]:
    return [read([(left, ends)], kept)[0], read([(right, other)], kept)[0]]


PLAIN: Ends = (("10.0.0.1", 40_000), ("10.9.0.2", 15_432))
NATTED: Ends = (("192.0.2.1", 61_000), ("10.9.0.2", 15_432))
TALK = talk(random.Random(1), ZERO, stamps=True, rounds=4)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(("ends", "other"), [(PLAIN, PLAIN), (PLAIN, NATTED)], ids=["plain", "NAT"])
@pytest.mark.parametrize("cut", [1, 2, 4, 5], ids=lambda n: f"without {n}")
def test_a_capture_from_mid_stream_meets_the_whole_one(ends: Ends, other: Ends, cut: int, kept: bool) -> None:
    """Also where its first packet is the server's, on a port that nobody knows: the direction is the handshake's then."""
    points = both(TALK, TALK[cut:], ends, other, kept)
    assert match_points(points).tolist() == [[0, 0]]
    row, data = points[1].rows[0], points[1].data
    assert (row[f.C_PORT], row[f.S_PORT]) == (other[0][1], 15_432)
    kinds = data.kinds if kept else segments_of(points[1].parts, points[1].rows)[2]
    assert [bool(kind & f.K_SERVER) for kind in kinds.tolist()] == [not s.up for s in TALK[cut:]]
    assert row[CLIENT + f.PKTS] == sum(s.up for s in TALK[cut:])


def test_a_direction_that_cannot_be_read_anew_stays_and_the_connection_apart() -> None:
    points = both(TALK, TALK[4:], PLAIN, PLAIN, kept=False)
    points[1].parts = []
    assert points[1].rows[0, f.C_PORT] == 15_432 and len(match_points(points)) == 2


def test_a_direction_is_read_anew_for_the_connections_it_is_known_of() -> None:
    """Others of the same server, that no other capture knows, keep theirs; so do those that were sampled before."""
    others = [talk(random.Random(n), ZERO + n * SECOND, stamps=False, rounds=3) for n in (5, 6)]
    ends = [((("10.0.0.1", 40_001 + n), PLAIN[1])) for n in range(2)]
    near, _ = read([(TALK, PLAIN)], kept=False)
    far, owners = read([(TALK[4:], PLAIN), *((s[4:], e) for s, e in zip(others, ends, strict=True))], kept=False)
    whole = far.data
    sampled = segments_of(far.parts, far.rows)
    whole.segments, whole.uids, whole.kinds = sampled
    before = whole.kinds.copy()
    assert (match_points([near, far])[:, 0] >= 0).sum() == 1
    row = owners.index(0)
    assert far.rows[:, f.C_PORT].tolist() == [PLAIN[0][1] if n == row else 15_432 for n in range(3)]
    turned = whole.uids == far.rows[row, f.UID]
    assert ((whole.kinds ^ before) & f.K_SERVER != 0).tolist() == turned.tolist()
    segments, uids, kinds = segments_of(far.parts, far.rows)
    assert np.array_equal(segments, whole.segments) and np.array_equal(uids, whole.uids)
    assert np.array_equal(kinds, whole.kinds)


def test_a_syn_ack_that_one_point_did_not_see_leaves_one_connection() -> None:
    """Lost between them: the near point has SYNs only."""
    again = [Sent(TALK[0].at + SECOND, True, TALK[0].seq, 0, SYN, 0, TALK[0].tsval + 1000)]
    assert match_points(both([TALK[0], *again], TALK, PLAIN, PLAIN)).tolist() == [[0, 0]]
    assert match_points(both([TALK[0], *again], TALK, PLAIN, NATTED)).tolist() == [[0, 0]]


TRANSLATED: Ends = (PLAIN[0], ("10.9.0.77", 8080))
SYNS = [Sent(ZERO + n * SECOND, True, 3_000_000_000, 0, SYN, 0, -1) for n in (0, 1, 3)]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("other", [NATTED, TRANSLATED], ids=["SNAT", "DNAT"])
def test_syns_without_answer_and_time_stamps_meet_across_a_nat(other: Ends, kept: bool) -> None:
    """By their number and the end that is left as it was; whether the answer was lost between the points, or there was none."""
    assert match_points(both(SYNS, SYNS[1:], PLAIN, other, kept)).tolist() == [[0, 0]]
    answered = [*SYNS, Sent(SYNS[-1].at + 1, False, 7_000_000, SYNS[0].seq + 1, SYN | ACK, 0, -1)]
    assert match_points(both(SYNS, answered, PLAIN, other, kept)).tolist() == [[0, 0]]
    assert match_points(both(answered, SYNS, PLAIN, other, kept)).tolist() == [[0, 0]]


def test_syns_without_answer_that_could_be_others_stay_apart() -> None:
    strangers: Ends = (NATTED[0], TRANSLATED[1])
    again = [Sent(s.at, True, s.seq + 1, 0, SYN, 0, -1) for s in SYNS]
    by_hand = [Sent(s.at, True, 100, 0, SYN, 0, -1) for s in SYNS]
    for left, right, other in ((SYNS, again, NATTED), (by_hand, by_hand, NATTED), (SYNS, SYNS, strangers)):
        assert len(match_points(both(left, right, PLAIN, other))) == 2
    two, _ = read([(SYNS, NATTED), (SYNS, (("192.0.2.9", 5), PLAIN[1]))], kept=True)
    assert len(match_points([read([(SYNS, PLAIN)], kept=True)[0], two])) == 3


def test_the_same_ports_at_another_time_are_another_connection() -> None:
    later = talk(random.Random(2), ZERO + 60 * SECOND, stamps=True, rounds=4)
    assert len(match_points(both(TALK[3:], later[3:], PLAIN, PLAIN))) == 2
    assert len(match_points(both(TALK, later[3:], PLAIN, PLAIN))) == 2


def test_numbers_made_by_hand_prove_nothing_across_addresses() -> None:
    """Relative numbers, as of generated traffic, are the same for all."""
    made = [Sent(s.at, s.up, k, k, s.flags, 0, -1) for k, s in enumerate(TALK[3:], 1)]
    assert len(match_points(both(made, made, PLAIN, NATTED))) == 2


def test_three_points_are_one_connection() -> None:
    points = [*both(TALK[4:], TALK, NATTED, PLAIN), read([(TALK[6:], NATTED)], kept=True)[0]]
    assert match_points(points).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("v6", [False, True])
def test_a_server_s_capture_from_mid_stream_tells_of_its_close(v6: bool, tmp_path: Path) -> None:
    """The client's capture alone shows a reset after an idle gap; the server's, begun later, shows that the server had closed."""
    ends: Ends = (
        (("2001:db8::1", 40_000), ("2001:db8:9::2", 6379)) if v6 else (("10.0.0.1", 40_000), ("10.9.0.2", 6379))
    )
    sents = TALK[:7]
    up, down = (next(s for s in reversed(sents) if s.up == way) for way in (True, False))
    client, server = up.seq + up.size, down.seq + down.size
    at = sents[-1].at
    near = [*sents, Sent(at + SECOND // 100, True, client, server, ACK, 0, up.tsval + 1)]
    fin = [
        Sent(at + (30 + n) * SECOND, False, server, client, FIN | ACK, 0, down.tsval + 30_000 + n) for n in (0, 1, 3, 7)
    ]
    write = Sent(at + 120 * SECOND, True, client, server, PSH | ACK, 50, up.tsval + 120_000)
    reset = Sent(write.at + SECOND // 1000, False, server, 0, 4, 0, -1)
    late = Sent(at + 200 * SECOND, True, 1, 0, SYN, 0, 5)
    other: Ends = ((ends[0][0], 40_001), ends[1])
    for name, packets_, shift in (
        ("client", [*near, write, reset], 0),
        ("server", [near[-1], *fin, write, reset], 300_000),
    ):
        found = [(s.at + shift, frame(s, ends, v6)) for s in packets_] + [(late.at, frame(late, other, v6))]
        (tmp_path / f"{name}.pcap").write_bytes(packets.pcap(found))
    alone = analyzer.read(tmp_path / "client.pcap")
    assert [x.rule for x in alone.findings if x.rule[0] in "FR"] == ["R303"]
    trace = analyzer.read(tmp_path)
    assert len(trace.connections) == 2
    assert [x.rule for x in trace.findings if x.rule[0] in "FR"] == ["F202", "F203"]


@pytest.mark.parametrize("rewritten", [False, True])
def test_packets_of_both_sides_of_a_nat_are_the_same_packets(rewritten: bool, tmp_path: Path) -> None:
    """Also where it writes identifications of its own; what one side alone saw is told."""
    sents = talk(random.Random(3), ZERO, stamps=True, rounds=6)
    lost = sents[7]
    near = [(s.at, frame(s, PLAIN)) for s in sents]
    far = [(s.at + 5_000_000 * (1 if s.up else -1), frame(s, NATTED)) for s in sents if s is not lost]
    if rewritten:
        far = [(at, data[:18] + (n + 1).to_bytes(2) + data[20:]) for n, (at, data) in enumerate(far)]
    (tmp_path / "near.pcap").write_bytes(packets.pcap(near))
    (tmp_path / "far.pcap").write_bytes(packets.pcap(far))
    trace = analyzer.read(tmp_path)
    cs = trace.story.connections
    assert len(cs) == 1
    (clock,) = [p.clock for p in cs.points if p.clock.anchors]
    assert clock.anchors > 10 and abs(clock.offset_ns) < 1_000_000
    assert [len(s.places) for s in cs.segments(0)] == [1 if k == 7 else 2 for k in range(len(sents))]
    assert lost.up and [fate for fate in fates(cs, 0) if fate] == ["lost before far.pcap"]


@pytest.mark.parametrize("kept", [True, False])
def test_a_port_used_again_meets_its_own_where_one_direction_was_captured(kept: bool) -> None:
    talks = [talk(random.Random(n), ZERO + n * SECOND, stamps=False, rounds=2) for n in range(20)]
    near, _ = read([(t, PLAIN) for t in talks], kept)
    far, _ = read([([s for s in t if not s.up], PLAIN) for t in talks], kept)
    assert len(near.rows) == len(far.rows) == 20
    assert sorted(match_points([near, far]).tolist()) == [[n, n] for n in range(20)]


def test_numbers_that_repeat_without_end_cost_no_more_than_their_rows() -> None:
    two = [Sent(ZERO + n * SECOND, True, 3_000_000_000 + n % 2 * 500_000_000, 0, SYN, 0, -1) for n in range(3_000)]
    one, _ = read([([s], PLAIN) for s in two], kept=False)
    other, _ = read([([s], NATTED) for s in two], kept=False)
    assert len(one.rows) == len(other.rows) == 3_000
    known = [matching._known(point, np.arange(3_000)) for point in (one, other)]
    assert len(matching._by_syn(*known).i) == 0
