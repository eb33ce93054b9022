"""What runtimes and the platform print, in text and in JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.logs.reader import to_event
from analyzer.logs.records import LogRecord
from analyzer.logs.runtimes import parse
from analyzer.logs.stamps import quick_iso, utc_ns
from analyzer.model.times import parse_iso

ID = "6f0d0001-0000-4000-8000-000000000001"
STAMP = "2026-11-20T12:00:00.123Z"
NS = 1795176000_123_000_000


def event(message: str, **given):
    return to_event(LogRecord(":1", message, **given), "x", 1)


APPLICATION = {
    "node": (f"{STAMP}\t{ID}\tINFO\thello\n", "hello", NS, ID, "INFO"),
    "node before the first invocation": (f"{STAMP}\tundefined\tINFO\thello", "hello", NS, None, "INFO"),
    "node, runtime client 4": (f"{STAMP}\t-\tWARN\thello", "hello", NS, None, "WARN"),
    "node 8": (f"{STAMP}\t{ID}\tStatus is done", "Status is done", NS, ID, None),
    "node, nothing said": (f"{STAMP}\t{ID}\tINFO\t", "", NS, ID, "INFO"),
    "dotnet": (f"{STAMP}\t{ID}\tfail\tTimeout performing GET", "Timeout performing GET", NS, ID, "ERROR"),
    "python": (f"[INFO]\t{STAMP}\t{ID}\thello\n", "hello", NS, ID, "INFO"),
    "python before the first invocation": (f"[WARNING]\t{STAMP}\t\thello\n", "hello", NS, None, "WARNING"),
    "python unhandled": ("[ERROR] TimeoutError: [Errno 110] x\nTraceback (most recent call last):\n\xa0\xa0File", "TimeoutError: [Errno 110] x\nTraceback (most recent call last):\n  File", None, None, "ERROR"),
    "java": ("[ERROR] JedisConnectionException: Read timed out", "JedisConnectionException: Read timed out", None, None, "ERROR"),
    "log4j2": (f"2026-11-20 12:00:00 {ID} ERROR Handler:42 - SocketException: Connection reset", "Handler:42 - SocketException: Connection reset", NS - 123_000_000, ID, "ERROR"),
    "go": ("2026/11/20 12:00:00 dial tcp 10.0.0.1:6379: connect: connection timed out", "dial tcp 10.0.0.1:6379: connect: connection timed out", NS - 123_000_000, None, None),
    "slog": (f"timestamp={STAMP} level=ERROR message=\"redis failed\" requestId={ID}", f'message="redis failed" requestId={ID}', NS, ID, "ERROR"),
    "ruby": (f"E, [2026-11-20T12:00:00.123456 #8] ERROR {ID} -- : gone", "gone", NS + 456_000, ID, "ERROR"),
    "joined by carriage returns": (f"{STAMP}\t{ID}\tERROR\tone\r    two\r    three", "one\n    two\n    three", NS, ID, "ERROR"),
    "bare text": ("print of mine", "print of mine", None, None, None),
    "node json": (json.dumps({"timestamp": STAMP, "level": "INFO", "requestId": ID, "message": "hello"}), "hello", NS, ID, "INFO"),
    "node json before the first": (json.dumps({"timestamp": STAMP, "level": "INFO", "requestId": "-", "message": "hello"}), "hello", NS, None, "INFO"),
    "python json": (json.dumps({"timestamp": "2026-11-20T12:00:00Z", "level": "INFO", "message": "hello", "requestId": ID}), "hello", NS - 123_000_000, ID, "INFO"),
    "java json": (json.dumps({"timestamp": STAMP, "message": "hello", "level": "ERROR", "AWSRequestId": ID}), "hello", NS, ID, "ERROR"),
    "powertools python": (json.dumps({"level": "INFO", "message": "hello", "timestamp": "2026-11-20 12:00:00,123+0000", "function_request_id": ID}), "hello", NS, ID, "INFO"),
    "pino": (json.dumps({"level": 50, "time": NS // 10**6, "requestId": ID, "msg": "hello"}), "hello", NS, ID, "ERROR"),
}  # fmt: skip


@pytest.mark.parametrize(("message", "text", "stamp", "request_id", "level"), APPLICATION.values(), ids=APPLICATION)
def test_application_lines(message, text, stamp, request_id, level):
    e = event(message)
    assert (e.text, e.inner_ns, e.request_id, e.level) == (text, stamp, request_id, level)
    assert e.layer == "app"


def report(record: dict, kind: str = "platform.report", **more) -> str:
    return json.dumps({"time": STAMP, "type": kind, "record": record, **more})


PLATFORM = {
    "report with restore": (f"REPORT RequestId: {ID}\tDuration: 2338.66 ms\tBilled Duration: 2521 ms\tMemory Size: 3009 MB\tMax Memory Used: 173 MB\tRestore Duration: 398.97 ms\tBilled Restore Duration: 182 ms\t\n", "report", {"duration_ns": 2_338_660_000, "restore_ns": 398_970_000, "memory": "3009 MB", "max_memory": "173 MB"}),
    "report of a local emulator": (f"REPORT RequestId: {ID}\tInit Duration: 0.10 ms\tDuration: 5.00 ms\tBilled Duration: 5 ms", "report", {"init_ns": 100_000, "duration_ns": 5_000_000}),
    "report before 2020": (f"REPORT RequestId: {ID}\tDuration: 89.34 ms\tBilled Duration: 100 ms \tMemory Size: 128 MB", "report", {"billed_ns": 100_000_000, "memory": "128 MB"}),
    "report with X-Ray": (f"REPORT RequestId: {ID}\tDuration: 1.00 ms\tStatus: error\tError Type: Runtime.OutOfMemory\nXRAY TraceId: 1-5e61292c-00\tSegmentId: 07a8", "report", {"status": "error", "error_type": "Runtime.OutOfMemory", "trace_id": "1-5e61292c-00"}),
    "restore failed, without tabs": ("RESTORE_REPORT Restore Duration: 1236.04 ms Status: error Error Type: Runtime.ExitError", "restore-report", {"restore_ns": 1_236_040_000, "status": "error", "error_type": "Runtime.ExitError"}),
    "init timed out": ("INIT_REPORT Init Duration: 9999.79 ms    Phase: init    Status: timeout", "init-report", {"init_ns": 9_999_790_000, "phase": "init", "status": "timeout"}),
    "restore": ("RESTORE_START Runtime Version: java:17.v9\tRuntime Version ARN: arn:x", "restore-start", {"runtime": "java:17.v9"}),
    "extension": ("EXTENSION\tName: datadog-agent\tState: Ready\tEvents: [INVOKE,SHUTDOWN]", "extension", {"name": "datadog-agent", "state": "Ready"}),
    "telemetry": ("TELEMETRY\tName: datadog-agent\tState: Subscribed\tTypes: [Platform, Function]", "extension", {"state": "Subscribed"}),
    "out of memory": (f"RequestId: {ID} Error: Runtime exited with error: signal: killed\nRuntime.ExitError\n", "crash", {"why": "Runtime exited with error: signal: killed", "error_type": "Runtime.ExitError"}),
    "bad entry point": (f"RequestId: {ID} Error: fork/exec /var/task/bootstrap: exec format error\nRuntime.InvalidEntrypoint", "crash", {"error_type": "Runtime.InvalidEntrypoint"}),
    "died, long ago": (f"RequestId: {ID} Process exited before completing request", "crash", {}),
    "unknown": ("Unknown application error occurred\nRuntime.Unknown", "crash", {"error_type": "Runtime.Unknown"}),
    "masked id": ("START RequestId: xxxxxxxx-5719-46a2-bc93-849ac3a26d6e Version: 9", "start", {"version": "9"}),
    "json start": (report({"requestId": ID, "version": "$LATEST"}, "platform.start"), "start", {"version": "$LATEST"}),
    "json init": (report({"initializationType": "on-demand", "phase": "init", "runtimeVersion": "nodejs:18.v28"}, "platform.initStart"), "init-start", {"initialization": "on-demand", "runtime": "nodejs:18.v28"}),
    "json init done": (report({"status": "success"}, "platform.initRuntimeDone"), "init-runtime-done", {"status": "success"}),
    "json runtime done": (report({"requestId": ID, "status": "timeout", "metrics": {"durationMs": 5001.182}}, "platform.runtimeDone"), "runtime-done", {"status": "timeout", "duration_ns": 5_001_182_000}),
    "json report": (report({"requestId": ID, "status": "success", "metrics": {"durationMs": 11.642, "billedDurationMs": 12, "memorySizeMB": 128, "maxMemoryUsedMB": 67, "initDurationMs": 174.055}}), "report", {"duration_ns": 11_642_000, "init_ns": 174_055_000, "memory": "128 MB", "max_memory": "67 MB"}),
    "json report of a managed instance": (report({"requestId": ID, "status": "success", "metrics": {"durationMs": 1.148}}), "report", {"managed": True}),
    "json restore": (report({"status": "success", "metrics": {"durationMs": 244.0}}, "platform.restoreReport"), "restore-report", {"duration_ns": 244_000_000}),
    "json extension": (report({"name": "agent", "state": "Ready", "events": ["INVOKE"]}, "platform.extension"), "extension", {"name": "agent"}),
    "json logs dropped": (report({"reason": "slow", "droppedRecords": 7, "droppedBytes": 99}, "platform.logsDropped"), "logs-dropped", {"dropped": 7, "reason": "slow"}),
    "json fault": (report({}, "platform.fault"), "crash", {}),
    "web function": (json.dumps({"timestamp": STAMP, "level": "INFO", "type": "platform.spinDownStart", "record": {"instanceId": "i-1"}}), "spin-down-start", {"instance": "i-1"}),
}  # fmt: skip


@pytest.mark.parametrize(("message", "kind", "attrs"), PLATFORM.values(), ids=PLATFORM)
def test_platform_lines(message, kind, attrs):
    e = event(message)
    assert (e.layer, e.kind) == ("lambda", kind)
    assert attrs.items() <= e.attrs.items()
    if message.startswith("{"):
        assert e.event_ns == NS, "the platform's own stamp is the service's clock"


@pytest.mark.parametrize(
    "message",
    [
        f"2026-11-20T12:00:00.123Z\t{ID}\tERROR\tInvoke Error \t{{\"errorType\":\"Error\"}}",
        "[ERROR] KeyError: 'x'\nTraceback (most recent call last):\n  File",
        '2026/11/20 12:00:00 {"errorMessage":"reset","errorType":"OpError"}',
        json.dumps({"timestamp": STAMP, "log_level": "ERROR", "errorMessage": "x", "errorType": "KeyError", "requestId": ID, "stackTrace": []}),
        "LAMBDA_WARNING: Unhandled exception. The most likely cause is an issue in the function code.\r{\"errorType\": \"X\"}",
    ],
)  # fmt: skip
def test_unhandled_errors_are_marked(message):
    assert event(message).attrs["invoke_error"] is True


def test_an_error_object_reads_as_node_prints_it():
    error = {
        "errorType": "Error",
        "errorMessage": "read ECONNRESET",
        "errno": -104,
        "code": "ECONNRESET",
        "syscall": "read",
    }
    for entry in (
        {"message": error},
        {"msg": "redis failed", "err": {"type": "Error", "message": "read ECONNRESET", **error}},
    ):
        e = event(json.dumps({"timestamp": STAMP, "level": "ERROR", **entry}))
        assert (e.kind, e.attrs["code"], e.attrs["errno"], e.attrs["kernel"]) == ("error", "ECONNRESET", -104, True)


def test_an_errors_text_beside_the_message_is_read():
    text = "FATAL: terminating connection due to idle-session timeout (SQLSTATE 57P05)"
    for entry in ({"msg": "query failed", "err": text}, {"message": f"query failed: {text}", "error": text}):
        e = event(json.dumps({"time": STAMP, "level": "ERROR", "requestId": ID, **entry}))
        assert (e.kind, e.attrs["code"], e.text.count(text)) == ("error", "CLOSED", 1)


@pytest.mark.parametrize(
    "text", ['{"a": 1}', '{"t": 1.0, "side": "fn"}', "{", "{}", '{"events": []}', '{"message": "x"}', "[1]"]
)
def test_json_that_is_no_log_line_is_bare_text(text):
    assert parse(text).body == text


@given(st.text(max_size=200))
def test_any_text_parses(text):
    parse(text)
    parse("{" + text + "}")
    parse(f"REPORT RequestId: {ID}\t" + text)
    parse(f"[ERROR] {text}")


@given(st.dictionaries(st.sampled_from(["message", "level", "time", "timestamp", "err", "errorType", "stackTrace", "requestId", "type", "record", "code"]),
                       st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
                                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6)))  # fmt: skip
def test_any_object_parses(entry):
    event(json.dumps(entry))
    event(json.dumps({"type": "platform.report", "record": entry}))


@given(st.datetimes(), st.integers(0, 9))
def test_quick_stamps_agree_with_the_pattern(moment, digits):
    fraction = f".{moment.microsecond:06d}000"[: digits + 1] if digits else ""
    text = f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + fraction
    assert quick_iso(text + "Z") == (parse_iso(text + "Z"), True)
    assert utc_ns(text) == parse_iso(text)


@given(st.text(max_size=30))
def test_any_text_is_a_stamp_or_none(text):
    assert quick_iso(text)[0] == parse_iso(text)
