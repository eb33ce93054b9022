"""Findings do not depend on clocks, zones, drift, cut stamps, the order of inputs, or lines that come twice."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import chain

import pytest

import analyzer
from tests.helpers import ALL_CASES, CASES, expected
from tests.logs import shapes
from tests.timeline import warp

#: Of the shipped cases, those whose findings need log and capture together.
FOLDERS = [folder for folder in CASES if folder.name in ("frozen-keepalive", "zombie-fin-wait-2", "nat-reset")]
#: Of the cases that are not shipped.
SHARED = ("2_momento_keepalive", "1c_upstash_zombie_silent")


def said(trace):
    """What was found: rule, connection by its addresses, requests."""
    cs = trace.story.connections
    ends = {cs.id(k): f"{cs.client(k)} {cs.server(k)}" for k in range(len(cs))}
    return Counter((f.rule, ends.get(f.connection or "", ""), tuple(sorted(f.request_ids))) for f in trace.findings)


def inputs(folder):
    return {name: (folder / name).read_bytes() for name in json.loads((folder / "expected.json").read_text())["inputs"]}


def read(files, folder):
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return analyzer.read(*(folder / name for name in files))


def is_log(name):
    return ".pcap" not in name


def moved(files, clock, wanted):
    """The inputs whose names are wanted, by another clock."""
    return {
        name: content if not wanted(name)
        else warp.log(content, clock, clock) if is_log(name) else warp.pcap(content, clock)
        for name, content in files.items()
    }  # fmt: skip


def first_ns(files):
    return min(warp.first_ns(content) for name, content in files.items() if not is_log(name))


CLOCKS = {
    "10 s ahead": lambda t0: warp.off(10),
    "a zone of 5:45 behind": lambda t0: warp.off(-20_700),
    "14 h ahead": lambda t0: warp.off(50_400),
    "200 ppm fast": lambda t0: warp.drifting(200, t0),
}


@pytest.mark.parametrize("which", ["logs", "captures"])
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_another_clock_gives_the_same_findings(folder, clock, which, tmp_path):
    files = inputs(folder)
    wanted = is_log if which == "logs" else lambda name: not is_log(name)
    trace = read(moved(files, CLOCKS[clock](first_ns(files)), wanted), tmp_path)
    assert said(trace) == said(analyzer.read(*(folder / name for name in files)))
    assert trace.story.aligned


def test_a_hundred_reports_read_at_once():
    """Every case together, of networks that look alike: each capture finds its lines in logs of hours."""
    paths = [[folder / name for name in expected(folder)["inputs"]] for folder in ALL_CASES]
    alone, together = [analyzer.read(*each) for each in paths], analyzer.read(*chain(*paths))
    # Cases have servers and clients of the same addresses: limits are a server's (R305), environments a client's (L502).
    apart = ("R305", "L502")
    assert without(said(together), *apart) == without(sum((said(trace) for trace in alone), Counter()), *apart)
    assert aligned([together]) == aligned(alone)


def without(counts, *rules):
    return Counter({key: count for key, count in counts.items() if key[0] not in rules})


def aligned(traces):
    """The captures that stand in some log's time."""
    sources = (source for trace in traces for source in trace.story.sources)
    return sorted(s.path for s in sources if s.kind == "pcap" and s.clocks[0].offset_ns is not None)


@pytest.mark.parametrize("name", ["server-keepalive", "name-server-dead", "frozen-keepalive"])
def test_a_capture_of_hours_and_a_log_of_minutes(name, tmp_path):
    """The captures of all cases as one: where chance finds better offsets for a few lines, clocks that agree are believed."""
    (folder,) = (f for f in ALL_CASES if f.name == name)
    captures = [(f / "server.pcap").read_bytes() for f in ALL_CASES if (f / "server.pcap").exists()]
    head = (folder / "server.pcap").read_bytes()[:24]
    long = {"server.pcap": warp.merged(c for c in captures if c[:24] == head)}
    clocks = [
        next(s.clocks[0] for s in trace.story.sources if s.kind == "pcap")
        for trace in (
            analyzer.read(folder / "server.pcap", *(folder / n for n in expected(folder)["inputs"] if is_log(n))),
            read(long | {n: c for n, c in inputs(folder).items() if is_log(n)}, tmp_path),
        )
    ]
    assert all(clock.offset_ns is not None for clock in clocks)
    assert abs(clocks[0].offset_ns - clocks[1].offset_ns) <= clocks[0].error_ns + clocks[1].error_ns


@pytest.mark.parametrize("seconds", [37, -300, 25_380])
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_any_other_shift_gives_no_wrong_findings(folder, seconds, tmp_path):
    files = inputs(folder)
    allowed = said(analyzer.read(*(folder / name for name in files)))
    for kind in (True, False):  # what each side says alone
        allowed |= said(analyzer.read(*(folder / name for name in files if is_log(name) is kind)))
    assert said(read(moved(files, warp.off(seconds), is_log), tmp_path)) <= allowed


@pytest.mark.parametrize("seconds", [4.98, -5.199])
def test_one_connect_beside_two_invocations_is_of_either(seconds, tmp_path):
    """SYNs alone, a few ms after the START of one of two environments, by a clock that is off: the error of the kernel is told, and not tied."""
    (folder,) = (f for f in ALL_CASES if f.name == "security-group")
    trace = read(moved(inputs(folder), warp.off(seconds), lambda name: not is_log(name)), tmp_path)
    (found,) = (f for f in trace.findings if f.rule == "C401")
    assert not found.request_ids and not trace.story.aligned
    assert "lambda.json[5] says that the kernel gave up a connect to 10.0.2.20:6380: this one, or another" in found.why


@pytest.mark.parametrize("seconds", [0.3, -0.7, 3600])
def test_a_guests_clock_may_be_off(seconds, tmp_path):
    folder = FOLDERS[0]
    files = inputs(folder)
    wrong = {n: warp.log(c, inner=warp.off(seconds)) if is_log(n) else c for n, c in files.items()}
    trace = read(wrong, tmp_path)
    assert said(trace) == said(analyzer.read(*(folder / name for name in files)))
    (inner,) = [c for s in trace.story.sources for c in s.clocks if c.name == "inner"]
    assert abs(inner.offset_ns + round(seconds * 1e9)) <= inner.error_ns


@pytest.mark.parametrize("name", ["frozen-keepalive", "zombie-fin-wait-2", "slow-query", "nat-reset"])
@pytest.mark.parametrize("seconds", [0.3, -0.7])
def test_a_guest_may_stamp_its_events_too(name, seconds, tmp_path):
    """A runtime hands lines on with the guest's time: they stand before START, or after END. START, END and REPORT are the service's."""
    (folder,) = (f for f in ALL_CASES if f.name == name)
    files = inputs(folder)
    plain = said(analyzer.read(*(folder / n for n in files)))
    files["lambda.json"] = warp.guest(files["lambda.json"], warp.off(seconds))
    trace = read(files, tmp_path)
    assert said(trace) == plain
    for source in trace.story.sources:
        clock = source.clocks[0]
        assert source.kind != "pcap" or abs(clock.offset_ns) <= clock.error_ns
    assert any("by START and END the guest's clock is" in p.what for s in trace.story.sources for p in s.problems)


@pytest.mark.parametrize("seconds", [0.05, 0.3])
def test_a_guest_ahead_prints_in_the_invocation_that_began_last(seconds, tmp_path):
    """A timer that fires at the thaw, under the id of the request before, stamped after END of the short invocation that it fired in:
    too few lines stand outside their requests to tell the clock, and the request is the one that ran all the same."""
    (folder,) = (f for f in ALL_CASES if f.name == "keepalive-fin-wait-2")
    files = inputs(folder)
    plain = said(analyzer.read(*(folder / n for n in files)))
    files["lambda.json"] = warp.guest(files["lambda.json"], warp.off(seconds))
    assert said(read(files, tmp_path)) == plain


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_a_guests_clock_may_stand_while_its_machine_does(folder, tmp_path):
    """Lines take the service's stamps then, and the report says so."""
    files = inputs(folder)
    plain = analyzer.read(*(folder / name for name in files))
    clock = warp.standing((z.start_ns, z.end_ns - 20 * warp.MS) for z in plain.story.freezes)
    trace = read({n: warp.log(c, inner=clock) if is_log(n) else c for n, c in files.items()}, tmp_path)
    assert said(trace) == said(plain)
    assert any("stands in freezes" in p.what for s in trace.story.sources for p in s.problems)


@pytest.mark.parametrize("which", ["inner", "event"])
def test_a_line_at_the_border_of_two_invocations_stands_in_the_one_that_it_names(which, tmp_path):
    (folder,) = (f for f in ALL_CASES if f.name == "server-keepalive")
    files = inputs(folder)
    clock = {which: warp.drifting(200, first_ns(files))}
    worse = {n: warp.log(c, **clock) if is_log(n) else c for n, c in files.items()}
    assert said(read(worse, tmp_path)) == said(analyzer.read(*(folder / name for name in files)))


@pytest.mark.parametrize("writer", [shapes.get_log_events, shapes.tail_detailed, shapes.insights_newest_first])
@pytest.mark.parametrize(
    "parts", [((0, 6), (4, 10)), ((0, 4), (4, 10)), ((0, 10), (0, 10))], ids=["overlap", "pages", "same"]
)
@pytest.mark.parametrize("name", ["frozen-keepalive", "event-loop-blocked", "zombie-fin-wait-2"])
def test_an_export_in_parts(name, parts, writer, tmp_path):
    """With streams and without: what two parts share counts once, and an invocation that the cut divides is one."""
    (folder,) = (f for f in ALL_CASES if f.name == name)
    files = inputs(folder)
    plain, lines = said(analyzer.read(*(folder / n for n in files))), warp.lines(files.pop("lambda.json"))
    for number, (start, end) in enumerate(parts):
        part = lines[len(lines) * start // 10 : len(lines) * end // 10]
        files[f"{number}.log"] = writer(part).encode()
    assert said(read(files, tmp_path)) == plain


@pytest.mark.parametrize("writer", [shapes.filter_pretty, shapes.tail_detailed, shapes.insights_csv])
def test_an_error_of_the_same_words_in_another_page_is_another(writer, tmp_path):
    (folder,) = (f for f in ALL_CASES if f.name == "nat-reset")
    files = inputs(folder)
    plain, lines = said(analyzer.read(*(folder / n for n in files))), warp.lines(files.pop("lambda.json"))
    middle = len(lines) * 2 // 3
    files |= {"0.log": writer(lines[:middle]).encode(), "1.log": writer(lines[middle:]).encode()}
    assert said(read(files, tmp_path)) == plain


@pytest.mark.parametrize("name", ["refused", "nat-reset", "security-group"])
def test_messages_without_stamps_say_less_and_nothing_else(name, tmp_path):
    """START and REPORT stand somewhere between their neighbours: requests may be lost, none is named instead."""
    (folder,) = (f for f in ALL_CASES if f.name == name)
    files = inputs(folder)
    plain = said(analyzer.read(*(folder / n for n in files)))
    files["lambda.txt"] = "".join(line.message for line in warp.lines(files.pop("lambda.json"))).encode()
    for rule, ends, requests in said(read(files, tmp_path)):
        assert any((rule, ends) == known[:2] and set(requests) <= set(known[2]) for known in plain)


def test_a_time_out_by_stamps_of_the_service_cut_to_seconds(tmp_path):
    (folder,) = (f for f in ALL_CASES if f.name == "nat-silent")
    files = inputs(folder)
    cut = {n: warp.log(c, event=warp.whole_seconds) if is_log(n) else c for n, c in files.items()}
    assert said(read(cut, tmp_path)) == said(analyzer.read(*(folder / name for name in files)))


@pytest.mark.parametrize("name", ["zombie-fin-wait-2", "grpc-max-age", "refused"])
def test_every_stamp_of_a_log_cut_to_seconds(name, tmp_path):
    """The service's stamps are believed then: a guest's say no more, and are of another clock. The clocks agree within a second."""
    (folder,) = (f for f in ALL_CASES if f.name == name)
    files = inputs(folder)
    seconds = warp.whole_seconds
    cut = {n: warp.log(c, seconds, seconds, digits=0) if is_log(n) else c for n, c in files.items()}
    trace = read(cut, tmp_path)
    assert said(trace) == said(analyzer.read(*(folder / name for name in files)))
    clocks = [s.clocks[0] for s in trace.story.sources if s.kind == "pcap"]
    assert all(abs(clock.offset_ns) <= clock.error_ns < 10**9 for clock in clocks)


def stated(trace):
    """What findings name: rule, environment, connections by their addresses, requests."""
    cs = trace.story.connections
    ends = {cs.id(k): f"{cs.client(k)} {cs.server(k)}" for k in range(len(cs))}
    for f in trace.findings:
        named = f.connections or [f.connection] if f.connection else f.connections
        yield f.rule, f.environment, {ends[c] for c in named}, set(f.request_ids)


@pytest.mark.parametrize("folder", ALL_CASES, ids=lambda p: p.name)
def test_stamps_cut_to_seconds_give_no_other_finding(folder, tmp_path):
    """Who began in one second is not told apart: a finding may name less then, and nothing else; no freeze is longer or shorter
    than its errors allow."""
    own = [folder / name for name in expected(folder)["inputs"]]
    plain = analyzer.read(*own)
    for path in (p for top in own for p in ([top] if top.is_file() else top.rglob("*")) if p.is_file()):
        target = tmp_path / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        data = path.read_bytes()
        packed = path.suffix == ".gz"
        if is_log(path.name):
            data = warp.log(gzip.decompress(data) if packed else data, warp.whole_seconds, warp.whole_seconds)
        target.write_bytes(gzip.compress(data) if packed and is_log(path.name) else data)
    trace = analyzer.read(tmp_path)
    known = list(stated(plain))
    for rule, environment, ends, requests in stated(trace):
        assert any(
            rule == before[0] and environment in (before[1], None) and ends <= before[2] and requests <= before[3]
            for before in known
        ), (rule, environment, ends, requests)
    assert len(trace.findings) <= len(plain.findings)
    freezes = {(z.environment, z.before, z.after): z for z in plain.story.freezes}
    for z in trace.story.freezes:
        before = freezes[z.environment, z.before, z.after]
        assert abs(z.length_ns - before.length_ns) <= 2 * (z.error_ns + before.error_ns)


def test_stamps_of_the_service_cut_to_seconds(tmp_path):
    folder = next(f for f in FOLDERS if f.name == "zombie-fin-wait-2")
    files = inputs(folder)
    cut = {n: warp.log(c, event=warp.whole_seconds) if is_log(n) else c for n, c in files.items()}
    trace, plain = read(cut, tmp_path), analyzer.read(*(folder / name for name in files))
    assert said(trace) == said(plain)
    for now, before in zip(trace.story.freezes, plain.story.freezes, strict=True):
        assert before.error_ns < now.error_ns < 10**9
        assert abs(now.start_ns - before.start_ns) <= now.error_ns and abs(now.end_ns - before.end_ns) <= now.error_ns


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_lines_and_packets_that_come_twice(folder, tmp_path):
    files = inputs(folder)
    twice = {n: warp.lines_twice(c) if is_log(n) else warp.packets_twice(c) for n, c in files.items()}
    assert said(read(twice, tmp_path)) == said(analyzer.read(*(folder / name for name in files)))


@pytest.mark.shared
@pytest.mark.parametrize("case", SHARED)
def test_one_source_of_several_by_another_clock(shared, case, tmp_path):
    """Each source in turn: the others say how far it is off, captures by packets, logs by their lines."""
    folder = shared / "cases" / case
    files = inputs(folder)
    plain = said(analyzer.read(*(folder / name for name in files)))
    for name in files:
        for clock in (warp.off(-9.3), warp.off(3_600), warp.drifting(-200, first_ns(files))):
            assert said(read(moved(files, clock, lambda n, name=name: n == name), tmp_path)) == plain, name


@pytest.mark.parametrize("cut", ["trace", "export"])
def test_a_trace_beside_the_export_that_holds_it_by_stamps_cut_to_seconds(cut, tmp_path):
    """One line in both is one event still, although one of them cut its stamp, and lines of a kind repeat each second."""
    folder = FOLDERS[0]
    files = inputs(folder)
    printed = (e["message"].rpartition("ERROR\t")[2].strip() for e in json.loads(files["lambda.json"])["events"])
    lines = [line for line in printed if line.startswith("D 20")]
    files["grpc.log"] = "\n".join(lines).encode() + b"\n"
    plain = read(files, tmp_path)
    worse = "grpc.log" if cut == "trace" else "lambda.json"
    files[worse] = warp.log(files[worse], warp.whole_seconds, warp.whole_seconds, digits=0)
    trace = read(files, tmp_path)
    assert len(lines) > 50 and len(trace.story.events) == len(plain.story.events)
    assert said(trace) == said(plain)


@pytest.mark.parametrize("name", ["redis-closed-in-freeze", "reset-dropped"])
def test_an_unrelated_capture_of_the_same_addresses_changes_nothing(name):
    """Private addresses repeat: two servers of one address in captures that share nothing are two."""
    (folder,) = (f for f in ALL_CASES if f.name == name)
    names = json.loads((folder / "expected.json").read_text())["inputs"]
    other = next(f for f in FOLDERS if f.name == "zombie-fin-wait-2") / "server.pcap"
    own = [folder / n for n in names]
    assert said(analyzer.read(*own, other)) == said(analyzer.read(*own)) + said(analyzer.read(other))


@pytest.mark.parametrize("name", ["tls-handshake", "nat-reset"])
def test_what_a_log_alone_says_is_said_beside_an_unrelated_capture(name):
    log = next(f for f in FOLDERS if f.name == "zombie-fin-wait-2") / "lambda.json"
    (folder,) = (f for f in ALL_CASES if f.name == name)
    captures = sorted(folder.glob("*.pcap"))
    assert said(analyzer.read(*captures, log)) == said(analyzer.read(*captures)) + said(analyzer.read(log))


def test_a_log_of_another_time_does_not_move_a_capture_away_from_its_own():
    """Few bursts of a capture find invocations of any log, some whole time zones away."""
    (folder,), (other,) = ([f for f in ALL_CASES if f.name == name] for name in ("slow-query", "security-group"))
    own = [folder / name for name in json.loads((folder / "expected.json").read_text())["inputs"]]
    strange = other / "lambda.json"
    assert said(analyzer.read(*own, strange)) == said(analyzer.read(*own)) + said(analyzer.read(strange))


@pytest.mark.parametrize(
    "two",
    [
        ("close-race", "healthy"),
        ("mariadb-idle-reset", "any-interface"),
        ("event-loop-blocked", "go-nat-reset"),
        ("any-interface", "tls-handshake"),
    ],
)
def test_two_incidents_in_one_command_are_two(two):
    """Each capture finds the log that it belongs to."""
    folders = [f for name in two for f in ALL_CASES if f.name == name]
    each = [[f / n for n in json.loads((f / "expected.json").read_text())["inputs"]] for f in folders]
    assert said(analyzer.read(*each[0], *each[1])) == said(analyzer.read(*each[0])) + said(analyzer.read(*each[1]))


def test_connections_that_whole_seconds_leave_between_two_environments_are_abandoned_if_both_are(tmp_path):
    """Two environments begin a quarter of a second apart; a third one, which runs on, has another address."""
    (folder,) = (f for f in ALL_CASES if f.name == "abandoned")
    plain = analyzer.read(*(folder / name for name in json.loads((folder / "expected.json").read_text())["inputs"]))
    (tmp_path / "server.pcap").write_bytes((folder / "server.pcap").read_bytes())
    for number, path in enumerate(sorted(folder.rglob("*.gz"))):
        export = tmp_path / path.relative_to(folder).with_name(f"{number}.gz")
        export.parent.mkdir(parents=True, exist_ok=True)
        export.write_bytes(gzip.compress(warp.log(gzip.decompress(path.read_bytes()), warp.whole_seconds)))
    trace = analyzer.read(tmp_path)
    held = [[(f.rule, f.title.split(" holds ")[1], len(f.connections)) for f in t.findings] for t in (plain, trace)]
    assert held[0] == held[1] == [("L502", "2 connections of 2 environments that did not come back", 2)]


def test_two_invocations_in_whole_seconds_contradict_no_clock(tmp_path):
    """They would find packets anywhere near; the clocks agree all the same, give or take a second."""
    (folder,) = (f for f in ALL_CASES if f.name == "close-race")
    files = inputs(folder)
    cut = {n: warp.log(c, warp.whole_seconds, warp.whole_seconds) if is_log(n) else c for n, c in files.items()}
    assert said(read(cut, tmp_path)) == said(analyzer.read(*(folder / name for name in files)))


def test_few_lines_that_agree_with_a_clock_do_not_outvote_many_that_do_not(tmp_path):
    """Of a log of twenty seconds some lines meet packets of a capture whose clock is ten seconds ahead."""
    (folder,) = (f for f in ALL_CASES if f.name == "too-many-pings")
    (log,) = folder.rglob("*.gz")
    capture = tmp_path / "server.pcap"
    capture.write_bytes(warp.pcap((folder / "server.pcap").read_bytes(), warp.off(10)))
    assert said(analyzer.read(capture, log)) == said(analyzer.read(folder / "server.pcap", log))


@pytest.mark.parametrize("name", ["go-nat-reset", "frozen-keepalive", "healthy", "zombie-fin-wait-2"])
@pytest.mark.parametrize("tenths", [0, 3])
def test_a_log_cut_to_seconds_states_an_error_that_holds(name, tenths, tmp_path):
    (folder,) = (f for f in ALL_CASES if f.name == name)
    shift = warp.off(tenths / 10)
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".pcap", ".json", ".gz") and "truth" not in p.name):
        if path.name == "expected.json":
            continue
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        clock = warp.off(0) if path.suffix == ".pcap" else lambda t: warp.whole_seconds(shift(t))
        files[path.name.removesuffix(".gz")] = (
            warp.pcap(content, clock) if path.suffix == ".pcap" else warp.log(content, clock, clock)
        )
    for source in read(files, tmp_path).story.sources:
        clock = source.clocks[0]
        if source.kind == "pcap" and clock.offset_ns is not None:
            assert abs(clock.offset_ns - tenths * 100 * warp.MS) <= clock.error_ns
