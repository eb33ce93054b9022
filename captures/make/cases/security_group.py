"""security-group: SYNs to a port are dropped; a library gives up by its own timer, the kernel by its own."""

import json
import time
from pathlib import Path

from recording import Recording
from servers import start_redis
from service import Diary, Environment
from stage import ROUTER, Stage, settings
from story import Case, Claims, Expected, expect, want


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """A uses ioredis, B plain sockets; both meet a rule that lets nothing through to port 6380."""
    start_redis(stage, folder)
    stage.firewall(ROUTER, "forward", "tcp dport 6380 drop")
    a, b = stage.link("A"), stage.link("B")
    settings(b.namespace, ipv4__tcp_syn_retries=2, ipv4__tcp_syn_linear_timeouts=0)
    stage.start_capture(folder / "client.pcap", a.namespace)
    redis = Environment("A", a, diary, freeze="machine")
    options = {"port": 6380, "lazyConnect": True, "connectTimeout": 3000, "maxRetriesPerRequest": 0}
    redis.start("redis.mjs", REDIS_OPTIONS=json.dumps(options))
    plain = Environment("B", b, diary, freeze="machine")
    plain.start("connect.mjs")
    plain.invoke({"ports": [6379, 6380]})
    time.sleep(1.0)
    plain.invoke({"ports": [6379]})
    redis.invoke({"key": "visits"})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """Two errors that read alike."""
    library = recording.logged("connect ETIMEDOUT\n")
    yield "ioredis says `connect ETIMEDOUT`, without an address", bool(library)
    kernel = recording.logged("connect ETIMEDOUT 10.0.2.20:6380")
    yield "the kernel says it with the address", len(kernel) == 1 and "errno: -110" in kernel[0].message
    yield "the other port was reached", len(recording.logged("10.0.2.20:6379 connected")) == 2
    tried = recording.connections
    yield "SYNs, and nothing else", all(p.flags == "S" for c in tried for p in c.packets)
    yield "three or more for a connection", len(tried[0].packets) >= 3


def expected(recording: Recording) -> Expected:
    """R304 for the library's timer, C401 for what both waited for."""
    client = recording.connections[0].client
    library_s = recording.logged("connect ETIMEDOUT\n")[0].timestamp_ms / 1000
    kernel_s = recording.logged("connect ETIMEDOUT 10.0.2.20:6380")[0].timestamp_ms / 1000
    wrong = "F201 F202 F203 F204 R301 R302 R303 K105 C402 C403 C404 T601 T605 N901"
    return expect(
        want("C401", client),
        want("R304", time=library_s),
        want("C401", time=kernel_s),
        forbid=wrong,
        client=expect(want("C401", client), forbid=wrong + " R304"),
        logs=expect(want("R304", time=library_s), want("C401", time=kernel_s), forbid=wrong),
    )


CASE = Case("security-group", delay_ms=2, play=play, claims=claims, expected=expected, captures=("client.pcap",))
