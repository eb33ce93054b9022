"""Read one capture and say what it held: `python -m bench.read FILE`, the engine without the command line around it."""

from __future__ import annotations

import sys
import time

from analyzer.capture.reader import read_capture
from analyzer.streams import open_stream, plain_size


def main() -> None:
    """Read the capture named on the command line."""
    start = time.perf_counter()
    with open_stream(sys.argv[1]) as stream:
        data = read_capture(stream, plain_size(sys.argv[1]))
    seconds = time.perf_counter() - start
    print(f"{data.records:,} packets, {len(data.rows):,} connections, {data.records / seconds / 1e6:.2f} M packets/s")


if __name__ == "__main__":
    main()
