"""Connections as columns: when each lived, who ended it, whose it was. A million of them cost a few arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from analyzer.model.addresses import endpoint, host
from analyzer.plot.theme import ENDINGS, ending
from analyzer.tcp import fields as f
from analyzer.tcp.connections import CLIENT, ENDED_BY, SERVER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analyzer.timeline.story import Story

#: What is read of a row where most was seen (times first: they are aligned), and nearest the client.
TIMES = (f.FIRST_TS, f.LAST_TS, f.ESTABLISHED_TS, f.END_TS, CLIENT + f.DATA_LAST_TS, SERVER + f.DATA_LAST_TS)
COLUMNS = (*TIMES, f.END_BY, f.ODD)
ADDRESSES = (f.C_HI, f.C_LO, f.S_HI, f.S_LO, f.S_PORT)
#: For each value of `tcp.fields.END_BY` the place of its ending in `ENDINGS`.
KIND_OF = np.array([list(ENDINGS).index(ending(who)) for who in ENDED_BY])


class Lives(Struct):
    """Connections in view, one entry each, in order of their numbers `ks`; times in aligned ns, 0 for never.

    `opened_ns` is when the handshake was done, or the first packet; `end_ns` is the last packet where nothing ended one; `kind`
    counts in `ENDINGS`; `accepted`: the server took it, as far as the capture tells; `idle_ns`: from its last payload to its end;
    `packets`: where most of it was seen. `client` and `server` are numbers of `clients` and `servers`.
    """

    ks: NDArray[np.int64]
    first_ns: NDArray[np.int64]
    opened_ns: NDArray[np.int64]
    last_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    kind: NDArray[np.int64]
    accepted: NDArray[np.bool_]
    idle_ns: NDArray[np.int64]
    packets: NDArray[np.int64]
    client: NDArray[np.int64]
    server: NDArray[np.int64]
    clients: list[str]
    servers: list[str]

    def __len__(self) -> int:
        return len(self.ks)

    def server_number(self, server: str | None) -> int:
        """The number of a server, or of that with most accepted connections; raises `KeyError` for an unknown one."""
        if server is None:
            return int(np.bincount(self.server, weights=self.accepted + 1e-6).argmax())
        if server not in self.servers:
            told = ", ".join(self.servers[:5]) + (" …" if len(self.servers) > 5 else "")
            raise KeyError(f"no server {server!r}: there are {told}")
        return self.servers.index(server)

    def affordable(self, wanted: NDArray[np.int64], most: int) -> NDArray[np.int64]:
        """Of these entries as many as have no more than `most` packets together, evenly spaced; huge ones last of all."""
        if not len(wanted):
            return wanted
        small = wanted[self.packets[wanted] <= most // 10]
        wanted = small if len(small) else wanted[np.argsort(self.packets[wanted], kind="stable")[:1]]
        step = -(-int(self.packets[wanted].sum()) // most)
        return wanted[:: max(step, 1)]


def lives(story: Story) -> Lives:
    """All connections in view, each as the capture tells that saw most of it."""
    cs = story.connections
    ks = cs.in_view()
    table, ends = np.zeros((len(ks), len(COLUMNS)), np.int64), np.zeros((len(ks), len(ADDRESSES)), np.int64)
    most = np.full(len(ks), -1, np.int64)
    for p in cs.nearness[::-1]:
        rows, at = cs.points[p].rows, cs.members[ks, p]
        here = np.flatnonzero(at >= 0)
        ends[here] = rows[at[here]][:, ADDRESSES]
        packets = rows[at[here]][:, [CLIENT + f.PKTS, SERVER + f.PKTS]].sum(axis=1)
        here, packets = here[better := packets >= most[here]], packets[better]
        most[here] = packets
        seen = rows[at[here]][:, COLUMNS]
        times = seen[:, : len(TIMES)]
        seen[:, : len(TIMES)] = np.where(times > 0, cs.points[p].clock.aligned_all(times), 0)
        table[here] = seen
    first, last, established, ended, asked, told, by, odd = table.T
    end = np.where(ended > 0, ended, last)
    accepted = (established > 0) | (odd & f.ODD_MIDSTREAM > 0)
    data = np.maximum(asked, told)
    idle = np.where(data > 0, np.maximum(end - data, 0), 0)
    clients, client = np.unique(ends[:, :2], axis=0, return_inverse=True)
    servers, server = np.unique(ends[:, 2:], axis=0, return_inverse=True)
    return Lives(
        ks, first, np.where(established > 0, established, first), last, end, KIND_OF[by], accepted, idle, most, client.reshape(-1), server.reshape(-1),
        [host(*row) for row in clients.tolist()], [endpoint(*row) for row in servers.tolist()],
    )  # fmt: skip
