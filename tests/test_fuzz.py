"""A short run of the fuzzers on what is shipped; `python -m fuzz` runs as long as you like, on what you have."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from types import ModuleType

import pytest

from fuzz import __main__ as fuzz
from fuzz.accidents import BINARY, TEXT, Accident, damaged
from tests.helpers import CAPTURES, ROOT


@pytest.mark.slow
def test_damaged_inputs_for_twenty_seconds() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ANALYZER_SHARED"}
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", "--seconds", "20", "--seed", "1"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(target.NAME in done.stdout for target in fuzz.TARGETS)


@pytest.mark.parametrize("accidents", [BINARY, TEXT])
def test_accidents_do_damage(accidents: tuple[Accident, ...]) -> None:
    content = (CAPTURES / "healthy" / "lambda.json").read_bytes()
    made = {damaged(content, random.Random(seed), accidents) for seed in range(50)}
    assert len(made) > 45
    assert damaged(content, random.Random(3)) == damaged(content, random.Random(3))


@pytest.mark.parametrize("target", fuzz.TARGETS, ids=lambda target: target.NAME)
def test_a_failure_is_left_behind_and_made_again(
    target: ModuleType, tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every kind has inputs without a shared folder, and a failing answer ends the run with the input's number."""
    monkeypatch.delenv("ANALYZER_SHARED", raising=False)
    monkeypatch.chdir(str(tmp_path))
    first = target.seeds()[:1]
    monkeypatch.setattr(target, "seeds", lambda: first)
    answers = iter([None, None])
    monkeypatch.setattr(target, "check", lambda _: next(answers))
    assert fuzz.run([target], 60, 1, 7) == 1
    assert f"input 8 of seed 1, {target.NAME}" in capsys.readouterr().out
    assert {p.name for p in fuzz.LEFT_BEHIND.rglob("*") if p.is_file()} == {n.rpartition("/")[2] for n in first[0]}
