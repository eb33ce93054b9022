"""The fields of one connection's row while it is tracked, and of one segment's classification.

A row is 128 int64, 1 KB: what every rule needs to decide whether a connection is worth a closer look, and all that the
connection table shows. Times are ns since the epoch; 0 means "never". Sequence positions are 64-bit (see `sequence`).
"""

from __future__ import annotations

# ---- the connection
UID = 0  # order of creation in this capture point
C_HI, C_LO, C_PORT, S_HI, S_LO, S_PORT = range(1, 7)  # client and server address
FIRST_TS, LAST_TS, FIRST_NO, LAST_NO = range(7, 11)
ORIENTED = 11  # what settled the direction, below
HISTORY_N = 12  # letters so far
HISTORY = 13  # … 18: six words of twelve 5-bit letters
HISTORY_WORDS = 6
SYN_TS = 19  # first SYN
SYN_ACK_TS = 20  # first SYN-ACK
ESTABLISHED_TS = 21  # first segment of the client that acknowledges the SYN-ACK
END_BY = 22  # 1 client FIN, 2 server FIN, 3 client RST, 4 server RST
END_TS, END_NO = 23, 24
IDLE_NS = 25  # longest silence of both sides between two segments
IDLE_FROM_NO, IDLE_TO_NO = 26, 27
WAKE_TS, WAKE_NO = 28, 29  # latest client payload that followed a silence of the client of at least WAKE_AFTER
WAKE_GAP = 30  # … and that silence
RST_GAP = 31  # silence before the client payload that the server answered with RST and nothing else
MARKS_SEEN = 32  # application markers of all segments, or-ed
PATH_SEEN = 33
GONE = 34  # 1: replaced by a later incarnation of the same 4-tuple
ODD = 35  # oddities, bits below
SYN_COUNT = 36
HANDSHAKE_NS = 37  # from the client's latest SYN to its acknowledgement of the SYN-ACK, 0 if not seen
PROBED = 38  # sides (1 client, 2 server) whose last byte sent was a zero-window probe, which NXT does not count

# ---- one side: client at SIDE, server at SIDE + SIDE_FIELDS
SIDE = 40
SIDE_FIELDS = 44
PKTS = 0
PAYLOAD = 1  # bytes as they passed, retransmissions included
SEEN = 2  # 0 nothing known, 1 known from the peer's ACK only, 2 has sent
ISN = 3  # -1 when the SYN was not seen
START = 4  # position of the first payload byte
NXT = 5  # highest position sent, SYN and FIN included
NXT_TS = 6
UNA = 7  # highest position acknowledged by the peer
UNACKED_TS = 8  # when the oldest unacknowledged payload was first sent
UNACKED_RETX = 9  # retransmissions since the last acknowledged progress
RETX = 10  # retransmissions, as tshark's tcp.analysis.retransmission counts them
OOO = 11
KEEPALIVES = 12  # keepalive probes (RFC 9293 §3.8.4)
ZERO_WINDOWS = 13
HOLE = 14  # bytes of the sequence space below NXT never seen here
FIN_TS, FIN_NO, FIN_END, FINS, FIN_ACKED_TS, FIN_LAST_TS = range(15, 21)
RST_TS, RST_NO, RSTS = 21, 22, 23
RST_FLAGS = 24  # TCP flags of the first RST
SIDE_FIRST_TS, SIDE_LAST_TS = 25, 26
DATA_FIRST_TS, DATA_LAST_TS = 27, 28  # payload
LAST_ACK_NO = 29  # last acknowledgement number sent (position in the peer's space)
LAST_ACK_TS = 30
DUP_ACKS = 31  # of the peer, in a row, as tshark counts them
LAST_WIN = 32
STATE = 33  # RFC 9293
STATE_TS = 34
STATE_BEFORE_RST = 35
ZEEK = 36
HIST_BITS = 37
TTL_SEEN = 38  # of the last segment that is no RST
TS_FIRST, TS_FIRST_AT, TS_LAST, TS_LAST_AT = 39, 40, 41, 42  # TCP timestamps and when they were seen
T_COUNT = 43  # counters of Zeek's T, W and G letters, 20 bits each

N_FIELDS = SIDE + 2 * SIDE_FIELDS  # 128

# ---- what settled the direction (DESIGN: sender of the SYN; receiver of the SYN-ACK; service port; first sender)
BY_SYN, BY_SYN_ACK, BY_PORT, BY_FIRST = range(4)

# ---- oddities
ODD_MIDSTREAM = 1  # first segment is neither SYN nor SYN-ACK
ODD_SIMULTANEOUS = 2  # both sides sent a SYN
ODD_BACKWARDS = 4  # time stamps went backwards
ODD_ACKED_UNSEEN = 8  # data acknowledged that the capture never saw

#: A client silent for this long before it writes has "woken": the least stall that any rule speaks of (DESIGN §6).
WAKE_AFTER = 1_000_000_000

# ---- classification of one segment
K_SERVER = 1  # sent by the server
K_RETX = 2
K_OOO = 4
K_KEEPALIVE = 8
K_ZERO_PROBE = 16
K_FAST = 32
K_SPURIOUS = 64
K_DUP_ACK = 128
K_ZERO_WINDOW = 256
K_LOST = 512  # a hole before this segment
K_NEW_DATA = 1024
K_WAKE = 2048
K_ACKED_UNSEEN = 4096
K_STATE = 8192  # changed the state of an endpoint

# ---- tracker counters
T_ROWS, T_PACKETS = range(2)
N_TRACKER = 2
