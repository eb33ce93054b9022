"""event-loop-blocked: the function computed for so long that its own timer fired before its socket was read; no freeze."""

import json
import time
from pathlib import Path

from recording import Recording, losses, resets
from servers import start_node
from service import Diary, Environment
from stage import Stage
from story import GRPC_TRACES, Case, Claims, Expected, expect, want

KEEPALIVE = {"grpc.keepalive_time_ms": 2000, "grpc.keepalive_timeout_ms": 1000}
KEEPALIVE["grpc.keepalive_permit_without_calls"] = 1


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Block after the ping was answered, then with the ping under way."""
    start_node(stage, folder, "grpc_server.mjs")
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", stage.link("A"), diary, freeze="machine")
    environment.start("grpc.mjs", CHANNEL_OPTIONS=json.dumps(KEEPALIVE), **GRPC_TRACES)
    environment.invoke({"deadlines": [1000], "until": "Received ping response", "blockMs": 3000})
    time.sleep(1.0)
    environment.invoke({"deadlines": [1000], "until": "Sending ping", "blockMs": 2500})
    time.sleep(1.0)
    environment.invoke({"deadlines": [1000]})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """The answer was there in time, and nobody was frozen meanwhile."""
    timeouts = recording.logged("Ping timeout passed")
    yield "exactly one ping timed out", len(timeouts) == 1
    expired_s = timeouts[0].timestamp_ms / 1000
    ping = [event for event in recording.logged("Sending ping") if event.timestamp_ms < timeouts[0].timestamp_ms][-1]
    sent_s = ping.timestamp_ms / 1000
    yield "1.5 s later than it should", 2.4 < expired_s - sent_s < 2.8
    yield "no freeze was near", not [span for span in recording.freezes() if sent_s < span[1] and span[0] < expired_s]
    old = recording.connections[0]
    answers = [p for p in old.between(sent_s, expired_s) if p.sender == old.server and p.payload]
    yield "the server had answered at once", bool(answers) and answers[0].time - sent_s < 0.05
    yield "there are two connections", len(recording.connections) == 2
    yield "nobody reset anything and nothing was lost", not resets(recording) and not losses(recording)
    yield "all calls went well", not recording.logged("failed after") and len(recording.logged("greeting ok")) == 3


def expected(recording: Recording) -> Expected:
    """A keepalive timeout, but nobody was silent and nobody was frozen; the block without a ping is none of it."""
    client = recording.connections[0].client
    seen_s = recording.logged("Ping timeout passed")[0].timestamp_ms / 1000
    wrong = "K101 K103 K105 F201 F202 F203 F205 R301 R302 R303 T601 T602 N901"
    return expect(
        want("K102", client, seen_s),
        forbid=wrong,
        server=expect(forbid=wrong + " K102"),
        logs=expect(want("K102", time=seen_s), forbid=wrong),
    )


CASE = Case("event-loop-blocked", delay_ms=2, play=play, claims=claims, expected=expected)
