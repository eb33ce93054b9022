"""server-stalled: a keepalive timeout that is one; the server stood still while the function ran."""

import json
import signal
import threading
import time
from pathlib import Path

from recording import Recording, resets
from servers import start_node
from service import Diary, Environment
from stage import Stage
from story import GRPC_TRACES, Case, Claims, Expected, expect, want

KEEPALIVE = {"grpc.keepalive_time_ms": 2000, "grpc.keepalive_timeout_ms": 1000}
KEEPALIVE["grpc.keepalive_permit_without_calls"] = 1


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """A harmless freeze, a slow answer, a server that stands still for four seconds."""
    server = start_node(stage, folder, "grpc_server.mjs")
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", stage.link("A"), diary, freeze="machine")
    environment.start("grpc.mjs", CHANNEL_OPTIONS=json.dumps(KEEPALIVE), **GRPC_TRACES)
    environment.invoke({"deadlines": [1000]})
    time.sleep(3.0)
    environment.invoke({"deadlines": [3000], "key": "sleep 1500"})
    time.sleep(1.0)

    def stall() -> None:
        time.sleep(0.5)
        server.send_signal(signal.SIGSTOP)
        diary.note("server_stop")
        time.sleep(5.0)
        server.send_signal(signal.SIGCONT)
        diary.note("server_continue")

    stalling = threading.Thread(target=stall)
    stalling.start()
    environment.invoke({"deadlines": [1000, 5000], "key": "sleep 700"})
    stalling.join()
    environment.invoke({"deadlines": [1000]})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """Expired on time, in the middle of an invocation."""
    (stop,), (go,) = recording.noted("server_stop"), recording.noted("server_continue")
    timeouts = recording.logged("Ping timeout passed")
    yield "exactly one ping timed out", len(timeouts) == 1
    expired_s = timeouts[0].timestamp_ms / 1000
    yield "while the server stood still", stop["t"] < expired_s < go["t"]
    ping = [event for event in recording.logged("Sending ping") if event.timestamp_ms < timeouts[0].timestamp_ms][-1]
    yield "after its second, no sooner and no later", 0.99 < expired_s - ping.timestamp_ms / 1000 < 1.2
    frozen = [span for span in recording.freezes() if ping.timestamp_ms / 1000 < span[1] and span[0] < expired_s]
    yield "and the function had not been frozen", not frozen
    failed = recording.logged("failed after")
    yield "one call met its deadline, the next was cut", ["DEADLINE" in e.message for e in failed] == [True, False]
    yield "with UNAVAILABLE", "UNAVAILABLE" in failed[1].message
    yield "the slow answer was an answer", any("sleep 1500 ok" in e.message for e in recording.logged("cache get"))
    yield "there are two connections", len(recording.connections) == 2
    answers = [
        p for p in recording.connections[0].between(stop["t"], go["t"]) if p.payload and p.sender.endswith(":50051")
    ]
    yield "the server's kernel acknowledged, its process said nothing", not answers
    yield "nobody reset anything before the server went on", all(packet.time > go["t"] for packet in resets(recording))


def expected(recording: Recording) -> Expected:
    """K102, and not the look-alike."""
    client = recording.connections[0].client
    seen_s = recording.logged("Ping timeout passed")[0].timestamp_ms / 1000
    wrong = "K101 K103 R301 R302 R303 F201 F202 F203 T601 T602 N901"
    return expect(
        want("K102", client, seen_s),
        forbid=wrong,
        server=expect(forbid=wrong),
        logs=expect(want("K102", time=seen_s), forbid=wrong),
    )


CASE = Case("server-stalled", delay_ms=2, play=play, claims=claims, expected=expected)
