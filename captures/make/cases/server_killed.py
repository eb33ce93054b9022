"""server-killed: Redis is killed and started again while two functions work; no freeze has to do with it."""

import concurrent.futures
import json
import time
from pathlib import Path

from exports import tail
from recording import Recording
from servers import start_redis
from service import Diary, Environment
from stage import Stage
from story import Case, Claims, Expected, expect, want


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Short freezes, then a kill in the middle of two invocations."""
    server = start_redis(stage, folder)
    stage.start_capture(folder / "server.pcap")
    node, python = (Environment(name, stage.link(name), diary, freeze="machine") for name in "AB")
    options = {"maxRetriesPerRequest": 0, "autoResendUnfulfilledCommands": False}
    node.start("redis.mjs", REDIS_OPTIONS=json.dumps(options))
    python.start("redis_cache.py")
    for environment in (node, python):
        environment.invoke({"key": environment.name})
    time.sleep(1.5)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        working = [pool.submit(node.invoke, {"key": "A", "count": 150, "workMs": 0})]
        working.append(pool.submit(python.invoke, {"key": "B", "count": 1000}))
        time.sleep(0.4)
        server.kill()
        diary.note("server_killed")
        for done in working:
            done.result()
    server.wait()
    start_redis(stage, folder)
    time.sleep(0.5)
    for environment in (node, python):
        environment.invoke({"key": environment.name})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """The end came in the middle of work."""
    (killed,) = recording.noted("server_killed")
    yield "ioredis lost its request", len(recording.logged("MaxRetriesPerRequestError")) == 1
    yield "and so did redis-py", len(recording.logged("[ERROR] ConnectionError")) == 1
    for connection in recording.connections[:2]:
        end = connection.first("F", connection.server) or connection.first("R", connection.server)
        yield "the server's end came when it was killed", end is not None and abs(end.time - killed["t"]) < 0.2
    yield "no freeze was near", all(t < killed["t"] - 0.3 or f > killed["t"] for f, t in recording.freezes())
    yield "then all was well again", len(recording.connections) == 4


def expected(recording: Recording) -> Expected:
    """N901 for both: look elsewhere."""
    wrong = "F201 F202 F203 F204 R301 R302 R303 R304 K105 C401 T601 T605"
    times = [
        recording.logged(word)[0].timestamp_ms / 1000
        for word in ("MaxRetriesPerRequestError", "[ERROR] ConnectionError")
    ]
    both = [want("N901", time=time) for time in times]
    return expect(*both, forbid=wrong, server=expect(forbid=wrong), logs=expect(*both, forbid=wrong))


CASE = Case("server-killed", delay_ms=2, play=play, claims=claims, expected=expected, export=tail)
