"""close-delayed: a decoy; the function closes its connection in order, and is frozen before the server's part of it arrives."""

import time
from pathlib import Path

from recording import Recording, packet_time, resets
from servers import start_redis
from service import Diary, Environment
from stage import Stage
from story import FAILURES, Case, Claims, Expected, expect


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Close as the last thing, freeze, thaw."""
    start_redis(stage, folder)
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", stage.link("A"), diary, freeze="machine")
    environment.start("redis.mjs")
    environment.invoke({"key": "visits"})
    time.sleep(2.0)
    environment.invoke({"key": "visits", "workMs": 60, "leave": True})
    time.sleep(4.0)
    environment.start("redis.mjs")
    environment.invoke({"key": "visits"})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """The client closed first; the server's answer came while nobody was there."""
    old = recording.connections[0]
    ours, theirs = (old.first("F", side) for side in (old.client, old.server))
    yield "the function closed first", 0 < packet_time(theirs) - packet_time(ours) < 0.1
    again = [p for p in old.packets if p.sender == old.server and p.retransmission]
    yield "the server repeated its part, to nobody", len(again) >= 3
    yield "nobody reset anything before", all(p.time > again[2].time for p in resets(recording))
    yield "every request succeeded", len(recording.logged("INCR visits")) == 3


def expected(_: Recording) -> Expected:
    """Silence: nothing was lost but time."""
    return expect(forbid=FAILURES, server=expect(forbid=FAILURES), logs=expect(forbid=FAILURES))


CASE = Case("close-delayed", delay_ms=5, play=play, claims=claims, expected=expected)
