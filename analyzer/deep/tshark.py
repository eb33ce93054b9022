"""Running tshark through pyshark: in a thread with an event loop of its own, bounded in time, with errors in plain words.

pyshark drives asyncio by itself, which a running loop (Jupyter) forbids, and falls back to a policy that Python 3.14 lost. A worker
thread with its own loop has neither trouble: the caller waits for the thread, whatever loop it runs in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from functools import cache
from pathlib import Path
from typing import Any

from analyzer.deep.frames import Frame, frames_of
from analyzer.model.problems import InputError

#: Oldest tshark that this was tested with. Its PDML, its decryption of TLS 1.3 and its HTTP/2 header fields are what is used.
OLDEST = (4, 0)
#: A capture of a few connections takes seconds; what takes longer is not worth waiting for.
TIMEOUT_S = 120.0
MAX_FRAMES = 200_000
#: Of what tshark says on standard error, so many bytes are kept; it gets so long to end.
MAX_TOLD, GRACE_S = 4_096, 10.0
#: Where installers put it beside the search path.
ELSEWHERE = ("/Applications/Wireshark.app/Contents/MacOS/tshark", r"C:\Program Files\Wireshark\tshark.exe")
INSTALL = "Debian/Ubuntu: apt install tshark; macOS: brew install wireshark; Windows: wireshark.org"

FILTER = "http2 || grpc"
#: Dissections in full of these layers only; pyshark needs `frame`.
LAYERS = "frame http2 grpc"


def dissect(path: str, keylog: str | None, decode_as: dict[str, str], timeout_s: float = TIMEOUT_S) -> list[Frame]:
    """HTTP/2 and gRPC frames of a small capture, in order; their numbers are its packets'.

    Raises `InputError` where pyshark or tshark is missing or too old, a setting is wrong, or the time is up.
    """
    program = _program()
    frames: list[Frame] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            _run(path, program, keylog, decode_as, timeout_s, frames)
        except BaseException as error:  # told where the thread is waited for
            failure.append(error)

    worker = threading.Thread(target=work, name="tshark", daemon=True)
    worker.start()
    worker.join()
    if failure:
        raise _plain(failure[0], timeout_s) from failure[0]
    return frames


def _run(
    path: str, program: str, keylog: str | None, decode_as: dict[str, str], timeout_s: float, frames: list[Frame]
) -> None:
    preferences = {"tcp.reassemble_out_of_order": "TRUE"}
    if keylog is not None:
        preferences["tls.keylog_file"] = str(Path(keylog).resolve())

    def take(packet: Any) -> None:
        frames.extend(frames_of(packet))
        if len(frames) > MAX_FRAMES:
            raise InputError(f"more than {MAX_FRAMES:,} frames: choose fewer connections")

    loop = asyncio.new_event_loop()
    try:
        capture = _capture_class()(
            path, eventloop=loop, tshark_path=program, override_prefs=preferences,
            decode_as=decode_as, keep_packets=False, custom_parameters=["-Y", FILTER, "-J", LAYERS],
        )  # fmt: skip
        loop.run_until_complete(asyncio.wait_for(capture.packets_from_tshark(take), timeout_s))
    finally:
        loop.run_until_complete(_abandon())
        loop.close()


async def _abandon() -> None:
    """Cancel whatever else the loop still holds."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def _capture_class() -> Any:
    """pyshark's `FileCapture`, but for how tshark ends: its exit status and its own words are not lost."""
    pyshark = _pyshark()

    class Capture(pyshark.FileCapture):  # type: ignore[misc,name-defined]
        told = b""

        def _created_new_process(self, _parameters: Any, process: Any, process_name: str = "") -> None:
            self._running_processes.add(process)  # one that has ended already is told like any other

        async def _handle_process_stderr_forever(self, stderr: Any) -> None:
            while piece := await stderr.read(MAX_TOLD):
                self.told = (self.told + piece)[:MAX_TOLD]

        async def _cleanup_subprocess(self, process: Any) -> None:
            """pyshark kills what has closed its output and not yet ended, and takes the status of that."""
            self._running_processes.discard(process)
            if not self._eof_reached:
                _stop(process)
            await asyncio.wait_for(process.wait(), GRACE_S)
            await asyncio.gather(*self._stderr_handling_tasks)
            if self._eof_reached and process.returncode:
                lines = [line for line in self.told.decode("utf-8", "replace").splitlines() if line.strip()]
                words = next(
                    (line for line in lines if line.startswith("tshark: ")), f"exit status {process.returncode}"
                )
                raise InputError(f"tshark failed: {words.removeprefix('tshark: ')[:200]}")

    return Capture


def _stop(process: Any) -> None:
    """Kill it and let go of its pipes, which a child of its own may hold open."""
    if process.returncode is None:
        # Not `process.kill()`, which before Python 3.12 races with asyncio for the exit status.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL) if hasattr(signal, "SIGKILL") else process.kill()
    for fd in (1, 2):
        if (pipe := process._transport.get_pipe_transport(fd)) is not None:
            pipe.close()


def _pyshark() -> Any:
    try:
        import pyshark
    except ImportError as error:
        raise InputError("deep mode needs pyshark: pip install 'connection-analyzer[deep]'") from error
    return pyshark


def _program() -> str:
    """The path of a tshark that is new enough; raises `InputError`. Found here, since pyshark would trust a `config.ini`."""
    _pyshark()
    there = installed()
    if there is None:
        raise InputError(f"deep mode needs tshark, which is not installed ({INSTALL})")
    found, version = there
    if version < OLDEST:
        has, wanted = (".".join(map(str, numbers)) for numbers in (version, OLDEST))
        raise InputError(f"{found} is version {has}; deep mode needs {wanted} or later ({INSTALL})")
    return found


def installed() -> tuple[str, tuple[int, int]] | None:
    """Where tshark is and its version, None where it is not; raises `InputError` where it does not run."""
    found = shutil.which("tshark") or next((p for p in ELSEWHERE if Path(p).is_file()), None)
    return (found, _version(found)) if found else None


@cache
def _version(program: str) -> tuple[int, int]:
    try:
        said = subprocess.run([program, "-v"], capture_output=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(f"{program} does not run: {error}") from error
    told = said.decode("utf-8", "replace")
    version = re.match(r"[^\n]{0,80}?\b(\d{1,3})\.(\d{1,3})\.\d{1,3}", told)
    if version is None:
        raise InputError(f"{program} does not tell its version: {told.partition(chr(10))[0][:80]!r}")
    return int(version[1]), int(version[2])


def _plain(error: BaseException, timeout_s: float) -> BaseException:
    """What went wrong in words; an error that is none of tshark's stays itself."""
    if isinstance(error, TimeoutError):
        return InputError(f"tshark was not done after {timeout_s:g} s and was stopped: choose fewer connections")
    return error
