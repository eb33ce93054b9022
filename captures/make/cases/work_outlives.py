"""work-outlives: handlers that return before their work is done; it stops in the middle, and goes on at the next thaw."""

import time
from pathlib import Path

from exports import firehose
from recording import Recording, resets, soon
from servers import start_node
from service import Diary, Environment
from stage import Stage
from story import GRPC_TRACES, Case, Claims, Expected, expect, want


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """An awaited call, one that is not awaited, and the request that finds its answer."""
    start_node(stage, folder, "grpc_server.mjs")
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", stage.link("A"), diary, freeze="queue")
    environment.start("grpc.mjs", **GRPC_TRACES)
    environment.invoke({"deadlines": [30000]})
    time.sleep(2.0)
    environment.invoke({"deadlines": [30000], "key": "sleep 400", "forget": True, "workMs": 100})
    time.sleep(6.0)
    environment.invoke({"deadlines": [30000]})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """The answer came in the freeze and was read after it."""
    frozen, thawed = recording.freezes()[1]
    ended = recording.logged("cache get sleep 400 ok")
    yield "the call went well", len(ended) == 1
    yield "six seconds late, right after the thaw", soon(ended[0], thawed)
    connection = recording.connections[0]
    answers = [p for p in connection.between(frozen, thawed) if p.sender == connection.server and p.payload]
    yield "the server had answered in the freeze", bool(answers) and answers[0].time < frozen + 0.6
    yield "one connection, nobody reset it", len(recording.connections) == 1 and not resets(recording)


def expected(_: Recording) -> Expected:
    """T602; nothing failed by it, so it is a note."""
    wrong = "K101 K102 F201 F202 F203 F204 F205 R301 R302 R303 R304 C401 T601 T605 N901"
    return expect(want("T602"), forbid=wrong, server=expect(forbid=wrong), logs=expect(want("T602"), forbid=wrong))


CASE = Case("work-outlives", delay_ms=2, play=play, claims=claims, expected=expected, export=firehose)
