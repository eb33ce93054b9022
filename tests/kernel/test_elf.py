"""Object files of the kernels in memory: what they compute, and that damage is said instead of run."""

from __future__ import annotations

import contextlib
import platform
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.kernel import elf, native
from tests.kernel.test_kernel import double, total

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="loaded by LLVM on other processors")


@pytest.fixture(scope="module")
def code() -> bytes:
    return native.build(total.interpreted, (double,), *native._llvm())


def test_both_loaders_compute_the_same(code: bytes) -> None:
    loaded = elf.Loaded(code)
    table = np.arange(1000, dtype=np.int64)
    for address in (loaded.address_of("total"), native._by_llvm(code, "total")):
        assert native.Native(total.interpreted, address)(table, 1000) == total.interpreted(table.tolist(), 1000)


def test_llvm_loads_what_is_not_simple(code: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: bytes) -> None:
        raise OSError(13, "memory may not be made executable")

    monkeypatch.setattr(elf, "Loaded", refused)
    address = native._address(code, "total")
    assert native.Native(total.interpreted, address)(np.array([1, 2, 3]), 3) == 12


def test_a_function_of_another_name_is_not_there(code: bytes) -> None:
    with pytest.raises(elf.NotSimpleError, match="sum is not in the object file"):
        elf.Loaded(code).address_of("sum")


@pytest.mark.parametrize(
    ("at", "field", "value", "why"),
    [
        (0, "4s", b"MZ\0\0", "no ELF file"),
        (18, "<H", 183, "machine 183"),
        (16, "<H", 3, "type 3"),
        (40, "<Q", 1 << 40, "damaged"),
    ],
)
def test_what_it_does_not_load(code: bytes, at: int, field: str, value: bytes | int, why: str) -> None:
    changed = bytearray(code)
    struct.pack_into(field, changed, at, value)
    with pytest.raises(elf.NotSimpleError, match=why):
        elf.Loaded(bytes(changed))


def test_every_prefix_is_refused(code: bytes) -> None:
    for end in range(len(code) - 1):
        with pytest.raises(elf.NotSimpleError):
            elf.Loaded(code[:end])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damage_is_refused_or_stays_in_its_memory(code: bytes, data: st.DataObject) -> None:
    """Nothing of it is run: laying it out must not write beside its own memory."""
    changed = bytearray(code)
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, len(code) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(elf.NotSimpleError, OSError):
        elf.Loaded(bytes(changed))
