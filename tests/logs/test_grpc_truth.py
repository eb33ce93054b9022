"""Real traces of every dialect against what was sniffed and done while they were made (samples/grpc, one `.json` a log).

`grpc_counts.tsv` holds how many events of each kind every file yields (ANALYZER_WRITE_GOLDEN=1 rewrites it, to be read in the
diff); `grpc_judged.tsv` the lines that no recogniser reads more of than their head, as a person has judged them.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

import analyzer
from analyzer.logs.reader import pick, read_log
from analyzer.logs.recognisers import grpc_core, grpc_go, grpc_js
from analyzer.model.grpc import CORE, GO, JS, KINDS, message
from tests.conftest import shared_folder

HERE = Path(__file__).parent
COUNTS, JUDGED = HERE / "grpc_counts.tsv", HERE / "grpc_judged.tsv"
SHARED = shared_folder()
ROOT = SHARED / "samples" / "grpc" if SHARED else None
LOGS = sorted(str(p.relative_to(ROOT)) for p in ROOT.rglob("*.log")) if ROOT else []
EXPORTS = sorted(str(p.relative_to(ROOT)) for p in ROOT.rglob("*.cloudwatch.json")) if ROOT else []
#: The client's own logs with a truth beside them.
CLIENTS = [name for name in LOGS if ROOT and ".server." not in name and (ROOT / name).with_suffix(".json").exists()]
DAY = 86_400
needs_samples = pytest.mark.skipif(ROOT is None, reason="needs the conformance data")


@cache
def data_of(name: str):
    path = ROOT / name
    with path.open("rb") as stream:
        head = stream.read(65_536)
        stream.seek(0)
        return read_log(stream, str(path), pick(head))


@cache
def story_of(name: str):
    return analyzer.read(ROOT / name).story


@cache
def truth_of(name: str) -> dict:
    return json.loads((ROOT / name).with_suffix(".json").read_text())


def dialect(name: str) -> str:
    return name.split("/", maxsplit=1)[0]


def wire(name: str, event: str, direction: str) -> list[dict]:
    return [w for w in truth_of(name)["wire_events"] if w["ev"] == event and w.get("dir") == direction]


def seconds(name: str, ns: int) -> float:
    """A log's time as the truth's: C-core prints no year."""
    first = story_of(name).events[0].time_ns / 1e9
    return ns / 1e9 + DAY * round((truth_of(name)["t0"] - first) / DAY)


# ---- counts and judged lines

#: Kinds that no sample happens to have.
SELDOM: set[str] = set()


@needs_samples
def test_every_file_yields_the_events_it_did():
    rows = []
    for name in LOGS + EXPORTS:
        counts = Counter(e.kind if e.layer == "grpc" else f"{e.layer}/{e.kind}" for e in data_of(name).events)
        rows.append("\t".join([name, *(f"{kind}={n}" for kind, n in sorted(counts.items()))]))
    text = "\n".join(rows) + "\n"
    if os.environ.get("ANALYZER_WRITE_GOLDEN"):
        COUNTS.write_text(text)
    assert text.splitlines() == COUNTS.read_text().splitlines()


@needs_samples
def test_recognisers_keep_to_the_vocabulary():
    kinds = {e.kind for name in LOGS for e in data_of(name).events if e.layer == "grpc"}
    assert kinds <= set(KINDS)
    assert set(KINDS) - kinds <= {"ping-frame-acked", "resolve-delayed"} | SELDOM


@needs_samples
def test_lines_that_are_not_read_were_judged():
    judged = [
        (who, re.compile(form)) for who, form, _ in (line.split("\t") for line in JUDGED.read_text().splitlines())
    ]
    unused = set(range(len(judged)))
    strange = Counter()
    for name in LOGS + EXPORTS:
        for e in data_of(name).events:
            if e.kind not in ("trace", "line"):
                continue
            text = message(e.text, e.dialect).strip()
            fits = [k for k, (who, form) in enumerate(judged) if who == (e.dialect or "-") and form.match(text)]
            unused.difference_update(fits)
            if not fits and text:
                strange[e.dialect or "-", text[:80]] += 1
    assert not strange
    assert not [judged[k] for k in unused]


@needs_samples
@pytest.mark.parametrize("recogniser", [grpc_js, grpc_core, grpc_go])
def test_big_files_keep_every_line_that_says_something(recogniser):
    mine = {grpc_js: JS, grpc_core: CORE, grpc_go: GO}[recogniser]
    for name in LOGS:
        for e in data_of(name).events:
            if e.dialect == mine and e.kind not in ("trace", "call-sent"):  # one line of request data is enough
                assert any(word in e.text for word in recogniser.TELLING), e.text


# ---- agreement with the wire and the application

#: Lines about a ping that never reached the wire: timers of dead sockets (1.8 to 1.10.9), pings on a session that the server
#: has told GOAWAY, a write on a broken pipe.
MORE_LINES_THAN_FRAMES = {
    "grpc-js/1.8.22/b.keepalive_only.log": 1, "grpc-js/1.8.22/b.log": 1, "grpc-js/1.8.22/b2.log": 1, "grpc-js/1.8.22/c4.log": 1,
    "grpc-js/1.8.22/j.log": 1, "grpc-js/1.8.22/m.log": 2, "grpc-js/1.9.15/b.keepalive_only.log": 1, "grpc-js/1.9.15/b.log": 1,
    "grpc-js/1.9.15/b2.log": 1, "grpc-js/1.9.15/c4.log": 1, "grpc-js/1.9.15/j.log": 1, "grpc-js/1.9.15/m.log": 2,
    "grpc-js/1.12.6/j.log": 1, "grpc-js/1.14.7/j.log": 1, "grpcio/1.48.2/h.log": 1,
}  # fmt: skip


def ping_lines(name: str) -> int | None:
    """PING frames as the dialect logs them; None where it does not."""
    kinds = Counter(e.kind for e in data_of(name).events)
    if dialect(name) == "grpcio":
        return kinds["ping-frame-sent"]
    if dialect(name) == "grpc-go" and "http2debug" not in name:
        return None
    return kinds["ping-sent"] + kinds["bdp-ping-sent"] + kinds["ping-frame-sent"]


@needs_samples
@pytest.mark.parametrize("name", CLIENTS)
def test_pings_are_those_on_the_wire(name):
    lines = ping_lines(name)
    if lines is None:
        pytest.skip("this dialect logs no pings")
    assert lines - MORE_LINES_THAN_FRAMES.get(name, 0) == len(wire(name, "PING", "c2s"))


@needs_samples
@pytest.mark.parametrize("name", CLIENTS)
def test_answered_pings_were_answered(name):
    """Between a ping and the line of its answer the answer was on the wire."""
    story = story_of(name)
    answers = [w["t"] for w in wire(name, "PING_ACK", "s2c")]
    slack = 1.1 if dialect(name) in ("grpc-go", "grpc-java") else 0.15
    before = (
        1.1 if name.startswith("grpcio/1.48.2") else slack
    )  # a BDP ping that was out served the keepalive's purpose
    for ping in story.pings:
        line = ping.acked if ping.acked is not None else ping.late_ack
        if line is None or name in MORE_LINES_THAN_FRAMES:
            continue
        sent, read = seconds(name, ping.sent_ns), seconds(name, story.events[line].time_ns)
        assert any(sent - before <= t <= read + slack for t in answers)


#: Servers say GOAWAY more often than clients print: C-core names a code of 0 in no line, grpc-go names only too_many_pings (and all
#: under http2debug), Node's server says it while its client is being destroyed.
def unprinted(name: str, code: int) -> bool:
    if dialect(name) == "grpcio":
        return code == 0
    if dialect(name) == "grpc-go":
        return code != 11
    return dialect(name) in ("grpc-js", "grpc-java") and name.endswith(("/h.log", "/j.log"))


@needs_samples
@pytest.mark.parametrize("name", CLIENTS)
def test_goaways_are_those_on_the_wire(name):
    sent = {(str(w["code"]), w["data"]) for w in wire(name, "GOAWAY", "s2c") if not unprinted(name, w["code"])}
    if "keepalive_only" in name and dialect(name) == "grpc-js":
        sent = set()
    read = {(e.attrs.get("code"), e.attrs.get("data")) for e in data_of(name).events if e.kind == "goaway-received"}
    read -= {("0", data) for _, data in read}
    assert {code for code, _ in read} == {code for code, _ in sent}
    assert {data for _, data in read} - {None} <= {data for _, data in sent}


def logs_calls(name: str) -> bool:
    if "keepalive_only" in name or dialect(name) == "grpc-go":
        return "http2debug" in name
    return True


#: Calls that never became a stream are in no frame log; what a dead transport cut off has no status there.
NO_STREAM = {f"grpc-java/1.41.3/{s}.log": n for s, n in {"f": 2, "f2": 2, "g": 2, "g2": 2, "i": 1, "j": 1}.items()}


@needs_samples
@pytest.mark.parametrize("name", [name for name in CLIENTS if logs_calls(name)])
def test_calls_and_their_statuses_are_the_applications(name):
    events = truth_of(name)["app_events"]
    started = sorted(e["t"] for e in events if e["ev"] == "call_start")
    ended = Counter(e["code"] for e in events if e["ev"] == "call_end")
    calls = story_of(name).calls
    assert len(calls) == len(started) - NO_STREAM.get(name, 0)
    read = Counter(c.status for c in calls if c.status is not None)
    unended = len(started) - sum(ended.values())
    if dialect(name) in ("grpcio", "grpc-js"):
        assert sum((ended - read).values()) == 0 and sum((read - ended).values()) <= unended
        for call, start in zip(calls, started, strict=True):
            assert abs(seconds(name, call.start_ns) - start) < 0.25
    else:
        assert not read - ended
    assert all(c.method in (None, "/t.S/Echo", "/t.S/Slow") for c in calls)


#: Connections of the wire that no line of the client tells of: the process ended, or C-core up to 1.64 never looked at them again.
UNSEEN = {f"grpcio/{v}/{s}.log": 1 for v, s in (("1.48.2", "c"), ("1.48.2", "c2"), ("1.48.2", "i"), ("1.60.2", "i"))}


@needs_samples
@pytest.mark.parametrize("name", [name for name in CLIENTS if "json_fmt" not in name])
def test_transports_are_the_connections(name):
    connections = len(wire(name, "SYNACK", "s2c"))
    assert len(story_of(name).transports) == connections - UNSEEN.get(name, 0)


#: Which scenarios end in which findings. Healthy ones have none but for what is told of C-core up to 1.64, whose watchdog fires on
#: idle channels (`poll starvation`), and the too_many_pings that it then never lives to see.
#: What each scenario did to its connections (samples/grpc/README.md).
SCENARIOS = {
    "b": {"K102"},
    "b2": {"K102"},
    "d": {"K103"},
    "d2": {"K103", "F205"},  # a call in flight when the GOAWAY came
    "f": {"C403"},
    "g": {"C404"},
    "g2": {"C404"},
    "i": {"C403"},  # the server was killed: refused until it was back
    "j": {"F205", "C403"},  # shut down with a call in flight, then refused
    "m": {"K102"},
}


def expected(name: str) -> set[str]:
    scenario = name.rsplit("/", maxsplit=1)[-1].split(".", maxsplit=1)[0]
    found = SCENARIOS.get(scenario, set())
    if scenario in ("c", "c3", "c4"):
        found = {"K101", "K102"}
    elif (
        "1.48.2" in name or "1.60.2" in name
    ):  # an idle channel's socket is not polled: its pings time out in any scenario
        found = found | ({"K102"} if scenario != "d2" else set())
    return found


@needs_samples
@pytest.mark.parametrize("name", CLIENTS)
def test_findings_are_the_scenarios(name):
    found = {f.rule for f in analyzer.read(ROOT / name).findings}
    assert found <= expected(name)
    frozen = name.split("/")[-1] in ("c.log", "c4.log")
    if frozen and dialect(name) == "grpc-js" and "1.3.8" not in name:
        assert found == {"K101"}
    if frozen and name.startswith("grpcio/1.85.1"):
        assert found == {"K101"}


@needs_samples
@pytest.mark.parametrize("name", [name for name in CLIENTS if name.startswith(("grpcio/1.48.2/a", "grpcio/1.60.2/a"))])
def test_an_idle_channel_that_nobody_polls_accuses_no_peer(name):
    for finding in analyzer.read(ROOT / name).findings:
        assert "nobody was reading" in finding.title and finding.severity.word == "warning"


@needs_samples
@pytest.mark.parametrize("name", EXPORTS)
def test_exports_hold_the_same_transports_as_bare_traces(name):
    story = story_of(name)
    streams = set(json.loads((ROOT / name.replace(".cloudwatch.json", ".json")).read_text())["streams"].values())
    assert {t.environment for t in story.transports} == streams
    assert all(t.dialect == JS for t in story.transports)
    timed_out = [p for p in story.pings if p.timed_out is not None]
    assert bool(timed_out) == ("c_freeze" in name)
    assert all(c.transport for c in story.calls)
    lost = ["T601"] if "bgcall" in name else []  # the call that nobody awaited
    assert [f.rule for f in analyzer.read(ROOT / name).findings] == [*lost, "K101", "K102"] * ("c_freeze" in name)


@needs_samples
@pytest.mark.parametrize("name", [name for name in LOGS if "merged" in name])
def test_streams_merged_without_their_names_give_the_same_findings(name):
    """Process ids tell the environments apart; before 1.9.6 there are none, and less is claimed."""
    trace = analyzer.read(ROOT / name)
    lost = ["T601"] if "bgcall" in name else []
    assert [f.rule for f in trace.findings] == [*lost, "K101", "K102"] * ("c_freeze" in name)
    if "1.14.7" in name:
        assert (
            len({(t.environment, t.pid) for t in trace.story.transports})
            == 2
            == len({t.environment for t in trace.story.transports})
        )
