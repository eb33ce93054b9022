"""late-keepalive: keepalive is on, and cannot keep a connection: a frozen function sends no ping, an idle one probes too late."""

import json
import time
from pathlib import Path

from recording import Recording
from servers import start_node, start_redis
from service import Diary, Environment
from stage import Stage
from story import GRPC_TRACES, Case, Claims, Expected, expect, want

NAT_IDLE_S = 6
KEEPALIVE = {"grpc.keepalive_time_ms": 2000, "grpc.keepalive_timeout_ms": 1000}
KEEPALIVE["grpc.keepalive_permit_without_calls"] = 1
FIRST_PROBE_MS = 9000


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """A gRPC function frozen for longer than the NAT remembers; then a Redis function that is awake, and idle as long."""
    stage.nat(NAT_IDLE_S, "reject with tcp reset")
    start_node(stage, folder, "grpc_server.mjs")
    start_redis(stage, folder)
    a, b = stage.link("A"), stage.link("B")
    stage.start_capture(folder / "client.pcap", a.namespace)
    stage.start_capture(folder / "client-b.pcap", b.namespace)
    frozen = Environment("A", a, diary, freeze="process")
    frozen.start("grpc.mjs", CHANNEL_OPTIONS=json.dumps(KEEPALIVE), **GRPC_TRACES)
    frozen.invoke({"deadlines": [1000], "until": "Received ping response"})
    time.sleep(10.0)
    frozen.invoke({"deadlines": [1000]})
    awake = Environment("B", b, diary, freeze="process")
    awake.start("redis.mjs", REDIS_OPTIONS=json.dumps({"keepAlive": FIRST_PROBE_MS}))
    awake.invoke({"key": "visits", "workMs": 11000})
    awake.invoke({"key": "visits"})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """A reset in answer to the first sign of life, both times."""
    grpc, redis = recording.connections[0], recording.seen_in("client-b.pcap")[0]
    for connection in (grpc, redis):
        reset = connection.first("R", connection.server)
        yield "the NAT reset it", reset is not None
        assert reset
        before = [p for p in connection.packets if p.time < reset.time and p.sender == connection.client]
        yield "after a rest longer than it remembers", before[-1].time - before[-2].time > NAT_IDLE_S
    yield (
        "one of them by a probe without payload",
        [p.flags for p in redis.packets if p.sender == redis.client][-1] == "A",
    )
    yield "both functions went on", len(recording.logged("INCR visits")) == 2


def expected(recording: Recording) -> Expected:
    """K104 on both."""
    grpc, redis = recording.connections[0].client, recording.seen_in("client-b.pcap")[0].client
    wrong = "K101 K102 K103 K105 F201 F202 F204 F205 R301 R302 R304 C401 T601"
    return expect(
        want("K104", grpc),
        want("K104", redis),
        want("R303", grpc),
        forbid=wrong,
        allow="R303",
        client=expect(want("R303", grpc), forbid=wrong + " K104"),
        client_b=expect(want("K104", redis), forbid=wrong, allow="R303"),
        logs=expect(want("R303"), want("K104"), forbid=wrong),
    )


CASE = Case(
    "late-keepalive", delay_ms=2, play=play, claims=claims, expected=expected, captures=("client.pcap", "client-b.pcap")
)
