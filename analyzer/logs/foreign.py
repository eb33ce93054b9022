"""Files that lie beside captures and logs and are no input: named, so that skipping them says something."""

from __future__ import annotations

import re

#: An envelope that fits at least so well is believed, whatever else the head looks like.
SURE = 0.85
#: Lines of the head that are looked at, and how many of them must have the form.
SAMPLE, SHARE = 40, 0.5

_DAY = r"\d{1,2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4}"
_FORMS = (
    (rf"\d{{1,10}}:[A-Z] {_DAY} \d\d:\d\d:\d\d\.\d{{3}} [#*.-]", "a Redis server's log"),
    (r"(?:\[\d{9,11}\.\d{3,9}\]\s+)?\[?(?:NEW|UPDATE|DESTROY)\]|(?:ipv4 +2 )?tcp +6 \d{1,6} [A-Z_]{4,12} src=| *\[(?:NEW|UPDATE|DESTROY)\]", "connection tracking (conntrack)"),
    (r'\{"t": ?\d{9,11}(?:\.\d{1,9})?, ?"side"', "snapshots of ss"),
    (r"(?:tcp|udp|u_str|Netid|State|ESTAB|LISTEN|TIME-WAIT|CLOSE-WAIT|FIN-WAIT-[12]|SYN-SENT)\s+(?:ESTAB|LISTEN|UNCONN|TIME-WAIT|CLOSE-WAIT|FIN-WAIT|SYN|Recv-Q|State|\d{1,10}\s)", "snapshots of ss"),
    (r"Proto Recv-Q Send-Q|Active Internet connections", "output of netstat"),
    (r"\d{1,3} \d{12} eni-[0-9a-f]{8,17} |version account-id interface-id ", "VPC flow logs (not read yet)"),
    (r'[0-9a-fA-F.:]{3,45} \S{1,64} \S{1,64} \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "', "an HTTP access log"),
    (r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(?:error|warn|notice|crit|info)\] \d{1,10}#\d", "an nginx error log"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{3})? [A-Z]{3,4} \[\d{1,10}\]", "a PostgreSQL server's log"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \d{1,10} \[(?:Note|Warning|System|ERROR)\]", "a MySQL server's log"),
    (r'\{"t":\{"\$date"', "a MongoDB server's log"),
    (r"Permission Check Successful", "the mark that an S3 export leaves (aws-logs-write-test)"),
)  # fmt: skip
_LINES = tuple((re.compile(form, re.ASCII), word) for form, word in _FORMS)
_WHOLE = (
    (re.compile(r"\s*<(?:!DOCTYPE|html|\?xml)", re.IGNORECASE), "HTML or XML"),
    (re.compile(r"#!\s{0,3}/|import \w|from \w+ import "), "a script"),
    (re.compile(r"(?:\s{0,3}#{1,6} .{1,300}\n|---\n)"), "a text for people"),
    (re.compile(r"\s*[\[{]\s*(?:[\]}\"{\[]|-?\d)"), "JSON of another kind"),
)


def server(head: str) -> str | None:
    """Whose log or table a file is whose lines are somebody else's, None where nothing is known of it."""
    lines = [line for line in head.split("\n")[:SAMPLE] if line.strip()]
    for form, name in _LINES:
        if lines and sum(1 for line in lines if form.match(line)) >= SHARE * len(lines):
            return name
    return None


def word(head: str) -> str | None:
    """What a file is that is none of ours, None where nothing is known of it."""
    return server(head) or next((name for form, name in _WHOLE if form.match(head)), None)
