"""A relocatable object file laid out in memory and made executable, as the ELF specification and its x86-64 supplement say.

LLVM does the same and more, but to load LLVM takes longer than to read a capture of a hundred thousand packets. So what is simple is done
here: sections of one file that refer only to each other. Anything else is a `NotSimpleError`, and LLVM's to do.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from typing import Any, NamedTuple

#: ELF, 64 bits, little endian, version 1; of relocatable type (1), for x86-64 (62).
IDENT = b"\x7fELF\x02\x01\x01"
RELOCATABLE, X86_64 = 1, 62
#: Header (from the type on), section header, symbol, relocation with addend.
EHDR, SHDR, SYM, RELA = "<HHIQQQIHHHHHH", "<IIQQQQIIQQ", "<IBBHQQ", "<QQq"
#: Types of sections, and the flag of those that are there at run time.
SYMTAB, RELOCATIONS, NOBITS, RELOCATIONS_BARE = 2, 4, 8, 9
ALLOC = 2
#: Exceptions are not unwound through this code.
UNWINDING = ".eh_frame"
#: R_X86_64_64: symbol + addend. R_X86_64_PC32, R_X86_64_PLT32: less the place, in 32 bits.
ABSOLUTE, RELATIVE = 1, (2, 4)
LARGEST = 1 << 24


class NotSimpleError(Exception):
    """An object file that refers to what lies outside, is for another machine, or is none."""


class Section(NamedTuple):
    """A section header (`sh_…` in the specification)."""

    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry: int


class Loaded:
    """Code in memory, for as long as this object lives; `address_of` finds its functions."""

    def __init__(self, code: bytes) -> None:
        """Raises `NotSimpleError`; `OSError` where memory may not be made executable."""
        try:
            self._load(code)
        except (struct.error, ArithmeticError, IndexError, ValueError) as error:
            raise NotSimpleError(f"a damaged object file: {error}") from error

    def address_of(self, name: str) -> int:
        """Where a function begins. Raises `NotSimpleError` where there is none of that name."""
        try:
            return self._names[name]
        except KeyError:
            raise NotSimpleError(f"{name} is not in the object file") from None

    def _load(self, code: bytes) -> None:
        if code[: len(IDENT)] != IDENT:
            raise NotSimpleError("no ELF file of 64 bits")
        kind, machine, _, _, _, table, _, _, _, _, size, count, names = struct.unpack_from(EHDR, code, 16)
        if (kind, machine) != (RELOCATABLE, X86_64):
            raise NotSimpleError(f"type {kind}, machine {machine}")
        sections = [Section(*struct.unpack_from(SHDR, code, table + n * size)) for n in range(count)]
        places, total = self._layout(code, sections, sections[names].offset)
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._memory = mmap.mmap(-1, max(total, 1), flags=private, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for number, place in places.items():
            one = sections[number]
            if one.type != NOBITS:
                self._memory[place : place + one.size] = code[one.offset : one.offset + one.size]
        symbols = self._symbols(code, sections, {number: base + place for number, place in places.items()})
        for one in sections:
            if one.type == RELOCATIONS_BARE and one.info in places:
                raise NotSimpleError("relocations without addends")
            if one.type == RELOCATIONS and one.info in places:
                self._relocate(code, one, places[one.info], sections[one.info].size, base, symbols)
        _make_executable(base, total)

    def _layout(self, code: bytes, sections: list[Section], names: int) -> tuple[dict[int, int], int]:
        """Where each section that is there at run time goes, one after the other, and how long all are."""
        places, end = dict[int, int](), 0
        for number, one in enumerate(sections):
            start = names + one.name
            if one.flags & ALLOC and code[start : code.index(b"\0", start)].decode("ascii", "replace") != UNWINDING:
                align = max(one.align, 1)
                places[number] = (end + align - 1) // align * align
                end = places[number] + one.size
                if end > LARGEST:
                    raise NotSimpleError("larger than kernels are")
        return places, end

    def _symbols(self, code: bytes, sections: list[Section], addresses: dict[int, int]) -> list[int | None]:
        """The address of each symbol, None where it lies elsewhere."""
        self._names = dict[str, int]()
        found: list[int | None] = []
        for table in sections:
            if table.type != SYMTAB:
                continue
            strings = sections[table.link].offset
            for at in range(table.offset, table.offset + table.size, struct.calcsize(SYM)):
                name, _, _, section, value, _ = struct.unpack_from(SYM, code, at)
                found.append(addresses[section] + value if section in addresses else None)
                if name and section in addresses:
                    start = strings + name
                    self._names[code[start : code.index(b"\0", start)].decode("ascii", "replace")] = (
                        addresses[section] + value
                    )
        return found

    def _relocate(
        self, code: bytes, table: Section, place: int, size: int, base: int, symbols: list[int | None]
    ) -> None:
        """Write the addresses that a section refers to into it."""
        for at in range(table.offset, table.offset + table.size, struct.calcsize(RELA)):
            offset, info, addend = struct.unpack_from(RELA, code, at)
            target, kind = symbols[info >> 32], info & 0xFFFFFFFF
            if target is None:
                raise NotSimpleError("refers to what lies outside")
            if kind != ABSOLUTE and kind not in RELATIVE:
                raise NotSimpleError(f"relocation of type {kind}")
            if not 0 <= offset <= size - (8 if kind == ABSOLUTE else 4):
                raise NotSimpleError("a relocation outside its section")
            if kind == ABSOLUTE:
                struct.pack_into("<Q", self._memory, place + offset, target + addend)
            else:
                struct.pack_into("<i", self._memory, place + offset, target + addend - (base + place + offset))


def _make_executable(address: int, size: int) -> None:
    """Memory that was written becomes code, and is not written any more. Raises `OSError` where that is forbidden."""
    libc: Any = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    if libc.mprotect(address, size, mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "memory may not be made executable")
