"""The columns of one decoded TCP segment: the interface between the capture readers and everything after them.

A chunk of segments is a table of int64, one row a segment, laid end to end. Addresses are 128-bit numbers in two
halves; an IPv4 address is its IPv4-mapped IPv6 form (RFC 4291 §2.5.5.2), so that one code path serves both families.
`-1` means absent.
"""

TS = 0  # capture time, ns since the epoch
NO = 1  # record number in its file, 1-based as Wireshark counts
SRC_HI = 2  # upper 64 bits of the source address (as signed)
SRC_LO = 3  # lower 64 bits
DST_HI = 4
DST_LO = 5
SPORT = 6
DPORT = 7
FLAGS = 8  # TCP flags: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128
SEQ = 9
ACK = 10
LEN = 11  # payload bytes on the wire (from the IP length, not from what was captured)
WIN = 12  # as in the header, unscaled
TTL = 13  # or IPv6 hop limit
IPID = 14  # IPv4 identification, -1 in IPv6
TSVAL = 15  # TCP timestamp value, -1 without the option
TSECR = 16
WSCALE = 17  # window scale option of a SYN, -1 without
PATH = 18  # digest of the outer path: VLAN tags, labels, tunnels with their outer addresses; 0 for none
MARKS = 19  # application markers, bits below
OFFSET = 20  # where the payload starts, in bytes from the start of the (decompressed) file
CAPTURED = 21  # payload bytes captured
IFACE = 22  # where it was captured: a number that differs between interfaces and, in Linux cooked captures, directions
OPTIONS = 23  # TCP options that tell something by being there, bits below
N_COLUMNS = 24

O_SACK_PERMITTED = 1  # RFC 2018
O_SACK = 2
O_DSACK = 4  # the first block reports what had arrived twice (RFC 2883)
O_MPTCP = 8  # RFC 8684
O_FAST_OPEN = 16  # a cookie, or the wish for one (RFC 7413)

FIN, SYN, RST, PSH, ACK_FLAG = 1, 2, 4, 8, 16

#: IPv4-mapped prefix ::ffff:0:0/96, the lower half of such an address above its 32 bits.
V4_MAPPED = 0xFFFF << 32

# Markers: what the payload looks like, cheaply and without keys. Names follow RFC 9113 (HTTP/2) and RFC 8446 (TLS).
M_H2_PREFACE = 1
M_H2_SETTINGS = 2
M_H2_PING = 4
M_H2_PING_ACK = 8
M_H2_GOAWAY = 16
M_H2_HEADERS = 32
M_H2_RST_STREAM = 64
M_RESP_ERROR = 128  # "-ERR …": a Redis error reply
M_TLS = 256  # a TLS record
M_TLS_HANDSHAKE = 512
M_TLS_ALERT = 1024
M_TLS_CLIENT_HELLO = 1 << 11
M_TLS_SERVER_HELLO = 1 << 12
M_TLS_DATA = 1 << 13  # application data, whatever is inside
M_TLS_PING_SIZED = 1 << 14  # one record, alone, in which an HTTP/2 PING would just fit
M_TLS_ALERT_SIZED = 1 << 15  # one record of application data, alone, in which an alert of TLS 1.3 would just fit
M_H2_SETTINGS_ACK = 1 << 16
M_H2_WINDOW_UPDATE = 1 << 17
M_HTTP1_REQUEST = 1 << 18
M_HTTP1_RESPONSE = 1 << 19
M_MYSQL_ERROR = 1 << 20
M_PG_ERROR = 1 << 21
# Of a segment among those of its connection, likely but not certain: PING and its ACK inside TLS, by size and timing.
M_TLS_PING = 1 << 22
M_TLS_PING_ACK = 1 << 23
#: An HTTP/2 frame of any kind.
M_H2 = (
    M_H2_PREFACE | M_H2_SETTINGS | M_H2_PING | M_H2_PING_ACK | M_H2_GOAWAY | M_H2_HEADERS | M_H2_RST_STREAM
    | M_H2_SETTINGS_ACK | M_H2_WINDOW_UPDATE
)  # fmt: skip
#: A PING or its ACK, seen or likely.
M_PING = M_H2_PING | M_TLS_PING
M_PING_ACK = M_H2_PING_ACK | M_TLS_PING_ACK
#: An error reply of a database.
M_ERROR = M_RESP_ERROR | M_MYSQL_ERROR | M_PG_ERROR
M_HTTP1 = M_HTTP1_REQUEST | M_HTTP1_RESPONSE
#: Names the server.
M_HELLO = M_TLS_CLIENT_HELLO | M_TLS_SERVER_HELLO
#: Says why something ends.
M_WHY = M_H2_GOAWAY | M_H2_RST_STREAM | M_TLS_ALERT | M_ERROR
#: An event of its own.
M_NOTABLE = M_WHY | M_PING | M_PING_ACK | M_TLS_ALERT_SIZED
#: Payloads whose text is evidence and is kept while reading.
M_KEEP = M_WHY | M_HELLO | M_HTTP1

# Columns of one record as the container gives it.
R_OFFSET, R_CAPLEN, R_LEN, R_TS, R_NO, R_LINK, R_IFACE = range(7)
# … and as `unwrap` completes it: IPv4 or IPv6 (its EtherType, -1 where no TCP follows), where its header begins, `PATH`.
R_KIND, R_AT, R_PATH = range(7, 10)
N_RECORD = 10

# Tallies of a decode, so that nothing is lost silently.
(
    C_TCP,  # TCP segments decoded
    C_NOT_IP,  # other EtherTypes (ARP …)
    C_NOT_TCP,  # IP, another protocol
    C_FRAGMENT,  # IP fragments after the first
    C_CUT,  # headers cut by the snap length
    C_MALFORMED,  # header lengths that cannot be
    C_LINK,  # link type not decoded
    C_MARKS,  # markers of the segments of the latest run, or-ed
    C_FIRST,  # earliest known time of any record, 0 if none
    C_LAST,  # latest
    C_DEEP,  # more tags, labels and tunnels than are followed
    C_CHECKED,  # segments whose checksums were looked at
    C_WRONG,  # … and are wrong
    C_ENCRYPTED,  # 802.11 and MACsec frames that are encrypted
    C_AGGREGATED,  # 802.11 frames aggregated into one record, the first of each not counted
    C_UNTIMED,  # records without a time, or with one that cannot be
) = range(16)
N_TALLIES = 16

# Columns of one packet that is no TCP segment and yet may be about one.
# at, end: its ICMP message or UDP datagram, in the window
A_KIND, A_NO, A_TS, A_AT, A_END, A_SRC_HI, A_SRC_LO, A_DST_HI, A_DST_LO = range(9)
N_ASIDE = 9
ASIDE_ICMP, ASIDE_ICMPV6, ASIDE_DNS, ASIDE_QUERY = 1, 2, 3, 4
