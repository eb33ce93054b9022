"""tls-handshake: connected, and then no common version, no trust, or no word."""

import signal
import subprocess
import time
from pathlib import Path

from recording import NEVER, Recording
from servers import start_nginx
from service import Diary, Environment
from stage import Stage
from story import Case, Claims, Expected, expect, want


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate that nobody has signed, and its key."""
    key, file = folder / "key.pem", folder / "certificate.pem"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-days", "30", "-subj", "/CN=cache.orders.internal", "-addext", "subjectAltName=IP:10.0.2.20"]
    subprocess.run([*request, *subject, "-keyout", str(key), "-out", str(file)], check=True, capture_output=True)
    return file, key


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """Once as it should be, once with an old version, once without trust, once with a server that stands still."""
    file, key = certificate(folder)
    tls = f"listen 443 ssl; ssl_certificate {file}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;"
    server = start_nginx(stage, folder, tls + "location / { return 200 hello; }")
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", stage.link("A"), diary, freeze="machine")
    environment.start("tls.mjs")
    trust = {"ca": file.read_text()}
    environment.invoke(trust)
    environment.invoke({**trust, "maxVersion": "TLSv1.2"})
    environment.invoke({})
    time.sleep(1.0)
    server.send_signal(signal.SIGSTOP)
    environment.invoke({**trust, "timeout": 3000})
    time.sleep(1.0)
    server.send_signal(signal.SIGCONT)
    environment.invoke(trust)
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """What the wire can show of it."""
    failed = [event.message for event in recording.logged("GET https failed")]
    yield "two requests went well, three failed", len(recording.logged("GET https 200")) == 2 and len(failed) == 3
    yield "no common version: the server says so", "alert" in failed[0] and "protocol version" in failed[0]
    yield "no trust: the function says so", "self-signed certificate" in failed[1]
    yield "no word: the function gave up", "request timed out" in failed[2]
    waiting = recording.connections[3]
    yield (
        "the server's kernel had acknowledged the ClientHello",
        any(p.sender == waiting.server and p.flags == "A" for p in waiting.packets),
    )
    said = [p for p in waiting.between(0, NEVER) if p.sender == waiting.server and p.payload]
    yield "its process said nothing in time", not said or said[0].time - waiting.packets[0].time > 3


def expected(recording: Recording) -> Expected:
    """C405 where the wire shows it."""
    alert, silent = recording.connections[1].client, recording.connections[3].client
    wrong = "F201 F202 F203 F204 R301 R302 R303 R304 K105 C401 C402 C403 C404 T601 T605 N901"
    times = [event.timestamp_ms / 1000 for event in recording.logged("GET https failed")]
    return expect(
        want("C405", alert),
        want("C405", silent),
        want("C405", time=times[1]),
        forbid=wrong,
        server=expect(want("C405", alert), want("C405", silent), forbid=wrong),
        logs=expect(want("C405", time=times[0]), forbid=wrong),
    )


CASE = Case("tls-handshake", delay_ms=2, play=play, claims=claims, expected=expected)
