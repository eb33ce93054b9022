"""mariadb-idle-reset: MariaDB ends an idle connection by a reset while the function is frozen; the log is in JSON format."""

import time
from pathlib import Path

from exports import insights
from recording import Recording, packet_time, soon
from servers import start_mariadb
from service import Diary, Environment
from stage import Stage
from story import Case, Claims, Expected, expect, want

WAIT_TIMEOUT_S = 6


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Freezes of 2 and 3 s are survived, one of 10 s is not. The function's kernel is awake, and hears the reset."""
    start_mariadb(stage, folder, wait_timeout=WAIT_TIMEOUT_S)
    link = stage.link("A")
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", link, diary, freeze="process", log_format="JSON")
    environment.start("mariadb.py")
    for frozen_s in (2, 3, 10, 2):
        environment.invoke({})
        time.sleep(frozen_s)
    environment.invoke({})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """The server's reset in the freeze, no packet of the connection after it, and the error at the next use."""
    failed = recording.logged("query failed")
    yield "one query failed", len(failed) == 1
    frozen, thawed = recording.freezes()[2]
    yield "first thing after the long freeze", soon(failed[0], thawed)
    first, second = recording.connections
    reset = packet_time(first.first("R", first.server))
    yield "the server had reset the connection meanwhile", frozen < reset < thawed
    yield "which was the last of it", first.packets[-1].time == reset
    yield "the function connected anew", second.packets[0].time > thawed


def expected(recording: Recording) -> Expected:
    """F203: the close is the server's, though the error says `reset`. Neither file by itself tells that."""
    client = recording.connections[0].client
    wrong = "F201 F202 F204 R301 R302 R304 C401 K105 T601 T602 N901"
    return expect(
        want("F203", client),
        forbid=wrong + " R303",
        allow="R305",
        server=expect(forbid=wrong + " R303"),
        logs=expect(want("R303 F203"), forbid=wrong),
    )


CASE = Case("mariadb-idle-reset", delay_ms=2, play=play, claims=claims, expected=expected, export=insights)
