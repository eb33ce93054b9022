"""Deep mode: tshark, through pyshark, looks into the few connections that matter.

    capture ──► the chosen connections' packets, copied (capture.extract) ──► tshark ──► HTTP/2 and gRPC frames

tshark decrypts with a key log, or with the secrets that a pcapng carries, and never sees the rest of the file. Every frame is tied to
the packet of the *original* capture that ended it. What tshark says of hostile packets is hostile text, and is escaped like any other.
"""

from __future__ import annotations

from analyzer.deep.connections import Deepened, DeepFrame, deepen
from analyzer.deep.evidence import with_frames

__all__ = ["DeepFrame", "Deepened", "deepen", "with_frames"]
