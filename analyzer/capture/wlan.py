"""IEEE 802.11: what stands before the LLC header of a data frame, on a monitor's capture or inside an access point's tunnel.

Only frames that are not encrypted carry IP that can be read. Several may be aggregated into one (A-MSDU): `frame_body` tells where
they begin, `subframe` reads one, `next_subframe` steps over it. Sources:
IEEE 802.11-2020 §9.2 (header, QoS and HT control), §9.3.2.2 (A-MSDU); radiotap.org and the PPI specification for the headers of
monitors.
"""

from __future__ import annotations

from typing import Any

from analyzer.capture.byteorder import be16, be32, le32, u8
from analyzer.capture.columns import C_CUT, C_ENCRYPTED, C_MALFORMED, C_NOT_IP

LINK_WLAN, LINK_WLAN_PRISM, LINK_WLAN_RADIOTAP, LINK_WLAN_AVS, LINK_PPI = 105, 119, 127, 163, 192
WLAN_LINKS = (LINK_WLAN, LINK_WLAN_PRISM, LINK_WLAN_RADIOTAP, LINK_WLAN_AVS, LINK_PPI)

#: First byte of the frame control field: version and type, and two bits of a data frame's subtype.
VERSION_AND_TYPE, DATA, NO_DATA, QOS = 0x0F, 0x08, 0x40, 0x80
#: Second byte.
TO_DS, FROM_DS, PROTECTED, ORDER = 0x01, 0x02, 0x40, 0x80
#: Of the QoS control field's first byte.
AMSDU = 0x80
#: Destination, source and length of a subframe.
SUBFRAME_HEADER = 14
#: LLC and SNAP before an EtherType (RFC 1042).
LLC_SNAP = 0xAAAA0300


def monitor(data: Any, link: int, i: int, end: int) -> int:
    """Where the 802.11 header begins behind a monitor's own; a negative tally if that cannot be told."""
    if link == LINK_WLAN:
        return i
    if end - i < 8:
        return -C_CUT
    if link == LINK_WLAN_RADIOTAP:
        return i + u8(data, i + 2) + (u8(data, i + 3) << 8)
    if link == LINK_PPI:  # it names the link type behind it
        return i + u8(data, i + 2) + (u8(data, i + 3) << 8) if le32(data, i + 4) == LINK_WLAN else -C_NOT_IP
    if link == LINK_WLAN_PRISM and be32(data, i) >> 16 != 0x8021:  # else it is AVS under Prism's number
        return i + 144
    return i + be32(data, i + 4)


def frame_body(data: Any, i: int, end: int) -> tuple[int, int]:
    """(where the body of an 802.11 data frame begins, not 0 if it is an A-MSDU); a negative tally for other frames."""
    if end - i < 24:
        return -C_CUT, 0
    control = u8(data, i)
    flags = u8(data, i + 1)
    if control & VERSION_AND_TYPE != DATA or control & NO_DATA:
        return -C_NOT_IP, 0  # management, control, null frames
    if flags & PROTECTED:
        return -C_ENCRYPTED, 0
    i += 30 if flags & (TO_DS | FROM_DS) == TO_DS | FROM_DS else 24
    aggregated = 0
    if control & QOS:
        if end - i < 2:
            return -C_CUT, 0
        aggregated = u8(data, i) & AMSDU
        i += 6 if flags & ORDER else 2
    return i, aggregated


def llc_snap(data: Any, i: int, end: int) -> tuple[int, int]:
    """The EtherType behind LLC and SNAP, and where its packet begins."""
    if end - i < 8:
        return -C_CUT, i
    if be32(data, i) != LLC_SNAP or be16(data, i + 4) >> 8:
        return -C_NOT_IP, i
    return be16(data, i + 6), i + 8


def subframe(data: Any, i: int, end: int) -> tuple[int, int]:
    """The EtherType of a subframe of an A-MSDU and where its packet begins, behind destination, source and length."""
    kind, at = llc_snap(data, i + SUBFRAME_HEADER, end)
    return (-C_MALFORMED if kind == -C_NOT_IP else kind), at


def next_subframe(data: Any, i: int, end: int) -> int:
    """Where another subframe begins behind the one at `i`, 0 if none does. All but the last are padded to four bytes."""
    if end - i < SUBFRAME_HEADER:
        return 0
    i += (SUBFRAME_HEADER + be16(data, i + 12) + 3) & ~3
    return i if i + SUBFRAME_HEADER <= end else 0
