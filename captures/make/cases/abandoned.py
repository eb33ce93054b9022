"""abandoned: two of three environments are never invoked again; the server holds their connections, and nobody tells it."""

import time
from pathlib import Path

from exports import s3
from recording import Recording, losses, resets
from servers import start_redis
from service import Diary, Environment
from stage import Stage
from story import FAILURES, Case, Claims, Expected, expect, want

ROUNDS, EVERY_S = 17, 58


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """A quarter of an hour and a little, in real time: an environment that is away for less may still be at work."""
    start_redis(stage, folder, tcp_keepalive=0)
    stage.start_capture(folder / "server.pcap")
    environments = [Environment(name, stage.link(name), diary, freeze="machine") for name in "ABC"]
    for environment in environments:
        environment.start("redis.mjs")
        environment.invoke({"key": "visits"})
    for _ in range(ROUNDS):
        time.sleep(EVERY_S)
        environments[-1].invoke({"key": "visits"})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """Two connections of one request each, open to the end."""
    yield "three connections", len(recording.connections) == 3
    last_s = recording.connections[2].packets[-1].time
    for connection in recording.connections[:2]:
        yield "silent for a quarter of an hour", last_s - connection.packets[-1].time > 900
        yield "and open", not connection.first("F", connection.server) and not connection.first("F", connection.client)
    yield "nobody reset anything and nothing was lost", not resets(recording) and not losses(recording)
    yield "the third environment worked on", len(recording.logged("INCR visits")) == ROUNDS + 3


def expected(_: Recording) -> Expected:
    """L502, which needs both the log and the capture."""
    wrong = " ".join(rule for rule in FAILURES.split() if rule != "L502")
    return expect(want("L502"), forbid=wrong, server=expect(forbid=FAILURES), logs=expect(forbid=FAILURES))


CASE = Case("abandoned", delay_ms=2, play=play, claims=claims, expected=expected, export=s3)
