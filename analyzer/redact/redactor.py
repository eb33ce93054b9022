"""The `Redactor`: names of everything that could name a person, a company or a machine, replaced under one key."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable

from analyzer.model.problems import InputError
from analyzer.redact.addresses import Addresses

#: A user's key is stretched (RFC 7914), so that guessing it costs: 16 MB and some 50 ms a try.
SCRYPT = {"n": 1 << 14, "r": 8, "p": 1, "dklen": 32}
SALT = b"connection-analyzer redaction"
#: Longest text of an IPv6 address with an embedded IPv4 one and a port glued on.
LONGEST_ADDRESS = 60

# One pass over the text. Every repetition is bounded or runs over one class of characters that nothing after it needs, so the
# cost is linear in the text, whatever it is; what was put in is not looked at again.
_V4 = re.compile(r"(?<![0-9.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9]|\.[0-9])")
_ENVIRONMENT = re.compile(r"([0-9]{4}/[0-9]{2}/[0-9]{2}/\[(?:\$LATEST|[0-9]{1,9})\])([0-9a-f]{32})")
_FORMS = re.compile(
    r"""
    (?P<arn>\barn:[a-z-]{1,20}:[^\s"'<>]+)
  | (?P<user>(?<=://)[^\s/@"']{1,200}@)
  | (?P<secret>(?:\b|_)(?:password|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|authorization|credentials?|cookie|signature)
      ["']?\s{0,3}[=:]\s{0,3}(?:(?:bearer|basic)\s{1,3})?["']?(?P<value>[^\s"',;}\]]+))
  | (?P<bearer>\b(?:bearer|basic)\s{1,3}(?P<given>[a-z0-9._~+/=-]{8,}))
  | (?P<jwt>(?<![\w-])eyj[a-z0-9_-]{8,}+\.[a-z0-9_-]++(?:\.[a-z0-9_-]++)?)
  | (?P<uuid>\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b)
  | (?P<dashed>\b(?:ip|ec2)-(?P<octets>[0-9]{1,3}(?:-[0-9]{1,3}){3})\b)
  | (?P<address>(?:(?<![\w:.%])|(?<=%5b))[0-9a-f:]{0,5}:[0-9a-f:.]{1,60}|(?<![0-9.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9]|\.[0-9]))
  | (?P<mac>\b[0-9a-f]{2}(?:-[0-9a-f]{2}){5}\b)
  | (?P<host>(?<![\w.-])(?:[a-z0-9_-]{1,63}\.){1,10}
      (?:com|net|org|io|dev|app|cloud|ai|co|eu|de|uk|jp|internal|intranet|corp|local|lan|svc|amazonaws)(?![\w-]|\.[a-z0-9]))
  | (?P<hex>(?<![0-9a-z])(?=[0-9]{0,40}[a-f])[0-9a-f]{16,128}(?![0-9a-z]))
  | (?P<opaque>(?<![\w+=-])(?=[a-z_+=-]{0,200}[0-9])[\w+=-]{24,}+)
  | (?P<account>(?<![0-9.])[0-9]{12}(?![0-9]))
    """,
    re.VERBOSE | re.IGNORECASE,
)


class Redactor:
    """Pseudonyms under one key. Without a key a random one is taken: no later run gives the same pseudonyms.

    Raises `InputError` for an empty key, which anybody would guess.
    """

    def __init__(self, key: str | None = None) -> None:
        if key == "":
            raise InputError("the redaction key is empty: anybody would find what its pseudonyms stand for")
        self._key = (
            secrets.token_bytes(32)
            if key is None
            else hashlib.scrypt(
                key.encode(), salt=SALT, n=SCRYPT["n"], r=SCRYPT["r"], p=SCRYPT["p"], dklen=SCRYPT["dklen"]
            )
        )
        self.addresses = Addresses(self._key)

    def mac(self, address: bytes) -> bytes:
        """A hardware address as a locally administered one (IEEE 802c); group addresses and all zeros stay."""
        if not any(address) or address[0] & 1:
            return address
        digest = self._digest("mac", address, max(len(address), 1))
        return bytes([digest[0] & 0xFC | 2]) + digest[1 : len(address)]

    def tag(self, kind: str, value: str, digits: int = 8) -> str:
        """A short linkable name, in hex digits, for something that is not to be seen."""
        return self._digest(kind, value.lower().encode("utf-8", "replace"), 64).hex()[:digits].ljust(digits, "0")

    def stream(self, name: str) -> str:
        """A log stream's name: that of an execution environment keeps its shape, any other may name a service."""
        environment = _ENVIRONMENT.fullmatch(name)
        return f"{environment[1]}{self._hex(environment[2])}" if environment else f"stream-{self.tag('stream', name)}"

    def text(self, text: str) -> str:
        """`text` with addresses, hosts, ids, ARNs, accounts and secrets replaced. One pass, linear in its length."""
        return _FORMS.sub(self._replace, text)

    def _digest(self, kind: str, value: bytes, size: int) -> bytes:
        return hashlib.blake2b(value, digest_size=min(size, 64), key=self._key, person=kind.encode()).digest()

    def _replace(self, m: re.Match[str]) -> str:
        kind, found = m.lastgroup or "", m[0]
        if m["secret"]:
            return found[: m.start("value") - m.start()] + "<secret>"
        if m["bearer"]:
            return found[: m.start("given") - m.start()] + "<secret>"
        if m["dashed"]:
            return found[: -len(m["octets"])] + self._v4(m["octets"].replace("-", ".")).replace(".", "-")
        named: Callable[[str], str] = getattr(self, f"_{kind}", self._secret)
        return named(found)

    def _secret(self, _: str) -> str:
        return "<secret>"

    def _user(self, _: str) -> str:
        return "<secret>@"

    def _account(self, _: str) -> str:
        return "<account>"

    def _arn(self, value: str) -> str:
        bare = value.rstrip(":.,;)")
        return f"arn:{self.tag('arn', bare)}{value[len(bare) :]}"

    def _hex(self, value: str) -> str:
        return self.tag("hex", value, len(value))

    def _opaque(self, value: str) -> str:
        return f"<{self.tag('opaque', value)}>"

    def _mac(self, value: str) -> str:
        return self.mac(bytes.fromhex(value.replace("-", ""))).hex("-")

    def _uuid(self, value: str) -> str:
        digits = self.tag("uuid", value, 32)
        return "-".join((digits[:8], digits[8:12], "4" + digits[13:16], "8" + digits[17:20], digits[20:]))

    def _host(self, name: str) -> str:
        suffix = ".amazonaws.com" if name.lower().endswith(".amazonaws.com") else ".example"
        return f"h{self.tag('host', name)}{suffix}"

    def _v4(self, text: str) -> str:
        octets = [int(part) for part in text.split(".")]
        if max(octets) > 255:
            return text
        return ".".join(str(octet) for octet in self.addresses.packed(bytes(octets)))

    def _address(self, run: str) -> str:
        """An IPv4 address, or a run of hex digits, colons and dots that may be an IPv6 one, with a port behind it or not."""
        if ":" not in run:
            return self._v4(run)
        bare = run.rstrip(":.") if not run.endswith("::") else run
        for candidate in (run, bare, bare.rpartition(":")[0]):  # Java glues the port on without brackets
            if candidate.count(":") > 1 and len(candidate) <= LONGEST_ADDRESS:
                try:
                    return self.addresses.text(candidate) + run[len(candidate) :]
                except ValueError:
                    continue
        if len(bare) == 17 and bare[2::3] == ":::::":
            try:
                return self.mac(bytes.fromhex(bare.replace(":", ""))).hex(":") + run[17:]
            except ValueError:
                pass
        return _V4.sub(lambda m: self._v4(m[0]), run)
