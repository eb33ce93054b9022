"""Capture files to records: classic pcap and pcapng, in blocks of bounded size.

A block of the file is held as it is; records are offsets into it. Nothing is copied until a segment's columns are
written. Formats: pcap (tcpdump group, `pcap-savefile(5)`), micro- and nanosecond, both byte orders; pcapng
(draft-ietf-opsawg-pcapng) with several sections and interfaces, enhanced, simple and old packet blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from analyzer.capture.byteorder import be32, le32, u8
from analyzer.capture.columns import N_RECORD, R_CAPLEN, R_LEN, R_LINK, R_NO, R_OFFSET, R_TS
from analyzer.kernel import COMPILE_FROM, compiled_wanted, kernel
from analyzer.model.problems import Problem
from analyzer.streams import READ_ERRORS

PCAP_MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"

#: No real record is larger: libpcap's MAXIMUM_SNAPLEN is 262144, USB captures go to 128 MB, which we do not decode.
MAX_RECORD = 1 << 20
READ_SIZE = 8 << 20
BATCH_COMPILED = 65_536
BATCH_INTERPRETED = 4_096

BLOCK_SECTION, BLOCK_INTERFACE, BLOCK_PACKET_OLD, BLOCK_SIMPLE, BLOCK_NAMES, BLOCK_STATS, BLOCK_ENHANCED = (
    0x0A0D0D0A, 1, 2, 3, 4, 5, 6,
)  # fmt: skip

# Columns of one pcapng interface for the scanning kernel.
I_LINK, I_MUL, I_DIV, I_SHIFT, I_OFFSET, I_SNAPLEN = range(6)
N_INTERFACE = 6


def to_ns(units: int, mul: int, div: int, shift: int) -> int:
    """A pcapng time stamp in ns: `units × mul / div` for decimal resolutions, binary ones by `shift`."""
    if shift > 0:
        whole = units >> shift
        part = units & ((1 << shift) - 1)
        if shift > 30:  # keep the product inside 64 bits
            part = part >> (shift - 30)
            return whole * 1_000_000_000 + ((part * 1_000_000_000) >> 30)
        return whole * 1_000_000_000 + ((part * 1_000_000_000) >> shift)
    return units * mul // div


@kernel(u8, le32, be32)
def scan_pcap(
    data: Any, pos: int, end: int, big: int, unit_ns: int, link: int, number: int, records: Any, limit: int
) -> tuple[int, int]:
    """Walk pcap records from `pos`; returns (where it stopped, records found). Stops at a cut or impossible record."""
    n = 0
    while n < limit and pos + 16 <= end:
        if big:
            sec, frac, caplen, wire = be32(data, pos), be32(data, pos + 4), be32(data, pos + 8), be32(data, pos + 12)
        else:
            sec, frac, caplen, wire = le32(data, pos), le32(data, pos + 4), le32(data, pos + 8), le32(data, pos + 12)
        if caplen > MAX_RECORD or pos + 16 + caplen > end:
            break
        row = records[n]
        row[R_OFFSET] = pos + 16
        row[R_CAPLEN] = caplen
        row[R_LEN] = wire
        row[R_TS] = sec * 1_000_000_000 + frac * unit_ns
        row[R_NO] = number + n
        row[R_LINK] = link
        n += 1
        pos += 16 + caplen
    return pos, n


@kernel(u8, le32, be32, to_ns)
def scan_enhanced(
    data: Any, pos: int, end: int, big: int, interfaces: Any, n_interfaces: int, number: int, records: Any, limit: int
) -> tuple[int, int]:
    """Walk a run of pcapng enhanced packet blocks; stops at any other block, or at one that is cut or impossible."""
    n = 0
    while n < limit and pos + 32 <= end:
        if big:
            kind, size, interface = be32(data, pos), be32(data, pos + 4), be32(data, pos + 8)
            high, low, caplen, wire = be32(data, pos + 12), be32(data, pos + 16), be32(data, pos + 20), be32(data, pos + 24)
        else:
            kind, size, interface = le32(data, pos), le32(data, pos + 4), le32(data, pos + 8)
            high, low, caplen, wire = le32(data, pos + 12), le32(data, pos + 16), le32(data, pos + 20), le32(data, pos + 24)
        if kind != BLOCK_ENHANCED or size < 32 or size > MAX_RECORD or pos + size > end:
            break
        if interface >= n_interfaces or caplen > size - 32 or high >= 0x80000000:
            break
        face = interfaces[interface]
        row = records[n]
        row[R_OFFSET] = pos + 28
        row[R_CAPLEN] = caplen
        row[R_LEN] = wire
        row[R_TS] = to_ns((high << 32) | low, face[I_MUL], face[I_DIV], face[I_SHIFT]) + face[I_OFFSET]
        row[R_NO] = number + n
        row[R_LINK] = face[I_LINK]
        n += 1
        pos += (size + 3) & ~3
    return pos, n


@dataclass(slots=True)
class Batch:
    """`n` records of one block: `data` holds the bytes (`base` is its file offset), `records` the R_ columns."""

    data: Any
    base: int
    records: Any
    n: int
    compiled: bool


@dataclass(slots=True)
class Buffer:
    """A sliding window over the file: `data[pos:end]` is what is not yet used."""

    stream: BinaryIO
    problems: list[Problem]
    data: bytearray = field(default_factory=bytearray)
    base: int = 0
    pos: int = 0
    ended: bool = False

    @property
    def end(self) -> int:
        return len(self.data)

    @property
    def offset(self) -> int:
        """File offset of the next unused byte."""
        return self.base + self.pos

    def fill(self, wanted: int = READ_SIZE) -> bool:
        """Drop what was used, read on; False when the file has ended. Batches of the old window stay valid."""
        if self.ended:
            return False
        rest = self.data[self.pos :]
        self.base += self.pos
        self.pos = 0
        try:
            more = self.stream.read(wanted)
        except READ_ERRORS as error:
            self.problems.append(Problem("", f"reading stopped at byte {self.base + len(rest):,}: {error}"))
            more = b""
        self.data = rest + more if rest else bytearray(more)
        self.ended = not more
        return not self.ended

    def need(self, size: int) -> bool:
        """Make `size` unused bytes available; False when the file ends before."""
        while self.end - self.pos < size:
            if not self.fill(max(READ_SIZE, size)):
                return False
        return True


class Container:
    """A capture file as a stream of batches. `problems` tells what could not be read; `links` the link types seen."""

    def __init__(self, stream: BinaryIO, size: int | None = None) -> None:
        self.problems: list[Problem] = []
        self.links: dict[int, int] = {}
        self.format = ""
        self.number = 0
        self._size = size
        self._buffer = Buffer(stream, self.problems)

    def batches(self) -> Iterator[Batch]:
        """Every record of the file, in file order."""
        buffer = self._buffer
        if not buffer.need(4):
            self.problems.append(Problem("", "empty file" if buffer.end == 0 else "shorter than a capture file header"))
            return
        magic = bytes(buffer.data[:4])
        if magic == PCAPNG_MAGIC:
            self.format = "pcapng"
            yield from self._pcapng()
        elif magic in PCAP_MAGICS:
            self.format = "pcap"
            yield from self._pcap(*PCAP_MAGICS[magic])
        else:
            self.problems.append(Problem("", f"not a capture file: it starts with {magic.hex(' ')}"))

    def _compiled(self) -> bool:
        """Whether the next batch goes through the compiled kernels: by the file's size, else by what came so far."""
        estimate = self._size // 100 if self._size is not None else self.number
        return compiled_wanted(max(estimate, self.number))

    def _runs(self, scan: Callable[[Any, Any, Any, int, bool], tuple[int, int]]) -> Iterator[Batch]:
        """Batches from one run of records: calls `scan(kernel_form…)` until it makes no progress in a full window."""
        buffer = self._buffer
        while True:
            compiled = self._compiled()
            limit = BATCH_COMPILED if compiled else min(BATCH_INTERPRETED, COMPILE_FROM)
            data: Any
            records: Any
            if compiled:
                import numpy as np

                data, records = np.frombuffer(buffer.data, np.uint8), np.empty((limit, N_RECORD), np.int64)
            else:
                data, records = bytes(buffer.data), [[0] * N_RECORD for _ in range(limit)]
            while True:
                buffer.pos, n = scan(data, records, buffer.pos, limit, compiled)
                self.number += n
                if n:
                    yield Batch(data, buffer.base, records, n, compiled)
                if n < limit or compiled != self._compiled():
                    break
            if n == limit:
                continue
            if not buffer.fill():
                return
            yield from ()
            if n == 0 and buffer.end - buffer.pos > MAX_RECORD + 64:
                return

    def _pcap(self, order: str, unit_ns: int) -> Iterator[Batch]:
        buffer = self._buffer
        if not buffer.need(24):
            self.problems.append(Problem("", "cut short inside the file header"))
            return
        network = struct.unpack_from(order + "I", buffer.data, 20)[0]
        link = network & 0x03FFFFFF  # the upper bits tell the frame check sequence (pcap-savefile(5))
        self.links[link] = 0
        buffer.pos = 24
        big = int(order == ">")

        def scan(data: Any, records: Any, pos: int, limit: int, compiled: bool) -> tuple[int, int]:
            run = scan_pcap.compiled if compiled else scan_pcap.interpreted
            found: tuple[int, int] = run(data, pos, len(data), big, unit_ns, link, self.number + 1, records, limit)
            return found

        yield from self._runs(scan)
        left = buffer.end - buffer.pos
        if left >= 16:
            caplen = struct.unpack_from(order + "I", buffer.data, buffer.pos + 8)[0]
            if caplen > MAX_RECORD:
                self._damage(f"a record claims {caplen:,} captured bytes at byte {buffer.offset:,}; stopped there")
                return
            self._damage(f"cut short: the last record has {left - 16:,} of {caplen:,} bytes")
        elif left:
            self._damage(f"cut short: {left} bytes of a record header at the end")

    def _damage(self, what: str) -> None:
        self.problems.append(Problem(f"#{self.number + 1}", what))

    # ---- pcapng

    def _pcapng(self) -> Iterator[Batch]:
        buffer = self._buffer
        order = "<"
        interfaces: list[list[int]] = []
        while buffer.need(12):
            kind = struct.unpack_from(order + "I", buffer.data, buffer.pos)[0]
            if kind == BLOCK_SECTION:
                magic = bytes(buffer.data[buffer.pos + 8 : buffer.pos + 12])
                if magic not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
                    self._damage(f"unknown byte-order magic {magic.hex(' ')} in a section header at byte {buffer.offset:,}")
                    return
                order = "<" if magic == b"\x4d\x3c\x2b\x1a" else ">"
                interfaces = []
            size = struct.unpack_from(order + "I", buffer.data, buffer.pos + 4)[0]
            if size < 12 or size > 1 << 28:
                self._damage(f"a block claims {size:,} bytes at byte {buffer.offset:,}; stopped there")
                return
            if not buffer.need(size):
                self._damage(f"cut short: the last block has {buffer.end - buffer.pos:,} of {size:,} bytes")
                return
            if kind == BLOCK_ENHANCED and interfaces:
                before = self.number
                yield from self._enhanced(order, interfaces)
                if self.number > before:
                    continue
                if self._bad_packet_block(order, len(interfaces)):
                    return
                continue
            body = bytes(buffer.data[buffer.pos + 8 : buffer.pos + size - 4])
            if kind == BLOCK_INTERFACE:
                interfaces.append(self._interface(order, body))
            elif kind in (BLOCK_SIMPLE, BLOCK_PACKET_OLD, BLOCK_ENHANCED):
                yield from self._single(order, kind, body, interfaces)
            elif kind == BLOCK_STATS:
                self._drops(order, body)
            buffer.pos += (size + 3) & ~3
        if buffer.end - buffer.pos:
            self._damage(f"cut short: {buffer.end - buffer.pos} bytes of a block header at the end")

    def _enhanced(self, order: str, interfaces: list[list[int]]) -> Iterator[Batch]:
        big = int(order == ">")
        arrays: dict[bool, Any] = {False: interfaces}

        def scan(data: Any, records: Any, pos: int, limit: int, compiled: bool) -> tuple[int, int]:
            if compiled and True not in arrays:
                import numpy as np

                arrays[True] = np.array(interfaces, np.int64)
            run = scan_enhanced.compiled if compiled else scan_enhanced.interpreted
            found: tuple[int, int] = run(
                data, pos, len(data), big, arrays[compiled], len(interfaces), self.number + 1, records, limit
            )
            return found

        buffer = self._buffer
        for batch in self._runs(scan):
            yield batch
            if buffer.end - buffer.pos >= 4:
                if struct.unpack_from(order + "I", buffer.data, buffer.pos)[0] != BLOCK_ENHANCED:
                    return

    def _bad_packet_block(self, order: str, n_interfaces: int) -> bool:
        """An enhanced packet block that the kernel refused: say why, step over it; True when reading must stop."""
        buffer = self._buffer
        size, interface = struct.unpack_from(order + "II", buffer.data, buffer.pos + 4)
        self.number += 1
        if interface >= n_interfaces:
            what = f"packet of interface {interface}, which no interface block describes; skipped"
        else:
            what = f"damaged packet block of {size} bytes at byte {buffer.offset:,}; skipped"
        self.problems.append(Problem(f"#{self.number}", what))
        buffer.pos += (size + 3) & ~3
        return False

    def _interface(self, order: str, body: bytes) -> list[int]:
        """One interface description block as the kernel's row."""
        if len(body) < 8:
            self._damage("an interface block is too short; its packets are not decoded")
            return [-1, 1, 1, 0, 0, 0]
        link, _, snaplen = struct.unpack_from(order + "HHI", body)
        mul, div, shift, offset = 1000, 1, 0, 0  # default resolution: microseconds (pcapng §4.2)
        for code, value in options(order, body[8:]):
            if code == 9 and value:
                exponent = value[0] & 0x7F
                if value[0] & 0x80:
                    mul, div, shift = 1, 1, exponent
                elif exponent <= 9:
                    mul, div, shift = 10 ** (9 - exponent), 1, 0
                else:
                    mul, div, shift = 1, 10 ** min(exponent - 9, 9), 0
            elif code == 14 and len(value) == 8:
                offset = struct.unpack(order + "q", value)[0] * 1_000_000_000
        self.links.setdefault(link, 0)
        return [link, mul, div, shift, offset, snaplen]

    def _single(self, order: str, kind: int, body: bytes, interfaces: list[list[int]]) -> Iterator[Batch]:
        """Simple and old packet blocks: rare, one record at a time."""
        self.number += 1
        ref = f"#{self.number}"
        if kind == BLOCK_ENHANCED:
            self.problems.append(Problem(ref, "packet before any interface block; skipped"))
            return
        if kind == BLOCK_SIMPLE:
            if not interfaces or len(body) < 4:
                self.problems.append(Problem(ref, "simple packet block without an interface; skipped"))
                return
            face = interfaces[0]
            wire = struct.unpack_from(order + "I", body)[0]
            start, caplen = 4, min(wire, len(body) - 4, face[I_SNAPLEN] or wire)
            ts = 0  # simple packet blocks carry no time (pcapng §4.4)
            if not any("no time stamp" in p.what for p in self.problems):
                self.problems.append(Problem(ref, "simple packet blocks carry no time stamp: times of those packets are unknown"))
        else:
            if len(body) < 20:
                self.problems.append(Problem(ref, "old packet block too short; skipped"))
                return
            number, _, high, low, caplen, wire = struct.unpack_from(order + "HHIIII", body)
            if number >= len(interfaces) or caplen > len(body) - 20:
                self.problems.append(Problem(ref, "old packet block of an unknown interface or length; skipped"))
                return
            face, start = interfaces[number], 20
            ts = to_ns((high << 32) | low, face[I_MUL], face[I_DIV], face[I_SHIFT]) + face[I_OFFSET]
        base = self._buffer.offset + 8
        yield Batch(body, base, [[start, caplen, wire, ts, self.number, face[I_LINK]]], 1, False)

    def _drops(self, order: str, body: bytes) -> None:
        """Interface statistics: packets that the kernel dropped are silence that proves nothing."""
        for code, value in options(order, body[12:]):
            if code in (5, 7) and len(value) == 8:
                dropped = struct.unpack(order + "Q", value)[0]
                if dropped:
                    who = "the interface" if code == 5 else "the capturing host"
                    self.problems.append(Problem("", f"{who} dropped {dropped:,} packets: silence in this capture may be loss"))


def options(order: str, data: bytes) -> Iterator[tuple[int, bytes]]:
    """The options of a pcapng block: (code, value) until the end-of-options or damage."""
    i = 0
    while i + 4 <= len(data):
        code, size = struct.unpack_from(order + "HH", data, i)
        if code == 0 or i + 4 + size > len(data):
            return
        yield code, data[i + 4 : i + 4 + size]
        i += 4 + ((size + 3) & ~3)
