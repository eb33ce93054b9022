"""nat-silent: a NAT forgets idle connections and drops what comes later; the function waits until Lambda ends it."""

import json
import time
from pathlib import Path

from exports import tail
from recording import NEVER, Recording
from servers import start_postgres
from service import Diary, Environment
from stage import Stage
from story import Case, Claims, Expected, expect, want

NAT_IDLE_S = 6
TIMEOUT_S = 8.0


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Freezes of 2 and 4 s are survived, one of 10 s is not: keepalive is on, and comes after two hours."""
    stage.nat(NAT_IDLE_S, "drop")
    start_postgres(stage, folder)
    link = stage.link("A")
    stage.start_capture(folder / "server.pcap")
    stage.start_capture(folder / "client.pcap", link.namespace)
    environment = Environment("A", link, diary, freeze="machine", timeout_s=TIMEOUT_S)
    environment.start("postgres.mjs", POOL_OPTIONS=json.dumps({"keepAlive": True, "idleTimeoutMillis": 0}))
    for frozen_s in (2, 4, 10, 1):
        environment.invoke({})
        time.sleep(frozen_s)
    environment.invoke({})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """The function said something, and nobody heard it."""
    over = recording.logged("Task timed out")
    yield "one invocation timed out", len(over) == 1
    thawed = recording.freezes()[2][1]
    yield "the one after the long freeze", abs(over[0].timestamp_ms / 1000 - thawed - TIMEOUT_S) < 0.2
    seen = recording.seen_in("client.pcap")
    asked = [p for p in seen[0].between(thawed, NEVER) if p.sender == seen[0].client and p.payload]
    yield "its query was sent again and again", len(asked) >= 4
    yield "nothing came back", not [p for p in seen[0].between(thawed, NEVER) if p.sender == seen[0].server]
    yield "nothing arrived at the server", not recording.connections[0].between(thawed, NEVER)
    yield "the next request got a new connection, and an answer", len(recording.logged("query ok")) == 4


def expected(recording: Recording) -> Expected:
    """R302, and T605 as its consequence."""
    client = recording.seen_in("client.pcap")[0].client
    over_s = recording.logged("Task timed out")[0].timestamp_ms / 1000
    wrong = "F201 F202 F203 F204 R301 R303 R304 C401 T601 N901"
    return expect(
        want("R302", client),
        want("T605", time=over_s),
        forbid=wrong,
        allow="K104",
        client=expect(want("R302", client), forbid=wrong + " T605", allow="K104"),
        server=expect(forbid=wrong + " R302"),
        logs=expect(want("T605", time=over_s), forbid=wrong),
    )


CASE = Case(
    "nat-silent",
    delay_ms=2,
    play=play,
    claims=claims,
    expected=expected,
    captures=("server.pcap", "client.pcap"),
    export=tail,
)
