"""Reads a finished case back, with tshark and by searching the logs: what is in the files, not what was meant to be."""

import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from service import Diary, LogEvent

FIELDS = ["frame.number", "frame.time_epoch", "tcp.stream", "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport"]
FIELDS += ["tcp.flags.str", "tcp.len", "tcp.analysis.retransmission"]
NEVER = float("inf")


@dataclass(frozen=True)
class Packet:
    """One TCP segment."""

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
    """One TCP connection as one capture shows it."""

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

    def __init__(self, folder: Path, captures: tuple[str, ...], diary: Diary) -> None:
        self.folder = folder
        self.captures = captures
        self.diary = diary

    @cached_property
    def connections(self) -> list[Connection]:
        """All TCP connections of the first capture, in the order in which they were opened."""
        return self.seen_in(self.captures[0]) if self.captures else []

    def seen_in(self, capture: str) -> list[Connection]:
        """All TCP connections of a capture, in the order in which they were opened."""
        columns = [argument for name in FIELDS for argument in ("-e", name)]
        command = ["tshark", "-n", "-r", str(self.folder / capture), "-Y", "tcp and not icmp", "-T", "fields", *columns]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        streams: dict[int, list[Packet]] = {}
        for packet in map(Packet.from_tshark, lines):
            streams.setdefault(packet.stream, []).append(packet)
        return [Connection(packets) for packets in streams.values()]

    def logged(self, text: str) -> list[LogEvent]:
        """The log events whose message holds `text`, in order."""
        return [event for event in self.diary.logs if text in event.message]

    def noted(self, kind: str) -> list[dict[str, Any]]:
        """What truly happened, of one kind."""
        return [event for event in self.diary.events if event["type"] == kind]

    def freezes(self, container: str | None = None) -> list[tuple[float, float]]:
        """(freeze, thaw) of every freeze that ended, in the order of the thaws; of one environment, or of all."""
        began: dict[str, float] = {}
        spans = []
        for event in self.diary.events:
            if container in (None, event.get("container")):
                if event["type"] == "freeze":
                    began[event["container"]] = event["t"]
                elif event["type"] == "thaw":
                    spans.append((began.pop(event["container"]), event["t"]))
        return spans

    def truth(self) -> dict[str, Any]:
        """The contents of truth.json."""
        return {"events": self.diary.events, "connections": [c.summary() for c in self.connections]}


def request_id(event: LogEvent) -> str:
    """The request id that the runtime printed into a log line of the function."""
    return event.message.split("\t")[1]


def soon(event: LogEvent, after_s: float) -> bool:
    """Whether a log event follows a moment closely; its own stamp is cut to milliseconds."""
    return -0.001 < event.timestamp_ms / 1000 - after_s < 0.1


def packet_time(packet: Packet | None) -> float:
    """When a packet was seen; a packet that is not there was never seen."""
    return packet.time if packet else NEVER


def resets(recording: Recording) -> list[Packet]:
    """All RST segments."""
    return [packet for connection in recording.connections for packet in connection.packets if "R" in packet.flags]


def losses(recording: Recording) -> list[Packet]:
    """All segments that were sent again."""
    return [packet for connection in recording.connections for packet in connection.packets if packet.retransmission]
