"""The nouns: events, findings, sources, tables. No I/O, no other room is imported here."""
