"""Damaged captures, for as long as you like: `python -m fuzz.captures --seconds 600 --seed 1`.

Takes real captures (those of ANALYZER_SHARED if it is set, the shipped ones otherwise), damages each as
`tests.capture.hostile` damages its own, and reads the result through both forms of the kernels. An exception, a difference
between the forms, or a file that takes long ends the run and leaves the file behind. NUMBA_BOUNDSCHECK=1 with a
NUMBA_CACHE_DIR of its own makes the compiled form check its indices.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from analyzer.capture.reader import CaptureData, read_capture
from tests.capture.hostile import EXTREMES

#: Captures larger than this are not damaged: many small ones find more.
LARGEST = 200_000
#: No damaged file of that size may take longer, in either form.
SLOWEST_S = 10.0
#: Growth of the process's memory that is no longer the tables of a first reading.
MOST_GROWTH = 300 << 20
LEFT_BEHIND = Path("fuzz-failure.pcap")


def seeds() -> list[Path]:
    """The captures to start from."""
    shared = os.environ.get("ANALYZER_SHARED")
    root = Path(shared) / "corpus" if shared else Path(__file__).parents[1] / "captures"
    paths = (path for path in root.rglob("*") if ".pcap" in path.name or path.suffix in (".cap", ".ntar"))
    return sorted(path for path in paths if path.is_file() and path.stat().st_size <= LARGEST and path.suffix != ".gz")


def flip(data: bytearray, at: int, chance: random.Random) -> None:
    """One bit."""
    data[at] ^= 1 << chance.randrange(8)


def extreme(data: bytearray, at: int, chance: random.Random) -> None:
    """A number that some length field does not expect."""
    size = chance.choice((1, 2, 4))
    value = chance.choice(EXTREMES) & ((1 << 8 * size) - 1)
    data[at : at + size] = value.to_bytes(size, chance.choice(("little", "big")))


def cut(data: bytearray, at: int, chance: random.Random) -> None:
    """A part, or all that follows."""
    del data[at : chance.choice((at + 1, at + 4, at + 60, len(data)))]


def repeat(data: bytearray, at: int, chance: random.Random) -> None:
    """A part twice."""
    data[at:at] = data[at : at + chance.choice((4, 24, 200))]


def noise(data: bytearray, at: int, chance: random.Random) -> None:
    """Random bytes in place of others."""
    size = min(chance.choice((2, 8, 40)), len(data) - at)
    data[at : at + size] = chance.randbytes(size)


ACCIDENTS: tuple[Callable[[bytearray, int, random.Random], None], ...] = (
    flip,
    flip,
    extreme,
    extreme,
    cut,
    repeat,
    noise,
)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The capture after one to eight accidents."""
    data = bytearray(content)
    for _ in range(chance.randrange(1, 9)):
        if data:
            chance.choice(ACCIDENTS)(data, chance.randrange(len(data)), chance)
    return bytes(data)


def read(content: bytes, form: str) -> CaptureData:
    """Read it through the interpreted (`0`) or the compiled (`1`) kernels."""
    os.environ["ANALYZER_JIT"] = form
    start = time.perf_counter()
    data = read_capture(io.BytesIO(content), len(content))
    if time.perf_counter() - start > SLOWEST_S:
        raise TimeoutError(f"took {time.perf_counter() - start:.1f} s")
    return data


def check(content: bytes) -> int:
    """Read it both ways; raises if anything is not as it should be. Returns the records."""
    slow, fast = read(content, "0"), read(content, "1")
    assert (slow.rows == fast.rows).all() and (slow.segments == fast.segments).all(), "the forms differ"
    assert (slow.problems, slow.paths, slow.icmp, slow.dns) == (fast.problems, fast.paths, fast.icmp, fast.dns)
    return slow.records


def memory() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run(seconds: float, seed: int) -> int:
    """Damage and read until the time is up; returns the exit status."""
    chance = random.Random(seed)
    contents = [path.read_bytes() for path in seeds()]
    os.environ["ANALYZER_JIT"] = "1"
    read_capture(io.BytesIO(contents[0]))  # compiles the kernels where nobody has yet
    for content in contents:
        check(content)
    before, end, inputs, records = memory(), time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        content = damaged(chance.choice(contents), chance)
        try:
            records += check(content)
        except Exception:
            LEFT_BEHIND.write_bytes(content)
            traceback.print_exc()
            print(f"input {inputs} of seed {seed}: left in {LEFT_BEHIND}")
            return 1
        inputs += 1
    grown = memory() - before
    print(f"{inputs:,} damaged captures, {records:,} records, memory grown by {grown >> 20} MB")
    return int(grown > MOST_GROWTH)


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sys.exit(run(arguments.seconds, arguments.seed))


if __name__ == "__main__":
    main()
