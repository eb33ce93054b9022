"""The stage on which a case is played: network namespaces, cables, captures, servers.

    function A ══ cable ══╗
      10.0.1.11           router ── server   10.0.2.20, tcpdump listens here
    function B ══ cable ══╝
      10.0.1.12

Every execution environment has a namespace, hence a kernel's worth of sockets, of its own. Nothing here can reach
the machine's own network: no namespace has a way out.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).parent
PYTHON = HERE / "python" / "bin" / "python"  # with requirements.txt installed
SERVER_ADDRESS = "10.0.2.20"
RUN = f"capture-{os.getpid()}"  # in the names of namespaces, so that two runs do not meet
SERVER, ROUTER = f"{RUN}-server", f"{RUN}-router"
PATIENCE_S = 20


def run(command: str) -> None:
    """Run one command of the `ip` kind; its complaint becomes the exception."""
    result = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{command}: {result.stderr.strip()}")


def within(namespace: str, command: list[str]) -> list[str]:
    """The command that runs `command` inside a network namespace (under the same process id)."""
    return ["ip", "netns", "exec", namespace, *command]


def settings(namespace: str, **values: object) -> None:
    """Kernel settings of a namespace, named as below net/ with `__` for `/`: `ipv4__tcp_retries2=5`."""
    for name, value in values.items():
        run(f"ip netns exec {namespace} sysctl -qw net.{name.replace('__', '.')}={value}")


def offloads_off(namespace: str, device: str) -> None:
    """Or a capture would show packets larger than the wire takes, with checksums that nobody has computed."""
    run(f"ip netns exec {namespace} ethtool -K {device} tx off tso off gso off gro off")


class Link:
    """An execution environment's place in the network, and the plug of its cable."""

    def __init__(self, name: str, delay_ms: float) -> None:
        """`name`: a letter; the address follows from it."""
        self.name = name
        self.namespace = f"{RUN}-function-{name.lower()}"
        self.address = f"10.0.1.{11 + ord(name) - ord('A')}"
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

    def hold(self) -> None:
        """Like `pull`, but what comes for the function waits in a queue at its door."""
        self._tell("hold")

    def plug(self) -> None:
        """Undo `pull` or `hold`."""
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
        self._captures: list[subprocess.Popen[bytes]] = []
        self._links: dict[str, Link] = {}

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
            offloads_off(namespace, device)
            run(f"ip -n {namespace} link set {device} up")
        run(f"ip -n {SERVER} route add default via 10.0.2.1")
        settings(ROUTER, ipv4__ip_forward=1)

    def link(self, name: str) -> Link:
        """Connect execution environment `name` (a letter)."""
        if name not in self._links:
            self._links[name] = Link(name, self.delay_ms)
        return self._links[name]

    def resolver(self, name: str, lines: str) -> None:
        """The /etc/resolv.conf of environment `name`; call before anything starts there."""
        folder = Path("/etc/netns") / self.link(name).namespace
        folder.mkdir(parents=True)
        (folder / "resolv.conf").write_text(lines)

    def firewall(self, namespace: str, hook: str, *rules: str) -> None:
        """nftables rules at `hook` (input, output, forward) of a namespace; each call adds to what is there."""
        setup = f"add table ip case; add chain ip case {hook} {{ type filter hook {hook} priority 0; }};"
        for rule in rules:
            setup += f"add rule ip case {hook} {rule};"
        self._nft(namespace, setup)

    def no_firewall(self, namespace: str) -> None:
        """Take the rules of `firewall` away."""
        self._nft(namespace, "delete table ip case")

    def nat(self, idle_s: int, forgotten: str) -> None:
        """Make the router a NAT that forgets connections idle for `idle_s`.

        `forgotten`: what it does with a packet of such a connection, in nftables' words: `drop`, or
        `reject with tcp reset`.
        """
        self._nft(
            ROUTER,
            "add table ip nat; add chain ip nat out { type nat hook postrouting priority 100; };"
            "add rule ip nat out oifname to-server masquerade random,persistent",
        )
        settings(
            ROUTER,
            netfilter__nf_conntrack_tcp_loose=0,
            netfilter__nf_conntrack_tcp_timeout_established=idle_s,
        )
        self.firewall(ROUTER, "forward", f"ct state invalid meta l4proto tcp {forgotten}")

    def _nft(self, namespace: str, commands: str) -> None:
        subprocess.run(within(namespace, ["nft", commands]), check=True)

    def serve(self, command: list[str], log: Path, ready: str, **environment: str) -> "subprocess.Popen[bytes]":
        """Start a server; returns when it has written `ready` to its log."""
        variables = {**os.environ, "SERVER_ADDRESS": SERVER_ADDRESS, **environment}
        with log.open("wb") as output:
            process = subprocess.Popen(within(SERVER, command), stdout=output, stderr=output, env=variables)
        deadline = time.monotonic() + PATIENCE_S
        while ready not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start: {log.read_text(errors='replace')[-500:]}")
            time.sleep(0.05)
        return process

    def start_capture(self, file: Path, namespace: str = SERVER, *options: str, what: str = "tcp or icmp") -> None:
        """Listen, by default at the server's interface, where a user can: libpcap does not run inside Lambda."""
        # Not immediate, tcpdump would lose the packets of its last second when it is stopped.
        fixed = ["--immediate-mode", "-n", "-U", "-Z", "root", "-w", str(file)]
        command = ["tcpdump", *(options or ("-i", "eth0", "-s", "0")), *fixed, what]
        capture = subprocess.Popen(within(namespace, command), stderr=subprocess.PIPE)
        self._captures.append(capture)
        assert capture.stderr
        said = b""
        while b"listening" not in said:
            said = capture.stderr.readline()
            if not said:
                raise RuntimeError("tcpdump did not start")

    def stop_capture(self) -> None:
        """Stop before anything else does: the end of the case is no part of the story."""
        time.sleep(0.5)  # for what is still under way
        for capture in self._captures:
            capture.send_signal(signal.SIGINT)
            capture.communicate(timeout=PATIENCE_S)

    def _take_down(self) -> None:
        names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout.split()
        for namespace in (name for name in names if name.startswith(f"{RUN}-")):
            listed = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
            for process in listed.stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)  # works on stopped ones, too
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(int(process), 0)
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)
            shutil.rmtree(Path("/etc/netns") / namespace, ignore_errors=True)
