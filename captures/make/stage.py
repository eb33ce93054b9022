"""The stage on which a case is played: network namespaces, cables, a capture at the server, the servers.

    function A ══ cable ══╗
      10.0.1.11           router ── server   10.0.2.20, tcpdump listens here
    function B ══ cable ══╝
      10.0.1.12

Every execution environment has a namespace, hence a kernel's worth of sockets, of its own. Nothing here can reach
the machine's own network: no namespace has a way out.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).parent
SERVER_ADDRESS = "10.0.2.20"
RUN = f"capture-{os.getpid()}"  # in the names of namespaces, so that two runs do not meet
SERVER, ROUTER = f"{RUN}-server", f"{RUN}-router"
FUNCTION_ADDRESSES = {"A": "10.0.1.11", "B": "10.0.1.12"}
PATIENCE_S = 10


def run(command: str) -> None:
    """Run one command of the `ip` kind; its complaint becomes the exception."""
    result = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{command}: {result.stderr.strip()}")


def within(namespace: str, command: list[str]) -> list[str]:
    """The command that runs `command` inside a network namespace (under the same process id)."""
    return ["ip", "netns", "exec", namespace, *command]


class Link:
    """An execution environment's place in the network, and the plug of its cable."""

    def __init__(self, name: str, delay_ms: float) -> None:
        self.namespace = f"{RUN}-function-{name.lower()}"
        self.address = FUNCTION_ADDRESSES[name]
        run(f"ip netns add {self.namespace}")
        ends = (f"function-{name.lower()}", f"cable-{name.lower()}")
        self.cable = subprocess.Popen(
            within(ROUTER, [sys.executable, str(HERE / "cable.py"), *ends, str(delay_ms)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._await_ok()
        run(f"ip -n {ROUTER} link set {ends[0]} netns {self.namespace} name eth0")
        run(f"ip -n {self.namespace} addr add {self.address}/24 dev eth0")
        run(f"ip -n {self.namespace} link set lo up")
        run(f"ip -n {self.namespace} link set eth0 up")
        run(f"ip -n {self.namespace} route add default dev eth0")
        run(f"ip -n {ROUTER} link set {ends[1]} up")
        run(f"ip -n {ROUTER} route add {self.address}/32 dev {ends[1]}")

    def pull(self) -> None:
        """From now on nothing leaves the function's kernel and nothing reaches it."""
        self._tell("pull")

    def plug(self) -> None:
        """Undo `pull`."""
        self._tell("plug")

    def _tell(self, order: str) -> None:
        assert self.cable.stdin
        self.cable.stdin.write(order + "\n")
        self.cable.stdin.flush()
        self._await_ok()

    def _await_ok(self) -> None:
        assert self.cable.stdout
        if self.cable.stdout.readline() != "ok\n":
            raise RuntimeError("the cable broke")


class Stage:
    """Builds the network, and takes everything down again whatever happens on it: every process in its namespaces."""

    def __init__(self, delay_ms: float) -> None:
        """`delay_ms`: how long a packet travels one way between function and server."""
        self.delay_ms = delay_ms
        self._capture: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._take_down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._take_down()

    def _build(self) -> None:
        for namespace in (SERVER, ROUTER):
            run(f"ip netns add {namespace}")
            run(f"ip -n {namespace} link set lo up")
        run(f"ip link add to-server netns {ROUTER} type veth peer name eth0 netns {SERVER}")
        run(f"ip -n {ROUTER} addr add 10.0.2.1/24 dev to-server")
        run(f"ip -n {SERVER} addr add {SERVER_ADDRESS}/24 dev eth0")
        for namespace, device in ((ROUTER, "to-server"), (SERVER, "eth0")):
            # Or the capture would show packets larger than the wire takes, with checksums that nobody has computed.
            run(f"ip netns exec {namespace} ethtool -K {device} tx off tso off gso off gro off")
            run(f"ip -n {namespace} link set {device} up")
        run(f"ip -n {SERVER} route add default via 10.0.2.1")
        run(f"ip netns exec {ROUTER} sysctl -qw net.ipv4.ip_forward=1")

    def link(self, name: str) -> Link:
        """Connect execution environment `name` ("A" or "B")."""
        return Link(name, self.delay_ms)

    def serve(self, command: list[str], log: Path, ready: str) -> None:
        """Start a server; returns when it has written `ready` to its log."""
        environment = {**os.environ, "SERVER_ADDRESS": SERVER_ADDRESS}
        with log.open("wb") as output:
            process = subprocess.Popen(within(SERVER, command), stdout=output, stderr=output, env=environment)
        deadline = time.monotonic() + PATIENCE_S
        while ready not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start: {log.read_text(errors='replace')[-500:]}")
            time.sleep(0.05)

    def start_capture(self, file: Path) -> None:
        """Listen at the server's interface, where a user can: libpcap does not run inside Lambda."""
        # Not immediate, tcpdump would lose the packets of its last second when it is stopped.
        options = ["--immediate-mode", "-i", "eth0", "-n", "-s", "0", "-U", "-Z", "root", "-w", str(file)]
        command = ["tcpdump", *options, "tcp or icmp"]
        self._capture = subprocess.Popen(within(SERVER, command), stderr=subprocess.PIPE)
        assert self._capture.stderr
        if b"listening" not in self._capture.stderr.readline():
            raise RuntimeError("tcpdump did not start")

    def stop_capture(self) -> None:
        """Stop before anything else does: the end of the case is no part of the story."""
        assert self._capture
        time.sleep(0.5)  # for what is still under way
        self._capture.send_signal(signal.SIGINT)
        self._capture.communicate(timeout=PATIENCE_S)

    def _take_down(self) -> None:
        names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout.split()
        for namespace in (name for name in names if name.startswith(f"{RUN}-")):
            listed = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
            for process in listed.stdout.split():
                os.kill(int(process), signal.SIGKILL)  # works on stopped ones, too
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(int(process), 0)
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)
