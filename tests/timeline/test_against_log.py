"""A capture's clock by a log's lines: which lines count, and how far off the result may be."""

from __future__ import annotations

import json
import random

import pytest

import analyzer
from analyzer.rules._cases import EPOCH, Case
from tests.helpers import ALL_CASES
from tests.timeline import warp
from tests.timeline.test_invariance import first_ns, inputs, read, said

#: Two invocations that begin and end as many others would; what only lines of gRPC or errors tell apart.
CALM = """
00:00:00.000 START 1
00:00:00.010 grpc 1 keepalive | (1) 10.0.0.9:6379 Sending ping with timeout 1000ms
00:00:00.013 grpc 1 keepalive | (1) 10.0.0.9:6379 Received ping response
00:00:04.002 grpc 1 transport | (1) 10.0.0.9:6379 connection closed by GOAWAY with code 11 and data too_many_pings
00:00:04.100 REPORT 1
00:00:09.000 START 2
00:00:09.020 REPORT 2
"""
CALM_PACKETS = """
-1.000 > SYN
-0.999 < SYN-ACK
-0.998 > ACK
0.011 > PING
0.012 < PING-ACK
4.001 > PING
4.0015 < GOAWAY 11 too_many_pings
4.003 < FIN
9.010 > FIN
"""
REFUSED = """
00:00:00.000 START 1
00:00:00.020 app 1 Error: connect ECONNREFUSED 10.0.0.9:6379
00:00:00.030 REPORT 1
00:00:03.000 START 2
00:00:03.020 app 2 Error: connect ECONNREFUSED 10.0.0.9:6379
00:00:03.030 REPORT 2
00:00:03.100 START 3
00:00:03.130 REPORT 3
"""
REFUSED_PACKETS = """
0.017 > SYN port=40001
0.018 < RST-ACK port=40001
3.017 > SYN port=40002
3.018 < RST-ACK port=40002
"""


def moved(script, seconds):
    """Packets by a clock that is ahead."""
    lines = [line.split(" ", 1) for line in script.strip().splitlines()]
    return "\n".join(f"{float(at) + seconds:.6f} {rest}" for at, rest in lines)


@pytest.mark.parametrize(
    ("log", "packets"), [(CALM, CALM_PACKETS), (REFUSED, REFUSED_PACKETS)], ids=["calm", "refused"]
)
@pytest.mark.parametrize("seconds", [0, 10, -7.25, 3600, 137])
def test_frames_and_refusals_align(log, packets, seconds):
    """Answers of a server and the lines that tell of them, whatever the clock was off."""
    clock = Case("", log, moved(packets, seconds)).story().connections.points[0].clock
    assert clock.offset_ns is not None
    assert abs(clock.offset_ns + seconds * 1e9) <= clock.error_ns < 50e6


def sparse(ppm, minutes=40):
    """An invocation a minute, with its packets as a capture of another clock has them."""
    log, packets = [], ["-1.000000 > SYN", "-0.999000 < SYN-ACK", "-0.998000 > ACK"]
    for n in range(minutes):
        at = 60 * n
        log += [f"00:{n:02}:00.000 START {n + 1}", f"00:{n:02}:00.100 REPORT {n + 1}"]
        delay = (12, 17, 23, 14, 20)[n % 5] / 1000
        for time, what in (
            (at + delay, "> 60"),
            (at + delay + 0.002, "< 40"),
            (at + 0.09, "> 30"),
            (at + 0.092, "< 20"),
        ):
            packets.append(f"{time * (1 + ppm * 1e-6):.6f} {what}")
    return Case("", "\n".join(log), "\n".join(packets))


@pytest.mark.parametrize("seconds", [0, 7])
@pytest.mark.parametrize("ppm", [0, 35, 200, -200])
def test_few_lines_over_a_long_time_still_tell_the_drift(ppm, seconds):
    """An hour of a quiet function: a second's hundredth of drift a minute is more than the lines leave open."""
    case = sparse(ppm)
    clock = Case("", case.log, moved(case.packets, seconds)).story().connections.points[0].clock
    for minute in range(40):
        stamp = EPOCH + round((60 * minute * (1 + ppm * 1e-6) + seconds) * 1e9)
        assert abs(clock.aligned(stamp) - (EPOCH + 60 * minute * 10**9)) <= clock.misplaced(stamp) < 120e6
    assert abs((clock.drift_ppm or 0) + ppm) < 40


def uses(delays, apart=6):
    """Invocations of one environment, each with its first packet so many ms after its START."""
    log, packets = [], ["-1.000000 > SYN", "-0.999000 < SYN-ACK", "-0.998000 > ACK"]
    for n, delay in enumerate(delays):
        at, minute, second = apart * n, apart * n // 60, apart * n % 60
        log += [f"00:{minute:02}:{second:02}.000 START {n + 1}", f"00:{minute:02}:{second:02}.900 REPORT {n + 1}"]
        packets += [f"{at + delay / 1000:.6f} > 60", f"{at + delay / 1000 + 0.02:.6f} < 40"]
    return Case("", "\n".join(log), "\n".join(packets))


@pytest.mark.parametrize(
    ("delays", "at_most"),
    [
        ((17, 248, 276), 60),  # the first use of a connection is slow
        ((21, 26, 200, 211, 258), 60),
        ((104, 117, 156, 371), 60),  # each is: an SDK that signs, resolves and connects
        ((18, 48, 58, 60, 82), 60),
        ((12, 17, 23, 14, 20), 30),
    ],
)
def test_slow_uses_do_not_move_the_clock(delays, at_most):
    clock = uses(delays).story().connections.points[0].clock
    assert clock.offset_ns is not None
    assert abs(clock.offset_ns) <= clock.error_ns < at_most * 1e6


def far(one_way, delays, seconds=0.0):
    """Uses of a connection as a capture at a server sees them that is this far away; each takes the guest so long to begin."""
    log, packets = (
        [],
        [f"{at:.6f} {what}" for at, what in ((0, "> SYN"), (0.0001, "< SYN-ACK"), (2 * one_way, "> ACK"))],
    )
    for n, delay in enumerate(delays):
        start = 9 * n + 1
        sent = start + delay
        printed = sent + 2 * one_way + 0.003
        log += [
            f"00:00:{start:06.3f} START {n + 1}",
            f"00:00:{printed:06.3f} app {n + 1} PING -> PONG",
            f"00:00:{printed + 0.05:06.3f} REPORT {n + 1}",
        ]
        packets += [f"{sent + one_way:.6f} > 30", f"{sent + one_way + 0.0003:.6f} < 40"]
        packets += [f"{sent + 3 * one_way + 0.0003:.6f} > ACK"]
    return Case("", "\n".join(log), moved("\n".join(packets), seconds))


@pytest.mark.parametrize("one_way", [0.0005, 0.04, 0.1, 0.15])
@pytest.mark.parametrize("delays", [(0.07, 0.075, 0.14), (0.012, 0.02, 0.03, 0.015, 0.02, 0.02)])
@pytest.mark.parametrize("seconds", [0, 7])
def test_a_server_far_away_does_not_move_the_clock(one_way, delays, seconds):
    """What a client sends stands in a server's capture later by the way there: it is no slower guest, nor an earlier clock."""
    clock = far(one_way, delays, seconds).story().connections.points[0].clock
    assert clock.offset_ns is None or abs(clock.offset_ns + seconds * 1e9) <= clock.error_ns < 150e6 + one_way * 1e9
    assert clock.offset_ns is not None or (seconds and len(delays) < 4)


def test_an_error_that_a_busy_guest_prints_late():
    """A line 95 ms after the reset that it tells of, beside invocations that begin as they should."""
    case = uses((10, 20, 29, 30))
    log = case.log + "\n00:00:18.400 app 4 Error: read ECONNRESET"
    clock = Case("", log, case.packets + "\n18.305 < RST").story().connections.points[0].clock
    assert abs(clock.offset_ns) <= clock.error_ns < 60e6


def test_an_error_that_is_told_seven_times_of_a_reset_that_came_in_the_freeze():
    """pika's lines about one reset, which RabbitMQ sent with a last heartbeat while the client was frozen: six seconds before any of them."""
    case = uses((10, 20))
    said = "".join(
        f"\n00:00:20.0{n} app 3 StreamLostError: ConnectionResetError(104, 'Connection reset by peer')"
        for n in range(11, 18)
    )
    log = (
        case.log
        + "\n00:00:20.000 START 3"
        + said
        + "\n00:00:20.050 REPORT 3\n00:00:26.000 START 4\n00:00:26.050 REPORT 4"
    )
    beats = "\n8.5 < 8\n8.504 > ACK\n11.0 < 8\n11.004 > ACK\n13.9 < 8\n13.9004 < RST-ACK\n13.904 > ACK\n13.9041 < RST"
    again = "\n26.015 > SYN port=40001\n26.016 < SYN-ACK port=40001\n26.017 > ACK port=40001\n26.018 > 30 port=40001\n26.019 < 30 port=40001"
    clock = Case("", log, case.packets + beats + again).story().connections.points[0].clock
    assert clock.offset_ns is None or abs(clock.offset_ns) <= clock.error_ns


def test_what_an_initialisation_sends_stands_before_the_first_start():
    case = uses((8, 15, 12, 18))
    log = "00:00:00.000 INIT -\n" + case.log.replace("00:00:00.000 START", "00:00:00.060 START")
    packets = case.packets.replace("0.008000 > 60", "0.008000 > 60\n0.040000 > 60")
    clock = Case("", log, packets).story().connections.points[0].clock
    assert abs(clock.offset_ns) <= clock.error_ns < 60e6


def among_others(case):
    """The same scene at the beginning of a long, busy log, of which the capture has nothing more."""
    busy = [
        f"00:{n // 40 + 2:02}:{n % 40 * 3 // 2:02}.{n % 2 * 500:03} {what} {n + 20}"
        for n in range(1600)
        for what in ("START", "REPORT")
    ]
    return Case("", case.log.strip() + "\n" + "\n".join(busy), case.packets)


@pytest.mark.parametrize(
    ("log", "packets"), [(CALM, CALM_PACKETS), (REFUSED, REFUSED_PACKETS)], ids=["calm", "refused"]
)
@pytest.mark.parametrize("seconds", [0, 10, -7.25, 3600, 137])
def test_a_log_that_is_longer_than_the_capture(log, packets, seconds):
    """An export of a day, and a capture of the ten seconds that matter."""
    clock = among_others(Case("", log, moved(packets, seconds))).story().connections.points[0].clock
    if seconds == 137:  # no clock of a host is off so
        assert clock.offset_ns is None
    else:
        assert abs(clock.offset_ns + seconds * 1e9) <= clock.error_ns < 60e6


@pytest.mark.parametrize("seconds", [0, 10, -20_700])
def test_uses_in_a_log_that_is_longer_than_the_capture(seconds):
    """Nothing but invocations and bursts tell of each other."""
    case = uses((12, 17, 23, 14, 20, 18, 25, 16))
    clock = among_others(Case("", case.log, moved(case.packets, seconds))).story().connections.points[0].clock
    assert abs(clock.offset_ns + seconds * 1e9) <= clock.error_ns < 60e6


def test_bursts_near_whole_seconds_do_not_prove_that_clocks_are_apart():
    """Stamps cut to seconds leave a second for each first use: most of a few invocations find one somewhere."""
    delays = (0.4, 0.45, 0.42, 0.5)
    starts = (0, 7, 14, 21)
    log = "\n".join(f"00:00:{s:02}.000 START {n}\n00:00:{s + 1:02}.000 REPORT {n}" for n, s in enumerate(starts, 1))
    packets = "-1.000000 > SYN\n-0.999000 < SYN-ACK\n-0.998000 > ACK\n"
    for s, late in zip(starts, delays, strict=True):
        packets += f"{s + 0.9 + late + 2.6:.6f} > 60\n{s + 0.92 + late + 2.6:.6f} < 40\n"
    clock = Case("", log, packets).story().connections.points[0].clock
    assert clock.offset_ns is None


@pytest.mark.parametrize("seconds", [-7.201, -7.108, -8.254])
def test_a_burst_is_of_one_of_an_environments_invocations(seconds, tmp_path):
    """Three invocations in a row, and one FIN that stands soon after each: it answers one of them, where clocks seem to agree."""
    files = inputs(next(folder for folder in ALL_CASES if folder.name == "tls-handshake"))
    trace = read({n: warp.pcap(c, warp.off(seconds)) if ".pcap" in n else c for n, c in files.items()}, tmp_path)
    (clock,) = (s.clocks[0] for s in trace.story.sources if s.kind == "pcap")
    assert abs(clock.offset_ns + seconds * 1e9) <= clock.error_ns < 60e6


@pytest.mark.shared
@pytest.mark.parametrize(
    ("capture", "seconds", "share", "seed", "at_most"),
    [("fn.pcap", -7.1, 0.9, 1, 60), ("srv.pcap", 3.3, 0.6, 2, 600), ("fn.pcap", 32_400, 0.4, 4, 600)],
)
def test_a_storm_of_connections_beside_some_of_its_environments(
    shared, tmp_path, capture, seconds, share, seed, at_most
):
    """They begin one after the other, ever as fast: places that differ by one of them fit about as well, and the error says so."""
    folder = shared / "cases" / "5_connection_storm"
    log = json.loads((folder / "lambda.json").read_bytes())
    streams = sorted({e["logStreamName"] for e in log["events"]})
    kept = set(random.Random(seed).sample(streams, round(share * len(streams))))
    log["events"] = [e for e in log["events"] if e["logStreamName"] in kept]
    packets = warp.pcap((folder / capture).read_bytes(), warp.off(seconds))
    trace = read({"lambda.json": json.dumps(log).encode(), capture: packets}, tmp_path)
    (clock,) = (s.clocks[0] for s in trace.story.sources if s.kind == "pcap")
    assert abs(clock.offset_ns + seconds * 1e9) <= clock.error_ns < at_most * 1e6


@pytest.mark.parametrize("seconds", [-1.5, 2])
@pytest.mark.parametrize(
    ("name", "capture", "other"),
    [
        ("event-loop-blocked", "server.pcap", "server-stalled"),
        ("frozen-call", "server.pcap", "grpc-max-age"),
        ("late-keepalive", "client.pcap", "event-loop-blocked"),
        ("frozen-keepalive", "server.pcap", "tls-handshake"),
    ],
)
def test_the_log_of_another_incident_places_no_capture(name, capture, other, seconds, tmp_path):
    """Some of its lines find a packet, but others that must do not, and the client speaks while the log's environment rests."""
    folders = {folder.name: folder for folder in ALL_CASES}
    packets = {capture: (folders[name] / capture).read_bytes()}
    log = (folders[other] / "lambda.json").read_bytes()
    first = json.loads(log)["events"][0]["timestamp"] * 10**6
    clock = warp.off((first_ns(packets) - first) // 10**6 / 1000 + seconds)
    lines = {"lambda.json": warp.log(log, clock, clock)}
    both = read(packets | lines, tmp_path)
    assert not both.story.aligned
    assert said(both) == said(analyzer.read(tmp_path / capture)) + said(analyzer.read(tmp_path / "lambda.json"))


@pytest.mark.shared
@pytest.mark.parametrize("ppm", [-39, -58, 180])
def test_stamps_cut_to_milliseconds_leave_drifts_open(shared, ppm, tmp_path):
    """A log of ten pings and a capture that contradict each other by a quarter of a millisecond, if drift is none."""
    folder = shared / "cases" / "7_goaway_too_many_pings"
    files = {name: (folder / name).read_bytes() for name in ("fn.pcap", "srv.pcapng", "lambda.json")}
    since = first_ns(files)
    trace = read(files | {"fn.pcap": warp.pcap(files["fn.pcap"], warp.drifting(ppm, since))}, tmp_path)
    (clock,) = (s.clocks[0] for s in trace.story.sources if s.path.endswith("fn.pcap"))
    for true in (since, since + 12 * 10**9, since + 25 * 10**9):
        stamp = warp.drifting(ppm, since)(true)
        assert abs(clock.aligned(stamp) - true) <= clock.misplaced(stamp) < 10e6


def test_clocks_that_agree_need_not_be_the_quickest_that_fit():
    """Two of four invocations find a burst where clocks agree, the cold starts none (measured); seconds away two find one sooner."""
    log, packets = ["00:00:01.363 INIT -"], []
    for n, (at, ended) in enumerate([(2.939, 5.558), (7.163, 7.282), (9.505, 13.519), (18.505, 21.255)]):
        log += [f"00:00:{at:06.3f} START {n + 1}", f"00:00:{ended:06.3f} REPORT {n + 1}"]
    log.insert(-2, "00:00:13.520 INIT -")
    opened = (
        (0, "> SYN"),
        (0.001, "< SYN-ACK"),
        (0.022, "> ACK"),
        (0.491, "> 8"),
        (0.492, "< 1"),
        (0.603, "> 105"),
        (0.7, "< 300"),
    )
    for port, connected in ((4000, 4.725), (4001, 19.949)):
        packets += [f"{connected + after:.3f} {what} port={port}" for after, what in opened]
    used = (7.176, "> 52"), (7.177, "< 40"), (7.191, "> ACK"), (9.543, "> 62"), (9.544, "< ACK"), (13.742, "> FIN")
    packets += [f"{at} {what} port=4000" for at, what in used]
    packets.sort(key=lambda line: float(line.split()[0]))
    clock = Case("", "\n".join(log), "\n".join(packets)).story().connections.points[0].clock
    assert clock.offset_ns is not None and abs(clock.offset_ns) <= clock.error_ns < 100e6
