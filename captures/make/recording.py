"""Reads a finished case back, with tshark and by searching the logs: what is in the files, not what was meant to be."""

import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from service import Diary

FIELDS = ["frame.number", "frame.time_epoch", "tcp.stream", "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport"]
FIELDS += ["tcp.flags.str", "tcp.len", "tcp.analysis.retransmission"]


@dataclass(frozen=True)
class Packet:
    """One TCP segment of server.pcap."""

    number: int
    time: float
    stream: int
    sender: str
    receiver: str
    flags: str  # letters of S, A, F, R, P
    payload: int  # bytes
    retransmission: bool

    @classmethod
    def from_tshark(cls, line: str) -> "Packet":
        """Parse a line of `tshark -T fields`, columns as in FIELDS."""
        number, time, stream, source, source_port, target, target_port, flags, payload, again = line.split("\t")
        sender, receiver = f"{source}:{source_port}", f"{target}:{target_port}"
        letters = "".join(letter for letter in flags if letter.isalpha())
        return cls(int(number), float(time), int(stream), sender, receiver, letters, int(payload), bool(again))


@dataclass(frozen=True)
class Connection:
    """One TCP connection as server.pcap shows it."""

    packets: list[Packet]

    @property
    def client(self) -> str:
        """ip:port of the side that sent the SYN."""
        return self.packets[0].sender

    @property
    def server(self) -> str:
        """ip:port of the other side."""
        return self.packets[0].receiver

    def first(self, flag: str, sender: str) -> Packet | None:
        """The first segment of `sender` that carries `flag`."""
        return next((p for p in self.packets if flag in p.flags and p.sender == sender), None)

    def between(self, start: float, end: float) -> list[Packet]:
        """The segments within a span of time."""
        return [p for p in self.packets if start < p.time < end]

    def summary(self) -> dict[str, Any]:
        """The connection for truth.json; times are epoch seconds, null for what never happened."""

        def when(flag: str, sender: str) -> float | None:
            packet = self.first(flag, sender)
            return packet.time if packet else None

        return {
            "client": self.client,
            "server": self.server,
            "first": self.packets[0].time,
            "last": self.packets[-1].time,
            "packets": len(self.packets),
            "client_fin": when("F", self.client),
            "server_fin": when("F", self.server),
            "client_rst": when("R", self.client),
            "server_rst": when("R", self.server),
        }


class Recording:
    """The files of a case, and what truly happened."""

    def __init__(self, capture: Path, diary: Diary) -> None:
        self.capture = capture
        self.diary = diary

    @cached_property
    def connections(self) -> list[Connection]:
        """All TCP connections, in the order in which they were opened."""
        columns = [argument for name in FIELDS for argument in ("-e", name)]
        command = ["tshark", "-n", "-r", str(self.capture), "-Y", "tcp", "-T", "fields", *columns]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        streams: dict[int, list[Packet]] = {}
        for packet in map(Packet.from_tshark, lines):
            streams.setdefault(packet.stream, []).append(packet)
        return [Connection(packets) for packets in streams.values()]

    def logged(self, text: str) -> list[dict[str, Any]]:
        """The log events whose message holds `text`, in order."""
        return [event for event in self.diary.logs if text in event["message"]]

    def freezes(self) -> list[tuple[float, float]]:
        """(freeze, thaw) of every freeze that ended, in the order of the thaws."""
        began: dict[str, float] = {}
        spans = []
        for event in self.diary.events:
            if event["type"] == "freeze":
                began[event["container"]] = event["t"]
            elif event["type"] == "thaw":
                spans.append((began.pop(event["container"]), event["t"]))
        return spans

    def truth(self) -> dict[str, Any]:
        """The contents of truth.json."""
        return {"events": self.diary.events, "connections": [c.summary() for c in self.connections]}


def request_id(event: dict[str, Any]) -> str:
    """The request id that the runtime printed into a log line of the function."""
    return str(event["message"].split("\t")[1])
