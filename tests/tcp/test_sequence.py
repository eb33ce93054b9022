"""Sequence arithmetic on the 32-bit circle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.tcp.sequence import delta32, extend

SEQUENCE = st.integers(0, 2**32 - 1)
HALF = 2**31
POSITION = st.integers(HALF, 2**62)


@given(SEQUENCE, st.integers(-HALF, HALF - 1))
def test_a_step_is_measured_whatever_the_start(start: int, step: int) -> None:
    assert delta32((start + step) % 2**32, start) == step


@given(SEQUENCE, SEQUENCE)
def test_the_difference_stays_in_its_half_open_range(a: int, b: int) -> None:
    assert -HALF <= delta32(a, b) < HALF
    assert (b + delta32(a, b)) % 2**32 == a


@given(SEQUENCE, SEQUENCE)
def test_turned_round_the_sign_turns_except_at_the_antipode(a: int, b: int) -> None:
    there, back = delta32(a, b), delta32(b, a)
    assert there == -back or there == back == -HALF


@given(POSITION, st.integers(-HALF, HALF - 1))
def test_a_position_is_found_again_from_its_low_32_bits(reference: int, step: int) -> None:
    assert extend((reference + step) & 0xFFFFFFFF, reference) == reference + step


@pytest.mark.parametrize(
    ("a", "b", "difference"),
    [
        (0, 0xFFFFFFFF, 1),
        (0xFFFFFFFF, 0, -1),
        (100, 0xFFFFFF9C, 200),
        (0x80000000, 0, -HALF),
        (0x7FFFFFFF, 0, HALF - 1),
    ],
)
def test_across_the_wrap(a: int, b: int, difference: int) -> None:
    assert delta32(a, b) == difference
