"""slow-query: after a freeze the server takes its time, and Lambda ends the invocation; the connection was alive."""

import time
from pathlib import Path

from exports import filter_log_events
from recording import NEVER, Recording
from servers import start_postgres
from service import Diary, Environment
from stage import Stage
from story import Case, Claims, Expected, expect, want

TIMEOUT_S = 4.0


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Three quick queries, a freeze of 6 s, one query that takes longer than the function may run, one more."""
    start_postgres(stage, folder)
    link = stage.link("A")
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", link, diary, freeze="machine", timeout_s=TIMEOUT_S, log_format="JSON")
    environment.start("postgres.py")
    for sql, frozen_s in (("select 1", 1), ("select 2", 2), ("select 3", 6), ("select pg_sleep(9)", 1)):
        environment.invoke({"sql": sql})
        time.sleep(frozen_s)
    environment.invoke({"sql": "select 4"})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """The request was acknowledged, and not answered in time."""
    over = recording.logged('"status":"timeout"')
    yield "one invocation timed out", len(over) == 1
    thawed = recording.freezes()[2][1]
    yield "the one after the longest freeze", abs(over[0].timestamp_ms / 1000 - thawed - TIMEOUT_S) < 0.2
    first = recording.connections[0]
    after = first.between(thawed, NEVER)
    asked = next(p for p in after if p.sender == first.client and p.payload)
    heard = next(p for p in after if p.sender == first.server)
    yield "its query was acknowledged at once", 0 < heard.time - asked.time < 0.1 and not heard.payload
    yield "the next one was answered, on a new connection", len(recording.logged("query ok")) == 4


def expected(recording: Recording) -> Expected:
    """T605: the server is slow, and the connection is not to blame."""
    over_s = recording.logged('"status":"timeout"')[0].timestamp_ms / 1000
    wrong = "F201 F202 F203 F204 R301 R302 R303 R304 C401 K105 T601 T602 N901"
    return expect(
        want("T605", recording.connections[0].client, over_s),
        forbid=wrong,
        server=expect(forbid=wrong + " T605"),
        logs=expect(want("T605", time=over_s), forbid=wrong),
    )


CASE = Case("slow-query", delay_ms=2, play=play, claims=claims, expected=expected, export=filter_log_events)
