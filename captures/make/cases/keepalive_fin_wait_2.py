"""keepalive-fin-wait-2: a false keepalive timeout leaves the *client* in FIN_WAIT_2, and the server repeats its end to a frozen machine."""

import json
import time
from pathlib import Path

from recording import Recording, packet_time, soon
from servers import start_node
from service import Diary, Environment
from stage import Stage
from story import GRPC_TRACES, Case, Claims, Expected, expect, want

KEEPALIVE = {"grpc.keepalive_time_ms": 2000, "grpc.keepalive_timeout_ms": 1000}
KEEPALIVE["grpc.keepalive_permit_without_calls"] = 1


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Freeze with the ping under way, thaw for a moment, freeze again."""
    start_node(stage, folder, "grpc_server.mjs")
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", stage.link("A"), diary, freeze="queue")
    environment.start("grpc.mjs", CHANNEL_OPTIONS=json.dumps(KEEPALIVE), **GRPC_TRACES)
    environment.invoke({"deadlines": [1000]})
    time.sleep(1.0)
    environment.invoke({"deadlines": [1000], "until": "Sending ping", "workMs": 0})
    time.sleep(5.0)
    environment.invoke({"deadlines": [], "workMs": 5})
    time.sleep(6.0)
    environment.invoke({"deadlines": [1000]})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """The client's FIN is acknowledged, the server's is not."""
    timeouts = recording.logged("Ping timeout passed")
    (_, thawed), (frozen, again) = recording.freezes()[1:3]
    yield "one ping timed out, right after the thaw", len(timeouts) == 1 and soon(timeouts[0], thawed)
    yield (
        "its answer was there, and read too late",
        any(soon(e, thawed) for e in recording.logged("Received ping response")),
    )
    old = recording.connections[0]
    ours, theirs = (old.first("F", side) for side in (old.client, old.server))
    yield "the client closed at once", 0 < packet_time(ours) - thawed < 0.1
    yield "and was acknowledged", any(p.sender == old.server and p.time > packet_time(ours) for p in old.packets)
    repeated = [p for p in old.between(frozen, again) if p.sender == old.server and p.retransmission]
    yield "the server repeated its end to the frozen machine", theirs is not None and bool(repeated)
    yield "all calls went well", not recording.logged("failed after")


def expected(recording: Recording) -> Expected:
    """K101; a client in FIN_WAIT_2 is nobody's zombie."""
    client = recording.connections[0].client
    seen_s = recording.logged("Ping timeout passed")[0].timestamp_ms / 1000
    wrong = "K102 K103 K105 F201 F202 F203 F204 F205 R301 R302 R303 T601 N901"
    return expect(
        want("K101", client, seen_s),
        forbid=wrong,
        server=expect(forbid=wrong + " K101"),
        logs=expect(want("K101", time=seen_s), forbid=wrong),
    )


CASE = Case("keepalive-fin-wait-2", delay_ms=10, play=play, claims=claims, expected=expected)
