"""frozen-call: a call was under way when the function was frozen; a second was started and forgotten."""

import time
from pathlib import Path

from exports import tail
from recording import Recording, losses, resets, soon
from servers import start_node
from service import Diary, Environment
from stage import Stage
from story import GRPC_TRACES, Case, Claims, Expected, expect, want


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Awaited calls freeze well; one that is not awaited is answered in the freeze, and has failed at the thaw."""
    start_node(stage, folder, "grpc_server.mjs")
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", stage.link("A"), diary, freeze="queue")
    environment.start("grpc.mjs", **GRPC_TRACES)
    environment.invoke({"deadlines": [1100]})
    time.sleep(3.0)
    environment.invoke({"deadlines": [1100], "key": "sleep 300", "forget": True, "workMs": 100})
    time.sleep(5.0)
    environment.invoke({"deadlines": [1100]})
    time.sleep(1.0)
    environment.invoke({"deadlines": [1100, 1100]})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """Answered in time, failed all the same."""
    failed = recording.logged("failed after")
    yield "one call failed", len(failed) == 1 and "DEADLINE_EXCEEDED" in failed[0].message
    frozen, thawed = recording.freezes()[1]
    yield "right after the thaw", soon(failed[0], thawed)
    yield "after five seconds, by its own account", "after 5." in failed[0].message
    connection = recording.connections[0]
    answers = [p for p in connection.between(frozen, thawed) if p.sender == connection.server and p.payload]
    yield "the server had answered within the deadline", bool(answers) and answers[0].time < frozen + 0.5
    yield "there is one connection", len(recording.connections) == 1
    yield "nobody reset anything", not resets(recording)
    yield "the answer was repeated, to nobody", bool(losses(recording))
    yield "all others went well", len(recording.logged("greeting ok")) == 4


def expected(recording: Recording) -> Expected:
    """T601: the server was not slow."""
    seen_s = recording.logged("failed after")[0].timestamp_ms / 1000
    wrong = "K101 K102 F201 F202 F203 F204 F205 R301 R302 R303 R304 C401 N901"
    return expect(
        want("T601", time=seen_s),
        forbid=wrong,
        allow="T602",
        server=expect(forbid=wrong),
        logs=expect(want("T601", time=seen_s), forbid=wrong, allow="T602"),
    )


CASE = Case("frozen-call", delay_ms=2, play=play, claims=claims, expected=expected, export=tail)
