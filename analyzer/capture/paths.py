"""Outer paths in words: what a connection's packets were wrapped in where they were captured."""

from __future__ import annotations

from typing import Any

from analyzer.capture.layers import (
    N_STEP,
    N_TRAIL,
    S_DST_HI,
    S_DST_LO,
    S_NUMBER,
    S_SRC_HI,
    S_SRC_LO,
    S_WHAT,
    STEP_6IN,
    STEP_ERSPAN,
    STEP_ETHERIP,
    STEP_GENEVE,
    STEP_GRE,
    STEP_GTP,
    STEP_IPIP,
    STEP_L2TP,
    STEP_MACSEC,
    STEP_MPLS,
    STEP_MPLS_IN,
    STEP_PBB,
    STEP_PPPOE,
    STEP_TAG,
    STEP_TEREDO,
    STEP_VLAN,
    STEP_VXLAN,
    TRAIL,
    TRAIL_PATH,
    TRAIL_STEPS,
)
from analyzer.capture.unwrap import MAX_PATHS, PATH_PLACES
from analyzer.model.addresses import host

#: Each step's name, and what its number is called, "" where there is none or none was given.
NAMES = {
    STEP_VLAN: ("VLAN", " "),
    STEP_MPLS: ("MPLS label", " "),
    STEP_PPPOE: ("PPPoE session", " "),
    STEP_PBB: ("PBB I-SID", " "),
    STEP_TAG: ("tagged", ""),
    STEP_GRE: ("GRE", " key "),
    STEP_ERSPAN: ("ERSPAN", " session "),
    STEP_VXLAN: ("VXLAN VNI", " "),
    STEP_GENEVE: ("Geneve VNI", " "),
    STEP_GTP: ("GTP-U TEID", " "),
    STEP_TEREDO: ("Teredo", ""),
    STEP_ETHERIP: ("EtherIP", ""),
    STEP_L2TP: ("L2TP session", " "),
    STEP_MACSEC: ("MACsec", ""),
    STEP_MPLS_IN: ("MPLS over IP", ""),
}
#: IP in IP by (inner, outer is IPv4).
IN_IP = {
    (STEP_IPIP, True): "IP-in-IP",
    (STEP_IPIP, False): "4in6",
    (STEP_6IN, True): "6in4",
    (STEP_6IN, False): "6in6",
}


def room() -> list[int]:
    """A table for the kernel to collect paths in."""
    return [0] * (PATH_PLACES * N_TRAIL + 1)


def is_full(table: Any) -> bool:
    """Whether there may be paths that are not in the table."""
    return int(table[-1]) >= MAX_PATHS


def described(table: Any) -> dict[int, str]:
    """`PATH` → `VLAN 12 · VXLAN VNI 7 10.0.0.1 → 10.0.0.2`, for all paths that the kernel kept."""
    places = (place * N_TRAIL for place in range(PATH_PLACES))
    return {int(table[at + TRAIL_PATH]): _trail(table, at) for at in places if table[at + TRAIL_PATH]}


def _trail(table: Any, at: int) -> str:
    starts = (at + TRAIL + k * N_STEP for k in range(int(table[at + TRAIL_STEPS])))
    return " · ".join(_step([int(value) for value in table[start : start + N_STEP]]) for start in starts)


def _step(step: list[int]) -> str:
    what, number = step[S_WHAT], step[S_NUMBER]
    outer = step[S_SRC_HI] or step[S_SRC_LO] or step[S_DST_HI] or step[S_DST_LO]
    source, target = host(step[S_SRC_HI], step[S_SRC_LO]), host(step[S_DST_HI], step[S_DST_LO])
    if what in (STEP_IPIP, STEP_6IN):
        text = IN_IP[what, ":" not in source]
    else:
        text, called = NAMES[what]
        if called and (number or called == " "):
            text += f"{called}{number}"
    return f"{text} {source} → {target}" if outer else text
