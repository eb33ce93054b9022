"""The report as one HTML file that opens from disk: verdict, findings with evidence and timelines, connections, sources.

`content`, `tables`, `glance` and `figures` pick what is shown (bounded by `limits`), `page/` holds templates, style and script,
this module puts them together. Text from logs and packets is hostile: it reaches the page through the templates' escaping or
inside one JSON block, both behind `escape.terminal`; the page's policy runs nothing but the two scripts named by their
digests, and forbids the network.
"""

from __future__ import annotations

import base64
import hashlib
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from analyzer.model.problems import InputError
from analyzer.model.times import iso
from analyzer.plot.theme import DARK, LIGHT, ORANGE, PURPLE, Theme
from analyzer.report import timeline
from analyzer.report.causes import causes
from analyzer.report.escape import terminal
from analyzer.report.html import content, glance, tables
from analyzer.report.html.figures import Figures
from analyzer.report.html.limits import EVERYTHING, SUMMARY
from analyzer.report.style import Style
from analyzer.report.text import LONG_COMMAND
from analyzer.streams import whole_file
from analyzer.tcp.states import STATES
from analyzer.timeline.timelines import WHOLE, Cut

if TYPE_CHECKING:
    from analyzer.report.html.limits import Limits
    from analyzer.trace import Trace

PAGE = Path(__file__).with_name("page")
#: In the order in which they need each other.
SCRIPTS = ("words.js", "axis.js", "labels.js", "drawing.js", "figure.js", "table.js", "main.js")
MISSING = "the HTML report needs two libraries: pip install 'connection-analyzer[report]'"
#: What a line's band means, as a class of the page.
BANDS = {"┏": "runs", "┃": "runs", "┗": "runs", "░": "frozen", "┊": "frozen"}
#: Where BokehJS lies in the installed package; looked up without importing it.
BOKEH_JS = Path("server", "static", "js", "bokeh.min.js")


def write(trace: Trace, path: str | Path, everything: bool = False) -> None:
    """Write the report of a trace to `path`, whole or not at all. Raises `InputError` without the extra `report`."""
    whole = page(trace, everything)
    with whole_file(path) as f:
        f.write(whole)


def page(trace: Trace, everything: bool = False) -> bytes:
    """The report as UTF-8 HTML, the same bytes for the same trace. `everything` raises the bounds of what is shown.

    Raises `InputError` where jinja2 or bokeh are not installed.
    """
    require()
    limits = EVERYTHING if everything else SUMMARY
    findings = content.worst_first(trace.findings)
    roots = causes(trace.findings)
    shown = content.laid_out(content.causes_first(roots), limits)
    drawn = _connections_to_draw(trace, limits)
    figures = Figures(trace, limits, len(shown) + len(drawn))
    firsts = {item.rule: item for item in reversed(shown)}
    cards = [content.card(trace.story, item, figures.of_finding(item), firsts[item.rule] is item) for item in shown]
    for name in drawn:
        figures.of_connection(name)
    listed = {t.id: t for t in tables.tables(trace, findings, limits, len(shown) < len(findings))}
    data = {"figures": figures.content, "tables": {name: t.content() for name, t in listed.items()}}
    verdict = content.summary(trace, findings, roots)
    return _rendered(
        "page.html",
        data,
        title=verdict.title,
        story=trace.story,
        verdict=verdict,
        cards=cards,
        tables=listed,
        glance=glance.glance(trace.story),
        sources=content.sources(trace.story),
        rules=content.rules_of(shown),
        folded=len(findings) - len(shown),
    ).encode("utf-8")


def _connections_to_draw(trace: Trace, limits: Limits) -> list[str]:
    """Connections that get a timeline though no finding is about them: all, where there are few."""
    cs = trace.story.connections
    ks = cs.in_view().tolist()
    return [cs.id(k) for k in ks] if len(ks) <= limits.drawn else []


def timeline_page(trace: Trace, name: str, everything: bool = False, cut: Cut = WHOLE, local: bool = False) -> bytes:
    """The timeline of a connection, request, environment or finding as UTF-8 HTML: a figure to zoom into, every source in order,
    the findings about it. Raises what `Trace.timeline` and `page` do."""
    require()
    limits, style = EVERYTHING if everything else SUMMARY, Style(local=local)
    told = trace.story_of(name, cut)
    heading, facts = timeline.heading(trace.story, told, style)
    body = timeline.Body(trace.story, told, style, everything) if told.steps else None
    rows = list(islice(body.rows(), limits.steps)) if body else []
    left = len(body.items) - len(rows) if body else 0
    shown = content.laid_out(told.findings, limits)
    figures = Figures(trace, limits, 1)
    key = figures.of_timeline(told)
    return _rendered(
        "story.html",
        {"figures": figures.content, "tables": {}},
        title=heading[0],
        heading=heading,
        facts=[*facts, *([f"{left:,} more lines are left out"] if left else [])],
        figure=key,
        rows=rows,
        bands=BANDS,
        legend=body.legend() if body else [],
        nothing=timeline.NOTHING,
        zero=style.when(told.zero_ns, 6),
        cards=[content.card(trace.story, item, None, n == 0) for n, item in enumerate(shown)],
        rules=content.rules_of(shown),
        folded=0,
    ).encode("utf-8")


def _rendered(template: str, data: dict[str, Any], **parts: Any) -> str:
    """A template, filled."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from analyzer import __version__

    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=partial(_finalized, Markup),
    )  # fmt: skip
    environment.filters["prose"] = partial(_prose, Markup)
    environment.filters["iso"] = iso
    bokeh = _bokeh() if data["figures"] else ""
    script = "\n".join((PAGE / name).read_text("utf-8") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    return environment.get_template(template).render(
        version=__version__,
        style=Markup(_colours() + (PAGE / "style.css").read_text("utf-8")),
        script=Markup(script), bokeh=Markup(bokeh), data=Markup(json_block(data)),
        digests=[_digest(text) for text in (bokeh, script) if text],
        **parts,
    )  # fmt: skip


def _finalized(markup: type[str], value: Any) -> Any:
    """Control characters and bidirectional overrides as escapes, whatever is printed; our own markup as it is."""
    return terminal(value) if isinstance(value, str) and not isinstance(value, markup) else value


def _prose(markup: type[Any], text: str) -> Any:
    """A sentence of a rule: what stands in backticks as code, commands to be pasted on lines of their own."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a backtick without a partner is one of the text
        parts = [text]
    out = markup()
    for n, part in enumerate(parts):
        kind = ' class="command"' if len(part) > LONG_COMMAND else ""
        out += markup(f"<code{kind}>{{}}</code>" if n % 2 else "{}").format(terminal(part))
    return out


def json_block(content_: Any) -> str:
    """JSON that can stand in a `<script>` element: no `<`, no control character, no override, whatever the texts hold."""
    text = orjson.dumps(_inert(content_)).decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _inert(value: Any) -> Any:
    if isinstance(value, str):
        return terminal(value)
    if isinstance(value, dict):
        return {_inert(key): _inert(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_inert(inner) for inner in value]
    return value


def _digest(script: str) -> str:
    """What a policy names an inline script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def require() -> None:
    """Raise `InputError` unless the libraries of the report are installed; none is imported."""
    if find_spec("jinja2") is None or _bokeh_file() is None:
        raise InputError(MISSING)


def _bokeh_file() -> Path | None:
    """BokehJS, as installed."""
    spec = find_spec("bokeh")
    places = [Path(place) / BOKEH_JS for place in (spec.submodule_search_locations or [])] if spec else []
    return next((place for place in places if place.is_file()), None)


def _bokeh() -> str:
    """BokehJS as an inline script."""
    found = _bokeh_file()
    return found.read_text("utf-8").replace("</script", "<\\/script") if found else ""


def _colours() -> str:
    """The plots' colours as custom properties: light, and dark where the reader's system is."""
    return f":root {{\n{_properties(LIGHT)}}}\n@media screen and (prefers-color-scheme: dark) {{\n:root {{\n{_properties(DARK)}}}\n}}\n"


def _properties(theme: Theme) -> str:
    named = [
        ("orange", ORANGE),
        ("purple", PURPLE),
        *((name, str(getattr(theme, name))) for name in theme.__struct_fields__),
    ]
    states = [(f"state-{name}", theme.state(name)) for name in STATES]
    letters = [(f"on-{name}", theme.on(colour)) for name, colour in (*named, *states)]
    return "".join(f"  --{name}: {colour};\n" for name, colour in (*named, *states, *letters))
