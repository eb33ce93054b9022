"""paused-clock: a machine is suspended and resumed, and its clock with it; another's process merely stands still."""

import time
from pathlib import Path

from recording import Recording, losses, resets
from servers import start_redis
from service import Diary, Environment
from stage import Stage
from story import FAILURES, Case, Claims, Expected, expect, want


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """The same requests and rests for both."""
    start_redis(stage, folder)
    stage.start_capture(folder / "server.pcap")
    paused = Environment("A", stage.link("A"), diary, freeze="paused")
    running = Environment("B", stage.link("B"), diary, freeze="process")
    event = {"key": "visits", "count": 10, "everyMs": 60}
    for environment in (paused, running):
        environment.start("redis.mjs")
        environment.invoke(event)
    for rest_s in (12.0, 1.0):
        time.sleep(rest_s)
        for environment in (paused, running):
            environment.invoke(event)
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """Nothing went wrong."""
    yield "one connection each", len(recording.connections) == 2
    yield "every request succeeded", len(recording.logged("INCR visits")) == 60
    yield "nobody reset anything and nothing was lost", not resets(recording) and not losses(recording)


def expected(recording: Recording) -> Expected:
    """T603 for the one, nothing for the other."""
    client = recording.connections[0].client
    wrong = " ".join(rule for rule in FAILURES.split() if rule != "T603")
    return expect(
        want("T603", client),
        forbid=wrong,
        server=expect(want("T603", client), forbid=wrong),
        logs=expect(forbid=FAILURES),
    )


CASE = Case("paused-clock", delay_ms=2, play=play, claims=claims, expected=expected)
