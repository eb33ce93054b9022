"""any-interface: a decoy; `tcpdump -i any` on a router shows every packet twice, of a burst, a long poll and healthy reuse."""

import time
from pathlib import Path

from exports import insights
from recording import Recording
from servers import start_nginx, start_node
from service import Diary, Environment
from stage import ROUTER, Stage
from story import FAILURES, Case, Claims, Expected, expect


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Captured on the router, on all interfaces."""
    start_node(stage, folder, "http_server.mjs")
    start_nginx(stage, folder, "listen 80; keepalive_timeout 30s; location / { proxy_pass http://127.0.0.1:8080; }")
    a, b = stage.link("A"), stage.link("B")
    stage.start_capture(folder / "server.pcap", ROUTER, "-i", "any", "-s", "200")
    reuse = Environment("A", a, diary, freeze="machine")
    reuse.start("http.mjs")
    reuse.invoke({"requests": [{}, {"pauseMs": 500}, {"path": "/poll"}]})
    burst = Environment("B", b, diary, freeze="machine")
    burst.start("connect.mjs")
    burst.invoke({"ports": [80] * 15})
    time.sleep(5.0)
    reuse.invoke({"requests": [{}, {}]})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """Twice as many packets as there were, and nothing wrong."""
    yield "sixteen connections", len(recording.connections) == 16
    kept = recording.connections[0]
    yield "every SYN is there twice", len([p for p in kept.packets if p.flags == "S"]) == 2
    yield "the kept connection was reused after the freeze", len(recording.logged("200 in")) == 5
    yield "no request failed", not recording.logged("\tERROR\t")


def expected(_: Recording) -> Expected:
    """Silence: a copy is no retransmission."""
    return expect(forbid=FAILURES, server=expect(forbid=FAILURES), logs=expect(forbid=FAILURES))


CASE = Case("any-interface", delay_ms=3, play=play, claims=claims, expected=expected, export=insights)
