"""starved-timers: a counter that should tick once a second, and does not while the function is frozen."""

import time
from pathlib import Path

from exports import insights
from recording import Recording
from service import Diary, Environment
from stage import Stage
from story import FAILURES, Case, Claims, Expected, expect, want


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Five requests, freezes of some seconds between them; no connection at all."""
    environment = Environment("A", stage.link("A"), diary, freeze="process")
    environment.start("timers.mjs")
    for frozen_s in (3.0, 5.0, 2.0, 4.0):
        environment.invoke({"workMs": 1500})
        time.sleep(frozen_s)
    environment.invoke({"workMs": 1500})


def claims(recording: Recording) -> Claims:
    """The counter falls behind by the frozen time."""
    lines = [event.message.split("\t")[-1].split() for event in recording.logged("Calculated")]
    wall, ticks = ([int(line[k]) for line in lines] for k in (1, 5))
    frozen = sum(thawed - frozen for frozen, thawed in recording.freezes())
    yield "five lines", len(lines) == 5
    yield "the counter fell behind", wall[-1] - ticks[-1] > 5
    yield "by about as long as the function was frozen, less a tick each time", abs(wall[-1] - ticks[-1] - frozen) <= 5


def expected(_: Recording) -> Expected:
    """T604, and no failure."""
    return expect(want("T604"), forbid=FAILURES)


CASE = Case("starved-timers", delay_ms=1, play=play, claims=claims, expected=expected, captures=(), export=insights)
