"""Every file of the public captures: read without a hitch, and its connections counted as an independent reader counts them.

`INDEX.tsv` beside the captures says how many TCP 4-tuples each has. `corpus_differences.tsv` lists the files where we count
others, and whose the difference is; a new difference fails, and so does one that has gone.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from analyzer.capture.reader import CaptureData, read_capture
from analyzer.streams import open_stream, plain_size
from analyzer.tcp import fields as f

DIFFERENCES = Path(__file__).with_name("corpus_differences.tsv")
#: The corpus is read in this many parts, so that they run side by side.
PARTS = 8


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file, delimiter="\t")}


def read(path: Path) -> CaptureData:
    with open_stream(str(path)) as stream:
        return read_capture(stream, plain_size(str(path)))


def four_tuples(data: CaptureData) -> int:
    """Pairs of endpoints, whatever the number of connections between them."""
    client, server = slice(f.C_HI, f.C_PORT + 1), slice(f.S_HI, f.S_PORT + 1)
    return len({frozenset((tuple(row[client]), tuple(row[server]))) for row in data.rows.tolist()})


@pytest.mark.shared
@pytest.mark.parametrize("part", range(PARTS))
def test_connections_of_every_public_capture(part: int, shared: Path) -> None:
    index = table(shared / "corpus" / "INDEX.tsv")
    known = table(DIFFERENCES)
    assert len(index) > 1_600
    for path in sorted(index)[part::PARTS]:
        data = read(shared / "corpus" / path)
        counted = int(known.get(path, {}).get("ours") or index[path]["tcp_4tuples"] or 0)
        assert four_tuples(data) == counted, path
        assert data.records or data.problems or index[path]["packets"] in ("", "0"), f"{path}: nothing read or said"


@pytest.mark.shared
def test_every_difference_has_a_reason_and_is_one(shared: Path) -> None:
    index = table(shared / "corpus" / "INDEX.tsv")
    for path, row in table(DIFFERENCES).items():
        assert row["theirs"] == index[path]["tcp_4tuples"] != row["ours"], path
        assert len(row["reason"]) > 10, path
