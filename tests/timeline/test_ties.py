"""What is tied to what when several things happen at once, and what is left."""

from __future__ import annotations

import pytest

from analyzer.rules._cases import ENVIRONMENT, OTHER, Case
from analyzer.timeline.tie_table import all_ties

REMOTE = "10.0.0.9:6379"


def opened(at: str, port: int) -> str:
    """A handshake, and the server's SETTINGS."""
    return "\n".join(
        f"{at}{ms:03d} {what} port={port}" for ms, what in ((0, "> SYN"), (1, "< SYN-ACK"), (2, "> ACK"), (4, "< 40"))
    )


def pinged(at: float, port: int) -> str:
    return f"{at:.3f} > PING port={port}\n{at + 0.001:.3f} < PING-ACK port={port}\n{at + 0.041:.3f} > ACK port={port}"


def connects(at: str, number: int, request: int, other: str = "") -> str:
    """What grpc-js prints of a connect."""
    return f"""
        {at}3 {other}grpc {request} transport | dns:svc:6379 {REMOTE} Established TCP connection
        {at}6 {other}grpc {request} transport | ({number}) {REMOTE} local settings acknowledged by remote: {{}}
        {at}7 {other}grpc {request} subchannel | ({number}) {REMOTE} CONNECTING -> READY
    """


def ping(at: str, number: int, request: int, other: str = "") -> str:
    second, _, ms = at.partition(".")
    return f"""
        {second}.{ms} {other}grpc {request} keepalive | ({number}) {REMOTE} Sending ping with timeout 1000ms
        {second}.{int(ms) + 3:03d} {other}grpc {request} keepalive | ({number}) {REMOTE} Received ping response
    """


def in_order(*parts: str) -> str:
    lines = [line.strip() for part in parts for line in part.strip().splitlines()]
    return "\n".join(sorted(lines, key=lambda line: (line.split()[0].rpartition(":")[2], line.split()[0])))


def packets(*parts: str) -> str:
    lines = [line for part in parts for line in part.splitlines()]
    return "\n".join(sorted(lines, key=lambda line: float(line.split()[0])))


def told(story, kind):
    return [(t.left.rpartition("/")[2], t.right, t.confidence, t.used, t.rank) for t in story.ties if t.kind == kind]


TWO_AT_ONCE = in_order(
    "00:00:00.000 START 1\n00:00:00.000 other START 2\n00:00:20.900 REPORT 1\n00:00:20.900 other REPORT 2",
    connects("00:00:01.00", 1, 1),
    connects("00:00:01.00", 1, 2, "other "),
)


def test_two_environments_that_connect_at_once_are_told_apart_by_their_pings():
    """Both behind one address, both to one server, within a millisecond; each then pings at times of its own."""
    log = in_order(
        TWO_AT_ONCE,
        *(ping(f"00:00:{s:02d}.200", 1, 1) for s in (3, 8, 13)),
        *(ping(f"00:00:{s:02d}.700", 1, 2, "other ") for s in (5, 10, 15)),
    )
    wire = packets(
        opened("1.", 5001),
        opened("1.", 5002),
        *(pinged(s + 0.201, 5002) for s in (3, 8, 13)),
        *(pinged(s + 0.701, 5001) for s in (5, 10, 15)),
    )
    story = Case("", log, wire).story()
    ends = {t.environment: story.connections.client(int(t.connection[1:]) - 1) for t in story.transports}
    assert ends == {ENVIRONMENT: "10.0.3.17:5002", OTHER: "10.0.3.17:5001"}
    ties = [t for t in story.ties if t.kind == "transport-connection"]
    assert {(t.confidence, t.used) for t in ties} == {("certain", True)}
    assert all("3 of 3 pings" in t.evidence for t in ties)
    shared = [t for t in story.ties if t.kind == "environment-address"]
    assert {t.left for t in shared} == {ENVIRONMENT, OTHER} and all(len(t.conflicts) == 1 for t in shared)


def test_what_nothing_tells_apart_stays_untied_and_is_told():
    wire = packets(opened("1.", 5001), opened("1.", 5002))
    anchor = connects("00:00:12.00", 2, 1), opened("12.", 5003)
    story = Case("", in_order(TWO_AT_ONCE, anchor[0]), packets(wire, anchor[1])).story()
    assert {t.id[-1]: t.connection for t in story.transports} == {"1": None, "2": "C3"}
    left = [t for t in story.ties if t.kind == "transport-connection" and not t.used]
    untied = [t.id for t in story.transports if t.connection is None]
    assert len(untied) == 2 and {(t.left, t.right) for t in left} == {(t, c) for t in untied for c in ("C1", "C2")}
    assert all(t.confidence == "possible" and t.conflicts and "left untied" in t.evidence for t in left)
    assert not story.connections.environment  # of an address that two may share
    assert {(t.left, t.confidence) for t in story.ties if t.kind == "environment-address"} == {
        (ENVIRONMENT, "likely"), (OTHER, "possible"),
    }  # fmt: skip


def test_connects_in_a_row_keep_their_order():
    """The clocks' error is the same for all of them: the k-th line is the k-th handshake."""
    log = in_order(
        "00:00:00.000 START 1\n00:00:20.900 REPORT 1",
        *(connects(f"00:00:01.{n}0", n, 1) for n in range(1, 6)),
    )
    story = Case(
        "", log, packets(*(opened(f"1.{n}", 5000 + n).replace(f"1.{n}0", f"1.{n}") for n in range(1, 6)))
    ).story()
    assert [t.connection for t in story.transports] == ["C1", "C2", "C3", "C4", "C5"]


def test_an_error_is_of_the_connection_whose_reset_it_tells():
    log = """
        00:00:00.000 START 1
        00:00:00.100 REPORT 1
        00:00:16.000 START 2
        00:00:16.030 app 2 Error: read ECONNRESET { errno: -104, code: 'ECONNRESET', syscall: 'read' }
        00:00:16.300 REPORT 2
    """
    rest = "0.030 > 40 port={0}\n0.031 < 90 port={0}\n0.071 > ACK port={0}"
    wire = packets(
        opened("0.", 5001), opened("0.", 5002), rest.format(5001), rest.format(5002),
        "16.010 > 40 port=5002\n16.012 < 90 port=5002\n16.020 > 40 port=5001\n16.021 < RST port=5001",
    )  # fmt: skip
    story = Case("", log, wire).story()
    (tie,) = [t for t in story.ties if t.kind == "error-connection"]
    (error,) = [e for e in story.events if e.kind == "error"]
    assert story.connections.client(int(tie.right[1:]) - 1).endswith(":5001")
    assert (tie.confidence, tie.used, error.connection) == ("likely", True, tie.right)
    both = Case("", log, wire + "\n16.022 > 40 port=5002\n16.023 < RST port=5002").story()
    assert {(t.right, t.used) for t in both.ties if t.kind == "error-connection"} == {("C1", False), ("C2", False)}
    assert all(e.connection is None for e in both.events if e.kind == "error")


def redis(request: int, second: int, other: str = "") -> str:
    return f"00:00:{second:02d}.000 {other}START {request}\n00:00:{second:02d}.200 {other}REPORT {request}"


def asked(second: int, port: int) -> str:
    return f"{second}.050 > 40 port={port}\n{second}.052 < 90 port={port}\n{second}.092 > ACK port={port}"


def test_connections_of_two_environments_behind_one_address():
    """No gRPC, one source address: each connection speaks when one of the environments runs."""
    mine, others = (2, 11, 23, 31, 47), (6, 15, 27, 38, 52)
    log = in_order(
        *(redis(n, s) for n, s in enumerate(mine, 1)), *(redis(n, s, "other ") for n, s in enumerate(others, 11))
    )
    wire = packets(
        opened("2.0", 5001), opened("6.0", 5002), *(asked(s, 5001) for s in mine), *(asked(s, 5002) for s in others)
    )
    story = Case("", log, wire).story()
    assert story.connections.environment == {0: ENVIRONMENT, 1: OTHER}
    assert told(story, "environment-connection") == [
        (ENVIRONMENT.rpartition("/")[2], "C1", "likely", True, 1),
        (OTHER.rpartition("/")[2], "C2", "likely", True, 1),
    ]


def test_connections_opened_in_initialisations_after_crashes():
    """An environment that crashes initialises again, and connects as it did at first: that is when it runs, too."""
    log, segments = [], []
    for n, init in enumerate((0, 10, 21, 33, 46)):
        log += [f"00:00:{init:02}.000 INIT -", f"00:00:{init + 1:02}.500 START {n + 1}"]
        log += [f"00:00:{init + 1:02}.505 app {n + 1} GET ok", f"00:00:{init + 1:02}.540 REPORT {n + 1}"]
        segments += [
            opened(f"{init}.9", 4000 + n),
            f"{init + 1}.504 > 30 port={4000 + n}\n{init + 1}.505 < 40 port={4000 + n}",
        ]
    story = Case("", "\n".join(log), packets(*segments)).story()
    assert set(story.connections.environment.values()) == {ENVIRONMENT}
    assert len(story.connections.environment) == 5


def test_environments_that_run_together_are_not_told_apart():
    seconds = (2, 11, 23, 31, 47)
    log = in_order(
        *(redis(n, s) for n, s in enumerate(seconds, 1)), *(redis(n, s, "other ") for n, s in enumerate(seconds, 11))
    )
    story = Case("", log, packets(opened("2.0", 5001), *(asked(s, 5001) for s in seconds))).story()
    assert not story.connections.environment
    assert [(t.left, t.used, t.conflicts) for t in story.ties] == [
        (ENVIRONMENT, False, [OTHER]), (OTHER, False, [ENVIRONMENT]),
    ]  # fmt: skip


@pytest.mark.parametrize("stale", [False, True])
def test_a_call_and_the_request_that_ran(stale):
    number = 1 if stale else 2
    log = f"""
        00:00:00.000 START 1
        00:00:00.200 REPORT 1
        00:00:09.000 START 2
        00:00:09.010 grpc {number} channel | (1) dns:svc:443 createResolvingCall [0] method="/t.S/Echo", deadline=Infinity
        00:00:09.300 REPORT 2
    """
    found = [t for t in all_ties(Case("", log).story()) if t.kind == "call-invocation"]
    assert [(t.right[4:8], t.confidence, t.used) for t in found] == (
        [("0001", "possible", True), ("0002", "possible", False)] if stale else [("0002", "certain", True)]
    )
    assert [bool(t.conflicts) for t in found] == [stale] * len(found)


def test_a_handshake_may_end_in_a_freeze():
    """Its line comes at the thaw."""
    log = in_order(
        "00:00:00.000 START 1\n00:00:00.950 REPORT 1\n00:00:09.000 START 2\n00:00:09.300 REPORT 2",
        connects("00:00:00.10", 1, 1),
        *(ping(f"00:00:00.{ms}", 1, 1) for ms in (320, 480, 710)),
        connects("00:00:09.00", 2, 2),
    )
    wire = packets(
        opened("0.1", 5001).replace("0.10", "0.1"),
        *(pinged(s, 5001) for s in (0.321, 0.481, 0.711)),
        opened("0.9", 5002).replace("0.90", "0.9"),
    )
    story = Case("", log, wire).story()
    ends = {t.id[-1]: story.connections.client(int(t.connection[1:]) - 1)[-5:] for t in story.transports}
    assert ends == {"1": ":5001", "2": ":5002"}
    assert story.transports[1].tie.endswith("a freeze among them")


def test_an_environment_that_runs_only_outside_the_capture():
    """Its lines tell which connection is its, but no invocation of it is near: nothing is learnt from when it speaks."""
    log = in_order(
        "00:00:00.000 START 1\n00:00:00.100 REPORT 1", connects("00:00:30.00", 1, 1), ping("00:00:32.500", 1, 1)
    )
    shown = packets(opened("30.", 4001), pinged(32.5, 4001), opened("31.", 4002))
    story = Case("", log, shown).story()
    assert {t.right for t in story.ties if t.kind == "transport-connection" and t.used} == {"C1"}
