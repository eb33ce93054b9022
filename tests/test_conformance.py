"""The cases that are not shipped: nothing wrong is said from any subset, and what a subset can prove is found."""

from __future__ import annotations

import json

import pytest

import analyzer
from analyzer.rules import rules
from tests.test_captures import judge

pytestmark = pytest.mark.shared

HAVE = {r.CODE for r in rules()}
PICK = {
    "all": lambda name: True,
    "server": lambda name: name.startswith("srv"),
    "function": lambda name: name.startswith("fn"),
    "logs": lambda name: not name.startswith(("srv", "fn")),
}
#: What a subset may honestly call the same death.
ALIKE = {"F203", "R301", "R302", "R303"}
PROVABLE = {
    "all": HAVE,
    "server": HAVE - {"R301", "K101", "K102", "R303", "T604"},
    "function": HAVE - {"R301", "K101", "K102", "F202", "T604"},
    "logs": {"K101", "K102", "T604"},
}


def cases(folder):
    for path in sorted(folder.glob("*/expected.json")):
        content = json.loads(path.read_text())
        if "require" in content:
            yield path.parent.name, path.parent, content
        else:
            for name, one in sorted(content.items()):
                yield f"{path.parent.name}/{name}", path.parent, one


@pytest.mark.parametrize("subset", sorted(PICK))
def test_cases(shared, subset):
    wrong = {}
    for name, folder, want in cases(shared / "cases"):
        inputs = [folder / n for n in want["inputs"] if PICK[subset](n)]
        if not inputs:
            continue
        trace = analyzer.read(*inputs)
        want["allow"] = sorted(set(want["allow"]).union(*(w["any_of"] for w in want["require"])))
        want["require"] = [w for w in want["require"] if set(w["any_of"]) & PROVABLE[subset]]
        if subset in ("server", "function"):
            for w in want["require"]:
                w["any_of"] = sorted(set(w["any_of"]) | (ALIKE if set(w["any_of"]) & ALIKE else set()))
        if subset != "all":
            want["allow"] = sorted(set(want["allow"]) | ALIKE)
        verdict = judge(trace, want)
        if verdict != ([], [], []):
            wrong[name] = verdict
    assert not wrong


def test_folders_given_whole(shared):
    for folder in sorted(p.parent for p in (shared / "cases").glob("*/truth.json")):
        want = json.loads((folder / "expected.json").read_text())
        trace = analyzer.read(folder)
        want["require"] = [w for w in want["require"] if set(w["any_of"]) & HAVE]
        assert judge(trace, want) == ([], [], []), folder.name
        parts = analyzer.read(*(folder / n for n in want["inputs"]))
        assert len(trace.story.events) == len(parts.story.events), f"{folder.name}: a line in two inputs is one event"


def test_clocks_are_right_within_their_error(shared):
    for folder in sorted(p.parent for p in (shared / "cases").glob("*/truth.json")):
        want = json.loads((folder / "expected.json").read_text())
        trace = analyzer.read(*(folder / n for n in want["inputs"]))
        clocks = {s.label.split(".")[0]: s.clocks[0] for s in trace.story.sources if s.kind == "pcap"}
        between = (clocks["srv"].offset_ns - clocks["fn"].offset_ns) / 1e9 + want["srv_minus_fn_clock_s"]
        assert abs(between) <= 0.002, folder.name
        for clock in clocks.values():  # all clocks of these cases are one host clock
            assert abs(clock.offset_ns) <= clock.error_ns, folder.name


def test_public_captures_raise_no_exception(shared):
    import io

    from analyzer.capture.reader import read_capture

    for path in sorted((shared / "corpus").rglob("*")):
        if path.is_file() and path.stat().st_size < 300_000:
            head = path.read_bytes()
            read_capture(io.BytesIO(head), len(head))
