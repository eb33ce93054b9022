"""Which rules are told, from which confidence on, and with which thresholds: what a user may choose, checked.

All rules run whatever is chosen: a finding may be replaced or caused by one that is not told (F203 takes the place of R303),
and `F3` is the same finding in every choice. What is not told is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple, NoReturn

from msgspec import Struct, field
from msgspec.structs import replace

from analyzer.model.findings import Confidence, Finding
from analyzer.model.problems import InputError
from analyzer.model.records import Examined
from analyzer.rules._thresholds import COUNT, UNITS, Settings, Threshold, Values


class Chosen(NamedTuple):
    """A value as a user gave it, and where: `--select`, or `analyze.toml: select`; `file` is the file's name, if one."""

    value: Any
    where: str
    file: str = ""


class RuleSet(Struct, frozen=True):
    """A choice of rules; made by `rule_set`.

    `select` and `ignore` are beginnings of codes; the longer one that fits a rule decides, `ignore` where both are equal, and no
    `select` is all. `thresholds` are those given, in their own units, by `K101.overshoot_ms`; `files` names the file of those
    that came from one.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    min_confidence: Confidence = Confidence.POSSIBLE
    thresholds: Mapping[str, float] = {}
    settings: Settings = field(default_factory=Settings)
    files: Mapping[str, str] = {}

    def has(self, code: str) -> bool:
        """Whether a rule is told."""
        wanted = max((len(x) for x in self.select if code.startswith(x)), default=-1 if self.select else 0)
        return wanted > max((len(x) for x in self.ignore if code.startswith(x)), default=-1)

    def told(self, findings: list[Finding], before: Examined | None = None) -> tuple[list[Finding], Examined]:
        """The findings of these rules, and how they were looked for: `before` where they come from a saved trace."""
        known = before or Examined([rule.CODE for rule in _rules()], thresholds=dict(self.thresholds))
        least = max(self.min_confidence, Confidence[known.min_confidence.upper()])
        kept = [f for f in findings if self.has(f.rule) and f.confidence >= least]
        ids = {f.id for f in kept}
        for finding in kept:
            finding.caused_by = [cause for cause in finding.caused_by if cause in ids]
        return kept, replace(
            known, rules=[code for code in known.rules if self.has(code)], min_confidence=least.word,
            left_out=known.left_out + len(findings) - len(kept),
        )  # fmt: skip

    def of_saved(self, before: Examined, path: str) -> None:
        """Check that a saved trace can answer: what was not looked for, or not told, when it was saved cannot be had of it.

        Raises `InputError`. Thresholds that come from a file of settings are for new inputs, and do not matter here.
        """
        again = "read the raw inputs again"
        for name, value in self.thresholds.items():
            if not self.files.get(name) and before.thresholds.get(name) != value:
                raise InputError(f"{path}: a saved trace has its findings; to change {name}, {again}")
        missing = [code for code in self.select if not any(rule.startswith(code) for rule in before.rules)]
        if missing:
            raise InputError(f"{path}: saved without rule {', '.join(missing)}; {again}")


def rule_set(
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    min_confidence: str = "possible",
    thresholds: Mapping[str, float] | None = None,
) -> RuleSet:
    """A choice of rules for `analyzer.read`.

    `select` and `ignore` are codes, beginnings of codes (`K1`) or names of rules; `min_confidence` is "certain", "likely" or
    "possible"; `thresholds` change what a rule compares with, in the unit in the name: `{"K101.overshoot_ms": 300}`
    (`analyze rules` lists them). Raises `analyzer.InputError` for what no rule has, with what is near.
    """
    chosen = {
        "select": Chosen(select if isinstance(select, str) else list(select), "select"),
        "ignore": Chosen(ignore if isinstance(ignore, str) else list(ignore), "ignore"),
        "min-confidence": Chosen(min_confidence, "min_confidence"),
    }
    return checked(chosen | {name: Chosen(value, "thresholds") for name, value in (thresholds or {}).items()})


#: Keys besides thresholds.
KEYS = ("select", "ignore", "min-confidence")


def checked(chosen: Mapping[str, Chosen]) -> RuleSet:
    """A choice of rules out of raw values: of `KEYS`, and thresholds by their full name. Raises `InputError`."""
    select, ignore = (tuple(_codes(chosen[key])) if key in chosen else () for key in ("select", "ignore"))
    least = _confidence(chosen["min-confidence"]) if "min-confidence" in chosen else Confidence.POSSIBLE
    values: dict[str, float] = {}
    changed: dict[type[Values], dict[str, float]] = {}
    files: dict[str, str] = {}
    for name, given in chosen.items():
        if name in KEYS:
            continue
        full, kind, attribute = _threshold(name, given)
        values[full] = _value(full, kind.declared[attribute], given)
        files[full] = given.file
        changed.setdefault(kind, {})[attribute] = kind.declared[attribute].at(values[full])
    settings = Settings({kind: kind(of_rule) for kind, of_rule in changed.items()})
    return RuleSet(select, ignore, least, dict(sorted(values.items())), settings, files)


def _rules() -> list[Any]:
    from analyzer.rules import rules

    return list(rules())


def _wrong(given: Chosen, what: str, near: Iterable[str] = (), listed: str = "") -> NoReturn:
    close = [f"did you mean {', '.join(near)}?"] if near else []
    raise InputError(f"{given.where}: {what}{''.join(f' ({x})' for x in close or ([listed] if listed else []))}")


def _codes(given: Chosen) -> Iterator[str]:
    """The codes that a user's words stand for."""
    if not isinstance(given.value, list):
        _wrong(given, f"a list of rule codes is needed, not {given.value!r}")
    names = {rule.NAME: rule.CODE for rule in _rules()}
    for word in given.value:
        if not isinstance(word, str):
            _wrong(given, f"{word!r} is no rule code")
        code = names.get(word.strip().lower(), word.strip().upper())
        if not code or not any(known.startswith(code) for known in names.values()):
            near = get_close_matches(code, names.values(), 3) + get_close_matches(word.lower(), names, 1)
            _wrong(given, f"no rule {word!r}", near, f"there are {', '.join(names.values())}")
        yield code


def _confidence(given: Chosen) -> Confidence:
    words = [one.word for one in Confidence]
    if given.value not in words:
        near = get_close_matches(str(given.value), words, 1)
        _wrong(given, f"no confidence {given.value!r}", near, f"one of {', '.join(reversed(words))}")
    return Confidence[str(given.value).upper()]


def _threshold(name: str, given: Chosen) -> tuple[str, type[Values], str]:
    """The threshold that a name such as `K101.overshoot_ms` means: its full name, the class that has it, its attribute."""
    word, dot, own = name.partition(".")
    rule = next((rule for rule in _rules() if word.lower() in (rule.CODE.lower(), rule.NAME)), None)
    if rule is None or not dot:
        names = [rule.CODE for rule in _rules()] + [rule.NAME for rule in _rules()]
        what = f"no rule {word!r}" if rule is None else f"{name!r} names no threshold: write {rule.CODE}.NAME"
        _wrong(given, what, get_close_matches(word.upper(), names, 3) if rule is None else ())
    kind: type[Values] | None = getattr(rule, "Thresholds", None)
    known = {one.name: attribute for attribute, one in kind.declared.items()} if kind else {}
    if kind is None or own not in known:
        listed = f"it has {', '.join(known)}" if known else "it has none"
        _wrong(given, f"rule {rule.CODE} has no threshold {own!r}", get_close_matches(own, known, 2), listed)
    return f"{rule.CODE}.{own}", kind, known[own]


def _value(name: str, known: Threshold, given: Chosen) -> float:
    value = given.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        _wrong(given, f"{name} is a number{f' of {known.unit}' if known.unit in UNITS else ''}, not {value!r}")
    if known.unit == COUNT and not isinstance(value, int):
        _wrong(given, f"{name} is a whole number, not {value!r}")
    if not known.least <= value <= known.most:
        _wrong(given, f"{name} is {known.least:.10g} to {known.most:.10g}, not {value!r}")
    return value
