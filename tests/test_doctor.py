"""What the doctor looks at, and what it says of what is not there."""

from __future__ import annotations

import tomllib

import pytest
from typer.testing import CliRunner

from analyzer import doctor
from analyzer.cli import app
from analyzer.report.doctor import lines
from analyzer.report.style import Style
from tests.helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: Extras that are for developers and notebooks only.
NO_OPTION = {"test", "notebook"}


def name_of(requirement: str) -> str:
    return requirement.partition(">")[0]


def test_every_dependency_is_looked_at() -> None:
    assert {name for name, *_ in doctor.REQUIRED} == {name_of(r) for r in PROJECT["dependencies"]}
    extras = {
        (name_of(r), extra)
        for extra, wanted in PROJECT["optional-dependencies"].items() if extra not in NO_OPTION for r in wanted
    }  # fmt: skip
    assert {(name, extra) for name, _, extra, _ in doctor.EXTRAS} == extras


def test_an_installation_that_has_all() -> None:
    assert [check for check in doctor.checks() if check.state == doctor.MISSING] == []
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 0


def test_what_is_missing_comes_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REQUIRED", (("nothing-like-it", "nothing_like_it", "the tables"),))
    monkeypatch.setattr(doctor, "EXTRAS", (("nor-this", "nor_this", "deep", "a look inside"),))
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("analyzer.deep.tshark.ELSEWHERE", ())
    found = {check.what: check for check in doctor.checks()}
    assert found["nothing-like-it"][1:] == (doctor.MISSING, "the tables", "pip install nothing-like-it")
    assert found["nor-this"].state == doctor.NOTE
    assert found["nor-this"].then == "pip install 'connection-analyzer[deep]'"
    assert "apt install tshark" in found["tshark"].then
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 1


@pytest.mark.parametrize("width", [60, 80, 160])
def test_it_fits(width: int) -> None:
    checks = [doctor.Check("a thing", doctor.NOTE, "words " * 40, "do this " * 20)]
    told = list(lines(checks, Style(width=width)))
    assert len(told) > 2
    assert all(len(line) <= width for line in told)
