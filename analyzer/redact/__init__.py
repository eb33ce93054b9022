"""Outputs that may leave the house: addresses pseudonymised, payload and message bodies cut, ids kept linkable.

`Redactor` is the one door. Equal inputs give equal pseudonyms under one key, so a redacted capture and the redacted log beside
it still tell one story; without the key nothing leads back.
"""

from __future__ import annotations

from analyzer.redact.redactor import Redactor

__all__ = ["Redactor"]
