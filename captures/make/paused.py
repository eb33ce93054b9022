"""Sets the TCP time stamps of another process's sockets back, as if its machine's clock had stood still.

The kernel lets a checkpoint be restored so (TCP_REPAIR, TCP_TIMESTAMP: tcp(7), CRIU): the stamps go on from where they were. The
sockets stay the kernel's own, and everything else about them too.
"""

import contextlib
import ctypes
import os
import socket
from pathlib import Path

SYS_PIDFD_GETFD = 438  # the same number on all architectures
TCP_REPAIR, TCP_TIMESTAMP = 19, 24  # linux/tcp.h
REPAIR_ON, REPAIR_OFF_WITHOUT_PROBE = 1, -1


def set_back(pid: int, seconds: float) -> None:
    """Take `seconds` from the time stamps of all TCP connections of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if not str(entry.readlink()).startswith("socket:"):
            continue
        copy = libc.syscall(SYS_PIDFD_GETFD, process, int(entry.name), 0)
        if copy < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
        with socket.socket(fileno=copy) as connection, contextlib.suppress(OSError):  # one that is no TCP connection
            connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_ON)
            stamp = connection.getsockopt(socket.IPPROTO_TCP, TCP_TIMESTAMP)
            stamp = (stamp - round(seconds * 1000)) & 0xFFFFFFFE  # the lowest bit would ask for stamps in microseconds
            connection.setsockopt(socket.IPPROTO_TCP, TCP_TIMESTAMP, ctypes.c_int32(stamp).value)
            connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_OFF_WITHOUT_PROBE)
    os.close(process)
