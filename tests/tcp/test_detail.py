"""What the closer look finds in segments whose story is known."""

from __future__ import annotations

import pytest

from analyzer.capture.columns import ACK_FLAG, FIN, RST, SYN
from analyzer.tcp import detail
from analyzer.tcp import fields as f
from analyzer.tcp.segments import Place, Segment

MS = 1_000_000
FLAG = {"S": SYN, "A": ACK_FLAG, "F": FIN, "R": RST}


def segment(ms: float, side: str, flags: str, seq: int, ack: int = 0, size: int = 0, **more: int) -> Segment:
    """One segment of the client (">") or the server ("<")."""
    time = round(ms * MS)
    fields = {"window": 500, "ttl": 64, "tsval": -1, "kinds": 0, **more}
    return Segment(
        from_client=side == ">", flags=sum(FLAG[one] for one in flags), seq=seq, ack=ack, length=size, marks=0,
        places=[Place(0, "pcap1", 1, time, time)], has_options=fields["tsval"] >= 0, **fields,
    )  # fmt: skip


HANDSHAKE = [
    segment(0, ">", "S", 100, ip_id=10), segment(5, "<", "SA", 500, 101), segment(8, ">", "A", 101, 501, ip_id=11),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kinds", "flags", "size", "name"),
    [
        (0, "A", 5, None),
        (f.K_RETX, "A", 5, "timeout"),
        (f.K_RETX | f.K_FAST, "A", 5, "fast"),
        (f.K_RETX | f.K_SPURIOUS, "A", 5, "spurious"),
        (f.K_RETX, "S", 0, "SYN"),
        (f.K_RETX, "FA", 0, "FIN"),
        (f.K_OOO, "A", 5, "out of order"),
        (f.K_KEEPALIVE, "A", 1, "keepalive probe"),
        (f.K_ZERO_PROBE, "A", 1, "zero-window probe"),
    ],
)
def test_kinds_of_repetition(kinds: int, flags: str, size: int, name: str | None) -> None:
    assert detail.retransmission_kind(segment(0, ">", flags, 1, 1, size, kinds=kinds)) == name


def test_backoff_tells_the_first_timeout_and_its_doublings() -> None:
    data = [segment(ms, ">", "A", 101, 501, 20) for ms in (10, 10.1, 210, 610, 1410, 3010)]
    (one,) = detail.backoffs([*HANDSHAKE, *data])
    assert (one.initial_rto_ns, one.doublings, one.from_client) == (200 * MS, 3, True)
    assert str(one) == "5 copies, waits 200 ms, 400 ms, 800 ms, 1.6 s (3× doubled)"


def test_a_fast_retransmission_is_no_backoff() -> None:
    assert detail.backoffs([segment(ms, ">", "A", 101, 501, 20) for ms in (10, 60)]) == []


def test_keepalive_settings_from_probes() -> None:
    probes = [segment(ms, "<", "A", 500, 101, kinds=f.K_KEEPALIVE | f.K_SERVER) for ms in (60_008, 70_008, 80_008)]
    (one,) = detail.keepalives([*HANDSHAKE, *probes])
    assert one == detail.Keepalive(False, 60_000 * MS, 10_000 * MS, 3, unanswered=3)
    answers = [segment(ms, ">", "A", 101, 501) for ms in (60_009, 70_009, 80_009)]
    both = sorted([*HANDSHAKE, *probes, *answers], key=lambda s: s.time_ns)
    (one,) = detail.keepalives(both)
    assert (one.unanswered, one.probes, one.idle_ns) == (0, 3, 60_000 * MS)
    (one,) = detail.keepalives(sorted([*HANDSHAKE, *probes, answers[0]], key=lambda s: s.time_ns))
    assert str(one) == "the server probes after 60 s idle, then every 10 s: 1 answered, then 2 unanswered"


def test_zero_window_episodes() -> None:
    closed = segment(10, "<", "A", 501, 121, window=0, kinds=f.K_ZERO_WINDOW)
    probe = segment(300, ">", "A", 121, 501, 1, kinds=f.K_ZERO_PROBE)
    opened = segment(900, "<", "A", 501, 121, window=99)
    ended, never = detail.ZeroWindow(False, 10 * MS, 900 * MS, 1), detail.ZeroWindow(False, 10 * MS, None, 1)
    assert detail.zero_windows([*HANDSHAKE, closed, probe, opened]) == [ended]
    assert detail.zero_windows([*HANDSHAKE, closed, probe]) == [never]


def test_round_trips() -> None:
    assert detail.handshake_rtt_ns(HANDSHAKE) == 8 * MS
    assert detail.handshake_rtt_ns([segment(-3_000, ">", "S", 100), *HANDSHAKE]) == 8 * MS
    assert detail.handshake_rtt_ns(HANDSHAKE[2:]) is None
    echoes = [
        segment(10, ">", "A", 101, 501, 20, tsval=7, tsecr=1),
        segment(14, "<", "A", 501, 121, 5, tsval=2, tsecr=7),
        segment(20, "<", "A", 506, 121, 5, tsval=3, tsecr=7),
        segment(21, ">", "A", 121, 511, tsval=8, tsecr=2),
    ]
    assert detail.echo_rtts_ns(echoes) == {True: [4 * MS], False: [7 * MS]}


def ticking(rate: int, stall_ms: int) -> list[Segment]:
    """A client busy for a second, silent for 30 s in which its clock stood for `stall_ms`, busy again."""
    times = [*range(0, 1000, 50), *range(31_000, 32_000, 50)]
    return [
        segment(
            ms, ">", "A", 1, 1, 1, tsval=(ms - (stall_ms if ms > 1000 else 0)) * rate // 1000 + 2**32 - 500 & 0xFFFFFFFF
        )
        for ms in times
    ]


@pytest.mark.parametrize("rate", [1000, 250, 100])
def test_a_stalled_guest_clock_shows(rate: int) -> None:
    """Across the wrap of TSval, too."""
    assert detail.tsval_rate_hz(ticking(rate, 0), from_client=True) == rate
    assert detail.clock_stalls(ticking(rate, 0), from_client=True) == []
    (stall,) = detail.clock_stalls(ticking(rate, 29_000), from_client=True)
    assert abs(stall.missing_ns - 29_000 * MS) <= 1000 * MS // rate


def test_no_rate_no_verdict() -> None:
    assert detail.clock_stalls([segment(ms, ">", "A", 1, 1, 1, tsval=1) for ms in (0, 5_000)], from_client=True) == []


def reset(**more: int) -> str:
    """The fingerprint of the server's reset after a request."""
    talk = [segment(100 * n, "<", "A", 501 + n, 101, 1, ttl=60, ip_id=7 + n) for n in range(3)]
    request = segment(400, ">", "A", 101, 504, 20)
    last = segment(401, "<", "R", 504, **{"ttl": 60, "window": 0, **more})
    segments = [*HANDSHAKE[:1], *talk, request, last]
    return detail.describe_reset(segments, len(segments) - 1)


def test_a_reset_of_the_host_itself() -> None:
    assert reset() == (
        "RST without ACK; window 0; without options; sequence as expected; answers → 20 B, 1 ms earlier; "
        "by the host itself, as far as TTL and IP identification tell"
    )


@pytest.mark.parametrize(
    ("more", "sign"),
    [
        ({"ttl": 55}, "TTL 55, its other packets 60"),
        ({"ip_id": 40_000}, "IP identification 40000, its other packets up to 9"),
    ],
)
def test_a_reset_of_a_middlebox(more: dict[str, int], sign: str) -> None:
    text = reset(**more)
    assert sign in text
    assert text.endswith("by a middlebox?")
    assert "middlebox" not in reset(ip_id=10)


def test_what_ties_a_reset_to_its_host() -> None:
    """Both TTL and identification; after minutes a counter that other connections share tells nothing."""
    talk = [segment(100 * n, "<", "A", 501 + n, 101, 1, ttl=60, ip_id=7 + n) for n in range(3)]

    def judged(ms: float, **more: int) -> tuple[bool, bool]:
        last = segment(ms, "<", "R", 504, **more)
        return detail.agrees([*talk, last], last), bool(detail.foreign_signs([*talk, last], last))

    assert judged(401, ttl=60, ip_id=10) == (True, False)
    assert judged(401, ttl=60, ip_id=0) == (False, False)
    assert judged(401, ttl=60, ip_id=800) == (False, False)
    assert judged(401, ttl=61, ip_id=10) == (False, True)
    assert judged(401, ttl=60, ip_id=30_000) == (False, True)
    assert judged(300_000, ttl=60, ip_id=30_000) == (False, False)


def test_a_reset_out_of_sequence_or_alone() -> None:
    segments = [*HANDSHAKE, segment(10, "<", "RA", 700, 101)]
    assert "sequence +199 from expected" in detail.describe_reset(segments, 3)
    assert detail.describe_reset([segment(0, "<", "R", 1)], 0).endswith("sender not certain")
