"""Columns of segments to connections, endpoint states and TCP events."""
