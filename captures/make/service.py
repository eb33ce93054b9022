"""Plays the Lambda service: starts environments, invokes, freezes, thaws, and writes what CloudWatch would hold."""

import itertools
import json
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

from paused import set_back
from platform_lines import FORMATS, Invocation
from stage import HERE, PYTHON, SERVER_ADDRESS, Link, within

FUNCTIONS = HERE / "functions"
MEMORY_MB = 256
PATIENCE_S = 120.0

# Between the thaw and the moment when the runtime finds the next event. Short, but not nothing: the timers that
# fell due during the freeze run first, under the previous request's id.
EVENT_ARRIVES_AFTER_S = 0.005

# Between the response and the freeze: long enough for the process to come to rest.
FREEZES_AFTER_S = 0.003

# How an environment stands still.
#   machine  the whole virtual machine: its kernel acknowledges nothing either; what comes for it is lost
#   queue    the same, but what comes for it waits in a queue at its door until the thaw
#   process  only the runtime's processes: the kernel still acknowledges what arrives, as some platforms' does
#   paused   as `queue`, and the clock behind the TCP time stamps stands still as well, as in a virtual machine that is
#            suspended and resumed
Freeze = Literal["machine", "queue", "process", "paused"]


@dataclass(frozen=True)
class Runtime:
    """A managed runtime: how it is started, and how it calls itself; the latter is made up, nothing may depend on it."""

    version: str
    digits: str
    command: tuple[str, ...]

    @property
    def arn(self) -> str:
        """Of this version of the runtime."""
        return f"arn:aws:lambda:eu-central-1::runtime:{self.digits * 8}"


RUNTIMES = {
    ".mjs": Runtime("nodejs:20.v52", "6b1f1cbd", ("node", str(FUNCTIONS / "bootstrap.mjs"))),
    ".py": Runtime("python:3.11.v77", "c4d1e0a7", (str(PYTHON), str(FUNCTIONS / "bootstrap.py"))),
    "": Runtime("provided:al2023.v98", "2f90ab3e", ()),  # a program is its own runtime
}


@dataclass
class LogEvent:
    """One event of CloudWatch Logs."""

    stream: str
    timestamp_ms: int
    message: str
    ingestion_ms: int
    order: int


@dataclass
class Diary:
    """Everything that happens in one case, as it truly was (`events`) and as CloudWatch would tell it (`logs`)."""

    events: list[dict[str, Any]] = field(default_factory=list)
    logs: list[LogEvent] = field(default_factory=list)
    _order: "itertools.count[int]" = field(default_factory=itertools.count)

    def log(self, stream: str, message: str, timestamp_ms: int | None = None) -> None:
        """Add one log event."""
        timestamp_ms = int(time.time() * 1000) if timestamp_ms is None else timestamp_ms
        ingested_ms = timestamp_ms + random.randint(200, 4000)
        self.logs.append(LogEvent(stream, timestamp_ms, message, ingested_ms, next(self._order)))

    def in_order(self) -> list[LogEvent]:
        """The log events by their stamps; ties keep their order."""
        return sorted(self.logs, key=lambda event: event.timestamp_ms)

    def note(self, kind: str, **details: Any) -> float:
        """Add to the truth; returns the time, in epoch seconds."""
        now = time.time()
        self.events.append({"t": round(now, 6), "type": kind, **details})
        return now


class Environment:
    """One execution environment: a process that runs a handler, and stands still between its requests."""

    def __init__(
        self, name: str, link: Link, diary: Diary, freeze: Freeze, timeout_s: float = 30.0, log_format: str = "Text"
    ) -> None:
        """`timeout_s`: after so long the service ends an invocation, and the process. `log_format`: Text or JSON."""
        self.name = name
        self.link = link
        self.diary = diary
        self.freeze_kind = freeze
        self.timeout_s = timeout_s
        self.log_format = log_format
        self.lines = FORMATS[log_format]
        self.stream = f"{time.strftime('%Y/%m/%d', time.gmtime())}/[$LATEST]{uuid.uuid4().hex}"
        self.frozen = False
        self.process: subprocess.Popen[str]
        self._init_ms = 0.0  # reported with the first request, then none
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._frozen_s = 0.0
        self._started: tuple[str, dict[str, str]] = ("", {})

    def start(self, handler: str, **variables: str) -> None:
        """The cold start: load `functions/<handler>` with these environment variables."""
        began = time.time()
        self._started = handler, variables
        kind = RUNTIMES["." + handler.rpartition(".")[2] if "." in handler else ""]
        self._log(self.lines.init_start(began, kind.version, kind.arn))
        self._answers = queue.Queue()
        reading, writing = os.pipe()
        self.process = subprocess.Popen(
            within(self.link.namespace, [*kind.command, str(FUNCTIONS / handler)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            env={
                "PATH": os.environ["PATH"],
                "TZ": "UTC",
                "SERVER_ADDRESS": SERVER_ADDRESS,
                "SERVICE_FD": str(writing),
                "AWS_LAMBDA_LOG_FORMAT": self.log_format,
                **variables,
            },
            text=True,
        )
        os.close(writing)
        threading.Thread(target=self._listen, args=[reading, self._answers], daemon=True).start()
        threading.Thread(target=self._listen_to_lines, args=[self.process], daemon=True).start()
        self._answer("ready", PATIENCE_S)
        self._init_ms = (time.time() - began) * 1000

    def invoke(self, event: dict[str, Any], freeze: bool = True) -> Any:
        """One request: thaw, START, the handler, END and REPORT, freeze. The handler's result, None without one.

        An error that the handler throws is written to the log and leaves the environment as it is. When the time is
        over, the process is killed and started anew, in the same environment.
        """
        request_id = str(uuid.uuid4())
        self._log(self.lines.start(time.time(), request_id))
        began = self.note("invoke_start", request_id=request_id)
        self.thaw()
        self._send({"requestId": request_id, "event": event})
        try:
            response, status = self._answer("response", self.timeout_s - (time.time() - began))
        except queue.Empty:
            self._time_out(request_id)
            return None
        ended = self.note("invoke_end", request_id=request_id)
        self._log_end(request_id, ended, (ended - began) * 1000, status)
        if freeze:
            self.freeze()
        return response

    def freeze(self) -> None:
        """What the service does as soon as the response is there."""
        time.sleep(FREEZES_AFTER_S)
        self.process.send_signal(signal.SIGSTOP)
        if self.freeze_kind == "machine":
            self.link.pull()
        elif self.freeze_kind in ("queue", "paused"):
            self.link.hold()
        self.frozen = True
        self._frozen_s = self.note("freeze", mode=self.freeze_kind)

    def thaw(self) -> None:
        """What the service does when the next event is there."""
        if not self.frozen:
            return
        if self.freeze_kind == "paused":
            set_back(self.process.pid, time.time() - self._frozen_s)
        self.link.plug()
        self.note("thaw", mode=self.freeze_kind)
        self.process.send_signal(signal.SIGCONT)
        self.frozen = False
        time.sleep(EVENT_ARRIVES_AFTER_S)

    def note(self, kind: str, **details: Any) -> float:
        """Add to the truth about this environment; returns the time, in epoch seconds."""
        return self.diary.note(kind, container=self.name, environment=self.stream, **details)

    def _time_out(self, request_id: str) -> None:
        ended = self.note("invoke_timeout", request_id=request_id)
        self.process.kill()
        self._log_end(request_id, ended, self.timeout_s * 1000, "timeout")
        handler, variables = self._started
        self.start(handler, **variables)

    def _log_end(self, request_id: str, ended_s: float, duration_ms: float, status: str) -> None:
        it = Invocation(request_id, ended_s, duration_ms, self._init_ms, MEMORY_MB, self._memory_mb(), status)
        self._init_ms = 0.0
        for line in self.lines.over(it):
            self._log(line, int(ended_s * 1000))

    def _memory_mb(self) -> int:
        """The most that the process has used, 64 where it is gone."""
        try:
            with Path(f"/proc/{self.process.pid}/status").open() as status:
                return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) // 1024
        except (FileNotFoundError, StopIteration):
            return 64

    def _listen(self, descriptor: int, answers: "queue.Queue[dict[str, Any]]") -> None:
        """Take what the runtime says, in its order: log lines to the diary, answers to whoever waits."""
        with open(descriptor) as lines:
            for line in lines:
                said = json.loads(line)
                if log := said.get("log"):
                    self._log(log["message"], log["timestamp"])
                else:
                    answers.put(said)

    def _listen_to_lines(self, process: "subprocess.Popen[str]") -> None:
        """What a process prints past its runtime is a log event per line, without a request's id."""
        assert process.stdout
        for line in process.stdout:
            self._log(line)

    def _answer(self, expected: str, patience_s: float) -> tuple[Any, str]:
        """What the runtime answers, and whether that is a success. Raises queue.Empty if it does not in time."""
        answer = self._answers.get(timeout=max(patience_s, 0))
        if "error" in answer:
            return None, "error"
        if expected not in answer:
            raise RuntimeError(f"environment {self.name}: {answer}")
        return answer[expected], "success"

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def _log(self, message: str, timestamp_ms: int | None = None) -> None:
        self.diary.log(self.stream, message, timestamp_ms)
