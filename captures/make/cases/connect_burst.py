"""connect-burst: twelve connects at once, a server too busy to accept, an accept queue of three."""

import signal
import time
from pathlib import Path

from exports import insights
from recording import Recording
from servers import start_python
from service import Diary, Environment
from stage import SERVER, Stage, settings
from story import Case, Claims, Expected, expect, want

PORT = 7003


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """One by one they go well; all at once, with the server busy, most are dropped; later one by one again."""
    server = start_python(stage, folder, "greeter.py", BACKLOG="2", BUSY_S="9")
    settings(SERVER, ipv4__tcp_abort_on_overflow=0)
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", stage.link("A"), diary, freeze="machine")
    environment.start("connect.mjs")
    environment.invoke({"ports": [PORT], "hello": True})
    environment.invoke({"ports": [PORT] * 2, "hello": True})
    time.sleep(1.0)
    server.send_signal(signal.SIGUSR1)
    time.sleep(0.2)
    environment.invoke({"ports": [PORT] * 12, "everyMs": 30, "timeoutMs": 5000, "hello": True})
    time.sleep(5.0)
    environment.invoke({"ports": [PORT], "hello": True})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """Some were let in, most were not, and none of them had been there before."""
    burst = [c for c in recording.connections if len([p for p in c.packets if p.flags == "S"]) >= 3]
    yield "several connects were repeated", len(burst) >= 5
    silent = [c for c in burst if not [p for p in c.packets if p.sender == c.server]]
    yield "and never answered", len(silent) >= 5
    begun = [c.packets[0].time for c in silent]
    yield "they began at the same time", max(begun) - min(begun) < 0.5
    yield "the function gave up on them", len(recording.logged("gave up")) >= 5
    yield "before and after, the server was reached", len(recording.logged("connected in")) >= 4


def expected(recording: Recording) -> Expected:
    """C402 for all of them, not a dead server."""
    wrong = "F201 F202 F203 F204 R301 R302 R303 R304 K105 C403 C404 T601 T605"
    return expect(
        want("C402"),
        forbid=wrong,
        allow="C401",
        server=expect(want("C402"), forbid=wrong, allow="C401"),
        logs=expect(forbid=wrong),
    )


CASE = Case("connect-burst", delay_ms=2, play=play, claims=claims, expected=expected, export=insights)
