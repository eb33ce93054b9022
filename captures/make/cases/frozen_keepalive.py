"""frozen-keepalive: a keepalive ping was under way when the function was frozen."""

import json
import time
from pathlib import Path

from recording import Recording, losses, packet_time, request_id, resets, soon
from servers import start_node
from service import Diary, Environment
from stage import Stage
from story import GRPC_TRACES, Case, Claims, Expected, expect, want

PING_BYTES = 17  # an HTTP/2 frame header (9) and the eight bytes of a PING
KEEPALIVE = {
    "grpc.keepalive_time_ms": 2000,
    "grpc.keepalive_timeout_ms": 1000,
    "grpc.keepalive_permit_without_calls": 1,
}
COLD_MS = 1000  # a deadline that leaves time to connect
WARM_MS = 50  # one that does not: connecting and asking are three round trips of 20 ms


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Freeze twice with the ping answered, then once with the ping under way."""
    start_node(stage, folder, "grpc_server.mjs")
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


def claims(recording: Recording) -> Claims:
    """The timeout that was none: first in the log, then on the wire."""
    timeouts = recording.logged("Ping timeout passed")
    yield "exactly one ping timed out", len(timeouts) == 1
    timeout = timeouts[0]
    ping = [event for event in recording.logged("Sending ping") if event.timestamp_ms < timeout.timestamp_ms][-1]
    frozen, thawed = next(span for span in recording.freezes() if span[0] > ping.timestamp_ms / 1000)
    yield "the ping was sent just before a freeze", frozen - ping.timestamp_ms / 1000 < 0.02
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


def expected(recording: Recording) -> Expected:
    """K101, and not the look-alike."""
    client = recording.connections[0].client
    seen_s = recording.logged("Ping timeout passed")[0].timestamp_ms / 1000
    look_alikes = "K102 K103 R301 R302 R303 F201 F202"
    return expect(
        want("K101", client, seen_s),
        forbid=look_alikes,
        server=expect(forbid="K101 F201 F203 R303"),
        logs=expect(want("K101", time=seen_s), forbid=look_alikes),
    )


CASE = Case(
    name="frozen-keepalive",
    delay_ms=10,  # long enough for a freeze to catch the ping under way
    play=play,
    claims=claims,
    expected=expected,
)
