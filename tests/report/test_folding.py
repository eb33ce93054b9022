"""What a summary leaves out is counted, and a silence is drawn wherever it is."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.report import folding
from analyzer.report.folding import Folded, Quiet, summary, whole
from analyzer.timeline.steps import MAIN, PLAIN, TOLD, Step

MS = 1_000_000


def steps_at(*times_ms, weight=TOLD, layer="tcp", kind="data", text="→ 5 B"):
    return [Step(t * MS, "s1", f"#{n + 1}", layer, kind, text, weight, n) for n, t in enumerate(times_ms)]


STEP = st.tuples(
    st.integers(0, 4_000), st.sampled_from([PLAIN, TOLD, MAIN]), st.sampled_from(["tcp", "app", "grpc", "lambda"]),
    st.sampled_from(["data", "report", "end", "call-end"]), st.sampled_from(["→ 5 B", "ok", "took 7 ms"]),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=80), st.sets(st.integers(0, 79), max_size=5))
def test_nothing_is_lost(rows, proving):
    time, steps = 0, []
    for n, (gap, weight, layer, kind, text) in enumerate(rows):
        time += gap * MS
        steps.append(Step(time, "s1", f"#{n}", layer, kind, text, weight, n))
    proof = {("s1", f"#{n}"): False for n in proving}
    items = summary(steps, proof)
    shown = [item for item in items if isinstance(item, Step)]
    assert shown == sorted(shown, key=lambda s: s.order)
    assert {s.ref for s in steps if ("s1", s.ref) in proof} <= {s.ref for s in shown}
    told = len(shown) + sum(item.count for item in items if isinstance(item, Folded))
    echoes = sum(folding._echoes(steps))
    assert len(steps) - echoes <= told <= len(steps)
    if not any(isinstance(item, Folded) and item.rounds for item in items):
        drawn = [(q.start_ns, q.end_ns) for q in items if isinstance(q, Quiet)]
        long = [(a.time_ns, b.time_ns) for a, b in pairwise(steps) if b.time_ns - a.time_ns >= folding.DRAWN_NS]
        assert drawn == long
    assert [item for item in whole(steps) if isinstance(item, Step)] == steps


def test_ordinary_steps_are_folded_but_not_beside_a_silence():
    steps = steps_at(0, 1, 2, 3, 2000, 2001, 2002, weight=PLAIN)
    shape = [item.order if isinstance(item, Step) else type(item).__name__ for item in summary(steps, {})]
    assert shape == [0, "Folded", 3, "Quiet", 4, 5, 6], "one alone is shown: a line that counts it would be no shorter"


def test_rounds_that_repeat_are_told_once():
    steps = []
    for minute in range(600):
        probe, answer = steps_at(60_000 * minute, 60_000 * minute + 20)
        probe.text, answer.text = "→ keepalive probe", f"← ACK {minute}"
        steps += [probe, answer]
    for n, s in enumerate(steps):
        s.ref = f"#{n}"
    items = summary(steps, {})
    (fold,) = [item for item in items if isinstance(item, Folded)]
    assert fold.lines == 2 and fold.every_ns == 60_000 * MS
    assert fold.count == 2 * fold.rounds == len(steps) - 6, (
        "the first round, the last with a silence after it, and the end"
    )
    marked = summary(steps, {("s1", "#601"): True})
    assert "#601" in [item.ref for item in marked if isinstance(item, Step)]


def test_a_back_off_has_no_period():
    steps = steps_at(*(1_500 * 2**n for n in range(12)), kind="fin-retransmission", text="← FIN, retransmitted")
    (fold,) = [item for item in summary(steps, {}) if isinstance(item, Folded)]
    assert fold.every_ns == 0 and fold.within_ns == steps[-2].time_ns - steps[0].time_ns


def test_too_much_is_cut_to_what_matters_and_then_to_the_ends():
    text = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta"]
    steps = steps_at(*range(0, 90_000, 9))
    for n, s in enumerate(steps):
        s.text, s.weight = text[(n * n) % 7] + text[(n // 7) % 7], MAIN if n % 100 == 0 else TOLD
    items = summary(steps, {})
    assert len(items) <= folding.MOST and {s.weight for s in items[1:-1] if isinstance(s, Step)} == {MAIN}
    for s in steps:
        s.weight = MAIN
    items = summary(steps, {("s1", "#5001"): True})
    assert len(items) <= folding.MOST + 5
    assert [s.order for s in items if isinstance(s, Step)][:3] == [0, 1, 2]
    assert "#5001" in [s.ref for s in items if isinstance(s, Step)]


def test_a_status_that_two_layers_tell_is_one():
    steps = steps_at(0, 1, layer="grpc", kind="call-end")
    steps[0].text, steps[1].text = '[0] ended: code=0 details="OK" start=…', '[0] ended: code=0 details="OK"'
    items = summary([*steps, *steps_at(900, 901, layer="app", text="done")], {})
    assert [s.text for s in items if isinstance(s, Step)][:2] == [steps[0].text, "done"]


def test_far_too_many_are_cut_though_all_were_proof():
    text = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta"]
    steps = steps_at(*range(0, 9_000_000, 2_000))
    for n, s in enumerate(steps):
        s.text = text[(n * n) % 7] + text[(n // 7) % 7]
    items = summary(steps, {("s1", s.ref): True for s in steps})
    assert len(items) == folding.MOST + 1
    told = sum(item.count if isinstance(item, Folded) else isinstance(item, Step) for item in items)
    assert told == len(steps)
