"""healthy: two functions, five short freezes, nothing wrong."""

import concurrent.futures
import time
from pathlib import Path

from recording import Recording, losses, resets
from servers import start_node, start_redis
from service import Diary, Environment
from stage import SERVER_ADDRESS, Stage
from story import FAILURES, Case, Claims, Expected, expect

DEADLINE_MS = 1000


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Two functions, each freezing for less than any limit, at the same time."""
    start_redis(stage, folder)
    start_node(stage, folder, "grpc_server.mjs")
    stage.start_capture(folder / "server.pcap")
    redis = Environment("A", stage.link("A"), diary, freeze="machine")
    grpc = Environment("B", stage.link("B"), diary, freeze="machine")

    def use_redis() -> None:
        redis.start("redis.mjs")
        for frozen_s in (2.0, 3.5, 1.2, 0):
            redis.invoke({"key": "visits"})
            time.sleep(frozen_s)

    def use_grpc() -> None:
        time.sleep(0.7)
        grpc.start("grpc.mjs")
        for frozen_s in (1.5, 4.0, 0):
            grpc.invoke({"deadlines": [DEADLINE_MS, DEADLINE_MS]})
            time.sleep(frozen_s)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in [pool.submit(use_redis), pool.submit(use_grpc)]:
            done.result()
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """Nothing happened."""
    ends = sorted((connection.client.split(":")[0], connection.server) for connection in recording.connections)
    expected = [("10.0.1.11", f"{SERVER_ADDRESS}:6379"), ("10.0.1.12", f"{SERVER_ADDRESS}:50051")]
    yield "two environments, one connection each", ends == expected
    closes = [c.first("F", side) for c in recording.connections for side in (c.client, c.server)]
    yield "nobody closed, nobody reset, nothing was lost", not (any(closes) or resets(recording) or losses(recording))
    yield "there were five freezes", len(recording.freezes()) == 5
    yield "no request failed", not recording.logged("\tERROR\t") and not recording.logged("\tWARN\t")


def expected(_: Recording) -> Expected:
    """Silence."""
    return expect(forbid=FAILURES, server=expect(forbid=FAILURES), logs=expect(forbid=FAILURES))


CASE = Case("healthy", delay_ms=1, play=play, claims=claims, expected=expected)
