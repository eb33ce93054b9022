"""Names that people type: each stands for one thing, or the error says what it may have been."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import analyzer
from analyzer.model.problems import UnknownNameError
from analyzer.rules._cases import Case
from analyzer.timeline.subjects import CONNECTION, ENVIRONMENT, FINDING, REQUEST, subject
from analyzer.trace import Trace
from tests.helpers import CAPTURES


@pytest.fixture(scope="module")
def trace():
    return analyzer.read(CAPTURES / "frozen-keepalive")


def test_each_kind_of_name(trace):
    environment = trace.story.environments[0].id
    request = trace.story.invocations[2].request_id
    for name, kind, whole in [
        ("C1", CONNECTION, "C1"), ("c2", CONNECTION, "C2"), ("10.0.1.11:54122", CONNECTION, "C1"),
        ("10.0.1.11:36194-10.0.2.20:50051", CONNECTION, "C2"), (" F1 ", FINDING, "F1"), ("f1", FINDING, "F1"),
        (request, REQUEST, request), (request[:8], REQUEST, request), (request[:8].upper(), REQUEST, request),
        (environment, ENVIRONMENT, environment), ("20e6082e", ENVIRONMENT, environment), ("[$LATEST]20e", ENVIRONMENT, environment),
    ]:  # fmt: skip
        found = trace.find(name)
        assert (found.kind, found.id) == (kind, whole), name
    assert trace.find("F1").connections == (0,)
    assert trace.find("20e6082e").connections == (0, 1)
    assert trace.find("C2").environments == (environment,)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("C9", "no connection 'C9': there are C1 … C2"),
        ("C0", "there are C1 … C2"),
        ("F7", "no finding 'F7': there is F1"),
        ("10.0.1.11:1", "no connection of '10.0.1.11:1'"),
        ("10.0.2.20:50051", "10.0.2.20:50051 is a server, of C1, C2: name one of them"),
        ("10.0.1.11", "10.0.1.11 is C1 to 10.0.2.20:50051 from 2026-11-21T01:49:37.070Z, C2 "),
        ("b9cb51a6", "did you mean b9cb51a5-67ef-4998-8200-1cc8e08215a3"),
        ("20e6802e", "did you mean 2026/11/21/[$LATEST]20e6082ed6564572bdde2d18bd648985"),
        ("nothing-like-it", "there are 2 connections, 1 finding, 7 invocations, 1 environment"),
        ("", "nothing is called ''"),
        ("10.0.1.11:99999999999999999999", "nothing is called"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_name_that_is_none(trace, name, said):
    with pytest.raises(UnknownNameError) as error:
        trace.find(name)
    assert said in str(error.value)
    assert isinstance(error.value, KeyError) and isinstance(error.value, analyzer.InputError)


def test_several_things_are_listed():
    log = "".join(f"00:00:0{n}.000 START {n}\n00:00:0{n}.500 REPORT {n}\n" for n in range(1, 8))
    story = Case("seven requests", log=log).story()
    ids = [i.request_id for i in story.invocations]
    common = next(n for n in range(len(ids[0])) if len({i[:n] for i in ids}) > 1) - 1
    with pytest.raises(UnknownNameError, match=r"may be request .* \(00:00:01\.000\), request .*, …: write more of it"):
        subject(story, [], ids[0][:common])


def test_a_port_that_was_used_again():
    packets = """
    0.000 > SYN
    0.001 < SYN-ACK
    0.002 > RST
    200.000 > SYN
    200.001 < SYN-ACK
    """
    story = Case("twice", packets=packets).story()
    trace = Trace(story, [])
    if len(story.connections) > 1:
        with pytest.raises(UnknownNameError, match=r"is C1 to .*, C2 to .*: name one of them"):
            trace.index(story.connections.client(0))
    assert trace.index("C1") == 0


def test_an_index_is_of_a_connection(trace):
    assert trace.index("10.0.1.11:54122") == 0
    with pytest.raises(KeyError, match="names no connection"):
        trace.index("F1")


@settings(max_examples=300, deadline=None)
@given(name=st.text(max_size=50) | st.from_regex(r"[CF0-9a-f.:\[\]%/-]{1,40}", fullmatch=True))
def test_any_text_is_a_name_or_one_line(trace, name):
    try:
        found = trace.find(name)
    except UnknownNameError as error:
        assert str(error)
    else:
        assert found.id and found.kind
