"""What is out of the ordinary about a connection, one bit each: where a rule that looks for it begins.

A row is 832 bytes, so that a filter over one column of a million rows reads a million cache lines, and two dozen rules read
them again and again. Here all rows are read once, in order; a rule then compares one word a connection, and looks at the rows of
those few that show its signs. A sign is necessary, never sufficient: rules compare with thresholds, signs do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analyzer.capture.columns import (
    M_H2,
    M_H2_GOAWAY,
    M_MYSQL_ERROR,
    M_PG_ERROR,
    M_RESP_ERROR,
    M_TLS,
    M_TLS_CLIENT_HELLO,
    M_TLS_DATA,
)
from analyzer.kernel import Column, Index, compiled_wanted, kernel
from analyzer.tcp.connections import CLIENT, SERVER
from analyzer.tcp.fields import (
    B_CLOCK_BEHIND,
    BITS,
    C_HI,
    C_LO,
    DATA_FIRST_TS,
    END_BY,
    ESTABLISHED_TS,
    FIN_ACKED_TS,
    FIN_TS,
    FINS,
    IDLE_NS,
    KEEPALIVES,
    MARKS_SEEN,
    N_FIELDS,
    PKTS,
    RETX,
    RST_GAP,
    RST_TS,
    S_HI,
    S_LO,
    S_PORT,
    SYN_COUNT,
    UNACKED_RETX,
    WAKE_AFTER,
    WAKE_TS,
)
from analyzer.tcp.track import mix

if TYPE_CHECKING:
    from numpy.typing import NDArray

(
    SYN_ONLY,  # the client sent nothing but SYNs
    IDLE,  # both sides silent for WAKE_AFTER
    WOKE,  # the client wrote after a silence of its own of WAKE_AFTER
    RESET_ON_WAKING,  # … and the server answered with a reset and nothing else
    UNANSWERED,  # data of the client was repeated and not acknowledged after that
    PROBED,  # keepalive probes, of either side
    CLIENT_RESET,
    SERVER_RESET,
    SERVER_FIN,
    FIN_REPEATED,  # the server's
    LEFT_OPEN,  # the server's FIN was acknowledged, and the client did not end its side within WAKE_AFTER
    OPEN,  # established, and no side began to end it
    EXCHANGE,  # established, data both ways, closed by the client, at once or after the server
    GOAWAY,  # an HTTP/2 GOAWAY frame, of either side
    DATABASE_ERROR,  # an error reply of Redis, MySQL or PostgreSQL
    HELLO_ONLY,  # a TLS ClientHello and no application data, or nothing of the server before the client left
    CLOCK_BEHIND,  # the client's TSval fell behind in a pause
    REPEATED,  # retransmissions, of either side
    IN_TLS,  # TLS records
    IN_HTTP_2,  # HTTP/2 frames in the clear
) = (1 << bit for bit in range(20))

ERROR_MARKS = M_RESP_ERROR | M_MYSQL_ERROR | M_PG_ERROR
HELLO_MARKS = M_TLS_CLIENT_HELLO | M_TLS_DATA


@kernel(mix)
def read_signs(rows: Column, n: int, signs: Index, pairs: Index) -> None:
    """Signs of `n` rows, and a 31-bit hash of the client's address and the server's address and port."""
    for k in range(n):
        c = k * N_FIELDS
        a = c + CLIENT
        b = c + SERVER
        pair = mix(rows[c + C_HI], rows[c + C_LO], 0) ^ (mix(rows[c + S_HI], rows[c + S_LO], rows[c + S_PORT]) >> 1)
        pairs[k] = (pair ^ (pair >> 31)) & 0x7FFFFFFF
        found = 0
        if rows[c + SYN_COUNT] > 0 and rows[a + PKTS] == rows[c + SYN_COUNT]:
            found |= SYN_ONLY
        if rows[c + IDLE_NS] >= WAKE_AFTER:
            found |= IDLE
        if rows[c + WAKE_TS] > 0:
            found |= WOKE
        if rows[c + RST_GAP] > 0:
            found |= RESET_ON_WAKING
        if rows[a + UNACKED_RETX] > 0:
            found |= UNANSWERED
        if rows[a + KEEPALIVES] + rows[b + KEEPALIVES] > 0:
            found |= PROBED
        if rows[a + RST_TS] > 0:
            found |= CLIENT_RESET
        if rows[b + RST_TS] > 0:
            found |= SERVER_RESET
        if rows[b + FIN_TS] > 0:
            found |= SERVER_FIN
            if rows[b + FINS] > 1:
                found |= FIN_REPEATED
            late = rows[b + FIN_ACKED_TS] + WAKE_AFTER
            ended = 0 < rows[a + FIN_TS] < late or 0 < rows[a + RST_TS] < late
            if rows[b + FIN_ACKED_TS] > 0 and not ended:
                found |= LEFT_OPEN
        if rows[c + ESTABLISHED_TS] > 0:
            if rows[c + END_BY] == 0:
                found |= OPEN
            elif rows[a + FIN_TS] > 0 and rows[a + DATA_FIRST_TS] > 0 and rows[b + DATA_FIRST_TS] > 0:
                found |= EXCHANGE
        marks = rows[c + MARKS_SEEN]
        if rows[a + RETX] + rows[b + RETX] > 0:
            found |= REPEATED
        if marks & M_TLS:
            found |= IN_TLS
        if marks & M_H2:
            found |= IN_HTTP_2
        if marks & M_H2_GOAWAY:
            found |= GOAWAY
        if marks & ERROR_MARKS:
            found |= DATABASE_ERROR
        if marks & HELLO_MARKS == M_TLS_CLIENT_HELLO or (
            marks & M_TLS_CLIENT_HELLO and 0 < rows[a + FIN_TS] < rows[b + DATA_FIRST_TS]
        ):
            found |= HELLO_ONLY
        if rows[a + BITS] & B_CLOCK_BEHIND:
            found |= CLOCK_BEHIND
        signs[k] = found


def signs_of(rows: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Signs of each row, and a hash of who talks to whom: equal for equal clients and servers, most likely not for others."""
    n = len(rows)
    if compiled_wanted(n):
        signs, pairs = np.empty(n, np.int32), np.empty(n, np.int32)
        read_signs.compiled(np.ascontiguousarray(rows).reshape(-1), n, signs, pairs)
        return signs, pairs
    plain, who = [0] * n, [0] * n
    read_signs.interpreted(rows.reshape(-1).tolist(), n, plain, who)
    return np.array(plain, np.int32), np.array(who, np.int32)
