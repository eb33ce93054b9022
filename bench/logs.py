"""Read logs beside `grep -cE` and `orjson.loads`, and print ratios: `python -m bench.logs [--megabytes 200] [--repeat 3]`.

Makes its own inputs: lines of which less than one in a hundred says anything, lines of which every one does, and documents
as `aws logs filter-log-events` prints them. Each contender runs in turn, in a process of its own, on one core; the least
time counts. `grep` searches for the same words as we do, in the C locale.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

#: Our ratio to each, or our MB/s, must be at least this.
BARS = {"sparse lines": 0.25, "dense lines": 30.0, "document": 0.5, "document on one line": 0.5}
START_MS = 1_795_219_200_000
WORDS = [
    "user",
    "order",
    "cache",
    "lookup",
    "fetch",
    "item",
    "status",
    "ok",
    "value",
    "retry",
    "handler",
    "payload",
    "items",
    "count",
    "page",
    "total",
    "elapsed",
]
ENVIRONMENTS, INVOCATION = 20, 400

READ = """
import sys, time
from analyzer.logs.reader import pick, read_log
from analyzer.streams import open_stream, read_head
choice = pick(read_head(sys.argv[1]))
before = time.process_time()
with open_stream(sys.argv[1]) as stream:
    data = read_log(stream, sys.argv[1], choice)
print(time.process_time() - before, len(data.events), data.records)
"""
LOADS = """
import sys, time, gc, orjson
data = open(sys.argv[1], "rb").read()
gc.disable()
before = time.process_time()
document = orjson.loads(data)
print(time.process_time() - before, len(document["events"]), len(document["events"]))
"""


def stamp(ms: int, zone: str) -> str:
    """ISO 8601 with milliseconds, and whatever stands behind them."""
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}{zone}"


def messages(dense: bool, seed: int = 1) -> Iterator[tuple[int, str, str]]:
    """(ms, stream, message) of busy environments, without end."""
    dice = random.Random(seed)
    streams = [f"2026/11/21/[$LATEST]{dice.getrandbits(128):032x}" for _ in range(ENVIRONMENTS)]
    requests: dict[str, list] = {}
    ms, number = START_MS, 0
    while True:
        ms, number = ms + dice.randrange(8), number + 1
        stream = dice.choice(streams)
        request = requests.get(stream)
        if request is None or request[1] > INVOCATION:
            if request is not None:
                yield (
                    ms,
                    stream,
                    f"REPORT RequestId: {request[0]}\tDuration: 5.20 ms\tBilled Duration: 6 ms\tMemory Size: 128 MB\t",
                )
            requests[stream] = request = [uuid.UUID(int=dice.getrandbits(128)), 0]
            yield ms, stream, f"START RequestId: {request[0]} Version: $LATEST"
        request[1] += 1
        yield ms, stream, f"{stamp(ms, 'Z')}\t{request[0]}\tINFO\t{_said(dice, dense, ms, number)}"


def _said(dice: random.Random, dense: bool, ms: int, number: int) -> str:
    if dense:
        head = f"D {stamp(ms, 'Z')} | v1.14.7 19371 |"
        if number % 2:
            return f"{head} keepalive | (1) 10.20.0.5:50051 Sending ping with timeout 1000ms"
        return f"{head} transport | (1) 10.20.0.5:50051 stream {number} closed with code 0"
    if dice.random() < 0.003:
        return "redis error Error: read ECONNRESET"
    return " ".join(dice.choices(WORDS, k=dice.randrange(6, 18)))


def write_lines(path: Path, size: int, dense: bool) -> None:
    """Lines as `aws logs tail` prints them."""
    with path.open("w") as f:
        for ms, stream, message in messages(dense):
            f.write(f"{stamp(ms, '000+00:00')} {stream} {message}\n")
            if f.tell() > size:
                return


def write_document(path: Path, size: int, indent: int | None) -> None:
    """A document as `aws logs filter-log-events` prints it, or on one line."""
    between = ",\n" if indent else ", "
    with path.open("w") as f:
        f.write('{\n    "events": [\n' if indent else '{"events": [')
        for number, (ms, stream, message) in enumerate(messages(dense=False)):
            event = {
                "logStreamName": stream, "timestamp": ms, "message": message + "\n", "ingestionTime": ms + 4000,
                "eventId": f"385{number:053d}",
            }  # fmt: skip
            text = json.dumps(event, indent=indent)
            f.write((between if number else "") + (text.replace("\n", "\n        ") if indent else text))
            if f.tell() > size:
                break
        f.write("]}")


def grep(path: Path) -> float:
    """CPU seconds of grep with our words."""
    from analyzer.logs.sieve import words

    pattern = "|".join("".join("\\" + c if c in r".[]{}()*+?^$|\\" else c for c in word) for word in words())
    before = os.times()
    subprocess.run(["grep", "-cE", pattern, str(path)], env={"LC_ALL": "C"}, stdout=subprocess.PIPE, check=False)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def own(script: str, path: Path) -> float:
    """CPU seconds that a script of ours reports."""
    out = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    return float(out.stdout.split()[0])


def whole(path: Path) -> float:
    """Seconds of `analyze lambda-log`, from start to report."""
    before = time.perf_counter()
    subprocess.run([sys.executable, "-m", "analyzer", "lambda-log", "-q", "-o", os.devnull, str(path)], check=False)
    return time.perf_counter() - before


def main() -> None:
    """Make the inputs, time everyone, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    size = given.megabytes << 20
    folder = Path(tempfile.mkdtemp(prefix="bench-logs-"))
    try:
        write_lines(folder / "sparse.txt", size, dense=False)
        write_lines(folder / "dense.txt", size // 4, dense=True)
        write_document(folder / "pretty.json", size, 4)
        write_document(folder / "compact.json", size, None)
        for name, file, peer in (
            ("sparse lines", "sparse.txt", grep), ("dense lines", "dense.txt", None),
            ("document", "pretty.json", LOADS), ("document on one line", "compact.json", LOADS),
        ):  # fmt: skip
            report(name, folder / file, peer, given.repeat)
    finally:
        shutil.rmtree(folder)


def report(name: str, path: Path, peer: object, repeat: int) -> None:
    """One line: our MB/s, the peer's, the ratio, and the whole command's MB/s."""
    mine, theirs, command = [], [], []
    for _ in range(repeat):
        mine.append(own(READ, path))
        command.append(whole(path))
        if peer is not None:
            theirs.append(peer(path) if callable(peer) else own(str(peer), path))
    megabytes = path.stat().st_size / 1e6
    text = f"{name:22} {megabytes / min(mine):7.1f} MB/s"
    value = megabytes / min(mine)
    if theirs:
        value = min(theirs) / min(mine)
        text += f"   peer {megabytes / min(theirs):7.1f} MB/s   ratio {value:5.2f}"
    print(
        f"{text}   bar {BARS[name]:g} {'ok' if value >= BARS[name] else 'MISSED'}   whole command {megabytes / min(command):6.1f} MB/s"
    )


if __name__ == "__main__":
    main()
