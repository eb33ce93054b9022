"""A TCP server that greets, one connection after the other, with a short accept queue; SIGUSR1 makes it busy for some seconds."""

import os
import signal
import socket
import time

BACKLOG = int(os.environ.get("BACKLOG", "2"))
BUSY_S = float(os.environ.get("BUSY_S", "6"))


def busy(signal_number: int, frame: object) -> None:
    """Compute, and accept nobody."""
    time.sleep(BUSY_S)


signal.signal(signal.SIGUSR1, busy)
server = socket.create_server((os.environ["SERVER_ADDRESS"], 7003), backlog=BACKLOG)
print("ready")
while True:
    connection, _ = server.accept()
    connection.sendall(b"hello\n")
    connection.close()
