"""Files of settings: `analyze.toml`, `analyzer.toml` or the table `[tool.analyzer]` of pyproject.toml, the nearest from here upwards.

    select = ["K", "R30"]           # codes, beginnings of codes, or names
    ignore = ["L503"]
    min-confidence = "likely"

    [thresholds]                    # `analyze rules` lists them
    K101.overshoot_ms = 300

In pyproject.toml they stand under `[tool.analyzer]` and `[tool.analyzer.thresholds]`. Files are not merged; options of the command
line go before what a file says, threshold by threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from analyzer.model.problems import InputError
from analyzer.rules._ruleset import KEYS, Chosen, RuleSet, checked

#: In the order in which they are looked for in one folder.
NAMES = ("analyze.toml", "analyzer.toml", "pyproject.toml")
TABLE = "tool.analyzer"
THRESHOLDS = "thresholds"


def chosen_rules(
    select: Iterable[str] | None = None,
    ignore: Iterable[str] | None = None,
    min_confidence: str | None = None,
    thresholds: Iterable[str] | None = None,
    config: str | None = None,
    isolated: bool = False,
) -> RuleSet:
    """The rules that options of the command line and a file of settings choose together.

    `thresholds` are `K101.overshoot_ms=300`; codes may stand together: `K,R302`. `config` names the file instead of a search,
    `isolated` reads none. Raises `InputError`, naming the option, or the file and the key.
    """
    path = None if isolated else Path(config) if config is not None else _nearest()
    chosen = dict(_of_file(path)) if path is not None else {}
    given: dict[str, Any] = {"select": select and _split(select), "ignore": ignore and _split(ignore)}
    given["min-confidence"] = min_confidence
    chosen |= {key: Chosen(value, f"--{key}") for key, value in given.items() if value}
    for text in thresholds or ():
        name, value = _assignment(text)
        chosen[name] = Chosen(value, f"--threshold {name}")
    return checked(chosen)


def _split(codes: Iterable[str]) -> list[str]:
    return [code for text in codes for code in text.split(",") if code.strip()]


def _assignment(text: str) -> tuple[str, float | str]:
    name, _, value = (part.strip() for part in text.partition("="))
    if not name or not value:
        raise InputError(f"--threshold {text!r}: write it as K101.overshoot_ms=300")
    try:
        return name, int(value) if value.isdecimal() else float(value)
    except ValueError:
        return name, value


def _nearest() -> Path | None:
    """The nearest file of settings, from the working folder upwards; a pyproject.toml without our table is none."""
    try:
        here = Path.cwd()
    except OSError:
        return None
    for folder in (here, *here.parents):
        for name in NAMES:
            path = folder / name
            if path.is_file() and (name != "pyproject.toml" or _has_table(path)):
                return path
    return None


def _has_table(path: Path) -> bool:
    """Whether a pyproject.toml has our table; one of others may be broken, or not for us to read."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    if b"analyzer" not in content:
        return False
    import tomllib  # few folders have a file of settings: 2 ms

    try:
        tool = tomllib.loads(content.decode()).get("tool")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return f"[{TABLE}".encode() in content
    return isinstance(tool, dict) and "analyzer" in tool


def _of_file(path: Path) -> Iterator[tuple[str, Chosen]]:
    """The settings of a file, each with its place."""
    import tomllib

    try:
        content = tomllib.loads(path.read_bytes().decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no valid TOML: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    prefix = ""
    if path.name == "pyproject.toml":
        tool = content.get("tool")
        if not isinstance(tool, dict) or "analyzer" not in tool:
            raise InputError(f"{path}: it has no table [{TABLE}]")
        content, prefix = _table(tool["analyzer"], f"{path}: {TABLE}"), f"{TABLE}."
    for key, value in content.items():
        where = f"{path}: {prefix}{key}"
        if key == THRESHOLDS:
            yield from _thresholds(_table(value, where), where, path)
        elif key in KEYS:
            yield key, Chosen(value, where, path.name)
        else:
            known = (*KEYS, THRESHOLDS)
            near = get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise InputError(f"{where}: unknown key ({hint})")


def _thresholds(table: Mapping[str, Any], where: str, path: Path) -> Iterator[tuple[str, Chosen]]:
    """Each of `[thresholds.K101] overshoot_ms = 300`, which is also `K101.overshoot_ms = 300` or `"K101.overshoot_ms" = 300`."""
    for rule, values in table.items():
        if not isinstance(values, dict):
            yield rule, Chosen(values, f"{where}.{rule}", path.name)
            continue
        for name, value in values.items():
            yield f"{rule}.{name}", Chosen(value, f"{where}.{rule}.{name}", path.name)


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where}: a table is needed, not {value!r}")
    return value
