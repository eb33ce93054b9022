"""The pages that are made of the program: `python docs/make.py` writes them, a test says whether they are what it would write.

docs/api.md          the Python API, from docstrings and `analyzer.model.tables.TABLES`
docs/saved-trace.md  the schema of a saved trace, from the same tables as Parquet has them
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import analyzer
from analyzer import plot
from analyzer.connection import Connection
from analyzer.model.findings import Evidence, Finding
from analyzer.model.problems import UnknownNameError
from analyzer.model.tables import TABLES, frame
from analyzer.saved import TABLES_SCHEMA, VERSION, arrow_of
from analyzer.trace import Trace

HERE = Path(__file__).parent

API = """\
# Python API

Made by `python docs/make.py` from the docstrings; a test says that it is current.

```python
import analyzer

trace = analyzer.read("captures/frozen-keepalive/")     # files, folders, globs; or a saved trace
trace.findings[0]                                       # in a notebook: the finding with its proof
trace.findings_frame[["id", "rule", "severity", "title"]]
```

Everything public is reached from `analyzer`: {names}. Tables are pandas DataFrames; every one is listed below with the dtype and the
meaning of its columns. They are made when first asked for, and are yours to change.

## Time

Times are `datetime64[ns, UTC]`, aligned to the reference clock (`trace.sources` tells each clock's offset and error, in ms). What a source
itself stamped stands in `events["source_time"]`. pandas shows them in any zone:

```python
local = trace.invocations["start"].dt.tz_convert("Europe/Berlin")
local.dt.strftime("%H:%M:%S").tolist()
trace.invocations["end"] - trace.invocations["start"]   # durations are Timedelta
```

Durations have their unit in their name: `_ms`, `_s`, `_ns`. Missing is `NaT`, `<NA>`, `NaN`, `None`: not seen, not known, not there.

## Choosing

```python
trace.view(environment="20e6082e").invocations                     # a part of its name
trace.view(request_id="b9cb51a5").freezes                          # the beginning of its id
trace.view(connection="C1", since="2026-11-21T01:49:50").events    # and what its environment did meanwhile
trace.view(server=["10.0.2.0/24"], port=[50051]).connections
events = trace.events
events[(events["connection"] == "C1") & (events["kind"] == "ping")]
```

A view keeps ids, and examines nothing anew. The story of one thing, in order, from every source:

```python
trace.timeline("C1")                                    # a connection: every segment, and what its environment printed
trace.timeline("b9cb51a5")                              # a request, from the freeze before it on
trace.timeline("20e6082e")                              # an environment
trace.timeline("F1", around="5s")                       # a finding, and what was around it
connection = trace.connection("C1")
connection.client_state, connection.states              # at the end, and each change
```

"""

SAVED = """\
# The saved trace

Made by `python docs/make.py`; a test says that it is current.

    analyze diagnose server.pcap lambda.json --save case.trace

or `trace.save("case.trace")` in Python writes a folder, whole or not at all. Every command, `analyzer.read` and `analyzer.load` take it
in place of the raw inputs: the same findings, timelines and pictures, at once. It has no packets as they were (`analyze extract`, `--deep` need the
captures themselves) and, of captures of more than 250,000 segments, the segments of connections with findings only.

| | |
|---|---|
| `manifest.json` | `format`, `version` ({version}), the `analyzer` that wrote it, `schema` (`{schema}`), `tables`, and `files`: size and SHA-256 of each |
| `*.parquet` | the public tables below |
| `story/` | what a trace is rebuilt from; changes with `version`, and is nobody else's business |

Nothing in it is code. A folder of another version, or one of whose `story/` a file is missing or is not what was saved, is refused with a
line that says so. The public tables are for other programs: loading does not read them.

## With other programs

```python
import duckdb

duckdb.sql(\"\"\"
    select f.id, f.rule, c.client, c.server, c.longest_idle_s
    from 'case.trace/findings.parquet' f join 'case.trace/connections.parquet' c on c.id = f.connection
\"\"\").fetchall()
duckdb.sql("select environment, sum(seconds) from 'case.trace/freezes.parquet' group by all").fetchall()
duckdb.sql("select from_json(clocks, '[{{\\"name\\": \\"varchar\\", \\"error_ms\\": \\"double\\"}}]') from 'case.trace/sources.parquet'").fetchall()
```

Many traces at once: `'*.trace/findings.parquet'`. Polars, pandas and Spark read the same files:

```python
import polars as pl

events = pl.scan_parquet("case.trace/events.parquet")
events.filter(pl.col("layer") == "tcp").group_by("connection", "kind").len().sort("connection", "kind").collect()
pl.read_parquet("case.trace/invocations.parquet").select(pl.col("start").dt.convert_time_zone("Europe/Berlin"), "status")
```

## Tables (`{schema}`)

Columns are added, never renamed or removed. Times are UTC, aligned to the reference clock. What is a list in Python is JSON text here. Each file's
metadata names its table (`analyzer.table`) and schema (`analyzer.schema`), each column's its meaning (`doc`).

"""


def api() -> str:
    """The page of the Python API."""
    names = ", ".join(f"`{name}`" for name in analyzer.__all__)
    parts = [API.format(names=names), "## Functions\n\n", *functions(), "## `Trace`\n\n", *of_class(Trace)]
    parts += ["## `Connection`\n\n", *of_class(Connection)]
    for kind in (Finding, Evidence, analyzer.InputError, UnknownNameError):
        parts.append(f"## `{kind.__name__}`\n\n{doc(kind)}\n\n")
        parts += fields(kind)
    parts.append("## Tables\n\n")
    for name, columns in TABLES.items():
        rows = [(f"`{c.name}`", c.dtype if c.dtype != "object" else "object (list)", c.doc) for c in columns]
        where = "findings_frame" if name == "findings" else name
        parts += [f"### `trace.{where}`\n\n", *table(("column", "dtype", "meaning"), rows)]
    return "".join(parts)


def saved() -> str:
    """The page of the saved trace."""
    parts = [SAVED.format(version=VERSION, schema=TABLES_SCHEMA)]
    for name, columns in TABLES.items():
        schema = arrow_of(frame(name, [])).schema
        rows = [(f"`{c.name}`", parquet_type(schema.field(c.name).type, c.dtype), c.doc) for c in columns]
        parts += [f"### `{name}.parquet`\n\n", *table(("column", "type", "meaning"), rows)]
    return "".join(parts)


def parquet_type(arrow: Any, dtype: str) -> str:
    """A column's type in words that DuckDB, Polars and Spark share."""
    if dtype == "object":
        return "text (JSON)"
    named = {"timestamp[ns, tz=UTC]": "timestamp (ns, UTC)", "int64": "int64", "double": "double", "bool": "boolean"}
    return named.get(str(arrow), "text")


def functions() -> Iterator[str]:
    """`read`, `load`, `rule_set` and the pictures."""
    for name in ("read", "load", "rule_set"):
        yield from entry(f"analyzer.{name}", getattr(analyzer, name))
    for name in plot.__all__:
        yield from entry(f"analyzer.plot.{name}", getattr(plot, name))


def of_class(kind: type) -> Iterator[str]:
    """What a class says of itself and of its public members; tables are listed by themselves."""
    yield f"{doc(kind)}\n\n"
    for name, member in vars(kind).items():
        if name.startswith("_") or name in TABLES or not (inspect.isfunction(member) or hasattr(member, "__get__")):
            continue
        if inspect.isfunction(member):
            yield from entry(f"{kind.__name__.lower()}.{name}", member)
        elif member.__doc__:
            yield f"### `{kind.__name__.lower()}.{name}`\n\n{doc(member)}\n\n"


def entry(name: str, function: Any) -> Iterator[str]:
    """A function with its signature."""
    yield f"### `{name}`\n\n```\n{name.rpartition('.')[2]}{signature(function)}\n```\n\n{doc(function)}\n\n"


def signature(function: Any) -> str:
    """Parameters, one a line where they are many."""
    found = inspect.signature(function)
    parameters = [p for p in found.parameters.values() if p.name != "self"]
    named = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    whole = [parameter(p) for p in parameters]
    if named and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        whole.insert(parameters.index(named[0]), "*")
    line = f"({', '.join(whole)}) -> {found.return_annotation}"
    return (
        line if len(line) <= 100 else "(\n" + "".join(f"    {p},\n" for p in whole) + f") -> {found.return_annotation}"
    )


def parameter(p: inspect.Parameter) -> str:
    """`name: type = default`, the same in every run."""
    star = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
    default = p.default
    if isinstance(default, frozenset):
        default = f"frozenset({sorted(default)})"
    elif default is not p.empty:
        default = repr(default)
    return f"{star}{p.name}: {p.annotation}" + (f" = {default}" if default is not p.empty else "")


def fields(kind: type) -> Iterator[str]:
    """A struct's fields with their types."""
    hints = {name: hint for name, hint in getattr(kind, "__annotations__", {}).items() if not name.startswith("_")}
    yield from table(("field", "type"), [(f"`{name}`", f"`{hint}`") for name, hint in hints.items()]) if hints else ()


def doc(thing: Any) -> str:
    """A docstring, as Markdown."""
    return inspect.getdoc(thing) or ""


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    """A table in Markdown."""
    yield f"| {' | '.join(head)} |\n|{'---|' * len(head)}\n"
    yield from (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)
    yield "\n"


PAGES = {"api.md": api, "saved-trace.md": saved}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (HERE / page).write_text(make().rstrip("\n") + "\n", encoding="utf-8")
