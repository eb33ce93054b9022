"""What the user says about logs on the command line."""

from __future__ import annotations

import json

import pytest

from tests.logs import shapes
from tests.logs.shapes import START_MS, STREAMS, numbered, request, session
from tests.test_cli import analyze

LINES = numbered([line for k in range(3) for line in session(STREAMS[0], k, START_MS + 1000 * k)])


@pytest.fixture
def export(tmp_path):
    path = tmp_path / "tail.txt"
    path.write_text(shapes.tail_detailed(LINES))
    return path


def test_a_wrong_shape_fails_and_shows_the_line(export):
    run = analyze("lambda-log", export, "--shape", "csv")
    assert run.returncode == 2
    assert "expected a header line" in run.stderr.decode() and "START RequestId" in run.stderr.decode()


def test_an_unknown_shape_lists_all(export):
    run = analyze("lambda-log", export, "--shape", "xml")
    assert run.returncode == 2 and "awslogs" in run.stderr.decode() and "plain" in run.stderr.decode()


def test_the_right_shape_is_taken(export):
    assert analyze("lambda-log", export, "--shape", "tail").returncode == 0


@pytest.mark.parametrize("option", [("--tz", "Berlin"), ("--since", "noon"), ("--year", "99")])
def test_options_that_are_none(export, option):
    assert analyze("lambda-log", export, *option).returncode == 2


def test_views(export):
    run = analyze("lambda-log", export, "--request-id", request(1), "--format", "json")
    assert [i["request_id"] for i in json.loads(run.stdout)["invocations"]] == [request(1)]
    run = analyze("diagnose", export, "--since", "2026-11-21T00:00:01.500Z", "--format", "json")
    assert [i["request_id"] for i in json.loads(run.stdout)["invocations"]] == [request(2)]


def test_a_server_log_is_named_when_it_is_skipped(tmp_path, export):
    (tmp_path / "redis.log").write_text("21952:C 21 Nov 2026 00:19:14.234 # Redis is starting\n")
    assert "redis.log" in analyze("diagnose", tmp_path).stdout.decode()
    run = analyze("diagnose", tmp_path / "redis.log")
    assert run.returncode == 2 and "a Redis server's log" in run.stderr.decode()
