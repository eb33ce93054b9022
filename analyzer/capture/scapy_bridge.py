"""The one place that imports scapy (GPL-2.0-only; an extra): packet objects for a person who looks at one packet."""

from __future__ import annotations

from typing import Any

from analyzer.capture.columns import N_RECORD, R_CAPLEN, R_LINK, R_NO, R_OFFSET, R_TS
from analyzer.capture.containers import Container
from analyzer.streams import open_stream


def packet(path: str, number: int) -> Any:
    """Packet `number` (1-based) of a capture as a scapy packet; raises `KeyError` when there is none.

    Scapy dissects it with the layer of its link type, and `Raw` where it knows none.
    """
    try:
        from scapy.all import conf
        from scapy.packet import Raw
    except ImportError as error:
        raise ImportError("packet objects need scapy: pip install 'connection-analyzer[scapy]'") from error
    with open_stream(path) as stream:
        for batch in Container(stream).batches():
            for r in range(0, batch.n * N_RECORD, N_RECORD):
                record = batch.records[r : r + N_RECORD]
                if record[R_NO] == number:
                    start = int(record[R_OFFSET])
                    data = bytes(batch.data[start : start + int(record[R_CAPLEN])])
                    layer = conf.l2types.num2layer.get(int(record[R_LINK]), Raw)
                    found = layer(data)
                    found.time = int(record[R_TS]) / 1e9
                    return found
    raise KeyError(f"{path} has no packet #{number}")
