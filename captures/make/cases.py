"""The cases: what is played, and what the files must show afterwards for the play to count.

A case that went wrong (a busy machine can be late by more than a cable is long) says so, and is made again.
"""

import concurrent.futures
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recording import Packet, Recording, request_id
from service import Diary, Environment
from stage import HERE, SERVER_ADDRESS, Stage

PING_BYTES = 17  # an HTTP/2 frame header (9) and the eight bytes of a PING
GRPC_TRACES = {
    "GRPC_VERBOSITY": "DEBUG",
    "GRPC_TRACE": "keepalive,transport,subchannel,channel,resolving_call,load_balancing_call",
}
# Findings that say no more than the case does; every other error or warning is a false alarm.
ALLOWED = ["L503", "N901", "R305", "T604"]
FAILURES = "K101 K102 K103 K105 F201 F202 F203 F204 F205 R301 R302 R303 R304 C401 C402 C403 C404 C405"
FAILURES += " L501 L502 T601 T602 T605"

Claims = Iterator[tuple[str, bool]]


@dataclass(frozen=True)
class Case:
    """One case: a name, a cable length, a play and its judges."""

    name: str
    delay_ms: float
    play: Callable[[Stage, Diary, Path], None]
    claims: Callable[[Recording], Claims]  # what happened, and whether the files show it; nobody asks on after a "no"
    expected: Callable[[Recording], dict[str, Any]]  # expected.json, less its inputs


def start_redis(stage: Stage, folder: Path, idle_timeout_s: int) -> None:
    """A Redis server that closes clients idle longer than `idle_timeout_s`."""
    settings = {"bind": "0.0.0.0", "protected-mode": "no", "save": "", "timeout": str(idle_timeout_s)}
    options = [word for key, value in settings.items() for word in (f"--{key}", value)]
    stage.serve(["redis-server", "--dir", str(folder), *options], folder / "redis.log", "Ready to accept")


def start_grpc(stage: Stage, folder: Path) -> None:
    """The gRPC server of `functions/`."""
    stage.serve(["node", str(HERE / "functions" / "grpc_server.mjs")], folder / "grpc.log", "ready")


def soon(event: dict[str, Any], after_s: float) -> bool:
    """Whether a log event follows a moment closely; its own stamp is cut to milliseconds."""
    return bool(-0.001 < event["timestamp"] / 1000 - after_s < 0.1)


def packet_time(packet: Packet | None) -> float:
    """When a packet was seen; a packet that is not there was never seen."""
    return packet.time if packet else float("inf")


def resets(recording: Recording) -> list[Packet]:
    """All RST segments."""
    return [packet for connection in recording.connections for packet in connection.packets if "R" in packet.flags]


def losses(recording: Recording) -> list[Packet]:
    """All segments that were sent again."""
    return [packet for connection in recording.connections for packet in connection.packets if packet.retransmission]


def capture_is_whole(recording: Recording) -> Claims:
    """What every case must show."""
    last_s = max(event["t"] for event in recording.diary.events if event["type"] == "invoke_start")
    sent = [p for connection in recording.connections for p in connection.between(last_s, float("inf")) if p.payload]
    yield "the last request is in the capture", len({packet.sender for packet in sent}) >= 2


# --- frozen-keepalive -------------------------------------------------------------------------------------------------

KEEPALIVE = {
    "grpc.keepalive_time_ms": 2000,
    "grpc.keepalive_timeout_ms": 1000,
    "grpc.keepalive_permit_without_calls": 1,
}
COLD_MS = 1000  # a deadline that leaves time to connect
WARM_MS = 50  # one that does not: connecting and asking are three round trips of 20 ms


def play_frozen_keepalive(stage: Stage, diary: Diary, folder: Path) -> None:
    """Freeze twice with the ping answered, then once with the ping under way."""
    start_grpc(stage, folder)
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", stage.link("A"), diary, freeze="machine")
    environment.start("grpc.mjs", CHANNEL_OPTIONS=json.dumps(KEEPALIVE), **GRPC_TRACES)
    environment.invoke({"deadlines": [COLD_MS]})
    time.sleep(1.0)
    for frozen_s in (4.0, 3.0):
        environment.invoke({"deadlines": [WARM_MS], "until": "Received ping response"})
        time.sleep(frozen_s)
    environment.invoke({"deadlines": [WARM_MS], "until": "Sending ping", "workMs": 0})
    time.sleep(5.5)
    environment.invoke({"deadlines": [WARM_MS, COLD_MS]})
    time.sleep(1.0)
    environment.invoke({"deadlines": [WARM_MS], "until": "Received ping response"})
    time.sleep(3.0)
    environment.invoke({"deadlines": [WARM_MS]})
    stage.stop_capture()


def claims_frozen_keepalive(recording: Recording) -> Claims:
    """The timeout that was none: first in the log, then on the wire."""
    timeouts = recording.logged("Ping timeout passed")
    yield "exactly one ping timed out", len(timeouts) == 1
    timeout = timeouts[0]
    ping = [event for event in recording.logged("Sending ping") if event["timestamp"] < timeout["timestamp"]][-1]
    frozen, thawed = next(span for span in recording.freezes() if span[0] > ping["timestamp"] / 1000)
    yield "the ping was sent just before a freeze", frozen - ping["timestamp"] / 1000 < 0.02
    yield "which lasted 5.5 s", 5.4 < thawed - frozen < 6
    yield "its timeout was logged right after the thaw", soon(timeout, thawed)
    yield "under the id of the request before the freeze", request_id(timeout) == request_id(ping)
    yield "the answer never came", not any(soon(event, thawed) for event in recording.logged("Received ping response"))
    yield "one call met its deadline meanwhile", len(recording.logged("DEADLINE_EXCEEDED: Deadline")) == 1
    yield "all others went well", len(recording.logged("cache get greeting ok")) == 7

    yield "there are two connections", len(recording.connections) == 2
    old, new = recording.connections
    cut = old.between(frozen - 0.05, thawed)
    pings = [packet for packet in cut if packet.payload == PING_BYTES]
    yield "the server got the ping", sum(packet.sender == old.client for packet in pings) == 1
    answers = [packet for packet in pings if packet.sender == old.server]
    yield "the server answered at once", bool(answers) and answers[0].time < frozen + 0.05
    yield "and again and again, to nobody", sum(answer.retransmission for answer in answers) >= 4
    heard = [packet for packet in cut if packet.sender == old.client and packet.time > frozen + 0.03]
    yield "nothing came from the function meanwhile", not heard
    yield "the new connection was opened right after the thaw", 0 < new.packets[0].time - thawed < 0.1
    ends = [old.first("F", side) for side in (old.client, old.server)]
    yield "both sides closed the old one, the client first", all(ends) and ends == sorted(ends, key=packet_time)
    yield "nobody reset anything", not resets(recording)
    yield "nothing else was lost", all(frozen < loss.time < packet_time(ends[1]) for loss in losses(recording))


def expected_frozen_keepalive(recording: Recording) -> dict[str, Any]:
    """K101, and not the look-alike."""
    client = recording.connections[0].client
    seen_s = recording.logged("Ping timeout passed")[0]["timestamp"] / 1000
    return {
        "require": [{"any_of": ["K101"], "client": client, "time": seen_s}],
        "forbid": [{"rules": ["K102", "K103", "R301", "R302", "R303", "F201", "F202"], "client": None}],
        "allow": ["K104", "T601", *ALLOWED],
    }


FROZEN_KEEPALIVE = Case(
    name="frozen-keepalive",
    delay_ms=10,  # long enough for a freeze to catch the ping under way
    play=play_frozen_keepalive,
    claims=claims_frozen_keepalive,
    expected=expected_frozen_keepalive,
)


# --- zombie-fin-wait-2 ------------------------------------------------------------------------------------------------

REDIS_TIMEOUT_S = 6


def play_zombie(stage: Stage, diary: Diary, folder: Path) -> None:
    """Freeze for less, then for more than the server waits for an idle client."""
    start_redis(stage, folder, REDIS_TIMEOUT_S)
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", stage.link("A"), diary, freeze="process")
    environment.start("redis.mjs")
    environment.invoke({"key": "visits"})
    time.sleep(3.0)
    environment.invoke({"key": "visits"})
    time.sleep(16.0)
    environment.invoke({"key": "visits"})
    time.sleep(3.0)
    environment.invoke({"key": "visits"})
    stage.stop_capture()


def claims_zombie(recording: Recording) -> Claims:
    """The connection of which one half was closed for ten seconds."""
    yield "there are two connections", len(recording.connections) == 2
    old, new = recording.connections
    frozen, thawed = recording.freezes()[1]
    yield "the second freeze lasted 16 s", 15.9 < thawed - frozen < 16.5
    fin = old.first("F", old.server)
    yield "the server closed the idle connection during it", fin is not None and frozen < fin.time < thawed - 8
    silence = old.between(packet_time(fin), thawed)
    yield "the client's kernel acknowledged that once", [(p.sender, p.flags) for p in silence] == [(old.client, "A")]
    yield "and neither side said a word until the thaw", silence[0].time - packet_time(fin) < 0.2
    closed = recording.logged("redis connection closed")
    yield "the function found out right after the thaw", len(closed) == 1 and soon(closed[0], thawed)
    before = recording.logged("INCR visits -> 2")[0]
    yield "under the id of the request before the freeze", request_id(closed[0]) == request_id(before)
    end = old.first("F", old.client)
    yield "and only then closed its half", end is not None and 0 < end.time - thawed < 0.1
    yield "the new connection was opened at once", 0 < new.packets[0].time - thawed < 0.3
    yield "every request succeeded", all(recording.logged(f"INCR visits -> {n} in") for n in (1, 2, 3, 4))
    yield "nobody reset anything and nothing was lost", not resets(recording) and not losses(recording)


def expected_zombie(recording: Recording) -> dict[str, Any]:
    """F201: the FIN was acknowledged, which is what tells it from F202."""
    client = recording.connections[0].client
    return {
        "require": [{"any_of": ["F201"], "client": client}],
        "forbid": [{"rules": ["F202"], "client": client}, {"rules": ["K101", "R301", "R302"], "client": None}],
        "allow": ["F203", "F204", "R303", *ALLOWED],
    }


ZOMBIE = Case("zombie-fin-wait-2", delay_ms=1, play=play_zombie, claims=claims_zombie, expected=expected_zombie)


# --- healthy ----------------------------------------------------------------------------------------------------------


def play_healthy(stage: Stage, diary: Diary, folder: Path) -> None:
    """Two functions, each freezing for less than any limit, at the same time."""
    start_redis(stage, folder, 0)
    start_grpc(stage, folder)
    stage.start_capture(folder / "server.pcap")
    redis = Environment("A", stage.link("A"), diary, freeze="machine")
    grpc = Environment("B", stage.link("B"), diary, freeze="machine")

    def use_redis() -> None:
        redis.start("redis.mjs")
        for frozen_s in (2.0, 3.5, 1.2, 0):
            redis.invoke({"key": "visits"})
            time.sleep(frozen_s)

    def use_grpc() -> None:
        time.sleep(0.7)
        grpc.start("grpc.mjs")
        for frozen_s in (1.5, 4.0, 0):
            grpc.invoke({"deadlines": [COLD_MS, COLD_MS]})
            time.sleep(frozen_s)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in [pool.submit(use_redis), pool.submit(use_grpc)]:
            done.result()
    stage.stop_capture()


def claims_healthy(recording: Recording) -> Claims:
    """Nothing happened."""
    ends = sorted((connection.client.split(":")[0], connection.server) for connection in recording.connections)
    expected = [("10.0.1.11", f"{SERVER_ADDRESS}:6379"), ("10.0.1.12", f"{SERVER_ADDRESS}:50051")]
    yield "two environments, one connection each", ends == expected
    closes = [c.first("F", side) for c in recording.connections for side in (c.client, c.server)]
    yield "nobody closed, nobody reset, nothing was lost", not (any(closes) or resets(recording) or losses(recording))
    yield "there were five freezes", len(recording.freezes()) == 5
    yield "no request failed", not recording.logged("\tERROR\t") and not recording.logged("\tWARN\t")


def expected_healthy(_: Recording) -> dict[str, Any]:
    """Silence."""
    return {"require": [], "forbid": [{"rules": FAILURES.split(), "client": None}], "allow": ALLOWED}


HEALTHY = Case("healthy", delay_ms=1, play=play_healthy, claims=claims_healthy, expected=expected_healthy)

CASES = {case.name: case for case in (FROZEN_KEEPALIVE, ZOMBIE, HEALTHY)}
