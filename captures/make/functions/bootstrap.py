"""The part of Lambda's Python runtime that can be seen in a log: it loads the handler, hands it one event at a time.

stdin        one invocation per line: {"requestId", "event"}
$SERVICE_FD  one message per line, in order: {"log": {"timestamp", "message"}}, {"ready"}, {"response"}, {"error"}

What is logged by `logging` becomes `[LEVEL]⇥stamp⇥request id⇥message`, or a JSON object whose stamp has whole seconds, one log
event per record; what is printed, by Python or by a native library, goes to standard output and error, which the service
reads line by line.
"""

import importlib.util
import json
import logging
import os
import sys
import time
import traceback

IN_JSON = os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON"
SERVICE = os.fdopen(int(os.environ["SERVICE_FD"]), "w", buffering=1)
request_id = ""  # set when an event is read and never cleared, as in the real runtime


def send(message: dict) -> None:
    """Tell the service."""
    SERVICE.write(json.dumps(message) + "\n")


def log(message: str, now_s: float | None = None) -> None:
    """One log event."""
    send({"log": {"timestamp": int((now_s or time.time()) * 1000), "message": message}})


class Handler(logging.Handler):
    """What the runtime puts on the root logger."""

    def emit(self, record: logging.LogRecord) -> None:
        """Stamp and prefix."""
        if IN_JSON:
            log(in_json(record), record.created)
            return
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        log(f"[{record.levelname}]\t{stamp}\t{request_id}\t{self.format(record)}\n", record.created)


def in_json(record: logging.LogRecord) -> str:
    """A record in the JSON log format."""
    document = {
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
        "level": record.levelname,
        "message": record.getMessage(),
        "logger": record.name,
    }
    if record.exc_info and (error := record.exc_info[1]):
        document |= {"stackTrace": traceback.format_tb(error.__traceback__), **named(error)}
    return json.dumps(document | {"requestId": request_id}) + "\n"


def named(error: BaseException) -> dict:
    """An exception's name and text, as the runtime calls them."""
    return {"errorType": type(error).__name__, "errorMessage": str(error)}


def unhandled(error: Exception) -> None:
    """The runtime's own lines about an exception of the handler; as text without stamp and id, with no-break spaces."""
    frames = traceback.format_list(traceback.extract_tb(error.__traceback__)[1:])
    if IN_JSON:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        document = {"timestamp": stamp, "level": "ERROR", **named(error), "requestId": request_id, "stackTrace": frames}
        log(json.dumps(document) + "\n")
        return
    indented = "".join(frames).replace("  ", "\u00a0\u00a0")
    log(f"[ERROR] {type(error).__name__}: {error}\nTraceback (most recent call last):\n{indented}")


logging.getLogger().addHandler(Handler())
logging.getLogger().setLevel(logging.INFO)
sys.stdout.reconfigure(line_buffering=True)
spec = importlib.util.spec_from_file_location("function", sys.argv[1])
function = importlib.util.module_from_spec(spec)
spec.loader.exec_module(function)
send({"ready": True})
for line in iter(sys.stdin.readline, ""):
    invocation = json.loads(line)
    request_id = invocation["requestId"]
    try:
        send({"response": function.handler(invocation["event"], None)})
    except Exception as error:
        unhandled(error)
        send({"error": str(error)})
