"""The estimator of idle limits: brackets hold the limit that made them, and nothing is said where gaps contradict each other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analyzer.model.times import SECOND
from analyzer.rules import _limits as limits
from analyzer.rules import rules, run
from analyzer.rules.r305_idle_limit import Gap, bracket

ENDINGS = (limits.FIN, limits.RST, limits.SILENCE)


def gaps_under(limit_s, rests_s, ending, ages=None):
    """What one box makes of these rests."""
    return [
        Gap(k, s * SECOND, None, (ages[k] if ages else 10_000) * SECOND, ending if s >= limit_s else "")
        for k, s in enumerate(rests_s)
    ]


@given(st.integers(2, 30_000), st.lists(st.integers(1, 60_000), max_size=40), st.sampled_from(ENDINGS))
def test_a_bracket_holds_the_limit_that_made_it(limit_s, rests, ending):
    gaps = gaps_under(limit_s, rests, ending)
    found = bracket(gaps, 2)
    lived, died = [r for r in rests if r < limit_s], [r for r in rests if r >= limit_s]
    assert (found is not None) == (len(lived) >= 2 and len(died) >= 2)
    if found is not None:
        assert found.longest.ns == max(lived) * SECOND < limit_s * SECOND <= found.shortest.ns == min(died) * SECOND
        assert (found.ending, found.lived, found.died) == (ending, len(lived), len(died))


@given(st.lists(st.tuples(st.integers(1, 1000), st.sampled_from(["", *ENDINGS]), st.integers(1, 5000)), max_size=30))
def test_no_survivor_reaches_into_a_bracket(told):
    gaps = [Gap(k, ns * SECOND, None, age * SECOND, ending) for k, (ns, ending, age) in enumerate(told)]
    found = bracket(gaps, 2)
    if found is None:
        return
    assert not any(found.longest.ns < gap.ns for gap in gaps if not gap.ending)
    assert not any(gap.ns < found.shortest.ns for gap in gaps if gap.ending)
    assert found.longest.ns < found.shortest.ns
    ages = [gap.age_ns for gap in gaps if gap.ending == found.ending], [gap.age_ns for gap in gaps if not gap.ending]
    assert found.by_age == (max(ages[1]) < min(ages[0]))


@given(st.lists(st.integers(1, 1000), min_size=4, max_size=20), st.randoms())
def test_the_order_of_the_gaps_changes_nothing(rests, random):
    gaps = gaps_under(300, rests, limits.RST)
    shuffled = random.sample(gaps, len(gaps))
    one, other = bracket(gaps, 2), bracket(shuffled, 2)
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert (one.longest.ns, one.shortest.ns, one.by_age) == (other.longest.ns, other.shortest.ns, other.by_age)


def test_two_boxes_are_told_by_how_they_end():
    """A server that closes at 60 s behind a NAT that resets at 350 s: the closes make the bracket."""
    gaps = [*gaps_under(60, [10, 50, 61, 62], limits.FIN), Gap(9, 400 * SECOND, None, 0, limits.RST)]
    found = bracket(gaps, 2)
    assert found is not None and (found.ending, found.died) == (limits.FIN, 2)


def test_the_table():
    for limit in limits.LIMITS:
        assert limit.ends and set(limit.ends) <= set(ENDINGS)
        assert limit.source and limit.whose
        assert limit.range_s is None or limit.range_s[0] <= limit.seconds <= limit.range_s[1]
    assert [limit.whose for limit in limits.near(361 * SECOND, 1.25) if limits.RST in limit.ends] == [
        "NAT gateway",
        "NLB",
    ]
    assert "MySQL" not in [limit.whose for limit in limits.between(0, 30_000 * SECOND, "10.0.0.9:6379")]


def test_candidates_that_would_end_otherwise_are_named_as_such():
    rule = next(r for r in rules() if r.CODE == "R305")
    reset, _, _, closed = (next(f for f in run(case.story()) if f.rule == "R305") for case in rule.FIRES)
    assert "NAT gateway (350 s, ends by RST); NLB" in reset.why
    assert "; not Upstash, Gateway Load Balancer" in reset.why and "would end it by FIN or silence" in reset.why
    assert (
        "ALB or classic ELB (60 s, ends by FIN)" in closed.why and "describe-load-balancer-attributes" in closed.upgrade
    )
