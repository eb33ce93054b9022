"""Bytes in and out: opening inputs (plain, gzip, zstd, lz4) and writing outputs whole or not at all."""

from __future__ import annotations

import errno
import glob
import gzip
import io
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

#: Stands for standard input and output where a path is wanted.
STANDARD = "-"
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
LZ4_MAGIC = b"\x04\x22\x4d\x18"
#: Enough for every recogniser to tell what a file is.
SNIFF_BYTES = 65_536

#: Decompressed at a time; what stands before damage is handed out in pieces of at most this.
PIECE = 1 << 16

#: What a damaged or foreign compressed stream raises while it is read.
READ_ERRORS: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error)


class _Salvage(io.RawIOBase):
    """A decompressing stream that hands out what it could read before damage, and raises only after that."""

    def __init__(self, inner: Any, file: BinaryIO, *damage: type[Exception]) -> None:
        self._inner = inner
        self._damage = damage  # what its library raises that is none of `READ_ERRORS`
        self._file = file  # which the decompressor leaves open
        self._error: Exception | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        data = self.read(len(target)) or b""
        target[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        if self._error is not None:
            raise self._error
        parts, wanted = [], size if size >= 0 else 1 << 62
        while wanted > 0:
            try:
                part = self._inner.read1(min(wanted, PIECE))
            except READ_ERRORS as error:
                self._error = error
                break
            except self._damage as error:
                self._error = OSError(str(error))
                break
            if not part:
                break
            parts.append(part)
            wanted -= len(part)
        if self._error is not None and not parts:
            raise self._error
        return b"".join(parts)

    def close(self) -> None:
        self._inner.close()
        self._file.close()
        super().close()


def open_stream(path: str) -> BinaryIO:
    """Open `path` for reading, decompressed.

    Raises `OSError` when the file cannot be opened. A stream that turns out damaged gives what it has, then raises one of
    `READ_ERRORS`.
    """
    plain = io.BufferedReader(Path(path).open("rb", buffering=0), 1 << 20)  # noqa: SIM115 - the caller closes it
    head = plain.peek(4)[:4]
    if head.startswith(GZIP_MAGIC):
        return _Salvage(gzip.GzipFile(fileobj=plain), plain)  # type: ignore[return-value]
    if head.startswith(ZSTD_MAGIC):
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(plain, read_across_frames=True)
        return _Salvage(reader, plain, zstandard.ZstdError)  # type: ignore[return-value]
    if head.startswith(LZ4_MAGIC):
        return _Salvage(_lz4(plain), plain, RuntimeError)  # type: ignore[return-value]
    return plain


def _lz4(plain: BinaryIO) -> Any:
    try:
        import lz4.frame
    except ImportError:
        what = "compressed by lz4, which needs a library: pip install 'connection-analyzer[lz4]'"
        raise OSError(errno.ENOSYS, what) from None
    return lz4.frame.LZ4FrameFile(plain)


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
    with Path(path).open("rb") as f:
        head = f.read(4)
    if head.startswith((GZIP_MAGIC, ZSTD_MAGIC, LZ4_MAGIC)):
        return None
    size = Path(path).stat().st_size
    return size or None


def openable(paths: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """The paths that can be opened, and those that cannot, with why."""
    good, bad = [], []
    for path in paths:
        try:
            if path != STANDARD and not Path(path).is_dir() and (Path(path).exists() or not glob.glob(path)):
                Path(path).open("rb").close()
            good.append(path)
        except OSError as error:
            bad.append((path, error.strerror or str(error)))
    return good, bad


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Write a file that appears complete or not at all: a temporary neighbour, synced, renamed over the target."""
    target = Path(os.path.realpath(path))  # a link stays one
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error
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
