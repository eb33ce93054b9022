"""Bytes in and out: opening inputs (plain, gzip, zstd, standard input) and writing outputs whole or not at all."""

from __future__ import annotations

import gzip
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
#: Enough for every recogniser to tell what a file is.
SNIFF_BYTES = 65_536

#: What a damaged or foreign compressed stream raises while it is read.
try:
    from zstandard import ZstdError
except ImportError:  # pragma: no cover - zstandard is a dependency; this keeps a broken install readable
    ZstdError = OSError  # type: ignore[assignment,misc]
READ_ERRORS: tuple[type[Exception], ...] = (OSError, EOFError, ZstdError)


def open_stream(path: str) -> BinaryIO:
    """Open `path` for reading, decompressed; `-` is standard input.

    Raises `OSError` when the file cannot be opened. A stream that turns out damaged raises one of `READ_ERRORS` later.
    """
    raw: BinaryIO = sys.stdin.buffer if path == "-" else Path(path).open("rb", buffering=0)  # noqa: SIM115 - the caller closes it
    peekable = io.BufferedReader(raw, 1 << 20) if isinstance(raw, io.RawIOBase) else raw
    head = peekable.peek(4)[:4] if hasattr(peekable, "peek") else b""
    if head.startswith(GZIP_MAGIC):
        return gzip.GzipFile(fileobj=peekable)  # type: ignore[return-value]
    if head.startswith(ZSTD_MAGIC):
        import zstandard

        return zstandard.ZstdDecompressor().stream_reader(peekable, read_across_frames=True, closefd=True)
    return peekable


def read_head(path: str) -> bytes:
    """The first `SNIFF_BYTES` of a file, decompressed as far as that goes."""
    head = b""
    with open_stream(path) as stream:
        try:
            while len(head) < SNIFF_BYTES and (more := stream.read(SNIFF_BYTES - len(head))):
                head += more
        except READ_ERRORS:
            if not head:
                raise
    return head


def plain_size(path: str) -> int | None:
    """Bytes of a plain regular file, None where the decompressed size cannot be known beforehand."""
    if path == "-":
        return None
    with Path(path).open("rb") as f:
        head = f.read(4)
    if head.startswith(GZIP_MAGIC) or head.startswith(ZSTD_MAGIC):
        return None
    size = Path(path).stat().st_size
    return size or None


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Write a file that appears complete or not at all: a temporary neighbour, synced, renamed over the target."""
    target = Path(path)
    fd, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent or Path())
    try:
        with os.fdopen(fd, "wb") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
