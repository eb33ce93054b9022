"""Make the cases of this folder again: real programs, real kernels, real freezes, on one machine.

usage: python captures/make/make.py frozen-keepalive
       python captures/make/make.py all --out somewhere

Needs Linux, root (for network namespaces), Python 3.11 and, on Debian 12:

    apt install iproute2 ethtool tcpdump tshark redis-server nodejs npm      (Node.js 20 or later)

The first run fetches two npm packages; everything after that stays on this machine.
Writes server.pcap, lambda.json, expected.json and truth.json; README.md is written by people.
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

from cases import CASES, Case, capture_is_whole
from recording import Recording
from service import Diary
from stage import HERE, Stage

TOOLS = ("ip", "ethtool", "tcpdump", "tshark", "redis-server", "node", "npm")
INPUTS = ("server.pcap", "lambda.json")


def main() -> int:
    """Make what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("case", choices=[*CASES, "all"])
    parser.add_argument("--out", type=Path, default=HERE.parent, help="the folder of the case's folder")
    arguments = parser.parse_args()
    check_machine()
    install_packages()
    chosen = list(CASES.values()) if arguments.case == "all" else [CASES[arguments.case]]
    good = [make(case, arguments.out / case.name) for case in chosen]
    return 0 if all(good) else 1


def check_machine() -> None:
    """Say at once what is missing, not halfway through."""
    if os.geteuid() != 0:
        sys.exit("make.py: network namespaces need root")
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        sys.exit(f"make.py: not installed: {', '.join(missing)}; see the head of {__file__}")


def install_packages() -> None:
    """Fetch the client libraries, once."""
    if not (HERE / "node_modules").exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
        subprocess.run(command, cwd=HERE, check=True)


def make(case: Case, folder: Path) -> bool:
    """Play one case, and keep it only if the story is in the files."""
    print(f"{case.name}: playing", flush=True)
    with tempfile.TemporaryDirectory(prefix="capture-") as name:
        work = Path(name)
        diary = Diary()
        with Stage(case.delay_ms) as stage:
            case.play(stage, diary, work)
        diary.save_logs(work / "lambda.json")
        recording = Recording(work / "server.pcap", diary)
        if not tell(case, recording):
            print(f"{case.name}: went wrong, nothing was written; try again", flush=True)
            return False
        write_json(work / "expected.json", {"inputs": list(INPUTS), **case.expected(recording)})
        write_json(work / "truth.json", recording.truth())
        folder.mkdir(parents=True, exist_ok=True)
        for file in (*INPUTS, "expected.json", "truth.json"):
            shutil.copyfile(work / file, folder / file)
    return True


def tell(case: Case, recording: Recording) -> bool:
    """Print what the files show; False at the first thing that they do not."""
    for claim, holds in itertools.chain(capture_is_whole(recording), case.claims(recording)):
        print(f"  {'yes' if holds else 'NO '}  {claim}")
        if not holds:
            return False
    return True


def write_json(file: Path, document: object) -> None:
    """Indented, as the rest of the case's files."""
    file.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
