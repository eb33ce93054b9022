"""Machine code of the kernels: built once by numba, kept as object files, loaded without it.

Theory of operation. numba compiles the function with plain pointers in place of arrays, which spares every access the
handling of negative indices: twice the speed. The object file it becomes needs nothing of numba, so the next process
loads it in less than a millisecond (`elf`), or by LLVM alone in some 40, where numba's own cache takes 0.2 s to import numba and
to set its types up. Its name holds a fingerprint of all that the code was made of, constants from other modules too, and of the processor it was made for.

Compiled code checks no bounds: `Native` checks the arguments' types, the kernels check their indices (tests compile
them with bounds checks for that). What cannot be built or kept this way is compiled by numba as usual, see `Kernel`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import source_hash
from itertools import takewhile
from pathlib import Path
from types import FunctionType
from typing import Any

from analyzer.kernel import elf

#: Raised with every change of how object files are made or called.
ABI = "4"
#: numba's types of a kernel's parameters.
POINTERS = {"int": "int64", "Bytes": "CPointer(uint8)", "Column": "CPointer(int64)", "Index": "CPointer(int32)"}
RESULTS = {"int": "int64", "None": "void", "tuple[int, int]": "UniTuple(int64, 2)"}
#: What the same parameters are in numpy's array interface.
ORDER = "<" if sys.byteorder == "little" else ">"
TYPESTRS = {"Bytes": "|u1", "Column": f"{ORDER}i8", "Index": f"{ORDER}i4"}
SUFFIX = ".kernel"
#: Bytes of a digest: SipHash-1-3, as the interpreter tells its own compiled files apart; OpenSSL's take some ms to load.
DIGEST = len(source_hash(b""))

#: What /proc/cpuinfo says of a processor's kind and instructions, on x86-64 and on ARM.
CPU = {
    "vendor_id", "cpu family", "model", "stepping", "flags",
    "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features",
}  # fmt: skip

_loaded: list[Any] = []  # they own the code


class NotNativeError(Exception):
    """This function, system or installation has no machine code of its own; numba is the way."""


# ---- names


def fingerprint(functions: tuple[Callable[..., Any], ...]) -> str:
    """A digest of all that these functions are made of: their code, and the constants that they take from modules."""
    known = [f"{ABI} {sys.version}"]
    for function in functions:
        assert isinstance(function, FunctionType)
        code, world = function.__code__, function.__globals__
        constants = {name: world[name] for name in code.co_names if isinstance(world.get(name), (int, tuple))}
        parts = (code.co_name, code.co_code, code.co_consts, code.co_varnames, code.co_names, sorted(constants.items()))
        known.append(repr((parts, function.__annotations__)))
    return source_hash("".join(known).encode()).hex()


def places() -> Iterator[Path]:
    """Where object files may lie: beside the package, else in the user's cache."""
    yield Path(__file__).parent / "__pycache__"
    if sys.platform == "darwin":
        yield Path("~/Library/Caches/connection-analyzer").expanduser()
    else:
        yield Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "connection-analyzer"


def kept(name: str, functions: tuple[Callable[..., Any], ...]) -> bool:
    """Whether machine code of these functions was kept before, for this processor or another."""
    pattern = f"{name}-{fingerprint(functions)}-*{SUFFIX}"
    return any(True for place in places() for _ in place.glob(pattern))


@cache
def processor() -> str:
    """A digest of what this processor is and can do, as the system tells it, or else LLVM."""
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as lines:
            first = takewhile(str.strip, lines)
            known = [os.uname().machine, *(line for line in first if line.partition(":")[0].strip() in CPU)]
    except OSError:
        known = []
    if len(known) < 2:
        llvm, machine = _llvm()
        known = [machine.triple, llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    return source_hash("".join(known).encode()).hex()


def _llvm() -> tuple[Any, Any]:
    """LLVM, and a target machine for this processor, which whoever makes code for it will own."""
    llvm = importlib.import_module("llvmlite.binding")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple()
    return llvm, target.create_target_machine(cpu=cpu, features=features, opt=3, jit=True, codemodel="jitdefault")


# ---- building


def build(function: Callable[..., Any], helpers: tuple[Callable[..., Any], ...], llvm: Any, machine: Any) -> bytes:
    """The object file of a function, its code under the function's own name."""
    import numba
    from numba import types
    from numba.extending import register_jitable

    for helper in helpers:
        register_jitable(helper)
    known = {name: getattr(types, name) for name in ("int64", "int32", "uint8", "void", "CPointer", "UniTuple")}
    notes = function.__annotations__
    parameters = [_type(POINTERS[note], known) for name, note in notes.items() if name != "return"]
    compiled = numba.cfunc(_type(RESULTS[notes["return"]], known)(*parameters), error_model="numpy")(function)
    text = _alone(compiled.inspect_llvm(), compiled.native_name, function.__name__)
    # Helpers that nothing else can call are built into the loop: a tenth faster.
    module = llvm.parse_assembly(text.replace("define linkonce_odr ", "define internal "))
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    return bytes(machine.emit_object(module))


def _type(text: str, known: dict[str, Any]) -> Any:
    """A numba type by its name in the tables above."""
    head, _, inner = text.partition("(")
    if not inner:
        return known[head]
    item, _, count = inner.rstrip(")").partition(", ")
    return known[head](known[item], int(count)) if count else known[head](known[item])


def _alone(text: str, wrapper: str, name: str) -> str:
    """LLVM code without the wrapper that C would call (it needs numba and Python for errors), which nothing here raises."""
    inner = wrapper.removeprefix("cfunc.")
    parts = re.split(r"(?m)^(?=define |declare |attributes |!)", text)
    parts = [part for part in parts if not (part.startswith("define") and f"@{wrapper}(" in part.partition("\n")[0])]
    bodies = "".join(part for part in parts if part.startswith("define"))
    for part in parts:
        called = re.match(r"declare .*?@([\w.$]+)\(", part)
        if called and not called[1].startswith("llvm.") and re.search(rf"@{re.escape(called[1])}\b", bodies):
            raise NotNativeError(f"{name} calls {called[1]}")
    if "@" + inner not in bodies:
        raise NotNativeError(f"{name} is not in its own code")
    return re.sub(rf"@{re.escape(inner)}\b", f"@{name}", "".join(parts))


# ---- keeping


def _read(path: Path) -> bytes | None:
    """An object file that is whole, else None."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    code = content[DIGEST:]
    return code if source_hash(code) == content[:DIGEST] else None


def _keep(name: str, code: bytes) -> None:
    """Write an object file to the first place that can be written, whole or not at all."""
    for place in places():
        with contextlib.suppress(OSError):
            place.mkdir(mode=0o755 if place.name == "__pycache__" else 0o700, parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=place)
            with os.fdopen(handle, "wb") as file:
                file.write(source_hash(code) + code)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(place / name)
            return


# ---- calling


class Native:
    """A kernel as machine code, called with arrays and numbers as the interpreted one with lists and numbers."""

    def __init__(self, function: Callable[..., Any], address: int) -> None:
        notes = function.__annotations__
        self.name = function.__name__
        self._typestrs = [TYPESTRS.get(note) for name, note in notes.items() if name != "return"]
        self._result = notes["return"]
        types = [ctypes.c_int64 if typestr is None else ctypes.c_void_p for typestr in self._typestrs]
        # numba's calling convention: where the result goes, where an exception goes, the arguments; 0 for success.
        self._call = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *types)(address)

    def __call__(self, *arguments: Any) -> Any:
        """Run it; other threads of the interpreter run meanwhile."""
        result, error = (ctypes.c_int64 * 2)(), ctypes.c_void_p()
        values = [self._value(*pair) for pair in zip(arguments, self._typestrs, strict=True)]
        if self._call(ctypes.addressof(result), ctypes.addressof(error), *values):
            raise RuntimeError(f"{self.name}: the compiled kernel failed")
        if self._result == "int":
            return result[0]
        return None if self._result == "None" else (result[0], result[1])

    def _value(self, argument: Any, typestr: str | None) -> int:
        if typestr is None:
            return int(argument)
        array = argument.__array_interface__
        if array["typestr"] != typestr or array["strides"] is not None:
            raise TypeError(f"{self.name}: a contiguous array of {typestr} is needed, not {argument.dtype}")
        pointer: int = array["data"][0]
        return pointer


def load(function: Callable[..., Any], helpers: tuple[Callable[..., Any], ...]) -> Native:
    """The function as machine code, from where it was kept, else built now; raises `NotNativeError` where that is not the way."""
    if sys.platform == "win32" or os.environ.get("NUMBA_BOUNDSCHECK"):
        raise NotNativeError("no object files on this system, or bounds to be checked")
    name = f"{function.__name__}-{fingerprint((function, *helpers))}-{processor()}{SUFFIX}"
    code = next((code for place in places() if (code := _read(place / name)) is not None), None)
    if code is None:
        code = build(function, helpers, *_llvm())
        _keep(name, code)
    return Native(function, _address(code, function.__name__))


def _address(code: bytes, name: str) -> int:
    """Where a function of an object file is, once that is in memory for good."""
    try:
        loaded = elf.Loaded(code)
        address = loaded.address_of(name)
        _loaded.append(loaded)
        return address
    except (elf.NotSimpleError, OSError):
        return _by_llvm(code, name)


def _by_llvm(code: bytes, name: str) -> int:
    llvm, machine = _llvm()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address: int = engine.get_function_address(name)
    if not address:
        raise NotNativeError(f"{name} is not in its object file")
    _loaded.append(engine)
    return address
