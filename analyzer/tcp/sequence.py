"""Sequence-number arithmetic (RFC 9293 §3.4): the only place where 32-bit wrap is handled."""


def delta32(a: int, b: int) -> int:
    """`a − b` on the 32-bit circle, in [−2³¹, 2³¹): positive when `a` is ahead of `b`."""
    return ((a - b + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def extend(seq: int, reference: int) -> int:
    """The 64-bit position of a 32-bit `seq`, taken nearest to the 64-bit `reference`."""
    return reference + delta32(seq, reference & 0xFFFFFFFF)
