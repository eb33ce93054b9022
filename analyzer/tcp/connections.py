"""Tracker rows to connection records: one capture point's view, in names instead of field numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from analyzer.model.addresses import endpoint
from analyzer.tcp import fields as f
from analyzer.tcp.states import LETTERS, STATES, conn_state

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLIENT, SERVER = f.SIDE, f.SIDE + f.SIDE_FIELDS

#: New data for this long without a repetition means that acknowledgements arrived: the first time-out of a sender
#: without any is 1 s at most (RFC 6298 §2), with room for one doubling.
ACKNOWLEDGED_WITHIN_NS = 3_000_000_000

ENDED_BY = (None, "client-fin", "server-fin", "client-rst", "server-rst")


ODDITIES = {
    f.ODD_MIDSTREAM: "capture began mid-stream",
    f.ODD_SIMULTANEOUS: "simultaneous open",
    f.ODD_SPLIT_HANDSHAKE: "split handshake",
    f.ODD_FAST_OPEN: "TCP Fast Open",
    f.ODD_MPTCP: "Multipath TCP",
    f.ODD_HALF_OPEN: "an earlier connection of these ports was still open (challenge ACK)",
    f.ODD_DSACK: "needless retransmission (D-SACK)",
    f.ODD_BACKWARDS: "time stamps go backwards",
    f.ODD_ACKED_UNSEEN: "data acknowledged that was not captured",
}


class Side(Struct, frozen=True):
    """One endpoint of a connection as one capture point saw it. Times in ns since the epoch, 0 for never."""

    packets: int
    payload: int  # bytes by sequence space, a retransmission counts once
    retransmits: int
    out_of_order: int
    keepalives: int
    zero_windows: int
    hole: int
    isn: int
    last_ns: int
    data_first_ns: int
    data_last_ns: int
    unacked_since_ns: int
    unacked_retransmits: int
    fin_ns: int
    fins: int
    fin_acked_ns: int
    fin_last_ns: int
    rst_ns: int
    rsts: int
    state: str
    state_ns: int
    ttl: int


class PointConnection(Struct, frozen=True):
    """One connection at one capture point.

    `oddities` are names of `ODDITIES`. `one_sided` names the side of which the capture saw nothing although it was there
    ("client" or "server"): its silence proves nothing.
    """

    uid: int
    client: str
    server: str
    oriented: int
    first_ns: int
    last_ns: int
    first_no: int
    last_no: int
    syn_ns: int
    syn_ack_ns: int
    established_ns: int
    ended_by: str | None
    ended_ns: int
    idle_ns: int
    wake_gap_ns: int
    rst_gap_ns: int
    marks: int
    midstream: bool
    oddities: tuple[str, ...]
    one_sided: str | None
    path: int  # `columns.PATH` of its first segment
    history: str
    conn_state: str
    sides: tuple[Side, Side]

    @property
    def a(self) -> Side:
        """The client's side."""
        return self.sides[0]

    @property
    def b(self) -> Side:
        """The server's side."""
        return self.sides[1]

    @property
    def missed(self) -> int:
        """Payload bytes of both sides that the capture never saw."""
        return self.sides[0].hole + self.sides[1].hole


def history_of(row: list[int]) -> str:
    """Zeek's history letters out of their packed words."""
    n = min(row[f.HISTORY_N], 12 * f.HISTORY_WORDS)
    return "".join(LETTERS[(row[f.HISTORY + k // 12] >> (5 * (k % 12))) & 31] for k in range(n))


def oddities_of(row: list[int]) -> tuple[str, ...]:
    """What is unusual about how a connection opened or was captured."""
    odd = row[f.ODD]
    # Both sent a SYN, but only the client a SYN-ACK: the server opened in two steps, not at the same time.
    if odd & f.ODD_SIMULTANEOUS and row[CLIENT + f.BITS] & f.B_SYN_ACK and not row[SERVER + f.BITS] & f.B_SYN_ACK:
        odd = odd & ~f.ODD_SIMULTANEOUS | f.ODD_SPLIT_HANDSHAKE
    return tuple(name for bit, name in ODDITIES.items() if odd & bit)


def payload_bytes(row: list[int], side: int) -> int:
    """Payload by sequence space: up to the highest position sent or acknowledged, without SYN and FIN.

    0 for a side of which no packet was seen, as Zeek counts: what the other acknowledged has no known beginning.
    """
    if row[side + f.SEEN] != 2:
        return 0
    end = max(row[side + f.NXT], row[side + f.UNA])
    return max(0, end - row[side + f.START] - (1 if row[side + f.FINS] else 0))


def missed_bytes(row: list[int], side: int) -> int:
    """Bytes of one side's sequence space that this capture never saw: holes, and what was acknowledged beyond the end."""
    if row[side + f.SEEN] != 2:
        return 0
    probed = 1 if row[side + f.BITS] & f.B_PROBED else 0
    return row[side + f.HOLE] + max(0, row[side + f.UNA] - row[side + f.NXT] - probed)


def side_of(row: list[int], side: int) -> Side:
    """One side's fields by name."""
    g = [row[side + k] for k in range(f.SIDE_FIELDS)]
    return Side(
        packets=g[f.PKTS], payload=payload_bytes(row, side), retransmits=g[f.RETX], out_of_order=g[f.OOO],
        keepalives=g[f.KEEPALIVES], zero_windows=g[f.ZERO_WINDOWS], hole=missed_bytes(row, side), isn=g[f.ISN],
        last_ns=g[f.SIDE_LAST_TS],
        data_first_ns=g[f.DATA_FIRST_TS], data_last_ns=g[f.DATA_LAST_TS],
        unacked_since_ns=g[f.UNACKED_TS], unacked_retransmits=g[f.UNACKED_RETX],
        fin_ns=g[f.FIN_TS], fins=g[f.FINS], fin_acked_ns=g[f.FIN_ACKED_TS],
        fin_last_ns=g[f.FIN_LAST_TS],
        rst_ns=g[f.RST_TS], rsts=g[f.RSTS],
        state=STATES[g[f.STATE]], state_ns=g[f.STATE_TS], ttl=g[f.TTL_SEEN],
    )  # fmt: skip


def unseen(column: Callable[[int], Any], missing: int, seen: int) -> Any:
    """Whether one side is missing from the capture although the other side's segments prove that it was there.

    `column(k)` is field `k` of a row, or of all rows; `missing` and `seen` are the sides' offsets. Proof is an
    acknowledgement that moves, a handshake that goes on, or new data for seconds that nobody repeats. Unanswered SYNs or
    keepalive probes are none.
    """
    acknowledges = column(missing + f.NXT) > column(missing + f.START)
    shakes_hands = (column(seen + f.ISN) >= 0) & (column(missing + f.SEEN) == 1)
    flows = (column(seen + f.NXT_TS) - column(seen + f.DATA_FIRST_TS) > ACKNOWLEDGED_WITHIN_NS) & (
        (column(seen + f.DATA_FIRST_TS) > 0) & (column(seen + f.RETX) == 0)
    )
    return (
        (column(missing + f.PKTS) == 0)
        & (column(seen + f.PKTS) > column(seen + f.RSTS))
        & (acknowledges | shakes_hands | flows)
    )


def one_sided(rows: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(connections whose client the capture did not see, whose server), of rows `fields.N_FIELDS` wide."""
    return _one_sided(rows, CLIENT, SERVER), _one_sided(rows, SERVER, CLIENT)


def _one_sided(rows: NDArray[np.int64], missing: int, seen: int) -> NDArray[np.bool_]:
    """`unseen` of all rows, asked of those few that have no packet of the side."""
    found: NDArray[np.bool_] = rows[:, missing + f.PKTS] == 0
    silent = found.nonzero()[0]
    few = rows[silent]
    found[silent] = unseen(lambda k: few[:, k], missing, seen)
    return found


def connection_of(row: list[int]) -> PointConnection:
    """A tracker row as a record."""
    client, server = side_of(row, f.SIDE), side_of(row, f.SIDE + f.SIDE_FIELDS)
    history = history_of(row)
    return PointConnection(
        uid=row[f.UID],
        client=endpoint(row[f.C_HI], row[f.C_LO], row[f.C_PORT]),
        server=endpoint(row[f.S_HI], row[f.S_LO], row[f.S_PORT]),
        oriented=row[f.ORIENTED],
        first_ns=row[f.FIRST_TS], last_ns=row[f.LAST_TS], first_no=row[f.FIRST_NO], last_no=row[f.LAST_NO],
        syn_ns=row[f.SYN_TS], syn_ack_ns=row[f.SYN_ACK_TS], established_ns=row[f.ESTABLISHED_TS],
        ended_by=ENDED_BY[row[f.END_BY]], ended_ns=row[f.END_TS],
        idle_ns=row[f.IDLE_NS], wake_gap_ns=row[f.WAKE_GAP], rst_gap_ns=row[f.RST_GAP],
        marks=row[f.MARKS_SEEN], midstream=bool(row[f.ODD] & f.ODD_MIDSTREAM), oddities=oddities_of(row),
        one_sided=next(
            (name for name, a, b in (("client", CLIENT, SERVER), ("server", SERVER, CLIENT)) if unseen(row.__getitem__, a, b)),
            None,
        ),
        path=row[f.PATH_SEEN],
        history=history,
        conn_state=conn_state(
            row[f.SIDE + f.ZEEK], row[f.SIDE + f.SIDE_FIELDS + f.ZEEK], history, bool(client.payload + server.payload)
        ),
        sides=(client, server),
    )  # fmt: skip


def connections_of(rows: NDArray[np.int64]) -> list[PointConnection]:
    """All rows as records, in order of creation."""
    return [connection_of(row) for row in rows.tolist()]
