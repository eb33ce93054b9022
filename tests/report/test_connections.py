"""The list of connections for a person."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import analyzer
from analyzer.model.problems import InputError
from analyzer.report import tables
from analyzer.report.connections import BARS, section, spark
from analyzer.report.style import Style
from analyzer.rules._cases import Case
from analyzer.tcp import fields as f
from analyzer.timeline.points import SERVER
from tests.helpers import ROOT


@pytest.fixture(scope="module")
def trace() -> analyzer.Trace:
    return analyzer.read(ROOT / "captures" / "healthy")


@pytest.mark.parametrize(
    ("sort", "columns"),
    [
        ("packets", ["client_packets", "server_packets"]),
        ("bytes", ["client_bytes", "server_bytes"]),
        ("duration", ["duration_s"]),
        ("idle", ["longest_idle_s"]),
        ("retransmits", ["client_retransmits", "server_retransmits"]),
    ],
)
def test_sorted_as_the_table_would_be(trace: analyzer.Trace, sort: str, columns: list[str]) -> None:
    frame = trace.connections
    expected = frame.assign(key=frame[columns].sum(axis=1)).sort_values("key", ascending=False, kind="stable")["id"]
    shown = [line.split()[0] for line in section(trace.story, [], Style(width=200), sort=sort).splitlines()[1:-1]]
    assert shown == list(expected)


def test_limit_and_unknown_sort(trace: analyzer.Trace) -> None:
    lines = section(trace.story, [], Style(width=200), limit=1).splitlines()
    assert lines[1].split()[0] == "C1"
    assert f"{len(trace.connections) - 1} more" in lines[2]
    with pytest.raises(InputError, match="--sort 'colour': one of packets"):
        section(trace.story, [], Style(), sort="colour")


def test_tables_are_sorted_by_any_plain_column(trace: analyzer.Trace) -> None:
    frame = trace.connections
    assert list(tables.chosen(frame, "client_packets", None)["client_packets"]) == sorted(
        frame["client_packets"], reverse=True
    )
    assert list(tables.chosen(frame, "-opened", 1)["opened"]) == [frame["opened"].min()]
    with pytest.raises(InputError, match="--sort 'seen_as': one of id, client"):
        tables.chosen(frame, "seen_as", None)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=40))
def test_bars_grow_with_counts_and_show_what_is_not_zero(counts: list[int]) -> None:
    drawn = [BARS.index(c) for c in spark(np.array(counts, np.int64))]
    assert [d > 0 for d in drawn] == [n > 0 for n in counts]
    assert sorted(drawn) == [drawn[i] for i in np.argsort(counts, kind="stable")]
    assert not any(counts) or max(drawn) == len(BARS) - 1


def test_one_packet_is_one_packet() -> None:
    story = analyzer.read(ROOT / "captures" / "refused").story
    text = section(story, [], Style(width=80))
    assert ", 1 packet in " in text and "1 packets" not in text


def test_no_capture_s_totals_are_cut_off() -> None:
    story = analyzer.read(ROOT / "captures" / "refused").story
    text = " ".join(section(story, [], Style(width=80)).split())
    assert all(f"{point.source.label}: " in text for point in story.connections.points) and "…" not in text


def test_resets_are_counted_in_a_capture_without_time_stamps() -> None:
    """Simple packet blocks have none: what a reset's time would tell is not known, that it came is."""
    story = Case("refused", packets="0 > SYN\n0.001 < RST-ACK").story()
    story.connections.points[0].rows[:, SERVER + f.RST_TS] = 0
    assert "1 connection reset" in section(story, [], Style(width=120))
