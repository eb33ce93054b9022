"""too-many-pings: a Python function pings once a second; the server asks for five minutes, and says so."""

import json
import time
from pathlib import Path

from exports import s3
from recording import Recording
from servers import start_python
from service import Diary, Environment
from stage import Stage
from story import Case, Claims, Expected, expect, want

KEEPALIVE = {
    "grpc.keepalive_time_ms": 1000,
    "grpc.keepalive_timeout_ms": 1000,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.http2.max_pings_without_data": 0,
}


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Work on for some seconds, so that the pings go on."""
    start_python(stage, folder, "grpc_core_server.py")
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", stage.link("A"), diary, freeze="machine")
    traces = {"GRPC_VERBOSITY": "INFO", "GRPC_TRACE": "http_keepalive"}
    environment.start("grpc_core.py", CHANNEL_OPTIONS=json.dumps(KEEPALIVE), **traces)
    environment.invoke({"deadlines": [2], "work_s": 6.0})
    time.sleep(2.0)
    environment.invoke({"deadlines": [2], "work_s": 3.0})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """The server's complaint in the trace."""
    yield "the function was told", bool(recording.logged("too_many_pings"))
    yield "it had to connect again", len(recording.connections) >= 2
    old = recording.connections[0]
    yield "the server closed", old.first("F", old.server) is not None
    yield "all calls went well", len(recording.logged("greeting ok")) == 2


def expected(recording: Recording) -> Expected:
    """K103, from the trace as from the frames."""
    client = recording.connections[0].client
    wrong = "K101 K102 F201 F202 F203 F204 R301 R302 R303 T601 T602 N901"
    return expect(
        want("K103", client),
        forbid=wrong,
        server=expect(want("K103", client), forbid=wrong),
        logs=expect(want("K103"), forbid=wrong),
    )


CASE = Case("too-many-pings", delay_ms=2, play=play, claims=claims, expected=expected, export=s3)
