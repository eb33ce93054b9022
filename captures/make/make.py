"""Make the cases of this folder again: real programs, real kernels, real freezes, on one machine.

usage: python captures/make/make.py frozen-keepalive
       python captures/make/make.py all --out somewhere

Needs Linux, root (for network namespaces), Python 3.11, Node.js 20 or later and, on Debian 12:

    apt install iproute2 ethtool nftables tcpdump tshark redis-server nginx-light postgresql mariadb-server dnsmasq-base \\
        nodejs npm python3-venv golang-go golang-google-grpc-dev

The first run fetches npm and PyPI packages, and builds the Go programs; everything after that stays on this machine.
Writes captures, logs, expected.json and truth.json; README.md is written by people.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cases import CASES
from recording import Recording
from service import Diary
from stage import HERE, PYTHON, Stage
from story import Case, Claims, Expected

TOOLS = "ip ethtool nft tcpdump tshark node npm go redis-server nginx mariadbd dnsmasq"
GO_PATH = "/usr/share/gocode"  # where Debian's packages put their sources


def main() -> int:
    """Make what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("case", choices=[*CASES, "all"])
    parser.add_argument("--out", type=Path, default=HERE.parent, help="the folder of the case's folder")
    parser.add_argument("--anyway", action="store_true", help="write a case that went wrong, too, to see why")
    arguments = parser.parse_args()
    check_machine()
    install_packages()
    chosen = list(CASES.values()) if arguments.case == "all" else [CASES[arguments.case]]
    good = [make(case, arguments.out / case.name, arguments.anyway) for case in chosen]
    return 0 if all(good) else 1


def check_machine() -> None:
    """Say at once what is missing, not halfway through."""
    if os.geteuid() != 0:
        sys.exit("make.py: network namespaces need root")
    if missing := [tool for tool in TOOLS.split() if not shutil.which(tool)]:
        sys.exit(f"make.py: not installed: {', '.join(missing)}; see the head of {__file__}")


def install_packages() -> None:
    """Fetch the client libraries and build the programs, once."""
    if not (HERE / "node_modules").exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
        subprocess.run(command, cwd=HERE, check=True)
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PYTHON.parent.parent)], check=True)
        command = [str(PYTHON), "-m", "pip", "install", "--quiet", "-r", str(HERE / "requirements.txt")]
        subprocess.run(command, check=True)
    for source in (HERE / "functions").glob("*.go"):
        if not (program := source.with_suffix("")).exists():
            command = ["go", "build", "-o", str(program), str(source)]
            subprocess.run(command, check=True, env={**os.environ, "GO111MODULE": "off", "GOPATH": GO_PATH})


def make(case: Case, folder: Path, anyway: bool) -> bool:
    """Play one case, and keep it only if the story is in the files."""
    print(f"{case.name}: playing", flush=True)
    with tempfile.TemporaryDirectory(prefix="capture-") as name:
        work = Path(name)
        diary = Diary()
        with Stage(case.delay_ms) as stage:
            case.play(stage, diary, work)
        recording = Recording(work, case.captures, diary)
        good = tell(case, recording)
        if good or anyway:
            keep(case, recording, folder)
    if not good:
        print(
            f"{case.name}: went wrong{', and was written' if anyway else ', nothing was written'}; try again",
            flush=True,
        )
    return good


def keep(case: Case, recording: Recording, folder: Path) -> None:
    """Write the case; what people wrote beside it stays."""
    for old in folder.iterdir() if folder.exists() else ():
        if old.is_dir():
            shutil.rmtree(old)
        elif old.name != "README.md":
            old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    for capture in case.captures:
        shutil.copyfile(recording.folder / capture, folder / capture)
    inputs = list(case.captures)
    if case.export:
        inputs.append(case.export(recording.diary.in_order(), folder))
    write_json(folder / "expected.json", {"inputs": inputs, **named(case.expected(recording), inputs)})
    write_json(folder / "truth.json", recording.truth())


def named(expected: Expected, inputs: list[str]) -> Expected:
    """The expectations with the names of files for `server`, `client`, `client_b` and `logs`."""
    alone = expected.pop("alone", {})
    names = {Path(name).stem.replace("-", "_") if name.endswith(".pcap") else "logs": name for name in inputs}
    if len(inputs) > 1 and set(alone) != set(names):
        raise ValueError(f"what is expected of each input alone: {sorted(alone)}, not {sorted(names)}")
    return {**expected, "alone": {names[kind]: what for kind, what in alone.items()}}


def tell(case: Case, recording: Recording) -> bool:
    """Print what the files show; False at the first thing that they do not."""
    try:
        for claim, holds in itertools.chain(capture_is_whole(recording), case.claims(recording)):
            print(f"  {'yes' if holds else 'NO '}  {claim}")
            if not holds:
                return False
    except (ValueError, LookupError) as error:  # a claim about something that is not there
        print(f"  NO   and then: {error!r}")
        return False
    return True


def capture_is_whole(recording: Recording) -> Claims:
    """What every case must show."""
    last_s = max(event["t"] for event in recording.diary.events if event["type"] == "invoke_start")
    if not recording.captures:
        return
    ends = [c.packets[-1].time for capture in recording.captures for c in recording.seen_in(capture)]
    yield "the last request was captured", max(ends, default=0.0) > last_s


def write_json(file: Path, document: object) -> None:
    """Indented, as the rest of the case's files."""
    file.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
