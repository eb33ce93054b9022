"""Segments to connections: one loop over decoded segments that keeps every connection's row up to date.

Theory of operation. `rows` holds one row a connection (`fields`) and `packets` one a segment, laid end to end: a flat
table is what interpreter and compiler both index fastest. `index` maps the hash of a 4-tuple to its row. A SYN with
another initial sequence number opens a new incarnation: the old row leaves the index (`GONE`) and stays where it is, so
a row's number is its connection's `UID`. Nothing else is remembered, so state can be saved between chunks, and a chunk
may end anywhere. Retransmissions, out-of-order segments and keepalive probes follow tshark's definitions (packet-tcp.c
`tcp_analyze_sequence_number`), endpoint states RFC 9293 (`states`), history and Zeek states Zeek's TCP analyzer.
"""

# ruff: noqa: PLR1714, SIM109
# One hot loop in one function, and chains of `==`, are what the compiler makes fast.
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
    IFACE,
    IPID,
    LEN,
    MARKS,
    N_COLUMNS,
    NO,
    O_DSACK,
    O_FAST_OPEN,
    O_MPTCP,
    OPTIONS,
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
from analyzer.kernel import Column, Index, kernel
from analyzer.tcp.fields import (
    B_ACK,
    B_CLOCK_BEHIND,
    B_DATA,
    B_FIN,
    B_FIN_RST,
    B_KEEPALIVE,
    B_MULTI,
    B_PROBED,
    B_RST,
    B_SYN,
    B_SYN_ACK,
    BITS,
    BY_CAPTURE,
    BY_FIRST,
    BY_NETWORK,
    BY_PORT,
    BY_SYN,
    BY_SYN_ACK,
    C_HI,
    C_LO,
    C_PORT,
    CLOCK_SEEN,
    CONTIGUOUS,
    COPY_WITHIN_NS,
    D_OWNER,
    D_SHAPE,
    D_TS,
    D_WHERE,
    DATA_FIRST_TS,
    DATA_LAST_TS,
    DUP_ACKS,
    END_BY,
    END_TS,
    ESTABLISHED_TS,
    FIN_ACKED_TS,
    FIN_END,
    FIN_LAST_TS,
    FIN_TS,
    FINS,
    FIRST_NO,
    FIRST_TS,
    GONE,
    HANDSHAKE_NS,
    HISTORY,
    HISTORY_N,
    HISTORY_WORDS,
    HOLE,
    IDLE_NS,
    ISN,
    K_ACKED_UNSEEN,
    K_DUP_ACK,
    K_DUPLICATE,
    K_FAST,
    K_KEEPALIVE,
    K_KEEPALIVE_ACK,
    K_LOST,
    K_NEW_DATA,
    K_OF_ANOTHER,
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
    LAST_NO,
    LAST_TS,
    LAST_WIN,
    MARKS_SEEN,
    N_FIELDS,
    N_RECENT,
    NXT,
    NXT_TS,
    ODD,
    ODD_ACKED_UNSEEN,
    ODD_BACKWARDS,
    ODD_DOUBLED,
    ODD_DSACK,
    ODD_FAST_OPEN,
    ODD_HALF_OPEN,
    ODD_MIDSTREAM,
    ODD_MPTCP,
    ODD_SIMULTANEOUS,
    ODD_SPLIT_HANDSHAKE,
    OOO,
    ORIENTED,
    PATH_SEEN,
    PKTS,
    RECENT,
    RETX,
    RST_GAP,
    RST_TS,
    RSTS,
    S_HI,
    S_LO,
    S_PORT,
    SEEN,
    SIDE,
    SIDE_FIELDS,
    SIDE_LAST_TS,
    START,
    STATE,
    STATE_BEFORE_RST,
    STATE_TS,
    SYN_ACK_TS,
    SYN_COUNT,
    SYN_TS,
    T_COUNT,
    T_DUPLICATES,
    T_ROWS,
    TICK_NS,
    TTL_SEEN,
    UID,
    UNA,
    UNACKED_RETX,
    UNACKED_TS,
    WAKE_AFTER,
    WAKE_GAP,
    WAKE_TS,
    ZEEK,
    ZERO_WINDOWS,
)
from analyzer.tcp.sequence import delta32, extend
from analyzer.tcp.states import (
    ACKS_FIN,
    CLOSED,
    FIN_ACKED,
    GETS_RST,
    N_STATES,
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

#: Numbers of one network in `sides`: 1 client or 2 server, both halves of the prefix, both halves of its mask.
N_NETWORK = 5
#: … and of one connection whose client and server are known: address and port of either.
N_TOLD = 6
#: tshark takes a segment for out of order rather than retransmitted when it follows the highest one by less than the
#: handshake's round trip, or by 3 ms where no handshake was seen (packet-tcp.c, ooo_thres).
OUT_OF_ORDER_DEFAULT_NS = 3_000_000
#: A retransmission within this time of two duplicate ACKs for it is a fast one (packet-tcp.c).
FAST_WITHIN_NS = 20_000_000
#: A side that still sends this long after a reset was sent to it never got the reset (Linux RTO minimum, 200 ms).
RESET_LOST_AFTER_NS = 200_000_000

#: An acknowledgement this far beyond what was captured is still of the same connection: the capture missed what it answers.
MISSED_AT_MOST = 1 << 24

# Indices of the server's history letters in states.LETTERS; the client's (upper case) follow each by one.
L_FLIP = 1
L_SYN, L_SYN_ACK, L_ACK, L_DATA, L_FIN, L_RST, L_RETX, L_WIN, L_GAP, L_MULTI, L_FIN_RST = range(2, 24, 2)


def mix(hi: int, lo: int, port: int) -> int:
    """A 62-bit hash of one endpoint, without overflow in either form of the kernel."""
    x = (lo ^ (lo >> 29) ^ hi ^ (hi >> 31)) & 0x7FFFFFFF
    x = ((x + port * 0x9E3779) & 0x7FFFFFFF) * 0x2C1B3C6D
    return x ^ (x >> 29)


def add_letter(rows: Any, c: int, letter: int) -> None:
    """Append one history letter to a row, while there is room."""
    n = rows[c + HISTORY_N]
    if n < 12 * HISTORY_WORDS:
        rows[c + HISTORY + n // 12] |= letter << (5 * (n % 12))
    rows[c + HISTORY_N] = n + 1


def once_letter(rows: Any, c: int, side: int, bit: int, letter: int, upper: int) -> None:
    """Append a letter unless this side has it already."""
    if not rows[side + BITS] & bit:
        rows[side + BITS] |= bit
        add_letter(rows, c, letter + upper)


def scaled_letter(rows: Any, c: int, side: int, shift: int, letter: int, upper: int) -> None:
    """Append a letter at its 1st, 10th, 100th … occurrence (Zeek's logarithmic letters)."""
    count = ((rows[side + T_COUNT] >> shift) & 0xFFFFF) + 1
    if count < 0xFFFFF:
        rows[side + T_COUNT] += 1 << shift
    power = 1
    while power < count:
        power *= 10
    if power == count:
        add_letter(rows, c, letter + upper)


def enter(rows: Any, side: int, event: int, ts: int, transitions: Any) -> bool:
    """Move one endpoint by an event; True when its state changed."""
    state = transitions[event * N_STATES + rows[side + STATE]]
    if state == rows[side + STATE]:
        return False
    rows[side + STATE] = state
    rows[side + STATE_TS] = ts
    return True


def zeek_step(rows: Any, s: int, p: int, flags: int, length: int, is_client: bool) -> None:
    """Zeek's endpoint state machine for the sender `s` of a segment."""
    state = rows[s + ZEEK]
    peer = rows[p + ZEEK]
    if state == Z_INACTIVE:
        if flags & SYN:
            if is_client:
                state = Z_SYN_ACK_SENT if flags & ACK_FLAG else Z_SYN_SENT
            else:
                if peer == Z_SYN_SENT:
                    rows[p + ZEEK] = Z_ESTABLISHED
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
    elif state == Z_CLOSED and flags & RST and peer != Z_CLOSED:
        state = Z_RESET
    rows[s + ZEEK] = state


def opens_anew(rows: Any, c: int, from_client: bool, flags: int, seq: int, ack: int) -> bool:
    """Whether a segment on a known 4-tuple starts another incarnation: a SYN with another initial sequence number.

    Where the capture has no SYN, the SYN-ACK does: with other numbers of both sides, unless it may be a stray one of before.
    """
    if not flags & SYN or flags & RST:
        return False
    s = c + (SIDE if from_client else SIDE + SIDE_FIELDS)
    p = c + (SIDE + SIDE_FIELDS if from_client else SIDE)
    if flags & ACK_FLAG:
        if rows[s + SEEN] == 0 or rows[p + SEEN] == 0 or (rows[c + END_BY] == 0 and rows[p + ISN] >= 0):
            return False
        # One's own stands at the beginning of what was seen, or a little before it where the capture's order is not the wire's.
        own = delta32(seq + 1, rows[s + START] & 0xFFFFFFFF)
        peers = delta32(ack, rows[p + START] & 0xFFFFFFFF)
        return own != 0 and peers != 0 and not (-MISSED_AT_MOST <= own < 0 and -MISSED_AT_MOST <= peers < 0)
    if rows[s + SEEN] == 2:
        if rows[s + ISN] >= 0:
            return bool(rows[s + ISN] != seq)
        if rows[p + ISN] >= 0 and rows[c + SYN_ACK_TS] == 0 and rows[s + DATA_FIRST_TS] == 0 and rows[s + FINS] == 0:
            return bool(rows[s + RSTS] > 0)  # a split handshake: the peer's SYN was acknowledged apart from this one
        return delta32(seq + 1, rows[s + START] & 0xFFFFFFFF) != 0
    # Not when only the other side's SYN came before (simultaneous open), or the SYN-ACK for this SYN (the order of the capture).
    if rows[s + SEEN] == 1 and delta32(seq + 1, rows[s + START] & 0xFFFFFFFF) != 0:
        return True
    return not (rows[p + ISN] >= 0 and rows[p + FINS] + rows[p + RSTS] + rows[s + PKTS] == 0)


def side_of(sides: Any, hi: int, lo: int) -> int:
    """1 for an address that the user calls a client's, 2 for a server's, 0 for neither (see `tracker.sides_of`)."""
    for k in range(0, sides[0] * N_NETWORK, N_NETWORK):
        if hi & sides[k + 4] == sides[k + 2] and lo & sides[k + 5] == sides[k + 3]:
            return int(sides[k + 1])
    return 0


def client_of(sides: Any, packets: Any, q: int) -> int:
    """1 for a segment of the client, 2 for one of the server, where `sides` tells them of this very connection; else 0."""
    first = 2 + sides[0] * N_NETWORK
    for k in range(first, first + sides[first - 1] * N_TOLD, N_TOLD):
        if is_end(sides, k, packets, q + SRC_HI, q + SPORT) and is_end(sides, k + 3, packets, q + DST_HI, q + DPORT):
            return 1
        if is_end(sides, k, packets, q + DST_HI, q + DPORT) and is_end(sides, k + 3, packets, q + SRC_HI, q + SPORT):
            return 2
    return 0


def is_end(sides: Any, k: int, packets: Any, address: int, port: int) -> bool:
    """Whether the three numbers at `k` are this address, both halves of it, and this port."""
    same = sides[k] == packets[address] and sides[k + 1] == packets[address + 1] and sides[k + 2] == packets[port]
    return bool(same)


def open_row(rows: Any, c: int, packets: Any, q: int, uid: int, service: Any, sides: Any) -> bool:
    """Fill a row of zeros from its first segment; returns whether that segment is the client's."""
    flags = packets[q + FLAGS]
    source = side_of(sides, packets[q + SRC_HI], packets[q + SRC_LO])
    destination = side_of(sides, packets[q + DST_HI], packets[q + DST_LO])
    told = client_of(sides, packets, q)
    if flags & SYN and flags & ACK_FLAG:
        from_client = False
        rows[c + ORIENTED] = BY_SYN_ACK
    elif flags & SYN:
        from_client = True
        rows[c + ORIENTED] = BY_SYN
    elif told != 0:
        from_client = told == 1
        rows[c + ORIENTED] = BY_CAPTURE
    elif source != destination:
        from_client = source == 1 or destination == 2
        rows[c + ORIENTED] = BY_NETWORK
    elif service[packets[q + SPORT]] != service[packets[q + DPORT]]:
        from_client = not service[packets[q + SPORT]]
        rows[c + ORIENTED] = BY_PORT
    else:
        from_client = True
        rows[c + ORIENTED] = BY_FIRST
    if from_client:
        rows[c + C_HI], rows[c + C_LO], rows[c + C_PORT] = packets[q + SRC_HI], packets[q + SRC_LO], packets[q + SPORT]
        rows[c + S_HI], rows[c + S_LO], rows[c + S_PORT] = packets[q + DST_HI], packets[q + DST_LO], packets[q + DPORT]
    else:
        rows[c + C_HI], rows[c + C_LO], rows[c + C_PORT] = packets[q + DST_HI], packets[q + DST_LO], packets[q + DPORT]
        rows[c + S_HI], rows[c + S_LO], rows[c + S_PORT] = packets[q + SRC_HI], packets[q + SRC_LO], packets[q + SPORT]
        add_letter(rows, c, L_FLIP)
    if not flags & SYN:
        rows[c + ODD] = ODD_MIDSTREAM
    rows[c + UID] = uid
    rows[c + FIRST_TS] = packets[q + TS]
    rows[c + FIRST_NO] = packets[q + NO]
    rows[c + LAST_TS] = packets[q + TS]
    rows[c + LAST_NO] = packets[q + NO]
    rows[c + PATH_SEEN] = packets[q + PATH]
    rows[c + SIDE + ISN] = -1
    rows[c + SIDE + SIDE_FIELDS + ISN] = -1
    return from_client


def classify(
    rows: Any, c: int, s: int, p: int, flags: int, position: int, size: int, length: int, win: int, ts: int
) -> int:
    """tshark's verdict on one segment of side `s`, before the row takes the segment in."""
    acked = length > 0 and rows[s + SEEN] > 0 and position + length <= rows[p + LAST_ACK_NO]
    plain = flags & (SYN | FIN | RST) == 0
    nxt = rows[s + NXT]
    # The capture began on an idle connection: a probe repeats a byte that the peer has acknowledged, nothing else was sent.
    if length <= 1 and plain and rows[s + DATA_FIRST_TS] == 0 and rows[s + ISN] < 0 and position == rows[s + UNA] - 1:
        return K_KEEPALIVE
    if rows[s + SEEN] != 2:
        return K_RETX | K_SPURIOUS if acked else 0
    kind = 0
    if length == 1 and plain and position == nxt and rows[p + SEEN] == 2 and rows[p + LAST_WIN] == 0:
        kind |= K_ZERO_PROBE
    if position > nxt and not flags & RST:
        kind |= K_LOST
    if length <= 1 and plain and position == nxt - 1:
        return kind | K_KEEPALIVE
    if size == 0 or flags & RST or (position >= nxt and not acked):
        return kind
    if length > 1 and position == nxt - 1 and not acked:
        return kind  # new data that repeats the byte of a keepalive or window probe
    # Data, a SYN or a FIN that does not advance the sequence: out of order or a retransmission.
    if rows[s + DUP_ACKS] >= 2 and rows[p + LAST_ACK_NO] == position and ts - rows[p + SIDE_LAST_TS] < FAST_WITHIN_NS:
        return kind | K_RETX | K_FAST
    if acked:
        return kind | K_RETX | K_SPURIOUS
    rtt = OUT_OF_ORDER_DEFAULT_NS
    if rows[c + HANDSHAKE_NS] > 0:
        rtt = rows[c + HANDSHAKE_NS]
    if ts - rows[s + NXT_TS] < rtt and nxt != position + size:
        return kind | K_OOO
    return kind | K_RETX


def began_probing(rows: Any, s: int, p: int) -> bool:
    """Whether all that was seen of side `s` are empty segments at one place, and of its peer nothing but acknowledgements.

    If the peer has a byte more, they were keepalive probes: these stand one before the next byte to be sent (RFC 9293 §3.8.4), which a
    capture that begins on an idle connection cannot know.
    """
    empty = rows[s + NXT] == rows[s + START] and rows[s + FINS] + rows[p + FINS] + rows[p + DATA_FIRST_TS] == 0
    return bool(rows[s + ISN] < 0 and empty)


def of_another(rows: Any, c: int, from_client: bool, flags: int, seq: int, ack: int) -> bool:
    """Whether a segment between a SYN and its SYN-ACK is about an earlier connection of these ports.

    A host that still holds one answers the SYN with an acknowledgement of that (RFC 9293 §3.5.1, RFC 5961 §4), and the client
    resets it by the number that it was told: neither begins, acknowledges or resets anything of this one.
    """
    client = c + SIDE
    first = rows[client + START] & 0xFFFFFFFF
    sent = rows[client + NXT] - rows[client + START]
    if flags & SYN or rows[client + ISN] < 0 or rows[client + SIDE_FIELDS + ISN] >= 0:
        return False
    if from_client:
        return bool(flags & RST and rows[c + ODD] & ODD_HALF_OPEN and not -1 <= delta32(seq, first) <= sent)
    return bool(flags & ACK_FLAG and not flags & RST and not 0 <= delta32(ack, first) <= sent + MISSED_AT_MOST)


def identity(packets: Any, q: int, ends: int) -> int:
    """63 bits of what copies of one packet share: connection and direction, sequence and acknowledgement, time stamp."""
    stamp = (packets[q + TSVAL] + 1) & 0x3FFFFFF
    key: int = packets[q + SEQ] ^ (packets[q + ACK] << 30) ^ (stamp << 36) ^ (ends & 0x3FFFFFFFFFFFFFF)
    return key


def shape(packets: Any, q: int) -> int:
    """The rest of it: flags, window, length and IP identification; never 0."""
    head = packets[q + FLAGS] | packets[q + WIN] << 8 | (packets[q + IPID] + 1) << 24
    bits: int = head | (packets[q + LEN] & 0xFFFFF) << 41 | 1 << 61
    return bits


def vantage(packets: Any, q: int) -> int:
    """Where a packet was seen: interface, VLAN path and TTL in one number."""
    place: int = packets[q + IFACE] ^ ((packets[q + PATH] & 0x1FFFFFFFFFFF) << 8) ^ (packets[q + TTL] << 54)
    return place


def doubled(rows: Any, packets: Any, q: int, recent: Any, d: int) -> bool:
    """Whether a packet without IP identification is a copy that came by the same way, as IPv6 at a mirrored port.

    Within so short a time only duplicate acknowledgements make a sender repeat itself: not where its peer was silent since. Its
    time stamp then is the same; acknowledgements may well be alike, and are copies where other segments have been.
    """
    c = (recent[d + D_OWNER] >> 1) * N_FIELDS
    p = c + (SIDE if recent[d + D_OWNER] & 1 else SIDE + SIDE_FIELDS)
    if packets[q + LEN] > 0 or packets[q + FLAGS] & (SYN | FIN):
        if packets[q + TSVAL] < 0 or rows[p + SIDE_LAST_TS] > recent[d + D_TS]:
            return False
        rows[c + ODD] |= ODD_DOUBLED
    return bool(rows[c + ODD] & ODD_DOUBLED)


@kernel(
    doubled,
    began_probing,
    of_another,
    identity,
    shape,
    vantage,
    delta32,
    extend,
    mix,
    add_letter,
    once_letter,
    scaled_letter,
    enter,
    zeek_step,
    opens_anew,
    side_of,
    is_end,
    client_of,
    open_row,
    classify,
)
def track(
    packets: Column,
    n: int,
    rows: Column,
    index: Index,
    mask: int,
    counters: Column,
    service: Column,
    sides: Column,
    transitions: Column,
    recent: Column,
    uids: Column,
    kinds: Column,
) -> None:
    """Take `n` segments in.

    `rows` must have zeroed room for `n` more; `index`, of `mask` + 1 entries, a power of two, must stay half empty;
    `recent` remembers `RECENT` packets (see `fields`).
    """
    for k in range(n):
        q = k * N_COLUMNS
        ts = packets[q + TS]
        number = packets[q + NO]
        flags = packets[q + FLAGS]
        seq = packets[q + SEQ]
        length = packets[q + LEN]
        # ---- find the connection
        src_hi, src_lo, sport = packets[q + SRC_HI], packets[q + SRC_LO], packets[q + SPORT]
        dst_hi, dst_lo, dport = packets[q + DST_HI], packets[q + DST_LO], packets[q + DPORT]
        source, destination = mix(src_hi, src_lo, sport), mix(dst_hi, dst_lo, dport)
        # ---- a copy of a packet counts nowhere: the same bytes elsewhere, or with the same IP identification. A sender's
        # repetition has an identification of its own or, where that is 0 or absent, comes by the same way (but see `doubled`).
        key = identity(packets, q, source ^ (destination >> 1))
        form = shape(packets, q)
        where = vantage(packets, q)
        entry = (key ^ (key >> 23) ^ (key >> 41) ^ (form >> 24) ^ (form >> 41)) & (RECENT - 1)
        d = RECENT + entry * N_RECENT
        if (
            recent[entry] == key
            and recent[d + D_SHAPE] == form
            and abs(ts - recent[d + D_TS]) <= COPY_WITHIN_NS
            and (packets[q + IPID] > 0 or recent[d + D_WHERE] != where or doubled(rows, packets, q, recent, d))
        ):
            uids[k] = recent[d + D_OWNER] >> 1
            kinds[k] = K_DUPLICATE | (recent[d + D_OWNER] & 1)
            counters[T_DUPLICATES] += 1
            continue
        slot = (source ^ destination) & mask
        from_client = True
        fresh = True
        c = 0
        while index[slot] != 0:
            c = (index[slot] - 1) * N_FIELDS
            if (
                rows[c + C_LO] == src_lo
                and rows[c + S_LO] == dst_lo
                and rows[c + C_PORT] == sport
                and rows[c + S_PORT] == dport
                and rows[c + C_HI] == src_hi
                and rows[c + S_HI] == dst_hi
            ):
                fresh = False
                break
            if (
                rows[c + C_LO] == dst_lo
                and rows[c + S_LO] == src_lo
                and rows[c + C_PORT] == dport
                and rows[c + S_PORT] == sport
                and rows[c + C_HI] == dst_hi
                and rows[c + S_HI] == src_hi
            ):
                from_client = False
                fresh = False
                break
            slot = (slot + 1) & mask
        if not fresh and opens_anew(rows, c, from_client, flags, seq, packets[q + ACK]):
            rows[c + GONE] = 1
            fresh = True
        if fresh:
            row = counters[T_ROWS]
            counters[T_ROWS] = row + 1
            index[slot] = row + 1
            c = row * N_FIELDS
            from_client = open_row(rows, c, packets, q, row, service, sides)
        s = c + (SIDE if from_client else SIDE + SIDE_FIELDS)
        p = c + (SIDE + SIDE_FIELDS if from_client else SIDE)
        upper = 1 if from_client else 0
        recent[entry] = key
        recent[d + D_SHAPE] = form
        recent[d + D_TS] = ts
        recent[d + D_WHERE] = where
        recent[d + D_OWNER] = rows[c + UID] << 1 | (1 - upper)
        # A keepalive probe is reported like a copy: only after a retransmission does it say that that was one.
        if packets[q + OPTIONS] & O_DSACK and rows[p + RETX] > 0:
            rows[c + ODD] |= ODD_DSACK
        # ---- time
        gap = ts - rows[c + LAST_TS]
        if gap < 0:
            rows[c + ODD] |= ODD_BACKWARDS
        elif gap > rows[c + IDLE_NS]:
            rows[c + IDLE_NS] = gap
        if (
            rows[c + SYN_ACK_TS] == 0
            and rows[c + SYN_TS] > 0
            and of_another(rows, c, from_client, flags, seq, packets[q + ACK])
        ):
            rows[c + ODD] |= ODD_HALF_OPEN
            rows[s + PKTS] += 1
            rows[c + LAST_TS] = max(rows[c + LAST_TS], ts)
            rows[c + LAST_NO] = number
            uids[k] = rows[c + UID]
            kinds[k] = K_OF_ANOTHER | (1 - upper)
            continue
        # ---- where the segment stands
        size = length
        if flags & SYN:
            size += 1
        if flags & FIN:
            size += 1
        if rows[s + SEEN] == 0 or (rows[s + SEEN] == 1 and flags & SYN):
            position = seq + 0x100000000
        else:
            position = extend(seq, rows[s + NXT])
        kind = classify(rows, c, s, p, flags, position, size, length, packets[q + WIN], ts)
        if not from_client:
            kind |= K_SERVER
        # ---- history (Zeek)
        bits = (1 if flags & SYN else 0) + (1 if flags & FIN else 0) + (1 if flags & RST else 0)
        if bits > 1:
            once_letter(
                rows,
                c,
                s,
                B_FIN_RST if flags & FIN and flags & RST else B_MULTI,
                L_FIN_RST if flags & FIN and flags & RST else L_MULTI,
                upper,
            )
        elif flags & SYN:
            bit = B_SYN_ACK if flags & ACK_FLAG else B_SYN
            if not rows[s + BITS] & bit or (rows[s + ISN] >= 0 and rows[s + ISN] != seq):
                rows[s + BITS] |= bit
                add_letter(rows, c, (L_SYN_ACK if flags & ACK_FLAG else L_SYN) + upper)
        elif flags & FIN:
            if not rows[s + BITS] & B_FIN or position + size != rows[s + FIN_END]:
                rows[s + BITS] |= B_FIN
                add_letter(rows, c, L_FIN + upper)
        elif flags & RST:
            if not rows[s + BITS] & B_RST:
                rows[s + BITS] |= B_RST
                add_letter(rows, c, L_RST + upper)
        elif length > 0:
            once_letter(rows, c, s, B_DATA, L_DATA, upper)
        elif flags & ACK_FLAG:
            once_letter(rows, c, s, B_ACK, L_ACK, upper)
        if length > 0 and rows[s + SEEN] == 2 and position + size <= rows[s + NXT] and rows[s + ZEEK] != Z_RESET:
            scaled_letter(rows, c, s, 0, L_RETX, upper)
        if packets[q + WIN] == 0 and not flags & RST and rows[p + ZEEK] != Z_CLOSED and rows[s + ZEEK] != Z_RESET:
            scaled_letter(rows, c, s, 20, L_WIN, upper)
        # ---- a client that writes after a long rest: keepalive probes and acknowledgements are its kernel's
        if from_client and size > 0 and not flags & (SYN | RST) and position >= rows[s + NXT] and rows[s + SEEN] == 2:
            quiet = ts - (rows[s + DATA_LAST_TS] if rows[s + DATA_LAST_TS] > 0 else rows[s + SIDE_LAST_TS])
            if quiet >= WAKE_AFTER and length > 0:
                kind |= K_WAKE
                rows[c + WAKE_TS] = ts
                rows[c + WAKE_GAP] = quiet
        # ---- the sender's sequence space
        if rows[s + SEEN] == 0 or (rows[s + SEEN] == 1 and flags & SYN):
            rows[s + START] = position + 1 if flags & SYN else position
            rows[s + NXT] = position
            rows[s + CONTIGUOUS] = position
            if rows[s + SEEN] == 0 or flags & SYN:
                rows[s + UNA] = rows[s + START] if not flags & SYN else 0
        elif rows[s + SEEN] == 1:
            rows[s + CONTIGUOUS] = position
        rows[s + SEEN] = 2
        if flags & SYN:
            if rows[s + ISN] < 0:
                rows[s + ISN] = seq
                if rows[s + DATA_FIRST_TS] == 0:
                    rows[s + START] = position + 1
            if flags & ACK_FLAG:
                if rows[c + SYN_ACK_TS] == 0:
                    rows[c + SYN_ACK_TS] = ts
            else:
                rows[c + SYN_COUNT] += 1
                if length > 0 or packets[q + OPTIONS] & O_FAST_OPEN:
                    rows[c + ODD] |= ODD_FAST_OPEN
                if packets[q + OPTIONS] & O_MPTCP:
                    rows[c + ODD] |= ODD_MPTCP
                if rows[c + SYN_TS] == 0:
                    rows[c + SYN_TS] = ts
                elif not from_client:
                    acked = rows[p + UNA] >= rows[p + START]
                    rows[c + ODD] |= ODD_SPLIT_HANDSHAKE if acked else ODD_SIMULTANEOUS
        if not flags & RST:
            if kind & K_LOST:
                rows[s + HOLE] += position - rows[s + NXT] - (1 if rows[s + BITS] & B_PROBED else 0)
            elif kind & (K_RETX | K_OOO) and not kind & K_SPURIOUS and length > 0 and rows[s + HOLE] > 0:
                rows[s + HOLE] = max(0, rows[s + HOLE] - length)
            if length > 0 and not kind & K_KEEPALIVE:
                if rows[s + NXT] <= rows[s + UNA] or rows[s + UNACKED_TS] == 0:
                    rows[s + UNACKED_TS] = ts
                if position + size > rows[s + NXT]:
                    kind |= K_NEW_DATA
            if kind & K_ZERO_PROBE:
                rows[s + BITS] |= B_PROBED
            else:
                if position + size > rows[s + NXT]:
                    rows[s + NXT] = position + size
                    rows[s + NXT_TS] = ts
                    rows[s + BITS] &= ~B_PROBED
                if position == rows[s + CONTIGUOUS]:
                    rows[s + CONTIGUOUS] = rows[s + NXT]
        # ---- counts
        rows[s + PKTS] += 1
        if kind & K_RETX:
            rows[s + RETX] += 1
            rows[s + UNACKED_RETX] += 1
        if kind & K_OOO:
            rows[s + OOO] += 1
        if kind & K_KEEPALIVE:
            rows[s + KEEPALIVES] += 1
        if packets[q + WIN] == 0 and not flags & (RST | FIN | SYN):
            rows[s + ZERO_WINDOWS] += 1
            kind |= K_ZERO_WINDOW
        if length > 0 and not kind & K_KEEPALIVE:
            if rows[s + DATA_FIRST_TS] == 0:
                rows[s + DATA_FIRST_TS] = ts
            rows[s + DATA_LAST_TS] = ts
        rows[c + MARKS_SEEN] |= packets[q + MARKS]
        # ---- what the sender acknowledges
        fin_acked = False
        if flags & ACK_FLAG and not (flags & RST and packets[q + ACK] == 0):
            if rows[p + SEEN] == 0:
                rows[p + SEEN] = 1
                rows[p + START] = packets[q + ACK] + 0x100000000
                rows[p + NXT] = rows[p + START]
                rows[p + UNA] = rows[p + START]
            ack = extend(packets[q + ACK], rows[p + NXT])
            if not flags & RST:
                if rows[p + SEEN] == 1:
                    rows[p + NXT] = max(ack, rows[p + NXT])
                else:
                    if ack == rows[p + NXT] + 1 and size == 0 and began_probing(rows, p, s):
                        rows[p + START] = ack
                        rows[p + NXT] = ack
                        rows[p + CONTIGUOUS] = ack
                    if ack > rows[p + CONTIGUOUS]:
                        kind |= K_ACKED_UNSEEN
                        rows[p + CONTIGUOUS] = rows[p + NXT]
                    if ack > rows[p + NXT] and ack > rows[p + UNA]:
                        # Not yet a hole: the data may follow, in a capture whose order is not the wire's.
                        rows[c + ODD] |= ODD_ACKED_UNSEEN
                        scaled_letter(rows, c, p, 40, L_GAP, 1 - upper)
                if ack > rows[p + UNA]:
                    rows[p + UNA] = ack
                    rows[p + UNACKED_RETX] = 0
                    rows[p + UNACKED_TS] = ts if ack < rows[p + NXT] else 0
                if ack != rows[s + LAST_ACK_NO]:
                    rows[p + DUP_ACKS] = 0
                elif (
                    size == 0
                    and not kind & K_LOST
                    and position == rows[s + NXT]
                    and packets[q + WIN] == rows[s + LAST_WIN]
                    and packets[q + WIN] != 0
                ):
                    if rows[p + BITS] & B_KEEPALIVE:
                        kind |= K_KEEPALIVE_ACK
                    else:
                        rows[p + DUP_ACKS] += 1
                        kind |= K_DUP_ACK
                rows[s + LAST_ACK_NO] = ack
                if from_client and rows[c + SYN_ACK_TS] > 0 and rows[c + ESTABLISHED_TS] == 0 and not flags & SYN:
                    rows[c + ESTABLISHED_TS] = ts
                    if rows[c + SYN_TS] > 0:
                        rows[c + HANDSHAKE_NS] = max(ts - rows[s + SIDE_LAST_TS], 1)
                if rows[p + FINS] > 0 and ack >= rows[p + FIN_END]:
                    fin_acked = True
        rows[s + LAST_WIN] = packets[q + WIN]
        if kind & K_KEEPALIVE:
            rows[s + BITS] |= B_KEEPALIVE
        else:
            rows[s + BITS] &= ~B_KEEPALIVE
        # ---- states (RFC 9293): an acknowledgement is taken before the FIN in the same segment
        changed = False
        if rows[s + STATE_BEFORE_RST] > 0 and not flags & RST and ts - rows[p + RST_TS] > RESET_LOST_AFTER_NS:
            rows[s + STATE] = rows[s + STATE_BEFORE_RST] - 1
            rows[s + STATE_TS] = ts
            rows[s + STATE_BEFORE_RST] = 0
            changed = True
        if flags & RST:
            if rows[p + STATE] != CLOSED:
                rows[p + STATE_BEFORE_RST] = rows[p + STATE] + 1
            changed |= enter(rows, s, SENDS_RST, ts, transitions)
            changed |= enter(rows, p, GETS_RST, ts, transitions)
        else:
            if flags & SYN:
                changed |= enter(rows, s, SENDS_SYN_ACK if flags & ACK_FLAG else SENDS_SYN, ts, transitions)
            elif flags & ACK_FLAG or length > 0:
                changed |= enter(rows, s, SENDS, ts, transitions)
            if flags & ACK_FLAG:
                changed |= enter(rows, p, SYN_ACKED, ts, transitions)
            if fin_acked:
                changed |= enter(rows, s, ACKS_FIN, ts, transitions)
                changed |= enter(rows, p, FIN_ACKED, ts, transitions)
                if rows[p + FIN_ACKED_TS] == 0:
                    rows[p + FIN_ACKED_TS] = ts
            if flags & FIN:
                changed |= enter(rows, s, SENDS_FIN, ts, transitions)
        if changed:
            kind |= K_STATE
        zeek_step(rows, s, p, flags, length, from_client)
        # ---- the end
        if flags & FIN:
            if rows[s + FINS] == 0:
                rows[s + FIN_TS] = ts
            rows[s + FIN_END] = position + size
            rows[s + FINS] += 1
            rows[s + FIN_LAST_TS] = ts
            if rows[c + END_BY] == 0:
                rows[c + END_BY] = 1 if from_client else 2
                rows[c + END_TS] = ts
        if flags & RST:
            if rows[s + RSTS] == 0:
                rows[s + RST_TS] = ts
            rows[s + RSTS] += 1
            if rows[c + END_BY] == 0:
                rows[c + END_BY] = 3 if from_client else 4
                rows[c + END_TS] = ts
            if (
                not from_client
                and rows[c + WAKE_TS] > 0
                and rows[s + SIDE_LAST_TS] < rows[c + WAKE_TS]
                and rows[c + RST_GAP] == 0
            ):
                rows[c + RST_GAP] = rows[c + WAKE_GAP]
        else:
            rows[s + TTL_SEEN] = packets[q + TTL]
            tsval = packets[q + TSVAL]
            if tsval >= 0:
                pause = ts - rows[s + SIDE_LAST_TS]
                if pause >= WAKE_AFTER and rows[s + CLOCK_SEEN] > 0:
                    ticks = delta32(tsval, rows[s + CLOCK_SEEN] - 1)
                    if ticks >= 0 and 2 * ticks * TICK_NS < pause:
                        rows[s + BITS] |= B_CLOCK_BEHIND
                rows[s + CLOCK_SEEN] = tsval + 1
        rows[s + SIDE_LAST_TS] = ts
        rows[c + LAST_TS] = max(rows[c + LAST_TS], ts)
        rows[c + LAST_NO] = number
        uids[k] = rows[c + UID]
        kinds[k] = kind


@kernel(mix)
def reindex(rows: Column, n: int, index: Index, mask: int) -> None:
    """Fill an empty `index` with the `n` rows that are not `GONE`."""
    for row in range(n):
        c = row * N_FIELDS
        if rows[c + GONE]:
            continue
        slot = (
            mix(rows[c + C_HI], rows[c + C_LO], rows[c + C_PORT])
            ^ mix(rows[c + S_HI], rows[c + S_LO], rows[c + S_PORT])
        ) & mask
        while index[slot] != 0:
            slot = (slot + 1) & mask
        index[slot] = row + 1
