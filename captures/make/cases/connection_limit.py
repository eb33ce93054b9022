"""connection-limit: thirteen environments, a database for ten; frozen ones keep what they do not use."""

import time
from pathlib import Path

from exports import firehose
from recording import Recording
from servers import start_mariadb
from service import Diary, Environment
from stage import Stage
from story import Case, Claims, Expected, expect, want

LIMIT, ENVIRONMENTS = 10, "ABCDEFGHIJKLM"


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """All come up within a second; two come back, the others stay frozen."""
    start_mariadb(stage, folder, max_connections=LIMIT, extra_max_connections=1)
    links = [stage.link(name) for name in ENVIRONMENTS]
    stage.start_capture(folder / "server.pcap")
    environments = [Environment(link.name, link, diary, freeze="machine") for link in links]
    for environment in environments:
        environment.start("mysql.mjs")
        environment.invoke({})
        time.sleep(0.1)
    time.sleep(3.0)
    environments[0].invoke({})
    environments[-1].invoke({})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """Thrown out after the handshake of TCP, before that of MySQL."""
    refused = recording.logged("ER_CON_COUNT_ERROR")
    yield "some were told that there are too many", len(refused) >= 2
    held = [c for c in recording.connections if not c.first("F", c.server) and not c.first("R", c.server)]
    yield "as many as the limit, and one, are held", LIMIT <= len(held) <= LIMIT + 1
    yield "the rest was closed by the server at once", len(recording.connections) - len(held) == len(refused)


def expected(recording: Recording) -> Expected:
    """L501, once for the server."""
    wrong = "F201 F203 F204 R301 R302 R303 R304 K105 C401 C402 C403 T601 T605 N901"
    return expect(
        want("L501"),
        forbid=wrong,
        allow="L502",
        server=expect(want("L501"), forbid=wrong, allow="L502"),
        logs=expect(want("L501"), forbid=wrong),
    )


CASE = Case("connection-limit", delay_ms=2, play=play, claims=claims, expected=expected, export=firehose)
