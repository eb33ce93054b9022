"""What to collect to settle a finding, as commands to paste: with this trace's ports, addresses, log groups and times in them.

Values come from logs and packets and are hostile: whatever is not made of the characters that ports, addresses and AWS names are made
of is replaced by a word in capitals, and the rest is quoted for a POSIX shell.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from analyzer.model.grpc import CORE, GO, JAVA, JS
from analyzer.model.times import MS, SECOND

if TYPE_CHECKING:
    from analyzer.timeline.story import Story

#: So much around a moment is fetched: half of the widest window that is still read by eye.
AROUND_NS = 60 * SECOND
#: CloudWatch's own alphabet of log group and stream names, less the quote characters.
_AWS_NAME = re.compile(r"[\w.\-/#$\[\]]{1,512}", re.ASCII)
_HOST = re.compile(r"[0-9A-Za-z][0-9A-Za-z.:_-]{0,253}", re.ASCII)
#: What a log tells of transports, pings and calls, by dialect (the libraries' own names of tracers).
TRACES = {
    JS: "GRPC_VERBOSITY=DEBUG GRPC_TRACE=keepalive,transport,subchannel,channel,resolving_call,load_balancing_call",
    CORE: "GRPC_VERBOSITY=debug GRPC_TRACE=http,http_keepalive,http2_ping,connectivity_state,subchannel,client_channel,call_error",
    GO: "GRPC_GO_LOG_SEVERITY_LEVEL=info GRPC_GO_LOG_VERBOSITY_LEVEL=99 GODEBUG=http2debug=2",
    JAVA: "io.grpc.netty.level=FINE io.grpc.ChannelLogger.level=FINEST",
}
OPENINGS = "tcp[tcpflags] & tcp-syn != 0"
ENDINGS = "tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0"


def port(address: str) -> str:
    """The port of `ip:port`, `PORT` where there is none."""
    found = address.rpartition(":")[2]
    return found if found.isdecimal() and len(found) <= 5 and ":" in address else "PORT"


def host(address: str) -> str:
    """The host of `ip:port`, without brackets; `HOST` where there is none that a command could take."""
    found = (address.rpartition(":")[0] or address).strip("[]")
    return found if _HOST.fullmatch(found) else "HOST"


def capture(address: str, only: str = "", whole: bool = False, between: bool = False, file: str = "server.pcap") -> str:
    """A tcpdump command for what goes to a server: its port, since addresses change on the way through NAT and load
    balancers; `between` the ends, by its address too. `only` narrows the segments, ICMP errors come along otherwise."""
    wanted = f"tcp port {port(address)}"
    if between and host(address) != "HOST":
        wanted = f"host {host(address)} and {wanted}"
    if only and ":" not in host(address):  # pcap-filter(7): tcp[…] looks at IPv4 alone
        wanted = f"{wanted} and {only}"
    elif not only:
        wanted = f"{wanted} or icmp or icmp6"
    return f"`tcpdump -i any -s {0 if whole else 128} -U -w {file} {shlex.quote(wanted)}`"


def sockets(address: str) -> str:
    """An `ss` command for the server's side of its connections: states, timers, retransmissions, idle times."""
    return f"`ss -tanoi {shlex.quote(f'sport = :{port(address)}')}`"


def accept_queue(address: str) -> str:
    """What a Linux server's accept queue for a port holds and its limit, and how many connects the queues have refused."""
    return f"`ss -ltn {shlex.quote(f'sport = :{port(address)}')}; nstat -az TcpExtListenOverflows TcpExtListenDrops`"


def logs(
    story: Story, environment: str | None, start_ns: int, end_ns: int, pattern: str = "", everybody: bool = False
) -> str:
    """`aws logs filter-log-events` for a stretch of time: of one environment's log stream, or of `everybody`."""
    words = ["aws logs filter-log-events", f"--log-group-name {group(story, environment)}"]
    if not everybody and environment and "]" in environment and _AWS_NAME.fullmatch(environment):
        words.append(f"--log-stream-names {shlex.quote(environment)}")
    words += _window(start_ns, end_ns)
    words += [f"--filter-pattern {shlex.quote(pattern)}"] if pattern else []
    return f"`{' '.join(words)} --output json > lambda.json`"


def insights(story: Story, environment: str | None, start_ns: int, end_ns: int, match: str) -> str:
    """A Logs Insights query that counts lines with a fixed text by minute and environment, and the wait for its result."""
    query = f"filter @message like /{match}/ | stats count(*) by bin(1m), @logStream"
    start, end = start_ns // SECOND, -(-end_ns // SECOND)
    ask = f"aws logs start-query --log-group-name {group(story, environment)} --start-time {start} --end-time {end} --query-string {shlex.quote(query)}"
    return f"`id=$({ask} --query queryId --output text); sleep 10; aws logs get-query-results --query-id $id`"


def _window(start_ns: int, end_ns: int) -> list[str]:
    return [f"--start-time {start_ns // MS}", f"--end-time {-(-end_ns // MS)}"]


def group(story: Story, environment: str | None) -> str:
    """The log group of an environment, quoted; where the export lost it, one to be filled in."""
    named = next((e.log_group for e in story.environments if e.id == environment), None)
    return shlex.quote(named) if named and _AWS_NAME.fullmatch(named) else "/aws/lambda/FUNCTION"


def platform_lines(story: Story, environment: str | None, start_ns: int, end_ns: int) -> str:
    """How to get START and REPORT for a stretch of time."""
    return f"(START and REPORT; in the JSON log format with a system log level of INFO): {logs(story, environment, start_ns - AROUND_NS, end_ns + AROUND_NS)}"


def trace(dialect: str) -> str:
    """What makes a gRPC library tell of transports, pings and calls: environment variables, for Java logging properties."""
    where = "logging.properties" if dialect == JAVA else "the function's environment"
    return f"set in {where} `{TRACES.get(dialect, TRACES[JS])}`"
