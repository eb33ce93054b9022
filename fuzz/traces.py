"""gRPC traces of every dialect."""

from __future__ import annotations

from fuzz.logs import check, damage
from fuzz.seeds import Files, files

NAME, SHARE = "gRPC traces", 200
__all__ = ["NAME", "SHARE", "check", "damage", "seeds"]


def seeds() -> list[Files]:
    """Bare traces and exports that hold one."""
    return [{path.name: path.read_bytes()} for path in files("samples/grpc", (".log", ".txt", ".json"))]
