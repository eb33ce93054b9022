"""grpc-max-age: a gRPC server ends old connections in an orderly way; a long call is cut, all others do not mind."""

import json
import time
from pathlib import Path

from recording import Recording, packet_time
from servers import start_python
from service import Diary, Environment
from stage import Stage
from story import GRPC_TRACES, Case, Claims, Expected, expect, want

AGE_MS, GRACE_MS = 4000, 1000
LIMITS = {"grpc.max_connection_age_ms": AGE_MS, "grpc.max_connection_age_grace_ms": GRACE_MS}


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """The first connection grows old in a freeze, the second during a call that is longer than the grace."""
    start_python(stage, folder, "grpc_core_server.py", SERVER_OPTIONS=json.dumps(LIMITS))
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", stage.link("A"), diary, freeze="process")
    environment.start("grpc.mjs", **GRPC_TRACES)
    environment.invoke({"deadlines": [1000]})
    time.sleep(8.0)
    environment.invoke({"deadlines": [1000]})
    time.sleep(1.0)
    environment.invoke({"deadlines": [10000], "key": "sleep 8000"})
    environment.invoke({"deadlines": [1000, 1000]})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """GOAWAY twice: once read before the next call, once in the middle of one."""
    goaways = recording.logged("connection closed by GOAWAY")
    yield "the function read two GOAWAYs", len(goaways) == 2
    _, thawed = recording.freezes()[0]
    yield "the first at the thaw, before its next call", 0 <= goaways[0].timestamp_ms / 1000 - thawed < 0.1
    yield "with the reason", "max_age" in goaways[0].message
    failed = recording.logged("failed after")
    yield "one call failed", len(failed) == 1 and "UNAVAILABLE" in failed[0].message
    yield "that was running at the second", "sleep 8000" in failed[0].message
    after_s = failed[0].timestamp_ms / 1000 - goaways[1].timestamp_ms / 1000
    yield "when the grace was over", 0.8 < after_s < 1.5
    yield "all others went well", len(recording.logged("greeting ok")) == 4
    yield "there are three connections", len(recording.connections) == 3
    second = recording.connections[1]
    yield (
        "the server ended the second",
        packet_time(second.first("F", second.server)) < packet_time(second.first("F", second.client)),
    )


def expected(recording: Recording) -> Expected:
    """F205 on the second connection only: a GOAWAY that costs no call is how it should be."""
    client = recording.connections[1].client
    wrong = "K101 K102 K103 F202 F203 F204 R301 R302 R303 T601 T602 N901"
    return expect(
        want("F205", client),
        forbid=wrong,
        server=expect(forbid=wrong),  # the server answers the call that it cuts: with which status is compressed
        logs=expect(want("F205"), forbid=wrong),
    )


CASE = Case("grpc-max-age", delay_ms=2, play=play, claims=claims, expected=expected)
