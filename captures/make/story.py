"""What a case is: a play, the claims that its files must meet, and the findings that are expected of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exports import Export, filter_log_events
from recording import Recording
from service import Diary
from stage import Stage

Claims = Iterator[tuple[str, bool]]
Wanted = dict[str, Any]
#: Expected of one set of inputs: `require`, `forbid`, `allow`; under `alone` the same for each input by itself.
Expected = dict[str, Any]

# Every failure that there is a rule for: what a healthy trace must not show.
FAILURES = "K101 K102 K103 K104 K105 F201 F202 F203 F204 F205 R301 R302 R303 R304 C401 C402 C403 C404 C405"
FAILURES += " L501 L502 T601 T602 T603 T605"

# What to set for grpc-js to tell what it does.
GRPC_TRACES = {
    "GRPC_VERBOSITY": "DEBUG",
    "GRPC_TRACE": "keepalive,transport,subchannel,channel,resolving_call,load_balancing_call",
}


@dataclass(frozen=True)
class Case:
    """One case: a name, a cable length, a play and its judges."""

    name: str
    delay_ms: float
    play: Callable[[Stage, Diary, Path], None]
    claims: Callable[[Recording], Claims]  # what happened, and whether the files show it; nobody asks on after a "no"
    expected: Callable[[Recording], Expected]  # expected.json, less its inputs
    captures: tuple[str, ...] = ("server.pcap",)
    export: Export | None = filter_log_events


def want(rules: str, client: str | None = None, time: float | None = None) -> Wanted:
    """A finding that must come out: any of `rules`, on the connection of `client`, near `time` (epoch seconds)."""
    wanted: Wanted = {"any_of": rules.split()}
    if client:
        wanted["client"] = client
    if time:
        wanted["time"] = time
    return wanted


def expect(*require: Wanted, forbid: str = "", allow: str = "", **alone: Expected) -> Expected:
    """What is expected of some inputs. `forbid`: rules that would be wrong anywhere; `allow`: that may be said besides.

    `server`, `client` and `logs` are what is expected of that input alone.
    """
    expected: Expected = {
        "require": list(require),
        "forbid": [{"rules": forbid.split(), "client": None}] if forbid else [],
        "allow": allow.split(),
    }
    return {**expected, "alone": alone} if alone else expected
