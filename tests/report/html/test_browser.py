"""The page in a real browser: headless Chromium, opened from disk, driven with mouse and keyboard."""

from __future__ import annotations

import re
import shutil
import time
from contextlib import contextmanager
from itertools import pairwise

import pytest

import analyzer
from analyzer.report.html import timeline_page
from tests.helpers import CAPTURES, CASES
from tests.report.html import pages

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (tests/run installs it for root)")

#: A third of the shipped cases stands for all.
SHIPPED = [case.name for case in CASES][::3]
#: Where a mark of evidence lies on the screen, by the plot's own scales.
MARK = """([figure, n]) => {
  const view = [...Bokeh.index].find((v) => document.querySelectorAll('.timeline .plot')[figure].contains(v.el));
  const evidence = view.model.renderers.find((r) => r.data_source.data.fill_color && r.glyph.size?.value === 17).data_source.data;
  const box = view.el.getBoundingClientRect();
  return [box.x + view.frame.x_scale.compute(evidence.x[n]), box.y + view.frame.y_scale.compute(evidence.y[n])];
}"""


#: The first plot.
VIEW = "[...Bokeh.index].find((v) => v.frame)"
#: All text below an element, that inside the library's own trees too.
TEXT = """function text(node) {
  return [...node.childNodes].map((c) => (c.nodeType === 3 ? c.data : (c.shadowRoot ? text(c.shadowRoot) : "") + text(c))).join("");
}"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with playwright.sync_playwright() as p:
        running = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS, headless=True)
        yield running
        running.close()


#: Pages that are no shipped case.
MADE = {"resets": pages.many_resets, "many": pages.many_connections, "hostile": pages.hostile}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`folder(name)`: the report of that name, written when first asked for."""
    made = tmp_path_factory.mktemp("reports")

    def written(name):
        path = made / f"{name}.html"
        if not path.exists() and name.startswith("timeline:"):
            _, made_of, about = name.split(":")
            path.write_bytes(
                timeline_page(MADE[made_of]() if made_of in MADE else analyzer.read(CAPTURES / made_of), about)
            )
        elif not path.exists():
            (MADE[name]() if name in MADE else analyzer.read(CAPTURES / name)).report(path)
        return path

    return written


@pytest.fixture
def opened(browser, folder):
    """`opened(name)`: a page that must stay silent: no error, no line on the console, no dialog, no request but its own."""

    @contextmanager
    def opening(name, hash_="", **how):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | how))
        found = context.new_page()
        noise = []
        found.on("console", lambda m: noise.append(m.text) if m.type in ("error", "warning") else None)
        found.on("pageerror", lambda error: noise.append(str(error)))
        found.on("dialog", lambda d: (noise.append(d.message), d.dismiss()))
        asked = []
        found.on("request", lambda r: asked.append(r.url) if not r.url.startswith("data:") else None)
        url = folder(name).as_uri()
        found.goto(url + hash_)
        until(found, DRAWN)
        yield found
        assert noise == []
        assert {link.split("#")[0] for link in asked} == {url}
        context.close()

    return opening


DRAWN = "[...document.querySelectorAll('figure.timeline')].every((f) => f.dataset.drawn || !f.offsetParent)"


def until(page, condition, seconds=10):
    """Wait until a condition holds in the page; its policy forbids the evaluation that Playwright's own waiting needs."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(30)


def second_reset():
    """The second finding of a rule: its card is closed at first."""
    return [item.id for item in pages.many_resets().findings if item.rule == "R303"][1]


def shown(page, n=0):
    """The stretch of time that a figure shows, in seconds."""
    words = page.locator(".timeline .shown").nth(n).inner_text().replace("−", "-")
    start, end = re.match(r"(-?[\d.]+) – (-?[\d.]+) s from", words).groups()
    return float(start), float(end)


def wide(page, n=0):
    start, end = shown(page, n)
    return end - start


def ids(page, table="connections"):
    return page.locator(f"[data-table={table}] tr.row td:nth-child(2)").all_inner_texts()


# ---- shown


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_cases_open(opened, name):
    with opened(name) as page:
        assert page.locator("h1").inner_text()
        assert page.locator(".plot canvas").count() >= page.locator("article.card").count()
        assert page.locator("[data-table=connections] tr.row").count() >= 1
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0


@pytest.mark.parametrize(
    "about", ["frozen-keepalive:C1", "frozen-keepalive:F1", "frozen-keepalive:b9cb51a5", "hostile:C1", "hostile:F1"]
)
def test_timelines_open(opened, about):
    """Figure, lines and findings; the fixture sees to it that nothing runs, asks or complains."""
    with opened(f"timeline:{about}") as page:
        assert page.locator("figure.timeline canvas").count() >= 1
        assert page.locator("table.story tbody tr").count() > 5
        assert page.locator("article.card").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0


def test_a_timeline_marks_what_the_finding_is(opened):
    with opened("timeline:frozen-keepalive:F1", viewport={"width": 420, "height": 900}) as page:
        (line,) = page.locator("table.story tr.primary").all()
        assert "Ping timeout passed without response" in line.inner_text()
        assert page.locator("table.story tr.frozen.aside").count() == 2
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0


def test_a_drawing_has_ink_in_every_lane(opened):
    with opened("frozen-keepalive") as page:
        colours = page.evaluate("""() => {
          const view = [...Bokeh.index].find((v) => v.frame);
          const canvas = view.export().canvas;
          const { width, height } = canvas;
          const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
          const seen = new Set();
          for (let i = 0; i < data.length; i += 4) seen.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
          const hex = (name) => parseInt(getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim().slice(1), 16);
          return ["invocation", "good", "error", "state-ESTABLISHED", "data", "ping", "orange", "dim", "lane"].map((n) => [n, seen.has(hex(n))]);
        }""")
        assert [name for name, there in colours if not there] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_system(opened, scheme):
    with opened("frozen-keepalive", color_scheme="light") as page:
        page.emulate_media(color_scheme=scheme)
        until(
            page, f"document.querySelector('.timeline').classList.contains('dark') === {str(scheme == 'dark').lower()}"
        )
        until(page, DRAWN)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        drawn = page.evaluate(f"[...{VIEW}.export().canvas.getContext('2d').getImageData(2, 2, 1, 1).data].slice(0, 3)")
        assert ground == f"rgb({', '.join(map(str, drawn))})"
        page.locator(".timeline .plot").first.scroll_into_view_if_needed()
        page.mouse.move(*page.evaluate(MARK, [0, 4]))
        until(page, "document.querySelector('.bk-Tooltip') !== null")
        tip = page.evaluate(
            "(({ backgroundColor: a, color: b }) => [a, b])(getComputedStyle(document.querySelector('.bk-Tooltip')))"
        )
        assert tip == [ground, page.evaluate("getComputedStyle(document.body).color")]


@pytest.mark.parametrize("name", ["frozen-keepalive", "resets", "many"])
def test_a_phone_scrolls_in_one_direction_only(opened, name):
    with opened(name, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_print_has_pictures_and_no_controls(opened, tmp_path):
    with opened("zombie-fin-wait-2") as page:
        page.pdf(path=tmp_path / "x.pdf")
        assert (tmp_path / "x.pdf").read_bytes().count(b"/Image") >= 1
        page.emulate_media(media="print")
        assert page.locator(".timeline img").first.is_visible()
        assert page.locator(".timeline img").first.evaluate("i => i.complete && i.naturalWidth > 500")
        for hidden in ("nav", ".timeline .tools", ".timeline .plot"):
            assert not page.locator(hidden).first.is_visible()
        assert page.locator(".evidence").first.is_visible()


# ---- filtered and sorted


def test_connections_are_filtered_by_words_and_by_findings(opened):
    with opened("resets") as page:
        table = page.locator("[data-table=connections]")
        words = table.get_by_role("searchbox", name="Filter")
        words.fill("nothing has this")
        assert ids(page) == []
        words.fill("SERVER-RST :40003")
        page.keyboard.press("Enter")
        assert len(ids(page)) == 1 and table.locator("output").inner_text() == "1 of 12"
        words.fill("")
        table.get_by_label("with findings only").check()
        assert len(ids(page)) == 12


def test_a_long_table_comes_in_pages(opened):
    with opened("many") as page:
        assert len(ids(page)) == 100
        page.get_by_role("button", name="Show 100 more").click()
        assert len(ids(page)) == 200
        page.locator("[data-table=connections] input[type=search]").fill("S0")
        assert len(ids(page)) == 15


def test_tables_are_sorted_by_mouse_and_keyboard(opened):
    with opened("resets") as page:
        head = page.locator("[data-table=connections] th", has=page.get_by_role("button", name="bytes", exact=True))
        assert head.get_attribute("aria-sort") is None
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        first = ids(page)
        head.get_by_role("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        assert ids(page) == first[::-1] and first != sorted(first, reverse=True)
        page.locator("[data-table=connections]").get_by_role("button", name="id", exact=True).click()
        assert ids(page) == [f"C{n}" for n in range(1, 13)]


def test_findings_are_filtered_by_severity_and_words(opened):
    with opened("resets") as page:
        cards = page.locator("article.card:visible")
        whole = cards.count()
        form = page.locator("#finding-filters")
        form.locator("input[type=search]").fill("402 s")
        assert 0 < cards.count() < whole
        form.locator("input[type=search]").fill("")
        form.get_by_label("error").uncheck()
        assert cards.count() < whole
        assert form.locator("output").inner_text() == f"{cards.count()} of {whole}"


# ---- timelines


def test_the_timeline_is_zoomed_by_buttons_and_keys(opened):
    with opened("frozen-keepalive") as page:
        figure = page.locator(".timeline").first
        figure.get_by_role("button", name="Show all").click()
        until(page, "!document.querySelector('.shown').textContent.startsWith('−4')")
        whole = wide(page)
        figure.get_by_role("button", name="Zoom in").click()
        page.wait_for_timeout(60)
        near = wide(page)
        assert near < whole
        figure.locator(".plot").focus()
        page.keyboard.press("+")
        page.wait_for_timeout(60)
        nearer, (start, _) = wide(page), shown(page)
        assert nearer < near
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(60)
        assert shown(page)[0] > start
        page.keyboard.press("e")
        page.wait_for_timeout(60)
        start, end = shown(page)
        assert start <= 0 and end >= 5.559
        page.keyboard.press("0")
        page.wait_for_timeout(60)
        assert wide(page) == pytest.approx(whole)


def test_the_timeline_is_zoomed_by_drag_and_wheel(opened):
    with opened("frozen-keepalive") as page:
        plot = page.locator(".timeline .plot").first
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        whole = wide(page)
        y = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + 400, y)
        page.mouse.down()
        page.mouse.move(box["x"] + 600, y, steps=5)
        page.mouse.up()
        page.wait_for_timeout(80)
        near = wide(page)
        assert near < whole
        page.mouse.wheel(0, -200)
        page.wait_for_timeout(80)
        assert wide(page) == near, "the wheel alone scrolls the page"
        page.mouse.move(box["x"] + 500, plot.bounding_box()["y"] + 100)
        page.keyboard.down("Control")
        page.mouse.wheel(0, -200)
        page.keyboard.up("Control")
        page.wait_for_timeout(80)
        assert wide(page) < near


def test_silences_can_be_drawn_at_their_true_length(opened):
    with opened("zombie-fin-wait-2") as page:
        button = page.get_by_role("button", name="Draw silences")
        labels = f"{VIEW}.model.below[0].major_label_overrides"
        before = page.evaluate(f"[...{labels}.values()]")
        button.click()
        until(page, f"{DRAWN} && [...{labels}.values()].join() !== {','.join(before)!r}")
        after = [float(t.replace("−", "-")) for t in page.evaluate(f"[...{labels}.values()]")]
        steps = {round(b - a, 6) for a, b in pairwise(after)}
        assert len(steps) == 1, "one scale from end to end"


def test_what_the_mouse_points_at_is_told(opened):
    with opened("frozen-keepalive") as page:
        page.locator(".timeline .plot").first.scroll_into_view_if_needed()
        page.mouse.move(*page.evaluate(MARK, [0, 4]))
        until(page, f"({TEXT})(document.body).includes('5. Ping timeout passed without response')")


# ---- links


def test_a_mark_leads_to_its_evidence_and_back(opened):
    with opened("frozen-keepalive") as page:
        page.locator(".timeline .plot").first.scroll_into_view_if_needed()
        page.mouse.click(*page.evaluate(MARK, [0, 5]))
        page.wait_for_selector("#F1-e6.found")
        page.locator("#F1-e2 a").first.click()
        page.wait_for_selector("#F1-e2.found")
        assert page.locator("tr.found").count() == 1
        picked = f"{VIEW}.model.renderers.find((r) => r.data_source.data.fill_color && r.glyph.size?.value === 17).data_source.selected.indices"
        assert page.evaluate(picked) == [1]


def test_a_finding_leads_to_its_connection(opened):
    with opened("resets") as page:
        page.locator("[data-table=connections] input[type=search]").fill("nothing has this")
        page.locator("article.card .where a[href^='#C']").first.click()
        row = page.locator("[data-table=connections] tr.found")
        row.wait_for()
        name = row.locator("td").nth(1).inner_text()
        assert page.url.endswith(f"#{name}")
        detail = page.locator("tr.detail")
        assert "Zeek" in detail.inner_text()
        detail.locator("figure[data-drawn]").wait_for()
        assert row.get_by_role("button").evaluate("b => b === document.activeElement")


def test_the_first_of_each_rule_is_open_and_the_others_open_by_keyboard(opened):
    with opened("resets") as page:
        second = page.locator("article.card").nth(1)
        assert page.locator("article.card details[open]").count() < page.locator("article.card").count()
        assert not second.locator(".evidence").is_visible()
        second.locator("summary").focus()
        page.keyboard.press("Enter")
        assert second.locator(".evidence").is_visible()
        until(page, DRAWN)
        assert second.locator("figure").get_attribute("data-drawn")


def test_an_address_with_a_hash_opens_there(opened):
    with opened("resets", "#C7") as page:
        assert page.locator("tr.found td").nth(1).inner_text() == "C7"
    with opened("resets", f"#{second_reset()}-e2") as page:
        assert page.locator("tr.found").is_visible()
    with opened("frozen-keepalive", "#K101") as page:
        assert page.locator("details#K101").get_attribute("open") is not None
    with opened("frozen-keepalive", "#nothing'\"<b>") as page:
        assert page.locator(".found").count() == 0


def test_folded_findings_are_found_in_their_table(opened):
    with opened("resets", "#F12") as page:
        row = page.locator("[data-table=all-findings] tr.found")
        assert row.locator("td").nth(1).inner_text() == "F12"
        assert "reset after" in row.inner_text()


def test_the_keyboard_reaches_everything(opened):
    with opened("resets") as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        until(page, "location.hash === '#verdict'")
        names = page.evaluate("""() => [...document.querySelectorAll("button, input, a, summary, .plot")]
          .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML)""")
        assert names == []
        assert page.evaluate(
            "[...document.querySelectorAll('button, input, a[href], summary, .plot')].every((e) => e.tabIndex >= 0)"
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["resets", "frozen-keepalive"])
def test_nothing_is_inaccessible(opened, name, scheme):
    """axe-core's rules, contrast of colours among them."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with opened(name, color_scheme=scheme) as page:
        found = axe.Axe().run(page).response["violations"]
        assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found] == []


# ---- hostile


def test_hostile_text_does_nothing(opened):
    with opened("hostile", is_mobile=False) as page:
        page.add_init_script("window.pwned = () => { window.owned = true; }")
        page.reload()
        until(page, DRAWN)
        for button in page.locator("tr.row .open").all():
            button.click()
        page.locator(".timeline .plot").first.scroll_into_view_if_needed()
        for n in range(3):
            page.mouse.move(*page.evaluate(MARK, [0, n]))
            page.wait_for_timeout(100)
        page.locator("[data-table=connections] button", has_text="id").first.click()
        assert page.evaluate("window.owned") is None
        body = page.evaluate("""() => {
          const all = (root) => [...root.querySelectorAll("*")].flatMap((e) => [e, ...(e.shadowRoot ? all(e.shadowRoot) : [])]);
          const found = all(document);
          return { scripts: found.filter((e) => e.tagName === "SCRIPT").length, images: found.filter((e) => e.tagName === "IMG" && !e.closest(".timeline")).length,
            handlers: found.filter((e) => [...e.attributes].some((a) => a.name.startsWith("on"))).length,
            links: found.filter((e) => e.tagName === "A" && !/^#[\\w-]+$/.test(e.getAttribute("href"))).length,
            text: document.body.innerText };
        }""")
        assert (body["scripts"], body["images"], body["handlers"], body["links"]) == (3, 0, 0, 0)
        assert "<script>pwned()</script>" in body["text"] and "\\u202e" in body["text"]
        assert not re.search("[\x00-\x08\x0e-\x1f\u202a-\u202e]", body["text"])


def test_the_policy_stops_what_would_slip_through(opened, folder):
    """Even markup that got past the escaping would neither run nor ask for anything."""
    page = folder("healthy")
    whole = page.read_text()
    evil = "<script>window.owned = 1</script><img src='https://example.invalid/x.png' onerror='window.owned = 2'>"
    page.with_name("slipped.html").write_text(whole.replace("<main>", f"<main>{evil}"))
    with (
        pytest.raises(AssertionError, match="Security Policy"),
        opened("slipped") as found,
    ):  # the browser says that it refused
        assert found.evaluate("window.owned") is None
