"""The end of an exchange that a freeze delayed is not the loss of a kept connection: F201 is silent, F202 a note."""

from __future__ import annotations

import pytest

from analyzer.model.findings import Severity
from analyzer.rules import run
from analyzer.rules._cases import Case

_LOG = """
00:00:00.000 START 1
00:00:00.100 REPORT 1
00:00:16.100 START 2
00:00:16.300 REPORT 2
"""
_OPEN = "0.000 > SYN\n0.001 < SYN-ACK\n0.002 > ACK\n0.010 > 40\n0.012 < 90\n0.050 > ACK\n"
_LOST = (
    "0.090 > 14\n0.092 < 5 lost\n0.093 < FIN lost\n0.300 < FIN again lost\n0.730 < FIN again lost\n1.590 < FIN again\n"
)


def _severity(rule: str, packets: str) -> Severity:
    found = [f for f in run(Case("", log=_LOG, packets=packets).story()) if f.rule == rule]
    assert len(found) == 1
    return found[0].severity


@pytest.mark.parametrize(
    ("rule", "packets", "severity"),
    [
        ("F202", _OPEN + _LOST + "16.105 > ACK\n16.106 > FIN\n16.107 < ACK", Severity.INFO),
        ("F202", _OPEN + _LOST + "16.105 > 60\n16.106 < RST", Severity.WARNING),
        ("F202", _OPEN + "6.1 < FIN lost\n6.3 < FIN again lost\n6.7 < FIN again lost\n7.6 < FIN again\n16.105 > ACK\n16.106 > FIN", Severity.WARNING),
        ("F202", _OPEN + "6.1 < GOAWAY 0 max_idle lost\n6.101 < FIN lost\n6.3 < FIN again lost\n6.7 < FIN again lost\n7.6 < FIN again", Severity.WARNING),
        ("F201", _OPEN + "6.093 < FIN\n6.130 > ACK\n16.105 > FIN\n16.106 < ACK", Severity.WARNING),
    ],
)  # fmt: skip
def test_severity(rule: str, packets: str, severity: Severity) -> None:
    assert _severity(rule, packets) == severity


def test_a_pool_that_tells_of_a_close_has_lost_no_request() -> None:
    log = """
    00:00:00.000 START 1
    00:00:00.100 REPORT 1
    00:00:16.100 START 2
    00:00:16.105 app 1 Error: Connection terminated unexpectedly
    00:00:16.300 REPORT 2
    """
    found = [f for f in run(Case("", log=log).story()) if f.rule == "F203"]
    assert [f.severity for f in found] == [Severity.INFO]
    again = log.replace(
        "16.300", "16.200 app 2 Error: write EPIPE { errno: -32, code: 'EPIPE', syscall: 'write' }\n    00:00:16.300"
    )
    assert [f.severity for f in run(Case("", log=again).story()) if f.rule == "F203"].count(Severity.ERROR) == 1
