"""The page as bytes: complete, inert, the same every time, bounded. What a browser makes of it is in test_browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import analyzer
from analyzer.model.problems import InputError
from analyzer.report import html
from analyzer.report.html import figures, glance, limits, page, tables
from analyzer.report.style import Style
from analyzer.report.timeline import timeline_text
from analyzer.rules import rules
from analyzer.tcp import fields as f
from analyzer.timeline.timelines import Cut
from tests.helpers import CAPTURES, CASES
from tests.report.html import pages

FIRES = [pytest.param(case, id=f"{rule.CODE}-{n}") for rule in rules() for n, case in enumerate(rule.FIRES, 1)]


class Parsed(HTMLParser):
    """Elements, ids, links and scripts of a page."""

    def __init__(self, data: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: list[tuple[dict, str]] = []
        self.text: list[str] = []
        self._script: dict | None = None
        self.feed(data.decode())

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += attrs
        found = dict(attrs)
        if "id" in found:
            self.ids.append(found["id"])
        if "href" in found:
            self.links.append(found["href"])
        self._script = found if tag == "script" else None

    def handle_data(self, data):
        if self._script is not None:
            self.scripts.append((self._script, data))
            self._script = None
        else:
            self.text.append(data)

    @property
    def data(self) -> dict:
        return next(json.loads(text) for attrs, text in self.scripts if attrs.get("id") == "data")


@pytest.fixture(scope="module")
def shipped():
    return {folder.name: page(analyzer.read(folder)) for folder in CASES}


def test_the_same_input_gives_the_same_bytes(shipped):
    for name, first in shipped.items():
        assert page(analyzer.read(CAPTURES / name)) == first


def test_a_timeline_is_one_file_with_every_line_of_its_text():
    trace = analyzer.read(CAPTURES / "frozen-keepalive")
    made = html.timeline_page(trace, "C1")
    assert made == html.timeline_page(trace, "C1")
    parsed = Parsed(made)
    assert all(link.startswith("#") for link in parsed.links)
    lines = timeline_text(trace, "C1", Style(160)).splitlines()
    told = {f"lambda.json[{n}]" for n in re.findall(r"lambda\.json\[(\d+)\]", "\n".join(lines))}
    assert told and told <= set(parsed.text)
    assert len(html.timeline_page(trace, "C1", everything=True)) > len(made)
    cut = Parsed(html.timeline_page(trace, "C1", cut=Cut(since="18", until="19")))
    assert cut.tags["tr"] < parsed.tags["tr"]


@pytest.mark.parametrize("name", ["C1", "F1"])
def test_hostile_text_stays_text_in_a_timeline(name):
    parsed = Parsed(html.timeline_page(pages.hostile(), name))
    assert parsed.tags["img"] == parsed.tags["svg"] == 0 and parsed.tags["script"] == 3
    assert not any(key.startswith("on") for key, _ in parsed.attributes)


def test_it_is_one_file_that_asks_for_nothing(shipped):
    for data in shipped.values():
        parsed = Parsed(data)
        assert all(link.startswith("#") for link in parsed.links)
        assert not {"link", "iframe", "object", "embed", "base", "form-action"} & set(parsed.tags)
        assert not [value for name, value in parsed.attributes if name in ("src", "srcset", "action", "data")]
        assert not [name for name, _ in parsed.attributes if name.startswith("on")]


def test_every_link_leads_somewhere(shipped):
    for data in shipped.values():
        parsed = Parsed(data)
        assert len(set(parsed.ids)) == len(parsed.ids)
        rows = {row[0] for table in parsed.data["tables"].values() for row in table["rows"]}
        assert {link[1:] for link in parsed.links} <= set(parsed.ids) | rows


def test_the_policy_names_exactly_the_scripts(shipped):
    for data in shipped.values():
        parsed = Parsed(data)
        policy = next(v for n, v in parsed.attributes if n == "content" and "default-src" in (v or ""))
        run = [text for attrs, text in parsed.scripts if not attrs]
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run]
        assert policy.startswith("default-src 'none'; script-src " + " ".join(f"'sha256-{d}'" for d in digests) + ";")
        assert "unsafe-eval" not in policy and "connect-src" not in policy


def test_a_page_without_timelines_carries_no_library():
    empty = page(analyzer.read(CAPTURES / "healthy" / "lambda.json"))
    assert len(empty) < 100_000 < len(page(analyzer.read(CAPTURES / "frozen-keepalive")))


@pytest.mark.parametrize("case", FIRES)
def test_every_rule_has_its_evidence_and_a_picture(case):
    trace = pages.traced(case)
    parsed = Parsed(page(trace))
    text = " ".join("".join(parsed.text).split())
    for item in trace.findings:
        assert item.id in parsed.ids and item.rule in parsed.ids
        assert " ".join(item.title.split()) in text
        for n, e in enumerate(item.evidence, 1):
            assert f"{item.id}-e{n}" in parsed.ids
            assert " ".join(e.text.split()) in text
        figure = parsed.data["figures"][item.connection if item.connection in parsed.data["figures"] else item.id]
        (flag,) = [flag for flag in figure["findings"] if flag[0] == item.id]
        assert len(flag[3]) == len(item.evidence)


def test_hostile_text_is_only_text():
    data = page(pages.hostile())
    calm = Parsed(page(analyzer.read(CAPTURES / "frozen-keepalive")))
    parsed = Parsed(data)
    assert parsed.tags["script"] == calm.tags["script"] == 3
    assert parsed.tags["svg"] == parsed.tags["img"] == 0
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    assert all(re.fullmatch(r"#[\w-]+", link) for link in parsed.links)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", data.decode())
    shown = "".join(parsed.text)
    assert "{{ 7*7 }}" in shown and "\\x1b[31mred" in shown and "\\u202e" in shown and "49{%" not in shown


HOSTILE_TEXT = st.text(st.characters(categories=["L", "N", "P", "S", "Z", "C"]))


@given(
    st.recursive(
        HOSTILE_TEXT | st.integers(-(2**53), 2**53) | st.none() | st.booleans(),
        lambda inner: st.lists(inner) | st.dictionaries(HOSTILE_TEXT, inner),
    )
)
def test_the_data_block_holds_any_text(value):
    block = html.json_block(value)
    assert not re.search("[<>&\x00-\x1f\u2028\u2029\u202e\ud800-\udfff]", block)
    assert html.json_block(json.loads(block)) == block


@given(HOSTILE_TEXT)
def test_prose_adds_nothing_but_code(text):
    from html import unescape

    from markupsafe import Markup

    from analyzer.report.escape import terminal

    out = html._prose(Markup, text)
    bare = re.sub(r'</?code(?: class="command")?>', "", out)
    assert "<" not in bare and ">" not in bare
    assert unescape(bare).replace("`", "") == terminal(text).replace("`", "")


# ---- bounded


def test_many_findings_are_folded_into_a_table():
    trace = pages.many_resets()
    parsed = Parsed(page(trace))
    resets = [item for item in trace.findings if item.rule == "R303"]
    assert len(resets) == 12
    shown = [item for item in resets if item.id in parsed.ids]
    assert len(shown) == limits.SUMMARY.examples
    assert parsed.data["tables"]["all-findings"]["total"] == len(trace.findings)
    assert {row[0] for row in parsed.data["tables"]["all-findings"]["rows"]} == {item.id for item in trace.findings}
    whole = Parsed(page(trace, everything=True))
    assert {item.id for item in trace.findings} <= set(whole.ids) and "all-findings" not in whole.data["tables"]


def test_many_connections_are_summarised_and_it_is_said(monkeypatch):
    monkeypatch.setattr(html, "SUMMARY", limits.SUMMARY._replace(connections=100))
    trace = pages.many_connections()
    parsed = Parsed(page(trace))
    table = parsed.data["tables"]["connections"]
    assert table["total"] == 1_500 and len(table["rows"]) == 100
    names = [column[0] for column in table["columns"]]
    unanswered = [row for row in table["rows"] if row[names.index("conn_state")] == "S0"]
    assert len(unanswered) == 15, "the connections in trouble come before the others"
    text = "".join(parsed.text)
    assert "The table holds 100 of 1,500" in text


def test_distributions_count_every_connection():
    story = pages.many_connections(400).story
    for chart in glance.glance(story):
        assert sum(n for _, n in chart.bars) == 400, chart.title
    ends = dict(next(c for c in glance.glance(story) if c.title == "How they ended").bars)
    assert ends == {"server-fin": 396, "never answered": 4}


def test_few_connections_need_no_distribution():
    assert glance.glance(analyzer.read(CAPTURES / "healthy").story) == []


def test_columns_are_those_of_the_records():
    cs = analyzer.read(CAPTURES / "frozen-keepalive").story.connections
    columns = glance.Columns(cs, cs.in_view())
    for k, retransmitted, packets in zip(range(len(cs)), columns.both(f.RETX), columns.both(f.PKTS), strict=True):
        record = cs.record(k)
        assert (retransmitted, packets) == (
            record.a.retransmits + record.b.retransmits, record.a.packets + record.b.packets
        )  # fmt: skip


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=300),
    st.lists(st.floats(0, 1), min_size=1, max_size=5),
    st.integers(1, 200),
)
def test_thinning_keeps_what_tells_and_covers_the_axis(marks, focus, most):
    places, telling = np.array([m[0] for m in marks]), np.array([m[1] for m in marks])
    chosen = figures.thinned(places, telling, np.array(sorted(focus)), most)
    assert len(chosen) == min(most, len(marks)) and list(chosen) == sorted(set(chosen))
    if telling.sum() <= most:
        assert set(np.flatnonzero(telling)) <= set(chosen)
    cells = set((places * figures.CELLS).astype(int))
    if telling.sum() + len(cells) <= most:
        assert {int(p * figures.CELLS) for p in places[chosen]} == cells


def test_a_long_connection_is_thinned_out_and_it_is_said():
    from analyzer.rules._cases import Case

    lines = [
        "0 > SYN",
        "0.001 < SYN-ACK",
        "0.002 > ACK",
        *(f"{0.003 + n / 1000:.3f} > 100" for n in range(6_000)),
        "7 < RST",
    ]
    trace = pages.traced(Case("bulk", packets="\n".join(lines)))
    figure = Parsed(page(trace)).data["figures"]["C1"]
    (track,) = figure["tracks"]
    assert len(track["packets"]) == figures.MOST_MARKS
    assert figure["notes"] == [f"6,004 packets of C1, {figures.MOST_MARKS:,} of them drawn"]
    assert [p[5] for p in track["packets"]][:2] == ["SYN", "SYN-ACK"] and track["packets"][-1][3] == "rst"


def test_a_connection_too_long_to_draw_still_has_its_evidence(monkeypatch):
    monkeypatch.setattr(html, "SUMMARY", limits.SUMMARY._replace(segments=5))
    trace = analyzer.read(CAPTURES / "zombie-fin-wait-2")
    data = Parsed(page(trace)).data["figures"]
    assert list(data) == ["F1"] and data["F1"]["findings"][0][3]


# ---- written


def test_it_is_written_whole_or_not_at_all(tmp_path):
    trace = analyzer.read(CAPTURES / "healthy")
    trace.report(tmp_path / "x.html")
    assert (tmp_path / "x.html").read_bytes() == page(trace)
    with pytest.raises(OSError):
        trace.report(tmp_path / "missing" / "x.html")
    assert [p.name for p in tmp_path.iterdir()] == ["x.html"]


@pytest.mark.parametrize("missing", ["bokeh", "jinja2"])
def test_without_its_libraries_it_says_how_to_get_them(missing, monkeypatch, tmp_path):
    if missing == "bokeh":
        monkeypatch.setattr(html, "find_spec", lambda name: None)
    else:
        monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r"pip install 'connection-analyzer\[report\]'"):
        analyzer.read(CAPTURES / "frozen-keepalive").report(tmp_path / "x.html")
    assert not list(tmp_path.iterdir())


def test_a_page_that_cannot_be_written_costs_no_result(tmp_path):
    case, target = str(CAPTURES / "healthy"), str(tmp_path / "missing" / "x.html")
    done = subprocess.run(
        [sys.executable, "-m", "analyzer", "diagnose", case, "--report", target], capture_output=True, check=False
    )
    assert done.returncode == 2 and b"no findings" in done.stdout and b"x.html" in done.stderr


def test_bokeh_is_read_and_not_imported():
    code = f"import sys, analyzer; from analyzer.report.html import page; page(analyzer.read({str(CAPTURES / 'frozen-keepalive')!r})); print('bokeh' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code]).strip() == b"False"


def test_the_command_writes_it_beside_its_text(tmp_path):
    target = tmp_path / "report.html"
    for command, path in (
        ("diagnose", CAPTURES / "frozen-keepalive"),
        ("pcap", CAPTURES / "zombie-fin-wait-2" / "server.pcap"),
        ("grpc-log", CAPTURES / "frozen-keepalive" / "lambda.json"),
        ("lambda-log", CAPTURES / "healthy" / "lambda.json"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "analyzer", command, str(path), "--report", str(target)],
            capture_output=True,
            check=True,
        )
        assert done.stdout and not done.stderr
        assert target.read_bytes().startswith(b"<!doctype html>")
        target.unlink()


def test_tables_have_a_meaning_for_every_public_column():
    for columns in (tables.CONNECTIONS, tables.FINDINGS, tables.INVOCATIONS, tables.CALLS):
        assert all(c.kind in tables.KINDS for c in columns)
        assert len({c.name for c in columns}) == len(columns)
