"""reset-dropped: a firewall at the server swallows resets; what should be ECONNRESET at once becomes ETIMEDOUT."""

import time
from pathlib import Path

from exports import firehose
from recording import NEVER, Recording, packet_time
from servers import start_redis
from service import Diary, Environment
from stage import SERVER, Stage, settings
from story import Case, Claims, Expected, expect, want


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Redis closes in the freeze and forgets; the function writes, and hears nothing."""
    link = stage.link("A")
    settings(SERVER, ipv4__tcp_orphan_retries=3)
    settings(link.namespace, ipv4__tcp_retries2=5)
    stage.firewall(SERVER, "output", "tcp flags & rst == rst drop")
    start_redis(stage, folder, timeout=4)
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", link, diary, freeze="machine", timeout_s=60)
    environment.start("redis.mjs")
    environment.invoke({"key": "visits"})
    time.sleep(2.0)
    environment.invoke({"key": "visits"})
    time.sleep(12.0)
    environment.invoke({"key": "visits"})
    time.sleep(1.0)
    environment.invoke({"key": "visits"})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """The server's kernel forgot; what it answered never left."""
    frozen, thawed = recording.freezes()[1]
    old = recording.connections[0]
    fin = old.first("F", old.server)
    yield "the server closed during the freeze", fin is not None and frozen < fin.time < thawed
    yield "and gave up before the thaw", not [p for p in old.between(thawed - 3, NEVER) if p.sender == old.server]
    written = [p for p in old.between(thawed, NEVER) if p.sender == old.client and p.payload]
    yield "the function wrote its request again and again", sum(p.retransmission for p in written) >= 4
    yield "no reset was seen", old.first("R", old.server) is None
    failed = recording.logged("read ETIMEDOUT")
    yield "the kernel gave up: read ETIMEDOUT", len(failed) == 1 and failed[0].timestamp_ms / 1000 - thawed > 5
    yield "then a new connection", packet_time(recording.connections[1].packets[0]) > thawed + 5
    yield "on which everything went well", len(recording.logged("INCR visits")) == 4


def expected(recording: Recording) -> Expected:
    """R301: not a slow server, not a lost packet."""
    client = recording.connections[0].client
    wrong = "F201 F203 F204 R302 R303 R304 C401 K105 T601 T605 N901"
    return expect(
        want("R301", client),
        want("F202", client),
        forbid=wrong,
        server=expect(want("F202", client), forbid="F201 F204 R304 C401 K105 N901", allow="F203 R302 R301"),
        logs=expect(want("R302"), forbid="F201 F202 F203 R301 R303 R304 C401 N901"),
    )


CASE = Case("reset-dropped", delay_ms=1, play=play, claims=claims, expected=expected, export=firehose)
