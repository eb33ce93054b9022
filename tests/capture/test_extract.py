"""Copies of chosen packets: byte for byte those of the original, in every container, and nothing beside them."""

from __future__ import annotations

import io
import struct
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.capture.columns import NO
from analyzer.capture.extract import copy_records, record_numbers
from analyzer.capture.related import Related
from analyzer.model.problems import InputError
from tests.capture import packets

RECORDS = packets.conversations(seed=5, count=60)
WHOLE = packets.read(packets.pcap(RECORDS))
ALL = np.arange(1, len(RECORDS) + 1)


def part(content):
    return partial(io.BytesIO, content), len(content)


def copy(numbers, *contents, **more):
    out = io.BytesIO()
    copied = copy_records([part(c) for c in contents], np.array(numbers, np.int64), out, **more)
    return out.getvalue(), copied


def pcapng(order="<"):
    """Two interfaces of different resolutions, names, secrets and statistics, and every kind of packet block."""
    blocks = [packets.section(order), packets.interface(order, resolution=9), packets.interface(order, resolution=0x94)]
    blocks.append(packets.block(order, 10, struct.pack(order + "II", 0x544C534B, 6) + b"SECRET"))
    for n, (ns, frame) in enumerate(RECORDS[:60]):
        blocks.append(packets.enhanced(order, 0, ns, frame) if n % 2 else packets.enhanced(order, 1, ns >> 10, frame))
    blocks += [packets.simple(order, RECORDS[60][1]), packets.old(order, 1, 7 << 40, RECORDS[61][1])]
    blocks.append(packets.block(order, 5, struct.pack(order + "III", 0, 0, 0)))
    return blocks


@settings(max_examples=25, deadline=None)
@given(chosen=st.sets(st.integers(0, len(WHOLE.rows) - 1), min_size=1, max_size=12))
def test_the_numbers_are_those_of_the_tracker(chosen):
    numbers = record_numbers([part(packets.pcap(RECORDS))], WHOLE.rows[sorted(chosen)])
    assert numbers.tolist() == sorted(WHOLE.segments[np.isin(WHOLE.uids, list(chosen)), NO].tolist())


@pytest.mark.parametrize("jit", ["0", "1"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_a_pcap_keeps_its_form(order, nano, jit, monkeypatch):
    monkeypatch.setenv("ANALYZER_JIT", jit)
    numbers = ALL[::3]
    made, copied = copy(numbers, packets.pcap(RECORDS, order=order, nano=nano))
    assert made == packets.pcap([RECORDS[n - 1] for n in numbers], order=order, nano=nano)
    assert list(copied.numbers) == numbers.tolist()


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_pcapng_keeps_every_block_that_is_no_packet(order):
    blocks = pcapng(order)
    kept = [2, 3, 50, 61, 62]
    made, copied = copy(kept, b"".join(blocks))
    first = next(i for i, b in enumerate(blocks) if struct.unpack(order + "I", b[:4])[0] == 6)
    assert made == b"".join([*blocks[:first], *(blocks[first + n - 1] for n in kept), blocks[-1]])
    assert list(copied.numbers) == kept and copied.secrets == 1


def test_a_section_of_known_length_becomes_one_of_unknown_length():
    blocks = pcapng()
    blocks[0] = packets.block("<", 0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, sum(map(len, blocks[1:]))))
    made, _ = copy([1], b"".join(blocks))
    assert made.startswith(packets.section())


def test_a_ring_buffer_becomes_one_file():
    halves = packets.pcap(RECORDS[:100]), packets.pcap(RECORDS[100:])
    numbers = [1, 99, 100, 101, 102, 150]
    assert copy(numbers, *halves)[0] == packets.pcap([RECORDS[n - 1] for n in numbers])
    with pytest.raises(InputError, match="differ"):
        copy(numbers, halves[0], packets.pcap(RECORDS[100:], order=">"))


def test_a_cut_file_gives_what_it_has():
    whole = packets.pcap(RECORDS)
    made, copied = copy(ALL, whole[: len(whole) // 2])
    assert whole.startswith(made) and len(made) > 1000
    assert list(copied.numbers) == list(range(1, len(copied.numbers) + 1))


def icmp_about(segment, kind=3):
    packet = packets.ipv4("10.0.0.1", "10.0.0.2", segment)
    return packets.ipv4("10.9.9.9", "10.0.0.1", bytes([kind, 4, 0, 0, 0, 0, 0, 0]) + packet[:28]).replace(
        b"\x40\x06", b"\x40\x01", 1
    )


def dns_answer(address):
    payload = b"\x12\x34\x81\x80" + bytes(8) + b"\x05redis" + address
    udp = struct.pack(">HHHH", 53, 5353, 8 + len(payload), 0) + payload
    return packets.ipv4("10.0.0.53", "10.0.0.1", udp).replace(b"\x40\x06", b"\x40\x11", 1)


def test_icmp_errors_and_dns_answers_about_a_connection_come_along():
    mine, other = packets.tcp(1000, 443, 1, 1, packets.ACK), packets.tcp(1001, 443, 1, 1, packets.ACK)
    frames = [
        packets.ipv4("10.0.0.1", "10.0.0.2", mine), icmp_about(mine), icmp_about(other), icmp_about(mine, kind=8),
        dns_answer(bytes((10, 0, 0, 2))), dns_answer(bytes((10, 0, 0, 3))),
    ]  # fmt: skip
    content = packets.pcap([(10**18 + n, packets.ethernet(frame)) for n, frame in enumerate(frames)])
    assert copy([1], content, concerns=Related(rows_of(mine)).positions)[1].numbers.tolist() == [1, 2, 5]


def rows_of(segment):
    """The row of the connection of one segment."""
    return packets.read(packets.pcap([(10**18, packets.ethernet(packets.ipv4("10.0.0.1", "10.0.0.2", segment)))])).rows


#: What may stand around a packet: (link type, the frame).
AROUND = {
    "VLAN": lambda ip: packets.ethernet(ip).replace(b"\x08\0", b"\x81\0\0\7\x88\xa8\0\x08\x08\0", 1),
    "VXLAN": lambda ip: packets.ethernet(udp("192.0.2.1", 4789, b"\x08" + bytes(7) + packets.ethernet(ip))),
    "Geneve": lambda ip: packets.ethernet(udp("192.0.2.1", 6081, b"\0\0\x08\0" + bytes(4) + ip)),
    "MPLS": lambda ip: packets.ethernet(ip).replace(b"\x08\0", b"\x88\x47\0\0\x71\x40", 1),
    "IP in IP": lambda ip: packets.ethernet(with_protocol(4, packets.ipv4("192.0.2.1", "192.0.2.2", ip))),
}


def with_protocol(number, packet):
    return packet[:9] + bytes([number]) + packet[10:]


def udp(src, port, payload):
    return with_protocol(
        17, packets.ipv4(src, "10.0.0.1", struct.pack(">HHHH", 5, port, 8 + len(payload), 0) + payload)
    )


@pytest.mark.parametrize("jit", ["0", "1"])
@pytest.mark.parametrize("name", AROUND)
def test_they_come_along_from_behind_tags_and_tunnels(name, jit, monkeypatch):
    monkeypatch.setenv("ANALYZER_JIT", jit)
    mine, other = packets.tcp(1000, 443, 1, 1, packets.ACK), packets.tcp(1001, 443, 1, 1, packets.ACK)
    frames = [
        packets.ipv4("10.0.0.1", "10.0.0.2", mine), icmp_about(mine), icmp_about(other),
        dns_answer(bytes((10, 0, 0, 2))), dns_answer(bytes((10, 0, 0, 3))),
    ]  # fmt: skip
    content = packets.pcap([(10**18 + n, AROUND[name](frame)) for n, frame in enumerate(frames)])
    assert copy([1], content, concerns=Related(rows_of(mine)).positions)[1].numbers.tolist() == [1, 2, 4]


def test_they_come_along_from_behind_extension_headers():
    quoted = packets.ipv6("fd00::1", "fd00::2", packets.tcp(1000, 443, 1, 1, packets.ACK))
    padding = b"\0\1\4" + bytes(4)  # all that these destination options hold
    kept = packets.ipv6("fd00::1", "fd00::2", b"\6" + padding + quoted[40:])
    error = b"\x3a" + padding + b"\1\4" + bytes(6) + kept[:6] + b"\x3c" + kept[7:]
    packet = packets.ipv6("fd00::9", "fd00::1", error)
    frames = [quoted, packet[:6] + b"\x3c" + packet[7:]]
    content = packets.pcap([(10**18 + n, packets.ethernet6(frame)) for n, frame in enumerate(frames)])
    about = Related(packets.read(content).rows)
    assert copy([1], content, concerns=about.positions)[1].numbers.tolist() == [1, 2]


@pytest.mark.parametrize("order", ["<", ">"])
def test_longer_record_headers_are_copied_as_plain_ones(order):
    content = struct.pack(order + "IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 65_535, 1)
    for ns, frame in RECORDS:
        sizes = (ns // 10**9, ns % 10**9 // 1000, len(frame), len(frame))
        content += struct.pack(order + "IIIIIHBB", *sizes, 1, 0x800, 0, 0) + frame
    chosen = [2, 5]
    written, _ = copy(np.array(chosen), content)
    assert written == packets.pcap([RECORDS[k - 1] for k in chosen], order=order, nano=False, snaplen=65_535)
