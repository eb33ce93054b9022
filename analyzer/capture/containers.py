"""Capture files to records: classic pcap and pcapng, in blocks of bounded size.

A window of the file is held as it is; records are offsets into it. Nothing is copied until a segment's columns are
written. Formats: pcap (tcpdump group, `pcap-savefile(5)`), micro- and nanosecond, with Kuznetzov's longer record headers,
both byte orders; pcapng (draft-ietf-opsawg-pcapng) with several sections and interfaces, enhanced, simple and old packet
blocks, names, comments, drop counts; whether there are secrets is told, other blocks are stepped over.

Rules that this file keeps: what the file claims is checked before it is used, in the kernels too, which compiled have
no bounds checks; work and memory stay proportional to the bytes read, whatever they say; a time that cannot be is 0,
"unknown", and never leaves 62 bits, so that no sum of it overflows.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from msgspec import Struct

from analyzer.capture.byteorder import be32, le32, u8
from analyzer.capture.columns import N_RECORD, R_CAPLEN, R_IFACE, R_LEN, R_LINK, R_NO, R_OFFSET, R_TS
from analyzer.kernel import Bytes, Column, compiled_wanted, kernel
from analyzer.model.problems import Problem
from analyzer.streams import READ_ERRORS

#: Bytes of a record's header; Kuznetzov's patch to libpcap adds interface index, protocol and direction.
PCAP_RECORD, PCAP_RECORD_MODIFIED = 16, 24
#: Byte order, ns of a stamp's unit, record header; the last two are Kuznetzov's (Wireshark's `libpcap.c`).
PCAP_MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000, PCAP_RECORD),
    b"\xa1\xb2\xc3\xd4": (">", 1000, PCAP_RECORD),
    b"\x4d\x3c\xb2\xa1": ("<", 1, PCAP_RECORD),
    b"\xa1\xb2\x3c\x4d": (">", 1, PCAP_RECORD),
    b"\x34\xcd\xb2\xa1": ("<", 1000, PCAP_RECORD_MODIFIED),
    b"\xa1\xb2\xcd\x34": (">", 1000, PCAP_RECORD_MODIFIED),
}
PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"

#: No real record is larger: libpcap's MAXIMUM_SNAPLEN is 262144, USB captures go to 128 MB, which we do not decode.
MAX_RECORD = 1 << 20
#: A larger pcapng block is damage: secrets and name blocks stay far below.
MAX_BLOCK = 1 << 28
#: What is read at once stays in the cache between the scan of its records and their decoding: a tenth faster than 4 MB. It makes
#: one batch, or a little more where records are short.
READ_SIZE = 3 << 19
BATCH_COMPILED = 16_384
BATCH_INTERPRETED = 2_048
#: The first batch is a sample: it tells how many records a file of this size holds.
BATCH_SAMPLE = 32
#: More problems than this in one file are counted, not listed.
MAX_PROBLEMS = 50
#: Times are kept below this (year 2116), so that differences and sums stay inside 64 bits.
MAX_NS = 1 << 62
MAX_UNITS = (1 << 63) - 1

#: Of one capture; people write few.
MAX_COMMENTS, MAX_COMMENT = 1_000, 1_000
MAX_NAMES, MAX_NAME = 10_000, 255

BLOCK_SECTION, BLOCK_INTERFACE, BLOCK_PACKET_OLD, BLOCK_SIMPLE, BLOCK_NAMES, BLOCK_STATS, BLOCK_ENHANCED, BLOCK_SECRETS = (
    0x0A0D0D0A, 1, 2, 3, 4, 5, 6, 10,
)  # fmt: skip
OTHER_BLOCKS = frozenset((BLOCK_SECTION, BLOCK_INTERFACE, BLOCK_NAMES, BLOCK_STATS, BLOCK_SECRETS))
#: Where the options begin in the body of those blocks that people comment on, packets aside.
OPTIONS_AT = {BLOCK_SECTION: 16, BLOCK_INTERFACE: 8, BLOCK_STATS: 12}
OPTION_COMMENT = 1
PACKET_BLOCKS = frozenset((BLOCK_PACKET_OLD, BLOCK_SIMPLE, BLOCK_ENHANCED))

# Columns of one pcapng interface for the scanning kernel.
I_LINK, I_MUL, I_DIV, I_SHIFT, I_OFFSET, I_SNAPLEN, I_MAX = range(7)
N_INTERFACE = 7
#: An interface that no block describes well enough: its packets are counted, not decoded.
NO_INTERFACE = [-1, 0, 1, 0, 0, 0, 0]


def to_ns(units: int, interfaces: Any, face: int) -> int:
    """A pcapng time stamp in ns: `units × mul / div` or, for binary resolutions, by `shift`; 0 if it cannot be.

    Of stamps of 64 bits one form of the kernel makes negative numbers, the other large ones: neither can be.
    """
    if units < 0 or units > interfaces[face + I_MAX]:
        return 0
    shift = interfaces[face + I_SHIFT]
    if shift > 0:
        part = units & ((1 << shift) - 1)
        if shift > 33:  # keep the product inside 63 bits
            part = part >> (shift - 33)
            shift = 33
        ns = (units >> interfaces[face + I_SHIFT]) * 1_000_000_000 + ((part * 1_000_000_000) >> shift)
    else:
        ns = units * interfaces[face + I_MUL] // interfaces[face + I_DIV]
    ns += interfaces[face + I_OFFSET]
    return ns if 0 < ns < MAX_NS else 0


@kernel(u8, le32, be32)
def scan_pcap(
    data: Bytes,
    pos: int,
    end: int,
    big: int,
    header: int,
    unit_ns: int,
    link: int,
    number: int,
    records: Column,
    limit: int,
) -> tuple[int, int]:
    """Walk pcap records from `pos`; returns (where it stopped, records found). Stops at a cut or impossible record.

    `header` is the size of a record's header, 16 or more.
    """
    n = 0
    while n < limit and pos + header <= end:
        if big:
            sec, frac, caplen, wire = be32(data, pos), be32(data, pos + 4), be32(data, pos + 8), be32(data, pos + 12)
        else:
            sec, frac, caplen, wire = le32(data, pos), le32(data, pos + 4), le32(data, pos + 8), le32(data, pos + 12)
        if caplen > MAX_RECORD or pos + header + caplen > end:
            break
        row = n * N_RECORD
        records[row + R_OFFSET] = pos + header
        records[row + R_CAPLEN] = caplen
        records[row + R_LEN] = wire
        records[row + R_TS] = sec * 1_000_000_000 + frac * unit_ns
        records[row + R_NO] = number + n
        records[row + R_LINK] = link
        records[row + R_IFACE] = 0
        if header > PCAP_RECORD:
            records[row + R_IFACE] = be32(data, pos + 16) if big else le32(data, pos + 16)
        n += 1
        pos += header + caplen
    return pos, n


@kernel(u8, le32, be32, to_ns)
def scan_enhanced(
    data: Bytes,
    pos: int,
    end: int,
    big: int,
    interfaces: Column,
    n_interfaces: int,
    number: int,
    heed: int,
    records: Column,
    limit: int,
) -> tuple[int, int]:
    """Walk a run of pcapng enhanced packet blocks; stops at any other block, or at one that is cut or impossible.

    With `heed` it also stops behind a packet whose first option is a comment, as Wireshark writes them.
    """
    n = 0
    while n < limit and pos + 32 <= end:
        if big:
            kind, size, interface = be32(data, pos), be32(data, pos + 4), be32(data, pos + 8)
            high, low, caplen, wire = (
                be32(data, pos + 12),
                be32(data, pos + 16),
                be32(data, pos + 20),
                be32(data, pos + 24),
            )
        else:
            kind, size, interface = le32(data, pos), le32(data, pos + 4), le32(data, pos + 8)
            high, low, caplen, wire = (
                le32(data, pos + 12),
                le32(data, pos + 16),
                le32(data, pos + 20),
                le32(data, pos + 24),
            )
        if kind != BLOCK_ENHANCED or size < 32 or size > MAX_BLOCK or pos + size > end:
            break
        if interface >= n_interfaces or caplen > size - 32:
            break
        face = interface * N_INTERFACE
        row = n * N_RECORD
        records[row + R_OFFSET] = pos + 28
        records[row + R_CAPLEN] = caplen
        records[row + R_LEN] = wire
        records[row + R_TS] = to_ns((high << 32) | low, interfaces, face)
        records[row + R_NO] = number + n
        records[row + R_LINK] = interfaces[face + I_LINK]
        records[row + R_IFACE] = interface
        n += 1
        option = pos + 28 + ((caplen + 3) & ~3)
        comment = 0
        if heed and option + 8 <= pos + size:
            comment = int(u8(data, option + big) == OPTION_COMMENT and u8(data, option + 1 - big) == 0)
        pos += (size + 3) & ~3
        if comment:
            break
    return pos, n


class Batch(Struct):
    """`n` records of one window: `data` holds the bytes (from file offset `base`), `records` the R_ columns end to end.

    `records` is used again for the next batch; `data` is not.
    """

    data: Any
    base: int
    records: Any
    n: int
    compiled: bool


class Window:
    """A sliding window over the file: `data[pos:end]` is what is not yet used. Each filling is a new `data`."""

    def __init__(self, stream: BinaryIO, problems: list[Problem], read_size: int) -> None:
        self.problems = problems
        self.read_size = read_size
        self.data: Any = b""
        self.base = 0
        self.pos = 0
        self.ended = False
        self.compiled = False
        self._live = bool(getattr(stream, "live", False))  # hand out what has come, do not wait for a full window
        # One underlying read at a time, so that what came before damage in a compressed stream is not lost with it.
        self._read: Callable[[memoryview], int | None] = getattr(stream, "readinto1", None) or stream.readinto  # type: ignore[attr-defined]

    @property
    def end(self) -> int:
        """Bytes in the window."""
        return len(self.data)

    @property
    def left(self) -> int:
        """Bytes not yet used; 0 also when the last block claimed padding that the file does not have."""
        return max(0, len(self.data) - self.pos)

    @property
    def offset(self) -> int:
        """File offset of the next unused byte."""
        return self.base + self.pos

    def fill(self, wanted: int = 0) -> bool:
        """Drop what was used, read on, `read_size` bytes or more; False when the file has ended."""
        if self.ended:
            return False
        wanted = max(wanted, self.read_size)
        rest = self.data[self.pos :]
        fresh = self._room(len(rest) + wanted)
        view = memoryview(fresh)
        view[: len(rest)] = rest
        got = len(rest)
        while got < len(view):
            try:
                more = self._read(view[got:])
            except READ_ERRORS as error:
                self.problems.append(Problem("", f"reading stopped at byte {self.base + self.pos + got:,}: {error}"))
                more = 0
            if not more:
                self.ended = True
                break
            got += more
            if self._live:
                break
        self.base += self.end - len(rest)
        self.pos = max(0, self.pos - self.end)  # padding that the next filling has to skip
        self.data = fresh[:got] if self.compiled else bytes(view[:got])
        return got > len(rest)

    def need(self, size: int) -> bool:
        """Make `size` unused bytes available; False when the file ends before."""
        while self.end - self.pos < size:
            if not self.fill(self.end - self.pos):  # doubling: a claimed size alone allocates nothing
                return False
        return True

    def form(self, compiled: bool) -> Any:
        """The window as the kernel's form wants it: bytes, or a uint8 array."""
        if compiled and not self.compiled:
            import numpy as np

            self.data = np.frombuffer(bytearray(self.data), np.uint8)  # writable as `_room`'s: one compiled form
            self.compiled = True
        return self.data

    def _room(self, size: int) -> Any:
        if not self.compiled:
            return bytearray(size)
        import numpy as np

        return np.empty(size, np.uint8)


class Interfaces:
    """The interfaces of one pcapng section, laid end to end, in the form that either kernel takes."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self._array: Any = None
        self._copied = 0

    def __len__(self) -> int:
        return len(self.rows) // N_INTERFACE

    def form(self, compiled: bool) -> Any:
        """All rows: a list, or an array that grows by doubling, so that many interface blocks cost little each."""
        if not compiled:
            return self.rows
        import numpy as np

        if self._array is None or len(self._array) < len(self.rows):
            grown = np.zeros(2 * len(self.rows), np.int64)
            if self._copied:
                grown[: self._copied] = self._array[: self._copied]
            self._array = grown
        if self._copied < len(self.rows):
            self._array[self._copied : len(self.rows)] = self.rows[self._copied :]
            self._copied = len(self.rows)
        return self._array


Scan = Callable[[Any, Any, bool, int, int], tuple[int, int]]


class Container:
    """A capture file as a stream of batches. `problems` tells what could not be read; `number` counts the records."""

    def __init__(self, stream: BinaryIO, size: int | None = None, read_size: int | None = None) -> None:
        self.problems: list[Problem] = []
        self.format = ""
        self.number = 0
        #: Hosts by address, as name resolution blocks tell.
        self.names: dict[str, str] = {}
        #: What people wrote into the capture, with the number of the record it is about, or that came before it.
        self.comments: list[tuple[int, str]] = []
        #: There are decryption secrets.
        self.has_secrets = False
        #: Called with what is no packet, as it stands in the file: the file header of a pcap, the other blocks of a pcapng.
        self.aside: Callable[[bytes], None] | None = None
        self._size = size
        self._window = Window(stream, self.problems, read_size or READ_SIZE)
        self._records: dict[bool, Any] = {}
        self._unlisted = 0
        self._heeded = 0  # packets whose comments were read, or could not be
        self._sections = 0
        self._dropped: dict[tuple[int, int, int], int] = {}

    def batches(self) -> Iterator[Batch]:
        """Every record of the file, in file order."""
        window = self._window
        if not window.need(4):
            self._tell("", "empty file" if window.end == 0 else "shorter than a capture file header")
            return
        magic = bytes(window.data[:4])
        if magic == PCAPNG_MAGIC:
            self.format = "pcapng"
            yield from self._pcapng()
        elif magic in PCAP_MAGICS:
            self.format = "pcap"
            yield from self._pcap(*PCAP_MAGICS[magic])
        else:
            self._tell("", f"not a capture file: it starts with {magic.hex(' ')}")
        self._close()

    @property
    def done(self) -> int:
        """Bytes of the file used so far."""
        return self._window.offset

    def _tell(self, ref: str, what: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(ref, what))
        else:
            self._unlisted += 1

    def _damage(self, what: str) -> None:
        self._tell(f"#{self.number + 1}", what)

    def _close(self) -> None:
        """Problems that are known only at the end."""
        for code, who in ((5, "the interface"), (7, "the capturing host")):
            dropped = sum(count for (_, _, kind), count in self._dropped.items() if kind == code)
            if dropped:
                self.problems.append(
                    Problem("", f"{who} dropped {dropped:,} packets: silence in this capture may be loss")
                )
        if self._unlisted:
            self.problems.append(Problem("", f"{self._unlisted:,} more problems of this kind are not listed"))

    # ---- runs of records

    def _compiled(self) -> bool:
        """Whether the next batch goes through the compiled kernels: by what the file still holds, else what came so far."""
        window = self._window
        if window.compiled:
            return True
        if self._size is None or not self.number:
            return compiled_wanted(self.number)
        return compiled_wanted((self._size - window.offset) * self.number // window.offset)

    def _table(self, compiled: bool) -> tuple[Any, int]:
        """The records table of either form, and its length."""
        limit = BATCH_COMPILED if compiled else BATCH_INTERPRETED
        if compiled not in self._records:
            if compiled:
                import numpy as np

                self._records[True] = np.empty(limit * N_RECORD, np.int64)
            else:
                self._records[False] = [0] * (limit * N_RECORD)
        return self._records[compiled], limit

    def _run(self, scan: Scan) -> Iterator[Batch]:
        """Batches of one run of records inside the window, until `scan` stops short."""
        window = self._window
        n = limit = 1
        while n == limit:
            compiled = self._compiled()
            data = window.form(compiled)
            records, limit = self._table(compiled)
            if not compiled and not self.number:
                limit = min(limit, BATCH_SAMPLE)
            window.pos, n = scan(data, records, compiled, window.pos, limit)
            self.number += n
            if n:
                yield Batch(data, window.base, records, n, compiled)

    # ---- pcap

    def _pcap(self, order: str, unit_ns: int, header: int) -> Iterator[Batch]:
        window = self._window
        if not window.need(24):
            self._tell("", "cut short inside the file header")
            return
        if self.aside:
            self.aside(bytes(window.data[:24]))
        network = struct.unpack_from(order + "I", window.data, 20)[0]
        link = network & 0x03FFFFFF  # the upper bits tell the frame check sequence (pcap-savefile(5))
        window.pos = 24
        big = int(order == ">")

        def scan(data: Any, records: Any, compiled: bool, pos: int, limit: int) -> tuple[int, int]:
            run = scan_pcap.compiled if compiled else scan_pcap.interpreted
            found: tuple[int, int] = run(
                data, pos, len(data), big, header, unit_ns, link, self.number + 1, records, limit
            )  # fmt: skip
            return found

        while True:
            yield from self._run(scan)
            if window.left >= header:
                caplen = struct.unpack_from(order + "I", window.data, window.pos + 8)[0]
                if caplen > MAX_RECORD:
                    self._damage(f"a record claims {caplen:,} captured bytes at byte {window.offset:,}; stopped there")
                    return
            if not window.fill():
                break
        if window.left >= header:
            self._damage(f"cut short: the last record has {window.left - header:,} of {caplen:,} bytes")
        elif window.left:
            self._damage(f"cut short: {window.left} bytes of a record header at the end")

    # ---- pcapng

    def _pcapng(self) -> Iterator[Batch]:
        window = self._window
        order = "<"
        interfaces = Interfaces()
        while window.need(12):
            kind = struct.unpack_from(order + "I", window.data, window.pos)[0]
            if kind == BLOCK_SECTION:
                magic = bytes(window.data[window.pos + 8 : window.pos + 12])
                if magic not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
                    self._damage(
                        f"unknown byte-order magic {magic.hex(' ')} in a section header at byte {window.offset:,}"
                    )
                    return
                order = "<" if magic == b"\x4d\x3c\x2b\x1a" else ">"
                interfaces = Interfaces()
                self._sections += 1
            size = struct.unpack_from(order + "I", window.data, window.pos + 4)[0]
            if size < 12 or size > MAX_BLOCK:
                self._damage(f"a block claims {size:,} bytes at byte {window.offset:,}; stopped there")
                return
            if not window.need(size):
                self._damage(f"cut short: the last block has {window.left:,} of {size:,} bytes")
                return
            if kind == BLOCK_ENHANCED and interfaces:
                before = self.number
                yield from self._run(self._scan_enhanced(order, interfaces))
                if self.number == before:
                    self._skip_packet_block(order, len(interfaces))
                continue
            if self.aside and kind not in PACKET_BLOCKS:
                self.aside(bytes(window.data[window.pos : window.pos + size]))
            if kind in PACKET_BLOCKS or kind in OTHER_BLOCKS:
                body = bytes(window.data[window.pos + 8 : window.pos + size - 4])
                if kind in PACKET_BLOCKS:
                    yield from self._single(order, kind, body, interfaces)
                else:
                    self._other(order, kind, body, interfaces)
            window.pos += (size + 3) & ~3
        if window.left:
            self._damage(f"cut short: {window.left} bytes of a block header at the end")

    def _other(self, order: str, kind: int, body: bytes, interfaces: Interfaces) -> None:
        """A block that is no packet."""
        if kind == BLOCK_INTERFACE:
            interfaces.rows.extend(self._interface(order, body))
        elif kind == BLOCK_STATS:
            self._statistics(order, body)
        elif kind == BLOCK_NAMES:
            self._names(order, body)
        elif kind == BLOCK_SECRETS:
            self.has_secrets = True
        if kind in OPTIONS_AT:
            self._comments(order, body[OPTIONS_AT[kind] :], self.number)

    def _comments(self, order: str, data: bytes, number: int) -> None:
        for code, value in options(order, data):
            if code == OPTION_COMMENT and len(self.comments) < MAX_COMMENTS:
                self.comments.append((number, value.decode("utf-8", "replace")[:MAX_COMMENT]))

    def _names(self, order: str, body: bytes) -> None:
        """A name resolution block: addresses, each with its names; the first is kept."""
        for code, value in options(order, body):
            size = {1: 4, 2: 16}.get(code, 0)
            if not size or len(value) <= size or len(self.names) >= MAX_NAMES:
                continue
            address = str(ipaddress.ip_address(value[:size]))
            name = value[size:].split(b"\0")[0][:MAX_NAME].decode("utf-8", "replace")
            self.names.setdefault(address, name)

    def _scan_enhanced(self, order: str, interfaces: Interfaces) -> Scan:
        big = int(order == ">")

        def scan(data: Any, records: Any, compiled: bool, pos: int, limit: int) -> tuple[int, int]:
            run = scan_enhanced.compiled if compiled else scan_enhanced.interpreted
            heed = self._heeded < MAX_COMMENTS
            found: tuple[int, int] = run(
                data, pos, len(data), big, interfaces.form(compiled), len(interfaces), self.number + 1, heed, records, limit
            )  # fmt: skip
            if heed and found[1]:
                self._packet_comments(order, data, records, found[1])
            return found

        return scan

    def _packet_comments(self, order: str, data: Any, records: Any, n: int) -> None:
        """The comments of a run's last packet, if it has any: the run stopped there for them."""
        last = (n - 1) * N_RECORD
        start = int(records[last + R_OFFSET])
        size = struct.unpack_from(order + "I", data, start - 24)[0]
        begin = start + ((int(records[last + R_CAPLEN]) + 3) & ~3)
        found = bytes(data[begin : start - 28 + size - 4])
        if len(found) >= 4 and struct.unpack_from(order + "H", found)[0] == OPTION_COMMENT:
            self._heeded += 1
            self._comments(order, found, int(records[last + R_NO]))

    def _skip_packet_block(self, order: str, n_interfaces: int) -> None:
        """An enhanced packet block that the kernel refused: say why, step over it."""
        window = self._window
        size, interface = struct.unpack_from(order + "II", window.data, window.pos + 4)
        self.number += 1
        if size >= 32 and interface >= n_interfaces:
            what = f"packet of interface {interface}, which no interface block describes; skipped"
        else:
            what = f"damaged packet block of {size:,} bytes at byte {window.offset:,}; skipped"
        self._tell(f"#{self.number}", what)
        window.pos += (size + 3) & ~3

    def _interface(self, order: str, body: bytes) -> list[int]:
        """One interface description block as the kernel's row."""
        if len(body) < 8:
            self._damage("an interface block is too short; its packets are not decoded")
            return list(NO_INTERFACE)
        link, _, snaplen = struct.unpack_from(order + "HHI", body)
        mul, div, shift, offset = 1000, 1, 0, 0  # default resolution: microseconds (pcapng §4.2)
        for code, value in options(order, body[8:]):
            if code == 9 and value:
                mul, div, shift = resolution(value[0])
                if not mul:
                    self._damage(
                        f"an interface has the time resolution {value[0]:#04x}: the times of its packets are unknown"
                    )
            elif code == 14 and len(value) == 8:
                offset = struct.unpack(order + "q", value)[0] * 1_000_000_000
                if abs(offset) >= MAX_NS:
                    self._damage("an interface has an impossible time offset: the times of its packets are unknown")
                    mul, offset = 0, 0
        if not mul:
            return [link, 0, 1, 0, 0, snaplen, 0]
        most = (MAX_NS // 1_000_000_000) << shift if shift else MAX_NS * div // mul
        return [link, mul, div, shift, offset, snaplen, min(most, MAX_UNITS)]

    def _single(self, order: str, kind: int, body: bytes, interfaces: Interfaces) -> Iterator[Batch]:
        """Simple and old packet blocks: rare, one record at a time."""
        self.number += 1
        ref = f"#{self.number}"
        if kind == BLOCK_ENHANCED:
            self._tell(ref, "packet before any interface block; skipped")
            return
        if kind == BLOCK_SIMPLE:
            if not interfaces or len(body) < 4:
                self._tell(ref, "simple packet block without an interface; skipped")
                return
            face = 0
            wire = struct.unpack_from(order + "I", body)[0]
            start, caplen = 4, min(wire, len(body) - 4, interfaces.rows[I_SNAPLEN] or wire)
            ts = 0  # simple packet blocks carry no time (pcapng §4.4)
            if not any("no time stamp" in p.what for p in self.problems):
                self._tell(ref, "simple packet blocks carry no time stamp: times of those packets are unknown")
        else:
            if len(body) < 20:
                self._tell(ref, "old packet block too short; skipped")
                return
            number, _, high, low, caplen, wire = struct.unpack_from(order + "HHIIII", body)
            if number >= len(interfaces) or caplen > len(body) - 20:
                self._tell(ref, "old packet block of an unknown interface or length; skipped")
                return
            face, start = number * N_INTERFACE, 20
            ts = to_ns((high << 32) | low, interfaces.rows, face)
        base = self._window.offset + 8
        link, number = interfaces.rows[face + I_LINK], face // N_INTERFACE
        record = [start, caplen, wire, ts, self.number, link, number, *[0] * (N_RECORD - 7)]
        yield Batch(body, base, record, 1, False)

    def _statistics(self, order: str, body: bytes) -> None:
        """Interface statistics, cumulative: packets that the kernel dropped are silence that proves nothing."""
        if len(body) < 12:
            return
        interface = struct.unpack_from(order + "I", body)[0]
        for code, value in options(order, body[12:]):
            if code in (5, 7) and len(value) == 8:
                self._dropped[self._sections, interface, code] = struct.unpack(order + "Q", value)[0]


def resolution(byte: int) -> tuple[int, int, int]:
    """`if_tsresol` as (mul, div, shift) of `to_ns`; mul 0 for one that 64 bits of nanoseconds cannot follow."""
    exponent = byte & 0x7F
    if byte & 0x80:
        if exponent == 0:
            return 1_000_000_000, 1, 0
        return (1, 1, exponent) if exponent <= 62 else (0, 1, 0)
    if exponent <= 9:
        return 10 ** (9 - exponent), 1, 0
    return (1, 10 ** (exponent - 9), 0) if exponent <= 18 else (0, 1, 0)


def options(order: str, data: bytes) -> Iterator[tuple[int, bytes]]:
    """The options of a pcapng block: (code, value) until the end-of-options or damage."""
    i = 0
    while i + 4 <= len(data):
        code, size = struct.unpack_from(order + "HH", data, i)
        if code == 0 or i + 4 + size > len(data):
            return
        yield code, data[i + 4 : i + 4 + size]
        i += 4 + ((size + 3) & ~3)
