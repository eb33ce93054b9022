"""Standard input: recognised by its first bytes, handed out as it comes, and kept in a temporary file to be read again."""

from __future__ import annotations

import atexit
import io
import os
import select
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

#: How long after Ctrl-C the rest of the stream is waited for: the sender (tcpdump) was interrupted too and writes its last.
GRACE_S = 1.0
#: How often a waiting read looks whether it was interrupted.
LOOK_S = 0.2


class StandardInput(io.RawIOBase):
    """Standard input as a stream that never waits for more than there is (`live`), copied to `copy` on the way.

    Ctrl-C, inside `interruptible`, ends it at the next pause; a second one at once (`KeyboardInterrupt`). `on_wait` is
    called now and then while nothing comes.
    """

    live = True

    def __init__(self, fd: int | None = None) -> None:
        self._fd = sys.stdin.fileno() if fd is None else fd
        self.on_wait: Callable[[], None] | None = None
        self._ahead = b""
        self._ended = False
        self._until: float | None = None
        handle, self.copy = tempfile.mkstemp(prefix="analyze-")
        self._file = os.fdopen(handle, "wb")
        atexit.register(lambda: Path(self.copy).unlink(missing_ok=True))

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it."""
        return self._until is not None

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def readinto(self, target: Any) -> int:
        """Fill `target` with what there is; 0 at the end."""
        data = self._ahead[: len(target)] or self._take(len(target))
        self._ahead = self._ahead[len(data) :]
        target[: len(data)] = data
        return len(data)

    def head(self, size: int) -> bytes:
        """The first bytes, which the next reading returns again."""
        while len(self._ahead) < size and (more := self._take(size - len(self._ahead))):
            self._ahead += more
        return self._ahead

    def drain(self) -> None:
        """Read to the end: `copy` then holds all of it."""
        while self._take(1 << 20):
            pass

    def close(self) -> None:
        """Close the copy; standard input itself stays open."""
        self._file.close()
        super().close()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let Ctrl-C end the stream instead of the program, and take the results so far with it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def end(*_: Any) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self._until = monotonic() + GRACE_S

        before = signal.signal(signal.SIGINT, end)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _take(self, size: int) -> bytes:
        """What has come, at most `size` bytes; nothing at the end."""
        if self._ended or not self._wait():
            return b""
        data = os.read(self._fd, size)
        self._ended = not data
        self._file.write(data)
        self._file.flush()
        return data

    def _wait(self) -> bool:
        """Wait until something can be read; False where an interrupted stream stays silent."""
        if os.name == "nt":  # select() takes sockets only there: Ctrl-C then takes effect with the next bytes
            return not self.interrupted
        while self._until is None or monotonic() < self._until:
            if select.select([self._fd], [], [], LOOK_S)[0]:
                return True
            if self.on_wait:
                self.on_wait()
        return False
