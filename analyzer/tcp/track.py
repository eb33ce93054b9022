"""Segments to connections: one loop over decoded segments that keeps every connection's row up to date.

Theory of operation. `rows` holds one row a live connection (`fields`), `index` maps the hash of its 4-tuple to the row.
A SYN with another initial sequence number opens a new incarnation: the old row leaves the index (`GONE`) and stays
until the caller collects it. Nothing else is remembered, so state can be saved between chunks, and a chunk may end
anywhere. Retransmissions, out-of-order segments and keepalive probes follow tshark's definitions (packet-tcp.c
`tcp_analyze_sequence_number`), endpoint states RFC 9293 (`states`), history and Zeek states Zeek's TCP analyzer.
"""

from __future__ import annotations

from typing import Any

from analyzer.capture.columns import (
    ACK,
    ACK_FLAG,
    DPORT,
    DST_HI,
    DST_LO,
    FIN,
    FLAGS,
    LEN,
    MARKS,
    NO,
    PATH,
    RST,
    SEQ,
    SPORT,
    SRC_HI,
    SRC_LO,
    SYN,
    TS,
    TSVAL,
    TTL,
    WIN,
)
from analyzer.kernel import kernel
from analyzer.tcp.fields import (
    BY_FIRST,
    BY_PORT,
    BY_SYN,
    BY_SYN_ACK,
    C_HI,
    C_LO,
    C_PORT,
    DATA_FIRST_TS,
    DATA_LAST_TS,
    DUP_ACKS,
    END_BY,
    END_NO,
    END_TS,
    ESTABLISHED_TS,
    FIN_ACKED_TS,
    FIN_END,
    FIN_LAST_TS,
    FIN_NO,
    FIN_TS,
    FINS,
    FIRST_NO,
    FIRST_TS,
    GONE,
    HIST_BITS,
    HISTORY,
    HISTORY_N,
    HISTORY_WORDS,
    HOLE,
    IDLE_FROM_NO,
    IDLE_NS,
    IDLE_TO_NO,
    ISN,
    K_ACKED_UNSEEN,
    K_DUP_ACK,
    K_FAST,
    K_KEEPALIVE,
    K_LOST,
    K_NEW_DATA,
    K_OOO,
    K_RETX,
    K_SERVER,
    K_SPURIOUS,
    K_STATE,
    K_WAKE,
    K_ZERO_PROBE,
    K_ZERO_WINDOW,
    KEEPALIVES,
    LAST_ACK_NO,
    LAST_ACK_TS,
    LAST_NO,
    LAST_TS,
    LAST_WIN,
    MARKS_SEEN,
    N_FIELDS,
    NXT,
    NXT_TS,
    ODD,
    ODD_ACKED_UNSEEN,
    ODD_BACKWARDS,
    ODD_MIDSTREAM,
    ODD_SIMULTANEOUS,
    OOO,
    ORIENTED,
    PATH_SEEN,
    PAYLOAD,
    PKTS,
    RETX,
    RST_FLAGS,
    RST_GAP,
    RST_NO,
    RST_TS,
    RSTS,
    S_HI,
    S_LO,
    S_PORT,
    SEEN,
    SIDE,
    SIDE_FIELDS,
    SIDE_FIRST_TS,
    SIDE_LAST_TS,
    START,
    STATE,
    STATE_BEFORE_RST,
    STATE_TS,
    SYN_ACK_TS,
    SYN_COUNT,
    SYN_TS,
    T_COUNT,
    T_NEXT_UID,
    T_PACKETS,
    T_ROWS,
    TS_FIRST,
    TS_FIRST_AT,
    TS_LAST,
    TS_LAST_AT,
    TTL_SEEN,
    UID,
    UNA,
    UNACKED_RETX,
    UNACKED_TS,
    WAKE_AFTER,
    WAKE_GAP,
    WAKE_NO,
    WAKE_TS,
    ZERO_WINDOWS,
    ZEEK,
)
from analyzer.tcp.sequence import delta32, extend
from analyzer.tcp.states import (
    ACKS_FIN,
    CLOSED,
    FIN_ACKED,
    GETS_RST,
    SENDS,
    SENDS_FIN,
    SENDS_RST,
    SENDS_SYN,
    SENDS_SYN_ACK,
    SYN_ACKED,
    Z_CLOSED,
    Z_ESTABLISHED,
    Z_INACTIVE,
    Z_PARTIAL,
    Z_RESET,
    Z_SYN_ACK_SENT,
    Z_SYN_SENT,
)

#: tshark takes a segment for out of order rather than retransmitted when it follows the highest one by less than the
#: handshake's round trip, or by 3 ms where no handshake was seen (packet-tcp.c, ooo_thres).
OUT_OF_ORDER_DEFAULT_NS = 3_000_000
#: A retransmission within this time of two duplicate ACKs for it is a fast one (packet-tcp.c).
FAST_WITHIN_NS = 20_000_000
#: A side that still sends this long after a reset was sent to it never got the reset (Linux RTO minimum, 200 ms).
RESET_LOST_AFTER_NS = 200_000_000

# Indices of the server's history letters in states.LETTERS; the client's (upper case) follow each by one.
L_FLIP = 1
L_SYN, L_SYN_ACK, L_ACK, L_DATA, L_FIN, L_RST, L_RETX, L_WIN, L_GAP, L_MULTI, L_FIN_RST = range(2, 24, 2)


def mix(hi: int, lo: int, port: int) -> int:
    """A 62-bit hash of one endpoint, without overflow in either form of the kernel."""
    x = (lo ^ (lo >> 29) ^ hi ^ (hi >> 31)) & 0x7FFFFFFF
    x = ((x + port * 0x9E3779) & 0x7FFFFFFF) * 0x2C1B3C6D
    return x ^ (x >> 29)


def add_letter(c: Any, letter: int) -> None:
    """Append one history letter to a row, while there is room."""
    n = c[HISTORY_N]
    if n < 12 * HISTORY_WORDS:
        c[HISTORY + n // 12] |= letter << (5 * (n % 12))
    c[HISTORY_N] = n + 1


def once_letter(c: Any, side: int, bit: int, letter: int, upper: int) -> None:
    """Append a letter unless this side has it already."""
    if not c[side + HIST_BITS] & bit:
        c[side + HIST_BITS] |= bit
        add_letter(c, letter + upper)


def scaled_letter(c: Any, side: int, shift: int, letter: int, upper: int) -> None:
    """Append a letter at its 1st, 10th, 100th … occurrence (Zeek's logarithmic letters)."""
    count = ((c[side + T_COUNT] >> shift) & 0xFFFFFF) + 1
    if count < 0xFFFFFF:
        c[side + T_COUNT] += 1 << shift
    power = 1
    while power < count:
        power *= 10
    if power == count:
        add_letter(c, letter + upper)


def enter(c: Any, side: int, event: int, ts: int, transitions: Any) -> bool:
    """Move one endpoint by an event; True when its state changed."""
    state = transitions[event][c[side + STATE]]
    if state == c[side + STATE]:
        return False
    c[side + STATE] = state
    c[side + STATE_TS] = ts
    return True


def zeek_step(c: Any, s: int, p: int, flags: int, length: int, is_client: bool) -> None:
    """Zeek's endpoint state machine for the sender `s` of a segment."""
    state = c[s + ZEEK]
    peer = c[p + ZEEK]
    if state == Z_INACTIVE:
        if flags & SYN:
            if is_client:
                state = Z_SYN_ACK_SENT if flags & ACK_FLAG else Z_SYN_SENT
            else:
                if peer == Z_SYN_SENT:
                    c[p + ZEEK] = Z_ESTABLISHED
                state = Z_ESTABLISHED
        if flags & FIN:
            state = Z_CLOSED
        if flags & RST:
            state = Z_RESET
        if state == Z_INACTIVE:
            if not is_client and length == 0 and peer == Z_SYN_SENT:
                pass
            elif flags & ACK_FLAG and peer == Z_ESTABLISHED:
                state = Z_ESTABLISHED
            else:
                state = Z_PARTIAL
    elif state == Z_SYN_SENT or state == Z_SYN_ACK_SENT:
        if flags & FIN:
            state = Z_CLOSED
        if flags & RST:
            state = Z_RESET
    elif state == Z_ESTABLISHED or state == Z_PARTIAL:
        if flags & SYN and state == Z_PARTIAL and peer == Z_INACTIVE and not flags & ACK_FLAG:
            state = Z_SYN_SENT
        if flags & FIN and not flags & RST:
            state = Z_CLOSED
        if flags & RST:
            state = Z_RESET
    elif state == Z_CLOSED:
        if flags & RST and peer != Z_CLOSED:
            state = Z_RESET
    c[s + ZEEK] = state


def opens_anew(c: Any, from_client: bool, flags: int, seq: int) -> bool:
    """Whether a segment on a known 4-tuple starts another incarnation: a SYN with another initial sequence number."""
    if not flags & SYN or flags & (ACK_FLAG | RST):
        return False
    s = SIDE if from_client else SIDE + SIDE_FIELDS
    p = SIDE + SIDE_FIELDS if from_client else SIDE
    if c[s + SEEN] == 2:
        if c[s + ISN] >= 0:
            return bool(c[s + ISN] != seq)
        return delta32(seq + 1, c[s + START] & 0xFFFFFFFF) != 0
    if c[p + ISN] >= 0 and c[p + FINS] + c[p + RSTS] + c[s + PKTS] == 0:
        return False  # the other side's SYN or SYN-ACK came first: simultaneous open, or the order of the capture
    return True


def open_row(c: Any, p: Any, uid: int, service: Any) -> bool:
    """Fill a fresh row from its first segment; returns whether that segment is the client's."""
    for k in range(N_FIELDS):
        c[k] = 0
    flags = p[FLAGS]
    if flags & SYN and flags & ACK_FLAG:
        from_client = False
        c[ORIENTED] = BY_SYN_ACK
    elif flags & SYN:
        from_client = True
        c[ORIENTED] = BY_SYN
    elif service[p[SPORT]] != service[p[DPORT]]:
        from_client = not service[p[SPORT]]
        c[ORIENTED] = BY_PORT
    else:
        from_client = True
        c[ORIENTED] = BY_FIRST
    if from_client:
        c[C_HI], c[C_LO], c[C_PORT] = p[SRC_HI], p[SRC_LO], p[SPORT]
        c[S_HI], c[S_LO], c[S_PORT] = p[DST_HI], p[DST_LO], p[DPORT]
    else:
        c[C_HI], c[C_LO], c[C_PORT] = p[DST_HI], p[DST_LO], p[DPORT]
        c[S_HI], c[S_LO], c[S_PORT] = p[SRC_HI], p[SRC_LO], p[SPORT]
        add_letter(c, L_FLIP)
    if not flags & SYN:
        c[ODD] = ODD_MIDSTREAM
    c[UID] = uid
    c[FIRST_TS] = p[TS]
    c[FIRST_NO] = p[NO]
    c[LAST_TS] = p[TS]
    c[LAST_NO] = p[NO]
    c[PATH_SEEN] = p[PATH]
    c[SIDE + ISN] = -1
    c[SIDE + SIDE_FIELDS + ISN] = -1
    return from_client


def classify(c: Any, s: int, p: int, flags: int, position: int, size: int, length: int, win: int, ts: int) -> int:
    """tshark's verdict on one segment of side `s`, before the row takes the segment in."""
    if c[s + SEEN] != 2:
        return 0
    nxt = c[s + NXT]
    kind = 0
    plain = flags & (SYN | FIN | RST) == 0
    if length == 1 and plain and position == nxt and c[p + SEEN] == 2 and c[p + LAST_WIN] == 0:
        kind |= K_ZERO_PROBE
    if position > nxt and not flags & RST:
        kind |= K_LOST
    if length <= 1 and plain and position == nxt - 1:
        return kind | K_KEEPALIVE
    if size == 0 or flags & RST or position >= nxt:
        return kind
    # Data, a SYN or a FIN that does not advance the sequence: out of order or a retransmission.
    rtt = OUT_OF_ORDER_DEFAULT_NS
    if c[ESTABLISHED_TS] > 0 and c[SYN_TS] > 0:
        rtt = max(c[ESTABLISHED_TS] - c[SYN_TS], 1)
    if c[s + DUP_ACKS] >= 2 and c[s + UNA] == position and ts - c[p + LAST_ACK_TS] < FAST_WITHIN_NS:
        return kind | K_RETX | K_FAST
    if ts - c[s + NXT_TS] < rtt and nxt != position + size:
        return kind | K_OOO
    if length > 0 and c[s + UNA] > 0 and position + size <= c[s + UNA]:
        return kind | K_RETX | K_SPURIOUS
    return kind | K_RETX


@kernel(delta32, extend, mix, add_letter, once_letter, scaled_letter, enter, zeek_step, opens_anew, open_row, classify)
def track(
    packets: Any,
    n: int,
    rows: Any,
    index: Any,
    mask: int,
    counters: Any,
    service: Any,
    transitions: Any,
    uids: Any,
    kinds: Any,
) -> None:
    """Take `n` segments in. `rows` must have room for `n` more, `index` (a power of two, `mask` + 1) stay half empty."""
    for k in range(n):
        packet = packets[k]
        ts = packet[TS]
        number = packet[NO]
        flags = packet[FLAGS]
        seq = packet[SEQ]
        length = packet[LEN]
        # ---- find the connection
        slot = (
            mix(packet[SRC_HI], packet[SRC_LO], packet[SPORT]) ^ mix(packet[DST_HI], packet[DST_LO], packet[DPORT])
        ) & mask
        from_client = True
        fresh = True
        c = rows[0]
        while index[slot] != 0:
            c = rows[index[slot] - 1]
            if (
                c[C_LO] == packet[SRC_LO]
                and c[S_LO] == packet[DST_LO]
                and c[C_PORT] == packet[SPORT]
                and c[S_PORT] == packet[DPORT]
                and c[C_HI] == packet[SRC_HI]
                and c[S_HI] == packet[DST_HI]
            ):
                fresh = False
                break
            if (
                c[C_LO] == packet[DST_LO]
                and c[S_LO] == packet[SRC_LO]
                and c[C_PORT] == packet[DPORT]
                and c[S_PORT] == packet[SPORT]
                and c[C_HI] == packet[DST_HI]
                and c[S_HI] == packet[SRC_HI]
            ):
                from_client = False
                fresh = False
                break
            slot = (slot + 1) & mask
        if not fresh and opens_anew(c, from_client, flags, seq):
            c[GONE] = 1
            fresh = True
        if fresh:
            row = counters[T_ROWS]
            counters[T_ROWS] = row + 1
            index[slot] = row + 1
            c = rows[row]
            from_client = open_row(c, packet, counters[T_NEXT_UID], service)
            counters[T_NEXT_UID] += 1
        s = SIDE if from_client else SIDE + SIDE_FIELDS
        p = SIDE + SIDE_FIELDS if from_client else SIDE
        upper = 1 if from_client else 0
        # ---- time
        gap = ts - c[LAST_TS]
        if gap < 0:
            c[ODD] |= ODD_BACKWARDS
        elif gap > c[IDLE_NS]:
            c[IDLE_NS] = gap
            c[IDLE_FROM_NO] = c[LAST_NO]
            c[IDLE_TO_NO] = number
        # ---- where the segment stands
        size = length
        if flags & SYN:
            size += 1
        if flags & FIN:
            size += 1
        if c[s + SEEN] == 0 or (c[s + SEEN] == 1 and flags & SYN):
            position = seq + 0x100000000
        else:
            position = extend(seq, c[s + NXT])
        kind = classify(c, s, p, flags, position, size, length, packet[WIN], ts)
        if not from_client:
            kind |= K_SERVER
        # ---- history (Zeek)
        bits = (1 if flags & SYN else 0) + (1 if flags & FIN else 0) + (1 if flags & RST else 0)
        if bits > 1:
            once_letter(c, s, 1 if flags & FIN and flags & RST else 2, L_FIN_RST if flags & FIN and flags & RST else L_MULTI, upper)
        elif flags & SYN:
            bit = 4 if flags & ACK_FLAG else 8
            if not c[s + HIST_BITS] & bit or (c[s + ISN] >= 0 and c[s + ISN] != seq):
                c[s + HIST_BITS] |= bit
                add_letter(c, (L_SYN_ACK if flags & ACK_FLAG else L_SYN) + upper)
        elif flags & FIN:
            if not c[s + HIST_BITS] & 16 or position + size != c[s + FIN_END]:
                c[s + HIST_BITS] |= 16
                add_letter(c, L_FIN + upper)
        elif flags & RST:
            if not c[s + HIST_BITS] & 32:
                c[s + HIST_BITS] |= 32
                add_letter(c, L_RST + upper)
        elif length > 0:
            once_letter(c, s, 64, L_DATA, upper)
        elif flags & ACK_FLAG:
            once_letter(c, s, 128, L_ACK, upper)
        if length > 0 and c[s + SEEN] == 2 and position + size <= c[s + NXT] and c[s + ZEEK] != Z_RESET:
            scaled_letter(c, s, 0, L_RETX, upper)
        if packet[WIN] == 0 and not flags & RST and c[p + ZEEK] != Z_CLOSED and c[s + ZEEK] != Z_RESET:
            scaled_letter(c, s, 24, L_WIN, upper)
        # ---- a client that writes after a long silence of its own
        if from_client and size > 0 and not flags & (SYN | RST) and position >= c[s + NXT] and c[s + SEEN] == 2:
            quiet = ts - c[s + SIDE_LAST_TS]
            if quiet >= WAKE_AFTER and length > 0:
                kind |= K_WAKE
                c[WAKE_TS] = ts
                c[WAKE_NO] = number
                c[WAKE_GAP] = quiet
        # ---- the sender's sequence space
        if c[s + SEEN] == 0 or (c[s + SEEN] == 1 and flags & SYN):
            c[s + START] = position + 1 if flags & SYN else position
            c[s + NXT] = position
            c[s + SIDE_FIRST_TS] = ts
            if c[s + SEEN] == 0 or flags & SYN:
                c[s + UNA] = c[s + START] if not flags & SYN else 0
        if c[s + SEEN] != 2:
            c[s + SIDE_FIRST_TS] = ts
            c[s + SEEN] = 2
        if flags & SYN:
            if c[s + ISN] < 0:
                c[s + ISN] = seq
            if flags & ACK_FLAG:
                if c[SYN_ACK_TS] == 0:
                    c[SYN_ACK_TS] = ts
            else:
                c[SYN_COUNT] += 1
                if c[SYN_TS] == 0:
                    c[SYN_TS] = ts
                elif not from_client:
                    c[ODD] |= ODD_SIMULTANEOUS
        if not flags & RST:
            if kind & K_LOST:
                c[s + HOLE] += position - c[s + NXT]
            elif kind & (K_RETX | K_OOO) and not kind & K_SPURIOUS and length > 0 and c[s + HOLE] > 0:
                c[s + HOLE] = max(0, c[s + HOLE] - length)
            if length > 0 and not kind & K_KEEPALIVE:
                if c[s + NXT] <= c[s + UNA] or c[s + UNACKED_TS] == 0:
                    c[s + UNACKED_TS] = ts
                if position + size > c[s + NXT]:
                    kind |= K_NEW_DATA
            if position + size > c[s + NXT] and not kind & K_ZERO_PROBE:
                c[s + NXT] = position + size
                c[s + NXT_TS] = ts
        # ---- counts
        c[s + PKTS] += 1
        c[s + PAYLOAD] += length
        if kind & K_RETX:
            c[s + RETX] += 1
            c[s + UNACKED_RETX] += 1
        if kind & K_OOO:
            c[s + OOO] += 1
        if kind & K_KEEPALIVE:
            c[s + KEEPALIVES] += 1
        if packet[WIN] == 0 and not flags & (RST | FIN | SYN):
            c[s + ZERO_WINDOWS] += 1
            kind |= K_ZERO_WINDOW
        if length > 0 and not kind & K_KEEPALIVE:
            if c[s + DATA_FIRST_TS] == 0:
                c[s + DATA_FIRST_TS] = ts
            c[s + DATA_LAST_TS] = ts
        c[MARKS_SEEN] |= packet[MARKS]
        if packet[TSVAL] >= 0:
            if c[s + TS_FIRST_AT] == 0:
                c[s + TS_FIRST] = packet[TSVAL]
                c[s + TS_FIRST_AT] = ts
            c[s + TS_LAST] = packet[TSVAL]
            c[s + TS_LAST_AT] = ts
        # ---- what the sender acknowledges
        fin_acked = False
        if flags & ACK_FLAG and not (flags & RST and packet[ACK] == 0):
            if c[p + SEEN] == 0:
                c[p + SEEN] = 1
                c[p + START] = packet[ACK] + 0x100000000
                c[p + NXT] = c[p + START]
                c[p + UNA] = c[p + START]
            ack = extend(packet[ACK], c[p + NXT])
            if not flags & RST:
                if ack > c[p + NXT] and c[p + SEEN] == 2:
                    c[p + HOLE] += ack - c[p + NXT]
                    c[p + NXT] = ack
                    c[ODD] |= ODD_ACKED_UNSEEN
                    kind |= K_ACKED_UNSEEN
                    scaled_letter(c, p, 0, L_GAP, 1 - upper)
                elif ack > c[p + NXT]:
                    c[p + NXT] = ack
                if ack > c[p + UNA]:
                    c[p + UNA] = ack
                    c[p + UNACKED_RETX] = 0
                    c[p + UNACKED_TS] = ts if ack < c[p + NXT] else 0
                    c[p + DUP_ACKS] = 0
                elif length == 0 and ack == c[s + LAST_ACK_NO] and packet[WIN] == c[s + LAST_WIN] and ack < c[p + NXT] and not flags & (SYN | FIN):
                    c[p + DUP_ACKS] += 1
                    kind |= K_DUP_ACK
                c[s + LAST_ACK_NO] = ack
                c[s + LAST_ACK_TS] = ts
                if from_client and c[SYN_ACK_TS] > 0 and c[ESTABLISHED_TS] == 0 and not flags & SYN:
                    c[ESTABLISHED_TS] = ts
                if c[p + FINS] > 0 and ack >= c[p + FIN_END]:
                    fin_acked = True
        c[s + LAST_WIN] = packet[WIN]
        # ---- states (RFC 9293): an acknowledgement is taken before the FIN in the same segment
        changed = False
        if c[s + STATE_BEFORE_RST] > 0 and not flags & RST and ts - c[p + RST_TS] > RESET_LOST_AFTER_NS:
            c[s + STATE] = c[s + STATE_BEFORE_RST] - 1
            c[s + STATE_TS] = ts
            c[s + STATE_BEFORE_RST] = 0
            changed = True
        if flags & RST:
            if c[p + STATE] != CLOSED:
                c[p + STATE_BEFORE_RST] = c[p + STATE] + 1
            changed |= enter(c, s, SENDS_RST, ts, transitions)
            changed |= enter(c, p, GETS_RST, ts, transitions)
        else:
            if flags & SYN:
                changed |= enter(c, s, SENDS_SYN_ACK if flags & ACK_FLAG else SENDS_SYN, ts, transitions)
            elif flags & ACK_FLAG or length > 0:
                changed |= enter(c, s, SENDS, ts, transitions)
            if flags & ACK_FLAG and not flags & SYN:
                changed |= enter(c, p, SYN_ACKED, ts, transitions)
            if fin_acked:
                changed |= enter(c, s, ACKS_FIN, ts, transitions)
                changed |= enter(c, p, FIN_ACKED, ts, transitions)
                if c[p + FIN_ACKED_TS] == 0:
                    c[p + FIN_ACKED_TS] = ts
            if flags & FIN:
                changed |= enter(c, s, SENDS_FIN, ts, transitions)
        if changed:
            kind |= K_STATE
        zeek_step(c, s, p, flags, length, from_client)
        # ---- the end
        if flags & FIN:
            if c[s + FINS] == 0:
                c[s + FIN_TS] = ts
                c[s + FIN_NO] = number
            c[s + FIN_END] = position + size
            c[s + FINS] += 1
            c[s + FIN_LAST_TS] = ts
            if c[END_BY] == 0:
                c[END_BY] = 1 if from_client else 2
                c[END_TS] = ts
                c[END_NO] = number
        if flags & RST:
            if c[s + RSTS] == 0:
                c[s + RST_TS] = ts
                c[s + RST_NO] = number
                c[s + RST_FLAGS] = flags
            c[s + RSTS] += 1
            if c[END_BY] == 0:
                c[END_BY] = 3 if from_client else 4
                c[END_TS] = ts
                c[END_NO] = number
            if not from_client and c[WAKE_TS] > 0 and c[s + SIDE_LAST_TS] < c[WAKE_TS] and c[RST_GAP] == 0:
                c[RST_GAP] = c[WAKE_GAP]
        else:
            c[s + TTL_SEEN] = packet[TTL]
        c[s + SIDE_LAST_TS] = ts
        if ts > c[LAST_TS]:
            c[LAST_TS] = ts
        c[LAST_NO] = number
        uids[k] = c[UID]
        kinds[k] = kind
    counters[T_PACKETS] += n
