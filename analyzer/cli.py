"""The command line: options in, one call, text out. No logic lives here."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analyzer.model.problems import InputError
from analyzer.options import (
    Choice,
    Cut,
    Deep,
    Ends,
    Format,
    Limits,
    Look,
    Loud,
    Narrow,
    Output,
    Packets,
    Paths,
    Picture,
    Redaction,
    Report,
    RulesFormat,
    Stamps,
    TimelineFormat,
    Told,
    with_groups,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from matplotlib.figure import Figure

    from analyzer.report.style import Style
    from analyzer.trace import Trace

EXIT_FINDINGS, EXIT_USAGE, EXIT_INTERNAL, EXIT_INTERRUPTED = 1, 2, 3, 130
#: Text that goes to a file or a pipe is laid out for this many columns.
PIPED_WIDTH = 120
LEAST_WIDTH = 60
WHOLE, AS_IS, ALL_RULES, AS_THEY_ARE = Narrow(), Packets(), Choice(), Redaction()
#: What a timeline's picture may be saved as.
DRAWN = (".png", ".svg", ".pdf")
#: Formats that write one table.
TABLES = (Format.JSONL, Format.CSV, Format.PARQUET)
#: Formats that are no text.
BINARY = ("parquet", "perfetto")
#: … or as a page.
PAGES = (".html", ".htm")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Diagnose dying connections of serverless functions from captures, gRPC traces and Lambda logs.",
    epilog="Start with: analyze diagnose FOLDER",
)


@app.callback(invoke_without_command=True)
def start(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Options of the whole program."""
    if version:
        from analyzer import __version__

        typer.echo(f"analyze {__version__}")
        raise typer.Exit


@app.command(short_help="Read anything and say what happened: the main job.")
@with_groups
def diagnose(
    paths: Paths,
    to: Report,
    choice: Choice,
    narrow: Narrow,
    packets: Packets,
    stamps: Stamps,
    deep: Deep,
    redaction: Redaction,
    loud: Loud,
) -> None:
    """Read anything, recognise it, correlate it, say what happened: the main job.

    Example: analyze diagnose captures/frozen-keepalive
    """
    _run(paths, ("pcap", "log"), to, choice, narrow, stamps, deep, redaction, loud, packets=packets)


@app.command(short_help="Packets to connections, states, what packets can prove.")
@with_groups
def pcap(
    paths: Paths,
    to: Report,
    choice: Choice,
    narrow: Narrow,
    packets: Packets,
    deep: Deep,
    redaction: Redaction,
    loud: Loud,
) -> None:
    """Packets to connections, endpoint states, and what packets alone can prove.

    `-` reads standard input: findings appear while it runs, Ctrl-C ends it with the report.

    Example: tcpdump -U -w - port 443 | analyze pcap -
    """
    _run(paths, ("pcap",), to, choice, narrow, Stamps(), deep, redaction, loud, packets=packets)


@app.command("grpc-log", short_help="A gRPC trace to channels, transports, pings, calls.")
@with_groups
def grpc_log(
    paths: Paths, to: Report, choice: Choice, narrow: Narrow, stamps: Stamps, redaction: Redaction, loud: Loud
) -> None:
    """A gRPC trace (bare, or inside a Lambda export) to channels, transports, pings, calls, findings.

    Example: analyze grpc-log trace.log
    """
    _run(paths, ("log",), to, choice, narrow, stamps, Deep(), redaction, loud, view="grpc")


@app.command("lambda-log")
@with_groups
def lambda_log(
    paths: Paths, to: Report, choice: Choice, narrow: Narrow, stamps: Stamps, redaction: Redaction, loud: Loud
) -> None:
    """Lambda logs to environments, invocations, freezes, findings.

    Example: analyze lambda-log export.json
    """
    _run(paths, ("log",), to, choice, narrow, stamps, Deep(), redaction, loud, view="lambda")


@app.command(short_help="The story of one connection, request or finding.")
@with_groups
def timeline(
    name: Annotated[
        str,
        typer.Argument(
            metavar="CONN|REQUEST|ENV|FINDING",
            help="C7, a client's ip:port, F3, the beginning of a request id, a part of an environment's name.",
        ),
    ],
    paths: Paths,
    to: Told,
    cut: Cut,
    ends: Ends,
    choice: Choice,
    packets: Packets,
    stamps: Stamps,
    deep: Deep,
    redaction: Redaction,
    loud: Loud,
) -> None:
    """The story of one connection, request, environment or finding: every source, in order; `-o x.png|svg|pdf` draws it,
    `-o x.html` makes a page of it.

    Example: analyze timeline C1 captures/zombie-fin-wait-2 -o c1.png
    """

    def work() -> None:
        from msgspec.structs import replace

        from analyzer.timeline.timelines import Cut as Stretch

        trace = _read(
            paths, ("pcap", "log"), loud, stamps, WHOLE._replace(**ends._asdict()), packets, choice, redaction
        )
        about = trace.find(name)
        _deepen(trace, deep, [trace.story.connections.id(k) for k in about.connections])
        stretch, about_whom = Stretch(**cut._asdict()), name
        if redaction.wanted:
            trace, (about_whom, at) = trace.redacted_with(redaction.redact_key, (name, str(cut.at or "")))
            stretch = replace(stretch, at=at or None)
        if to.output and _is_picture(to.output):
            from analyzer import plot as pictures
            from analyzer.timeline.timelines import WHOLE as ALL

            steps = trace.story_of(about_whom, stretch).steps if stretch != ALL else []
            since, until = (steps[0].time_ns, steps[-1].time_ns) if steps else (None, None)
            _picture(
                to.output,
                lambda: pictures.timeline(trace, about_whom, dark=to.dark, since=since, until=until, local=loud.local),
            )
        elif to.output and Path(to.output).suffix.lower() in PAGES:
            from analyzer.report.html import timeline_page

            _write([timeline_page(trace, about_whom, to.everything, stretch, loud.local)], to.output)
        elif to.format_ is TimelineFormat.TEXT:
            from analyzer.report.timeline import timeline_text

            text = timeline_text(
                trace, about_whom, _style(to.output, loud.local), everything=to.everything, cut=stretch
            )
            _write(text, to.output)
        else:
            from analyzer.report.tables import timeline_as

            _check_binary(to.format_.value, to.output)
            _write(timeline_as(trace, about_whom, stretch, to.format_.value), to.output)

    _guarded(work)


@app.command(short_help="Pictures, publishable as they are.")
@with_groups
def plot(
    picture: Annotated[Picture, typer.Argument(metavar="PICTURE", help="What to draw, see below.", show_default=False)],
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="[CONN] PATH…", help="For a sequence C7 or ip:port first; files, folders or globs."),
    ],
    output: Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="A .png, .svg or .pdf.")],
    look: Look,
    limits: Limits,
    choice: Choice,
    narrow: Narrow,
    packets: Packets,
    stamps: Stamps,
    redaction: Redaction,
    loud: Loud,
) -> None:
    """Pictures, publishable as they are; the whole story of one connection or environment is drawn by `analyze timeline`.

    \b
    sequence     one connection, packet by packet, between client and server
    fleet        a row for each environment: invocations, freezes, failures
    idle-gaps    rests that connections survived or not, and known limits
    connections  how many a server held: opened, closed, evicted, thrown out
    overhead     time to the first byte on new and on open connections
    pings        round trips, intervals, overshoot of keepalive pings

    \b
    Examples:
    analyze plot sequence C1 captures/zombie-fin-wait-2 -o c1.svg
    analyze plot fleet captures/healthy -o fleet.png --dark
    analyze plot idle-gaps server.pcap --port 5432 -o gaps.pdf
    analyze plot connections server.pcap --server 10.0.2.20 --hard 50 -o held.svg
    analyze plot pings captures/frozen-keepalive -o pings.png
    """

    def work() -> None:
        from analyzer import plot as pictures

        if not _is_picture(output):
            raise InputError(f"-o {output}: a picture is written as .png, .svg or .pdf")
        how: dict[str, Any] = {"dark": look.dark}
        how |= {} if look.width is None else {"width": look.width}
        how |= {"local": loud.local} if picture.has_clock else {}
        named = picture is Picture.SEQUENCE
        trace = _read(arguments[named:], ("pcap", "log"), loud, stamps, narrow, packets, choice, redaction)
        names = arguments[:named]
        if redaction.wanted:
            trace, names = trace.redacted_with(redaction.redact_key, names)
        if named:
            how |= {"since": narrow.since, "until": narrow.until}
        elif picture is Picture.CONNECTIONS:
            how |= limits._asdict()
        draw = getattr(pictures, picture.function)
        _picture(output, lambda: draw(trace, *names, **how))

    _guarded(work)


@app.command(short_help="The packets and log lines of some connections.")
@with_groups
def extract(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="CONN… PATH…", help="C7, F3 or ip:port[-ip:port], then files or folders.", show_default=False
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "-o", "--output", metavar="FILE", help="The capture to write (- standard output); log lines beside it."
        ),
    ],
    redaction: Redaction,
    choice: Choice,
    stamps: Stamps,
    loud: Loud,
) -> None:
    """The packets of some connections and the log lines beside them, for a bug report.

    F3 stands for the connections of that finding. One capture per capture point: small.pcap, or small-server.pcap … of several.
    The lines go to small.log (small.json where the log is a document).

    Example: analyze extract F1 captures/frozen-keepalive -o small.pcap --redact
    """

    def work() -> None:
        from analyzer.extract import chosen, names_first
        from analyzer.extract import extract as write
        from analyzer.redact import Redactor
        from analyzer.report.escape import terminal

        names, paths = names_first(arguments)
        trace = _read(paths, ("pcap", "log"), loud, stamps, choice=choice)
        redactor = Redactor(redaction.redact_key) if redaction.wanted else None
        for line in write(trace, chosen(trace, names), output, redactor):
            if not loud.quiet:
                typer.echo(terminal(line), err=True)

    _guarded(work)


@app.command(short_help="What a rule means and what to do, with an example.")
@with_groups
def explain(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="A code such as K101, or a name.")], loud: Loud
) -> None:
    """What a rule means, why it matters, what to do, and a rendered example.

    Example: analyze explain K101
    """

    def work() -> None:
        from analyzer.report.explain import explanation

        _write(explanation(rule, _style(None, loud.local)), None)

    _guarded(work)


@app.command("rules", short_help="Every rule: code, severity, thresholds.")
@with_groups
def list_rules(
    loud: Loud,
    format_: Annotated[
        RulesFormat, typer.Option("--format", help="text for people, markdown the whole reference, json for programs.")
    ] = RulesFormat.TEXT,
    output: Output = None,
) -> None:
    """Every rule: code, name, summary, severity, what logs alone prove, thresholds.

    Example: analyze rules --format json
    """

    def work() -> None:
        from analyzer.report import rules

        if format_ is RulesFormat.TEXT:
            _write(rules.listing(_style(output, loud.local)), output)
        else:
            _write(rules.as_json() if format_ is RulesFormat.JSON else rules.reference(), output)

    _guarded(work)


@app.command()
@with_groups
def doctor(loud: Loud) -> None:
    """What this installation can do, and how to get what it lacks.

    Exit status 1 if something is missing that every command needs.

    Example: analyze doctor
    """

    def work() -> None:
        from analyzer.doctor import MISSING, checks
        from analyzer.report.doctor import lines

        found = list(checks())
        _write("".join(f"{line}\n" for line in lines(found, _style(None, loud.local))), None)
        if any(check.state == MISSING for check in found):
            raise typer.Exit(EXIT_FINDINGS)

    _guarded(work)


# ---- shared


def _run(
    paths: list[str],
    kinds: tuple[str, ...],
    to: Report,
    choice: Choice,
    narrow: Narrow,
    stamps: Stamps,
    deep: Deep,
    redaction: Redaction,
    loud: Loud,
    view: str = "",
    packets: Packets = AS_IS,
) -> None:
    def work() -> None:
        from analyzer.streams import openable

        _check(to)
        if to.page:
            from analyzer.report.html import require

            require()  # before the work, not after it
        good, bad = openable(paths)
        trace = _read(good or paths, kinds, loud, stamps, narrow, packets, choice, redaction)
        trace.story.skipped[:0] = bad
        _deepen(trace, deep)
        if redaction.wanted:
            trace = trace.redacted(redaction.redact_key)
        if to.save:
            trace.save(to.save)
        _write(_content(trace, to, view, loud.local), to.output)
        if to.page:
            from analyzer.report.html import page

            _write([page(trace, to.everything)], to.page)
        if trace.story.interrupted:
            raise typer.Exit(EXIT_INTERRUPTED)
        if bad:
            raise InputError("; ".join(f"{path}: {why}" for path, why in bad))
        if to.fail_on is not None:
            from analyzer.model.findings import Severity

            if any(f.severity >= Severity[to.fail_on.value.upper()] for f in trace.findings):
                raise typer.Exit(EXIT_FINDINGS)

    _guarded(work)


def _check_binary(name: str, output: str | None) -> None:
    """Raise `InputError` where a terminal would get what is no text."""
    if name in BINARY and output in (None, "-") and sys.stdout.isatty():
        raise InputError(f"--format {name} is no text to look at: write it to a file (-o FILE)")


def _check(to: Report) -> None:
    """Raise `InputError` for options that this format has no use for."""
    _check_binary(name := to.format_.value, to.output)
    if to.table is not None and to.format_ not in TABLES:
        raise InputError(f"--table {to.table}: --format {name} writes no table (jsonl, csv and parquet do)")
    if to.format_ not in (Format.TEXT, *TABLES):
        for option, given in (("--sort", to.sort), ("--limit", to.limit)):
            if given is not None:
                raise InputError(
                    f"{option} {given}: --format {name} is not cut or sorted (text, jsonl, csv and parquet are)"
                )


def _content(trace: Trace, to: Report, view: str, local: bool) -> str | Iterable[bytes]:
    """What a command writes of a trace."""
    match to.format_:
        case Format.TEXT:
            from analyzer.report.text import report

            return report(trace.story, trace.findings, _style(to.output, local), to.everything, view, to.sort, to.limit)
        case Format.JSON:
            from analyzer.report.document import stream

            return stream(trace.story, trace.findings)
        case Format.PERFETTO:
            from analyzer.report.perfetto import perfetto

            return perfetto(trace)
        case Format.MARKDOWN:
            from analyzer.report.markdown import markdown

            return markdown(trace, local, to.everything)
    from analyzer.report import tables

    if to.format_ is Format.CONCISE:
        return tables.concise(trace)
    return tables.WRITERS[to.format_.value](
        tables.chosen(tables.frame_of(trace, to.table or "findings"), to.sort, to.limit)
    )


def _read(
    paths: list[str],
    kinds: tuple[str, ...],
    loud: Loud,
    stamps: Stamps,
    narrow: Narrow = WHOLE,
    packets: Packets = AS_IS,
    choice: Choice = ALL_RULES,
    redaction: Redaction = AS_THEY_ARE,
) -> Trace:
    from analyzer.config import chosen_rules
    from analyzer.trace import read

    rules = chosen_rules(*choice)

    if loud.verbose:
        _listen()
    progress, live = (None, None) if loud.quiet else (_progress(), None if redaction.wanted else _live())
    asked = narrow._asdict() | stamps._asdict() | packets._asdict()
    return read(*paths, kinds=frozenset(kinds), progress=progress, live=live, rules=rules, **asked)


def _listen() -> None:
    """Tell every step on standard error; names of files are text from outside."""
    import logging

    from analyzer.model.timing import LOGGER
    from analyzer.report.escape import terminal

    class Line(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return terminal(record.getMessage())

    handler = logging.StreamHandler()
    handler.setFormatter(Line())
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG)


def _live() -> Callable[[Trace], None]:
    """On standard error, each finding of a running stream when it first holds, and how much has come."""
    from analyzer.report.escape import terminal

    told: set[tuple[str, str]] = set()

    def report(trace: Trace) -> None:
        connections = trace.story.connections
        for finding in trace.findings:
            subject = finding.connection or finding.environment or finding.title
            if (finding.rule, subject) not in told:
                told.add((finding.rule, subject))
                where = f" · {terminal(connections.ends(finding.connection))}" if finding.connection else ""
                sys.stderr.write(f"{finding.severity.word}[{finding.rule}] {terminal(finding.title)}{where}\n")
        packets = sum(point.data.records for point in connections.points)
        end = "\r" if sys.stderr.isatty() else "\n"
        sys.stderr.write(
            f"… {packets:,} packets, {len(connections):,} connections so far (Ctrl-C ends with the report){end}"
        )
        sys.stderr.flush()

    return report


def _deepen(trace: Trace, how: Deep, connections: list[str] | None = None) -> None:
    """Deep mode where it is asked for; what it cannot see is said on standard error, and in the report's coverage."""
    deep, keylog, decode_as = how
    if deep or keylog or decode_as:
        from analyzer.report.escape import terminal

        for note in trace.deepen(connections, keylog, decode_as or ()):
            typer.echo(terminal(note), err=True)


def _progress() -> Any:
    """A line on standard error for long work, on a terminal only."""
    if not sys.stderr.isatty():
        return None
    from time import monotonic

    began = shown = monotonic()

    def report(done: int, records: int, size: int | None) -> None:
        nonlocal shown
        now = monotonic()
        if now - began > 1 and now - shown > 0.2:
            shown = now
            whole = f" of {size / 1e6:,.0f}" if size else ""
            rest = f", {(size - done) * (now - began) / done:,.0f} s remaining" if size and done else ""
            rate = records / (now - began)
            sys.stderr.write(f"\r{records:,} packets, {done / 1e6:,.0f}{whole} MB, {rate:,.0f} packets/s{rest}\x1b[K")
            sys.stderr.flush()

    return report


def _style(output: str | None, local: bool = False) -> Style:
    from analyzer.report.style import Style

    terminal = sys.stdout.isatty() and output is None
    width = shutil.get_terminal_size((PIPED_WIDTH, 24)).columns if terminal or "COLUMNS" in os.environ else PIPED_WIDTH
    return Style(
        width=max(width, LEAST_WIDTH),
        colour=terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb",
        local=local,
    )


def _write(text: str | Iterable[bytes], output: str | None) -> None:
    data = [text.encode("utf-8", "backslashreplace")] if isinstance(text, str) else text
    if output is None or output == "-":
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
        if sys.stdout.isatty() and not isinstance(text, str):
            from analyzer.report.escape import json_on_terminal

            data = (seen.encode() for seen in json_on_terminal(text))
        sys.stdout.buffer.writelines(data)
        sys.stdout.buffer.flush()
    elif Path(output).exists() and not Path(output).is_file():
        with Path(output).open("wb") as target:  # a device or a pipe: there is nothing to replace
            target.writelines(data)
    else:
        from analyzer.streams import whole_file

        with whole_file(output) as f:
            f.writelines(data)


def _is_picture(output: str) -> bool:
    return Path(output).suffix.lower() in DRAWN


def _picture(output: str, draw: Callable[[], Figure]) -> None:
    """Draw and write a picture, whole or not at all; what cannot be drawn is a usage error."""
    from analyzer.streams import whole_file

    try:
        figure = draw()
    except (KeyError, ValueError) as error:
        raise InputError(str(error.args[0])) from error
    with whole_file(output) as f:
        figure.savefig(f, format=Path(output).suffix.lower()[1:])


def _guarded(work: Callable[[], None]) -> None:
    """Run a command's work; turn what can go wrong into one line and the contract's exit status."""
    try:
        work()
    except InputError as error:
        _fail(str(error), EXIT_USAGE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except OSError as error:
        _fail(f"{error.filename or ''}{': ' if error.filename else ''}{error.strerror or error}", EXIT_USAGE)
    except KeyboardInterrupt:
        _fail("interrupted", EXIT_INTERRUPTED)
    except typer.Exit:
        raise
    except Exception as error:
        if os.environ.get("ANALYZER_DEBUG"):
            raise
        _fail(
            f"internal error: {type(error).__name__}: {error} (ANALYZER_DEBUG=1 shows where; please report it)",
            EXIT_INTERNAL,
        )


def _fail(message: str, code: int) -> None:
    from analyzer.report.escape import terminal

    typer.echo(f"analyze: {terminal(message)}", err=True)
    raise typer.Exit(code)


def rarely_collect() -> None:
    """Let the garbage collector look less often: few objects die young here."""
    gc.set_threshold(500_000, 20, 100)


def _only(name: str) -> None:
    """Let typer lay out the options of the one command that is run, which takes a millisecond a command."""
    chosen = [c for c in app.registered_commands if name == (c.name or (c.callback and c.callback.__name__))]
    app.registered_commands = chosen or app.registered_commands


def main() -> None:
    """The console script.

    The garbage collector looks less often; numpy's linear algebra, which nothing here uses, is
    kept from starting a thread a core (40 ms); and the process ends as soon as its output is out: taking the interpreter,
    its tables and LLVM apart in order takes a tenth of a second and helps nobody.
    """
    rarely_collect()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    status = 0
    if len(sys.argv) > 1:
        _only(sys.argv[1])
    try:
        app(prog_name="analyze")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
