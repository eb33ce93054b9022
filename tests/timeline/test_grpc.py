"""Transports, pings and calls put together from lines: what goes wrong when ids are used again, shared or missing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from analyzer.logs.reader import to_event
from analyzer.logs.records import LogRecord
from analyzer.model.clocks import Clock
from analyzer.model.records import Environment, Transport
from analyzer.tcp import fields as f
from analyzer.timeline.calls import calls_of
from analyzer.timeline.grpc import processes_of, transports_of
from analyzer.timeline.story import Story
from analyzer.timeline.transport_ties import tie_transports

S = 1_000_000_000
A, B = "10.0.0.9:443", "10.0.0.8:443"


def read(lines, environment="env"):
    """Events of `seconds text` lines, with transports, pings and calls."""
    events = []
    for order, line in enumerate(lines, 1):
        at, text = line.split(" ", 1)
        event = to_event(LogRecord(f":{order}", text, stream=environment), "s1", order)
        event.time_ns = event.source_ns = round(float(at) * S)
        events.append(event)
    processes = processes_of(events)
    transports, pings = transports_of(events, processes)
    return transports, pings, calls_of(events, processes, transports)


def core(text):
    return f"I1121 00:04:39.209647410   16888 x.cc:1]   {text}"


def late(text):
    return f"I1121 00:04:39.209647   16888 x.cc:1] {text}"


def js(text, version="v1.14.7 18 | "):
    return f"D 2026-11-21T00:00:00.000Z | {version}{text}"


def ends(transports):
    return [(t.number, t.remote, t.closed_by) for t in transports]


P, Q = "0x7f01", "0x7f02"
PEER = f"ipv4:{A}"


def begin(at, pointer, peer=PEER, form=core):
    return f"{at} " + form(f"W:{pointer} CLIENT [{peer}] state WRITING -> WRITING+MORE [INITIAL_WRITE]")


def test_a_pointer_that_is_used_again_is_another_transport():
    lines = [
        begin(1, P),
        "2 " + core(f"W:{P} CLIENT [{PEER}] state IDLE -> WRITING [KEEPALIVE_PING]"),
        "2 " + core(f"{PEER}: Start keepalive ping"),
        "3 " + core(f"{PEER}: Keepalive watchdog fired. Closing transport."),
        "3 " + core(f"transport {P} set connectivity_state=4"),
        begin(4, P),
        "5 " + core(f"{PEER}: Start keepalive ping"),
        "5.01 " + core(f"{PEER}: Finish keepalive ping"),
    ]
    transports, pings, _ = read(lines)
    assert ends(transports) == [(f"{P}.1", A, "keepalive-timeout"), (f"{P}.2", A, None)]
    assert [(p.transport[-1], p.acked is None, p.timed_out is None) for p in pings] == [
        ("1", True, False),
        ("2", False, True),
    ]


def test_the_timer_of_a_dead_transport_says_nothing_of_the_next():
    """C-core up to 1.64: a ping line and its watchdog name only the peer, and come after the transport has ended."""
    lines = [
        begin(1, P),
        "2 " + core(f"W:{P} CLIENT [{PEER}] state IDLE -> WRITING [KEEPALIVE_PING]"),
        "2 " + core(f"transport {P} set connectivity_state=4"),
        "2.0001 " + core(f"{PEER}: Start keepalive ping"),
        begin(2.9, Q),
        "3 " + core(f"{PEER}: Keepalive watchdog fired. Closing transport."),
    ]
    transports, pings, _ = read(lines)
    assert ends(transports) == [(P, A, "close"), (Q, A, None)]
    assert pings == []


def test_of_two_transports_to_one_peer_the_one_that_waits_timed_out():
    lines = [begin(1, P), begin(1.1, Q)]
    for at, pointer in ((2, P), (2.5, Q)):
        lines.append(f"{at} " + core(f"W:{pointer} CLIENT [{PEER}] state IDLE -> WRITING [KEEPALIVE_PING]"))
        lines.append(f"{at} " + core(f"{PEER}: Start keepalive ping"))
    lines.append("3 " + core(f"{PEER}: Keepalive watchdog fired. Closing transport."))
    transports, _, _ = read(lines)
    assert ends(transports) == [(P, A, "keepalive-timeout"), (Q, A, None)]


def test_bandwidth_pings_are_no_keepalive():
    lines = [
        begin(1, P, form=late),
        "2 " + late(f"W:{P} CLIENT [{PEER}] state IDLE -> WRITING [BDP_PING]"),
        "2 " + late(f"CLIENT[{P}]: Ping 11 sent [{PEER}]: max"),
        "2 " + late(f"{PEER}: Start BDP ping err=OK"),
        "2.1 " + late(f"CLIENT[{P}]: received ping ack 11"),
        "3 " + late(f"W:{P} CLIENT [{PEER}] state IDLE -> WRITING [KEEPALIVE_PING]"),
        "3 " + late(f"CLIENT[{P}]: Ping 12 sent [{PEER}]: max"),
        "3 " + late(f"CLIENT[{P}]: Set ping timeout timer of 1000ms for ping id 12"),
        "3.1 " + late(f"CLIENT[{P}]: received ping 99"),
        "3.2 " + late(f"CLIENT[{P}]: received ping ack 12"),
        "3.2 " + late(f"{PEER}: Finish keepalive ping"),
    ]
    _, (ping,), _ = read(lines)
    assert (ping.sent_ns, ping.acked_ns, ping.timeout_ms) == (3 * S, round(3.2 * S), 1000)


def test_an_answer_read_with_the_timeout_is_late():
    """C-core from 1.8x on reads the answer first, and the timer fires all the same."""
    lines = [
        begin(1, P, form=late),
        "2 " + late(f"CLIENT[{P}]: Ping 12 sent [{PEER}]: max"),
        "7 " + late(f"CLIENT[{P}]: received ping ack 12"),
        "7.0001 " + late(f"{PEER}: Ping timeout. Closing transport."),
    ]
    _, (ping,), _ = read(lines)
    assert ping.acked is None and ping.late_ack is not None and ping.timed_out_ns == round(7.0001 * S)


@pytest.mark.parametrize(
    ("version", "lines", "late_ack"),
    [
        ("v1.10.10 18 | ", ("Received ping response",), True),
        ("v1.10.9 18 | ", ("Ping failed with error HTTP2 ping cancelled", "Received ping response"), False),
        ("v1.10.9 18 | ", ("Received ping response",), True),
        ("", ("Received ping response",), False),
    ],
)
def test_which_answers_after_a_timeout_count(version, lines, late_ack):
    said = [
        "Sending ping with timeout 1000ms",
        "Ping timeout passed without response",
        *lines,
        "Sending ping with timeout 1000ms",
    ]
    _, (ping,), _ = read(
        [f"{2 + k / 100} " + js(f"keepalive | (3) {A} {text}", version) for k, text in enumerate(said)]
    )
    assert (ping.late_ack is not None) is late_ack


def test_numbers_of_subchannels_and_transports_stay_apart():
    """grpc-js from 1.10.5 on: subchannel (1) and transport (1) are different things, and both survive each other."""
    lines = []
    for k, remote in enumerate((A, B), 1):
        lines += [
            f"{k} " + js(f"keepalive | ({3 - k}) {remote} Starting keepalive timer for 1000ms"),
            f"{k} " + js(f"subchannel | ({k}) {remote} CONNECTING -> READY"),
        ]
    lines.append("5 " + js(f"subchannel | (1) {A} READY -> IDLE"))
    transports, _, _ = read(lines)
    assert ends(transports) == [("2", A, "close"), ("1", B, None)]
    assert [t.subchannel for t in transports] == ["1", "2"]


def test_up_to_1_3_only_the_address_tells():
    lines = [
        "1 " + js(f"subchannel | {A} CONNECTING -> READY", ""),
        "2 " + js(f"keepalive | Sending ping to {A}", ""),
        "3 " + js(f"subchannel | {A} READY -> TRANSIENT_FAILURE", ""),
        "4 " + js(f"subchannel | {A} CONNECTING -> READY", ""),
        "5 " + js(f"keepalive | Sending ping to {A}", ""),
    ]
    transports, pings, _ = read(lines)
    assert [t.number for t in transports] == ["1", "2"] and len(pings) == 2
    assert pings[0].transport != pings[1].transport


def test_a_failed_attempt_is_no_transport():
    lines = [
        "1 " + js(f"subchannel | (2) {A} IDLE -> CONNECTING", ""),
        "1 " + js(f"subchannel | (2) {A} connection closed with error connect ECONNREFUSED {A}", ""),
        "1 " + js(f"subchannel | (2) {A} connection closed", ""),
        "1 " + js(f"subchannel | (2) {A} CONNECTING -> TRANSIENT_FAILURE", ""),
    ]
    assert read(lines)[0] == []


def test_go_ends_are_told_apart_by_what_follows():
    """`Closing` names a pointer that nothing else does: the subchannel that leaves READY next is its."""
    go = "2026/11/21 00:00:00 INFO: "
    lines = []
    for sub, remote in (("2", A), ("4", B)):
        lines.append(f'1 {go}[core] [Channel #1 SubChannel #{sub}]Subchannel picks a new address "{remote}" to connect')
        lines.append(f"1 {go}[core] [Channel #1 SubChannel #{sub}]Subchannel Connectivity change to READY")
    lines.append(
        f'5 {go}[transport] [client-transport 0xc1] Closing: connection error: desc = "keepalive ping failed to receive ACK within timeout"'
    )
    lines.append(f"5 {go}[core] [Channel #1 SubChannel #4]Subchannel Connectivity change to IDLE")
    transports, _, _ = read(lines)
    assert ends(transports) == [("2", A, None), ("0xc1", B, "keepalive-timeout")]


def test_processes_have_ids_of_their_own():
    ping = js(f"keepalive | (1) {A} Sending ping with timeout 1000ms")
    other = ping.replace("v1.14.7 18", "v1.14.7 19")
    transports, pings, _ = read(
        ["1 " + ping, "1.5 " + other, "2 INIT_START Runtime Version: nodejs:20.v1", "3 " + ping]
    )
    assert len(transports) == len(pings) == 3 == len({t.id for t in transports})


# ---- calls


def test_one_call_in_four_layers():
    """1.8 to 1.14.4: four numbers an RPC, and the retrying call's link is seldom traced."""
    lines = [
        "1 " + js('channel | (1) dns:svc:443 createResolvingCall [0] method="/t.S/Echo", deadline=Infinity'),
        "1 " + js("resolving_call | [0] Created child [1]"),
        "1 " + js(f"load_balancing_call | [2] Pick result: COMPLETE subchannel: (1) {A} status: undefined undefined"),
        "1 " + js("load_balancing_call | [2] Created child call [3]"),
        "2 " + js('subchannel_call | [3] ended with status: code=14 details="Connection dropped"'),
        "2.1 " + js('load_balancing_call | [2] ended with status: code=14 details="Connection dropped"'),
        "2.2 " + js('resolving_call | [0] ended with status: code=4 details="Deadline exceeded"'),
        "3 " + js('channel | (1) dns:svc:443 createResolvingCall [4] method="/t.S/Echo", deadline=Infinity'),
    ]
    _, _, calls = read(lines)
    assert [(c.method, c.status, c.end_ns, c.remote) for c in calls] == [
        ("/t.S/Echo", 4, round(2.2 * S), A),
        ("/t.S/Echo", None, None, None),
    ]


def test_a_status_is_that_of_the_call_whose_trailers_came():
    """C-core prints the status without the call; pointers of calls are used again at once."""
    lines = [
        "1 " + late("chand=0x1 calld=0xa: created call"),
        "1.1 " + late("chand=0x1 calld=0xb: created call"),
        "2 " + late("chand=0x1 calld=0xb: got recv_trailing_metadata_ready: error=OK"),
        "2 " + late("set_final_status CLI UNAVAILABLE:Socket closed"),
        "3 " + late("chand=0x1 calld=0xb: created call"),
        "4 " + late("chand=0x1 calld=0xb: got recv_trailing_metadata_ready: error=OK"),
        "4 " + late("set_final_status CLI OK"),
        "5 " + late("set_final_status CLI DEADLINE_EXCEEDED:Deadline Exceeded"),
    ]
    _, _, calls = read(lines)
    assert [(c.id.rsplit("/", 1)[1], c.status) for c in calls] == [("0xa", 4), ("0xb", 14), ("0xb.2", 0)]


def test_a_call_belongs_to_the_transport_of_the_subchannel_it_picked():
    lines = []
    for k in (1, 2):
        lines += [
            "1 " + js(f"keepalive | ({k}) {A} Starting keepalive timer for 1000ms"),
            "1 " + js(f"subchannel | ({k}) {A} CONNECTING -> READY"),
        ]
    lines += [
        "2 " + js('channel | (1) dns:svc:443 createResolvingCall [0] method="/t.S/Echo", deadline=Infinity'),
        "2 " + js(f"resolving_call | [0] Pick result: COMPLETE subchannel: (2) {A} status: undefined undefined"),
    ]
    transports, _, (call,) = read(lines)
    assert call.transport == transports[1].id


# ---- ties


class Connections(SimpleNamespace):
    """Just enough of `points.Connections`: (client, server, first packet) each."""

    def __init__(self, *rows):
        found = [{f.FIRST_TS: first} for _, _, first in rows]
        clock = Clock("packet", offset_ns=0)
        point = SimpleNamespace(rows=found, clock=clock, aligned=clock.aligned)
        super().__init__(ends=rows, points=[point], members={(k, 0): k for k in range(len(rows))}, transports={})

    def __len__(self):
        return len(self.ends)

    def client(self, k):
        return self.ends[k][0]

    def server(self, k):
        return self.ends[k][1]

    def seen_at(self, k):
        return [0]

    def id(self, k):
        return f"C{k + 1}"


def tie(transport, connections, frame=1):
    """Tie one transport of an environment whose log is in a frame; the captures are in frame 0."""
    environments = [Environment("env", frame=frame)]
    tie_transports(Story([], connections, environments=environments, transports=[transport]))


def test_the_clients_own_port_ties_without_a_clock():
    """grpc-java prints both addresses: no alignment is needed, and a port that came round again is told by time."""
    t = Transport("env/?/transport/4", "env", None, "4", "grpc-java", None, A, opened_ns=100 * S, local="10.0.0.1:5000")
    connections = Connections(("10.0.0.1:4000", A, 100 * S), ("10.0.0.1:5000", A, 7 * S))
    tie(t, connections)
    assert (t.connection, t.tie) == ("C2", "both addresses") and connections.transports == {1: [t.id]}
    t.connection = None
    tie(t, Connections(("10.0.0.1:5000", A, 7 * S), ("10.0.0.1:5000", A, 99 * S)), frame=0)
    assert t.connection == "C2"


def test_a_port_and_a_time_that_contradict_each_other_are_both_told():
    t = Transport("env/?/transport/4", "env", None, "4", "grpc-java", None, A, opened_ns=100 * S, local="10.0.0.1:5000")
    connections = Connections(("10.0.0.1:5000", A, 7 * S), ("10.0.0.1:6000", A, 100 * S), ("10.0.0.1:7000", A, 140 * S))
    story = Story([], connections, environments=[Environment("env", frame=0)], transports=[t])
    tie_transports(story)
    assert [(x.right, x.confidence, x.used, x.rank, x.conflicts) for x in story.ties] == [
        ("C1", "likely", True, 1, ["C2"]),
        ("C2", "possible", False, 2, ["C1"]),
    ]
    assert (
        t.connection == "C1"
        and story.ties[0].evidence == "both addresses, but established 93 s from when the transport was"
    )
