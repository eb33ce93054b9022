"""Errors in strerror's words, of languages and libraries that no other family knows (Perl, C, shell tools, agents).

Asked last. Only words that speak of nothing but connections: a broken pipe may be one between processes, and what timed out, or by
whose timer, such words do not tell.
"""

from __future__ import annotations

import re

from analyzer.logs.recognisers._errors import CONNECT, ESTABLISHED, Facts, Family, needles, worded
from analyzer.logs.records import Recognised

RANK = 58
_TOLD = (
    "Connection reset by peer", "Connection refused", "No route to host", "Network is unreachable",
    "Name or service not known", "Temporary failure in name resolution",
)  # fmt: skip
#: As a message or its cause, behind a mark; in a sentence, or in a list of what is retried, they are only mentioned.
_WORDS = re.compile(rf"(?:^|: ?['\"(]?|\(['\"]?| - )(?P<words>{'|'.join(_TOLD)})(?=$|[\n.,;:)'\"]| at | \()")
_PEERS = (re.compile(r"(?:to|from|with|host) ['\"]?(?P<host>[\w.-]{1,253}):(?P<port>[0-9]{1,5})\b"),)


def kernel(body: str) -> Facts | None:
    """What strerror's words say; None where they are part of a sentence."""
    if (said := _WORDS.search(body)) is None:
        return None
    facts = worded(said["words"])
    stage = {"ECONNRESET": ESTABLISHED, "EHOSTUNREACH": CONNECT, "ENETUNREACH": CONNECT}.get(facts["code"])
    return facts | ({"stage": stage} if stage else {})


NEEDLES = needles((), *_TOLD)
FAMILY = Family((), kernel, peers=_PEERS)


def recognise(body: str) -> Recognised | None:
    """Kind `error`, as `_errors` documents."""
    return FAMILY.read(body)
