"""Lines are broken where a reader does not stumble."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.report.escape import clip_place, ended
from analyzer.report.text import _command
from analyzer.report.wrapping import wrap


@pytest.mark.parametrize(
    "kept", ["6 min 16 s", "1 h 02 min", "4.17 s", "RFC 9113", "`socket hang up`", "17 B", "2 requests", "1 gap"]
)
def test_what_belongs_together_is_on_one_line(kept):
    for width in range(len(kept) + 2, 40):
        assert sum(kept in line for line in wrap(f"it was frozen for {kept} in all", width)) == 1


@given(st.text(st.sampled_from("ab 7`s·-"), max_size=80), st.integers(10, 40))
def test_no_word_is_lost_and_no_line_too_long(text, width):
    lines = wrap(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(len(line) <= width for line in lines)


def test_settings_stand_one_a_line_and_commands_go_on_behind_a_backslash():
    assert _command("GRPC_VERBOSITY=DEBUG GRPC_TRACE=keepalive,transport", 30) == [
        "GRPC_VERBOSITY=DEBUG", "GRPC_TRACE=keepalive,transport",
    ]  # fmt: skip
    assert _command("tcpdump -i any -w server.pcap 'tcp port 443'", 30) == [
        "tcpdump -i any \\", "  -w server.pcap \\", "  'tcp port 443'",
    ]  # fmt: skip
    assert _command("ss -ltn 'sport = :1'; nstat -az TcpExtListenDrops", 30) == [
        "ss -ltn 'sport = :1';", "nstat -az TcpExtListenDrops",
    ]  # fmt: skip


def test_how_invocations_ended_is_counted_in_words():
    assert [ended(1, "error"), ended(2, "timeout"), ended(3, "crash")] == ["1 error", "2 timeouts", "3 crashes"]


@given(
    st.text(st.sampled_from("abc-. "), max_size=60),
    st.sampled_from(("#17", ":123456", "[9]", "!member of an archive.log:12")),
    st.integers(1, 60),
)
def test_a_place_keeps_its_number_however_long_its_name(name, number, width):
    shown = clip_place(name + number, width)
    assert len(shown) <= width
    kept = number[max(number.rfind(":"), 0) :]
    assert shown.endswith(kept) or width <= len(kept)
