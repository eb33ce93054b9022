"""Read one capture and say what it held: `python -m bench.read FILE`, the engine without the command line around it."""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command does, before numpy is loaded

from analyzer.capture.reader import read_capture
from analyzer.streams import open_stream, plain_size


def main() -> None:
    """Read the capture named on the command line."""
    start = time.perf_counter()
    with open_stream(sys.argv[1]) as stream:
        data = read_capture(stream, plain_size(sys.argv[1]))
    seconds = time.perf_counter() - start
    rate = data.records / seconds / 1e6
    print(f"{data.records:,} packets, {len(data.rows):,} connections, {rate:.2f} M packets/s", flush=True)
    os._exit(0)  # taking the interpreter and LLVM apart in order takes 0.1 s and helps nobody


if __name__ == "__main__":
    main()
