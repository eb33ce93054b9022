"""The fields of one connection's row while it is tracked, and of one segment's classification.

A row is 104 int64, 832 bytes, 13 cache lines: what every rule needs to decide whether a connection is worth a closer look, and all that
the connection table shows. Times are ns since the epoch; 0 means "never". Sequence positions are 64-bit (see `sequence`).
"""

from __future__ import annotations

# ---- the connection
UID = 0  # order of creation in this capture point
C_HI, C_LO, C_PORT, S_HI, S_LO, S_PORT = range(1, 7)  # client and server address
FIRST_TS, LAST_TS, FIRST_NO, LAST_NO = range(7, 11)
ORIENTED = 11  # what settled the direction, below
HISTORY_N = 12  # letters so far
HISTORY = 13  # … 16: four words of twelve 5-bit letters
HISTORY_WORDS = 4
SYN_TS = 17  # first SYN
SYN_ACK_TS = 18  # first SYN-ACK
ESTABLISHED_TS = 19  # first segment of the client that acknowledges the SYN-ACK
END_BY = 20  # 1 client FIN, 2 server FIN, 3 client RST, 4 server RST
END_TS = 21
IDLE_NS = 22  # longest silence of both sides between two segments
WAKE_TS = 23  # latest client payload that followed its payload before by at least WAKE_AFTER
WAKE_GAP = 24  # … and by how much
RST_GAP = 25  # rest before the client payload that the server answered with RST and nothing else
MARKS_SEEN = 26  # application markers of all segments, or-ed
GONE = 27  # 1: replaced by a later incarnation of the same 4-tuple
ODD = 28  # oddities, bits below
SYN_COUNT = 29
HANDSHAKE_NS = 30  # from the client's latest SYN to its acknowledgement of the SYN-ACK, 0 if not seen
PATH_SEEN = 31  # of the first segment

# ---- one side: client at SIDE, server at SIDE + SIDE_FIELDS
SIDE = 32
SIDE_FIELDS = 36
PKTS = 0
SEEN = 1  # 0 nothing known, 1 known from the peer's ACK only, 2 has sent
ISN = 2  # -1 when the SYN was not seen
START = 3  # position of the first payload byte
NXT = 4  # highest position sent, SYN and FIN included
NXT_TS = 5
CONTIGUOUS = 6  # highest position sent without a hole before it, as tshark follows it
UNA = 7  # highest position acknowledged by the peer
UNACKED_TS = 8  # when the oldest unacknowledged payload was first sent
UNACKED_RETX = 9  # retransmissions since the last acknowledged progress
RETX = 10  # retransmissions, as tshark's tcp.analysis.retransmission counts them
OOO = 11
KEEPALIVES = 12  # keepalive probes (RFC 9293 §3.8.4)
ZERO_WINDOWS = 13
HOLE = 14  # bytes of the sequence space below NXT never seen here
FIN_TS, FIN_END, FINS, FIN_ACKED_TS, FIN_LAST_TS = range(15, 20)
RST_TS, RSTS = 20, 21
SIDE_LAST_TS = 22
DATA_FIRST_TS, DATA_LAST_TS = 23, 24  # payload
LAST_ACK_NO = 25  # last acknowledgement number sent (position in the peer's space), 0 for none
DUP_ACKS = 26  # of the peer, in a row, as tshark counts them
LAST_WIN = 27
STATE = 28  # RFC 9293
STATE_TS = 29
STATE_BEFORE_RST = 30
ZEEK = 31
BITS = 32  # what this side has done, below
TTL_SEEN = 33  # of the last segment that is no RST
T_COUNT = 34  # counters of Zeek's T, W and G letters, 20 bits each
CLOCK_SEEN = 35  # its latest TSval (RFC 7323) + 1, 0 for none

N_FIELDS = SIDE + 2 * SIDE_FIELDS  # 104

# ---- bits of a side; the history letters that Zeek writes once come first
B_FIN_RST, B_MULTI, B_SYN_ACK, B_SYN, B_FIN, B_RST, B_DATA, B_ACK = (1 << k for k in range(8))
B_PROBED = 256  # its last byte sent was a zero-window probe, which NXT does not count
B_KEEPALIVE = 512  # its latest segment was a keepalive probe
B_CLOCK_BEHIND = (
    1024  # its TSval advanced by less than half of a pause of WAKE_AFTER or more, if it ticks every TICK_NS
)

# ---- what settled the direction (DESIGN: sender of the SYN; receiver of the SYN-ACK; service port; first sender), a network that
# the user named, or what another capture knows of the connection
BY_SYN, BY_SYN_ACK, BY_PORT, BY_FIRST, BY_NETWORK, BY_CAPTURE = range(6)

# ---- oddities
ODD_MIDSTREAM = 1  # first segment is neither SYN nor SYN-ACK
ODD_SIMULTANEOUS = 2  # both sides sent a SYN
ODD_BACKWARDS = 4  # time stamps went backwards
ODD_ACKED_UNSEEN = 8  # data acknowledged that the capture never saw
ODD_SPLIT_HANDSHAKE = 16  # the server acknowledged the SYN and sent its own apart from that
ODD_FAST_OPEN = 32  # a SYN with data or with a cookie (RFC 7413)
ODD_MPTCP = 64  # one path of a Multipath TCP connection (RFC 8684)
ODD_DSACK = 128  # a receiver said that something came twice (RFC 2883)
ODD_DOUBLED = 256  # segments without IP identification were captured twice at the same place
ODD_HALF_OPEN = (
    512  # the SYN was answered for an earlier connection of these ports, which the peer still held (RFC 9293 §3.5.1)
)

#: How often TSval ticks on Linux from 4.13 on, and on most others.
TICK_NS = 1_000_000
#: A client that sent no data for this long before it writes has "woken": the least stall that any rule speaks of (DESIGN §6).
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
K_DUPLICATE = 16384  # a copy of a packet already seen: counted nowhere
K_KEEPALIVE_ACK = 32768
K_OF_ANOTHER = 65536  # of an earlier connection of the same ports, in answer to this one's SYN: moves nothing here

# ---- a packet remembered to know its copies by: `RECENT` keys (4-tuple, direction, sequence, acknowledgement and time stamp, folded
# together), which every packet looks at and which fit the nearest cache, then as many times these
(
    D_SHAPE,  # flags, window, length and IP identification
    D_TS,
    D_WHERE,  # interface, path and TTL
    D_OWNER,  # the connection's row and side
) = range(4)
N_RECENT = 4  # half a cache line
#: Packets remembered, the latest of each hash: those of 2 ms at two million a second. A power of two.
RECENT = 4096
#: Copies of one packet stand within this time in a capture (DESIGN: bridge and veth, both mirrored ports).
COPY_WITHIN_NS = 2_000_000

# ---- tracker counters
T_ROWS, T_DUPLICATES = range(2)
N_TRACKER = 2
