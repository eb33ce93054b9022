"""TLS without keys: what the plain part of a connection says (RFC 8446, RFC 5246).

A hello names the server and the protocol that will be spoken; an alert before encryption says what went wrong; after it,
only the lengths of records remain. Input may be cut by the snap length or end in the middle of a message: what is there
counts, the rest is absent.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
CLIENT_HELLO, SERVER_HELLO = 1, 2
#: A record's plain header (RFC 8446 §5.1), and the most that may follow it (§5.2 and RFC 5246 §6.2.3).
HEADER, MAX_RECORD = 5, 16_384 + 2_048

SERVER_NAME, ALPN, SUPPORTED_VERSIONS = 0, 16, 43
VERSIONS = {0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}
#: Cipher suites of TLS 1.2 whose records carry no explicit nonce (RFC 7905 §2).
CHACHA20_SUITES = frozenset(range(0xCCA8, 0xCCAF))
#: Names longer than this are no host names (RFC 1035 §2.3.4); protocols have one byte of length.
MAX_NAME = 255

LEVELS = {1: "warning", 2: "fatal"}
#: RFC 8446 §6 and the older ones of RFC 5246 §7.2.
DESCRIPTIONS = {
    0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 21: "decryption_failed", 22: "record_overflow",
    30: "decompression_failure", 40: "handshake_failure", 41: "no_certificate", 42: "bad_certificate",
    43: "unsupported_certificate", 44: "certificate_revoked", 45: "certificate_expired", 46: "certificate_unknown",
    47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied", 50: "decode_error", 51: "decrypt_error",
    60: "export_restriction", 70: "protocol_version", 71: "insufficient_security", 80: "internal_error",
    86: "inappropriate_fallback", 90: "user_canceled", 100: "no_renegotiation", 109: "missing_extension",
    110: "unsupported_extension", 111: "certificate_unobtainable", 112: "unrecognized_name",
    113: "bad_certificate_status_response", 114: "bad_certificate_hash_value", 115: "unknown_psk_identity",
    116: "certificate_required", 120: "no_application_protocol",
}  # fmt: skip


class Record(NamedTuple):
    """One record: its content type, the bytes after its header as the header says, and those that are there."""

    kind: int
    length: int
    body: bytes

    @property
    def whole(self) -> bool:
        """Whether all of it is there."""
        return len(self.body) == self.length


class ClientHello(Struct, frozen=True):
    """What a client asks for: the server's name, the protocols it offers (`h2`, `http/1.1`), the versions, best first."""

    name: str | None = None
    alpn: tuple[str, ...] = ()
    versions: tuple[int, ...] = ()
    whole: bool = True


class ServerHello(Struct, frozen=True):
    """What the server chose. `alpn` is plain up to TLS 1.2 only."""

    version: int
    cipher: int
    alpn: str | None = None


def records(data: bytes) -> list[Record]:
    """The records that begin in a payload which begins with one, the last one perhaps cut."""
    found = []
    at = 0
    while at + HEADER <= len(data):
        kind, major, length = data[at], data[at + 1], int.from_bytes(data[at + 3 : at + 5])
        if not CHANGE_CIPHER_SPEC <= kind <= APPLICATION_DATA or major != 3 or length > MAX_RECORD:
            break
        at += HEADER
        found.append(Record(kind, length, data[at : at + length]))
        at += length
    return found


def client_hello(data: bytes) -> ClientHello | None:
    """The ClientHello that a payload begins with, None if it does not; fields that are cut off are absent."""
    body, whole = _handshake(data, CLIENT_HELLO)
    if body is None:
        return None
    fields = _Reader(body)
    version = int.from_bytes(fields.take(2))
    fields.take(32)  # random
    fields.vector(1)  # session
    fields.vector(2)  # cipher suites
    fields.vector(1)  # compression
    name: str | None = None
    alpn: tuple[str, ...] = ()
    versions: tuple[int, ...] = ()
    for kind, content in _extensions(fields):
        if kind == SERVER_NAME and name is None:
            name = _server_name(content)
        elif kind == ALPN and not alpn:
            alpn = _protocols(content)
        elif kind == SUPPORTED_VERSIONS and not versions:
            versions = tuple(v for v in _pairs(_Reader(content).vector(1)) if v in VERSIONS)
    return ClientHello(name, alpn, versions or ((version,) if version in VERSIONS else ()), whole)


def server_hello(data: bytes) -> ServerHello | None:
    """The ServerHello that a payload begins with, None if it does not or is cut before the cipher suite."""
    body, _ = _handshake(data, SERVER_HELLO)
    if body is None:
        return None
    fields = _Reader(body)
    version = int.from_bytes(fields.take(2))
    fields.take(32)
    fields.vector(1)
    cipher = fields.take(2)
    fields.take(1)
    if len(cipher) < 2:
        return None
    alpn = None
    for kind, content in _extensions(fields):
        if kind == SUPPORTED_VERSIONS and len(content) == 2:
            version = int.from_bytes(content)
        elif kind == ALPN:
            alpn = next(iter(_protocols(content)), None)
    return ServerHello(version, int.from_bytes(cipher), alpn)


def alerts(data: bytes) -> list[str]:
    """Each alert of a payload in words: `fatal handshake_failure`, or `encrypted alert` where it is not to be read."""
    return [_alert(r.body) if r.length == 2 else "encrypted alert" for r in records(data) if r.kind == ALERT]


def _alert(body: bytes) -> str:
    if len(body) < 2:
        return "alert"
    return f"{LEVELS.get(body[0], f'level {body[0]}')} {DESCRIPTIONS.get(body[1], f'alert {body[1]}')}"


def sealed_length(plain: int, version: int | None, cipher: int | None) -> frozenset[int]:
    """Record lengths (without header) in which `plain` bytes travel, by what is known of the connection.

    TLS 1.3 adds the content type and a tag (RFC 8446 §5.2: 1 + 16), AES-GCM in TLS 1.2 an explicit nonce and a tag
    (RFC 5288 §3: 8 + 16), ChaCha20-Poly1305 a tag. HTTP/2 forbids the block ciphers (RFC 9113 §9.2.2).
    """
    if version == 0x0304:
        return frozenset((plain + 17,))
    if version is not None and cipher is not None:
        return frozenset((plain + (16 if cipher in CHACHA20_SUITES else 24),))
    return frozenset((plain + 16, plain + 17, plain + 24))


class _Reader:
    """Takes bytes from the front; past the end it gives what is there, in the end nothing."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, n: int) -> bytes:
        taken = self._data[self._at : self._at + n]
        self._at += n
        return taken

    def vector(self, width: int) -> bytes:
        """A variable-length vector (RFC 8446 §3.4): its length in `width` bytes, then itself."""
        return self.take(int.from_bytes(self.take(width)))


def _handshake(data: bytes, kind: int) -> tuple[bytes | None, bool]:
    """(body of the first handshake message as far as it is there, whether that is all of it); it may span records."""
    joined = b""
    for r in records(data):
        if r.kind != HANDSHAKE:
            break
        joined += r.body
        if len(joined) >= 4 and len(joined) - 4 >= int.from_bytes(joined[1:4]):
            break
    if len(joined) < 4 or joined[0] != kind:
        return None, False
    length = int.from_bytes(joined[1:4])
    return joined[4 : 4 + length], len(joined) >= 4 + length


def _extensions(fields: _Reader) -> list[tuple[int, bytes]]:
    """(type, content as far as it is there) of every extension."""
    block = _Reader(fields.vector(2))
    found = []
    while block:
        kind = block.take(2)
        content = block.vector(2)
        if len(kind) == 2:
            found.append((int.from_bytes(kind), content))
    return found


def _server_name(content: bytes) -> str | None:
    """The host name of a server_name extension (RFC 6066 §3)."""
    names = _Reader(_Reader(content).vector(2))
    while names:
        kind, name = names.take(1), names.vector(2)
        if kind == b"\0" and 0 < len(name) <= MAX_NAME:
            return name.decode("ascii", "replace")
    return None


def _protocols(content: bytes) -> tuple[str, ...]:
    """The names of an ALPN extension (RFC 7301 §3.1)."""
    names = _Reader(_Reader(content).vector(2))
    found = []
    while names:
        name = names.vector(1)
        if name:
            found.append(name.decode("ascii", "replace"))
    return tuple(found)


def _pairs(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 2]) for at in range(0, len(data) - 1, 2)]
