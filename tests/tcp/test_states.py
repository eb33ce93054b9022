"""The endpoint machine: its table against RFC 9293 figure 5, and walks of whole connections through the tracker."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from analyzer.capture.columns import (
    ACK,
    ACK_FLAG,
    DPORT,
    DST_LO,
    FIN,
    FLAGS,
    LEN,
    N_COLUMNS,
    NO,
    RST,
    SEQ,
    SPORT,
    SRC_LO,
    SYN,
    TS,
    TSVAL,
    V4_MAPPED,
    WIN,
)
from analyzer.tcp import states
from analyzer.tcp.connections import PointConnection, connections_of
from analyzer.tcp.states import EVENTS, STATES, TRANSITIONS
from analyzer.tcp.tracker import Tracker

START = 1_700_000_000 * 10**9
MS = 1_000_000
FLAG = {"S": SYN, "A": ACK_FLAG, "F": FIN, "R": RST, ".": 0}
C, S = 0, 1

#: (ms, side, flags, relative sequence number, relative acknowledgement, payload bytes)
Segment = tuple[int, int, str, int, int, int]
ISN = (1_000, 4_294_967_290)  # the server's wraps

OPEN: list[Segment] = [(0, C, "S", 0, 0, 0), (10, S, "SA", 0, 1, 0), (20, C, "A", 1, 1, 0)]


def walk(segments: Iterable[Segment], window: dict[int, int] | None = None) -> PointConnection:
    """The one connection that the segments make; `window` gives those that are not 1,000, by ms."""
    table: list[int] = []
    for number, (ms, side, flags, seq, ack, size) in enumerate(segments, 1):
        row = [0] * N_COLUMNS
        row[TS], row[NO], row[LEN], row[WIN], row[TSVAL] = (
            START + ms * MS,
            number,
            size,
            (window or {}).get(ms, 1000),
            -1,
        )
        row[SRC_LO], row[DST_LO] = (V4_MAPPED | 10 + side, V4_MAPPED | 11 - side)
        row[SPORT], row[DPORT] = ((50_000, 443), (443, 50_000))[side]
        row[FLAGS] = sum(FLAG[letter] for letter in flags)
        row[SEQ] = (ISN[side] + seq) & 0xFFFFFFFF
        row[ACK] = (ISN[1 - side] + ack) & 0xFFFFFFFF if "A" in flags else 0
        table += row
    tracker = Tracker()
    tracker.feed(table, len(table) // N_COLUMNS, compiled=False)
    connections = connections_of(tracker.finish())
    assert len(connections) == 1
    return connections[0]


def ends(segments: Iterable[Segment]) -> tuple[str, str]:
    connection = walk(segments)
    return connection.a.state, connection.b.state


WALKS: dict[str, tuple[list[Segment], tuple[str, str]]] = {
    "a SYN alone": (OPEN[:1], ("SYN_SENT", "UNKNOWN")),
    "SYN and SYN-ACK": (OPEN[:2], ("SYN_SENT", "SYN_RECEIVED")),
    "the handshake": (OPEN, ("ESTABLISHED", "ESTABLISHED")),
    "the client's FIN, not acknowledged": ([*OPEN, (30, C, "FA", 1, 1, 0)], ("FIN_WAIT_1", "ESTABLISHED")),
    "the client's FIN, acknowledged": (
        [*OPEN, (30, C, "FA", 1, 1, 0), (40, S, "A", 1, 2, 0)],
        ("FIN_WAIT_2", "CLOSE_WAIT"),
    ),
    "active close of the client, to the last ACK": (
        [*OPEN, (30, C, "FA", 1, 1, 0), (40, S, "A", 1, 2, 0), (50, S, "FA", 1, 2, 0), (60, C, "A", 2, 2, 0)],
        ("TIME_WAIT", "CLOSED"),
    ),
    "active close of the client, the last ACK not seen": (
        [*OPEN, (30, C, "FA", 1, 1, 0), (40, S, "A", 1, 2, 0), (50, S, "FA", 1, 2, 0)],
        ("FIN_WAIT_2", "LAST_ACK"),
    ),
    "active close of the server, FIN and ACK in one": (
        [*OPEN, (30, S, "FA", 1, 1, 0), (40, C, "FA", 1, 2, 0), (50, S, "A", 2, 2, 0)],
        ("CLOSED", "TIME_WAIT"),
    ),
    "the server's FIN acknowledged, the client silent": (
        [*OPEN, (30, S, "FA", 1, 1, 0), (40, C, "A", 1, 2, 0)],
        ("CLOSE_WAIT", "FIN_WAIT_2"),
    ),
    "FIN with data, acknowledged but for the FIN": (
        [*OPEN, (30, S, "FA", 1, 1, 100), (40, C, "A", 1, 101, 0)],
        ("ESTABLISHED", "FIN_WAIT_1"),
    ),
    "simultaneous close, FINs crossing": (
        [*OPEN, (30, C, "FA", 1, 1, 0), (31, S, "FA", 1, 1, 0), (40, S, "A", 2, 2, 0), (41, C, "A", 2, 2, 0)],
        ("TIME_WAIT", "TIME_WAIT"),
    ),
    "simultaneous close, one ACK lost": (
        [*OPEN, (30, C, "FA", 1, 1, 0), (31, S, "FA", 1, 1, 0), (40, S, "A", 2, 2, 0)],
        ("FIN_WAIT_2", "CLOSING"),
    ),
    "simultaneous open": (
        [
            (0, C, "S", 0, 0, 0),
            (1, S, "S", 0, 0, 0),
            (10, C, "SA", 0, 1, 0),
            (11, S, "SA", 0, 1, 0),
            (20, C, "A", 1, 1, 0),
        ],
        ("ESTABLISHED", "ESTABLISHED"),
    ),
    "FIN repeated after its ACK: the ACK was lost on the way": (
        [*OPEN, (30, S, "FA", 1, 1, 0), (40, C, "A", 1, 2, 0), (250, S, "FA", 1, 1, 0)],
        ("CLOSE_WAIT", "FIN_WAIT_1"),
    ),
    "FIN repeated after its ACK, and acknowledged again": (
        [*OPEN, (30, S, "FA", 1, 1, 0), (40, C, "A", 1, 2, 0), (250, S, "FA", 1, 1, 0), (260, C, "A", 1, 2, 0)],
        ("CLOSE_WAIT", "FIN_WAIT_2"),
    ),
    "reset": ([*OPEN, (30, S, "RA", 1, 1, 0)], ("CLOSED", "CLOSED")),
    "reset in answer to a SYN": ([OPEN[0], (10, S, "RA", 0, 1, 0)], ("CLOSED", "CLOSED")),
    "reset lost: its addressee goes on a second later": (
        [*OPEN, (30, S, "RA", 1, 1, 0), (1_030, C, "A", 1, 1, 10)],
        ("ESTABLISHED", "CLOSED"),
    ),
    "reset lost, after the server's FIN was acknowledged": (
        [*OPEN, (30, S, "FA", 1, 1, 0), (40, C, "A", 1, 2, 0), (60_000, S, "RA", 2, 1, 0), (90_000, C, "A", 1, 2, 10)],
        ("CLOSE_WAIT", "CLOSED"),
    ),
    "data in flight when the reset came": (
        [*OPEN, (30, S, "RA", 1, 1, 0), (31, C, "A", 1, 1, 10)],
        ("CLOSED", "CLOSED"),
    ),
    "from the middle": ([(0, C, "A", 500, 700, 10), (10, S, "A", 700, 510, 0)], ("ESTABLISHED", "ESTABLISHED")),
    "one direction only": ([(0, C, "A", 500, 700, 10), (10, C, "A", 510, 700, 10)], ("ESTABLISHED", "UNKNOWN")),
}


@pytest.mark.parametrize("name", WALKS)
def test_walks_through_the_machine(name: str) -> None:
    segments, expected = WALKS[name]
    assert ends(segments) == expected


def test_who_began_the_end() -> None:
    assert walk([*OPEN, (30, S, "FA", 1, 1, 0), (40, C, "FA", 1, 2, 0)]).ended_by == "server-fin"
    assert walk([*OPEN, (30, C, "RA", 1, 1, 0)]).ended_by == "client-rst"
    assert walk(OPEN).ended_by is None


def test_payload_counts_once_across_the_wrap() -> None:
    connection = walk([*OPEN, (30, S, "A", 1, 1, 100), (230, S, "A", 1, 1, 100), (240, S, "A", 101, 1, 50)])
    assert (connection.b.payload, connection.b.retransmits) == (150, 1)


def test_payload_beyond_the_circle_of_sequence_numbers() -> None:
    """Six gigabytes in twelve segments, each acknowledged; then the last but one again."""
    size = 500_000_000
    talk: list[Segment] = []
    for n in range(12):
        talk += [(30 + 2 * n, S, "A", n * size + 1, 1, size), (31 + 2 * n, C, "A", 1, (n + 1) * size + 1, 0)]
    whole = walk([*OPEN, *talk])
    assert (whole.b.payload, whole.b.retransmits, whole.missed) == (12 * size, 0, 0)
    again = walk([*OPEN, *talk, (900, S, "A", 10 * size + 1, 1, size)])
    assert (again.b.payload, again.b.retransmits, again.missed) == (12 * size, 1, 0)


def test_data_seen_after_its_acknowledgement_is_not_missed() -> None:
    """A capture merged of two taps shows the acknowledgement first. tshark calls the data spurious, so it counts as such."""
    connection = walk([*OPEN, (30, C, "A", 1, 101, 0), (30, S, "A", 1, 1, 100), (31, S, "A", 101, 1, 100)])
    assert (connection.b.payload, connection.b.retransmits, connection.b.out_of_order) == (200, 1, 0)
    assert connection.missed == 0


def test_the_byte_of_a_window_probe_is_not_missed() -> None:
    probe: list[Segment] = [(25, C, "A", 1, 1, 0), (40, S, "A", 1, 1, 1), (50, C, "A", 1, 2, 0)]
    assert walk([*OPEN, *probe], window={25: 0}).missed == 0
    assert walk([*OPEN, *probe, (60, S, "A", 2, 1, 10)], window={25: 0}).missed == 0


def test_data_acknowledged_and_never_seen_is_missed() -> None:
    assert walk([*OPEN, (30, C, "A", 1, 101, 0)]).missed == 100


@pytest.mark.parametrize("size", [0, 1])
def test_keepalives_of_a_connection_older_than_the_capture(size: int) -> None:
    """The first probe shows no more than that its sequence number is one the peer has acknowledged."""
    probes: list[Segment] = [(0, S, "A", 700, 500, 0)]
    for second in range(3):
        probes += [(second * 1000 + 10, C, "A", 499, 700, size), (second * 1000 + 20, S, "A", 700, 500, 0)]
    connection = walk(probes)
    assert (connection.a.keepalives, connection.a.retransmits, connection.b.keepalives) == (3, 0, 0)


@pytest.mark.parametrize("prober", [C, S])
@pytest.mark.parametrize("unanswered", [1, 3])
def test_a_capture_that_begins_with_an_empty_keepalive_probe_misses_nothing(prober: int, unanswered: int) -> None:
    """The answer acknowledges a byte more than the probe shows: it was sent before the capture began."""
    other = S if prober == C else C
    probes: list[Segment] = [(n * 1000, prober, "A", 499, 700, 0) for n in range(unanswered)]
    for second in range(5, 8):
        probes += [(second * 1000, prober, "A", 499, 700, 0), (second * 1000 + 10, other, "A", 700, 500, 0)]
    whole = walk([*probes, (9000, prober, "A", 500, 700, 20), (9010, other, "A", 700, 520, 0)])
    side = whole.a if prober == C else whole.b
    assert (side.payload, side.keepalives, whole.missed, whole.oddities) == (20, 2, 0, ("capture began mid-stream",))


def test_a_byte_or_fin_that_was_not_captured_is_missed() -> None:
    """Where the peer sent more than acknowledgements, the segment before is none of a keepalive."""
    talk: list[Segment] = [(0, S, "A", 700, 500, 10), (1, C, "A", 500, 710, 0)]
    assert walk([*talk, (2, S, "A", 710, 501, 0)]).missed == 1
    assert walk([talk[1], (2, S, "FA", 710, 501, 0)]).missed == 1


def test_a_client_that_writes_two_minutes_after_a_lost_reset_is_the_same_connection() -> None:
    late = 10 * 60 * 1000
    assert walk([*OPEN, (30, S, "RA", 1, 1, 0), (late, C, "A", 1, 1, 10), (late + 1, S, "R", 1, 0, 0)]).a.packets == 3


# ---- the table

NO_EFFECT_WHEN_CLOSED = (
    "its SYN is acknowledged",
    "sends a segment",
    "acknowledges the peer's FIN",
    "its FIN is acknowledged",
)


def after(event: str, state: str) -> str:
    return STATES[TRANSITIONS[EVENTS.index(event)][STATES.index(state)]]


def test_every_event_has_an_answer_in_every_state() -> None:
    assert len(TRANSITIONS) == len(EVENTS)
    assert all(len(row) == len(STATES) and set(row) <= set(range(len(STATES))) for row in TRANSITIONS)


@pytest.mark.parametrize("state", STATES)
def test_a_reset_closes_everything(state: str) -> None:
    assert after("sends RST", state) == after("is sent RST", state) == "CLOSED"


@pytest.mark.parametrize("event", NO_EFFECT_WHEN_CLOSED)
def test_what_comes_late_opens_nothing(event: str) -> None:
    assert after(event, "CLOSED") == "CLOSED"
    assert after(event, "TIME_WAIT") == "TIME_WAIT"


@pytest.mark.parametrize(
    ("state", "event", "expected"),
    [
        ("LISTEN", "sends SYN-ACK", "SYN_RECEIVED"),
        ("CLOSED", "sends SYN", "SYN_SENT"),
        ("SYN_SENT", "sends SYN-ACK", "SYN_RECEIVED"),
        ("SYN_RECEIVED", "its SYN is acknowledged", "ESTABLISHED"),
        ("SYN_RECEIVED", "sends FIN", "FIN_WAIT_1"),
        ("ESTABLISHED", "sends FIN", "FIN_WAIT_1"),
        ("ESTABLISHED", "acknowledges the peer's FIN", "CLOSE_WAIT"),
        ("FIN_WAIT_1", "its FIN is acknowledged", "FIN_WAIT_2"),
        ("FIN_WAIT_1", "acknowledges the peer's FIN", "CLOSING"),
        ("FIN_WAIT_2", "acknowledges the peer's FIN", "TIME_WAIT"),
        ("CLOSING", "its FIN is acknowledged", "TIME_WAIT"),
        ("CLOSE_WAIT", "sends FIN", "LAST_ACK"),
        ("LAST_ACK", "its FIN is acknowledged", "CLOSED"),
    ],
)
def test_the_arrows_of_rfc_9293_figure_5(state: str, event: str, expected: str) -> None:
    assert after(event, state) == expected


def test_zeek_states_are_of_the_closed_set() -> None:
    known = {"S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH"}
    found = {
        states.conn_state(client, server, history, data)
        for client in range(7)
        for server in range(7)
        for history in ("", "S", "SR", "ShR", "^hADR")
        for data in (False, True)
    }
    assert found <= known
