"""Which timer was it: the kernel's own time-outs as arithmetic, to be held against what was measured.

Linux gives data up when the time-out after the retransmission that takes it past a limit runs out, and the limit follows from
`tcp_retries2` (ip-sysctl.rst; net/ipv4/tcp_timer.c, `retransmits_timed_out`): as if every retransmission had begun with a time-out of
200 ms, doubled up to 120 s. A connect is given up after `tcp_syn_retries` repeats: 1 s, doubled; from Linux 6.5 on the first four
repeats come after 1 s each (`tcp_syn_linear_timeouts`).
"""

from __future__ import annotations

from itertools import pairwise

from analyzer.model.times import MS, SECOND, seconds

RTO_MIN_NS, RTO_MAX_NS = 200 * MS, 120 * SECOND
RETRIES2 = 15
#: Doublings from the least time-out to the greatest: `ilog2(TCP_RTO_MAX / TCP_RTO_MIN)`.
_DOUBLINGS = 9
SYN_RETRIES, SYN_LINEAR = 6, 4
#: What was measured with the defaults, kernel 6.18: data given up after 938.5 s, a connect after 134 s.
DATA_MEASURED_NS, CONNECT_MEASURED_NS = 938_500 * MS, 134 * SECOND


def data_limit_ns(retries2: int = RETRIES2) -> int:
    """How long unanswered data is retransmitted at least: 924.6 s by default."""
    doubled = min(retries2, _DOUBLINGS)
    return ((2 << doubled) - 1) * RTO_MIN_NS + max(retries2 - _DOUBLINGS, 0) * RTO_MAX_NS


def retries2_of(last_but_one_ns: int, given_up_ns: int) -> int | None:
    """The setting by which a kernel gives up when one time-out is over (`given_up_ns` after the first copy) and did not when the
    one before was; None where none fits."""
    fitting = [n for n in range(1, RETRIES2 + 1) if last_but_one_ns < data_limit_ns(n) <= given_up_ns]
    return fitting[-1] if fitting else None


def next_wait_ns(times_ns: list[int]) -> int | None:
    """The time-out that was running after the last copy: twice the one before, 120 s at most; None for a single copy."""
    waits = [b - a for a, b in pairwise(times_ns) if b - a >= RTO_MIN_NS // 2]
    return min(2 * waits[-1], RTO_MAX_NS) if waits else None


def connect_limits_ns(retries: int = SYN_RETRIES) -> tuple[int, int]:
    """After how long a connect fails: (before Linux 6.5, from it on); 127 s and 131 s by default."""
    return sum(_waits(retries, 0)), sum(_waits(retries + SYN_LINEAR, SYN_LINEAR))


def _waits(repeats: int, linear: int) -> list[int]:
    """What a connect waits after its first SYN and after each of so many repeats, the first `linear` of them evenly spaced."""
    even = min(repeats, linear)
    return [SECOND] * even + [SECOND << n for n in range(repeats - even + 1)]


def connect_given_up(syns_ns: list[int], watched_until_ns: int) -> str:
    """How a connect ended, from when its SYNs went out and until when the capture ran; empty while it may go on."""
    at = [t - syns_ns[0] for t in syns_ns]
    linear = len(at) > 2 and at[2] < 2500 * MS  # 0, 1, 2 s and not 0, 1, 3 s
    due = at[-1] + _waits(len(at) - 1, SYN_LINEAR if linear else 0)[-1]
    before, after = connect_limits_ns()
    kernel = f"Linux {'6.5 or later, which gives up after ' + whole(after) if linear else 'before 6.5, which gives up after ' + whole(before)}"
    if len(at) == SYN_RETRIES + 1 + SYN_LINEAR * linear:
        return f"{len(at)} SYNs are all that the kernel sends by default ({kernel})"
    if watched_until_ns - syns_ns[0] < due + SECOND:
        return f"by its SYNs the client is {kernel} by default" if len(at) > 2 else ""
    return (
        f"no SYN followed the last one, though another was due {whole(due)} after the first: the socket was closed between {whole(at[-1])} and {whole(due)}, by a timer "
        f"above the kernel ({kernel} by default), or tcp_syn_retries is lower there"
    )


def whole(ns: int) -> str:
    """A time as documentation has it: `127 s`, `924.6 s`, `13.3 s`."""
    return f"{ns / SECOND:.1f}".removesuffix(".0") + " s"


def fits(measured_ns: int, expected_ns: int, error_ns: int = 0) -> bool:
    """Whether a measured time is the expected one: within a tenth, the clocks' error and 200 ms."""
    return abs(measured_ns - expected_ns) <= expected_ns // 10 + error_ns + 200 * MS


def data_given_up(copies_ns: list[int], error_ns: int, clocks_ns: int) -> str:
    """Which of the kernel's timers ended a connection with unanswered data: the copies' times, the error's, and how far apart
    the clocks may be. A sentence with the numbers, empty where they fit none."""
    first, last = copies_ns[0], copies_ns[-1]
    took, wait = error_ns - first, next_wait_ns(copies_ns)
    if wait is None:
        return ""
    if fits(error_ns - last, wait, clocks_ns):
        n = retries2_of(last - first, max(took, last - first + wait))
        setting = f": tcp_retries2 is {n} there" if n is not None and n != RETRIES2 else ""
        return (
            f"the kernel gave up retransmitting, {seconds(took)} after the first copy and one time-out ({seconds(wait)}) after the last{setting} "
            f"(by default that takes {whole(data_limit_ns())} or more)"
        )
    if error_ns - last < wait - clocks_ns and took < data_limit_ns():
        return (
            f"the kernel gave up {seconds(took)} after the first copy, before its next retransmission was due ({seconds(wait)} after the last one): "
            f"TCP_USER_TIMEOUT of about {seconds(took)}, not retransmissions that ran out (by default {whole(data_limit_ns())} or more)"
        )
    return ""


def keepalive_of(idle_ns: int, interval_ns: int, probes: int) -> str:
    """Whose settings a series of keepalive probes shows."""
    length = f"keepalive of {seconds(idle_ns)} + {probes} × {seconds(interval_ns)}"
    if fits(interval_ns, SECOND) and probes in (9, 10, 11):
        return f"{length}: Node.js' setKeepAlive (libuv sets ten probes a second apart)"
    if fits(interval_ns, 75 * SECOND):
        return (
            f"{length}: Linux's defaults but for the idle time"
            if not fits(idle_ns, 7200 * SECOND)
            else f"{length}: Linux's defaults"
        )
    return length
