"""half-close: a decoy; one side closes its half, the other goes on for seconds, as it should."""

from pathlib import Path

from exports import tail
from recording import Recording, losses, packet_time, resets
from servers import start_node
from service import Diary, Environment
from stage import Stage
from story import FAILURES, Case, Claims, Expected, expect

SECONDS = 8


def play(stage: Stage, diary: Diary, folder: Path) -> None:
    """The client closes first, then the server."""
    start_node(stage, folder, "half_close_server.mjs")
    stage.start_capture(folder / "server.pcap")
    environment = Environment("A", stage.link("A"), diary, freeze="machine")
    environment.start("half_close.mjs")
    for half in ("client", "server"):
        environment.invoke({"half": half, "seconds": SECONDS})
    stage.stop_capture()


def claims(recording: Recording) -> Claims:
    """Data after a FIN, and a clean end."""
    yield "there are two connections", len(recording.connections) == 2
    for connection, first, other in zip(recording.connections, ("client", "server"), ("server", "client"), strict=True):
        begun, ended = (packet_time(connection.first("F", getattr(connection, side))) for side in (first, other))
        yield f"the {first} closed its half", ended - begun > SECONDS - 1
        sent = [p for p in connection.between(begun, ended) if p.payload and p.sender == getattr(connection, other)]
        yield f"and the {other} went on", len(sent) >= SECONDS
    yield "nobody reset anything and nothing was lost", not resets(recording) and not losses(recording)


def expected(_: Recording) -> Expected:
    """Silence: this is how TCP is meant to be used."""
    return expect(forbid=FAILURES, server=expect(forbid=FAILURES), logs=expect(forbid=FAILURES))


CASE = Case("half-close", delay_ms=2, play=play, claims=claims, expected=expected, export=tail)
