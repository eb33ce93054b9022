"""Endpoint states: the RFC 9293 machine as a table, and Zeek's coarser one.

The machine is driven by what a capture proves. A side's *sending* is seen; its *receiving* is proven only by what it
acknowledges. So an un-acknowledged FIN leaves its sender in FIN_WAIT_1 and says nothing of the peer, and an
acknowledged one puts the sender in FIN_WAIT_2 and the peer in CLOSE_WAIT in the same moment.
"""

from __future__ import annotations

STATES = (
    "UNKNOWN",
    "CLOSED",
    "LISTEN",
    "SYN_SENT",
    "SYN_RECEIVED",
    "ESTABLISHED",
    "FIN_WAIT_1",
    "FIN_WAIT_2",
    "CLOSE_WAIT",
    "CLOSING",
    "LAST_ACK",
    "TIME_WAIT",
)
(
    UNKNOWN, CLOSED, LISTEN, SYN_SENT, SYN_RECEIVED, ESTABLISHED,
    FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT,
) = range(12)  # fmt: skip
N_STATES = len(STATES)

#: What a segment proves about one endpoint.
EVENTS = (
    "sends SYN",
    "sends SYN-ACK",
    "its SYN is acknowledged",
    "sends a segment",
    "acknowledges the peer's FIN",
    "sends FIN",
    "its FIN is acknowledged",
    "sends RST",
    "is sent RST",
)
(
    SENDS_SYN, SENDS_SYN_ACK, SYN_ACKED, SENDS, ACKS_FIN, SENDS_FIN, FIN_ACKED, SENDS_RST, GETS_RST,
) = range(9)  # fmt: skip

_TRANSITIONS: dict[int, dict[int, int]] = {
    SENDS_SYN: {UNKNOWN: SYN_SENT, CLOSED: SYN_SENT},
    # SYN_SENT → SYN_RECEIVED is the simultaneous open (RFC 9293 figure 7).
    SENDS_SYN_ACK: {UNKNOWN: SYN_RECEIVED, LISTEN: SYN_RECEIVED, SYN_SENT: SYN_RECEIVED, CLOSED: SYN_RECEIVED},
    SYN_ACKED: {SYN_RECEIVED: ESTABLISHED},
    SENDS: {UNKNOWN: ESTABLISHED, SYN_SENT: ESTABLISHED},
    ACKS_FIN: {
        UNKNOWN: CLOSE_WAIT,
        SYN_SENT: CLOSE_WAIT,
        SYN_RECEIVED: CLOSE_WAIT,
        ESTABLISHED: CLOSE_WAIT,
        FIN_WAIT_1: CLOSING,
        FIN_WAIT_2: TIME_WAIT,
    },
    # FIN_WAIT_2 → FIN_WAIT_1: a repeated FIN shows that the acknowledgement seen here never reached its sender.
    SENDS_FIN: {
        UNKNOWN: FIN_WAIT_1,
        SYN_SENT: FIN_WAIT_1,
        SYN_RECEIVED: FIN_WAIT_1,
        ESTABLISHED: FIN_WAIT_1,
        FIN_WAIT_2: FIN_WAIT_1,
        CLOSE_WAIT: LAST_ACK,
    },
    FIN_ACKED: {FIN_WAIT_1: FIN_WAIT_2, CLOSING: TIME_WAIT, LAST_ACK: CLOSED},
    SENDS_RST: dict.fromkeys(range(12), CLOSED),
    GETS_RST: dict.fromkeys(range(12), CLOSED),
}

#: The machine: `TRANSITIONS[event][state]` is the next state.
TRANSITIONS = [[_TRANSITIONS[event].get(state, state) for state in range(N_STATES)] for event in range(len(EVENTS))]

# Zeek's endpoint states (src/analyzer/protocol/tcp), from which conn_state is derived.
Z_INACTIVE, Z_SYN_SENT, Z_SYN_ACK_SENT, Z_PARTIAL, Z_ESTABLISHED, Z_CLOSED, Z_RESET = range(7)

#: History letters (Zeek conn.log), client's in upper case; `^` marks a direction that was turned.
LETTERS = ".^sShHaAdDfFrRtTwWgGqQiI"


def conn_state(client: int, server: int, history: str, data: bool) -> str:
    """Zeek's `conn_state` from both sides' Zeek states; `data` tells whether either side sent any payload."""
    client_quiet = client in (Z_INACTIVE, Z_PARTIAL)
    server_quiet = server in (Z_INACTIVE, Z_PARTIAL)
    if server == Z_RESET:
        if client in (Z_SYN_SENT, Z_SYN_ACK_SENT) or (client == Z_RESET and not data):
            return "REJ"
        return "RSTRH" if client_quiet else "RSTR"
    if client == Z_RESET:
        if not server_quiet:
            return "RSTO"
        letters = history.removeprefix("^")
        aborted = (
            letters.startswith("S") and "R" in letters and not set(letters[1 : letters.index("R")]) & set("HAFGIQ")
        )
        return "RSTOS0" if aborted else "OTH"
    if client == Z_CLOSED and server == Z_CLOSED:
        return "SF"
    if client == Z_CLOSED:
        return "SH" if server_quiet else "S2"
    if server == Z_CLOSED:
        return "SHR" if client_quiet else "S3"
    if client == Z_SYN_SENT and server == Z_INACTIVE:
        return "S0"
    return "S1" if client == Z_ESTABLISHED and server == Z_ESTABLISHED else "OTH"
