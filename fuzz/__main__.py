"""Damaged inputs for as long as you like: `python -m fuzz --seconds 600 --seed 1`.

Real captures, logs, gRPC traces, whole cases and saved traces (those of ANALYZER_SHARED if it is set, the shipped ones
otherwise) are damaged and read. An exception, an answer that takes long, or memory that grows ends the run, leaves the
input behind in `fuzz-failure/` and names its number: `--seed 1 --first NUMBER` makes it again. NUMBA_BOUNDSCHECK=1 with a
NUMBA_CACHE_DIR of its own makes the compiled kernels check their indices.
"""

from __future__ import annotations

import argparse
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

from fuzz import captures, logs, saved, traces, whole
from fuzz.seeds import Files

TARGETS: tuple[ModuleType, ...] = (captures, logs, traces, whole, saved)
#: No input may take longer: of processor time, so that a busy machine is no failure; and of the clock's.
SLOWEST_S, HANG_S = 10.0, 120
#: Growth of the process's memory that is no longer the tables of a first reading.
MOST_GROWTH = 300 << 20
LEFT_BEHIND = Path("fuzz-failure")
SAY_EVERY_S = 60


def memory() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _hung(*_: Any) -> None:
    raise TimeoutError(f"no answer in {HANG_S} s")


def attempt(target: ModuleType, files: Files, slowest_s: float = SLOWEST_S) -> None:
    """One input; raises whatever is wrong with the answer."""
    signal.alarm(HANG_S)
    start = time.process_time()
    try:
        target.check(files)
    finally:
        signal.alarm(0)
    if time.process_time() - start > slowest_s:
        raise TimeoutError(f"took {time.process_time() - start:.1f} s")


def leave(files: Files) -> None:
    """Keep an input that failed."""
    for name, content in files.items():
        path = LEFT_BEHIND / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def run(targets: list[ModuleType], seconds: float, seed: int, first: int) -> int:
    """Damage and read until the time is up; returns the exit status."""
    seeds = {target.NAME: target.seeds() for target in targets}
    for target in targets:
        for files in seeds[target.NAME]:
            attempt(target, files, HANG_S)  # the first may have kernels built
    shares = [target.SHARE for target in targets]
    before, end, told = memory(), time.monotonic() + seconds, time.monotonic()
    done: Counter[str] = Counter()
    for number in count(first):
        chance = random.Random(f"{seed} {number}")
        (target,) = chance.choices(targets, shares)
        files = target.damage(chance.choice(seeds[target.NAME]), chance)
        try:
            attempt(target, files)
            if memory() - before > MOST_GROWTH:
                raise MemoryError(f"memory grew by {(memory() - before) >> 20} MB")
        except Exception:
            leave(files)
            traceback.print_exc()
            print(f"input {number} of seed {seed}, {target.NAME}: left in {LEFT_BEHIND}/")
            return 1
        done[target.NAME] += 1
        if time.monotonic() - told > SAY_EVERY_S:
            told = time.monotonic()
            print(_so_far(done, before), file=sys.stderr, flush=True)
        if time.monotonic() > end:
            break
    print(_so_far(done, before))
    return 0


def _so_far(done: Counter[str], before: int) -> str:
    kinds = ", ".join(f"{n:,} {name}" for name, n in sorted(done.items()))
    return f"{done.total():,} damaged inputs ({kinds}), memory grown by {(memory() - before) >> 20} MB"


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(
        prog="fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [target.__name__.rpartition(".")[2] for target in TARGETS]
    parser.add_argument("only", nargs="*", choices=[[], *names], help="kinds of input (default: all)")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    arguments = parser.parse_args()
    signal.signal(signal.SIGALRM, _hung)
    wanted = [target for target, name in zip(TARGETS, names, strict=True) if name in (arguments.only or names)]
    sys.exit(run(wanted, arguments.seconds, arguments.seed, arguments.first))


if __name__ == "__main__":
    main()
