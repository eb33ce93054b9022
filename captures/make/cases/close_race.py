"""close-race: nginx closed an idle connection at the moment in which the function asked again; no freeze."""

import time
from pathlib import Path

from exports import insights
from recording import Recording, packet_time
from servers import start_nginx, start_node
from service import Diary, Environment
from stage import Stage
from story import Case, Claims, Expected, expect, want

KEEPALIVE_S = 3
DELAY_MS = 60


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Requests ever later, until one crosses the close; then a long poll, which must not mind."""
    start_node(stage, folder, "http_server.mjs")
    pass_on = "location / { proxy_pass http://127.0.0.1:8080; }"
    start_nginx(stage, folder, f"listen 80; keepalive_timeout {KEEPALIVE_S}s; {pass_on}")
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", stage.link("A"), diary, freeze="process")
    environment.start("http.mjs")
    # On the server's clock the next request comes a round trip after the pause: it has to leave before the FIN arrives.
    crossing_ms = KEEPALIVE_S * 1000 - DELAY_MS
    environment.invoke(
        {"requests": [{}, {"pauseMs": 1500}, {"pauseMs": crossing_ms}, {"pauseMs": 0}, {"path": "/poll"}]}
    )
    time.sleep(1.0)
    environment.invoke({"requests": [{}]})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """The request had left before the FIN arrived, and arrived after it had left."""
    old, new = recording.connections
    fin = old.first("F", old.server)
    asked = [p for p in old.packets if p.sender == old.client and p.payload]
    yield "three requests on the old connection", len(asked) == 3
    yield "the last came within a round trip of the close", 0 < asked[-1].time - packet_time(fin) < 2 * DELAY_MS / 1000
    reset = old.first("R", old.server)
    yield "and was answered by RST", 0 < packet_time(reset) - asked[-1].time < 0.01
    failed = recording.logged("failed after")
    yield "one request failed", len(failed) == 1
    yield "with ECONNRESET", "ECONNRESET" in failed[0].message
    yield (
        "while the function ran",
        all(t < asked[-1].time - 1 or f > asked[-1].time + 1 for f, t in recording.freezes()),
    )
    yield "the long poll was answered", len(recording.logged("GET /poll 200")) == 1
    yield (
        "on the new connection, as all that follows",
        len(recording.connections) == 2 and not new.first("R", new.server),
    )


def expected(recording: Recording) -> Expected:
    """F204, which a look at the clock before reuse would not have prevented."""
    client = recording.connections[0].client
    wrong = "F201 F202 F203 R301 R302 R303 R304 T601 T602 T605 K105 N901"
    return expect(
        want("F204", client),
        forbid=wrong,
        server=expect(want("F204", client), forbid=wrong),
        logs=expect(forbid="F201 F202 R301 R302 T601 T605 K105", allow="R303 F203 N901"),
    )


CASE = Case("close-race", delay_ms=DELAY_MS, play=play, claims=claims, expected=expected, export=insights)
