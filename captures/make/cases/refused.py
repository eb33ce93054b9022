"""refused: Redis restarts, and a router says that a port cannot be reached; both heal or not, no freeze is involved."""

import time
from pathlib import Path

from recording import Recording
from servers import start_redis
from service import Diary, Environment
from stage import ROUTER, Stage
from story import Case, Claims, Expected, expect, want


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Ask before Redis runs, while it runs, and on a port that the router refuses by ICMP."""
    stage.firewall(ROUTER, "forward", "tcp dport 6381 reject with icmp port-unreachable")
    stage.start_capture(folder / "server.pcap")
    a, b = stage.link("A"), stage.link("B")
    stage.start_capture(folder / "client.pcap", b.namespace)
    python = Environment("A", a, diary, freeze="machine")
    python.start("redis_cache.py")
    python.invoke({"key": "visits"})
    start_redis(stage, folder)
    python.invoke({"key": "visits"})
    time.sleep(1.0)
    node = Environment("B", b, diary, freeze="machine")
    node.start("connect.mjs")
    node.invoke({"ports": [6379, 6381]})
    python.invoke({"key": "visits"})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """A reset for a SYN, and an ICMP error for a SYN."""
    first = recording.connections[0]
    yield "the first SYN was answered by RST", [p.flags for p in first.packets] == ["S", "AR"]
    yield "redis-py said so", len(recording.logged("Connection refused")) >= 1
    yield "the second request went well", len(recording.logged("INCR visits")) == 2
    icmp = recording.logged("connect ECONNREFUSED 10.0.2.20:6381")
    yield "an ICMP error reads like a reset", len(icmp) == 1 and "errno: -111" in icmp[0].message
    at_b = recording.seen_in("client.pcap")
    yield "the capture at the function has the SYN alone", any([p.flags for p in c.packets] == ["S"] for c in at_b)


def expected(recording: Recording) -> Expected:
    """C403 for the closed port as for the router's word."""
    client = recording.connections[0].client
    refused = next(c.client for c in recording.seen_in("client.pcap") if c.server.endswith(":6381"))
    wrong = "F201 F202 F203 F204 R301 R302 R303 R304 K105 C401 C402 C404 T601 T605 N901"
    return expect(
        want("C403", client),
        want("C403", refused),
        forbid=wrong,
        server=expect(want("C403", client), forbid=wrong),
        client=expect(want("C403", refused), forbid=wrong),
        logs=expect(want("C403"), forbid=wrong),
    )


CASE = Case("refused", delay_ms=2, play=play, claims=claims, expected=expected, captures=("server.pcap", "client.pcap"))
