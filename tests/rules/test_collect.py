"""Commands to paste: with the trace's own values, which a shell takes as they are whatever they hold."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.model.records import Environment
from analyzer.rules import _collect as collect
from analyzer.rules import rules, run
from analyzer.rules._cases import Case

STREAM = "2026/11/21/[$LATEST]3f1c0de3f1c0de3f1c0de3f1c0de3f1c"
HOSTILE = ["x'; rm -rf ~ #", "`id`", "$(id)", 'a"b', "a\nb", "a b", "../../x", "-oProxyCommand=x", "", "é", "a|b", "'"]


def story_of(group, stream=STREAM):
    story = Case("", log="00:00:00.000 START 1\n00:00:00.100 REPORT 1").story()
    story.environments = [Environment(stream, log_group=group)]
    return story


def words(command):
    assert command[0] == command[-1] == "`" and "`" not in command[1:-1]
    return shlex.split(command[1:-1])


def test_the_log_group_stream_and_window_are_the_traces():
    got = words(collect.logs(story_of("/aws/lambda/orders"), STREAM, 1_000_000_000, 2_000_500_000, '"Task timed out"'))
    assert got == [
        "aws", "logs", "filter-log-events", "--log-group-name", "/aws/lambda/orders", "--log-stream-names", STREAM,
        "--start-time", "1000", "--end-time", "2001", "--filter-pattern", '"Task timed out"', "--output", "json", ">", "lambda.json",
    ]  # fmt: skip


def test_an_inferred_environment_names_no_stream():
    got = words(collect.logs(story_of(None, "inferred-1"), "inferred-1", 0, 1_000_000))
    assert "--log-stream-names" not in got and "/aws/lambda/FUNCTION" in got


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_are_quoted_or_left_out(value):
    story = story_of(value, f"2026/11/21/[$LATEST]{value}")
    commands = [
        collect.logs(story, story.environments[0].id, 0, 1_000_000),
        collect.insights(story, story.environments[0].id, 0, 1_000_000, "Task timed out"),
        collect.capture(f"{value}:6379", between=True),
        collect.capture(value),
        collect.sockets(value),
        f"`openssl s_client -connect {collect.host(value)}:{collect.port(value)}`",
    ]
    for command in commands:
        got = words(command)
        assert not any(word in ("rm", "id", ";", "|", "#") for word in got)
        assert not any(word.startswith("-o") for word in got if word != "--output")


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_address_makes_a_filter_of_two_words_at_most(host, port):
    for between in (True, False):
        got = words(collect.capture(f"{host}:{port}", between=between))
        assert got[:-1] == ["tcpdump", "-i", "any", "-s", "128", "-U", "-w", "server.pcap"]
        assert re.fullmatch(r"(host [\w.:-]+ and )?tcp port ([0-9]{1,5}|PORT) or icmp or icmp6", got[-1])


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="needs tcpdump")
@pytest.mark.parametrize("only", ["", collect.OPENINGS, collect.ENDINGS])
@pytest.mark.parametrize("address", ["10.0.0.9:6379", "[2001:db8::9]:443"])
def test_tcpdump_takes_the_filters(address, only):
    expression = words(collect.capture(address, only, between=True))[-1]
    made = subprocess.run(
        ["tcpdump", "-d", "-y", "EN10MB", expression], check=False, capture_output=True, text=True, timeout=30
    )
    assert made.returncode == 0, made.stderr


def test_every_command_of_every_case_is_one_that_a_shell_takes():
    seen = set()
    for rule in rules():
        for case in rule.FIRES:
            for finding in run(case.story()):
                for command in re.findall(r"`([^`]* [^`]*)`", finding.upgrade):
                    seen.add(shlex.split(command)[0])
    assert {"tcpdump", "aws", "ss"} <= seen
