"""nat-reset: a NAT forgets idle connections and answers their next packet with a reset; the server knows of nothing."""

import time
from pathlib import Path

from recording import NEVER, Recording, packet_time
from servers import start_postgres
from service import Diary, Environment
from stage import Stage
from story import Case, Claims, Expected, expect, want

NAT_IDLE_S = 6


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Freezes of 2 and 4 s are survived, of 9 and 11 s not."""
    stage.nat(NAT_IDLE_S, "reject with tcp reset")
    start_postgres(stage, folder)
    link = stage.link("A")
    stage.start_capture(folder / "server.pcap")
    stage.start_capture(folder / "client.pcap", link.namespace)
    environment = Environment("A", link, diary, freeze="machine")
    environment.start("postgres.py")
    for frozen_s in (2, 4, 9, 1, 3, 11, 1):
        environment.invoke({})
        time.sleep(frozen_s)
    environment.invoke({})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """A reset at the function that nobody sent at the server."""
    failed = recording.logged("[ERROR]")
    yield "two requests failed", len(failed) == 2
    thaws = [thawed for frozen, thawed in recording.freezes() if thawed - frozen > NAT_IDLE_S]
    seen = recording.seen_in("client.pcap")
    yield "there are three connections, at both ends", len(seen) == len(recording.connections) == 3
    for connection, thawed in zip(seen, thaws, strict=False):
        asked = [p for p in connection.between(thawed, NEVER) if p.sender == connection.client and p.payload]
        yield "the function asked after the thaw", bool(asked)
        reset = connection.first("R", connection.server)
        yield "and was answered by RST", 0 < packet_time(reset) - asked[0].time < 0.05
    late = [p for c, thawed in zip(recording.connections, thaws, strict=False) for p in c.between(thawed, NEVER)]
    yield "the server saw neither the request nor the reset", not late


def expected(recording: Recording) -> Expected:
    """R303 by a middlebox, twice; R305 brackets its limit."""
    clients = [connection.client for connection in recording.seen_in("client.pcap")[:2]]
    wrong = "F201 F202 F203 F204 R301 R302 R304 C401 K105 T601 N901"
    return expect(
        *(want("R303", client) for client in clients),
        want("R305"),
        forbid=wrong,
        client=expect(*(want("R303", client) for client in clients), want("R305"), forbid=wrong),
        server=expect(forbid=wrong + " R303"),
        logs=expect(want("R303 F203"), forbid="F201 F202 F204 R301 R302 R304 C401 K105 T601 N901"),
    )


CASE = Case(
    "nat-reset", delay_ms=2, play=play, claims=claims, expected=expected, captures=("server.pcap", "client.pcap")
)
