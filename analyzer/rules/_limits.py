"""Idle limits that boxes and services have by default: how long, how the connection ends, whether it can be set, where that is said.

How it ends tells candidates apart: servers and proxies that speak for them close (FIN), NAT gateways and some load balancers answer what
comes too late with a reset (RST), firewalls and connection tracking drop it in silence.
"""

from __future__ import annotations

from msgspec import Struct

from analyzer.model.times import SECOND

FIN, RST, SILENCE = "FIN", "RST", "silence"


#: A rest looks shorter by a round trip from where the capture stands than from where the limit is kept.
SLACK_NS = SECOND // 2


class Limit(Struct, frozen=True):
    """One default. `ends`: how; `range_s`: between which seconds it can be set, None where it cannot; `check`: what tells its value."""

    seconds: int
    whose: str
    ends: tuple[str, ...]
    source: str
    range_s: tuple[int, int] | None = None
    check: str = ""
    ports: tuple[str, ...] = ()  # what it serves, where it serves one thing only

    def __str__(self) -> str:
        return f"{self.whose} ({self.seconds} s, ends by {' or '.join(self.ends)})"


WEB, REDIS = ("80", "443", "3000", "8000", "8080", "8443"), ("6379", "6380")
LIMITS = (
    Limit(5, "Node.js http server", (FIN,), "nodejs/node: keepAliveTimeout 5 s", (0, 2**31), ports=WEB),
    Limit(6, "Node.js http server with keepAliveTimeoutBuffer", (FIN,), "nodejs/node: keepAliveTimeout 5 s, and 1 s of keepAliveTimeoutBuffer", (0, 2**31), ports=WEB),
    Limit(60, "ALB or classic ELB", (FIN,), "Elastic Load Balancing guide; gRPC proposal A8", (1, 4000), "`aws elbv2 describe-load-balancer-attributes --load-balancer-arn ARN`"),
    Limit(75, "nginx", (FIN,), "ngx_http_core_module: keepalive_timeout", (0, 2**31), ports=WEB),
    Limit(240, "Azure load balancer", (SILENCE, RST), "learn.microsoft.com: load-balancer-tcp-reset", (240, 6000)),
    Limit(310, "Upstash", (FIN,), "blog.upstash.com: serverless-database-connections", ports=REDIS),
    Limit(350, "NAT gateway", (RST,), "VPC user guide: nat-gateway-troubleshooting; the reset is uncited"),
    Limit(350, "NLB", (RST, SILENCE), "ELB guide: update-idle-timeout; fixed on TLS listeners", (60, 6000), "`aws elbv2 describe-listener-attributes --listener-arn ARN`"),
    Limit(350, "Gateway Load Balancer, Network Firewall", (SILENCE,), "API_ListenerAttribute; API_FlowTimeouts: packets are dropped", (60, 6000)),
    Limit(350, "PrivateLink, Transit Gateway", (SILENCE,), "vendor-documented, uncited"),
    Limit(350, "connection tracking of Nitro v6 instances", (SILENCE,), "API_ConnectionTrackingSpecificationRequest", (60, 432_000)),
    Limit(600, "Azure Cache for Redis", (FIN,), "node-redis: docs/client-configuration.md", ports=REDIS),
    Limit(600, "GCP VPC firewall", (SILENCE,), "vendor-documented, uncited"),
    Limit(1200, "GCP Cloud NAT", (SILENCE,), "gcloud: tcp-established-idle-timeout; the default is uncited", (30, 86_400)),
    Limit(1800, "RDS Proxy", (FIN,), "RDS guide: rds-proxy-connections, IdleClientTimeout", (1, 28_800), "`aws rds describe-db-proxies`", ("3306", "5432")),
    Limit(28_800, "MySQL", (FIN,), "wait_timeout", (1, 31_536_000), "`SHOW VARIABLES LIKE 'wait_timeout'`", ("3306",)),
)  # fmt: skip


def between(longest_ns: int, shortest_ns: int, server: str = "") -> list[Limit]:
    """Limits above the longest rest that survived, and not above the shortest that did not, of what may stand at a server's port."""
    most = shortest_ns + SLACK_NS
    return [limit for limit in LIMITS if longest_ns < limit.seconds * SECOND <= most and _may_serve(limit, server)]


def near(gap_ns: int, share: float, server: str = "") -> list[Limit]:
    """Limits that a rest has just passed, by at most this share of them; of one product only where the server's port is its own."""
    return [
        limit
        for limit in LIMITS
        if limit.seconds * SECOND <= gap_ns <= limit.seconds * share * SECOND
        and (_may_serve(limit, server) if server else not limit.ports)
    ]


def _may_serve(limit: Limit, server: str) -> bool:
    return not limit.ports or not server or server.rpartition(":")[2] in limit.ports
