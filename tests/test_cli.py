"""The command line as a user meets it: exit status, streams, outputs, bad input."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

import pytest
import typer

from analyzer.cli import app
from tests.helpers import CAPTURES

CASE = CAPTURES / "zombie-fin-wait-2"


def analyze(*args, stdin=b"", **env):
    return subprocess.run(
        [sys.executable, "-m", "analyzer", *map(str, args)], input=stdin, capture_output=True, timeout=60,
        env={**os.environ, **env}, check=False,
    )  # fmt: skip


def test_findings_do_not_fail_unless_asked():
    assert analyze("diagnose", CASE).returncode == 0
    assert analyze("diagnose", CASE, "--fail-on", "warning").returncode == 1
    assert analyze("diagnose", CASE, "--fail-on", "error").returncode == 0


def test_json_goes_to_a_file_whole(tmp_path):
    target = tmp_path / "out.json"
    done = analyze("diagnose", CASE, "--format", "json", "-o", target)
    assert (done.returncode, done.stdout) == (0, b"")
    assert json.loads(target.read_text())["schema"] == "analyzer/1"
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_a_target_that_cannot_be_written_is_an_error(tmp_path):
    done = analyze("diagnose", CASE, "-o", tmp_path / "no" / "such" / "x.txt")
    assert done.returncode == 2 and b"Traceback" not in done.stderr


def test_piped_output_is_plain_and_repeatable():
    first, second = analyze("diagnose", CASE), analyze("diagnose", CASE)
    assert b"\x1b" not in first.stdout and first.stdout == second.stdout


def test_standard_input():
    done = analyze("pcap", "-", stdin=(CASE / "server.pcap").read_bytes())
    assert done.returncode == 0 and b"F201" in done.stdout


@pytest.mark.parametrize("command", ["pcap", "grpc-log", "lambda-log", "diagnose"])
def test_bad_input_is_one_line_and_status_2(command, tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "picture.pcap").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (tmp_path / "words.txt").write_text("nothing of interest\n" * 50)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "cut.pcap").write_bytes((CASE / "server.pcap").read_bytes()[:20])
    for name in ("empty", "picture.pcap", "words.txt", "nothing", "cut.pcap", "missing"):
        done = analyze(command, tmp_path / name)
        assert done.returncode == 2, name
        assert done.stderr.startswith(b"analyze: ") and done.stderr.count(b"\n") == 1, (name, done.stderr)
        assert done.stdout == b""


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    path = tmp_path / "secret.pcap"
    path.write_bytes((CASE / "server.pcap").read_bytes())
    path.chmod(0)
    assert analyze("pcap", path).returncode == 2


def test_damage_inside_is_reported_and_the_rest_read(tmp_path):
    path = tmp_path / "cut.pcap"
    path.write_bytes((CASE / "server.pcap").read_bytes()[:5000])
    done = analyze("pcap", path)
    assert done.returncode == 0 and b"cut short" in done.stdout and b"C1" in done.stdout


def test_what_cannot_be_opened_is_an_error_and_the_rest_is_told(tmp_path):
    done = analyze("diagnose", CASE / "lambda.json", tmp_path / "missing.pcap", "--fail-on", "info")
    assert done.returncode == 2 and b"missing.pcap: No such file" in done.stderr
    assert b"lambda.json: " in done.stdout and b"skipped (no input): missing.pcap" in done.stdout
    done = analyze("diagnose", tmp_path / "missing.pcap")
    assert done.returncode == 2 and done.stdout == b""


def test_a_hundred_inputs_are_a_summary(tmp_path):
    for n in range(100):
        (tmp_path / str(n)).mkdir()
        (tmp_path / str(n) / "README.md").write_text("# a case\n")
        (tmp_path / str(n) / "fn.log").write_text(f"START RequestId: {n:08x}-0000-4000-8000-000000000000 Version: 1\n")
        (tmp_path / str(n) / f"notes-{n}.txt").write_text("nothing\n")
    told = analyze("diagnose", tmp_path).stdout.decode()
    assert "… 81 more inputs: " in told
    assert "README.md (100×)" in told and "and 89 more names" in told
    assert len(told.splitlines()) < 70
    assert len(analyze("diagnose", tmp_path, "--all").stdout.decode().splitlines()) > 200


def test_the_wrong_kind_says_which_command_reads_it():
    done = analyze("pcap", CASE / "lambda.json")
    assert done.returncode == 2 and b"lambda-log" in done.stderr


def test_hostile_text_reaches_no_terminal(tmp_path):
    message = "2026-11-21T00:00:00.010Z\t6f0d0001-0000-4000-8000-000000000001\tERROR\tD 2026-11-21T00:00:00.010Z | v1.14.7 18 | keepalive | (1) 10.0.0.9:443 Ping failed with error \x1b]0;owned\x07\u202e\n"
    events = [{"logStreamName": "2026/11/21/[$LATEST]\x1b[31mred", "timestamp": 1, "message": message}]
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"events": events}))
    done = analyze("diagnose", path)
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout and b"\x07" not in done.stdout and "\u202e".encode() not in done.stdout


def test_timeline_and_its_errors(tmp_path):
    assert b"FIN_WAIT_2" in analyze("timeline", "C1", CASE).stdout
    done = analyze("timeline", "C99", CASE)
    assert done.returncode == 2 and b"C1" in done.stderr
    for suffix in ("png", "svg"):
        target = tmp_path / f"c1.{suffix}"
        assert analyze("timeline", "C1", CASE, "-o", target).returncode == 0
        assert target.stat().st_size > 5_000


def test_timelines_of_all_kinds_and_forms(tmp_path):
    case = CAPTURES / "frozen-keepalive"
    for name, said in (("F1", b"F1 error[K101]"), ("b9cb", b"request b9cb51a5-"), ("20e6082e", b"7 invocations")):
        assert said in analyze("timeline", name, case).stdout
    assert len(analyze("timeline", "C1", case, "--all").stdout) > len(analyze("timeline", "C1", case).stdout)
    rows = analyze("timeline", "C1", case, "--around", "2s", "--format", "jsonl").stdout.splitlines()
    assert {json.loads(row)["layer"] for row in rows} == {"lambda", "grpc", "app", "tcp"}
    document = json.loads(analyze("timeline", "F1", case, "--format", "json").stdout)
    assert document["subject"]["kind"] == "finding" and len(document["events"]) > 10
    for form in ("csv", "parquet"):
        target = tmp_path / f"x.{form}"
        assert analyze("timeline", "20e6", case, "--format", form, "-o", target).returncode == 0
        assert target.stat().st_size > 1_000
    for name in ("F1", "b9cb", "20e6"):
        target = tmp_path / f"{name}.png"
        assert analyze("timeline", name, case, "--around", "2s", "-o", target).returncode == 0
        assert target.stat().st_size > 5_000
    for arguments, said in (
        (("b9cb51a6", case), b"did you mean b9cb51a5-67ef"),
        (("C1", case, "--since", "soon"), b"is no time"),
    ):
        done = analyze("timeline", *arguments)
        assert done.returncode == 2 and said in done.stderr and done.stderr.count(b"\n") == 1


def test_plots_and_their_errors(tmp_path):
    for picture in (("sequence", "C1"), ("fleet",), ("idle-gaps",), ("connections", "--hard", "9"), ("overhead",)):
        target = tmp_path / f"{picture[0]}.svg"
        assert analyze("plot", *picture, CASE, "-o", target, "--dark", "--width", "8").returncode == 0
        assert 'width="576pt"' in target.read_text()[:2_000]
    for words, said in (
        (("sequence", "C99", CASE, "-o", tmp_path / "x.svg"), b"C99"),
        (("fleet", CASE, "-o", tmp_path / "x.jpg"), b".png, .svg or .pdf"),
        (("sequence", "C1", "-o", tmp_path / "x.svg"), b"no input"),
        (("pings", CASE, "-o", tmp_path / "x.svg"), b"GRPC_TRACE"),
        (("portrait", CASE, "-o", tmp_path / "x.svg"), b"portrait"),
    ):
        done = analyze("plot", *words)
        assert done.returncode == 2 and said in done.stderr and b"Traceback" not in done.stderr
    assert not list(tmp_path.glob("x.*"))


def test_pictures_take_the_choice_of_rules(tmp_path):
    held = CAPTURES / "frozen-keepalive"
    for how, named in ((), True), (("--ignore", "K101"), False):
        assert analyze("plot", "pings", held, *how, "-o", tmp_path / "x.svg").returncode == 0
        assert ("K101" in (tmp_path / "x.svg").read_text()) is named
    assert analyze("plot", "pings", held, "--select", "Z9", "-o", tmp_path / "x.svg").returncode == 2


def test_every_picture_is_a_function():
    from analyzer import plot
    from analyzer.options import Picture

    assert {p.function for p in Picture} | {"timeline"} == set(plot.__all__)


def test_explain_and_its_errors():
    assert b"What it does" in analyze("explain", "f201").stdout
    done = analyze("explain", "X999")
    assert done.returncode == 2 and b"K101" in done.stderr


def test_usage_errors_are_status_2():
    assert analyze("diagnose", "--bogus").returncode == 2
    assert analyze("diagnose").returncode == 2


def test_help_has_an_example_in_every_command():
    listing = analyze("--help").stdout.decode()
    for command in ("pcap", "grpc-log", "lambda-log", "diagnose", "timeline", "plot", "extract", "explain"):
        assert command in listing
        assert b"Example" in analyze(command, "--help").stdout


def test_the_list_of_commands_fits_a_narrow_terminal():
    listed = analyze("--help", COLUMNS="80").stdout.decode().split("Commands:")[1]
    assert "..." not in listed and max(map(len, listed.splitlines())) <= 80


def test_every_command_may_be_quiet_and_in_local_time():
    for command in typer.main.get_command(app).commands.values():
        options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        assert {"--quiet", "--local", "--utc"} <= options, command.name


def test_local_time_says_its_zone():
    case = CAPTURES / "frozen-keepalive"
    for zone, stamp, clock in (
        ("Asia/Kathmandu", b"T07:34:55.821+05:45", b" 11-21 07:34:55.821 "),
        ("UTC", b"T01:49:55.821+00:00", b""),
    ):
        done = [analyze(*command, "--local", TZ=zone, COLUMNS="120").stdout for command in (
            ("diagnose", case), ("timeline", "b9cb", case), ("lambda-log", case / "lambda.json"), ("grpc-log", case / "lambda.json"),
            ("diagnose", case, "--format", "markdown"),
        )]  # fmt: skip
        assert all(stamp in text or stamp.replace(b"821", b"821000") in text for text in done)
        assert clock in done[2] and b"start (local)" in done[2]
        rows = analyze("diagnose", case, "--format", "csv", "--local", TZ=zone).stdout
        assert b"T01:49:55.821000000Z" in rows and b"+05:45" not in rows
    assert b"T01:49:55.821Z" in analyze("diagnose", case, "--utc", TZ="Asia/Kathmandu").stdout


def test_nothing_heavy_is_imported_for_help():
    code = "import sys, analyzer.cli; print([m for m in ('numpy', 'pandas', 'numba', 'matplotlib', 'scapy') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code]).strip() == b"[]"


def test_verbose_tells_every_step(tmp_path):
    capture = tmp_path / "a\x1b[2Jb.pcap"
    capture.write_bytes((CASE / "server.pcap").read_bytes())
    done = analyze("pcap", capture, "--verbose")
    assert done.returncode == 0
    assert b"50 packets" in done.stderr
    assert all(f" s  {code} looked, ".encode() in done.stderr for code in ("F201", "R302"))
    assert b"\x1b" not in done.stderr
    assert not analyze("pcap", capture).stderr


def on_terminal(*args: object) -> tuple[int, bytes, bytes]:
    """Exit status, standard output and error of a command whose output is a terminal."""
    ours, its = os.openpty()
    command = [sys.executable, "-m", "analyzer", *map(str, args)]
    with subprocess.Popen(command, stdout=its, stderr=subprocess.PIPE) as process:
        os.close(its)
        out = b""
        with contextlib.suppress(OSError):  # the end of a terminal nobody writes to any more
            while more := os.read(ours, 65536):
                out += more
        error = process.stderr.read() if process.stderr else b""
    os.close(ours)
    return process.returncode, out, error


def test_json_on_a_terminal_shows_no_control_characters_and_stays_the_same_json(tmp_path):
    text = "2026-11-21T00:06:05.860Z\tb9cb51a5-0000-4000-8000-000000000001\tERROR\tread ECONNRESET \x9b2J \u202etxt \U000e0041"
    log = tmp_path / "app.log"
    log.write_text(
        "START RequestId: b9cb51a5-0000-4000-8000-000000000001 Version: $LATEST\n" + text + "\n", encoding="utf-8"
    )
    status, out, _ = on_terminal("diagnose", log, "--format", "jsonl", "--table", "events")
    assert status == 0
    shown = out.decode()
    assert not any(unsafe in shown for unsafe in ("\x9b", "\u202e", "\U000e0041"))
    piped = analyze("diagnose", log, "--format", "jsonl", "--table", "events").stdout
    assert "\u202e".encode() in piped
    assert [json.loads(line) for line in shown.splitlines()] == [json.loads(line) for line in piped.splitlines()]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--format", "json", "--table", "events"), b"--table events: --format json writes no table"),
        (("--table", "events"), b"--format text writes no table"),
        (("--format", "markdown", "--limit", "3"), b"--limit 3: --format markdown is not cut or sorted"),
        (("--format", "json", "--sort", "packets"), b"--sort packets: --format json is not cut or sorted"),
    ],
)
def test_options_that_a_format_has_no_use_for_are_refused(options, told):
    done = analyze("diagnose", CASE, *options)
    assert done.returncode == 2 and told in done.stderr


def test_what_is_no_text_is_not_written_to_a_terminal():
    status, out, error = on_terminal("diagnose", CASE, "--format", "parquet")
    assert status == 2 and out == b"" and b"is no text to look at" in error
