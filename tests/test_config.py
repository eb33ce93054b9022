"""Files of settings and the options that go before them."""

from __future__ import annotations

import pytest

from analyzer.config import chosen_rules
from analyzer.model.findings import Confidence
from analyzer.model.problems import InputError
from analyzer.rules import rules
from tests.helpers import CAPTURES, ROOT
from tests.test_cli import analyze

CASE = CAPTURES / "zombie-fin-wait-2"
ALL = [rule.CODE for rule in rules()]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working folder two levels down."""
    folder = tmp_path / "project" / "inner"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def test_without_a_file_all_is_as_it_is():
    chosen = chosen_rules()
    assert all(chosen.has(code) for code in ALL)
    assert not chosen.thresholds and chosen.min_confidence is Confidence.POSSIBLE


@pytest.mark.parametrize("name", ["analyze.toml", "analyzer.toml", "pyproject.toml"])
def test_the_nearest_file_upwards_counts(name, here):
    prefix, top = ("tool.analyzer.", "[tool.analyzer]\n") if name == "pyproject.toml" else ("", "")
    (here.parent.parent / "analyze.toml").write_text('select = ["R"]')
    (here.parent / name).write_text(
        f'{top}select = ["K", "F20"]\nignore = ["K103"]\nmin-confidence = "likely"\n'
        f"[{prefix}thresholds]\nK101.overshoot_ms = 300\n[{prefix}thresholds.F201]\nstall_s = 2\n"
    )
    chosen = chosen_rules()
    assert [c for c in ALL if chosen.has(c)] == [c for c in ALL if c[0] in "KF" and c != "K103"]
    assert chosen.min_confidence is Confidence.LIKELY
    assert chosen.thresholds == {"F201.stall_s": 2, "K101.overshoot_ms": 300}
    assert set(chosen.files.values()) == {name}


def test_a_pyproject_of_others_is_passed_by(here):
    (here.parent / "analyze.toml").write_text('select = ["R"]')
    for text in (
        "this is [not TOML",
        "[tool.other]\nabout = 'the analyzer'",
        "analyzer [not TOML",
        "tool = 3 # analyzer",
    ):
        (here / "pyproject.toml").write_text(text)
        assert not chosen_rules().has("K101")
    (here / "pyproject.toml").write_text("[tool.analyzer]\nselect = [")
    with pytest.raises(InputError, match="no valid TOML"):
        chosen_rules()


def test_options_go_first(here):
    (here / "analyze.toml").write_text('select = ["K"]\n[thresholds]\nK101.overshoot_ms = 300\nK105.least_probes = 4\n')
    chosen = chosen_rules(["F201,F202", "R302"], thresholds=["K101.overshoot_ms=200.5"])
    assert [c for c in ALL if chosen.has(c)] == ["F201", "F202", "R302"]
    assert chosen.thresholds == {"K101.overshoot_ms": 200.5, "K105.least_probes": 4}
    assert chosen_rules(isolated=True).thresholds == {}
    (here / "other.toml").write_text("[thresholds]\nK105.least_probes = 9\n")
    assert chosen_rules(config="other.toml").thresholds == {"K105.least_probes": 9}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("selct = ['K']", "analyze.toml: selct: unknown key (did you mean select?)"),
        ("colour = 1", "analyze.toml: colour: unknown key (there are select, ignore, min-confidence, thresholds)"),
        ("select = 'K'", "analyze.toml: select: a list of rule codes is needed, not 'K'"),
        ("select = [1]", "analyze.toml: select: 1 is no rule code"),
        ("select = ['X1']", "analyze.toml: select: no rule 'X1'"),
        ("min-confidence = 3", "analyze.toml: min-confidence: no confidence 3"),
        ("thresholds = 3", "analyze.toml: thresholds: a table is needed, not 3"),
        ("[thresholds.K101]\novershoot = 3", "thresholds.K101.overshoot: rule K101 has no threshold 'overshoot' (did you mean"),
        ("[thresholds.K101]\novershoot_ms = '3'", "analyze.toml: thresholds.K101.overshoot_ms: K101.overshoot_ms is a number"),
        ("[thresholds]\nK101 = 3", "analyze.toml: thresholds.K101: 'K101' names no threshold"),
        ("a = [", "analyze.toml: no valid TOML"),
    ],
)  # fmt: skip
def test_mistakes_name_file_and_key(text, said, here):
    (here / "analyze.toml").write_text(text)
    with pytest.raises(InputError) as refused:
        chosen_rules()
    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["K101.overshoot_ms", "=3", "K101.overshoot_ms=", ""])
def test_an_option_is_an_assignment(text):
    with pytest.raises(InputError, match="write it as"):
        chosen_rules(thresholds=[text])


def test_a_file_that_is_named_must_be_there(here):
    with pytest.raises(InputError, match=r"none\.toml: No such file"):
        chosen_rules(config="none.toml")
    (here / "pyproject.toml").write_text("[project]\nname = 'x'")
    with pytest.raises(InputError, match=r"no table \[tool.analyzer\]"):
        chosen_rules(config="pyproject.toml")
    (here / "latin.toml").write_bytes(b"select = ['\xe4']")
    with pytest.raises(InputError, match="no valid TOML"):
        chosen_rules(config="latin.toml")


def test_the_command_line_says_what_it_left_out(tmp_path, here):
    config = tmp_path / "mine.toml"
    config.write_text('ignore = ["F203"]\n')
    done = analyze("diagnose", CASE, "--config", config, "--threshold", "F201.stall_s=2", PYTHONPATH=str(ROOT))
    text = done.stdout.decode()
    assert done.returncode == 0
    assert "without rules F203" in text and "thresholds changed: F201.stall_s = 2" in text
    wrong = analyze("diagnose", CASE, "--select", "F9", PYTHONPATH=str(ROOT))
    assert wrong.returncode == 2 and b"no rule 'F9'" in wrong.stderr and not wrong.stdout
