"""server-keepalive: Redis asks a frozen machine three times whether it lives, then resets the connection."""

import time
from pathlib import Path

from exports import insights
from recording import NEVER, Recording, packet_time
from servers import start_redis
from service import Diary, Environment
from stage import Stage
from story import Case, Claims, Expected, expect, want

TCP_KEEPALIVE_S = 3


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """A freeze that ends between the first probe and the last, then one that does not."""
    start_redis(stage, folder, tcp_keepalive=TCP_KEEPALIVE_S)
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", stage.link("A"), diary, freeze="machine")
    environment.start("redis_cache.py")
    environment.invoke({"key": "visits"})
    time.sleep(TCP_KEEPALIVE_S + 1.5)
    environment.invoke({"key": "visits"})
    time.sleep(12.0)
    environment.invoke({"key": "visits", "catch": True})
    environment.invoke({"key": "visits"})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """Probes, then a reset; the function learns of it when it writes."""
    old = recording.connections[0]
    frozen, thawed = recording.freezes()[1]
    silent = [p for p in old.between(frozen + 0.1, thawed) if p.sender == old.server]
    yield "the server probed at least three times", len([p for p in silent if p.flags == "A"]) >= 3
    reset = [p for p in silent if "R" in p.flags]
    yield "then it reset the connection, during the freeze", len(reset) == 1
    asked = [p for p in old.between(thawed, NEVER) if p.sender == old.client and p.payload]
    answer = [p for p in old.between(thawed, NEVER) if "R" in p.flags and p.sender == old.server]
    yield "the function wrote", len(asked) == 1
    yield "and was answered by RST", len(answer) == 1 and 0 < packet_time(answer[0]) - asked[0].time < 0.05
    yield "its request failed", len(recording.logged("failed after")) == 1
    yield "the next one connected again", len(recording.connections) == 2
    earlier_frozen, earlier_thawed = recording.freezes()[0]
    probes = [p for p in old.between(earlier_frozen + 0.1, earlier_thawed) if p.sender == old.server]
    yield "the freeze before met a probe, too, and no harm", len(probes) in (1, 2)


def expected(recording: Recording) -> Expected:
    """K105, and what it cost."""
    client = recording.connections[0].client
    wrong = "F201 F202 F204 R301 R302 R304 C401 T601 N901 K104"
    both = want("K105", client), want("F203", client)
    return expect(
        *both,
        forbid=wrong + " R303",
        server=expect(*both, forbid=wrong + " R303"),
        logs=expect(want("R303"), forbid=wrong),  # who sent the reset no line tells
    )


CASE = Case("server-keepalive", delay_ms=2, play=play, claims=claims, expected=expected, export=insights)
