"""Record the captures that the benchmark reads: few fat connections, very many short ones, many small packets.

    sudo python bench/make_captures.py FOLDER [--packets 4000000] [--requests 300000]

Traffic runs between two network namespaces made for the purpose and removed afterwards; nothing leaves the machine.
Needs root, iproute2, ethtool, tcpdump, iperf3, nginx, ab (apache2-utils) and redis-server (with redis-benchmark).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

RUN = f"bench-{os.getpid()}"  # in the names of namespaces, so that two runs do not meet
CLIENT, SERVER = f"{RUN}-client", f"{RUN}-server"
SERVER_ADDRESS = "10.9.0.2"
#: Headers only, as a capture that runs for hours is taken.
SNAPLEN = 96
#: Bulk transfer is bounded by packets; this bounds it by time too, should the capture stall.
BULK_SECONDS = 300

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_timeout 0; client_body_temp_path {folder}; proxy_temp_path {folder};
fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
server {{ listen {address}:80 backlog=4096; return 200 "{body}"; }} }}
"""


def run(command: str) -> None:
    """Run one command of the `ip` kind."""
    subprocess.run(command.split(), check=True, stdout=subprocess.DEVNULL)


def within(namespace: str, *command: str) -> list[str]:
    """The command that runs `command` inside a namespace."""
    return ["ip", "netns", "exec", namespace, *command]


@contextlib.contextmanager
def network() -> Iterator[None]:
    """Two namespaces and a cable, without segmentation offload so that every packet is one of the wire's."""
    try:
        for name in (CLIENT, SERVER):
            run(f"ip netns add {name}")
        run(f"ip -n {CLIENT} link add eth0 type veth peer name eth0 netns {SERVER}")
        for name, address in ((CLIENT, "10.9.0.1"), (SERVER, SERVER_ADDRESS)):
            run(f"ip -n {name} addr add {address}/24 dev eth0")
            run(f"ip -n {name} link set lo up")
            run(f"ip -n {name} link set eth0 up")
            run(" ".join(within(name, "ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off", "tx", "off")))
        yield
    finally:
        for name in (CLIENT, SERVER):
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def running(command: list[str], wait_s: float = 0.7) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the length of a block, ended by SIGINT."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        time.sleep(wait_s)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        if process.returncode not in (0, 1, -signal.SIGINT):
            print(errors.decode(errors="replace"), file=sys.stderr)


def tcpdump(path: Path, *more: str) -> list[str]:
    """The capturing command, at the server."""
    return within(
        SERVER,
        "tcpdump",
        "-i",
        "eth0",
        "-n",
        "-s",
        str(SNAPLEN),
        "-B",
        "262144",
        "-Z",
        "root",
        *more,
        "-w",
        str(path),
        "tcp",
    )


def bulk(path: Path, packets: int) -> None:
    """Four parallel transfers until `packets` are captured."""
    with running(within(SERVER, "iperf3", "-s", "-1")), running(tcpdump(path, "-c", str(packets))) as capture:
        load = within(CLIENT, "iperf3", "-c", SERVER_ADDRESS, "-P", "4", "-t", str(BULK_SECONDS))
        with running(load):
            capture.wait(timeout=BULK_SECONDS + 30)


def short(path: Path, requests: int, folder: Path) -> None:
    """`requests` HTTP requests, each on a connection of its own that the server closes."""
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, address=SERVER_ADDRESS, body="x" * 500))
    with running(within(SERVER, "nginx", "-c", str(config))), running(tcpdump(path)):
        load = ("ab", "-q", "-r", "-c", "100", "-n", str(requests), f"http://{SERVER_ADDRESS}/")
        subprocess.run(within(CLIENT, *load), check=True, stdout=subprocess.DEVNULL)
        time.sleep(2)


def small(path: Path, requests: int, folder: Path) -> None:
    """`requests` Redis commands on fifty connections: small packets both ways, as caches and keepalives make them."""
    server = ("redis-server", "--bind", SERVER_ADDRESS, "--protected-mode", "no", "--save", "", "--dir", str(folder))
    with running(within(SERVER, *server)), running(tcpdump(path)):
        load = ("redis-benchmark", "-h", SERVER_ADDRESS, "-q", "-c", "50", "-n", str(requests), "-t", "get")
        subprocess.run(within(CLIENT, *load), check=True, stdout=subprocess.DEVNULL)
        time.sleep(2)


def main() -> None:
    """Make all captures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--packets", type=int, default=4_000_000)
    parser.add_argument("--requests", type=int, default=300_000)
    parser.add_argument("--commands", type=int, default=1_500_000)
    wanted = parser.parse_args()
    wanted.folder.mkdir(parents=True, exist_ok=True)
    with network(), tempfile.TemporaryDirectory() as temporary:
        bulk(wanted.folder / "bulk.pcap", wanted.packets)
        short(wanted.folder / "short.pcap", wanted.requests, Path(temporary))
        small(wanted.folder / "small.pcap", wanted.commands, Path(temporary))
    for name in ("bulk.pcap", "short.pcap", "small.pcap"):
        print(f"{name}: {(wanted.folder / name).stat().st_size / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
