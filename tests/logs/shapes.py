"""Writers of every shape in which log events are exported: the twins of the envelopes."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

GROUP = "/aws/lambda/fn"


@dataclass(frozen=True)
class Line:
    """One log event: ms since the epoch, stream, message."""

    ms: int
    stream: str
    message: str
    id: int = 0


def iso(ms: int, digits: int = 3, zone: str = "Z") -> str:
    whole = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}" + (f".{ms % 1000:03d}".ljust(digits + 1, "0") if digits else "") + zone


def _event(line: Line) -> dict:
    return {
        "logStreamName": line.stream, "timestamp": line.ms, "message": line.message, "ingestionTime": line.ms + 4000,
        "eventId": f"{line.id:056d}",
    }  # fmt: skip


def _document(line: Line) -> dict:
    return {
        "messageType": "DATA_MESSAGE", "owner": "1", "logGroup": GROUP, "logStream": line.stream, "subscriptionFilters": ["f"],
        "logEvents": [{"id": f"{line.id:056d}", "timestamp": line.ms, "message": line.message}],
    }  # fmt: skip


def _insights(line: Line) -> dict[str, str]:
    return {"@timestamp": iso(line.ms, 3, "").replace("T", " "), "@message": line.message, "@logStream": line.stream}


def _csv(header: list[str], rows: list[list[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([header, *rows])
    return out.getvalue()


def filter_pretty(lines: list[Line]) -> str:
    return json.dumps({"events": [_event(e) for e in lines], "searchedLogStreams": []}, indent=4)


def filter_compact(lines: list[Line]) -> str:
    return json.dumps({"searchedLogStreams": [], "events": [_event(e) for e in lines]}, separators=(",", ":"))


def events_list(lines: list[Line]) -> str:
    return json.dumps([_event(e) for e in lines])


def sam_json(lines: list[Line]) -> str:
    return "".join(json.dumps(_event(e)) + "\n" for e in lines)


def get_log_events(lines: list[Line]) -> str:
    keys = ("timestamp", "message", "ingestionTime")
    events = [{k: v for k, v in _event(e).items() if k in keys} for e in lines]
    return json.dumps({"events": events, "nextForwardToken": "f/1", "nextBackwardToken": "b/1"}, indent=4)


def filter_text(lines: list[Line]) -> str:
    return "".join(f"EVENTS\t{e.id:056d}\t{e.ms + 4000}\t{e.stream}\t{e.message}\t{e.ms}\n" for e in lines)


def tail_detailed(lines: list[Line]) -> str:
    return "".join(f"{iso(e.ms, 6, '+00:00')} {e.stream} {e.message.rstrip()}\n" for e in lines)


def tail_colours(lines: list[Line]) -> str:
    return "".join(
        f"\x1b[32m{iso(e.ms, 6, '+00:00')}\x1b[0m \x1b[36m{e.stream}\x1b[0m {e.message.rstrip()}\n" for e in lines
    )


def awslogs(lines: list[Line]) -> str:
    return "".join(f"{GROUP} {e.stream} {iso(e.ms)} {iso(e.ms + 4000)} {e.message.rstrip()}\n" for e in lines)


def sam(lines: list[Line]) -> str:
    return "".join(f"{e.stream} {iso(e.ms, 6, '+00:00')} {e.message.rstrip()}\n" for e in lines)


def stamped(lines: list[Line]) -> str:
    return "".join(f"{iso(e.ms)} {e.message}\n" for e in lines)


def console(lines: list[Line]) -> str:
    return "".join(f"{iso(e.ms)}\n{e.message}\n" for e in lines)


def console_tab(lines: list[Line]) -> str:
    return "".join(f"{iso(e.ms)}\t{e.message.rstrip()}\n" for e in lines)


def console_csv(lines: list[Line]) -> str:
    return _csv(["timestamp", "message"], [[e.ms, e.message] for e in lines])


def insights_csv(lines: list[Line]) -> str:
    return _csv(["@timestamp", "@message", "@logStream"], [list(_insights(e).values()) for e in lines])


def insights_newest_first(lines: list[Line]) -> str:
    return insights_csv(lines[::-1])


def insights_json(lines: list[Line]) -> str:
    return json.dumps([_insights(e) for e in lines], indent=1)


def query_results(lines: list[Line]) -> str:
    rows = [[{"field": k, "value": v} for k, v in _insights(e).items()] for e in lines]
    return json.dumps({"queryLanguage": "CWLI", "results": rows, "status": "Complete"})


def firehose(lines: list[Line]) -> str:
    control = {"messageType": "CONTROL_MESSAGE", "logEvents": [{"id": "", "timestamp": 0, "message": "CWL CONTROL"}]}
    return json.dumps(control) + "".join(json.dumps(_document(e)) for e in lines)


def subscription_lines(lines: list[Line]) -> str:
    return "".join(json.dumps(_document(e)) + "\n" for e in lines)


def kinesis(lines: list[Line]) -> str:
    return json.dumps(
        {
            "Records": [
                {"kinesis": {"data": base64.b64encode(gzip.compress(json.dumps(_document(e)).encode())).decode()}}
                for e in lines
            ]
        }
    )


def docker(lines: list[Line]) -> str:
    return "".join(f"{iso(e.ms, 9)} {part}\n" for e in lines for part in e.message.rstrip("\n").split("\n"))


def docker_json(lines: list[Line]) -> str:
    return "".join(
        json.dumps({"log": part + "\n", "stream": "stdout", "time": iso(e.ms, 9)}, separators=(",", ":")) + "\n"
        for e in lines for part in e.message.rstrip("\n").split("\n")
    )  # fmt: skip


def cri(lines: list[Line]) -> str:
    return "".join(f"{iso(e.ms, 9)} stdout F {part}\n" for e in lines for part in e.message.rstrip("\n").split("\n"))


def syslog(lines: list[Line]) -> str:
    return "".join(
        f"<34>1 {iso(e.ms)} host fn 8 - - {part}\n" for e in lines for part in e.message.rstrip("\n").split("\n")
    )


#: Writer → (the envelope's shape, whether streams survive).
SHAPES = {
    filter_pretty: ("filter-log-events", True), filter_compact: ("filter-log-events", True),
    events_list: ("filter-log-events", True), sam_json: ("filter-log-events", True),
    get_log_events: ("filter-log-events", False), filter_text: ("filter-log-events-text", True),
    tail_detailed: ("tail", True), tail_colours: ("tail", True), awslogs: ("awslogs", True), sam: ("sam-logs", True),
    stamped: ("s3-export", False), console: ("console-text", False), console_tab: ("console-text", False),
    console_csv: ("csv", False), insights_csv: ("csv", True), insights_newest_first: ("csv", True),
    insights_json: ("insights-json", True), query_results: ("insights-json", True),
    firehose: ("subscription", True), subscription_lines: ("subscription", True), kinesis: ("subscription", True),
    docker: ("docker", False), docker_json: ("docker-json", False), cri: ("cri", False), syslog: ("syslog", True),
}  # fmt: skip

STREAMS = ("2026/11/21/[$LATEST]3f1c0de3f1c0de3f1c0de3f1c0de3f1c", "2026/11/21/[56]00112233445566778899aabbccddeeff")
START_MS = int((datetime(2026, 11, 21, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1))


def request(number: int) -> str:
    return f"{0x6F0D0000 + number:08x}-0000-4000-8000-{number:012d}"


def session(stream: str, number: int, ms: int, chatter: int = 1) -> list[Line]:
    """One invocation: START, application lines, an error of several lines, END and REPORT."""
    name = request(number)
    texts = [f"START RequestId: {name} Version: $LATEST\n"]
    texts += [f"{iso(ms + 10)}\t{name}\tINFO\tstep {k} of the work\n" for k in range(chatter)]
    texts.append(
        f"{iso(ms + 20)}\t{name}\tERROR\tredis error Error: read ECONNRESET\n"
        "    at TCP.onStreamRead {\n  errno: -104,\n  code: 'ECONNRESET',\n  syscall: 'read'\n}\n"
    )
    texts += [f"END RequestId: {name}\n", f"REPORT RequestId: {name}\tDuration: 30.00 ms\tBilled Duration: 30 ms\t\n"]
    step = max(30 // len(texts), 0)
    return [Line(ms + k * step, stream, text) for k, text in enumerate(texts)]


def numbered(lines: list[Line]) -> list[Line]:
    return [Line(e.ms, e.stream, e.message, k) for k, e in enumerate(sorted(lines, key=lambda e: e.ms))]
