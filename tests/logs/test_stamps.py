"""Stamps and prefixes of the usual form are read by short cuts: they say what the patterns say, of any text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analyzer.logs.runtimes import node
from analyzer.logs.stamps import milliseconds_ns, quick_iso, utc_ns, zoned_ns
from analyzer.model.times import MS, iso, parse_iso

STAMPS = st.integers(0, 4_102_444_800_000).map(lambda ms: f"{iso(ms * MS)[:23]}Z")
#: A stamp with some of its characters changed.
NEARLY = st.builds(
    lambda stamp, at, new: stamp[:at] + new + stamp[at + 1 :],
    STAMPS, st.integers(0, 24), st.text("0123456789-:.,TZ+ \n", max_size=2),
)  # fmt: skip


@given(STAMPS | NEARLY)
def test_short_cuts_read_what_the_pattern_reads(text: str) -> None:
    assert zoned_ns(text) == quick_iso(text)[0] == parse_iso(text)
    assert milliseconds_ns(text) in (None, parse_iso(text))
    assert utc_ns(text[:-1]) == parse_iso(text[:-1] + "Z")
    assert utc_ns(text[:-1] + "000") == parse_iso(text[:-1] + "000Z")


@given(
    STAMPS | NEARLY,
    st.sampled_from(
        ["8b333a80-e544-6dd4-552b-82f6be3edc0a", "8b333a80-e544-6dd4-\n52b-82f6be3edc0a", "undefined", "-", ""]
    ),
    st.sampled_from(["INFO", "ERROR", "trce", "None", "info ", ""]),
    st.sampled_from(["said", "a\tb\n", "Invoke Error \t{}", ""]),
)
def test_a_prefix_of_the_usual_form_is_one_that_the_pattern_reads(stamp: str, name: str, level: str, body: str) -> None:
    message = f"{stamp}\t{name}\t{level}\t{body}"
    line, match = node.parse(message), node._LINE.match(message)
    assert (line is None) == (match is None)
    if line is not None and match is not None:
        assert line.inner_ns == quick_iso(match[1])[0]
        assert line.request_id == (None if match[2] in node.NO_ID else match[2])
        assert line.level == node.LEVELS[match[3]]
        assert line.body == message[match.end() :].rstrip("\n")
