"""Pseudonyms of addresses: prefix-preserving, one to one, the same under one key, and of the same kind."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.redact.addresses import EMBEDS_IPV4, KINDS, PUBLIC_MEANING, Addresses

FIRST, SECOND = Addresses(b"k" * 32), Addresses(b"l" * 32)
PACKED = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))


def common(a, b):
    """How many leading bits two packed addresses share."""
    return 8 * len(a) - (int.from_bytes(a) ^ int.from_bytes(b)).bit_length()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_shared_prefixes_stay_as_long_as_they_were(data):
    width = data.draw(st.sampled_from((32, 128)))
    a = data.draw(st.integers(0, 2**width - 1))
    b = a ^ data.draw(st.integers(0, 2 ** data.draw(st.integers(0, width)) - 1))
    one, other = (n.to_bytes(width // 8) for n in (a, b))
    if width == 128 and any(x[:12] in EMBEDS_IPV4 for x in (one, other)):
        return
    assert common(FIRST.packed(one), FIRST.packed(other)) == common(one, other)


@settings(max_examples=200, deadline=None)
@given(PACKED)
def test_one_key_one_pseudonym(address):
    assert Addresses(b"k" * 32).packed(address) == FIRST.packed(address)


def test_another_key_gives_other_pseudonyms():
    addresses = [bytes((54, 203, n, 7)) for n in range(64)]
    assert sum(FIRST.packed(a) == SECOND.packed(a) for a in addresses) < 8


@settings(max_examples=200, deadline=None)
@given(PACKED)
def test_the_kind_of_an_address_stays(address):
    before, after = ipaddress.ip_address(address), ipaddress.ip_address(FIRST.packed(address))
    for prefix in KINDS:
        assert (before in ipaddress.ip_network(prefix)) == (after in ipaddress.ip_network(prefix))
    if any(before in ipaddress.ip_network(prefix) for prefix in PUBLIC_MEANING):
        assert after == before


@pytest.mark.parametrize("prefix", [p for p in KINDS if ":" not in p])
def test_private_networks_are_pseudonymised_inside(prefix):
    network = ipaddress.ip_network(prefix)
    hosts = [(network.network_address + 257 * n + 1).packed for n in range(100)]
    assert sum(FIRST.packed(h) == h for h in hosts) < 5


def test_ipv4_inside_ipv6_takes_the_same_pseudonym():
    assert FIRST.text("::ffff:54.203.0.7") == f"::ffff:{FIRST.text('54.203.0.7')}" or FIRST.packed(
        bytes(10) + b"\xff\xff" + bytes((54, 203, 0, 7))
    )[12:] == FIRST.packed(bytes((54, 203, 0, 7)))


def test_other_lengths_are_refused():
    with pytest.raises(ValueError, match="4 or 16"):
        FIRST.packed(b"12345")
