"""name-server-dead: a name that nobody knows, then a resolver that says nothing: no connection was ever tried."""

import signal
import time
from pathlib import Path

from recording import Recording
from servers import start_name_server, start_redis
from service import Diary, Environment
from stage import SERVER_ADDRESS, Stage
from story import Case, Claims, Expected, expect, want

NAME = "cache.orders.internal"


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """The right name, a wrong one, and the right one again when the resolver stands still."""
    resolver = start_name_server(stage, folder, cache=SERVER_ADDRESS)
    start_redis(stage, folder)
    stage.resolver("A", f"nameserver {SERVER_ADDRESS}\noptions timeout:1 attempts:2\n")
    stage.start_capture(folder / "server.pcap", what="tcp or icmp or udp port 53")
    environment = Environment("A", stage.link("A"), diary, freeze="machine")
    environment.start("connect.mjs")
    environment.invoke({"ports": [6379], "host": NAME})
    time.sleep(1.0)
    environment.invoke({"ports": [6379], "host": "cahce.orders.internal"})
    time.sleep(1.0)
    resolver.send_signal(signal.SIGSTOP)
    environment.invoke({"ports": [6379], "host": NAME})
    resolver.send_signal(signal.SIGCONT)
    environment.invoke({"ports": [6379], "host": NAME})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """Two failures, no SYN."""
    yield "the wrong name is not found", len(recording.logged("getaddrinfo ENOTFOUND cahce.orders.internal")) == 1
    yield "the right one gets no answer", len(recording.logged(f"getaddrinfo EAI_AGAIN {NAME}")) == 1
    yield "twice it was resolved, and connected to", len(recording.logged(f"{NAME}:6379 connected")) == 2
    yield "there are two connections, no more", len(recording.connections) == 2


def expected(recording: Recording) -> Expected:
    """C404 twice."""
    unknown = recording.logged("ENOTFOUND")[0].timestamp_ms / 1000
    silent = recording.logged("EAI_AGAIN")[0].timestamp_ms / 1000
    wrong = "F201 F202 F203 F204 R301 R302 R303 R304 K105 C401 C402 C403 T601 T605 N901"
    both = want("C404", time=unknown), want("C404", time=silent)
    return expect(*both, forbid=wrong, server=expect(forbid=wrong), logs=expect(*both, forbid=wrong))


CASE = Case("name-server-dead", delay_ms=2, play=play, claims=claims, expected=expected)
