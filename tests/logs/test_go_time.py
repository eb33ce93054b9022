"""Times that Go prints with its wall clock and its monotonic one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.logs.recognisers.go_time import recognise

DAY = 1_795_219_200 * 10**9


@pytest.mark.parametrize(
    ("body", "wall", "monotonic"),
    [
        ("good until 2026-11-21 00:00:05.1 +0000 UTC m=+5.023", DAY + 5_100_000_000, 5_023_000_000),
        ("2026-11-21 01:00:05.123456789 +0100 CET m=+0.000000001", DAY + 5_123_456_789, 1),
        ("2026-11-21 05:30:00 +0530 +0530 m=+86400.5", DAY, 86_400_500_000_000),
    ],
)
def test_both_clocks(body: str, wall: int, monotonic: int) -> None:
    found = recognise(body)
    assert found is not None
    assert (found.kind, found.attrs) == ("line", {"wall_ns": wall, "monotonic_ns": monotonic})


@pytest.mark.parametrize(
    "body", ["2026-13-21 00:00:05.1 +0000 UTC m=+5.023", "x m=+5.0", "2026-11-21 00:00:05 +0000 UTC m=-5.0"]
)
def test_what_is_no_time_is_a_line_as_any_other(body: str) -> None:
    assert recognise(body) is None


@given(st.text(st.sampled_from("0123456789-+:. mUTC=+"), max_size=80))
def test_any_text(body: str) -> None:
    recognise(f"2026-11-21 {body} m=+1.0")
