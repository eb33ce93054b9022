"""Plays the Lambda service: starts environments, invokes, freezes, thaws, and writes what CloudWatch would hold."""

import itertools
import json
import math
import os
import queue
import random
import signal
import subprocess
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stage import HERE, SERVER_ADDRESS, Link, within

# Of the node:20 runtime, to look right; nothing may depend on them.
RUNTIME = (
    "Runtime Version: nodejs:20.v52\tRuntime Version ARN: arn:aws:lambda:eu-central-1::runtime:"
    "6b1f1cbd4c1f5d4a0ee7fdcfdb5a5a9ae6f5e9d3a2f4b4a3be2f7d4a5b1e0c97"
)
MEMORY_MB = 256
TIMEOUT_S = 30.0

# Between the thaw and the moment when the runtime finds the next event. Short, but not nothing: the timers that
# fell due during the freeze run first, under the previous request's id.
EVENT_ARRIVES_AFTER_S = 0.005

# How an environment stands still.
#   machine  the whole virtual machine: its kernel acknowledges nothing either
#   process  only the runtime's processes: the kernel still acknowledges what arrives, as some platforms' does
Freeze = Literal["machine", "process"]


@dataclass
class Diary:
    """Everything that happens in one case, as it truly was (`events`) and as CloudWatch would tell it (`logs`)."""

    events: list[dict[str, Any]] = field(default_factory=list)
    logs: list[dict[str, Any]] = field(default_factory=list)
    _order: "itertools.count[int]" = field(default_factory=itertools.count)

    def log(self, stream: str, message: str, timestamp_ms: int | None = None) -> None:
        """Add one log event."""
        timestamp_ms = int(time.time() * 1000) if timestamp_ms is None else timestamp_ms
        event = {
            "logStreamName": stream,
            "timestamp": timestamp_ms,
            "message": message,
            "ingestionTime": timestamp_ms + random.randint(200, 4000),
            "eventId": f"{timestamp_ms:020d}{next(self._order):036d}",
        }
        self.logs.append(event)

    def save_logs(self, file: Path) -> None:
        """Write what `aws logs filter-log-events --output json` prints."""
        events = sorted(self.logs, key=lambda event: event["timestamp"])  # stable: ties keep their order
        file.write_text(json.dumps({"events": events, "searchedLogStreams": []}, indent=4) + "\n")


class Environment:
    """One execution environment: a Node.js process that runs a handler, and stands still between its requests."""

    def __init__(self, name: str, link: Link, diary: Diary, freeze: Freeze) -> None:
        self.name = name
        self.link = link
        self.diary = diary
        self.freeze_kind = freeze
        self.stream = f"{time.strftime('%Y/%m/%d', time.gmtime())}/[$LATEST]{uuid.uuid4().hex}"
        self.frozen = False
        self._init_ms = 0.0  # reported with the first request, then none
        self._process: subprocess.Popen[str]
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()

    def start(self, handler: str, **variables: str) -> None:
        """The cold start: load `functions/<handler>` with these environment variables."""
        began = time.time()
        self._log(f"INIT_START {RUNTIME}\n")
        reading, writing = os.pipe()
        functions = HERE / "functions"
        node = ["node", str(functions / "bootstrap.mjs"), str(functions / handler)]
        self._process = subprocess.Popen(
            within(self.link.namespace, node),
            stdin=subprocess.PIPE,
            pass_fds=[writing],
            env={
                "PATH": os.environ["PATH"],
                "TZ": "UTC",
                "SERVER_ADDRESS": SERVER_ADDRESS,
                "SERVICE_FD": str(writing),
                **variables,
            },
            text=True,
        )
        os.close(writing)
        threading.Thread(target=self._listen, args=[reading], daemon=True).start()
        self._await("ready")
        self._init_ms = (time.time() - began) * 1000

    def invoke(self, event: dict[str, Any]) -> Any:
        """One request: thaw, START, the handler, END and REPORT, freeze. Returns the handler's result."""
        request_id = str(uuid.uuid4())
        self._log(f"START RequestId: {request_id} Version: $LATEST\n")
        began = self._note("invoke_start", request_id=request_id)
        self.thaw()
        self._send({"requestId": request_id, "event": event})
        response = self._await("response")
        ended = self._note("invoke_end", request_id=request_id)
        self._log(f"END RequestId: {request_id}\n")
        self._log(self._report(request_id, (ended - began) * 1000))
        self.freeze()
        return response

    def freeze(self) -> None:
        """What the service does as soon as the response is there."""
        self._process.send_signal(signal.SIGSTOP)
        if self.freeze_kind == "machine":
            self.link.pull()
        self.frozen = True
        self._note("freeze", mode=self.freeze_kind)

    def thaw(self) -> None:
        """What the service does when the next event is there."""
        if not self.frozen:
            return
        self.link.plug()
        self._note("thaw", mode=self.freeze_kind)
        self._process.send_signal(signal.SIGCONT)
        self.frozen = False
        time.sleep(EVENT_ARRIVES_AFTER_S)

    def _report(self, request_id: str, duration_ms: float) -> str:
        init = f"Init Duration: {self._init_ms:.2f} ms\t" if self._init_ms else ""
        billed_ms = math.ceil(duration_ms + self._init_ms)
        self._init_ms = 0.0
        return (
            f"REPORT RequestId: {request_id}\tDuration: {duration_ms:.2f} ms\tBilled Duration: {billed_ms} ms\t"
            f"Memory Size: {MEMORY_MB} MB\tMax Memory Used: {self._memory_mb()} MB\t{init}\n"
        )

    def _memory_mb(self) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) // 1024

    def _listen(self, descriptor: int) -> None:
        """Take what the runtime says, in its order: log lines to the diary, answers to whoever waits."""
        with open(descriptor) as lines:
            for line in lines:
                said = json.loads(line)
                if log := said.get("log"):
                    self._log(log["message"], log["timestamp"])
                else:
                    self._answers.put(said)

    def _await(self, expected: str) -> Any:
        answer = self._answers.get(timeout=TIMEOUT_S)
        if expected not in answer:
            raise RuntimeError(f"environment {self.name}: {answer}")
        return answer[expected]

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def _log(self, message: str, timestamp_ms: int | None = None) -> None:
        self.diary.log(self.stream, message, timestamp_ms)

    def _note(self, kind: str, **details: str) -> float:
        now = time.time()
        self.diary.events.append(
            {"t": round(now, 6), "type": kind, "container": self.name, "environment": self.stream, **details}
        )
        return now
