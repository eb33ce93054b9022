"""go-nat-reset: a NAT forgets a Go function's gRPC connection in a freeze and answers its next call with a reset."""

import time
from pathlib import Path

from exports import s3
from recording import NEVER, Recording, packet_time
from servers import start_go
from service import Diary, Environment
from stage import Stage
from story import Case, Claims, Expected, expect, want

NAT_IDLE_S = 6


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """A freeze of 3 s is survived, one of 10 s is not."""
    stage.nat(NAT_IDLE_S, "reject with tcp reset")
    start_go(stage, folder, "health")
    link = stage.link("A")
    stage.start_capture(folder / "server.pcap")
    stage.start_capture(folder / "client.pcap", link.namespace)
    environment = Environment("A", link, diary, freeze="machine")
    environment.start("health", GRPC_GO_LOG_SEVERITY_LEVEL="info")
    for frozen_s in (3, 10, 1):
        environment.invoke({})
        time.sleep(frozen_s)
    environment.invoke({})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """A reset at the function that nobody sent at the server, and one call that fails by it."""
    yield "one call failed", len(recording.logged("rpc error: code = Unavailable")) == 1
    yield "three did not", len(recording.logged("SERVING in")) == 3
    thawed = recording.freezes()[1][1]
    seen = recording.seen_in("client.pcap")
    yield "there are two connections, at both ends", len(seen) == len(recording.connections) == 2
    asked = [p for p in seen[0].between(thawed, NEVER) if p.sender == seen[0].client and p.payload]
    yield "the function asked after the thaw", bool(asked)
    reset = seen[0].first("R", seen[0].server)
    yield "and was answered by RST", 0 < packet_time(reset) - asked[0].time < 0.05
    yield "the server saw neither", not recording.connections[0].between(thawed, NEVER)


def expected(recording: Recording) -> Expected:
    """R303 by a middlebox. grpc-go's own words tell a closed transport, not a reset."""
    client = recording.seen_in("client.pcap")[0].client
    wrong = "K101 K102 F201 F202 F203 F204 F205 R301 R302 R304 C401 K105 T601 T602 N901"
    return expect(
        want("R303", client),
        forbid=wrong,
        allow="R305",
        client=expect(want("R303", client), forbid=wrong, allow="R305"),
        server=expect(forbid=wrong + " R303"),
        logs=expect(want("R303 F203"), forbid="K101 K102 F201 F202 F204 F205 R301 R302 R304 C401 K105 T601 T602 N901"),
    )


CASE = Case(
    "go-nat-reset",
    delay_ms=2,
    play=play,
    claims=claims,
    expected=expected,
    captures=("server.pcap", "client.pcap"),
    export=s3,
)
