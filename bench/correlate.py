"""Time what correlation costs: `python -m bench.correlate [--invocations 100000] [--environments 1000] [--repeat 2]`.

Makes a Lambda export (as `aws logs filter-log-events` prints it) with a gRPC trace inside, and the server's capture of the
same connections, from a seeded generator; reads both at a tenth of the size and at the whole, each in a process of its own,
and prints CPU seconds of reading, correlating, examining and rendering, the growth, and the peak of memory. One environment in each
has a twentieth of all invocations: its timeline is timed too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.logs import START_MS, stamp

#: Ten times the input may take so many times as long.
BAR = 11.0
SERVER, PORT = "10.20.0.5", 50051
#: Of a thousand invocations so many end in a ping timeout after the freeze, a reset, a timeout of the function.
PING_TIMEOUTS, RESETS, TIMEOUTS = 10, 3, 2
#: Of so many invocations one belongs to the busiest environment.
BUSIEST = 20
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MS = 1_000_000
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)) + bytes((0, 0, 0, 4, 1, 0, 0, 0, 0))
REQUEST = bytes((0, 0, 40, 1, 4, 0, 0, 0, 1)) + bytes(40)
REPLY = bytes((0, 0, 90, 0, 1, 0, 0, 0, 1)) + bytes(90)
TRACE_ERROR = '{"errorType":"Error","errorMessage":"read ECONNRESET","code":"ECONNRESET","errno":-104,"syscall":"read"}'


def ping(number: int, answer: bool) -> bytes:
    """An HTTP/2 PING frame."""
    return bytes((0, 0, 8, 6, answer, 0, 0, 0, 0)) + number.to_bytes(8, "big")


class Client:
    """One environment: what it prints, and what passes between it and the server."""

    def __init__(self, number: int, invocations: int, seed: int) -> None:
        self.dice = random.Random(seed * 1_000_003 + number)
        self.stream = f"2026/11/21/[$LATEST]{self.dice.getrandbits(128):032x}"
        self.invocations = invocations
        self.address = bytes((10, 1 + number // 60_000, number // 250 % 240, 1 + number % 250))
        self.port, self.socket, self.call, self.pinged = 31_000, 0, 0, 0
        self.lines: list[tuple[int, str]] = []
        self.packets: list[tuple[int, bytes]] = []

    def live(self) -> None:
        """The whole life, from INIT_START to the last REPORT."""
        now = (START_MS + self.dice.randrange(3_600_000)) * MS
        self.say(
            now, "INIT_START Runtime Version: nodejs:22.v1\tRuntime Version ARN: arn:aws:lambda:eu-west-1::runtime:1\n"
        )
        self.connect(now + 150 * MS, "undefined")
        now += 300 * MS
        for k in range(self.invocations):
            fate = self.dice.randrange(1000) if k else 1000
            now = self.invocation(now, fate) + self.dice.randrange(2_000, 120_000) * MS

    def say(self, ns: int, message: str) -> None:
        """A line, as CloudWatch has it."""
        self.lines.append((ns // MS, message))

    def trace(self, ns: int, request: str, text: str) -> None:
        """A line of grpc-js, printed by the runtime."""
        iso = stamp(ns // MS, "Z")
        self.say(ns, f"{iso}\t{request}\tERROR\tD {iso} | v1.14.7 8 | {text}\n")

    def segment(self, ns: int, up: bool, flags: int, payload: bytes = b"") -> None:
        """A packet as the server's capture has it: its clock is the client's and 137 ms."""
        ends = (self.port, PORT) if up else (PORT, self.port)
        source, target = (self.address, bytes((10, 20, 0, 5))) if up else (bytes((10, 20, 0, 5)), self.address)
        seq, ack = (self.seq, self.ack) if up else (self.ack, self.seq)
        tcp = struct.pack(">HHIIBBHHH", *ends, seq, ack if flags & ACK else 0, 80, flags, 64_000, 0, 0) + payload
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + source + target
        self.packets.append((ns + 137 * MS, bytes(12) + b"\x08\0" + ip + tcp))
        moved = len(payload) + bool(flags & SYN) + bool(flags & FIN)
        self.seq, self.ack = (self.seq + moved, self.ack) if up else (self.seq, self.ack + moved)

    def connect(self, ns: int, request: str) -> None:
        """A new connection, as its trace tells it."""
        self.port, self.socket, self.seq, self.ack = self.port + 1, self.socket + 1, 1000, 5000
        who, remote = f"({self.socket})", f"{SERVER}:{PORT}"
        self.trace(ns, request, f"subchannel | (1) {remote} IDLE -> CONNECTING")
        self.segment(ns + 1 * MS, True, SYN)
        self.segment(ns + 1 * MS, False, SYN | ACK)
        self.segment(ns + 3 * MS, True, ACK)
        self.trace(ns + 3 * MS, request, f"transport | dns:svc.test:{PORT} {remote} Established TCP connection")
        self.segment(ns + 4 * MS, True, PSH | ACK, PREFACE)
        self.segment(ns + 5 * MS, False, PSH | ACK, SETTINGS)
        self.trace(ns + 7 * MS, request, f"transport | {who} {remote} local settings acknowledged by remote: {{}}")
        self.trace(ns + 8 * MS, request, f"subchannel | (1) {remote} CONNECTING -> READY")

    def ask(self, ns: int, request: str, up: bytes, down: bytes) -> None:
        """Something sent, and its answer acknowledged at once."""
        self.segment(ns + 1 * MS, True, PSH | ACK, up)
        self.segment(ns + 2 * MS, False, PSH | ACK, down)
        self.segment(ns + 43 * MS, True, ACK)

    def ping(self, ns: int, request: str, answered: bool = True) -> None:
        """A keepalive ping."""
        self.pinged += 1
        self.keepalive(ns, request, "Sending ping with timeout 1000ms")
        self.segment(ns + 1 * MS, True, PSH | ACK, ping(self.pinged, False))
        self.segment(ns + 2 * MS, False, PSH | ACK, ping(self.pinged, True))
        if answered:
            self.keepalive(ns + 4 * MS, request, "Received ping response")

    def keepalive(self, ns: int, request: str, text: str) -> None:
        """A line of the keepalive tracer."""
        self.trace(ns, request, f"keepalive | ({self.socket}) {SERVER}:{PORT} {text}")

    def invocation(self, ns: int, fate: int) -> int:
        """One invocation and its fate; returns when it ended."""
        request = str(uuid.UUID(int=self.dice.getrandbits(128), version=4))
        self.say(ns, f"START RequestId: {request} Version: $LATEST\n")
        now = ns + self.dice.randrange(2, 60) * MS
        lost = self.dice.random() < 0.5
        if fate < PING_TIMEOUTS:
            self.timed_out_while_frozen(now, request)
            now += 20 * MS
        self.say(now, f"{stamp(now // MS, 'Z')}\t{request}\tINFO\thandling {self.dice.randrange(10_000)}\n")
        if PING_TIMEOUTS <= fate < PING_TIMEOUTS + RESETS:
            now = self.reset(now + 1 * MS, request)
        elif PING_TIMEOUTS + RESETS <= fate < PING_TIMEOUTS + RESETS + TIMEOUTS:
            return self.timeout(ns, now + 1 * MS, request)
        self.rpc(now + 1 * MS, request)
        now += self.dice.randrange(60, 400) * MS
        if lost:
            self.ping(now, request, answered=fate >= 2 * PING_TIMEOUTS)
        now += 6 * MS
        self.say(now, f"{stamp(now // MS, 'Z')}\t{request}\tINFO\tdone\n")
        return self.report(ns, now + 1 * MS, request)

    def report(self, began: int, ns: int, request: str, status: str = "") -> int:
        """END and REPORT."""
        took = (ns - began) / MS
        self.say(ns, f"END RequestId: {request}\n")
        self.say(
            ns,
            f"REPORT RequestId: {request}\tDuration: {took:.2f} ms\tBilled Duration: {int(took) + 1} ms\tMemory Size: 128 MB\t{status}\n",
        )
        return ns

    def rpc(self, ns: int, request: str) -> None:
        """A call, and its three lines."""
        n, self.call = self.call, self.call + 1
        deadline = stamp(ns // MS + 5000, "Z")
        self.trace(
            ns,
            request,
            f'channel | (1) dns:svc.test:{PORT} createResolvingCall [{n}] method="/t.S/Echo", deadline={deadline}',
        )
        self.trace(
            ns,
            request,
            f"load_balancing_call | [{n}] Pick result: COMPLETE subchannel: (1) {SERVER}:{PORT} status: undefined undefined",
        )
        self.ask(ns, request, REQUEST, REPLY)
        self.trace(ns + 44 * MS, request, f'resolving_call | [{n}] ended with status: code=0 details=""')

    def timed_out_while_frozen(self, ns: int, request: str) -> None:
        """The ping of the invocation before ran out in the freeze: a new connection."""
        remote = f"{SERVER}:{PORT}"
        self.keepalive(ns, request, "Ping timeout passed without response")
        self.trace(ns, request, f"subchannel | (1) {remote} READY -> IDLE")
        self.segment(ns + 1 * MS, True, FIN | ACK)
        self.segment(ns + 2 * MS, False, FIN | ACK)
        self.segment(ns + 3 * MS, True, ACK)
        self.trace(ns + 4 * MS, request, f"transport | ({self.socket}) {remote} session closed")
        self.connect(ns + 5 * MS, request)

    def reset(self, ns: int, request: str) -> int:
        """The server forgot the connection: what is written is answered with a reset."""
        remote = f"{SERVER}:{PORT}"
        self.segment(ns + 1 * MS, True, PSH | ACK, REQUEST)
        self.segment(ns + 1 * MS, False, RST)
        iso = stamp(ns // MS + 3, "Z")
        self.trace(
            ns + 3 * MS, request, f"transport | ({self.socket}) {remote} connection closed with error read ECONNRESET"
        )
        self.trace(ns + 3 * MS, request, f"subchannel | (1) {remote} READY -> IDLE")
        self.say(ns + 3 * MS, f"{iso}\t{request}\tERROR\tInvoke Error \t{TRACE_ERROR}\n")
        self.connect(ns + 5 * MS, request)
        return ns + 20 * MS

    def timeout(self, began: int, ns: int, request: str) -> int:
        """The server never answers, and the function times out: a new process."""
        for wait in (0, 200, 620, 1460):
            self.segment(ns + (1 + wait) * MS, True, PSH | ACK, REQUEST)
            self.seq -= len(REQUEST)
        end = began + 3000 * MS
        self.say(end, f"{stamp(end // MS, 'Z')} {request} Task timed out after 3.00 seconds\n\n")
        self.report(began, end, request, "Status: timeout\t")
        self.say(
            end + 90 * MS,
            "INIT_START Runtime Version: nodejs:22.v1\tRuntime Version ARN: arn:aws:lambda:eu-west-1::runtime:1\n",
        )
        self.socket = self.call = 0
        self.connect(end + 200 * MS, "undefined")
        return end + 300 * MS


def write(folder: Path, invocations: int, environments: int, seed: int) -> tuple[int, int]:
    """The export and the capture; how many lines and packets they have."""
    lines: list[tuple[int, int, str, str]] = []
    packets: list[tuple[int, int, bytes]] = []
    busiest = invocations // BUSIEST
    share = [busiest] + [(invocations - busiest) // (environments - 1)] * (environments - 1)
    for number, mine in enumerate(share):
        client = Client(number, mine, seed)
        client.live()
        lines += [(ms, len(lines) + k, client.stream, text) for k, (ms, text) in enumerate(client.lines)]
        packets += [(ns, len(packets) + k, frame) for k, (ns, frame) in enumerate(client.packets)]
    lines.sort()
    packets.sort()
    with (folder / "lambda.json").open("w") as f:
        f.writelines(_document(lines))
    with (folder / "server.pcap").open("wb") as f:
        f.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1))
        for ns, _, frame in packets:
            f.write(struct.pack("<IIII", ns // 10**9, ns % 10**9, len(frame), len(frame)) + frame)
    return len(lines), len(packets)


def _document(lines: list[tuple[int, int, str, str]]) -> Iterator[str]:
    yield '{\n    "events": [\n'
    for k, (ms, order, stream, text) in enumerate(lines):
        event = {
            "logStreamName": stream, "timestamp": ms, "message": text, "ingestionTime": ms + 4000, "eventId": f"385{order:053d}",
        }  # fmt: skip
        yield (",\n" if k else "") + json.dumps(event)
    yield "\n    ]\n}\n"


def measure(folder: Path) -> dict[str, float]:
    """CPU seconds of every step in this process, and what there was."""
    from analyzer.cli import rarely_collect
    from analyzer.inputs import read_inputs
    from analyzer.report.style import Style
    from analyzer.report.text import report
    from analyzer.report.timeline import timeline_text
    from analyzer.rules import run
    from analyzer.timeline.build import build
    from analyzer.trace import Trace

    took: dict[str, float] = {}
    rarely_collect()  # as the command does

    def timed(name: str, work: Callable[[], Any]) -> Any:
        before = time.process_time()
        found = work()
        took[name] = time.process_time() - before
        return found

    paths = [str(folder / "lambda.json"), str(folder / "server.pcap")]
    inputs = timed("read", lambda: read_inputs(paths, frozenset(("pcap", "log"))))
    story = timed("correlate", lambda: build(inputs.points, inputs.logs))
    trace = Trace(story, timed("rules", lambda: run(story)))
    style = Style(width=120)
    timed("text report", lambda: report(story, trace.findings, style))
    busiest = max(story.environments, key=lambda e: e.invocations)
    timed("timeline of the busiest environment", lambda: timeline_text(trace, busiest.id, style))
    took["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    took |= {
        "events": len(story.events), "invocations": len(story.invocations), "connections": len(story.connections),
        "transports tied": sum(t.connection is not None for t in story.transports), "findings": len(trace.findings),
    }  # fmt: skip
    return took


def main() -> None:
    """A tenth and the whole, and how they compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--invocations", type=int, default=100_000)
    parser.add_argument("--environments", type=int, default=1_000)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure)))
        return
    folder = Path(tempfile.mkdtemp(prefix="bench-correlate-"))
    try:
        columns = []
        for part in (10, 1):
            made = folder / str(part)
            made.mkdir()
            lines, packets = write(made, given.invocations // part, given.environments // part, given.seed)
            print(f"{lines:,} lines, {packets:,} packets", file=sys.stderr)
            columns.append(least([run_once(made) for _ in range(given.repeat)]))
            shutil.rmtree(made)
        table(*columns)
    finally:
        shutil.rmtree(folder)


def run_once(folder: Path) -> dict[str, float]:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "bench.correlate", "--measure", str(folder)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"ANALYZER_JIT": "1"})
    return json.loads(out.stdout.splitlines()[-1])


def least(runs: list[dict[str, float]]) -> dict[str, float]:
    """The fastest of each step."""
    return {name: min(run[name] for run in runs) for name in runs[0]}


def table(small: dict[str, float], large: dict[str, float]) -> None:
    """Both sizes beside each other."""
    print("| | a tenth | the whole | growth |\n|---|---|---|---|")
    for name, whole in large.items():
        growth = whole / small[name] if small[name] else float("nan")
        shown = (f"{v:,.0f}" if isinstance(v, int) or v >= 100 else f"{v:.2f}" for v in (small[name], whole))
        timed = not isinstance(whole, int) and name != "peak MB"
        print(
            f"| {name} | {' | '.join(shown)} | {growth:.1f}×{' MISSED' if timed and whole > 0.5 and growth > BAR else ''} |"
        )


if __name__ == "__main__":
    main()
