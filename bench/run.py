"""Time whole processes on the same captures, and print ratios: `python -m bench.run FOLDER [--repeat 3] [--slow]`.

Each program reads each capture of the folder (`make_captures.py` makes them) once to warm the cache, then `--repeat`
times in turn, so that a noisy moment hits all alike; the median counts. `--slow` adds tshark, once. Programs that are
not installed are left out.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: Our ratio to each must be at least this (docs/performance.md).
BARS = {"nfpcapd": 1.0, "tcptrace": 3.0, "argus": 2.0, "tshark": 20.0}
OURS = "engine (bench.read)"


def commands(path: Path, scratch: Path, slow: bool) -> dict[str, list[str]]:
    """Each program's way to make connections of a capture; tcpdump only copies it."""
    every = {
        OURS: [sys.executable, "-m", "bench.read", str(path)],
        "analyze pcap": ["analyze", "pcap", str(path), "--quiet", "-o", str(scratch / "report.txt")],
        "nfpcapd": ["nfpcapd", "-r", str(path), "-w", str(scratch)],
        "tcptrace": ["tcptrace", "-n", str(path)],
        "argus": ["argus", "-r", str(path), "-w", str(scratch / "argus.out")],
        "tcpdump": ["tcpdump", "-r", str(path), "-w", "/dev/null"],
    }
    if slow:
        every["tshark"] = ["tshark", "-n", "-q", "-z", "conv,tcp", "-r", str(path)]
    beside = str(Path(sys.executable).parent)  # the console script of this environment
    os.environ["PATH"] = beside + os.pathsep + os.environ["PATH"]
    return {name: command for name, command in every.items() if shutil.which(command[0])}


def timed(command: list[str], scratch: Path) -> tuple[float, float]:
    """Seconds and peak MB of one process, its output thrown away."""
    for old in scratch.iterdir():
        old.unlink() if old.is_file() else shutil.rmtree(old)
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    usage = wait(process)
    seconds = time.perf_counter() - start
    if process.returncode:
        print(f"{' '.join(command)}: exit status {process.returncode}", file=sys.stderr)
        return math.nan, math.nan
    return seconds, usage.ru_maxrss / 1024


def wait(process: subprocess.Popen[bytes]) -> resource.struct_rusage:
    """Wait for a process and tell what it used."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage


def packets_of(path: Path) -> int:
    """Packets of a classic pcap file, counted by tcpdump."""
    text = subprocess.run(["tcpdump", "-r", str(path), "--count"], capture_output=True, text=True, check=True).stdout
    return int(text.split()[0])


def compare(path: Path, repeat: int, slow: bool) -> None:
    """One capture, every program, a table."""
    packets = packets_of(path)
    print(f"\n{path.name}: {packets:,} packets, {path.stat().st_size / 1e6:,.0f} MB, median of {repeat}\n")
    print("| program | seconds | M packets/s | we are faster by | bar | peak MB |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        programs = commands(path, scratch, slow)
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
        for round_number in range(repeat + 1):  # the first warms the cache and, for us, compiles
            for name, command in programs.items():
                once = name == "tshark"
                if once == (round_number == 1) or not once:
                    result = timed(command, scratch)
                    if round_number or once:
                        runs[name].append(result)
    medians = {name: statistics.median(seconds for seconds, _ in results) for name, results in runs.items()}
    for name, seconds in medians.items():
        bar = f"{BARS[name]:.0f}×" if name in BARS else ""
        ratio = "" if name == OURS else f"{seconds / medians[OURS]:.2f}×"
        peak = max(megabytes for _, megabytes in runs[name])
        print(f"| {name} | {seconds:.2f} | {packets / seconds / 1e6:.2f} | {ratio} | {bar} | {peak:.0f} |", flush=True)


def main() -> None:
    """Every capture of a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--slow", action="store_true", help="also tshark, once")
    wanted = parser.parse_args()
    for path in sorted(wanted.folder.glob("*.pcap")):
        compare(path, wanted.repeat, wanted.slow)


if __name__ == "__main__":
    main()
