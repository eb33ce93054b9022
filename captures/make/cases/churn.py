"""churn: one function connects to PostgreSQL for every request, another keeps its connection."""

import time
from pathlib import Path

from exports import s3
from recording import Recording, resets
from servers import start_postgres
from service import Diary, Environment
from stage import Stage
from story import FAILURES, Case, Claims, Expected, expect, want


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """A dozen requests each, in turn, with a short freeze after each."""
    start_postgres(stage, folder)
    stage.start_capture(folder / "server.pcap")
    each, kept = (Environment(name, stage.link(name), diary, freeze="process") for name in "AB")
    each.start("postgres.mjs")
    kept.start("postgres.mjs")
    for _ in range(12):
        each.invoke({"each": True})
        kept.invoke({})
        time.sleep(0.3)
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """Twelve and one."""
    clients = [connection.client.split(":")[0] for connection in recording.connections]
    yield "twelve connections of the one", clients.count("10.0.1.11") == 12
    yield "one of the other", clients.count("10.0.1.12") == 1
    yield "every request succeeded", len(recording.logged("query ok")) == 24
    yield "nobody reset anything", not resets(recording)


def expected(_: Recording) -> Expected:
    """L503, a note, and nothing else."""
    wrong = " ".join(rule for rule in FAILURES.split() if rule != "F201")
    return expect(want("L503"), forbid=wrong, server=expect(want("L503"), forbid=wrong), logs=expect(forbid=FAILURES))


CASE = Case("churn", delay_ms=3, play=play, claims=claims, expected=expected, export=s3)
