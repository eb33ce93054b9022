"""syslog lines: RFC 5424 (`<34>1 2026-11-21T00:06:05.860Z host app 8 - - message`) and RFC 3164 (`Nov 21 00:06:05 host app[8]: message`)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from analyzer.logs.envelopes import _lines
from analyzer.logs.envelopes.docker import joined
from analyzer.logs.options import DEFAULTS, Options
from analyzer.logs.records import LACKS_YEAR, YEARLESS, LogRecord
from analyzer.logs.stamps import completed, utc_ns, zoned_ns
from analyzer.logs.stream import LogStream
from analyzer.model.problems import Problem

NAME = "syslog"
SHAPE = "syslog"
EXPECTS = "`<34>1 2026-11-21T00:06:05.860Z HOST APP PID - - MESSAGE` or `Nov 21 00:06:05 HOST APP[PID]: MESSAGE`"
LOST: tuple[str, ...] = ()

_NEW = re.compile(
    r"(?:<\d{1,3}>\d )?(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) ([\w.:-]{1,255}) ([\w./-]{1,48})"
    r"(?: (\S{1,128}) (?:\S{1,32}) (?:-|\[[^\]\n]{0,1000}\])|(?:\[\d{1,10}\])?:) ?",
    re.ASCII,
)
_OLD = re.compile(
    r"(?:<\d{1,3}>)?(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) ([ \d]\d) (\d\d:\d\d:\d\d) ([\w.:-]{1,255}) [\w./-]{1,64}(?:\[\d{1,10}\])?: ",
    re.ASCII,
)
_MONTHS = {
    name: f"{k:02d}"
    for k, name in enumerate(["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"], 1)
}


def _split(line: str, options: Options = DEFAULTS) -> LogRecord | None:
    if m := _NEW.match(line):
        return LogRecord("", line[m.end() :], zoned_ns(m[1]), m[2])
    if m := _OLD.match(line):
        stamp = utc_ns(f"{YEARLESS}-{_MONTHS[m[1]]}-{m[2].strip():0>2}T{m[3]}")
        stamp = completed(stamp, LACKS_YEAR, None, options.year, options.zone_ns)
        return LogRecord("", line[m.end() :], stamp if options.year else None, m[4])
    return None


def score(head: str) -> float:
    """Sure where lines carry a syslog header and wrap what is known."""
    return _lines.score(head, _split, 0.85)


def read(stream: LogStream) -> Iterator[LogRecord | Problem]:
    """One record a message; stamps of the old form have no year and the local time: `--year` and `--tz` complete them."""
    told = False
    for record in joined(stream, _lines.records(stream, lambda line: _split(line, stream.options))):
        if record.event_ns is None and not told:
            told = True
            yield Problem(record.ref, "syslog stamps without a year are not used: give --year (and --tz)")
        yield record
