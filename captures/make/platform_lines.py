"""The lines that the Lambda service itself writes about an environment, in either of its two log formats."""

import json
import math
import time
from dataclasses import dataclass
from typing import Protocol


def iso(epoch_s: float) -> str:
    """`2026-11-21T01:49:55.821Z`."""
    ms = int(epoch_s * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03d}Z"


@dataclass(frozen=True)
class Invocation:
    """What the service knows of an invocation when it is over; `init_ms` is 0 but for the first of an environment."""

    request_id: str
    ended_s: float
    duration_ms: float
    init_ms: float
    memory_mb: int
    max_memory_mb: int
    status: str  # success, error or timeout

    @property
    def billed_ms(self) -> int:
        """Whole milliseconds, the initialisation included."""
        return math.ceil(self.duration_ms + self.init_ms)


class LogFormat(Protocol):
    """Writes the messages of one log format."""

    def init_start(self, now_s: float, version: str, arn: str) -> str:
        """Of a cold start."""

    def start(self, now_s: float, request_id: str) -> str:
        """Of an invocation that begins."""

    def over(self, it: Invocation) -> list[str]:
        """Of an invocation that is over."""


class Text:
    """START, END and REPORT."""

    def init_start(self, now_s: float, version: str, arn: str) -> str:
        """INIT_START."""
        return f"INIT_START Runtime Version: {version}" + (f"\tRuntime Version ARN: {arn}" if arn else "") + "\n"

    def start(self, now_s: float, request_id: str) -> str:
        """START."""
        return f"START RequestId: {request_id} Version: $LATEST\n"

    def over(self, it: Invocation) -> list[str]:
        """`Task timed out` where it is so, END, REPORT; an error that the handler raised is no status here."""
        init = f"Init Duration: {it.init_ms:.2f} ms\t" if it.init_ms else ""
        late = f"{iso(it.ended_s)} {it.request_id} Task timed out after {it.duration_ms / 1000:.2f} seconds\n\n"
        timed_out = it.status == "timeout"
        report = (
            f"REPORT RequestId: {it.request_id}\tDuration: {it.duration_ms:.2f} ms\tBilled Duration: {it.billed_ms} ms\t"
            f"Memory Size: {it.memory_mb} MB\tMax Memory Used: {it.max_memory_mb} MB\t{init}{'Status: timeout' * timed_out}\n"
        )
        return [late] * timed_out + [f"END RequestId: {it.request_id}\n", report]


class Json:
    """`platform.*` events, as they come at the default system log level; there is no END, and a time-out is a status."""

    def init_start(self, now_s: float, version: str, arn: str) -> str:
        """platform.initStart."""
        record = {
            "initializationType": "on-demand",
            "phase": "init",
            "runtimeVersion": version,
            "runtimeVersionArn": arn,
        }
        return self._event(now_s, "initStart", {**record, "functionName": "orders", "functionVersion": "$LATEST"})

    def start(self, now_s: float, request_id: str) -> str:
        """platform.start."""
        return self._event(now_s, "start", {"requestId": request_id, "version": "$LATEST"})

    def over(self, it: Invocation) -> list[str]:
        """platform.report."""
        metrics = {
            "durationMs": round(it.duration_ms, 3),
            "billedDurationMs": it.billed_ms,
            "memorySizeMB": it.memory_mb,
            "maxMemoryUsedMB": it.max_memory_mb,
        }
        if it.init_ms:
            metrics["initDurationMs"] = round(it.init_ms, 3)
        record = {"requestId": it.request_id, "metrics": metrics, "status": it.status}
        return [self._event(it.ended_s, "report", record)]

    def _event(self, now_s: float, kind: str, record: dict[str, object]) -> str:
        return json.dumps({"time": iso(now_s), "type": f"platform.{kind}", "record": record}, separators=(",", ":"))


FORMATS: dict[str, LogFormat] = {"Text": Text(), "JSON": Json()}
