"""Connections of public traces against those that Zeek's own test baselines list: state, history, packets, bytes."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from analyzer.capture.reader import read_capture
from analyzer.streams import open_stream, plain_size
from analyzer.tcp.connections import connections_of
from tests.helpers import ROOT

Record = tuple[str, ...]

ACCURACY = (ROOT / "docs" / "accuracy.md").read_text()
#: Traces with other records than Zeek's: how many of Zeek's we do not have, how many of ours Zeek does not (and why, in the docs).
DIFFERENT = {
    name: (int(missing), int(more))
    for name, missing, more in re.findall(r"^\| `([^`]+)` \| (\d+) \| (\d+) \| .{20,} \|$", ACCURACY, re.MULTILINE)
}
#: A baseline that is not of the trace, and so apart from the average.
FILTERED = "smtp.pcap"
FIELDS = 4  # state, history, packets, bytes
FIELD_PLACES = (slice(2, 3), slice(3, 4), slice(4, 6), slice(6, 8))


def endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def theirs(connections: list[dict[str, object]]) -> Counter[Record]:
    """Zeek's records; it writes no byte counts where it does not know them, as for a connection of one packet."""
    return Counter(
        (
            endpoint(str(c["orig_h"]), int(str(c["orig_p"]))),
            endpoint(str(c["resp_h"]), int(str(c["resp_p"]))),
            *(str(c[key] or 0) for key in ("conn_state", "history", "orig_pkts", "resp_pkts")),
            *(str(c[key]) if c[key] is not None else "?" for key in ("orig_bytes", "resp_bytes")),
        )
        for c in connections
        if c["proto"] == "tcp"
    )


def ours(path: Path) -> Counter[Record]:
    with open_stream(str(path)) as stream:
        data = read_capture(stream, plain_size(str(path)))
    return Counter(
        (
            *(c.client, c.server, c.conn_state, c.history),
            *(str(n) for n in (c.a.packets, c.b.packets, c.a.payload, c.b.payload)),
        )
        for c in connections_of(data.rows)
    )


def without_unknown_bytes(records: Counter[Record], known: Counter[Record]) -> Counter[Record]:
    """Our records, bytes blanked where the same connection's record of Zeek's has none."""
    blank = {record[:6] for record in known if "?" in record}
    return Counter((*record[:6], "?", "?") if record[:6] in blank else record for record in records.elements())


@pytest.mark.shared
def test_connections_equal_zeeks_but_where_a_reason_is_given(shared: Path) -> None:
    folder = shared / "corpus"
    found: dict[str, tuple[int, int]] = {}
    equal = 0
    for name, connections in json.loads((folder / "zeek_expected.json").read_text()).items():
        expected = theirs(connections)
        records = without_unknown_bytes(ours(folder / name), expected)
        if expected == records:
            equal += 1
        else:
            found[name.split("Traces/")[-1]] = ((expected - records).total(), (records - expected).total())
    assert found == DIFFERENT
    assert equal >= 28


def agreement(expected: Counter[Record], records: Counter[Record]) -> float | None:
    """Share of the fields of Zeek's records that ours have too. Records of a pair of endpoints of which Zeek has more than we, as
    its timers split one connection, are apart, and so is the letter X, which tells of Zeek's own analyzers; None if nothing is left.
    """
    mine: dict[Record, list[Record]] = {}
    for record in records.elements():
        mine.setdefault(record[:2], []).append(record)
    zeeks: dict[Record, list[Record]] = {}
    for record in expected.elements():
        zeeks.setdefault(record[:2], []).append(record)
    equal = compared = 0
    for pair, theirs_ in zeeks.items():
        own = mine.get(pair, [])
        if len(theirs_) > len(own) > 0:
            continue
        compared += FIELDS * len(theirs_)
        for their, our in zip(theirs_, own, strict=False):
            equal += (their[2] == our[2]) + (their[3].replace("X", "").replace("x", "") == our[3])
            equal += (their[4:6] == our[4:6]) + (their[6:] == our[6:])
    return equal / compared if compared else None


def plain_agreement(expected: Counter[Record], records: Counter[Record]) -> float:
    """Share of the fields of Zeek's records that ours of the same ends have too, whatever the reason."""
    equal = 0
    for pair in {record[:2] for record in expected}:
        both = ([r for r in table.elements() if r[:2] == pair] for table in (expected, records))
        for their, our in zip(*both, strict=False):
            equal += sum(their[at] == our[at] for at in FIELD_PLACES)
    return equal / (FIELDS * expected.total())


@pytest.mark.shared
def test_the_docs_tell_how_many_agree(shared: Path) -> None:
    folder = shared / "corpus"
    shares, total, same = [], 0, 0
    for name, connections in json.loads((folder / "zeek_expected.json").read_text()).items():
        expected = theirs(connections)
        if expected:
            records = without_unknown_bytes(ours(folder / name), expected)
            shares.append(plain_agreement(expected, records))
            total, same = total + expected.total(), same + (expected & records).total()
    told = f"{len(shares)} of its traces hold TCP: {total} records, of which {same} are ours too"
    assert told in ACCURACY and f"the other {total - same} records" in " ".join(ACCURACY.split())
    assert f"averaged over the traces, {100 * sum(shares) / len(shares):.1f} % agree" in ACCURACY
    assert total - same == sum(missing for missing, _ in DIFFERENT.values())


@pytest.mark.shared
def test_fields_agree_with_zeeks_on_average(shared: Path) -> None:
    folder = shared / "corpus"
    shares: list[float] = []
    for name, connections in json.loads((folder / "zeek_expected.json").read_text()).items():
        expected = theirs(connections)
        share = agreement(expected, without_unknown_bytes(ours(folder / name), expected))
        if share is not None and not name.endswith(f"/{FILTERED}"):
            shares.append(share)
    assert len(shares) == 40
    assert sum(shares) / len(shares) >= 0.97
