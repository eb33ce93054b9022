"""A cable with a length and a plug: carries IP packets between two TUN devices, late, and can be pulled out.

`stage.py` starts one per execution environment, in the router's namespace, and moves the function's end away to the
function's. It is a process of its own so that packets keep moving while the maker waits for something else.

usage: cable.py FUNCTION_END ROUTER_END DELAY_MS      then, on standard input: `pull`, `hold` or `plug`, answered by `ok`

Why not `tc netem`? Not every kernel has it, and a virtual machine that stands still is more than a slow link:
what is under way *to* it is lost at its door (`pull`) or waits there (`hold`), what it had sent before still arrives.
"""

import contextlib
import fcntl
import heapq
import itertools
import os
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000  # IP packets, without the four bytes of packet information
LARGEST_PACKET = 65535
STANDARD_INPUT = 0


def open_tun(name: str) -> int:
    """Create a TUN device in this network namespace; the descriptor stays good when the device moves to another."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


class Cable:
    """Packets on their way, ordered by the time they arrive."""

    def __init__(self, function_end: int, router_end: int, delay_s: float) -> None:
        self.function_end = function_end
        self.router_end = router_end
        self.delay_s = delay_s
        self.plugged = True
        self.holding = False
        self._waiting: list[bytes] = []  # at the function's door
        self._on_the_way: list[tuple[float, int, int, bytes]] = []
        self._order = itertools.count()  # breaks ties, so that packets never overtake one another

    def accept(self, end: int) -> None:
        """Take one packet that the kernel sends into `end`."""
        try:
            packet = os.read(end, LARGEST_PACKET)
        except OSError:  # the stage is being taken down
            return
        if end == self.function_end and not self.plugged:
            return
        other = self.router_end if end == self.function_end else self.function_end
        heapq.heappush(self._on_the_way, (time.monotonic() + self.delay_s, next(self._order), other, packet))

    def deliver(self) -> float | None:
        """Hand over what has arrived; seconds until the next arrival, None if the cable is empty."""
        while self._on_the_way:
            wait = self._on_the_way[0][0] - time.monotonic()
            if wait > 0:
                return wait
            *_, end, packet = heapq.heappop(self._on_the_way)
            if end == self.router_end or self.plugged:
                write(end, packet)
            elif self.holding:
                self._waiting.append(packet)
        return None

    def obey(self, order: str) -> None:
        """`pull`, `hold` or `plug`."""
        self.plugged, self.holding = order == "plug", order == "hold"
        while self.plugged and self._waiting:
            write(self.function_end, self._waiting.pop(0))


def write(end: int, packet: bytes) -> None:
    """Write to a TUN device; one that is not up (yet, or any more) loses the packet, as a real one would."""
    with contextlib.suppress(OSError):
        os.write(end, packet)


def main(function_end: str, router_end: str, delay_ms: str) -> None:
    """Carry packets until standard input closes."""
    cable = Cable(open_tun(function_end), open_tun(router_end), float(delay_ms) / 1000)
    ends = {cable.function_end, cable.router_end}
    print("ok", flush=True)
    while True:
        ready, _, _ = select.select([STANDARD_INPUT, *ends], [], [], cable.deliver())
        if STANDARD_INPUT in ready:
            order = sys.stdin.readline().strip()
            if not order:
                return
            cable.obey(order)
            print("ok", flush=True)
        for end in set(ready) & ends:
            cable.accept(end)


if __name__ == "__main__":
    main(*sys.argv[1:])
