"""Time whole processes on the same captures, and print ratios: `python -m bench.run FOLDER [--repeat 3] [--rounds 2] [--slow]`.

Each program reads each capture of the folder (`make_captures.py` makes them) `--repeat` times in a row, after once to warm
caches and to have memory at hand, which a virtual machine is slow to give after a program that took other memory; then come
the others, and all again, `--rounds` times, so that a noisy minute hits all alike. The median counts. `--slow` adds tshark,
dpkt and scapy on the first packets only, where they are compared by packets a second. Programs that are not installed are
left out.
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
BARS = {"nfpcapd": 1.0, "tcptrace": 3.0, "argus": 2.0, "tshark": 20.0, "dpkt": 50.0, "scapy": 50.0}
OURS = "analyze pcap"
#: Programs that take minutes for a whole capture read this many packets of it.
SLOW = {"tshark": 300_000, "dpkt": 100_000, "scapy": 10_000}
#: The shortest loop over TCP segments that each library allows.
DPKT = """
import dpkt, sys
flows = {}
for _, frame in dpkt.pcap.Reader(open(sys.argv[1], "rb")):
    ip = dpkt.ethernet.Ethernet(frame).data
    if isinstance(ip.data, dpkt.tcp.TCP):
        flows[ip.src, ip.dst, ip.data.sport, ip.data.dport] = ip.data.seq
"""
SCAPY = """
import sys
from scapy.all import PcapReader, TCP, IP
flows = {}
for packet in PcapReader(sys.argv[1]):
    if TCP in packet:
        flows[packet[IP].src, packet[IP].dst, packet[TCP].sport, packet[TCP].dport] = packet[TCP].seq
"""


def commands(path: Path, scratch: Path, slow: bool) -> dict[str, list[str]]:
    """Each program's way to make connections of a capture; tcpdump only copies it."""
    every = {
        OURS: ["analyze", "pcap", str(path), "--quiet", "-o", str(scratch / "report.txt")],
        "its engine alone": [sys.executable, "-m", "bench.read", str(path)],
        "nfpcapd": ["nfpcapd", "-r", str(path), "-w", str(scratch)],
        "tcptrace": ["tcptrace", "-n", str(path)],
        "argus": ["argus", "-r", str(path), "-w", str(scratch / "argus.out")],
        "tcpdump": ["tcpdump", "-r", str(path), "-w", "/dev/null"],
    }
    if slow:
        first = {name: str(head(path, packets, scratch.parent)) for name, packets in SLOW.items()}
        every["tshark"] = ["tshark", "-n", "-q", "-z", "conv,tcp", "-r", first["tshark"]]
        every["dpkt"] = [sys.executable, "-c", DPKT, first["dpkt"]]
        every["scapy"] = [sys.executable, "-c", SCAPY, first["scapy"]]
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program keeps its bytecode
    beside = str(Path(sys.executable).parent)  # the console script of this environment
    os.environ["PATH"] = beside + os.pathsep + os.environ["PATH"]
    return {name: command for name, command in every.items() if shutil.which(command[0])}


def head(path: Path, packets: int, folder: Path) -> Path:
    """The first packets of a capture, as a file."""
    first = folder / f"{path.stem}-{packets}.pcap"
    subprocess.run(["tcpdump", "-r", path, "-c", str(packets), "-w", first], check=True, stderr=subprocess.DEVNULL)
    return first


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


def compare(path: Path, repeat: int, rounds: int, slow: bool) -> None:
    """One capture, every program, a table."""
    packets = packets_of(path)
    print(f"\n{path.name}: {packets:,} packets, {path.stat().st_size / 1e6:,.0f} MB, median of {rounds} × {repeat}\n")
    print("| program | seconds | M packets/s | we are faster by | bar | peak MB |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary) / "scratch"
        scratch.mkdir()
        programs = commands(path, scratch, slow)
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
        for name in list(programs) * rounds:
            timed(programs[name], scratch)  # warms the cache and, for us, compiles
            runs[name] += [timed(programs[name], scratch) for _ in range(repeat)]
    medians = {name: statistics.median(seconds for seconds, _ in results) for name, results in runs.items()}
    ours = packets / medians[OURS]
    for name, seconds in medians.items():
        rate = SLOW.get(name, packets) / seconds
        bar = f"{BARS[name]:.0f}×" if name in BARS else ""
        ratio = "" if name == OURS else f"{ours / rate:.2f}×"
        peak = max(megabytes for _, megabytes in runs[name])
        print(f"| {name} | {seconds:.2f} | {rate / 1e6:.3g} | {ratio} | {bar} | {peak:.0f} |", flush=True)


def main() -> None:
    """Every capture of a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--slow", action="store_true", help="also tshark, dpkt and scapy")
    wanted = parser.parse_args()
    for path in sorted(wanted.folder.glob("*.pcap")):
        compare(path, wanted.repeat, wanted.rounds, wanted.slow)


if __name__ == "__main__":
    main()
