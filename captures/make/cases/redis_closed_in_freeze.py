"""redis-closed-in-freeze: Redis closed idle connections of frozen machines; nobody was there to acknowledge it."""

import time
from pathlib import Path

from exports import tail
from recording import NEVER, Recording, packet_time, request_id, soon
from servers import start_redis
from service import Diary, Environment
from stage import SERVER, Stage, settings
from story import Case, Claims, Expected, expect, want

REDIS_TIMEOUT_S = 4


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """A comes back when the server has forgotten, B while it still repeats its FIN; before, both freeze harmlessly."""
    settings(SERVER, ipv4__tcp_orphan_retries=5)
    start_redis(stage, folder, timeout=REDIS_TIMEOUT_S)
    stage.start_capture(folder / "server.pcap")
    a, b = (Environment(name, stage.link(name), diary, freeze="machine") for name in "AB")
    a.start("redis.mjs")
    b.start("redis.mjs")
    for environment in (a, b):
        environment.invoke({"key": environment.name})
    time.sleep(2.0)
    for environment in (a, b):
        environment.invoke({"key": environment.name})
    time.sleep(8.0)
    b.invoke({"key": "B"})
    time.sleep(15.0)
    a.invoke({"key": "A"})
    time.sleep(1.0)
    a.invoke({"key": "A"})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """FIN after FIN, then a reset."""
    for name in "AB":
        frozen, thawed = recording.freezes(name)[1]
        address = {"A": "10.0.1.11", "B": "10.0.1.12"}[name]
        old = next(c for c in recording.connections if c.client.startswith(address))
        fins = [p for p in old.packets if p.sender == old.server and "F" in p.flags]
        yield f"{name}: the server closed during the freeze", bool(fins) and frozen < fins[0].time < thawed
        yield f"{name}: and repeated it", len(fins) >= 4
        silence = [p for p in old.between(frozen + 0.05, thawed) if p.sender == old.client]
        yield f"{name}: nothing came from the function meanwhile", not silence
        reset = old.first("R", old.server)
        yield f"{name}: what it sent after the thaw was answered by RST", 0 < packet_time(reset) - thawed < 0.1
        written = [p for p in old.between(thawed, NEVER) if p.sender == old.client and p.payload]
        yield f"{name}: it wrote a request", bool(written) and written[0].time < packet_time(reset)
        errors = [e for e in recording.logged("read ECONNRESET") if soon(e, thawed)]
        yield f"{name}: the function read ECONNRESET", bool(errors)
    last = [c for c in recording.connections if c.client.startswith("10.0.1.12")][1]
    yield (
        "B's next connection ended in the same way, B never came back",
        packet_time(last.first("F", last.server)) != NEVER,
    )
    yield (
        "every request was sent again, and succeeded",
        len(recording.logged("INCR A")) == 4 and request_id(errors[0]) != "",
    )


def expected(recording: Recording) -> Expected:
    """F202, as nobody acknowledged; F203, as the function wrote to it."""
    a, b = (next(c.client for c in recording.connections if c.client.startswith(x)) for x in ("10.0.1.11", "10.0.1.12"))
    wrong = "F201 F204 R301 R302 R303 R304 K105 C401 N901"
    left = [c.client for c in recording.connections if c.client.startswith("10.0.1.12")][1]  # B does not come back
    stalls = [want("F202", a), want("F202", b), want("F202", left), want("F203", a), want("F203", b)]
    return expect(
        *stalls,
        forbid=wrong,
        server=expect(*stalls, forbid=wrong),
        logs=expect(want("R303"), forbid="F201 F202 R301 R302 K105 C401 N901"),
    )


CASE = Case("redis-closed-in-freeze", delay_ms=1, play=play, claims=claims, expected=expected, export=tail)
