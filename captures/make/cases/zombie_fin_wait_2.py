"""zombie-fin-wait-2: Redis closed an idle connection while the function's process was frozen."""

import time
from pathlib import Path

from recording import Recording, losses, packet_time, request_id, resets, soon
from servers import start_redis
from service import Diary, Environment
from stage import Stage
from story import Case, Claims, Expected, expect, want

REDIS_TIMEOUT_S = 6


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Freeze for less, then for more than the server waits for an idle client."""
    start_redis(stage, folder, timeout=REDIS_TIMEOUT_S)
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", stage.link("A"), diary, freeze="process")
    environment.start("redis.mjs")
    environment.invoke({"key": "visits"})
    time.sleep(3.0)
    environment.invoke({"key": "visits"})
    time.sleep(16.0)
    environment.invoke({"key": "visits"})
    time.sleep(3.0)
    environment.invoke({"key": "visits"})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """The connection of which one half was closed for ten seconds."""
    yield "there are two connections", len(recording.connections) == 2
    old, new = recording.connections
    frozen, thawed = recording.freezes()[1]
    yield "the second freeze lasted 16 s", 15.9 < thawed - frozen < 16.5
    fin = old.first("F", old.server)
    yield "the server closed the idle connection during it", fin is not None and frozen < fin.time < thawed - 8
    silence = old.between(packet_time(fin), thawed)
    yield "the client's kernel acknowledged that once", [(p.sender, p.flags) for p in silence] == [(old.client, "A")]
    yield "and neither side said a word until the thaw", silence[0].time - packet_time(fin) < 0.2
    closed = recording.logged("redis connection closed")
    yield "the function found out right after the thaw", len(closed) == 1 and soon(closed[0], thawed)
    before = recording.logged("INCR visits -> 2")[0]
    yield "under the id of the request before the freeze", request_id(closed[0]) == request_id(before)
    end = old.first("F", old.client)
    yield "and only then closed its half", end is not None and 0 < end.time - thawed < 0.1
    yield "the new connection was opened at once", 0 < new.packets[0].time - thawed < 0.3
    yield "every request succeeded", all(recording.logged(f"INCR visits -> {n} in") for n in (1, 2, 3, 4))
    yield "nobody reset anything and nothing was lost", not resets(recording) and not losses(recording)


def expected(recording: Recording) -> Expected:
    """F201: the FIN was acknowledged, which is what tells it from F202."""
    client = recording.connections[0].client
    wrong = "F202 K101 R301 R302"
    return expect(
        want("F201", client),
        forbid=wrong,
        server=expect(want("F201", client), forbid=wrong),
        logs=expect(forbid=wrong, allow="F203"),
    )


CASE = Case("zombie-fin-wait-2", delay_ms=1, play=play, claims=claims, expected=expected)
