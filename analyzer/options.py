"""The options that commands share, in groups, each written once.

A command takes a group as one parameter; `with_groups` lays its fields out as options of the command line.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, NamedTuple, get_type_hints

import typer


class Format(StrEnum):
    """What a command writes."""

    TEXT = "text"
    CONCISE = "concise"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    MARKDOWN = "markdown"
    PERFETTO = "perfetto"


class TimelineFormat(StrEnum):
    """What `timeline` writes."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


class RulesFormat(StrEnum):
    """How rules are listed."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"


class Level(StrEnum):
    """Severity at which `--fail-on` fails."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Paths = Annotated[list[str], typer.Argument(metavar="PATH", help="Files, folders or globs.", show_default=False)]
Output = Annotated[str | None, typer.Option("-o", "--output", metavar="FILE", help="Write here, whole or not at all.")]


class Report(NamedTuple):
    """What is written, and where."""

    format_: Annotated[
        Format,
        typer.Option(
            "--format",
            help="text for people, concise a line a finding, markdown for an issue, json everything (schema analyzer/1); jsonl, csv, parquet one table; perfetto for ui.perfetto.dev.",
        ),
    ] = Format.TEXT
    table: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Which table: findings (the default), connections, events, freezes, invocations, pings …",
        ),
    ] = None
    output: Output = None
    everything: Annotated[bool, typer.Option("--all", help="Show everything that the summary folds.")] = False
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Largest first: connections by packets, bytes, duration, idle, retransmits; a table by a column (-NAME smallest first).",
        ),
    ] = None
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Show so many connections, or rows of a table.")
    ] = None
    fail_on: Annotated[
        Level | None, typer.Option("--fail-on", help="Exit with 1 if a finding is at least this severe.")
    ] = None
    save: Annotated[
        str | None,
        typer.Option("--save", metavar="FOLDER", help="Keep the result: commands read it in place of the inputs."),
    ] = None
    page: Annotated[
        str | None,
        typer.Option("--report", metavar="FILE", help="Also write report.html: one file that opens anywhere, offline."),
    ] = None


class Narrow(NamedTuple):
    """What of it is shown; everything is read and examined all the same."""

    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only what happened from then on: 2026-11-21T00:06[:05.860][Z]."),
    ] = None
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only what happened until then.")] = None
    environment: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only environments whose log stream's name contains this.")
    ] = None
    request_id: Annotated[str | None, typer.Option(metavar="ID", help="Only requests whose id begins so.")] = None
    client: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="Only connections of these clients: 10.0.0.0/16. Also tells directions."),
    ] = None
    server: Annotated[list[str] | None, typer.Option(metavar="CIDR", help="Only connections to these servers.")] = None
    port: Annotated[
        list[int] | None, typer.Option(metavar="N", min=0, max=65535, help="Only connections to this server port.")
    ] = None


class Told(NamedTuple):
    """How a timeline is written, and where."""

    format_: Annotated[
        TimelineFormat,
        typer.Option("--format", help="text for people, json all of it; jsonl, csv, parquet its events as a table."),
    ] = TimelineFormat.TEXT
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write here, whole or not at all; .png, .svg, .pdf draw it."
        ),
    ] = None
    everything: Annotated[bool, typer.Option("--all", help="Do not fold ordinary segments and lines.")] = False
    dark: Annotated[bool, typer.Option("--dark", help="Draw on a dark ground.")] = False


class Cut(NamedTuple):
    """What of a timeline is shown. Seconds count as its gutter does."""

    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only from then on: 2026-11-21T00:06[:05.860][Z], or 13.25 (seconds)."),
    ] = None
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only until then.")] = None
    around: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Only this long before and after --at: 5s, 500ms, 2min.")
    ] = None
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME|F3|REQUEST", help="The centre of --around. Else the request, or the gravest finding."
        ),
    ] = None


class Ends(NamedTuple):
    """Whose connections they are."""

    client: Annotated[
        list[str] | None, typer.Option(metavar="CIDR", help="Addresses of clients: tells directions in mid-stream.")
    ] = None
    server: Annotated[list[str] | None, typer.Option(metavar="CIDR", help="Addresses of servers, likewise.")] = None


class Stamps(NamedTuple):
    """What logs leave out."""

    shape: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Read logs as this shape (tail, csv, plain …); fail if they are not."),
    ] = None
    year: Annotated[int | None, typer.Option(min=1971, max=2199, help="Year of log stamps that have none.")] = None
    tz: Annotated[
        str | None, typer.Option(metavar="±HH:MM", help="Zone of log stamps that have none (UTC otherwise).")
    ] = None
    counter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REGEX",
            help="Lines of a background counter: (?P<wall>…) and (?P<counted>…) are the seconds of both sides.",
        ),
    ] = None


class Checksums(StrEnum):
    """What is done about packets whose checksum is wrong."""

    SAMPLE = "sample"
    CHECK = "check"
    DROP = "drop"


class Packets(NamedTuple):
    """How packets are read."""

    checksums: Annotated[
        Checksums,
        typer.Option(
            help="Look at the checksums of the first packets, check all, or drop packets whose checksum is bad."
        ),
    ] = Checksums.SAMPLE


class Deep(NamedTuple):
    """Dissection of the flagged connections by tshark."""

    deep: Annotated[
        bool,
        typer.Option(
            "--deep", help="Look into the connections with findings through tshark: HTTP/2, gRPC (needs pyshark)."
        ),
    ] = False
    keylog: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="TLS secrets (SSLKEYLOGFILE) to decrypt with; turns --deep on."),
    ] = None
    decode_as: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE", help="For tshark: tcp.port==8443,http2; turns --deep on."),
    ] = None


class Least(StrEnum):
    """Confidence from which on findings are told."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"


class Choice(NamedTuple):
    """Which rules are told, and what they compare with; the nearest analyze.toml or pyproject.toml says the rest."""

    select: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE", help="Only these rules: codes, or how they begin (K, R30); several with commas."),
    ] = None
    ignore: Annotated[list[str] | None, typer.Option(metavar="CODE", help="Not these rules.")] = None
    min_confidence: Annotated[
        Least | None, typer.Option("--min-confidence", help="Only findings of at least this confidence.")
    ] = None
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE.NAME=N", help="Change a threshold: K101.overshoot_ms=300 (`analyze rules` lists them)."
        ),
    ] = None
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Settings in TOML, instead of the nearest analyze.toml or pyproject.toml."),
    ] = None
    isolated: Annotated[bool, typer.Option("--isolated", help="Read no file of settings.")] = False


class Picture(StrEnum):
    """What `plot` draws."""

    SEQUENCE = "sequence"
    FLEET = "fleet"
    IDLE_GAPS = "idle-gaps"
    CONNECTIONS = "connections"
    OVERHEAD = "overhead"
    PINGS = "pings"

    @property
    def has_clock(self) -> bool:
        """Whether it shows times of day."""
        return self not in (Picture.IDLE_GAPS, Picture.OVERHEAD)

    @property
    def function(self) -> str:
        """Its function in `analyzer.plot`."""
        return "connections_over_time" if self is Picture.CONNECTIONS else self.value.replace("-", "_")


class Look(NamedTuple):
    """How a picture looks."""

    dark: Annotated[bool, typer.Option("--dark", help="Draw on a dark ground.")] = False
    width: Annotated[
        float | None, typer.Option(metavar="INCHES", min=3, max=100, help="Width; the height follows.")
    ] = None


class Loud(NamedTuple):
    """What every command takes: how much is told on standard error, and in whose time."""

    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")] = False
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Every step and how long it took, on standard error.")
    ] = False
    local: Annotated[
        bool,
        typer.Option(
            "--local/--utc", help="Times in this machine's zone, or in UTC. Machine formats are in UTC always."
        ),
    ] = False


class Limits(NamedTuple):
    """What a server allows."""

    soft: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="connections: the limit above which the server evicts what is idle."),
    ] = None
    hard: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="connections: the limit above which it refuses.")
    ] = None


class Redaction(NamedTuple):
    """What leaves the house."""

    redact: Annotated[
        bool, typer.Option("--redact", help="Pseudonyms for addresses and ids, payload and message bodies cut.")
    ] = False
    redact_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", envvar="ANALYZER_REDACT_KEY",
            help="Redact; the same key gives the same pseudonyms in a later run. Keep it secret.",
        ),
    ] = None  # fmt: skip

    @property
    def wanted(self) -> bool:
        """Whether anything asks for it; an empty key does, and is refused."""
        return self.redact or self.redact_key is not None


@functools.cache
def _laid_out(group: Any) -> list[inspect.Parameter]:
    """One parameter a field of a group."""
    hints = get_type_hints(group, include_extras=True)
    defaults = group._field_defaults
    kind = inspect.Parameter.KEYWORD_ONLY
    return [inspect.Parameter(field, kind, default=defaults[field], annotation=hints[field]) for field in group._fields]


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters that are groups have become one option a field."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if hasattr(hint, "_field_defaults")}
    laid_out: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name not in groups:
            laid_out.append(parameter.replace(annotation=hints[parameter.name]))
            continue
        laid_out += _laid_out(groups[parameter.name])
    # Positional ones first; typer knows them by name.
    laid_out.sort(key=lambda p: p.kind)

    @functools.wraps(command)
    def laid(**values: Any) -> None:
        whole = {name: group(*(values.pop(field) for field in group._fields)) for name, group in groups.items()}
        command(**values, **whole)

    laid.__signature__ = inspect.Signature(laid_out)  # type: ignore[attr-defined]
    laid.__annotations__ = {p.name: p.annotation for p in laid_out}
    return laid
