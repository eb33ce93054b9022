"""PING and its ACK inside TLS, by size and timing."""

from __future__ import annotations

import pytest

from analyzer.capture import columns as col
from analyzer.tcp import fields as f
from analyzer.tcp.pings import mark_pings
from analyzer.tcp.segments import Place, Segment

MS = 1_000_000


def data(at_ms: int, from_client: bool, length: int) -> Segment:
    marks = col.M_TLS | col.M_TLS_DATA | (col.M_TLS_PING_SIZED if length in (38, 39, 46) else 0)
    place = Place(0, "s1", at_ms, at_ms * MS, at_ms * MS)
    return Segment(from_client, 16, 0, 0, length, 500, 64, -1, marks, 0, [place])


@pytest.mark.parametrize("length", [38, 39, 46])
def test_a_pair_is_a_ping_and_its_ack(length: int) -> None:
    ping, ack = data(0, True, length), data(2, False, length)
    mark_pings([ping, ack])
    assert ping.describe() == f"→ PING? ({length}-byte TLS record)"
    assert ack.describe() == f"← PING ack? ({length}-byte TLS record)"


@pytest.mark.parametrize(
    "others",
    [
        [data(2, False, 46)],  # another length
        [data(1, True, 100), data(2, False, 39)],  # the asking side went on
        [data(2, False, 200), data(3, False, 39)],  # the peer sent something else first
        [data(5_000, False, 39)],  # no running process answers so late
        [],
    ],
)
def test_anything_else_is_not(others: list[Segment]) -> None:
    first = data(0, True, 39)
    mark_pings([first, *others])
    assert not first.marks & col.M_PING


def test_unanswered_after_one_that_was_answered() -> None:
    last = data(10_000, True, 39)
    mark_pings([data(0, True, 39), data(1, False, 39), last])
    assert last.describe() == "→ PING? (39-byte TLS record)"


def test_a_retransmission_is_what_its_original_is() -> None:
    again = data(300, False, 39)
    again.kinds = f.K_RETX
    mark_pings([data(0, True, 39), data(1, False, 39), again])
    assert again.describe() == "← PING ack? (39-byte TLS record), retransmitted"
