"""Signs of connections: both forms of the kernel, and each sign beside its meaning."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.capture import columns as col
from analyzer.rules import rules, run
from analyzer.rules._cases import Case
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.timeline.points import Point

OPEN = "0 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.01 > 40\n0.012 < 90\n"
LIVES = {
    "closed by the client": (OPEN + "0.1 > FIN\n0.101 < FIN\n0.102 > ACK", signs.SERVER_FIN | signs.EXCHANGE),
    "kept, used after a rest": (OPEN + "3 > 40\n3.01 < 90", signs.IDLE | signs.WOKE | signs.OPEN),
    "reset on waking": (OPEN + "3 > 40\n3.01 < RST", signs.IDLE | signs.WOKE | signs.SERVER_RESET | signs.RESET_ON_WAKING),
    "left open": (OPEN + "1 < FIN\n1.01 > ACK", signs.SERVER_FIN | signs.LEFT_OPEN),
    "FIN into the void": (OPEN + "0.2 < FIN lost\n0.4 < FIN again lost", signs.SERVER_FIN | signs.FIN_REPEATED | signs.REPEATED),
    "a SYN alone": ("0 > SYN lost", signs.SYN_ONLY),
    "refused": ("0 > SYN\n0.001 < RST-ACK", signs.SYN_ONLY | signs.SERVER_RESET),
    "data into the void": (OPEN + "0.1 > 40 lost\n0.3 > 40 again lost", signs.UNANSWERED | signs.REPEATED | signs.OPEN),
    "probes": (OPEN + "0.5 > PROBE\n0.501 < ACK\n0.6 > RST-ACK", signs.PROBED | signs.CLIENT_RESET),
    "told to go": (OPEN + "0.1 < GOAWAY 0", signs.GOAWAY | signs.IN_HTTP_2 | signs.OPEN),
    "an error": (OPEN + "0.1 < TEXT -ERR_max_number_of_clients_reached", signs.DATABASE_ERROR | signs.OPEN),
    "a paused machine": (
        "0 > SYN ts=7\n0.001 < SYN-ACK\n0.002 > ACK ts=9\n0.01 > 40 ts=17\n0.012 < 90\n9 > 40 ts=30",
        signs.IDLE | signs.WOKE | signs.OPEN | signs.CLOCK_BEHIND,
    ),
    "a frozen process": (
        "0 > SYN ts=7\n0.001 < SYN-ACK\n0.002 > ACK ts=9\n0.01 > 40 ts=17\n0.012 < 90\n9 > 40 ts=9007",
        signs.IDLE | signs.WOKE | signs.OPEN,
    ),
    "hello": ("0 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.01 > CLIENT-HELLO", signs.HELLO_ONLY | signs.IN_TLS | signs.OPEN),
}  # fmt: skip


@pytest.mark.parametrize("life", LIVES)
def test_each_sign(life):
    packets, wanted = LIVES[life]
    (point,) = Case(life, packets=packets).story().connections.points
    assert point.signs.tolist() == [wanted]


def test_every_sign_is_shown_above():
    every = 0
    for _, shown in LIVES.values():
        every |= shown
    assert every == (1 << 20) - 1


@given(st.integers(0, 2**32), st.integers(0, 60))
@settings(max_examples=30, deadline=None)
def test_both_forms_agree(seed, n):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 3, (n, f.N_FIELDS)) * rng.choice([1, f.WAKE_AFTER], (n, f.N_FIELDS))
    rows[:, f.MARKS_SEEN] = rng.choice([0, col.M_H2_GOAWAY, col.M_PG_ERROR, col.M_TLS_CLIENT_HELLO, col.M_TLS_DATA], n)
    rows[:, [f.C_HI, f.C_LO, f.S_HI, f.S_LO]] = rng.integers(-(2**63), 2**63 - 1, (n, 4))
    compiled = [np.empty(n, np.int32), np.empty(n, np.int32)]
    signs.read_signs.compiled(rows.reshape(-1), n, *compiled)
    plain = [[0] * n, [0] * n]
    signs.read_signs.interpreted(rows.reshape(-1).tolist(), n, *plain)
    assert [column.tolist() for column in compiled] == plain


def test_a_pair_is_a_client_and_a_server_whatever_the_clients_port():
    rows = np.zeros((4, f.N_FIELDS), np.int64)
    rows[:, f.C_LO] = (10, 10, 11, 10)
    rows[:, f.S_PORT] = (443, 443, 443, 80)
    rows[:, f.C_PORT] = range(4)
    _, pairs = signs.signs_of(rows)
    assert pairs[0] == pairs[1]
    assert len(set(pairs.tolist())) == 3
    assert signs.signs_of(rows[:0])[0].shape == (0,)


@pytest.mark.parametrize(
    ("rule", "case"), [(r, c) for r in rules() for c in (*r.FIRES, *r.QUIET)], ids=lambda x: getattr(x, "CODE", "")
)
def test_signs_only_spare_work(rule, case, monkeypatch):
    """Rules that look at every connection find what they find with signs."""
    with_signs = [(x.rule, x.connection, x.title) for x in run(case.story())]
    monkeypatch.setattr(Point, "signs", property(lambda point: np.full(len(point.rows), (1 << 20) - 1, np.int32)))
    assert [(x.rule, x.connection, x.title) for x in run(case.story())] == with_signs
